"""What a request carries besides its body: who sent it, its id, its idempotency key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

from api.auth import Identity
from api.incoming import Incoming
from api.problems import INVALID, Problem
from engine.ids import fingerprint
from engine.limits import SKU_PATTERN
from engine.values import Origin

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True)
class Call:
    """Who sent the request, and how it wants to be known. No idempotency key: no fingerprint."""

    identity: Identity | None
    request_id: str
    idempotency_key: str
    fingerprint: str

    @property
    def origin(self) -> Origin:
        """Who asks, for the ledger. A caller without a token is `guest`."""
        if self.identity is None:
            return Origin("guest", self.request_id)
        return Origin(self.identity.actor, self.request_id, self.identity.user)

    @property
    def user(self) -> str:
        return self.identity.user if self.identity else ""


def call(incoming: Incoming, identity: Identity | None, document: Any) -> Call:
    """Raises: Problem: `bad_request`, an Idempotency-Key that is not 1-255 visible ASCII, a body nested too deep."""
    key = incoming.header("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return Call(identity, incoming.request_id, "", "")
    if not IDEMPOTENCY_KEY.fullmatch(key):
        raise Problem("bad_request", "Idempotency-Key must be 1 to 255 visible ASCII characters.")
    try:
        canonical = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:  # orjson reads deeper documents than it writes.
        raise Problem("bad_request", "The body is nested too deep.") from error
    return Call(identity, incoming.request_id, key, fingerprint(incoming.method.encode(), incoming.path, canonical))


def valid_sku(text: str) -> str:
    """A SKU out of a path. Raises: Problem: `validation_failed`, if it can't be one."""
    if not re.fullmatch(SKU_PATTERN, text):
        raise Problem("validation_failed", INVALID, errors={"sku": ["This is no SKU."]})
    return text


def json_document(incoming: Incoming, most_bytes: int, *, may_be_missing: bool = False) -> Any:
    """The body, parsed. One that `may_be_missing` and is, is an empty object.

    Raises:
        Problem: `bad_request`, if it isn't JSON or doesn't say so; `payload_too_large`.
    """
    if may_be_missing and not incoming.has_body:
        return {}
    if not incoming.is_json:
        raise Problem("bad_request", "Content-Type must be application/json.")
    try:
        return orjson.loads(incoming.body(most_bytes))
    except orjson.JSONDecodeError as error:
        raise Problem("bad_request", "The body is not JSON.") from error
