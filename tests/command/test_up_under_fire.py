"""Parts of a running service are killed while buyers go on; a buyer who repeats gets exactly one reservation."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.command.service import Service, part, send, sockets, stockade
from tests.waiting import wait_until

BUYERS = 4
PATIENCE_SECONDS = 30.0
ON_HAND = 1_000_000
BODY = {"lines": [{"sku": "tee", "quantity": 1}, {"sku": "mug", "quantity": 2}]}


class Buyers:
    """Each asks for one reservation after the other, and repeats every request until it has an answer."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.enough = threading.Event()
        self.answers: dict[str, str] = {}
        self.retries = 0

    def buy(self, name: str) -> None:
        token = self._service.token(name, "customer")
        number = 0
        while not self.enough.is_set():
            number += 1
            key = f"{name}-{number}"
            self.answers[key] = self._until_answered(token, key)

    def _until_answered(self, token: str, key: str) -> str:
        give_up_s = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up_s:
            connection = self._service.connection()
            try:
                answer = send(connection, "POST", "/v1/reservations", BODY, token=token, key=key)
                if answer.status == 201:
                    return str(answer.document["id"])
                assert answer.status == 503, answer
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            self.retries += 1
            time.sleep(0.02)  # A polite client's pause before it repeats.
        raise AssertionError(f"no answer to {key} within {PATIENCE_SECONDS} s")


@pytest.mark.slow
def test_every_part_may_be_killed_under_load_and_no_unit_is_lost_or_sold_twice(start: Callable[..., Service]) -> None:
    service = start(workers=2)
    ops = service.token("o", "ops")
    for sku in ("tee", "mug"):
        assert service.call("PUT", f"/v1/skus/{sku}", {"on_hand": ON_HAND}, token=ops).status == 201
    buyers = Buyers(service)
    with ThreadPoolExecutor(BUYERS) as pool:
        buying = [pool.submit(buyers.buy, f"buyer-{number}") for number in range(BUYERS)]
        try:
            for name, said in (
                ("worker", "was sent SIGKILL"),
                ("keeper", "stockade: keeper died (killed by SIGKILL); starting it again"),
                ("valkey", "stockade: redis died (killed by SIGKILL); starting it again"),
                ("postgres", "stockade: postgres died (killed by SIGKILL); starting it again"),
                ("gunicorn", "stockade: api died (killed by SIGKILL); starting it again"),
            ):
                _some_more(buyers)
                victim = part(service.process, name)
                os.kill(victim.pid, signal.SIGKILL)
                wait_until(lambda: not victim.alive)  # noqa: B023
                wait_until(lambda: said in service.stderr)  # noqa: B023
                assert part(service.process, name).pid != victim.pid
                _some_more(buyers)
                wait_until(lambda: service.call("GET", "/readyz").status == 200)
        finally:
            buyers.enough.set()
        for future in buying:
            future.result()
    assert service.process.poll() is None
    assert buyers.retries > 0
    assert len(set(buyers.answers.values())) == len(buyers.answers)
    _nothing_is_lost(service, buyers)


def _some_more(buyers: Buyers) -> None:
    wanted = len(buyers.answers) + 20
    wait_until(lambda: len(buyers.answers) >= wanted, PATIENCE_SECONDS)


def _nothing_is_lost(service: Service, buyers: Buyers) -> None:
    ops, made = service.token("o", "ops"), len(buyers.answers)
    for sku, units in (("tee", made), ("mug", 2 * made)):
        shown = service.call("GET", f"/v1/skus/{sku}", token=ops).document
        counters = [shown[name] for name in ("on_hand", "available", "reserved", "allocated")]
        assert counters == [ON_HAND, ON_HAND - units, units, 0]
    for key in list(buyers.answers)[:: max(1, made // 20)]:
        token = service.token(key.rpartition("-")[0], "customer")
        again = service.call("POST", "/v1/reservations", BODY, token=token, key=key)
        assert (again.document["id"], again.headers["Idempotent-Replayed"]) == (buyers.answers[key], "true")
    verified = stockade("verify", "--json", "--data-dir", service.data_dir)
    assert verified.returncode == 0, verified
    report = json.loads(verified.stdout)
    assert (report["live"], report["problems"]) == (made, [])


@pytest.mark.slow
def test_requests_under_way_in_a_killed_worker_end_with_one_reservation_each(start: Callable[..., Service]) -> None:
    service = start(workers=1)
    assert service.call("PUT", "/v1/skus/tee", {"on_hand": 100}, token=service.token("o", "ops")).status == 201
    redis, worker = part(service.process, "valkey"), part(service.process, "worker")
    sent = threading.Barrier(BUYERS + 1)
    body = {"lines": [{"sku": "tee", "quantity": 1}]}

    def cut_off_and_repeated(name: str) -> str:
        token, connection = service.token(name, "customer"), service.connection()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": "k"}
        connection.request("POST", "/v1/reservations", json.dumps(body), headers)
        sent.wait()
        with pytest.raises((OSError, http.client.HTTPException)):
            connection.getresponse()
        connection.close()
        return str(wait_until(lambda: _reserved(service, body, token)))

    before = sockets(worker.pid)
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(BUYERS) as pool:
            answers = [pool.submit(cut_off_and_repeated, f"buyer-{number}") for number in range(BUYERS)]
            sent.wait()
            # Each request has its connection to the worker; the one to Redis is shared.
            wait_until(lambda: sockets(worker.pid) >= before + BUYERS)
            os.kill(worker.pid, signal.SIGKILL)
            wait_until(lambda: not worker.alive)
            os.kill(redis.pid, signal.SIGCONT)
            assert len({answer.result() for answer in answers}) == BUYERS
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    shown = service.call("GET", "/v1/skus/tee", token=service.token("o", "ops")).document
    assert (shown["available"], shown["reserved"]) == (100 - BUYERS, BUYERS)


def _reserved(service: Service, body: dict[str, Any], token: str) -> str:
    connection = service.connection()
    try:
        answer = send(connection, "POST", "/v1/reservations", body, token=token, key="k")
        return str(answer.document["id"]) if answer.status == 201 else ""
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
