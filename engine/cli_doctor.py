"""The commands that look after the environment: `stockade doctor` and `stockade migrate`."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import click

from engine import database as postgres
from engine.checks import Verdict
from engine.cli_service import data_dir_option, json_option
from engine.config import from_environment
from engine.data_dir import DataDir
from engine.doctor import examine
from engine.errors import ConfigurationError


@click.command("doctor")
@json_option
@data_dir_option
def doctor_command(as_json: bool, data_dir: Path) -> None:
    """Look at servers, settings, rights and secrets, and say what is to be done; exit 1 if anything is.

    It changes nothing. Run it with the environment of the process that it is about.
    """
    found = list(examine(data_dir, os.environ))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(check) for check in found]))
    else:
        width = max(len(check.name) for check in found)
        for check in found:
            click.echo(f"{check.verdict:9}  {check.name:{width}}  {check.said}")
    if any(check.verdict is Verdict.TO_DO for check in found):
        sys.exit(1)


@click.command("migrate")
@data_dir_option
def migrate_command(data_dir: Path) -> None:
    """Bring the schema in Postgres up to date, as the owner of its tables. To repeat it changes nothing."""
    environment = DataDir(data_dir).environment(os.environ)
    if "STOCKADE_DATABASE_URL" not in environment:
        raise ConfigurationError(f"No Postgres runs on {data_dir}; start stockade up, or set STOCKADE_DATABASE_URL")
    # Whoever migrates may know Postgres alone; Redis isn't asked.
    settings = from_environment({"STOCKADE_REDIS_URL": "redis://unused"} | environment, secrets_required=False)
    database = postgres.Database(settings)
    before = postgres.migrate(database)
    with database.connect() as connection, postgres.answering():
        gone = postgres.missing(connection)
    if gone:
        raise ConfigurationError(
            f"Postgres has schema {postgres.SCHEMA} without its {'table' if len(gone) == 1 else 'tables'} {', '.join(gone)}: "
            "bring Postgres back from its standby or its archive"
        )
    if before == postgres.SCHEMA:
        click.echo(f"schema {before}: nothing to do")
    else:
        click.echo(f"schema {before or 'none'} -> {postgres.SCHEMA}")


COMMANDS = (doctor_command, migrate_command)
