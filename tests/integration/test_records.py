"""Reservations that Redis has let go: 24 h after their end only Postgres has them."""

from __future__ import annotations

import pytest

from engine.errors import (
    AlreadyCommitted,
    InvalidTransition,
    NotFound,
    PaymentAlreadyUsed,
    RefundRequired,
    StoreUnavailable,
)
from engine.recovery import Recovered
from engine.states import State
from tests.integration.shops import NO_KEY, OPS, SHOP, Shop, buyer, one_kind

pytestmark = one_kind


def let_go(shop: Shop, reservation_id: str) -> None:
    """Carry everything over, and forget the record as Redis does a day after its end."""
    shop.writer.drain()
    shop.recovery.projection.advance()
    assert shop.redis.delete(shop.engine.store.keys.reservation(reservation_id)) == 1


@pytest.fixture
def released(shop: Shop) -> str:
    shop.stock("a", 3)
    reservation_id = shop.hold(units=2)
    shop.engine.reservations.release(reservation_id, buyer("ann"))
    let_go(shop, reservation_id)
    return reservation_id


def test_it_can_still_be_read_by_its_buyer_only(shop: Shop, released: str) -> None:
    assert shop.engine.reservations.get(released, "ann").state is State.RELEASED
    with pytest.raises(NotFound):
        shop.engine.reservations.get(released, "bob")


def test_abandoning_it_again_gives_its_state(shop: Shop, released: str) -> None:
    assert shop.engine.reservations.release(released, buyer("ann")).state is State.RELEASED


def test_a_payment_that_comes_so_late_takes_the_stock_again(shop: Shop, released: str) -> None:
    order = shop.pay(released)
    assert (order.late, order.user) == (True, "ann")
    assert shop.pay(released).committed_ms == order.committed_ms
    assert [op for (op,) in shop.query("SELECT op FROM ledger ORDER BY seq")][-2:] == ["release", "commit"]
    assert shop.problems() == ()


def test_a_payment_that_comes_so_late_must_be_given_back_if_the_stock_is_gone(shop: Shop, released: str) -> None:
    shop.hold("bob", units=2)
    with pytest.raises(RefundRequired):
        shop.pay(released)
    with pytest.raises(RefundRequired):
        shop.pay(released)
    assert shop.problems() == ()


def test_an_order_that_was_shipped_can_still_be_read_and_not_be_cancelled(shop: Shop) -> None:
    shop.stock("a", 3)
    reservation_id = shop.hold(units=2)
    shop.pay(reservation_id)
    shop.engine.orders.fulfil(reservation_id, OPS, [], NO_KEY)
    let_go(shop, reservation_id)
    assert shop.engine.orders.get(reservation_id, "ann").state == "fulfilled"
    assert shop.engine.orders.fulfil(reservation_id, OPS, [], NO_KEY).state == "fulfilled"
    with pytest.raises(InvalidTransition):
        shop.engine.orders.cancel(reservation_id, OPS, "", [], NO_KEY)
    with pytest.raises(AlreadyCommitted):
        shop.engine.reservations.commit(reservation_id, SHOP, "p2", NO_KEY)


def test_what_nobody_ever_had_is_not_found(shop: Shop) -> None:
    shop.stock("a", 3)
    with pytest.raises(NotFound):
        shop.engine.reservations.get("0" * 22, None)
    with pytest.raises(NotFound):
        shop.pay("0" * 22)


@pytest.mark.parametrize("refused", [False, True], ids=["paid", "refused"])
@pytest.mark.parametrize("lost", ["forgotten", "made anew"])
def test_a_payment_id_stays_used_when_redis_is_made_anew_or_has_forgotten_it(
    shop: Shop, lost: str, refused: bool
) -> None:
    shop.stock("a", 3)
    first = shop.hold(units=2)
    if refused:
        shop.engine.reservations.release(first, buyer("ann"))
        shop.hold("bob", units=2)
        with pytest.raises(RefundRequired):
            shop.pay(first, "p1")
    else:
        shop.pay(first, "p1")
    shop.writer.drain()
    shop.recovery.projection.advance()
    if lost == "made anew":
        shop.redis.flushall()
        assert isinstance(shop.recovery.recover(), Recovered)
        assert shop.redis.get(shop.engine.store.keys.payment("p1")) == first
    else:
        assert shop.redis.delete(shop.engine.store.keys.payment("p1")) == 1
    second = shop.hold("eve")
    with pytest.raises(PaymentAlreadyUsed):
        shop.pay(second, "p1")
    assert shop.pay(second, "p2").late is False
    assert shop.problems() == ()


def test_a_payment_is_decided_by_redis_while_postgres_cannot_say_whether_it_was_used(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock("a", 3)
    held = shop.hold()

    def silent(payment_id: str) -> str | None:
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(shop.engine.reservations._records, "paid_with", silent)
    assert shop.pay(held, "p1").late is False
