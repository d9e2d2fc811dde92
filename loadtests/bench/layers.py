"""What each layer of a request costs: the same call, through one layer more each time."""

from __future__ import annotations

from loadtests.bench import calls, fronts, shop, web
from loadtests.bench.calls import Side
from loadtests.bench.report import Run, number, table

APPS = "loadtests.bench.layer_apps"


def layers(run: Run) -> None:
    """Processor time of the worker for each layer. The script itself runs in Redis, so it isn't part of this."""
    with shop.on_sale(run.kind) as url:
        given = shop.environment(url)
        with (
            fronts.flask("loadtests.bench.trivial:bare()", given) as bare,
            fronts.flask(web.HELLO, given) as hello,
            fronts.flask(f"{APPS}:until_schemas()", given) as schemas,
            fronts.flask(f"{APPS}:until_redis()", given) as redis,
            fronts.flask(web.SERVICE, given) as service,
        ):
            beside = [
                Side("Flask hello", hello, calls.reserve()),
                Side("a route of Flask's own in our app", schemas, calls.reserve(path="/layers/flask")),
            ]
            sides = [
                Side("gunicorn, bare WSGI", bare, calls.reserve()),
                Side("+ our app, token and key", schemas, calls.reserve(path="/layers/token"), 204),
                Side("+ schemas, fingerprint, id", schemas, calls.reserve()),
                Side("+ a trivial script", redis, calls.reserve()),
                Side("the whole service", service, calls.reserve()),
            ]
            found = calls.in_turn(run, "layers", beside + sides)
    rows, before_us = [("", "server µs", "more than before")], 0.0
    for side in sides:
        cpu_us = found[side.name].cpu
        rows.append((side.name, number(cpu_us), f"{cpu_us - before_us:+.0f}"))
        before_us = cpu_us
    rows += [(side.name, number(found[side.name].cpu), "") for side in beside]
    print(f"\n{table(rows)}", flush=True)
