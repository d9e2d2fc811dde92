"""Our app cut off at one layer after the other, each through what the app offers to everybody. See `layers`."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from flask import Blueprint, Flask
from marshmallow import Schema

from api.app import create_app
from api.auth import CUSTOMER
from api.journal import Finished, Journal
from api.route import Answer, Request, route
from api.schemas import ReservationRequest
from engine.config import from_environment
from engine.engine import Engine, build
from engine.replies import Claim
from engine.reservations import Reservations
from engine.states import State
from engine.store import client
from engine.values import Reservation
from loadtests.bench.trivial import ANSWER

MADE_MS = 1_700_000_000_000
HOLD_MS = 900_000

blueprint = Blueprint("layers", __name__, url_prefix="/layers")


@blueprint.post("/flask")
def flask() -> tuple[dict[str, str], int]:
    """Answered by Flask, as all that our app doesn't answer directly."""
    return ANSWER, 201


class NoBody(Schema):
    """A 204 has none."""


@route(
    blueprint,
    "POST",
    "/token",
    "Check a token",
    scopes=[CUSTOMER],
    body=ReservationRequest,
    answers={204: NoBody},
    idempotent=True,
)
def token(request: Request) -> Answer:
    """A route of ours without schemas, but with the key, which every route takes."""
    return Answer(None, 204)


class Constant(Reservations):
    """Gives the same answer to everybody, and asks nobody."""

    def __init__(self, engine: Engine) -> None:
        self.ours = engine.reservations

    def reserve(self, *asked: Any, **named: Any) -> Reservation:
        return self.made(self.ours.claim(*asked, **named))

    def made(self, claim: Claim) -> Reservation:
        return Reservation(claim.id, State.RESERVED, claim.origin.user, claim.lines, MADE_MS, MADE_MS + HOLD_MS)


class RoundTrip(Constant):
    """Asks Redis for next to nothing first, the way the service does."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._calls, self._keys = engine.store.calls, engine.store.keys

    def made(self, claim: Claim) -> Reservation:
        keys = (self._keys.meta, self._keys.ledger)
        words = (claim.origin.user, claim.origin.actor, claim.hold_ms, claim.fingerprint)
        self._calls.ask(("EVAL", "return {'reserved', 1, 2}", 2, *keys, *words))
        return super().made(claim)


def until_schemas() -> Flask:
    """Everything but the engine. Has the routes of the layers above it, too."""
    engine = _engine()
    return _app(replace(engine, reservations=Constant(engine)))


def until_redis() -> Flask:
    engine = _engine()
    return _app(replace(engine, reservations=RoundTrip(engine)))


class Unread(Journal):
    """Notes nothing."""

    def note(self, finished: Finished) -> None:
        pass


def unwatched() -> Flask:
    """The service without metrics and log: no meter runs, and no request is noted."""
    engine = _engine()
    app = create_app(engine)
    app.journal = Unread(engine.settings.id_secret, logs=False)
    return app


def _engine() -> Engine:
    settings = from_environment(os.environ)
    return build(settings, client(settings))


def _app(engine: Engine) -> Flask:
    app = create_app(engine)
    app.register_blueprint(blueprint)
    return app
