"""How the API's processes share their work, refuse what is too much, and follow one another."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from engine.embedded_postgres import processes
from tests import seed
from tests.command.service import Answer, Process, Service, part, send, sockets, standing_still, workers
from tests.waiting import wait_until

CLIENTS = 12
MAX_WAIT_MS = 200


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with two workers."""
    data_dir = seed.plant(tmp_path_factory.mktemp("pair") / "data", tmp_path_factory)
    running = Service(data_dir, {"STOCKADE_WORKERS": "2"})
    both(running)
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.stderr


def both(service: Service) -> list[Process]:
    """Its two workers, as soon as both take connections: each one's epoll watches more than the pipe from its threads."""

    def find() -> list[Process]:
        found = [process for process in workers(service.process) if process.alive and _watched(process) > 1]
        return found if len(found) == 2 else []

    return wait_until(find)


def _watched(process: Process) -> int:
    try:
        files = [path.read_text() for path in Path(f"/proc/{process.pid}/fdinfo").iterdir()]
    except FileNotFoundError:
        return 0
    return sum(file.count("\ntfd:") for file in files)


@contextmanager
def connections(service: Service, many: int, *, burst: bool) -> Iterator[None]:
    """That many connections, each of which has been answered once and stays."""
    with ExitStack() as stack:
        opened = []
        for _ in range(many):
            opened.append(stack.enter_context(socket.create_connection((service.host, service.port), timeout=10)))
            opened[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            if not burst:
                assert opened[-1].recv(4096)
        if burst:
            assert all(each.recv(4096) for each in opened)
        yield


@pytest.mark.parametrize(
    "burst", [pytest.param(True, id="in a burst"), pytest.param(False, id="one by one", marks=pytest.mark.slow)]
)
def test_each_worker_has_its_share_of_the_connections(pair: Service, burst: bool) -> None:
    pids = [worker.pid for worker in both(pair)]
    before = [sockets(pid) for pid in pids]
    for many in (8, 32, 200):
        with connections(pair, many, burst=burst):
            shares = [sockets(pid) - had for pid, had in zip(pids, before, strict=True)]
        assert sum(shares) == many
        # A few may go to the one that has more, where the other one doesn't get any time.
        assert max(shares) <= many * 0.625
        wait_until(lambda: [sockets(pid) for pid in pids] == before)


class Shoppers:
    """Each sends one request after the other on a connection of its own, and never repeats one that failed."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._enough = threading.Event()
        self.answered = 0
        self.failed: list[str] = []

    @contextmanager
    def shopping(self) -> Iterator[None]:
        with ThreadPoolExecutor(CLIENTS) as pool:
            shopping = [pool.submit(self._shop, number) for number in range(CLIENTS)]
            try:
                self.some_more()
                yield
                self.some_more()
            finally:
                self._enough.set()
            for each in shopping:
                each.result()

    def some_more(self) -> None:
        wanted = self.answered + 20 * CLIENTS
        wait_until(lambda: self.answered >= wanted)

    def _shop(self, number: int) -> None:
        connection = self._service.connection()
        while not self._enough.wait(0.002 * (number % 3)):
            try:
                answer = send(connection, "GET", "/v1/availability/nothing")
                assert answer.status == 404
                self.answered += 1
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection.close()
        connection.close()


def test_a_reload_under_load_replaces_every_worker_and_fails_no_request(pair: Service) -> None:
    shoppers = Shoppers(pair)
    with shoppers.shopping():
        for _ in range(2):
            old = workers(pair.process)
            pair.process.send_signal(signal.SIGHUP)
            wait_until(lambda: not any(worker.alive for worker in old))  # noqa: B023
            both(pair)
            shoppers.some_more()
    assert shoppers.failed == []


def test_a_worker_that_is_told_to_stop_fails_no_request(pair: Service) -> None:
    shoppers = Shoppers(pair)
    with shoppers.shopping():
        victim = both(pair)[0]
        os.kill(victim.pid, signal.SIGTERM)
        wait_until(lambda: not victim.alive)
        both(pair)
    assert shoppers.failed == []


def test_a_killed_worker_cuts_its_own_connections_only_and_new_ones_go_to_the_next(pair: Service) -> None:
    shoppers = Shoppers(pair)
    with shoppers.shopping():
        victim = both(pair)[0]
        os.kill(victim.pid, signal.SIGKILL)
        wait_until(lambda: not victim.alive)
        pids = [worker.pid for worker in both(pair)]
        before = [sockets(pid) for pid in pids]
        # The one that is left has had them all since.
        with connections(pair, CLIENTS // 2, burst=True):
            old, new = (sockets(pid) - had for pid, had in zip(pids, before, strict=True))
    assert new > old
    assert 0 < len(shoppers.failed) <= CLIENTS * 0.75


@pytest.fixture
def full(start: Callable[..., Service]) -> Iterator[Service]:
    """A service in which three requests have waited too long for a Redis that stands still."""
    service = start(STOCKADE_MOST_WAIT_MS=str(MAX_WAIT_MS), STOCKADE_REDIS_TIMEOUT_MS="20000")
    redis = part(service.process, "valkey")
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(service.call, "GET", "/v1/availability/nothing") for _ in range(3)]
            wait_until(lambda: _refuses(service))
            yield service
            os.kill(redis.pid, signal.SIGCONT)
            assert {each.result().status for each in waiting} == {404}
        wait_until(lambda: service.call("GET", "/v1/availability/nothing").status == 404)
    finally:
        os.kill(redis.pid, signal.SIGCONT)


def _refuses(service: Service) -> bool:
    connection = http.client.HTTPConnection(service.host, service.port, timeout=0.2)
    try:
        return send(connection, "GET", "/v1/availability/nothing").status == 503
    except TimeoutError:
        return False
    finally:
        connection.close()


def test_a_full_worker_refuses_at_once_and_goes_on_when_it_can(full: Service) -> None:
    connection = full.connection()
    started_s = time.monotonic()
    for method, path, body in (("GET", "/v1/availability/nothing", None), ("POST", "/v1/reservations", b"x" * 10_000)):
        refused = send(connection, method, path, body)
        _is_a_refusal(refused)
        assert refused.headers["Connection"] == "keep-alive"
    # Even with this request to serve: a balancer that took the node out would give its load to the others.
    assert send(connection, "GET", "/healthz").status == 200
    assert send(connection, "GET", "/readyz").document["checks"]["redis"] == "unavailable"
    page = send(connection, "GET", "/metrics?now").document.decode()
    assert "\nstockade_redis_up 0.0\n" in page
    assert "\nstockade_postgres_up 1.0\n" in page
    assert "\nstockade_requests_total{" in page
    assert time.monotonic() - started_s < 4
    connection.request("HEAD", "/v1/availability/nothing", headers={"X-Request-Id": "mine", "Connection": "close"})
    response = connection.getresponse()
    assert (response.status, response.read(), response.headers["X-Request-Id"]) == (503, b"", "mine")
    assert response.headers["Connection"] == "close"
    connection.close()


def _is_a_refusal(answer: Answer) -> None:
    assert answer.status == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["X-Request-Id"]
    assert answer.document["code"] == "store_unavailable"
    assert answer.document["status"] == 503
    assert "Too many requests" in answer.document["detail"]


def test_hundreds_who_wait_for_a_postgres_that_hangs_hold_up_nobody(start: Callable[..., Service]) -> None:
    service = start(STOCKADE_WORKERS="1", STOCKADE_DATABASE_TIMEOUT_MS="20000")
    shop, ops = service.token("shop", "storefront payments"), service.token("o", "ops")
    service.call("PUT", "/v1/skus/hangs", {"on_hand": 1_000}, token=ops)
    line = {"lines": [{"sku": "hangs", "quantity": 1}]}

    def held(user: str) -> str:
        answer = service.call("POST", "/v1/reservations", line, token=service.token(user, "customer"))
        assert answer.status == 201
        return str(answer.document["id"])

    names = [held(f"u{number}") for number in range(200)]
    with ThreadPoolExecutor(len(names)) as pool:
        with standing_still(processes((service.data_dir / "postgres").resolve())):
            paying = [
                pool.submit(service.call, "POST", f"/v1/reservations/{name}/commit", {"payment_id": name}, token=shop)
                for name in names
            ]
            [worker] = workers(service.process)
            wait_until(lambda: sockets(worker.pid) > len(names))
            for number in range(20):
                held(f"other{number}")
            assert not any(each.done() for each in paying)
        assert {each.result().status for each in paying} == {200}


@pytest.mark.slow
def test_connections_that_say_nothing_or_do_not_close_hold_nobody_up(pair: Service) -> None:
    with ExitStack() as stack:
        for sent in [b""] * 40 + [b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"] * 4:
            silent = stack.enter_context(socket.create_connection((pair.host, pair.port), timeout=10))
            silent.sendall(sent)
            assert not sent or silent.recv(4096)
        started_s = time.monotonic()
        for _ in range(4):
            assert pair.call("GET", "/healthz").status == 200
        assert time.monotonic() - started_s < 1


def _largest_batch() -> bytes:
    """As many items and lines as fit into what a batch may be."""
    item = {"user": "u", "lines": [{"sku": f"crowd-{number:02}", "quantity": 1} for number in range(50)]}
    body = json.dumps({"reservations": [item] * 500}).encode()
    assert 900_000 < len(body) <= 1024 * 1024
    return body


def test_the_largest_batch_and_a_thousand_slow_clients_let_others_in_between(start: Callable[..., Service]) -> None:
    service = start(STOCKADE_WORKERS="1")
    shop = service.token("shop", "storefront")
    with ExitStack() as stack:
        for _ in range(1_000):
            slow = stack.enter_context(socket.create_connection((service.host, service.port), timeout=10))
            slow.sendall(b"POST /v1/reservations HTTP/1.1\r\nX-Slow: ")
        others, batch = service.connection(), service.connection()
        stack.callback(others.close)
        stack.callback(batch.close)
        headers = {"Authorization": f"Bearer {shop}", "Content-Type": "application/json", "Idempotency-Key": "large"}
        batch.request("POST", "/v1/reservations/batch", _largest_batch(), headers)
        answered, poll = 0, select.poll()
        poll.register(batch.sock, select.POLLIN)
        while not poll.poll(0):
            assert send(others, "GET", "/v1/availability/nothing").status == 404
            answered += 1
        response = batch.getresponse()
        results = json.loads(response.read())["results"]
        assert {each["problem"]["code"] for each in results} == {"lines_unavailable"}
        # It takes hundreds of turns, and each of them is one in which others are answered.
        assert answered > 20


@pytest.mark.parametrize(
    "path", ["/readyz", *(pytest.param(path, marks=pytest.mark.slow) for path in ("/healthz", "/metrics"))]
)
def test_a_hundred_who_watch_all_the_time_do_not_stop_the_sale(pair: Service, path: str) -> None:
    """They come before all others, but not all of them before each other."""
    asked = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    done = threading.Event()

    def watch(connection: socket.socket) -> None:
        with suppress(OSError):
            while not done.is_set():
                connection.sendall(asked)
                connection.recv(1 << 20)

    with ExitStack() as stack:
        watchers = [
            stack.enter_context(socket.create_connection((pair.host, pair.port), timeout=20)) for _ in range(100)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(len(watchers)))
        stack.callback(done.set)
        for each in watchers:
            pool.submit(watch, each)
        statuses = [pair.call("GET", "/v1/availability/nothing").status for _ in range(30)]
    assert statuses == [404] * 30


@pytest.mark.slow
def test_ten_thousand_connections_stay_open_on_one_worker(start: Callable[..., Service]) -> None:
    service = start(STOCKADE_WORKERS="1")
    [worker] = workers(service.process)
    with ExitStack() as stack:
        kept = []
        for _ in range(10_000):
            kept.append(stack.enter_context(socket.create_connection((service.host, service.port), timeout=10)))
            kept[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert kept[-1].recv(4096)
        assert sockets(worker.pid) >= len(kept)
        assert service.call("GET", "/v1/availability/nothing").status == 404
        for each in (kept[0], kept[-1]):
            each.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert each.recv(4096).startswith(b"HTTP/1.1 200 OK")
