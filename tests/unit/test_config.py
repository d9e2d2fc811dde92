from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine import config
from engine.config import from_environment
from engine.errors import ConfigurationError, StoreUnavailable
from engine.store import check, client
from tests import servers
from tests.conftest import SECRETS, settings

DATABASE_URL = "must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
COMPLETE = SECRETS | {"STOCKADE_REDIS_URL": "redis://nowhere"}


def refusal(environment: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as refused:
        from_environment(environment)
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("STOCKADE_DEFAULT_HOLD_SECONDS", "901", "from 1 to 900; it is '901'"),
        ("STOCKADE_DEFAULT_HOLD_SECONDS", "0", "from 1 to 900; it is '0'"),
        ("STOCKADE_DEFAULT_HOLD_SECONDS", "15m", "from 1 to 900; it is '15m'"),
        ("STOCKADE_DEFAULT_HOLD_SECONDS", "-1", "from 1 to 900; it is '-1'"),
        ("STOCKADE_DEFAULT_HOLD_SECONDS", "1.5", "from 1 to 900; it is '1.5'"),
        ("STOCKADE_DEFAULT_HOLD_SECONDS", "\u0669", "from 1 to 900; it is '\u0669'"),
        ("STOCKADE_RETAIN_SECONDS", "3600", "from 86400 to"),
        ("STOCKADE_GUEST_CART_TTL_SECONDS", "59", "from 60 to"),
        ("STOCKADE_MOST_GUEST_CARTS", "0", "from 1 to"),
        ("STOCKADE_SWEEP_INTERVAL_MS", "251", "from 10 to 250"),
        ("STOCKADE_REDIS_TIMEOUT_MS", "99", "from 100 to 60000"),
        ("STOCKADE_WORKERS", "0", "from 1 to 256"),
        ("STOCKADE_MOST_WAIT_MS", "9", "from 10 to 60000"),
        ("STOCKADE_MOST_REQUESTS_PER_SECOND", "0.5", "from 0 to 1000000"),
        ("STOCKADE_WORKERS", "9" * 5_000, "from 1 to 256"),
        ("STOCKADE_REDIS_URL", "", "must be redis://HOST:PORT/DB"),
        ("STOCKADE_REDIS_URL", "localhost:6379", "must be redis://HOST:PORT/DB"),
        ("STOCKADE_REDIS_URL", "http://somewhere", "must be redis://HOST:PORT/DB"),
        ("STOCKADE_REDIS_URL", "redis://[::1", "must be redis://HOST:PORT/DB"),
        ("STOCKADE_REDIS_URL", "redis://somewhere:port", "must be redis://HOST:PORT/DB"),
        ("STOCKADE_REDIS_URL", "redis://somewhere:99999", "must be redis://HOST:PORT/DB"),
        ("STOCKADE_DATABASE_TIMEOUT_MS", "60001", "from 100 to 60000"),
        ("STOCKADE_DATABASE_URL", "host=somewhere password=hunter2", DATABASE_URL),
        ("STOCKADE_DATABASE_URL", "mysql://ann:hunter2@somewhere/stock", DATABASE_URL),
        ("STOCKADE_DATABASE_URL", "postgresql://ann:hunter2/x@somewhere/stock", DATABASE_URL),
        ("STOCKADE_DATABASE_URL", "postgresql://[hunter2", DATABASE_URL),
        ("STOCKADE_JWKS_FILE", "/nowhere/jwks.json", "can't be read: /nowhere/jwks.json"),
    ],
)
def test_a_value_that_cannot_work_is_refused_in_one_line(variable: str, value: str, says: str) -> None:
    message = refusal(COMPLETE | {variable: value})
    assert message.startswith(variable)
    assert says in message
    assert "hunter2" not in message


def test_a_missing_secret_is_refused() -> None:
    environment = COMPLETE | {"STOCKADE_JWT_SECRET": ""}
    assert refusal(environment) == "STOCKADE_JWT_SECRET or STOCKADE_JWKS_FILE must be set"
    assert from_environment(environment, secrets_required=False).jwt_secret == ""


def test_keys_from_a_file_alone_need_a_secret_for_ids(tmp_path: Path) -> None:
    jwks = tmp_path / "jwks.json"
    jwks.write_text("{}")
    environment = {"STOCKADE_REDIS_URL": "redis://nowhere", "STOCKADE_JWKS_FILE": str(jwks)}
    assert "STOCKADE_ID_SECRET must be set" in refusal(environment)
    assert from_environment(environment | {"STOCKADE_ID_SECRET": "words"}).id_secret == b"words"


def test_a_password_in_a_bad_url_is_not_shown() -> None:
    message = refusal(COMPLETE | {"STOCKADE_REDIS_URL": "http://ann:hunter2@somewhere"})
    assert "hunter2" not in message
    assert "hunter2" not in refusal(COMPLETE | {"STOCKADE_REDIS_URL": "redis://ann:hunter2"})
    assert "hunter2" not in refusal(COMPLETE | {"STOCKADE_DATABASE_URL": "postgresql://ann:x@hunter2@somewhere/stock"})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "postgresql://somewhere",
        "postgres://ann:hunter2@somewhere:5433/stock?sslmode=require",
        "postgresql://stockade@/postgres?host=/a%20directory&port=5432",
        "postgresql://one:5432,two:5433/stock?target_session_attrs=read-write",
    ],
)
def test_a_database_may_be_named_in_every_way_that_postgres_knows(url: str) -> None:
    assert from_environment(COMPLETE | {"STOCKADE_DATABASE_URL": url}).database_url == url


def test_defaults_are_those_of_the_contract() -> None:
    read = from_environment(COMPLETE)
    assert (read.default_hold_seconds, read.retain_seconds) == (900, 86_400)
    assert read.retain_ms == 86_400_000
    assert (read.cart_ttl_ms, read.guest_cart_ttl_ms) == (604_800_000, 86_400_000)
    assert read.most_guest_carts == 100_000


def test_ids_differ_from_the_secret_they_are_derived_from() -> None:
    read = from_environment(COMPLETE)
    assert read.id_secret not in (b"", read.jwt_secret.encode())
    assert read.id_secret == from_environment(COMPLETE).id_secret


@pytest.mark.parametrize("kind", servers.KINDS)
def test_a_redis_that_may_evict_is_refused(kind: str) -> None:
    with servers.running(kind, "--maxmemory-policy", "allkeys-lru") as url:
        redis = client(settings(url))
        with pytest.raises(ConfigurationError, match="maxmemory-policy allkeys-lru") as refused:
            check(redis)
        assert "\n" not in str(refused.value)
        redis.config_set("maxmemory-policy", "noeviction")
        check(redis)


def test_a_redis_that_cannot_be_reached_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="Redis can't be reached") as refused:
        check(client(settings(f"unix://{tmp_path}/nothing.sock")))
    assert "\n" not in str(refused.value)


REFERENCE = (Path(__file__).parents[2] / "docs" / "reference" / "configuration.md").read_text()
RANGES = re.findall(r"^\| `(STOCKADE_\w+)` \| ([^|]+) \| (\d+) (?:to|or) (\d+) \|", REFERENCE, re.MULTILINE)


@pytest.mark.parametrize(("variable", "default", "least", "most"), RANGES)
def test_the_reference_has_the_default_and_the_range_of_every_number(
    variable: str, default: str, least: str, most: str
) -> None:
    for inside in (least, most):
        from_environment(COMPLETE | {variable: inside})
    for outside in (int(least) - 1, int(most) + 1):
        assert refusal(COMPLETE | {variable: str(outside)}).startswith(f"{variable} must be a whole number from ")
    if re.match(r"\d", default):
        assert from_environment(COMPLETE) == from_environment(COMPLETE | {variable: default.split()[0]})


def test_the_reference_has_the_range_of_every_number() -> None:
    source = Path(config.__file__).read_text()
    assert {variable for variable, *_ in RANGES} == set(re.findall(r'_whole\(\s*environment,\s*"(\w+)"', source))
