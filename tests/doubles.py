"""What stands in for Postgres, and for what fakeredis lacks, in tests that are about something else."""

from __future__ import annotations

from engine.config import Settings
from engine.database import Database
from engine.engine import Engine
from engine.ledger import Filter, Ledger, Position
from engine.store import Glance, Store, answering
from engine.values import Event, Problems

TOKEN = "a test"


class AtOnce:
    """Everything is durable at once."""

    def wait(self, epoch: int, seq: int) -> None:
        assert epoch >= 1
        assert seq >= 1

    def flush(self) -> None:
        pass


class StreamLedger(Ledger):
    """A ledger that nobody trims and nobody carries over."""

    def __init__(self, settings: Settings, store: Store) -> None:
        super().__init__(Database(settings), store.keys.partition)
        self._store = store

    def page(self, wanted: Filter, after: str, limit: int) -> tuple[list[Event], str]:
        events = self._store.events(after or "-", 1_000_000)
        found = [event for event in events if _matches(wanted, event)]
        shown = found[:limit]
        return shown, f"{shown[-1].epoch}-{shown[-1].seq}" if len(found) > limit else ""

    def record(self, reservation_id: str) -> dict[str, str] | None:
        return None

    def payment(self, payment_id: str) -> str | None:
        return None


def _matches(wanted: Filter, event: Event) -> bool:
    return (
        wanted.reservation_id in ("", event.reservation_id)
        and wanted.user in ("", event.user)
        and wanted.op in ("", event.op)
        and (not wanted.sku or any(line.sku == wanted.sku for line in event.lines))
    )


def open_gate(engine: Engine, run_id: str = "none") -> None:
    """Open a new store without anything to compare it with."""
    engine.scripts.close(TOKEN, "new")
    engine.scripts.open(TOKEN, run_id, 1, Position(), 0, "new", {})
    engine.store.redis.hdel(engine.store.keys.meta, "selling_reason")


def glance(store: Store) -> Glance:
    """A glance at a fakeredis, which has no INFO."""
    with answering():
        deadlines = store.redis.zrange(store.keys.deadlines, 0, -1, withscores=True)
        skus, keeper = store.redis.zcard(store.keys.skus), store.redis.get(store.keys.keeper)
    first_ms = int(deadlines[0][1]) if deadlines else 0
    now_ms = store.now_ms()
    whole = Problems(now_ms, 0, ())
    return Glance(now_ms, store.meta(), "none", len(deadlines), first_ms, skus, keeper or "", None, whole, 1_000_000, 0)
