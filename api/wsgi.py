"""What gunicorn loads: one app a worker, with its own connections."""

from __future__ import annotations

import os

from flask import Flask

from api.app import create_app
from engine.config import from_environment
from engine.engine import build
from engine.log import configure
from engine.store import client


def app() -> Flask:
    configure()
    settings = from_environment(os.environ)
    return create_app(build(settings, client(settings)))
