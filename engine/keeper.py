"""The keeper: opens an empty store, ends holds whose time has run out, and says that it is alive.

Run any number of them. None is needed for an answer to a buyer to be right: reserve ends what is in its way itself.
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
from redis.exceptions import RedisError

from engine.engine import Engine
from engine.errors import EngineError, StoreUnavailable
from engine.store import check
from engine.values import Origin

HEARTBEAT_SECONDS = 1.0
HEARTBEAT_TTL_MS = 3_000
SUBSCRIPTION_WAIT_SECONDS = 1.0
TOLERATED_CLOCK_MS = 1_000
WAIT_FOR_REDIS_SECONDS = 1.0
PAUSE_AFTER_FAILURE_SECONDS = 0.25

log = structlog.get_logger()


class Keeper:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._origin = Origin(actor="keeper")
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def run(self) -> None:
        """Work until `stop`: a page of due holds at a time, a beat of the heart between pages when it's time.

        Holds at the head that are due but refuse to end (`stuck`) are stepped over until the next beat. A Redis that
        goes away is waited for.
        """
        listener = threading.Thread(target=self._listen, name="listener", daemon=True)
        listener.start()
        beaten_s = 0.0
        stuck = 0
        while not self._stop.is_set():
            self._wake.clear()
            try:
                if time.monotonic() - beaten_s >= HEARTBEAT_SECONDS:
                    self._beat()
                    beaten_s, stuck = time.monotonic(), 0
                swept = self._engine.expiry.sweep(self._origin, stuck)
                stuck = swept.stuck
                if swept.more:
                    continue
            except (EngineError, RedisError) as error:
                log.warning("sweep_failed", error=str(error) or error.__class__.__name__)
                self._stop.wait(PAUSE_AFTER_FAILURE_SECONDS)
            self._wake.wait(self._engine.settings.sweep_interval_ms / 1000)
        listener.join(SUBSCRIPTION_WAIT_SECONDS * 2)

    def stop(self, signum: int = 0, frame: FrameType | None = None) -> None:
        self._stop.set()
        self._wake.set()

    def rest(self, seconds: float) -> None:
        """Do nothing for a while, unless a stop comes."""
        self._stop.wait(seconds)

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def _beat(self) -> None:
        """Say that a keeper is alive, and open the store if it is new."""
        status = self._engine.scripts.open()
        if status == "opened":
            log.info("store_opened")
        elif status != "open":
            log.error("store_stays_closed", status=status)
        ahead_ms = self._engine.store.clock_ahead_ms()
        if ahead_ms > TOLERATED_CLOCK_MS:
            log.error("clock_stands_still", ahead_ms=ahead_ms, effect="no hold ends until Redis's clock has caught up")
        self._engine.store.redis.set(self._engine.store.keys.keeper, self._name, px=HEARTBEAT_TTL_MS)

    def _listen(self) -> None:
        """Wake the sweeper when a lease ends. A hint only: everything is right without it."""
        while not self._stop.is_set():
            try:
                self._subscribe()
            except RedisError as error:
                log.warning("listener_lost", error=str(error))
                self._stop.wait(PAUSE_AFTER_FAILURE_SECONDS)

    def _subscribe(self) -> None:
        allow_expired_events(self._engine.store.redis)
        prefix = self._engine.store.keys.lease("")
        with self._engine.store.redis.pubsub(ignore_subscribe_messages=True) as subscription:
            database = self._engine.store.redis.get_connection_kwargs().get("db", 0)
            subscription.subscribe(f"__keyevent@{database}__:expired")
            while not self._stop.is_set():
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
    """Run a keeper until SIGTERM or SIGINT. Waits for a Redis that can't be reached yet.

    Raises:
        ConfigurationError: this Redis would lose stock.
    """
    keeper = Keeper(engine)
    signal.signal(signal.SIGTERM, keeper.stop)
    signal.signal(signal.SIGINT, keeper.stop)
    while not keeper.stopping:
        try:
            check(engine.store.redis)
        except StoreUnavailable as error:
            log.warning("waiting_for_redis", error=str(error))
            keeper.rest(WAIT_FOR_REDIS_SECONDS)
        else:
            keeper.run()
