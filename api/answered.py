"""The base of schemas for answers: they document, and dump what the engine gives as it is."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from marshmallow import Schema, fields
from msgspec import Struct

from api.fields import Timestamp, rfc_3339

Show = Callable[[Any], Any]


class Answered(Schema):
    """Dumps several times faster than marshmallow, because values of the engine need no conversion but that of times.

    Fields that a dict lacks are left out. `of` is a struct that is shown just as it is, because it has these fields and no others.
    """

    of: type[Struct] | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._shown = [(name, field.attribute or name, _show(field)) for name, field in self.fields.items()]
        self._names = [*self.fields]
        # One name more, because of a single one it gives no tuple.
        self._values = attrgetter(*[given for _, given, _ in self._shown], "__class__")
        self._converted = [(name, show) for name, _, show in self._shown if show is not _as_it_is]

    def dump(self, obj: Any, *, many: bool | None = None) -> Any:
        return [self.one(item) for item in obj] if (self.many if many is None else many) else self.one(obj)

    def one(self, obj: Any) -> dict[str, Any]:
        if isinstance(obj, dict):
            return {name: show(obj[given]) for name, given, show in self._shown if given in obj}
        shown = dict(zip(self._names, self._values(obj)))  # noqa: B905
        for name, show in self._converted:
            shown[name] = show(shown[name])
        return shown


def _show(field: fields.Field[Any]) -> Show:
    if isinstance(field, Timestamp):
        return lambda milliseconds: rfc_3339(milliseconds) if milliseconds else None
    if isinstance(field, fields.Nested):
        schema = field.schema
        assert isinstance(schema, Answered)
        if schema.of:
            assert schema.of.__struct_fields__ == (*schema.fields,)
            return _as_it_is
        return schema.one
    if isinstance(field, fields.List):
        show = _show(field.inner)
        if show is _as_it_is:
            return show
        return lambda values: [show(value) for value in values]
    return _as_it_is


def _as_it_is(value: Any) -> Any:
    return value
