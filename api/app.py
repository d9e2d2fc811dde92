"""The Flask app: routes, problems, and a request id on every answer."""

from __future__ import annotations

from contextlib import suppress

from flask import Flask, Response, g, request
from gunicorn.http.errors import ParseException

from api import context, openapi, problems
from api.auth import Authenticator
from api.views import availability, batch, carts, health, operation, orders, payments, reservations, stock
from engine.engine import Engine

MOST_BODY_BYTES = 64 * 1024

SILENCE_SECONDS = 5.0
"""How long a client may be silent in the middle of a body."""

MOST_DISCARDED_BYTES = 8 * 1024 * 1024
"""Of a body that nobody wanted, read and thrown away so that the client gets the answer."""


def create_app(engine: Engine) -> Flask:
    """Raises: ConfigurationError: the keys for tokens can't be used."""
    app = Flask("stockade", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MOST_BODY_BYTES
    app.extensions["stockade_engine"] = engine
    app.extensions["stockade_authenticator"] = Authenticator(engine.settings)
    app.extensions["stockade_openapi"] = openapi.document()
    for module in (stock, availability, carts, batch, reservations, payments, orders, operation, health):
        app.register_blueprint(module.blueprint)
    app.register_blueprint(health.docs)
    problems.register(app)
    app.before_request(_take_request_id)
    app.before_request(_wait_for_bodies_with_patience)
    app.after_request(_give_request_id)
    app.after_request(_discard_unread_body)
    return app


def _take_request_id() -> None:
    g.request_id = context.new_request_id()


def _wait_for_bodies_with_patience() -> None:
    """A client that stops sending, or reading, must not keep a thread. gunicorn sets the timeout anew for each request."""
    if connection := request.environ.get("gunicorn.socket"):
        connection.settimeout(SILENCE_SECONDS)


def _give_request_id(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    return response


def _discard_unread_body(response: Response) -> Response:
    """Read what no view has read: gunicorn would cut the connection, or lose the request that follows in it."""
    left = MOST_DISCARDED_BYTES
    with suppress(OSError, ParseException):
        while left > 0 and (data := request.environ["wsgi.input"].read(MOST_BODY_BYTES)):
            left -= len(data)
    return response
