"""Behind a gap in the ledger that was accepted, an event stands for itself; before it, and where none is, the fold stays strict."""

from __future__ import annotations

import json

import pytest

from engine.fold import COUNTERS, Fold
from engine.gaps import Gap
from engine.values import Event, Line

GAP = Gap(1, 3, 1, 9, b"", b"")


def event(op: str, seq: int = 10, detail: str = "", reservation_id: str = "r") -> Event:
    lines = (Line("a", 2),)
    return Event(1, seq, 5, op, "x", "ann", reservation_id, lines, 900, "p", "", "", detail)


@pytest.mark.parametrize(
    ("op", "detail", "counters"),
    [
        ("release", "", (2, 0, 0, 2)),
        ("expire", "", (2, 0, 0, 2)),
        ("extend", "", (0, 2, 0, 2)),
        ("commit", "", (0, 0, 2, 2)),
        ("commit", "late", (0, 0, 2, 2)),
        ("cancel", "cancelled", (2, 0, 0, 2)),
        ("fulfil", "fulfilled", (0, 0, 0, 0)),
        ("reserve", "", (0, 2, 0, 2)),
    ],
)
def test_an_event_of_what_is_unknown_behind_a_gap_makes_up_what_must_have_been(
    op: str, detail: str, counters: tuple[int, ...]
) -> None:
    fold = Fold(gaps=[GAP])
    fold.apply(event(op, detail=detail))
    assert tuple(int(fold.skus["a"][name]) for name in COUNTERS) == counters
    assert "r" in fold.records


def test_without_a_gap_and_where_it_is_settled_the_fold_is_strict() -> None:
    settled = Gap(1, 3, 1, 9, b"", b"", 9)
    for fold in (Fold(), Fold(gaps=[settled])):
        with pytest.raises(KeyError):
            fold.apply(event("release"))


def test_what_is_adopted_is_what_redis_held() -> None:
    fold = Fold()
    held = ["available", "1", "reserved", "0", "allocated", "2", "on_hand", "3", "next_release_ms", "7"]
    fold.apply(event("adopt", detail=json.dumps(["sku", *held]), reservation_id=""))
    assert fold.skus["a"] == {"available": "1", "reserved": "0", "allocated": "2", "on_hand": "3"}
