"""The embedded Postgres under `up`: what it keeps, how it ends, as whom it runs."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from engine import embedded_postgres
from tests.command.service import (
    ROOT,
    Service,
    environment,
    fails_in_one_line,
    family,
    part,
    stockade,
    wait_until_gone,
)
from tests.waiting import wait_until

Start = Callable[..., Service]

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that everybody may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory(prefix="open-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.fixture
def no_namespaces(tmp_path: Path) -> dict[str, str]:
    """An environment in which user namespaces are forbidden, as containers do."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "unshare").chmod(0o755)
    return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}


@contextmanager
def unreaped_postgres() -> Iterator[int]:
    """A dead process called postgres whose parent doesn't ask for its end."""
    process = subprocess.Popen([embedded_postgres._binaries() / "postgres", "--version"], stdout=subprocess.DEVNULL)
    wait_until(lambda: "(postgres) Z" in Path(f"/proc/{process.pid}/stat").read_text())
    yield process.pid
    process.wait()


def url(service: Service) -> str:
    return (service.data_dir / "postgres.url").read_text().strip()


def ask(service: Service, query: str) -> list[str]:
    """The first column of what `query` finds."""
    with psycopg.connect(url(service), connect_timeout=5, autocommit=True) as connection:
        cursor = connection.execute(query)
        return [str(row[0]) for row in cursor] if cursor.description else []


def answers(service: Service) -> bool:
    try:
        return ask(service, "SELECT 1") == ["1"]
    except psycopg.OperationalError:
        return False


def busy_forever(service: Service) -> None:
    """Leave a backend in a query that never looks up, not even when its postmaster is gone."""

    def loop() -> None:
        with suppress(psycopg.OperationalError):
            ask(service, "DO $$ BEGIN LOOP END LOOP; END $$")

    threading.Thread(target=loop, daemon=True).start()
    wait_until(lambda: ask(service, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'"))


def owner(pid: int) -> str:
    return pwd.getpwuid(Path(f"/proc/{pid}").stat().st_uid).pw_name


def test_it_listens_on_a_socket_of_the_owner_only_and_keeps_what_it_is_told(service: Service) -> None:
    for name, value in {
        "listen_addresses": "",
        "fsync": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
    }.items():
        assert ask(service, f"SHOW {name}") == [value]
    assert ask(service, "SELECT datcollate FROM pg_database WHERE datname = current_database()") == ["C"]
    directory = service.data_dir / "postgres"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / ".s.PGSQL.5432").stat().st_mode) == 0o700
    assert owner(part(service.process, "postgres").pid) == owner(service.process.pid)
    assert stockade("verify", "--data-dir", service.data_dir).returncode == 0


@pytest.mark.slow
def test_its_data_survive_a_stop_which_waits_for_no_client_and_locks_of_before_a_reboot(start: Start) -> None:
    first = start()
    lines = (first.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()
    ask(first, "CREATE TABLE kept AS SELECT 'this' AS word")
    client = psycopg.connect(url(first))
    everybody = family(first.process.pid)
    since_s = time.monotonic()
    assert first.stop(signal.SIGTERM) == 0
    assert time.monotonic() - since_s < 10
    client.close()
    wait_until_gone(everybody)
    assert "killing it" not in first.stderr
    assert not (first.data_dir / "postgres.url").exists()
    # The number in one lock is in use again, by this test; in the other it is a killed Postgres's that nobody has reaped yet.
    with unreaped_postgres() as dead:
        for lock, pid in (("postmaster.pid", dead), (".s.PGSQL.5432.lock", os.getpid())):
            (first.data_dir / "postgres" / lock).write_text("\n".join([str(pid), *lines[1:]]))
        second = start()
    assert ask(second, "SELECT word FROM kept") == ["this"]
    assert "postgres died" not in second.stderr


@pytest.mark.slow
def test_a_killed_one_is_started_again_whatever_its_backends_do_also_in_a_directory_with_a_comma(
    start: Start, tmp_path: Path
) -> None:
    service = start(tmp_path / "mugs, tees")
    ask(service, "CREATE TABLE kept AS SELECT 'this' AS word")
    busy_forever(service)
    victim = part(service.process, "postgres")
    below = family(victim.pid)
    os.kill(victim.pid, signal.SIGKILL)
    wait_until(lambda: not victim.alive)
    wait_until(lambda: answers(service))
    assert ask(service, "SELECT word FROM kept") == ["this"]
    assert part(service.process, "postgres").pid != victim.pid
    wait_until_gone(below)
    assert service.stderr.count("stockade: postgres died (killed by SIGKILL); starting it again") == 1
    assert service.stderr.count("stockade: postgres died") == 1


@pytest.mark.slow
def test_killing_up_ends_its_parts_whatever_they_do_and_the_next_one_has_their_data(start: Start) -> None:
    first = start()
    ops = first.token("o", "ops")
    first.call("PUT", "/v1/skus/tee", {"on_hand": 5}, token=ops)
    ask(first, "CREATE TABLE kept AS SELECT 'this' AS word")
    busy_forever(first)
    everybody = family(first.process.pid)
    assert len(everybody) >= 5
    first.stop(signal.SIGKILL)
    # Started at once, while the parts of the first may still be ending.
    second = start()
    wait_until_gone(everybody)
    assert ask(second, "SELECT word FROM kept") == ["this"]
    assert second.call("GET", "/v1/skus/tee", token=ops).document["on_hand"] == 5
    assert second.call("GET", "/readyz").status == 200
    assert stockade("verify", "--data-dir", second.data_dir).returncode == 0
    assert "postgres died" not in second.stderr


@pytest.mark.slow
def test_a_kill_while_its_directory_is_made_does_no_harm(start: Start, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "engine.cli", "up", "--port", "0", "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(command, env=environment(), cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: (tmp_path / "data" / "postgres.new" / "base").exists())
        process.kill()
    assert not (tmp_path / "data" / "postgres").exists()
    service = start()
    assert answers(service)
    assert not (service.data_dir / "postgres.new").exists()


def test_one_that_was_given_is_used_and_none_is_started(database: str, tmp_path: Path) -> None:
    service = Service(tmp_path / "data", {"STOCKADE_DATABASE_URL": database})
    try:
        assert not [process for process in family(service.process.pid) if "postgres" in process.command]
        assert not (service.data_dir / "postgres").exists()
        assert not (service.data_dir / "postgres.url").exists()
        assert service.call("GET", "/readyz").status == 200
    finally:
        assert service.stop() == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("postgresql://ann:hush@127.0.0.1:1/stock", "Postgres can't answer now"),
        ("postgresql://ann@/stock?host=/nowhere", "Postgres can't answer now"),
        ("mysql://ann:hush@somewhere/stock", "STOCKADE_DATABASE_URL must be postgresql://"),
    ],
    ids=["no server", "no socket", "no url"],
)
def test_one_that_cannot_be_used_is_refused_before_anything_starts(tmp_path: Path, given: str, words: str) -> None:
    more = {"STOCKADE_DATABASE_URL": given}
    line = fails_in_one_line(stockade("up", "--port", 0, "--data-dir", tmp_path / "data", more=more))
    assert words in line
    assert "hush" not in line


@pytest.mark.parametrize(("version", "words"), [("17", "is of Postgres 17"), (None, "no data of Postgres")])
def test_data_of_something_else_are_left_alone(tmp_path: Path, version: str | None, words: str) -> None:
    directory = tmp_path / "data" / "postgres"
    directory.mkdir(parents=True)
    if version:
        (directory / "PG_VERSION").write_text(f"{version}\n")
    line = fails_in_one_line(stockade("up", "--port", 0, "--data-dir", tmp_path / "data"))
    assert str(directory) in line
    assert words in line
    assert [path.name for path in directory.iterdir()] == (["PG_VERSION"] if version else [])


@only_root
@pytest.mark.slow
def test_where_namespaces_are_forbidden_it_runs_as_nobody(open_dir: Path, no_namespaces: dict[str, str]) -> None:
    running = [Service(open_dir / "data", no_namespaces)]
    try:
        first = running[0]
        postmaster = part(first.process, "postgres")
        assert owner(postmaster.pid) == "nobody"
        ask(first, "CREATE TABLE kept AS SELECT 'this' AS word")
        busy_forever(first)
        os.kill(postmaster.pid, signal.SIGKILL)
        wait_until(lambda: not postmaster.alive and answers(first))
        everybody = family(first.process.pid)
        first.stop(signal.SIGKILL)
        # In a namespace the same files have to be root's again.
        running.append(Service(open_dir / "data"))
        wait_until_gone(everybody)
        assert ask(running[-1], "SELECT word FROM kept") == ["this"]
        assert owner(part(running[-1].process, "postgres").pid) == "root"
        assert running[-1].stop() == 0
        running.append(Service(open_dir / "data", no_namespaces))
        assert ask(running[-1], "SELECT word FROM kept") == ["this"]
        assert stat.S_IMODE((open_dir / "data").stat().st_mode) == 0o701
        assert running[-1].stop() == 0
    finally:
        for service in running:
            service.stop(signal.SIGKILL)


@pytest.mark.slow
@only_root
def test_nobody_in_a_directory_that_is_too_deep_for_a_socket(open_dir: Path, no_namespaces: dict[str, str]) -> None:
    deep = open_dir / "/".join(["a rather long directory name"] * 4) / "data"
    deep.parent.mkdir(parents=True)
    service = Service(deep, no_namespaces)
    try:
        assert answers(service)
    finally:
        assert service.stop() == 0


@only_root
def test_a_directory_that_nobody_may_enter_is_named(open_dir: Path, no_namespaces: dict[str, str]) -> None:
    closed = open_dir / "closed"
    closed.mkdir(mode=0o700)
    line = fails_in_one_line(stockade("up", "--port", 0, "--data-dir", closed / "data", more=no_namespaces))
    assert f"others may not enter {closed}: run stockade as another user, or set STOCKADE_DATABASE_URL" in line


@only_root
def test_root_in_a_namespace_may_not_enter_what_is_another_users(open_dir: Path) -> None:
    shutil.chown(open_dir, "nobody")
    open_dir.chmod(0o700)
    line = fails_in_one_line(stockade("up", "--port", 0, "--data-dir", open_dir / "data"))
    assert f"others may not enter {open_dir}" in line


@only_root
def test_a_path_that_leads_to_no_unshare_is_no_reason_to_run_as_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = embedded_postgres._identity()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded_postgres._identity().run_as == usual.run_as
