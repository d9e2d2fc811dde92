"""Logs: one JSON object a line on stderr."""

from __future__ import annotations

import logging
import sys

import structlog


def configure() -> None:
    # What it says of a Postgres that is away we say ourselves.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # One write a line, so that processes don't mix theirs; sys.stderr looked up anew, as it may have been replaced.
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
    )
