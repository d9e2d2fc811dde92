"""The ledger as Redis holds it: every change of stock, in order, one event each."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.store import Store
from engine.values import Event

ENTRY_ID = re.compile(r"\d{1,18}-\d{1,18}")
"""`<epoch>-<seq>`, what a page ends at."""

SCANNED = 10_000
"""Events looked at, at most, for one page of a filtered listing."""


@dataclass(frozen=True)
class Filter:
    """What to list. An empty field matches everything."""

    sku: str = ""
    reservation_id: str = ""
    user: str = ""
    op: str = ""

    def matches(self, event: Event) -> bool:
        return (
            self.reservation_id in ("", event.reservation_id)
            and self.user in ("", event.user)
            and self.op in ("", event.op)
            and (not self.sku or any(line.sku == self.sku for line in event.lines))
        )


class Ledger:
    def __init__(self, store: Store) -> None:
        self._store = store

    def page(self, wanted: Filter, after: str, limit: int) -> tuple[list[Event], str]:
        """Events in order, after the entry id given ('' for the first).

        Returns: at most `limit` events, and the entry id to go on after, '' at the end. A page may hold fewer than
        `limit` and yet have a next one: it stops after `SCANNED` events that don't match.
        """
        found: list[Event] = []
        position, looked_at = after or "-", 0
        while looked_at < SCANNED:
            page = self._store.events(position, 1_000)
            for event in page:
                position = f"{event.epoch}-{event.seq}"
                if wanted.matches(event):
                    found.append(event)
                if len(found) == limit:
                    return found, position
            looked_at += len(page)
            if len(page) < 1_000:
                return found, ""
        return found, position
