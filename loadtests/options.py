"""Options that every scenario has beside locust's own."""

from __future__ import annotations

from argparse import ArgumentParser


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--checkouts", type=int, default=0, help="How many buyers come, in all; 0: as the scenario has it"
    )
    parser.add_argument(
        "--seconds", type=float, default=0, help="How long buyers come, the loading of stock not counted; 0: --run-time"
    )
    parser.add_argument("--seed", default="1", help="Decides what each buyer does")
    parser.add_argument(
        "--report", default="build/load", help="Directory to write the report to; empty for none", metavar="DIR"
    )
    parser.add_argument(
        "--threshold", default="", metavar="NAME=VALUE …", help="Change thresholds; NAME=off has one not fail the run"
    )
    # Set by `make load` for a private service, and by the master at each start for its workers.
    internal = {"--kill": str, "--service-pid": int, "--run-name": str, "--run-workers": int}
    internal |= {"--run-seconds": float, "--run-started-ms": float}
    for name, kind in internal.items():
        parser.add_argument(name, type=kind, default=kind(), help="Internal", include_in_web_ui=False)
