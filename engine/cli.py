"""The command `stockade`. Each command has its one job elsewhere; here are words, options and exit codes."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import click
from msgspec import to_builtins
from redis.exceptions import RedisError

from engine import cli_doctor, cli_levers, cli_repair, cli_stock, dry_run, log, meter, redis_cli, store, up, verify
from engine import database as postgres
from engine import keeper as keeping
from engine.acknowledged import Acknowledgement
from engine.audit import told
from engine.cli_service import complain, data_dir_option, engine_of, json_option, operator, settings_of
from engine.cli_skus import SKU, SkuCommand
from engine.config import from_environment
from engine.data_dir import DataDir
from engine.engine import Engine
from engine.errors import ConfigurationError, EngineError, NotFound, StoreUnavailable
from engine.ids import known_as
from engine.recovery import Need, Recovered, Recovery
from engine.snapshots import Snapshots
from engine.unfailing import withstand


@click.group()
@click.version_option(package_name="stockade")
def cli() -> None:
    """Stock reservations for flash sales."""


for lever in cli_levers.COMMANDS:
    cli.add_command(lever)


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
    settings = from_environment(environment)
    store.check(store.client(settings))
    postgres.check(postgres.Database(settings))
    command = up.gunicorn(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    os.chdir(up.ROOT)
    os.execve(command[0], command, environment)


@cli.command("keeper")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Where Prometheus finds what this keeper counts.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True)
@data_dir_option
def keeper_command(metrics_port: int | None, metrics_host: str, data_dir: Path) -> None:
    """Run a keeper alone: expiry, the ledger, snapshots, the recovery gate. It makes the schema when it starts."""
    withstand()
    log.configure()
    if metrics_port:
        meter.serve(metrics_host, metrics_port)
    keeping.run(engine_of(data_dir, certified=True))


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
    # Imported here: with its cryptography it is a tenth of what every other command would take to start.
    import jwt

    click.echo(jwt.encode({"sub": sub, "scope": scope, "exp": int(time.time()) + ttl}, secret, algorithm="HS256"))


@cli.command("known-as")
@click.argument("user")
@data_dir_option
def known_as_command(user: str, data_dir: Path) -> None:
    """Print the word that stands for a user in the log, where no names are."""
    click.echo(known_as(settings_of(data_dir, secrets_required=True).id_secret, user))


cli.add_command(cli_stock.stock)
cli.add_command(cli_repair.repair_command)


@cli.command("verify")
@click.option(
    "--acknowledge",
    metavar="REASON",
    callback=cli_levers.reason,
    help="Take note of what is wrong with the past, which nobody can change, and why; it is kept in Postgres.",
)
@json_option
@data_dir_option
def verify_command(acknowledge: str | None, as_json: bool, data_dir: Path) -> None:
    """Prove that the books are right, while sales go on; print what is off by name, and exit 1 if anything is.

    What the ledger tells of the past can be acknowledged; it doesn't count from then on. What is off now can't.
    """
    engine = engine_of(data_dir)
    by = Acknowledgement(operator().actor, acknowledge) if acknowledge else None
    report = verify.verify(engine.store, engine.database, engine.settings.retain_ms, by)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(report)))
    else:
        for problem in report.problems:
            click.echo(problem)
        past = f", and {len(report.acknowledged)} of the past that were acknowledged" if report.acknowledged else ""
        click.echo(
            f"{report.skus} SKUs, {report.live} live reservations, {report.orders} open orders, "
            f"{report.events} ledger events, snapshot {report.snapshot or 'none'}: {len(report.problems)} problems{past}"
        )
    if report.problems:
        sys.exit(1)


@cli.command("snapshot")
@json_option
@data_dir_option
def snapshot_command(as_json: bool, data_dir: Path) -> None:
    """Keep a snapshot in Postgres now, checked against the ledger; exit 1 if they differ."""
    engine = engine_of(data_dir)
    recovery = _recovery(engine)
    snapshot = _snapshots(engine, recovery).take()
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(snapshot)))
    else:
        for problem in snapshot.problems:
            click.echo(problem)
        click.echo(
            f"snapshot {snapshot.epoch}-{snapshot.seq}: {snapshot.skus} SKUs, {snapshot.reservations} live reservations, "
            f"{len(snapshot.problems)} problems"
        )
    if snapshot.problems:
        sys.exit(1)


@cli.command("restore")
@click.option("--dry-run", "rehearse", is_flag=True, help="Print what would change, and change nothing.")
@click.option("--force", is_flag=True, help="Give up what only Redis has, and make it anew from the ledger.")
@json_option
@data_dir_option
def restore_command(rehearse: bool, force: bool, as_json: bool, data_dir: Path) -> None:
    """Compare Redis with the ledger in Postgres, put back what is missing, and open the gate.

    What is safe the keeper does by itself. Where Redis and the ledger contradict each other a person must decide: with
    --force Redis is made anew, and what it has that the ledger hasn't is lost. While the gate is open nothing is
    touched without --force; whether Redis holds what the ledger says is compared hash by hash.
    """
    # Its log goes to standard error, so that standard output has nothing but the outcome.
    log.configure()
    engine = engine_of(data_dir)
    recovery = _recovery(engine)
    finding = dry_run.found(engine, recovery)
    is_open, why = recovery.certified(), f"by force ({finding.why})" if force else finding.why
    touches_nothing = is_open and finding.need is Need.CERTIFY and not force
    changes = dry_run.changes(engine, recovery, finding) if rehearse or touches_nothing else []
    if rehearse:
        outcome = dry_run.outcome(engine, finding, changes, force=force, is_open=is_open)
    elif finding.need is Need.DECISION and not force:
        raise ConfigurationError(f"{why}. See --dry-run; --force gives up what only Redis has")
    elif touches_nothing and changes:
        raise ConfigurationError(
            f"{why}, but Redis isn't what the ledger says: {dry_run.summed_up(changes)}. See --dry-run; --force makes Redis anew"
        )
    elif touches_nothing:
        outcome = "nothing to do; the gate is open"
    else:
        recovered = recovery.rebuild(replace(finding, why=why)) if force else recovery.recover()
        if not isinstance(recovered, Recovered):
            raise ConfigurationError(recovered.why)
        # The newest one may be of what was just given up.
        _snapshots(engine, recovery).take()
        outcome = f"restored {recovered.reservations} reservations and {recovered.skus} SKUs; the gate is open"
    if as_json:
        need = Need.REBUILD if force else finding.need
        document = {"need": need, "why": why, "outcome": outcome, "changes": dry_run.shown(changes)}
        click.echo(json.dumps(document))
        return
    for change in dry_run.shown(changes):
        click.echo(change)
    click.echo(f"{why}: {outcome}")


@cli.command("explain", cls=SkuCommand)
@click.argument("name", metavar="RESERVATION|SKU", type=SKU)
@json_option
@data_dir_option
def explain_command(name: str, as_json: bool, data_dir: Path) -> None:
    """Tell the story of a reservation or a SKU, line by line, from the ledger."""
    engine = engine_of(data_dir)
    audit, found = engine.audit, False
    missing = audit.catch_up()
    for event in audit.story(name):
        found = True
        click.echo(json.dumps(to_builtins(event)) if as_json else told(event))
    if not found:
        so_far = f", as far as Postgres has it ({missing})" if missing else ""
        hurt = _hurt(engine)
        raise NotFound(f"The ledger{so_far} knows neither a reservation nor a SKU called {name}{hurt}")
    if missing:
        click.echo(f"stockade: the latest events may be missing: {missing}", err=True)


@cli.command("redis-cli", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@data_dir_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def redis_cli_command(arguments: tuple[str, ...], data_dir: Path) -> None:
    """Open redis-cli or valkey-cli on the server in use. Where neither is installed, Stockade does the same by itself.

    A server that doesn't answer a PING within three times STOCKADE_REDIS_TIMEOUT_MS is reported, and not waited for.
    """
    settings = settings_of(data_dir)
    patience_s = (store.RETRIES + 1) * settings.redis_timeout_ms / 1000
    sys.exit(redis_cli.run(settings.redis_url, arguments, os.environ, patience_s))


for command in cli_doctor.COMMANDS:
    cli.add_command(command)


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
        because = f": {error.__cause__}" if isinstance(error, StoreUnavailable) and error.__cause__ else ""
        _fail((str(error) or getattr(error, "code", "")) + because, 1)
    except OSError as error:
        _fail(str(error), 1)
    except UnicodeError:
        _fail("What was given isn't text", 2)
    except click.exceptions.Abort:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(text: str, code: int) -> None:
    complain(text)
    sys.exit(code)


def _hurt(engine: Engine) -> str:
    """What else has to be known where the ledger doesn't know something."""
    try:
        problems = engine.watch.glance().problems
    except EngineError:
        return ""
    damaged = problems is not None and problems.count
    return "; but the record is damaged: look in Redis, too, with lua/look/reservation.lua" if damaged else ""


def _snapshots(engine: Engine, recovery: Recovery) -> Snapshots:
    return Snapshots(engine.database, engine.store, recovery.writer, recovery.projection, engine.settings.retain_ms)


def _recovery(engine: Engine) -> Recovery:
    return Recovery(engine.database, engine.store, engine.scripts, engine.settings.retain_ms)


if __name__ == "__main__":
    main()
