"""What is wrong with a request, by field: `errors` of a 422, and the sentence that sums them up as its `detail`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from marshmallow import ValidationError

WHOLE = "body"
"""The name under which a body that is no object at all is reported."""

MAX_SUMMED_UP = 5
MAX_NAME_LENGTH = 64

Errors = Mapping[Any, Any]


def of_schema(error: ValidationError) -> dict[Any, Any]:
    """marshmallow's messages, with its word `_schema` taken out: what is no object is named itself."""
    return {
        WHOLE if name == "_schema" else name: _unwrapped(found) for name, found in error.normalized_messages().items()
    }


def summary(errors: Errors) -> str:
    """One sentence: `quantity of line 2: must be at least 1; hold_seconds: is required.`"""
    found = [f"{_place(path)}: {_lowered(message)}" for path, message in _messages(errors, ())]
    more = f"; and {len(found) - MAX_SUMMED_UP} more" if len(found) > MAX_SUMMED_UP else ""
    return "; ".join(text.rstrip(".") for text in found[:MAX_SUMMED_UP]) + more + "."


def _unwrapped(found: Any) -> Any:
    if not isinstance(found, dict):
        return found
    if found.keys() == {"_schema"}:
        return found["_schema"]
    return {name: _unwrapped(inner) for name, inner in found.items()}


def _messages(found: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(found, Mapping):
        for name, inner in found.items():
            yield from _messages(inner, (*path, name))
    elif isinstance(found, str):
        yield path, found
    else:
        for message in found:
            yield from _messages(message, path)


def _place(path: tuple[Any, ...]) -> str:
    """`("lines", 1, "quantity")` is `quantity of line 2`."""
    words: list[str] = []
    for name in path:
        if isinstance(name, int) and words:
            words[-1] = f"{words[-1].removesuffix('s')} {name + 1}"
        else:
            words.append(_clipped(str(name)))
    return " of ".join(reversed(words))


def _clipped(name: str) -> str:
    shown = name if name.isprintable() and name else ascii(name)
    return shown if len(shown) <= MAX_NAME_LENGTH else f"{shown[:MAX_NAME_LENGTH]}…"


def _lowered(message: str) -> str:
    """As part of a sentence; a word in capitals stays as it is."""
    return message[:1].lower() + message[1:] if message[1:2].islower() or message[1:2] == " " else message
