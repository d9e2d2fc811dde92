"""The clerk: the keeper's thread that looks after the record. Gate, ledger, projections, trimming, snapshots, in this order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
from redis.exceptions import RedisError

from engine import snapshots
from engine.comparison import OVERLAP
from engine.data_dir import DataDir
from engine.database import answering
from engine.engine import Engine
from engine.errors import ConfigurationError, EngineError, LedgerBroken
from engine.ledger import Position
from engine.projection import Projection
from engine.recovery import Finding, Recovered, Recovery
from engine.scripts import Scripts
from engine.snapshots import Snapshots
from engine.totals import Totals
from engine.writer import Writer

CERTIFY_SECONDS = 1.0
"""How often the gate is looked at where nothing is to be written."""

TRIM_SECONDS = 1.0

SNAPSHOT_STOP_SECONDS = 1.0
"""A snapshot that takes longer at a stop is given up: nothing of it is kept then."""

PAUSE_AFTER_FAILURE_SECONDS = 0.5
PAUSE_AFTER_FORK_SECONDS = 1.0
"""Where a person must decide. He may just have done so, or the record check may have mended what was damaged."""

PAUSE_AFTER_DEFECT_SECONDS = 5.0
WORDS_AGAIN_SECONDS = 30.0

log = structlog.get_logger()


class Clerk:
    def __init__(self, engine: Engine, leads: Callable[[], bool], stop: threading.Event, totals: Totals) -> None:
        self._engine = engine
        self._leads = leads
        self._stop = stop
        self._totals = totals
        settings = engine.settings
        # Whoever compares a Redis with the ledger must be able to look at one that isn't certified.
        self._store = engine.watch
        self._scripts = Scripts(self._store, settings, engine.meter)
        self._recovery = Recovery(engine.database, self._store, self._scripts, settings.retain_ms)
        self._snapshot: threading.Thread | None = None
        self._written_seq = -1
        self._looked_s = -CERTIFY_SECONDS
        self._snapshot_s: float | None = None
        self._said = ("", 0.0)
        self._noted = False
        self._trimmed_s = -TRIM_SECONDS
        self._broken = ""
        self.trouble = ""
        """Why the record can't be looked after now; '' if it can."""

    def run(self) -> None:
        """Work until told to stop; whatever fails is tried again."""
        while not self._stop.is_set():
            pause_s = self._engine.settings.ledger_interval_ms / 1000
            try:
                if self._leads():
                    pause_s = max(pause_s, self._round())
            except (EngineError, ConfigurationError, RedisError) as error:
                self.trouble, because = str(error) or error.__class__.__name__, str(error.__cause__ or "")
                self._say("record_waits", self.trouble, because=because)
                pause_s = PAUSE_AFTER_FAILURE_SECONDS
            except Exception:
                log.exception("record_failed")
                pause_s = PAUSE_AFTER_DEFECT_SECONDS
            self._stop.wait(pause_s)
        self._recovery.writer.close()
        self._recovery.projection.close()
        if self._snapshot is not None:
            self._snapshot.join(SNAPSHOT_STOP_SECONDS)

    def _round(self) -> float:
        """Do what is to be done now. Returns: seconds to wait, at least."""
        seq = self._store.meta().get("seq", "")
        if time.monotonic() - self._looked_s >= CERTIFY_SECONDS:
            if not self._recovery.certified():
                return self._recover()
            self._note_redis()
            self._looked_s = time.monotonic()
        if seq != str(self._written_seq):
            try:
                reached = self._recovery.writer.drain()
            except LedgerBroken as broken:
                # A restore by hand may just have been at it: what is broken is so the second time, too.
                if self._broken != str(broken):
                    self._broken = str(broken)
                    return 0.0
                log.warning("ledger_broken", name=broken.name, error=str(broken))
                return self._recover()
            finally:
                # Before the stream is trimmed, and also while Postgres is away.
                self._totals.follow()
            self._trim(reached)
            self._recovery.projection.advance(self._stop.is_set)
            self._written_seq = reached.seq
        self.trouble = self._broken = ""
        self._snapshot_if_due()
        return 0.0

    def _trim(self, reached: Position) -> None:
        """Once a second, let events go of which Postgres has all rows. Where one is missing, the stream may be all that has it."""
        most, keep = self._engine.settings.most_unwritten_events, OVERLAP
        if time.monotonic() - self._trimmed_s < TRIM_SECONDS:
            keep = most
        else:
            self._trimmed_s = time.monotonic()
            if not self._recovery.writer.has_all(reached, OVERLAP):
                self._say("stream_kept", "Postgres lacks rows of events that would be let go; they are kept")
                keep = most
        self._scripts.trim(reached, keep, most)

    def _note_redis(self) -> None:
        """Once for each Redis that there is."""
        if not self._noted:
            DataDir(self._engine.settings.data_dir).note_redis(self._store.process())
            self._noted = True

    def _recover(self) -> float:
        self._noted = False
        try:
            outcome = self._recovery.recover()
        except EngineError as error:
            self._say("recovery_waits", str(error))
            return PAUSE_AFTER_FAILURE_SECONDS
        self._written_seq = -1
        self._totals.begin_again()
        if isinstance(outcome, Finding):
            self.trouble = outcome.why
            self._say("gate_stays_shut", outcome.why, advice="see docs/durability.md; then stockade restore")
            return PAUSE_AFTER_FORK_SECONDS
        _tell(outcome)
        return 0.0

    def _snapshot_if_due(self) -> None:
        if self._snapshot_s is None:
            self._snapshot_s = time.monotonic() - self._age_s()
        if time.monotonic() - self._snapshot_s < self._engine.settings.snapshot_seconds:
            return
        if self._snapshot is None or not self._snapshot.is_alive():
            self._snapshot_s = time.monotonic()
            self._snapshot = threading.Thread(target=self._take_snapshot, name="snapshot", daemon=True)
            self._snapshot.start()

    def _take_snapshot(self) -> None:
        """In a thread of its own, with connections of its own, so that the ledger doesn't wait for it."""
        engine = self._engine
        writer, follower = Writer(engine.database, self._store), Projection(engine.database, self._store.keys.partition)
        try:
            snapshot = Snapshots(engine.database, self._store, writer, follower, engine.settings.retain_ms).take()
        except (EngineError, RedisError) as error:
            log.warning("snapshot_failed", error=str(error), because=str(error.__cause__ or ""))
            return
        except Exception:
            # At a stop its connections may be closed under it.
            if not self._stop.is_set():
                log.exception("snapshot_failed")
            return
        finally:
            writer.close()
            follower.close()
        if snapshot.problems:
            log.error("snapshot_differs", epoch=snapshot.epoch, seq=snapshot.seq, problems=snapshot.problems[:5])
        elif snapshot.seq:
            log.info("snapshot_taken", epoch=snapshot.epoch, seq=snapshot.seq, reservations=snapshot.reservations)

    def _age_s(self) -> float:
        """Seconds since the newest snapshot; a snapshot's time where there is none."""
        with self._engine.database.connect() as connection, answering():
            newest = snapshots.latest(connection, self._store.keys.partition)
        if newest is None:
            return self._engine.settings.snapshot_seconds
        return max(0.0, time.time() - newest[2] / 1000)

    def _say(self, event: str, error: str, **more: str) -> None:
        """Log a trouble that lasts when it begins, and every now and then."""
        said, at_s = self._said
        if said != error or time.monotonic() - at_s > WORDS_AGAIN_SECONDS:
            self._said = (error, time.monotonic())
            log.error(event, error=error, **more)


def _tell(recovered: Recovered) -> None:
    finding = recovered.finding
    log.info(
        "gate_opened",
        need=finding.need,
        why=finding.why,
        reservations=recovered.reservations,
        skus=recovered.skus,
    )
