"""Reservations for many users in one call, from a trusted back end. Each is decided on its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from flask import Blueprint
from marshmallow import ValidationError

from api import problems
from api.accepted import accepting
from api.auth import STOREFRONT
from api.route import Answer, Request, route
from api.schemas import BatchItem, BatchRequest, BatchSchema
from engine.errors import EngineError
from engine.ids import fingerprint
from engine.replies import Claim
from engine.values import Origin, Reservation

blueprint = Blueprint("batch", __name__, url_prefix="/v1/reservations")

MAX_BYTES = 1024 * 1024

SINGLE = (b"POST", b"/v1/reservations")
"""An item's key is worth as much in the route for one reservation, and the other way round."""

MAX_LINES_AT_ONCE = 32
"""Worked on before others have their turn, about."""

ITEM = BatchItem()
ACCEPTS = accepting(ITEM)

ItemProblem = dict[str, object]


@route(
    blueprint,
    "POST",
    "/batch",
    "Reserve for up to 500 users, each on its own",
    scopes=[STOREFRONT],
    body=BatchRequest,
    answers={200: BatchSchema},
    refusals=["idempotency_key_reused"],
    idempotent=True,
    most_body_bytes=MAX_BYTES,
)
def create_reservation_batch(request: Request) -> Answer:
    request.engine.reservations.remember(request.operation)
    answers, asked, lines = list[Reservation | EngineError | ItemProblem](), list[Claim | ItemProblem](), 0
    for number, item in enumerate(request.body["reservations"]):
        asked.append(_claim(request, number, item))
        lines += len(asked[-1].lines) if isinstance(asked[-1], Claim) else 1
        if lines >= MAX_LINES_AT_ONCE:
            answers += _decided(request, asked)
            asked, lines = [], 0
    answers += _decided(request, asked)
    held = [answer for answer in answers if isinstance(answer, Reservation)]
    replayed = bool(request.call.idempotency_key and held) and all(one.replayed for one in held)
    return Answer({"results": [_result(answer) for answer in answers]}, replayed=replayed)


def _decided(request: Request, asked: list[Claim | ItemProblem]) -> Iterator[Reservation | EngineError | ItemProblem]:
    """In one round trip."""
    made = iter(request.engine.reservations.reserve_all([claim for claim in asked if isinstance(claim, Claim)]))
    return (next(made) if isinstance(claim, Claim) else claim for claim in asked)


def _claim(request: Request, number: int, item: Any) -> Claim | ItemProblem:
    """What an item asks for, or what is wrong with it.

    Items without a key get one from that of the whole call; with a space in it, which no key of a caller's has.
    """
    try:
        asked = ACCEPTS(item) or ITEM.load(item)
    except ValidationError as error:
        return problems.invalid(error)
    call = request.call
    key = asked.pop("idempotency_key", f"{call.idempotency_key} {number}" if call.idempotency_key else "")
    assert call.identity is not None
    origin = Origin(call.identity.actor, call.request_id, asked.pop("user"))
    print_of_it = fingerprint(*SINGLE, msgspec.json.encode(asked, order="sorted")) if key else ""
    return request.engine.reservations.claim(origin, asked["lines"], asked.get("hold_seconds"), key, print_of_it)


def _result(answer: Reservation | EngineError | ItemProblem) -> dict[str, Any]:
    if isinstance(answer, Reservation):
        return {"status": 201, "reservation": answer}
    problem = problems.of_engine(answer) if isinstance(answer, EngineError) else answer
    return {"status": problem["status"], "problem": problem}
