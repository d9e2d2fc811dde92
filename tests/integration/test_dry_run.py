"""What `stockade restore` says before it does anything: in a sale, after a key was changed by hand, and at a fork."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event
from typing import Any

import pytest
from click.testing import CliRunner

from engine import cli as command
from engine import dry_run, picture
from engine.comparison import OVERLAP
from engine.errors import ConfigurationError, LedgerBroken
from engine.projection import Projection
from engine.recovery import Need
from engine.store import Store
from engine.writer import Writer
from tests.integration.shops import History, Shop, one_kind, selling, split

Act = Callable[[], object]

pytestmark = one_kind


class Restores:
    """`stockade restore` on a shop."""

    def says(self, *options: str) -> str:
        found = self._run(*options)
        assert found.exception is None, found
        return str(found.stdout)

    def shows(self, *options: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.says("--json", "--dry-run", *options))
        return document

    def fails(self, *options: str) -> str:
        found = self._run(*options)
        assert isinstance(found.exception, ConfigurationError | LedgerBroken), found
        return str(found.exception)

    def _run(self, *options: str) -> Any:
        return CliRunner().invoke(command.cli, ["restore", *options])


@pytest.fixture
def restores(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Restores:
    monkeypatch.setattr(command, "engine_of", lambda data_dir: shop.engine)
    monkeypatch.setattr(command, "_recovery", lambda engine: shop.recovery)
    return Restores()


def drain(shop: Shop) -> None:
    shop.writer.drain()
    shop.recovery.projection.advance()


def before_each(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, act: Act) -> None:
    """Let something happen each time before that is called."""
    real = getattr(owner, name)

    def after_the_act(*arguments: Any, **named: Any) -> Any:
        act()
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, after_the_act)


def look(shop: Shop) -> list[str]:
    finding = dry_run.found(shop.engine, shop.recovery)
    assert finding.need is Need.CERTIFY, finding
    return dry_run.changes(shop.engine, shop.recovery, finding)


# In a sale


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_told_of_what_happens_between_two_reads(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    history = History(shop, seed).begin().go_on(80)
    drain(shop)
    happened = []

    def go_on() -> None:
        happened.append(history.go_on(7))
        if len(happened) % 3 == 0:
            drain(shop)

    before_each(monkeypatch, picture, "_read", go_on)
    before_each(monkeypatch, picture, "_read_deadlines", go_on)
    before_each(monkeypatch, dry_run, "_follow", go_on)
    before_each(monkeypatch, dry_run, "_books", lambda: history.go_on(7))
    for _ in range(5):
        assert look(shop) == []
    assert len(happened) > 20


def test_a_sale_between_two_reads_is_no_gap_and_no_fork(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, restores: Restores
) -> None:
    shop.stock("a", 1_000)
    shop.hold()
    drain(shop)
    for name in ("meta", "head", "latest_entries", "entries"):
        before_each(monkeypatch, Store, name, shop.hold)
    assert shop.recovery.compare().need is Need.CERTIFY
    document = restores.shows("--force")
    assert document["changes"] == []
    assert document["why"].startswith("by force (Redis has ")
    assert document["outcome"] == dry_run.INDEXES_ONLY
    assert restores.shows()["outcome"] == "nothing would change"
    assert "nothing to do; the gate is open" in restores.says()


def test_nothing_is_told_of_a_running_sale(shop: Shop) -> None:
    for sku in ("a", "b"):
        shop.stock(sku, 100_000)
    store, database, ended = shop.engine.store, shop.engine.database, Event()

    def keep() -> None:
        with (
            closing(Writer(database, store)) as writer,
            closing(Projection(database, store.keys.partition)) as follower,
        ):
            while not ended.is_set():
                shop.engine.scripts.trim(writer.drain(), OVERLAP, 1_000_000)
                follower.advance()

    with ThreadPoolExecutor(1) as pool, selling(shop):
        keeper = pool.submit(keep)
        try:
            for _ in range(15):
                assert look(shop) == []
        finally:
            ended.set()
        keeper.result()


def test_events_that_are_written_and_trimmed_while_they_are_gone_over_are_no_fork(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock("a", 50)
    drain(shop)
    shop.hold()
    store, acts = shop.engine.store, []

    def trim_once() -> None:
        if not acts:
            acts.append(1)
            shop.hold()
            shop.writer.drain()
            store.redis.xtrim(store.keys.ledger, maxlen=1, approximate=False)

    before_each(monkeypatch, shop.recovery.writer, "rehearse", trim_once)
    assert look(shop) == []
    assert acts


# After a key was changed by hand


def keys_of(shop: Shop) -> Any:
    return shop.engine.store.keys


def forget_a_sku(shop: Shop, held: str, order: str) -> None:
    shop.redis.delete(keys_of(shop).sku("b"))


def forget_a_hold(shop: Shop, held: str, order: str) -> None:
    shop.redis.delete(keys_of(shop).reservation(held))


def forget_an_order(shop: Shop, held: str, order: str) -> None:
    shop.redis.delete(keys_of(shop).reservation(order))


def tear_a_hold(shop: Shop, held: str, order: str) -> None:
    shop.redis.hdel(keys_of(shop).reservation(held), "lines")


def forget_the_buyers(shop: Shop, held: str, order: str) -> None:
    shop.redis.delete(keys_of(shop).buyers("a"))


def forget_a_deadline(shop: Shop, held: str, order: str) -> None:
    shop.redis.zrem(keys_of(shop).deadlines, held)


def make_up_a_deadline(shop: Shop, held: str, order: str) -> None:
    shop.redis.zadd(keys_of(shop).deadlines, {"nobody": 2**40})


def forget_the_index(shop: Shop, held: str, order: str) -> None:
    shop.redis.delete(keys_of(shop).skus)


def forget_when_a_hold_ends(shop: Shop, held: str, order: str) -> None:
    shop.redis.hset(keys_of(shop).sku("a"), "next_release_ms", 2**50)


def raise_a_counter(shop: Shop, held: str, order: str) -> None:
    shop.redis.hincrby(keys_of(shop).sku("a"), "available", 3)


def stop_the_shop(shop: Shop, held: str, order: str) -> None:
    shop.redis.hset(keys_of(shop).meta, "selling_reason", "by hand")


BY_HAND = {
    forget_a_sku: ["SKU b has allocated None, the ledger says 0"],
    forget_a_hold: ["reservation {held} is only in the ledger: reserved a=2 for ann"],
    forget_an_order: ["reservation {order} is only in the ledger: committed a=1 for bob"],
    tear_a_hold: ["reservation {held} can't be read in Redis", "reservation {held} is only in the ledger: "],
    forget_the_buyers: [
        "user ann has 0 of SKU a counted, the ledger says 2",
        "user bob has 0 of SKU a counted, the ledger says 1",
    ],
    forget_a_deadline: ["deadlines: reservation {held} has none, the ledger says "],
    make_up_a_deadline: ["deadlines: reservation nobody has 1099511627776, the ledger says none"],
    forget_the_index: ["SKU a is not in the index", "SKU b is not in the index", "SKU sold is not in the index"],
    forget_when_a_hold_ends: ["next_release: SKU a has next_release_ms later than a live reservation's deadline"],
    raise_a_counter: ["SKU a has available 50, the ledger says 47"],
    stop_the_shop: ["levers: selling_reason is by hand, the ledger says not set"],
}


@pytest.mark.parametrize("tamper", BY_HAND, ids=lambda tamper: tamper.__name__)
def test_what_was_changed_by_hand_is_told_though_no_event_is_missing(
    shop: Shop, restores: Restores, monkeypatch: pytest.MonkeyPatch, tamper: Callable[[Shop, str, str], None]
) -> None:
    for sku in ("a", "b", "sold"):
        shop.stock(sku, 50)
    held, order = shop.hold("ann", "a", 2), shop.hold("bob", "a")
    shop.pay(order)
    drain(shop)
    assert restores.says("--dry-run") == "Redis lacks no event: nothing would change\n"
    tamper(shop, held, order)
    texts = [text.format(held=held, order=order) for text in BY_HAND[tamper]]

    def tells(found: list[str]) -> None:
        assert [each.startswith(text) for each, text in zip(found, texts, strict=False)] == [True] * len(texts), found
        if tamper is not forget_a_sku:
            assert len(found) == len(texts), found

    document = restores.shows()
    assert (document["need"], document["why"]) == ("certify", "Redis lacks no event")
    assert document["outcome"] == "nothing would change without --force; with it all of this would change"
    tells(document["changes"])
    refused = restores.fails()
    assert refused.startswith(f"Redis lacks no event, but Redis isn't what the ledger says: {texts[0]}")
    assert refused.endswith("See --dry-run; --force makes Redis anew")
    assert shop.engine.gate() == "open"
    # The same, and no more, while others buy.
    if tamper is not forget_the_index:
        before_each(monkeypatch, picture, "_read", lambda: shop.hold("eve", "sold"))
        tells(look(shop))
    assert "the gate is open" in restores.says("--force")
    assert restores.shows()["changes"] == []


def test_a_shut_gate_would_open_or_redis_be_made_anew(shop: Shop, restores: Restores) -> None:
    shop.stock("a", 50)
    held = shop.hold()
    drain(shop)
    shop.engine.scripts.close("t", "looked after", restoring=False)
    assert restores.shows()["outcome"] == "nothing would change, but the gate would open"
    shop.redis.delete(shop.engine.store.keys.reservation(held))
    document = restores.shows()
    assert document["changes"] == [f"reservation {held} is only in the ledger: reserved a=1 for ann"]
    assert document["outcome"] == dry_run.ALL
    assert shop.engine.gate() == "closed: looked after"
    assert restores.says() == "Redis lacks no event: restored 1 reservations and 1 SKUs; the gate is open\n"
    assert shop.engine.reservations.get(held, None).state == "reserved"


# At a fork


def take_out_what_waits(shop: Shop) -> str:
    """Events that are not in Postgres yet, and one in their middle that is gone."""
    shop.hold("bob")
    middle = shop.redis.xrevrange(shop.engine.store.keys.ledger, count=1)[0][0]
    shop.hold("bob")
    shop.redis.xdel(shop.engine.store.keys.ledger, middle)
    return "ledger_gap: The stream in Redis has "


def wait_with_what_is_not_ours(shop: Shop) -> str:
    store = shop.engine.store
    epoch, seq = store.meta()["epoch"], int(store.meta()["seq"]) + 1
    shop.add(seq, int(epoch), at_ms="yesterday")
    shop.redis.hset(store.keys.meta, "seq", seq)
    return f"ledger_conflict: Event {epoch}-{seq} in Redis isn't one of ours"


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "shut"])
@pytest.mark.parametrize("fork", [take_out_what_waits, wait_with_what_is_not_ours])
def test_a_fork_in_what_postgres_lacks_is_told_and_force_gets_out_of_it(
    shop: Shop, restores: Restores, fork: Callable[[Shop], str], is_open: bool
) -> None:
    shop.stock("a", 50)
    held = shop.hold()
    drain(shop)
    why = fork(shop)
    if not is_open:
        shop.recovery.recover()
        assert shop.engine.gate().startswith(f"closed: fork: {why}")
    document = restores.shows()
    assert document["need"] == "decision"
    assert document["why"].startswith(why)
    assert document["changes"][0].endswith(" events that only Redis has would be given up")
    assert document["outcome"].startswith(f"the gate {'would be shut' if is_open else 'stays shut'}; with --force ")
    assert restores.fails().startswith(why)
    assert "the gate is open" in restores.says("--force")
    assert restores.says("--dry-run") == "Redis lacks no event: nothing would change\n"
    assert shop.problems() == ()
    shop.pay(held)


def test_at_a_fork_redis_is_told_of_as_of_one_event_though_it_sells(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock("a", 50)
    drain(shop)
    split(shop, 3, 7)
    before_each(monkeypatch, picture, "_read", shop.hold)
    finding = dry_run.found(shop.engine, shop.recovery)
    assert finding.need is Need.DECISION
    found = dry_run.changes(shop.engine, shop.recovery, finding)
    [reserved] = [line.split()[4] for line in found if line.startswith("SKU a has reserved ")]
    assert 0 < int(reserved.rstrip(",")) == sum(" is only in Redis: reserved a=1 for ann" in line for line in found)


def test_a_ledger_that_cannot_be_folded_is_told_and_not_that_nothing_would_change(
    shop: Shop, restores: Restores
) -> None:
    shop.stock("a", 50)
    drain(shop)
    held = shop.hold()
    store = shop.engine.store
    event = {**shop.redis.xrevrange(store.keys.ledger, count=1)[0][1], "op": "release", "lines": "unknown=1"}
    epoch, seq = store.meta()["epoch"], int(store.meta()["seq"]) + 1
    shop.redis.xadd(store.keys.ledger, event, id=f"{epoch}-{seq}")
    shop.redis.hset(store.keys.meta, "seq", seq)
    assert restores.fails("--dry-run").startswith(f"ledger_unfoldable: Event {epoch}-{seq} can't follow")
    shop.recovery.recover()
    assert shop.engine.gate().startswith("closed: fork: ledger_unfoldable")
    for options in ((), ("--force",)):
        told = restores.fails("--dry-run", *options)
        assert told.startswith("ledger_unfoldable: ")
        assert told.endswith("a restore is refused, with --force too")
        assert restores.fails(*options).startswith("ledger_unfoldable")
    assert shop.redis.hget(store.keys.reservation(held), "state") == "reserved"


def test_an_empty_ledger_would_be_refused(shop: Shop, restores: Restores) -> None:
    shop.stock("a", 50)
    assert restores.shows("--force")["outcome"].startswith("refused: The ledger in Postgres is empty")
    assert "The ledger in Postgres is empty" in restores.fails("--force")
