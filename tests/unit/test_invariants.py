"""What Redis and the ledger must be by themselves: true ones are believed, and each fault is named by what it breaks."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest

from engine.fold import MOVES, Fold, Hash
from engine.invariants import Invariant, Violation, live
from engine.invariants.record import AFTER, BEFORE, Record, judged
from engine.ledger import FIELDS, Entry
from engine.picture import Picture
from engine.states import TRANSITIONS, State
from engine.values import Event, unpacked
from loadtests.checker.history import Hurt
from loadtests.checker.noticed import unnoticed

Found = tuple[Invariant, str]


def named(violations: list[Violation]) -> list[Found]:
    return [(violation.invariant, violation.text) for violation in violations]


def event(seq: int, op: str, name: str = "", lines: str = "a=1", **more: int | str) -> Event:
    """An event a second after the one before; holds last 900 s unless it is said otherwise."""
    fields: dict[str, int | str] = {"deadline_ms": 900_000 if op == "reserve" else 0, "payment_id": "", "detail": ""}
    fields |= {"epoch": 1, "at_ms": seq * 1_000, "reason": ""} | more
    return Event(
        seq=seq, op=op, reservation_id=name, lines=unpacked(lines), actor="ann", user="ann", request_id="", **fields
    )  # type: ignore[arg-type]


SOUND = [
    event(1, "recount", lines="a=5"),
    event(2, "reserve", "r1", "a=2"),
    event(3, "extend", "r1", "a=2", deadline_ms=800_000),
    event(4, "commit", "r1", "a=2", payment_id="p1"),
    event(5, "cancel", "r1", "a=1", detail="committed"),
    event(6, "fulfil", "r1", "a=1"),
    event(7, "reserve", "r2"),
    event(8, "release", "r2"),
    event(9, "commit", "r2", payment_id="p2", detail="late"),
    event(10, "refund_required", "r2", "", payment_id="p3"),
    event(11, "cancel", "r2", detail="cancelled"),
    event(12, "reserve", "r3", deadline_ms=13_000),
    event(13, "expire", "r3"),
    event(14, "open", lines="", epoch=2, detail="1-13 5f"),
    event(15, "refund_required", "r3", payment_id="p4", detail="a=1/0", epoch=2),
    event(16, "configure", lines="a=0", epoch=2),
    event(17, "withdraw", lines="a=1", epoch=2),
]


def but(seq: int, **changes: object) -> list[Event]:
    """The sound ledger, one event of which is otherwise."""
    return [replace(each, **changes) if each.seq == seq else each for each in SOUND]  # type: ignore[arg-type]


def then(*events: Event) -> list[Event]:
    """The sound ledger, and what comes after it in its last epoch."""
    return [*SOUND, *(replace(each, epoch=2, seq=17 + more) for more, each in enumerate(events, start=1))]


def after(op: str, name: str, lines: str = "a=1", **more: int | str) -> Event:
    return event(18, op, name, lines, **more)


def changed(name: str, value: str) -> Event:
    return after("configure", "", "a=0", detail=f'[["{name}", "{value}"]]')


def limit(most: str) -> Event:
    return changed("limit_per_customer", most)


BROKEN_LEDGERS: dict[str, tuple[list[Event], list[Found]]] = {
    "an event gone": (
        [each for each in SOUND if each.seq != 16],
        [(Invariant.DENSE_LOG, "event 2-17 (withdraw) follows 2-15")],
    ),
    "the first event gone": (
        [replace(SOUND[0], seq=2)],
        [(Invariant.DENSE_LOG, "event 1-2 (recount) follows 0-0")],
    ),
    "an event twice": (
        [*SOUND, replace(SOUND[-1], lines=())],
        [(Invariant.DENSE_LOG, "event 2-17 (withdraw) follows 2-17")],
    ),
    "an epoch without an open": (
        but(17, epoch=3),
        [(Invariant.FENCING, "event 3-17 (withdraw) begins an epoch after 2-16, and is no open")],
    ),
    "an older epoch": (
        but(17, epoch=1),
        [(Invariant.FENCING, "event 1-17 (withdraw) is of an older epoch than 2-16 before it")],
    ),
    "an open that opens nothing": (
        then(after("open", "", "", detail="2-17 5f")),
        [(Invariant.FENCING, "event 2-18 (open) opens an epoch that was open before")],
    ),
    "an open that goes on from elsewhere": (
        but(14, detail="1-12 5f"),
        [(Invariant.FENCING, "event 2-14 (open) goes on from 1-12, not from 1-13")],
    ),
    "more reserved than there is": (
        then(after("reserve", "r4", "a=4")),
        [(Invariant.NO_OVERSELL, "SKU a has available -1 after event 2-18 (reserve)")],
    ),
    "more withdrawn than there is": (
        then(after("withdraw", "", "a=5")),
        [(Invariant.NO_OVERSELL, "SKU a has available -2, on_hand -2 after event 2-18 (withdraw)")],
    ),
    "reserved before there was any": (
        then(after("reserve", "r4", "b=1"), after("recount", "", "b=1")),
        [(Invariant.NO_OVERSELL, "SKU b has available -1 after event 2-18 (reserve)")],
    ),
    "expired before its time": (
        but(12, deadline_ms=13_001),
        [
            (
                Invariant.RETURN_BOUND,
                "event 1-13 (expire) of reservation r3 comes at 13000, before its deadline 13001",
            )
        ],
    ),
    "expired before the time that it was extended to": (
        then(
            after("reserve", "r4", deadline_ms=18_500),
            after("extend", "r4", deadline_ms=30_000),
            after("expire", "r4", at_ms=29_999),
        ),
        [
            (
                Invariant.RETURN_BOUND,
                "event 2-20 (expire) of reservation r4 comes at 29999, before its deadline 30000",
            )
        ],
    ),
    "begun twice": (
        then(after("reserve", "r4"), after("reserve", "r4")),
        [(Invariant.LIFECYCLE, "event 2-19 (reserve) of reservation r4 begins what is reserved")],
    ),
    "begun again after its end": (
        then(after("reserve", "r3")),
        [(Invariant.LIFECYCLE, "event 2-18 (reserve) of reservation r3 begins what is expired")],
    ),
    "a hold of nothing": (
        then(after("reserve", "r4", "")),
        [(Invariant.LIFECYCLE, "event 2-18 (reserve) of reservation r4 holds nothing")],
    ),
    "a hold of less than nothing": (
        then(after("reserve", "r4", "a=-1")),
        [
            (Invariant.LIFECYCLE, "event 2-18 (reserve) of reservation r4 holds a=-1"),
            (Invariant.NO_OVERSELL, "SKU a has reserved -1 after event 2-18 (reserve)"),
        ],
    ),
    "ended without a beginning": (
        then(after("refund_required", "r9", "")),
        [(Invariant.LIFECYCLE, "event 2-18 (refund_required) of reservation r9 finds none")],
    ),
    "an event that nobody knows": (
        then(after("vanish", "r3")),
        [(Invariant.LIFECYCLE, "event 2-18 (vanish) of reservation r3 is none that a reservation has")],
    ),
    "paid when it had ended, and not late": (
        but(9, detail="")[:9],
        [
            (Invariant.LIFECYCLE, "event 1-9 (commit) of reservation r2 finds it released"),
            (Invariant.NO_OVERSELL, "SKU a has reserved -1 after event 1-9 (commit)"),
        ],
    ),
    "late, and never ended": (
        but(4, detail="late")[:4],
        [(Invariant.LIFECYCLE, "event 1-4 (commit) of reservation r1 finds it reserved")],
    ),
    "released when it was due": (
        then(after("reserve", "r4", deadline_ms=19_000), after("release", "r4", at_ms=19_000)),
        [(Invariant.LIFECYCLE, "event 2-19 (release) of reservation r4 comes at 19000, its time ran out at 19000")],
    ),
    "paid twice": (
        [*SOUND[:4], event(5, "commit", "r1", "a=2", payment_id="p2")],
        [
            (Invariant.LIFECYCLE, "event 1-5 (commit) of reservation r1 finds it committed"),
            (Invariant.LIFECYCLE, "event 1-5 (commit) of reservation r1 pays what p1 has paid for"),
            (Invariant.NO_OVERSELL, "SKU a has reserved -2 after event 1-5 (commit)"),
        ],
    ),
    "paid with what was to be given back": (
        then(after("commit", "r3", payment_id="p4", detail="late")),
        [(Invariant.LIFECYCLE, "event 2-18 (commit) of reservation r3 pays with p4, which was to be given back")],
    ),
    "given back, though it is paid with it": (
        then(after("refund_required", "r2", "", payment_id="p2")),
        [
            (
                Invariant.LIFECYCLE,
                "event 2-18 (refund_required) of reservation r2 gives back p2, that it is paid with",
            )
        ],
    ),
    "given back twice": (
        then(after("refund_required", "r2", "", payment_id="p3")),
        [(Invariant.LIFECYCLE, "event 2-18 (refund_required) of reservation r2 gives back p3, that was before")],
    ),
    "given back while it is held": (
        then(after("reserve", "r4"), after("refund_required", "r4", payment_id="p9")),
        [(Invariant.LIFECYCLE, "event 2-19 (refund_required) of reservation r4 finds it reserved")],
    ),
    "more expired than was held": (
        but(13, lines=unpacked("a=2")),
        [
            (Invariant.LIFECYCLE, "event 1-13 (expire) of reservation r3 moves a=2, but it is about a=1"),
            *(
                (Invariant.NO_OVERSELL, f"SKU a has reserved -1 after event {last}")
                for last in ("1-13 (expire)", "2-17 (withdraw)")
            ),
        ],
    ),
    "shipped in part, and made a whole": (
        but(6, lines=()),
        [(Invariant.LIFECYCLE, "event 1-6 (fulfil) of reservation r1 leaves a=1, and makes it fulfilled")],
    ),
    "shipped whole, and left open": (
        but(6, detail="committed"),
        [(Invariant.LIFECYCLE, "event 1-6 (fulfil) of reservation r1 leaves nothing, and makes it committed")],
    ),
    "more shipped than is left": (
        but(6, lines=unpacked("a=2")),
        [
            (Invariant.LIFECYCLE, "event 1-6 (fulfil) of reservation r1 takes a=2 of a=1"),
            *(
                (Invariant.NO_OVERSELL, f"SKU a has allocated -1 after event {last}")
                for last in ("1-6 (fulfil)", "1-7 (reserve)", "1-8 (release)", "1-11 (cancel)", "1-12 (reserve)")
            ),
            (Invariant.NO_OVERSELL, "SKU a has allocated -1 after event 1-13 (expire)"),
            (Invariant.NO_OVERSELL, "SKU a has allocated -1 after event 2-17 (withdraw)"),
        ],
    ),
    "one payment for two reservations": (
        then(after("commit", "r3", payment_id="p2", detail="late")),
        [
            (
                Invariant.PAYMENTS,
                "event 2-18 (commit) of reservation r3 is by payment p2, which was for reservation r2",
            )
        ],
    ),
    "a payment that was refunded for another reservation": (
        then(after("commit", "r3", payment_id="p3", detail="late")),
        [
            (
                Invariant.PAYMENTS,
                "event 2-18 (commit) of reservation r3 is by payment p3, which was for reservation r2",
            )
        ],
    ),
    "reserved over the limit": (
        then(limit("2"), after("reserve", "r4", "a=2")),
        [(Invariant.TERMS, "event 2-19 (reserve) has 2 of SKU a for ann, who has 3 of it then; the limit is 2")],
    ),
    "paid late over the limit": (
        then(limit("1"), after("commit", "r3", payment_id="p9", detail="late")),
        [(Invariant.TERMS, "event 2-19 (commit) has 1 of SKU a for ann, who has 2 of it then; the limit is 1")],
    ),
    "reserved during the global stop": (
        then(after("pause", "", ""), after("reserve", "r4")),
        [(Invariant.TERMS, "event 2-19 (reserve) has 1 of SKU a for ann, while its sale was paused")],
    ),
    "paid late while the SKU is paused": (
        then(changed("paused", "1"), after("commit", "r3", payment_id="p9", detail="late")),
        [(Invariant.TERMS, "event 2-19 (commit) has 1 of SKU a for ann, while its sale was paused")],
    ),
    "reserved before the sale": (
        then(changed("sale_starts_ms", "18001"), after("reserve", "r4")),
        [(Invariant.TERMS, "event 2-19 (reserve) has 1 of SKU a for ann, before its sale started")],
    ),
    "paid late after the sale": (
        then(changed("sale_ends_ms", "18000"), after("commit", "r3", payment_id="p9", detail="late")),
        [(Invariant.TERMS, "event 2-19 (commit) has 1 of SKU a for ann, after its sale had ended")],
    ),
    "more cancelled than was bought": (
        [*SOUND[:4], event(5, "cancel", "r1", "a=2 b=1", detail="cancelled")],
        [
            (Invariant.LIFECYCLE, "event 1-5 (cancel) of reservation r1 takes a=2 b=1 of a=2"),
            (Invariant.NO_OVERSELL, "SKU b has allocated -1 after event 1-5 (cancel)"),
        ],
    ),
    "cancelled, with something left": (
        but(5, detail="cancelled")[:5],
        [(Invariant.LIFECYCLE, "event 1-5 (cancel) of reservation r1 leaves a=1, and makes it cancelled")],
    ),
    "shipped after it was cancelled": (
        then(after("fulfil", "r2", "")),
        [(Invariant.LIFECYCLE, "event 2-18 (fulfil) of reservation r2 finds it cancelled")],
    ),
}


def test_a_sound_ledger_is_believed_and_its_counters_are_those_of_its_story() -> None:
    record = Record()
    assert [violation for each in SOUND for violation in record.take(each)] == []
    assert record.counters == {"a": [3, 0, 0, 3]}


@pytest.mark.parametrize(("events", "found"), BROKEN_LEDGERS.values(), ids=BROKEN_LEDGERS)
def test_what_is_wrong_with_a_ledger_is_named(events: list[Event], found: list[Found]) -> None:
    assert named(list(judged(events))) == found


def test_a_limit_that_is_lowered_takes_nothing_away_and_one_that_is_cleared_allows_all() -> None:
    assert list(judged(then(limit("1"), limit(""), after("reserve", "r4", "a=3")))) == []


def test_a_payment_that_takes_the_units_of_a_later_checkout_is_not_judged_as_a_new_reservation() -> None:
    paid = after("commit", "r3", payment_id="p9", detail="late")
    held = [after("reserve", "r4"), limit("1"), changed("paused", "1")]
    assert list(judged(then(*held, after("release", "r4", reason="paid", detail="r3"), paid))) == []
    found = list(judged(then(*held, after("release", "r4", reason="paid", detail="r9"), paid)))
    assert [violation.invariant for violation in found] == [Invariant.TERMS]


def test_events_of_layout_1_are_not_judged_by_rules_that_came_later() -> None:
    over = [limit("1"), after("reserve", "r4", "a=2"), after("commit", "r3", payment_id="p2", detail="late")]
    assert list(judged([replace(each, layout=1) for each in then(*over)])) == []


def test_every_move_of_a_reservation_is_one_of_its_states_and_is_known_to_the_counters() -> None:
    for effect, state in AFTER.items():
        assert all(state in TRANSITIONS[before] for before in BEFORE[effect])
    moves = {(before, state) for effect, state in AFTER.items() for before in BEFORE[effect]}
    moves |= {(State.COMMITTED, State.CANCELLED), (State.COMMITTED, State.FULFILLED)}
    assert moves == {(before, state) for before, states in TRANSITIONS.items() for state in states}
    assert BEFORE.keys() - MOVES.keys() == {"extend", "note", "refund_required"}


OLD = 13_000 + 60_000


@pytest.mark.parametrize(
    ("op", "more", "at_ms", "found"),
    [
        ("reserve", {}, OLD, []),
        (
            "reserve",
            {},
            OLD - 1,
            [(Invariant.LIFECYCLE, "event 1-18 (reserve) of reservation r3 begins what is expired")],
        ),
        ("commit", {"detail": "late", "payment_id": "p9"}, OLD, []),
        ("refund_required", {"payment_id": "p9"}, OLD, []),
        (
            "commit",
            {"payment_id": "p9"},
            OLD,
            [
                (Invariant.LIFECYCLE, "event 1-18 (commit) of reservation r3 finds none"),
                (Invariant.NO_OVERSELL, "SKU a has reserved -1 after event 1-18 (commit)"),
            ],
        ),
        (
            "cancel",
            {"detail": "cancelled"},
            OLD,
            [
                (Invariant.LIFECYCLE, "event 1-18 (cancel) of reservation r3 finds none"),
                (Invariant.NO_OVERSELL, "SKU a has allocated -1 after event 1-18 (cancel)"),
            ],
        ),
    ],
)
def test_of_one_that_ended_long_ago_only_what_redis_would_let_happen_is_believed(
    op: str, more: dict[str, int | str], at_ms: int, found: list[Found]
) -> None:
    record = Record(60_000)
    assert [violation for each in SOUND for violation in record.take(each)] == []
    after_all = replace(event(18, op, "r3", at_ms=at_ms, **more), epoch=2)
    texts = [(invariant, text.replace("event 1-18", "event 2-18")) for invariant, text in found]
    assert named(record.take(after_all)) == texts


def test_one_that_was_paid_late_and_long_ago_goes_on_as_an_order() -> None:
    record = Record(60_000)
    for each in SOUND:
        record.take(each)
    late = event(18, "commit", "r3", epoch=2, at_ms=OLD, detail="late", payment_id="p9")
    assert record.take(late) == []
    shipped = event(19, "fulfil", "r3", epoch=2, at_ms=10 * OLD)
    assert record.take(shipped) == []
    assert record.counters == {"a": [2, 0, 0, 2]}


def part(events: list[Event]) -> list[Event]:
    """What GET /v1/audit has of them."""
    return [replace(each, detail="", deadline_ms=0) for each in events if each.op != "open"]


def test_of_a_part_of_the_ledger_only_what_it_can_tell_is_judged() -> None:
    assert list(judged(part(SOUND), part=True)) == []
    # Of an order of several SKUs, what is left of the others isn't known.
    more = [after("reserve", "r4"), after("commit", "r4"), after("cancel", "r4"), after("fulfil", "r4", "")]
    assert list(judged(part(then(*more)), part=True)) == []


@pytest.mark.parametrize(
    "name",
    [name for name, (_, found) in BROKEN_LEDGERS.items() if {each for each, _ in found} == {Invariant.LIFECYCLE}],
)
def test_a_part_tells_most_of_what_is_wrong_with_a_reservation(name: str) -> None:
    events, found = BROKEN_LEDGERS[name]
    hidden = {"late, and never ended", "released when it was due", "cancelled, with something left"}
    hidden |= {"shipped in part, and made a whole", "shipped whole, and left open"}
    cut = {"shipped after it was cancelled": []}
    wanted = [] if name in hidden else cut.get(name, found)
    assert named(list(judged(part(events), part=True))) == wanted


def test_a_part_tells_what_is_oversold() -> None:
    events, found = BROKEN_LEDGERS["more reserved than there is"]
    assert named(list(judged(part(events), part=True))) == found


def picture() -> Picture:
    """Ann holds two of `a` until 9000 and has bought three, of which one was cancelled and one shipped, all of it counted."""
    records: dict[str, Hash] = {
        "held": {"state": "reserved", "user": "ann", "lines": "a=2", "deadline_ms": "9000", "counted": "a"},
        "paid": {
            "state": "committed",
            "user": "ann",
            "lines": "a=2",
            "deadline_ms": "1",
            "counted": "a",
            "cancelled": "a=1",
        },
        "sent": {"state": "fulfilled", "user": "ann", "lines": "a=1", "deadline_ms": "1", "counted": "a"},
        "over": {"state": "released", "user": "ann", "lines": "a=1", "deadline_ms": "1", "counted": "a"},
    }
    skus = {"a": {"available": "5", "reserved": "2", "allocated": "1", "on_hand": "8", "limit_per_customer": "3"}}
    fold = Fold(skus=skus, records=records, buyers={"a": {"ann": "4"}})
    return Picture(fold=fold, deadlines={"held": 9_000}, next_release_ms={"a": "8000"})


def counters(**fields: str) -> Callable[[Picture], object]:
    return lambda seen: seen.fold.skus["a"].update(fields)


def of(name: str, **fields: str) -> Callable[[Picture], object]:
    return lambda seen: seen.fold.records[name].update(fields)


def counted(units: str) -> Callable[[Picture], object]:
    return lambda seen: seen.fold.buyers["a"].update(ann=units)


BROKEN_PICTURES: dict[str, tuple[Callable[[Picture], object], list[Found]]] = {
    "one more on hand": (
        counters(on_hand="9"),
        [
            (
                Invariant.CONSERVATION,
                "SKU a has on_hand 9, but available 5 + reserved 2 + allocated 1",
            )
        ],
    ),
    "below 0": (counters(available="-3", on_hand="0"), [(Invariant.RANGE, "SKU a has a counter below 0")]),
    "no number": (
        counters(available="many"),
        [(Invariant.RANGE, "SKU a lacks a counter or has one that is no number")],
    ),
    "no counter": (
        lambda seen: seen.fold.skus["a"].pop("on_hand"),
        [(Invariant.RANGE, "SKU a lacks a counter or has one that is no number")],
    ),
    "a count of nothing": (
        lambda seen: seen.fold.buyers["a"].update(eve="0"),
        [(Invariant.RANGE, "user eve has 0 of SKU a counted")],
    ),
    "more reserved than is held": (
        counters(reserved="3", available="4"),
        [(Invariant.HOLDS, "SKU a has reserved 3, but live reservations hold 2")],
    ),
    "a torn record": (
        lambda seen: seen.torn.append("gone"),
        [(Invariant.HOLDS, "the record of reservation gone is torn")],
    ),
    "more allocated than is on order": (
        counters(allocated="2", available="4"),
        [(Invariant.ORDERS, "SKU a has allocated 2, but open orders have 1")],
    ),
    "a hold without a deadline": (
        lambda seen: seen.deadlines.clear(),
        [(Invariant.DEADLINES, "reservation held is live, but not in deadlines")],
    ),
    "a deadline without a hold": (
        lambda seen: seen.deadlines.update(over=9_000),
        [(Invariant.DEADLINES, "over is in deadlines, but no live reservation")],
    ),
    "another deadline": (
        lambda seen: seen.deadlines.update(held=8_000),
        [(Invariant.DEADLINES, "reservation held has deadline_ms 9000, deadlines has 8000")],
    ),
    "released too late": (
        lambda seen: seen.next_release_ms.update(a="9001"),
        [(Invariant.NEXT_RELEASE, "SKU a has next_release_ms later than a live reservation's deadline")],
    ),
    "never released": (
        lambda seen: seen.next_release_ms.update(a=""),
        [(Invariant.NEXT_RELEASE, "SKU a has next_release_ms later than a live reservation's deadline")],
    ),
    "fewer counted": (
        counted("3"),
        [(Invariant.LIMITS, "user ann holds and bought 4 of SKU a, but fewer are counted")],
    ),
    "an event that can't have happened": (
        lambda seen: seen.misfits.append("event 1-2 (expire) doesn't fit what Redis holds"),
        [(Invariant.FOLD, "event 1-2 (expire) doesn't fit what Redis holds")],
    ),
}

SOUND_PICTURES: dict[str, Callable[[Picture], object]] = {
    "as it is": lambda seen: None,
    "more counted than the limit allows, which was lowered": counters(limit_per_customer="1"),
    "more counted than is known, since what was shipped is let go": lambda seen: seen.fold.records.pop("sent"),
    "a SKU whose next release has changed meanwhile": lambda seen: seen.next_release_ms.clear(),
    "a hold that no limit counted": of("held", counted=""),
}


@pytest.mark.parametrize(("break_it", "found"), BROKEN_PICTURES.values(), ids=BROKEN_PICTURES)
def test_what_is_wrong_with_redis_is_named(break_it: Callable[[Picture], object], found: list[Found]) -> None:
    seen = deepcopy(picture())
    break_it(seen)
    assert named(list(live.held(seen))) == found


@pytest.mark.parametrize("change", SOUND_PICTURES.values(), ids=SOUND_PICTURES)
def test_a_sound_redis_is_believed(change: Callable[[Picture], object]) -> None:
    seen = picture()
    change(seen)
    assert list(live.held(seen)) == []


def entry(epoch: int, seq: int, op: str = "reserve") -> Entry:
    return Entry(epoch, seq, (op, *[""] * (len(FIELDS) - 1)))


def meta(epoch: int, seq: int) -> Hash:
    return {"epoch": str(epoch), "seq": str(seq)}


OPENED = entry(2, 8, "open")

STREAMS: dict[str, tuple[list[Entry], Hash, Hash, int | None, list[Found]]] = {
    # entries, meta before and after they were read, the seq that Postgres has, what is wrong
    "new": ([], meta(1, 0), meta(1, 0), 0, []),
    "nothing let go": ([entry(1, 1), entry(1, 2)], meta(1, 2), meta(1, 2), 0, []),
    "all let go that Postgres has but its last": ([entry(1, 5), entry(1, 6)], meta(1, 6), meta(1, 6), 5, []),
    "grown meanwhile": ([entry(1, 5), entry(1, 6), entry(1, 7)], meta(1, 6), meta(1, 7), 5, []),
    "opened meanwhile": ([entry(1, 6), entry(1, 7), OPENED], meta(1, 7), meta(2, 8), 8, []),
    "made anew": ([OPENED, entry(2, 9)], meta(2, 9), meta(2, 9), 8, []),
    "made anew, which Postgres doesn't know yet": ([OPENED], meta(2, 8), meta(2, 8), 7, []),
    "gone on from Postgres": ([entry(1, 5), OPENED], meta(2, 8), meta(2, 8), 8, []),
    "no Postgres to ask": ([entry(1, 5)], meta(1, 5), meta(1, 5), None, []),
    "no meta": ([entry(1, 1)], {}, {}, 1, [(Invariant.DENSE_LOG, "there is no meta in Redis")]),
    "gone": ([], meta(1, 5), meta(1, 5), 5, [(Invariant.DENSE_LOG, "the stream is gone in Redis, but seq is 5")]),
    "a hole": (
        [entry(1, 1), entry(1, 4)],
        meta(1, 4),
        meta(1, 4),
        4,
        [(Invariant.DENSE_LOG, "events 2 to 3 are missing in Redis")],
    ),
    "no end": (
        [entry(1, 1)],
        meta(1, 4),
        meta(1, 4),
        4,
        [(Invariant.DENSE_LOG, "events 2 to 4 are missing in Redis")],
    ),
    "seq behind": (
        [entry(1, 1), entry(1, 2)],
        meta(1, 1),
        meta(1, 1),
        2,
        [(Invariant.DENSE_LOG, "seq is 1, but the last event is 2")],
    ),
    "a seq twice": (
        [entry(1, 7), entry(1, 8), OPENED],
        meta(2, 8),
        meta(2, 8),
        8,
        [(Invariant.DENSE_LOG, "event 2-8 follows 1-8 in Redis")],
    ),
    "an epoch without an open": (
        [entry(1, 7), entry(2, 8)],
        meta(2, 8),
        meta(2, 8),
        8,
        [(Invariant.FENCING, "event 2-8 begins an epoch in Redis, and is no open")],
    ),
    "an epoch of which there is no event": (
        [entry(1, 7)],
        meta(2, 7),
        meta(2, 7),
        7,
        [(Invariant.FENCING, "the epoch is 2, but the last event is 1-7")],
    ),
    "an epoch that nobody has opened": (
        [OPENED],
        meta(1, 8),
        meta(1, 8),
        8,
        [(Invariant.FENCING, "the epoch is 1, but the last event is 2-8")],
    ),
    "let go before Postgres had it": (
        [entry(1, 6)],
        meta(1, 6),
        meta(1, 6),
        5,
        [(Invariant.TRIM, "the stream in Redis begins with event 1-6, but Postgres has them only up to 5")],
    ),
    "let go before Postgres had any": (
        [entry(1, 2)],
        meta(1, 2),
        meta(1, 2),
        0,
        [(Invariant.TRIM, "the stream in Redis begins with event 1-2, but Postgres has them only up to 0")],
    ),
    "made anew from more than Postgres has": (
        [OPENED],
        meta(2, 8),
        meta(2, 8),
        6,
        [(Invariant.TRIM, "the stream in Redis begins with event 2-8, but Postgres has them only up to 6")],
    ),
}


@pytest.mark.parametrize(("entries", "before", "now", "reached", "found"), STREAMS.values(), ids=STREAMS)
def test_what_is_wrong_with_the_stream_is_named(
    entries: list[Entry], before: Hash, now: Hash, reached: int | None, found: list[Found]
) -> None:
    asked = None if reached is None else lambda: reached
    assert named(list(live.stream(iter(entries), before, lambda: now, asked))) == found


def test_a_violation_is_shown_by_its_name_and_what_is_wrong() -> None:
    assert str(Violation(Invariant.LIMITS, "too many")) == "limits: too many"


def test_what_is_told_too_late_or_never_was_not_noticed() -> None:
    in_time, late, never = Hurt("a row", 1_000, 15_999), Hurt("a table", 1_000, 16_001), Hurt("a counter", 1_000)
    found = list(unnoticed([in_time, late, never], 15_000))
    assert [(each.invariant, each.text.partition(" was ")[0]) for each in found] == [
        (Invariant.NOTICED, "a table"),
        (Invariant.NOTICED, "a counter"),
    ]
