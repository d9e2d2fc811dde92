from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from api.views.health import READY
from engine.data_dir import DataDir
from tests import servers
from tests.command.service import ROOT, Service, environment, fails_in_one_line, family, stockade, wait_until_gone
from tests.waiting import wait_until

Start = Callable[..., Service]


def test_it_says_where_it_is_in_one_line_and_keeps_its_secrets(service: Service) -> None:
    assert service.stdout == f"Stockade is ready at http://{service.host}:{service.port}\n"
    secrets = service.data_dir / "secrets.env"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert stat.S_IMODE(service.data_dir.stat().st_mode) == 0o700
    words = dict(line.split("=", 1) for line in secrets.read_text().splitlines())
    assert set(words) == {"STOCKADE_JWT_SECRET", "STOCKADE_WEBHOOK_SECRET"}
    assert all(len(word) >= 32 for word in words.values())
    assert len(set(words.values())) == 2
    assert not any(word in service.stderr for word in words.values())


def test_it_stops_cleanly_its_data_survive_and_each_start_certifies_them_anew(start: Start) -> None:
    first = start()
    secrets = (first.data_dir / "secrets.env").read_text()
    ops, ann = first.token("o", "ops"), first.token("ann", "customer")
    first.call("PUT", "/v1/skus/tee", {"on_hand": 5}, token=ops)
    body = {"lines": [{"sku": "tee", "quantity": 2}]}
    held = first.call("POST", "/v1/reservations", body, token=ann, key="k")
    assert _certified(first) == ("1", [])
    everybody = family(first.process.pid)
    assert len(everybody) >= 5
    assert first.stop(signal.SIGTERM) == 0
    wait_until_gone(everybody)
    assert not (first.data_dir / "redis.url").exists()

    second = start()
    assert (second.data_dir / "secrets.env").read_text() == secrets
    assert second.call("GET", held.headers["Location"], token=ann).document == held.document
    again = second.call("POST", "/v1/reservations", body, token=ann, key="k")
    assert (again.document, again.headers["Idempotent-Replayed"]) == (held.document, "true")
    assert _certified(second) == ("2", [(2, 3)])
    everybody = family(second.process.pid)
    assert second.stop(signal.SIGINT) == 0
    wait_until_gone(everybody)
    for running in (first, second):
        assert "Traceback" not in running.stderr


def _certified(running: Service) -> tuple[str, list[tuple[int, int]]]:
    """The epoch of a service that is right, and where the ledger says that a keeper opened the gate anew."""
    assert running.call("GET", "/readyz").document["checks"] == READY
    assert stockade("verify", "--data-dir", running.data_dir).returncode == 0
    opened = running.call("GET", "/v1/audit?op=open", token=running.token("o", "ops")).document["items"]
    assert all((event["actor"], event["reason"]) == ("keeper", "Redis lacks no event") for event in opened)
    return _meta(running, "epoch"), [(event["epoch"], event["seq"]) for event in opened]


def _meta(running: Service, field: str) -> str:
    where = ("--data-dir", running.data_dir)
    return stockade("redis-cli", *where, "HGET", "stk:{p0}:meta", field).stdout.strip()


@pytest.mark.slow
def test_a_very_deep_data_directory_works(start: Start, tmp_path: Path) -> None:
    before = _temporary_directories()
    deep = tmp_path / "/".join(["a rather long directory name"] * 6) / "data"
    deep.parent.mkdir(parents=True)
    running = start(deep)
    assert running.call("PUT", "/v1/skus/tee", {"on_hand": 5}, token=running.token("o", "ops")).status == 201
    assert "tee" in stockade("stock", "show", "--data-dir", deep).stdout
    assert stockade("redis-cli", "--data-dir", deep, "ping").stdout == "PONG\n"
    (socket_dir,) = [path for path in _temporary_directories() - before if _socket_of(running).is_relative_to(path)]
    assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert running.stop() == 0
    assert not socket_dir.exists()


def test_a_second_one_on_the_same_data_directory_is_refused(service: Service) -> None:
    line = fails_in_one_line(stockade("up", "--port", 0, "--data-dir", service.data_dir))
    assert line.endswith(f"Another stockade up runs on the data directory {service.data_dir}")
    assert service.call("GET", "/readyz").status == 200
    assert stockade("stock", "show", "--data-dir", service.data_dir).returncode == 0


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = fails_in_one_line(stockade("up", "--port", port, "--data-dir", tmp_path / "data"))
    assert f"Can't listen on 127.0.0.1 port {port}" in line


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"STOCKADE_REDIS_URL": "unix:///nowhere/redis.sock"}, "Redis can't be reached"),
        ({"STOCKADE_REDIS_URL": "redis://user:hush@127.0.0.1:1/0"}, "Redis can't be reached"),
        ({"STOCKADE_REDIS_URL": "http://user:hush@localhost"}, "STOCKADE_REDIS_URL must be"),
        (
            {"STOCKADE_DEFAULT_HOLD_SECONDS": "901"},
            "STOCKADE_DEFAULT_HOLD_SECONDS must be a whole number from 1 to 900",
        ),
        ({"STOCKADE_WORKERS": "many"}, "STOCKADE_WORKERS must be a whole number"),
        ({"STOCKADE_JWKS_FILE": "/nowhere/jwks.json"}, "STOCKADE_JWKS_FILE can't be read"),
    ],
    ids=lambda value: re.sub(r"\W+", " ", str(value))[:50] if isinstance(value, dict) else "",
)
def test_what_cannot_work_is_refused_at_the_start(tmp_path: Path, more: dict[str, str], words: str) -> None:
    line = fails_in_one_line(stockade("up", "--port", 0, "--data-dir", tmp_path / "data", more=more))
    assert words in line
    assert "hush" not in line


def test_a_redis_that_may_evict_stock_is_refused(tmp_path: Path) -> None:
    with servers.running("valkey", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as url:
        more = {"STOCKADE_REDIS_URL": url, "STOCKADE_JWT_SECRET": "long enough for a token's signature"}
        for command in (["up", "--port", 0], ["api", "--port", 1], ["keeper"]):
            line = fails_in_one_line(stockade(*command, "--data-dir", tmp_path / "data", more=more))
            assert "maxmemory-policy allkeys-lru" in line


def test_a_data_directory_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    line = fails_in_one_line(stockade("up", "--port", 0, "--data-dir", file))
    assert "The data directory can't be used" in line


def test_it_gives_up_loudly_when_a_part_keeps_dying(tmp_path: Path) -> None:
    program = (
        "import engine.cli, engine.up; engine.up.gunicorn = lambda bind: ['false'];"
        "engine.up._ready = lambda host, port: False; engine.cli.main()"
    )
    command = [sys.executable, "-c", program, "up", "--port", "0", "--data-dir", str(tmp_path / "data")]
    run = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.count("stockade: api died (exit 1); starting it again") == 4
    assert run.stderr.splitlines()[-1] == "stockade: Giving up: api keeps dying (exit 1); its last words are above"
    assert "Traceback" not in run.stderr
    wait_until(lambda: not (tmp_path / "data" / "redis.sock").exists())


def _temporary_directories() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("stockade-*"))


def _socket_of(running: Service) -> Path:
    return Path(os.fsdecode((running.data_dir / "redis.url").read_text().strip().removeprefix("unix://")))


@pytest.mark.slow
def test_files_of_the_same_name_where_it_is_started_are_not_run(tmp_path: Path) -> None:
    for name in ("api", "engine", "lua"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    command = [str(Path(sys.executable).parent / "stockade"), "up", "--port", "0", "--data-dir", "data"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Stockade is ready at ")
        process.terminate()


def test_a_keeper_waits_for_a_redis_that_is_not_there_yet(tmp_path: Path) -> None:
    more = {
        "STOCKADE_REDIS_URL": f"unix://{tmp_path}/redis.sock",
        "STOCKADE_DATABASE_URL": f"postgresql://nobody@/stock?host={tmp_path}",
        "STOCKADE_JWT_SECRET": "x" * 32,
    }
    command = [sys.executable, "-m", "engine.cli", "keeper"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(more), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "waiting" in said
        assert "Redis can't be reached" in said
        process.terminate()
        assert process.wait(10) == 0
        process.stderr.read()


def test_with_public_keys_for_tokens_no_secret_for_tokens_is_made(tmp_path: Path) -> None:
    directory = DataDir(tmp_path)
    directory.make_secrets({"STOCKADE_JWKS_FILE": "keys.json"})
    words = (tmp_path / "secrets.env").read_text()
    assert "STOCKADE_ID_SECRET=" in words
    assert "STOCKADE_JWT_SECRET" not in words
