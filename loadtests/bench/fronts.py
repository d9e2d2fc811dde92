"""HTTP servers under test, each on a free port of the loopback, pinned to its cores."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from engine.up import gunicorn
from loadtests.bench import cores
from loadtests.bench.report import DIRECTORY, ROOT

START_SECONDS = 30.0
STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Front:
    """A server that answers. `workers` are the processes that do the work."""

    port: int
    workers: tuple[psutil.Process, ...]

    def cpu_s(self) -> float:
        """What its workers have used so far, user and system."""
        used = [worker.cpu_times() for worker in self.workers]
        return sum(float(each.user + each.system) for each in used)


@contextmanager
def flask(
    app: str, environment: Mapping[str, str], *, workers: int = 1, on: Sequence[int] = cores.SERVICE
) -> Iterator[Front]:
    """Run a WSGI app under the service's own gunicorn settings."""
    environment = {**environment, "STOCKADE_WORKERS": str(workers)}
    port = _free_port()
    with _running([*gunicorn(f"127.0.0.1:{port}"), app], environment, on) as process:
        _wait_for(port)
        yield Front(port, tuple(psutil.Process(process.pid).children()))


@contextmanager
def gthread(
    app: str,
    environment: Mapping[str, str],
    *,
    threads: int,
    workers: int = 1,
    on: Sequence[int] = cores.SERVICE,
    settings: Sequence[str] = (),
) -> Iterator[Front]:
    """Run a WSGI app as its own users would: gunicorn's threaded worker with the parser in C, and connections kept."""
    port = _free_port()
    fast = ["--worker-class", "gthread", "--threads", str(threads), "--workers", str(workers), "--http-parser", "fast"]
    kept = ["--keep-alive", "75", "--log-level", "warning", *settings]
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *fast, *kept, app]
    with _running(command, environment, on) as process:
        _wait_for(port)
        yield Front(port, tuple(psutil.Process(process.pid).children()))


@contextmanager
def gunicorn_asgi(app: str, environment: Mapping[str, str]) -> Iterator[Front]:
    """Run an ASGI app behind gunicorn's own ASGI worker, with uvloop and the parser in C."""
    port = _free_port()
    fast = ["--worker-class", "asgi", "--asgi-loop", "uvloop", "--http-parser", "fast", "--keep-alive", "75"]
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *fast, "--log-level", "warning", app]
    with _running(command, environment, cores.SERVICE) as process:
        _wait_for(port)
        yield Front(port, tuple(psutil.Process(process.pid).children()))


@contextmanager
def uvicorn(app: str, environment: Mapping[str, str]) -> Iterator[Front]:
    """Run an ASGI app as fast as uvicorn can: uvloop, httptools, no access log, one process.

    It listens by itself: a socket that it is given it takes for a unix socket, and then it doesn't switch Nagle off,
    which makes each answer 40 ms late.
    """
    port = _free_port()
    fast = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    command = [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), *fast, app]
    with _running(command, environment, cores.SERVICE) as process:
        _wait_for(port)
        yield Front(port, (psutil.Process(process.pid),))


@contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str], on: Sequence[int]
) -> Iterator[subprocess.Popen[bytes]]:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    # A line for each request, as in production, but not among the figures.
    with cores.on(on), (DIRECTORY / "servers.log").open("ab") as log:
        process = subprocess.Popen(command, env={**os.environ, **environment}, cwd=ROOT, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    """Wait for an answer, be it only that there is nothing at /. Any status will do: what is measured is checked later."""
    give_up_s = time.monotonic() + START_SECONDS
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()
