"""The schema in Postgres: made and brought up to date by whoever starts first, refused if a newer program made it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

import psycopg
import pytest

from engine.database import SCHEMA, Database, check, migrate
from engine.errors import ConfigurationError
from tests.conftest import settings


def revision(url: str, to: str = "") -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        if to:
            connection.execute("UPDATE alembic_version SET version_num = %s", [to])
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    assert row is not None
    return str(row[0])


def test_a_database_without_a_schema_is_refused_with_advice_and_gets_one_from_many_starts_at_once(
    database: str,
) -> None:
    postgres = Database(settings(STOCKADE_DATABASE_URL=database))
    with pytest.raises(ConfigurationError, match=r"has no schema yet, .*run stockade migrate, or start a keeper"):
        check(postgres)
    with ThreadPoolExecutor(4) as starts:
        list(starts.map(migrate, [postgres] * 4))
    check(postgres)
    assert revision(database) == SCHEMA


def test_an_older_schema_is_refused_by_the_api_with_advice(database: str) -> None:
    postgres = Database(settings(STOCKADE_DATABASE_URL=database))
    migrate(postgres)
    revision(database, "0000")
    with pytest.raises(
        ConfigurationError, match=f"has schema 0000, and this version needs {SCHEMA}: run stockade migrate"
    ):
        check(postgres)


def test_a_newer_schema_is_left_alone(database: str) -> None:
    postgres = Database(settings(STOCKADE_DATABASE_URL=database))
    migrate(postgres)
    revision(database, "9999")
    for start in (check, migrate):
        with pytest.raises(ConfigurationError, match="has schema 9999, which a newer version has written"):
            start(postgres)
    assert revision(database) == "9999"


def test_the_newest_revision_is_the_one_that_the_program_knows() -> None:
    names = [path.name for path in (files("engine.migrations") / "versions").iterdir()]
    assert max(name.partition("_")[0] for name in names if name[0].isdigit()) == SCHEMA
