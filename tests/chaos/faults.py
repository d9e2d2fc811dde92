"""The faults, each by its own name. A fault strikes while buyers trade, and brings back what an operator or a host would."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from redis.exceptions import RedisError

from tests.chaos.arena import Arena, one_of, send
from tests.chaos.disks import Disk, can_be_full
from tests.chaos.hurts import counter_changed, ledger_position_lost, ledger_rows_deleted, ledger_table_gone
from tests.chaos.link import Link, Mode
from tests.chaos.makeup import OWN
from tests.chaos.stores import FAKETIME
from tests.waiting import wait_until

Strike = Callable[[Arena, random.Random], None]

STOPPED_SECONDS = 4.5
"""Longer than the keepers' lease and than what Redis and Postgres are waited for."""

LASTS_SECONDS = 3.0
LAG_SECONDS = 0.4
EACH_SECONDS = 0.05
CLOCK_SECONDS = 1_200
CLOCK_TAKES_SECONDS = 20.0
CALLS_TAKE_SECONDS = 0.5
"""What was asked by the old clock is answered by then."""
"""libfaketime looks for a new time once a second."""


@dataclass(frozen=True)
class Fault:
    """`target` is what it hits: no two at once hit the same. `loses`: Redis may lose its latest writes.

    `keeps_back`: meanwhile what happens may come late to the ledger, so that more can be lost with Redis.
    `may_fork`: what is left may contradict the ledger so that a person has to decide.
    """

    strike: Strike
    target: str
    loses: bool = False
    keeps_back: bool = False
    may_fork: bool = False

    @property
    def name(self) -> str:
        return getattr(self.strike, "__name__", "")

    @property
    def needs(self) -> str:
        """What this machine lacks for it; '' if nothing."""
        if self.target == "clock" and not FAKETIME:
            return "libfaketime isn't installed (apt-get install libfaketime)"
        if self.strike in (data_disk_full, log_disk_full) and not can_be_full():
            return "this user may not mount (unshare --mount)"
        return ""


def redis_killed(arena: Arena, pick: random.Random) -> None:
    """kill -9 of Redis, and a start on the same AOF some time later."""
    arena.redis.master.kill()
    time.sleep(pick.random() * 2)
    arena.redis.start()


def redis_stopped(arena: Arena, pick: random.Random) -> None:
    """Redis doesn't answer for some seconds, and then goes on as if nothing had been."""
    with _stopped(arena.redis.master.send):
        time.sleep(STOPPED_SECONDS)


def aof_tail_cut(arena: Arena, pick: random.Random) -> None:
    """kill -9 of Redis, and the last bytes of its AOF never came to the disk."""
    arena.redis.master.kill()
    tail = arena.redis.master.tail
    os.truncate(tail, max(0, tail.stat().st_size - pick.randint(1, 100_000)))
    arena.redis.start()


def aof_byte_flipped(arena: Arena, pick: random.Random) -> None:
    """kill -9 of Redis, and a byte of its AOF is another one. If it doesn't start so, an operator has it start empty."""
    arena.redis.master.kill()
    tail = arena.redis.master.tail
    with tail.open("r+b") as file:
        file.seek(pick.randrange(max(1, tail.stat().st_size)))
        byte = file.read(1)
        file.seek(-len(byte), os.SEEK_CUR)
        file.write(bytes(each ^ (1 << pick.randrange(8)) for each in byte))
    arena.redis.start()


def redis_data_gone(arena: Arena, pick: random.Random) -> None:
    """Redis comes back on a disk with nothing on it."""
    arena.redis.master.kill()
    arena.redis.start_empty()


def flushall(arena: Arena, pick: random.Random) -> None:
    """Somebody types FLUSHALL."""
    arena.redis.master.client.flushall()


def lagging_replica_promoted(arena: Arena, pick: random.Random) -> None:
    """The master is lost, and a replica that had not got its last writes takes its place."""
    replica = arena.redis.replicate()
    replica.client.replicaof("NO", "ONE")
    time.sleep(LAG_SECONDS)
    arena.redis.master.kill()
    arena.redis.promote()


def two_masters(arena: Arena, pick: random.Random) -> None:
    """A replica takes the master's place, but the master lives on, and about half of its clients don't notice for some seconds."""
    replica = arena.redis.replicate()
    replica.client.replicaof("NO", "ONE")
    former = arena.redis.promote()
    try:
        for client in former.client.client_list(_type="normal"):
            if pick.random() < 0.5:
                former.client.client_kill_filter(_id=client["id"])
        time.sleep(LASTS_SECONDS)
    finally:
        former.kill()


def maxmemory_reached(arena: Arena, pick: random.Random) -> None:
    """Redis is full, and is given more later."""
    redis = arena.redis.master.client
    # What counts is less than `used_memory`, and that falls, too, as the stream is trimmed.
    redis.config_set("maxmemory", redis.info("memory")["used_memory"] * pick.randint(50, 80) // 100)
    time.sleep(LASTS_SECONDS)
    redis.config_set("maxmemory", 0)
    assert "errorstat_OOM" in redis.info("errorstats"), "Redis refused nobody"


def redis_disk_full(arena: Arena, pick: random.Random) -> None:
    """What Redis appends to can't grow: a quota on its files, of what they have now and a little more."""
    size = arena.redis.master.tail.stat().st_size
    arena.redis.master.allow_files_of(size + pick.randint(0, 50_000))
    time.sleep(LASTS_SECONDS)
    arena.redis.master.allow_files_of(None)


def data_disk_full(arena: Arena, pick: random.Random) -> None:
    """The disk of Redis and Postgres has no room for one byte more (ENOSPC), until that is told and some time after."""
    with _full(arena.data_disk):
        arena.watch_hurt("a full disk under Redis and Postgres", lambda: False)
        time.sleep(pick.random() * LASTS_SECONDS)
    arena.postgres.ensure()


def log_disk_full(arena: Arena, pick: random.Random) -> None:
    """The disk that the service logs to has no room, until that is told and some time after. Nothing may mind."""
    with _full(arena.log_disk):
        arena.watch_hurt("a full disk under the log", lambda: False, part="log")
        time.sleep(pick.random() * LASTS_SECONDS)


def clock_forward(arena: Arena, pick: random.Random) -> None:
    """Redis's clock jumps ahead by 20 minutes, and stays there: what was held is due."""
    from_ms = arena.history.clock.now_ms()
    arena.redis.move_clock(arena.redis.offset_s + CLOCK_SECONDS)
    arena.history.clock.offset_ms += CLOCK_SECONDS * 1000
    _clock_follows(arena)
    arena.note_skew(from_ms)


def clock_back(arena: Arena, pick: random.Random) -> None:
    """Redis's clock falls back by 20 minutes, until somebody puts it right."""
    from_ms, right_s = arena.history.clock.now_ms(), arena.redis.offset_s
    arena.redis.move_clock(right_s - CLOCK_SECONDS)
    time.sleep(LASTS_SECONDS)
    arena.redis.move_clock(right_s)
    _clock_follows(arena)
    arena.note_skew(from_ms)


def _clock_follows(arena: Arena) -> None:
    wait_until(arena.redis.has_clock, CLOCK_TAKES_SECONDS)
    time.sleep(CALLS_TAKE_SECONDS)


def scripts_and_clients_gone(arena: Arena, pick: random.Random) -> None:
    """SCRIPT FLUSH and CLIENT KILL every 50 ms."""
    until_s = time.monotonic() + LASTS_SECONDS
    while time.monotonic() < until_s:
        with suppress(RedisError):
            redis = arena.redis.master.client
            redis.script_flush()
            for client in redis.client_list(_type="normal"):
                if client["name"] != OWN:
                    redis.client_kill_filter(_id=client["id"])
        time.sleep(EACH_SECONDS)


def notifications_lost(arena: Arena, pick: random.Random) -> None:
    """Redis says nothing of keys whose time is over, also if it starts anew, or a keeper switches that on again."""
    until_s = time.monotonic() + LASTS_SECONDS
    while time.monotonic() < until_s:
        with suppress(RedisError):
            arena.redis.master.client.config_set("notify-keyspace-events", "")
        time.sleep(EACH_SECONDS)
    with suppress(RedisError):
        arena.redis.master.client.config_set("notify-keyspace-events", "Ex")


def postgres_killed(arena: Arena, pick: random.Random) -> None:
    """kill -9 of Postgres, all of it, and a start."""
    arena.postgres.kill()
    arena.postgres.start()


def postgres_gone(arena: Arena, pick: random.Random) -> None:
    """kill -9 of Postgres, all of it, and nothing there for some seconds."""
    arena.postgres.kill()
    time.sleep(LASTS_SECONDS + pick.random() * 2)
    arena.postgres.start()


def postgres_stopped(arena: Arena, pick: random.Random) -> None:
    """Postgres doesn't answer for some seconds."""
    with _stopped(arena.postgres.send):
        time.sleep(STOPPED_SECONDS)


def postgres_disk_full(arena: Arena, pick: random.Random) -> None:
    """Postgres can write to no file: it panics, and can't come back before there is room again."""
    until_s = time.monotonic() + LASTS_SECONDS
    while time.monotonic() < until_s:
        arena.postgres.allow_files_of(0)
        time.sleep(EACH_SECONDS)
    arena.postgres.allow_files_of(None)
    arena.postgres.ensure()


def leading_keeper_killed(arena: Arena, pick: random.Random) -> None:
    """kill -9 of the keeper that leads; another one stands by."""
    if leader := arena.leader():
        send([leader], signal.SIGKILL)
    else:
        arena.replace_second_keeper()


def leading_keeper_stopped(arena: Arena, pick: random.Random) -> None:
    """The keeper that leads stands still for longer than its lease, and wakes up when another one leads."""
    leader = arena.leader()
    with _stopped(arena.second_keeper.send_signal if leader is None else lambda how: send([leader], how)):
        time.sleep(STOPPED_SECONDS)


def two_keepers_lead(arena: Arena, pick: random.Random) -> None:
    """The lease is deleted again and again: who leads doesn't know yet that another one does."""
    until_s = time.monotonic() + LASTS_SECONDS
    while time.monotonic() < until_s:
        with suppress(RedisError):
            arena.redis.master.client.delete(arena.engine.watch.keys.keeper)
        time.sleep(0.5)


def worker_killed(arena: Arena, pick: random.Random) -> None:
    """kill -9 of a worker of the API, in the middle of its requests."""
    send([one_of(arena.workers(), pick)], signal.SIGKILL)


def worker_stopped(arena: Arena, pick: random.Random) -> None:
    """A worker of the API stands still for some seconds, and goes on."""
    worker = one_of(arena.workers(), pick)
    with _stopped(lambda how: send([worker], how)):
        time.sleep(STOPPED_SECONDS)


def gunicorn_killed(arena: Arena, pick: random.Random) -> None:
    """kill -9 of the master of the API's workers."""
    send([arena.part("gunicorn")], signal.SIGKILL)


def gunicorn_stopped(arena: Arena, pick: random.Random) -> None:
    """The master of the API's workers stands still for some seconds, and goes on."""
    master = arena.part("gunicorn")
    with _stopped(lambda how: send([master], how)):
        time.sleep(STOPPED_SECONDS)


def rolling_restart(arena: Arena, pick: random.Random) -> None:
    """New workers for the API (SIGHUP), then one keeper after the other (SIGTERM)."""
    before = {process.pid for process in arena.workers()}
    arena.service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not before & {process.pid for process in arena.workers()}, 30)
    arena.replace_second_keeper(signal.SIGTERM)
    keeper = arena.part("keeper")
    send([keeper], signal.SIGTERM)
    wait_until(lambda: not keeper.alive, 30)


def everything_killed(arena: Arena, pick: random.Random) -> None:
    """kill -9 of every process at once, and a start of all of them."""
    from_ms = arena.history.clock.now_ms()
    arena.kill_everything()
    arena.start_everything()
    arena.note_down(from_ms)


def _bad(link: Link, mode: Mode) -> None:
    link.turn(mode)
    time.sleep(LASTS_SECONDS)
    link.turn(Mode.GOOD)


def _wire(target: str, mode: Mode) -> Fault:
    """The wire between the service and one of its servers is bad for some seconds."""

    def strike(arena: Arena, pick: random.Random) -> None:
        _bad(arena.redis_link if target == "redis" else arena.postgres_link, mode)

    strike.__name__ = f"{target}_wire_{mode}"
    strike.__doc__ = (
        f"The wire between the service and {target.capitalize()} is {mode.replace('_', ' ')} for some seconds."
    )
    return Fault(strike, f"wire to {target}", keeps_back=True)


@contextmanager
def _stopped(how: Callable[[signal.Signals], None]) -> Iterator[None]:
    how(signal.SIGSTOP)
    try:
        yield
    finally:
        how(signal.SIGCONT)


REDIS = partial(Fault, target="redis")
LOSING = partial(Fault, target="redis", loses=True)
POSTGRES = partial(Fault, target="postgres", keeps_back=True)
HURTS = partial(Fault, target="redis", keeps_back=True)
"""What they take comes back out of Redis, so Redis isn't hit meanwhile."""


@contextmanager
def _full(disk: Disk) -> Iterator[None]:
    disk.fill()
    try:
        yield
    finally:
        disk.clear()


KEEPER = partial(Fault, target="keeper", keeps_back=True)
API = partial(Fault, target="api")

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        *map(REDIS, (redis_killed, redis_stopped, maxmemory_reached, redis_disk_full)),
        *map(LOSING, (aof_tail_cut, redis_data_gone, flushall, lagging_replica_promoted, two_masters)),
        LOSING(aof_byte_flipped, may_fork=True),
        *(Fault(clock, "clock") for clock in (clock_forward, clock_back)),
        *(Fault(subtle, "redis's clients") for subtle in (scripts_and_clients_gone, notifications_lost)),
        *map(POSTGRES, (postgres_killed, postgres_gone, postgres_stopped, postgres_disk_full)),
        *map(HURTS, (ledger_rows_deleted, ledger_position_lost, counter_changed)),
        POSTGRES(ledger_table_gone),
        *map(KEEPER, (leading_keeper_killed, leading_keeper_stopped, two_keepers_lead)),
        *map(API, (worker_killed, worker_stopped, gunicorn_killed, gunicorn_stopped, rolling_restart)),
        *(_wire(target, mode) for target in ("redis", "postgres") for mode in Mode if mode is not Mode.GOOD),
        Fault(log_disk_full, "log"),
        *(Fault(whole, "everything", keeps_back=True) for whole in (everything_killed, data_disk_full)),
    )
}
