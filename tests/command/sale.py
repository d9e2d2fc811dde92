"""A small sale against a running service: some reserve, are refused, pay, give up, or let their time run out."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.command.service import Service
from tests.waiting import wait_until

SKUS = ("console-1", "console-2", "console-3")
ON_HAND = 5_000
SOLD_OUT = "console-none"
BUYERS = 2
PAUSE_SECONDS = 0.03


@contextmanager
def running(service: Service) -> Iterator[None]:
    """Let buyers buy until the block ends."""
    ops, ended, seen = service.token("olga", "ops"), threading.Event(), Counter[str]()
    for sku in SKUS:
        service.call("PUT", f"/v1/skus/{sku}", {"on_hand": ON_HAND, "name": f"<b>{sku}</b>"}, token=ops)
    service.call("PUT", f"/v1/skus/{SOLD_OUT}", {"on_hand": 0}, token=ops)
    with ThreadPoolExecutor(BUYERS) as pool:
        buyers = [pool.submit(_buy, service, f"buyer-{number}", ended, seen) for number in range(BUYERS)]
        try:
            wait_until(lambda: {"201 reserve", "409 refuse", "200 pay", "200 give up"} <= {*seen})
            yield
        finally:
            ended.set()
        for buyer in buyers:
            buyer.result()


def _buy(service: Service, user: str, ended: threading.Event, seen: Counter[str]) -> None:
    """`seen` is told what was done, with the answers' statuses. While selling is paused, every reservation is refused."""
    customer, payer, turn = service.token(user, "customer"), service.token("till", "payments"), 0
    while not ended.wait(PAUSE_SECONDS):
        turn += 1
        sku = SOLD_OUT if turn % 4 == 0 else SKUS[turn % len(SKUS)]
        body = {"lines": [{"sku": sku, "quantity": 1 + turn % 3}], "hold_seconds": 1 + turn % 30}
        held = service.call("POST", "/v1/reservations", body, token=customer)
        seen[f"{held.status} {'refuse' if sku == SOLD_OUT else 'reserve'}"] += 1
        path = held.headers.get("Location")
        if path and turn % 3 == 0:
            paid = service.call("POST", f"{path}/commit", {"payment_id": f"p-{user}-{turn}"}, token=payer)
            seen[f"{paid.status} pay"] += 1
        elif path and turn % 3 == 1:
            seen[f"{service.call('DELETE', path, token=customer).status} give up"] += 1
