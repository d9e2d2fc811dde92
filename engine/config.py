"""Everything the environment says, read once into one frozen object. Nothing else reads the environment."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from engine.errors import ConfigurationError
from engine.limits import MAX_HOLD_SECONDS
from engine.redis_url import refuse_bad_url

MIN_RETAIN_SECONDS = 86_400
"""Answers are kept at least this long for idempotency keys."""

RIGHT_SECRET_BYTES = 32
"""A shorter secret can be guessed from what it has signed."""

ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
DATABASE_SCHEMES = ("postgresql://", "postgres://")


@dataclass(frozen=True)
class Settings:
    """What one process needs to know. Made by `from_environment`, which refuses what can't work."""

    redis_url: str
    levers_redis_url: str
    database_url: str
    jwt_secret: str
    jwks_file: str
    jwt_audience: str
    webhook_secret: str
    id_secret: bytes
    data_dir: Path
    default_hold_seconds: int
    retain_seconds: int
    cart_ttl_seconds: int
    guest_cart_ttl_seconds: int
    most_guest_carts: int
    sweep_interval_ms: int
    redis_timeout_ms: int
    database_timeout_ms: int
    ledger_interval_ms: int
    most_unwritten_events: int
    snapshot_seconds: int
    workers: int
    most_wait_ms: int
    most_requests_per_second: int
    logs_requests: bool
    availability_max_age_seconds: int
    cors_origins: frozenset[str]

    @property
    def weak_secrets(self) -> list[str]:
        """Names of the secrets that are too short for production."""
        secrets = {"STOCKADE_JWT_SECRET": self.jwt_secret, "STOCKADE_WEBHOOK_SECRET": self.webhook_secret}
        return [name for name, secret in secrets.items() if 0 < len(secret.encode()) < RIGHT_SECRET_BYTES]

    @property
    def cart_ttl_ms(self) -> int:
        return self.cart_ttl_seconds * 1000

    @property
    def guest_cart_ttl_ms(self) -> int:
        return self.guest_cart_ttl_seconds * 1000

    @property
    def retain_ms(self) -> int:
        return self.retain_seconds * 1000


def from_environment(environment: Mapping[str, str], *, secrets_required: bool = True) -> Settings:
    """Read and check the settings.

    Raises:
        ConfigurationError: a value is missing or can't work; the message names the variable.
    """
    redis_url = environment.get("STOCKADE_REDIS_URL", "")
    refuse_bad_url("STOCKADE_REDIS_URL", redis_url)
    levers_redis_url = environment.get("STOCKADE_LEVERS_REDIS_URL", "")
    if levers_redis_url:
        refuse_bad_url("STOCKADE_LEVERS_REDIS_URL", levers_redis_url)
    database_url = environment.get("STOCKADE_DATABASE_URL", "")
    if database_url and not _is_database_url(database_url):
        raise ConfigurationError("STOCKADE_DATABASE_URL must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    jwt_secret = environment.get("STOCKADE_JWT_SECRET", "")
    jwks_file = environment.get("STOCKADE_JWKS_FILE", "")
    if secrets_required:
        if not jwt_secret and not jwks_file:
            raise ConfigurationError("STOCKADE_JWT_SECRET or STOCKADE_JWKS_FILE must be set")
        if jwks_file and not os.access(jwks_file, os.R_OK):
            raise ConfigurationError(f"STOCKADE_JWKS_FILE can't be read: {jwks_file}")
        if not jwt_secret and not environment.get("STOCKADE_ID_SECRET"):
            raise ConfigurationError("STOCKADE_ID_SECRET must be set where there is no STOCKADE_JWT_SECRET")
    return Settings(
        redis_url=redis_url,
        levers_redis_url=levers_redis_url or redis_url,
        database_url=database_url,
        jwt_secret=jwt_secret,
        jwks_file=jwks_file,
        jwt_audience=environment.get("STOCKADE_JWT_AUDIENCE", ""),
        webhook_secret=environment.get("STOCKADE_WEBHOOK_SECRET", ""),
        id_secret=_id_secret(environment, jwt_secret),
        data_dir=Path(environment.get("STOCKADE_DATA_DIR", ".stockade")),
        default_hold_seconds=_whole(
            environment, "STOCKADE_DEFAULT_HOLD_SECONDS", MAX_HOLD_SECONDS, 1, MAX_HOLD_SECONDS
        ),
        retain_seconds=_whole(environment, "STOCKADE_RETAIN_SECONDS", MIN_RETAIN_SECONDS, MIN_RETAIN_SECONDS, 10**8),
        cart_ttl_seconds=_whole(environment, "STOCKADE_CART_TTL_SECONDS", 604_800, 60, 10**8),
        guest_cart_ttl_seconds=_whole(environment, "STOCKADE_GUEST_CART_TTL_SECONDS", 86_400, 60, 10**8),
        most_guest_carts=_whole(environment, "STOCKADE_MOST_GUEST_CARTS", 100_000, 1, 10**8),
        sweep_interval_ms=_whole(environment, "STOCKADE_SWEEP_INTERVAL_MS", 250, 10, 250),
        redis_timeout_ms=_whole(environment, "STOCKADE_REDIS_TIMEOUT_MS", 2_000, 100, 60_000),
        database_timeout_ms=_whole(environment, "STOCKADE_DATABASE_TIMEOUT_MS", 2_000, 100, 60_000),
        ledger_interval_ms=_whole(environment, "STOCKADE_LEDGER_INTERVAL_MS", 50, 1, 10_000),
        most_unwritten_events=_whole(environment, "STOCKADE_MOST_UNWRITTEN_EVENTS", 2_000_000, 1_000, 10**9),
        snapshot_seconds=_whole(environment, "STOCKADE_SNAPSHOT_SECONDS", 300, 10, 86_400),
        workers=_whole(environment, "STOCKADE_WORKERS", os.cpu_count() or 1, 1, 256),
        most_wait_ms=_whole(environment, "STOCKADE_MOST_WAIT_MS", 1_000, 10, 60_000),
        most_requests_per_second=_whole(environment, "STOCKADE_MOST_REQUESTS_PER_SECOND", 0, 0, 1_000_000),
        logs_requests=bool(_whole(environment, "STOCKADE_LOG_REQUESTS", 1, 0, 1)),
        availability_max_age_seconds=_whole(environment, "STOCKADE_AVAILABILITY_MAX_AGE_SECONDS", 0, 0, 3_600),
        cors_origins=_origins(environment.get("STOCKADE_CORS_ORIGINS", "")),
    )


def _id_secret(environment: Mapping[str, str], jwt_secret: str) -> bytes:
    given = environment.get("STOCKADE_ID_SECRET", "")
    if given:
        return given.encode()
    return hmac.new(jwt_secret.encode(), b"stockade reservation ids", hashlib.sha256).digest()


def _whole(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environment.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= most:
        raise ConfigurationError(f"{name} must be a whole number from {least} to {most}; it is {text!r}")
    return int(text)


def _origins(text: str) -> frozenset[str]:
    """Origins as browsers send them in the header Origin."""
    origins = [word.strip() for word in text.split(",") if word.strip()]
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise ConfigurationError(
                "STOCKADE_CORS_ORIGINS must be origins like https://shop.example or http://localhost:3000, in lower case, "
                f"without a path, separated by commas; {origin!r} is none"
            )
    return frozenset(origins)


def _is_database_url(text: str) -> bool:
    """As Postgres's own library reads it. It takes a slash in a password for the end of the port, so that is looked at."""
    try:
        parts = conninfo_to_dict(text)
    except ProgrammingError:
        return False
    # An @ in a password would make its end a part of the host, which drivers put into their words.
    sound = "@" not in str(parts.get("host", "")) and bool(re.fullmatch(r"[0-9,]*", str(parts.get("port", ""))))
    return text.startswith(DATABASE_SCHEMES) and sound
