"""docs/deploy/postgres-roles.sql: the service can do the whole of its work, on call can read, neither can change the record."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from engine import catching_up, dry_run, snapshots, verify
from engine.database import SCHEMA, TABLES, Database, check, migrate
from engine.errors import ConfigurationError, StoreUnavailable
from engine.recovery import Recovered
from engine.snapshots import KEEP_ALL_MS
from engine.store import client
from tests import books
from tests.conftest import settings
from tests.integration.shops import History, Shop, one_kind, open_shop

ROLES = (Path(__file__).parents[2] / "docs" / "deploy" / "postgres-roles.sql").read_text()
SERVICE, ONCALL = "stockade_service", "stockade_oncall"
REFUSED = psycopg.errors.InsufficientPrivilege


def as_role(url: str, role: str) -> str:
    return url.replace("//stockade@", f"//{role}@")


def grant(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(ROLES)


@pytest.fixture
def granted(books_url: str) -> str:
    """The URL, for its owner, of a database with the schema and the roles."""
    grant(books_url)
    return books_url


@pytest.fixture
def service(server: str, granted: str) -> Iterator[Shop]:
    """A shop that works with the service's role, on an empty Redis."""
    client(settings(server)).flushall()
    shop = open_shop(server, as_role(granted, SERVICE))
    assert isinstance(shop.recovery.recover(), Recovered)
    yield shop
    shop.close()


@one_kind
def test_the_service_can_do_all_of_its_work(service: Shop) -> None:
    engine = service.engine
    History(service, 31).begin().go_on(120)
    service.pay(service.hold("ann", "b"))
    service.writer.drain()
    service.recovery.projection.advance()
    assert service.snapshots.take().problems == ()
    assert verify.verify(engine.store, engine.database, engine.settings.retain_ms).problems == ()
    assert books.recorded(engine)
    assert engine.audit.catch_up() == ""
    dry_run.changes(engine, service.recovery, service.recovery.compare())
    service.redis.flushall()
    recovered = service.recovery.recover()
    assert isinstance(recovered, Recovered)
    assert recovered.reservations > 0
    assert service.problems() == ()


@one_kind
def test_the_service_lets_old_snapshots_answers_and_checkouts_go(service: Shop) -> None:
    history = History(service, 32).begin()
    for _ in range(2):
        history.go_on(60)
        service.snapshots.take()
    now_ms = time.time_ns() // 1_000_000
    with service.engine.database.connect() as connection:
        snapshots.thin_out(connection, "p0", now_ms + KEEP_ALL_MS + 31 * 86_400_000)
        connection.execute("DELETE FROM checkouts")
        connection.execute("DELETE FROM answers")
    # The newest stays.
    assert service.query("SELECT count(*) FROM snapshots") == [(1,)]


NOBODY = [
    "UPDATE ledger SET reason = ''",
    "UPDATE ledger SET chain_hash = '' WHERE false",
    "DELETE FROM ledger",
    "TRUNCATE ledger",
    "SELECT 1 FROM ledger FOR UPDATE",
    "ALTER TABLE ledger ADD more text",
    "ALTER TABLE ledger DISABLE TRIGGER ALL",
    "ALTER TABLE ledger OWNER TO CURRENT_USER",
    "CREATE INDEX more ON ledger (at_ms)",
    "CREATE RULE more AS ON INSERT TO ledger DO NOTHING",
    "DROP TABLE ledger",
    "DROP VIEW orders",
    "DELETE FROM ledger_position",
    "TRUNCATE ledger_position",
    "DELETE FROM reservations",
    "UPDATE ledger_position SET partition = 'p1'",
    "TRUNCATE skus, reservations, buyers, checkouts, answers, projection_position",
    "UPDATE snapshots SET problems = '{}'",
    "DELETE FROM snapshot_entries",
    "UPDATE alembic_version SET version_num = '0'",
    "CREATE TABLE more (a text)",
    "CREATE TEMPORARY TABLE more (a text)",
    "CREATE SCHEMA more",
    "CREATE ROLE more",
    "GRANT SELECT ON ledger TO PUBLIC WITH GRANT OPTION",
    "COPY ledger TO PROGRAM 'true'",
]
ONLY_THE_SERVICE = [
    "INSERT INTO ledger_position VALUES ('p1', 0, 0, '', '')",
    "INSERT INTO projection_position VALUES ('p1', 0, 0, 0, '{}')",
    "INSERT INTO snapshots VALUES ('p1', 1, 1, 1, '{}')",
    "UPDATE skus SET record = '{}'",
    "DELETE FROM answers",
    "INSERT INTO ledger SELECT * FROM ledger",
]


@pytest.mark.parametrize("statement", NOBODY)
def test_neither_role_may_change_the_record_or_the_schema(granted: str, statement: str) -> None:
    for role in (SERVICE, ONCALL):
        with psycopg.connect(as_role(granted, role)) as connection, pytest.raises(psycopg.Error) as refused:
            connection.execute(statement)
        assert isinstance(refused.value, REFUSED | psycopg.errors.InvalidGrantOperation), refused.value


@pytest.mark.parametrize("statement", ONLY_THE_SERVICE)
def test_on_call_may_read_and_nothing_else(granted: str, statement: str) -> None:
    with psycopg.connect(as_role(granted, SERVICE)) as connection:
        connection.execute(statement)
        connection.rollback()
    with psycopg.connect(as_role(granted, ONCALL), autocommit=True) as connection:
        for table in (*TABLES, "orders", "alembic_version"):
            connection.execute(f"SELECT * FROM {table}")
        with pytest.raises(REFUSED):
            connection.execute(statement)


@one_kind
def test_on_call_is_told_a_story_though_it_may_not_bring_the_ledger_up_to_date(
    service: Shop, server: str, granted: str
) -> None:
    service.stock()
    held = service.hold()
    service.writer.drain()
    oncall = open_shop(server, as_role(granted, ONCALL))
    assert oncall.engine.audit.catch_up()
    assert [event.op for event in oncall.engine.audit.story(held)] == ["reserve"]
    oncall.close()


@pytest.fixture
def oncall(service: Shop, server: str, granted: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """The shop of `service`, with the role that only reads; nobody writes meanwhile, so there is nothing to wait for."""
    monkeypatch.setattr(catching_up, "LONGEST_WAIT_S", 0.0)
    shop = open_shop(server, as_role(granted, ONCALL))
    yield shop
    shop.close()


@one_kind
def test_on_call_can_verify_what_a_keeper_has_written(service: Shop, oncall: Shop) -> None:
    History(service, 33).begin().go_on(60)
    service.writer.drain()
    service.recovery.projection.advance()
    assert oncall.problems() == ()
    service.redis.hincrby(service.engine.store.keys.sku("a"), "available", 1)
    assert any(problem.startswith("conservation: SKU a ") for problem in oncall.problems())
    assert oncall.problems() == service.problems()


@one_kind
def test_verify_with_the_role_that_reads_says_what_no_keeper_has_done(service: Shop, oncall: Shop) -> None:
    service.stock()
    with pytest.raises(StoreUnavailable, match=r"Events up to \d+-\d+ wait for Postgres, .*stockade_service"):
        oncall.problems()
    service.writer.drain()
    assert [problem.partition(" at ")[0] for problem in oncall.problems()] == [
        "fold: ledger_unfoldable: The projections stay"
    ]
    service.recovery.projection.advance()
    assert oncall.problems() == ()


@one_kind
def test_verify_with_the_role_that_reads_names_why_no_keeper_can_write(service: Shop, oncall: Shop) -> None:
    service.stock()
    service.writer.drain()
    service.hold()
    service.redis.xtrim(service.engine.store.keys.ledger, maxlen=1, approximate=False)
    assert "log: ledger_gap" in " ".join(oncall.problems())


def test_the_roles_can_be_granted_again_and_then_have_no_more_than_before(granted: str) -> None:
    def rights() -> list[object]:
        with psycopg.connect(granted) as connection:
            query = "SELECT relname, relacl::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
            return connection.execute(query + " ORDER BY relname").fetchall()

    before = rights()
    with psycopg.connect(granted, autocommit=True) as owner:
        owner.execute(f"GRANT ALL ON ledger TO {SERVICE}; GRANT UPDATE (reason) ON ledger TO {ONCALL}")
    assert rights() != before
    grant(granted)
    assert rights() == before


def test_both_roles_can_read_a_table_of_a_later_migration_at_once(granted: str) -> None:
    with psycopg.connect(granted, autocommit=True) as owner:
        owner.execute("CREATE TABLE later (a text)")
        try:
            for role in (SERVICE, ONCALL):
                with psycopg.connect(as_role(granted, role)) as connection:
                    connection.execute("SELECT * FROM later")
                with psycopg.connect(as_role(granted, role)) as connection, pytest.raises(REFUSED):
                    connection.execute("INSERT INTO later VALUES ('')")
        finally:
            owner.execute("DROP TABLE later")


def test_a_start_with_the_services_role_needs_no_right_to_change_the_schema_that_is_up_to_date(granted: str) -> None:
    postgres = Database(settings(STOCKADE_DATABASE_URL=as_role(granted, SERVICE)))
    assert migrate(postgres) == SCHEMA
    check(postgres)


@pytest.mark.parametrize(("revision", "has"), [("", "no schema yet"), ("0000", "schema 0000")])
def test_a_start_with_the_services_role_and_an_older_schema_says_what_to_do(
    database: str, granted: str, revision: str, has: str
) -> None:
    if revision:
        migrate(Database(settings(STOCKADE_DATABASE_URL=database)))
        with psycopg.connect(database) as owner:
            owner.execute("UPDATE alembic_version SET version_num = %s", [revision])
    grant_but_ledger = ROLES.partition("-- The record.")[0] + "COMMIT;"
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(grant_but_ledger)
    with pytest.raises(ConfigurationError) as refused:
        migrate(Database(settings(STOCKADE_DATABASE_URL=as_role(database, SERVICE))))
    assert str(refused.value) == (
        f"Postgres has {has}, and this version needs {SCHEMA}, which this role may not change: "
        "run stockade migrate as the owner of the tables"
    )


def test_a_start_with_a_role_that_was_granted_nothing_names_the_file(database: str, granted: str) -> None:
    migrate(Database(settings(STOCKADE_DATABASE_URL=database)))
    with pytest.raises(ConfigurationError, match=r"may not read Stockade's tables .*postgres-roles\.sql"):
        migrate(Database(settings(STOCKADE_DATABASE_URL=as_role(database, SERVICE))))
