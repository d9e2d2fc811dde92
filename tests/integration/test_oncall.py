"""Who is on call, with the users and roles of docs/deploy, may do what the runbook says, and write nothing past it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from threading import Thread
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from redis.exceptions import ResponseError

from engine import cli
from engine.engine import build
from engine.keeper import Keeper
from engine.store import client
from tests import books, servers
from tests.books import lines
from tests.command.pages import Command, commands
from tests.conftest import SECRETS, emptied, settings
from tests.integration.guarded import API, KEEPER, LEVERS, ONCALL, Guarded
from tests.integration.shops import NO_KEY, OPS, buyer
from tests.integration.test_acl import KINDS
from tests.integration.test_roles import ONCALL as READER
from tests.integration.test_roles import SERVICE, as_role, grant
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
TYPED = [each for each in commands((ROOT / "docs" / "RUNBOOK.md").read_text()) if "stockade " in each.text]
BY_ADMINISTRATORS = {"CONFIG SET"}
"""Of Redis: the table in "Getting in" says so."""

BY_THE_SERVICE = {"keeper", "snapshot", "restore", "repair"}
"""With stockade-keeper, and stockade_service or the owner of the tables: that table says so."""


@dataclass
class OnCall:
    """A shop that sells, as somebody on call sees it: what to put for the page's names, and the shell's environment."""

    redis: Guarded
    names: dict[str, str]
    environment: dict[str, str]

    def run(self, *words: str, **more: str) -> Result:
        ours: dict[str, str | None] = dict.fromkeys(name for name in os.environ if name.startswith("STOCKADE_"))
        return CliRunner().invoke(cli.cli, words, env=ours | self.environment | more)


@pytest.fixture(scope="module", params=servers.KINDS[:1])
def oncall(
    request: pytest.FixtureRequest, with_schema: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OnCall]:
    # Of what other tests have left in it.
    grant(emptied(with_schema))
    redis = Guarded(request.param, tmp_path_factory.mktemp("acl") / "users.acl")
    service = settings(redis.url_of(KEEPER), STOCKADE_DATABASE_URL=as_role(with_schema, SERVICE))
    watched = build(service, client(service, certified=True), watching=client(service))
    keeper = Keeper(watched)
    working = Thread(target=keeper.run, daemon=True)
    working.start()
    try:
        wait_until(lambda: watched.gate() == "open")
        # The keys that a keeper writes after a while are there, too.
        wait_until(lambda: (glance := watched.watch.glance()).units and glance.problems)
        environment = SECRETS | {
            "STOCKADE_REDIS_URL": redis.url_of(ONCALL),
            "STOCKADE_LEVERS_REDIS_URL": redis.url_of(LEVERS),
            "STOCKADE_DATABASE_URL": as_role(with_schema, READER),
        }
        yield OnCall(redis, _sale(redis, service.database_url), environment)
    finally:
        keeper.stop()
        working.join(10)
        redis.kill()
        redis.directory.cleanup()


def _sale(redis: Guarded, database_url: str) -> dict[str, str]:
    given = settings(redis.url_of(API), STOCKADE_DATABASE_URL=database_url)
    api = build(given, client(given, certified=True), watching=client(given))
    api.stock.configure("sneaker-42", 20, {}, OPS, NO_KEY)
    held, more, paid, gone = (
        api.reservations.reserve(buyer(user), lines("sneaker-42=2"), 900).id
        for user in ("ann", "mallory", "bob", "carol")
    )
    api.reservations.commit(paid, OPS, "pay-1", NO_KEY)
    names = {"K": "stk:{p0}", "SKU": "sneaker-42", "USER": "olga", "ID": held, "HELD": held, "PAID": paid, "GONE": gone}
    return names | {"MORE": more}


def words_of(command: Command, names: Mapping[str, str]) -> list[str]:
    """The words after `stockade`, without what the shell does with them."""
    text = Template(command.text.partition("stockade ")[2]).safe_substitute(names).replace("${USER:-on-call}", "olga")
    return shlex.split(text.partition(" | ")[0].partition(" >")[0].partition(")")[0])


def test_on_call_may_run_every_command_of_the_runbook(oncall: OnCall) -> None:
    ran, left = set(), set()
    redis: Any = client(settings(oncall.redis.url_of(ONCALL)))
    for command in TYPED:
        name, *words = words_of(command, oncall.names)
        if name != "redis-cli":
            if name in BY_THE_SERVICE:
                left.add(name)
                continue
            result = oncall.run(name, *words)
            # A doctor whose patient is a test's server has advice.
            assert result.exit_code == 0 or name == "doctor", f"{command.text}: {result.output} {result.exception}"
            ran.add(name)
        elif words[0] == "--eval":
            comma = words.index(",") if "," in words else len(words)
            keys, arguments = words[2:comma], words[comma + 1 :]
            assert redis.eval((ROOT / words[1]).read_text(), len(keys), *keys, *arguments)
        elif " ".join(words[:2]) in BY_ADMINISTRATORS:
            left.add(" ".join(words[:2]))
            with pytest.raises(ResponseError, match="permission"):
                redis.execute_command(*words)
        else:
            redis.execute_command(*words)
    assert left == BY_ADMINISTRATORS | BY_THE_SERVICE
    assert ran == {
        *("verify", "doctor", "explain", "token", "known-as", "stock"),
        *("pause", "resume", "release", "recount", "default-hold"),
    }
    admin = oncall.redis.admin
    assert {entry["object"] for entry in admin.acl_log()} <= {"config|set", "config|get"}


def test_whatever_has_json_to_show_shows_it(oncall: OnCall) -> None:
    held, why = oncall.names["HELD"], ("--reason", "why", "--dry-run")
    examples = {
        "doctor": (),
        "explain": (held,),
        "verify": (),
        "stock show": (),
        "pause": ("sneaker-42", *why),
        "resume": ("sneaker-42", *why),
        "release": (held, *why),
        "recount": ("sneaker-42", "30", *why),
        "default-hold": ("300", *why),
    }
    has_json = {
        name for name, command in _commands(cli.cli) if any("--json" in option.opts for option in command.params)
    }
    assert examples.keys() == has_json - BY_THE_SERVICE - {"stock load"}, (
        "those left out write, and are shown elsewhere"
    )
    for name, words in examples.items():
        result = oncall.run(*name.split(), *words, "--json")
        assert result.exception is None or isinstance(result.exception, SystemExit), f"{name}: {result.exception}"
        assert all(json.loads(line) for line in result.stdout.splitlines()), name
        assert result.stdout, name


def _commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def test_on_call_may_write_no_key_of_any_kind_with_any_command(oncall: OnCall) -> None:
    admin = oncall.redis.admin
    before = books.dump(admin)
    writes = [
        str(name) for category in ("write", "dangerous") for name in admin.execute_command("ACL", "CAT", category)
    ]
    assert len(writes) > 90
    key = KINDS["sku"].replace("*", "sneaker-42")
    may = {name for name in writes if _may(admin, name, key)}
    # They count as dangerous for what they show; none writes.
    shows = {"info", "role", "lastsave", "slowlog|get", "slowlog|len", "client|list", "acl|dryrun"}
    assert may - shows == {f"latency|{word}" for word in ("latest", "history", "doctor", "histogram")}
    redis: Any = client(settings(oncall.redis.url_of(ONCALL)))
    scripts = [
        f"return redis.call('{command}', KEYS[1], {arguments})"
        for command, arguments in (("HSET", "'a', '1'"), ("SET", "'1'"), ("XADD", "'*', 'a', '1'"), ("ZADD", "1, 'a'"))
    ]
    for kind in KINDS.values():
        name = kind.replace("*", "sneaker-42")
        for script in [*scripts, "return redis.call('DEL', KEYS[1])", "return redis.call('PERSIST', KEYS[1])"]:
            with pytest.raises(ResponseError, match=r"(?i)acl|permission"):
                redis.eval(script, 1, name)
    assert books.dump(admin).keys() == before.keys()


def _may(admin: Any, command: str, key: str) -> bool:
    """Whether the user on call may run it, with as many words as it wants."""
    for count in range(9):
        try:
            said = str(admin.execute_command("ACL", "DRYRUN", ONCALL, *command.split("|"), *[key] * count))
        except ResponseError as error:
            if "wrong number" not in str(error):
                raise
        else:
            return said == "OK"
    raise AssertionError(f"{command} takes more words than that")


def test_a_lever_that_leads_to_another_redis_is_refused(oncall: OnCall, server: str) -> None:
    result = oncall.run("pause", "--reason", "fire", STOCKADE_LEVERS_REDIS_URL=server)
    assert str(result.exception) == "STOCKADE_LEVERS_REDIS_URL leads to another Redis than STOCKADE_REDIS_URL"
    assert oncall.redis.admin.hget("stk:{p0}:meta", "selling_paused") != "1"


def test_without_the_levers_user_nothing_is_written(oncall: OnCall) -> None:
    result = oncall.run("pause", "--reason", "fire", STOCKADE_LEVERS_REDIS_URL="")
    assert result.exit_code == 1
    assert oncall.redis.admin.hget("stk:{p0}:meta", "selling_paused") != "1"
