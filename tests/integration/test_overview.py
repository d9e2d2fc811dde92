from __future__ import annotations

import pytest

from engine.engine import Engine
from engine.errors import Inconsistent, StoreUnavailable
from engine.overview import SHOWN_SKUS, document
from engine.recovery import Recovery
from engine.totals import MAX_RESERVED, Totals
from engine.values import Line, Operation, Origin
from tests.integration.shops import Shop
from tests.waiting import wait_until

ANN = Origin("ann", "r-1", "ann")


def put(engine: Engine, sku: str, on_hand: int) -> None:
    engine.stock.configure(sku, on_hand, {}, Origin("ops"), Operation())


def test_an_overview_is_what_redis_and_postgres_say(recorded_engine: Engine) -> None:
    engine = recorded_engine
    put(engine, "tee", 5)
    put(engine, "mug", 7)
    engine.reservations.reserve(ANN, [Line("tee", 2)], 60)
    engine.audit.catch_up()
    engine.stock.set_selling(True, "price error", Origin("ops"))
    Totals(engine.watch).publish()
    seen = document(engine.overview)
    assert seen["gate"] == "open"
    assert seen["keeper"] is None
    assert seen["postgres"] == "ok"
    assert (seen["selling"].paused, seen["selling"].reason) == (True, "price error")
    totals = {name: seen["totals"][name] for name in ("skus", "live_reservations", "events", "on_hand", "available")}
    assert totals == {"skus": 2, "live_reservations": 1, "events": 4, "on_hand": 12, "available": 10}
    assert [(sku.sku, sku.reserved) for sku in seen["skus"]] == [("tee", 2), ("mug", 0)]
    assert [event.op for event in seen["events"]] == ["pause", "reserve", "recount", "recount"]
    assert seen["redis"]["used_memory_bytes"] > 500_000


def test_the_ledgers_lag_is_how_many_events_wait_and_how_old_the_first_is(recorded_engine: Engine) -> None:
    engine = recorded_engine
    put(engine, "tee", 5)
    engine.audit.catch_up()
    lag = document(engine.overview)["lag"]
    assert (lag["ledger_events"], lag["ledger_seconds"], lag["snapshot_age_seconds"]) == (0, 0.0, None)
    assert document(engine.overview)["intervals"] == {"ledger_seconds": 0.05, "snapshot_seconds": 300}
    put(engine, "tee", 6)
    put(engine, "tee", 7)
    first = document(engine.overview)["lag"]
    assert first["ledger_events"] == 2
    wait_until(lambda: document(engine.overview)["lag"]["ledger_seconds"] > first["ledger_seconds"])


def test_the_expirys_lag_is_how_late_the_first_hold_is(recorded_engine: Engine) -> None:
    engine = recorded_engine
    put(engine, "tee", 5)
    engine.reservations.reserve(ANN, [Line("tee", 2)], 1)
    assert engine.overview.now().expiry_lag_ms == 0
    wait_until(lambda: engine.overview.now().expiry_lag_ms > 0)
    engine.expiry.sweep(ANN)
    assert engine.overview.now().expiry_lag_ms == 0


def test_without_postgres_the_overview_says_so_and_asks_it_rarely(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    overview, asked = shop.engine.overview, []

    def away() -> None:
        asked.append(1)
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(overview._ledger, "reached", away)
    for _ in range(3):
        seen = document(overview)
        assert seen["postgres"] == "unavailable"
        assert {seen["lag"][name] for name in seen["lag"].keys() - {"expiry_seconds"}} == {None}
    assert len(asked) == 1


def test_a_gate_that_is_shut_is_told_with_its_reason(recorded_engine: Engine) -> None:
    recorded_engine.scripts.close("token", "somebody looks")
    assert document(recorded_engine.overview)["gate"] == "closed: somebody looks"
    recovery = Recovery(
        recorded_engine.database, recorded_engine.store, recorded_engine.scripts, recorded_engine.settings.retain_ms
    )
    recovery.recover()
    recovery.writer.close()
    recovery.projection.close()
    recorded_engine.store.redis.hset(recorded_engine.store.keys.meta, "run_id", "another")
    assert document(recorded_engine.overview)["gate"] == "closed: not compared with the ledger yet"


def test_the_rates_are_those_of_all_processes_and_of_the_last_minute(recorded_engine: Engine) -> None:
    store = recorded_engine.watch
    store.publish_rates({"reserve": 3, "refuse": 1})
    store.publish_rates({"reserve": 4, "expire": 2})
    old_ms = store.now_ms() - 70_000
    store.redis.delete(store.keys.rates)
    store.redis.xadd(store.keys.rates, {"reserve": 1_000}, id=f"{old_ms}-0")
    store.publish_rates({"reserve": 3, "refuse": 1})
    store.publish_rates({"reserve": 4, "expire": 2})
    # A second is told of when it's over.
    rates = recorded_engine.overview.rates(store.now_ms() + 1_000)
    assert {len(counts) for counts in rates.values()} == {60}
    totals = {verb: sum(counts) for verb, counts in rates.items() if verb != "seconds"}
    assert totals == {"reserve": 7, "refuse": 1, "commit": 0, "release": 0, "expire": 2}
    assert rates["seconds"] == sorted(rates["seconds"])


def test_an_event_written_by_hand_is_left_out(recorded_engine: Engine) -> None:
    store = recorded_engine.store
    put(recorded_engine, "tee", 1)
    epoch, seq = store.meta()["epoch"], int(store.meta()["seq"])
    store.redis.execute_command("XADD", store.keys.ledger, f"{epoch}-{seq + 1}", b"\xff", "by hand")
    assert [event.op for event in recorded_engine.overview.events()] == ["recount"]


def test_the_snapshots_lag_is_how_long_the_first_event_has_waited_that_none_has(shop: Shop) -> None:
    def lag() -> tuple[float | None, float]:
        found = document(shop.engine.overview)["lag"]
        return found["snapshot_age_seconds"], found["snapshot_lag_seconds"]

    shop.stock()
    shop.writer.drain()
    wait_until(lambda: lag()[1] > 0)
    assert lag()[0] is None
    shop.snapshots.take()
    # Nothing happens: it gets older, and lacks nothing.
    wait_until(lambda: (lag()[0] or 0) > 0)
    assert lag()[1] == 0
    shop.hold()
    shop.writer.drain()
    wait_until(lambda: lag()[1] > 0)


def fill(engine: Engine, names: list[str]) -> None:
    """SKUs by hand, past the ledger: the last one has the most reserved units."""
    pipe = engine.store.redis.pipeline(transaction=False)
    for number, name in enumerate(names):
        counters = {"available": 10, "reserved": number, "allocated": 1, "on_hand": number + 11}
        pipe.hset(engine.store.keys.sku(name), mapping=counters)
        pipe.zadd(engine.store.keys.skus, {name: 0})
    pipe.execute()


def test_as_many_skus_as_there_may_be_cost_a_look_no_more(engine: Engine) -> None:
    names = [f"sku-{number:05}" for number in range(2_500)]
    fill(engine, names)
    units = Totals(engine.watch).publish()
    assert (units.available, units.allocated, units.reserved) == (25_000, 2_500, sum(range(2_500)))
    assert units.most_reserved == tuple(reversed(names[-MAX_RESERVED:]))
    assert engine.overview.now().units == units
    commands = engine.store.redis.info("stats")["total_commands_processed"]
    assert [sku.sku for sku in document(engine.overview)["skus"]] == [*reversed(names[-SHOWN_SKUS:])]
    assert engine.store.redis.info("stats")["total_commands_processed"] - commands < 50


def test_the_most_reserved_skus_have_reserved_units_and_the_rest_are_those_of_the_latest_events(engine: Engine) -> None:
    fill(engine, ["zero", *(f"more-{number}" for number in range(5))])
    for number in range(30):
        put(engine, f"quiet-{number:02}", 5)
    Totals(engine.watch).publish()
    shown = document(engine.overview)["skus"]
    assert [sku.sku for sku in shown[:5]] == [f"more-{number}" for number in (4, 3, 2, 1, 0)]
    assert len(shown) == SHOWN_SKUS
    assert {sku.reserved for sku in shown[5:]} == {0}
    assert {sku.sku for sku in shown[5:]} <= {f"quiet-{number:02}" for number in range(10, 30)}
    # What has just been reserved is first, though no total has it yet; what was just given back isn't there any more.
    engine.reservations.reserve(ANN, [Line("quiet-00", 5)], 60)
    engine.store.redis.hset(engine.store.keys.sku("more-4"), mapping={"available": 15, "reserved": 0})
    shown = document(engine.overview)["skus"]
    assert [sku.sku for sku in shown[:2]] == ["quiet-00", "more-3"]
    assert "more-4" not in {sku.sku for sku in shown}


def test_garbage_that_somebody_wrote_by_hand_takes_nothing_else_down(recorded_engine: Engine) -> None:
    store = recorded_engine.store
    put(recorded_engine, "tee", 5)
    put(recorded_engine, "mug", 7)
    store.redis.hset(store.keys.sku("mug"), "on_hand", "zzz")
    store.redis.hset(store.keys.meta, mapping={"default_hold_ms": "banana", "seq": "banana"})
    store.redis.xadd(store.keys.rates, {"reserve": "abc", "expire": -5})
    assert Totals(recorded_engine.watch).publish().on_hand == 5
    store.redis.hset(store.keys.totals, "reserved", "zzz")
    assert recorded_engine.overview.now().units is None
    seen = document(recorded_engine.overview)
    assert {sku.sku for sku in seen["skus"]} == {"tee"}
    assert seen["default_hold_seconds"] == recorded_engine.settings.default_hold_seconds
    assert seen["totals"]["events"] == 0
    assert sum(seen["rates"]["reserve"] + seen["rates"]["expire"]) == 0
    with pytest.raises(Inconsistent, match="mug"):
        recorded_engine.stock.get("mug")
    store.redis.hset(store.keys.meta, "selling_reason", b"\xff")
    assert document(recorded_engine.overview)["selling"].reason == "\\xff"


def test_an_event_that_cannot_be_read_keeps_the_ledger_waiting_and_is_seen_to(recorded_engine: Engine) -> None:
    store = recorded_engine.store
    put(recorded_engine, "tee", 5)
    recorded_engine.audit.catch_up()
    epoch, seq = store.meta()["epoch"], int(store.meta()["seq"])
    store.redis.execute_command("XADD", store.keys.ledger, f"{epoch}-{seq + 1}", b"\xff", "by hand")
    store.redis.hset(store.keys.meta, "seq", seq + 1)
    wait_until(lambda: document(recorded_engine.overview)["lag"]["ledger_seconds"] > 0)
    assert document(recorded_engine.overview)["lag"]["ledger_events"] == 1
