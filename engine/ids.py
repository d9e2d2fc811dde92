"""Ids of reservations, operations and carts: 128 bits in 22 letters and digits, unguessable, safe in any URL and shell."""

from __future__ import annotations

import hashlib
import hmac
import os
import random
import re
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass

from engine.values import Operation

ALPHABET = string.digits + string.ascii_letters
PAIRS = [low + high for high in ALPHABET for low in ALPHABET]
"""Digits two by two, the lower one first, as ids are written."""

PAIR = len(PAIRS)
TWO_PAIRS, SIX_PAIRS = PAIR**2, PAIR**6

RESERVATION_ID = re.compile(r"[0-9A-Za-z]{22}")


def random_id() -> str:
    return _text(secrets.token_bytes(16))


def random_word() -> str:
    """64 bits for what need not be unguessable, only different from others, also of processes that were forked."""
    return f"{_WORDS.getrandbits(64):016x}"


_WORDS = random.Random(secrets.randbits(128))  # noqa: S311
os.register_at_fork(after_in_child=lambda: _WORDS.seed(secrets.randbits(128)))


def is_reservation_id(text: str) -> bool:
    return RESERVATION_ID.fullmatch(text) is not None


def once(operation: Operation) -> Operation:
    """The operation, or a new one where there is none: for calls that, sent again after a time-out, would count twice."""
    return operation if operation.fingerprint else Operation(random_id(), "1")


def fingerprint(*parts: bytes) -> str:
    """63 bits that tell one request from another, as a decimal number: Redis keeps it in 8 bytes."""
    digest = hashlib.sha256(_measured(parts)).digest()
    return str(int.from_bytes(digest[:8], "big") >> 1)


def _measured(parts: Sequence[bytes]) -> bytes:
    """Each part behind its length, so that no two lists of parts are the same when they are put together."""
    whole = b""
    for part in parts:
        whole += len(part).to_bytes(8, "big") + part
    return whole


class DerivedIds:
    """Ids computed with a keyed hash: the same words give the same id, and nobody without the secret can guess it."""

    def __init__(self, secret: bytes) -> None:
        self._keyed = hmac.new(secret, digestmod="sha256")

    def of(self, *words: str) -> str:
        seal = self._keyed.copy()
        seal.update(_measured([word.encode() for word in words]))
        return _text(seal.digest()[:16])


@dataclass(frozen=True)
class CartIds:
    """Ids of carts, which prove by themselves who got them and when, so that an empty cart needs no key in Redis.

    An id is the second of its issue (4 bytes), random bytes (6), and a keyed hash of both and of the owner (6).
    """

    secret: bytes

    def issue(self, owner: str, now_ms: int) -> str:
        """A new id of a cart. `owner` is '' for a guest's."""
        issued = (now_ms // 1000).to_bytes(4, "big") + secrets.token_bytes(6)
        return _text(issued + self._seal(issued, owner))

    def issued_ms(self, text: str, owner: str) -> int | None:
        """When this id was issued to this owner; None if it never was."""
        whole = _bytes(text)
        if whole is None or not hmac.compare_digest(whole[10:], self._seal(whole[:10], owner)):
            return None
        return int.from_bytes(whole[:4], "big") * 1000

    def _seal(self, issued: bytes, owner: str) -> bytes:
        message = b"cart " + issued + owner.encode(errors="surrogatepass")
        return hmac.digest(self.secret, message, hashlib.sha256)[:6]


def _text(sixteen_bytes: bytes) -> str:
    # Two pairs at a time, which the processor divides in one step.
    high, low = divmod(int.from_bytes(sixteen_bytes, "big"), SIX_PAIRS)
    low, a = divmod(low, TWO_PAIRS)
    c, b = divmod(low, TWO_PAIRS)
    high, d = divmod(high, TWO_PAIRS)
    last, e = divmod(high, TWO_PAIRS)
    first = f"{PAIRS[a % PAIR]}{PAIRS[a // PAIR]}{PAIRS[b % PAIR]}{PAIRS[b // PAIR]}{PAIRS[c % PAIR]}{PAIRS[c // PAIR]}"
    return f"{first}{PAIRS[d % PAIR]}{PAIRS[d // PAIR]}{PAIRS[e % PAIR]}{PAIRS[e // PAIR]}{PAIRS[last]}"


def _bytes(text: str) -> bytes | None:
    """The 16 bytes that are written as this text; None if it is no id."""
    if not is_reservation_id(text):
        return None
    number = 0
    for letter in reversed(text):
        number = number * len(ALPHABET) + ALPHABET.index(letter)
    return number.to_bytes(16, "big") if number < 1 << 128 else None


def known_as(secret: bytes, user: str) -> str:
    """A user's name in the log: always the same one, from which nobody finds the user without the secret."""
    return hmac.new(secret, b"user " + user.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()[:16]
