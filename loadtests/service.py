"""The service under test, as load tests see it from outside: HTTP, tokens, signatures, its clock."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import jwt
import requests

from loadtests.ledger import milliseconds

PARALLEL_CALLS = 8
CLOCK_CALLS = 20
PATIENCE = 8
"""How often a call without an answer, or with a 5xx, is repeated."""


@dataclass(frozen=True)
class Clock:
    """The service's clock, measured from here: right to `margin_ms` either way."""

    offset_ms: float
    margin_ms: float

    def earliest(self, at_s: float) -> float:
        """The earliest that it can have been there, in milliseconds, when it was `at_s` here."""
        return at_s * 1000 + self.offset_ms - self.margin_ms

    def latest(self, at_s: float) -> float:
        return at_s * 1000 + self.offset_ms + self.margin_ms

    def now_ms(self) -> float:
        return time.time() * 1000 + self.offset_ms


class Service:
    """Speaks to the service at `host` as an operator. Raises requests' errors."""

    def __init__(self, host: str, secret: str, webhook_secret: str = "") -> None:
        self._host = host.rstrip("/")
        self._secret = secret
        self._webhook_secret = webhook_secret
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {self.token('load-test', 'ops')}"

    def token(self, subject: str, scope: str) -> str:
        claims = {"sub": subject, "scope": scope, "exp": int(time.time()) + 86_400}
        return jwt.encode(claims, self._secret, algorithm="HS256")

    def signature(self, body: bytes) -> str:
        """The `Stockade-Signature` of a webhook that is sent now."""
        at = str(int(time.time()))
        return f"t={at},v1={hmac.new(self._webhook_secret.encode(), at.encode() + b'.' + body, hashlib.sha256).hexdigest()}"

    def check_secret(self) -> None:
        """Make a call that only the service's own secret allows."""
        self._get("/v1/skus", limit=1)

    def load(self, stock: Mapping[str, dict[str, Any]]) -> None:
        """Create the SKUs with their attributes, the first one before all others."""
        first, *others = stock.items()
        self._put(first)
        with ThreadPoolExecutor(PARALLEL_CALLS) as pool:
            list(pool.map(self._put, others))

    def restock(self, sku: str, units: int, key: str) -> None:
        """Add units, once, however often it takes."""
        body = {"delta": units, "reason": "load test"}
        self._call("POST", f"/v1/skus/{sku}/adjustments", json=body, headers={"Idempotency-Key": key})

    def clock(self) -> Clock:
        """Compare the clocks by the call that came back fastest."""
        found = []
        for _ in range(CLOCK_CALLS):
            before_s = time.time()
            (item,) = self._get("/v1/availability", sku="clock")["items"]
            after_s = time.time()
            offset_ms = milliseconds(item["as_of"]) + 0.5 - (before_s + after_s) * 500
            found.append(Clock(offset_ms, (after_s - before_s) * 500 + 1))
        return min(found, key=lambda clock: clock.margin_ms)

    def counters(self, prefix: str) -> dict[str, dict[str, int]]:
        """The counters of all SKUs whose names begin with the prefix."""
        found: dict[str, dict[str, int]] = {}
        cursor = prefix
        while cursor:
            page = self._get("/v1/skus", limit=1000, cursor=cursor)
            wanted = [item for item in page["items"] if item["sku"].startswith(prefix)]
            found.update({item["sku"]: item for item in wanted})
            cursor = page["next_cursor"] if len(wanted) == len(page["items"]) else ""
        return found

    def events(self, since_sku: str) -> Iterator[dict[str, Any]]:
        """The ledger from the first event of the SKU named to its end, that event included.

        Raises:
            ValueError: it has none.
        """
        items = self._get("/v1/audit", sku=since_sku, limit=1)["items"]
        if not items:
            raise ValueError(f"the ledger has no event of {since_sku}")
        first = items[0]
        yield first
        after = f"{first['epoch']}-{first['seq']}"
        while after:
            page = self._get("/v1/audit", after=after, limit=1000)
            yield from page["items"]
            after = page["next"]

    def _put(self, stock: tuple[str, dict[str, Any]]) -> None:
        sku, attributes = stock
        self._call("PUT", f"/v1/skus/{sku}", json=attributes)

    def _get(self, path: str, **query: Any) -> dict[str, Any]:
        document: dict[str, Any] = self._call("GET", f"{path}?{urlencode(query)}").json()
        return document

    def _call(self, method: str, path: str, **body: Any) -> requests.Response:
        """Call until there is an answer that isn't a 5xx: a service that was just broken must not escape its judge."""
        for tried in range(PATIENCE):
            with suppress(requests.ConnectionError):
                answer = self._session.request(method, f"{self._host}{path}", timeout=30, **body)
                if answer.status_code < 500:
                    answer.raise_for_status()
                    return answer
            time.sleep(0.1 * 2**tried)
        answer = self._session.request(method, f"{self._host}{path}", timeout=30, **body)
        answer.raise_for_status()
        return answer


def plain(error: Exception) -> str:
    """What went wrong, in one line that needs no knowledge of the libraries in between."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        if error.response.status_code == 401:
            return "the secret isn't the service's (401): STOCKADE_JWT_SECRET has to be the one it was started with"
        return f"{error.request.method if error.request else ''} {error.response.url} was answered {error.response.status_code}"
    if isinstance(error, requests.exceptions.SSLError):
        return "no HTTPS is spoken there, or its certificate can't be trusted"
    if isinstance(error, requests.Timeout):
        return "the service doesn't answer in time"
    if isinstance(error, requests.ConnectionError):
        return "the service can't be reached; nothing answers there"
    if isinstance(
        error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema | requests.exceptions.InvalidSchema
    ):
        return "that is no address; say http://name:port"
    if isinstance(error, KeyError) and str(error.args[0]).startswith("STOCKADE_"):
        return f"{error.args[0]} has to be in the environment"
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
