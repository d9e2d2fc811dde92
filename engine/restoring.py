"""Puts back into Redis what the ledger says, through restore.lua; here its KEYS and ARGV are ordered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from engine.keys import Keys
from engine.replies import Reply, done, flat
from engine.sku_names import stored

Words = list[str | int]

Call = tuple[Sequence[str | bytes], Words]
"""KEYS and ARGV of one run of a script."""

MAX_WORDS = 5_000
"""Arguments that one script call may unpack; Lua's stack takes some 8,000."""


class Restoring:
    """Puts hashes and strings back, many in one round trip, while the gate is closed with `token`.

    Every method raises StoreUnavailable if somebody else has taken over.
    """

    def __init__(
        self, keys: Keys, run_all: Callable[[Sequence[Call]], list[Reply]], token: str, pipelined: int
    ) -> None:
        self._keys = keys
        self._run_all = run_all
        self._token = token
        self._pipelined = pipelined
        self._calls: list[Call] = []

    def hold(self, reservation_id: str, record: Mapping[str, str]) -> None:
        self._of_reservation(reservation_id, "hold", int(record["deadline_ms"]), record)

    def record(self, reservation_id: str, record: Mapping[str, str], until_ms: int) -> None:
        """A reservation that has ended, or an order; 0 keeps it."""
        self._of_reservation(reservation_id, "record", until_ms, record)

    def sku(self, sku: str, fields: Mapping[str, str]) -> None:
        self._put([self._keys.sku(sku), self._keys.skus], "sku", stored(sku), 0, flat(fields))

    def buyers(self, sku: str, users: Mapping[str, str]) -> None:
        """A hash of any size, in parts that a script can take."""
        words, kind = flat(users), "hash"
        for at in range(0, max(len(words), 1), MAX_WORDS):
            self._put([self._keys.buyers(sku)], kind, sku, 0, words[at : at + MAX_WORDS])
            kind = "more"

    def checkout(self, cart_id: str, reservation_id: str, until_ms: int) -> None:
        self._put([self._keys.checkout(cart_id)], "text", cart_id, until_ms, [reservation_id])

    def answer(self, operation_id: str, text: str, until_ms: int) -> None:
        self._put([self._keys.operation(operation_id)], "text", operation_id, until_ms, [text])

    def payment(self, payment_id: str, reservation_id: str, until_ms: int) -> None:
        self._put([self._keys.payment(payment_id)], "text", payment_id, until_ms, [reservation_id])

    def gone(self, key: str | bytes) -> None:
        """A hash without fields is no hash."""
        self._put([key], "hash", "", 0, [])

    def finish(self) -> None:
        calls, self._calls = self._calls, []
        for reply in self._run_all(calls):
            done(reply, "restored")

    def _of_reservation(self, reservation_id: str, kind: str, until_ms: int, record: Mapping[str, str]) -> None:
        keys = self._keys
        names = [keys.reservation(reservation_id), keys.deadlines, keys.lease(reservation_id)]
        self._put(names, kind, reservation_id, until_ms, flat(record))

    def _put(self, keys: Sequence[str | bytes], kind: str, name: str, until_ms: int, words: Words) -> None:
        self._calls.append(([self._keys.meta, *keys], [self._token, kind, name, until_ms, *words]))
        if len(self._calls) >= self._pipelined:
            self.finish()
