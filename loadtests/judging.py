"""The end of a run, where the stock was loaded: wait for what is open, judge, write the report."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from locust.runners import MasterRunner

from loadtests import history, ledger, report, verdict
from loadtests.figures import series
from loadtests.service import plain
from loadtests.session import CLOSE, DRAIN_SECONDS, INTERRUPTED, Run, now, say

SETTLING_SECONDS = 30.0
"""How long holds of buyers that are gone are waited for. Those without an answer last up to 900 s: not waited for."""


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
    say(environment, verdict.shown(found))
    if run.options.report:
        say(environment, f"report         {written(document, Path(run.options.report))}")
    environment.process_exit_code = INTERRUPTED if found.interrupted else 1 if found.wrong else 0


def _verdict(run: Run) -> tuple[verdict.Verdict, dict[str, Any]]:
    run.closed_ms = run.clock.now_ms()
    _close(run)
    counters = _settled(run)
    documents = list(run.service.events(next(iter(run.products))))
    played, happened = ledger.fold(documents, run.prefix), tuple(history.events(documents, run.prefix))
    if now.interrupted:
        length = f" of {run.seconds:.0f}" if run.seconds else ""
        run.notes.append(f"interrupted after {(run.closed_ms - run.started_ms) / 1000:.0f}{length} s")
    limits = {sku: each["limit_per_customer"] for sku, each in run.products.items() if "limit_per_customer" in each}
    case = verdict.Case(
        scenario=run.scenario.name,
        seconds=(run.closed_ms - run.started_ms) / 1000,
        loaded=run.loaded,
        counters=counters,
        ledger=played,
        happened=happened,
        records=run.records,
        limits=limits,
        skipped=run.scenario.skipped(),
        more=run.scenario.figures(run, played),
        bounds=run.bounds,
        notes=run.notes,
        interrupted=now.interrupted,
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
        "series": series(run.records, played, run.started_ms, run.closed_ms),
    }
    return found, document


def _close(run: Run) -> None:
    """Have every buyer finish, and every worker hand in its records."""
    run.over.set()
    run.beside.join()
    runner = run.environment.runner
    assert runner is not None
    runner.send_message(CLOSE, {})
    if not isinstance(runner, MasterRunner):
        return
    give_up_s = time.monotonic() + DRAIN_SECONDS + 10
    while len(run.reported) < run.workers and runner.worker_count and time.monotonic() < give_up_s:
        time.sleep(0.05)
    if len(run.reported) < run.workers:
        run.records.problems.append(f"{run.workers - len(run.reported)} locust workers did not hand in their records")


def _settled(run: Run) -> dict[str, dict[str, int]]:
    """The counters, once every hold has ended."""
    give_up_s = time.monotonic() + SETTLING_SECONDS
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
