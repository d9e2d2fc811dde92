"""What buyers were told against the ledger: right histories are believed, and each kind of broken one is called by its name."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine.invariants import Invariant
from engine.values import Event, Line
from loadtests.checker.history import Call, Down, Loss, Outcome, RefusedLine, Skew
from loadtests.checker.told import Bounds, told
from tests.histories import Shop, Told, units

START_MS = 1_800_000_000_000
MUG = "mug"
LINES = (Line(MUG, 1),)
Story = tuple[list[Call], list[Event]]
BOUNDS = Bounds(return_ms=50, slack_ms=5)


def event(seq: int, at_ms: int, op: str, name: str = "", user: str = "ann", **more: Any) -> Event:
    whole: dict[str, Any] = {"lines": LINES, "deadline_ms": 0, "payment_id": "", "reason": "", "detail": ""} | more
    return Event(
        epoch=1,
        seq=seq,
        at_ms=START_MS + at_ms,
        op=op,
        actor=user,
        user=user,
        reservation_id=name,
        request_id="",
        **whole,
    )


def call(operation: str, name: str, invoked_ms: float, user: str = "ann", **more: Any) -> Call:
    known: dict[str, Any] = {"outcome": Outcome.OK, "reservation_id": name, "key": f"{operation}-{name}"}
    known |= {"invoked_ms": START_MS + invoked_ms, "answered_ms": START_MS + invoked_ms + 20} | more
    if operation == "reserve":
        known.setdefault("lines", ((MUG, 1),))
    return Call(operation, 0, user, **known)


def refused(invoked_ms: float, user: str = "dan", requested: int = 1, **more: Any) -> Call:
    lines = (RefusedLine(MUG, requested, 0, "all_held", more.pop("next_release_ms", 0)),)
    known = {"outcome": Outcome.REFUSED, "lines": ((MUG, requested),), "code": "lines_unavailable", "refused": lines}
    return call("reserve", "", invoked_ms, user, **known | {"key": f"of-{user}"} | more)


def story() -> Story:
    """Three mugs. Ann pays for one, Bob gives one back after a second thought, Cid lets the time run out."""
    events = [
        event(1, 0, "recount", lines=(Line(MUG, 3),)),
        event(2, 110, "reserve", "r1", "ann", deadline_ms=START_MS + 5_000),
        event(3, 210, "reserve", "r2", "bob", deadline_ms=START_MS + 5_000),
        event(4, 310, "reserve", "r3", "cid", deadline_ms=START_MS + 2_000),
        event(5, 410, "commit", "r1", "ann", payment_id="p1"),
        event(6, 510, "extend", "r2", "bob", deadline_ms=START_MS + 6_000),
        event(7, 1_010, "release", "r2", "bob"),
        event(8, 2_020, "expire", "r3", "cid"),
        event(9, 2_210, "refund_required", "r3", "cid", payment_id="p3"),
    ]
    calls = [
        call("reserve", "r1", 100, "ann", deadline_ms=START_MS + 5_000),
        call("reserve", "r2", 200, "bob", deadline_ms=START_MS + 5_000),
        call("reserve", "r3", 300, "cid", deadline_ms=START_MS + 2_000),
        refused(320, requested=2),
        call("commit", "r1", 400, "ann", key="p1"),
        call("commit", "r1", 450, "ann", key="p1"),
        call("extend", "r2", 500, "bob", deadline_ms=START_MS + 6_000),
        call("release", "r2", 1_000, "bob"),
        call("commit", "r3", 2_200, "cid", key="p3", outcome=Outcome.REFUSED, code="refund_required"),
    ]
    return calls, events


def found(given: Story, *losses: Loss, skews: tuple[Skew, ...] = (), bounds: Bounds = BOUNDS) -> set[Invariant]:
    return {violation.invariant for violation in told(*given, losses, skews, bounds)}


def without(given: Story, *seqs: int) -> Story:
    return given[0], [each for each in given[1] if each.seq not in seqs]


def altered(given: Story, seq: int, **more: Any) -> Story:
    return given[0], [replace(each, **more) if each.seq == seq else each for each in given[1]]


def also(given: Story, *more: Call | Event) -> Story:
    calls = given[0] + [each for each in more if isinstance(each, Call)]
    events = given[1] + [each for each in more if isinstance(each, Event)]
    return calls, sorted(events, key=lambda each: each.at_ms)


def retold(given: Story, number: int, **more: Any) -> Story:
    calls = list(given[0])
    calls[number] = replace(calls[number], **more)
    return calls, given[1]


def limited(given: Story) -> Story:
    """Three mugs for each customer."""
    return altered(given, 1, detail='[["limit_per_customer", "3"]]')


def over_limit(at_ms: float, requested: int = 2) -> Call:
    lines = (RefusedLine(MUG, requested, 3, "limit_exceeded"),)
    return refused(at_ms, "ann", requested, key="more", lines=((MUG, requested),), refused=lines)


def refunded(verdict: str) -> dict[str, Any]:
    lines = (RefusedLine(MUG, 1, 0, verdict),)
    return {"outcome": Outcome.REFUSED, "code": "refund_required", "refused": lines}


def test_a_right_history_is_believed() -> None:
    assert found(story()) == set()


def test_a_limit_that_is_reached_by_what_was_held_and_bought_explains_a_refusal() -> None:
    assert found(also(limited(story()), over_limit(450, requested=3))) == set()


def test_the_repeat_of_a_reservation_shows_it_as_it_is() -> None:
    extended = call("reserve", "r2", 700, "bob", deadline_ms=START_MS + 6_000, state="reserved")
    ended = call("reserve", "r3", 2_500, "cid", deadline_ms=START_MS + 2_000, state="expired")
    paid = call("reserve", "r1", 600, deadline_ms=START_MS + 5_000, state="committed")
    assert found(also(story(), extended, ended, paid)) == set()


def test_a_late_payment_is_told_again_what_was_decided_first() -> None:
    """When it is told again there is enough."""
    taken = event(10, 2_100, "reserve", "r4", "dan", lines=(Line(MUG, 2),), deadline_ms=START_MS + 2_300)
    back = event(11, 2_301, "expire", "r4", "dan", lines=(Line(MUG, 2),))
    told = call("reserve", "r4", 2_090, "dan", lines=((MUG, 2),), deadline_ms=START_MS + 2_300)
    again = call("commit", "r3", 2_400, "cid", key="p3", **refunded("all_held"))
    assert found(also(retold(story(), 8, **refunded("all_held")), taken, back, told, again)) == set()


def test_parts_of_an_order_that_were_shipped_as_asked_are_believed() -> None:
    part = call("fulfil", "r1", 600, key="part", lines=((MUG, 1),))
    rest = call("fulfil", "r1", 700, key="rest")
    assert found(also(story(), part, part, rest, event(10, 610, "fulfil", "r1", "ann", detail="fulfilled"))) == set()


BROKEN: dict[str, tuple[Callable[[], Story], Invariant]] = {
    "a hold that is gone": (lambda: without(story(), 4, 8), Invariant.ACKNOWLEDGED),
    "an order that is gone": (lambda: without(story(), 5), Invariant.ACKNOWLEDGED),
    "a release that is gone": (lambda: without(story(), 7), Invariant.ACKNOWLEDGED),
    "an extension that is gone": (lambda: without(story(), 6), Invariant.ACKNOWLEDGED),
    "a refund that is gone": (lambda: without(story(), 9), Invariant.ACKNOWLEDGED),
    "more units than were asked for": (
        lambda: altered(story(), 3, lines=(Line(MUG, 2),)),
        Invariant.ACKNOWLEDGED,
    ),
    "another deadline than was told": (
        lambda: altered(story(), 2, deadline_ms=START_MS + 4_000),
        Invariant.ACKNOWLEDGED,
    ),
    "an order on record after it was confirmed": (
        lambda: altered(story(), 5, at_ms=START_MS + 600),
        Invariant.ACKNOWLEDGED,
    ),
    "a refusal that took stock": (
        lambda: also(
            story(),
            event(10, 2_330, "reserve", "r4", "dan", lines=(Line(MUG, 2),), deadline_ms=START_MS + 9_000),
        ),
        Invariant.REFUSED,
    ),
    "stock for somebody who never asked": (
        lambda: also(story(), event(10, 2_330, "reserve", "r5", "eve", deadline_ms=START_MS + 9_000)),
        Invariant.REFUSED,
    ),
    "a part of an order that is gone": (
        lambda: also(story(), call("fulfil", "r1", 600, lines=((MUG, 1),))),
        Invariant.ACKNOWLEDGED,
    ),
    "a part that was shipped as more": (
        lambda: also(
            story(),
            call("fulfil", "r1", 600, outcome=Outcome.UNKNOWN, lines=((MUG, 1),)),
            event(10, 2_310, "fulfil", "r1", "ann", lines=(Line(MUG, 2),), detail="fulfilled"),
        ),
        Invariant.REFUSED,
    ),
    "a part that was shipped twice": (
        lambda: also(
            story(),
            call("fulfil", "r1", 600, lines=((MUG, 1),)),
            event(10, 610, "fulfil", "r1", "ann", detail="committed"),
            event(11, 2_310, "fulfil", "r1", "ann", detail="committed"),
        ),
        Invariant.IDEMPOTENCY,
    ),
    "a part that was refused, and shipped": (
        lambda: also(
            story(),
            call("fulfil", "r1", 600, outcome=Outcome.REFUSED, code="validation_failed", lines=((MUG, 1),)),
            event(10, 610, "fulfil", "r1", "ann", detail="fulfilled"),
        ),
        Invariant.REFUSED,
    ),
    "one payment for two reservations": (
        lambda: also(
            story(),
            call("commit", "r2", 900, "bob", key="p1"),
            event(10, 910, "commit", "r2", "bob", payment_id="p1"),
        ),
        Invariant.PAYMENTS,
    ),
    "a dead hold shown as live": (
        lambda: also(story(), call("reserve", "r3", 2_500, "cid", deadline_ms=START_MS + 2_000, state="reserved")),
        Invariant.IDEMPOTENCY,
    ),
    "refused for a limit that was not reached": (
        lambda: also(limited(story()), over_limit(250)),
        Invariant.NO_FALSE_REFUSAL,
    ),
    "a late payment refused while the units were free": (
        lambda: also(
            story(),
            call("commit", "r2", 1_500, "bob", key="p2", **refunded("sold_out")),
            event(10, 1_510, "refund_required", "r2", "bob", payment_id="p2"),
        ),
        Invariant.NO_FALSE_REFUSAL,
    ),
    "a provider's message that was noted twice": (
        lambda: also(
            story(),
            call("notify", "r2", 900, "bob", message="payment.failed", payment_id="p2", state="noted"),
            event(10, 910, "note", "r2", "bob", lines=(), payment_id="p2", detail="payment.failed"),
            event(11, 950, "note", "r2", "bob", lines=(), payment_id="p2", detail="payment.failed"),
        ),
        Invariant.IDEMPOTENCY,
    ),
    "a message of an unknown reservation that is gone": (
        lambda: also(
            story(),
            call("notify", "no", 900, "", message="payment.failed", payment_id="p", state="unknown_reservation"),
        ),
        Invariant.ACKNOWLEDGED,
    ),
    "a hold released for an attempt that was ignored": (
        lambda: also(
            without(story(), 7),
            call("notify", "r2", 990, "bob", message="payment.canceled", payment_id="p2", state="ignored"),
            event(7, 1_010, "release", "r2", "bob", reason="payment cancelled", payment_id="p2"),
        ),
        Invariant.REFUSED,
    ),
    "a payment that was refused, and is an order": (
        lambda: also(
            story(),
            call("commit", "r2", 1_500, key="p2", outcome=Outcome.REFUSED, code="not_found"),
            event(10, 1_510, "commit", "r2", "bob", payment_id="p2"),
        ),
        Invariant.REFUSED,
    ),
    "an order that nobody paid for": (
        lambda: also(story(), event(10, 1_510, "commit", "r2", "bob", payment_id="p2")),
        Invariant.REFUSED,
    ),
    "a refund for a payment that nobody made": (
        lambda: also(story(), event(10, 2_510, "refund_required", "r3", "cid", payment_id="p4")),
        Invariant.REFUSED,
    ),
    "a release that was refused, and happened": (
        lambda: retold(story(), 7, outcome=Outcome.REFUSED, code="not_found"),
        Invariant.REFUSED,
    ),
    "the same call, another reservation": (
        lambda: also(
            story(),
            call("reserve", "r9", 600, "bob", key="reserve-r2", deadline_ms=START_MS + 5_000),
            event(10, 610, "reserve", "r9", "bob", deadline_ms=START_MS + 5_000),
        ),
        Invariant.IDEMPOTENCY,
    ),
    "the same call, another deadline": (
        lambda: also(
            story(),
            call("extend", "r2", 600, "bob", deadline_ms=START_MS + 7_000),
            event(10, 610, "extend", "r2", "bob", deadline_ms=START_MS + 7_000),
        ),
        Invariant.IDEMPOTENCY,
    ),
    "the same call, refused": (
        lambda: also(story(), refused(330, "ann", key="reserve-r1")),
        Invariant.IDEMPOTENCY,
    ),
    "a reservation made twice": (
        lambda: also(story(), event(10, 2_310, "reserve", "r3", "cid", deadline_ms=START_MS + 9_000)),
        Invariant.IDEMPOTENCY,
    ),
    "a payment on record twice": (
        lambda: also(story(), event(10, 2_310, "commit", "r1", "ann", payment_id="p1")),
        Invariant.IDEMPOTENCY,
    ),
    "an order paid for by two payments": (
        lambda: also(
            story(),
            event(10, 2_310, "commit", "r1", "ann", payment_id="p2"),
            call("commit", "r1", 2_300, "ann", key="p2"),
        ),
        Invariant.IDEMPOTENCY,
    ),
    "a refund on record twice": (
        lambda: also(story(), event(10, 2_310, "refund_required", "r3", "cid", payment_id="p3")),
        Invariant.IDEMPOTENCY,
    ),
    "a payment with two answers": (
        lambda: also(story(), call("commit", "r1", 600, key="p1", outcome=Outcome.REFUSED, code="already_committed")),
        Invariant.IDEMPOTENCY,
    ),
    "an order that can't be found any more": (
        lambda: also(story(), call("commit", "r1", 600, key="p1", outcome=Outcome.REFUSED, code="not_found")),
        Invariant.IDEMPOTENCY,
    ),
    "another's event": (lambda: altered(story(), 8, user="eve"), Invariant.OWNERSHIP),
    "another's release": (lambda: retold(story(), 7, user="eve"), Invariant.OWNERSHIP),
    "a release that nobody asked for": (
        lambda: (lambda given: ([each for each in given[0] if each.operation != "release"], given[1]))(story()),
        Invariant.OWNERSHIP,
    ),
    "refused though two were free": (lambda: also(story(), refused(1_100)), Invariant.NO_FALSE_REFUSAL),
    "refused though the hold was due": (lambda: also(story(), refused(2_010, requested=2)), Invariant.NO_FALSE_REFUSAL),
    "told to wait for a moment that has passed": (
        lambda: also(story(), refused(340, "eve", next_release_ms=START_MS + 100)),
        Invariant.NO_FALSE_REFUSAL,
    ),
    "back before its deadline": (lambda: altered(story(), 8, at_ms=START_MS + 1_990), Invariant.RETURN_BOUND),
    "back too late": (lambda: altered(story(), 8, at_ms=START_MS + 2_100), Invariant.RETURN_BOUND),
    "never back": (lambda: without(story(), 8), Invariant.RETURN_BOUND),
}


@pytest.mark.parametrize("wrong", BROKEN)
def test_a_broken_history_is_called_by_its_name_and_no_other(wrong: str) -> None:
    make, invariant = BROKEN[wrong]
    assert found(make()) == {invariant}


TAIL = (3_100, 4_000)
"""A loss that may have taken what was answered after 2100."""


@pytest.mark.parametrize(
    ("at_ms", "names"),
    [
        (2_150, set()),
        (3_050, set()),
        (3_500, set()),
        (2_050, {Invariant.ACKNOWLEDGED}),
        (4_001, {Invariant.ACKNOWLEDGED}),
    ],
)
def test_a_hold_may_be_lost_only_with_the_last_second_before_a_loss(at_ms: float, names: set[Invariant]) -> None:
    given = also(without(story(), 9), call("reserve", "r4", at_ms, "dan", key="k", deadline_ms=START_MS + 9_000))
    given = ([each for each in given[0] if each.key != "p3"], given[1])
    assert found(given, Loss(START_MS + TAIL[0], START_MS + TAIL[1])) == names


def test_no_loss_excuses_an_order_that_is_gone() -> None:
    given = also(story(), call("commit", "r2", 3_050, "bob", key="p2"))
    assert found(given, Loss(START_MS + TAIL[0], START_MS + TAIL[1])) == {Invariant.ACKNOWLEDGED}


def test_what_was_lost_and_made_again_stands_in_the_ledger_once() -> None:
    first = call("reserve", "r4", 3_000, "dan", key="k", deadline_ms=START_MS + 9_000)
    again = call("reserve", "r4", 4_100, "dan", key="k", deadline_ms=START_MS + 9_900)
    given = also(story(), first, again, event(10, 4_110, "reserve", "r4", "dan", deadline_ms=START_MS + 9_900))
    assert found(given, Loss(START_MS + TAIL[0], START_MS + TAIL[1])) == set()
    assert found(given) == {Invariant.ACKNOWLEDGED}


def test_nothing_may_stay_that_came_after_something_lost() -> None:
    lost = call("reserve", "r4", 2_900, "dan", key="k", deadline_ms=START_MS + 9_000)
    later = call("reserve", "r5", 3_000, "eve", key="l", deadline_ms=START_MS + 9_000)
    kept = event(10, 3_010, "reserve", "r5", "eve", deadline_ms=START_MS + 9_000)
    loss = Loss(START_MS + TAIL[0], START_MS + TAIL[1])
    assert found(also(story(), lost, later, kept), loss) == {Invariant.PREFIX}
    assert found(also(story(), lost, later), loss) == set()
    meanwhile = replace(kept, at_ms=START_MS + 2_915)
    assert found(also(story(), lost, later, meanwhile), loss) == set()


def test_a_call_without_an_answer_may_have_happened_once() -> None:
    unclear = call("reserve", "", 1_200, "eve", key="k", outcome=Outcome.UNKNOWN, answered_ms=float("inf"))
    happened = event(10, 2_310, "reserve", "r4", "eve", deadline_ms=START_MS + 9_000)
    assert found(also(story(), unclear)) == set()
    assert found(also(story(), unclear, happened)) == set()
    assert found(also(story(), unclear, happened, replace(happened, reservation_id="r5"))) == {Invariant.REFUSED}


def test_a_payment_without_an_answer_may_have_happened() -> None:
    unclear = call("commit", "r2", 2_300, "bob", key="p2", outcome=Outcome.UNKNOWN, answered_ms=float("inf"))
    paid = event(10, 2_310, "commit", "r2", "bob", payment_id="p2")
    gone = call("commit", "r2", 2_600, "bob", key="p2", outcome=Outcome.REFUSED, code="not_found")
    assert found(also(story(), unclear)) == set()
    assert found(also(story(), unclear, paid)) == set()
    assert found(also(story(), unclear, gone)) == set()
    assert found(also(story(), unclear, paid, gone)) == {Invariant.IDEMPOTENCY}


def test_operators_give_a_reason_and_may_release_what_is_not_theirs() -> None:
    given = story()
    calls = [each for each in given[0] if each.operation != "release"]
    assert found((calls, altered(given, 7, reason="fraud")[1])) == set()


def test_calls_that_are_not_in_the_history_are_not_missed_where_it_is_not_complete() -> None:
    calls, events = story()
    some = [each for each in calls if each.operation == "commit"]
    assert found((some, events), bounds=replace(BOUNDS, complete=frozenset({"commit"}))) == set()


def test_what_depends_on_a_clock_that_was_moved_is_not_judged() -> None:
    early = altered(story(), 8, at_ms=START_MS + 1_500)
    assert found(early) == {Invariant.RETURN_BOUND}
    assert found(early, skews=(Skew(START_MS + 1_400, START_MS + 1_600),)) == set()
    wrongly = also(story(), refused(1_100))
    assert found(wrongly, skews=(Skew(START_MS + 1_050, START_MS + 1_101),)) == set()


def test_a_hold_that_ran_out_while_nothing_ran_has_its_bound_after_that() -> None:
    given = altered(story(), 8, at_ms=START_MS + 2_400)
    given = (given[0][:-1], [each for each in given[1] if each.seq != 9])
    assert found(given) == {Invariant.RETURN_BOUND}
    down = (Down(START_MS + 1_900, START_MS + 2_380),)
    assert found(given, bounds=replace(BOUNDS, down=down)) == set()


def test_a_hold_that_ran_out_while_nothing_worked_has_its_bound_after_that() -> None:
    loss = Loss(START_MS + 1_950, START_MS + 3_000)
    assert found(altered(without(story(), 9), 8, at_ms=START_MS + 3_040), loss) == {Invariant.ACKNOWLEDGED}
    calls = [each for each in story()[0] if each.key != "p3"]
    assert found((calls, altered(without(story(), 9), 8, at_ms=START_MS + 3_040)[1]), loss) == set()
    assert found((calls, altered(without(story(), 9), 8, at_ms=START_MS + 3_140)[1]), loss) == {Invariant.RETURN_BOUND}


def history(seed: int, *losses_ms: int) -> Told:
    return Shop(seed, units(3, 4 + seed % 9), losses_ms).trade(120, 4_000)


@pytest.mark.parametrize("losses_ms", [(), (1_500, 3_000)])
def test_right_histories_made_at_random_are_believed(losses_ms: tuple[int, ...]) -> None:
    unanswered = 0
    for seed in range(60):
        given = history(seed, *losses_ms)
        unanswered += sum(each.outcome is Outcome.UNKNOWN for each in given.calls)
        assert list(told(given.calls, given.events, given.losses, bounds=BOUNDS)) == []
    assert unanswered > 60


Mutation = Callable[[random.Random, Told], Story]


def dropped(op: str) -> Mutation:
    def mutate(pick: random.Random, given: Told) -> Story:
        gone = pick.choice([each for each in given.events if each.op == op])
        return given.calls, [each for each in given.events if each is not gone]

    return mutate


def two_of_them_swapped(op: str, *names: str) -> Mutation:
    def mutate(pick: random.Random, given: Told) -> Story:
        one, other = pick.sample([each for each in given.events if each.op == op], 2)
        both = {one.seq: {name: getattr(other, name) for name in names}}
        both |= {other.seq: {name: getattr(one, name) for name in names}}
        return given.calls, [replace(each, **both.get(each.seq, {})) for each in given.events]

    return mutate


def two_answers_swapped(pick: random.Random, given: Told) -> Story:
    granted = [number for number, each in enumerate(given.calls) if each.operation == "reserve" and each.deadline_ms]
    one, other = pick.sample(granted, 2)
    while given.calls[one].reservation_id == given.calls[other].reservation_id:
        one, other = pick.sample(granted, 2)
    calls = list(given.calls)
    for number, of in ((one, other), (other, one)):
        calls[number] = replace(calls[number], reservation_id=given.calls[of].reservation_id)
    return calls, given.events


def one_more_unit(pick: random.Random, given: Told) -> Story:
    number = pick.choice([at for at, each in enumerate(given.events) if each.op == "reserve"])
    first, *rest = given.events[number].lines
    changed = replace(given.events[number], lines=(Line(first.sku, first.quantity + 1), *rest))
    return given.calls, [*given.events[:number], changed, *given.events[number + 1 :]]


def one_more_reservation(pick: random.Random, given: Told) -> Story:
    twin = pick.choice([each for each in given.events if each.op == "reserve"])
    return given.calls, [*given.events, replace(given.events[-1], op="reserve", reservation_id="r", lines=twin.lines)]


def held_longer(pick: random.Random, given: Told) -> Story:
    number = pick.choice([at for at, each in enumerate(given.events) if each.op == "expire"])
    changed = replace(given.events[number], at_ms=given.events[number].at_ms + 100)
    return given.calls, [*given.events[:number], changed, *given.events[number + 1 :]]


MUTATIONS: dict[str, Mutation] = {
    "a reserve event dropped": dropped("reserve"),
    "a commit event dropped": dropped("commit"),
    "an expire event dropped": dropped("expire"),
    "an extend event dropped": dropped("extend"),
    "the users of two reserve events swapped": two_of_them_swapped("reserve", "user"),
    "the names of two reserve events swapped": two_of_them_swapped("reserve", "reservation_id"),
    "the payments of two commit events swapped": two_of_them_swapped("commit", "payment_id"),
    "two answers swapped": two_answers_swapped,
    "one more unit": one_more_unit,
    "one more reservation": one_more_reservation,
    "held longer": held_longer,
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_one_thing_changed_in_the_ledger_or_the_answers_of_a_right_history_is_always_found(name: str) -> None:
    for seed in range(40):
        given = Shop(seed, units(3, 20)).trade(80, 3_000)
        calls, events = MUTATIONS[name](random.Random(seed), given)
        read_ms = events[-1].at_ms + 10_000
        assert list(told(calls, events, bounds=replace(BOUNDS, read_ms=read_ms))), seed


@pytest.mark.slow
def test_tens_of_thousands_of_events_take_seconds() -> None:
    given = Shop(1, units(40, 5_000)).trade(12_000, 60_000)
    assert len(given.events) + len(given.calls) > 45_000
    began_s = time.process_time()
    assert list(told(given.calls, given.events, bounds=BOUNDS)) == []
    assert time.process_time() - began_s < 10
