"""An embedded Postgres with the schema and nothing else in it, made once a run and copied: each start is some two seconds shorter."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from engine import database
from engine.config import from_environment
from engine.data_dir import DataDir
from engine.embedded_postgres import POSTGRES
from loadtests.servers import wait_for_postgres


def plant(data_dir: Path, factory: pytest.TempPathFactory) -> Path:
    """Put one into a data directory that isn't there yet. Returns: the directory."""
    if not (data_dir / "postgres").exists():
        base = factory.getbasetemp()
        # The workers of a run share the directory above.
        made = _made(base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base)
        shutil.copytree(made / "postgres", data_dir / "postgres", symlinks=True)
        data_dir.chmod(0o700)
    return data_dir


def _made(shared: Path) -> Path:
    with (shared / "seed.lock").open("w") as lock:
        # Workers begin at the same time.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "seed").exists():
            _make(DataDir(shared / "seed.new"))
            (shared / "seed.new").rename(shared / "seed")
    return shared / "seed"


def _make(directory: DataDir) -> None:
    directory.path.mkdir(mode=0o700)
    socket = directory.socket_path(POSTGRES.socket)
    child = POSTGRES.child(directory, socket, ())
    child.start()
    try:
        url = POSTGRES.url(socket)
        wait_for_postgres(url)
        database.migrate(
            database.Database(
                from_environment(
                    {"STOCKADE_REDIS_URL": "redis://nowhere", "STOCKADE_DATABASE_URL": url}, secrets_required=False
                )
            )
        )
    finally:
        child.stop()
        directory.remove_socket(socket)
