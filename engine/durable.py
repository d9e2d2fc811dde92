"""Durable answers: those who wait for the ledger share one write of it, and wait a bounded time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Protocol

from engine import switch
from engine.errors import ConfigurationError, EngineError, StoreUnavailable
from engine.ledger import Ledger, Position
from engine.writer import Writer


class Durability(Protocol):
    def wait(self, epoch: int, seq: int) -> None:
        """Return once the event is in Postgres.

        Raises:
            StoreUnavailable: it may not be, yet.
        """

    def flush(self) -> None:
        """Return once everything that happened before this call is in Postgres.

        Raises:
            StoreUnavailable: it may not be, yet.
        """


class GroupCommit:
    """One thread writes the ledger whenever somebody waits for it, for all who were waiting when it began."""

    def __init__(self, writer: Writer, ledger: Ledger, timeout_s: float) -> None:
        self._writer = writer
        self._ledger = ledger
        self._timeout_s = timeout_s
        self._changed = threading.Condition()
        self._next: Future[Position] | None = None
        self._began_s = 0.0
        self._thread: threading.Thread | None = None

    def wait(self, epoch: int, seq: int) -> None:
        reached = self._round()
        if reached.epoch == epoch and reached.seq >= seq:
            return
        # Redis has been restored since. Either Postgres had the event before that, or it is gone with the old Redis.
        if reached.epoch > epoch and self._ledger.has(epoch, seq):
            return
        raise StoreUnavailable("The store was restored meanwhile; repeat the call")

    def flush(self) -> None:
        self._round()

    def _round(self) -> Position:
        """Wait for a write that begins after this call: the one under way may have read the stream already."""
        with self._changed:
            self._start()
            now_s = time.monotonic()
            # A write that hangs is not waited for by everybody anew.
            give_up_s = (self._began_s or now_s) + self._timeout_s
            if self._next is None:
                self._next = Future()
                self._changed.notify_all()
            ours = self._next
        try:
            return switch.result(ours, max(0.0, give_up_s - now_s))
        except FutureTimeout:
            raise StoreUnavailable("Postgres doesn't answer in time") from None

    def _start(self) -> None:
        """Start the thread on first use: a worker is forked after the engine is built."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="ledger", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._next is None:
                    self._began_s = 0.0
                    self._changed.wait()
                taken, self._next = self._next, None
                self._began_s = time.monotonic()
            try:
                taken.set_result(self._writer.drain())
            except EngineError as refusal:
                taken.set_exception(refusal)
            except ConfigurationError as mistake:
                taken.set_exception(StoreUnavailable(str(mistake)))
            except Exception as defect:
                said = f"The ledger can't be written: {defect.__class__.__name__}"
                taken.set_exception(StoreUnavailable(said))
