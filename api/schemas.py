"""Bodies and queries that come in, answers that go out. The OpenAPI document is made from these."""

from __future__ import annotations

from typing import Any

from marshmallow import RAISE, Schema, fields, validate

from api.answered import Answered
from api.fields import Bounded, Digits, Flag, Lines, MaybeSku, Sku, Timestamp, Whole
from engine.limits import MAX_HOLD_SECONDS, MAX_IN_BATCH, MAX_LINES, MAX_ON_HAND, MAX_QUANTITY
from engine.payments import Outcome, PaymentEvent
from engine.sku_names import MAX_NAME_LENGTH, name_problem
from engine.states import ORDER_STATE, Availability, Op, State, Verdict
from engine.values import Line

MAX_AVAILABILITIES = 500
MAX_ON_PAGE = 1_000

Text = fields.String


def _words(most: int = 255, **kwargs: Any) -> Bounded:
    """What programs compare or write into a header: visible characters and spaces."""

    def problem(text: str) -> str | None:
        if not 1 <= len(text) <= most:
            return f"Must have 1 to {most} characters."
        if not text.isprintable():
            return "Must be printable: no control characters, no invisible ones but the space."
        return None

    return Bounded(most, problem, **kwargs)


def _prose(**kwargs: Any) -> Bounded:
    """What people read."""
    return Bounded(MAX_NAME_LENGTH, name_problem, **kwargs)


def _whole(least: int, most: int, **kwargs: Any) -> Whole:
    return Whole(validate=_within(least, most), **kwargs)


def _within(least: int, most: int) -> validate.Range:
    return validate.Range(least, most, error=f"Must be from {least} to {most}.")


def _many(least: int, most: int) -> validate.Length:
    return validate.Length(least, most, error=f"Must have {least} to {most} items.")


def _hold_seconds(**kwargs: Any) -> Whole:
    return _whole(1, MAX_HOLD_SECONDS, **kwargs)


class Strict(Schema):
    """Unknown fields are errors, not noise. Messages say what would be right."""

    class Meta:
        unknown = RAISE

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        names = ", ".join(field.data_key or name for name, field in self.fields.items())
        self.error_messages |= {
            "unknown": f"Unknown field. Known are: {names}.",
            "type": f"Must be a JSON object with {names}.",
        }

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        for field in (field_obj, getattr(field_obj, "inner", field_obj)):
            field.error_messages = {**field.error_messages, **MESSAGES.get(type(field), {}), **ANY_FIELD}


ANY_FIELD = {"required": "Is required.", "null": "Must not be null."}
MESSAGES: dict[type, dict[str, str]] = {
    fields.String: {"invalid": "Must be a string."},
    Bounded: {"invalid": "Must be a string."},
    Sku: {"invalid": "Must be a string."},
    MaybeSku: {"invalid": "Must be a string."},
    fields.List: {"invalid": "Must be an array."},
    Lines: {"invalid": "Must be an array of objects with sku and quantity."},
}
"""What marshmallow says less plainly."""


class ProblemSchema(Answered):
    """RFC 9457, with `code`, and `errors` or `lines` where they help."""

    type = Text(required=True)
    title = Text(required=True)
    status = fields.Integer(required=True)
    detail = Text(required=True)
    code = Text(required=True)
    errors = fields.Dict()
    lines = fields.List(fields.Dict())
    standing_reservation = Text()


class LineRequest(Strict):
    sku = Sku(required=True)
    quantity = _whole(1, MAX_QUANTITY, required=True)


class LinesMixin(Strict):
    lines = Lines(fields.Nested(LineRequest), required=True, validate=_many(1, MAX_LINES))


class ReservationRequest(LinesMixin):
    hold_seconds = _hold_seconds()


class ExtendRequest(Strict):
    hold_seconds = _hold_seconds(required=True)


class CheckoutRequest(Strict):
    hold_seconds = _hold_seconds()


class BatchItem(LinesMixin):
    hold_seconds = _hold_seconds()
    user = _words(required=True)
    idempotency_key = Text(
        validate=validate.Regexp(r"[!-~]{1,255}\Z", error="Must be 1 to 255 visible ASCII characters.")
    )


class BatchRequest(Strict):
    """Items are judged one by one, so that a bad one doesn't spoil the rest. Each should be a `BatchItem`."""

    reservations = fields.List(
        fields.Raw(allow_none=True, metadata={"allOf": [{"$ref": "#/components/schemas/BatchItem"}]}),
        required=True,
        validate=_many(1, MAX_IN_BATCH),
    )


class LineSchema(Answered):
    of = Line

    sku = Sku(required=True)
    quantity = _whole(1, MAX_QUANTITY, required=True)


class CartRequest(Strict):
    lines = Lines(fields.Nested(LineRequest), validate=_many(1, MAX_LINES))


class CartLinesRequest(Strict):
    lines = Lines(fields.Nested(LineRequest), required=True, validate=_many(0, MAX_LINES))


class CartLineRequest(Strict):
    quantity = _whole(1, MAX_QUANTITY, required=True)


class CartLineSchema(Answered):
    sku = Text(required=True)
    quantity = Whole(required=True)
    available = Whole(required=True)
    status = Text(required=True, validate=validate.OneOf(list(Availability)))
    fulfillable = Flag(required=True)


class CartSchema(Answered):
    id = Text(required=True)
    lines = fields.List(fields.Nested(CartLineSchema), required=True)


class WebhookRequest(Strict):
    id = _words(required=True)
    type = Text(required=True, validate=validate.OneOf(list(PaymentEvent)))
    reservation_id = _words(required=True)
    payment_id = _words(required=True)


class WebhookSchema(Answered):
    outcome = Text(required=True, validate=validate.OneOf(list(Outcome)))


class ReservationSchema(Answered):
    id = Text(required=True)
    state = Text(required=True, validate=validate.OneOf(list(State)))
    lines = fields.List(fields.Nested(LineSchema), required=True)
    user = Text(required=True)
    created_at = Timestamp(attribute="created_ms", required=True)
    expires_at = Timestamp(attribute="deadline_ms", required=True)


class BatchResultSchema(Answered):
    status = Whole(required=True)
    reservation = fields.Nested(ReservationSchema)
    problem = fields.Nested(ProblemSchema)


class BatchSchema(Answered):
    results = fields.List(fields.Nested(BatchResultSchema), required=True)


class LineVerdictSchema(Answered):
    sku = Text(required=True)
    requested = Whole(required=True)
    available = Whole(required=True)
    verdict = Text(required=True, validate=validate.OneOf(list(Verdict)))
    max_reservable = Whole(required=True)
    next_release_at = Timestamp(attribute="next_release_ms", required=True, allow_none=True)


class SkuRequest(Strict):
    on_hand = _whole(0, MAX_ON_HAND)
    name = _prose(allow_none=True)
    limit_per_customer = _whole(1, MAX_ON_HAND, allow_none=True)
    sale_starts_at = Timestamp(data_key="sale_starts_at", attribute="sale_starts_ms", allow_none=True)
    sale_ends_at = Timestamp(data_key="sale_ends_at", attribute="sale_ends_ms", allow_none=True)
    paused = Flag(allow_none=True)


class AdjustmentRequest(Strict):
    delta = Whole(
        required=True,
        validate=[_within(-MAX_ON_HAND, MAX_ON_HAND), validate.NoneOf([0], error="Must not be 0.")],
        metadata={"not": {"const": 0}},
    )
    reason = _prose(required=True)


class SkuSchema(Answered):
    sku = Text(required=True)
    name = Text(required=True, allow_none=True)
    on_hand = Whole(required=True)
    available = Whole(required=True)
    reserved = Whole(required=True)
    allocated = Whole(required=True)
    limit_per_customer = Whole(required=True, allow_none=True)
    sale_starts_at = Timestamp(attribute="sale_starts_ms", required=True, allow_none=True)
    sale_ends_at = Timestamp(attribute="sale_ends_ms", required=True, allow_none=True)
    paused = Flag(required=True)


class SkuPageSchema(Answered):
    items = fields.List(fields.Nested(SkuSchema), required=True)
    next_cursor = Text(required=True, allow_none=True)


class SkuQuery(Strict):
    cursor = Sku()
    limit = Digits(load_default=100, validate=_within(1, MAX_ON_PAGE))


class AvailabilityQuery(Strict):
    sku = fields.List(MaybeSku(), required=True, validate=_many(1, MAX_AVAILABILITIES))


class AvailabilitySchema(Answered):
    sku = Text(required=True)
    available = Whole(required=True)
    status = Text(required=True, validate=validate.OneOf(list(Availability)))
    next_release_at = Timestamp(attribute="next_release_ms", required=True, allow_none=True)
    as_of = Timestamp(attribute="as_of_ms", required=True)


class AvailabilitiesSchema(Answered):
    items = fields.List(fields.Nested(AvailabilitySchema), required=True)


class CommitRequest(Strict):
    payment_id = _words(required=True)


class OrderSchema(Answered):
    id = Text(required=True)
    user = Text(required=True)
    state = Text(required=True, validate=validate.OneOf(list(ORDER_STATE.values())))
    lines = fields.List(fields.Nested(LineSchema), required=True)
    fulfilled_lines = fields.List(fields.Nested(LineSchema), required=True)
    cancelled_lines = fields.List(fields.Nested(LineSchema), required=True)
    returned_lines = fields.List(fields.Nested(LineSchema), required=True)
    payment_id = Text(required=True)
    committed_at = Timestamp(attribute="committed_ms", required=True)


class CommitSchema(Answered):
    order = fields.Nested(OrderSchema, required=True)
    late = Flag(required=True)


class FulfilRequest(Strict):
    lines = Lines(fields.Nested(LineRequest), validate=_many(1, MAX_LINES))


class CancelRequest(Strict):
    reason = _prose(required=True)
    lines = Lines(fields.Nested(LineRequest), validate=_many(1, MAX_LINES))


class SellingRequest(Strict):
    paused = Flag(required=True)
    reason = _prose(required=True)


class SellingSchema(Answered):
    paused = Flag(required=True)
    reason = Text(required=True)


class AuditQuery(Strict):
    sku = Sku()
    reservation_id = _words()
    user = _words()
    op = Text(validate=validate.OneOf(list(Op), error=f"Must be one of {', '.join(Op)}."))
    after = Text(validate=validate.Regexp(r"^[0-9]{1,18}-[0-9]{1,18}\Z", error="Must be the next of an earlier page."))
    limit = Digits(load_default=100, validate=_within(1, MAX_ON_PAGE))


class ChangeSchema(Answered):
    """A line of an event. A recount's quantity is the change and may be below 0."""

    sku = Text(required=True)
    quantity = Whole(required=True)


class EventSchema(Answered):
    epoch = Whole(required=True)
    seq = Whole(required=True)
    at = Timestamp(attribute="at_ms", required=True)
    op = Text(required=True, validate=validate.OneOf(list(Op)))
    actor = Text(required=True)
    user = Text(required=True)
    reservation_id = Text(required=True)
    lines = fields.List(fields.Nested(ChangeSchema), required=True)
    reason = Text(required=True)
    payment_id = Text(required=True)


class AuditSchema(Answered):
    items = fields.List(fields.Nested(EventSchema), required=True)
    next = Text(required=True, allow_none=True)
