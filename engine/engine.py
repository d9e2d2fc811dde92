"""Puts the parts together: settings and a Redis in, the domain out."""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis

from engine.config import Settings
from engine.expiry import Expiry
from engine.ids import DerivedIds
from engine.keys import Keys
from engine.ledger import Ledger
from engine.orders import Orders
from engine.reservations import Reservations
from engine.scripts import Scripts
from engine.stock import Stock
from engine.store import Store


@dataclass(frozen=True)
class Engine:
    settings: Settings
    store: Store
    scripts: Scripts
    ids: DerivedIds
    expiry: Expiry
    reservations: Reservations
    orders: Orders
    stock: Stock
    ledger: Ledger


def build(settings: Settings, redis: Redis) -> Engine:
    """Safe to share between threads. Connects on first use."""
    store = Store(redis, Keys())
    scripts = Scripts(redis, store.keys, settings)
    expiry = Expiry(store, scripts)
    ids = DerivedIds(settings.id_secret)
    return Engine(
        settings=settings,
        store=store,
        scripts=scripts,
        ids=ids,
        expiry=expiry,
        reservations=Reservations(store, scripts, expiry, ids),
        orders=Orders(store, scripts),
        stock=Stock(store, scripts, expiry),
        ledger=Ledger(store),
    )
