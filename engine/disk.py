"""The disk that the embedded servers write to."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from engine.config import Settings
from engine.data_dir import DataDir

FULL_BYTES = 16 * 1024**2
"""Less than this is full: it is one segment of Postgres's WAL."""


@dataclass(frozen=True)
class Disk:
    """`redis`, `postgres`: whether the embedded one writes here."""

    free_bytes: int
    size_bytes: int
    redis: bool
    postgres: bool

    @property
    def is_full(self) -> bool:
        return self.free_bytes < FULL_BYTES


def look(settings: Settings) -> Disk | None:
    """The disk of the data directory; None if no server that is in use has its data there."""
    data_dir = DataDir(settings.data_dir)
    redis = data_dir.published("STOCKADE_REDIS_URL") == settings.redis_url
    postgres = data_dir.published("STOCKADE_DATABASE_URL") == settings.database_url
    if not redis and not postgres:
        return None
    usage = shutil.disk_usage(settings.data_dir)
    return Disk(usage.free, usage.total, redis, postgres)
