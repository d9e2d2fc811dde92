"""What clients and proxies may keep: an availability, for as long as the settings say. Everything else is `no-store`."""

from __future__ import annotations

import re
from hashlib import blake2b

from werkzeug.http import parse_etags

from api.incoming import Incoming
from api.outgoing import Outgoing

NO_STORE = "no-store"

AS_OF = re.compile(rb'"as_of":"[^"]*"')
"""Nothing that a SKU is called looks like this: in a JSON string its quotation marks have a backslash."""


def allow(outgoing: Outgoing, max_age_seconds: int) -> Outgoing:
    """Let an availability be kept."""
    outgoing.headers["Cache-Control"] = f"public, max-age={max_age_seconds}" if max_age_seconds else "no-cache"
    outgoing.headers["ETag"] = f'W/"{_tag(outgoing.body)}"'
    return outgoing


def for_one(shared: Outgoing, incoming: Incoming) -> Outgoing:
    """The same answer for one of those who get it; a 304 for a client that has it already."""
    outgoing = Outgoing(shared.status, shared.body, headers=shared.headers, code=shared.code)
    known = incoming.header("HTTP_IF_NONE_MATCH")
    if known and parse_etags(known).contains_weak(shared.headers["ETag"][len('W/"') : -1]):
        outgoing.not_modified()
    return outgoing


def _tag(body: bytes) -> str:
    """The same for as long as buyers see the same: `as_of` alone makes no new one."""
    return blake2b(AS_OF.sub(b"", body), digest_size=8).hexdigest()
