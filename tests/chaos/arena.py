"""One Stockade under attack: its processes, the servers and wires behind it, its buyers."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import psycopg
from redis.exceptions import RedisError

from engine.config import from_environment
from engine.data_dir import DataDir
from engine.engine import Engine, build
from engine.errors import StoreUnavailable
from engine.projection import Projection
from engine.snapshots import Snapshots
from engine.store import client
from engine.values import Operation, Origin
from engine.writer import Writer
from loadtests.checker.history import Down, Hurt, Loss, Skew, written
from tests.chaos.buyers import SCARCE, SKUS, Shop
from tests.chaos.disks import Disk
from tests.chaos.heard import History, Market
from tests.chaos.link import Link
from tests.chaos.makeup import ADMIN, SERVICE, Makeup, makeup
from tests.chaos.regulars import REGULAR, SCARCE_REGULAR, Office, Regulars
from tests.chaos.stores import Postgres, RedisPair
from tests.command.service import ROOT, Process, Service, environment, family, part, workers
from tests.integration.guarded import KEEPER
from tests.waiting import wait_until

PLENTY, LITTLE = 1_000_000, 25
LIMITED = SKUS[::3]
SHOPS, REGULARS = 5, 2
SOON_SECONDS = 60.0
HURT_SECONDS = 20.0
"""How long a fault waits for the service to notice what it has done to the record."""

WITHIN = {"STOCKADE_SNAPSHOT_SECONDS": "10", "STOCKADE_WORKERS": "2", "STOCKADE_LOG_REQUESTS": "0"}


class Arena:
    """`losses`, `skews`, `downs` and `hurts` are what the faults have noted for the judge."""

    def __init__(self, directory: Path, seed: int, made_of: Makeup | None = None) -> None:
        self.directory = directory
        self.made_of = made_of or makeup(seed)
        self.history = History()
        self.losses: list[Loss] = []
        self.skews: list[Skew] = []
        self.downs: list[Down] = []
        self.hurts: list[Hurt] = []
        self.forks_decided = 0
        with ExitStack() as stack:
            self._start(directory, seed, stack)
            self._started = stack.pop_all()

    def _start(self, directory: Path, seed: int, stack: ExitStack) -> None:
        # Postgres ends with the thread that started it, so these live as long as the arena.
        self.hands = stack.enter_context(ThreadPoolExecutor())
        self.data_disk, self.log_disk = Disk(directory / "data"), Disk(directory / "log")
        stack.callback(self.data_disk.stop)
        stack.callback(self.log_disk.stop)
        self.redis = RedisPair(self.data_disk.directory, self.made_of)
        stack.callback(self.redis.stop)
        self.postgres = Postgres(self.data_disk.directory / "postgres")
        stack.callback(self.postgres.stop)
        self.redis_link = Link(directory / "redis-link.sock", self.redis.address, seed)
        stack.callback(self.redis_link.stop)
        near = directory / "postgres-link" / self.postgres.socket.name
        near.parent.mkdir()
        self.postgres_link = Link(near, self.postgres.socket, seed)
        stack.callback(self.postgres_link.stop)
        self._far = WITHIN | {
            "STOCKADE_REDIS_URL": self.made_of.url(self.redis_link.socket, SERVICE),
            "STOCKADE_DATABASE_URL": self.postgres.url_through(near),
        }
        self.service = Service(self.log_disk.directory / "data", self._far)
        stack.callback(lambda: self.service.stop())
        # The second keeper, and who judges, are at the other end of the wires.
        straight = {"STOCKADE_DATABASE_URL": self.postgres.url} | self._redis_as(KEEPER)
        self._environment = DataDir(self.service.data_dir).environment(environment(WITHIN | straight))
        settings = from_environment(self._environment | self._redis_as(ADMIN), secrets_required=False)
        self.engine: Engine = build(settings, client(settings))
        self.second_keeper = self._start_keeper()
        stack.callback(self._end_second_keeper)
        self._stock()
        tokens = {scope: self.service.token("shop", scope) for scope in ("storefront", "payments", "ops")}
        known = (seed, self.address, tokens, self.history, Market())
        kinds = [*[Shop] * SHOPS, *[Regulars] * REGULARS, Office]
        self.shops = [kind(number, *known) for number, kind in enumerate(kinds)]
        Regulars.secret = self._environment["STOCKADE_WEBHOOK_SECRET"]
        self.probe = Shop(len(kinds), *known)
        for shop in self.shops:
            shop.start()
        stack.callback(self.stop_trading)

    def _redis_as(self, user: str) -> dict[str, str]:
        return {"STOCKADE_REDIS_URL": self.made_of.url(self.redis.address, user)}

    def address(self) -> tuple[str, int]:
        return self.service.host, self.service.port

    def open(self) -> None:
        for shop in self.shops:
            shop.open.set()

    def close(self) -> None:
        """Let every buyer finish what is under way, and clear up what stayed unclear."""
        for shop in self.shops:
            shop.open.clear()
        for shop in self.shops:
            assert shop.idle.wait(SOON_SECONDS)
        wait_until(lambda: all(shop.settle() for shop in [*self.shops, self.probe]), SOON_SECONDS)

    def stop_trading(self) -> None:
        """Stop trading, whatever stays unclear."""
        for shop in self.shops:
            shop.closed.set()
            shop.open.set()
        for shop in self.shops:
            shop.join(SOON_SECONDS)
        self.probe.hang_up()

    def wait_until_ready(self, *, may_fork: bool = False) -> None:
        """Until the service says so, and a buyer could pay. A fork, where there may be one, is decided for the ledger."""

        def ready() -> bool:
            if may_fork and "fork" in self._gate():
                self._decide()
            return self.is_ready() and self.probe.buys()

        wait_until(ready, SOON_SECONDS)

    def stop(self) -> None:
        self._started.close()

    def _end_second_keeper(self) -> None:
        self.second_keeper.kill()
        self.second_keeper.wait()

    def keep(self, place: Path) -> None:
        """Save what one needs to find out what happened: history, AOF, ledger, logs."""
        place.mkdir(parents=True, exist_ok=True)
        (place / "history.jsonl").write_text("".join(f"{line}\n" for line in written(self.history.calls)))
        with suppress(psycopg.Error):
            self.postgres.dump(place / "ledger.csv")
        self.redis.stop()
        for path in self.directory.glob("data/redis-*/appendonlydir"):
            shutil.copytree(path, place / path.parent.name, dirs_exist_ok=True)
        for pattern in ("log/*.std*", "*.log", "data/redis-*/log"):
            for path in self.directory.glob(pattern):
                shutil.copy(path, place / f"{path.parent.name}-{path.name}")

    def part(self, name: str) -> Process:
        return part(self.service.process, name)

    def workers(self) -> list[Process]:
        return wait_until(lambda: workers(self.service.process))

    def leader(self) -> Process | None:
        """The keeper that leads, as the lease has it, or as far as can be seen."""
        try:
            name = str(self.engine.watch.redis.get(self.engine.watch.keys.keeper) or "")
        except RedisError:
            name = ""
        if name.split(":")[1:2] == [str(self.second_keeper.pid)]:
            return None
        return self.part("keeper")

    def replace_second_keeper(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End the keeper that isn't `up`'s, and start another one."""
        self.second_keeper.send_signal(how)
        self.second_keeper.wait(SOON_SECONDS)
        self.second_keeper = self._start_keeper()

    def kill_everything(self) -> None:
        """As when a machine loses power, but that its disks have what was written."""
        everybody = [*family(self.service.process.pid)]
        self.service.process.kill()
        self.second_keeper.kill()
        send(everybody, signal.SIGKILL)
        self.redis.stop()
        self.postgres.kill()
        for process in (self.service.process, self.second_keeper):
            process.wait()

    def start_everything(self) -> None:
        self.redis.start()
        self.postgres.start()
        self.service = Service(self.service.data_dir, self._far)
        self.second_keeper = self._start_keeper()

    def note_loss(self, from_ms: float) -> None:
        """Redis may have lost what it was told just before that moment, until now."""
        self.losses.append(Loss(from_ms, self.history.clock.now_ms()))

    def note_skew(self, from_ms: float) -> None:
        """Redis's clock wasn't the buyers' clock from that moment until now."""
        self.skews.append(Skew(from_ms, self.history.clock.now_ms()))

    def note_down(self, from_ms: float) -> None:
        """Nothing ran from that moment until now."""
        self.downs.append(Down(from_ms, self.history.clock.now_ms()))

    def take_snapshot(self) -> None:
        """As `stockade snapshot` does, as soon as Postgres can."""
        wait_until(self._snapshot_taken, SOON_SECONDS)

    def _snapshot_taken(self) -> bool:
        engine = self.engine
        writer, follower = (
            Writer(engine.database, engine.watch),
            Projection(engine.database, engine.watch.keys.partition),
        )
        try:
            Snapshots(engine.database, engine.watch, writer, follower, engine.settings.retain_ms).take()
        except StoreUnavailable:
            return False
        finally:
            writer.close()
            follower.close()
        return True

    def watch_hurt(self, what: str, is_right: Callable[[], bool], part: str = "") -> None:
        """Wait until the service tells of what was just done to it, or that is right again; note when. A part that stops no sale is named."""

        def is_told() -> bool:
            return self.checks().get(part, "ok") != "ok" if part else not self.is_ready()

        hurt = Hurt(what, time.monotonic() * 1000)
        with suppress(AssertionError):
            wait_until(lambda: is_told() or is_right(), HURT_SECONDS)
            hurt = replace(hurt, told_ms=time.monotonic() * 1000)
        self.hurts.append(hurt)

    def _gate(self) -> str:
        try:
            return self.engine.gate()
        except StoreUnavailable:
            return ""

    def _decide(self) -> None:
        """As docs/durability.md tells an operator to."""
        command = [sys.executable, "-m", "engine.cli", "restore", "--force"]
        done = subprocess.run(command, env=self._environment, cwd=ROOT, capture_output=True, check=False)
        self.forks_decided += done.returncode == 0

    def is_ready(self) -> bool:
        """Whether the service says that it is."""
        try:
            return self.service.call("GET", "/readyz").status == 200
        except OSError:
            return False

    def checks(self) -> dict[str, str]:
        """What the service says of its parts; nothing if it doesn't answer."""
        try:
            return dict(self.service.call("GET", "/readyz").document["checks"])
        except OSError:
            return {}

    def _start_keeper(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "engine.cli", "keeper"]
        with (self.directory / "second-keeper.log").open("ab") as log:
            return subprocess.Popen(command, env=self._environment, cwd=ROOT, stdout=log, stderr=log)

    def _stock(self) -> None:
        for sku in (*SKUS, *REGULAR):
            self.engine.stock.configure(sku, on_hand(sku), limit(sku), Origin("chaos"), Operation())


def on_hand(sku: str) -> int:
    """What every SKU has at first; from then on units are only shipped."""
    return LITTLE if sku in SCARCE else LITTLE * 10 if sku in SCARCE_REGULAR else PLENTY


def limit(sku: str) -> dict[str, str]:
    """Some have one that is more than anybody ever asks for. Those of the regulars begin with every second one limited."""
    if sku in REGULAR[::2]:
        return {"limit_per_customer": "3"}
    return {"limit_per_customer": "10"} if sku in LIMITED else {}


def send(processes: Iterable[Process], how: signal.Signals) -> None:
    for process in processes:
        if process.alive:
            os.kill(process.pid, how)


def one_of(processes: list[Process], pick: random.Random) -> Process:
    return processes[pick.randrange(len(processes))]
