"""The doctor: looks at the environment and the service, changes nothing, and says for each thing that it is fine or what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from engine import checks_machine, checks_postgres, checks_processes, checks_record, checks_redis, processes, store
from engine.checks import Check, to_do
from engine.config import from_environment
from engine.data_dir import PUBLISHED, DataDir
from engine.database import Connection
from engine.engine import Engine, build
from engine.errors import ConfigurationError, StoreUnavailable
from engine.server_kind import other_kind


def examine(data_dir: Path, given: Mapping[str, str]) -> Iterator[Check]:
    """Every check, in the order in which to mend what is off. `given` is the environment.

    Raises:
        ConfigurationError: there is no service to look at.
    """
    environment = DataDir(data_dir).environment(given)
    if "STOCKADE_REDIS_URL" not in environment:
        raise ConfigurationError(f"No service runs on {data_dir}; start stockade up, or set STOCKADE_REDIS_URL")
    try:
        settings = from_environment(environment, secrets_required=False)
    except ConfigurationError as error:
        yield to_do("settings", str(error))
        return
    # `up` has told this directory where its own servers are; others come from the environment.
    embedded = {variable for variable in PUBLISHED if not given.get(variable) and variable in environment}
    id_secret_given = bool(environment.get("STOCKADE_ID_SECRET"))
    yield from checks_machine.checks(
        checks_machine.look(settings, embedded=bool(embedded), id_secret_given=id_secret_given)
    )
    given_redis = "" if "STOCKADE_REDIS_URL" in embedded else DataDir(data_dir).noted_redis()
    yield from checks_processes.checks(processes.find(data_dir, settings.redis_url), given_redis)
    redis = store.client(settings)
    engine = build(settings, redis, watching=redis)
    try:
        if other := other_kind(redis):
            yield to_do("redis", other)
        else:
            yield from _of_redis(engine, "STOCKADE_REDIS_URL" in embedded)
        yield from _of_postgres(engine, "STOCKADE_DATABASE_URL" in embedded, has_record=not other)
    finally:
        redis.close()


def _of_redis(engine: Engine, embedded: bool) -> Iterator[Check]:
    try:
        yield from checks_redis.checks(checks_redis.look(engine.watch, engine.settings, embedded=embedded))
        yield from checks_record.checks(checks_record.look(engine))
    except StoreUnavailable as error:
        yield to_do("redis", f"{_why(error)}: start it, and mend STOCKADE_REDIS_URL or the rights of its user")


def _of_postgres(engine: Engine, embedded: bool, *, has_record: bool) -> Iterator[Check]:
    if not engine.settings.database_url:
        yield to_do("postgres", "STOCKADE_DATABASE_URL isn't set: without a ledger no payment is confirmed")
        return
    try:
        with engine.database.connect() as connection:
            yield from checks_postgres.checks(checks_postgres.look(connection, engine.settings, embedded=embedded))
            if has_record:
                yield from _of_record(engine, connection)
    except StoreUnavailable as error:
        yield to_do("postgres", f"{_why(error)}: start it, and mend STOCKADE_DATABASE_URL or the rights of its role")
    except ConfigurationError as error:
        yield to_do("postgres rights", str(error))


def _of_record(engine: Engine, connection: Connection) -> Iterator[Check]:
    try:
        engine.watch.now_ms()
    except StoreUnavailable:
        return  # What is wrong with Redis has been said.
    yield from checks_record.checks_of_record(checks_record.look_at_record(engine, connection))


def _why(error: StoreUnavailable) -> str:
    """In one line. Neither driver puts a password into its words."""
    return " ".join(f"{error}{f': {error.__cause__}' if error.__cause__ else ''}".split())
