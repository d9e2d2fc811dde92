"""Carts, for shops that have none of their own. They never touch stock; their checkout makes a reservation."""

from __future__ import annotations

from flask import Blueprint

from api.auth import CUSTOMER, STOREFRONT
from api.route import Answer, Request, route
from api.schemas import CartLineRequest, CartLinesRequest, CartRequest, CartSchema, CheckoutRequest, ReservationSchema
from engine.values import Line

blueprint = Blueprint("carts", __name__, url_prefix="/v1/carts")

BUYERS = [CUSTOMER, STOREFRONT]


@route(
    blueprint,
    "POST",
    "",
    "Make a cart, empty or with lines",
    scopes=BUYERS,
    guests=True,
    body=CartRequest,
    bodiless=True,
    answers={201: CartSchema},
    refusals=["not_found", "idempotency_key_reused"],
    idempotent=True,
    keeps_answer=True,
)
def create_cart(request: Request) -> Answer:
    call, lines = request.call, request.body.get("lines", [])
    cart = request.engine.carts.create(call.origin, lines, call.idempotency_key, call.fingerprint)
    return Answer(cart, 201, {"Location": f"/v1/carts/{cart.id}"}, cart.replayed)


@route(
    blueprint,
    "GET",
    "/<id>",
    "Show a cart, with what can be had now",
    scopes=BUYERS,
    guests=True,
    answers={200: CartSchema},
    refusals=["not_found"],
)
def get_cart(request: Request, id: str) -> Answer:
    return Answer(request.engine.carts.get(id, request.call.origin))


@route(
    blueprint,
    "PUT",
    "/<id>",
    "Want these lines and no others",
    scopes=BUYERS,
    guests=True,
    body=CartLinesRequest,
    answers={200: CartSchema},
    refusals=["not_found", "idempotency_key_reused"],
    idempotent=True,
    keeps_answer=True,
)
def put_cart(request: Request, id: str) -> Answer:
    return Answer(request.engine.carts.set_lines(id, request.call.origin, request.body["lines"]))


@route(
    blueprint,
    "PUT",
    "/<id>/lines/<sku>",
    "Want so many units of a SKU",
    scopes=BUYERS,
    guests=True,
    body=CartLineRequest,
    answers={200: CartSchema},
    refusals=["not_found", "idempotency_key_reused"],
    idempotent=True,
    keeps_answer=True,
)
def put_cart_line(request: Request, id: str, sku: str) -> Answer:
    line = Line(sku, request.body["quantity"])
    return Answer(request.engine.carts.put_line(id, request.call.origin, line))


@route(
    blueprint,
    "DELETE",
    "/<id>/lines/<sku>",
    "Take a SKU out; the last one releases the cart's live reservation",
    scopes=BUYERS,
    guests=True,
    answers={200: CartSchema},
    refusals=["not_found", "idempotency_key_reused"],
    idempotent=True,
    keeps_answer=True,
)
def delete_cart_line(request: Request, id: str, sku: str) -> Answer:
    return Answer(request.engine.carts.put_line(id, request.call.origin, Line(sku, 0)))


@route(
    blueprint,
    "DELETE",
    "/<id>",
    "Delete a cart and release its live reservation",
    scopes=BUYERS,
    guests=True,
    answers={204: CartSchema},
    refusals=["not_found", "idempotency_key_reused"],
    idempotent=True,
    keeps_answer=True,
)
def delete_cart(request: Request, id: str) -> Answer:
    request.engine.carts.delete(id, request.call.origin)
    return Answer(None, 204)


@route(
    blueprint,
    "POST",
    "/<id>/checkout",
    "Reserve every line of the cart or none; a second time replaces the first",
    scopes=BUYERS,
    body=CheckoutRequest,
    bodiless=True,
    answers={201: ReservationSchema},
    refusals=["not_found", "empty_cart", "lines_unavailable", "idempotency_key_reused"],
    idempotent=True,
)
def check_out_cart(request: Request, id: str) -> Answer:
    hold_seconds = request.body.get("hold_seconds")
    call = request.call
    made = request.engine.carts.checkout(id, call.origin, hold_seconds, call.idempotency_key, call.fingerprint)
    return Answer(made, 201, {"Location": f"/v1/reservations/{made.id}"}, made.replayed and bool(call.fingerprint))
