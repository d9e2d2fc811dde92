"""Reservations: a checkout's claim on stock, and the payment that makes it permanent."""

from __future__ import annotations

from flask import Blueprint

from api.auth import CUSTOMER, PAYMENTS, STOREFRONT
from api.route import Answer, Request, route
from api.schemas import CommitRequest, CommitSchema, ExtendRequest, ReservationRequest, ReservationSchema

blueprint = Blueprint("reservations", __name__, url_prefix="/v1/reservations")


@route(
    blueprint,
    "POST",
    "",
    "Reserve every line or none",
    scopes=[CUSTOMER, STOREFRONT],
    body=ReservationRequest,
    answers={201: ReservationSchema},
    refusals=["lines_unavailable", "idempotency_key_reused"],
    idempotent=True,
)
def create_reservation(request: Request) -> Answer:
    lines = request.body["lines"]
    hold_seconds = request.body.get("hold_seconds")
    call = request.call
    made = request.engine.reservations.reserve(call.origin, lines, hold_seconds, call.idempotency_key, call.fingerprint)
    return Answer(made, 201, {"Location": f"/v1/reservations/{made.id}"}, made.replayed)


@route(
    blueprint,
    "GET",
    "/<id>",
    "Show a reservation",
    scopes=[CUSTOMER, STOREFRONT],
    answers={200: ReservationSchema},
    refusals=["not_found"],
)
def get_reservation(request: Request, id: str) -> Answer:
    return Answer(request.engine.reservations.get(id, request.call.user))


@route(
    blueprint,
    "POST",
    "/<id>/extend",
    "Move the deadline",
    scopes=[CUSTOMER, STOREFRONT],
    body=ExtendRequest,
    answers={200: ReservationSchema},
    idempotent=True,
    refusals=["not_found", "reservation_expired", "invalid_transition", "idempotency_key_reused"],
)
def extend_reservation(request: Request, id: str) -> Answer:
    hold_seconds = request.body["hold_seconds"]
    held = request.engine.reservations.extend(id, request.call.origin, hold_seconds, request.operation)
    return Answer(held, replayed=held.replayed)


@route(
    blueprint,
    "DELETE",
    "/<id>",
    "Abandon a reservation",
    scopes=[CUSTOMER, STOREFRONT],
    answers={200: ReservationSchema},
    refusals=["not_found", "already_committed", "idempotency_key_reused"],
    idempotent=True,
    keeps_answer=True,
)
def release_reservation(request: Request, id: str) -> Answer:
    return Answer(request.engine.reservations.release(id, request.call.origin))


@route(
    blueprint,
    "POST",
    "/<id>/commit",
    "Turn a paid reservation into an order",
    scopes=[PAYMENTS],
    body=CommitRequest,
    answers={200: CommitSchema},
    idempotent=True,
    refusals=["not_found", "already_committed", "payment_already_used", "refund_required", "idempotency_key_reused"],
)
def commit_reservation(request: Request, id: str) -> Answer:
    payment_id = request.body["payment_id"]
    order = request.engine.reservations.commit(id, request.call.origin, payment_id, request.operation)
    return Answer({"order": order, "late": order.late}, replayed=order.replayed)
