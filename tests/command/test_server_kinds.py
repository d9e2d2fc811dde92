"""STOCKADE_REDIS_URL at a Sentinel or at a cluster's node: every command that goes there says so in one line and what to give instead."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from engine import cli, doctor
from engine.checks import Verdict
from loadtests.servers import wait_for_redis
from tests import servers
from tests.command.running import Command, one_line
from tests.command.test_redis_url import free_port
from tests.conftest import SECRETS
from tests.programs import needs

COMMANDS = {
    "up": ["up", "--port", "0"],
    "api": ["api"],
    "keeper": ["keeper"],
    "verify": ["verify"],
    "snapshot": ["snapshot"],
    "restore": ["restore", "--dry-run"],
    "repair": ["repair", "--dry-run"],
    "explain": ["explain", "sneaker-42"],
    "stock show": ["stock", "show"],
    "stock load": ["stock", "load", "FILE"],
    "pause": ["pause", "--reason", "fire"],
    "resume": ["resume", "--reason", "out"],
    "release": ["release", "--user", "mallory", "--reason", "hoards", "--dry-run"],
    "recount": ["recount", "sneaker-42", "3", "--reason", "counted"],
    "default-hold": ["default-hold", "60", "--reason", "rush"],
}
"""A line for each command that needs the Redis of a shop."""

GO_NOWHERE = {"token", "known-as", "migrate"}
SAY_IT_OTHERWISE = {"doctor", "redis-cli"}
"""The doctor in its own words; redis-cli shows whatever there is."""


@contextmanager
def listening(kind: str, *options: str) -> Iterator[int]:
    """A server on a port of its own, on loopback."""
    if kind == "redis":
        needs("redis-server")
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "server.conf").write_text(
            f"bind 127.0.0.1\nport {port}\ndir {directory}\nlogfile {directory}/log\n"
            + ("sentinel monitor shop 127.0.0.1 6399 1\n" if "--sentinel" in options else 'save ""\n')
        )
        command = [str(servers.binary(kind)), f"{directory}/server.conf", *options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_for_redis(f"redis://127.0.0.1:{port}")
            yield port
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module", params=servers.KINDS)
def ports(request: pytest.FixtureRequest) -> Iterator[dict[str, int]]:
    cluster = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with listening(request.param, "--sentinel") as sentinel, listening(request.param, *cluster) as node:
        yield {"sentinel": sentinel, "node": node}


SAID = {
    "sentinel": "leads to a Sentinel, which holds no stock: name the Redis itself, whose address is now 127.0.0.1:6399 (shop)",
    "node": "leads to a node of a Redis Cluster, which isn't supported: name a single master, "
    "started with cluster-enabled no",
}
LOGINS = ["", "stockade-api:tuesday-pass@"]
"""A Sentinel knows none of the users of the Redis that it watches."""


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("login", LOGINS, ids=["nobody", "a user"])
def test_every_command_that_goes_there_says_so_in_one_line(
    ports: dict[str, int], run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, login: str
) -> None:
    file = tmp_path / "stock.csv"
    file.write_text("sku,on_hand\nsneaker-42,3\n")
    given = {
        "STOCKADE_REDIS_URL": f"redis://{login}127.0.0.1:{ports[kind]}/0",
        "STOCKADE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "STOCKADE_JWT_SECRET": "secret",
    }
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    for words in COMMANDS.values():
        said = one_line(
            run(*(str(file) if word == "FILE" else word for word in words), "--data-dir", tmp_path / "data")
        )
        assert said == f"stockade: STOCKADE_REDIS_URL {SAID[kind]}\n", words
    [found] = [each for each in doctor.examine(tmp_path, SECRETS | given) if each.name == "redis"]
    assert (found.verdict, found.said) == (Verdict.TO_DO, f"STOCKADE_REDIS_URL {SAID[kind]}")


@pytest.mark.parametrize("kind", SAID)
def test_the_levers_own_url_is_looked_at_likewise(
    ports: dict[str, int], run: Command, monkeypatch: pytest.MonkeyPatch, server: str, kind: str
) -> None:
    monkeypatch.setenv("STOCKADE_REDIS_URL", server)
    monkeypatch.setenv("STOCKADE_LEVERS_REDIS_URL", f"redis://127.0.0.1:{ports[kind]}")
    assert one_line(run("pause", "--reason", "fire")) == f"stockade: STOCKADE_LEVERS_REDIS_URL {SAID[kind]}\n"


def test_the_doctor_tells_of_the_record_nothing_that_such_a_server_could_not_know(
    ports: dict[str, int], books_url: str, tmp_path: Path
) -> None:
    for port in ports.values():
        given = {"STOCKADE_REDIS_URL": f"redis://127.0.0.1:{port}", "STOCKADE_DATABASE_URL": books_url}
        found = {each.name for each in doctor.examine(tmp_path, SECRETS | given)}
        assert {"redis", "postgres"} <= found
        assert not found & {"gate", "ledger", "snapshot", "redis version"}


def test_every_command_is_in_one_of_the_lists() -> None:
    def named(group: click.Group, before: str = "") -> Iterator[str]:
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                yield from named(command, f"{before}{name} ")
            else:
                yield before + name

    assert set(named(cli.cli)) == {*COMMANDS, *GO_NOWHERE, *SAY_IT_OTHERWISE}
