"""The Flask app: routes, problems, and a request id on every answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from flask import Flask, Response, request
from werkzeug.datastructures import Headers

from api import openapi, paths, problems
from api.auth import Authenticator
from api.caching import NO_STORE
from api.cors import Cors
from api.incoming import Incoming
from api.journal import Journal, finished
from api.outgoing import Outgoing
from api.route import ROUTES, Answering, Parts
from api.views import availability, batch, carts, console, health, operation, orders, payments, reservations, stock
from engine.engine import Engine

Environ = dict[str, Any]


class Stockade(Flask):
    """Flask, with a shorter way to the busiest routes.

    Where a path has no variable word, or one at its end, its route is found with one look into a dict, and answers without
    Flask's contexts, hooks and signals, which take longer than a reservation. All other requests go through Flask, to the
    same functions.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__("stockade", static_folder=None)
        self.extensions["stockade"] = self._parts = parts
        self.journal = Journal(parts.engine.settings.id_secret, parts.engine.settings.logs_requests)
        self.cors = Cors(parts.engine.settings.cors_origins, (route for route, _ in ROUTES))
        # A path with too many slashes is unknown, not one to be redirected from.
        self.url_map.merge_slashes = False
        self._plain: dict[tuple[str, str], Answering] = {}
        self._ending: dict[tuple[str, str], tuple[Answering, str]] = {}
        for route, answer in ROUTES:
            head, _, last = route.path.rpartition("/")
            if "<" not in route.path:
                self._plain[route.method, route.path] = answer
            elif "<" not in head:
                self._ending[route.method, head] = (answer, last.strip("<>"))

    def wsgi_app(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["stockade.began_s"] = time.perf_counter()
        outgoing = self._directly(environ)
        if outgoing is None:
            return super().wsgi_app(environ, start_response)
        self.finish(environ, outgoing.headers, outgoing.status, outgoing.code)
        return outgoing(environ, start_response)

    def finish(self, environ: Environ, headers: dict[str, str] | Headers, status: int, code: str) -> None:
        """Give every response the headers that all have, and note it and its request."""
        headers["X-Request-Id"] = request_id = Incoming(environ).request_id
        headers.setdefault("Cache-Control", NO_STORE)
        self.cors.add(environ, headers)
        self.journal.note(finished(environ, status, code, request_id, environ["stockade.began_s"]))

    def waited(self, seconds: float) -> None:
        """Note how long a request has waited for its turn."""
        self._parts.engine.meter.waited("turn", seconds)

    def lagged(self, seconds: float) -> None:
        """Note how late the loop was for what it does once a second: so long something has held up everybody."""
        self._parts.engine.meter.waited("loop", seconds)

    def behind_s(self) -> float:
        """For how long Redis owes an answer: who comes now would wait as long."""
        return self._parts.engine.store.calls.oldest_s()

    def refused(self, method: str, request_id: str, began_s: float, status: int, code: str) -> None:
        """Note a request that the worker has refused before it came here."""
        self.journal.note(finished({"REQUEST_METHOD": method}, status, code, request_id, began_s))

    def _directly(self, environ: Environ) -> Outgoing | None:
        try:
            paths.decode(environ)
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            words, answer = {}, self._plain.get((method, path))
            if answer is None:
                head, _, last = path.rpartition("/")
                answer, word = self._ending.get((method, head), (None, ""))
                if answer is None or not last:
                    return None
                words = {word: last if last.isascii() else last.encode("latin-1").decode()}
            return answer(self._parts, environ, words)
        except Exception as error:
            return problems.of(error, Incoming(environ).request_id)


def create_app(engine: Engine) -> Stockade:
    """Raises: ConfigurationError: the keys for tokens can't be used."""
    app = Stockade(Parts(engine, Authenticator(engine.settings)))
    app.extensions["stockade_openapi"] = openapi.document()
    app.extensions |= health.looks(app)
    for module in (stock, availability, carts, batch, reservations, payments, orders, operation, health, console):
        app.register_blueprint(module.blueprint)
    app.register_blueprint(health.docs)
    app.register_error_handler(Exception, _problem)
    app.after_request(partial(_finished, app))
    return app


def _problem(error: Exception) -> Outgoing:
    answer = problems.of(error, Incoming(request.environ).request_id)
    request.environ["stockade.code"] = answer.code
    return answer


def _finished(app: Stockade, response: Response) -> Response:
    environ = request.environ
    if request.url_rule:
        environ.setdefault("stockade.route", request.url_rule.rule)
    app.finish(
        environ,
        response.headers,
        response.status_code,
        environ.get("stockade.code", "ok" if response.status_code < 400 else "-"),
    )
    return response
