"""The signature of a payment webhook: `Stockade-Signature: t=<unix s>,v1=<hex HMAC-SHA256 of "{t}.{raw body}">`."""

from __future__ import annotations

import hashlib
import hmac
import re
import time

from api.problems import Problem

TOLERANCE_SECONDS = 300
HEADER = re.compile(r"t=([0-9]{1,12})((?:,v1=[0-9a-fA-F]{64})+)")

FORM = "t=<unix seconds>,v1=<64 hex digits>"


def check(secret: str, given: str | None, body: bytes) -> None:
    """Check a body against the header `given` with it. Several `v1` may be there, as when a secret is changed; one must fit.

    Raises:
        Problem: `unauthenticated`.
    """
    if not secret:
        raise _unauthenticated(
            "This service has no secret for webhooks; its operators must set STOCKADE_WEBHOOK_SECRET."
        )
    if given is None:
        raise _unauthenticated(f"The header Stockade-Signature is missing; it must be {FORM}.")
    found = HEADER.fullmatch(given)
    if found is None:
        raise _unauthenticated(f"The header Stockade-Signature must be {FORM}, without spaces.")
    if abs(int(time.time()) - int(found[1])) > TOLERANCE_SECONDS:
        raise _unauthenticated(f"The t in Stockade-Signature is more than {TOLERANCE_SECONDS} s away from now.")
    expected = hmac.digest(secret.encode(), f"{found[1]}.".encode() + body, hashlib.sha256)
    signatures = [bytes.fromhex(word.removeprefix("v1=")) for word in found[2].split(",")[1:]]
    # Every one is compared, so that the time taken tells nothing.
    if not sum(hmac.compare_digest(expected, one) for one in signatures):
        raise _unauthenticated(
            "No v1 in Stockade-Signature fits the body; sign {t}.{raw body} with the webhook secret."
        )


def _unauthenticated(detail: str) -> Problem:
    return Problem("unauthenticated", detail, headers={"WWW-Authenticate": "Stockade-Signature"})
