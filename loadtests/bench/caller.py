"""The load generator: keep-alive connections in a process of its own, the same for every side.

It sends the next request when it has an answer, or so many a second; then waits count from when a request should have been sent.

Reads a plan as JSON from standard input and writes what it saw as JSON to standard output. It uses nothing but the
standard library, so that it starts at once and costs less than what it measures.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import NoReturn

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
SILENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Plan:
    """Request number n is `heads[n % len]`, `mark` and n in digits, `tails[n % len]`, each of them Latin-1.

    `warm_seconds` come first and are not counted. `rate` is how many are sent a second; 0: the next one when there is an answer.
    """

    port: int
    connections: int
    warm_seconds: float
    seconds: float
    mark: str
    heads: list[str]
    tails: list[str]
    rate: float = 0.0


@dataclass(frozen=True)
class Seen:
    """`answers` are those of the whole run, `rate` and the waits those after the warm-up, whatever their status."""

    answers: int
    statuses: dict[str, int]
    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    own_cpu_us: float


class Broken(Exception):
    """What came back is no answer that this caller understands, or nothing came."""


class Caller:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        mark = plan.mark.encode()
        self._heads = [head.encode("latin-1") + mark for head in plan.heads]
        self._tails = [tail.encode("latin-1") for tail in plan.tails]
        self._statuses: Counter[bytes] = Counter()
        self._waits_s: list[float] = []

    def run(self) -> Seen:
        began_s, cpu_s = time.perf_counter(), time.process_time()
        counted_from_s = began_s + self._plan.warm_seconds
        self._loop(counted_from_s, counted_from_s + self._plan.seconds)
        answers, waits = sum(self._statuses.values()), sorted(self._waits_s)
        return Seen(
            answers=answers,
            statuses={status.decode(): number for status, number in self._statuses.items()},
            rate=len(waits) / self._plan.seconds,
            p50_ms=percentile(waits, 50) * 1000,
            p95_ms=percentile(waits, 95) * 1000,
            p99_ms=percentile(waits, 99) * 1000,
            own_cpu_us=(time.process_time() - cpu_s) / max(1, answers) * 1e6,
        )

    def _loop(self, counted_from_s: float, until_s: float) -> None:
        """Send a request on each connection, and the next one as soon as its answer is whole, until it's time.

        What is under way then is waited for, so that it's no burden on whoever is called next.
        """
        with ExitStack() as stack:
            poll = stack.enter_context(select.epoll())
            connections: dict[int, socket.socket] = {}
            for _ in range(self._plan.connections):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", self._plan.port)))
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                poll.register(connection.fileno(), select.EPOLLIN)
            if self._plan.rate:
                self._call_at_a_rate(poll, connections, counted_from_s, until_s)
            else:
                self._call(poll, connections, counted_from_s, until_s)

    def _call(
        self, poll: select.epoll, connections: dict[int, socket.socket], counted_from_s: float, until_s: float
    ) -> None:
        sent_s, parts = {}, dict.fromkeys(connections, b"")
        for number, (descriptor, connection) in enumerate(connections.items()):
            sent_s[descriptor] = time.perf_counter()
            connection.sendall(self._request(number))
        number = waiting = len(connections)
        while waiting:
            for descriptor, _ in poll.poll(SILENCE_SECONDS) or silent():
                connection = connections[descriptor]
                data = connection.recv(262_144) or silent()
                if parts[descriptor] or not whole(data):
                    data = parts[descriptor] = parts[descriptor] + data
                    if not whole(data):
                        continue
                    parts[descriptor] = b""
                now_s = time.perf_counter()
                self._statuses[data[9:12]] += 1
                if counted_from_s <= now_s < until_s:
                    self._waits_s.append(now_s - sent_s[descriptor])
                if now_s < until_s:
                    sent_s[descriptor] = now_s
                    # A request is less than a socket's buffer, so it never waits to be sent.
                    connection.sendall(self._request(number))
                    number += 1
                else:
                    waiting -= 1

    def _call_at_a_rate(
        self, poll: select.epoll, connections: dict[int, socket.socket], counted_from_s: float, until_s: float
    ) -> None:
        """A request whose time has come while every connection waits for an answer is sent as soon as one has it."""
        began_s, number, idle = time.perf_counter(), 0, [*connections]
        due_s, parts = dict.fromkeys(connections, 0.0), dict.fromkeys(connections, b"")
        while (now_s := time.perf_counter()) < until_s or len(idle) < len(connections):
            while idle and now_s < until_s and began_s + number / self._plan.rate <= now_s:
                descriptor = idle.pop()
                due_s[descriptor] = began_s + number / self._plan.rate
                connections[descriptor].sendall(self._request(number))
                number += 1
            next_s = began_s + number / self._plan.rate if idle and now_s < until_s else now_s + SILENCE_SECONDS
            ready = poll.poll(max(0.0, next_s - now_s))
            if not ready and time.perf_counter() > until_s + SILENCE_SECONDS:
                silent()
            for descriptor, _ in ready:
                data = parts[descriptor] = parts[descriptor] + (connections[descriptor].recv(262_144) or silent())
                if whole(data):
                    parts[descriptor] = b""
                    self._statuses[data[9:12]] += 1
                    if due_s[descriptor] >= counted_from_s:
                        self._waits_s.append(time.perf_counter() - due_s[descriptor])
                    idle.append(descriptor)

    def _request(self, number: int) -> bytes:
        kind = number % len(self._heads)
        return self._heads[kind] + b"%d" % number + self._tails[kind]


def whole(data: bytes) -> bool:
    """Whether `data` is a whole answer, by its Content-Length. Raises: Broken: it's more than that, or chunked."""
    end = data.find(b"\r\n\r\n") + 4
    if end == 3:
        return False
    length = LENGTH.search(data, 0, end)
    if length is None and data[9:12] != b"204":
        raise Broken(data[:end].decode("latin-1"))
    missing = end + (int(length[1]) if length else 0) - len(data)
    if missing < 0:
        raise Broken(f"{-missing} bytes more than Content-Length says")
    return missing == 0


def silent() -> NoReturn:
    raise Broken("no answer, or the connection was closed")


def percentile(ordered: list[float], percent: int) -> float:
    """Of values in order, nan of none."""
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else float("nan")


def main() -> None:
    print(json.dumps(asdict(Caller(Plan(**json.load(sys.stdin))).run())))


if __name__ == "__main__":
    main()
