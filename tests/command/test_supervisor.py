from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import supervisor as module
from engine.supervisor import Child, KeepsDying, Supervisor
from tests.waiting import wait_until

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    made = Supervisor()
    yield made
    made.stop_all()


def test_a_process_that_keeps_dying_is_given_up(supervisor: Supervisor, capfd: pytest.CaptureFixture[str]) -> None:
    supervisor.start(Child("doomed", ["false"], os.environ, Path()))
    with pytest.raises(KeepsDying, match=r"doomed keeps dying \(exit 1\)"):
        supervisor.run()
    said = capfd.readouterr().err.splitlines()
    assert said == ["stockade: doomed died (exit 1); starting it again"] * (module.DEATHS_TO_GIVE_UP - 1)


def test_a_process_that_keeps_dying_is_given_up_during_the_start_as_well(supervisor: Supervisor) -> None:
    supervisor.start(Child("doomed", ["true"], os.environ, Path()))
    with pytest.raises(KeepsDying, match=r"doomed keeps dying \(exit 0\)"):
        supervisor.wait_until(lambda: False, 30)


def test_a_process_that_keeps_dying_for_a_reason_that_passes_is_tried_again_after_a_rest(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "REST_SECONDS", 0.2)
    patient = Supervisor(lambda: "the disk is full")
    room = tmp_path / "room"
    child = Child("starved", ["sh", "-c", f"test -e {room} && exec sleep 600"], os.environ, Path())
    patient.start(child)
    assert not patient.wait_until(lambda: False, 1.5)
    said = capfd.readouterr().err
    assert "stockade: starved keeps dying (exit 1): the disk is full; trying again in 0 s\n" in said
    room.touch()
    assert patient.wait_until(lambda: child.process is not None and child.process.poll() is None, 10)
    patient.stop_all()


def test_what_can_not_be_cleared_away_or_started_is_said_and_tried_again(
    supervisor: Supervisor, capfd: pytest.CaptureFixture[str]
) -> None:
    def no_room() -> None:
        raise OSError(28, "No space left on device")

    supervisor.start(Child("doomed", ["false"], os.environ, Path(), before_restart=no_room))
    with pytest.raises(KeepsDying):
        supervisor.run()
    assert "stockade: doomed can't be started: [Errno 28] No space left on device\n" in capfd.readouterr().err


def test_what_a_relayed_process_writes_is_written_to_its_last_words(
    supervisor: Supervisor, capfd: pytest.CaptureFixture[str]
) -> None:
    talks = ["sh", "-c", "echo one; echo two >&2; sleep 0.1; printf last"]
    supervisor.start(Child("talker", talks, os.environ, Path(), relayed=True))
    with pytest.raises(KeepsDying):
        supervisor.run()
    said = capfd.readouterr().err
    assert said.count("one\ntwo\nlast") == module.DEATHS_TO_GIVE_UP


def test_a_process_that_dies_now_and_then_is_started_again(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WITHIN_SECONDS", 0.0)
    child = Child("unlucky", ["false"], os.environ, Path())
    supervisor.start(child)
    assert supervisor.wait_until(lambda: len(child.deaths_s) == module.DEATHS_TO_GIVE_UP, 30)


def test_a_killed_process_is_named_with_its_signal(supervisor: Supervisor, capfd: pytest.CaptureFixture[str]) -> None:
    child = Child("victim", SLEEP, os.environ, Path())
    supervisor.start(child)
    assert child.process is not None
    first = child.process
    first.kill()
    assert supervisor.wait_until(lambda: child.process is not first, 10)
    assert capfd.readouterr().err == "stockade: victim died (killed by SIGKILL); starting it again\n"
    assert child.process.poll() is None


def test_processes_are_stopped_the_last_one_first(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[str] = []
    stop = Child.stop

    def noted(child: Child) -> None:
        stopped.append(child.name)
        stop(child)

    monkeypatch.setattr(Child, "stop", noted)
    children = [Child(name, SLEEP, os.environ, Path()) for name in ("first", "second", "third")]
    for child in children:
        supervisor.start(child)
    supervisor.stop_all()
    assert stopped == ["third", "second", "first"]
    assert all(child.process and child.process.poll() is not None for child in children)


def test_a_process_that_does_not_stop_is_killed(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.2)
    supervisor.start(Child("deaf", DEAF, os.environ, Path()))
    wait_until(lambda: "deaf" in capfd.readouterr().err)
    supervisor.stop_all()
    assert "deaf doesn't stop; killing it" in capfd.readouterr().err


def test_a_process_is_stopped_in_its_own_way(supervisor: Supervisor, capfd: pytest.CaptureFixture[str]) -> None:
    child = Child("deaf", DEAF, os.environ, Path(), stop_signal=signal.SIGINT)
    supervisor.start(child)
    wait_until(lambda: "deaf" in capfd.readouterr().err)
    supervisor.stop_all()
    assert child.process is not None
    assert child.process.returncode == -signal.SIGINT
    assert "killing it" not in capfd.readouterr().err


def test_a_reload_reaches_those_that_can_begin_anew_and_no_other(
    supervisor: Supervisor, capfd: pytest.CaptureFixture[str]
) -> None:
    program = "import signal, time; signal.signal(signal.SIGHUP, lambda *_: print('anew', flush=True)); print('awake', flush=True)"
    able = Child("able", [sys.executable, "-c", f"{program}; time.sleep(600)"], os.environ, Path())
    able.reload_signal = signal.SIGHUP
    other = Child("other", SLEEP, os.environ, Path())
    for child in (able, other):
        supervisor.start(child)
    assert supervisor.wait_until(lambda: "awake" in capfd.readouterr().err, 10)
    supervisor.reload()
    assert supervisor.wait_until(lambda: "anew" in capfd.readouterr().err, 10)
    assert all(child.process and child.process.poll() is None for child in (able, other))


def test_what_a_dead_process_left_is_cleared_away_before_the_next_start(supervisor: Supervisor) -> None:
    cleared: list[int] = []
    child = Child("victim", SLEEP, os.environ, Path())
    child.before_restart = lambda: cleared.append(child.process.pid if child.process else 0)
    supervisor.start(child)
    assert child.process is not None
    first = child.process
    assert cleared == []
    first.kill()
    assert supervisor.wait_until(lambda: child.process is not first, 10)
    assert cleared == [first.pid]


def test_a_stop_ends_the_run_and_any_wait(supervisor: Supervisor) -> None:
    supervisor.start(Child("calm", SLEEP, os.environ, Path()))
    threading.Timer(0.2, supervisor.stop).start()
    supervisor.run()
    assert supervisor.stopping
    assert not supervisor.wait_until(lambda: True, 10)
