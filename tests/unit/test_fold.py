from __future__ import annotations

from dataclasses import replace

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


def test_the_clock_of_the_fold_is_never_set_back() -> None:
    fold = Fold()
    for seq, at_ms in enumerate([7, 5], start=1):
        fold.apply(Event(1, seq, at_ms, "pause", "ops", "", "", (), 0, "", "", "", "", ""))
    assert fold.clock_ms == 7


def test_what_ended_before_is_forgotten_and_what_ended_then_or_lives_is_kept() -> None:
    fold = Fold(
        records={name: {"state": "expired"} for name in ("r1", "r2")} | {"r3": {"state": "reserved"}},
        checkouts={"c1": "r1"},
        ended_ms={"r1": 1, "r2": 2},
    )
    fold.forget(2)
    assert (list(fold.records), fold.ended_ms, fold.checkouts) == (["r2", "r3"], {"r2": 2}, {})


def test_customers_are_counted_whatever_their_event_says_of_it_and_whether_or_not_there_is_a_limit() -> None:
    sku = {"available": "5", "reserved": "0", "allocated": "0", "on_hand": "5"}
    fold = Fold(skus={"a": dict(sku)})
    counts = []
    for seq, (op, detail) in enumerate(
        [("reserve", ""), ("commit", ""), ("cancel", "cancelled"), ("reserve", ""), ("expire", ""), ("commit", "late")],
        start=1,
    ):
        fold.apply(replace(event(seq, op, seq, detail=detail, payment_id="p1"), layout=1 + seq % 2))
        counts.append(fold.buyers["a"].get("ann", "0"))
    assert counts == ["1", "1", "0", "1", "0", "1"]


def test_an_order_shipped_by_layout_1_was_shipped_whole() -> None:
    sku = {"available": "5", "reserved": "0", "allocated": "0", "on_hand": "5"}
    fold = Fold(skus={"a": dict(sku)})
    fold.apply_all([event(1, "reserve", 1), event(2, "commit", 2, payment_id="p1"), event(3, "fulfil", 3)])
    assert (fold.records["r1"]["state"], fold.records["r1"]["fulfilled"]) == ("fulfilled", "a=1")
    assert fold.payments == {"p1": ("r1", 2)}


def test_a_payment_belongs_to_the_first_reservation_that_it_was_for() -> None:
    sku = {"available": "5", "reserved": "0", "allocated": "0", "on_hand": "5"}
    fold = Fold(skus={"a": dict(sku)})
    for seq, name in enumerate(("r1", "r2")):
        made = [event(2 * seq + 1, "reserve", 1), event(2 * seq + 2, "commit", seq + 2, payment_id="p1")]
        fold.apply_all(replace(each, reservation_id=name) for each in made)
    assert fold.payments == {"p1": ("r1", 2)}


def test_what_was_read_later_than_an_event_is_not_touched_by_it() -> None:
    sku = {"available": "5", "reserved": "0", "allocated": "0", "on_hand": "5"}
    fold = Fold(skus={"a": dict(sku)}, as_of={("sku", "a"): 4})
    fold.apply_all([event(4, "restock", 1), event(5, "restock", 2)])
    assert fold.skus["a"] == sku | {"available": "6", "on_hand": "6"}


def test_what_nobody_says_when_it_was_read_is_known_as_of_a_seq_or_from_the_first_event_on() -> None:
    sku = {"available": "5", "reserved": "0", "allocated": "0", "on_hand": "5"}
    for since, available in ((0, "7"), (1, "6"), (2, "5")):
        fold = Fold(skus={"a": dict(sku)}, since=since, as_of={("sku", "b"): 4})
        fold.apply_all([event(1, "restock", 1), event(2, "restock", 2)])
        assert fold.skus["a"]["available"] == available
    fold = Fold(skus={"a": dict(sku)}, as_of={("sku", "b"): 4})
    fold.apply(event(1, "restock", 1))
    assert fold.skus["a"]["available"] == "6"
