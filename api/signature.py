"""The signature of a payment webhook: `Stockade-Signature: t=<unix s>,v1=<hex HMAC-SHA256 of "{t}.{raw body}">`."""

from __future__ import annotations

import hashlib
import hmac
import re
import time

from api.problems import Problem

TOLERANCE_SECONDS = 300
HEADER = re.compile(r"t=([0-9]{1,12})((?:,v1=[0-9a-fA-F]{64})+)")


def check(secret: str, given: str, body: bytes) -> None:
    """Check a body against the header `given` with it. Several `v1` may be there, as when a secret is changed; one must fit.

    Raises:
        Problem: `unauthenticated`.
    """
    found = HEADER.fullmatch(given)
    if not secret or found is None:
        raise _unauthenticated("A Stockade-Signature is needed: t=<unix seconds>,v1=<hex>.")
    if abs(int(time.time()) - int(found[1])) > TOLERANCE_SECONDS:
        raise _unauthenticated(f"The signature's time is more than {TOLERANCE_SECONDS} s away.")
    expected = hmac.digest(secret.encode(), f"{found[1]}.".encode() + body, hashlib.sha256)
    signatures = [bytes.fromhex(word.removeprefix("v1=")) for word in found[2].split(",")[1:]]
    # Every one is compared, so that the time taken tells nothing.
    if not sum(hmac.compare_digest(expected, one) for one in signatures):
        raise _unauthenticated("The signature does not fit the body.")


def _unauthenticated(detail: str) -> Problem:
    return Problem("unauthenticated", detail, headers={"WWW-Authenticate": "Stockade-Signature"})
