"""What kind of server an address of Redis leads to. A Sentinel and a node of a Redis Cluster can't hold a shop's stock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis import ConnectionPool, Redis
from redis.exceptions import AuthenticationError, RedisError

from engine.errors import ConfigurationError
from engine.pipe import ONCE

MAX_NAMED = 3


def refuse_other_kinds(redis: Redis, variable: str = "STOCKADE_REDIS_URL") -> None:
    """Refuse a server that isn't a single master's or a replica's. One that doesn't answer is passed.

    Raises:
        ConfigurationError: says what it is, and what to name in the variable instead.
    """
    if found := other_kind(redis, variable):
        raise ConfigurationError(found)


def other_kind(redis: Redis, variable: str = "STOCKADE_REDIS_URL") -> str:
    """What is said of a server that can't hold stock; '' of one that can, or that doesn't answer. Asks once."""
    try:
        # A Sentinel knows none of the users of the Redis that it watches.
        return _judged(redis, variable, anonymous=False)
    except AuthenticationError:
        pass
    except RedisError:
        return ""
    try:
        return _judged(redis, variable, anonymous=True)
    except RedisError:
        return ""


def _judged(redis: Redis, variable: str, *, anonymous: bool) -> str:
    pool = redis.connection_pool
    given = pool.connection_kwargs | {"retry": ONCE, "redis_connect_func": None, "db": 0}
    if anonymous:
        given |= {"username": None, "password": None}
    with Redis(connection_pool=ConnectionPool(pool.connection_class, **given)) as asking:
        info: Any = asking.info("server")
        match info.get("redis_mode") or info.get("server_mode"):
            case "sentinel":
                instead = f"name the Redis itself, whose address {_masters(asking)}"
                return f"{variable} leads to a Sentinel, which holds no stock: {instead}"
            case "cluster":
                instead = "name a single master, started with cluster-enabled no"
                return f"{variable} leads to a node of a Redis Cluster, which isn't supported: {instead}"
            case _:
                return ""


def _masters(sentinel: Redis) -> str:
    info: Mapping[str, Any] = dict(sentinel.info("sentinel"))
    found = [master for name, master in sorted(info.items()) if isinstance(master, dict) and "address" in master]
    if not found:
        return "it doesn't know"
    named = ", ".join(f"{master['address']} ({master['name']})" for master in found[:MAX_NAMED])
    return f"is now {named}" + (", …" if len(found) > MAX_NAMED else "")
