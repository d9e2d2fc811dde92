"""Cross-origin calls (the Fetch standard): browsers of the configured origins may call every route but those for operators.

No cookies are involved, so no credentials are allowed. Flask-Cors would do this for answers that go through Flask only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from werkzeug.datastructures import Headers

from api.route import Route

EXPOSED = "Location, Retry-After, X-Request-Id, Idempotent-Replayed, ETag"
ACCEPTED = "Authorization, Content-Type, Idempotency-Key, Stockade-User, X-Request-Id, If-None-Match"
PREFLIGHT_SECONDS = 600
"""How long a browser may remember the answer to a preflight."""


class Cors:
    def __init__(self, origins: frozenset[str], routes: Iterable[Route]) -> None:
        self._origins = origins
        self._routes = {(route.method, route.path) for route in routes if not route.is_for_operators}

    def add(self, environ: dict[str, Any], headers: dict[str, str] | Headers) -> None:
        """Add to the headers of an answer what a browser asks for. `stockade.route` in `environ` is the path as declared."""
        path = environ.get("stockade.route", "")
        if not self._origins or not path.startswith("/v1/"):
            return
        headers["Vary"] = "Origin"
        method = environ["REQUEST_METHOD"]
        preflight = method == "OPTIONS" and environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD")
        wanted = preflight or ("GET" if method == "HEAD" else method)
        allowed = self.of_origin(environ.get("HTTP_ORIGIN", ""))
        if not allowed or (wanted, path) not in self._routes:
            return
        for name, value in allowed.items():
            headers[name] = value
        if preflight:
            headers["Access-Control-Allow-Methods"] = wanted
            headers["Access-Control-Allow-Headers"] = ACCEPTED
            headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)

    def of_origin(self, origin: str) -> dict[str, str]:
        """What lets a browser show an answer to a page of this origin; nothing for others."""
        if origin not in self._origins:
            return {}
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": EXPOSED}
