"""Stock, for operators: SKUs, recounts, adjustments."""

from __future__ import annotations

from flask import Blueprint

from api.auth import OPS
from api.route import Answer, Request, route
from api.schemas import AdjustmentRequest, SkuPageSchema, SkuQuery, SkuRequest, SkuSchema

blueprint = Blueprint("stock", __name__, url_prefix="/v1")


@route(
    blueprint,
    "PUT",
    "/skus/<sku>",
    "Create a SKU, recount it, or change its attributes",
    scopes=[OPS],
    body=SkuRequest,
    answers={201: SkuSchema, 200: SkuSchema},
    refusals=["stock_below_claims", "idempotency_key_reused"],
    idempotent=True,
)
def put_sku(request: Request, sku: str) -> Answer:
    on_hand = request.body.pop("on_hand", None)
    attributes = {name: _as_field(value) for name, value in request.body.items()}
    found, new = request.engine.stock.configure(sku, on_hand, attributes, request.call.origin, request.operation)
    return Answer(found, 201 if new else 200, replayed=found.replayed)


@route(blueprint, "GET", "/skus/<sku>", "Show a SKU", scopes=[OPS], answers={200: SkuSchema}, refusals=["not_found"])
def get_sku(request: Request, sku: str) -> Answer:
    return Answer(request.engine.stock.get(sku))


@route(blueprint, "GET", "/skus", "List SKUs by name", scopes=[OPS], query=SkuQuery, answers={200: SkuPageSchema})
def list_skus(request: Request) -> Answer:
    limit = request.query["limit"]
    items = request.engine.stock.page(request.query.get("cursor", ""), limit)
    return Answer({"items": items, "next_cursor": items[-1].sku if len(items) == limit else None})


@route(
    blueprint,
    "POST",
    "/skus/<sku>/adjustments",
    "Restock or withdraw",
    scopes=[OPS],
    body=AdjustmentRequest,
    answers={200: SkuSchema},
    refusals=["not_found", "insufficient_stock", "idempotency_key_reused"],
    idempotent=True,
)
def adjust_sku(request: Request, sku: str) -> Answer:
    delta, reason = request.body["delta"], request.body["reason"]
    found = request.engine.stock.adjust(sku, delta, request.call.origin, reason, request.operation)
    return Answer(found, replayed=found.replayed)


def _as_field(value: object) -> str:
    """A value as the SKU's hash holds it: nothing for null and false."""
    return "1" if value is True else str(value or "")
