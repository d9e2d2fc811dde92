"""The whole engine against `tests.model`, in thousands of steps that hypothesis makes up.

After every step everything is compared: counters, reservations, buyers, carts, deadlines, and the ledger's counters. At the
end of a run Redis is compared, hash by hash, with what `engine.fold` makes of the ledger.
The clock stands still unless a step moves it: scripts never take a time earlier than `clock_ms`, which is far ahead.

STOCKADE_TEST_STEPS=200000 makes that many steps, other ones in every run.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import fakeredis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from engine.errors import EngineError, LinesUnavailable, NotFound, RefundRequired
from engine.fold import ENDED, LEVERS, MOVES, Fold
from engine.invariants.record import Record
from engine.payments import Outcome, PaymentEvent
from engine.sku_names import shown
from engine.states import State, Verdict
from engine.values import Event, Lever, Line, Operation, Order, Origin, Reservation, unpacked
from tests import books, model
from tests.books import Counters
from tests.conftest import opened
from tests.conftest import settings as engine_settings
from tests.model import Refused

STEPS, STEPS_IN_A_RUN = 3_000, 50
MAX_MORE_ROUNDS = 5
"""By chance, where the first steps haven't reached everything."""

START_MS = 4_000_000_000_000
KEEPER, OPS, SHOP = Origin("keeper"), Origin("ops"), Origin("shop")
NO_KEY = Operation()

REACHED = {
    *(op for op in MOVES),
    *("extend", "configure", "pause", "resume", "default_hold", "refund_required", "release replaced", "release paid"),
    *("note", "standing", "payment_already_used"),
    *(f"outcome {word}" for word in Outcome if word is not Outcome.UNKNOWN_RESERVATION),
    *("already_committed", "empty_cart", "insufficient_stock", "invalid_transition", "lines_unavailable", "not_found"),
    *("reservation_expired", "stock_below_claims", "validation_failed"),
    *(
        f"answer of {word}"
        for word in ("adjusted", "created", "changed", "extended", "committed", "cancelled", "fulfilled", "noted")
    ),
    *Verdict,
}
"""Events, refusals, verdicts and kept answers that the steps must reach."""

users = st.sampled_from(["ann", "bob", "eve"])
SKUS = ("a", "b", "Größe 50%=c/2", "d")
"""The third is one whose stored form is another text; the fourth is made by chance."""

skus = st.sampled_from([*SKUS[:3] * 3, SKUS[3]])
known_skus = st.sampled_from(SKUS[:3])
baskets = st.lists(st.tuples(skus, st.integers(1, 3)), min_size=1, max_size=3)
holds_seconds = st.sampled_from([1, 60, 300, 900])
asked_seconds = st.sampled_from([1, 60, 300, 900, None, None])
"""What a buyer asks for at checkout; None: nothing."""

levers = st.sampled_from([Lever.NONE, Lever.DO])
rarely = st.sampled_from([False] * 5 + [True])
mostly = st.sampled_from([True] * 5 + [False])
picks = st.integers(0, 7)
payments = st.sampled_from([*["p1"] * 6, "p2", "p2", "shared"])
"""Payment ids of a reservation's own, but for the last one."""


@dataclass(frozen=True)
class Answered:
    """A call with an idempotency key, and its answer. `call` takes the fingerprint."""

    call: Callable[[str], object]
    answer: Callable[[], object]
    kept: bool


class Shopping(RuleBasedStateMachine):
    runs: ClassVar[int] = 0
    checks: ClassVar[int] = 0
    seen: ClassVar[Counter[str]] = Counter()
    """Events, refusals, verdicts and kept answers, to show that the steps reach everything."""

    def __init__(self) -> None:
        super().__init__()
        redis = fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=True)
        self.engine = opened(engine_settings(), redis)
        self.redis: Any = redis
        self.keys = self.engine.store.keys
        self.redis.hset(self.keys.meta, "clock_ms", START_MS)
        self.model = model.Shop(START_MS)
        self.ids: list[str] = []
        self.cart_ids: list[str] = []
        self.answered: list[Answered] = []
        self.ledger: list[Event] = []
        self.record = Record(self.engine.settings.retain_ms)
        self.fingerprints = 0
        Shopping.runs += 1

    @initialize(counts=st.tuples(*[st.integers(2, 20)] * 3), limit=st.sampled_from([None, 3]))
    def open_the_shop(self, counts: tuple[int, ...], limit: int | None) -> None:
        for sku, on_hand in zip(SKUS[:3], counts, strict=True):
            self._configure(sku, on_hand, {})
        self._configure(SKUS[2], None, {"limit": limit})
        for user in ("ann", ""):
            self.make_a_cart(user)
            self.put_a_line(0, True, user, "a", 1)

    # Time

    @rule(by_ms=st.sampled_from([1, 1_000, 59_999, 300_000, 600_000, 900_000]), sweep=st.booleans())
    def time_goes_by(self, by_ms: int, sweep: bool) -> None:
        self._move(by_ms)
        if sweep:
            self._sweep()

    @rule(beside_ms=st.sampled_from([-1, 0, 1]))
    def time_goes_by_until_the_next_deadline(self, beside_ms: int) -> None:
        live = [hold.deadline_ms for hold in self.model.holds if hold.state == "reserved"]
        if live:
            self._move(max(min(live) + beside_ms - self.model.now_ms, 0))

    @rule()
    def the_keeper_sweeps(self) -> None:
        self._sweep()

    # Stock

    @rule(
        sku=skus,
        on_hand=st.one_of(st.none(), st.integers(4, 20)),
        name=st.sampled_from(["", "limit", "limit", "paused", "starts_ms", "ends_ms"]),
        value=st.one_of(st.none(), st.sampled_from([-1, 0, 1, 2, 4])),
        lever=levers,
    )
    def ops_configure(self, sku: str, on_hand: int | None, name: str, value: int | None, lever: Lever) -> None:
        self._sweep()
        if value is not None and name == "limit":
            value = abs(value) + 1
        if value is not None and name.endswith("_ms"):
            value = self.model.now_ms + value * 1_000
        if name == "paused":
            value = 1 if value == 1 else None
        self._configure(sku, on_hand, {name: value} if name else {}, lever)

    @rule(sku=skus, on_hand=st.integers(0, 6), lever=levers)
    def ops_recount(self, sku: str, on_hand: int, lever: Lever) -> None:
        self._sweep()
        self._configure(sku, on_hand, {}, lever)

    @rule(sku=skus, delta=st.integers(-12, 8).filter(bool))
    def ops_adjust(self, sku: str, delta: int) -> None:
        self._sweep()
        key = self._key()
        self._keyed(
            lambda fingerprint: (
                self.engine.stock.adjust(sku, delta, OPS, "", Operation(key, fingerprint)).sku  # its counters move on
            ),
            lambda: self.model.adjust(sku, delta),
        )

    @rule(paused=rarely)
    def ops_stop_selling_or_go_on(self, paused: bool) -> None:
        # What a dry run changed would show in the meta that the ledger gives, or in the next checkout.
        self.engine.stock.set_selling(not paused, "a drill", OPS, Lever.DRY_RUN)
        self.engine.stock.set_selling(paused, "a fire", OPS)
        self.model.stopped = paused

    @rule(seconds=st.sampled_from([None, 1, 60, 900]), otherwise=st.sampled_from([None, 2, 600]))
    def ops_set_the_default_hold(self, seconds: int | None, otherwise: int | None) -> None:
        self.engine.stock.set_default_hold(otherwise, "a drill", OPS, Lever.DRY_RUN)
        self.engine.stock.set_default_hold(seconds, "a rush", OPS)
        self.engine.stock.set_default_hold(otherwise, "a drill", OPS, Lever.DRY_RUN)
        self.model.default_hold_ms = seconds * 1_000 if seconds else model.LONGEST_MS

    @rule(sku=skus)
    def anybody_looks(self, sku: str) -> None:
        [found] = self.engine.stock.availability([sku], SHOP)
        assert (found.available, found.status) == self.model.availability(sku)

    # Reservations

    @rule(user=users, basket=baskets, hold_seconds=asked_seconds)
    def reserve(self, user: str, basket: list[tuple[str, int]], hold_seconds: int | None) -> None:
        lines, key = [Line(*line) for line in basket], self._key()
        self._reserved(
            lambda fingerprint: self.engine.reservations.reserve(_buyer(user), lines, hold_seconds, key, fingerprint),
            lambda: self.model.reserve(user, model.summed(basket), _ms(hold_seconds)),
        )

    @rule(user=users, sku=known_skus, units=st.integers(1, 2))
    def buy(self, user: str, sku: str, units: int) -> None:
        held = len(self.ids)
        self.reserve(user, [(sku, units)], 900)
        if len(self.ids) > held:
            self.commit(0, "p1")

    @rule(wanted=st.lists(st.tuples(users, baskets), min_size=2, max_size=3), hold_seconds=st.sampled_from([300, None]))
    def reserve_a_batch(self, wanted: list[tuple[str, list[tuple[str, int]]]], hold_seconds: int | None) -> None:
        self._sweep()
        reservations = self.engine.reservations
        claims = [
            reservations.claim(_buyer(user), [Line(*line) for line in basket], hold_seconds, "", "")
            for user, basket in wanted
        ]
        answers = reservations.reserve_all(claims)
        refusals: list[tuple[LinesUnavailable, Refused, Callable[[], int]]] = []
        for (user, basket), answer in zip(wanted, answers, strict=True):
            reserve = partial(self.model.reserve, user, model.summed(basket), _ms(hold_seconds))
            try:
                reserve()
            except Refused as refused:
                assert isinstance(answer, LinesUnavailable)
                refusals.append((answer, refused, reserve))
            else:
                assert isinstance(answer, Reservation), answer
                self.ids.append(answer.id)
        for answer, refused, again in refusals:
            # Where a hold may be in the way the engine asks again, after the rest of the batch.
            with pytest.raises(Refused) as later:
                again()
            self._same_refusal(answer, refused if _judged(answer) == _judged(refused) else later.value)

    @rule(pick=picks, thief=rarely, hold_seconds=holds_seconds)
    def extend(self, pick: int, thief: bool, hold_seconds: int) -> None:
        if (number := self._pick(pick)) is not None:
            user, key = self._user(number, thief), self._key()
            self._keyed(
                lambda fingerprint: (
                    self.engine.reservations.extend(
                        self.ids[number], _buyer(user), hold_seconds, Operation(key, fingerprint)
                    ).deadline_ms
                ),
                lambda: self.model.extend(number, user, hold_seconds * 1_000),
            )

    @rule(pick=picks, thief=rarely)
    def release(self, pick: int, thief: bool) -> None:
        if (number := self._pick(pick)) is not None:
            user = self._user(number, thief)
            self._both(
                lambda: self.engine.reservations.release(self.ids[number], _buyer(user)).state,
                lambda: self.model.release(number, user),
            )

    @rule(pick=picks)
    def ops_release(self, pick: int) -> None:
        if (number := self._pick(pick)) is not None:
            release = partial(self.engine.reservations.release, self.ids[number], OPS, "a bot", anybody=True)
            state = self.model.holds[number].state
            if state not in model.PAID:
                assert release(lever=Lever.DRY_RUN).state == state
                self._compare()
            self._both(
                lambda: release(lever=Lever.DO).state,
                lambda: self.model.release(number, self.model.holds[number].user),
            )

    @rule(pick=picks)
    def look_at_a_reservation(self, pick: int) -> None:
        if (number := self._pick(pick)) is not None:
            found = self.engine.reservations.get(self.ids[number], None)
            assert found.state == self.model.holds[number].state

    # Payments

    @rule(pick=picks, payment=payments)
    def commit(self, pick: int, payment: str) -> None:
        if (number := self._pick(pick)) is not None:
            payment = _payment_of(number, payment)
            kept, key = not self.model.holds[number].payment, self._key()
            self._keyed(
                lambda fingerprint: (
                    self.engine.reservations.commit(self.ids[number], SHOP, payment, Operation(key, fingerprint)).late
                ),
                lambda: self.model.commit(number, payment),
                kept,
            )

    @rule(
        pick=picks,
        payment=payments,
        event=st.sampled_from([PaymentEvent.SUCCEEDED, *PaymentEvent]),
    )
    def the_provider_tells(self, pick: int, payment: str, event: PaymentEvent) -> None:
        if (number := self._pick(pick)) is not None:
            payment, event_id = _payment_of(number, payment), self._key()
            take = partial(self.engine.payments.take, event, event_id, self.ids[number], payment, SHOP)
            Shopping.seen[f"outcome {self._both(take, lambda: self.model.webhook(event, number, payment))}"] += 1

    @rule(pick=picks)
    def an_attempt_is_cancelled_after_another_one(self, pick: int) -> None:
        for event, payment in (
            (PaymentEvent.PROCESSING, "p1"),
            (PaymentEvent.FAILED, "p2"),
            (PaymentEvent.CANCELED, "p1"),
        ):
            self.the_provider_tells(pick, payment, event)
            self._compare()

    @rule(user=users, sku=known_skus, why=st.sampled_from(["stopped", "paused", "starts_ms", "ends_ms"]))
    def pay_late_for_what_is_not_sold_any_more(self, user: str, sku: str, why: str) -> None:
        held, stopped = len(self.ids), self.model.stopped
        self.reserve(user, [(sku, 1)], 1)
        if len(self.ids) == held:
            return
        self._move(1_000)
        self._sweep()
        if why == "stopped":
            self.ops_stop_selling_or_go_on(True)
        else:
            self.ops_configure(sku, None, why, {"paused": 1, "starts_ms": 4, "ends_ms": -1}[why], Lever.NONE)
        self.commit(0, "p1")
        self._compare()
        if why == "stopped":
            self.ops_stop_selling_or_go_on(stopped)
        else:
            self.ops_configure(sku, None, why, None, Lever.NONE)

    # Orders

    @rule(pick=picks, part=st.one_of(st.just([]), baskets))
    def ops_cancel(self, pick: int, part: list[tuple[str, int]]) -> None:
        if (number := self._pick(pick)) is not None:
            lines, key = [Line(*line) for line in part], self._key()
            kept = self.model.holds[number].state == "committed"
            self._keyed(
                lambda fingerprint: _changed(
                    self.engine.orders.cancel(self.ids[number], OPS, "", lines, Operation(key, fingerprint))
                ),
                lambda: _copied(self.model.cancel(number, model.summed(part))),
                kept,
            )

    @rule(pick=picks)
    def ops_cancel_the_rest(self, pick: int) -> None:
        self.ops_cancel(pick, [])

    @rule(pick=picks)
    def ops_cancel_a_unit(self, pick: int) -> None:
        if (number := self._pick(pick)) is not None:
            self.ops_cancel(pick, [(next(iter(self.model.holds[number].basket)), 1)])

    @rule(pick=picks, part=st.one_of(st.just([]), baskets))
    def ops_fulfil(self, pick: int, part: list[tuple[str, int]]) -> None:
        if (number := self._pick(pick)) is not None:
            lines, key = [Line(*line) for line in part], self._key()
            kept = self.model.holds[number].state == "committed"
            self._keyed(
                lambda fingerprint: _changed(
                    self.engine.orders.fulfil(self.ids[number], OPS, lines, Operation(key, fingerprint))
                ),
                lambda: _copied(self.model.fulfil(number, model.summed(part))),
                kept,
            )

    @rule(pick=picks, cancelled=st.booleans())
    def ops_fulfil_a_unit_and_end_the_rest(self, pick: int, cancelled: bool) -> None:
        if (number := self._pick(pick)) is not None:
            self.ops_fulfil(pick, [(next(iter(self.model.holds[number].basket)), 1)])
            self._compare()
            if cancelled:
                self.ops_cancel(pick, [])
            else:
                self.ops_fulfil(pick, [])

    # Carts

    @rule(user=st.one_of(users, st.just("")))
    def make_a_cart(self, user: str) -> None:
        self.cart_ids.append(self.engine.carts.create(Origin(user or "guest", user=user)).id)
        self.model.create_cart(user)

    @rule(pick=picks, own=mostly, user=st.one_of(users, st.just("")), sku=skus, units=st.integers(0, 4))
    def put_a_line(self, pick: int, own: bool, user: str, sku: str, units: int) -> None:
        if (cart := self._pick_cart(pick)) is not None:
            as_user = self.model.carts[cart].user if own else user
            self._both(
                lambda: self._shown(self.engine.carts.put_line(self.cart_ids[cart], _buyer(as_user), Line(sku, units))),
                lambda: self._put_and_show(cart, as_user, sku, units),
            )

    @rule(pick=picks, own=mostly, user=st.one_of(users, st.just("")), basket=baskets, none=rarely)
    def set_all_lines(self, pick: int, own: bool, user: str, basket: list[tuple[str, int]], none: bool) -> None:
        if (cart := self._pick_cart(pick)) is not None:
            as_user, asked = self.model.carts[cart].user if own else user, [] if none else basket
            lines = [Line(*line) for line in asked]
            self._both(
                lambda: self._shown(self.engine.carts.set_lines(self.cart_ids[cart], _buyer(as_user), lines)),
                lambda: self._set_and_show(cart, as_user, model.summed(asked)),
            )

    @rule(pick=picks, own=mostly, user=st.one_of(users, st.just("")))
    def look_at_a_cart(self, pick: int, own: bool, user: str) -> None:
        if (cart := self._pick_cart(pick)) is not None:
            as_user = self.model.carts[cart].user if own else user
            self._both(
                lambda: self._shown(self.engine.carts.get(self.cart_ids[cart], _buyer(as_user))),
                lambda: self.model.show(cart, as_user),
            )

    @rule(pick=picks, own=mostly, user=users, hold_seconds=asked_seconds)
    def check_out(self, pick: int, own: bool, user: str, hold_seconds: int | None) -> None:
        if (cart := self._pick_cart(pick)) is not None:
            as_user, key = (own and self.model.carts[cart].user) or user, self._key()
            self._reserved(
                lambda fingerprint: self.engine.carts.checkout(
                    self.cart_ids[cart], _buyer(as_user), hold_seconds, key, fingerprint
                ),
                lambda: self.model.check_out(cart, as_user, _ms(hold_seconds)),
            )

    @rule(pick=picks, sku=skus, units=st.integers(1, 3), hold_seconds=holds_seconds, times=st.integers(1, 3))
    def change_a_cart_and_check_it_out(self, pick: int, sku: str, units: int, hold_seconds: int, times: int) -> None:
        for time in range(times):
            self.put_a_line(pick, True, "", sku, units + time)
            self.check_out(pick, True, "ann", hold_seconds)

    @rule(pick=picks, user=users, really=rarely)
    def delete_a_cart(self, pick: int, user: str, really: bool) -> None:
        if really and (cart := self._pick_cart(pick)) is not None:
            self._both(
                lambda: self.engine.carts.delete(self.cart_ids[cart], _buyer(user)),
                lambda: self.model.delete_cart(cart, user),
            )

    # What rarely comes about by chance, in a row

    @rule(pick=picks, released=st.booleans(), taken=mostly, payment=payments, told=st.booleans())
    def a_dead_hold_is_paid(self, pick: int, released: bool, taken: bool, payment: str, told: bool) -> None:
        if (number := self._pick(pick)) is None:
            return
        if released:
            self.release(pick, False)
        else:
            self._move(max(self.model.holds[number].deadline_ms - self.model.now_ms, 0))
        sku, units = next(iter(self.model.holds[number].basket.items()))
        free = self.model.shelves[sku].available
        if taken and free:
            self.ops_adjust(sku, min(units - 1 - free, -1))
        pick = len(self.ids) - 1 - number
        self._compare()
        if told:
            self.the_provider_tells(pick, payment, PaymentEvent.SUCCEEDED)
        else:
            self.commit(pick, payment)

    @rule(told=st.booleans())
    def one_payment_is_for_two(self, told: bool) -> None:
        self.reserve("ann", [("a", 1)], 900)
        self.reserve("bob", [("a", 1)], 900)
        for pick in (0, 1):
            self._compare()
            if told and pick:
                self.the_provider_tells(pick, "shared", PaymentEvent.SUCCEEDED)
            else:
                self.commit(pick, "shared")

    @rule(pick=picks)
    def an_order_is_paid_twice(self, pick: int) -> None:
        self.commit(pick, "p1")
        self._compare()
        self.the_provider_tells(pick, "p2", PaymentEvent.SUCCEEDED)

    @rule(user=users, basket=baskets, by_ms=st.sampled_from([1, 300_000, 899_999]))
    def a_hold_is_extended_later(self, user: str, basket: list[tuple[str, int]], by_ms: int) -> None:
        self.reserve(user, basket, 900)
        self._move(by_ms)
        self._compare()
        self.extend(0, False, 900)

    @rule(
        user=users,
        sku=known_skus,
        limit=st.integers(1, 3),
        end=st.sampled_from(["", "end", "pay", "call off"]),
    )
    def a_limit_is_used_up(self, user: str, sku: str, limit: int, end: str) -> None:
        self._configure(sku, None, {"limit": limit})
        self.reserve(user, [(sku, limit)], 60)
        self._compare()
        if end == "end":
            self._move(60_000)
        elif end:
            self.commit(0, "p1")
        if end == "call off":
            self._compare()
            self.ops_cancel(0, [])
        self.reserve(user, [(sku, 1)], 60)

    @rule(
        pick=picks, sku=known_skus, units=st.integers(1, 3), more=st.integers(-1, 1), told=st.booleans(), taken=mostly
    )
    def a_replaced_checkout_is_paid(self, pick: int, sku: str, units: int, more: int, told: bool, taken: bool) -> None:
        first = len(self.ids)
        for wanted in (units, max(units + more, 1)):
            self.put_a_line(pick, True, "", sku, wanted)
            self.check_out(pick, True, "ann", 900)
            self._compare()
        if len(self.ids) < first + 2:
            return
        if taken and self.model.shelves[sku].available:
            self.ops_adjust(sku, -self.model.shelves[sku].available)
        if told:
            self.the_provider_tells(1, "p1", PaymentEvent.SUCCEEDED)
        else:
            self.commit(1, "p1")

    @rule(pick=picks, by_ms=st.sampled_from([0, 1, 300_000]), sku=known_skus, units=st.integers(1, 3))
    def a_cart_is_bought_and_filled_again(self, pick: int, by_ms: int, sku: str, units: int) -> None:
        self.put_a_line(pick, True, "", sku, units)
        before = len(self.ids)
        self.check_out(pick, True, "ann", 900)
        self._move(by_ms)
        self._compare()
        self.check_out(pick, True, "ann", 900)
        if len(self.ids) > before:
            self.commit(0, "p1")
            self.put_a_line(pick, True, "", sku, units)
            self._compare()
            self.commit(0, "p1")

    @rule(sku=known_skus, start_ms=st.sampled_from([None, -1, 0, 1, 2]), length_ms=st.integers(-1, 2))
    def a_sale_has_its_time(self, sku: str, start_ms: int | None, length_ms: int) -> None:
        window: dict[str, int | None] = {"starts_ms": None, "ends_ms": None}
        if start_ms is not None:
            window["starts_ms"] = self.model.now_ms + start_ms
            window["ends_ms"] = self.model.now_ms + start_ms + length_ms
        self._configure(sku, None, window)
        self.reserve("ann", [(sku, 1)], 60)
        self._move(1)
        self._compare()
        self.reserve("ann", [(sku, 1)], 60)
        self._configure(sku, None, {"starts_ms": None, "ends_ms": None})

    # Idempotency

    @rule(pick=picks)
    def repeat_a_call(self, pick: int) -> None:
        if self.answered:
            # A repeat shows a reservation as it is now, and ends it if it is due.
            self._sweep()
            earlier = self.answered[-1 - pick % len(self.answered)]
            before = self.redis.hget(self.keys.meta, "seq")
            assert earlier.call("1") == earlier.answer()
            assert self.redis.hget(self.keys.meta, "seq") == before

    @rule(pick=picks)
    def use_a_key_again_for_another_call(self, pick: int) -> None:
        if self.answered and (earlier := self.answered[-1 - pick % len(self.answered)]).kept:
            assert _refusal(lambda: earlier.call("2")).code == "idempotency_key_reused"

    # What must be equal

    @invariant()
    def everything_agrees(self) -> None:
        Shopping.checks += 1
        self._compare()

    def _compare(self) -> None:
        pipe = self.redis.pipeline(transaction=False)
        pipe.hgetall(self.keys.meta)
        pipe.zrange(self.keys.deadlines, 0, -1, withscores=True)
        for sku in SKUS:
            pipe.hgetall(self.keys.sku(sku))
            pipe.hgetall(self.keys.buyers(sku))
        for reservation_id in self.ids:
            pipe.hgetall(self.keys.reservation(reservation_id))
        for cart_id in self.cart_ids:
            pipe.hgetall(self.keys.cart(cart_id))
        meta, deadlines, *hashes = pipe.execute()
        stock, records, carts = hashes[:8], hashes[8 : 8 + len(self.ids)], hashes[8 + len(self.ids) :]
        counters = {sku: _counters(fields) for sku, fields in zip(SKUS, stock[::2], strict=True) if fields}
        buyers = {
            (sku, user): int(units)
            for sku, counted in zip(SKUS, stock[1::2], strict=True)
            for user, units in counted.items()
        }
        last = f"{self.ledger[-1].epoch}-{self.ledger[-1].seq}" if self.ledger else "-"
        self._follow_the_ledger(self.engine.store.events(last, 1_000), int(meta["seq"]))
        assert books.totals(self.record) == counters
        live = {name: int(r["deadline_ms"]) for name, r in zip(self.ids, records, strict=True) if _is_live(r)}
        assert {name: int(deadline_ms) for name, deadline_ms in deadlines} == live
        self._end_what_is_due(records, counters, buyers)
        assert counters == {
            sku: (shelf.available, shelf.reserved, shelf.allocated, shelf.on_hand)
            for sku, shelf in self.model.shelves.items()
        }
        assert all(min(counts) >= 0 for counts in counters.values())
        assert {at: units for at, units in buyers.items() if units} == +self.model.bought
        for record, hold in zip(records, self.model.holds, strict=True):
            assert _plain(record) == _expected(hold)
        for fields, cart in zip(carts, self.model.carts, strict=True):
            wanted = {shown(name[4:]): int(units) for name, units in fields.items() if name.startswith("sku:")}
            kept = cart.kept and not cart.gone
            assert (wanted, fields.get("user", "")) == ((cart.wanted, cart.user) if kept else ({}, ""))
            assert ("created_ms" in fields, "deleted" in fields) == (kept, cart.gone)

    def teardown(self) -> None:
        books.assert_right(self.engine)
        self._compare_with_the_fold()

    def _compare_with_the_fold(self) -> None:
        """What a restore would write is what Redis has, to the letter: whoever has an answer keeps it."""
        fold = Fold()
        fold.apply_all(books.events(self.engine.store))
        assert fold.records == self._hashes("rsv")
        assert fold.skus == {
            shown(sku): _without(fields, "next_release_ms") for sku, fields in self._hashes("sku").items()
        }
        buyers = {shown(sku): users for sku, users in self._hashes("buyers").items()}
        assert {sku: users for sku, users in fold.buyers.items() if users} == buyers
        assert {payment: name for payment, (name, _) in fold.payments.items()} == self._texts("payment")
        assert fold.checkouts == self._texts("checkout")
        meta = self.engine.store.meta()
        assert fold.selling == {name: meta[name] for name in LEVERS if name in meta}
        assert fold.clock_ms <= int(meta["clock_ms"])
        # What the API remembers of requests that leave no event has no answer in it.
        kept = {name: text for name, text in self._texts("op").items() if not text.endswith(" []")}
        assert {name: _parsed(answer.text) for name, answer in fold.answers.items()} == {
            name: _parsed(text) for name, text in kept.items()
        }
        Shopping.seen.update(f"answer of {_parsed(text)[1]}" for text in kept.values())
        live = {name for name, record in fold.records.items() if record["state"] == State.RESERVED}
        assert live.isdisjoint(fold.ended_ms)
        assert {name for name, record in fold.records.items() if record["state"] in ENDED} == fold.ended_ms.keys()

    def _hashes(self, kind: str) -> dict[str, dict[str, str]]:
        """Hashes of a kind, by name."""
        prefix = f"{self.keys.prefix}{kind}:"
        return {key.removeprefix(prefix): self.redis.hgetall(key) for key in self.redis.keys(f"{prefix}*")}

    def _texts(self, kind: str) -> dict[str, str]:
        prefix = f"{self.keys.prefix}{kind}:"
        return {key.removeprefix(prefix): self.redis.get(key) for key in self.redis.keys(f"{prefix}*")}

    # Helpers

    def _follow_the_ledger(self, happened: list[Event], seq: int) -> None:
        self.ledger += happened
        Shopping.seen.update(f"{event.op} {event.detail}" if event.detail == "late" else event.op for event in happened)
        Shopping.seen.update(
            f"{event.op} {event.reason}"
            for event in happened
            if event.op == "release" and event.reason in ("replaced", "paid")
        )
        assert books.judge(self.record, happened) == []
        assert len(self.ledger) == seq

    def _end_what_is_due(
        self, records: list[dict[str, str]], counters: dict[str, Counters], buyers: dict[tuple[str, str], int]
    ) -> None:
        """The engine ends holds when they are in the way or when it sweeps; until then they count as ended here."""
        for record in records:
            if not _is_live(record) or int(record["deadline_ms"]) > self.model.now_ms:
                continue
            record["state"] = "expired"
            for sku, units in _basket(record["lines"]).items():
                available, reserved, allocated, on_hand = counters[sku]
                counters[sku] = (available + units, reserved - units, allocated, on_hand)
                buyers[sku, record["user"]] -= units

    def _both(self, real: Callable[[], object], expected: Callable[[], object]) -> object:
        """Do the same here and there. Gives the answer, None for a refusal."""
        try:
            wanted = expected()
        except Refused as refused:
            self._same_refusal(_refusal(real), refused)
            return None
        found = _answer(real)
        assert found == wanted
        return found

    def _keyed(self, real: Callable[[str], object], expected: Callable[[], object], kept: bool = True) -> None:
        try:
            wanted = expected()
        except Refused as refused:
            self._same_refusal(_refusal(lambda: real("1")), refused)
            return
        found = _answer(lambda: real("1"))
        assert wanted is None or found == wanted
        self.answered.append(Answered(real, lambda: found, kept))

    def _reserved(self, real: Callable[[str], Reservation], expected: Callable[[], int]) -> None:
        def call(fingerprint: str) -> tuple[object, ...]:
            held = real(fingerprint)
            return held.id, held.state, held.user, held.lines, held.created_ms, held.deadline_ms

        try:
            number = expected()
        except Refused as refused:
            self._same_refusal(_refusal(lambda: call("1")), refused)
            return
        found: Any = _answer(lambda: call("1"))
        self.ids.append(found[0])
        assert len(self.ids) == number + 1
        hold = self.model.holds[number]
        assert found[1:3] == ("reserved", hold.user)
        assert {line.sku: line.quantity for line in found[3]} == hold.basket
        assert found[4:] == (hold.created_ms, hold.deadline_ms)
        self.answered.append(
            Answered(call, lambda: (found[0], hold.state, *found[2:4], hold.created_ms, hold.deadline_ms), True)
        )

    def _same_refusal(self, error: EngineError, refused: Refused) -> None:
        assert error.code == refused.code
        Shopping.seen[error.code] += 1
        if isinstance(error, LinesUnavailable):
            Shopping.seen.update(line.verdict for line in error.lines)
            Shopping.seen["standing"] += error.standing != ""
            verdicts, standing = refused.said
            assert isinstance(verdicts, list)
            assert error.standing == ("" if standing is None else self.ids[standing])  # type: ignore[call-overload]
            for line, wanted in zip(error.lines, verdicts, strict=True):
                assert (line.sku, line.requested, line.verdict) == (wanted.sku, wanted.requested, wanted.verdict)
                if not self._overdue(line.sku):
                    assert (line.available, line.max_reservable) == (wanted.available, wanted.most)
        if isinstance(error, RefundRequired):
            [lines] = refused.said
            assert [(line.sku, line.requested, line.verdict) for line in error.lines] == [
                (sku, requested, verdict) for sku, requested, _, verdict in lines
            ]
            for line, (_, _, available, _) in zip(error.lines, lines, strict=True):
                assert line.available == available or self._was_overdue(line.sku, line.available, available)

    def _overdue(self, sku: str) -> bool:
        """Whether a hold of the SKU is due that wasn't in the way of the last call, and so is still there."""
        due = self.redis.zrange(self.keys.deadlines, "-inf", self.model.now_ms, byscore=True)
        return any(sku in _basket(self.redis.hget(self.keys.reservation(name), "lines")) for name in due)

    def _configure(
        self, sku: str, on_hand: int | None, changes: dict[str, int | None], lever: Lever = Lever.NONE
    ) -> None:
        names = {"limit": "limit_per_customer", "starts_ms": "sale_starts_ms", "ends_ms": "sale_ends_ms"}
        attributes = {names.get(name, name): "" if to is None else str(to) for name, to in changes.items()}
        configure = partial(self.engine.stock.configure, sku, on_hand, attributes, OPS, NO_KEY, "a recount")
        would = _tried(partial(configure, Lever.DRY_RUN))
        self._compare()

        def really() -> bool:
            found: Any = _tried(partial(configure, lever))
            assert (type(found), str(found)) == (type(would), str(would))
            if isinstance(found, EngineError):
                raise found
            return bool(found[1])

        self._both(really, lambda: self.model.configure(sku, on_hand, changes))

    def _move(self, by_ms: int) -> None:
        self.model.move_time(by_ms)
        self.redis.hset(self.keys.meta, "clock_ms", self.model.now_ms)

    def _sweep(self) -> None:
        swept = self.engine.expiry.sweep(KEEPER)
        assert (swept.stuck, swept.more) == (0, False)

    def _key(self) -> str:
        self.fingerprints += 1
        return f"key-{self.fingerprints}"

    def _user(self, number: int, thief: bool) -> str:
        return "mallory" if thief else self.model.holds[number].user

    def _pick(self, pick: int) -> int | None:
        """One of the latest reservations."""
        if not self.ids:
            assert isinstance(_refusal(lambda: self.engine.reservations.get("r9", None)), NotFound)
            return None
        return len(self.ids) - 1 - pick % len(self.ids)

    def _pick_cart(self, pick: int) -> int | None:
        """One of the latest three carts."""
        if not self.cart_ids:
            assert isinstance(_refusal(lambda: self.engine.carts.get("c9", OPS)), NotFound)
            return None
        return len(self.cart_ids) - 1 - pick % min(len(self.cart_ids), 3)

    def _put_and_show(self, cart: int, user: str, sku: str, units: int) -> dict[str, tuple[int, int, str, bool]]:
        self.model.put_line(cart, user, sku, units)
        return self.model.show(cart, user)

    def _set_and_show(self, cart: int, user: str, lines: dict[str, int]) -> dict[str, tuple[int, int, str, bool]]:
        self.model.set_lines(cart, user, lines)
        return self.model.show(cart, user)

    def _shown(self, cart: Any) -> dict[str, tuple[int, int, str, bool]]:
        return {line.sku: (line.quantity, line.available, line.status, line.fulfillable) for line in cart.lines}


def _ms(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1_000


def _buyer(user: str) -> Origin:
    return Origin(user or "guest", user=user)


def _answer(call: Callable[[], object]) -> object:
    try:
        return call()
    except EngineError as error:
        raise AssertionError(f"the engine refuses: {error.code} {error}") from error


def _tried(call: Callable[[], object]) -> object:
    """Its answer, or its refusal."""
    try:
        return call()
    except EngineError as error:
        return error


def _refusal(call: Callable[[], object]) -> EngineError:
    try:
        answer = call()
    except EngineError as error:
        return error
    raise AssertionError(f"the engine doesn't refuse, but answers {answer}")


def _judged(refusal: LinesUnavailable | Refused) -> list[tuple[object, ...]]:
    """Each line with what was said of it."""
    if isinstance(refusal, LinesUnavailable):
        return [(line.sku, line.verdict, line.available, line.max_reservable) for line in refusal.lines]
    verdicts: list[model.Verdict] = refusal.said[0]  # type: ignore[assignment]
    return [(line.sku, line.verdict, line.available, line.most) for line in verdicts]


def _payment_of(number: int, payment: str) -> str:
    return payment if payment == "shared" else f"{payment} of {number}"


def _changed(order: Order) -> tuple[str, dict[str, int], dict[str, int]]:
    fulfilled, cancelled = order.fulfilled_lines, order.cancelled_lines
    return order.reservation_state, *({line.sku: line.quantity for line in lines} for lines in (fulfilled, cancelled))


def _without(fields: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in fields.items() if key != name}


def _parsed(kept: str) -> tuple[str, str, object]:
    """A kept answer: its fingerprint, its status and the rest, with a SKU's fields in any order."""
    fingerprint, _, text = kept.partition(" ")
    status, *words = json.loads(text)
    if status in ("adjusted", "created", "changed"):
        return fingerprint, status, _without(dict(zip(words[::2], words[1::2], strict=True)), "next_release_ms")
    return fingerprint, status, words


def _copied(hold: model.Hold) -> tuple[str, dict[str, int], dict[str, int]]:
    return hold.state, dict(hold.fulfilled), dict(hold.cancelled)


def _basket(lines: str) -> dict[str, int]:
    return {line.sku: line.quantity for line in unpacked(lines)}


def _counters(fields: dict[str, str]) -> Counters:
    return int(fields["available"]), int(fields["reserved"]), int(fields["allocated"]), int(fields["on_hand"])


def _is_live(record: dict[str, str]) -> bool:
    return record["state"] == State.RESERVED


def _plain(record: dict[str, str]) -> tuple[object, ...]:
    return (
        record["state"],
        record["user"],
        _basket(record["lines"]),
        int(record["created_ms"]),
        int(record["deadline_ms"]),
        record.get("payment_id", ""),
        record.get("late") == "1",
        _basket(record.get("cancelled", "")),
        _basket(record.get("fulfilled", "")),
        record.get("attempt", ""),
        {name.removeprefix("attempt:") for name in record if name.startswith("attempt:")},
        {name.removeprefix("refund:") for name in record if name.startswith("refund:")},
    )


def _expected(hold: model.Hold) -> tuple[object, ...]:
    return (
        hold.state,
        hold.user,
        hold.basket,
        hold.created_ms,
        hold.deadline_ms,
        hold.payment,
        hold.late,
        dict(hold.cancelled),
        dict(hold.fulfilled),
        hold.attempts[-1] if hold.attempts else "",
        set(hold.attempts),
        set(hold.refunds),
    )


def profile(steps: int, phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink), **more: Any) -> settings:
    return settings(
        phases=phases,
        max_examples=steps * 5 // 4 // STEPS_IN_A_RUN,  # some runs are shorter
        stateful_step_count=STEPS_IN_A_RUN,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )


@pytest.mark.timeout(0)
def test_the_engine_does_what_the_model_does_in_thousands_of_steps() -> None:
    asked = int(os.environ.get("STOCKADE_TEST_STEPS", "0"))
    Shopping.runs = Shopping.checks = 0
    Shopping.seen.clear()
    run_state_machine_as_test(Shopping, settings=profile(asked or STEPS, derandomize=not asked))
    steps = Shopping.checks - Shopping.runs
    print(f"{steps} steps in {Shopping.runs} runs: {Shopping.seen}")
    assert steps >= (asked or STEPS)
    # Hypothesis also draws constants out of every module of ours that is loaded, so what the same steps reach changes with those.
    rounds = 0 if steps < STEPS else MAX_MORE_ROUNDS
    while rounds and REACHED - Shopping.seen.keys():
        # In CI Hypothesis would make the same steps again.
        run_state_machine_as_test(Shopping, settings=profile(STEPS, derandomize=False))
        rounds -= 1
    assert steps < STEPS or REACHED - Shopping.seen.keys() == set()
