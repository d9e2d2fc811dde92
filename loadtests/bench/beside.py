"""How long a buyer waits while others do their worst: slow clients, the largest batches, payments that a Postgres which hangs can't record."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import psycopg

from loadtests import servers
from loadtests.bench import calls, cores, fronts, shop, web
from loadtests.bench.caller import silent, whole
from loadtests.bench.calls import Side
from loadtests.bench.report import ROOT, Run, Target, number, table

SHARE = 0.7
CONNECTIONS = 64
SLOW_CLIENTS = 1_000
BATCH_BYTES = 1024 * 1024
IN_LARGEST = 500
PAYERS = 20


def beside(run: Run) -> None:
    """Reserve at 70 % of the top rate, alone, and beside 1,000 slow clients, a batch of 1 MiB a second and a Postgres that hangs."""
    with (
        servers.running_postgres() as database_url,
        shop.on_sale(run.kind) as url,
        fronts.flask(web.SERVICE, shop.environment(url, database_url)) as ours,
    ):
        top = Side("", ours, calls.reserve())
        alone, others = calls.Measured(), calls.Measured()
        for _ in range(run.rounds):
            # Anew each time: the machine itself may be slower than a moment ago.
            rate = SHARE * calls.call(top, run.seconds, cores.REST).rate
            side = replace(top, connections=CONNECTIONS, at_rate=rate)
            calls.measure(side, run.seconds, cores.REST, alone)
            with hanging(database_url), disturbed(ours.port):
                calls.measure(side, run.seconds, cores.REST, others)
    p99 = {
        name: run.note("beside", name, "p99 ms", each.p99_ms) for name, each in (("alone", alone), ("beside", others))
    }
    p50 = {
        name: run.note("beside", name, "p50 ms", each.p50_ms) for name, each in (("alone", alone), ("beside", others))
    }
    rows = [("", "p50 ms", "p99 ms"), *((name, number(p50[name]), number(p99[name])) for name in p50)]
    print(f"\nbeside: medians of {run.rounds}\n{table(rows)}", flush=True)
    run.compare(
        "p99 beside slow clients, batches, a hung Postgres / alone",
        p99["beside"],
        p99["alone"],
        "ms",
        Target(5, at_most=True),
    )


@contextmanager
def hanging(database_url: str) -> Iterator[None]:
    """A Postgres none of whose processes does anything."""
    with psycopg.connect(database_url) as session:
        row = session.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
    assert row
    parent = int(row[0].split()[0])
    processes = [
        parent,
        *map(int, subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, check=False).stdout.split()),
    ]
    try:
        for each in processes:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGSTOP)
        yield
    finally:
        for each in processes:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGCONT)


@contextmanager
def disturbed(port: int) -> Iterator[None]:
    """Others call too, from a process of their own."""
    with cores.on(cores.REST):
        process = subprocess.Popen(
            [sys.executable, "-m", "loadtests.bench.beside", str(port)], cwd=ROOT, stdout=subprocess.PIPE
        )
    try:
        assert process.stdout
        assert process.stdout.readline() == b"all there\n"
        yield
        assert process.poll() is None, "nobody was disturbed"
    finally:
        process.kill()
        process.wait()


def largest_batch() -> calls.Requests:
    """500 baskets of so many lines that they make a MiB together."""
    item: dict[str, Any] = {"user": "user-0000", "lines": [{"sku": sku, "quantity": 1} for sku in shop.OTHERS]}
    while len(body := json.dumps({"reservations": [item] * IN_LARGEST})) > BATCH_BYTES:
        item["lines"].pop()
    return calls.posts("/v1/reservations/batch", [(shop.token("back-end", "storefront"), body)])


def disturb(port: int) -> None:
    """Until it is killed. If one of its parts fails, all end, and the measurement with them."""
    with ThreadPoolExecutor(PAYERS + 2) as pool:
        parts = [pool.submit(_pay, port, payer) for payer in range(PAYERS)]
        parts += [pool.submit(_send_batches, port), pool.submit(_be_slow, port)]
        failed = next(as_completed(parts)).exception()
        print(failed, file=sys.stderr)
        os._exit(1)


def _be_slow(port: int) -> None:
    """Each client sends a letter of a request's head a second; who is thrown out comes back."""
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(SLOW_CLIENTS)]
    for client in clients:
        client.sendall(b"POST /v1/reservations HTTP/1.1\r\nX-Slow: ")
    print("all there", flush=True)
    while True:
        time.sleep(1)
        for at, client in enumerate(clients):
            try:
                client.sendall(b"x")
            except OSError:
                client.close()
                clients[at] = socket.create_connection(("127.0.0.1", port))
                clients[at].sendall(b"POST /v1/reservations HTTP/1.1\r\nX-Slow: ")


def _send_batches(port: int) -> None:
    requests, sent = largest_batch(), 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while True:
            began_s, sent = time.monotonic(), sent + 1
            body = _exchange(connection, f"{requests.heads[0]}{os.getpid()}-{sent}{requests.tails[0]}")
            assert len(json.loads(body)["results"]) == IN_LARGEST
            time.sleep(max(0.0, 1 - (time.monotonic() - began_s)))


def _pay(port: int, payer: int) -> None:
    """Reserve and pay, over and over. What can't be recorded is answered when the service gives up."""
    user, sent = f"payer-{payer}", 0
    reserve, pay = (
        calls.posts("/v1/reservations", [(shop.token(user, "customer"), _one())]),
        shop.token("till", "payments"),
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while True:
            sent += 1
            key = f"{os.getpid()}-{payer}-{sent}"
            held = json.loads(_exchange(connection, f"{reserve.heads[0]}{key}{reserve.tails[0]}"))
            if "id" not in held:
                time.sleep(0.1)
                continue
            [head], [tail] = _payment(held["id"], pay, key)
            _exchange(connection, f"{head}{key}{tail}")


def _one() -> str:
    return json.dumps({"lines": [{"sku": shop.HOT, "quantity": 1}]})


def _payment(reservation_id: str, token: str, payment_id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    made = calls.posts(f"/v1/reservations/{reservation_id}/commit", [(token, json.dumps({"payment_id": payment_id}))])
    return made.heads, made.tails


def _exchange(connection: socket.socket, request: str) -> bytes:
    """Returns: the body of the answer."""
    connection.sendall(request.encode())
    data = b""
    while not whole(data):
        data += connection.recv(1 << 20) or silent()
    return data.partition(b"\r\n\r\n")[2]


if __name__ == "__main__":
    disturb(int(sys.argv[1]))
