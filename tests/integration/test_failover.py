"""Another server takes the address of the old one, which lives on: every process leaves it, though nobody cuts a connection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Closed
from engine.failover import ROUNDS, FailoverWatch
from engine.keys import Keys
from engine.pipe import MAX_BYTES_TOGETHER
from engine.store import Store, client
from tests.chaos.link import Link, Mode
from tests.chaos.stores import RedisPair, Server, free_port
from tests.conftest import SECRETS, settings
from tests.integration.shops import Shop, open_shop
from tests.integration.test_leadership import ROOT, KeeperProcess
from tests.waiting import wait_until

WORKERS = 2
LONG_SECONDS = 40.0
"""A crowded machine starts five processes."""

SKU = "a"


class Api:
    """A real `stockade api` with two workers."""

    def __init__(self, redis_url: str, database_url: str, output: Path) -> None:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("STOCKADE_")}
        urls = {"STOCKADE_REDIS_URL": redis_url, "STOCKADE_DATABASE_URL": database_url}
        self._port = free_port()
        command = [sys.executable, "-m", "engine.cli", "api", "--port", str(self._port), "--workers", str(WORKERS)]
        command += ["--data-dir", str(output.with_suffix(".data"))]
        with output.open("w") as log:
            self.process = subprocess.Popen(command, env=ours | SECRETS | urls, cwd=ROOT, stdout=log, stderr=log)

    def available(self) -> int | None:
        """Units of the SKU that a buyer is told of. None: there is no answer now."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/v1/availability/{SKU}", timeout=10) as answer:
                return int(json.load(answer)["available"])
        except (urllib.error.URLError, ConnectionError):
            return None


class Site:
    """A Redis behind a forwarder that never cuts a connection."""

    def __init__(self, stack: ExitStack, directory: Path, books_url: str) -> None:
        self._directory, self._stack = directory, stack
        self.books_url = books_url
        self.redis = RedisPair(directory)
        stack.callback(self.redis.stop)
        self.forwarder = Link(directory / "forwarder.sock", self.redis.address, 1)
        stack.callback(self.forwarder.stop)
        self.url = f"unix://{self.forwarder.socket}"
        with self.straight() as shop:
            shop.recovery.recover()
            shop.stock(SKU, 1_000)

    @contextmanager
    def straight(self) -> Iterator[Shop]:
        """A shop on whichever server is the master now, not through the forwarder."""
        shop = open_shop(f"unix://{self.redis.master.socket}", self.books_url)
        try:
            yield shop
        finally:
            shop.close()

    def start(self) -> tuple[list[KeeperProcess], Api]:
        """Two keepers, the leader first, and an API, all of them through the forwarder."""
        keepers = []
        for number in range(2):
            keepers.append(KeeperProcess(self.url, self.books_url, self._directory / f"keeper-{number}.log"))
            self._end(keepers[-1].process)
        api = Api(self.url, self.books_url, self._directory / "api.log")
        self._end(api.process)
        wait_until(lambda: any(keeper.leads for keeper in keepers), LONG_SECONDS)
        wait_until(lambda: api.available() == 1_000, LONG_SECONDS)
        return sorted(keepers, key=lambda keeper: not keeper.leads), api

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)

    def move(self, *, demotes: bool) -> Server:
        """Promote a replica and let the forwarder lead there. Returns: the old master, which lives on."""
        replica = self.redis.replicate()
        port = free_port()
        replica.client.config_set("bind", "127.0.0.1")
        replica.client.config_set("port", port)
        replica.client.replicaof("NO", "ONE")
        former = self.redis.promote()
        self._stack.callback(former.kill)
        if demotes:
            former.client.replicaof("127.0.0.1", port)
            wait_until(lambda: former.client.info("replication").get("master_link_status") == "up", LONG_SECONDS)
        return former


@pytest.fixture
def site(books_url: str) -> Iterator[Site]:
    # A socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="stockade-moved-") as directory, ExitStack() as stack:
        yield Site(stack, Path(directory), books_url)


def clients_of(server: Server, name: str = "") -> list[dict[str, Any]]:
    """Connections to a server of clients with that name, but for the one that asks."""
    with server.client as asking:
        me = str(asking.client_id())
        found = [client for kind in ("normal", "pubsub") for client in asking.client_list(_type=kind)]
    return [client for client in found if client["id"] != me and client["name"] == name]


def call_ours(*stores: Store) -> None:
    """Give connections that are still to be made a name by which the server lists them."""
    for store in stores:
        store.redis.connection_pool.connection_kwargs["client_name"] = "ours"


@pytest.mark.parametrize(
    "demotes", [pytest.param(True, id="demoted"), pytest.param(False, id="replaced", marks=pytest.mark.slow)]
)
def test_every_process_leaves_the_old_master_and_the_standby_keeper_leads_on_the_new_one(
    site: Site, demotes: bool
) -> None:
    (leader, standby), api = site.start()
    former = site.move(demotes=demotes)
    leader.process.kill()
    leader.process.wait()
    # Nobody asks the API for anything meanwhile: its idle connections leave, too.
    wait_until(lambda: clients_of(former) == [], LONG_SECONDS)
    with site.straight() as shop:
        wait_until(lambda: shop.engine.gate() == "open", LONG_SECONDS)
        wait_until(lambda: standby.leads, LONG_SECONDS)
        shop.stock(SKU, 1_234)
        wait_until(lambda: api.available() == 1_234)
        assert {api.available() for _ in range(10 * WORKERS)} == {1_234}
        wait_until(lambda: shop.redis.pubsub_numsub("__keyevent@0__:expired")[0][1] == 1)
        assert "E" in shop.redis.config_get("notify-keyspace-events")["notify-keyspace-events"]
        assert shop.problems() == ()


KINDS_OF_USE: dict[str, Callable[[Shop, Any], object]] = {
    "read": lambda shop, _: shop.engine.store.stock([SKU]),
    "script": lambda shop, _: shop.hold(sku=SKU),
    "pipeline": lambda shop, _: shop.engine.store.allowed("ann", [SKU]),
    "long call": lambda shop, _: shop.engine.store.hashes(["x" * MAX_BYTES_TOGETHER] * 2),
    "rates": lambda shop, _: shop.engine.watch.publish_rates({"reserve": 1}),
    "subscription": lambda _, subscription: subscription.get_message(timeout=0.01),
}


@pytest.mark.parametrize("kind", KINDS_OF_USE)
def test_a_connection_of_every_kind_leaves_a_server_that_was_replaced(site: Site, kind: str) -> None:
    use = KINDS_OF_USE[kind]
    shop = open_shop(site.url, site.books_url)
    asking = Store(client(settings(site.url)), Keys())
    call_ours(asking, shop.engine.store, shop.engine.watch)
    watch = FailoverWatch(asking, (shop.engine.store, shop.engine.watch))
    watch.check()
    with shop.redis.pubsub() as subscription:
        subscription.subscribe("channel")
        use(shop, subscription)
        former = site.move(demotes=False)
        use(shop, subscription)
        assert clients_of(former, "ours")
        assert not clients_of(site.redis.master, "ours")
        watch.check()
        use(shop, subscription)
        subscription.get_message(timeout=0.01)
        assert clients_of(former, "ours") == []
        assert clients_of(site.redis.master, "ours")
    shop.close()


def test_as_long_as_the_server_stays_no_connection_is_made_anew(site: Site) -> None:
    shop = open_shop(site.url, site.books_url)
    call_ours(shop.engine.store, shop.engine.watch)
    watch = FailoverWatch(Store(client(settings(site.url)), Keys()), (shop.engine.store, shop.engine.watch))
    for _ in range(ROUNDS):
        watch.check()
    shop.hold(sku=SKU)
    before = clients_of(site.redis.master, "ours")
    for _ in range(5):
        watch.check()
        shop.hold(sku=SKU)
    assert [each["id"] for each in clients_of(site.redis.master, "ours")] == [each["id"] for each in before]
    # A server that can't be reached is no other one.
    site.forwarder.turn(Mode.CUT)
    watch.check()
    site.forwarder.turn(Mode.GOOD)
    shop.hold(sku=SKU)
    shop.close()


def test_a_replica_is_never_certified(site: Site) -> None:
    with site.straight() as shop:
        shop.redis.replicaof("127.0.0.1", 1)
        # It has the run_id and the replication id that were certified, as long as it hasn't found its master.
        assert shop.engine.store.run_id() == ""
        selling = open_shop(f"unix://{site.redis.master.socket}", site.books_url, certified=True)
        with pytest.raises(Closed):
            selling.engine.store.stock([SKU])
        selling.close()
        shop.redis.replicaof("NO", "ONE")
