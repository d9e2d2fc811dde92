"""The service under test, as load tests see it from outside: HTTP, and tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import jwt
import requests

PARALLEL_CALLS = 8


class Service:
    """Speaks to the service at `host` as an operator. Raises requests' errors."""

    def __init__(self, host: str, secret: str) -> None:
        self._host = host.rstrip("/")
        self._secret = secret
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {self.token('load-test', 'ops')}"

    def token(self, subject: str, scope: str) -> str:
        claims = {"sub": subject, "scope": scope, "exp": int(time.time()) + 86_400}
        return jwt.encode(claims, self._secret, algorithm="HS256")

    def load(self, stock: dict[str, int]) -> None:
        """Create the SKUs, the first one before all others."""
        first, *others = stock.items()
        self._put(first)
        with ThreadPoolExecutor(PARALLEL_CALLS) as pool:
            list(pool.map(self._put, others))

    def counters(self, skus: Sequence[str]) -> dict[str, dict[str, int]]:
        """The counters of all SKUs that stand between the first and the last one named."""
        wanted, found, cursor = set(skus), {}, ""
        while True:
            page = self._get("/v1/skus", limit=1000, **({"cursor": cursor} if cursor else {}))
            found.update({item["sku"]: item for item in page["items"] if item["sku"] in wanted})
            cursor = page["next_cursor"]
            if not cursor:
                return found

    def events(self, since_sku: str) -> Iterator[dict[str, Any]]:
        """The ledger from the first event of the SKU named to its end, that event included."""
        first = self._get("/v1/audit", sku=since_sku, limit=1)["items"][0]
        yield first
        after = f"{first['epoch']}-{first['seq']}"
        while after:
            page = self._get("/v1/audit", after=after, limit=1000)
            yield from page["items"]
            after = page["next"]

    def _put(self, stock: tuple[str, int]) -> None:
        sku, units = stock
        self._session.put(f"{self._host}/v1/skus/{sku}", json={"on_hand": units}, timeout=30).raise_for_status()

    def _get(self, path: str, **query: Any) -> dict[str, Any]:
        answer = self._session.get(f"{self._host}{path}?{urlencode(query)}", timeout=30)
        answer.raise_for_status()
        document: dict[str, Any] = answer.json()
        return document
