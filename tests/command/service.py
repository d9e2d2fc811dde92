"""A real `stockade up`, the processes it is made of, and calls over real HTTP."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import jwt

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
READY = re.compile(r"^Stockade is ready at http://([\d.]+):(\d+)$")
FAR_FUTURE_S = 4_000_000_000


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without what a developer has set for a Stockade of their own."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("STOCKADE_")}
    return ours | {"STOCKADE_WORKERS": "1"} | dict(more or {})


def stockade(
    *arguments: object, more: Mapping[str, str] | None = None, seconds: float = 30
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "engine.cli", *map(str, arguments)]
    return subprocess.run(
        command, env=environment(more), cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
    )


def fails_in_one_line(run: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The one line on stderr of a command that failed."""
    assert run.returncode == code, run
    (line,) = run.stderr.splitlines()
    assert line.startswith("stockade: ")
    assert "Traceback" not in run.stdout
    return line


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    document: Any


class Service:
    """`stockade up` on a data directory; what it prints goes to files beside the directory. `wrapper` is a command that becomes it."""

    def __init__(self, data_dir: Path, more: Mapping[str, str] | None = None, wrapper: Sequence[str] = ()) -> None:
        self.data_dir = data_dir
        self._stdout, self._stderr = data_dir.with_name("up.stdout"), data_dir.with_name("up.stderr")
        command = [*wrapper, sys.executable, "-m", "engine.cli", "up", "--port", "0", "--data-dir", str(data_dir)]
        with self._stdout.open("w") as stdout, self._stderr.open("w") as stderr:
            # A terminal would mean something to SIGHUP.
            self.process = subprocess.Popen(
                command, env=environment(more), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )
        found = None
        try:
            found = wait_until(self._ready, 40)
        finally:
            if found is None:
                self.stop()
        assert found is not None
        self.host, self.port = found.group(1), int(found.group(2))

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    @property
    def stdout(self) -> str:
        return self._stdout.read_text()

    def _ready(self) -> re.Match[str] | None:
        assert self.process.poll() is None, self.stderr
        return READY.match(self.stdout)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop it, and give its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(30)

    def token(self, sub: str, scope: str, expires_s: int = FAR_FUTURE_S) -> str:
        """A token signed with the secret that `up` generated."""
        words = dict(line.split("=", 1) for line in (self.data_dir / "secrets.env").read_text().splitlines())
        claims = {"sub": sub, "scope": scope, "exp": expires_s}
        return jwt.encode(claims, words["STOCKADE_JWT_SECRET"], algorithm="HS256")

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=10)

    def call(self, method: str, path: str, body: Any = None, *, token: str = "", key: str = "") -> Answer:
        """One request on a connection of its own. Raises OSError or HTTPException where no answer comes."""
        connection = self.connection()
        try:
            return send(connection, method, path, body, token=token, key=key)
        finally:
            connection.close()


def send(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, *, token: str = "", key: str = ""
) -> Answer:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if key:
        headers["Idempotency-Key"] = key
    if body is not None:
        headers["Content-Type"] = "application/json"
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection.request(method, path, data, headers)
    with connection.getresponse() as response:
        text = response.read()
    is_json = "json" in response.headers.get("Content-Type", "")
    return Answer(response.status, response.headers, json.loads(text) if is_json else text)


@dataclass(frozen=True)
class Process:
    """A process as /proc has it; `started` tells it from a later one with the same id."""

    pid: int
    parent: int
    started: str
    command: str

    @property
    def alive(self) -> bool:
        stat = _stat(self.pid)
        return bool(stat) and stat[19] == self.started and stat[0] not in ("Z", "X")


def family(pid: int) -> list[Process]:
    """The processes below `pid`, parents first."""
    everybody = [process for path in Path("/proc").glob("[0-9]*") if (process := _process(int(path.name)))]
    found: list[Process] = []
    wanted = [pid]
    for parent in wanted:
        children = [process for process in everybody if process.parent == parent]
        found += children
        wanted += [process.pid for process in children]
    return found


def workers(up: subprocess.Popen[bytes]) -> list[Process]:
    """The processes of the API of a running service that answer requests."""
    below = family(up.pid)
    masters = {process.pid for process in below if "gunicorn" in process.command and process.parent == up.pid}
    return [process for process in below if process.parent in masters]


def part(up: subprocess.Popen[bytes], name: str) -> Process:
    """One of the parts of a running service: `postgres`, `valkey`, `keeper`, `gunicorn` (its master) or `worker`."""

    def find() -> Process | None:
        below = family(up.pid)
        masters = [process for process in below if "gunicorn" in process.command and process.parent == up.pid]
        candidates: Sequence[Process] = {
            "postgres": [
                process for process in below if "/bin/postgres -D" in process.command and process.parent == up.pid
            ],
            "valkey": [process for process in below if "valkey-server" in process.command],
            "keeper": [process for process in below if process.command.endswith("keeper")],
            "gunicorn": masters,
            "worker": workers(up),
        }[name]
        return candidates[0] if candidates else None

    found = wait_until(find)
    assert found is not None
    return found


def sockets(pid: int) -> int:
    """How many TCP sockets a process has open: those to its embedded servers are none."""
    tcp = {f"socket:[{line.split()[9]}]" for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += str(descriptor.readlink()) in tcp
    return found


def wait_until_gone(processes: Sequence[Process]) -> None:
    assert processes
    wait_until(lambda: not any(process.alive for process in processes), 25)


def _process(pid: int) -> Process | None:
    stat = _stat(pid)
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None
    return Process(pid, int(stat[1]), stat[19], command) if stat else None


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; nothing if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


@contextmanager
def standing_still(pids: Iterable[int]) -> Iterator[None]:
    """Stop these processes, and let them go on whatever happens meanwhile."""
    stopped = list(pids)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
