"""One replay of a scenario, as each process of a run has it: what was loaded, what buyers remember, when it ends."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Group
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import WorkerRunner

from loadtests import incidents, progress
from loadtests.defaults import SCENARIOS
from loadtests.evidence import Evidence
from loadtests.ledger import Fold
from loadtests.records import Records
from loadtests.service import Service
from loadtests.thresholds import bounds

LEFT = "stockade_left"
"""What a worker tells the master when a buyer finds nothing left to do."""

SILENT_SECONDS = 10.0
"""A worker that has told nothing for so long makes no requests any more."""

Product = dict[str, Any]
"""What a SKU is created with: on_hand, and a limit_per_customer if it has one."""


@dataclass(frozen=True)
class Scenario:
    """What a locustfile adds to its buyers.

    `stock` gives the products by name, the run's prefix not included. `figures` are those that only this scenario has.
    `behind` runs beside the buyers, where the stock was loaded. `skipped` says what of its input was left out. `rush` is when
    the rush began, in milliseconds of the service's clock, None while it hasn't; of a scenario that has one.
    """

    name: str
    stock: Callable[[Run], Mapping[str, Product]]
    figures: Callable[[Run, Fold], dict[str, float | None]] = lambda run, ledger: {}
    behind: Callable[[Run], None] = lambda run: None
    skipped: Callable[[], dict[str, int]] = dict
    rush: Callable[[Run], float | None] = lambda run: None


class Run:
    """One replay: what was loaded, and what the buyers of this process remember."""

    def __init__(self, scenario: Scenario, environment: Environment) -> None:
        given, runner = environment.parsed_options, environment.runner
        assert given is not None
        assert runner is not None
        assert environment.host is not None
        self.scenario, self.environment, self.options = scenario, environment, given
        self.service = Service(
            environment.host, os.environ["STOCKADE_JWT_SECRET"], os.environ.get("STOCKADE_WEBHOOK_SECRET", "")
        )
        self.judges = not isinstance(runner, WorkerRunner)
        if self.judges:
            given.run_name = f"load-{int(time.time()):x}-{os.getpid():x}-"
            given.run_seconds = float(given.seconds or given.run_time or SCENARIOS[scenario.name].seconds)
            given.run_workers = max(1, getattr(runner, "worker_count", 1))
        self.prefix, self.seed = given.run_name, given.seed
        self.checkouts = given.checkouts or SCENARIOS[scenario.name].checkouts
        self.seconds = given.run_seconds
        self.users = int(given.num_users or SCENARIOS[scenario.name].users)
        self.worker = getattr(runner, "worker_index", 0)
        self.workers = given.run_workers
        self.bounds = bounds(scenario.name, given.threshold.split())
        self.records, self.notes = Records(), list[str]()
        self.products: Mapping[str, Product] = {self.prefix + name: each for name, each in scenario.stock(self).items()}
        self.loaded = {sku: int(each["on_hand"]) for sku, each in self.products.items()}
        self.payments = self.service.token("load-test-payments", "payments")
        self.clock = self.service.clock()
        self.taken = self.busy = self.left = 0
        self.over = Event()
        self.reported: set[str] = set()
        self.pieces: dict[str, list[str]] = {}
        self.tallies: dict[str, tuple[dict[str, float], float]] = {}
        self.requests, self.rate = 0, progress.Rate()
        self.missing: dict[Evidence, str] = {}
        self.rush_ms: float | None = None
        self.finishing: gevent.Greenlet | None = None
        self.progress = progress.Progress(silent=not (self.judges and given.only_summary))
        if self.judges:
            self.progress.say(f"loading {len(self.products):,} SKUs")
            self.service.load(self.products)
            given.run_started_ms = self.clock.now_ms()
        self.started_ms = self.closed_ms = given.run_started_ms
        self.beside = Group()
        if self.judges:
            for thing in (scenario.behind, incidents.watch_memory, incidents.kill_in_the_middle, end_in_time):
                self.beside.spawn(thing, self)

    @property
    def closing(self) -> bool:
        """Whether buyers should come to an end. `over` can be waited for."""
        return bool(self.over.is_set())

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return float(self.clock.now_ms() - self.started_ms) / 1000

    def tally(self) -> dict[str, float]:
        """What this process tells of itself while the run goes on, since the last time that it did."""
        return {**self.records.tally, "checkouts": self.taken, "requests_per_s": self.rate.now(self.requests)}

    def line(self) -> str:
        """How far the run is: by this process alone, or by what the workers told last."""
        told: Counter[str] = Counter()
        for tally, at_s in self.tallies.values() or [(self.tally(), time.monotonic())]:
            gone = time.monotonic() - at_s > SILENT_SECONDS
            told.update({name: value for name, value in tally.items() if not (gone and name == "requests_per_s")})
        runner = self.environment.runner
        return progress.line(
            told, self.elapsed, self.seconds, self.checkouts, runner.user_count if runner is not None else 0
        )

    @contextmanager
    def turn(self) -> Iterator[int]:
        """One buyer's turn, with a number that no other buyer of the run has.

        Raises:
            StopUser: there are no more turns.
        """
        number = self.worker + self.workers * self.taken
        if self.closing:
            raise StopUser
        if self.checkouts and number >= self.checkouts:
            self.leave()
            raise StopUser
        self.taken += 1
        self.busy += 1
        try:
            yield number
        finally:
            self.busy -= 1

    def leave(self) -> None:
        """A buyer finds nothing left to do. With the last one the run ends."""
        runner = self.environment.runner
        assert runner is not None
        runner.send_message(LEFT, {})

    def key(self, number: int, what: str = "") -> str:
        """A name for idempotency and payments that no other call of this or another run has."""
        return f"{self.prefix}{self.worker}-{number}{what}"


def end_in_time(run: Run) -> None:
    """End a run that was given its seconds. locust's own --run-time has the loading of the stock in it."""
    if run.options.seconds and not run.over.wait(run.options.seconds):
        end(run.environment)


def end(environment: Environment) -> None:
    """Stop the test, and the process unless it has a web UI that may start another."""
    assert environment.runner is not None
    gevent.spawn(environment.runner.stop if environment.web_ui else environment.runner.quit)
