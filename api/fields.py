"""Field types that marshmallow lacks: SKUs, whole numbers and booleans that are just that, and RFC 3339 times in milliseconds."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any

from marshmallow import ValidationError, fields
from msgspec import Meta

from engine.limits import MAX_QUANTITY
from engine.sku_names import MAX_SKU_LENGTH, RULE, sku_of
from engine.values import Line

PLAIN_SKU = Annotated[str, Meta(pattern=rf"^(?!\.\.?\Z)[!-~]{{1,{MAX_SKU_LENGTH}}}\Z")]
"""SKUs of ASCII without a space: most are, and these are as they are in NFC."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


class Sku(fields.String):
    """A SKU, in NFC."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(metadata={"minLength": 1, "maxLength": MAX_SKU_LENGTH, "description": RULE}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        try:
            return sku_of(super()._deserialize(value, attr, data, **kwargs))
        except ValueError as error:
            raise ValidationError(f"Can't be a SKU. {RULE}.") from error


class MaybeSku(fields.String):
    """What may be a SKU, then in NFC, or anything else: for questions that have an answer for every name."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        return unicodedata.normalize("NFC", super()._deserialize(value, attr, data, **kwargs))


class Whole(fields.Integer):
    """A JSON number without a fraction. `true`, `1.0` and `"1"` are not."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if type(value) is not int:
            raise ValidationError("Must be a whole number.")
        return value


class Digits(fields.Integer):
    """A whole number as a query parameter has it: ASCII digits and nothing else."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", str(value)):
            raise ValidationError("Must be a whole number.")
        return int(value)


class Flag(fields.Boolean):
    """`true` or `false`; `1` and `"yes"` are not."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if type(value) is not bool:
            raise ValidationError("Must be true or false.")
        return value


class PlainLine(Line, frozen=True, forbid_unknown_fields=True):
    """A line that needs no second look."""

    sku: PLAIN_SKU
    quantity: Annotated[int, Meta(ge=1, le=MAX_QUANTITY)]


class Lines(fields.List[Any]):
    """A list of `{sku, quantity}`, as lines of the engine."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        lines: list[Any] = super()._deserialize(value, attr, data, **kwargs)
        return [PlainLine(**line) for line in lines]


class Bounded(fields.String):
    """A string of 1 to `most` characters without what `problem` finds in it."""

    def __init__(self, most: int, problem: Callable[[str], str | None], **kwargs: Any) -> None:
        def right(text: str) -> None:
            if found := problem(text):
                raise ValidationError(found)

        super().__init__(validate=right, metadata={"minLength": 1, "maxLength": most}, **kwargs)
        self.most = most


class Timestamp(fields.Field[int]):
    """RFC 3339 outside, milliseconds since 1970 inside. 0 is shown as null."""

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return rfc_3339(value) if value else None

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, str) or not RFC_3339.fullmatch(value):
            raise ValidationError("Must be a time as in RFC 3339, for example 2026-11-27T08:00:00Z.")
        try:
            since = datetime.fromisoformat(value.upper()).astimezone(UTC) - EPOCH
        except (ValueError, OverflowError) as error:
            raise ValidationError("There is no such time.") from error
        milliseconds = since // timedelta(milliseconds=1)
        if milliseconds <= 0:
            raise ValidationError("Must be after 1970.")
        return milliseconds


def rfc_3339(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second(seconds)}.{rest:03}Z"


@lru_cache(4_096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
