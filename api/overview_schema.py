"""What `GET /v1/overview` answers."""

from __future__ import annotations

from typing import Any

from marshmallow import fields

from api.answered import Answered
from api.fields import Flag, Timestamp, Whole
from api.schemas import EventSchema, SellingSchema, Text


def _counted(**kwargs: Any) -> Whole:
    """Null until it is known."""
    return Whole(required=True, allow_none=True, **kwargs)


def _seconds() -> fields.Float:
    """Null if Postgres doesn't answer."""
    return fields.Float(required=True, allow_none=True)


class MemorySchema(Answered):
    """`max_memory_bytes` is 0 where there is no limit."""

    used_memory_bytes = Whole(required=True)
    max_memory_bytes = Whole(required=True)


class TotalsSchema(Answered):
    """`events` is the number of the ledger's last event. The leading keeper adds up the units once a second; `as_of` says when last."""

    skus = Whole(required=True)
    live_reservations = Whole(required=True)
    events = Whole(required=True)
    on_hand = _counted()
    available = _counted()
    reserved = _counted()
    allocated = _counted()
    as_of = Timestamp(attribute="as_of_ms", required=True, allow_none=True)


class LagSchema(Answered):
    """How late the earliest overdue hold, the ledger in Postgres and the newest snapshot are.

    `snapshot_lag_seconds` is the age of the oldest event that is not in a snapshot; 0 if there is none.
    """

    expiry_seconds = fields.Float(required=True)
    ledger_events = _counted()
    ledger_seconds = _seconds()
    snapshot_age_seconds = _seconds()
    snapshot_lag_seconds = _seconds()


class IntervalsSchema(Answered):
    """The intervals at which the keeper writes the ledger and takes snapshots, as this process was configured."""

    ledger_seconds = fields.Float(required=True)
    snapshot_seconds = fields.Float(required=True)


class CountersSchema(Answered):
    sku = Text(required=True)
    on_hand = Whole(required=True)
    available = Whole(required=True)
    reserved = Whole(required=True)
    allocated = Whole(required=True)
    paused = Flag(required=True)


def _counts() -> fields.List[int]:
    return fields.List(Whole(), required=True)


class RatesSchema(Answered):
    """For each of the last 60 seconds, oldest first: its start, and the count of each verb, summed over all processes."""

    seconds = fields.List(Timestamp(), required=True)
    reserve = _counts()
    refuse = _counts()
    commit = _counts()
    release = _counts()
    expire = _counts()


class OverviewSchema(Answered):
    """`gate` is `open`, or `closed: ` and why; `keeper` is the one that leads; `checks` are those of `/readyz`.

    `skus`: at most 20, those with the most reserved units first, then those of the latest events with nothing reserved.
    """

    as_of = Timestamp(attribute="as_of_ms", required=True)
    gate = Text(required=True)
    keeper = Text(required=True, allow_none=True)
    postgres = Text(required=True)
    record = Text(required=True)
    checks = fields.Dict(keys=Text(), values=Text(), required=True)
    selling = fields.Nested(SellingSchema, required=True)
    default_hold_seconds = Whole(required=True)
    redis = fields.Nested(MemorySchema, required=True)
    totals = fields.Nested(TotalsSchema, required=True)
    lag = fields.Nested(LagSchema, required=True)
    intervals = fields.Nested(IntervalsSchema, required=True)
    rates = fields.Nested(RatesSchema, required=True)
    skus = fields.List(fields.Nested(CountersSchema), required=True)
    events = fields.List(fields.Nested(EventSchema), required=True)
