"""What operators pull: checked as a whole first, one transition each, and left alone by a dry run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine import levers
from engine.engine import Engine
from engine.errors import NotFound, StockBelowClaims, ValidationFailed
from engine.levers import Freed, Outcome, Pull
from engine.values import Operation, Origin, Reservation
from tests import books
from tests.books import lines, run_out

OPS, SHOP = Origin("cli:olga", "q7"), Origin("shop")
NO_KEY = Operation()
PULL = Pull(OPS, "a bot", dry_run=False)
REHEARSAL = Pull(OPS, "a bot", dry_run=True)


@pytest.fixture
def engine(fake_engine: Engine) -> Engine:
    for sku in ("a", "b"):
        fake_engine.stock.configure(sku, 50, {}, SHOP, NO_KEY)
    return fake_engine


def hold(engine: Engine, text: str = "a=1", user: str = "ann") -> Reservation:
    return engine.reservations.reserve(Origin(user, user=user), lines(text), 900)


def outcomes(freed: list[Freed]) -> dict[str, Outcome]:
    return {one.id: one.outcome for one in freed}


def test_skus_are_paused_and_resumed_each_once_with_who_and_why(engine: Engine) -> None:
    found = list(engine.levers.pause(["a", "b", "a"], True, PULL))
    assert [(sku.sku, sku.paused, changed) for sku, changed in found] == [("a", True, True), ("b", True, True)]
    [(again, changed)] = engine.levers.pause(["a"], True, PULL)
    assert (again.paused, changed) == (True, False)
    [(sku, changed)] = engine.levers.pause(["a"], False, PULL)
    assert (sku.paused, changed) == (False, True)
    told = [
        (event.op, event.actor, event.request_id, event.reason, event.detail) for event in books.events(engine.store)
    ]
    assert told[2:] == [
        ("configure", "cli:olga", "q7", "a bot", '[["paused","1"]]'),
        ("configure", "cli:olga", "q7", "a bot", '[["paused","1"]]'),
        ("configure", "cli:olga", "q7", "a bot", '[["paused",""]]'),
    ]
    books.assert_right(engine)


def test_a_recount_says_what_was_and_what_is(engine: Engine) -> None:
    hold(engine, "a=3")
    before, after = engine.levers.recount("a", 10, PULL)
    assert (before.on_hand, after.on_hand, after.available, after.reserved) == (50, 10, 7, 3)
    assert books.events(engine.store)[-1].reason == "a bot"
    books.assert_right(engine)


@pytest.mark.parametrize("by", ["user", "sku", "both"])
def test_all_live_holds_of_a_user_or_of_a_sku_or_of_both_are_released(
    engine: Engine, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(levers, "PAGE", 2)
    held = {
        (user, text): hold(engine, text, user).id
        for user in ("ann", "bob")
        for text in ("a=1", "b=2", "a=1 b=1", "a=2", "b=1")
    }
    wanted = {
        name for (user, text), name in held.items() if (by == "sku" or user == "ann") and (by == "user" or "a=" in text)
    }
    user, sku = "" if by == "sku" else "ann", "" if by == "user" else "a"
    assert outcomes(list(engine.levers.release_all(user, sku, REHEARSAL))) == dict.fromkeys(wanted, Outcome.RELEASED)
    assert engine.store.live() == len(held)
    freed = list(engine.levers.release_all(user, sku, PULL))
    assert outcomes(freed) == dict.fromkeys(wanted, Outcome.RELEASED)
    assert {one.id: one.lines for one in freed} == {
        name: tuple(lines(text)) for (_, text), name in held.items() if name in wanted
    }
    assert engine.store.live() == len(held) - len(wanted)
    released = [event for event in books.events(engine.store) if event.op == "release"]
    assert {(event.actor, event.request_id, event.reason) for event in released} == {("cli:olga", "q7", "a bot")}
    assert {event.reservation_id for event in released} == wanted
    books.assert_right(engine)


def test_what_is_over_paid_or_due_is_named_and_left_or_ended_as_always(engine: Engine) -> None:
    live, due, gone, paid, odd = [hold(engine).id for _ in range(5)]
    run_out(engine.store, due)
    engine.reservations.release(gone, Origin("ann", user="ann"))
    engine.reservations.commit(paid, SHOP, "p1", NO_KEY)
    engine.store.redis.hset(engine.store.keys.reservation(odd), "lines", "a=99")
    expected = {
        live: Outcome.RELEASED,
        due: Outcome.EXPIRED,
        gone: Outcome.ENDED,
        paid: Outcome.PAID,
        odd: Outcome.INCONSISTENT,
    }
    before = books.dump(engine.store.redis)
    assert outcomes(list(engine.levers.release([*expected, live], REHEARSAL))) == expected
    assert books.dump(engine.store.redis) == before
    assert outcomes(list(engine.levers.release([*expected, live], PULL))) == expected
    happened = [(event.op, event.reservation_id) for event in books.events(engine.store)]
    assert happened[-2:] == [("release", live), ("expire", due)]


def test_a_hold_that_is_paid_while_the_levers_look_is_named_and_left(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = hold(engine).id, hold(engine).id
    records = engine.store.records

    def read_then_pay(names: list[str]) -> object:
        found = records(names)
        engine.reservations.commit(second, SHOP, "p1", NO_KEY)
        return found

    monkeypatch.setattr(engine.store, "records", read_then_pay)
    freed = list(engine.levers.release_all("ann", "", PULL))
    assert outcomes(freed) == {first: Outcome.RELEASED, second: Outcome.PAID}
    books.assert_right(engine)


Act = Callable[[Engine, Pull], object]
REFUSED: list[tuple[str, Act, type[Exception], str]] = [
    ("pause", lambda e, pull: list(e.levers.pause(["a", "x", "y"], True, pull)), NotFound, "No such SKU: x, y"),
    ("recount", lambda e, pull: e.levers.recount("x", 5, pull), NotFound, "No such SKU: x"),
    (
        "recount too low",
        lambda e, pull: e.levers.recount("a", 0, pull),
        StockBelowClaims,
        "so many units of a are reserved",
    ),
    ("release", lambda e, pull: list(e.levers.release(["r8", "r9"], pull)), NotFound, "No such reservation: r8, r9"),
    ("of nobody", lambda e, pull: list(e.levers.release_all("eve", "", pull)), NotFound, "reservation of user eve"),
    ("of no SKU", lambda e, pull: list(e.levers.release_all("ann", "x", pull)), NotFound, "No such SKU: x"),
    ("of an idle SKU", lambda e, pull: list(e.levers.release_all("ann", "b", pull)), NotFound, "of user ann has b"),
    *(
        (
            f"default hold of {seconds}",
            lambda e, pull, seconds=seconds: e.stock.set_default_hold(seconds, pull.reason, OPS, pull.lever),  # type: ignore[misc]
            ValidationFailed,
            "from 1 to 900",
        )
        for seconds in (0, -1, 901, 10**12)
    ),
]


@pytest.mark.parametrize("pull", [PULL, REHEARSAL], ids=["do", "dry run"])
@pytest.mark.parametrize(("act", "error", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_refused_says_why_and_changes_nothing(
    engine: Engine, act: Act, error: type[Exception], words: str, pull: Pull
) -> None:
    hold(engine)
    before = books.dump(engine.store.redis)
    with pytest.raises(error, match=words):
        act(engine, pull)
    assert books.dump(engine.store.redis) == before


WITHOUT_A_REASON: list[Act] = [
    lambda e, pull: list(e.levers.pause(["a"], True, pull)),
    lambda e, pull: e.levers.recount("a", 9, pull),
    lambda e, pull: e.stock.set_selling(True, pull.reason, OPS, pull.lever),
    lambda e, pull: e.stock.set_default_hold(60, pull.reason, OPS, pull.lever),
    lambda e, pull: list(e.levers.release_all("ann", "", pull)),
]


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("act", WITHOUT_A_REASON)
def test_no_lever_moves_without_a_reason(engine: Engine, act: Act, dry_run: bool) -> None:
    hold(engine)
    before = books.dump(engine.store.redis)
    with pytest.raises(ValidationFailed, match="reason"):
        act(engine, Pull(OPS, " ", dry_run))
    assert books.dump(engine.store.redis) == before


def test_a_dry_run_of_every_lever_changes_nothing(engine: Engine) -> None:
    held = hold(engine).id
    before = books.dump(engine.store.redis)
    [(paused, changed)] = engine.levers.pause(["a"], True, REHEARSAL)
    assert (paused.paused, paused.available, changed) == (True, 49, True)
    assert engine.levers.recount("a", 9, REHEARSAL)[1].available == 8
    assert outcomes(list(engine.levers.release([held], REHEARSAL))) == {held: Outcome.RELEASED}
    engine.stock.set_selling(True, "a drill", OPS, REHEARSAL.lever)
    engine.stock.set_default_hold(60, "a drill", OPS, REHEARSAL.lever)
    assert books.dump(engine.store.redis) == before


def test_a_dry_run_ends_no_hold_that_is_due_though_the_lever_itself_would(engine: Engine) -> None:
    run_out(engine.store, hold(engine, "a=3").id)
    before = books.dump(engine.store.redis)
    with pytest.raises(StockBelowClaims):
        engine.levers.recount("a", 2, REHEARSAL)
    assert books.dump(engine.store.redis) == before
    assert engine.levers.recount("a", 2, PULL)[1].available == 2
    books.assert_right(engine)


def test_the_default_hold_is_read_as_it_was_set(engine: Engine) -> None:
    assert engine.stock.default_hold_ms() is None
    engine.stock.set_default_hold(60, "a rush", OPS)
    assert engine.stock.default_hold_ms() == 60_000
    engine.stock.set_default_hold(None, "over", OPS)
    assert engine.stock.default_hold_ms() is None
