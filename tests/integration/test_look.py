"""What an on-call engineer reads with nothing but redis-cli: the scripts of lua/look."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from engine.engine import Engine
from engine.store import Store
from engine.values import Origin
from tests import books
from tests.look_rows import KEYS_OF, NOW, R1, ROWS, A, Look, certified, other_type
from tests.redis_clis import RedisCli, both
from tests.script_rows import FAR_MS, HELD, KEYS, Call, Step, commit, perform, reserve, stock

ROOT = Path(__file__).parents[2]
LOOKS = {path.stem: path.read_text() for path in sorted((ROOT / "lua" / "look").glob("*.lua"))}


def begin(store: Store, *steps: Step) -> None:
    for step in steps:
        if isinstance(step, Call):
            perform(store, step)
        else:
            step(store)


def look(store: Store, script: str, *arguments: str | int, keys: list[str] | None = None) -> list[str]:
    keys = KEYS_OF[script] if keys is None else keys
    lines: list[str] = store.redis.eval(LOOKS[script], len(keys), *keys, *arguments)
    assert all(re.fullmatch(r"[ -~]+", line) for line in lines), "plain ASCII, one line each"
    return lines


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_look_says_what_its_row_says(engine: Engine, row: Look) -> None:
    store = engine.store
    begin(store, *row.start)
    lines = look(store, row.script, *row.arguments, keys=list(row.keys) if row.keys else None)
    assert [
        line for line in row.says if line.startswith("~") and any(found.startswith(line[1:]) for found in lines)
    ] == []
    wanted = [line for line in row.says if not line.startswith("~")]
    assert [line for line in lines if line in wanted] == wanted, "\n".join(lines)


STATES: dict[str, tuple[Step, ...]] = {
    "available": (stock(5),),
    "all_held": (stock(2), reserve("a=2")),
    "sold_out": (stock(2), reserve("a=2"), commit()),
    "paused": (stock(0, "paused", 1, "sale_ends_ms", 1),),
    "not_started": (stock(0, "sale_starts_ms", FAR_MS, "sale_ends_ms", FAR_MS + 1),),
    "ended": (stock(0, "sale_ends_ms", 1),),
}


@pytest.mark.parametrize("status", STATES)
def test_the_status_of_a_sku_is_what_a_buyer_is_told(engine: Engine, status: str) -> None:
    begin(engine.store, *STATES[status])
    [told] = engine.stock.availability(["a"], Origin("ann"))
    assert told.status == status
    assert f"status       {status}" in look(engine.store, "sku")


@pytest.mark.parametrize("name", LOOKS)
def test_wrong_keys_are_one_clear_line(engine: Engine, name: str) -> None:
    perform(engine.store, stock(5))
    right = KEYS_OF[name]
    for keys in ([], right[:-1], [*right, "more"], [*right, *right], right[::-1], ["\n"] * len(right)):
        [line] = look(engine.store, name, keys=keys)
        assert line.startswith("wrong_keys: ")
    for at_key in right:
        engine.store.redis.flushall()
        begin(engine.store, other_type(at_key))
        [line] = look(engine.store, name)
        assert re.fullmatch(r"wrong_keys: KEYS\[\d] must be the \w+ (\S+), not list \1", line)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("name", LOOKS)
def test_redis_itself_refuses_a_write_in_a_look(engine: Engine, name: str, ending: str) -> None:
    redis = engine.store.redis
    first, rest = LOOKS[name].replace("\n", ending).split(ending, 1)
    with pytest.raises(ResponseError, match="Write commands are not allowed from read-only scripts"):
        redis.eval(f"{first}{ending}redis.call('SET', KEYS[1], 1){ending}{rest}", 1, "written")
    assert redis.exists("written") == 0
    assert redis.eval(f"{ending}redis.call('SET', KEYS[1], 1)", 1, "written") is None
    assert redis.exists("written") == 1


def shared() -> str:
    begin, end = (
        LOOKS["sku"].index("-- Letter for letter"),
        LOOKS["sku"].index("\nend\n\nlocal meta_key") + len("\nend\n"),
    )
    return LOOKS["sku"][begin:end]


def test_times_are_what_the_calendar_says(engine: Engine) -> None:
    moments = [day * 86_400_000 + 3_661_999 for day in range(0, 60_000, 13)]
    moments += [
        int(datetime(year, 2, 28, tzinfo=UTC).timestamp() + 86_400) * 1000 for year in (2000, 2023, 2024, 2096, 2100)
    ]
    source = (
        f"{shared()}\nlocal said = {{}}\nfor at, ms in ipairs(ARGV) do said[at] = utc(tonumber(ms)) end return said"
    )
    expected = [f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}" for ms in moments]
    assert engine.store.redis.eval(source, 0, *moments) == expected


def test_text_of_any_bytes_is_shown_as_plain_ascii_that_tells_it(engine: Engine) -> None:
    source = f"{shared()}\nlocal said = {{}}\nfor at, text in ipairs(ARGV) do said[at] = shown(text) end return said"
    shown = engine.store.redis.eval(source, 0, *(bytes([code]) for code in range(256)), "x" * 65)
    plain = set(range(32, 127)) - set(b'"%\\')
    assert shown[:256] == [chr(code) if code in plain else f"%{code:02X}" for code in range(256)]
    assert shown[256] == "x" * 64 + "..."


def test_the_name_of_a_key_is_shown_whole_as_plain_ascii_whose_percent_signs_are_its_own(engine: Engine) -> None:
    source = f"{shared()}\nlocal said = {{}}\nfor at, text in ipairs(ARGV) do said[at] = named(text) end return said"
    named = engine.store.redis.eval(source, 0, *(bytes([code]) for code in range(256)), "x" * 600)
    plain = set(range(32, 127)) - set(b'"\\')
    assert named[:256] == [chr(code) if code in plain else f"%{code:02X}" for code in range(256)]
    assert named[256] == "x" * 600


def fill(redis: Redis, count: int, basket: Callable[[int], str]) -> None:
    """Holds as reserve would write them, three to a moment, of which one is looked for now and then."""
    pipe = redis.pipeline(transaction=False)
    for number in range(count):
        deadline_ms = FAR_MS + number // 3
        fields: dict[Any, Any] = {
            "state": "reserved",
            "user": f"u{number % 7}",
            "lines": basket(number),
            "created_ms": FAR_MS - 1_000,
        }
        pipe.hset(KEYS.reservation(f"h{number:05}"), mapping={**fields, "deadline_ms": deadline_ms})
        pipe.zadd(KEYS.deadlines, {f"h{number:05}": deadline_ms})
    pipe.execute()


def page_through(store: Store, look_at: int) -> tuple[list[str], int, int]:
    """Ids of all holds of SKU a, how many holds were looked at, in how many calls."""
    found: list[str] = []
    cursor, looked, calls = "0", 0, 0
    while cursor:
        lines = look(store, "holders", look_at, cursor)
        looked += int(re.findall(r"among (\d+) live", "\n".join(lines))[0])
        found += [line.split()[-2] for line in lines if re.match(r" +\d+  1\.0 s ", line)]
        cursor, calls = (re.findall(r"go on with: , \d+ (\S+)$", lines[-1]) or [""])[0], calls + 1
    return found, looked, calls


def test_among_ten_thousand_holds_one_call_looks_at_so_many_and_the_next_goes_on(engine: Engine) -> None:
    store, count = engine.store, 10_000
    begin(store, NOW, stock(1_000))
    fill(store.redis, count, lambda number: "b=1 a=2" if number % 100 == 0 else "aa=1 ba=5")
    store.redis.hset(A, mapping={"available": 800, "reserved": 200, "next_release_ms": FAR_MS})
    wanted = [f"h{number:05}" for number in range(0, count, 100)]
    assert page_through(store, 2_000) == (wanted, count, 5)
    assert page_through(store, 1_999) == (wanted, count, 6)
    lines = look(store, "invariants", 2_000)
    assert "?    holds: reserved 200, 40 units in 20 live holds, which are not all" in lines
    assert "looked at 2000 of 10000 live holds" in lines[0]


def test_long_baskets_end_a_call_before_it_takes_long(engine: Engine) -> None:
    store = engine.store
    begin(store, NOW)
    basket = " ".join(f"sku-{number:060}=1" for number in range(200))
    fill(store.redis, 400, lambda number: f"{basket} a=1")
    first = look(store, "holders", 2_000, "0")
    enough = 2_000_000 // len(f"{basket} a=1") + 1
    assert f"found        {enough} units in {enough} holds of 7 users, among {enough} live holds of any SKU" in first
    found, looked, calls = page_through(store, 50)
    assert (len(found), looked, calls) == (400, 400, 8)


def test_a_list_of_users_and_holds_ends_after_a_hundred(engine: Engine) -> None:
    store = engine.store
    begin(store, NOW, stock(1_000))
    for number in range(130):
        perform(store, reserve("a=1", f"h{number:03}", user=f"u{number:03}"))
    lines = look(store, "holders")
    assert "             and 30 more users" in lines
    assert "             and 30 more holds: look at fewer at once to see them" in lines
    assert sum(line.endswith(" u099") for line in lines) == 2
    assert sum(line.endswith(" u100") for line in lines) == 0


@both
@pytest.mark.parametrize("name", LOOKS)
def test_a_look_runs_by_hand_as_its_header_says(engine: Engine, server: str, name: str, redis_cli: RedisCli) -> None:
    begin(engine.store, *HELD)
    [command] = re.findall(r"^-- By hand: (redis-cli .*)$", LOOKS[name], re.MULTILINE)
    words = shlex.split(command.replace("SKU", "a").replace("ID", "r1"))[1:]
    plain = redis_cli(server, *words).lines
    assert "wrong" not in plain[0]
    assert len(plain) > 5
    in_a_terminal = redis_cli(server, "--no-raw", *words).lines
    assert in_a_terminal[1].lstrip() == f'2) "{plain[1]}"'
    assert "\\" not in "".join(in_a_terminal)


@both
def test_the_command_that_releases_by_force_can_be_pasted_as_it_is(
    engine: Engine, server: str, redis_cli: RedisCli
) -> None:
    start = (stock(5), stock(5, sku="Red Shirt/XL"), stock(5, sku="$(reboot)"))
    begin(engine.store, *start, reserve("a=2 Red%20Shirt/XL=1 $(reboot)=1"), reserve("a=1", "r2"))
    *_, command = lines = look(engine.store, "reservation")
    assert [line.endswith(", as the deadline says") for line in lines if line.startswith("lease ")] == [True]
    words = shlex.split(command)
    keys = [KEYS.meta, KEYS.ledger, *KEYS.hold("r1"), *KEYS.skus_and_buyers(["a", "Red Shirt/XL", "$(reboot)"])]
    assert words[:4] == ["stockade", "redis-cli", "--eval", "lua/release.lua"]
    assert words[4:] == [*keys, ",", "r1", "redis-cli", "by-hand", "released by on-call", "86400000", "dry_run"]
    assert "release" in "".join(redis_cli(server, *words[2:]).lines)
    assert redis_cli(server, *words[2:-1], "do").lines
    assert engine.store.redis.hget(R1, "state") == "released"
    assert books.counters(engine.store, "a") == (4, 1, 0, 5)
    books.assert_right(engine)


def test_who_may_not_call_info_is_told_what_to_compare(engine: Engine, server: str) -> None:
    redis, run_id = engine.store.redis, "run:replid"
    certified(engine.store)
    redis.hset(KEYS.meta, "run_id", run_id)
    redis.acl_setuser("reader", enabled=True, nopass=True, keys=["*"], commands=["+@read", "+eval", "+time", "+ping"])
    try:
        reader = Redis.from_url(server, username="reader", password="any", decode_responses=True)
        lines = look(Store(reader, KEYS), "health")
        reader.close()
    finally:
        redis.acl_deluser("reader")
    assert (
        lines[2]
        == f"      server        certified is {run_id}; compare it with run_id:master_replid of stockade redis-cli INFO everything"
    )
    assert lines[-1] == "      memory        unknown: see INFO memory"
    assert f"certified is {run_id}" in look(engine.store, "health")[2]
    assert look(engine.store, "health")[2].startswith("ALARM server        this is ")


def test_memory_that_runs_out_is_an_alarm(engine: Engine) -> None:
    redis = engine.store.redis
    used = redis.info("memory")["used_memory"]
    try:
        redis.config_set("maxmemory", int(used * 1.05))
        assert look(engine.store, "health")[-1].startswith("ALARM memory ")
        redis.config_set("maxmemory", used * 100)
        assert look(engine.store, "health")[-1].startswith("      memory ")
        assert " MiB used, of " in look(engine.store, "health")[-1]
    finally:
        redis.config_set("maxmemory", 0)
