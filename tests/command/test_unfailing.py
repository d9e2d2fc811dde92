"""No process ends, or stands still, because nobody takes its log."""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from api.views.health import READY as READY_CHECKS
from engine.unfailing import Unfailing
from tests import seed
from tests.command.service import READY, ROOT, environment, part, send, workers
from tests.programs import needs
from tests.waiting import wait_until


def test_what_a_full_disk_does_not_take_is_lost_and_counted_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, really, full = tmp_path / "log", os.write, False

    def write(descriptor: int, data: bytes) -> int:
        if not full:
            return really(descriptor, data)
        if bytes(data).startswith(b"two"):
            return really(descriptor, data[:2])
        raise OSError(errno.ENOSPC, "no space")

    with file.open("wb") as log:
        stream = Unfailing(log.fileno())
        monkeypatch.setattr("engine.unfailing.os.write", write)
        assert stream.write(b"one\n") == 4
        full = True
        assert stream.write(b"two\n") == 4
        assert stream.write(b"three\n") == 6
        full = False
        assert stream.write(b"four\n") == 5
        assert stream.write(b"five\n") == 5
    one, torn, notice, *rest = file.read_text().splitlines()
    assert (one, torn) == ("one", "tw")
    assert json.loads(notice)["event"] == "log_lines_lost"
    assert json.loads(notice)["lines"] == 2
    assert rest == ["four", "five"]


def test_a_reader_that_sleeps_is_not_waited_for_and_finds_whole_lines_when_it_wakes_up() -> None:
    reader, writer = os.pipe()
    stream, line = Unfailing(writer), b"x" * 99 + b"\n"
    for _ in range(2_000):
        assert stream.write(line) == len(line)
    while os.read(reader, 4_096) == line * 40 + line[:96]:
        pass
    os.set_blocking(reader, False)
    with suppress(BlockingIOError):
        while os.read(reader, 65_536):
            pass
    stream.write(b"awake\n")
    last = os.read(reader, 65_536).splitlines()
    assert json.loads(last[-2])["event"] == "log_lines_lost"
    assert last[-1] == b"awake"
    os.close(reader)
    assert stream.write(b"gone\n") == 5
    os.close(writer)


@contextmanager
def full_disk() -> Iterator[int]:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@contextmanager
def reader_gone() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@contextmanager
def reader_asleep() -> Iterator[int]:
    """A pipe in which there is no more room."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while os.write(writer, b"x" * 1_024):
            pass
    os.set_blocking(writer, True)
    yield writer
    os.close(writer)
    os.close(reader)


@contextmanager
def closed() -> Iterator[int]:
    yield -1


def _is_started_again(up: subprocess.Popen[bytes], name: str) -> None:
    victim = part(up, name)
    os.kill(victim.pid, signal.SIGKILL)
    wait_until(lambda: part(up, name).pid != victim.pid, 30)


@pytest.mark.parametrize(
    "stderr",
    [full_disk, *(pytest.param(each, marks=pytest.mark.slow) for each in (reader_gone, reader_asleep, closed))],
)
def test_up_works_and_mends_itself_and_ends_well_whoever_takes_its_log(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, stderr: Callable[[], AbstractContextManager[int]]
) -> None:
    data_dir, said = tmp_path / "data", tmp_path / "stdout"
    seed.plant(data_dir, tmp_path_factory)
    command = [sys.executable, "-m", "engine.cli", "up", "--port", "0", "--data-dir", str(data_dir)]
    with stderr() as descriptor, said.open("w") as stdout:
        up = subprocess.Popen(
            command,
            env=environment(),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=None if descriptor < 0 else descriptor,
            preexec_fn=(lambda: os.close(2)) if descriptor < 0 else None,
        )
        try:
            wait_until(lambda: READY.match(said.read_text()) or up.poll() is not None, 40)
            assert up.poll() is None
            for name in ("keeper", "valkey", "postgres", "worker"):
                _is_started_again(up, name)
            assert len(workers(up)) == 1
        finally:
            up.terminate()
            assert up.wait(30) == 0
    assert [path for path in data_dir.rglob("*") if path.suffix == ".log" or "log" in path.stem.split("_")] == []


def test_up_of_which_nobody_reads_the_first_line_works(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data_dir = tmp_path / "data"
    seed.plant(data_dir, tmp_path_factory)
    command = [sys.executable, "-m", "engine.cli", "up", "--port", "0", "--data-dir", str(data_dir)]
    with reader_gone() as nobody:
        up = subprocess.Popen(command, env=environment(), cwd=ROOT, stdout=nobody, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: up.poll() is not None or (data_dir / "redis.url").exists(), 40)
        assert workers(up) or wait_until(lambda: workers(up), 40)
    finally:
        up.terminate()
        assert up.wait(30) == 0


@pytest.mark.slow
def test_up_on_a_disk_that_fills_up_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """Data and log on one small disk, which only the processes of this test see."""
    disk = tmp_path / "disk"
    disk.mkdir()
    program = f"mount -t tmpfs -o size=200m tmpfs {disk} && exec {sys.executable} -m engine.cli up --port 0 --data-dir {disk}/data 2>{disk}/log"
    unshare = [needs("unshare"), "--mount"] if os.geteuid() == 0 else [needs("unshare"), "--mount", "--map-root-user"]
    if subprocess.run([*unshare, "mount", "-t", "tmpfs", "tmpfs", disk], check=False).returncode:
        pytest.skip("this user may not mount")
    said = tmp_path / "stdout"
    with said.open("w") as stdout:
        up = subprocess.Popen([*unshare, "sh", "-c", program], env=environment(), cwd=ROOT, stdout=stdout)
    try:
        found = wait_until(lambda: READY.match(said.read_text()) or up.poll() is not None, 60)
        assert isinstance(found, re.Match)
        seen = Path(f"/proc/{up.pid}/root{disk}")

        def checks() -> dict[str, str]:
            connection = http.client.HTTPConnection(found.group(1), int(found.group(2)), timeout=10)
            try:
                return dict(send(connection, "GET", "/readyz").document["checks"])
            except OSError:
                return {}
            finally:
                connection.close()

        filler = seen / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 65_536):
                pass
        wait_until(lambda: {checks().get("redis"), checks().get("postgres")} & {"disk full", "unavailable"}, 30)
        wait_until(lambda: checks().get("redis") == "disk full", 30)
        assert up.poll() is None
        _is_started_again(up, "keeper")
        filler.unlink()
        wait_until(lambda: checks() == READY_CHECKS, 60)
        assert "log_lines_lost" in (seen / "log").read_text() or "stockade: keeper died" in (seen / "log").read_text()
    finally:
        up.terminate()
        assert up.wait(30) == 0
