"""Makes a process leave a Redis server that was demoted or replaced.

An open connection stays with its server, wherever a forwarder, a DNS name or a floating address leads by now. A demoted server still
answers reads, and a replaced one answers everything. So a thread of each process asks once a second, on a connection made for that
one question, which server a new connection leads to. When that is another one than before, all connections of the process are made
anew before their next command; those that sell then check that the new server is certified, as always. A request costs nothing more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import structlog

from engine.engine import Engine
from engine.errors import EngineError
from engine.store import Store, client

CHECK_SECONDS = 1.0

ROUNDS = 2
"""Checks at which connections are made anew after a change: one that was just being made may have missed the first."""

log = structlog.get_logger()


class FailoverWatch:
    """`probe` is a store that nothing else uses; `stores` are those of the process."""

    def __init__(self, probe: Store, stores: Sequence[Store]) -> None:
        self._probe = probe
        self._stores = stores
        self._server: str | None = None
        self._rounds = 0

    def check(self) -> None:
        """Ask which server a new connection leads to, and leave another one. A server that can't be reached is no other one."""
        try:
            server = self._probe.run_id()
        except EngineError:
            return
        finally:
            self._probe.redis.connection_pool.disconnect()
        if server != self._server:
            # Before the first check, connections may have been made to any server.
            if self._server is not None:
                log.warning("redis_server_changed", now="a replica" if not server else server.partition(":")[0])
            self._server, self._rounds = server, ROUNDS
        if self._rounds:
            self._rounds -= 1
            for store in self._stores:
                store.reconnect()

    def run(self) -> None:
        while True:
            try:
                self.check()
            except Exception:
                log.exception("failover_check_failed")
            time.sleep(CHECK_SECONDS)


def watch(engine: Engine) -> None:
    """Start the thread. For processes that stay; a command of a few seconds doesn't need it."""
    probe = Store(client(engine.settings), engine.watch.keys)
    watching = FailoverWatch(probe, (engine.store, engine.watch))
    threading.Thread(target=watching.run, name="failover", daemon=True).start()
