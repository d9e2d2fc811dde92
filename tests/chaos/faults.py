"""The faults, each by its own name. A fault strikes while buyers trade, and brings back what an operator or a host would."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

from tests.chaos.arena import Arena

Fault = Callable[[Arena, random.Random], float]
"""Strikes, and returns when (wall clock) it did."""

STOPPED_SECONDS = 5.0
LAG_SECONDS = 0.4


def redis_killed(arena: Arena, pick: random.Random) -> float:
    """kill -9 of Redis, and a start on the same AOF."""
    struck_s = time.time()
    arena.stores.master.kill()
    arena.stores.master.start()
    return struck_s


def aof_tail_cut(arena: Arena, pick: random.Random) -> float:
    """kill -9 of Redis, and the last bytes of its AOF never came to the disk."""
    struck_s = time.time()
    arena.stores.master.kill()
    tail = arena.stores.master.tail
    os.truncate(tail, max(0, tail.stat().st_size - pick.randint(1, 100_000)))
    arena.stores.master.start()
    return struck_s


def redis_data_deleted(arena: Arena, pick: random.Random) -> float:
    """Redis comes back on a disk with nothing on it."""
    struck_s = time.time()
    arena.stores.master.kill()
    arena.stores.replace()
    return struck_s


def flushall(arena: Arena, pick: random.Random) -> float:
    """Somebody types FLUSHALL."""
    struck_s = time.time()
    arena.stores.master.client.flushall()
    return struck_s


def lagging_replica_promoted(arena: Arena, pick: random.Random) -> float:
    """The master is lost, and a replica that had not got its last writes takes its place."""
    replica = arena.stores.replicate()
    replica.client.replicaof("NO", "ONE")
    struck_s = time.time()
    time.sleep(LAG_SECONDS)
    arena.stores.master.kill()
    arena.stores.promote()
    return struck_s + LAG_SECONDS


def redis_stopped(arena: Arena, pick: random.Random) -> float:
    """Redis doesn't answer for five seconds, and then goes on as if nothing had been."""
    struck_s = time.time()
    arena.stores.master.send(signal.SIGSTOP)
    time.sleep(STOPPED_SECONDS)
    arena.stores.master.send(signal.SIGCONT)
    return struck_s


def postgres_killed(arena: Arena, pick: random.Random) -> float:
    """kill -9 of Postgres, all of it."""
    struck_s = time.time()
    arena.kill(arena.postgres())
    return struck_s


def postgres_stopped(arena: Arena, pick: random.Random) -> float:
    """Postgres doesn't answer for a while."""
    struck_s = time.time()
    processes = arena.postgres()
    arena.kill(processes, signal.SIGSTOP)
    time.sleep(STOPPED_SECONDS)
    arena.kill(processes, signal.SIGCONT)
    return struck_s


def leading_keeper_killed(arena: Arena, pick: random.Random) -> float:
    """kill -9 of the keeper that leads; another one stands by."""
    struck_s = time.time()
    name = str(arena.engine.store.redis.get(arena.engine.store.keys.keeper) or "")
    if name.split(":")[1:2] == [str(arena.second_keeper.pid)]:
        arena.replace_second_keeper()
    else:
        arena.kill([arena.part("keeper")])
    return struck_s


def api_worker_killed(arena: Arena, pick: random.Random) -> float:
    """kill -9 of a worker of the API, in the middle of its requests."""
    struck_s = time.time()
    arena.kill([arena.part("worker")])
    return struck_s


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        redis_killed,
        aof_tail_cut,
        redis_data_deleted,
        flushall,
        lagging_replica_promoted,
        redis_stopped,
        postgres_killed,
        postgres_stopped,
        leading_keeper_killed,
        api_worker_killed,
    )
}
