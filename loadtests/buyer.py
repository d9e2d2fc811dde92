"""The calls of a buyer and of the shop behind them, and what is remembered of the answers.

Every POST has an idempotency key. A call without an answer, or with a 5xx, is made again with the same key; a 429 is
waited out as its Retry-After says. What stays without an answer is marked unknown, never guessed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from locust import FastHttpUser, task

from loadtests.figures import RESERVE
from loadtests.ledger import milliseconds
from loadtests.records import Checkout, Lines, Payment, Refusal
from loadtests.replay import Run
from loadtests.session import current

PATIENCE = 8
"""How often a buyer repeats a call without an answer, or with a 5xx. The idempotency key stays the same."""

LONGEST_WAIT_SECONDS = 5.0
RESERVATION = "/v1/reservations/{id}"
B = TypeVar("B", bound="Buyer")


@dataclass(frozen=True)
class Reply:
    """The answer that settled a call; status 0 if none came. Times are the service's, as wide as the clocks are sure."""

    status: int
    document: Any = None
    from_ms: float = 0
    until_ms: float = 0


def journey(go: Callable[[B, Run, int], None]) -> Callable[[B], None]:
    """Make a buyer's way through the shop a locust task. It gets the run, and a number of its own."""

    @task
    @wraps(go)
    def walk(self: B) -> None:
        run = current()
        with run.turn() as number:
            go(self, run, number)

    # locust looks at the signature that `wraps` would show.
    del walk.__wrapped__  # type: ignore[attr-defined]
    return walk


class Buyer(FastHttpUser):
    """Somebody at the shop. Scenarios say what they do."""

    abstract = True
    connection_timeout = 10.0
    network_timeout = 10.0

    def look(self, skus: list[str], name: str = "GET /v1/availability") -> list[dict[str, Any]]:
        """Returns: an item for each of the first 100, as far as the shop answered."""
        query = "&".join(f"sku={sku}" for sku in skus[:100])
        reply = self.call("GET", f"/v1/availability?{query}", name, "", None, "", (200,))
        return list(reply.document["items"]) if reply.document else []

    def reserve(
        self, run: Run, checkout: Checkout, lines: Lines, hold_seconds: int, key: str, name: str = RESERVE
    ) -> Refusal | None:
        """Try to have the lines. Puts what came of it into the checkout. Returns: the refusal, if it was one."""
        body = {
            "lines": [{"sku": sku, "quantity": units} for sku, units in lines.items()],
            "hold_seconds": hold_seconds,
        }
        token = run.service.token(checkout.user, "customer")
        checkout.unknown = True
        reply = self.call("POST", "/v1/reservations", name, token, body, key, (201, 409))
        checkout.unknown = reply.status not in (201, 409)
        if reply.status == 201:
            checkout.reservation_id, checkout.lines = reply.document["id"], dict(lines)
            checkout.deadline_ms = milliseconds(reply.document["expires_at"])
        if reply.status != 409:
            return None
        if reply.document["code"] != "lines_unavailable":
            self.impossible(run, f"a reservation was answered {reply.document['code']}")
            return None
        told = [
            (line["sku"], line["requested"], line["verdict"], milliseconds(line["next_release_at"]))
            for line in reply.document["lines"]
        ]
        refusal = Refusal(reply.from_ms, reply.until_ms, checkout.user, told)
        run.records.refusals.append(refusal)
        if any(verdict == "unknown_sku" for _, _, verdict, _ in told):
            self.impossible(run, f"a SKU of the run is unknown: {reply.document['detail'][:200]}")
        if all(verdict == "ok" for _, _, verdict, _ in told):
            run.records.problems.append(f"refused though every line is ok: {reply.document['detail']}")
        return refusal

    def pay(self, run: Run, checkout: Checkout, payment_id: str) -> None:
        """Commit. The hold may have ended meanwhile, and its units be gone: then the payment has to be refunded."""
        payment = Payment(checkout.reservation_id, payment_id, unknown=True)
        run.records.payments.append(payment)
        self.commit(run, checkout, payment)
        payment.unknown = not payment.outcomes

    def commit(self, run: Run, checkout: Checkout, payment: Payment) -> None:
        """Tell of a payment by commit, and keep the outcome in the words of the webhook."""
        path, name = f"/v1/reservations/{checkout.reservation_id}/commit", f"POST {RESERVATION}/commit"
        body = {"payment_id": payment.payment_id}
        reply = self.call("POST", path, name, run.payments, body, payment.payment_id, (200, 409))
        if reply.status == 200:
            checkout.paid = True
            payment.told("committed")
        elif reply.status == 409 and not payment.refused(reply.document["code"]):
            self.impossible(run, f"a commit was answered {reply.document['code']}")

    def webhook(self, run: Run, checkout: Checkout, payment: Payment, kind: str, event_id: str) -> str:
        """Deliver an event of the payment provider. Returns: the outcome, '' if no answer came."""
        event = {
            "id": event_id,
            "type": kind,
            "reservation_id": checkout.reservation_id,
            "payment_id": payment.payment_id,
        }
        name = f"POST /v1/payments/webhook ({kind})"
        reply = self.call("POST", "/v1/payments/webhook", name, "", json.dumps(event).encode(), "", (200,))
        outcome = str(reply.document["outcome"]) if reply.document else ""
        if kind == "payment.succeeded" and outcome:
            payment.told(outcome)
            checkout.paid = checkout.paid or outcome == "committed"
        return outcome

    def abandon(self, run: Run, checkout: Checkout) -> str:
        """Give the reservation back. Returns: the state it ended in, '' if no answer came."""
        token = run.service.token(checkout.user, "customer")
        path = f"/v1/reservations/{checkout.reservation_id}"
        reply = self.call("DELETE", path, f"DELETE {RESERVATION}", token, None, "", (200,))
        return str(reply.document["state"]) if reply.document else ""

    def impossible(self, run: Run, what: str) -> None:
        run.records.counts["errors"] += 1
        run.records.problems.append(what)

    def call(self, method: str, path: str, name: str, token: str, body: Any, key: str, good: tuple[int, ...]) -> Reply:
        """Call until there is an answer that settles it. `body` as bytes is sent as it is, and signed."""
        run = current()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if key:
            headers["Idempotency-Key"] = key
        sent: dict[str, Any] = {"json": body}
        if isinstance(body, bytes):
            sent = {"data": body}
            headers["Content-Type"] = "application/json"
        for tried in range(PATIENCE):
            if isinstance(body, bytes):
                headers["Stockade-Signature"] = run.service.signature(body)
            started_s = time.time()
            with self.client.request(method, path, name=name, headers=headers, catch_response=True, **sent) as answer:
                status, text = int(answer.status_code or 0), answer.text or ""
                if status in good:
                    answer.success()
                    return Reply(status, answer.json(), run.clock.earliest(started_s), run.clock.latest(time.time()))
                answer.failure(f"{status} {text[:200]}")
                wait_s = 0.1 * 2**tried
                if status == 429:
                    answer.success()
                    run.records.counts["throttled"] += 1
                    wait_s = min(float(answer.headers.get("Retry-After") or 1), LONGEST_WAIT_SECONDS)
                elif 400 <= status < 500:
                    self.impossible(run, f"{name}: {status} {text[:200]}")
                    return Reply(status)
            run.records.counts["repeated"] += status != 429
            time.sleep(wait_s)
        run.records.counts["errors"] += 1
        return Reply(0)
