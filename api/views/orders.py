"""Orders: paid reservations, under the reservation's id."""

from __future__ import annotations

from flask import Blueprint

from api.auth import CUSTOMER, OPS, STOREFRONT
from api.route import Answer, Request, require_idempotency_key, route
from api.schemas import CancelRequest, FulfilRequest, OrderSchema

blueprint = Blueprint("orders", __name__, url_prefix="/v1/orders")


@route(
    blueprint,
    "GET",
    "/<id>",
    "Show an order to its owner or an operator",
    scopes=[CUSTOMER, STOREFRONT, OPS],
    answers={200: OrderSchema},
    refusals=["not_found"],
)
def get_order(request: Request, id: str) -> Answer:
    identity = request.call.identity
    # With Stockade-User, an operator asks as that user.
    anybody = identity is not None and OPS in identity.scopes and identity.user == identity.actor
    return Answer(request.engine.orders.get(id, None if anybody else request.call.user))


@route(
    blueprint,
    "POST",
    "/<id>/fulfil",
    "Ship an order, or lines of it",
    scopes=[OPS],
    body=FulfilRequest,
    bodiless=True,
    answers={200: OrderSchema},
    idempotent=True,
    refusals=["not_found", "invalid_transition", "idempotency_key_required", "idempotency_key_reused"],
)
def fulfil_order(request: Request, id: str) -> Answer:
    lines = request.body.get("lines", [])
    if lines:
        require_idempotency_key(request, "Shipping lines twice would ship twice as many")
    order = request.engine.orders.fulfil(id, request.call.origin, lines, request.operation)
    return Answer(order, replayed=order.replayed)


@route(
    blueprint,
    "POST",
    "/<id>/cancel",
    "Call off an order, or lines of it",
    scopes=[OPS],
    body=CancelRequest,
    answers={200: OrderSchema},
    refusals=["not_found", "invalid_transition", "idempotency_key_required", "idempotency_key_reused"],
    idempotent=True,
)
def cancel_order(request: Request, id: str) -> Answer:
    lines = request.body.get("lines", [])
    if lines:
        require_idempotency_key(request, "Cancelling lines twice would cancel twice as many")
    order = request.engine.orders.cancel(id, request.call.origin, request.body["reason"], lines, request.operation)
    return Answer(order, replayed=order.replayed)
