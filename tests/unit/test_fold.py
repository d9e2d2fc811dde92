from __future__ import annotations

from engine.fold import Fold
from engine.values import Event, Line


def event(seq: int, op: str, at_ms: int, **fields: str) -> Event:
    whole = {
        "actor": "ann",
        "user": "ann",
        "payment_id": "",
        "reason": "",
        "request_id": "",
        "detail": "",
        "counted": "",
    }
    lines = (Line("a", 1),)
    return Event(1, seq, at_ms, op, reservation_id="r1", lines=lines, deadline_ms=900, **(whole | fields))


def test_a_reservation_whose_id_comes_again_after_its_end_lives() -> None:
    """The same idempotency key a day later gives the same id."""
    fold = Fold(skus={"a": {"available": "5", "reserved": "0", "allocated": "0", "on_hand": "5"}})
    fold.apply_all([event(1, "reserve", 1), event(2, "release", 2), event(3, "reserve", 100_000_000)])
    assert (fold.records["r1"]["state"], fold.ended_ms) == ("reserved", {})


def test_what_operators_have_set_stays_until_that_very_thing_is_set_again() -> None:
    fold = Fold()
    for seq, (op, detail, reason, expected) in enumerate(
        [
            ("default_hold", "60000", "a rush", {"default_hold_ms": "60000"}),
            (
                "pause",
                "",
                "a fire",
                {"default_hold_ms": "60000", "selling_reason": "a fire", "selling_paused": "1"},
            ),
            ("default_hold", "", "over", {"selling_reason": "a fire", "selling_paused": "1"}),
            (
                "default_hold",
                "1000",
                "a rush",
                {"default_hold_ms": "1000", "selling_reason": "a fire", "selling_paused": "1"},
            ),
            ("resume", "", "", {"default_hold_ms": "1000", "selling_reason": ""}),
        ],
        start=1,
    ):
        fold.apply(Event(1, seq, seq, op, "ops", "", "", (), 0, "", reason, "", detail, ""))
        assert fold.selling == expected
