"""Those who come back, and the shop behind them: limits, carts, providers' messages, one payment for two, parts of orders.

What they trade has SKUs of its own, with names that have to be encoded, whose terms change all the time.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote

from loadtests.checker.history import Call, Outcome
from tests.chaos.buyers import LATE_SECONDS, Basket, Held, Shop

REGULAR = [f"größe {number}=4/2%" for number in range(6)]
SCARCE_REGULAR = REGULAR[:2]
CUSTOMERS = 6
"""Of each regular shop. They are the same people all the time, so that limits have something to count."""

STOPS, CHANGES = 0.03, 0.5
MAX_SHIPPED = 6
PAUSE_SECONDS = 0.1
OF_CART = "-tab-"
"""In the key of a checkout of a cart."""


class Regulars(Shop):
    """A shop whose customers come back: they reach limits, pay late, in two tabs, twice, and by way of a provider."""

    secret = ""
    """What the provider signs with."""

    def _trade(self) -> None:
        self._turn += 1
        user = f"regular-{self._number}-{self._pick.randrange(CUSTOMERS)}"
        skus = self._pick.sample(REGULAR, self._pick.choice((1, 1, 2)))
        lines = tuple((sku, self._pick.randint(1, 2)) for sku in skus)
        basket = Basket(user, lines, self._pick.randint(1, 4), f"{self._number}-{self._turn}")
        self._pick.choice((self._one_tab, self._one_tab, self._two_tabs, self._one_payment_for_two))(basket)
        self._pay_late()

    def _one_tab(self, basket: Basket) -> None:
        held = self._hold(basket)
        if held is None:
            return
        chance = self._pick.random()
        if chance < 0.3:
            self._certainly(partial(self._pay, held, self._payment_id(held)))
        elif chance < 0.6:
            self._late.append((time.monotonic() + basket.hold_seconds + LATE_SECONDS, held))
        elif chance < 0.8:
            self._by_provider(held)
        elif chance < 0.9:
            self._certainly(partial(self._release, held))
        if self._pick.random() < 0.3:
            self._hold(basket)

    def _two_tabs(self, basket: Basket) -> None:
        """A cart is checked out twice, and it is the first reservation that is paid, sometimes the second, too."""
        cart: dict[str, Any] = {}
        self._certainly(partial(self._fill, basket, cart))
        if "id" not in cart:
            return
        path = f"/v1/carts/{cart['id']}/checkout"
        tabs = [self._hold(replace(basket, key=f"{basket.key}{OF_CART}{number}"), path) for number in (1, 2)]
        for held in tabs if self._pick.random() < 0.2 else tabs[:1]:
            if held:
                self._certainly(partial(self._pay, held, self._payment_id(held)))

    def _one_payment_for_two(self, basket: Basket) -> None:
        other = replace(basket, lines=basket.lines[:1], key=f"{basket.key}-other")
        both = [held for held in (self._hold(basket), self._hold(other)) if held]
        for held in both:
            self._certainly(partial(self._pay, held, f"pay-{basket.key}"))

    def _hold(self, basket: Basket, path: str = "/v1/reservations") -> Held | None:
        held: dict[str, Held] = {}
        self._certainly(partial(self._reserve_one, basket, path, held))
        return held.get(basket.key)

    def _reserve_one(self, basket: Basket, path: str, held: dict[str, Held]) -> None:
        call = self._began("reserve", basket, basket.key)
        body: dict[str, Any] = {"hold_seconds": basket.hold_seconds}
        if path == "/v1/reservations":
            body["lines"] = [{"sku": sku, "quantity": quantity} for sku, quantity in basket.lines]
        answer = self._asked(call, "POST", path, body, "storefront", basket.user, basket.key)
        if "state" in answer:
            held[basket.key] = Held(answer["id"], basket)
            self._granted(call, self._history.clock.now_ms(), answer)
        else:
            self._refused(call, self._history.clock.now_ms(), answer)

    def _granted(self, call: Call, answered_ms: float, found: dict[str, Any]) -> None:
        """The checkout of a cart reserves what the cart has, and that may have lost lines together with a Redis: the judge knows when."""
        lines = tuple((line["sku"], line["quantity"]) for line in found["lines"])
        if OF_CART in call.key and set(lines) < set(call.lines):
            self._history.shortened.append((call.invoked_ms, answered_ms, f"{call.lines} asked, {found}"))
            call = replace(call, lines=lines)
        super()._granted(call, answered_ms, found)

    def _fill(self, basket: Basket, cart: dict[str, Any]) -> None:
        """A cart is in Redis only: with that it may be gone at any time."""
        made = self._call("POST", "/v1/carts", None, "storefront", basket.user, f"cart-{basket.key}")
        for sku, quantity in basket.lines:
            path = f"/v1/carts/{made.get('id')}/lines/{quote(sku, safe='')}"
            if "lines" not in self._call("PUT", path, {"quantity": quantity}, "storefront", basket.user):
                return
        cart |= made

    def _by_provider(self, held: Held) -> None:
        """Two attempts; the first is given up while the second one is under way. And a reservation that nobody knows."""
        first, second = f"attempt-1-{held.id}", f"attempt-2-{held.id}"
        for kind, payment_id in (("processing", first), ("processing", second), ("canceled", first)):
            self._certainly(partial(self._told_by_provider, held, kind, payment_id))
        last = self._pick.choice(("failed", "succeeded", "cancelled"))
        self._certainly(partial(self._told_by_provider, held, last, second))
        if self._pick.random() < 0.3:
            nobody = replace(held, id=f"unknown-{self._number}-{self._turn}")
            self._certainly(partial(self._told_by_provider, nobody, "processing", f"for-{nobody.id}"))

    def _told_by_provider(self, held: Held, kind: str, payment_id: str) -> None:
        message, event_id = f"payment.{kind}", f"{kind}-{payment_id}"
        call = self._began("notify", replace(held.basket, lines=()), event_id, held.id)
        call = replace(call, message=message, payment_id=payment_id)
        if kind == "succeeded":
            call = self._began("commit", held.basket, payment_id, held.id)
        event = {"id": event_id, "type": message, "reservation_id": held.id, "payment_id": payment_id}
        answer = self._asked(call, "POST", "/v1/payments/webhook", event, "")
        outcome, now_ms = answer.get("outcome", ""), self._history.clock.now_ms()
        if kind != "succeeded":
            self._ended(call, now_ms, state=outcome)
        elif outcome == "committed":
            self._ended(call, now_ms)
        else:
            self._history.add(replace(call, answered_ms=now_ms, outcome=Outcome.REFUSED, code=outcome))

    def _headers(self, scope: str, user: str, key: str, sent: bytes) -> dict[str, str]:
        if scope:
            return super()._headers(scope, user, key, sent)
        at_s = int(time.time())
        digest = hmac.new(self.secret.encode(), b"%d." % at_s + sent, hashlib.sha256).hexdigest()
        return {"Content-Type": "application/json", "Stockade-Signature": f"t={at_s},v1={digest}"}


class Office(Shop):
    """The shop's own people: they change the terms of a sale, stop it for a moment, and ship and call off parts of orders."""

    def _trade(self) -> None:
        self._turn += 1
        # What was resumed may be lost with Redis.
        self._certainly(partial(self._sell, paused=False))
        if self._pick.random() < CHANGES:
            self._certainly(partial(self._change, self._pick.choice(REGULAR), self._terms()))
        if self._pick.random() < STOPS:
            self._certainly(partial(self._sell, paused=True))
            time.sleep(PAUSE_SECONDS)
            self._certainly(partial(self._sell, paused=False))
        for _ in range(min(MAX_SHIPPED, len(self._market.orders))):
            self._ship(self._market.orders.popleft())
        time.sleep(PAUSE_SECONDS)

    def _terms(self) -> dict[str, Any]:
        """Mostly open; or paused, ended, soon over, or not started."""
        now_ms, chance = self._history.clock.now_ms(), self._pick.random()
        starts_ms = now_ms + 500 if chance < 0.1 else None
        ends_ms = now_ms + self._pick.choice((-1_000, 200, 500)) if 0.1 < chance < 0.3 else None
        return {
            "limit_per_customer": self._pick.choice((None, 1, 3, 5, 9)),
            "paused": 0.3 < chance < 0.45,
            "sale_starts_at": starts_ms and _time(starts_ms),
            "sale_ends_at": ends_ms and _time(ends_ms),
        }

    def _change(self, sku: str, terms: dict[str, Any]) -> None:
        self._call("PUT", f"/v1/skus/{quote(sku, safe='')}", terms, "ops")

    def _sell(self, *, paused: bool) -> None:
        if self._call("GET", "/v1/selling", None, "ops").get("paused") is not paused:
            self._call("PUT", "/v1/selling", {"paused": paused, "reason": "chaos"}, "ops")

    def _ship(self, order: Held) -> None:
        """A part, more than there is, and perhaps something that isn't wanted any more; then the rest."""
        sku, quantity = order.basket.lines[0]
        part, too_many = ((sku, self._pick.randint(1, quantity)),), ((sku, quantity + 100),)
        self._certainly(partial(self._part, "fulfil", order, part, "part"))
        if self._pick.random() < 0.3:
            self._certainly(partial(self._part, "fulfil", order, part, "part"))
            self._certainly(partial(self._part, "fulfil", order, too_many, "too-many"))
        if len(order.basket.lines) > 1 and order.basket.lines[-1][0] in REGULAR:
            self._certainly(partial(self._part, "cancel", order, order.basket.lines[-1:], "off"))
        if self._pick.random() < 0.5:
            self._certainly(partial(self._part, "fulfil", order, (), "rest"))

    def _part(self, operation: str, order: Held, lines: tuple[tuple[str, int], ...], name: str) -> None:
        key = f"{name}-{order.id}"
        call = self._began(operation, replace(order.basket, lines=lines), key, order.id)
        body: dict[str, Any] = {"lines": [{"sku": sku, "quantity": units} for sku, units in lines]} if lines else {}
        body |= {"reason": "chaos"} if operation == "cancel" else {}
        answer = self._asked(call, "POST", f"/v1/orders/{order.id}/{operation}", body, "ops", "", key)
        if "state" in answer:
            self._ended(call, self._history.clock.now_ms())
        else:
            self._refused(call, self._history.clock.now_ms(), answer)


def of_regulars(call: Call) -> bool:
    """Whether the call is about stock whose terms and orders change."""
    return any(sku in REGULAR for sku, _ in call.lines)


def _time(at_ms: float) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
