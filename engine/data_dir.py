"""The data directory of `stockade up`: its lock, its secrets, and where its servers listen."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine.errors import ConfigurationError

LONGEST_SOCKET_PATH = 100
"""A unix socket's path has to fit into 108 bytes, less on macOS."""

LOCK_PATIENCE_SECONDS = 5.0
"""A Postgres whose `up` was killed writes what it has in memory before it ends."""

PUBLISHED = {"STOCKADE_REDIS_URL": "redis.url", "STOCKADE_DATABASE_URL": "postgres.url"}
"""The file that has a variable's value while an embedded server runs."""

GENERATED = ("STOCKADE_JWT_SECRET", "STOCKADE_WEBHOOK_SECRET")
GENERATED_WITH_JWKS = ("STOCKADE_ID_SECRET", "STOCKADE_WEBHOOK_SECRET")


@dataclass(frozen=True)
class DataDir:
    path: Path

    @property
    def redis_dir(self) -> Path:
        return self.path / "redis"

    @property
    def postgres_dir(self) -> Path:
        return self.path / "postgres"

    @property
    def secrets_file(self) -> Path:
        return self.path / "secrets.env"

    @property
    def lock_file(self) -> Path:
        return self.path / "lock"

    def lock(self) -> IO[str]:
        """Make the directory this process's own, until the file returned and its copies in children are closed.

        The embedded servers hold copies, so that a killed `stockade up` can't be followed by a second server on the
        same files; they end within moments, so they are waited for.

        Raises:
            ConfigurationError: another `stockade up` or a server of it still runs here.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = open(self.lock_file, "w", encoding="ascii")
        except OSError as error:
            raise ConfigurationError(f"The data directory can't be used: {error}") from error
        give_up_s = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return held
            except OSError as error:
                if time.monotonic() >= give_up_s:
                    held.close()
                    raise ConfigurationError(f"Another stockade up runs on the data directory {self.path}") from error
            time.sleep(0.05)

    def socket_path(self, name: str) -> Path:
        """Where the unix socket `name` goes: into the directory, or where that is too deep, a temporary one.

        A temporary one also where there is a comma in the path: Postgres and its clients take it for two paths.
        """
        path = self.path.resolve() / name
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH and "," not in str(path):
            return path
        return Path(tempfile.mkdtemp(prefix="stockade-")) / path.name

    def remove_socket(self, socket_path: Path) -> None:
        """Remove the temporary directory that `socket_path` made, if it made one."""
        if not socket_path.is_relative_to(self.path.resolve()):
            shutil.rmtree(socket_path.parent, ignore_errors=True)

    def publish(self, variable: str, url: str) -> None:
        """Leave word for the other commands where the server in use is."""
        (self.path / PUBLISHED[variable]).write_text(url + "\n")

    def published(self, variable: str) -> str | None:
        """Where the embedded server is that runs, None if none does."""
        try:
            return (self.path / PUBLISHED[variable]).read_text(errors="replace").strip()
        except OSError:
            return None

    def note_redis(self, process: str) -> None:
        """Keep which process Redis is, for whoever must end it when it doesn't answer. Nothing is kept where there is no directory, or no room."""
        with suppress(OSError):
            (self.path / "redis.process").write_text(process + "\n")

    def noted_redis(self) -> str:
        """What `note_redis` has kept last, '' if nothing."""
        try:
            return (self.path / "redis.process").read_text(errors="replace").strip()
        except OSError:
            return ""

    def withdraw(self) -> None:
        for name in PUBLISHED.values():
            (self.path / name).unlink(missing_ok=True)

    def make_secrets(self, environment: Mapping[str, str]) -> None:
        """Generate the secrets that neither the environment nor an earlier run has, readable by the owner only."""
        known = self._read_secrets()
        names = GENERATED_WITH_JWKS if environment.get("STOCKADE_JWKS_FILE") else GENERATED
        missing = [name for name in names if name not in known and not environment.get(name)]
        if missing:
            lines = [f"{name}={value}\n" for name, value in known.items()]
            lines += [f"{name}={secrets.token_urlsafe(32)}\n" for name in missing]
            descriptor = os.open(self.secrets_file.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                file.writelines(lines)
            self.secrets_file.with_suffix(".new").rename(self.secrets_file)

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """The environment, with what this directory knows filled in where it says nothing."""
        filled = self._read_secrets() | {name: value for name, value in given.items() if value}
        filled["STOCKADE_DATA_DIR"] = str(self.path)
        for variable in PUBLISHED:
            if variable not in filled and (url := self.published(variable)) is not None:
                filled[variable] = url
        return filled

    def _read_secrets(self) -> dict[str, str]:
        if not self.secrets_file.exists():
            return {}
        try:
            pairs = [line.partition("=") for line in self.secrets_file.read_text().splitlines()]
        except OSError as error:
            raise ConfigurationError(f"The secrets can't be read: {error}") from error
        return {name: value for name, _, value in pairs if value}
