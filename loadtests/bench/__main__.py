"""python -m loadtests.bench [NAME …] [--quick]: all measurements, or those named. See `MEASUREMENTS`."""

from __future__ import annotations

import argparse
import importlib
import inspect
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from loadtests import servers
from loadtests.bench.report import DIRECTORY, Run

MEASUREMENTS = {
    "ceiling": "ceiling",
    "http": "web",
    "batch": "web",
    "servers": "web",
    "beside": "beside",
    "fastapi": "web",
    "postgres": "web",
    "whole": "web",
    "layers": "layers",
    "watching": "watched",
    "scripts": "scripts",
    "persistence": "scripts",
    "stores": "scripts",
    "engine": "inside",
    "holds": "inside",
    "memory": "memory",
    "returns": "expiry",
    "storm": "expiry",
    "ingest": "record",
    "restore": "record",
}
"""Each is a function of that name in the module named, imported when it's asked for."""


def measurement(name: str) -> Callable[[Run], None]:
    module = importlib.import_module(f"loadtests.bench.{MEASUREMENTS[name]}")
    found: Callable[[Run], None] = getattr(module, {"servers": "servers_of_http"}.get(name, name))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    said = [f"  {name:12} {(inspect.getdoc(measurement(name)) or '').splitlines()[0]}" for name in MEASUREMENTS]
    parser = argparse.ArgumentParser(
        prog="loadtests.bench",
        description="Measure, on private servers.\n\n" + "\n".join(said),
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("what", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--quick", action="store_true", help="a look at whether it works; the figures mean nothing")
    parser.add_argument("--server", choices=servers.KINDS, default="redis" if servers.binary("redis") else "valkey")
    parser.add_argument("--into", type=Path, default=DIRECTORY, help=f"directory for the figures, {DIRECTORY}")
    options = parser.parse_args(arguments)
    if unknown := set(options.what) - set(MEASUREMENTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}")
    # So that the servers are stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    run = Run(options.server, options.quick)
    for name in options.what or MEASUREMENTS:
        measurement(name)(run)
    print(f"\nRatios{', of a quick run: they mean nothing' if run.quick else ''}\n{run.ratios()}")
    print(f"\nAll figures: {run.write(options.into)}")


if __name__ == "__main__":
    main()
