"""Clients that are slow, that lie about where a request ends, and that write into headers what they would like to read in a log."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import quote, urlencode

import pytest
from redis import Redis

from tests import seed
from tests.command.service import Service, send, stockade

SLOW = 12

JSON = b"Content-Type: application/json\r\n"
SLOWLY: dict[str, tuple[bytes, bytes]] = {
    "a head": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ", b"y"),
    "a body": (b"POST /v1/carts HTTP/1.1\r\nHost: x\r\n" + JSON + b"Content-Length: 5000\r\n\r\n", b"y"),
    "chunks": (b"POST /v1/carts HTTP/1.1\r\nHost: x\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\ny\r\n"),
    "a large body": (b"POST /v1/carts HTTP/1.1\r\nHost: x\r\n" + JSON + b"Content-Length: 500000\r\n\r\n", b"y"),
    "a body it is to be asked for": (
        b"POST /v1/carts HTTP/1.1\r\nHost: x\r\n" + JSON + b"Content-Length: 50\r\nExpect: 100-continue\r\n\r\n",
        b"y",
    ),
    "the next request": (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /h", b"e"),
    "a body with a long length": (
        b"POST /v1/carts HTTP/1.1\r\nHost: x\r\n" + JSON + b"Content-Length: 0000000000005000\r\n\r\n",
        b"y",
    ),
    "an answer": (b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    "many answers": (b"GET /console/console.css HTTP/1.1\r\nHost: x\r\n\r\n" * 800, b""),
    "an answer by another name": (b"GET /%64ocs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n", b""),
}
"""What is sent at once, and what every tenth of a second after it."""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data_dir = seed.plant(tmp_path_factory.mktemp("narrow") / "data", tmp_path_factory)
    running = Service(data_dir)
    yield running
    assert running.stop() == 0
    assert "Traceback" not in running.stderr


@contextmanager
def slow_clients(service: Service, begin: bytes, more: bytes) -> Iterator[None]:
    """Clients that go on and on. What they read they read slowly."""
    stop = threading.Event()
    with ExitStack() as stack:
        clients = []
        for _ in range(SLOW):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            client.connect((service.host, service.port))
            client.sendall(begin)
            clients.append(client)

        def drip() -> None:
            while not stop.wait(0.1):
                for client in clients:
                    try:
                        client.sendall(more)
                    except OSError:
                        return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            yield
        finally:
            stop.set()
            dripping.join()


@pytest.mark.slow
@pytest.mark.parametrize("what", SLOWLY)
def test_slow_clients_hold_up_nobody_but_themselves(narrow: Service, what: str) -> None:
    with slow_clients(narrow, *SLOWLY[what]):
        connection = narrow.connection()
        began_s, slowest_s = time.monotonic(), 0.0
        while time.monotonic() < began_s + 2:
            asked_s = time.monotonic()
            assert send(connection, "GET", "/v1/availability/nothing").status == 404
            slowest_s = max(slowest_s, time.monotonic() - asked_s)
        connection.close()
    assert slowest_s < 2


def _answer(service: Service, data: bytes) -> bytes:
    with socket.create_connection((service.host, service.port), timeout=20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while more := connection.recv(65_536):
            found += more
    return found


@pytest.mark.parametrize(
    "data",
    [
        b"GET /healthz HTTP/1.2\r\n\r\n",
        b"get /healthz HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + (b"X: " + b"y" * 8_000 + b"\r\n") * 30,
        b"GET / HTTP/1.1\r\nExpect: much\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, x\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: x\r\n\r\n",
    ],
    ids=lambda data: repr(data[:30]),
)
def test_what_is_no_http_is_answered_with_a_problem_that_has_an_id(service: Service, data: bytes) -> None:
    head, _, body = _answer(service, data).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Content-Type: application/problem+json" in head
    assert b"Connection: close" in head
    assert b"X-Request-Id: " in head
    assert json.loads(body)["code"] == "bad_request"


@pytest.mark.parametrize("header", ["Authorization", "Stockade-User", "Idempotency-Key", "Stockade-Signature"])
def test_a_header_that_says_who_asks_stands_there_once(service: Service, header: str) -> None:
    token = service.token("shop", "storefront")
    both = f"{header}: ann\r\n{header.upper()}: bob\r\n"
    asks = f"Authorization: Bearer {token}\r\n" if header != "Authorization" else ""
    head = f"POST /v1/carts HTTP/1.1\r\nHost: x\r\n{asks}{both}\r\n"
    answer = _answer(service, head.encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert f"Duplicate header: {header}.".encode() in answer


MARK = "f0rged"
FORGED = f'{{"event": "{MARK}", "level": "critical"}}'


@pytest.mark.slow
def test_nothing_that_a_client_writes_makes_a_line_in_the_log_or_reaches_a_terminal(
    start: Callable[..., Service],
) -> None:
    service = start()
    ops, evil = service.token("olga", "ops"), f"\x1b[31m\x07{MARK}"
    service.call("PUT", "/v1/skus/log", {"on_hand": 5, "name": "x"}, token=ops)
    for game in (
        f"GET /\n{FORGED} HTTP/1.1\r\n\r\n",
        f"GET /{evil} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"{MARK} / HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET / HTTP/1.1\r\nX: {evil}\r\n\r\n",
        f"GET / HTTP/1.1\r\nExpect: \n{FORGED}\r\n\r\n",
        f"GET / HTTP/1.1\r\nX-Request-Id: {MARK} {FORGED}\r\n\r\n",
        f"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: {FORGED}\r\nUser-Agent: {FORGED}\r\nReferer: {FORGED}\r\n\r\n",
        f"GET /v1/skus/{MARK}%0a{FORGED.replace(' ', '%20')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ops}\r\n\r\n",
        f"GET /v1/carts/{MARK}%1b%5b31m HTTP/1.1\r\nHost: x\r\n\r\n",
        f"POST /v1/carts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {MARK}\r\n\r\n",
    ):
        assert _answer(service, game.encode()).startswith(b"HTTP/1.1 ")
    for body in ({"delta": 1, "reason": evil}, {"delta": 1, "reason": f"x\n{FORGED}"}):
        assert service.call("POST", "/v1/skus/log/adjustments", body, token=ops).status == 422
    line = {"lines": [{"sku": "log", "quantity": 1}]}
    assert service.call("POST", "/v1/reservations", line, token=service.token(FORGED, "customer")).status == 201
    assert service.stop() == 0
    assert MARK not in service.stderr
    assert "\x1b" not in service.stderr
    requests = [line for line in service.stderr.splitlines() if '"route"' in line]
    assert len(requests) >= 14
    assert all(json.loads(line)["event"] == "request" for line in requests)


WORDS = [
    *("' OR '1'='1", "'; DROP TABLE ledger; --", "%s %(user)s {0}", "a\\'b", "$1", "NULL"),
    *(
        "*",
        "?[a-z]*",
        "{p0}",
        "stk:{p0}:meta",
        "}:{",
        "a:b:c",
        "tee=1 mug=2",
        "refund:p",
        "-inf +inf",
        "(1-1",
        "0-0",
        "\\x00",
    ),
]
"""What would mean something in SQL, in a format, in a pattern or a key of Redis, and in what we keep there."""

KEYS = re.compile(
    r"stk:\{p0\}:(meta|skus|deadlines|ledger|keeper|rates|totals|record|(sku|buyers):[^\s=]{1,384}|(rsv|lease|op|checkout):[0-9A-Za-z]{22}|payment:.{1,255})"
    r"|stk:cart:\{[0-9A-Za-z]{22}\}",
    re.DOTALL,
)


def test_words_that_mean_something_elsewhere_are_only_words(service: Service) -> None:
    ops, psp, shop = (service.token(*who) for who in (("o", "ops"), ("psp", "payments"), ("shop", "storefront")))
    service.call("PUT", "/v1/skus/words", {"on_hand": 1_000, "limit_per_customer": 5}, token=ops)
    line = {"lines": [{"sku": "words", "quantity": 1}]}
    for word in WORDS:
        buyer = service.token(word, "customer")
        made = service.call("POST", "/v1/reservations", line, token=buyer, key=re.sub(r"\s", "", word)).document
        assert made["user"] == word
        service.call("POST", f"/v1/reservations/{made['id']}/commit", {"payment_id": word}, token=psp)
        service.call("POST", f"/v1/orders/{made['id']}/cancel", {"reason": word}, token=ops)
        batch = {"reservations": [line | {"user": word, "idempotency_key": "k"}]}
        assert service.call("POST", "/v1/reservations/batch", batch, token=shop).document["results"][0]["status"] == 201
        query = urlencode({"user": word})
        found = service.call("GET", f"/v1/audit?{query}", token=ops).document["items"]
        assert [event["op"] for event in found] == ["reserve", "commit", "cancel", "reserve"]
        assert {event["user"] for event in found} == {word}
        assert (found[1]["payment_id"], found[2]["reason"]) == (word, word)
        nothing = service.call("GET", f"/v1/audit?{urlencode({'reservation_id': word})}", token=ops).document["items"]
        assert nothing == []
        assert service.call("GET", f"/v1/audit?{urlencode({'op': word})}", token=ops).status == 422
        for name in ("sku", "after"):
            assert service.call("GET", f"/v1/audit?{urlencode({name: word})}", token=ops).status in (200, 422)
        for path in ("skus", "availability", "reservations", "orders", "carts"):
            assert service.call("GET", f"/v1/{path}/{quote(word, safe='')}", token=ops).status in (403, 404)
    with Redis.from_url((service.data_dir / "redis.url").read_text().strip(), decode_responses=True) as redis:
        assert [key for key in redis.scan_iter(count=1_000) if not KEYS.fullmatch(key)] == []
    assert stockade("verify", "--data-dir", service.data_dir).returncode == 0
