"""The webhook of a payment provider. Its signature stands for a token."""

from __future__ import annotations

from flask import Blueprint

from api.route import Answer, Request, route
from api.schemas import WebhookRequest, WebhookSchema
from engine.values import Origin

blueprint = Blueprint("payments", __name__, url_prefix="/v1/payments")


@route(
    blueprint,
    "POST",
    "/webhook",
    "Take word of a payment",
    signed=True,
    body=WebhookRequest,
    answers={200: WebhookSchema},
    refusals=["not_found"],
)
def take_payment_event(request: Request) -> Answer:
    body = request.body
    origin = Origin("webhook", request.call.request_id)
    outcome = request.engine.payments.take(body["type"], body["reservation_id"], body["payment_id"], origin)
    return Answer({"outcome": outcome})
