"""`make load`: run a scenario against HOST, or against a private service that is started and stopped here."""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import requests

from engine.data_dir import DataDir
from loadtests.defaults import SCENARIOS
from loadtests.parent import watch_make
from loadtests.service import Service, plain
from loadtests.thresholds import bounds

SCENARIO_FILES = Path(__file__).parent / "scenarios"
SERVICE_LOG = Path("build/load/service.log")
"""What a private service says, a line for each request."""

READY = "Stockade is ready at "
INTERRUPTED = 128 + signal.SIGINT
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Target:
    """The service under test. `pid` is that of a private one's `stockade up`, else 0."""

    host: str
    data_dir: Path
    pid: int = 0


@contextmanager
def private_service() -> Iterator[Target]:
    """A service of its own, on a free port, with its data in a directory that goes away."""
    with tempfile.TemporaryDirectory(prefix="stockade-load-") as directory:
        command = [sys.executable, "-m", "engine.cli", "up", "--port", "0", "--data-dir", directory]
        # In a session of its own, so that a Ctrl-C doesn't stop it before the verdict.
        SERVICE_LOG.parent.mkdir(parents=True, exist_ok=True)
        with SERVICE_LOG.open("wb") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            if not line.startswith(READY):
                sys.exit(f"the private service did not start; its words are in {SERVICE_LOG}")
            yield Target(line.removeprefix(READY), Path(directory), process.pid)
        finally:
            process.terminate()
            process.wait()


class _Interrupts:
    """How often this process was interrupted."""

    count = 0

    def __call__(self, *_: object) -> None:
        self.count += 1
        raise KeyboardInterrupt


_interrupts = _Interrupts()


def main() -> None:
    signal.signal(signal.SIGINT, _interrupts)
    watch_make(lambda: _interrupts.count > 0)
    # Each ends what was started here, too, on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    try:
        sys.exit(_run(_options()))
    except KeyboardInterrupt:
        print("verdict        interrupted, before any buyer came", flush=True)
        sys.exit(INTERRUPTED)


def _run(options: argparse.Namespace) -> int:
    if options.host:
        if options.kill:
            sys.exit("loadtests: KILL is for a private service; leave HOST out")
        return _locust(options, Target(options.host, Path(os.environ.get("STOCKADE_DATA_DIR", ".stockade"))))
    print("starting a private service", file=sys.stderr, flush=True)
    with private_service() as target:
        return _locust(options, target)


def _options() -> argparse.Namespace:
    parser = _Parser(prog="loadtests.run", description=__doc__)
    parser.add_argument("--scenario", default="baskets", type=_scenario, help=f"one of {', '.join(SCENARIOS)}")
    parser.add_argument(
        "--host", type=_address, help="the service's address; without one, a private service is started"
    )
    parser.add_argument("--users", type=whole(1), help="buyers at the same time; each scenario has its own default")
    parser.add_argument(
        "--time", type=seconds, help="how long it lasts: 90, 90s, 2m; each scenario has its own default"
    )
    parser.add_argument("--checkouts", type=whole(1), default=0, help="buyers in all; only baskets has a default")
    parser.add_argument("--seed", type=whole(0), default=1, help="decides what each buyer does")
    parser.add_argument(
        "--processes", type=whole(0), default=0, help="locust worker processes; 0: one process does it all"
    )
    parser.add_argument("--kill", default="", choices=["", "worker"], help="kill -9 one in the middle")
    parser.add_argument(
        "--threshold", action="append", default=[], metavar="NAME=VALUE", help="change one; or NAME=off"
    )
    parser.add_argument("--report", default="build/load", help="directory of the reports; empty for none")
    options = parser.parse_args()
    options.threshold = [change for words in options.threshold for change in words.split()]
    try:
        bounds(options.scenario, options.threshold)
    except ValueError as error:
        parser.error(str(error))
    return options


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"loadtests: {message}\n")


def whole(least: int) -> Callable[[str], int]:
    """What takes a whole number of at least this."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is no whole number from {least} on")
        return int(text)

    return number


def _address(text: str) -> str:
    if not re.match(r"https?://[^/]", text):
        raise argparse.ArgumentTypeError(f"{text} is no address; begin with http:// or https://")
    return text


def _scenario(name: str) -> str:
    name = name.replace("-", "_")
    if name not in SCENARIOS:
        raise argparse.ArgumentTypeError(f"there is no scenario {name}; there are {', '.join(SCENARIOS)}")
    return name


def seconds(text: str) -> int:
    """A time as locust takes it: 90, 90s, 2m, 1h30m.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    parts = re.findall(r"(\d+)([smh]?)", text)
    found = sum(int(number) * UNITS[unit] for number, unit in parts)
    if not found or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"{text} is no time; say 90, 90s, 2m or 1h30m")
    return found


def _must_answer(host: str) -> None:
    try:
        requests.get(f"{host.rstrip('/')}/readyz", timeout=10).raise_for_status()
    except requests.RequestException as error:
        sys.exit(f"loadtests: no Stockade is ready at HOST={host}: {plain(error)}")


def _must_admit(host: str, secret: str) -> None:
    try:
        Service(host, secret).check_secret()
    except requests.RequestException as error:
        sys.exit(f"loadtests: HOST={host}: {plain(error)}")


def _locust(options: argparse.Namespace, target: Target) -> int:
    if not target.pid:
        _must_answer(target.host)
    environment = DataDir(target.data_dir).environment(os.environ)
    if "STOCKADE_JWT_SECRET" not in environment:
        sys.exit(
            "loadtests: set STOCKADE_JWT_SECRET to the service's secret, or STOCKADE_DATA_DIR to its data directory"
        )
    if not target.pid:
        _must_admit(target.host, environment["STOCKADE_JWT_SECRET"])
    return _waited_for(_command(options, target), environment)


def _command(options: argparse.Namespace, target: Target) -> list[str]:
    defaults = SCENARIOS[options.scenario]
    users, lasts = str(options.users or defaults.users), options.time or defaults.seconds
    command = [sys.executable, "-m", "locust", "--locustfile", str(SCENARIO_FILES / f"{options.scenario}.py")]
    command += ["--headless", "--only-summary", "--loglevel", "ERROR", "--host", target.host]
    command += ["--users", users, "--spawn-rate", users, "--seed", str(options.seed), "--report", options.report]
    command += ["--checkouts", str(options.checkouts), "--service-pid", str(target.pid), "--kill", options.kill]
    command += ["--seconds", str(lasts)] if lasts else []
    if options.processes:
        port = str(_free_port())
        command += ["--processes", str(options.processes), "--master-bind-host", "127.0.0.1"]
        command += ["--master-bind-port", port, "--master-port", port]
    return [*command, "--threshold", " ".join(options.threshold)]


def _waited_for(command: list[str], environment: Mapping[str, str]) -> int:
    """Run locust to its own end. An interrupt is passed on once, and it still judges what has been; a second one kills.

    locust is in a process group of its own, so that a terminal's Ctrl-C doesn't reach its workers, whose records count.
    The signal is blocked until locust can take it: one that comes earlier waits, and isn't lost.
    """

    def pass_on(*_: object) -> None:
        _interrupts.count += 1
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL) if _interrupts.count > 1 else process.send_signal(signal.SIGINT)

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, process_group=0)
    before = signal.signal(signal.SIGINT, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        code = process.wait()
        return INTERRUPTED if _interrupts.count and code < 0 else code
    finally:
        signal.signal(signal.SIGINT, before)
        if process.poll() is None:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
