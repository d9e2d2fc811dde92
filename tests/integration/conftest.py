"""Shops with a ledger: real Redis, real Postgres, the gate opened as in production."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from engine import database as schema
from engine.data_dir import DataDir
from engine.database import TABLES, Database
from engine.embedded_postgres import POSTGRES, processes
from engine.store import client
from loadtests.servers import WITHOUT_CARE, wait_for_postgres
from tests import seed, servers
from tests.conftest import settings
from tests.integration.shops import PrivateRedis, Shop, open_shop
from tests.programs import needs


@pytest.fixture
def opening(server: str, books_url: str) -> Iterator[Callable[..., Shop]]:
    """Opens shops on one empty server of each kind, and one database."""
    client(settings(server)).flushall()
    opened: list[Shop] = []

    def one_more() -> Shop:
        opened.append(open_shop(server, books_url))
        return opened[-1]

    yield one_more
    for shop in opened:
        shop.close()


@pytest.fixture
def shop(opening: Callable[..., Shop]) -> Shop:
    """A shop that sells, on a server of each kind."""
    opened = opening()
    opened.recovery.recover()
    return opened


@pytest.fixture(params=servers.one_and_the_other_slowly())
def own_redis(request: pytest.FixtureRequest) -> Iterator[PrivateRedis]:
    """A server that the test may restart, with what it held on disk."""
    if request.param == "redis":
        needs("redis-server")
    redis = PrivateRedis(request.param)
    yield redis
    redis.kill()
    redis.directory.cleanup()


class PrivatePostgres:
    """A Postgres that a test may stop, kill and start again."""

    def __init__(self, directory: Path) -> None:
        self._data_dir = DataDir(directory)
        self._socket = self._data_dir.socket_path(POSTGRES.socket)
        self._start()

    @property
    def url(self) -> str:
        return POSTGRES.url(self._socket)

    def _start(self) -> None:
        self._child = POSTGRES.child(self._data_dir, self._socket, ())
        # What it has answered must outlive it.
        options = [word for word in WITHOUT_CARE if not word.startswith("synchronous_commit")]
        self._child.command = [*self._child.command, *(word for option in options for word in ("-c", option))]
        self._child.stop_signal = signal.SIGQUIT
        self._child.start()
        wait_for_postgres(self.url)

    def stand_still(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._child.stop()

    def start(self) -> None:
        self._child.before_restart()
        self._start()

    def stop(self) -> None:
        self.go_on()
        self._child.stop()
        self._data_dir.remove_socket(self._socket)

    def _signal(self, how: signal.Signals) -> None:
        for pid in processes(self._data_dir.postgres_dir.resolve()):
            with suppress(ProcessLookupError):
                os.kill(pid, how)


@pytest.fixture(scope="session")
def _own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivatePostgres]:
    with tempfile.TemporaryDirectory(prefix="stockade-own-") as directory:
        running = PrivatePostgres(seed.plant(Path(directory), tmp_path_factory))
        yield running
        running.stop()


@pytest.fixture
def own_postgres(_own_postgres: PrivatePostgres) -> Iterator[PrivatePostgres]:
    """A Postgres, with an empty schema, that the test may stop and kill."""
    schema.migrate(Database(settings(STOCKADE_DATABASE_URL=_own_postgres.url)))
    with psycopg.connect(_own_postgres.url, autocommit=True) as connection:
        connection.execute(f"TRUNCATE {', '.join(TABLES)}")
    yield _own_postgres
    _own_postgres.go_on()
