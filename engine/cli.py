"""The command `stockade`. Each command has its one job elsewhere; here are words, options and exit codes."""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import click
import jwt
from redis.exceptions import RedisError

from engine import keeper as keeping
from engine import log, stock_file, store, up, verify
from engine.config import Settings, from_environment
from engine.data_dir import DataDir
from engine.engine import Engine, build
from engine.errors import ConfigurationError, EngineError
from engine.values import Operation, Origin

data_dir_option = click.option(
    "--data-dir",
    default=".stockade",
    show_default=True,
    envvar="STOCKADE_DATA_DIR",
    type=click.Path(path_type=Path),
    help="Where `stockade up` keeps its data and secrets.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
@click.version_option(package_name="stockade")
def cli() -> None:
    """Stock reservations for flash sales."""


@cli.command("up")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--workers", type=click.IntRange(1, 256), help="API processes; default: STOCKADE_WORKERS, or one a core.")
@data_dir_option
def up_command(host: str, port: int, workers: int | None, data_dir: Path) -> None:
    """Run the whole service: Postgres and Redis (embedded, unless their URLs are set), keeper and API."""
    up.up(DataDir(data_dir), host, port, workers, os.environ)


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--workers", type=click.IntRange(1, 256), help="Processes; default: STOCKADE_WORKERS, or one a core.")
@data_dir_option
def api(host: str, port: int, workers: int | None, data_dir: Path) -> None:
    """Run the API alone, under gunicorn."""
    environment = up.absolute(DataDir(data_dir).environment(os.environ))
    if workers:
        environment["STOCKADE_WORKERS"] = str(workers)
    store.check(store.client(from_environment(environment)))
    command = up.gunicorn(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    os.chdir(up.ROOT)
    os.execve(command[0], command, environment)


@cli.command("keeper")
@data_dir_option
def keeper_command(data_dir: Path) -> None:
    """Run a keeper alone: it ends holds whose time has run out."""
    log.configure()
    settings = _settings(data_dir)
    keeping.run(build(settings, store.client(settings)))


@cli.command()
@click.option("--sub", required=True, help="Who the token is for.")
@click.option("--scope", required=True, help='Space-separated: "customer", "storefront", "payments", "ops".')
@click.option("--ttl", default=3600, show_default=True, type=click.IntRange(min=1), help="Seconds until it expires.")
@data_dir_option
def token(sub: str, scope: str, ttl: int, data_dir: Path) -> None:
    """Print a JWT, signed with STOCKADE_JWT_SECRET or the data directory's secret."""
    secret = DataDir(data_dir).environment(os.environ).get("STOCKADE_JWT_SECRET")
    if not secret:
        raise ConfigurationError(f"There is no STOCKADE_JWT_SECRET, and no secret in {data_dir}; stockade up makes one")
    click.echo(jwt.encode({"sub": sub, "scope": scope, "exp": int(time.time()) + ttl}, secret, algorithm="HS256"))


@cli.group()
def stock() -> None:
    """Load and show stock."""


@stock.command("load")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@data_dir_option
def stock_load(file: Path, as_json: bool, data_dir: Path) -> None:
    """Create SKUs or recount them from a CSV file: sku,on_hand[,name,limit_per_customer]."""
    rows = stock_file.read(file)
    engine = _engine(data_dir)
    origin = Origin(actor=f"cli:{getpass.getuser()}")
    new, refused = 0, []
    for row in rows:
        try:
            new += engine.stock.configure(row.sku, row.on_hand, row.attributes, origin, Operation())[1]
        except EngineError as error:
            refused.append({"line": row.number, "sku": row.sku, "code": error.code, "detail": str(error)})
    changed = len(rows) - new - len(refused)
    if as_json:
        click.echo(json.dumps({"new": new, "changed": changed, "refused": refused}))
    else:
        click.echo(f"{new} SKUs new, {changed} changed, {len(refused)} refused")
    if refused:
        first = refused[0]
        raise ConfigurationError(
            f"{len(refused)} refused, first line {first['line']} ({first['sku']}): {first['detail'] or first['code']}"
        )


@stock.command("show")
@click.argument("skus", nargs=-1)
@json_option
@data_dir_option
def stock_show(skus: tuple[str, ...], as_json: bool, data_dir: Path) -> None:
    """Show the counters of the SKUs named, or of all."""
    engine = _engine(data_dir)
    found = [engine.stock.get(sku) for sku in skus] if skus else _all_skus(engine)
    if as_json:
        click.echo(json.dumps([_without(dataclasses.asdict(sku), "replayed") for sku in found]))
        return
    width = max([3, *(len(sku.sku) for sku in found)])
    click.echo(f"{'SKU':{width}} {'on_hand':>11} {'available':>11} {'reserved':>11} {'allocated':>11}")
    for sku in found:
        click.echo(f"{sku.sku:{width}} {sku.on_hand:>11} {sku.available:>11} {sku.reserved:>11} {sku.allocated:>11}")


@cli.command("verify")
@click.option(
    "--pause", is_flag=True, help="Let writes wait during the walk, at most 10 s, so that a busy store holds still."
)
@json_option
@data_dir_option
def verify_command(pause: bool, as_json: bool, data_dir: Path) -> None:
    """Prove that the books are right; print what is off by name, and exit 1 if anything is."""
    report = verify.verify(_engine(data_dir).store, pause)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report)))
    else:
        for problem in report.problems:
            click.echo(problem)
        click.echo(
            f"{report.skus} SKUs, {report.live} live reservations, {report.orders} open orders, "
            f"{report.events} ledger events: {len(report.problems)} problems"
        )
    if not report.still:
        raise ConfigurationError("Stock changed during every walk, so this is no proof; use --pause")
    if report.problems:
        sys.exit(1)


@cli.command("redis-cli", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@data_dir_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def redis_cli(arguments: tuple[str, ...], data_dir: Path) -> None:
    """Open redis-cli (or valkey-cli) on the server in use."""
    binary = shutil.which("redis-cli") or shutil.which("valkey-cli")
    if binary is None:
        raise ConfigurationError("Neither redis-cli nor valkey-cli is installed; Debian has it in redis-tools")
    options, environment = _redis_cli_options(_settings(data_dir).redis_url)
    os.execve(binary, [binary, *options, *arguments], os.environ | environment)


def main() -> None:
    """Every error is one line on stderr: exit 2 for a wrong command line, 1 for the rest."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.UsageError as error:
        _fail(error.format_message(), 2)
    except (ConfigurationError, EngineError, RedisError) as error:
        _fail(str(error) or getattr(error, "code", ""), 1)
    except click.exceptions.Abort:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(text: str, code: int) -> None:
    click.echo("stockade: " + " ".join(text.split()), err=True)
    sys.exit(code)


def _settings(data_dir: Path) -> Settings:
    environment = DataDir(data_dir).environment(os.environ)
    if "STOCKADE_REDIS_URL" not in environment:
        raise ConfigurationError(f"No service runs on {data_dir}; start stockade up, or set STOCKADE_REDIS_URL")
    return from_environment(environment, secrets_required=False)


def _engine(data_dir: Path) -> Engine:
    settings = _settings(data_dir)
    return build(settings, store.client(settings))


def _all_skus(engine: Engine) -> list[Any]:
    found: list[Any] = []
    while page := engine.stock.page(found[-1].sku if found else "", 1_000):
        found += page
    return found


def _without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


def _redis_cli_options(url: str) -> tuple[list[str], dict[str, str]]:
    """The password goes through the environment: a command line is for everyone to see."""
    parts = urlparse(url)
    options = (
        ["-s", unquote(parts.path)]
        if parts.scheme == "unix"
        else ["-h", parts.hostname or "localhost", "-p", str(parts.port or 6379)]
    )
    database = "" if parts.scheme == "unix" else parts.path.strip("/")
    if database:
        options += ["-n", database]
    if parts.scheme == "rediss":
        options.append("--tls")
    if parts.username:
        options += ["--user", unquote(parts.username)]
    return options, {"REDISCLI_AUTH": unquote(parts.password)} if parts.password else {}


if __name__ == "__main__":
    main()
