"""Buyers who check out, pay (late, or twice), ask for more time, walk away, let the time run out, or meddle; each call is kept."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from loadtests.checker.history import Call, Outcome, RefusedLine
from tests.chaos.heard import History, Market

SKUS = [f"chaos-{number:02}" for number in range(40)]
SCARCE = SKUS[:4]
BASKETS = 12
"""Checkouts that a shop's back end sends in one batch."""

TIMEOUT_SECONDS = 8.0
PAYS, WALKS_AWAY, ASKS_FOR_MORE = 0.35, 0.2, 0.1
PAYS_FOR_SCARCE = 0.02
SAYS_IT_AGAIN = 0.1
"""Of the calls that have a clear answer, how many are made again all the same."""

MEDDLES, PAYS_ONCE_MORE = 0.03, 0.05
SHORT_SECONDS = 7
PAYS_LATE, LATE_SECONDS = 0.2, 0.3
"""Of those who let a short time run out, how many pay so long after it."""

RIVALS, USED_BEFORE, SHIPPED = 0.03, 0.02, 0.2
"""Payments with the id of another that is being made, or was made; and orders that come to be shipped."""

PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class Basket:
    user: str
    lines: tuple[tuple[str, int], ...]
    hold_seconds: int
    key: str


@dataclass(frozen=True)
class Held:
    id: str
    basket: Basket


class Unclear(Exception):
    """No answer, or one that says that the service can't now. It may have happened."""


Again = Callable[[], None]


class Shop(threading.Thread):
    """One connection of a shop's back end, for many buyers. It repeats what stayed unclear until it is clear."""

    def __init__(
        self,
        number: int,
        seed: int,
        address: Callable[[], tuple[str, int]],
        tokens: dict[str, str],
        history: History,
        market: Market,
    ) -> None:
        super().__init__(name=f"shop-{number}", daemon=True)
        self._pick = random.Random(seed * 1_000 + number)
        self._number = number
        self._address = address
        self._tokens = tokens
        self._history = history
        self._market = market
        self._connection: http.client.HTTPConnection | None = None
        self._turn = 0
        self._unclear: list[Again] = []
        self._late: deque[tuple[float, Held]] = deque()
        self.open = threading.Event()
        self.idle = threading.Event()
        self.closed = threading.Event()

    def run(self) -> None:
        while not self.closed.is_set():
            if not self.open.is_set():
                self.idle.set()
                self.open.wait(0.05)
                continue
            self.idle.clear()
            try:
                self._settle()
                self._trade()
            except Unclear:
                time.sleep(PAUSE_SECONDS)
        self.idle.set()
        self.hang_up()

    def hang_up(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def settle(self) -> bool:
        """While closed: clear up what is unclear. Returns: whether nothing is left."""
        try:
            self._settle()
        except Unclear:
            return False
        return not self._unclear

    def buys(self) -> bool:
        """Whether somebody could check out and pay now. Not for a shop that trades."""
        self._turn += 1
        basket = Basket(f"buyer-{self._number}-{self._turn}", ((SKUS[-1], 1),), 30, f"{self._number}-{self._turn}")
        held: dict[str, Held] = {}
        try:
            self._settle()
            self._certainly(partial(self._reserve, [basket], held))
            self._certainly(partial(self._pay, held[basket.key]))
        except (Unclear, KeyError):
            return False
        return True

    def _settle(self) -> None:
        while self._unclear:
            self._unclear[0]()
            self._unclear.pop(0)

    def _certainly(self, call: Again) -> None:
        """Do it now; if it stays unclear, later. Now and then once more, though it is clear."""
        try:
            call()
            if self._pick.random() < SAYS_IT_AGAIN:
                call()
        except Unclear:
            self._unclear.append(call)
            raise

    def _trade(self) -> None:
        self._turn += 1
        baskets = [self._basket(number) for number in range(BASKETS)]
        held: dict[str, Held] = {}
        self._certainly(partial(self._reserve, baskets, held))
        for one in list(held.values()):
            chance = self._pick.random()
            scarce = any(sku in SCARCE for sku, _ in one.basket.lines)
            if chance < (PAYS_FOR_SCARCE if scarce else PAYS):
                self._certainly(partial(self._pay, one, self._payment_id(one)))
                if self._pick.random() < PAYS_ONCE_MORE:
                    self._certainly(partial(self._pay, one, f"again-{one.id}"))
            elif chance < PAYS + WALKS_AWAY:
                self._certainly(partial(self._release, one))
            elif chance < PAYS + WALKS_AWAY + ASKS_FOR_MORE:
                self._certainly(partial(self._extend, one, self._pick.randint(3, 20)))
            elif one.basket.hold_seconds < SHORT_SECONDS and self._pick.random() < PAYS_LATE:
                self._late.append((time.monotonic() + one.basket.hold_seconds + LATE_SECONDS, one))
            if self._pick.random() < MEDDLES:
                self._meddle(one)
        self._pay_late()

    def _pay_late(self) -> None:
        """Pay for the holds whose time has run out by now. They stand in the order in which they were made."""
        while self._late and self._late[0][0] < time.monotonic():
            self._certainly(partial(self._pay, self._late.popleft()[1]))

    def _payment_id(self, one: Held) -> str:
        """Mostly one of its own. Now and then that of another payment: one that is being made, or any that was made before."""
        chance, payment_id = self._pick.random(), f"pay-{one.id}"
        if chance < RIVALS and self._market.rivals:
            with suppress(IndexError):
                return self._market.rivals.popleft()
        if chance < RIVALS:
            self._market.rivals.append(payment_id)
        elif chance < RIVALS + USED_BEFORE and self._market.payments:
            return self._pick.choice(self._market.payments)
        return payment_id

    def _meddle(self, one: Held) -> None:
        stranger = Held(one.id, replace(one.basket, user=f"not-{one.basket.user}"))
        self._certainly(self._pick.choice((partial(self._release, stranger), partial(self._extend, stranger, 10))))

    def _basket(self, number: int) -> Basket:
        scarce = self._pick.random() < 0.3
        skus = self._pick.sample(SCARCE if scarce else SKUS[len(SCARCE) :], self._pick.choice((1, 1, 1, 2, 3)))
        return Basket(
            f"buyer-{self._number}-{self._turn}-{number}",
            tuple((sku, self._pick.randint(1, 3)) for sku in skus),
            self._pick.randint(2, 6) if scarce else self._pick.randint(2, 30),
            f"{self._number}-{self._turn}-{number}",
        )

    def _reserve(self, baskets: list[Basket], held: dict[str, Held]) -> None:
        """Returns when each is clear; raises Unclear while one isn't, and begins with those the next time."""
        calls = {basket: self._began("reserve", basket, basket.key) for basket in baskets}
        body = {"reservations": [_item(basket) for basket in baskets]}
        try:
            answer = self._call("POST", "/v1/reservations/batch", body, "storefront")
        except Unclear:
            for call in calls.values():
                self._history.add(call)
            raise
        answered_ms = self._history.clock.now_ms()
        unclear = []
        for (basket, call), result in zip(calls.items(), answer["results"], strict=True):
            if result["status"] == 201:
                found = result["reservation"]
                held[basket.key] = Held(found["id"], basket)
                self._granted(call, answered_ms, found)
            elif result["status"] >= 500:
                self._note(result["problem"])
                unclear.append(basket)
                self._history.add(call)
            else:
                self._refused(call, answered_ms, result["problem"])
        if unclear:
            baskets[:] = unclear
            raise Unclear

    def _pay(self, held: Held, payment_id: str = "") -> None:
        payment_id = payment_id or f"pay-{held.id}"
        call = self._began("commit", held.basket, payment_id, held.id)
        answer = self._asked(call, "POST", f"/v1/reservations/{held.id}/commit", {"payment_id": payment_id}, "payments")
        if "order" in answer:
            self._market.payments.append(payment_id)
            if self._pick.random() < SHIPPED:
                self._market.orders.append(held)
            self._ended(call, self._history.clock.now_ms(), late=answer["late"])
        else:
            self._refused(call, self._history.clock.now_ms(), answer)

    def _release(self, held: Held) -> None:
        call = self._began("release", held.basket, f"leave-{held.basket.user}-{held.id}", held.id)
        answer = self._asked(call, "DELETE", f"/v1/reservations/{held.id}", None, "storefront", held.basket.user)
        if "state" in answer:
            self._ended(call, self._history.clock.now_ms())
        else:
            self._refused(call, self._history.clock.now_ms(), answer)

    def _extend(self, held: Held, seconds: int) -> None:
        key = f"more-{held.basket.user}-{held.id}"
        call = self._began("extend", held.basket, key, held.id)
        path, body = f"/v1/reservations/{held.id}/extend", {"hold_seconds": seconds}
        answer = self._asked(call, "POST", path, body, "storefront", held.basket.user, key)
        if "state" in answer:
            self._ended(call, self._history.clock.now_ms(), deadline_ms=ms(answer["expires_at"]))
        else:
            self._refused(call, self._history.clock.now_ms(), answer)

    def _began(self, operation: str, basket: Basket, key: str, reservation_id: str = "") -> Call:
        return Call(
            operation,
            self._number,
            basket.user,
            key,
            self._history.clock.now_ms(),
            reservation_id=reservation_id,
            lines=basket.lines,
        )

    def _granted(self, call: Call, answered_ms: float, found: dict[str, Any]) -> None:
        if sorted((line["sku"], line["quantity"]) for line in found["lines"]) != sorted(call.lines):
            self._history.strange.append(f"{answered_ms:.0f}: {call.lines} asked, {found}")
        told = {"reservation_id": found["id"], "deadline_ms": ms(found["expires_at"]), "state": found["state"]}
        self._ended(call, answered_ms, **told)

    def _ended(self, call: Call, answered_ms: float, **told: Any) -> None:
        self._history.add(replace(call, answered_ms=answered_ms, outcome=Outcome.OK, **told))

    def _refused(self, call: Call, answered_ms: float, problem: dict[str, Any]) -> None:
        lines = tuple(
            RefusedLine(
                line["sku"],
                line["requested"],
                line["available"],
                line.get("verdict", ""),
                ms(line["next_release_at"]) if line.get("next_release_at") else 0,
            )
            for line in problem.get("lines", ())
        )
        told = {"outcome": Outcome.REFUSED, "code": problem["code"], "refused": lines}
        self._history.add(replace(call, answered_ms=answered_ms, **told))

    def _asked(self, call: Call, *request: Any) -> dict[str, Any]:
        try:
            return self._call(*request)
        except Unclear:
            self._history.add(call)
            raise

    def _call(self, method: str, path: str, body: Any, scope: str, user: str = "", key: str = "") -> dict[str, Any]:
        sent = b"" if body is None else json.dumps(body).encode()
        headers = self._headers(scope, user, key, sent)
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(*self._address(), timeout=TIMEOUT_SECONDS)
            self._connection.request(method, path, sent or None, headers)
            response = self._connection.getresponse()
            text = response.read()
            document: dict[str, Any] = json.loads(text)
            if response.status >= 500:
                self._note(document)
                raise Unclear
            return document
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.hang_up()
            raise Unclear from error

    def _headers(self, scope: str, user: str, key: str, sent: bytes) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._tokens[scope]}"}
        headers |= {"Content-Type": "application/json"} if sent else {}
        return headers | ({"Stockade-User": user} if user else {}) | ({"Idempotency-Key": key} if key else {})

    def _note(self, problem: dict[str, Any]) -> None:
        self._history.codes[problem["code"]] += 1
        if problem["status"] != 503:
            self._history.strange.append(f"{self._history.clock.now_ms():.0f}: {problem}")


def _item(basket: Basket) -> dict[str, Any]:
    return {
        "user": basket.user,
        "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in basket.lines],
        "hold_seconds": basket.hold_seconds,
        "idempotency_key": basket.key,
    }


def ms(time_of_day: str) -> int:
    return round(datetime.fromisoformat(time_of_day).timestamp() * 1000)
