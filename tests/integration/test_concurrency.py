from __future__ import annotations

import multiprocessing
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import pytest

from engine.engine import Engine, build
from engine.errors import EngineError, LinesUnavailable
from engine.payments import Outcome, PaymentEvent
from engine.store import client
from engine.values import Line, Operation, Origin
from tests import books
from tests.books import lines, run_out
from tests.conftest import settings

OPS, KEEPER, SHOP, WEBHOOK = Origin("ops"), Origin("keeper"), Origin("shop"), Origin("webhook")
ANN = Origin("ann", user="ann")
NO_KEY = Operation()
ATTEMPTS, THREADS, PROCESSES, UNITS = 2_000, 64, 4, 100
SHELF = ("a", "b", "c", "d", "e")


def stock(engine: Engine, sku: str, on_hand: int) -> None:
    engine.stock.configure(sku, on_hand, {}, OPS, NO_KEY)


def attempt(engine: Engine, number: int, basket: Sequence[Line]) -> str:
    try:
        engine.reservations.reserve(Origin(f"u{number}", user=f"u{number}"), basket, 900)
    except LinesUnavailable as refused:
        return refused.code
    return "reserved"


def single(number: int) -> Sequence[Line]:
    return lines("a=1")


def overlapping(number: int) -> Sequence[Line]:
    """Some of the shelf, in an order of its own."""
    pick = random.Random(number)
    return [Line(sku, pick.randint(1, 3)) for sku in pick.sample(SHELF, pick.randint(2, 5))]


def rush(engine: Engine, numbers: Sequence[int], basket: Callable[[int], Sequence[Line]], threads: int) -> Counter[str]:
    with ThreadPoolExecutor(threads) as pool:
        return Counter(pool.map(lambda number: attempt(engine, number, basket(number)), numbers))


def rush_in_a_process(url: str, first: int, basket: Callable[[int], Sequence[Line]]) -> Counter[str]:
    redis = client(settings(url))
    numbers = range(first, first + ATTEMPTS // PROCESSES)
    outcomes = rush(build(settings(url), redis), numbers, basket, THREADS // PROCESSES)
    redis.close()
    return outcomes


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Processes that have nothing in common but the server. Each test's clients are its own."""
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        yield pool


def rush_from_processes(
    processes: ProcessPoolExecutor, url: str, basket: Callable[[int], Sequence[Line]]
) -> Counter[str]:
    firsts = range(0, ATTEMPTS, ATTEMPTS // PROCESSES)
    outcomes = processes.map(rush_in_a_process, [url] * PROCESSES, firsts, [basket] * PROCESSES)
    return sum(outcomes, start=Counter[str]())


def race(calls: Sequence[Callable[[], object]]) -> list[str]:
    """Make all the calls at once. Gives the name of each one's outcome."""
    barrier = threading.Barrier(len(calls))

    def outcome(call: Callable[[], object]) -> str:
        barrier.wait()
        try:
            answer = call()
            return answer if isinstance(answer, Outcome) else type(answer).__name__
        except EngineError as error:
            return error.code

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(outcome, calls))


def test_a_hundred_units_are_reserved_exactly_a_hundred_times_by_64_threads(engine: Engine) -> None:
    stock(engine, "a", UNITS)
    outcomes = rush(engine, range(ATTEMPTS), single, THREADS)
    assert outcomes == {"reserved": UNITS, "lines_unavailable": ATTEMPTS - UNITS}
    assert books.counters(engine.store, "a") == (0, UNITS, 0, UNITS)
    books.assert_right(engine)


def test_a_hundred_units_are_reserved_exactly_a_hundred_times_by_4_processes(
    engine: Engine, server: str, processes: ProcessPoolExecutor
) -> None:
    stock(engine, "a", UNITS)
    outcomes = rush_from_processes(processes, server, single)
    assert outcomes == {"reserved": UNITS, "lines_unavailable": ATTEMPTS - UNITS}
    assert books.counters(engine.store, "a") == (0, UNITS, 0, UNITS)
    books.assert_right(engine)


def expect_whole_baskets(engine: Engine, outcomes: Counter[str]) -> None:
    reserved = [event for event in books.events(engine.store) if event.op == "reserve"]
    assert outcomes == {"reserved": len(reserved), "lines_unavailable": ATTEMPTS - len(reserved)}
    held: Counter[str] = Counter()
    for event in reserved:
        assert sorted(event.lines, key=str) == sorted(overlapping(int(event.user[1:])), key=str)
        held.update({line.sku: line.quantity for line in event.lines})
    assert books.all_counters(engine.store) == {sku: (UNITS - held[sku], held[sku], 0, UNITS) for sku in SHELF}
    short = {sku: available for sku, (available, *_) in books.all_counters(engine.store).items()}
    refused = set(range(ATTEMPTS)) - {int(event.user[1:]) for event in reserved}
    assert all(any(line.quantity > short[line.sku] for line in overlapping(number)) for number in refused)
    books.assert_right(engine)


def test_overlapping_baskets_are_reserved_whole_or_not_at_all_by_64_threads(engine: Engine) -> None:
    for sku in SHELF:
        stock(engine, sku, UNITS)
    expect_whole_baskets(engine, rush(engine, range(ATTEMPTS), overlapping, THREADS))


def test_overlapping_baskets_are_reserved_whole_or_not_at_all_by_4_processes(
    engine: Engine, server: str, processes: ProcessPoolExecutor
) -> None:
    for sku in SHELF:
        stock(engine, sku, UNITS)
    expect_whole_baskets(engine, rush_from_processes(processes, server, overlapping))


def test_50_threads_with_one_key_make_one_hold(engine: Engine) -> None:
    stock(engine, "a", UNITS)
    found: list[str] = []

    def reserve() -> None:
        held = engine.reservations.reserve(ANN, lines("a=2"), 900, "key", "7")
        found.append(f"{held.id} {held.created_ms} {held.deadline_ms} {'replayed' if held.replayed else 'new'}")

    race([reserve] * 50)
    assert len(found) == 50
    assert len({text.rpartition(" ")[0] for text in found}) == 1
    assert Counter(text.split()[-1] for text in found) == {"new": 1, "replayed": 49}
    assert books.counters(engine.store, "a") == (UNITS - 2, 2, 0, UNITS)
    books.assert_right(engine)


@pytest.mark.parametrize("due", [False, True], ids=["live", "due"])
def test_commit_expire_and_release_at_once_end_a_hold_once(engine: Engine, due: bool) -> None:
    stock(engine, "a", 60)
    ends: Counter[str] = Counter()
    for _ in range(20):
        held = engine.reservations.reserve(ANN, lines("a=3"), 900).id
        if due:
            run_out(engine.store, held)

        commit = partial(engine.reservations.commit, held, SHOP, f"p1 of {held}", NO_KEY)
        expire = partial(engine.expiry.sweep, KEEPER)
        release = partial(engine.reservations.release, held, ANN)
        race([commit, expire, release] * 5)
        ops = [event.op for event in books.events(engine.store) if event.reservation_id == held]
        events = " ".join(ops[1:])
        record = engine.store.record(held)
        assert record is not None
        assert record.fields["state"] == "committed"
        ends[events] += 1
    allowed = {"expire commit"} if due else {"commit", "release commit"}
    assert ends.total() == 20
    assert ends.keys() <= allowed
    assert books.counters(engine.store, "a") == (0, 0, 60, 60)
    books.assert_right(engine)


def test_expire_and_release_at_once_give_stock_back_once(engine: Engine) -> None:
    stock(engine, "a", 5)
    for _ in range(20):
        held = engine.reservations.reserve(ANN, lines("a=3"), 900).id
        run_out(engine.store, held)
        race([partial(engine.expiry.sweep, KEEPER), partial(engine.reservations.release, held, ANN)] * 5)
        assert books.counters(engine.store, "a") == (5, 0, 0, 5)
    books.assert_right(engine)


def test_two_payments_at_once_for_one_hold_make_one_order(engine: Engine) -> None:
    stock(engine, "a", 60)
    for _ in range(20):
        held = engine.reservations.reserve(ANN, lines("a=3"), 900).id

        pays = [
            partial(engine.reservations.commit, held, SHOP, payment_id, NO_KEY)
            for payment_id in (f"p1 of {held}", f"p2 of {held}")
        ]
        outcomes = Counter(race(pays * 4))
        assert outcomes == {"Order": 4, "already_committed": 4}
    assert books.counters(engine.store, "a") == (0, 0, 60, 60)
    books.assert_right(engine)


def test_commit_and_webhook_at_once_make_one_order(engine: Engine) -> None:
    stock(engine, "a", 60)
    for _ in range(20):
        held = engine.reservations.reserve(ANN, lines("a=3"), 900).id
        commit = partial(engine.reservations.commit, held, SHOP, f"p1 of {held}", NO_KEY)
        told = partial(engine.payments.take, PaymentEvent.SUCCEEDED, "e1", held, f"p1 of {held}", WEBHOOK)
        assert Counter(race([commit, told] * 4)) == {"Order": 4, Outcome.COMMITTED: 4}
        assert [event.op for event in books.events(engine.store) if event.reservation_id == held] == [
            "reserve",
            "commit",
        ]
    books.assert_right(engine)


def test_two_payments_told_at_once_make_one_order_and_one_refund(engine: Engine) -> None:
    stock(engine, "a", 60)
    for _ in range(20):
        held = engine.reservations.reserve(ANN, lines("a=3"), 900).id
        told = [
            partial(engine.payments.take, PaymentEvent.SUCCEEDED, "e1", held, payment_id, WEBHOOK)
            for payment_id in (f"p1 of {held}", f"p2 of {held}")
        ]
        assert Counter(race(told * 4)) == {Outcome.COMMITTED: 4, Outcome.REFUND_REQUIRED: 4}
        of_it = [event for event in books.events(engine.store) if event.reservation_id == held]
        assert [event.op for event in of_it] == ["reserve", "commit", "refund_required"]
        assert {event.payment_id for event in of_it[1:]} == {f"p1 of {held}", f"p2 of {held}"}
    books.assert_right(engine)


def test_one_payment_told_of_two_reservations_at_once_pays_for_one(engine: Engine) -> None:
    stock(engine, "a", 40)
    for number in range(20):
        held = [engine.reservations.reserve(who, lines("a=1"), 900).id for who in (ANN, Origin("bob", user="bob"))]
        pays = [partial(engine.reservations.commit, one, SHOP, f"p{number}", NO_KEY) for one in held]
        assert Counter(race(pays * 4)) == {"Order": 4, "payment_already_used": 4}
    assert books.counters(engine.store, "a") == (0, 20, 20, 40)
    books.assert_right(engine)


def test_two_payments_of_a_cart_s_two_checkouts_at_once_never_take_more_than_is_there(engine: Engine) -> None:
    stock(engine, "a", 40)
    for _ in range(10):
        cart_id = engine.carts.create(ANN).id
        engine.carts.put_line(cart_id, ANN, Line("a", 2))
        both = [engine.carts.checkout(cart_id, ANN, 900).id for _ in range(2)]
        outcomes = Counter(
            race([partial(engine.reservations.commit, held, SHOP, f"p of {held}", NO_KEY) for held in both])
        )
        assert outcomes["Order"] + outcomes["refund_required"] == 2
        assert outcomes["Order"] >= 1
    available, reserved, allocated, on_hand = books.counters(engine.store, "a")
    assert (available + allocated, reserved, on_hand) == (40, 0, 40)
    books.assert_right(engine)


def test_many_checkouts_of_one_cart_at_once_leave_one_live_hold(engine: Engine) -> None:
    stock(engine, "a", 2)
    stock(engine, "b", 2)
    cart_id = engine.carts.create(ANN).id
    for line in lines("a=2 b=1"):
        engine.carts.put_line(cart_id, ANN, line)
    for count in range(1, 21):
        made = race([partial(engine.carts.checkout, cart_id, ANN, 900)] * 8)
        assert made == ["Reservation"] * 8
        [live] = engine.store.redis.zrange(engine.store.keys.deadlines, 0, -1)
        assert engine.store.latest_checkout(cart_id) == live
        ops = Counter(event.op for event in books.events(engine.store))
        assert (ops["reserve"], ops["release"]) == (8 * count, 8 * count - 1)
    assert books.all_counters(engine.store) == {"a": (0, 2, 0, 2), "b": (1, 1, 0, 2)}
    books.assert_right(engine)


def test_two_users_who_check_out_one_guest_cart_at_once_make_it_one_user_s(engine: Engine) -> None:
    stock(engine, "a", 100)
    for _ in range(20):
        cart_id = engine.carts.create(Origin("guest")).id
        engine.carts.put_line(cart_id, Origin("guest"), Line("a", 1))
        both = [partial(engine.carts.checkout, cart_id, Origin(user, user=user), 900) for user in ("ann", "bob")]
        assert Counter(race(both * 4)) == {"Reservation": 4, "not_found": 4}
    assert books.counters(engine.store, "a") == (80, 20, 0, 100)
    books.assert_right(engine)


def test_payment_and_second_checkout_at_once_never_claim_more_than_was_paid_or_is_held(engine: Engine) -> None:
    stock(engine, "a", 100)
    for _ in range(20):
        cart_id = engine.carts.create(ANN).id
        engine.carts.put_line(cart_id, ANN, Line("a", 2))
        first = engine.carts.checkout(cart_id, ANN, 900).id
        outcomes = race(
            [
                partial(engine.reservations.commit, first, SHOP, f"p1 of {first}", NO_KEY),
                partial(engine.carts.checkout, cart_id, ANN, 900),
            ]
            * 2
        )
        assert set(outcomes) <= {"Order", "Reservation", "empty_cart"}
        assert engine.orders.get(first, "ann").state == "allocated"
        for reservation_id in engine.store.redis.zrange(engine.store.keys.deadlines, 0, -1):
            engine.reservations.release(reservation_id, ANN)
    assert books.counters(engine.store, "a") == (60, 0, 40, 100)
    books.assert_right(engine)


def test_cancel_and_fulfil_at_once_end_an_order_once(engine: Engine) -> None:
    stock(engine, "a", 60)
    ends: Counter[str] = Counter()
    for _ in range(20):
        held = engine.reservations.reserve(ANN, lines("a=3"), 900).id
        engine.reservations.commit(held, SHOP, f"p1 of {held}", NO_KEY)
        race(
            [
                partial(engine.orders.cancel, held, OPS, "", [], NO_KEY),
                partial(engine.orders.fulfil, held, OPS, [], NO_KEY),
            ]
            * 4
        )
        [end] = [event.op for event in books.events(engine.store) if event.reservation_id == held][2:]
        ends[end] += 1
    left = 60 - 3 * ends["fulfil"]
    assert books.counters(engine.store, "a") == (left, 0, 0, left)
    books.assert_right(engine)


def test_a_busy_shop_keeps_its_books(engine: Engine) -> None:
    for sku in SHELF:
        stock(engine, sku, UNITS)

    def shop(number: int) -> None:
        pick = random.Random(number)
        origin = Origin(f"u{number}", user=f"u{number}")
        try:
            held = engine.reservations.reserve(origin, overlapping(number), 900).id
            match pick.randrange(5):
                case 0:
                    engine.reservations.release(held, origin)
                case 1:
                    run_out(engine.store, held)
                case 2:
                    engine.reservations.extend(held, origin, 60, NO_KEY)
                case 3:
                    engine.reservations.commit(held, SHOP, f"p1 of {held}", NO_KEY)
                    engine.orders.cancel(held, OPS, "", [], NO_KEY)
                case 4:
                    engine.reservations.commit(held, SHOP, f"p1 of {held}", NO_KEY)
                    engine.stock.adjust(pick.choice(SHELF), 5, OPS, "delivery", NO_KEY)
        except LinesUnavailable:
            engine.stock.availability(SHELF, origin)

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(shop, range(600)))
    engine.expiry.sweep(KEEPER)
    books.assert_right(engine)
