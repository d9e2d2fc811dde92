"""A server with docs/deploy/redis.acl is killed and loads its AOF: everything is there, and nobody gets in as `default`."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from engine import checks_redis
from engine.checks import Verdict
from engine.engine import Engine, build
from engine.keys import Keys
from engine.pipe import ONCE
from engine.recovery import Recovered
from engine.replay import REPLAYED
from engine.scripts import sources
from engine.store import Store, client
from tests import books, servers
from tests.books import lines
from tests.conftest import settings
from tests.integration.guarded import API, DEPLOY, FIRST_LINE, FORMER_FIRST_LINE, KEEPER, ONCALL, PASSWORD, Guarded
from tests.integration.shops import OPS, History, Shop, buyer, open_shop
from tests.programs import needs
from tests.waiting import wait_until

PAGE = (DEPLOY / "README.md").read_text()


@pytest.fixture(params=servers.KINDS)
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    if request.param == "redis":
        needs("redis-server")
    redis = Guarded(request.param, tmp_path / "users.acl")
    yield redis
    redis.kill()
    redis.directory.cleanup()


def keeper_of(guarded: Guarded, books_url: str) -> Shop:
    shop = open_shop(guarded.url_of(KEEPER), books_url)
    assert isinstance(shop.recovery.recover(), Recovered)
    return shop


def api_of(guarded: Guarded, books_url: str) -> Engine:
    given = settings(guarded.url_of(API), STOCKADE_DATABASE_URL=books_url)
    return build(given, client(given, certified=True), watching=client(given))


def test_reservations_and_carts_that_postgres_never_saw_are_there_after_a_kill(
    guarded: Guarded, books_url: str
) -> None:
    keeper, api = keeper_of(guarded, books_url), api_of(guarded, books_url)
    shop = Shop(api, keeper.recovery)
    History(shop, 11).begin().go_on(40)
    keeper.writer.drain()
    in_postgres = shop.position().seq
    held = [shop.hold() for _ in range(3)]
    guests, users = api.carts.create(OPS, lines("a=2")).id, api.carts.create(buyer("ann"), lines("b=1")).id
    before = books.dump(guarded.admin)

    guarded.restart()

    assert books.dump(guarded.admin) == before
    assert shop.position().seq == in_postgres
    recovered = keeper.recovery.recover()
    assert isinstance(recovered, Recovered)
    assert recovered.finding.why == "Redis has 3 events that the ledger lacks"
    again = api_of(guarded, books_url)
    assert {again.reservations.get(name, None).state for name in held} == {"reserved"}
    for name, who, line in ((guests, OPS, ("a", 2)), (users, buyer("ann"), ("b", 1))):
        assert [(found.sku, found.quantity) for found in again.carts.get(name, who).lines] == [line]
    books.assert_right(again)
    shop.close()


def test_a_server_with_the_former_file_is_brought_over_as_the_page_says(guarded: Guarded, books_url: str) -> None:
    guarded.use(FORMER_FIRST_LINE)
    guarded.admin.execute_command("ACL", "LOAD")
    keeper = keeper_of(guarded, books_url)
    Shop(api_of(guarded, books_url), keeper.recovery).stock("a", 50)
    keeper.writer.drain()
    # At this start Redis 7 forgets its AOF, and goes on writing behind it; the next start would read both.
    guarded.restart()
    assert isinstance(keeper.recovery.recover(), Recovered)
    shop = Shop(api_of(guarded, books_url), keeper.recovery)
    held = [shop.hold() for _ in range(3)]
    before = books.dump(guarded.admin)
    assert before

    guarded.use(FIRST_LINE)
    typed = re.findall(r"^redis-cli ([A-Z][\w ]+)", PAGE, re.MULTILINE)
    assert [words.split()[0] for words in typed] == ["ACL", "CLIENT", "BGREWRITEAOF", "INFO"]
    for words in typed[:-1]:
        guarded.admin.execute_command(*words.split())
    wait_until(lambda: is_rewritten(guarded.admin.info("persistence")))
    guarded.restart()

    assert books.dump(guarded.admin) == before
    assert isinstance(keeper.recovery.recover(), Recovered)
    again = api_of(guarded, books_url)
    assert {again.reservations.get(name, None).state for name in held} == {"reserved"}
    books.assert_right(again)
    keeper.close()


def is_rewritten(info: dict[str, Any]) -> bool:
    waits = info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]
    return not waits and info["aof_last_bgrewrite_status"] == "ok"


def test_nobody_logs_in_as_default_and_who_was_in_is_put_out(guarded: Guarded) -> None:
    guarded.use("user default on nopass ~* &* +@all")
    guarded.admin.execute_command("ACL", "LOAD")
    stranger = Redis.from_url(guarded.url.replace(f"admin:{PASSWORD}@", ""), single_connection_client=True, retry=ONCE)
    assert stranger.acl_whoami() == "default"

    guarded.use(FIRST_LINE)
    guarded.admin.execute_command("ACL", "LOAD")
    guarded.admin.execute_command("CLIENT", "KILL", "USER", "default")

    with pytest.raises(RedisError):
        stranger.acl_whoami()
    for line in LOGINS:
        assert re.match(r"-(NOAUTH|WRONGPASS)", answer(guarded, line)), line
        assert re.match(r"-(NOAUTH|WRONGPASS)", answer(guarded, f"RESET\r\n{line}").removeprefix("+RESET\r\n")), line


LOGINS = [
    *[f'AUTH default "{password}"' for password in ("", "nopass", PASSWORD)],
    *[f'AUTH "{password}"' for password in ("", PASSWORD)],
    'HELLO 3 AUTH default ""',
    "HELLO 3",
    "HGETALL stk:{p0}:meta",
    "MULTI",
    'EVAL "return 1" 0',
    "ACL WHOAMI",
]


def answer(guarded: Guarded, lines: str) -> str:
    """What a server says to somebody of whom it knows nothing."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(guarded.url.rpartition("@")[2])
        connection.sendall(f"{lines}\r\nQUIT\r\n".encode())
        return connection.makefile("r", newline="").read()


def test_the_doctor_knows_for_each_user_whether_a_restart_keeps_the_aof(guarded: Guarded) -> None:
    assert {said(guarded, user) for user in (API, KEEPER, ONCALL)} == {Verdict.FINE}
    guarded.admin.execute_command("ACL", "SETUSER", "default", *FORMER_FIRST_LINE.split()[2:])
    assert {said(guarded, user) for user in (API, KEEPER, ONCALL)} == {Verdict.TO_DO}
    guarded.admin.execute_command("ACL", "SETUSER", "default", "~stk:{p0}:*", "+@all")
    assert said(guarded, API) is Verdict.TO_DO
    guarded.admin.execute_command("ACL", "SETUSER", "default", "~stk:*", "-xadd")
    assert said(guarded, API) is Verdict.TO_DO
    guarded.admin.execute_command("ACL", "SETUSER", "default", "+xadd")
    assert said(guarded, API) is Verdict.FINE
    # As each user of the former file: it can't ask.
    guarded.admin.execute_command("ACL", "SETUSER", API, "-acl|dryrun")
    assert said(guarded, API) is Verdict.TO_DO


def said(guarded: Guarded, user: str) -> Verdict:
    given = settings(guarded.url_of(user))
    redis = client(given)
    seen = checks_redis.look(Store(redis, Keys()), given, embedded=False)
    redis.close()
    return {check.name: check for check in checks_redis.checks(seen)}["redis AOF replay"].verdict


def test_the_doctor_asks_about_every_command_that_a_script_leaves_in_the_aof(guarded: Guarded) -> None:
    in_scripts = {word for _, text in sources() for word in re.findall(r"redis\.p?call\('(\w+)'", text)}
    writes = {name.upper() for name in guarded.admin.execute_command("ACL", "CAT", "write")}
    # Redis writes the time at which it ends instead of the time that is left.
    assert {"PEXPIREAT" if word == "PEXPIRE" else word for word in in_scripts & writes} <= {
        word for word, *_ in REPLAYED
    }
