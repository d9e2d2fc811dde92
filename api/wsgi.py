"""What gunicorn loads: one app a worker, with its own connections."""

from __future__ import annotations

import os

import structlog
from flask import Flask

from api.app import create_app
from engine import failover
from engine.config import from_environment
from engine.engine import build
from engine.log import configure
from engine.store import client


def app() -> Flask:
    configure()
    settings = from_environment(os.environ)
    for name in settings.weak_secrets:
        structlog.get_logger().warning("weak_secret", variable=name, advice="use 32 random bytes")
    engine = build(settings, client(settings, certified=True), watching=client(settings))
    made = create_app(engine)
    made.journal.start()
    engine.meter.start(made.journal.catch_up)
    failover.watch(engine)
    return made
