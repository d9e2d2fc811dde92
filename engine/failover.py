"""Reconnects a process when the Redis server behind its address was demoted or replaced.

An open connection stays with its server, wherever a forwarder, a DNS name or a floating address points by now. A demoted server still
answers reads, and a replaced one answers everything. So a thread of each process opens a new connection once a second and asks which
server it leads to. If the server or its role has changed, every connection of the process is reopened before its next command; connections
of the certified client then check that the new server is certified. Requests pay nothing for this.
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
"""Consecutive checks that reconnect after a change: the first may miss a connection that is being opened at that moment."""

log = structlog.get_logger()


class FailoverWatch:
    """`probe` is a store of the watch's own; `stores` are those that the process works with."""

    def __init__(self, probe: Store, stores: Sequence[Store]) -> None:
        self._probe = probe
        self._stores = stores
        self._server: str | None = None
        self._rounds = 0

    def check(self) -> None:
        """Look where a new connection leads, and reconnect the stores after a change. A failed look is not a change."""
        try:
            server = self._probe.run_id()
        except EngineError:
            return
        finally:
            self._probe.redis.connection_pool.disconnect()
        if server != self._server:
            # The first check reconnects, too: the server may have changed since the process opened its connections.
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
    """Start the thread. For long-lived processes only."""
    probe = Store(client(engine.settings), engine.watch.keys)
    watching = FailoverWatch(probe, (engine.store, engine.watch))
    threading.Thread(target=watching.run, name="failover", daemon=True).start()
