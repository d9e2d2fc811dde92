"""The Redis under attack: a master with an AOF and a lagging replica behind one address, both private to the run."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from loadtests.servers import binary
from tests.waiting import wait_until

OPTIONS = ["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]
OPTIONS += ["--notify-keyspace-events", "Ex", "--hash-max-listpack-value", "1024", "--loglevel", "warning"]


class Server:
    """One server in a directory of its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.socket = directory / "redis.sock"
        self._options = list(options)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = [str(binary("valkey")), *OPTIONS, "--unixsocket", str(self.socket), "--dir", str(self.directory)]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, *self._options], stdout=log, stderr=log)
        wait_until(self._answers, 60)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def send(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)

    @property
    def client(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket), decode_responses=True, socket_timeout=10)

    @property
    def tail(self) -> Path:
        """The file that the latest commands were appended to."""
        return max((self.directory / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False


class Pair:
    """A master and its replica. `url` is one address for whichever is in use, as a proxy or a floating IP would be."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = 0
        self._address = directory / "in-use.sock"
        self.master = self._new()
        self.replica: Server | None = None
        self._use(self.master)

    @property
    def url(self) -> str:
        return f"unix://{self._address}"

    def replicate(self) -> Server:
        """Give the master a replica that has everything."""
        port = self.master.client.config_get("port")["port"]
        if port == "0":
            self.master.client.config_set("bind", "127.0.0.1")
            self.master.client.config_set("port", free_port())
        address = self.master.client.config_get("port")["port"]
        replica = self._new()
        replica.client.replicaof("127.0.0.1", int(address))
        wait_until(lambda: replica.client.info("replication").get("master_link_status") == "up", 60)
        self.replica = replica
        return replica

    def promote(self) -> None:
        """The replica becomes the master, as it is."""
        assert self.replica is not None
        self.replica.client.replicaof("NO", "ONE")
        self._use(self.replica)
        self.master, self.replica = self.replica, None

    def replace(self) -> None:
        """A new machine with nothing on it."""
        shutil.rmtree(self.master.directory / "appendonlydir")
        self.master.start()

    def stop(self) -> None:
        for server in (self.master, self.replica):
            if server and server.process and server.process.poll() is None:
                server.kill()

    def _new(self) -> Server:
        self._number += 1
        return Server(self._directory / f"redis-{self._number}")

    def _use(self, server: Server) -> None:
        link = self._address.with_suffix(".new")
        link.symlink_to(server.socket)
        link.replace(self._address)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
