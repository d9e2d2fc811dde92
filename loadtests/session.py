"""A run of a scenario inside locust: alone, as master, as worker, from the command line or the web UI.

At the start whoever has no master loads the stock, and gives the run a name that its workers get with their orders. At
the end buyers finish what they are at, workers send their records to the master, and the master, or the only process,
waits until every hold has ended, judges, and writes the report. Each start is a run of its own.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from loadtests import options
from loadtests.replay import LEFT, Run, Scenario, end
from loadtests.service import plain

DRAIN_SECONDS = 120.0
"""How long buyers may take to finish what they are at; longer than all repetitions of one call."""

CLOSE, RECORDS = "stockade_close", "stockade_records"
"""Messages between master and workers, beside LEFT; a process of its own sends them to itself."""

INTERRUPTED = 130
"""The exit code of a run that was interrupted, as shells have it for SIGINT."""


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
        run.progress.end()
        return _refuse(environment, "verdict        interrupted, before any buyer came", INTERRUPTED)
    now.run = run
    run.progress.follow(run.line)


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
    """Keep what a worker hands in, and add it once it is whole: half of it would be evidence of what isn't so."""
    run = now.run
    if run is None:
        return
    pieces = run.pieces.setdefault(msg.node_id, [])
    pieces.append(msg.data["message"])
    if msg.data["last"]:
        for piece in pieces:
            run.records.add(piece)
        pieces.clear()
        run.reported.add(msg.node_id)


@events.report_to_master.add_listener
def report_tally(client_id: str, data: dict[str, Any], **_: Any) -> None:
    if now.run is not None:
        data["stockade_tally"] = now.run.tally()


@events.worker_report.add_listener
def take_tally(client_id: str, data: dict[str, Any], **_: Any) -> None:
    if now.run is not None and "stockade_tally" in data:
        now.run.tallies[client_id] = data["stockade_tally"], time.monotonic()


def count_left(environment: Environment, msg: Any, **_: Any) -> None:
    run, runner = now.run, environment.runner
    assert runner is not None
    if run is None:
        return
    run.left += 1
    if run.left == runner.target_user_count and environment.shape_class is None:
        end(environment)


@events.request.add_listener
def remember(name: str, start_time: float, response_time: float, exception: Any = None, **_: Any) -> None:
    """Count every call, and time those that were answered."""
    if now.run is None:
        return
    now.run.requests += 1
    if not (exception and str(exception).startswith("0 ")):
        now.run.records.timed(name, now.run.clock.latest(start_time), response_time)


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


@events.quitting.add_listener
def let_dead_workers_rest(environment: Environment, **_: Any) -> None:
    """locust waits for its workers at its exit, and fails loudly with one that gevent has reaped long ago."""
    if not isinstance(environment.runner, MasterRunner):
        return
    waitpid = os.waitpid

    def waited(pid: int, options: int) -> tuple[int, int]:
        try:
            return waitpid(pid, options)
        except ChildProcessError:
            return pid, 0

    os.waitpid = waited


@events.quit.add_listener
def print_last_words(**_: Any) -> None:
    if now.last_words:
        print("\n".join(now.last_words), flush=True)
