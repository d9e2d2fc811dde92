"""`make load`: run the locust scenario against HOST, or against a private service that is started and stopped here."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from engine.data_dir import DataDir

SCENARIO = Path(__file__).parent / "locustfile.py"
READY = "Stockade is ready at "


@contextmanager
def private_service() -> Iterator[tuple[str, Path]]:
    """A service of its own, on a free port, with its data in a directory that goes away. Gives address and directory."""
    with tempfile.TemporaryDirectory(prefix="stockade-load-") as directory:
        command = [sys.executable, "-m", "engine.cli", "up", "--port", "0", "--data-dir", directory]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            if not line.startswith(READY):
                sys.exit("the private service did not start; its words are above")
            yield line.removeprefix(READY), Path(directory)
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="loadtests.run", description=__doc__)
    parser.add_argument("--host", help="the service's address; without one, a private service is started")
    parser.add_argument("--users", default="32", help="buyers at the same time")
    parser.add_argument("--checkouts", default="6000", help="buyers in all")
    parser.add_argument("--seed", default="1", help="decides what each buyer does")
    options = parser.parse_args()
    # Ends the locust that was started here, too: subprocess.run kills it on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.host:
        _must_answer(options.host)
        sys.exit(_locust(options, options.host, Path(os.environ.get("STOCKADE_DATA_DIR", ".stockade"))))
    with private_service() as (host, directory):
        code = _locust(options, host, directory)
    sys.exit(code)


def _must_answer(host: str) -> None:
    try:
        requests.get(f"{host.rstrip('/')}/readyz", timeout=10).raise_for_status()
    except requests.RequestException as error:
        sys.exit(f"loadtests: no Stockade is ready at HOST={host}: {error}")


def _locust(options: argparse.Namespace, host: str, data_dir: Path) -> int:
    environment = DataDir(data_dir).environment(os.environ)
    if "STOCKADE_JWT_SECRET" not in environment:
        sys.exit(
            "loadtests: set STOCKADE_JWT_SECRET to the service's secret, or STOCKADE_DATA_DIR to its data directory"
        )
    command = [
        sys.executable,
        "-m",
        "locust",
        "--locustfile",
        str(SCENARIO),
        "--headless",
        "--only-summary",
        "--host",
        host,
    ]
    command += ["--users", options.users, "--spawn-rate", options.users, "--loglevel", "WARNING"]
    command += ["--checkouts", options.checkouts, "--seed", options.seed]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    main()
