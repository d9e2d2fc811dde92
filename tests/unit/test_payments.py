"""Every situation in which a payment may arrive. docs/payments.md is the table of them, and names these tests."""

from __future__ import annotations

from itertools import permutations

import pytest

from engine.engine import Engine
from engine.errors import AlreadyCommitted, EngineError, NotFound, RefundRequired
from engine.payments import Outcome, PaymentEvent
from engine.states import State
from engine.values import MissingLine, Operation, Origin, Reservation
from tests import books
from tests.books import lines, run_out

OPS, SHOP, PROVIDER = Origin("ops"), Origin("shop"), Origin("webhook")
ANN, BOB = Origin("ann", user="ann"), Origin("bob", user="bob")
NO_KEY = Operation()
SUCCEEDED, FAILED, CANCELED = PaymentEvent.SUCCEEDED, PaymentEvent.FAILED, PaymentEvent.CANCELED


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


def tell(engine: Engine, held: Reservation, event: str = SUCCEEDED, payment_id: str = "p1") -> Outcome:
    return engine.payments.take(event, held.id, payment_id, PROVIDER)


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
    assert tell(engine, other) is Outcome.COMMITTED
    assert happened(engine, held) == happened(engine, other) == ["reserve", "commit p1"]


def test_commit_and_webhook_of_one_payment_make_one_order_in_either_order(engine: Engine, held: Reservation) -> None:
    assert commit(engine, held) == "on time"
    assert tell(engine, held) is Outcome.COMMITTED
    assert happened(engine, held) == ["reserve", "commit p1"]
    other = engine.reservations.reserve(BOB, lines("a=1"), 900)
    assert tell(engine, other) is Outcome.COMMITTED
    assert commit(engine, other) == "on time"
    assert happened(engine, other) == ["reserve", "commit p1"]


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
    assert tell(engine, other) is Outcome.COMMITTED
    assert commit(engine, held) == "late"
    assert happened(engine, held) == happened(engine, other) == ["reserve", "expire", "commit p1"]


def test_a_payment_after_expiry_with_stock_left_is_late(engine: Engine, held: Reservation) -> None:
    other = engine.reservations.reserve(ANN, lines("a=2"), 900)
    expire(engine, held)
    expire(engine, other)
    assert commit(engine, held) == "late"
    assert tell(engine, other) is Outcome.COMMITTED
    assert happened(engine, held) == happened(engine, other) == ["reserve", "expire", "commit p1"]


def test_a_payment_after_expiry_without_stock_must_be_refunded(engine: Engine, held: Reservation) -> None:
    expire(engine, held)
    take_the_stock(engine)
    with pytest.raises(RefundRequired) as refused:
        engine.reservations.commit(held.id, SHOP, "p1", NO_KEY)
    assert refused.value.lines == (MissingLine("a", 2, 1),)
    assert tell(engine, held) is Outcome.REFUND_REQUIRED
    assert tell(engine, held, payment_id="p2") is Outcome.REFUND_REQUIRED
    assert commit(engine, held, "p2") == "refund_required"
    assert happened(engine, held) == ["reserve", "expire", "refund_required p1", "refund_required p2"]


def test_a_payment_after_release_with_stock_left_is_late(engine: Engine, held: Reservation) -> None:
    other = engine.reservations.reserve(ANN, lines("a=2"), 900)
    release(engine, held)
    release(engine, other)
    assert commit(engine, held) == "late"
    assert tell(engine, other) is Outcome.COMMITTED
    assert happened(engine, held) == happened(engine, other) == ["reserve", "release", "commit p1"]


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
    for reservation in (held, shipped):
        assert commit(engine, reservation) == "on time"
    engine.orders.cancel(held.id, OPS, "", [], NO_KEY)
    engine.orders.fulfil(shipped.id, OPS, NO_KEY)
    for reservation in (held, shipped):
        assert commit(engine, reservation) == "on time"
        assert tell(engine, reservation) is Outcome.COMMITTED
        assert tell(engine, reservation, CANCELED) is Outcome.IGNORED
        assert tell(engine, reservation, payment_id="p2") is Outcome.REFUND_REQUIRED
    assert happened(engine, held) == ["reserve", "commit p1", "cancel p1", "refund_required p2"]
    assert happened(engine, shipped) == ["reserve", "commit p1", "fulfil p1", "refund_required p2"]


def test_a_failed_payment_is_noted_and_the_hold_stays(engine: Engine, held: Reservation) -> None:
    before = books.dump(engine.store.redis)
    assert [tell(engine, held, FAILED) for _ in range(2)] == [Outcome.NOTED] * 2
    assert books.dump(engine.store.redis) == before
    assert tell(engine, held) is Outcome.COMMITTED
    assert tell(engine, held, FAILED) is Outcome.NOTED
    assert happened(engine, held) == ["reserve", "commit p1"]


def test_a_failed_payment_of_a_dead_hold_is_noted(engine: Engine, held: Reservation) -> None:
    expire(engine, held)
    assert tell(engine, held, FAILED) is Outcome.NOTED
    assert happened(engine, held) == ["reserve", "expire"]


def test_a_canceled_payment_releases_the_hold_once(engine: Engine, held: Reservation) -> None:
    assert [tell(engine, held, CANCELED) for _ in range(2)] == [Outcome.RELEASED] * 2
    assert engine.reservations.get(held.id, "ann").state is State.RELEASED
    assert happened(engine, held) == ["reserve", "release"]
    [event] = [event for event in books.events(engine.store) if event.op == "release"]
    assert (event.actor, event.user, event.reason) == ("webhook", "ann", "payment canceled")


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
    assert happened(engine, held) == ["reserve", "release", "commit p1"]


@pytest.mark.parametrize("order", list(permutations([SUCCEEDED, FAILED, CANCELED])), ids="-".join)
def test_whatever_the_order_of_the_provider_s_events_a_success_is_an_order(
    engine: Engine, held: Reservation, order: tuple[PaymentEvent, ...]
) -> None:
    for event in order * 2:
        tell(engine, held, event)
    assert engine.orders.get(held.id, "ann").state == "allocated"
    assert books.counters(engine.store, "a") == (3, 0, 2, 5)
    assert happened(engine, held)[-1] == "commit p1"
    assert happened(engine, held).count("commit p1") == 1


def test_two_payments_that_are_both_late_make_one_order_and_one_refund(engine: Engine, held: Reservation) -> None:
    expire(engine, held)
    assert tell(engine, held, payment_id="p2") is Outcome.COMMITTED
    assert tell(engine, held, payment_id="p1") is Outcome.REFUND_REQUIRED
    assert commit(engine, held, "p2") == "late"
    assert happened(engine, held) == ["reserve", "expire", "commit p2", "refund_required p1"]


def test_a_payment_of_a_replaced_checkout_is_a_payment_after_release(engine: Engine) -> None:
    cart_id = engine.carts.create(ANN).id
    engine.carts.put_line(cart_id, ANN, lines("a=2")[0])
    first = engine.carts.checkout(cart_id, ANN, 900)
    second = engine.carts.checkout(cart_id, ANN, 900)
    assert tell(engine, first) is Outcome.COMMITTED
    assert books.counters(engine.store, "a") == (1, 2, 2, 5)
    assert happened(engine, first) == ["reserve", "release", "commit p1"]
    assert happened(engine, second) == ["reserve"]


@pytest.mark.parametrize("event", [SUCCEEDED, FAILED, CANCELED])
def test_a_payment_of_an_unknown_reservation_is_not_found(engine: Engine, event: PaymentEvent) -> None:
    before = books.dump(engine.store.redis)
    with pytest.raises(NotFound):
        engine.payments.take(event, "r9", "p1", PROVIDER)
    with pytest.raises(NotFound):
        engine.reservations.commit("r9", SHOP, "p1", NO_KEY)
    assert books.dump(engine.store.redis) == before


def test_an_event_of_another_type_is_ignored(engine: Engine, held: Reservation) -> None:
    before = books.dump(engine.store.redis)
    assert tell(engine, held, "payment.created") is Outcome.IGNORED
    assert engine.payments.take("payment.created", "r9", "p1", PROVIDER) is Outcome.IGNORED
    assert books.dump(engine.store.redis) == before
