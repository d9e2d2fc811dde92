"""Each fault of the table in docs/faults.md is done to a running service, and seen in every place that the table names."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import astuple, fields
from typing import Any

import pytest

from tests import seed
from tests.command.faults import FAULTS, Fault, Seen
from tests.command.service import ROOT, Service
from tests.command.watched import Cramped, Outside, Watched
from tests.waiting import wait_until

PAGE = ROOT / "docs" / "faults.md"
SOON_SECONDS = 40.0
"""The slowest is told after 10 s, so that a burst is no fault."""

COMPARED: dict[str, Callable[[float, float], bool]] = {">": operator.gt, "<": operator.lt, "": operator.eq}


@pytest.fixture(scope="module")
def watched_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[type[Watched]], Watched]]:
    """The services to which faults are done, one of each kind."""
    running: dict[type[Watched], Watched] = {}

    def find(kind: type[Watched]) -> Watched:
        if kind not in running:
            directory = tmp_path_factory.mktemp("faults")
            running[kind] = _started(kind, directory, tmp_path_factory)
            running[kind].begin()
        return running[kind]

    yield find
    for each in running.values():
        each.stop()


def _started(kind: type[Watched], directory: Any, factory: pytest.TempPathFactory) -> Watched:
    if kind is Cramped:
        return Cramped(directory)
    if kind is Outside:
        return Outside(directory, factory)
    return Watched(Service(seed.plant(directory / "data", factory)))


def shows(found: dict[str, Any], cell: str) -> bool:
    name, _, text = cell.partition(": ")
    return name in found and str(found[name]).startswith(text)


def measures(found: dict[str, float], cell: str) -> bool:
    name, *compared, value = cell.split()
    return name in found and COMPARED["".join(compared)](found[name], float(value))


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_seen_in_every_place(watched_of: Callable[[type[Watched]], Watched], fault: Fault) -> None:
    watched, seen = watched_of(fault.to), fault.seen
    wait_until(watched.is_ready, SOON_SECONDS)
    begins = len(watched.log)
    with fault.do(watched):
        wait_until(lambda: shows(watched.readyz(), seen.readyz), SOON_SECONDS)
        wait_until(lambda: measures(watched.metrics(), seen.metric), SOON_SECONDS)
        wait_until(lambda: shows(watched.console(), seen.console), SOON_SECONDS)
        assert [name for name in watched.doctor() if name.startswith(seen.doctor)]
        if not fault.said_later:
            wait_until(lambda: seen.log in watched.log[begins:], SOON_SECONDS)
    wait_until(watched.is_ready, SOON_SECONDS)
    # Some are said by who was away meanwhile, or once somebody takes the log again.
    wait_until(lambda: seen.log in watched.log[begins:], SOON_SECONDS)


def test_the_page_has_every_fault_and_no_empty_cell() -> None:
    rows = re.findall(r"^\| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    table = [[cell.strip().strip("`") for cell in row.split(" | ")] for row in rows]
    assert table[0] == ["fault", *("runbook entry" if each.name == "entry" else each.name for each in fields(Seen))]
    assert table[1:] == [[name, *astuple(fault.seen)] for name, fault in FAULTS.items()]
    assert all(cell for row in table for cell in row)


def test_the_alerts_ask_the_metrics_and_the_entries_are_there() -> None:
    rules = (ROOT / "docs" / "deploy" / "alerts.yml").read_text()
    asks = dict(re.findall(r"- alert: (\w+)\n +expr: (.+)", rules))
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "RUNBOOK.md").read_text(), re.MULTILINE)
    for fault in FAULTS.values():
        assert fault.seen.metric.split()[0] in asks[fault.seen.alert]
        assert fault.seen.entry in headings
