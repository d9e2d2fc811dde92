"""Bodies and queries that come in, answers that go out. The OpenAPI document is made from these."""

from __future__ import annotations

from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate

from api.answered import Answered
from api.fields import Digits, Flag, Lines, Timestamp, Whole, are_lines
from engine.limits import MAX_HOLD_SECONDS, MOST_IN_BATCH, MOST_LINES, MOST_ON_HAND, MOST_QUANTITY, SKU_PATTERN
from engine.payments import Outcome, PaymentEvent
from engine.states import ORDER_STATE, Availability, State, Verdict

MOST_AVAILABILITIES = 100
MOST_ON_PAGE = 1_000

Text = fields.String


def _sku(**kwargs: Any) -> fields.String:
    wrong = "A SKU is 1 to 64 of A-Z a-z 0-9 . _ : -"
    pattern = validate.Regexp(rf"{SKU_PATTERN}\Z", error=wrong)
    return Text(validate=pattern, metadata={"pattern": f"^{SKU_PATTERN}$"}, **kwargs)


def _words(most: int = 255, **kwargs: Any) -> fields.String:
    def printable(text: str) -> None:
        if not 1 <= len(text) <= most:
            raise ValidationError(f"Length must be between 1 and {most}.")
        if not text.isprintable():
            raise ValidationError("Has control characters.")

    return Text(validate=printable, metadata={"minLength": 1, "maxLength": most}, **kwargs)


def _hold_seconds(**kwargs: Any) -> Whole:
    return Whole(validate=validate.Range(1, MAX_HOLD_SECONDS), **kwargs)


class Strict(Schema):
    """Unknown fields are errors, not noise."""

    class Meta:
        unknown = RAISE


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
    sku = _sku(required=True)
    quantity = Whole(required=True, validate=validate.Range(1, MOST_QUANTITY))


class LinesMixin(Strict):
    lines = Lines(fields.Nested(LineRequest), required=True, validate=validate.Length(1, MOST_LINES))


def _has_lines(data: dict[str, Any]) -> bool:
    lines = data.get("lines")
    return are_lines(lines) and 1 <= len(data["lines"]) <= MOST_LINES


class ReservationRequest(LinesMixin):
    hold_seconds = _hold_seconds()

    def load(self, data: Any, **kwargs: Any) -> Any:
        """As marshmallow does; nothing but lines, which nearly every checkout sends, is seen to be right at a glance."""
        return data if type(data) is dict and len(data) == 1 and _has_lines(data) else super().load(data, **kwargs)


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
        validate=validate.Length(1, MOST_IN_BATCH),
    )


class LineSchema(Answered):
    sku = _sku(required=True)
    quantity = Whole(required=True, validate=validate.Range(1, MOST_QUANTITY))


class CartRequest(Strict):
    lines = Lines(fields.Nested(LineRequest), validate=validate.Length(1, MOST_LINES))


class CartLinesRequest(Strict):
    lines = Lines(fields.Nested(LineRequest), required=True, validate=validate.Length(0, MOST_LINES))


class CartLineRequest(Strict):
    quantity = Whole(required=True, validate=validate.Range(1, MOST_QUANTITY))


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
    on_hand = Whole(validate=validate.Range(0, MOST_ON_HAND))
    name = _words(allow_none=True)
    limit_per_customer = Whole(allow_none=True, validate=validate.Range(1, MOST_ON_HAND))
    sale_starts_at = Timestamp(data_key="sale_starts_at", attribute="sale_starts_ms", allow_none=True)
    sale_ends_at = Timestamp(data_key="sale_ends_at", attribute="sale_ends_ms", allow_none=True)
    paused = Flag(allow_none=True)


class AdjustmentRequest(Strict):
    delta = Whole(
        required=True,
        validate=[validate.Range(-MOST_ON_HAND, MOST_ON_HAND), validate.NoneOf([0], error="Must not be 0.")],
        metadata={"not": {"const": 0}},
    )
    reason = _words(required=True)


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
    cursor = _sku()
    limit = Digits(load_default=100, validate=validate.Range(1, MOST_ON_PAGE))


class AvailabilityQuery(Strict):
    sku = fields.List(_sku(), required=True, validate=validate.Length(1, MOST_AVAILABILITIES))


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
    lines = Lines(fields.Nested(LineRequest), validate=validate.Length(1, MOST_LINES))


class CancelRequest(Strict):
    reason = _words(required=True)
    lines = Lines(fields.Nested(LineRequest), validate=validate.Length(1, MOST_LINES))


class SellingRequest(Strict):
    paused = Flag(required=True)
    reason = _words(required=True)


class SellingSchema(Answered):
    paused = Flag(required=True)
    reason = Text(required=True)


class AuditQuery(Strict):
    sku = _sku()
    reservation_id = _words()
    user = _words()
    op = _words()
    after = Text(validate=validate.Regexp(r"^[0-9]{1,18}-[0-9]{1,18}\Z", error="Must be the next of an earlier page."))
    limit = Digits(load_default=100, validate=validate.Range(1, MOST_ON_PAGE))


class ChangeSchema(Answered):
    """A line of an event. A recount's quantity is the change and may be below 0."""

    sku = Text(required=True)
    quantity = Whole(required=True)


class EventSchema(Answered):
    epoch = Whole(required=True)
    seq = Whole(required=True)
    at = Timestamp(attribute="at_ms", required=True)
    op = Text(required=True)
    actor = Text(required=True)
    user = Text(required=True)
    reservation_id = Text(required=True)
    lines = fields.List(fields.Nested(ChangeSchema), required=True)
    reason = Text(required=True)
    payment_id = Text(required=True)


class AuditSchema(Answered):
    items = fields.List(fields.Nested(EventSchema), required=True)
    next = Text(required=True, allow_none=True)


class ChecksSchema(Answered):
    status = Text(required=True)
    checks = fields.Dict(keys=Text(), values=Text())
