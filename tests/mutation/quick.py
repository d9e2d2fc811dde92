"""The rows of one script against a private server, in this very process: most mutants of a script end here, in milliseconds."""

from __future__ import annotations

from engine.store import client
from tests import script_rows
from tests.all_rows import ROWS
from tests.conftest import opened, settings
from tests.script_rows import SOURCES, Row


def noticed(redis_url: str, script: str, text: str) -> str:
    """The first row of the script that fails if it has this text; '' if none does."""
    right = SOURCES[script]
    SOURCES[script] = text
    try:
        rows = (row for row in ROWS if row.call.script == script)
        return next((f"the row '{row.name}'" for row in rows if not _holds(redis_url, row)), "")
    finally:
        SOURCES[script] = right


def _holds(redis_url: str, row: Row) -> bool:
    given = settings(redis_url)
    redis = client(given)
    try:
        redis.flushall()
        script_rows.run(opened(given, redis), row)
    except Exception:
        # A mutant may fail in any way.
        return False
    finally:
        redis.connection_pool.disconnect()
    return True
