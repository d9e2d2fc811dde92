"""Reservation and operation ids: 128 bits in 22 letters and digits, unguessable, safe in any URL and shell."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass

from engine.values import Operation

ALPHABET = string.digits + string.ascii_letters
PAIRS = [low + high for high in ALPHABET for low in ALPHABET]
"""Digits two by two, the lower one first, as ids are written."""

RESERVATION_ID = re.compile(r"[0-9A-Za-z]{22}")


def random_id() -> str:
    return _text(secrets.token_bytes(16))


def random_word() -> str:
    """64 bits for what need not be unguessable, only different from others."""
    return secrets.token_hex(8)


def is_reservation_id(text: str) -> bool:
    return RESERVATION_ID.fullmatch(text) is not None


def once(operation: Operation) -> Operation:
    """The operation, or a new one where there is none: for calls that, sent again after a time-out, would count twice."""
    return operation if operation.fingerprint else Operation(random_id(), "1")


def fingerprint(*parts: bytes) -> str:
    """63 bits that tell one request from another, as a decimal number: Redis keeps it in 8 bytes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return str(int.from_bytes(digest.digest()[:8], "big") >> 1)


@dataclass(frozen=True)
class DerivedIds:
    """Ids computed with a keyed hash: the same words give the same id, and nobody without the secret can guess it."""

    secret: bytes

    def of(self, *words: str) -> str:
        message = b"".join(len(word.encode()).to_bytes(8, "big") + word.encode() for word in words)
        return _text(hmac.digest(self.secret, message, hashlib.sha256)[:16])


def _text(sixteen_bytes: bytes) -> str:
    number, pairs = int.from_bytes(sixteen_bytes, "big"), []
    for _ in range(11):
        number, pair = divmod(number, len(PAIRS))
        pairs.append(PAIRS[pair])
    return "".join(pairs)


def known_as(secret: bytes, user: str) -> str:
    """A user's name in the log: always the same one, from which nobody finds the user without the secret."""
    return hmac.new(secret, b"user " + user.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()[:16]
