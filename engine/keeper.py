"""The keeper: whatever must happen without anybody calling. Run any number of them; one leads, the others stand by.

The leader ends holds whose time has run out (`Keeper`), and beside that, in a thread of its own, looks after the record
(`Clerk`). None is needed for an answer to a buyer to be right: reserve ends what is in its way itself, and a commit writes
its own part of the ledger.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from types import FrameType
from typing import Any

import structlog
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from engine import database, failover
from engine.clerk import Clerk
from engine.engine import Engine
from engine.errors import Closed, EngineError, StoreUnavailable
from engine.ids import random_id
from engine.readiness import CLOCK_AHEAD_MS, CLOCK_OFF_MS
from engine.record_check import RecordCheck
from engine.store import check
from engine.totals import Totals
from engine.values import Origin

BEAT_SECONDS = 1.0
LEASE_SECONDS = 3.0
"""A leader that is killed is followed by another after this and one beat."""

SUBSCRIPTION_WAIT_SECONDS = 0.2
LONGEST_STOP_SECONDS = 2.0
WAIT_SECONDS = 1.0
PAUSE_AFTER_FAILURE_SECONDS = 0.25

log = structlog.get_logger()


class Keeper:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._origin = Origin(actor="keeper")
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._name = f"{socket.gethostname()}:{os.getpid()}:{random_id()[:6]}"
        self._lease = Lock(engine.watch.redis, engine.watch.keys.keeper, timeout=LEASE_SECONDS, thread_local=False)
        self._leads_until_s = 0.0
        self._led = False
        self._totals = Totals(engine.watch)
        self._clerk = Clerk(engine, self.leads, self._stop, self._totals)
        self._record_check = RecordCheck(engine.database, engine.watch, lambda: self._clerk.trouble)

    def run(self) -> None:
        """Work until `stop`: a page of due holds at a time, a beat of the heart between pages when it's time.

        Holds at the head that are due but refuse to end (`stuck`) are stepped over until the next beat. A Redis that
        goes away is waited for.
        """
        works = (
            self._listen,
            self._clerk.run,
            lambda: self._totals.run(self.leads, self._stop),
            lambda: self._record_check.run(self.leads, self._stop),
        )
        threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in threads:
            thread.start()
        beaten_s = 0.0
        stuck = 0
        while not self._stop.is_set():
            self._wake.clear()
            try:
                if time.monotonic() - beaten_s >= BEAT_SECONDS:
                    beaten_s, stuck = time.monotonic(), 0
                    self._beat()
                if self.leads():
                    swept = self._engine.expiry.sweep(self._origin, stuck)
                    stuck = swept.stuck
                    if swept.more:
                        continue
            except Closed:
                self._stop.wait(PAUSE_AFTER_FAILURE_SECONDS)
            except (EngineError, RedisError) as error:
                log.warning("sweep_failed", error=str(error) or error.__class__.__name__)
                self._stop.wait(PAUSE_AFTER_FAILURE_SECONDS)
            self._wake.wait(self._engine.settings.sweep_interval_ms / 1000)
        for thread in threads:
            thread.join(LONGEST_STOP_SECONDS)
        self._hand_over()

    def stop(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """Set the events in another thread: a signal handler that does so in the midst of their wait() waits for ever."""
        threading.Thread(target=self._end).start()

    def _end(self) -> None:
        self._stop.set()
        self._wake.set()

    def rest(self, seconds: float) -> None:
        """Do nothing for a while, unless a stop comes."""
        self._stop.wait(seconds)

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def leads(self) -> bool:
        """Whether this keeper is the one that works. It stops by itself when its lease may have ended."""
        return time.monotonic() < self._leads_until_s

    def _beat(self) -> None:
        """Take or renew the lease."""
        asked_s = time.monotonic()
        leads = self._renewed() or self._lease.acquire(blocking=False, token=self._name)
        self._leads_until_s = asked_s + LEASE_SECONDS if leads else 0.0
        if bool(leads) != self._led:
            self._led = bool(leads)
            log.info("leading" if leads else "standing_by", keeper=self._name)
        if leads:
            self._check_clock()

    def _renewed(self) -> bool:
        try:
            return bool(self._lease.local.token) and bool(self._lease.reacquire())
        except LockError:
            return False

    def _hand_over(self) -> None:
        """Let the next keeper lead at once."""
        self._leads_until_s = 0.0
        try:
            if self._lease.local.token:
                self._lease.release()
        except RedisError as error:
            log.warning("lease_not_released", error=str(error))

    def _check_clock(self) -> None:
        try:
            off_ms, ahead_ms = self._engine.watch.clock_off_ms()
        except ValueError:
            log.error("clock_unreadable", effect="no script runs; the gate is shut until a person looks")
            return
        if abs(off_ms) > CLOCK_OFF_MS:
            log.error(
                "clock_off", off_ms=off_ms, effect="holds end early or late, if it is Redis's clock that is wrong"
            )
        if ahead_ms > CLOCK_AHEAD_MS:
            log.error("clock_stands_still", ahead_ms=ahead_ms, effect="no hold ends until Redis's clock has caught up")

    def _listen(self) -> None:
        """Wake the sweeper when a lease ends. A hint only: everything is right without it."""
        while not self._stop.is_set():
            try:
                self._subscribe()
            except RedisError as error:
                log.warning("listener_lost", error=str(error))
                self._stop.wait(PAUSE_AFTER_FAILURE_SECONDS)

    def _subscribe(self) -> None:
        allow_expired_events(self._engine.watch.redis)
        prefix = self._engine.watch.keys.lease("")
        with self._engine.watch.redis.pubsub(ignore_subscribe_messages=True) as subscription:
            kept = self._engine.watch.redis.get_connection_kwargs().get("db", 0)
            subscription.subscribe(f"__keyevent@{kept}__:expired")
            # A subscription that must leave its server begins again, because the next server needs its notifications switched on.
            while not self._stop.is_set() and not subscription.connection.should_reconnect():
                message = subscription.get_message(timeout=SUBSCRIPTION_WAIT_SECONDS)
                if message and str(message["data"]).startswith(prefix):
                    self._wake.set()


def allow_expired_events(redis: Any) -> None:
    """Switch keyspace notifications for expired keys on, beside those that are on. Some hosts forbid it; then not."""
    try:
        flags = redis.config_get("notify-keyspace-events").get("notify-keyspace-events") or ""
        missing = "".join(flag for flag in "Ex" if flag not in flags and not (flag == "x" and "A" in flags))
        if missing:
            redis.config_set("notify-keyspace-events", flags + missing)
    except RedisError as error:
        log.warning("notifications_unknown", error=str(error), effect="holds end up to one sweep interval later")


def run(engine: Engine) -> None:
    """Run a keeper until SIGTERM or SIGINT. Waits for a Redis and a Postgres that can't be reached yet.

    Raises:
        ConfigurationError: this Redis would lose stock, or this Postgres has a schema from the future.
    """
    keeper = Keeper(engine)
    engine.meter.start()
    failover.watch(engine)
    signal.signal(signal.SIGTERM, keeper.stop)
    signal.signal(signal.SIGINT, keeper.stop)
    while not keeper.stopping:
        try:
            check(engine.watch.redis)
            database.migrate(engine.database)
        except StoreUnavailable as error:
            log.warning("waiting", error=str(error))
            keeper.rest(WAIT_SECONDS)
        else:
            keeper.run()
