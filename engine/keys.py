"""Every Redis key, built in one place.

All keys of a partition share one hash tag, so that a basket is one atomic script on one node of a Redis Cluster.

| key                          | type   | holds                                                                     |
|------------------------------|--------|---------------------------------------------------------------------------|
| `stk:{p0}:meta`              | hash   | layout, gate, gate_reason, gate_token, restoring, run_id, epoch, seq,     |
|                              |        | full_seq, clock_ms, selling_paused, selling_reason, default_hold_ms       |
| `stk:{p0}:skus`              | zset   | every SKU by its stored form, score 0                                     |
| `stk:{p0}:sku:<sku>`         | hash   | available, reserved, allocated, on_hand, next_release_ms, name,           |
|                              |        | limit_per_customer, sale_starts_ms, sale_ends_ms, paused                  |
| `stk:{p0}:buyers:<sku>`      | hash   | user -> units held and bought since ever, counted for every SKU           |
| `stk:{p0}:rsv:<id>`          | hash   | state, user, lines, created_ms, deadline_ms, request (its fingerprint),   |
|                              |        | cart, attempt, attempt:<payment_id>, payment_id, committed_ms, late,      |
|                              |        | fulfilled, cancelled, refund:<payment_id>; kept 24 h after its end        |
| `stk:{p0}:lease:<id>`        | string | `1`, with the hold's TTL: its end wakes the sweeper                       |
| `stk:{p0}:deadlines`         | zset   | reservation id -> deadline_ms, exactly the live holds                     |
| `stk:{p0}:op:<id>`           | string | fingerprint and answer of a call that must not happen twice; 24 h         |
| `stk:{p0}:payment:<id>`      | string | id of the reservation that this payment was for; 24 h, then Postgres      |
|                              |        | knows it                                                                  |
| `stk:{p0}:checkout:<cart>`   | string | id of the latest reservation made from this cart; 24 h                    |
| `stk:{p0}:ledger`            | stream | one event per change, entry id `<epoch>-<seq>`                            |
| `stk:{p0}:keeper`            | string | name of the keeper that leads; 3 s                                        |
| `stk:{p0}:rates`             | stream | what each process did in a second, as a count by verb; for looking at     |
| `stk:{p0}:totals`            | hash   | as_of_ms, on_hand, available, reserved, allocated of all SKUs together,   |
|                              |        | most_reserved (stored forms); each second by the keeper; for looking at   |
| `stk:{p0}:record`            | hash   | as_of_ms, count and first (JSON list of texts) of what the keeper's       |
|                              |        | record check found, aof (why it can't be loaded), and its notes for the   |
|                              |        | next keeper; for looking at                                               |
| `stk:cart:{<id>}`            | hash   | created_ms, user (once bound), sku:<sku> -> units, bought:<reservation>;  |
|                              |        | 7 days, a guest's 1 day. Or only deleted, while the id is valid.          |
|                              |        | Outside the partitions, because a cart never touches stock                |
| `stk:guest_carts`            | zset   | id of a guest's cart -> until when it is counted, Unix ms. Outside the    |
|                              |        | partitions, too; gone with the last of the carts                          |

`gate` is `open` on a server whose `run_id:master_replid` is the `run_id` in meta: then what is here was compared with the ledger in Postgres.
`default_hold_ms` is the hold of those who ask for no time; without one, what each process was started with.
`full_seq` is where `seq` stops as long as Postgres doesn't take events.
`<sku>` is the stored form of a SKU (`engine.sku_names`): space, `=` and `%` are percent-encoded.
`lines` is text: `sku=quantity sku=quantity`, with stored forms. Times are milliseconds since 1970 by the clock of Redis.
`next_release_ms` is never later than the earliest deadline among the live holds of the SKU; it may be earlier.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from engine.sku_names import stored

LAYOUT = 2
"""Version of the table above. A store of an earlier one is made anew from the ledger; one of a later one isn't opened."""


@dataclass(frozen=True)
class Keys:
    partition: str = "p0"

    @cached_property
    def prefix(self) -> str:
        return f"stk:{{{self.partition}}}:"

    @cached_property
    def meta(self) -> str:
        return f"{self.prefix}meta"

    @cached_property
    def skus(self) -> str:
        return f"{self.prefix}skus"

    @cached_property
    def deadlines(self) -> str:
        return f"{self.prefix}deadlines"

    @cached_property
    def ledger(self) -> str:
        return f"{self.prefix}ledger"

    @cached_property
    def keeper(self) -> str:
        return f"{self.prefix}keeper"

    @cached_property
    def rates(self) -> str:
        return f"{self.prefix}rates"

    @cached_property
    def totals(self) -> str:
        return f"{self.prefix}totals"

    @cached_property
    def record(self) -> str:
        return f"{self.prefix}record"

    def sku(self, sku: str) -> str:
        return f"{self.prefix}sku:{stored(sku)}"

    def buyers(self, sku: str) -> str:
        return f"{self.prefix}buyers:{stored(sku)}"

    def reservation(self, reservation_id: str) -> str:
        return f"{self.prefix}rsv:{reservation_id}"

    def lease(self, reservation_id: str) -> str:
        return f"{self.prefix}lease:{reservation_id}"

    def operation(self, operation_id: str) -> str:
        return f"{self.prefix}op:{operation_id}"

    def payment(self, payment_id: str) -> str:
        return f"{self.prefix}payment:{payment_id}"

    def checkout(self, cart_id: str) -> str:
        return f"{self.prefix}checkout:{cart_id}"

    def cart(self, cart_id: str) -> str:
        return f"stk:cart:{{{cart_id}}}"

    @cached_property
    def guest_carts(self) -> str:
        return "stk:guest_carts"

    def hold(self, reservation_id: str) -> list[str]:
        """The keys of one live hold, in the order in which every script takes them."""
        return [self.deadlines, self.reservation(reservation_id), self.lease(reservation_id)]

    def skus_and_buyers(self, skus: Iterable[str]) -> list[str]:
        return [key for sku in skus for key in (self.sku(sku), self.buyers(sku))]
