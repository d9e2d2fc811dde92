"""One Stockade under attack: its processes, the servers behind it, its buyers, and the judge."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import projection, verify
from engine.config import from_environment
from engine.data_dir import DataDir
from engine.engine import Engine, build
from engine.states import State
from engine.store import client
from engine.values import Operation, Origin
from tests.chaos.buyers import SCARCE, SKUS, Book, Shop
from tests.chaos.stores import Pair
from tests.command.service import ROOT, Process, Service, environment, family, part
from tests.waiting import wait_until

PLENTY, LITTLE = 1_000_000, 500
SHOPS = 6
RECOVERY_SECONDS = 60.0

PROMISED_SECONDS = 1.0
"""A hold that was confirmed less than this before Redis lost data may be lost with it.

docs/durability.md promises 50 ms and one write of the ledger; on a machine that also runs the buyers that takes its time.
"""


@dataclass(frozen=True)
class Judgement:
    """What was found after a fault: what must not be, and what the promise allows."""

    violations: tuple[str, ...]
    holds_lost: int
    oldest_lost_s: float


class Arena:
    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.stores = Pair(directory)
        self.book = Book()
        more = {"STOCKADE_REDIS_URL": self.stores.url, "STOCKADE_SNAPSHOT_SECONDS": "10", "STOCKADE_WORKERS": "2"}
        self.service = Service(directory / "data", more)
        self._environment = DataDir(self.service.data_dir).environment(environment(more))
        self.engine = self._engine()
        self.second_keeper = self._second_keeper()
        self._stock()
        tokens = {scope: self.service.token("shop", scope) for scope in ("storefront", "payments")}
        address = (self.service.host, self.service.port)
        self._shops = [Shop(number, seed, address, tokens, self.book) for number in range(SHOPS)]
        for shop in self._shops:
            shop.start()

    def open(self) -> None:
        for shop in self._shops:
            shop.open.set()

    def close(self) -> None:
        """Let every buyer finish what is under way."""
        for shop in self._shops:
            shop.open.clear()
        for shop in self._shops:
            assert shop.idle.wait(60)

    def stop(self) -> None:
        for shop in self._shops:
            shop.closed.set()
            shop.open.set()
        for shop in self._shops:
            shop.join(60)
        self.second_keeper.kill()
        self.second_keeper.wait()
        self.service.stop()
        self.stores.stop()

    def replace_second_keeper(self) -> None:
        """Kill -9 the keeper that isn't `up`'s, and start another one."""
        self.second_keeper.kill()
        self.second_keeper.wait()
        self.second_keeper = self._second_keeper()

    def part(self, name: str) -> Process:
        return part(self.service.process, name)

    def postgres(self) -> list[Process]:
        """The postmaster and its children."""
        master = self.part("postgres")
        return [master, *family(master.pid)]

    def kill(self, processes: Sequence[Process], how: signal.Signals = signal.SIGKILL) -> None:
        for process in processes:
            if process.alive:
                os.kill(process.pid, how)

    def wait_until_ready(self) -> None:
        """Until the service says so, and a buyer could pay."""
        wait_until(lambda: self._ready(), RECOVERY_SECONDS)

    def judge(self, struck_s: float) -> Judgement:
        """Look at everything, with the shops closed. `struck_s` is when the fault came, by the wall clock."""
        wait_until(lambda: all(shop.settle() for shop in self._shops), RECOVERY_SECONDS)
        report = verify.verify(self.engine.store, self.engine.database, self.engine.settings.retain_ms)
        violations = [f"verify: {problem}" for problem in report.problems]
        for sku in SKUS:
            found = self.engine.stock.get(sku)
            if found.on_hand != (LITTLE if sku in SCARCE else PLENTY) or found.available < 0:
                violations.append(f"stock: {found}")
        lost = []
        records = self._records()
        for told in self.book.told.values():
            record = records.get(told.id)
            if record is None:
                lost.append(told)
            elif told.paid and (record.get("payment_id"), record["state"]) != (told.payment_id, State.COMMITTED):
                violations.append(f"a paid order isn't one: {told}, {record}")
            elif record["state"] == State.EXPIRED and time.time() < told.ends_s:
                violations.append(f"a hold ended before its time: {told}, {record}")
            elif record["state"] == State.RELEASED and not told.leaves:
                violations.append(f"a hold was released by nobody: {told}, {record}")
        for told in lost:
            if told.paid:
                violations.append(f"a paid order is gone: {told}")
        ages = [struck_s - told.held_s for told in lost]
        if ages and max(ages) > PROMISED_SECONDS:
            violations.append(f"a hold confirmed {max(ages):.2f} s before the fault is gone")
        for told in lost:
            del self.book.told[told.id]
        return Judgement(tuple(violations), len(lost), max(ages, default=0.0))

    def _records(self) -> dict[str, dict[str, str]]:
        """Every reservation that Redis or Postgres knows."""
        with self.engine.database.connect() as connection:
            names = list(self.book.told)
            found = projection.live(connection, self.engine.store.keys.partition, names).records
        pipe = self.engine.store.redis.pipeline(transaction=False)
        for name in names:
            pipe.hgetall(self.engine.store.keys.reservation(name))
        return found | {name: fields for name, fields in zip(names, pipe.execute(), strict=True) if fields}

    def _ready(self) -> bool:
        try:
            return self.service.call("GET", "/readyz").status == 200
        except OSError:
            return False

    def _engine(self) -> Engine:
        settings = from_environment(self._environment, secrets_required=False)
        return build(settings, client(settings))

    def _second_keeper(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "engine.cli", "keeper"]
        with (self.directory / "second-keeper.log").open("ab") as log:
            return subprocess.Popen(command, env=self._environment, cwd=ROOT, stdout=log, stderr=log)

    def _stock(self) -> None:
        for sku in SKUS:
            on_hand = LITTLE if sku in SCARCE else PLENTY
            self.engine.stock.configure(sku, on_hand, {}, Origin("chaos"), Operation())
