from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from uuid import uuid4

import fakeredis
import psycopg
import pytest
from redis import Redis

from engine.config import Settings, from_environment
from engine.database import TABLES
from engine.engine import Engine, build
from engine.keys import Keys
from engine.recovery import Recovered, Recovery
from engine.store import Store, client
from tests import seed, servers
from tests.doubles import AtOnce, StreamLedger, open_gate

SECRETS = {"STOCKADE_JWT_SECRET": "a secret of the tests, long enough", "STOCKADE_WEBHOOK_SECRET": "another one"}


def pytest_configure() -> None:
    """A shell starts what is in its background with SIGINT ignored, and so would be all that the tests start and interrupt."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were skipped, in one line for each reason."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()))
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")


def settings(redis_url: str = "redis://nowhere", **more: str) -> Settings:
    return from_environment(SECRETS | {"STOCKADE_REDIS_URL": redis_url} | more)


def opened(given: Settings, redis: Redis) -> Engine:
    """An engine that sells from an empty Redis, with nothing behind it."""
    engine = build(given, redis, durability=AtOnce(), ledger=StreamLedger(given, Store(redis, Keys())))
    open_gate(engine)
    return engine


@pytest.fixture(scope="session")
def with_schema(postgres: str) -> str:
    """The URL of a database with the schema."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE books TEMPLATE postgres")
    return postgres.replace("/postgres?", "/books?")


@pytest.fixture
def books_url(with_schema: str) -> str:
    """The URL of a database with the schema and nothing in it. Who still used it loses the connection."""
    return emptied(with_schema)


def emptied(with_schema: str) -> str:
    with psycopg.connect(with_schema, autocommit=True) as connection:
        everybody = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        connection.execute(f"{everybody} AND pid <> pg_backend_pid()")
        connection.execute(f"TRUNCATE {', '.join(TABLES)}")
    return with_schema


@pytest.fixture
def fake_redis() -> Redis:
    return fakeredis.FakeRedis(decode_responses=True)


@pytest.fixture
def fake_engine(fake_redis: Redis) -> Engine:
    """An engine on fakeredis: same scripts, no server."""
    return opened(settings(), fake_redis)


@pytest.fixture(scope="session", params=servers.one_and_the_other_slowly())
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a real server, private to the run: of one kind, and among the longest proofs of the other one."""
    with servers.running(request.param) as url:
        yield url


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Postgres, private to the run. Its first database has the schema."""
    with servers.running_postgres(prepare=lambda directory: seed.plant(directory, tmp_path_factory)) as url:
        yield url


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres.replace("/postgres?", f"/{name}?")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def engine(server: str) -> Engine:
    """An engine on an empty real server, one of each kind."""
    redis = client(settings(server))
    redis.flushall()
    return opened(settings(server), redis)


@pytest.fixture
def recorded_engine(server: str, books_url: str) -> Iterator[Engine]:
    """An engine on an empty real server with an empty real ledger behind it; its gate was opened as a keeper does it."""
    given = settings(server, STOCKADE_DATABASE_URL=books_url)
    redis = client(given)
    redis.flushall()
    built = build(given, redis)
    recovery = Recovery(built.database, built.store, built.scripts, given.retain_ms)
    assert isinstance(recovery.recover(), Recovered)
    yield built
    recovery.writer.close()
    recovery.projection.close()
