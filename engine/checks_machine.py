"""Checks of this machine and of the settings: secrets, files, workers, timeouts, disk."""

from __future__ import annotations

import os
import resource
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
from jwt import PyJWKSet
from jwt.exceptions import PyJWTError

from engine.checks import Check, fine, size, to_do
from engine.config import RIGHT_SECRET_BYTES, Settings
from engine.data_dir import DataDir

FEWEST_LETTERS = 8
"""Different ones, in a secret that was made at random."""

MADE_UP = ("change", "example", "password", "secret", "stockade")
"""A word like that doesn't come up by chance: somebody has copied it from somewhere."""

WORKERS_PER_CORE = 2
FILES = 12_200
"""What a worker of the API asks for: see api/gunicorn_config.py."""

LONGEST_ANSWER_MS = 30_000
"""After that gunicorn takes a worker for dead: see `timeout` in api/gunicorn_config.py."""

TRIES = 3
MIN_FREE = 1024**3


@dataclass(frozen=True)
class MachineSeen:
    """`jwks`: how many keys the file has, or why it can't be used. `secrets_mode` is None where there is no file.

    `most_files` is the hard limit of this shell, None for no limit. `free_disk` is None where no server is embedded.
    """

    settings: Settings
    secrets_file: Path
    secrets_mode: int | None
    id_secret_given: bool
    jwks: int | str
    cores: int
    most_files: int | None
    free_disk: int | None


def look(settings: Settings, *, embedded: bool, id_secret_given: bool) -> MachineSeen:
    data_dir = DataDir(settings.data_dir)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MachineSeen(
        settings=settings,
        secrets_file=data_dir.secrets_file,
        secrets_mode=stat.S_IMODE(data_dir.secrets_file.stat().st_mode) if data_dir.secrets_file.exists() else None,
        id_secret_given=id_secret_given,
        jwks=_keys_in(settings.jwks_file) if settings.jwks_file else 0,
        cores=os.cpu_count() or 1,
        most_files=None if hard == resource.RLIM_INFINITY else hard,
        free_disk=shutil.disk_usage(settings.data_dir).free if embedded else None,
    )


def checks(seen: MachineSeen) -> Iterator[Check]:
    yield from _secrets(seen)
    if seen.secrets_mode is not None:
        yield _mode(seen.secrets_file, seen.secrets_mode)
    if seen.settings.jwks_file:
        yield _jwks(seen)
    yield _workers(seen)
    yield _files(seen)
    yield _timeouts(seen.settings)
    if seen.free_disk is not None:
        yield _disk(seen.settings.data_dir, seen.free_disk)


def _secrets(seen: MachineSeen) -> Iterator[Check]:
    jwt, webhook, has_keys = seen.settings.jwt_secret, seen.settings.webhook_secret, bool(seen.settings.jwks_file)
    if jwt:
        yield _secret("STOCKADE_JWT_SECRET", jwt)
    elif not has_keys:
        yield to_do("STOCKADE_JWT_SECRET", "isn't set: set it to 32 random bytes, or set STOCKADE_JWKS_FILE")
    elif not seen.id_secret_given:
        yield to_do("STOCKADE_ID_SECRET", "isn't set: set it to 32 random bytes, as there is only a JWKS file")
    if not webhook:
        yield to_do(
            "STOCKADE_WEBHOOK_SECRET", "isn't set, so that every payment event is refused: set it to 32 random bytes"
        )
    elif webhook == jwt:
        yield to_do(
            "STOCKADE_WEBHOOK_SECRET", "is that of the tokens: whoever signs one can forge the other; set another"
        )
    else:
        yield _secret("STOCKADE_WEBHOOK_SECRET", webhook)


def _secret(name: str, secret: str) -> Check:
    many = len(secret.encode())
    if many < RIGHT_SECRET_BYTES:
        return to_do(name, f"has {many} bytes and can be guessed from what it has signed: set 32 random bytes")
    if len(set(secret)) < FEWEST_LETTERS or any(word in secret.lower() for word in MADE_UP):
        return to_do(name, "doesn't look as if it was made at random: set 32 random bytes")
    return fine(name, f"set, {many} bytes")


def _mode(file: Path, mode: int) -> Check:
    if mode & 0o077:
        return to_do("secrets.env", f"others can read it (mode {mode:04o}): chmod 600 {file}, then make new secrets")
    return fine("secrets.env", f"mode {mode:04o}")


def _jwks(seen: MachineSeen) -> Check:
    if isinstance(seen.jwks, int):
        return fine("STOCKADE_JWKS_FILE", f"{seen.jwks} keys")
    return to_do("STOCKADE_JWKS_FILE", f"{seen.jwks}: have it written by whoever signs the tokens")


def _workers(seen: MachineSeen) -> Check:
    many = f"{seen.settings.workers} workers on {seen.cores} cores"
    if seen.settings.workers > WORKERS_PER_CORE * seen.cores:
        return to_do("STOCKADE_WORKERS", f"{many} only wait for each other: set one a core")
    return fine("STOCKADE_WORKERS", many)


def _files(seen: MachineSeen) -> Check:
    if seen.most_files is not None and seen.most_files < FILES:
        advice = (
            f"a process may open {seen.most_files}: raise it to {FILES} (ulimit -n, LimitNOFILE), or connections queue"
        )
        return to_do("open files", advice)
    return fine("open files", f"{seen.most_files or 'any number'} a process")


def _timeouts(settings: Settings) -> Check:
    longest_ms = TRIES * settings.redis_timeout_ms + settings.database_timeout_ms
    says = f"a call may wait {longest_ms / 1000:.1f} s: {TRIES} tries at Redis, then Postgres"
    if longest_ms >= LONGEST_ANSWER_MS:
        advice = (
            f"{says}, and gunicorn ends it after 30 s: lower STOCKADE_REDIS_TIMEOUT_MS or STOCKADE_DATABASE_TIMEOUT_MS"
        )
        return to_do("timeouts", advice)
    return fine("timeouts", says)


def _disk(data_dir: Path, free: int) -> Check:
    if free < MIN_FREE:
        return to_do(
            "disk", f"{size(free)} free under {data_dir}: make room, both servers stop writing when it is full"
        )
    return fine("disk", f"{size(free)} free under {data_dir}")


def _keys_in(file: str) -> int | str:
    try:
        return len(PyJWKSet.from_dict(orjson.loads(Path(file).read_bytes())).keys)
    except OSError as error:
        return f"can't be read ({error.strerror})"
    except (ValueError, TypeError, AttributeError, PyJWTError):
        return "is no JWKS with keys in it"
