from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import fakeredis
import psycopg
import pytest
from redis import Redis

from engine.config import Settings, from_environment
from engine.engine import Engine, build
from engine.store import client
from tests import servers

SECRETS = {"STOCKADE_JWT_SECRET": "a secret of the tests, long enough", "STOCKADE_WEBHOOK_SECRET": "another one"}


def settings(redis_url: str = "redis://nowhere", **more: str) -> Settings:
    return from_environment(SECRETS | {"STOCKADE_REDIS_URL": redis_url} | more)


@pytest.fixture
def fake_redis() -> Redis:
    return fakeredis.FakeRedis(decode_responses=True)


@pytest.fixture
def fake_engine(fake_redis: Redis) -> Engine:
    """An engine on fakeredis: same scripts, no server."""
    engine = build(settings(), fake_redis)
    assert engine.scripts.open() == "opened"
    return engine


@pytest.fixture(scope="session", params=servers.KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a real server, private to the run, one of each kind."""
    with servers.running(request.param) as url:
        yield url


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a real Postgres, private to the run."""
    with servers.running_postgres() as url:
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
    built = build(settings(server), client(settings(server)))
    built.store.redis.flushall()
    assert built.scripts.open() == "opened"
    return built
