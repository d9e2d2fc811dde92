"""For load balancers and people: is the process there, can it sell, what can it do."""

from __future__ import annotations

from typing import Any

import orjson
import structlog
from flask import Blueprint, Response, current_app
from flask_swagger_ui import get_swaggerui_blueprint
from prometheus_client import CONTENT_TYPE_LATEST

from api import metrics as prometheus
from api.metrics import ANSWER_SECONDS
from engine import disk
from engine.database import DISK_FULL
from engine.engine import Engine
from engine.overview import record

blueprint = Blueprint("health", __name__)

log = structlog.get_logger()

_last: dict[str, dict[str, str]] = {}
"""What this process has answered last, so that each change is one line in its log."""

READY = {"redis": "ok", "gate": "open", "postgres": "ok", "keeper": "alive", "record": "ok"}

docs = get_swaggerui_blueprint("/docs", "/openapi.json", config={"app_name": "Stockade", "validatorUrl": None})
"""Browsable documentation; every asset comes from the package flask-swagger-ui."""


@blueprint.get("/healthz")
def healthz() -> Response:
    return _json({"status": "ok"}, 200)


@blueprint.get("/readyz")
def readyz() -> Response:
    """Ready means: a reservation and its payment would work, and the record is whole. Each part is named."""
    checks = readiness(current_app.extensions["stockade"].engine)
    ready = checks == READY
    if checks != _last.get("checks", READY):
        log.info("ready") if ready else log.warning("not_ready", **checks)
    _last["checks"] = checks
    return _json({"status": "ready" if ready else "not_ready", "checks": checks}, 200 if ready else 503)


@blueprint.get("/metrics")
def metrics() -> Response:
    return Response(prometheus.page(current_app.extensions["stockade"].engine), content_type=CONTENT_TYPE_LATEST)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    return _json(current_app.extensions["stockade_openapi"], 200)


def readiness(engine: Engine) -> dict[str, str]:
    """What each check found, within a second; `gate` has the reason why it is closed, if there is one."""
    seen, room = engine.overview.look(ANSWER_SECONDS), disk.look(engine.settings)
    full = room if room and room.is_full else None
    found = dict.fromkeys(READY, "unknown") | {"redis": "unavailable", "postgres": seen.postgres}
    if seen.postgres == "ok" and (DISK_FULL.lately or (full and full.postgres)):
        found["postgres"] = "disk full"
    if seen.now:
        glance = seen.now.glance
        found |= {
            "redis": "full" if glance.is_full else "ok",
            "gate": seen.now.gate,
            "keeper": "alive" if glance.keeper else "missing",
            "record": record(glance),
        }
        if not glance.writes or (full and full.redis):
            found["redis"] = "disk full"
    return found


def _json(document: dict[str, Any], status: int) -> Response:
    return Response(orjson.dumps(document), status, mimetype="application/json", headers={"Cache-Control": "no-store"})
