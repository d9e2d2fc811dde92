"""What a problem says: which thing, which field, and what would be right. Walks over every route with the usual mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from marshmallow import Schema, fields

from api import field_errors
from api.problems import DETAIL, STATUS
from api.route import Route
from tests.api.calling import Caller, answered, bearer, refused, signature, token
from tests.api.every_route import CALLS, World, every_route, everything, where
from tests.api.every_route import world as world

ANOTHER_BODY = "signed for another body"
EMPTY = re.compile(
    r"Nothing is here|is needed|see errors|_schema|Invalid input|Not a valid|[Ff]ield may not|Missing data|can't be understood\b(?!:)"
)


def told(response: Any, status: int, code: str) -> str:
    """The detail of a problem that says something."""
    problem = refused(response, status, code)
    detail: str = problem["detail"]
    assert not EMPTY.search(json.dumps(problem))
    assert detail.endswith((".", "…"))
    assert " " in detail
    if "errors" in problem:
        assert detail == field_errors.summary(problem["errors"])
    return detail


@pytest.mark.parametrize("code", STATUS)
def test_what_is_said_where_nothing_more_is_known_says_something(code: str) -> None:
    if code in DETAIL:
        assert not EMPTY.search(DETAIL[code])
        assert DETAIL[code].endswith(".")


@where(lambda route: route.words)
def test_what_is_not_there_is_named(world: World, client: FlaskClient, route: Route) -> None:
    kind = {"skus": "SKU", "availability": "SKU", "carts": "cart", "reservations": "reservation", "orders": "order"}
    thing = kind[route.path.split("/")[2]]
    if route.name == "put_sku":
        return
    path = route.path.replace("<id>", "0123456789ABCDEFabcdef").replace("<sku>", "NOPE")
    body = CALLS[route.name].body
    detail = told(everything(client).send(route.method, path, json=body, key=_key(route)), 404, "not_found")
    assert thing in detail
    assert "NOPE" in detail or thing != "SKU"


@where(lambda route: route.body)
@pytest.mark.parametrize("document", [[], None, "text", 7, [{}]])
def test_a_body_that_is_no_object_is_told_what_it_must_be(world: World, route: Route, document: Any) -> None:
    detail = told(world.send(route, data=json.dumps(document).encode(), key=_key(route)), 422, "validation_failed")
    assert detail.startswith("body: must be a JSON object with ")
    for name in CALLS[route.name].body:
        assert name in detail


def mistakes(schema: Schema) -> Iterator[tuple[str, Any]]:
    """For each field values that can't be right."""
    for name, field in schema.fields.items():
        for value in ({"a": 1}, "\x00", -(10**30), 1.5):
            if not isinstance(field, fields.Raw) or type(field) is not fields.Raw:
                yield field.data_key or name, value


@where(lambda route: route.body)
def test_a_field_that_is_wrong_is_named_with_what_it_must_be(world: World, route: Route) -> None:
    assert route.body
    good = CALLS[route.name].body
    for name, value in mistakes(route.body()):
        detail = told(world.send(route, body=good | {name: value}, key=_key(route)), 422, "validation_failed")
        assert re.search(rf"\b{name}\b", detail), (name, value)
        assert re.search(r"\b(must|has|there is no|can't)\b", detail, re.IGNORECASE), detail


@where(lambda route: route.body)
def test_a_field_that_is_missing_is_named(world: World, route: Route) -> None:
    assert route.body
    good = CALLS[route.name].body
    for name, field in route.body().fields.items():
        if field.required:
            body = {known: value for known, value in good.items() if known != name}
            detail = told(world.send(route, body=body, key=_key(route)), 422, "validation_failed")
            assert detail == f"{name}: is required."


@where(lambda route: route.query)
def test_a_query_parameter_that_is_wrong_is_named(world: World, route: Route) -> None:
    assert route.query
    for name, field in route.query().fields.items():
        if isinstance(field, fields.List) or name in ("user", "reservation_id"):
            continue
        assert name in told(world.send(route, query=f"{name}=%00"), 422, "validation_failed")


@where(lambda route: route.body)
def test_what_is_not_json_is_told_where(world: World, route: Route) -> None:
    assert "character 1" in told(world.send(route, data=b"{"), 400, "bad_request")
    headers = {"Content-Type": "text/plain"}
    assert "Content-Type must be application/json" in told(world.send(route, headers=headers), 400, "bad_request")


@every_route
def test_who_may_not_call_is_told_what_is_missing(world: World, client: FlaskClient, route: Route) -> None:
    if not route.scopes:
        return
    path = world.path(route)
    if not route.guests:
        told_so = told(Caller(client).send(route.method, path), 401, "unauthenticated")
        assert "Authorization: Bearer" in told_so
    nonsense = Caller(client, bearer("nonsense")).send(route.method, path)
    assert "JWT" in told(nonsense, 401, "unauthenticated")
    basic = Caller(client, {"Authorization": "Basic eDp4"}).send(route.method, path)
    assert "Bearer <token>" in told(basic, 401, "unauthenticated")
    other = Caller(client, bearer(token("x", "nothing"))).send(route.method, path)
    detail = told(other, 403, "forbidden")
    assert all(scope in detail for scope in route.scopes)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "is missing"),
        ("", "must be t=<unix seconds>,v1=<64 hex digits>"),
        ("t=1, v1=" + "0" * 64, "without spaces"),
        ("v1=" + "0" * 64, "must be t="),
        (f"t=1,v1={'0' * 64}", "away from now"),
        (ANOTHER_BODY, "No v1 in Stockade-Signature fits the body"),
    ],
)
def test_a_signature_that_will_not_do_is_told_why(client: FlaskClient, given: str | None, words: str) -> None:
    given = signature(b"another body") if given == ANOTHER_BODY else given
    headers = {"Stockade-Signature": given} if given is not None else {}
    response = Caller(client).send("POST", "/v1/payments/webhook", data=b"{}", headers=headers)
    detail = told(response, 401, "unauthenticated")
    assert "Stockade-Signature" in detail
    assert words in detail


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ({"hold_seconds": ["Must be from 1 to 900."]}, "hold_seconds: must be from 1 to 900."),
        ({"lines": {1: {"quantity": ["Is required."]}}}, "quantity of line 2: is required."),
        (
            {"lines": {0: ["Must be a JSON object."]}, "x": "Unknown field."},
            "line 1: must be a JSON object; x: unknown field.",
        ),
        ({"sku": {3: ["A SKU is x."]}}, "sku 4: a SKU is x."),
        ({str(number): ["Bad."] for number in range(7)}, "0: bad; 1: bad; 2: bad; 3: bad; 4: bad; and 2 more."),
        ({"x" * 100: ["Bad."]}, f"{'x' * 64}…: bad."),
        ({"\x00": ["Bad."], "": ["Bad."]}, "'\\x00': bad; '': bad."),
    ],
)
def test_errors_are_summed_up_in_one_sentence(errors: dict[Any, Any], words: str) -> None:
    assert field_errors.summary(errors) == words


def test_the_store_s_own_judgement_is_summed_up_as_well(stocked: Caller, ann: Caller) -> None:
    window = {"sale_starts_at": "2026-11-27T08:00:00Z", "sale_ends_at": "2026-11-27T07:00:00Z"}
    detail = told(stocked.put("/v1/skus/tee", window), 422, "validation_failed")
    assert detail == "sale_ends_at: must be later than sale_starts_at."
    held = ann.reserve(("tee", 3))["id"]
    assert "on_hand can't be below 3" in told(stocked.put("/v1/skus/tee", {"on_hand": 2}), 409, "stock_below_claims")
    withdrawal = {"delta": -8, "reason": "x"}
    told_so = told(stocked.post("/v1/skus/tee/adjustments", withdrawal), 409, "insufficient_stock")
    assert "tee has only 7 available" in told_so
    answered(ann.delete(f"/v1/reservations/{held}"))
    extended = ann.post(f"/v1/reservations/{held}/extend", {"hold_seconds": 5})
    assert "released" in told(extended, 409, "invalid_transition")


def test_a_path_that_no_route_has_leads_to_those_there_are(guest: Caller) -> None:
    assert "/openapi.json" in told(guest.get("/v1/nothing"), 404, "not_found")
    assert "Allow" in told(guest.send("PATCH", "/v1/skus"), 405, "method_not_allowed")


def _key(route: Route) -> str | None:
    return "k" if route.idempotent else None
