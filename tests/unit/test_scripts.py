from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest

from engine.engine import Engine
from engine.store import Store
from tests import order_rows, payment_rows, script_rows
from tests.all_rows import ROWS
from tests.script_rows import CART, DAY_MS, FAR_MS, HELD, KEYS, SOURCES, Call, Row, Step, perform, run

A_DAY_LEFT = DAY_MS - 60_000


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_script_answers_and_ends_as_its_row_says(fake_engine: Engine, row: Row) -> None:
    run(fake_engine, row)


def test_no_two_rows_have_the_same_name() -> None:
    names = Counter(row.name for row in ROWS)
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("name", SOURCES)
def test_every_status_in_a_script_s_header_has_a_row(name: str) -> None:
    listed = set(re.findall(r"^--   \{'(\w+)'", SOURCES[name], re.MULTILINE))
    assert listed == {row.reply[0] for row in ROWS if row.call.script == name}


def begun(store: Store, *steps: Step) -> None:
    for step in steps:
        perform(store, step) if isinstance(step, Call) else step(store)


HOLD = ("state", "reserved", "user", "ann", "lines", "a=2", "created_ms", 1, "deadline_ms", FAR_MS)
LEASES: dict[str, tuple[tuple[Step, ...], Callable[[int], Call], int]] = {
    "reserve": ((script_rows.stock(5),), lambda now_ms: script_rows.reserve("a=2", hold_ms=300_000), 300_000),
    "extend": (HELD, lambda now_ms: script_rows.extend(hold_ms=300_000), 300_000),
    "restore": (
        (*HELD, script_rows.close()),
        lambda now_ms: script_rows.restore("hold", KEYS.reservation("r1"), "r1", *HOLD, until_ms=now_ms + 300_000),
        300_000,
    ),
    "restore what is due": (
        (*HELD, script_rows.close()),
        lambda now_ms: script_rows.restore("hold", KEYS.reservation("r1"), "r1", *HOLD, until_ms=now_ms - 300_000),
        1,
    ),
}


@pytest.mark.parametrize("what", LEASES)
def test_a_lease_ends_with_its_hold(fake_engine: Engine, what: str) -> None:
    store = fake_engine.store
    steps, call, left_ms = LEASES[what]
    begun(store, *steps)
    status, *_ = perform(store, call(store.now_ms()))
    assert status in ("reserved", "extended", "restored")
    assert left_ms - 60_000 < max(store.redis.pttl(KEYS.lease("r1")), 0) <= left_ms


FORGOTTEN: dict[str, tuple[tuple[Step, ...], Call, str]] = {
    "release": (HELD, script_rows.release(), KEYS.reservation("r1")),
    "expire": (script_rows.DUE, script_rows.expire(), KEYS.reservation("r1")),
    "cancel": (script_rows.PAID, script_rows.cancel(), KEYS.reservation("r1")),
    "fulfil": (script_rows.PAID, script_rows.fulfil(), KEYS.reservation("r1")),
    "replace": (
        script_rows.CHECKED_OUT,
        script_rows.check_out("a=1", "r2", "r1", "a=2"),
        KEYS.reservation("r1"),
    ),
    "commit from a later hold": (
        payment_rows.SUCCEEDED,
        script_rows.pay_replaced("a=2", "r2", "a=2"),
        KEYS.reservation("r2"),
    ),
    "cancel the rest": (order_rows.SENT_B, script_rows.cancel("a=2 b=1"), KEYS.reservation("r1")),
    "payment": (HELD, script_rows.commit(), KEYS.payment("p1")),
    "payment that came too late": (script_rows.TAKEN, script_rows.commit(), KEYS.payment("p1")),
    "payment that came second": (script_rows.PAID, script_rows.refund("p2"), KEYS.payment("p2")),
    "answer of commit": (HELD, script_rows.commit(request="7"), KEYS.operation("o")),
    "answer of fulfil": (script_rows.PAID, script_rows.fulfil(request="7"), KEYS.operation("o")),
    "answer of note": (HELD, script_rows.note(request="7"), KEYS.operation("o")),
    "checkout": ((script_rows.stock(5),), script_rows.check_out("a=2", "r1"), KEYS.checkout("c1")),
    "bind_cart": (script_rows.A_CART, script_rows.bind_cart(), CART),
    "put_line": ((), script_rows.put_line("a=1", user="ann", owner="ann", may_make=1), CART),
    "set_lines": ((), script_rows.set_lines("a=1", user="ann", owner="ann", may_make=1), CART),
    "delete_cart": (script_rows.A_CART, script_rows.delete_cart(), CART),
    "admit_cart": ((), script_rows.admit_cart(ttl_ms=DAY_MS), KEYS.guest_carts),
    "empty_cart": (script_rows.A_CART, script_rows.empty_cart(), CART),
    "answer": ((script_rows.stock(5),), script_rows.adjust(1), KEYS.operation("o")),
}


@pytest.mark.parametrize("what", FORGOTTEN)
def test_what_has_ended_is_kept_as_long_as_the_caller_says(fake_engine: Engine, what: str) -> None:
    store = fake_engine.store
    steps, call, key = FORGOTTEN[what]
    begun(store, *steps)
    perform(store, call)
    assert A_DAY_LEFT < store.redis.pttl(key) <= DAY_MS


@pytest.mark.parametrize(
    ("steps", "attributes", "status", "whole"),
    [
        ((), ("paused", 1), "would_create", {"available": "7", "on_hand": "7", "paused": "1"}),
        ((script_rows.stock(5),), ("paused", 1), "would_change", {"available": "7", "on_hand": "7", "paused": "1"}),
        ((script_rows.stock(5, "paused", 1),), ("paused", ""), "would_change", {"available": "7", "on_hand": "7"}),
    ],
)
def test_a_dry_run_of_configure_says_the_whole_hash(
    fake_engine: Engine, steps: tuple[Step, ...], attributes: tuple[str | int, ...], status: str, whole: dict[str, str]
) -> None:
    begun(fake_engine.store, *steps)
    call = script_rows.configure(7, *attributes, request="g", reason="counted", lever="dry_run")
    said, *words = perform(fake_engine.store, call)
    assert said == status
    assert dict(zip(words[::2], words[1::2], strict=True)) == {"reserved": "0", "allocated": "0", **whole}
