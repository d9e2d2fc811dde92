"""Every piece of advice of the doctor: what is seen, and what it says to do."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine import checks, checks_machine, checks_postgres, checks_record, checks_redis
from engine.checks import Check, Verdict, size
from engine.checks_machine import MachineSeen
from engine.checks_postgres import PostgresSeen
from engine.checks_record import RecordSeen, ServiceSeen
from engine.checks_redis import RedisSeen
from engine.database import SCHEMA
from engine.replay import MayNotAsk
from tests.conftest import settings

ROOT = Path(__file__).parents[2]
GIB = 1024**3
RANDOM, OTHER = "kVb7hQ2mYt9sXe4pLr6wNz8cJd3fGa5u", "Zq8wEr2tYu7iOp4aSd9fGh3jKl6xCv5b"
SOUND = settings(STOCKADE_JWT_SECRET=RANDOM, STOCKADE_WEBHOOK_SECRET=OTHER, STOCKADE_WORKERS="2")

MACHINE = MachineSeen(
    settings=SOUND,
    secrets_file=Path("here/secrets.env"),
    secrets_mode=0o600,
    id_secret_given=False,
    jwks=0,
    cores=2,
    most_files=20_000,
    free_disk=50 * GIB,
)
INFO = {
    "redis_version": "7.0.15",
    "role": "master",
    "maxmemory_policy": "noeviction",
    "maxmemory": 4 * GIB,
    "used_memory": GIB,
    "total_system_memory": 8 * GIB,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "aof_last_bgrewrite_status": "ok",
}
SETTINGS = {"appendfsync": "everysec", "notify-keyspace-events": "xE", "hash-max-listpack-value": "1024"}
REDIS = RedisSeen(
    address="redis.example:6379",
    embedded=False,
    private=False,
    password=True,
    info=INFO,
    settings=SETTINGS,
    round_trip_ms=0.2,
    clock_off_ms=3,
    clock_ahead_ms=-20,
    user="stockade-api",
    may=(),
    slow_ms=(20,),
    left_out=(),
)
POSTGRES = PostgresSeen(
    address="db.example database stock",
    embedded=False,
    role="stockade_service",
    standby=False,
    settings={
        "server_version_num": "140009",
        "max_connections": "100",
        "superuser_reserved_connections": "3",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
    },
    revision=SCHEMA,
    missing=(),
    may=(),
    round_trip_ms=0.4,
    workers=2,
)
SERVICE = ServiceSeen(gate="open", keeper="host:1:abc", record="ok")
RECORD = RecordSeen(
    waiting=3, waited_s=0.1, snapshot="1-7", unsnapped_s=60.0, snapshot_problems=0, snapshot_seconds=300
)
JUDGES: dict[type, Callable[[Any], Iterator[Check]]] = {
    MachineSeen: checks_machine.checks,
    RedisSeen: checks_redis.checks,
    PostgresSeen: checks_postgres.checks,
    ServiceSeen: checks_record.checks,
    RecordSeen: checks_record.checks_of_record,
}
HEALTHY = (MACHINE, REDIS, POSTGRES, SERVICE, RECORD)


def machine(**more: Any) -> MachineSeen:
    return replace(MACHINE, **more)


def configured(**more: Any) -> MachineSeen:
    return machine(settings=replace(SOUND, **more))


def informed(**more: Any) -> RedisSeen:
    return replace(REDIS, info=INFO | more)


def set_to(name: str, value: str) -> RedisSeen:
    return replace(REDIS, settings=SETTINGS | {name: value})


def asked(**more: str) -> PostgresSeen:
    return replace(POSTGRES, settings=POSTGRES.settings | more)


@dataclass(frozen=True)
class Row:
    seen: Any
    name: str
    said: str
    verdict: Verdict = Verdict.TO_DO


ASK = Verdict.NOT_ASKED
ADVICE = [
    Row(
        configured(jwt_secret=""),
        "STOCKADE_JWT_SECRET",
        "isn't set: set it to 32 random bytes, or set STOCKADE_JWKS_FILE",
    ),
    Row(configured(jwt_secret="short"), "STOCKADE_JWT_SECRET", "has 5 bytes and can be guessed"),
    Row(configured(jwt_secret="ab" * 20), "STOCKADE_JWT_SECRET", "doesn't look as if it was made at random"),
    Row(configured(jwt_secret="please-change-me-in-production-0815"), "STOCKADE_JWT_SECRET", "at random"),
    Row(configured(jwt_secret="", jwks_file="keys"), "STOCKADE_ID_SECRET", "isn't set"),
    Row(configured(webhook_secret=""), "STOCKADE_WEBHOOK_SECRET", "isn't set, so that every payment event is refused"),
    Row(configured(webhook_secret=RANDOM), "STOCKADE_WEBHOOK_SECRET", "is that of the tokens"),
    Row(machine(secrets_mode=0o644), "secrets.env", "others can read it (mode 0644): chmod 600 here/secrets.env"),
    Row(replace(configured(jwks_file="k"), jwks="can't be read (No such file)"), "STOCKADE_JWKS_FILE", "can't be read"),
    Row(configured(workers=5), "STOCKADE_WORKERS", "5 workers on 2 cores only wait for each other: set one a core"),
    Row(machine(most_files=1_024), "open files", "a process may open 1024: raise it to 12200"),
    Row(configured(redis_timeout_ms=10_000), "timeouts", "a call may wait 32.0 s"),
    Row(machine(free_disk=GIB // 2), "disk", "512.0 MiB free under .stockade: make room"),
    Row(replace(REDIS, round_trip_ms=7.0), "redis round trip", "takes 7.00 ms at best"),
    Row(informed(redis_version="6.2.14"), "redis version", "Redis 6.2.14 is too old: install Redis 7 or newer"),
    Row(informed(valkey_version="7.2.9"), "redis version", "Valkey 7.2.9 is too old: install Valkey 8 or newer"),
    Row(informed(role="slave"), "redis role", "is a replica"),
    Row(informed(maxmemory_policy="allkeys-lru"), "redis maxmemory-policy", "is allkeys-lru, which evicts stock"),
    Row(informed(maxmemory=0), "redis maxmemory", "isn't set (1.0 GiB used): set it"),
    Row(informed(used_memory=7 * GIB // 2), "redis maxmemory", "is 87 % full (3.5 GiB of 4.0 GiB)"),
    Row(
        replace(informed(maxmemory=0, used_memory=7 * GIB), embedded=True),
        "redis maxmemory",
        "is 87 % full (7.0 GiB of 8.0 GiB, all that the machine has)",
    ),
    Row(informed(aof_enabled=0), "redis AOF", "is off"),
    Row(informed(aof_last_write_status="err"), "redis AOF", "the last write failed"),
    Row(informed(aof_last_bgrewrite_status="err"), "redis AOF", "the last rewrite failed"),
    Row(
        replace(REDIS, left_out=("HSET", "SET", "XADD", "ZADD")),
        "redis AOF replay",
        "a restart forgets what is in the AOF: the user default may not HSET, SET, XADD…: load docs/deploy/redis.acl",
    ),
    Row(replace(REDIS, left_out=MayNotAsk.NO_RIGHT), "redis AOF replay", "a restart may forget the AOF unseen: load"),
    Row(replace(REDIS, left_out=MayNotAsk.NO_ANSWER), "redis AOF replay", "this server doesn't say", ASK),
    Row(replace(REDIS, settings=None), "redis appendfsync", "this user may not CONFIG GET", ASK),
    Row(set_to("appendfsync", "no"), "redis appendfsync", "is 'no': set it to everysec or always"),
    Row(set_to("notify-keyspace-events", "E"), "redis notify-keyspace-events", "is 'E', so that holds end"),
    Row(set_to("notify-keyspace-events", "xK"), "redis notify-keyspace-events", "set it to Ex"),
    Row(set_to("hash-max-listpack-value", "64"), "redis hash-max-listpack-value", "is 64, so that long baskets"),
    Row(replace(REDIS, clock_off_ms=-1_500), "redis clock", "is -1.5 s off this machine's: let NTP set both"),
    Row(replace(REDIS, clock_ahead_ms=61_000), "redis clock", "is 61.0 s behind the latest time written"),
    Row(replace(REDIS, user="default", password=False), "redis user", "whoever reaches redis.example:6379 may do"),
    Row(replace(REDIS, may=("FLUSHALL",)), "redis user", "stockade-api may FLUSHALL, which the service never needs"),
    Row(replace(REDIS, may=None), "redis user", "stockade-api; this server doesn't say what it may do", ASK),
    Row(replace(REDIS, slow_ms=(9, 250, 301)), "redis slow calls", "2 of ours took 250 ms or more in the last hour"),
    Row(replace(REDIS, slow_ms=None), "redis slow calls", "this user may not SLOWLOG GET", ASK),
    Row(replace(POSTGRES, round_trip_ms=25.0), "postgres round trip", "takes 25.0 ms at best"),
    Row(asked(server_version_num="130014"), "postgres version", "13.14 is too old: install 14 or newer"),
    Row(
        replace(POSTGRES, missing=("ledger",)), "postgres schema", "lacks ledger: bring Postgres back from its standby"
    ),
    Row(replace(POSTGRES, revision=""), "postgres schema", f"is missing, {SCHEMA} is needed: run stockade migrate"),
    Row(replace(POSTGRES, revision="0000"), "postgres schema", f"is 0000, {SCHEMA} is needed: run stockade migrate"),
    Row(
        replace(POSTGRES, missing=("ledger",)), "postgres schema", "lacks ledger: bring Postgres back from its standby"
    ),
    Row(replace(POSTGRES, revision="9999"), "postgres schema", "is 9999, made by a newer version"),
    Row(replace(POSTGRES, standby=True), "postgres role", "is a standby"),
    Row(asked(fsync="off"), "postgres fsync", "is off, so that a crash loses what was answered"),
    Row(asked(full_page_writes="off"), "postgres full_page_writes", "is off"),
    Row(asked(synchronous_commit="off"), "postgres synchronous_commit", "is off"),
    Row(replace(POSTGRES, may=None), "postgres rights", "there is no ledger yet", ASK),
    Row(
        replace(POSTGRES, may=("UPDATE", "DELETE")), "postgres rights", "stockade_service may UPDATE, DELETE the ledger"
    ),
    Row(asked(max_connections="24"), "postgres connections", "22 for 2 workers and two keepers, 21 allowed: raise"),
    Row(replace(SERVICE, gate="closed: fork"), "gate", "closed: fork: if no keeper opens it in a minute"),
    Row(replace(SERVICE, keeper=""), "keeper", "none leads: start stockade keeper"),
    Row(replace(SERVICE, record="damaged: SKU a is only in Redis"), "record", "damaged: SKU a is only in Redis: see"),
    Row(replace(RECORD, waiting=9, waited_s=8.0), "ledger", "9 events wait for Postgres, the oldest for 8 s"),
    Row(replace(RECORD, snapshot_problems=2), "snapshot", "1-7 has 2 problems: run stockade verify"),
    Row(replace(RECORD, unsnapped_s=700.0), "snapshot", "the newest is 1-7; events have waited for 700 s, one is due"),
    Row(replace(RECORD, snapshot="", unsnapped_s=700.0), "snapshot", "there is none; events have waited for 700 s"),
]
NO_ALARM = [
    replace(REDIS, user="default", password=False, private=True, may=("FLUSHALL",)),
    replace(informed(maxmemory=0), embedded=True),
    informed(valkey_version="8.0.1", redis_version="7.2.4"),
    set_to("appendfsync", "always"),
    set_to("notify-keyspace-events", "AKE"),
    set_to("hash-max-listpack-value", "4096"),
    replace(POSTGRES, embedded=True, role="stockade", may=("UPDATE", "DELETE", "TRUNCATE")),
    asked(synchronous_commit="remote_apply"),
    machine(most_files=None, free_disk=None, secrets_mode=None),
    replace(configured(jwt_secret="", jwks_file="keys"), id_secret_given=True, jwks=2),
    replace(RECORD, unsnapped_s=None),
    replace(RECORD, snapshot="", unsnapped_s=None),
    replace(RECORD, snapshot="", unsnapped_s=10.0, waiting=0, waited_s=0.0),
]


@pytest.mark.parametrize("row", ADVICE, ids=lambda row: f"{row.name}: {row.said[:40]}")
def test_what_is_off_is_said_in_one_line_beside_what_is_fine(row: Row) -> None:
    found = list(JUDGES[type(row.seen)](row.seen))
    assert any(check.name == row.name and row.said in check.said and check.verdict is row.verdict for check in found)
    assert {check.name for check in found if check.verdict is Verdict.TO_DO} <= {row.name}
    assert all("\n" not in check.said and len(check.said) < 160 for check in found)
    assert not any(secret in check.said for check in found for secret in (RANDOM, OTHER))


@pytest.mark.parametrize("seen", [*HEALTHY, *NO_ALARM], ids=lambda seen: type(seen).__name__)
def test_what_is_as_it_should_be_raises_no_alarm(seen: Any) -> None:
    assert {check.verdict for check in JUDGES[type(seen)](seen)} == {Verdict.FINE}


MODULES = (checks_machine, checks_record, checks_postgres, checks_redis)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_piece_of_advice_has_a_row(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    given: set[int] = set()

    def noted(make: Callable[[str, str], Check]) -> Callable[[str, str], Check]:
        def one(name: str, said: str) -> Check:
            given.add(sys._getframe(1).f_lineno)
            return make(name, said)

        return one

    for word in ("to_do", "not_asked"):
        if hasattr(module, word):
            monkeypatch.setattr(module, word, noted(getattr(checks, word)))
    for row in ADVICE:
        list(JUDGES[type(row.seen)](row.seen))
    tree = ast.parse(Path(str(module.__file__)).read_text())
    written = {
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("to_do", "not_asked")
    }
    assert written
    assert written - given == set()


def test_the_files_and_the_time_that_the_doctor_reckons_with_are_those_of_gunicorn() -> None:
    text = (ROOT / "api" / "gunicorn_config.py").read_text()

    def number(name: str) -> int:
        [found] = re.findall(rf"^{name} = ([\d_]+)$", text, re.MULTILINE)
        return int(found)

    assert number("MAX_CONNECTIONS") + number("OTHER_FILES") == checks_machine.FILES
    assert number("timeout") * 1_000 == checks_machine.LONGEST_ANSWER_MS


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "can't be read (No such file or directory)"),
        ("{", "is no JWKS with keys in it"),
        ("[]", "is no JWKS with keys in it"),
        ('{"keys": []}', "is no JWKS with keys in it"),
        ('{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "1"}]}', 1),
    ],
)
def test_a_jwks_file_is_read(tmp_path: Path, content: str | None, said: str | int) -> None:
    file = tmp_path / "keys.json"
    if content is not None:
        file.write_text(content)
    assert checks_machine._keys_in(str(file)) == said


def test_sizes_are_for_people() -> None:
    assert [size(count) for count in (0, 1_023, 1_024, 5 * GIB // 2, 3_000 * GIB)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "2.5 GiB",
        "2.9 TiB",
    ]
