"""What is accepted in one step is just what marshmallow would load, and nothing that it would refuse."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as some
from marshmallow import Schema, ValidationError

from api import wsgi  # noqa: F401
from api.accepted import accepting
from api.incoming import canonical
from api.route import ROUTES
from api.schemas import BatchItem, ReservationRequest

SCHEMAS: dict[str, Schema] = {
    made.__name__: made()
    for made in (*[each for route, _ in ROUTES for each in (route.body, route.query) if each], BatchItem)
}
"""Of every body and query of the service."""

NAMES = [*sorted({name for schema in SCHEMAS.values() for name in schema.fields}), "unknown", ""]

CHARACTERS = 'a1-._~!% \x00\x1f\x7f\n"\\é\u0301\u200bß\U0001f600'
TEXTS = some.text(CHARACTERS, max_size=4) | some.sampled_from(
    [
        "reserve",
        "payment.succeeded",
        "x" * 64,
        "x" * 65,
        "x" * 128,
        "x" * 129,
        "x" * 255,
        "x" * 256,
        ".",
        "..",
        "1-1",
        "5",
    ]
)
NUMBERS = some.sampled_from([-1, 0, 1, 1.0, 2, 900, 901, 10**6, 10**6 + 1, 10**9, 10**9 + 1, 2**63, 2**64, 1e300, True])
LINES = some.lists(
    some.fixed_dictionaries({"sku": TEXTS, "quantity": NUMBERS}, optional={"more": NUMBERS})
    | some.dictionaries(some.sampled_from(["sku", "quantity"]), TEXTS | NUMBERS | some.none()),
    max_size=3,
)
VALUES = (
    TEXTS
    | NUMBERS
    | LINES
    | some.none()
    | some.lists(TEXTS, max_size=2)
    | some.just([{"sku": "a", "quantity": 1}] * 201)
)
DOCUMENTS = some.dictionaries(some.sampled_from(NAMES), VALUES, max_size=5) | VALUES


def loaded(schema: Schema, document: Any) -> Any:
    try:
        return schema.load(document)
    except ValidationError:
        return None


@pytest.mark.parametrize("name", SCHEMAS)
@given(data=some.data())
def test_what_is_accepted_is_what_marshmallow_loads(name: str, data: some.DataObject) -> None:
    """The names of the schema itself more often than others, or nothing would fit."""
    schema = SCHEMAS[name]
    fitting = some.fixed_dictionaries({}, optional=dict.fromkeys(schema.fields, VALUES))
    document = data.draw(fitting | DOCUMENTS)
    accepted = accepting(schema)(document)
    assert accepted is None or accepted == loaded(schema, document)


LINE = {"sku": "a", "quantity": 1}

RIGHT = {
    "ReservationRequest": {"lines": [LINE], "hold_seconds": 900},
    "BatchItem": {"user": "ann b", "lines": [LINE], "idempotency_key": "k", "hold_seconds": 1},
    "BatchRequest": {"reservations": [{"any": "thing"}, None]},
    "CommitRequest": {"payment_id": "p 1"},
    "WebhookRequest": {"id": "e", "type": "payment.succeeded", "reservation_id": "r", "payment_id": "p"},
    "AvailabilityQuery": {"sku": ["a", ".", "no SKU"]},
    "CartLinesRequest": {"lines": []},
    "CartLineRequest": {"quantity": 1_000_000},
    "ExtendRequest": {"hold_seconds": 1},
    "FulfilRequest": {"lines": [LINE]},
    "CancelRequest": {"reason": "why", "lines": [LINE]},
    "SellingRequest": {"paused": True, "reason": "why"},
}


@pytest.mark.parametrize("name", RIGHT)
def test_the_usual_is_accepted_in_one_step(name: str) -> None:
    assert accepting(SCHEMAS[name])(RIGHT[name]) == loaded(SCHEMAS[name], RIGHT[name]) is not None


@given(lines=LINES, hold=NUMBERS)
@example(lines=[{"sku": '"\\/é', "quantity": 1}], hold=1)
def test_an_item_of_a_batch_has_the_fingerprint_of_the_same_single_call(lines: list[Any], hold: Any) -> None:
    """Loaded and written again it is what canonical JSON makes of the document, where SKUs are in NFC."""
    schema, document = ReservationRequest(), {"lines": lines, "hold_seconds": hold}
    if found := accepting(schema)(document):
        assert msgspec.json.encode(found, order="sorted") == canonical(document)
