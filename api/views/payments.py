"""The webhook of a payment provider. Its signature stands for a token."""

from __future__ import annotations

from flask import Blueprint

from api.route import Answer, Request, route
from api.schemas import WebhookRequest, WebhookSchema
from engine.payments import PaymentEvent
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
)
def take_payment_event(request: Request) -> Answer:
    body = request.body
    origin = Origin("webhook", request.call.request_id)
    words = (body["id"], body["reservation_id"], body["payment_id"])
    outcome = request.engine.payments.take(PaymentEvent(body["type"]), *words, origin)
    return Answer({"outcome": outcome})
