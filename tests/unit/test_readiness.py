"""What each part is said to be, and which of them make a service not ready."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from engine import checks_processes, readiness
from engine.checks import Verdict
from engine.disk import Disk
from engine.overview import Now, Record
from engine.processes import Process
from engine.readiness import READY
from engine.store import Glance
from engine.unfailing import FULL_BYTES, Unfailing
from engine.values import Problems, Selling
from tests.conftest import settings

SETTINGS = settings("unix:///nowhere")
GLANCE = Glance(1, {}, "run", 0, 0, 1, "a keeper", None, Problems(1, 0, ()), 1_000, 0)
NOW = Now(GLANCE, "open", Selling(False, ""), 900, 0, Record(0, 0, 0, 0, 0), None)


@pytest.fixture(autouse=True)
def log_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "log_state", lambda: "ok")


def off(now: Now | None, postgres: str = "ok") -> dict[str, str]:
    return dict(readiness.readiness(now, postgres, SETTINGS).items() - READY.items())


def seen(**changed: Any) -> Now:
    return replace(NOW, glance=replace(GLANCE, **changed))


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (NOW, {}),
        (seen(keeper=""), {"keeper": "missing"}),
        (seen(writes=False), {"redis": "disk full"}),
        (seen(used_memory_bytes=99, max_memory_bytes=100), {"redis": "full"}),
        (seen(problems=Problems(1, 2, ("one", "two"))), {"record": "damaged: one (1 more)"}),
        (seen(problems=None), {"record": "unchecked", "aof": "unchecked"}),
        (seen(problems=Problems(1, 0, (), aof="a restart forgets")), {"aof": "a restart forgets"}),
        (seen(clock_off_ms=2_000), {}),
        (seen(clock_off_ms=2_001), {"clock": "Redis's is +2 s off"}),
        (seen(clock_off_ms=-600_000, clock_ahead_ms=600_000), {"clock": "Redis's is -600 s off"}),
        (seen(clock_ahead_ms=1_000), {}),
        (seen(clock_ahead_ms=5_000), {"clock": "stands still for 5 s"}),
        (replace(NOW, gate="closed"), {"gate": "closed"}),
        (replace(NOW, record=None), {"snapshot": "unknown"}),
        (replace(NOW, record=Record(0, 0, 0, 1_800_000, 0)), {}),
        (replace(NOW, record=Record(0, 0, 0, 1_800_001, 0)), {"snapshot": "old"}),
        (replace(NOW, record=Record(0, 0, 0, 0, 1)), {"snapshot": "differs"}),
    ],
)
def test_a_part_that_is_off_is_named(now: Now, found: dict[str, str]) -> None:
    assert off(now) == found


def test_a_full_disk_is_named_beside_each_server_that_writes_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for redis, postgres in ((True, False), (False, True)):
        room = Disk(1_000, 1_000_000, redis, postgres)
        monkeypatch.setattr("engine.readiness.disk.look", lambda settings, room=room: room)
        assert off(NOW) == ({"redis": "disk full"} if redis else {"postgres": "disk full"})


def test_a_log_that_loses_lines_is_named_for_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("engine.unfailing.free", lambda log: None)
    now_s = time.monotonic()
    for lost_s, word in ((None, "ok"), (now_s, "lines are lost"), (now_s - 31, "ok")):
        monkeypatch.setattr(Unfailing, "lost_s", lost_s)
        assert readiness.log_state() == word
    monkeypatch.setattr("engine.unfailing.free", lambda log: FULL_BYTES - 1)
    assert readiness.log_state() == "disk full"


@pytest.mark.parametrize(("free", "verdict"), [(FULL_BYTES - 1, Verdict.TO_DO), (FULL_BYTES, Verdict.FINE)])
def test_the_doctor_looks_for_room_where_each_process_logs(free: int, verdict: Verdict) -> None:
    processes = [Process(1, "up", False, 2 * FULL_BYTES), Process(2, "keeper", False, free), Process(3, "api", False)]
    found = {check.name: check for check in checks_processes.checks(processes, "")}
    assert found["log"].verdict is verdict
    assert "where keeper 2 logs" in found["log"].said
    assert "log" not in {check.name for check in checks_processes.checks(processes[2:], "")}


def test_the_doctor_misses_what_up_should_have_started() -> None:
    whole = [Process(number, part, False) for number, part in enumerate(("up", "api", "api worker", "keeper"))]
    for found, said in ((whole, None), (whole[:1] + whole[3:], "no api, no api worker: "), (whole[3:], None)):
        [check] = checks_processes.checks(found, "")
        assert (check.verdict is Verdict.TO_DO) == bool(said)
        assert not said or said in check.said
