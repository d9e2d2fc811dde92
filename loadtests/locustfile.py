"""Real baskets: each is a buyer who looks, checks out, and by a seeded choice pays, abandons, or lets the hold run out.

Stock is loaded so that popular products sell out. A buyer who is refused drops the lines that can't be had and tries
once more with the rest. The run ends by itself, waits until every hold has ended, and gives its verdict as exit code.

    locust -f loadtests/locustfile.py --headless -u 32 -H http://127.0.0.1:8000
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from argparse import ArgumentParser
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, events, task
from locust.env import Environment
from locust.exception import StopUser

from loadtests import baskets, verdict
from loadtests.records import Checkout, Records
from loadtests.service import Service

PLANS = (("pays", 60), ("abandons", 20), ("lets it run out", 20))
"""What buyers do with a reservation, in percent."""

SHORT_HOLD_SECONDS = (2, 5)
"""Holds that are meant to run out are this long, so that a run sees the units come back and be sold again."""

PATIENCE = 8
"""How often a buyer repeats a call without an answer, or with a 5xx. The idempotency key stays the same."""

SCARCE_SHARE, SCARCE_PRODUCTS, PLENTY = 0.5, 400, 2.0
"""The most wanted products are stocked for this share of the demand, all others for `PLENTY` times of it."""

SETTLING_SECONDS = 30.0


class Run:
    """One replay: what was loaded, and what buyers remember."""

    def __init__(self, environment: Environment) -> None:
        options = environment.parsed_options
        assert options is not None
        assert environment.host is not None
        self.service = Service(environment.host, os.environ["STOCKADE_JWT_SECRET"])
        self.seed, self.checkouts, self.report = options.seed, options.checkouts, options.verdict_json
        self.prefix = f"load-{int(time.time()):x}-{os.getpid():x}-"
        self.read = baskets.read()
        self.stock = self._stock()
        self.records = Records()
        self.payments = self.service.token("load-test-payments", "payments")
        self.numbers = count()
        self.left = 0
        self.service.load(self.stock)
        self.started_s = time.monotonic()

    def _stock(self) -> dict[str, int]:
        demand: Counter[str] = Counter()
        for number in range(self.checkouts):
            demand.update(dict(self.basket(number).lines))
        scarce = {product for product, _ in demand.most_common(SCARCE_PRODUCTS)}
        return {
            self.prefix + product: math.ceil(units * (SCARCE_SHARE if product in scarce else PLENTY))
            for product, units in demand.items()
        }

    def leave(self, environment: Environment) -> None:
        """A buyer finds nothing left to do. With the last one the run ends."""
        self.left += 1
        runner = environment.runner
        assert runner is not None
        if self.left == runner.target_user_count:
            gevent.spawn(runner.quit)

    def basket(self, number: int) -> baskets.Basket:
        return self.read.baskets[number % len(self.read.baskets)]


current: list[Run] = []
last_words: list[str] = []


class Buyer(FastHttpUser):
    """Takes the next basket, and is whoever bought it."""

    connection_timeout = 10.0
    network_timeout = 10.0

    @task
    def shop(self) -> None:
        if not current:
            raise StopUser
        run = current[-1]
        number = next(run.numbers)
        if number >= run.checkouts:
            run.leave(self.environment)
            raise StopUser
        choice = random.Random(f"{run.seed}:{number}")
        basket = run.basket(number)
        token = run.service.token(f"household-{basket.household}-{number}", "customer")
        self.client.auth_header = None
        lines = {run.prefix + product: units for product, units in basket.lines}
        self._look(lines)
        checkout = Checkout(plan=choice.choices([plan for plan, _ in PLANS], [share for _, share in PLANS])[0])
        run.records.checkouts.append(checkout)
        hold_seconds = choice.randint(*SHORT_HOLD_SECONDS) if checkout.plan == "lets it run out" else 900
        for attempt in ("a", "b"):
            lines = self._reserve(run, checkout, lines, hold_seconds, token, f"{run.prefix}{number}{attempt}")
            if checkout.reservation_id or checkout.unknown or not lines:
                break
        if checkout.reservation_id:
            self._finish(run, checkout, token, f"{run.prefix}{number}")

    def _look(self, lines: dict[str, int]) -> None:
        query = "&".join(f"sku={sku}" for sku in list(lines)[:100])
        self.client.get(f"/v1/availability?{query}", name="GET /v1/availability")

    def _reserve(
        self, run: Run, checkout: Checkout, lines: dict[str, int], hold_seconds: int, token: str, key: str
    ) -> dict[str, int]:
        """Returns: what to try next, if this was refused."""
        body = {
            "lines": [{"sku": sku, "quantity": units} for sku, units in lines.items()],
            "hold_seconds": hold_seconds,
        }
        status, answer = self._call("POST", "/v1/reservations", "POST /v1/reservations", token, body, key, (201, 409))
        if status == 201:
            checkout.reservation_id, checkout.lines = answer["id"], lines
            return {}
        if status != 409:
            checkout.unknown = True
            return {}
        run.records.refused_baskets += 1
        run.records.verdicts.update(line["verdict"] for line in answer["lines"] if line["verdict"] != "ok")
        if all(line["verdict"] == "ok" for line in answer["lines"]):
            run.records.problems.append(f"a basket was refused though every line is ok: {answer['detail']}")
        return {line["sku"]: line["requested"] for line in answer["lines"] if line["verdict"] == "ok"}

    def _finish(self, run: Run, checkout: Checkout, token: str, payment_id: str) -> None:
        path = f"/v1/reservations/{checkout.reservation_id}"
        if checkout.plan == "pays":
            body, name = {"payment_id": payment_id}, "POST /v1/reservations/{id}/commit"
            status, _ = self._call("POST", f"{path}/commit", name, run.payments, body, payment_id, (200,))
            checkout.paid, checkout.unknown = status == 200, status != 200
        elif checkout.plan == "abandons":
            status, answer = self._call("DELETE", path, "DELETE /v1/reservations/{id}", token, None, "", (200,))
            if status == 200 and answer["state"] != "released":
                run.records.problems.append(f"an abandoned reservation is {answer['state']}")

    def _call(
        self, method: str, path: str, name: str, token: str, body: Any, key: str, good: tuple[int, ...]
    ) -> tuple[int, Any]:
        """Call until there is an answer that settles it. Returns: its status, 0 if there was none, and its document."""
        headers = {"Authorization": f"Bearer {token}"} | ({"Idempotency-Key": key} if key else {})
        for tried in range(PATIENCE):
            with self.client.request(
                method, path, name=name, json=body, headers=headers, catch_response=True
            ) as answer:
                if answer.status_code in good:
                    answer.success()
                    return answer.status_code, answer.json()
                answer.failure(f"{answer.status_code} {(answer.text or '')[:200]}")
                if 400 <= answer.status_code < 500:
                    current[-1].records.problems.append(f"{name}: {answer.status_code} {(answer.text or '')[:200]}")
                    return answer.status_code, None
            time.sleep(0.1 * 2**tried)
        return 0, None


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--checkouts", type=int, default=6_000, help="How many buyers come, in all")
    parser.add_argument("--seed", default="1", help="Decides what each buyer does")
    parser.add_argument("--verdict-json", default="", help="Write the verdict to this file, too")


@events.test_start.add_listener
def start(environment: Environment, **_: Any) -> None:
    """Load the stock. locust goes on after an error in here, so it's ended by hand."""
    try:
        current.append(Run(environment))
    except Exception as error:
        last_words.append(f"the stock could not be loaded: {error}")
        environment.process_exit_code = 1
        assert environment.runner is not None
        gevent.spawn(environment.runner.quit)


@events.test_stop.add_listener
def stop(environment: Environment, **_: Any) -> None:
    if not current:
        return
    run = current.pop()
    seconds = time.monotonic() - run.started_s
    counters = _settled(run)
    found = verdict.judge(
        run.stock,
        counters,
        verdict.fold(run.service.events(next(iter(run.stock))), run.prefix),
        run.records,
        run.read.skipped,
    )
    last_words.append(verdict.shown(found, seconds))
    if run.report:
        Path(run.report).write_text(json.dumps(found.__dict__, indent=1))
    environment.process_exit_code = 1 if found.wrong else 0


@events.quit.add_listener
def say(**_: Any) -> None:
    """Print the verdict below locust's own tables."""
    print("\n".join(last_words), flush=True)


def _settled(run: Run) -> dict[str, dict[str, int]]:
    """The counters, once every hold has ended. Holds of buyers without an answer last the full 900 s: not waited for."""
    give_up_s = time.monotonic() + SETTLING_SECONDS
    while True:
        counters = run.service.counters(list(run.stock))
        held = sum(counter["reserved"] for counter in counters.values())
        if not held or time.monotonic() > give_up_s:
            return counters
        time.sleep(0.5)
