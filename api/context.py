"""What a request carries besides its body: who sent it, its id, its idempotency key."""

from __future__ import annotations

import re
from typing import Any

import orjson
from msgspec import Struct

from api.auth import Identity
from api.incoming import Incoming, canonical
from api.problems import Problem
from api.strictness import refuse_repeated_names
from engine.ids import fingerprint
from engine.values import Origin

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class Call(Struct, frozen=True):
    """Who sent the request, and how it wants to be known. No idempotency key: no fingerprint.

    `guest_scope`: the cart of a guest. Guests can't be told apart, but only its holder knows the id of a cart.
    """

    identity: Identity | None
    request_id: str
    idempotency_key: str
    fingerprint: str
    guest_scope: str = ""

    @property
    def origin(self) -> Origin:
        """Who asks, for the ledger. A caller without a token is `guest`."""
        if self.identity is None:
            return Origin("guest", self.request_id)
        return Origin(self.identity.actor, self.request_id, self.identity.user)

    @property
    def user(self) -> str:
        return self.identity.user if self.identity else ""


def call(incoming: Incoming, identity: Identity | None, body: bytes, path: str, guest_scope: str) -> Call:
    """`body` is in canonical form; `path` names what is called; `guest_scope` tells the keys of guests apart.

    Raises:
        Problem: `bad_request`, an Idempotency-Key that is not 1-255 visible ASCII.
    """
    key = incoming.header("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return Call(identity, incoming.request_id, "", "")
    if not IDEMPOTENCY_KEY.fullmatch(key):
        raise Problem("bad_request", "Idempotency-Key must be 1 to 255 visible ASCII characters.")
    print_of_it = fingerprint(incoming.method.encode(), path.encode(), body)
    return Call(identity, incoming.request_id, key, print_of_it, "" if identity else guest_scope)


def json_document(incoming: Incoming, most_bytes: int, *, may_be_missing: bool = False) -> tuple[Any, bytes]:
    """The body, parsed, and in canonical form. One that `may_be_missing` and is, is an empty object.

    Raises:
        Problem: `bad_request`, if it isn't JSON, is nested too deep or doesn't say so; `payload_too_large`.
    """
    if may_be_missing and not incoming.has_body:
        return {}, b"{}"
    if not incoming.is_json:
        raise Problem("bad_request", "Content-Type must be application/json.")
    if incoming.header("HTTP_CONTENT_ENCODING") not in (None, "", "identity"):
        raise Problem("bad_request", "Content-Encoding is not supported; send the body as it is.")
    body = incoming.body(most_bytes)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem("bad_request", f"The body is not JSON: {error.msg} at character {error.pos}.") from error
    whole = canonical(document)
    refuse_repeated_names(body, whole)
    return document, whole
