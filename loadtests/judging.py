"""The end of a run, where the stock was loaded: wait for what is open, judge, write the report."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from locust.runners import STATE_MISSING, MasterRunner

from loadtests import history, ledger, report, text, verdict
from loadtests.evidence import Evidence
from loadtests.figures import series
from loadtests.replay import Run
from loadtests.service import plain
from loadtests.session import CLOSE, DRAIN_SECONDS, INTERRUPTED, now, say

SETTLING_SECONDS = 30.0
"""How long holds of buyers that are gone are waited for. Those without an answer last up to 900 s: not waited for."""


LOST_SECONDS = 10.0
"""How long a worker without a heartbeat is waited for, which may only be busy."""

MAX_READINGS = 5
"""How often the books are read until nothing moved meanwhile."""


@dataclass(frozen=True)
class Books:
    """What the service says of the run's SKUs, and when that was read."""

    counters: dict[str, dict[str, int]]
    documents: list[dict[str, Any]]
    read_ms: float


def judged(run: Run) -> None:
    """Close, judge and tell. Whatever goes wrong in here fails the run."""
    environment = run.environment
    environment.process_exit_code = 1
    try:
        found, document = _verdict(run)
    except Exception as error:
        say(environment, f"the run could not be judged: {plain(error)}")
        environment.process_exit_code = INTERRUPTED if now.interrupted else 1
        return
    finally:
        now.run = None
        run.progress.end()
    say(environment, text.shown(found))
    if run.options.report:
        say(environment, f"report         {written(document, Path(run.options.report))}")
    environment.process_exit_code = INTERRUPTED if found.interrupted else 1 if found.wrong else 0


def _verdict(run: Run) -> tuple[verdict.Verdict, dict[str, Any]]:
    run.closed_ms = run.clock.now_ms()
    _close(run)
    books = _books(run)
    run.progress.say("judging")
    played = ledger.fold(books.documents, run.prefix)
    if now.interrupted:
        length = f" of {run.seconds:.0f}" if run.seconds else ""
        run.notes.append(f"interrupted after {(run.closed_ms - run.started_ms) / 1000:.0f}{length} s")
    limits = {sku: each["limit_per_customer"] for sku, each in run.products.items() if "limit_per_customer" in each}
    case = verdict.Case(
        scenario=run.scenario.name,
        seconds=(run.closed_ms - run.started_ms) / 1000,
        loaded=run.loaded,
        counters=books.counters,
        ledger=played,
        happened=tuple(history.events(books.documents, run.prefix)),
        records=run.records,
        limits=limits,
        skipped=run.scenario.skipped(),
        more=run.scenario.figures(run, played),
        bounds=run.bounds,
        notes=run.notes,
        interrupted=now.interrupted,
        missing=run.missing,
        rush_ms=run.scenario.rush(run),
        closed_ms=run.closed_ms,
        read_ms=books.read_ms,
    )
    found = verdict.judge(case)
    environment = run.environment
    document = found.document() | {
        "started_at": datetime.fromtimestamp(run.started_ms / 1000, UTC).isoformat(timespec="seconds"),
        "host": environment.host,
        "users": environment.runner.target_user_count if environment.runner else 0,
        "workers": run.workers,
        "seed": run.seed,
        "run": run.prefix,
        "series": series(run.records, played, run.started_ms, run.closed_ms, run.missing),
    }
    return found, document


def _close(run: Run) -> None:
    """Have every buyer finish, and every worker hand in its records."""
    run.progress.say("buyers finish what they are at")
    run.over.set()
    run.beside.join()
    runner = run.environment.runner
    assert runner is not None
    runner.send_message(CLOSE, {})
    if not isinstance(runner, MasterRunner):
        return
    seen_s = time.monotonic()
    give_up_s = seen_s + DRAIN_SECONDS + LOST_SECONDS
    while len(run.reported) < run.workers and time.monotonic() < min(give_up_s, seen_s + LOST_SECONDS):
        if any(each.state != STATE_MISSING and each.id not in run.reported for each in runner.clients.values()):
            seen_s = time.monotonic()
        time.sleep(0.05)
    if lost := run.workers - len(run.reported):
        was = "was" if lost == 1 else "were"
        run.missing[Evidence.RECORDS] = (
            f"{lost} of {run.workers} locust workers {was} lost with the records of their buyers"
        )


def _books(run: Run) -> Books:
    """Counters and ledger, read while nothing moved; else what is missing is noted. The run's other evidence counts all the same."""
    try:
        counters = _settled(run)
        run.progress.say("reading the ledger")
        for _ in range(MAX_READINGS):
            documents = list(run.service.events(next(iter(run.products))))
            before, counters = counters, run.service.counters(run.prefix)
            if _stock(before) == _stock(counters):
                return Books(counters, documents, run.clock.now_ms())
        run.missing[Evidence.BOOKS] = "stock still moved while it was read"
    except (requests.RequestException, ValueError) as error:
        run.missing[Evidence.BOOKS] = f"counters and ledger could not be read: {plain(error)}"
    return Books({}, [], run.clock.now_ms())


def _stock(counters: dict[str, dict[str, int]]) -> dict[str, list[int]]:
    """The numbers without the times at which they were read."""
    return {sku: [each[name] for name in ledger.COUNTER_NAMES] for sku, each in counters.items()}


def _settled(run: Run) -> dict[str, dict[str, int]]:
    """The counters, once every hold has ended."""
    give_up_s = time.monotonic() + SETTLING_SECONDS
    run.progress.say(f"waiting until every hold has ended, {SETTLING_SECONDS:.0f} s at most")
    while True:
        counters = run.service.counters(run.prefix)
        held = sum(counter["reserved"] for counter in counters.values())
        if not held or time.monotonic() > give_up_s:
            return counters
        time.sleep(0.5)


def written(document: dict[str, Any], directory: Path) -> Path:
    """Write the document as JSON and the page made of it beside it. Returns: the page."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = f"{document['scenario']}-{document['started_at'].replace(':', '').replace('+0000', 'Z')}"
    page = directory / f"{stem}.html"
    page.with_suffix(".json").write_text(json.dumps(document, indent=1))
    page.write_text(report.page(document))
    return page
