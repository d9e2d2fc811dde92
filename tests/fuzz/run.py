"""`make fuzz`: everything that nobody should send, to a private service, for as long as TIME says; SEED says which."""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from tests.api.calling import signature
from tests.command.service import Service, stockade, workers
from tests.fuzz.judge import Answered, Unreadable, answers, faults
from tests.fuzz.operations import Operations
from tests.fuzz.wire import Case, Wire

PATIENCE_SECONDS = 30
"""Longer than the service waits for any client."""

SENDERS = 8
EVERYTHING = "customer storefront payments ops"
EXPECTED = ("expire", "refund_required")
"""Events that a refused request may leave: what was due ends, and the refusal of a late payment is final."""

MAX_SHOWN = 40


class Arena:
    """A private service, those who send to it, and what they found wrong."""

    def __init__(self, data_dir: Path) -> None:
        self.service = Service(data_dir, {"STOCKADE_WORKERS": "2"})
        self.url = f"http://{self.service.host}:{self.service.port}"
        self.found: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.refused: set[str] = set()
        self._lock = threading.Lock()
        scopes = {"everything": EVERYTHING, "ops": "ops", "customer": "customer"}
        self.tokens = {name: self.service.token("ann", scope) for name, scope in scopes.items()}
        self._before = {process.pid for process in workers(self.service.process)}

    def stock(self) -> dict[str, str]:
        """What there is to ask for, made anew. Returns: ids, by the words of both kinds of requests."""
        token, line = self.tokens["everything"], {"lines": [{"sku": "fuzz", "quantity": 1}]}

        def done(method: str, path: str, body: object = None) -> dict[str, str]:
            answer = self.service.call(method, path, body, token=token)
            assert answer.status in (200, 201), answer
            return dict(answer.document)

        plain = {"paused": None, "limit_per_customer": None, "sale_starts_at": None, "sale_ends_at": None}
        done("PUT", "/v1/selling", {"paused": False, "reason": "fuzz"})
        done("PUT", "/v1/skus/fuzz", plain)
        done("POST", "/v1/skus/fuzz/adjustments", {"delta": 1_000, "reason": "fuzz"})
        held, order = done("POST", "/v1/reservations", line)["id"], done("POST", "/v1/reservations", line)["id"]
        done("POST", f"/v1/reservations/{order}/commit", {"payment_id": f"of {order}"})
        cart = done("POST", "/v1/carts")["id"]
        return {"held": held, "order": order, "cart": cart, "reservations": held, "orders": order, "carts": cart}

    def note(self, what: str) -> None:
        with self._lock:
            if what not in self.found:
                self.found.append(what)

    def judge(self, about: str, answer: Answered) -> None:
        with self._lock:
            self.statuses[answer.status] += 1
            if answer.status >= 400:
                self.refused.add(answer.request_id)
        for fault in faults(answer):
            self.note(f"{about}: {fault}: {answer.status} {answer.body[:300]!r}")

    def send(self, case: Case) -> None:
        """Send a case on a connection of its own, and judge what comes back."""
        about = f"{case.about} {case.data[:200]!r}"
        try:
            data = exchange((self.service.host, self.service.port), case.data, open_end=case.open_end)
            found = answers(data, list(case.methods))
        except TimeoutError:
            return self.note(f"{about}: no end within {PATIENCE_SECONDS} s")
        except (OSError, Unreadable, ValueError) as error:
            return self.note(f"{about}: {type(error).__name__}: {error}")
        if len(found) > case.most_answers:
            self.note(f"{about}: {len(found)} answers, {case.most_answers} at most were asked for")
        for answer in found:
            self.judge(about, answer)
            if case.forbidden and answer.status < 300 and b'"items"' in answer.body:
                self.note(f"{about}: answered without a token: {answer.body[:200]!r}")
        return None

    def see(self, answer: Any) -> None:
        """Judge an answer as schemathesis has it: each header with a list of values."""
        headers = {name.lower(): ", ".join(values) for name, values in answer.headers.items()}
        sent = answer.request
        self.judge(f"{sent.method} {sent.url}", Answered(answer.status_code, headers, answer.content))

    def books(self) -> None:
        """Look at what is left: the workers, the log, the ledger, the stock."""
        gone = self._before - {process.pid for process in workers(self.service.process)}
        if gone:
            self.note(f"workers died: {gone}")
        if self.service.call("GET", "/readyz").status != 200:
            self.note("the service isn't ready any more")
        for line in self.service.stderr.splitlines():
            if "Traceback" in line or '"level":"error"' in line.replace(" ", ""):
                self.note(f"log: {line[:500]}")
        verified = stockade("verify", "--data-dir", self.service.data_dir, seconds=120)
        if verified.returncode:
            self.note(f"verify: {verified.stdout} {verified.stderr}")
        url = (self.service.data_dir / "postgres.url").read_text().strip()
        with psycopg.connect(url) as connection:
            rows = connection.execute("SELECT op, request_id, reservation_id FROM ledger").fetchall()
        for op, request_id, reservation_id in rows:
            if request_id in self.refused and op not in EXPECTED:
                self.note(f"a refused request has changed something: {op} {request_id} {reservation_id}")


def exchange(address: tuple[str, int], data: bytes, *, open_end: bool = False) -> bytes:
    """Send bytes and give all that comes back until the service closes. Raises: TimeoutError: it doesn't."""
    with socket.create_connection(address, timeout=PATIENCE_SECONDS) as connection:
        found, give_up_s = b"", time.monotonic() + PATIENCE_SECONDS
        try:
            connection.sendall(data)
            if not open_end:
                connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(65_536):
                found += more
                if time.monotonic() > give_up_s:
                    raise TimeoutError
        except (BrokenPipeError, ConnectionResetError):
            pass  # It has answered, and wants no more of this.
        return found


def fuzz(arena: Arena, number: int, seconds: float, *, cases: int, examples: int) -> Counter[str]:
    """Both kinds of requests in turn until time is over, each with new things to ask for. Returns: how many were sent."""
    pick, sent = Random(number), Counter[str]()
    operations = Operations(arena.url, _bearer(arena.tokens["everything"]), _signer(arena), arena.see, arena.note)
    give_up_s = time.monotonic() + seconds
    with ThreadPoolExecutor(SENDERS) as pool:
        while not sent or time.monotonic() < give_up_s:
            things = arena.stock()
            wire = Wire(pick, arena.tokens, things)
            made = [wire.case() for _ in range(cases)]
            sent.update(case.about.split()[0] for case in made)
            list(pool.map(arena.send, made))
            sent["operations"] += operations.fuzz(pick.getrandbits(32), examples, arena.stock(), pick)
    arena.stock()
    arena.books()
    return sent


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _signer(arena: Arena) -> Callable[[bytes], str]:
    lines = (arena.service.data_dir / "secrets.env").read_text().splitlines()
    secret = dict(line.split("=", 1) for line in lines)["STOCKADE_WEBHOOK_SECRET"]
    return lambda body: signature(body, secret=secret)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--time", type=float, default=120, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="stockade-fuzz-") as directory:
        arena = Arena(Path(directory) / "data")
        began_s = time.monotonic()
        try:
            sent = fuzz(arena, chosen.seed, chosen.time, cases=2_000, examples=20)
        finally:
            arena.service.stop()
        print(f"seed {chosen.seed}, {time.monotonic() - began_s:.0f} s")
        for kind, many in sorted(sent.items()):
            print(f"{kind:12} {many:8}")
        print("answers      " + "  ".join(f"{status}: {many}" for status, many in sorted(arena.statuses.items())))
        for what in arena.found[:MAX_SHOWN]:
            print(what)
        print(f"{len(arena.found)} things are wrong")
    sys.exit(1 if arena.found else 0)


if __name__ == "__main__":
    main()
