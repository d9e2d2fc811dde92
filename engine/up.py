"""`stockade up`: the whole service on one machine, in one command."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Collection, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import FrameType

from engine import count_files, database, store
from engine.checks import size
from engine.config import Settings, from_environment
from engine.data_dir import DataDir
from engine.disk import FULL_BYTES
from engine.embedded import Embedded
from engine.embedded_postgres import POSTGRES
from engine.embedded_redis import REDIS
from engine.errors import ConfigurationError
from engine.supervisor import Child, KeepsDying, Supervisor
from engine.unfailing import withstand

SERVERS = (POSTGRES, REDIS)

SERVER_START_SECONDS = 300.0
"""Loading a long AOF, or going through the WAL after a crash, takes its time."""

READY_SECONDS = 60.0
BACKLOG = 2048

ROOT = Path(__file__).parents[1]
"""Where the packages are, in the checkout or among the installed ones."""

PYTHON = (sys.executable, "-P")
"""Without the working directory in the import path: a shop's own api.py is not ours."""


def up(data_dir: DataDir, host: str, port: int, workers: int | None, given: Mapping[str, str]) -> None:
    """Run until SIGTERM or SIGINT, then stop everything. SIGHUP gives the API new workers; nobody is refused meanwhile.

    Raises:
        ConfigurationError: it can't start; one line says why.
    """
    withstand()
    lock = data_dir.lock()
    data_dir.make_secrets(given)
    data_dir.withdraw()
    environment = absolute(data_dir.environment(given))
    # One place for all processes, so that each API worker can show what the others, and the keeper, have counted.
    counts = count_files.make(
        f"stockade-{sha256(bytes(data_dir.path.resolve())).hexdigest()[:16]}", data_dir.path.resolve()
    )
    environment[count_files.VARIABLE] = str(counts)
    if workers:
        environment["STOCKADE_WORKERS"] = str(workers)
    supervisor = Supervisor(partial(_excuse, data_dir.path))
    signal.signal(signal.SIGTERM, supervisor.stop)
    signal.signal(signal.SIGINT, supervisor.stop)
    signal.signal(signal.SIGHUP, _hang_up(supervisor))
    listener = _listen(host, port)
    sockets = {server: data_dir.socket_path(server.socket) for server in SERVERS if server.variable not in environment}
    try:
        environment |= {server.variable: server.url(path) for server, path in sockets.items()}
        settings = from_environment(environment)
        # Servers that were given come first: where one of them is of no use, nothing is started.
        _check([server for server in SERVERS if server not in sockets], settings)
        for server, path in sockets.items():
            supervisor.start(server.child(data_dir, path, [lock.fileno()]))
        for server in sockets:
            _wait_for(supervisor, server, environment[server.variable])
            data_dir.publish(server.variable, environment[server.variable])
        if not supervisor.stopping:
            _check(list(sockets), settings)
            _start_service(supervisor, settings, environment, listener)
        supervisor.run()
    except KeepsDying as error:
        raise ConfigurationError(f"Giving up: {error}") from error
    finally:
        supervisor.stop_all()
        data_dir.withdraw()
        for path in sockets.values():
            data_dir.remove_socket(path)
        shutil.rmtree(counts, ignore_errors=True)
        listener.close()
        lock.close()


def _excuse(data_dir: Path) -> str:
    """Servers come back by themselves when there is room again."""
    free = shutil.disk_usage(data_dir).free
    return f"the disk is full, {size(free)} free under {data_dir}" if free < FULL_BYTES else ""


def _hang_up(supervisor: Supervisor) -> Callable[[int, FrameType | None], None]:
    """What SIGHUP does: a reload, unless it comes because the terminal is gone."""
    in_terminal = os.isatty(0)

    def handle(signum: int, frame: FrameType | None) -> None:
        if in_terminal and not os.isatty(0):
            supervisor.stop()
        else:
            supervisor.reload()

    return handle


def _wait_for(supervisor: Supervisor, server: Embedded, url: str) -> None:
    if not supervisor.wait_until(lambda: server.answers(url), SERVER_START_SECONDS) and not supervisor.stopping:
        raise ConfigurationError(f"The embedded server at {url} doesn't answer after {SERVER_START_SECONDS:.0f} s")


def _check(servers: Collection[Embedded], settings: Settings) -> None:
    if REDIS in servers:
        store.check(store.client(settings))
    if POSTGRES in servers:
        database.migrate(database.Database(settings))


def _start_service(
    supervisor: Supervisor, settings: Settings, environment: Mapping[str, str], listener: socket.socket
) -> None:
    supervisor.start(Child("keeper", [*PYTHON, "-m", "engine.cli", "keeper"], environment, ROOT))
    bind = f"fd://{listener.fileno()}"
    api = Child("api", gunicorn(bind), environment, ROOT, [listener.fileno()], reload_signal=signal.SIGHUP)
    supervisor.start(api)
    host, port = listener.getsockname()[:2]
    if supervisor.wait_until(lambda: _ready(host, port), READY_SECONDS):
        shown = f"[{host}]" if ":" in host else host
        print(f"Stockade is ready at http://{shown}:{port}", flush=True)
    elif not supervisor.stopping:
        raise ConfigurationError(
            f"The service is not ready after {READY_SECONDS:.0f} s; see GET /readyz and the lines above"
        )


def gunicorn(bind: str) -> list[str]:
    """The command line of the API. It has to run in `ROOT`: gunicorn imports from its working directory first."""
    return [*PYTHON, "-m", "gunicorn", "--config", "python:api.gunicorn_config", "--bind", bind]


def absolute(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with paths that hold in whatever directory a process works."""
    paths = {name: environment[name] for name in ("STOCKADE_JWKS_FILE", "STOCKADE_DATA_DIR") if environment.get(name)}
    return {**environment, **{name: str(Path(path).resolve()) for name, path in paths.items()}}


def _listen(host: str, port: int) -> socket.socket:
    """Listen here, not in gunicorn: a port in use is known before anything starts, and a restart refuses nobody."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"Can't listen on {host} port {port}: {error}; choose another --port") from error


def _ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(_reachable(host), port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
