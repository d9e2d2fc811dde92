"""For load balancers and people: is the process there, can it sell, what can it do."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Blueprint, Response, current_app
from flask_swagger_ui import get_swaggerui_blueprint

from engine.engine import Engine
from engine.errors import StoreUnavailable

blueprint = Blueprint("health", __name__)

docs = get_swaggerui_blueprint("/docs", "/openapi.json", config={"app_name": "Stockade", "validatorUrl": None})
"""Browsable documentation; every asset comes from the package flask-swagger-ui."""


@blueprint.get("/healthz")
def healthz() -> Response:
    return _json({"status": "ok"}, 200)


@blueprint.get("/readyz")
def readyz() -> Response:
    """Ready means: Redis answers, the gate is open, a keeper is alive. Each is named."""
    checks = readiness(current_app.extensions["stockade_engine"])
    ready = checks == {"redis": "ok", "gate": "open", "keeper": "alive"}
    return _json({"status": "ready" if ready else "not_ready", "checks": checks}, 200 if ready else 503)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    return _json(current_app.extensions["stockade_openapi"], 200)


def readiness(engine: Engine) -> dict[str, str]:
    try:
        gate, alive = engine.store.meta().get("gate", "closed"), engine.store.keeper_alive()
    except StoreUnavailable:
        return {"redis": "unavailable", "gate": "unknown", "keeper": "unknown"}
    return {"redis": "ok", "gate": gate, "keeper": "alive" if alive else "missing"}


def _json(document: dict[str, Any], status: int) -> Response:
    return Response(orjson.dumps(document), status, mimetype="application/json", headers={"Cache-Control": "no-store"})
