"""What it costs to be watched: metrics, the console and the log, each beside the service without."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from loadtests.bench import calls, fronts, shop, web
from loadtests.bench.calls import Side
from loadtests.bench.fronts import Front
from loadtests.bench.layers import APPS
from loadtests.bench.report import Run, Target

CONSOLE_SECONDS = 1.0
SCRAPE_EVERY = 15
"""Polls of the console to one of Prometheus, which is how often it asks unless told otherwise."""


def watching(run: Run) -> None:
    """Processor time of a worker for a reserve: alone, with metrics, with console and Prometheus asking, and with the log."""
    with shop.on_sale(run.kind) as url:
        given, quiet = shop.environment(url), shop.environment(url, STOCKADE_LOG_REQUESTS="0")
        with (
            fronts.flask(f"{APPS}:unwatched()", given) as nobody,
            fronts.flask(web.SERVICE, quiet) as counted,
            fronts.flask(web.SERVICE, quiet) as looked_at,
            fronts.flask(web.SERVICE, given) as logged,
            _asked(looked_at),
        ):
            sides = [
                Side("reserve, nothing counted", nobody, calls.reserve()),
                Side("+ metrics", counted, calls.reserve()),
                Side("+ console and Prometheus", looked_at, calls.reserve()),
                Side("metrics and log", logged, calls.reserve()),
            ]
            found = [each.cpu for each in calls.in_turn(run, "watching", sides, times=3).values()]
    alone, metrics, console, log = found
    run.compare("reserve with metrics / without", metrics, alone, "µs", Target(1.03, at_most=True))
    run.compare("reserve with metrics and console / without", console, alone, "µs", Target(1.03, at_most=True))
    run.compare("reserve with metrics and log / without", log, alone, "µs")


@contextmanager
def _asked(front: Front) -> Iterator[None]:
    """Ask like an open console, and like Prometheus."""
    over = threading.Event()
    token = shop.token("on-call", "ops")

    def ask() -> None:
        polls = 0
        while not over.wait(CONSOLE_SECONDS):
            polls += 1
            for path in ["/v1/overview", *(["/metrics"] if polls % SCRAPE_EVERY == 0 else [])]:
                connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=10)
                connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()
                connection.close()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()
