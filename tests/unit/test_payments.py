"""Every situation in which a payment may arrive. docs/payments.md is the table of them, and names these tests."""

from __future__ import annotations

from itertools import permutations

import pytest

from engine.engine import Engine
from engine.errors import AlreadyCommitted, EngineError, NotFound, PaymentAlreadyUsed, RefundRequired
from engine.payments import Outcome, PaymentEvent
from engine.states import State, Verdict
from engine.values import MissingLine, Operation, Origin, Reservation
from tests import books
from tests.books import lines, run_out

OPS, SHOP, PROVIDER = Origin("ops"), Origin("shop"), Origin("webhook")
ANN, BOB = Origin("ann", user="ann"), Origin("bob", user="bob")
NO_KEY = Operation()
SUCCEEDED, PROCESSING, FAILED = PaymentEvent.SUCCEEDED, PaymentEvent.PROCESSING, PaymentEvent.FAILED
CANCELED, CANCELLED = PaymentEvent.CANCELED, PaymentEvent.CANCELLED


@pytest.fixture
def engine(fake_engine: Engine) -> Engine:
    fake_engine.stock.configure("a", 5, {}, OPS, NO_KEY)
    return fake_engine


@pytest.fixture
def held(engine: Engine) -> Reservation:
    return engine.reservations.reserve(ANN, lines("a=2"), 900)


def commit(engine: Engine, held: Reservation, payment_id: str = "p1") -> str:
    """What POST commit answers, as a word."""
    try:
        order = engine.reservations.commit(held.id, SHOP, payment_id, NO_KEY)
    except EngineError as error:
        return error.code
    return "late" if order.late else "on time"


def tell(
    engine: Engine, held: Reservation, event: PaymentEvent = SUCCEEDED, payment_id: str = "p1", event_id: str = "e1"
) -> Outcome:
    return engine.payments.take(event, event_id, held.id, payment_id, PROVIDER)


def release(engine: Engine, held: Reservation) -> None:
    engine.reservations.release(held.id, ANN)


def expire(engine: Engine, held: Reservation) -> None:
    run_out(engine.store, held.id)
    engine.expiry.sweep(OPS)


def take_the_stock(engine: Engine) -> Reservation:
    return engine.reservations.reserve(BOB, lines("a=4"), 900)


def happened(engine: Engine, held: Reservation) -> list[str]:
    """The events of the reservation, those of payments with their payment id; and the books are right."""
    books.assert_right(engine)
    events = [event for event in books.events(engine.store) if event.reservation_id == held.id]
    return [f"{event.op} {event.payment_id}".strip() for event in events]


def test_a_payment_on_time_commits_by_either_way(engine: Engine, held: Reservation) -> None:
    other = engine.reservations.reserve(BOB, lines("a=1"), 900)
    assert commit(engine, held) == "on time"
    assert tell(engine, other, payment_id="p2") is Outcome.COMMITTED
    assert happened(engine, held) == ["reserve", "commit p1"]
    assert happened(engine, other) == ["reserve", "commit p2"]


def test_commit_and_webhook_of_one_payment_make_one_order_in_either_order(engine: Engine, held: Reservation) -> None:
    assert commit(engine, held) == "on time"
    assert tell(engine, held) is Outcome.COMMITTED
    assert happened(engine, held) == ["reserve", "commit p1"]
    other = engine.reservations.reserve(BOB, lines("a=1"), 900)
    assert tell(engine, other, payment_id="p2") is Outcome.COMMITTED
    assert commit(engine, other, "p2") == "on time"
    assert happened(engine, other) == ["reserve", "commit p2"]


def test_a_payment_told_twice_has_the_same_answer_twice(engine: Engine, held: Reservation) -> None:
    assert [tell(engine, held) for _ in range(3)] == [Outcome.COMMITTED] * 3
    assert [commit(engine, held) for _ in range(3)] == ["on time"] * 3
    assert happened(engine, held) == ["reserve", "commit p1"]


def test_a_payment_at_or_after_the_deadline_is_late_and_takes_the_stock_again(
    engine: Engine, held: Reservation
) -> None:
    other = engine.reservations.reserve(ANN, lines("a=2"), 900)
    run_out(engine.store, held.id)
    run_out(engine.store, other.id)
    assert commit(engine, held) == "late"
    assert tell(engine, other, payment_id="p2") is Outcome.COMMITTED
    assert commit(engine, held) == "late"
    assert happened(engine, held) == ["reserve", "expire", "commit p1"]
    assert happened(engine, other) == ["reserve", "expire", "commit p2"]


def test_a_payment_after_expiry_with_stock_left_is_late(engine: Engine, held: Reservation) -> None:
    other = engine.reservations.reserve(ANN, lines("a=2"), 900)
    expire(engine, held)
    expire(engine, other)
    assert commit(engine, held) == "late"
    assert tell(engine, other, payment_id="p2") is Outcome.COMMITTED
    assert happened(engine, held) == ["reserve", "expire", "commit p1"]
    assert happened(engine, other) == ["reserve", "expire", "commit p2"]


def test_a_payment_after_expiry_without_stock_must_be_refunded(engine: Engine, held: Reservation) -> None:
    expire(engine, held)
    take_the_stock(engine)
    with pytest.raises(RefundRequired) as refused:
        engine.reservations.commit(held.id, SHOP, "p1", NO_KEY)
    assert refused.value.lines == (MissingLine("a", 2, 1, Verdict.INSUFFICIENT),)
    assert tell(engine, held) is Outcome.REFUND_REQUIRED
    assert tell(engine, held, payment_id="p2") is Outcome.REFUND_REQUIRED
    assert commit(engine, held, "p2") == "refund_required"
    assert happened(engine, held) == ["reserve", "expire", "refund_required p1", "refund_required p2"]


def test_a_payment_after_release_with_stock_left_is_late(engine: Engine, held: Reservation) -> None:
    other = engine.reservations.reserve(ANN, lines("a=2"), 900)
    release(engine, held)
    release(engine, other)
    assert commit(engine, held) == "late"
    assert tell(engine, other, payment_id="p2") is Outcome.COMMITTED
    assert happened(engine, held) == ["reserve", "release", "commit p1"]
    assert happened(engine, other) == ["reserve", "release", "commit p2"]


def test_a_payment_after_release_without_stock_must_be_refunded(engine: Engine, held: Reservation) -> None:
    release(engine, held)
    take_the_stock(engine)
    assert tell(engine, held) is Outcome.REFUND_REQUIRED
    assert commit(engine, held) == "refund_required"
    assert happened(engine, held) == ["reserve", "release", "refund_required p1"]


def test_a_refund_is_final_for_its_payment_but_not_for_another_one(engine: Engine, held: Reservation) -> None:
    expire(engine, held)
    other = take_the_stock(engine)
    assert commit(engine, held) == "refund_required"
    engine.reservations.release(other.id, BOB)
    assert commit(engine, held) == "refund_required"
    assert tell(engine, held) is Outcome.REFUND_REQUIRED
    assert commit(engine, held, "p2") == "late"
    assert tell(engine, held) is Outcome.REFUND_REQUIRED
    assert happened(engine, held) == ["reserve", "expire", "refund_required p1", "commit p2"]


def test_a_second_payment_told_by_the_webhook_must_be_refunded(engine: Engine, held: Reservation) -> None:
    assert tell(engine, held) is Outcome.COMMITTED
    assert [tell(engine, held, payment_id="p2") for _ in range(2)] == [Outcome.REFUND_REQUIRED] * 2
    assert tell(engine, held) is Outcome.COMMITTED
    with pytest.raises(RefundRequired) as refused:
        engine.reservations.commit(held.id, SHOP, "p2", NO_KEY)
    assert refused.value.lines == ()
    assert happened(engine, held) == ["reserve", "commit p1", "refund_required p2"]


def test_a_second_payment_by_commit_is_refused_and_the_webhook_puts_its_refund_on_record(
    engine: Engine, held: Reservation
) -> None:
    assert commit(engine, held) == "on time"
    with pytest.raises(AlreadyCommitted):
        engine.reservations.commit(held.id, SHOP, "p2", NO_KEY)
    assert happened(engine, held) == ["reserve", "commit p1"]
    assert tell(engine, held, payment_id="p2") is Outcome.REFUND_REQUIRED
    assert commit(engine, held, "p2") == "refund_required"
    assert happened(engine, held) == ["reserve", "commit p1", "refund_required p2"]


def test_a_payment_of_an_order_that_was_cancelled_or_shipped_keeps_its_answer(
    engine: Engine, held: Reservation
) -> None:
    shipped = engine.reservations.reserve(BOB, lines("a=1"), 900)
    paid_with = {held: "p1", shipped: "p2"}
    for reservation, payment_id in paid_with.items():
        assert commit(engine, reservation, payment_id) == "on time"
    engine.orders.cancel(held.id, OPS, "", [], NO_KEY)
    engine.orders.fulfil(shipped.id, OPS, [], NO_KEY)
    for reservation, payment_id in paid_with.items():
        assert commit(engine, reservation, payment_id) == "on time"
        assert tell(engine, reservation, payment_id=payment_id) is Outcome.COMMITTED
        assert tell(engine, reservation, CANCELED, payment_id) is Outcome.IGNORED
        assert tell(engine, reservation, payment_id=f"{payment_id} again") is Outcome.REFUND_REQUIRED
    assert happened(engine, held) == ["reserve", "commit p1", "cancel p1", "refund_required p1 again"]
    assert happened(engine, shipped) == ["reserve", "commit p2", "fulfil p2", "refund_required p2 again"]


@pytest.mark.parametrize("event", [FAILED, PROCESSING])
def test_an_attempt_that_failed_or_goes_on_is_noted_once_and_the_hold_stays(
    engine: Engine, held: Reservation, event: PaymentEvent
) -> None:
    assert tell(engine, held, event) is Outcome.NOTED
    before = books.dump(engine.store.redis)
    assert tell(engine, held, event) is Outcome.NOTED
    assert books.dump(engine.store.redis) == before
    assert engine.reservations.get(held.id, "ann").state is State.RESERVED
    assert tell(engine, held) is Outcome.COMMITTED
    assert tell(engine, held, event, event_id="e2") is Outcome.NOTED
    assert happened(engine, held) == ["reserve", "note p1", "commit p1", "note p1"]


def test_a_failed_payment_of_a_dead_hold_is_noted(engine: Engine, held: Reservation) -> None:
    expire(engine, held)
    assert tell(engine, held, FAILED) is Outcome.NOTED
    assert happened(engine, held) == ["reserve", "expire", "note p1"]


@pytest.mark.parametrize("told", [PROCESSING, FAILED])
def test_the_cancelling_of_an_attempt_is_ignored_where_another_one_was_noted_since(
    engine: Engine, held: Reservation, told: PaymentEvent
) -> None:
    assert tell(engine, held, PROCESSING, "p1") is Outcome.NOTED
    assert tell(engine, held, told, "p2", "e2") is Outcome.NOTED
    assert tell(engine, held, CANCELED, "p1") is Outcome.IGNORED
    # The provider repeats itself: an attempt that is told of again is not a new one.
    assert tell(engine, held, FAILED, "p1", "e3") is Outcome.NOTED
    assert tell(engine, held, CANCELED, "p1") is Outcome.IGNORED
    assert engine.reservations.get(held.id, "ann").state is State.RESERVED
    assert tell(engine, held, CANCELED, "p2") is Outcome.RELEASED
    assert happened(engine, held) == ["reserve", "note p1", "note p2", "note p1", "release p2"]


def test_a_canceled_payment_releases_the_hold_once(engine: Engine, held: Reservation) -> None:
    assert [tell(engine, held, CANCELED) for _ in range(2)] == [Outcome.RELEASED] * 2
    assert engine.reservations.get(held.id, "ann").state is State.RELEASED
    assert happened(engine, held) == ["reserve", "release p1"]
    [event] = [event for event in books.events(engine.store) if event.op == "release"]
    assert (event.actor, event.user, event.reason) == ("webhook", "ann", "payment cancelled")


def test_a_canceled_payment_of_an_expired_hold_changes_nothing(engine: Engine, held: Reservation) -> None:
    expire(engine, held)
    assert tell(engine, held, CANCELED) is Outcome.RELEASED
    assert happened(engine, held) == ["reserve", "expire"]


def test_a_canceled_payment_after_the_commit_is_ignored(engine: Engine, held: Reservation) -> None:
    assert tell(engine, held) is Outcome.COMMITTED
    assert tell(engine, held, CANCELED) is Outcome.IGNORED
    assert tell(engine, held, CANCELED, "p2") is Outcome.IGNORED
    assert happened(engine, held) == ["reserve", "commit p1"]


def test_a_success_that_overtakes_or_follows_its_cancellation_ends_in_an_order_if_there_is_stock(
    engine: Engine, held: Reservation
) -> None:
    assert tell(engine, held, CANCELED) is Outcome.RELEASED
    assert tell(engine, held) is Outcome.COMMITTED
    assert tell(engine, held, CANCELED) is Outcome.IGNORED
    assert commit(engine, held) == "late"
    assert happened(engine, held) == ["reserve", "release p1", "commit p1"]


def test_both_spellings_of_cancelled_are_known(engine: Engine, held: Reservation) -> None:
    assert [tell(engine, held, CANCELLED) for _ in range(2)] == [Outcome.RELEASED] * 2
    assert happened(engine, held) == ["reserve", "release p1"]


@pytest.mark.parametrize("order", list(permutations([SUCCEEDED, FAILED, CANCELED])), ids="-".join)
def test_whatever_the_order_of_the_provider_s_events_a_success_is_an_order(
    engine: Engine, held: Reservation, order: tuple[PaymentEvent, ...]
) -> None:
    for event in order * 2:
        tell(engine, held, event)
    assert engine.orders.get(held.id, "ann").state == "allocated"
    assert books.counters(engine.store, "a") == (3, 0, 2, 5)
    assert [event for event in happened(engine, held) if event != "note p1"][-1] == "commit p1"
    assert happened(engine, held).count("commit p1") == 1


def test_two_payments_that_are_both_late_make_one_order_and_one_refund(engine: Engine, held: Reservation) -> None:
    expire(engine, held)
    assert tell(engine, held, payment_id="p2") is Outcome.COMMITTED
    assert tell(engine, held, payment_id="p1") is Outcome.REFUND_REQUIRED
    assert commit(engine, held, "p2") == "late"
    assert happened(engine, held) == ["reserve", "expire", "commit p2", "refund_required p1"]


@pytest.fixture
def twice(engine: Engine) -> tuple[str, Reservation, Reservation]:
    """A cart that was checked out in two tabs: its id, the reservation that was replaced, and the one that lives."""
    cart_id = engine.carts.create(ANN).id
    engine.carts.put_line(cart_id, ANN, lines("a=2")[0])
    first = engine.carts.checkout(cart_id, ANN, 900)
    return cart_id, first, engine.carts.checkout(cart_id, ANN, 900)


def test_a_payment_of_a_replaced_checkout_takes_the_units_from_its_successor(
    engine: Engine, twice: tuple[str, Reservation, Reservation]
) -> None:
    cart_id, first, second = twice
    engine.stock.adjust("a", -3, OPS, "none is left but those in the cart", NO_KEY)
    assert commit(engine, first) == "late"
    assert tell(engine, first) is Outcome.COMMITTED
    assert books.counters(engine.store, "a") == (0, 0, 2, 2)
    assert engine.reservations.get(second.id, "ann").state is State.RELEASED
    assert engine.carts.get(cart_id, ANN).lines == ()
    assert happened(engine, first) == ["reserve", "release", "commit p1"]
    assert happened(engine, second) == ["reserve", "release"]
    assert tell(engine, second, payment_id="p2") is Outcome.REFUND_REQUIRED


def test_the_buyer_s_own_units_are_his_whatever_has_changed_since(
    engine: Engine, twice: tuple[str, Reservation, Reservation]
) -> None:
    engine.stock.configure("a", None, {"paused": "1", "limit_per_customer": "1"}, OPS, NO_KEY)
    engine.stock.set_selling(True, "fire", OPS)
    assert commit(engine, twice[1]) == "late"
    assert books.counters(engine.store, "a") == (3, 0, 2, 5)
    books.assert_right(engine)


def test_a_successor_with_fewer_units_stands_where_the_rest_cannot_be_had(
    engine: Engine, twice: tuple[str, Reservation, Reservation]
) -> None:
    cart_id, _, second = twice
    engine.carts.put_line(cart_id, ANN, lines("a=1")[0])
    third = engine.carts.checkout(cart_id, ANN, 900)
    take_the_stock(engine)
    assert commit(engine, second) == "refund_required"
    assert engine.reservations.get(third.id, "ann").state is State.RESERVED
    assert books.counters(engine.store, "a") == (0, 5, 0, 5)
    books.assert_right(engine)


def test_what_the_successor_has_beyond_the_payment_returns(
    engine: Engine, twice: tuple[str, Reservation, Reservation]
) -> None:
    engine.stock.configure("b", 3, {}, OPS, NO_KEY)
    cart_id, _, second = twice
    engine.carts.put_line(cart_id, ANN, lines("a=4")[0])
    engine.carts.put_line(cart_id, ANN, lines("b=3")[0])
    engine.carts.checkout(cart_id, ANN, 900)
    assert commit(engine, second) == "late"
    assert books.counters(engine.store, "a") == (3, 0, 2, 5)
    assert books.counters(engine.store, "b") == (3, 0, 0, 3)
    books.assert_right(engine)


FORBIDDEN = [
    ("paused", {"paused": "1"}, Verdict.PAUSED),
    ("not started", {"sale_starts_ms": "4000000000000"}, Verdict.NOT_STARTED),
    ("ended", {"sale_ends_ms": "1"}, Verdict.ENDED),
    ("limit", {"limit_per_customer": "1"}, Verdict.LIMIT_EXCEEDED),
]


@pytest.mark.parametrize(("attributes", "verdict"), [row[1:] for row in FORBIDDEN], ids=[row[0] for row in FORBIDDEN])
def test_a_late_payment_is_refused_for_what_forbids_a_reservation(
    engine: Engine, held: Reservation, attributes: dict[str, str], verdict: Verdict
) -> None:
    engine.stock.configure("b", 9, {}, OPS, NO_KEY)
    both = engine.reservations.reserve(ANN, lines("a=2 b=1"), 900)
    for reservation in (held, both):
        expire(engine, reservation)
    engine.stock.configure("a", None, attributes, OPS, NO_KEY)
    with pytest.raises(RefundRequired) as refused:
        engine.reservations.commit(both.id, SHOP, "p1", NO_KEY)
    assert refused.value.lines == (MissingLine("a", 2, 5, verdict), MissingLine("b", 1, 9, Verdict.OK))
    assert tell(engine, both) is Outcome.REFUND_REQUIRED
    assert tell(engine, held, payment_id="p2") is Outcome.REFUND_REQUIRED
    assert happened(engine, both) == ["reserve", "expire", "refund_required p1"]


def test_a_late_payment_is_refused_during_the_global_stop(engine: Engine, held: Reservation) -> None:
    expire(engine, held)
    engine.stock.set_selling(True, "recall", OPS)
    assert commit(engine, held) == "refund_required"
    engine.stock.set_selling(False, "over", OPS)
    assert commit(engine, held) == "refund_required"
    assert commit(engine, held, "p2") == "late"


def test_holds_that_ran_out_and_are_paid_late_are_limited_like_new_ones(engine: Engine) -> None:
    engine.stock.configure("a", None, {"limit_per_customer": "1"}, OPS, NO_KEY)
    ran_out = []
    for _ in range(5):
        ran_out.append(engine.reservations.reserve(ANN, lines("a=1"), 1))
        expire(engine, ran_out[-1])
    assert [commit(engine, one, f"p{number}") for number, one in enumerate(ran_out)] == ["late"] + [
        "refund_required"
    ] * 4
    assert books.counters(engine.store, "a") == (4, 0, 1, 5)


def test_a_payment_id_pays_for_one_reservation(engine: Engine, held: Reservation) -> None:
    other = engine.reservations.reserve(BOB, lines("a=1"), 900)
    assert commit(engine, held) == "on time"
    before = books.dump(engine.store.redis)
    with pytest.raises(PaymentAlreadyUsed):
        engine.reservations.commit(other.id, SHOP, "p1", NO_KEY)
    assert tell(engine, other) is Outcome.IGNORED
    assert books.dump(engine.store.redis) == before
    assert commit(engine, other, "p2") == "on time"
    assert happened(engine, other) == ["reserve", "commit p2"]


def test_a_payment_that_must_be_refunded_pays_for_nothing_else(engine: Engine, held: Reservation) -> None:
    expire(engine, held)
    other = take_the_stock(engine)
    assert commit(engine, held) == "refund_required"
    assert commit(engine, other) == "payment_already_used"
    second = engine.reservations.reserve(BOB, lines("a=1"), 900)
    assert commit(engine, second, "p2") == "on time"
    assert tell(engine, second, payment_id="p3") is Outcome.REFUND_REQUIRED
    assert commit(engine, other, "p3") == "payment_already_used"
    assert happened(engine, other) == ["reserve"]


@pytest.mark.parametrize("event", list(PaymentEvent))
def test_an_event_of_an_unknown_reservation_is_kept_once(engine: Engine, event: PaymentEvent) -> None:
    outcomes = [engine.payments.take(event, "e1", "r9", "p1", PROVIDER) for _ in range(2)]
    assert outcomes == [Outcome.UNKNOWN_RESERVATION] * 2
    [kept] = [one for one in books.events(engine.store) if one.op == "unknown_reservation"]
    assert (kept.reservation_id, kept.payment_id, kept.detail) == ("r9", "p1", event)
    with pytest.raises(NotFound):
        engine.reservations.commit("r9", SHOP, "p1", NO_KEY)
    books.assert_right(engine)
