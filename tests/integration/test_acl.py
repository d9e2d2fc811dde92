"""docs/deploy/redis.acl: each user can do the whole of its work, and nothing beside it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from engine import checks_redis, dry_run, verify
from engine.checks import Verdict
from engine.engine import Engine, build
from engine.keeper import Keeper
from engine.keys import Keys
from engine.overview import document
from engine.pipe import ONCE
from engine.recovery import Recovered, Recovery
from engine.scripts import sources
from engine.store import Store, check, client
from engine.totals import Totals
from engine.values import Operation
from tests import books, servers
from tests.all_rows import ROWS
from tests.books import lines
from tests.conftest import opened, settings
from tests.doubles import open_gate
from tests.integration.shops import NO_KEY, OPS, History, Shop, buyer, open_shop
from tests.script_rows import HELD, Call, perform
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
ACL = (ROOT / "docs" / "deploy" / "redis.acl").read_text()
SOURCES = dict(sources())
PASSWORD = "of-the-tests"
LOOKS = {path.name: path.read_text() for path in sorted((ROOT / "lua" / "look").glob("*.lua"))}

API, KEEPER_USER, ONCALL, LEVERS_USER = USERS = (
    "stockade-api",
    "stockade-keeper",
    "stockade-oncall",
    "stockade-levers",
)
GATE = {"adopt", "close", "open", "restore", "trim"}
LEVERS = {"configure", "default_hold", "release", "selling"}
RUNS = {
    API: sorted(SOURCES.keys() - GATE),
    KEEPER_USER: sorted({*GATE, "expire"}),
    # The command `stockade release` may meet a hold that is due, or one that Redis has let go.
    LEVERS_USER: sorted({*LEVERS & SOURCES.keys(), "expire", "recall"}),
    # It only looks: with lua/look/*.lua.
    ONCALL: list[str](),
}
"""Who has to be able to run which script."""

KINDS = {
    "meta": "stk:{p0}:meta",
    "ledger": "stk:{p0}:ledger",
    "skus": "stk:{p0}:skus",
    "deadlines": "stk:{p0}:deadlines",
    "keeper": "stk:{p0}:keeper",
    "rates": "stk:{p0}:rates",
    "totals": "stk:{p0}:totals",
    "record": "stk:{p0}:record",
    "sku": "stk:{p0}:sku:*",
    "buyers": "stk:{p0}:buyers:*",
    "reservation": "stk:{p0}:rsv:*",
    "lease": "stk:{p0}:lease:*",
    "operation": "stk:{p0}:op:*",
    "checkout": "stk:{p0}:checkout:*",
    "payment": "stk:{p0}:payment:*",
    "cart": "stk:cart:*",
    "guest_carts": "stk:guest_carts",
}
RESTORED = {
    "DEL": ("reservation", "sku", "buyers", "checkout", "operation", "payment"),
    "HSET": ("reservation", "sku", "buyers"),
    "SET": ("checkout", "operation", "payment"),
    "PEXPIRE": ("reservation", "checkout", "operation", "payment"),
    "ZADD": ("deadlines", "skus"),
    "ZREM": ("deadlines",),
}
"""What restore.lua does to the keys that have no name of their own there."""

WITHOUT_A_SCRIPT = {
    API: {("SET", "operation"), ("XADD", "rates"), ("PEXPIRE", "cart")}
    | {("ZADD", "guest_carts"), ("ZREM", "guest_carts"), ("PEXPIRE", "guest_carts")},
    KEEPER_USER: {("SET", "keeper"), ("PEXPIRE", "keeper"), ("XADD", "rates"), ("HSET", "totals"), ("HSET", "record")},
    ONCALL: set[tuple[str, str]](),
    LEVERS_USER: set[tuple[str, str]](),
}
"""Writes of the engine itself. The keeper's lease is taken and renewed with redis-py's Lock."""


OPTIONS = ("--notify-keyspace-events", "Ex", "--enable-debug-command", "yes")


@dataclass(frozen=True)
class Guarded:
    """A server that has loaded the file, and somebody who may everything."""

    socket: str

    def url(self, user: str) -> str:
        return f"unix://{user}:{PASSWORD}@{self.socket}"

    def of(self, user: str) -> Any:
        return client(settings(self.url(user)))

    @property
    def admin(self) -> Any:
        return self.of("admin")

    def refused(self) -> list[tuple[str, str]]:
        """What the server has refused to whom, since the last time."""
        admin = self.admin
        found = [(entry["username"], entry["object"]) for entry in admin.acl_log()]
        admin.acl_log_reset()
        return found


@pytest.fixture(scope="module", params=servers.KINDS)
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    file = tmp_path_factory.mktemp("acl") / "users.acl"
    file.write_text("user default on nopass ~* &* +@all\n")
    with servers.running(request.param, "--aclfile", str(file), *OPTIONS) as url:
        file.write_text(
            ACL.replace(" reset on ", f" reset on >{PASSWORD} ") + f"\nuser admin reset on >{PASSWORD} ~* &* +@all\n"
        )
        with Redis.from_url(url) as redis:
            redis.execute_command("ACL", "LOAD")
        yield Guarded(url.removeprefix("unix://"))


@pytest.fixture
def empty(guarded: Guarded) -> Guarded:
    guarded.admin.flushall()
    guarded.refused()
    return guarded


def kinds_of(name: str, command: str, word: str) -> tuple[str, ...]:
    """Which keys a word stands for that a script hands to a command."""
    if name == "restore" and word in ("key", "index_key"):
        return RESTORED[command]
    if name == "adopt" and word == "held_key":
        return ("sku", "reservation", "buyers", "meta")
    if re.fullmatch(r"KEYS\[\w+(\.\w+)? \+ 1\]", word):
        return ("buyers",)
    if re.fullmatch(r"KEYS\[(at|i|own\.at)\]", word):
        return ("sku",)
    kind = word.rpartition(".")[2].removesuffix("_key").removeprefix("old_")
    kind = {"old": "reservation"}.get(kind, kind)
    assert kind in KINDS, f"{name}.lua: say in kinds_of which keys {word} stands for"
    return (kind,)


def asked_by(name: str, text: str) -> set[tuple[str, str]]:
    """Each command that a script calls, with what kind of key; '' for a command without one."""
    calls = re.findall(r"redis\.p?call\('(\w+)'(?:, ([^,)]+))?", text.partition("\n\n")[2])
    return {
        (command, kind)
        for command, word in calls
        for kind in (kinds_of(name, command, word) if word and command not in ("TIME", "INFO") else ("",))
    }


def needed(user: str) -> set[tuple[str, str]]:
    return WITHOUT_A_SCRIPT[user].union(*(asked_by(name, SOURCES[name]) for name in RUNS[user]))


def allowed(admin: Any, user: str, command: str, *words: str) -> bool:
    """Whether the user may run it. The server wants the right number of words before it says so."""
    said = "wrong number"
    for more in range(5):
        with suppress(ResponseError):
            said = str(admin.execute_command("ACL", "DRYRUN", user, command, *words, *["1"] * more))
        if "wrong number" not in said:
            return said == "OK"
    raise AssertionError(f"{command} takes more words than that")


@pytest.mark.parametrize("user", USERS)
def test_a_user_may_call_each_command_of_the_scripts_it_runs_on_the_keys_that_they_hand_to_it(
    guarded: Guarded, user: str
) -> None:
    admin = guarded.admin
    wanted = needed(user)
    assert len(wanted) > 20 or user == ONCALL
    lacks = [
        (command, kind)
        for command, kind in sorted(wanted)
        if not allowed(admin, user, command, *([KINDS[kind].replace("*", "x")] if kind else []))
    ]
    assert lacks == [], "a script that may not do something in its middle leaves half of its work"


@pytest.mark.parametrize("user", USERS)
def test_a_user_may_write_nothing_that_no_script_of_its_own_writes(user: str) -> None:
    [line] = re.findall(rf"^user {user} (.*)$", ACL, re.MULTILINE)
    may = {
        (command.upper(), pattern)
        for selector in re.findall(r"\((.*?)\)", line)
        for command in re.findall(r"\+(\S+)", selector)
        for pattern in re.findall(r"~(\S+)", selector)
        if not command.startswith("eval")
    }
    needs = {(command, KINDS[kind]) for command, kind in needed(user) if kind}
    # A restore begins with an empty partition.
    wipe = {("DEL", "stk:{p0}:*")} if user == KEEPER_USER else set()
    assert may - needs == wipe


@pytest.mark.parametrize("name", LOOKS)
def test_on_call_may_run_every_script_that_looks(empty: Guarded, name: str) -> None:
    calls = set(re.findall(r"redis\.p?call\('(\w+)'(?:, '(\w+)')?", LOOKS[name]))
    assert calls
    for command, word in calls:
        keys = [] if command in ("TIME", "INFO", "DBSIZE") else ["stk:{p0}:x"]
        assert allowed(empty.admin, ONCALL, command, *[word] * bool(word), *keys), command
    admin = opened(settings(empty.url("admin")), empty.admin)
    for step in HELD:
        perform(admin.store, step)
    [line] = re.findall(r"^-- By hand: redis-cli --eval \S+ (.*)$", LOOKS[name], re.MULTILINE)
    keys, arguments = [shlex.split(part) for part in line.partition(" , ")[::2]]
    keys = [key.replace("SKU", "a").replace("ID", "r1") for key in keys]
    assert empty.of(ONCALL).eval(LOOKS[name], len(keys), *keys, *arguments)
    assert empty.refused() == []


def test_every_row_of_every_script_runs_as_each_user_that_has_to_run_it(empty: Guarded) -> None:
    admin = opened(settings(empty.url("admin")), empty.admin)
    stores = {user: Store(empty.of(user), Keys()) for user in USERS}
    ran: dict[str, set[str]] = {user: set() for user in USERS}
    for row in ROWS:
        for user in [user for user in USERS if row.call.script in RUNS[user]]:
            admin.store.redis.flushdb()
            open_gate(admin)
            for step in row.start:
                if isinstance(step, Call):
                    perform(admin.store, step)
                else:
                    step(admin.store)
            reply = perform(stores[user], row.call)
            assert reply[0] == row.reply[0], row.name
            ran[user].add(row.call.script)
    assert empty.refused() == []
    assert {user: sorted(names) for user, names in ran.items()} == RUNS


def opened_by_the_keeper(guarded: Guarded, books_url: str) -> Shop:
    """A shop as the keeper has it, that it has compared with an empty ledger."""
    shop = open_shop(guarded.url(KEEPER_USER), books_url, STOCKADE_SNAPSHOT_SECONDS="10")
    assert isinstance(shop.recovery.recover(), Recovered)
    return shop


def api_of(guarded: Guarded, books_url: str) -> Engine:
    given = settings(guarded.url(API), STOCKADE_DATABASE_URL=books_url)
    return build(given, client(given, certified=True), watching=client(given))


def test_the_api_can_do_all_of_its_work_and_nothing_is_refused_to_it(empty: Guarded, books_url: str) -> None:
    keeper = opened_by_the_keeper(empty, books_url)
    engine = api_of(empty, books_url)
    shop = Shop(engine, Recovery(engine.database, engine.store, engine.scripts, engine.settings.retain_ms))
    History(shop, 7).begin().go_on(150)
    # What Postgres alone has comes back to Redis for a late payment.
    held = shop.hold(sku="b")
    engine.reservations.release(held, OPS, "", anybody=True)
    keeper.writer.drain()
    keeper.recovery.projection.advance()
    empty.admin.delete(engine.store.keys.reservation(held))
    shop.pay(held, "late")
    cart = engine.carts.create(OPS, lines("a=1")).id
    engine.carts.set_lines(cart, OPS, lines("b=1"))
    engine.carts.checkout(cart, buyer("ann"), 900)
    engine.carts.delete(cart, buyer("ann"))
    engine.carts.create(buyer("ann"), (), "key", "7")
    engine.stock.availability(["a", "b"], OPS)
    engine.reservations.remember(Operation("batch", "7"))
    engine.stock.page("", 10)
    assert books.recorded(engine)
    assert engine.gate() == "open"
    assert engine.watch.keeper_alive() is False
    engine.watch.publish_rates({"reserve": 1})
    shown = document(engine.overview)
    assert (shown["gate"], shown["postgres"]) == ("open", "ok")
    Totals(keeper.engine.watch).publish()
    assert document(engine.overview)["totals"]["on_hand"]
    assert empty.refused() == []
    books.assert_right(engine)
    shop.close()
    keeper.close()


def test_a_keeper_can_do_all_of_its_work_and_nothing_is_refused_to_it(empty: Guarded, books_url: str) -> None:
    given = settings(empty.url(KEEPER_USER), STOCKADE_DATABASE_URL=books_url, STOCKADE_SNAPSHOT_SECONDS="10")
    watched = build(given, client(given, certified=True), watching=client(given))
    keeper = Keeper(watched)
    working = Thread(target=keeper.run, daemon=True)
    working.start()
    try:
        wait_until(lambda: watched.gate() == "open")
        api = api_of(empty, books_url)
        api.stock.configure("a", 100, {"limit_per_customer": "50"}, OPS, NO_KEY)
        shop = Shop(api, Recovery(api.database, api.store, api.scripts, given.retain_ms))
        kept, paid = shop.hold(), shop.hold()
        shop.pay(paid)
        # Only a keeper takes this one back: nobody asks for its SKU any more.
        left = api.reservations.reserve(buyer("ann"), books.lines("a=1"), 1).id
        wait_until(lambda: books.counters(watched.store, "a") == (98, 1, 1, 100))
        assert api.reservations.get(left, None).state == "expired"
        wait_until(lambda: shop.query("SELECT 1 FROM snapshots"))
        wait_until(lambda: empty.admin.pubsub_numsub("__keyevent@0__:expired")[0][1] == 1)
        wait_until(lambda: api.store.meta().get("full_seq"))
        wait_until(lambda: (units := api.overview.now().units) and units.on_hand == 100)
        assert api.audit.catch_up() == ""
        empty.admin.flushall()
        wait_until(lambda: _open_with(watched, kept))
        assert books.counters(watched.store, "a") == (98, 1, 1, 100)
        report = verify.verify(watched.store, watched.database, given.retain_ms)
        assert report.problems == ()
        shop.close()
    finally:
        keeper.stop()
        working.join(10)
    assert not working.is_alive()
    assert empty.refused() == []


def _open_with(engine: Engine, reservation_id: str) -> bool:
    return engine.gate() == "open" and engine.store.record(reservation_id) is not None


def test_a_keeper_can_make_redis_anew_by_force_and_say_before_what_would_change(empty: Guarded, books_url: str) -> None:
    keeper = opened_by_the_keeper(empty, books_url)
    empty.refused()
    shop = Shop(api_of(empty, books_url), keeper.recovery)
    History(shop, 8).begin().go_on(60)
    keeper.writer.drain()
    assert keeper.snapshots.take().problems == ()
    finding = keeper.recovery.compare()
    dry_run.changes(keeper.engine, keeper.recovery, finding)
    keeper.recovery.rebuild(finding)
    assert keeper.problems() == ()
    assert empty.refused() == []
    keeper.close()


READS = [
    ["HGETALL", "stk:{p0}:meta"],
    ["SCAN", "0"],
    ["TYPE", "stk:{p0}:ledger"],
    ["PTTL", "stk:{p0}:lease:r1"],
    ["ZRANGE", "stk:{p0}:deadlines", "0", "9", "WITHSCORES"],
    ["XREVRANGE", "stk:{p0}:ledger", "+", "-", "COUNT", "9"],
    ["XINFO", "STREAM", "stk:{p0}:ledger"],
    ["HGETALL", "stk:cart:{c1}"],
    ["MEMORY", "USAGE", "stk:{p0}:ledger"],
    ["MEMORY", "STATS"],
    ["INFO"],
    ["SLOWLOG", "GET", "9"],
    ["LATENCY", "LATEST"],
    ["CLIENT", "LIST"],
    ["DBSIZE"],
    ["ROLE"],
    ["ACL", "WHOAMI"],
    ["EVAL_RO", "return redis.call('HGET', KEYS[1], 'gate')", "1", "stk:{p0}:meta"],
]


def test_on_call_can_look_at_everything(empty: Guarded) -> None:
    opened(settings(empty.url("admin")), empty.admin).stock.configure("a", 5, {}, OPS, NO_KEY)
    oncall = empty.of(ONCALL)
    for words in READS:
        oncall.execute_command(*words)
    assert empty.refused() == []


def test_who_pulls_levers_can_do_so_as_the_service_does(empty: Guarded, books_url: str) -> None:
    keeper = opened_by_the_keeper(empty, books_url)
    given = settings(empty.url(LEVERS_USER), STOCKADE_DATABASE_URL=books_url)
    engine = build(given, client(given, certified=True), watching=client(given))
    engine.stock.configure("a", 5, {}, OPS, NO_KEY)
    held, due = Shop(api_of(empty, books_url), keeper.recovery).hold(), keeper.engine
    engine.stock.configure("a", 7, {"paused": "1"}, OPS, NO_KEY)
    engine.stock.set_selling(True, "a fire", OPS)
    engine.reservations.release(held, OPS, "a bot", anybody=True)
    assert books.counters(due.store, "a") == (7, 0, 0, 7)
    assert empty.refused() == []
    keeper.close()


NOBODY = [
    ["FLUSHALL"],
    ["FLUSHDB"],
    ["KEYS", "*"],
    ["CONFIG", "SET", "appendonly", "no"],
    ["CONFIG", "REWRITE"],
    ["DEBUG", "SLEEP", "0"],
    ["SHUTDOWN", "NOSAVE"],
    ["REPLICAOF", "NO", "ONE"],
    ["MONITOR"],
    ["ACL", "LIST"],
    ["ACL", "GETUSER", "default"],
    ["ACL", "SETUSER", "eve", "on"],
    ["CLIENT", "KILL", "TYPE", "normal"],
    ["CLIENT", "PAUSE", "1"],
    ["SCRIPT", "FLUSH"],
    ["FUNCTION", "LIST"],
    ["MODULE", "LIST"],
    ["SAVE"],
    ["BGREWRITEAOF"],
    ["RENAME", "stk:{p0}:meta", "stk:{p0}:gone"],
    ["XDEL", "stk:{p0}:ledger", "1-1"],
    ["SET", "stk:{p0}:sku:a", "1"],
    ["SET", "elsewhere", "1"],
    ["HSET", "elsewhere", "a", "1"],
    ["GET", "elsewhere"],
    ["ZADD", "stk:{p0}:ledger", "1", "a"],
    ["EVAL", "return redis.call('SET', KEYS[1], '1')", "1", "stk:{p0}:sku:a"],
    ["EVAL", "return 1", "1", "elsewhere"],
    ["PUBLISH", "anything", "1"],
    ["SUBSCRIBE", "anything"],
]

NO_PERSON = [
    ["XTRIM", "stk:{p0}:ledger", "MAXLEN", "0"],
    ["HINCRBY", "stk:{p0}:sku:a", "available", "1"],
    ["ZADD", "stk:{p0}:deadlines", "1", "r1"],
    ["SET", "stk:{p0}:lease:r1", "1"],
    ["SET", "stk:{p0}:keeper", "me"],
    ["XADD", "stk:{p0}:rates", "*", "a", "1"],
    ["SCRIPT", "LOAD", "return 1"],
]
"""What neither who looks nor who pulls levers may do."""

FORBIDDEN = {
    API: [
        *NOBODY,
        ["CONFIG", "GET", "*"],
        ["DEL", "stk:{p0}:ledger"],
        ["DEL", "stk:{p0}:sku:a"],
        ["DEL", "stk:{p0}:rsv:r1"],
        ["XTRIM", "stk:{p0}:ledger", "MAXLEN", "0"],
        ["SET", "stk:{p0}:keeper", "me"],
        ["SUBSCRIBE", "__keyevent@0__:expired"],
        ["SLOWLOG", "RESET"],
        ["EVAL", "return redis.call('DEL', KEYS[1])", "1", "stk:{p0}:meta"],
    ],
    KEEPER_USER: [
        *NOBODY,
        ["HGETALL", "stk:cart:{c1}"],
        ["DEL", "stk:cart:{c1}"],
        ["HINCRBY", "stk:{p0}:sku:a", "available", "1"],
        ["SLOWLOG", "RESET"],
    ],
    ONCALL: [
        *NOBODY,
        ["CONFIG", "GET", "*"],
        ["DEL", "stk:{p0}:ledger"],
        ["DEL", "stk:{p0}:sku:a"],
        ["DEL", "stk:cart:{c1}"],
        ["HSET", "stk:cart:{c1}", "sku:a", "9"],
        *NO_PERSON,
        ["SLOWLOG", "RESET"],
        ["LATENCY", "RESET"],
        ["CLIENT", "NO-EVICT", "on"],
        ["SUBSCRIBE", "__keyevent@0__:expired"],
        ["EVAL", "return redis.call('DEL', KEYS[1])", "1", "stk:{p0}:meta"],
        ["HSET", "stk:{p0}:sku:a", "available", "9"],
        ["HSET", "stk:{p0}:meta", "gate", "open"],
        ["XADD", "stk:{p0}:ledger", "*", "op", "restock"],
        ["EVAL", "return redis.call('HSET', KEYS[1], 'available', '9')", "1", "stk:{p0}:sku:a"],
    ],
    LEVERS_USER: [
        *NOBODY,
        ["CONFIG", "GET", "*"],
        ["HGETALL", "stk:cart:{c1}"],
        ["DEL", "stk:{p0}:sku:a"],
        *NO_PERSON,
        ["SLOWLOG", "GET", "9"],
        ["CLIENT", "LIST"],
        ["EVAL", "return redis.call('DEL', KEYS[1])", "1", "stk:{p0}:meta"],
    ],
}


@pytest.mark.parametrize("user", USERS)
def test_a_user_may_do_nothing_beside_its_work(empty: Guarded, user: str) -> None:
    opened(settings(empty.url("admin")), empty.admin).stock.configure("a", 5, {}, OPS, NO_KEY)
    before = books.dump(empty.admin)
    redis = empty.of(user)
    for words in FORBIDDEN[user]:
        with pytest.raises(
            Exception, match=r"(?i)permission|can't access|can't run|ACL failure|ACL scripts"
        ) as refused:
            redis.execute_command(*words)
        assert isinstance(refused.value, NoPermissionError) or words[0].startswith("EVAL"), words
    assert books.dump(empty.admin) == before


def test_nobody_logs_in_without_a_password_of_theirs(empty: Guarded) -> None:
    def login(**who: str) -> None:
        Redis(unix_socket_path=empty.socket, retry=ONCE, **who).ping()  # type: ignore[arg-type]

    fresh = re.sub("(?m)^user (stockade-[a-z]+) ", r"user new-\1 ", ACL.partition("\n\n")[2])
    for line in filter(None, fresh.splitlines()):
        _, name, *rules = re.findall(r"\([^)]*\)|[^ ]+", line)
        empty.admin.execute_command("ACL", "SETUSER", name, *rules)
        with pytest.raises(AuthenticationError):
            login(username=name, password="stockade")
        empty.admin.acl_deluser(name)
    with pytest.raises(AuthenticationError):
        login()


@pytest.mark.parametrize("user", USERS)
def test_the_doctor_says_of_each_user_that_it_may_do_nothing_beside_its_work(empty: Guarded, user: str) -> None:
    given = settings(empty.url(user))
    redis = client(given)
    check(redis)
    seen = checks_redis.look(Store(redis, Keys()), given, embedded=False)
    assert (seen.user, seen.may) == (user, ())
    # As the server sees it that isn't on a socket of one owner.
    found = {check.name: check for check in checks_redis.checks(replace(seen, private=False))}
    assert found["redis user"].said == f"{user}, who may do nothing beside its work"
    assert (found["redis appendfsync"].verdict is Verdict.NOT_ASKED) == (user != KEEPER_USER)
    assert (found["redis slow calls"].verdict is Verdict.NOT_ASKED) == (user != ONCALL)
    admin = replace(seen, private=False, user="admin", may=checks_redis._may(empty.admin, "admin"))
    assert (
        "admin may FLUSHALL, CONFIG SET, SHUTDOWN, KEYS, ACL LIST"
        in {check.name: check.said for check in checks_redis.checks(admin)}["redis user"]
    )
