"""How gunicorn runs the API. Read by gunicorn; the reasons stand beside the values."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from engine import count_files

# Where the workers keep their counts. This file is read again at a reload; then there is one.
OWN_COUNTS = f"stockade-api-{os.getpid()}"
if not os.environ.get(count_files.VARIABLE):
    os.environ[count_files.VARIABLE] = str(count_files.make(OWN_COUNTS, Path(tempfile.gettempdir())))
_counts = Path(os.environ[count_files.VARIABLE])
_counts.mkdir(parents=True, exist_ok=True)

import api.wsgi  # noqa: E402, F401 (see when_ready)
from api.worker import PLACES, Worker  # noqa: E402
from engine.config import from_environment  # noqa: E402
from engine.unfailing import withstand  # noqa: E402

# Before gunicorn takes standard error for its own log.
withstand()
_settings = from_environment(os.environ)

wsgi_app = "api.wsgi:app()"
proc_name = "stockade-api"

worker_class = "api.worker.Worker"
workers = _settings.workers

# So many that a full worker has something to refuse: 1,300 requests a second x STOCKADE_MOST_WAIT_MS, and idle ones.
# What is beyond waits in the backlog, where nobody sees it; that is the most Linux allows as it comes.
MAX_CONNECTIONS = 12_000
OTHER_FILES = 200
_, _most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
if _most_files == resource.RLIM_INFINITY:
    _most_files = MAX_CONNECTIONS + OTHER_FILES
worker_connections = min(MAX_CONNECTIONS, _most_files - OTHER_FILES)
resource.setrlimit(resource.RLIMIT_NOFILE, (worker_connections + OTHER_FILES, _most_files))
backlog = 4_096

# A worker that does nothing for this long is replaced; the longest honest wait is three tries at Redis.
timeout = 30

# A worker that stops answers each connection once more and says that it closes; then it waits for the silent ones, who
# must expect a close anyway. Were it more, `stockade up`, which gives the API 15 s, would kill it.
graceful_timeout = 10

# Not set, as nothing came of it: max_requests (nothing grows), preload_app (it would share connections),
# worker_tmp_dir.

# Nothing listens on these; they would only be shared between services of one user.
control_socket_disable = True

accesslog = None
errorlog = "-"
loglevel = "warning"


def on_exit(server: Any) -> None:
    if _counts.name == OWN_COUNTS:
        shutil.rmtree(_counts, ignore_errors=True)


def child_exit(server: Any, worker: Any) -> None:
    """Called by gunicorn's parent when a worker is gone, however it went."""
    if isinstance(worker, Worker):
        PLACES.give_back(worker.place)
    try:
        count_files.bury(_counts, worker.pid)
    except Exception:
        server.log.exception("counts of worker %s are lost", worker.pid)


def when_ready(server: Any) -> None:
    """Called by gunicorn's parent before it forks the first workers, and after a SIGHUP those that replace them.

    What it has imported by then they needn't import: they are there some 400 ms of CPU time earlier, and at a reload
    new connections wait for them. Only our own code they read themselves, so that a reload brings what is on the disk now.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] in ("api", "engine", "lua")]:
        del sys.modules[name]


on_reload = when_ready
