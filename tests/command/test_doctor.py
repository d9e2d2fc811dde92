"""`stockade doctor` and `stockade migrate` on real servers: a sound service raises no alarm, a broken one is named."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from redis import Redis

from engine import checks_redis, cli
from engine.checks import Check, Verdict
from engine.data_dir import DataDir
from engine.database import SCHEMA
from engine.doctor import examine
from engine.errors import ConfigurationError
from tests import servers
from tests.command.service import Service, environment, stockade
from tests.integration.shops import one_kind

OF_THIS_MACHINE = {"open files", "disk", "STOCKADE_WORKERS"}
"""A service can be sound on a machine that isn't."""

PASSWORD = "tuesday-pass"
ROLES = (Path(__file__).parents[2] / "docs" / "deploy" / "postgres-roles.sql").read_text()


def examined(data_dir: Path, more: Mapping[str, str] | None = None) -> dict[str, Check]:
    return {check.name: check for check in examine(data_dir, environment(more))}


def ran(*words: object, **more: str) -> Result:
    """Run a command in this process, which is quicker."""
    ours: dict[str, str | None] = dict.fromkeys(name for name in os.environ if name.startswith("STOCKADE_"))
    return CliRunner().invoke(cli.cli, list(map(str, words)), env=ours | more)


def alarms(found: Mapping[str, Check]) -> dict[str, str]:
    return {name: check.said for name, check in found.items() if check.verdict is not Verdict.FINE}


def test_a_sound_service_is_all_fine(service: Service) -> None:
    found = examined(service.data_dir)
    assert {name: said for name, said in alarms(found).items() if name not in OF_THIS_MACHINE} == {}
    assert {"gate", "keeper", "ledger", "snapshot", "redis AOF", "postgres fsync", "secrets.env"} <= found.keys()


def test_the_command_prints_a_line_a_check_or_json_and_no_secret(service: Service) -> None:
    printed = stockade("doctor", "--data-dir", service.data_dir)
    as_json = stockade("doctor", "--data-dir", service.data_dir, "--json")
    documents = json.loads(as_json.stdout)
    assert [set(document) for document in documents] == [{"name", "verdict", "said"}] * len(documents)
    assert len(printed.stdout.splitlines()) == len(documents)
    assert "fine       gate                           open\n" in printed.stdout
    assert {printed.returncode, as_json.returncode} == {any(each["verdict"] == "to do" for each in documents)}
    for secret in (service.data_dir / "secrets.env").read_text().split():
        assert secret.partition("=")[2] not in printed.stdout + as_json.stdout


@pytest.mark.parametrize("kind", servers.KINDS)
def test_a_server_that_nobody_has_looked_after_is_told_what_it_needs(
    kind: str, books_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks_redis, "SLOW_CALL_MS", 0)
    careless = ("--maxmemory", "1mb", "--maxmemory-policy", "allkeys-lru", "--slowlog-log-slower-than", "0")
    with servers.running(kind, *careless) as url:
        with Redis.from_url(url) as redis:
            redis.eval("return 1", 1, "stk:{p0}:meta")
        given = {"STOCKADE_REDIS_URL": url, "STOCKADE_DATABASE_URL": books_url, "STOCKADE_JWT_SECRET": "secret"}
        found = alarms(examined(tmp_path, given))
    assert found.keys() - OF_THIS_MACHINE == {
        *("STOCKADE_JWT_SECRET", "STOCKADE_WEBHOOK_SECRET"),
        *("redis maxmemory-policy", "redis maxmemory", "redis AOF"),
        *(
            "redis notify-keyspace-events",
            "redis hash-max-listpack-value",
            "redis slow calls",
            "gate",
            "keeper",
            "record",
        ),
        *("postgres fsync", "postgres full_page_writes", "postgres rights"),
    }
    assert " of ours took 0 ms or more in the last hour" in found["redis slow calls"]
    assert found["postgres rights"].startswith("stockade may UPDATE, DELETE, TRUNCATE the ledger")


@one_kind
def test_a_table_that_is_missing_is_named_by_doctor_and_migrate(server: str, database: str, tmp_path: Path) -> None:
    given = {"STOCKADE_REDIS_URL": server, "STOCKADE_DATABASE_URL": database}
    migrate = ("migrate", "--data-dir", tmp_path)
    assert ran(*migrate, STOCKADE_DATABASE_URL=database).exit_code == 0
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute("DROP TABLE payments")
    assert examined(tmp_path, given)["postgres schema"].said.startswith("lacks payments: bring Postgres back")
    refused = ran(*migrate, STOCKADE_DATABASE_URL=database).exception
    assert isinstance(refused, ConfigurationError)
    assert str(refused).startswith(f"Postgres has schema {SCHEMA} without its table payments")


@one_kind
def test_a_role_that_may_only_read_and_a_database_without_a_schema_are_told(
    server: str, database: str, tmp_path: Path
) -> None:
    given = {"STOCKADE_REDIS_URL": server, "STOCKADE_DATABASE_URL": database}
    found = examined(tmp_path, given)
    assert found["postgres schema"].said.startswith("is missing")
    assert found["postgres rights"].verdict is Verdict.NOT_ASKED
    assert ran("migrate", "--data-dir", tmp_path, STOCKADE_DATABASE_URL=database).exit_code == 0
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(ROLES)
    for role in ("stockade_service", "stockade_oncall"):
        as_role = given | {"STOCKADE_DATABASE_URL": database.replace("//stockade@", f"//{role}@")}
        assert examined(tmp_path, as_role)["postgres rights"].said == f"{role}, who can't change the ledger"


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("STOCKADE_REDIS_URL", f"redis://eve:{PASSWORD}@127.0.0.1:1/0", "redis"),
        ("STOCKADE_REDIS_URL", f"eve:{PASSWORD}@127.0.0.1:1", "settings"),
        ("STOCKADE_DATABASE_URL", f"postgresql://eve:{PASSWORD}@127.0.0.1:1/stock", "postgres"),
        ("STOCKADE_DATABASE_URL", f"eve:{PASSWORD}@127.0.0.1", "settings"),
        ("STOCKADE_DATABASE_URL", "", "postgres"),
        ("STOCKADE_WORKERS", "many", "settings"),
    ],
    ids=str,
)
def test_what_can_not_be_reached_or_read_is_named_without_its_password(
    server: str, tmp_path: Path, variable: str, value: str, name: str
) -> None:
    found = examined(tmp_path, {"STOCKADE_REDIS_URL": server} | {variable: value})
    assert found[name].verdict is Verdict.TO_DO
    assert not any(PASSWORD in check.said or "\n" in check.said for check in found.values())


def test_secrets_that_others_can_read_are_named_and_the_exit_is_1(tmp_path: Path) -> None:
    DataDir(tmp_path).make_secrets({})
    DataDir(tmp_path).secrets_file.chmod(0o644)
    done = ran("doctor", "--data-dir", tmp_path, STOCKADE_REDIS_URL="redis://127.0.0.1:1")
    assert done.exit_code == 1
    assert "to do      secrets.env" in done.stdout
    assert "to do      redis " in done.stdout


def test_migrate_says_from_what_to_what_and_can_be_repeated(database: str, tmp_path: Path) -> None:
    words = ("migrate", "--data-dir", tmp_path)
    assert ran(*words, STOCKADE_DATABASE_URL=database).stdout == f"schema none -> {SCHEMA}\n"
    again = ran(*words, STOCKADE_DATABASE_URL=database)
    assert (again.exit_code, again.stdout) == (0, f"schema {SCHEMA}: nothing to do\n")


@pytest.mark.parametrize("command", [("migrate", "STOCKADE_DATABASE_URL"), ("doctor", "STOCKADE_REDIS_URL")])
def test_migrate_and_doctor_need_to_know_where(tmp_path: Path, command: tuple[str, str]) -> None:
    word, variable = command
    with pytest.raises(ConfigurationError, match=f"runs on .*set {variable}"):
        raise ran(word, "--data-dir", tmp_path).exception or AssertionError
