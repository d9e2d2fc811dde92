"""For load balancers and people: is the process there, can it sell, what can it do."""

from __future__ import annotations

from typing import Any

import orjson
import structlog
from flask import Blueprint, Flask, Response, current_app
from flask_swagger_ui import get_swaggerui_blueprint
from prometheus_client import CONTENT_TYPE_LATEST

from api import metrics as prometheus
from api.metrics import ANSWER_SECONDS
from engine import readiness as parts
from engine.engine import Engine
from engine.readiness import READY, SOLD_WITH
from engine.rounds import Rounds

blueprint = Blueprint("health", __name__)

log = structlog.get_logger()

_last: dict[str, dict[str, str]] = {}
"""What this process has answered last, so that each change is one line in its log."""

READINESS, METRICS = "stockade_readiness", "stockade_metrics"


def looks(app: Flask) -> dict[str, Rounds[Any]]:
    """What is costly to answer, for the app's extensions: many who watch must not cost what many buyers do."""
    return {
        READINESS: Rounds(lambda: readiness(app.extensions["stockade"].engine)),
        METRICS: Rounds(lambda: prometheus.page(app.extensions["stockade"].engine)),
    }


docs = get_swaggerui_blueprint("/docs", "/openapi.json", config={"app_name": "Stockade", "validatorUrl": None})
"""Browsable documentation; every asset comes from the package flask-swagger-ui."""


@blueprint.get("/healthz")
def healthz() -> Response:
    return _json({"status": "ok"}, 200)


@blueprint.get("/readyz")
def readyz() -> Response:
    """Ready means: a reservation and its payment would work, and the record is whole. Each part is named, also those that stop no sale."""
    checks = current_app.extensions[READINESS].get()
    ready = SOLD_WITH.items() <= checks.items()
    if checks != _last.get("checks", READY):
        event = "ready" if ready else "not_ready"
        log.info(event) if checks == READY else log.warning(event, **checks)
    _last["checks"] = checks
    return _json({"status": "ready" if ready else "not_ready", "checks": checks}, 200 if ready else 503)


@blueprint.get("/metrics")
def metrics() -> Response:
    return Response(current_app.extensions[METRICS].get(), content_type=CONTENT_TYPE_LATEST)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    return _json(current_app.extensions["stockade_openapi"], 200)


def readiness(engine: Engine) -> dict[str, str]:
    """What each part is found to be, within a second."""
    seen = engine.overview.look(ANSWER_SECONDS)
    return parts.readiness(seen.now, seen.postgres, engine.settings)


def _json(document: dict[str, Any], status: int) -> Response:
    return Response(orjson.dumps(document), status, mimetype="application/json", headers={"Cache-Control": "no-store"})
