"""Buyers who check out, pay, walk away or let the time run out, and keep a record of their own of what they were told."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

SKUS = [f"chaos-{number:02}" for number in range(40)]
SCARCE = SKUS[:4]
BASKETS = 20
"""Checkouts that a shop's back end sends in one batch."""

TIMEOUT_SECONDS = 8.0
PAYS, WALKS_AWAY = 0.4, 0.15


@dataclass
class Told:
    """What the service has said of one reservation. Times are of the wall clock, taken when the answer came.

    `leaves`: its buyer has asked to walk away, whatever the answer was.
    """

    id: str
    user: str
    held_s: float
    ends_s: float
    payment_id: str = ""
    paid: bool = False
    leaves: bool = False


@dataclass
class Book:
    """Shared by all buyers of a run."""

    told: dict[str, Told] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def held(self, reservation: dict[str, Any], ends_s: float) -> Told:
        with self.lock:
            known = self.told.get(reservation["id"])
            if known is None:
                known = self.told[reservation["id"]] = Told(reservation["id"], reservation["user"], time.time(), ends_s)
                self.counts["checkouts"] += 1
        return known

    def count(self, what: str, by: int = 1) -> None:
        with self.lock:
            self.counts[what] += by


class Unclear(Exception):
    """No answer, or one that says that the service can't now. It may have happened."""


class Shop(threading.Thread):
    """One connection of a shop's back end, for many buyers. It repeats what stayed unclear until it is clear."""

    def __init__(self, number: int, seed: int, address: tuple[str, int], tokens: dict[str, str], book: Book) -> None:
        super().__init__(name=f"shop-{number}", daemon=True)
        self._pick = random.Random(seed * 1_000 + number)
        self._number = number
        self._address = address
        self._tokens = tokens
        self._book = book
        self._connection: http.client.HTTPConnection | None = None
        self._turn = 0
        self._unclear: list[tuple[str, Any]] = []
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
                time.sleep(0.02)
        self.idle.set()
        if self._connection:
            self._connection.close()

    def settle(self) -> bool:
        """While closed: clear up what is unclear. Returns: whether nothing is left."""
        try:
            self._settle()
        except Unclear:
            return False
        return not self._unclear

    def _settle(self) -> None:
        while self._unclear:
            what, values = self._unclear[0]
            if what == "batch":
                self._batch(values)
            else:
                self._pay(values)
            self._unclear.pop(0)

    def _trade(self) -> None:
        self._turn += 1
        baskets = [self._basket(number) for number in range(BASKETS)]
        for told in self._certainly("batch", baskets):
            chance = self._pick.random()
            if chance < PAYS:
                told.payment_id = f"pay-{told.id}"
                self._certainly("pay", told)
            elif chance < PAYS + WALKS_AWAY:
                self._walk_away(told)

    def _certainly(self, what: str, values: Any) -> list[Told]:
        """Do it now; if it stays unclear, later."""
        try:
            return self._batch(values) if what == "batch" else self._pay(values)
        except Unclear:
            self._unclear.append((what, values))
            raise

    def _basket(self, number: int) -> dict[str, Any]:
        skus = self._pick.sample(SKUS, self._pick.choice((1, 1, 1, 2, 3)))
        return {
            "user": f"buyer-{self._number}-{self._turn}-{number}",
            "lines": [{"sku": sku, "quantity": self._pick.randint(1, 2)} for sku in skus],
            "hold_seconds": self._pick.randint(2, 30),
            "idempotency_key": f"{self._number}-{self._turn}-{number}",
        }

    def _batch(self, baskets: list[dict[str, Any]]) -> list[Told]:
        answer = self._call("POST", "/v1/reservations/batch", {"reservations": baskets}, "storefront")
        told, unclear = [], []
        for basket, result in zip(baskets, answer["results"], strict=True):
            if result["status"] == 201:
                told.append(self._book.held(result["reservation"], time.time() + basket["hold_seconds"]))
            elif result["status"] >= 500:
                unclear.append(basket)
            else:
                self._book.count(result["problem"]["code"])
        if unclear:
            self._unclear.append(("batch", unclear))
            self._book.count("unclear", len(unclear))
        return told

    def _pay(self, told: Told) -> list[Told]:
        answer = self._call("POST", f"/v1/reservations/{told.id}/commit", {"payment_id": told.payment_id}, "payments")
        if "order" in answer:
            told.paid = True
            self._book.count("late" if answer["late"] else "paid")
        elif answer["code"] == "not_found":
            self._book.count("hold lost")
        else:
            self._book.count(answer["code"])
        return []

    def _walk_away(self, told: Told) -> None:
        told.leaves = True
        if "state" in self._call("DELETE", f"/v1/reservations/{told.id}", None, "storefront", told.user):
            self._book.count("released")

    def _call(self, method: str, path: str, body: Any, scope: str, user: str = "") -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._tokens[scope]}", "Content-Type": "application/json"}
        if user:
            headers["Stockade-User"] = user
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_SECONDS)
            self._connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            response = self._connection.getresponse()
            text = response.read()
            if response.status >= 500:
                raise Unclear
            document: dict[str, Any] = json.loads(text)
            return document
        except (OSError, http.client.HTTPException, ValueError, Unclear) as error:
            self._book.count("unclear")
            if self._connection and not isinstance(error, Unclear):
                self._connection.close()
                self._connection = None
            raise Unclear from error
