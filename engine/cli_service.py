"""What the commands share: where the service is, who asks, and the options for it."""

from __future__ import annotations

import getpass
import os
from dataclasses import replace
from pathlib import Path

import click

from engine import store
from engine.config import Settings, from_environment
from engine.data_dir import DataDir
from engine.engine import Engine, build
from engine.errors import ConfigurationError
from engine.server_kind import refuse_other_kinds
from engine.store import Store
from engine.values import Origin

data_dir_option = click.option(
    "--data-dir",
    default=".stockade",
    show_default=True,
    envvar="STOCKADE_DATA_DIR",
    type=click.Path(path_type=Path),
    help="Where `stockade up` keeps its data and secrets.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def complain(text: str) -> None:
    """Print an error as one line on stderr."""
    click.echo("stockade: " + " ".join(line.strip() for line in text.splitlines()), err=True)


def settings_of(data_dir: Path, *, secrets_required: bool = False) -> Settings:
    environment = DataDir(data_dir).environment(os.environ)
    if "STOCKADE_REDIS_URL" not in environment:
        raise ConfigurationError(f"No service runs on {data_dir}; start stockade up, or set STOCKADE_REDIS_URL")
    return from_environment(environment, secrets_required=secrets_required)


def engine_of(data_dir: Path, *, certified: bool = False) -> Engine:
    """Raises: ConfigurationError: the settings can't work, or the server isn't of a kind that can."""
    settings = settings_of(data_dir)
    watching = store.client(settings)
    refuse_other_kinds(watching)
    return build(settings, store.client(settings, certified=certified), watching=watching)


def lever_engine_of(data_dir: Path) -> Engine:
    """For what changes something by hand. It looks with STOCKADE_REDIS_URL, and writes with STOCKADE_LEVERS_REDIS_URL.

    Raises:
        ConfigurationError: the two lead to two servers.
    """
    settings = settings_of(data_dir)
    writing = replace(settings, redis_url=settings.levers_redis_url)
    watching = store.client(settings)
    refuse_other_kinds(watching)
    engine = build(writing, store.client(writing, certified=True), watching=watching)
    if writing != settings:
        own = store.client(writing)
        refuse_other_kinds(own, "STOCKADE_LEVERS_REDIS_URL")
        if Store(own, engine.watch.keys).run_id() != engine.watch.run_id():
            raise ConfigurationError("STOCKADE_LEVERS_REDIS_URL leads to another Redis than STOCKADE_REDIS_URL")
    return engine


def operator(request_id: str = "") -> Origin:
    """Who sits at this command line, for the ledger."""
    return Origin(f"cli:{getpass.getuser()}", request_id)
