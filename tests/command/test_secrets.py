"""A service whose secrets are marked goes through what can go wrong; then everything that it wrote or said is searched for them."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import jwt
import psycopg
import pytest
from redis import Redis

from engine.keys import Keys
from tests import seed, servers
from tests.command.service import Service, family, part, stockade
from tests.waiting import wait_until

MARK = "mark3d"
SECRETS = {
    "STOCKADE_JWT_SECRET": f"{MARK}-jwt-0123456789abcdefghijklmnop",
    "STOCKADE_WEBHOOK_SECRET": f"{MARK}-webhook-0123456789abcdefghijkl",
    "STOCKADE_ID_SECRET": f"{MARK}-id-0123456789abcdefghijklmnopqr",
}
BUYER = "buyer-whose-name-is-nobodys-business"
TOKENS = re.compile(r"Bearer |eyJ[\w-]{8}")

LINE = {"lines": [{"sku": "tee", "quantity": 1}]}
BROKEN = {"lines": [{"sku": "broken", "quantity": 1}]}

REFUSED_SETTINGS = [
    {"STOCKADE_REDIS_URL": f"redis://shop:{MARK}@127.0.0.1:99999/0"},
    {"STOCKADE_REDIS_URL": f"http://shop:{MARK}@127.0.0.1/0"},
    {"STOCKADE_REDIS_URL": f"redis://shop:{MARK}@127.0.0.1:1/0?nonsense=1"},
    {"STOCKADE_DATABASE_URL": f"postgresql://shop:{MARK}/@127.0.0.1/stock"},
    {"STOCKADE_DATABASE_URL": f"mysql://shop:{MARK}@127.0.0.1/stock"},
]
BAD_SETTINGS = [
    *REFUSED_SETTINGS,
    {"STOCKADE_REDIS_URL": f"redis://shop:{MARK}@127.0.0.1:1/0"},
    {"STOCKADE_DATABASE_URL": f"postgresql://shop:{MARK}@127.0.0.1:1/stock"},
]
"""These a process would wait for."""


@dataclass(frozen=True)
class Marked:
    """A service with servers of its own, the environment that it runs with, and all that it was heard to say."""

    service: Service
    given: dict[str, str]
    redis: Redis
    database: psycopg.Connection[Any]
    said: list[str]

    def call(self, method: str, path: str, body: object = None, *, token: str = "", key: str = "") -> Any:
        answer = self.service.call(method, path, body, token=token, key=key)
        self.said.append(f"{method} {path}: {answer.headers} {answer.document!r}")
        return answer.document

    def command(self, *words: str, **more: str) -> int:
        run = stockade(*words, "--data-dir", self.service.data_dir, more=self.given | more, seconds=60)
        self.said.append(f"{words}: {run.stdout} {run.stderr}")
        return run.returncode


@pytest.fixture
def marked(start: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Marked]:
    with ExitStack() as stack:
        user = ("--user", "shop", "on", f">{MARK}-redis", "~*", "&*", "+@all")
        plain = stack.enter_context(servers.running("valkey", *user))
        # It asks nobody for a password, and doesn't mind one.
        postgres = stack.enter_context(
            servers.running_postgres(prepare=lambda directory: seed.plant(directory, tmp_path_factory))
        )
        given = SECRETS | {
            "STOCKADE_REDIS_URL": plain.replace("unix://", f"unix://shop:{MARK}-redis@"),
            "STOCKADE_DATABASE_URL": postgres.replace("stockade@", f"stockade:{MARK}-postgres@"),
            "STOCKADE_REDIS_TIMEOUT_MS": "100",
            "STOCKADE_DATABASE_TIMEOUT_MS": "200",
        }
        database = stack.enter_context(psycopg.connect(postgres, autocommit=True))
        redis = stack.enter_context(Redis.from_url(plain, decode_responses=True))
        yield Marked(start(**given), given, redis, database, [])


def token(sub: str, scope: str, secret: str = SECRETS["STOCKADE_JWT_SECRET"]) -> str:
    return jwt.encode({"sub": sub, "scope": scope, "exp": 4_000_000_000}, secret, algorithm="HS256")


@pytest.mark.slow
def test_no_secret_and_no_password_gets_out_whatever_goes_wrong_and_the_log_knows_no_buyer(marked: Marked) -> None:
    guests_cart = _trade(marked)
    _fail(marked)
    for words in (("doctor",), ("doctor", "--json"), ("verify",), ("explain", "tee")):
        marked.command(*words)
    commands = [process.command for process in family(marked.service.process.pid)]
    assert commands
    assert marked.service.stop() == 0
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda bad: marked.command("doctor", **bad), BAD_SETTINGS)) == {1}
        assert set(pool.map(lambda bad: marked.command("keeper", **bad), REFUSED_SETTINGS)) == {1}
    log = marked.service.stderr + marked.service.stdout
    assert '"internal_error"' in log
    assert '"store_unavailable"' in log
    files = [path.read_text(errors="replace") for path in marked.service.data_dir.rglob("*") if path.is_file()]
    for text in (log, *commands, *marked.said, *files):
        assert MARK not in text, text
    for secret in (BUYER, guests_cart):
        assert secret not in log
    assert not TOKENS.search(log)


def _trade(marked: Marked) -> str:
    """Trade, well and badly. Returns: the id of a guest's cart."""
    ops, buyer, payer = token("olga", "ops"), token(BUYER, "customer"), token("psp", "payments")
    for sku in ("tee", "broken"):
        marked.call("PUT", f"/v1/skus/{sku}", {"on_hand": 5}, token=ops)
    held = marked.call("POST", "/v1/reservations", LINE, token=buyer, key="k")["id"]
    marked.call("POST", f"/v1/reservations/{held}/commit", {"payment_id": "p"}, token=payer)
    marked.call(
        "POST", "/v1/reservations", LINE, token=token(BUYER, "customer", "a secret of somebody else's, of no use")
    )
    marked.call("POST", "/v1/payments/webhook", {"id": "e"})
    cart = str(marked.call("POST", "/v1/carts")["id"])
    marked.call("PUT", f"/v1/carts/{cart}/lines/broken", {"quantity": 1})
    for path in ("/metrics", "/readyz", "/openapi.json", "/v1/overview", "/v1/audit", "/console", "/docs/"):
        marked.call("GET", path, token=ops)
    return cart


def _fail(marked: Marked) -> None:
    """Break one thing after the other, and ask for what needs it."""
    ops, buyer, payer = token("olga", "ops"), token(BUYER, "customer"), token("psp", "payments")
    held = marked.call("POST", "/v1/reservations", LINE, token=buyer)["id"]
    cart = marked.call("POST", "/v1/carts", token=buyer)["id"]
    marked.call("PUT", f"/v1/carts/{cart}/lines/broken", {"quantity": 1}, token=buyer)
    keys = Keys()
    marked.redis.rename(keys.sku("broken"), "kept")
    marked.redis.set(keys.sku("broken"), "no hash")

    def ask() -> None:
        marked.call("POST", "/v1/reservations", BROKEN, token=buyer, key="b")
        marked.call(
            "POST",
            "/v1/reservations/batch",
            {"reservations": [BROKEN | {"user": BUYER}]},
            token=token("s", "storefront"),
        )
        marked.call("POST", f"/v1/carts/{cart}/checkout", token=buyer)
        marked.call("POST", f"/v1/reservations/{held}/commit", {"payment_id": "p2"}, token=payer)
        for path in ("/v1/skus", "/v1/availability/broken", "/v1/overview", "/v1/audit", "/metrics", "/readyz"):
            marked.call("GET", path, token=ops)

    ask()
    marked.redis.rename("kept", keys.sku("broken"))
    marked.redis.execute_command("CONFIG", "SET", "maxmemory", "1")
    ask()
    marked.redis.execute_command("CONFIG", "SET", "maxmemory", "0")
    marked.database.execute("ALTER ROLE stockade CONNECTION LIMIT 0")
    marked.database.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC")
    marked.database.execute("ALTER TABLE ledger RENAME TO gone")
    ask()
    marked.database.execute("ALTER TABLE gone RENAME TO ledger")
    # redis-py puts what it sent into what it says of a wrong password.
    marked.redis.execute_command("ACL", "SETUSER", "shop", "-@all", "resetpass", ">another")
    marked.redis.execute_command("CLIENT", "KILL", "USER", "shop")
    ask()
    os.kill(part(marked.service.process, "keeper").pid, signal.SIGABRT)
    marked.redis.execute_command("ACL", "SETUSER", "shop", "+@all", "resetpass", f">{MARK}-redis")
    wait_until(lambda: marked.service.call("GET", "/readyz").status == 200, 30)
