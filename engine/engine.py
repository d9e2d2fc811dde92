"""Puts the parts together: settings and a Redis in, the domain out."""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis

from engine.carts import Carts
from engine.config import Settings
from engine.expiry import Expiry
from engine.ids import DerivedIds
from engine.keys import Keys
from engine.ledger import Ledger
from engine.orders import Orders
from engine.payments import Payments
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
    carts: Carts
    payments: Payments


def build(settings: Settings, redis: Redis) -> Engine:
    """Safe to share between threads. Connects on first use."""
    store = Store(redis, Keys())
    scripts = Scripts(redis, store.keys, settings)
    expiry = Expiry(store, scripts)
    ids = DerivedIds(settings.id_secret)
    stock = Stock(store, scripts, expiry)
    reservations = Reservations(store, scripts, expiry, ids, settings.retain_ms)
    return Engine(
        settings=settings,
        store=store,
        scripts=scripts,
        ids=ids,
        expiry=expiry,
        reservations=reservations,
        orders=Orders(store, scripts),
        stock=stock,
        ledger=Ledger(store),
        carts=Carts(store, scripts, stock, reservations, ids, settings.cart_ttl_ms),
        payments=Payments(scripts, reservations),
    )
