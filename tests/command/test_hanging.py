"""A Redis or a Postgres that stands still, as after SIGSTOP: every command, route and process ends its wait, with one clear line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from engine.cli import cli, main
from engine.config import from_environment
from engine.data_dir import DataDir
from engine.database import Database
from engine.embedded_postgres import processes
from engine.processes import find
from tests import seed
from tests.command.running import Run, one_line
from tests.command.service import ROOT, Service, environment, fails_in_one_line, part, standing_still, stockade, workers
from tests.waiting import wait_until

QUICK = {"STOCKADE_REDIS_TIMEOUT_MS": "100", "STOCKADE_DATABASE_TIMEOUT_MS": "100"}
SERVERS = ("redis", pytest.param("postgres", marks=pytest.mark.slow))
"""Nobody waits for less than 2 s for a connection to Postgres, which takes its time with so many."""

REASON = ("--reason", "test")
COMMANDS: dict[str, tuple[str, ...]] = {
    "api": ("--port", "1"),
    "default-hold": ("60", *REASON),
    "doctor": (),
    "explain": ("tee",),
    "migrate": (),
    "pause": ("tee", *REASON),
    "recount": ("tee", "5", *REASON),
    "redis-cli": ("PING",),
    "release": ("--sku", "tee", *REASON),
    "repair": (),
    "restore": (),
    "resume": ("tee", *REASON),
    "snapshot": (),
    "stock show": (),
    "stock load": ("FILE",),
    "verify": (),
}
"""What each command that asks a server is called with."""

ASKS_NOBODY = {"token", "known-as"}
LASTS = {"up", "keeper"}

ROUTES = (
    *("/", "/healthz", "/readyz", "/metrics", "/console", "/openapi.json"),
    *("/v1/overview", "/v1/skus", "/v1/skus/tee", "/v1/availability/tee", "/v1/audit", "/v1/selling", "/v1/orders/x"),
)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that waits for its servers only a little. Each test that stops one of them lets it go on."""
    running = Service(seed.plant(tmp_path_factory.mktemp("quick") / "data", tmp_path_factory), QUICK)
    yield running
    assert running.stop() == 0


@contextmanager
def stopped(service: Service, server: str) -> Iterator[None]:
    pids = [part(service.process, "valkey").pid]
    if server == "postgres":
        pids = processes((service.data_dir / "postgres").resolve())
    with standing_still(pids):
        yield
    wait_until(lambda: service.call("GET", "/readyz").status == 200, 60)


Calling = Callable[..., Run]


@pytest.fixture
def call(quick: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Calling:
    """Runs a command in this process. One that doesn't end fails its test, instead of holding up all."""
    for name in [name for name in os.environ if name.startswith("STOCKADE_")]:
        monkeypatch.delenv(name)
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STOCKADE_DATA_DIR", str(quick.data_dir))
    # redis-cli would take the place of this process.
    monkeypatch.setattr(shutil, "which", lambda name: None)

    def one(*words: str) -> Run:
        monkeypatch.setattr(sys, "argv", ["stockade", *words])
        capsys.readouterr()
        ended: Future[int] = Future()

        def work() -> None:
            try:
                main()
            except SystemExit as end:
                ended.set_result(int(end.code or 0))
            except BaseException as error:
                ended.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        code = ended.result(60)
        printed = capsys.readouterr()
        return Run(code, printed.out, printed.err)

    return one


def test_every_command_is_walked_over() -> None:
    names = {name for name in cli.commands if name != "stock"} | {
        f"stock {name}" for name in cli.commands["stock"].commands
    }  # type: ignore[attr-defined]
    assert names == {*COMMANDS} | ASKS_NOBODY | LASTS


@pytest.mark.parametrize("server", SERVERS)
def test_every_command_and_route_ends_its_wait_for_a_server_that_hangs(
    quick: Service, call: Calling, tmp_path: Path, server: str
) -> None:
    file = tmp_path / "stock.csv"
    file.write_text("sku,on_hand\ntee,5\n")
    needs_neither = {"redis": {"migrate", "explain", "doctor"}, "postgres": {"doctor", "redis-cli"}}[server]
    with stopped(quick, server):
        for command, words in COMMANDS.items():
            given = [str(file) if word == "FILE" else word for word in words]
            done = call(*command.split(), *given)
            lines = done.err.splitlines()
            assert "Traceback" not in done.out + done.err, (command, done)
            assert len(lines) <= 1, (command, done)
            if done.code and command != "doctor":
                assert lines[0].startswith("stockade: "), (command, done)
            if server == "redis" and command not in needs_neither:
                assert done.code == 1, (command, done)
                assert "Redis" in lines[0], (command, done)
        ops = quick.token("olga", "ops")
        seen = {path: quick.call("GET", path, token=ops) for path in ROUTES}
        assert {seen[path].status for path in ("/healthz", "/metrics", "/console")} == {200}
        assert seen["/readyz"].document["checks"][server] == "unavailable"
        page = seen["/metrics"].document.decode()
        assert f"\nstockade_{server}_up 0.0\n" in page
        assert {answer.status for path, answer in seen.items() if path.startswith("/v1")} <= {200, 404, 503}
        if server == "redis":
            assert {seen[path].status for path in ("/v1/overview", "/v1/skus", "/v1/availability/tee")} == {503}
        line = fails_in_one_line(_up(quick, tmp_path))
        assert server.capitalize() in line


def _up(service: Service, directory: Path) -> subprocess.CompletedProcess[str]:
    """`stockade up` with the servers of another one."""
    urls = {
        "STOCKADE_REDIS_URL": (service.data_dir / "redis.url").read_text().strip(),
        "STOCKADE_DATABASE_URL": (service.data_dir / "postgres.url").read_text().strip(),
    }
    return stockade("up", "--port", 0, "--data-dir", directory / "another", more=QUICK | urls, seconds=60)


@pytest.mark.parametrize("server", SERVERS)
def test_a_keeper_waits_for_a_server_that_hangs_says_so_and_can_be_stopped(
    quick: Service, tmp_path: Path, server: str
) -> None:
    log = tmp_path / "log"
    with stopped(quick, server), log.open("w") as stderr:
        command = [sys.executable, "-m", "engine.cli", "keeper", "--data-dir", str(quick.data_dir)]
        keeper = subprocess.Popen(command, cwd=ROOT, env=environment(QUICK), stderr=stderr)
        try:
            wait_until(lambda: '"waiting"' in log.read_text(), 30)
        finally:
            keeper.terminate()
            assert keeper.wait(30) == 0
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_the_keepers_clerk_does_not_wait_for_ever_for_a_postgres_that_stops_while_it_is_asked(quick: Service) -> None:
    ops, before = quick.token("olga", "ops"), len(quick.stderr)
    with stopped(quick, "postgres"):
        # A new one, so that there is an event to be written.
        assert quick.call("PUT", "/v1/skus/of-the-clerk", {"on_hand": 5}, token=ops).status == 201
        wait_until(
            lambda: any("record_waits" in line and "Postgres" in line for line in quick.stderr[before:].splitlines()),
            60,
        )


def test_a_statement_that_postgres_never_answers_ends_and_its_connection_with_it(books_url: str) -> None:
    given = {"STOCKADE_REDIS_URL": "redis://unused", "STOCKADE_DATABASE_URL": books_url} | QUICK
    database = Database(from_environment(given, secrets_required=False))
    with database.connect() as connection:
        connection.longest_wait_s = 0.1
        with pytest.raises(psycopg.OperationalError, match="doesn't answer in time"):
            connection.execute("SELECT pg_sleep(600)")
        assert connection.closed


@pytest.mark.parametrize("installed", [True, False])
def test_redis_cli_says_that_the_server_hangs_and_gives_up(
    quick: Service, call: Calling, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    # A program in the place of redis-cli: it must not come to that.
    program = sys.executable if installed else None
    monkeypatch.setattr(shutil, "which", lambda name: program)
    with stopped(quick, "redis"):
        line = one_line(call("redis-cli", "PING"))
    assert line.endswith("doesn't answer within 0.3 s: timed out\n")


@pytest.mark.slow
def test_doctor_names_the_processes_of_this_stockade_and_of_no_other(
    quick: Service, call: Calling, start: Callable[..., Service]
) -> None:
    other = start()
    keeper = subprocess.Popen(
        [sys.executable, "-m", "engine.cli", "keeper"],
        cwd=ROOT,
        env=environment({"STOCKADE_DATA_DIR": str(quick.data_dir)}),
        stderr=subprocess.DEVNULL,
    )
    # A shell that has the words in its command line is no keeper.
    shell = subprocess.Popen(
        ["sh", "-c", "sleep 600; : engine.cli keeper"], env=environment({"STOCKADE_DATA_DIR": str(quick.data_dir)})
    )
    try:
        keepers = {part(quick.process, "keeper").pid, keeper.pid}
        wait_until(lambda: _by_part(quick) == _expected(quick, keepers))
        assert _by_part(other) == _expected(other, {part(other.process, "keeper").pid})
        with stopped(quick, "redis"):
            [check] = [check for check in json.loads(call("doctor", "--json").out) if check["name"] == "processes"]
        assert check["verdict"] == "to do"
        assert f"up {quick.process.pid}, api " in check["said"]
        assert f"stopped: redis {part(quick.process, 'valkey').pid}:" in check["said"]
    finally:
        for process in (keeper, shell):
            process.terminate()
            process.wait(30)


def _expected(service: Service, keepers: set[int]) -> dict[str, set[int]]:
    return {
        "up": {service.process.pid},
        "api": {part(service.process, "gunicorn").pid},
        "api worker": {worker.pid for worker in workers(service.process)},
        "keeper": keepers,
        "redis": {part(service.process, "valkey").pid},
        "postgres": {part(service.process, "postgres").pid},
    }


def _by_part(service: Service) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for process in find(service.data_dir, (service.data_dir / "redis.url").read_text().strip()):
        found.setdefault(process.part, set()).add(process.pid)
    return found


def test_which_process_an_external_redis_is_stays_known_when_it_hangs(
    quick: Service, call: Calling, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until(lambda: DataDir(quick.data_dir).noted_redis())
    # As if it were one of somebody else's.
    monkeypatch.setenv("STOCKADE_REDIS_URL", (quick.data_dir / "redis.url").read_text().strip())
    with stopped(quick, "redis"):
        done = call("doctor", "--json")
    [check] = [check for check in json.loads(done.out) if check["name"] == "redis process"]
    assert check["said"].startswith(f"{part(quick.process, 'valkey').pid} at /")
