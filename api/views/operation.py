"""Operation: the global stop, how things are now, and the record of every change."""

from __future__ import annotations

from flask import Blueprint

from api.auth import OPS
from api.overview_schema import OverviewSchema
from api.route import Answer, Request, route
from api.schemas import AuditQuery, AuditSchema, SellingRequest, SellingSchema
from engine import switch
from engine.ledger import Filter
from engine.overview import document

blueprint = Blueprint("operation", __name__, url_prefix="/v1")


@route(blueprint, "GET", "/selling", "Is selling paused?", scopes=[OPS], answers={200: SellingSchema})
def get_selling(request: Request) -> Answer:
    return Answer(request.engine.stock.selling())


@route(
    blueprint,
    "PUT",
    "/selling",
    "Pause or resume all selling",
    scopes=[OPS],
    body=SellingRequest,
    answers={200: SellingSchema},
    refusals=["idempotency_key_reused"],
    idempotent=True,
    keeps_answer=True,
)
def put_selling(request: Request) -> Answer:
    return Answer(request.engine.stock.set_selling(request.body["paused"], request.body["reason"], request.call.origin))


@route(
    blueprint,
    "GET",
    "/audit",
    "The record of every change, in order",
    scopes=[OPS],
    query=AuditQuery,
    answers={200: AuditSchema},
)
def list_audit(request: Request) -> Answer:
    query = dict(request.query)
    after, limit = query.pop("after", ""), query.pop("limit")
    items, position = request.engine.audit.page(Filter(**query), after, limit)
    return Answer({"items": items, "next": position or None})


@route(blueprint, "GET", "/overview", "How things are now", scopes=[OPS], answers={200: OverviewSchema})
def get_overview(request: Request) -> Answer:
    return Answer(switch.in_thread(document, request.engine.overview))
