"""Puts the parts together: settings and a Redis in, the domain out."""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis

from engine.answers import Answers
from engine.audit import Audit
from engine.carts import Carts
from engine.config import Settings
from engine.database import Database
from engine.durable import Durability, GroupCommit
from engine.expiry import Expiry
from engine.ids import CartIds, DerivedIds
from engine.keys import Keys
from engine.ledger import Ledger
from engine.levers import Levers
from engine.meter import Meter
from engine.orders import Orders
from engine.overview import Overview, gate
from engine.payments import Payments
from engine.records import Records
from engine.reservations import Reservations
from engine.scripts import Scripts
from engine.shared import Shared
from engine.stock import Stock
from engine.store import Store
from engine.writer import Writer


@dataclass(frozen=True)
class Engine:
    settings: Settings
    store: Store
    watch: Store
    scripts: Scripts
    database: Database
    ids: DerivedIds
    expiry: Expiry
    reservations: Reservations
    orders: Orders
    stock: Stock
    audit: Audit
    carts: Carts
    payments: Payments
    answers: Answers
    overview: Overview
    meter: Meter
    levers: Levers
    shared: Shared

    def gate(self) -> str:
        """`open`, or `closed` and why.

        Raises:
            StoreUnavailable: Redis can't say.
        """
        return gate(self.watch.meta(), self.watch.run_id())


def build(
    settings: Settings,
    redis: Redis,
    *,
    watching: Redis | None = None,
    durability: Durability | None = None,
    ledger: Ledger | None = None,
) -> Engine:
    """Safe to share between threads. Connects on first use.

    `watching` is a client for looking at a Redis that may not be certified; `redis`, if it's none that sells itself.
    `durability` and `ledger` stand in for Postgres where a test has none.
    """
    store = Store(redis, Keys())
    watch = Store(watching or redis, store.keys)
    meter = Meter(watch.publish_rates)
    scripts = Scripts(store, settings, meter)
    database = Database(settings, meter)
    ledger = ledger or Ledger(database, store.keys.partition)
    durability = durability or GroupCommit(Writer(database, store), ledger, database.timeout_s)
    records = Records(store, scripts, ledger)
    expiry = Expiry(store, scripts)
    ids = DerivedIds(settings.id_secret)
    stock = Stock(store, scripts, expiry)
    reservations = Reservations(
        store, scripts, records, durability, expiry, ids, settings.retain_ms, settings.default_hold_seconds, meter
    )
    return Engine(
        settings=settings,
        store=store,
        watch=watch,
        scripts=scripts,
        database=database,
        ids=ids,
        expiry=expiry,
        reservations=reservations,
        orders=Orders(records, scripts),
        stock=stock,
        audit=Audit(durability, ledger),
        carts=Carts(store, scripts, stock, reservations, ids, CartIds(settings.id_secret), settings),
        payments=Payments(scripts, records, durability, reservations, ids),
        answers=Answers(store, settings.retain_ms),
        overview=Overview(watch, ledger, settings),
        meter=meter,
        levers=Levers(store, records, stock, reservations),
        shared=Shared(store.calls),
    )
