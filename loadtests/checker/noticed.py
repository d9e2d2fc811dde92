"""Whether what was wrong with the record was told in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.invariants import Invariant, Violation
from loadtests.checker.history import Hurt


def unnoticed(hurts: Iterable[Hurt], within_ms: float) -> Iterator[Violation]:
    """What neither was told nor had come right after that time."""
    for hurt in hurts:
        if hurt.told_ms - hurt.from_ms > within_ms:
            text = f"{hurt.what} was neither told nor right again within {within_ms / 1000:g} s"
            yield Violation(Invariant.NOTICED, text)
