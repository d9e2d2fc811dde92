"""Running services to which faults are done, and every place in which one is looked for."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis

from engine.checks import Verdict
from loadtests.servers import KINDS, binary
from tests import seed
from tests.chaos.makeup import SERVICE, Makeup
from tests.chaos.stores import FAKETIME, Server
from tests.command.service import ROOT, Answer, Service, environment, send
from tests.command.test_doctor import alarms, examined
from tests.programs import needs
from tests.waiting import wait_until

PATIENCE_SECONDS = 2.0
NO_ANSWER = {"no answer": ""}
ROOM = "4g"


class Watched:
    """A service with some events. `redis` and `postgres` are clients that pass it by."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.ops = service.token("olga", "ops")

    def begin(self) -> None:
        for sku in ("tee", "hat", "mug"):
            assert self.service.call("PUT", f"/v1/skus/{sku}", {"on_hand": 9}, token=self.ops).status == 201
        wait_until(lambda: self.readyz()["record"] == "ok", 40)
        # What is done to the ledger is done to rows that are there.
        wait_until(self._is_written, 40)

    def _is_written(self) -> bool:
        with self.redis as client, self.postgres() as connection:
            row = connection.execute("SELECT seq FROM ledger_position").fetchone()
            return row is not None and str(row[0]) == client.hget("stk:{p0}:meta", "seq")

    def sell(self) -> None:
        """Something happens."""
        assert (
            self.service.call(
                "POST", "/v1/skus/tee/adjustments", {"delta": 1, "reason": "found"}, token=self.ops
            ).status
            == 200
        )

    def stop(self) -> None:
        self.service.stop()

    @property
    def log(self) -> str:
        return self.service.stderr

    @property
    def redis(self) -> Any:
        return Redis.from_url((self.service.data_dir / "redis.url").read_text().strip(), decode_responses=True)

    @contextmanager
    def postgres(self) -> Iterator[psycopg.Connection]:
        url = (self.service.data_dir / "postgres.url").read_text().strip()
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection

    def is_ready(self) -> bool:
        answer = self.ask("/readyz")
        return answer is not None and answer.status == 200

    def readyz(self) -> dict[str, Any]:
        answer = self.ask("/readyz")
        return dict(answer.document["checks"]) if answer else NO_ANSWER

    def console(self) -> dict[str, Any]:
        """What the console is told in words: its own fields, and the checks beside them."""
        answer = self.ask("/v1/overview", self.ops)
        if answer is None:
            return NO_ANSWER
        if answer.status != 200:
            return {"no answer": answer.document["code"]}
        words = {name: value for name, value in answer.document.items() if value is None or isinstance(value, str)}
        return answer.document["checks"] | words

    def metrics(self) -> dict[str, float]:
        """Those without labels, and `up`, which Prometheus makes itself."""
        answer = self.ask("/metrics")
        if answer is None:
            return {"up": 0.0}
        found = re.findall(r"^(\w+) (\S+)$", answer.document.decode(), re.MULTILINE)
        return {name: float(value) for name, value in found} | {"up": 1.0}

    def doctor(self) -> dict[str, str]:
        return alarms(examined(self.service.data_dir))

    def ask(self, path: str, token: str = "") -> Answer | None:
        """None if no answer comes within a time for which a person would wait."""
        connection = http.client.HTTPConnection(self.service.host, self.service.port, timeout=PATIENCE_SECONDS)
        try:
            return send(connection, "GET", path, token=token)
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


class Cramped(Watched):
    """Data and log are on two disks that only this service sees, and that can be full."""

    def __init__(self, directory: Path) -> None:
        self._map = () if os.geteuid() == 0 else ("--map-root-user",)
        unshare = [needs("unshare"), "--mount", *self._map]
        if subprocess.run([*unshare, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False).returncode:
            pytest.skip("this user may not mount")
        self.data, self.disk_of_log = directory / "data", directory / "log"
        for disk in (self.data, self.disk_of_log):
            disk.mkdir()
        mounts = " && ".join(
            f"mount -t tmpfs -o size={ROOM},mode=0755 tmpfs {disk}" for disk in (self.data, self.disk_of_log)
        )
        script = f'{mounts} && exec "$@" 2>{self.disk_of_log}/stderr'
        service = Service(self.data, wrapper=[*unshare, "sh", "-c", script, "up"])
        self._root = Path(f"/proc/{service.process.pid}/root")
        service.data_dir = self._root / self.data.relative_to("/")
        super().__init__(service)

    @property
    def log(self) -> str:
        return (self._root / self.disk_of_log.relative_to("/") / "stderr").read_text(errors="replace")

    def doctor(self) -> dict[str, str]:
        done = self._inside(sys.executable, "-m", "engine.cli", "doctor", "--json", "--data-dir", self.data)
        return {each["name"]: each["said"] for each in json.loads(done.stdout) if each["verdict"] != Verdict.FINE}

    @contextmanager
    def full(self, disk: Path) -> Iterator[None]:
        """The disk is no larger than what it holds."""
        wait_until(lambda: self._resized(disk, self._used(disk)))
        try:
            yield
        finally:
            assert self._resized(disk, ROOM)

    def _used(self, disk: Path) -> str:
        return str(shutil.disk_usage(self._root / disk.relative_to("/")).used)

    def _resized(self, disk: Path, size: str) -> bool:
        return self._inside("mount", "-o", f"remount,size={size}", disk).returncode == 0

    def _inside(self, *words: object) -> subprocess.CompletedProcess[str]:
        users = ["--user", "--preserve-credentials"] if self._map else []
        command = [needs("nsenter"), "--target", self.service.process.pid, "--mount", *users, *words]
        return subprocess.run(
            [*map(str, command)], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
        )


class Outside(Watched):
    """Redis is a server of its own with the ACL of docs/deploy, whose clock can be moved."""

    def __init__(self, directory: Path, factory: pytest.TempPathFactory) -> None:
        if not FAKETIME:
            pytest.skip("libfaketime isn't installed")
        # Redis 7 is the one that forgets its AOF.
        made_of = Makeup(next(kind for kind in reversed(KINDS) if binary(kind)), guarded=True)
        (directory / "redis").mkdir()
        self.server = Server(directory / "redis", made_of)
        self.url = made_of.url(self.server.socket, SERVICE)
        try:
            more = {"STOCKADE_REDIS_URL": self.url, "STOCKADE_SNAPSHOT_SECONDS": "10"}
            service = Service(seed.plant(directory / "data", factory), more)
        except BaseException:
            self.server.kill()
            raise
        super().__init__(service)

    def stop(self) -> None:
        super().stop()
        self.server.kill()

    @property
    def redis(self) -> Any:
        return self.server.client

    def doctor(self) -> dict[str, str]:
        return alarms(examined(self.service.data_dir, {"STOCKADE_REDIS_URL": self.url}))

    @contextmanager
    def clock_at(self, seconds: int) -> Iterator[None]:
        """Redis's clock is that far off."""
        self.server.move_clock(seconds)
        try:
            yield
        finally:
            self.server.move_clock(0)
