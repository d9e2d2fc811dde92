"""A run of a scenario inside locust: alone, as master, as worker, from the command line or the web UI.

At the start whoever has no master loads the stock, and gives the run a name that its workers get with their orders. At
the end buyers finish what they are at, workers send their records to the master, and the master, or the only process,
waits until every hold has ended, judges, and writes the report. Each start is a run of its own.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.event import Event
from gevent.pool import Group
from locust import events
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from loadtests import incidents, options
from loadtests.defaults import SCENARIOS
from loadtests.ledger import Fold
from loadtests.records import Records
from loadtests.service import Service, plain
from loadtests.thresholds import bounds

DRAIN_SECONDS = 120.0
"""How long buyers may take to finish what they are at; longer than all repetitions of one call."""

CLOSE, RECORDS, LEFT = "stockade_close", "stockade_records", "stockade_left"
"""Messages between master and workers; a process of its own sends them to itself."""

INTERRUPTED = 130
"""The exit code of a run that was interrupted, as shells have it for SIGINT."""

Product = dict[str, Any]
"""What a SKU is created with: on_hand, and a limit_per_customer if it has one."""


@dataclass(frozen=True)
class Scenario:
    """What a locustfile adds to its buyers.

    `stock` gives the products by name, the run's prefix not included. `figures` are those that only this scenario has.
    `behind` runs beside the buyers, where the stock was loaded. `skipped` says what of its input was left out.
    """

    name: str
    stock: Callable[[Run], Mapping[str, Product]]
    figures: Callable[[Run, Fold], dict[str, float | None]] = lambda run, ledger: {}
    behind: Callable[[Run], None] = lambda run: None
    skipped: Callable[[], dict[str, int]] = dict


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
        self.finishing: gevent.Greenlet | None = None
        if self.judges:
            self.service.load(self.products)
        self.started_ms = self.closed_ms = self.clock.now_ms()
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
        return (self.clock.now_ms() - self.started_ms) / 1000

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


@dataclass
class _Now:
    scenario: Scenario | None = None
    run: Run | None = None
    interrupted: bool = False
    last_words: list[str] = field(default_factory=list)


now = _Now()


def play(scenario: Scenario) -> None:
    """Make this the scenario of the process. A locustfile that imports another one comes last, and wins."""
    now.scenario = scenario


def current() -> Run:
    """The run that goes on. Raises StopUser where there is none."""
    if now.run is None:
        raise StopUser
    return now.run


events.init_command_line_parser.add_listener(options.add_options)


@events.init.add_listener
def connect(environment: Environment, runner: Any, **_: Any) -> None:
    """Have master and workers hear each other's messages."""
    if not isinstance(runner, MasterRunner):
        runner.register_message(CLOSE, close, concurrent=isinstance(runner, WorkerRunner))
    if not isinstance(runner, WorkerRunner):
        runner.register_message(RECORDS, take_records)
        runner.register_message(LEFT, count_left)
        gevent.signal_handler(signal.SIGINT, interrupt, environment)
    # `make load` blocks it until somebody is there to take it.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def interrupt(environment: Environment) -> None:
    """End the run, and have it judged as one that was interrupted. While stock loads, `start` finds out by itself."""
    now.interrupted = True
    if now.run is not None or environment.web_ui is not None:
        assert environment.runner is not None
        gevent.spawn(environment.runner.quit)


@events.test_start.add_listener
def start(environment: Environment, **_: Any) -> None:
    """Load the stock. locust goes on after an error in here, so it's ended by hand."""
    assert now.scenario is not None
    now.run = None
    try:
        run = Run(now.scenario, environment)
    except Exception as error:
        return _refuse(environment, f"the run could not be started: {plain(error)}", 1)
    if now.interrupted:
        run.over.set()
        return _refuse(environment, "verdict        interrupted, before any buyer came", INTERRUPTED)
    now.run = run


def _refuse(environment: Environment, words: str, code: int) -> None:
    say(environment, words)
    environment.process_exit_code = INTERRUPTED if now.interrupted else code
    assert environment.runner is not None
    gevent.spawn(environment.runner.quit)


@events.test_stopping.add_listener
@events.test_stop.add_listener
def finish(environment: Environment, **_: Any) -> None:
    """Close the run and judge it, once, however many ways lead here; locust goes on when that is done."""
    from loadtests.judging import judged  # it knows of runs, too

    run = now.run
    if run is None or not run.judges:
        return
    if run.finishing is None:
        run.finishing = gevent.spawn(judged, run)
    run.finishing.join()


def close(environment: Environment, msg: Any, **_: Any) -> None:
    """Let buyers finish what they are at, and hand in what they remember."""
    run, runner = now.run, environment.runner
    assert runner is not None
    if run is None:
        runner.send_message(RECORDS, {"last": True, "message": "{}"})
        return
    run.over.set()
    give_up_s = time.monotonic() + DRAIN_SECONDS
    while run.busy and time.monotonic() < give_up_s:
        time.sleep(0.02)
    if run.busy:
        run.records.problems.append(f"{run.busy} buyers did not finish within {DRAIN_SECONDS:.0f} s")
    if isinstance(runner, WorkerRunner):
        for message in run.records.messages():
            runner.send_message(RECORDS, {"last": False, "message": message})
    runner.send_message(RECORDS, {"last": True, "message": "{}"})


def take_records(environment: Environment, msg: Any, **_: Any) -> None:
    if now.run is not None:
        now.run.records.add(msg.data["message"])
        if msg.data["last"]:
            now.run.reported.add(msg.node_id)


def count_left(environment: Environment, msg: Any, **_: Any) -> None:
    run, runner = now.run, environment.runner
    assert runner is not None
    if run is None:
        return
    run.left += 1
    if run.left == runner.target_user_count and environment.shape_class is None:
        end(environment)


def end_in_time(run: Run) -> None:
    """End a run that was given its seconds. locust's own --run-time has the loading of the stock in it."""
    if run.options.seconds and not run.over.wait(run.options.seconds):
        end(run.environment)


def end(environment: Environment) -> None:
    """Stop the test, and the process unless it has a web UI that may start another."""
    assert environment.runner is not None
    gevent.spawn(environment.runner.stop if environment.web_ui else environment.runner.quit)


@events.request.add_listener
def remember(name: str, start_time: float, response_time: float, exception: Any = None, **_: Any) -> None:
    """Time every call that was answered."""
    if now.run is not None and not (exception and str(exception).startswith("0 ")):
        now.run.records.timed(name, now.run.clock.latest(start_time + response_time / 1000), response_time)


def say(environment: Environment, words: str) -> None:
    """Print below locust's own tables; with the web UI at once, since the process goes on."""
    if environment.web_ui is not None:
        print(words, flush=True)
    else:
        now.last_words.append(words)


@events.quitting.add_listener
def stop_before_the_exit_code_is_read(environment: Environment, **_: Any) -> None:
    """A master does so by itself."""
    if isinstance(environment.runner, LocalRunner):
        environment.runner.stop()


@events.quit.add_listener
def print_last_words(**_: Any) -> None:
    if now.last_words:
        print("\n".join(now.last_words), flush=True)
