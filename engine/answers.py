"""Answers kept for idempotency keys of calls that have no memory of their own, in the keys where scripts keep theirs."""

from __future__ import annotations

from engine.errors import IdempotencyKeyReused
from engine.store import Store
from engine.values import Operation


class Answers:
    def __init__(self, store: Store, retain_ms: int) -> None:
        self._store = store
        self._retain_ms = retain_ms

    def find(self, operation: Operation) -> str:
        """The answer to this very operation; '' if there is none.

        Raises:
            IdempotencyKeyReused: its id is known with another fingerprint.
        """
        fingerprint, _, answer = self._store.answer(operation.id).partition(" ")
        if fingerprint and fingerprint != operation.fingerprint:
            raise IdempotencyKeyReused
        return answer

    def keep(self, operation: Operation, answer: str) -> None:
        """Keep the first answer; one that is there already stays."""
        self._store.remember(operation, self._retain_ms, answer)
