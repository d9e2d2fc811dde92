"""Bodies and queries that are right, seen to be so in one step of C. All others are marshmallow's, to accept or to explain.

What is accepted is read off a marshmallow schema, and is less than that takes: text of ASCII only, and no field of a kind not named here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict

from marshmallow import Schema, fields, validate
from marshmallow.constants import missing
from msgspec import Meta, ValidationError, convert

from api.fields import PLAIN_SKU, Bounded, Flag, Lines, MaybeSku, PlainLine, Sku, Whole

Accept = Callable[[Any], dict[str, Any] | None]
"""What the schema would load from a document, or None: that is for marshmallow to say."""


def accepting(schema: Schema) -> Accept:
    kinds: dict[str, Any] = {}
    for name, field in schema.fields.items():
        kind = None if field.attribute or field.data_key else _kind(field)
        if kind is not None:
            kind = kind | None if field.allow_none else kind
            kinds[name] = Required[kind] if field.required else NotRequired[kind]
        elif field.required or field.load_default is not missing:
            return lambda document: None
    accepted: Any = TypedDict("accepted", kinds)  # type: ignore[misc]

    def accept(document: Any) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = convert(document, accepted)
        except ValidationError:
            return None
        # Fields that aren't known were left out.
        return found if len(found) == len(document) else None

    return accept


def _kind(field: fields.Field[Any]) -> Any:
    """The type of what is accepted for a field; None: nothing is."""
    match field:
        case Whole(validators=[validate.Range(min=least, max=most)]):
            return Annotated[int, Meta(ge=least, le=most)]
        case Flag(validators=[]):
            return bool
        case Sku(validators=[]):
            return PLAIN_SKU
        case MaybeSku(validators=[]):
            return Annotated[str, Meta(pattern=r"^[\x00-\x7f]*\Z")]
        case Bounded(most=most, validators=[_]):
            return Annotated[str, Meta(pattern=rf"^[ -~]{{1,{most}}}\Z")]
        case fields.String(validators=[validate.Regexp(regex=regex)]):
            return Annotated[str, Meta(pattern=f"^(?:{regex.pattern!s})")]
        case fields.String(validators=[validate.OneOf(choices=choices)]):
            return Literal[tuple(map(str, choices))]
        case Lines(validators=[validate.Length(min=least, max=most)]):
            return Annotated[list[PlainLine], Meta(min_length=least, max_length=most)]
        case fields.List(inner=inner, validators=[validate.Length(min=least, max=most)]):
            kind: Any = _kind(inner)
            return kind and Annotated[list[kind], Meta(min_length=least, max_length=most)]
        case fields.Raw(allow_none=True, validators=[]):
            return Any
    return None
