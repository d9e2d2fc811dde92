"""The way out: whatever is lost of the ledger, a person accepts it, the shop goes on, and nothing that is left anywhere is lost."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from engine import ledger, verify
from engine.acknowledged import Acknowledgement
from engine.adoption import Adopted, Adoption
from engine.errors import ConfigurationError
from engine.fold import COUNTERS, Fold
from engine.gaps import Gap
from engine.ledger import Position
from engine.lenience import CLAIMED_BY, claims
from engine.repair import Loss, Repair, unsettled
from engine.states import State
from engine.values import Event
from tests import books
from tests.integration.shops import History, Shop, essence, one_kind

pytestmark = one_kind

BY = Acknowledgement("cli:ann", "the disk was replaced")


def repair(shop: Shop) -> Repair:
    return Repair(shop.engine.database, shop.engine.store, shop.recovery)


def adoption(shop: Shop) -> Adoption:
    return Adoption(shop.engine.database, shop.engine.store, shop.engine.scripts, shop.engine.settings.retain_ms)


def gone_on(shop: Shop) -> tuple[list[Loss], Adopted]:
    """What was accepted, and what adopted, until the shop sells again."""
    mending, accepted = repair(shop), list[Loss]()
    while losses := mending.losses(mending.mend(mending.look())):
        mending.accept(losses, BY)
        accepted += losses
        assert len(accepted) < 100
    mending.reopen()
    return accepted, adoption(shop).settle(BY)


def change(shop: Shop, query: str) -> None:
    with psycopg.connect(shop.url, autocommit=True) as connection:
        connection.execute(query)


def written(shop: Shop) -> int:
    shop.writer.drain()
    shop.recovery.projection.advance()
    return shop.position().seq


def trimmed(shop: Shop, keep: int = 3) -> None:
    shop.redis.xtrim(shop.engine.store.keys.ledger, maxlen=keep, approximate=False)


def anew(shop: Shop) -> None:
    """Forget what was made out of the ledger, as its owner may."""
    change(shop, "TRUNCATE projection_position, reservations, skus, buyers, checkouts, answers, payments")


def old_rows(shop: Shop, history: History) -> None:
    written(shop)
    trimmed(shop)
    change(shop, "DELETE FROM ledger WHERE seq BETWEEN 20 AND 60")


def changed_rows(shop: Shop, history: History) -> None:
    written(shop)
    trimmed(shop)
    change(shop, "UPDATE ledger SET actor = 'eve' WHERE seq IN (20, 40)")
    change(shop, "UPDATE ledger SET chain_hash = '' WHERE seq = 30")


def every_fourth_row(shop: Shop, history: History) -> None:
    written(shop)
    trimmed(shop)
    change(shop, "DELETE FROM ledger WHERE seq % 4 = 1")


def the_first_half(shop: Shop, history: History) -> None:
    written(shop)
    trimmed(shop)
    change(shop, "DELETE FROM ledger WHERE seq < 80")


def newest_rows_and_redis(shop: Shop, history: History) -> None:
    end = written(shop)
    change(shop, f"DELETE FROM ledger WHERE seq > {end - 20}")
    shop.redis.flushall()


def rows_that_the_projections_had_not(shop: Shop, history: History) -> None:
    written(shop)
    history.go_on(40)
    end = shop.writer.drain().seq
    trimmed(shop)
    change(shop, f"DELETE FROM ledger WHERE seq BETWEEN {end - 15} AND {end - 4}")


def rows_that_the_projections_had_not_and_redis(shop: Shop, history: History) -> None:
    rows_that_the_projections_had_not(shop, history)
    shop.redis.flushall()


def rows_projections_and_redis(shop: Shop, history: History) -> None:
    every_fourth_row(shop, history)
    anew(shop)
    shop.redis.flushall()


def the_last_day_of_postgres(shop: Shop, history: History) -> None:
    """It was brought back from its archive."""
    end = written(shop)
    history.go_on(60)
    written(shop)
    trimmed(shop)
    change(shop, f"DELETE FROM ledger WHERE seq > {end}")
    change(
        shop,
        "UPDATE ledger_position SET (epoch, seq, payload_hash, chain_hash) = "
        f"(SELECT epoch, seq, payload_hash, chain_hash FROM ledger WHERE seq = {end})",
    )
    anew(shop)


def the_stream_with_what_waited(shop: Shop, history: History) -> None:
    written(shop)
    history.go_on(30)
    shop.stock("a", shop.engine.stock.get("a").on_hand + 1)
    shop.redis.delete(shop.engine.store.keys.ledger)


def part_of_the_stream(shop: Shop, history: History) -> None:
    end = written(shop)
    for _ in range(12):
        shop.stock("a", shop.engine.stock.get("a").on_hand + 1)
    for seq in range(end + 4, end + 9):
        shop.redis.xdel(shop.engine.store.keys.ledger, f"1-{seq}")


def nothing_but_an_event_that_cant_follow(shop: Shop, history: History) -> None:
    keys = shop.engine.store.keys
    seq = shop.redis.hincrby(keys.meta, "seq", 1)
    shop.add(seq, op="fulfil", reservation_id="nobody", lines="a=1", user="ann", counted="*")


FAULTS = [
    old_rows,
    changed_rows,
    every_fourth_row,
    the_first_half,
    newest_rows_and_redis,
    rows_that_the_projections_had_not,
    rows_that_the_projections_had_not_and_redis,
    rows_projections_and_redis,
    the_last_day_of_postgres,
    the_stream_with_what_waited,
    part_of_the_stream,
    nothing_but_an_event_that_cant_follow,
]


def live(held: dict[str, Any]) -> dict[str, Any]:
    """SKUs, holds, orders and limits' counts: what no repair may change."""
    return {
        key: value
        for key, value in held.items()
        if key.partition("}:")[2].partition(":")[0] in ("sku", "rsv", "buyers")
    }


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 13))])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_shop_goes_on_with_all_that_is_left(shop: Shop, fault: Callable[[Shop, History], None], seed: int) -> None:
    history = History(shop, seed).begin().go_on(160)
    fault(shop, history)
    before = live(essence(shop.redis))
    accepted, _ = gone_on(shop)
    assert accepted
    if before:
        assert live(essence(shop.redis)) == before
    if fault is part_of_the_stream:
        # That stays a hole until it is trimmed.
        verify.verify(shop.engine.store, shop.engine.database, shop.engine.settings.retain_ms, BY)
    assert shop.problems() == ()
    assert repair(shop).look() == []
    history.go_on(80)
    assert shop.problems() == ()
    # All that there is comes back from the ledger: Redis, and what was made out of it.
    written(shop)
    held = live(essence(shop.redis))
    shop.redis.flushall()
    shop.recovery.recover()
    assert live(essence(shop.redis)) == held
    anew(shop)
    written(shop)
    assert shop.problems() == ()


def test_nothing_is_lost_of_a_sale_that_goes_on_meanwhile(shop: Shop) -> None:
    history = History(shop, 7).begin().go_on(120)
    old_rows(shop, history)
    shop.stock("a", 500_000)
    over, bought = threading.Event(), list[str]()

    def buy() -> None:
        while not over.is_set():
            bought.append(shop.hold("zoe"))

    buyer = threading.Thread(target=buy)
    buyer.start()
    try:
        gone_on(shop)
    finally:
        over.set()
        buyer.join()
    assert bought
    assert shop.problems() == ()
    assert {name for (name,) in shop.query("SELECT id FROM reservations WHERE record->>'user' = 'zoe'")} == set(bought)


def test_a_repair_that_broke_off_is_told_and_gone_on_with(shop: Shop) -> None:
    history = History(shop, 3).begin().go_on(120)
    old_rows(shop, history)
    mending = repair(shop)
    mending.accept(mending.losses(mending.mend(mending.look())), BY)
    history.go_on(20)
    written(shop)
    said = "the gap after 1-19 is not settled: run stockade repair"
    assert shop.problems()[0] == f"dense_log: {said}"
    assert len(unsettled(shop.engine.database, "p0")) == 1
    adoption(shop).settle(BY)
    assert shop.problems() == ()
    assert unsettled(shop.engine.database, "p0") == []


def test_whoever_gives_up_redis_gets_what_the_rest_of_the_ledger_tells(shop: Shop) -> None:
    History(shop, 5).begin().go_on(120)
    end = written(shop)
    change(shop, "DELETE FROM ledger WHERE seq = 20")
    shop.redis.xtrim(shop.engine.store.keys.ledger, maxlen=1, approximate=False)
    # Redis tells another story.
    shop.redis.delete(shop.engine.store.keys.ledger)
    shop.redis.hset(shop.engine.store.keys.meta, "seq", end)
    shop.add(end, op="pause", reason="another story", counted="*")
    before = live(essence(shop.redis))
    mending = repair(shop)
    losses = mending.losses(mending.mend(mending.look()))
    mending.accept(losses, BY)
    with pytest.raises(ConfigurationError, match=r"ledger_conflict.*--force gives up"):
        mending.losses([])
    mending.give_up_redis()
    gone_on(shop)
    assert live(essence(shop.redis)) == before
    assert shop.problems() == ()


def test_a_newest_row_that_was_changed_comes_back_and_with_it_all_that_was_told_of_it(shop: Shop) -> None:
    History(shop, 5).begin().go_on(60)
    end = written(shop)
    change(shop, f"UPDATE ledger SET actor = 'eve', payload_hash = '' WHERE seq = {end}")
    mending = repair(shop)
    found = mending.look()
    assert len(found) > 1
    assert mending.mend(found, dry_run=True) == []
    assert mending.mend(found) == []
    assert mending.losses([]) == []
    assert shop.problems() == ()


def test_a_dry_run_says_the_same_and_changes_nothing(shop: Shop) -> None:
    history = History(shop, 5).begin().go_on(120)
    changed_rows(shop, history)
    change(shop, f"DELETE FROM ledger WHERE seq = {shop.position().seq - 1}")
    query = "SELECT * FROM ledger ORDER BY epoch, seq"
    before = shop.query(query), books.dump(shop.redis)
    mending = repair(shop)
    found = mending.look()
    left = mending.mend(found, dry_run=True)
    losses = list(map(str, mending.losses(left)))
    assert (shop.query(query), books.dump(shop.redis)) == before
    assert 0 < len(left) < len(found)
    assert list(map(str, mending.losses(mending.mend(found)))) == losses


@pytest.mark.parametrize("seed", range(3))
def test_any_remains_of_a_ledger_add_up(shop: Shop, seed: int) -> None:
    """Behind a gap the fold never fails, loses no unit, and has nothing claimed that no reservation claims."""
    History(shop, seed).begin().go_on(300)
    end = written(shop)
    with psycopg.connect(shop.url, autocommit=True) as connection:
        [events] = list(ledger.events(connection, "p0", Position(), shop.position()))
    pick = random.Random(seed)
    for _ in range(200):
        left = pick.choice([0.1, 0.5, 0.9, 0.98])
        fold = Fold(gaps=[Gap(0, 0, 1, end, b"", b"")])
        for event in events:
            if pick.random() < left:
                fold.apply(event)
                assert_adds_up(fold, event)


def assert_adds_up(fold: Fold, event: Event) -> None:
    claimed: Counter[tuple[str, str]] = Counter()
    for record in fold.records.values():
        for sku, units in claims(record).items():
            claimed[sku, CLAIMED_BY[State(record["state"])]] += units
            assert int(fold.buyers[sku].get(record["user"], 0)) >= units, event
    for sku, fields in fold.skus.items():
        counters = {name: int(fields[name]) for name in COUNTERS}
        assert min(counters.values()) >= 0, event
        assert counters["on_hand"] == counters["available"] + counters["reserved"] + counters["allocated"], event
        assert (counters["reserved"], counters["allocated"]) == (claimed[sku, "reserved"], claimed[sku, "allocated"]), (
            event
        )
