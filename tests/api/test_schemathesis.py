"""The OpenAPI document and the API say the same: schemathesis makes requests from the one and sends them to the other."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import fakeredis
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from api.app import create_app
from tests.api.calling import Caller, answered, bearer, signature, token
from tests.command.service import FAR_FUTURE_S
from tests.conftest import opened
from tests.conftest import settings as engine_settings
from tests.doubles import open_gate
from tests.fuzz.operations import EXCEPT, SIGN_IT, aim, excepted

REPEATABLE = settings(
    max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
# Made when tests are collected, and used for as long as the whole suite runs.
TOKEN = bearer(token("ann", "customer storefront payments ops", exp=FAR_FUTURE_S))

REDIS = fakeredis.FakeRedis(decode_responses=True)
ENGINE = opened(engine_settings(), REDIS)
APP = create_app(ENGINE)


def signing(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """The app, behind a payment provider that signs where it is asked to."""
    if environ.get("HTTP_STOCKADE_SIGNATURE") == SIGN_IT:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ |= {"wsgi.input": io.BytesIO(body), "HTTP_STOCKADE_SIGNATURE": signature(body)}
    return APP(environ, start_response)


SCHEMA = schemathesis.openapi.from_wsgi("/openapi.json", signing)
SCHEMA.config.generation.update(max_examples=25, deterministic=True)
RESULTS: Any = SCHEMA.get_all_operations()
OPERATIONS = {operation.label: operation for operation in (result.ok() for result in RESULTS)}


@pytest.fixture(autouse=True)
def shop() -> dict[str, str]:
    """Stock, and of each thing with an id one that is ann's: ids by the word in the path before them."""
    REDIS.flushall()
    open_gate(ENGINE)
    ann, line = Caller(APP.test_client(), TOKEN), {"sku": "tee", "quantity": 1}
    # Half of what is allowed, so that it can go up as well as down.
    answered(ann.put("/v1/skus/tee", {"on_hand": 500_000_000}), 201)
    held = answered(ann.post("/v1/reservations", {"lines": [line]}, key="held"), 201)["id"]
    paid = answered(ann.post("/v1/reservations", {"lines": [line]}, key="paid"), 201)["id"]
    answered(ann.post(f"/v1/reservations/{paid}/commit", {"payment_id": "p"}))
    cart = answered(ann.post("/v1/carts", key="cart"), 201)["id"]
    answered(ann.put(f"/v1/carts/{cart}/lines/tee", {"quantity": 1}))
    return {"reservations": held, "orders": paid, "carts": cart}


@SCHEMA.parametrize()
@settings(deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_sent_the_answer_is_in_the_document(case: Any) -> None:
    case.call_and_validate(headers=TOKEN, excluded_checks=excepted(case))


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_route_has_an_answer_that_is_good_and_in_the_document(shop: dict[str, str], label: str) -> None:
    seen: set[int] = set()

    @REPEATABLE
    @given(case=OPERATIONS[label].as_strategy())
    def send(case: Any) -> None:
        aim(case, shop, "tee")
        seen.add(case.call_and_validate(headers=TOKEN, excluded_checks=EXCEPT).status_code)

    send()
    assert seen & {200, 201, 204}, seen
