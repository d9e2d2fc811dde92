"""The Flask app: routes, problems, and a request id on every answer."""

from __future__ import annotations

from flask import Flask, Response, g

from api import context, openapi, problems
from api.auth import Authenticator
from api.views import availability, health, operation, orders, reservations, stock
from engine.engine import Engine

MOST_BODY_BYTES = 64 * 1024


def create_app(engine: Engine) -> Flask:
    """Raises: ConfigurationError: the keys for tokens can't be used."""
    app = Flask("stockade", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MOST_BODY_BYTES
    app.extensions["stockade_engine"] = engine
    app.extensions["stockade_authenticator"] = Authenticator(engine.settings)
    app.extensions["stockade_openapi"] = openapi.document()
    for module in (stock, availability, reservations, orders, operation, health):
        app.register_blueprint(module.blueprint)
    app.register_blueprint(health.docs)
    problems.register(app)
    app.before_request(_take_request_id)
    app.after_request(_give_request_id)
    return app


def _take_request_id() -> None:
    g.request_id = context.new_request_id()


def _give_request_id(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    return response
