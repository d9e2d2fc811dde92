"""A server that can't write to its disk is seen: in /readyz, in the metrics, and in what is said."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from api.app import create_app
from api.metrics import State
from api.views.health import readiness
from engine import database
from engine.engine import Engine
from engine.errors import StoreUnavailable
from tests import servers
from tests.integration.shops import Shop, one_kind, open_shop
from tests.waiting import wait_until

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def metric(engine: Engine, name: str) -> float:
    [value] = [sample.value for family in State(engine).collect() for sample in family.samples if sample.name == name]
    return float(value)


@pytest.mark.parametrize("kind", servers.KINDS)
def test_a_redis_whose_files_can_not_grow_is_named_until_they_can(kind: str, books_url: str) -> None:
    with servers.running(kind, "--appendonly", "yes", "--appendfsync", "everysec") as url:
        shop = open_shop(url, books_url)
        shop.recovery.recover()
        shop.redis.set(shop.engine.store.keys.keeper, "somebody")
        shop.stock()
        assert (readiness(shop.engine)["redis"], metric(shop.engine, "stockade_redis_writes")) == ("ok", 1)
        pid = shop.redis.info("server")["process_id"]
        [directory] = [shop.redis.config_get("dir")["dir"]]
        size = max(file.stat().st_size for file in Path(directory).rglob("*.aof"))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        shop.hold()
        wait_until(lambda: readiness(shop.engine)["redis"] == "disk full")
        assert metric(shop.engine, "stockade_redis_writes") == 0
        with pytest.raises(StoreUnavailable):
            shop.hold()
        resource.prlimit(pid, resource.RLIMIT_FSIZE, UNLIMITED)
        wait_until(lambda: readiness(shop.engine)["redis"] == "ok")
        shop.hold()
        shop.close()


@one_kind
def test_a_postgres_that_refuses_writes_is_named_and_counted(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "DISK_FULL", database.DiskFull())
    monkeypatch.setattr("engine.writer.DISK_FULL", database.DISK_FULL)
    monkeypatch.setattr("engine.readiness.DISK_FULL", database.DISK_FULL)
    create_app(shop.engine)
    before = database.WRITES_REFUSED.collect()
    assert readiness(shop.engine)["postgres"] == "ok"
    full = "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$"
    with pytest.raises(StoreUnavailable, match="disk is full"):
        shop.engine.database.run(lambda connection: connection.execute(full))
    assert readiness(shop.engine)["postgres"] == "disk full"
    [was], [now] = (
        [sample.value for family in families for sample in family.samples if sample.name.endswith("_total")]
        for families in (before, database.WRITES_REFUSED.collect())
    )
    assert now == was + 1
    shop.recovery.recover()
    shop.stock()
    assert readiness(shop.engine)["postgres"] == "disk full"
    shop.writer.drain()
    assert readiness(shop.engine)["postgres"] == "ok"
