"""What a request carries and its route doesn't use. It is refused, never ignored: the caller meant something by it.

This holds for routes under /v1. Other routes take any query and header, because balancers and browsers add some.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote_plus

from api.incoming import Incoming
from api.paths import NO_ESCAPE
from api.problems import Problem, invalid_fields

OUR_HEADERS = "HTTP_STOCKADE_"
USER, SIGNATURE, KEY = "HTTP_STOCKADE_USER", "HTTP_STOCKADE_SIGNATURE", "HTTP_IDEMPOTENCY_KEY"


def refuse_headers(incoming: Incoming, used: frozenset[str], usable: frozenset[str], route: str) -> None:
    """Refuse headers of ours that the route doesn't use, or that this caller can't: `usable` is a part of `used`.

    Raises:
        Problem: `bad_request`.
    """
    environ = incoming.environ
    # One search of all names costs a tenth of a look at each.
    ours = sum(name in environ for name in usable if name != KEY)
    if (KEY in usable or KEY not in environ) and " ".join(environ).count(OUR_HEADERS) == ours:
        return
    for name in environ:
        if (name == KEY or name.startswith(OUR_HEADERS)) and name not in usable:
            header = name.removeprefix("HTTP_").replace("_", "-").title()
            if name in used:
                who = "only from a caller whose user is known: send a token, a storefront's with Stockade-User"
                raise Problem("bad_request", f"{route} takes {header} {who}.")
            why = "; it changes nothing, or is repeatable without one" if name == KEY else ""
            raise Problem("bad_request", f"{route} takes no header {header}{why}. Leave it out.")


def refuse_body(incoming: Incoming, route: str) -> None:
    """Raises: Problem: `bad_request`, if there is a body that isn't empty."""
    if incoming.has_body and incoming.sends_anything():
        raise Problem("bad_request", f"{route} takes no body. Leave it out.")


def query(text: str, known: dict[str, bool], route: str) -> dict[str, Any]:
    """The parameters of a query string; those that `known` maps to True as lists, others as the one value given.

    Raises:
        Problem: `validation_failed`: a parameter is unknown, given twice, or isn't percent-encoded UTF-8.
    """
    found: dict[str, list[str]] = {}
    errors: dict[str, list[str]] = {}
    # WSGI gives the bytes that came as Latin-1 text.
    for part in filter(None, text.split("&")):
        name, _, value = part.partition("=")
        name = _decoded(name) or name
        decoded = _decoded(value)
        if decoded is None:
            errors[name] = ["Is not percent-encoded UTF-8; write % itself as %25."]
        found.setdefault(name, []).append(decoded or "")
    for name, values in found.items():
        if name not in known:
            names = f"Known are: {', '.join(known)}." if known else f"{route} takes none."
            errors[name] = [f"Unknown query parameter. {names}"]
        elif len(values) > 1 and not known[name]:
            errors[name] = ["Must be given once."]
    if errors:
        raise invalid_fields(errors)
    return {name: values if known[name] else values[0] for name, values in found.items()}


def _decoded(text: str) -> str | None:
    if NO_ESCAPE.search(text):
        return None
    try:
        return unquote_plus(text.encode("latin-1").decode(), errors="strict")
    except UnicodeDecodeError:
        return None


def refuse_repeated_names(body: bytes, whole: bytes) -> None:
    """Refuse a body in which an object has a name twice: parsers take the last one, and drop what the others said.

    `whole` is what was parsed of it, in canonical form.

    Raises:
        Problem: `bad_request`.
    """
    # Without escapes each string has two quotation marks, so a name that was dropped shows in their number.
    if b"\\" not in body and body.count(b'"') == whole.count(b'"'):
        return
    try:
        json.loads(body, object_pairs_hook=_without_repetition)
    except RecursionError as error:
        raise Problem("bad_request", "The body is nested too deep.") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Problem("bad_request", f"The body has the field {name[:64]!r} twice in one object.")
        found[name] = value
    return found
