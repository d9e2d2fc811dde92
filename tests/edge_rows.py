"""More rows for every script: the very millisecond, the single unit, the second key, what is torn. `make mutants` asked for them."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import ANY

from tests.script_rows import (
    CHECKED_OUT,
    DUE,
    FAR_MS,
    HELD,
    KEYS,
    LIMITED,
    PAID,
    REFUNDED,
    Call,
    End,
    Row,
    Step,
    adjust,
    at,
    cancel,
    check_out,
    commit,
    configure,
    expire,
    extend,
    fulfil,
    put,
    release,
    reserve,
    run_out,
    stock,
    verdict,
)

END_MS = FAR_MS + 900_000
AT_THE_END = (at(FAR_MS), *HELD, at(END_MS))
"""Hold r1, in the very millisecond in which its time has run out."""

ONE = (stock(5), reserve("a=1"))
ONE_PAID = (*ONE, commit("a=1"))
A_DASH = (stock(5, "limit_per_customer", 3, sku="a-b"), reserve("a-b=2"))
"""A name that a pattern of Lua would take for something else."""


def without(key: str, *fields: str) -> Step:
    return lambda store: store.redis.hdel(key, *fields)


def of_other_buyers(call: Call) -> Call:
    return replace(call, keys=[KEYS.buyers("b") if key == KEYS.buyers("a") else key for key in call.keys])


NO_USER = without(KEYS.reservation("r1"), "user")
NO_LINES = without(KEYS.reservation("r1"), "lines")
NO_AVAILABLE = without(KEYS.sku("a"), "available")
NOTHING_RESERVED = without(KEYS.sku("a"), "reserved")
NOTHING_ALLOCATED = without(KEYS.sku("a"), "allocated")

AT_ITS_END = [
    Row("commit in the millisecond of the deadline", AT_THE_END, commit(), ["due", END_MS]),
    Row("release in the millisecond of the deadline", AT_THE_END, release(), ["due", END_MS]),
    Row("extend in the millisecond of the deadline", AT_THE_END, extend(), ["reservation_expired"]),
    Row(
        "expire in the millisecond of the deadline",
        AT_THE_END,
        expire(),
        ["expired"],
        End({"a": (5, 0, 0, 5)}, {"r1": "expired"}, events=(("expire", "a=2", ""),)),
    ),
    Row(
        "replace in the millisecond of the deadline: nothing is given up",
        (at(FAR_MS), *CHECKED_OUT, at(END_MS)),
        check_out("a=4", "r2", "r1", "a=2"),
        verdict(f"a 4 3 insufficient 3 {END_MS}", due=1),
    ),
    Row(
        "commit too late, in the millisecond in which others fall due",
        (
            *(at(FAR_MS), stock(5), reserve("a=2", hold_ms=1_000), at(FAR_MS + 1_000), expire()),
            *(reserve("a=4", "r2", hold_ms=1_000), at(FAR_MS + 2_000)),
        ),
        commit(settled=0),
        ["due", FAR_MS + 2_000],
    ),
    Row(
        "reserve when the sale begins",
        (at(FAR_MS), stock(5, "sale_starts_ms", FAR_MS)),
        reserve("a=2"),
        ["reserved", FAR_MS, END_MS],
        End({"a": (3, 2, 0, 5)}, events=(("reserve", "a=2", ""),)),
    ),
    Row(
        "reserve when the sale ends",
        (at(FAR_MS), stock(5, "sale_ends_ms", FAR_MS)),
        reserve("a=2"),
        verdict("a 2 5 ended 0 0"),
    ),
]

TIMES = [
    Row(
        "reserve for a millisecond",
        (at(FAR_MS), stock(5)),
        reserve("a=1", hold_ms=1),
        ["reserved", FAR_MS, FAR_MS + 1],
        End({"a": (4, 1, 0, 5)}, events=(("reserve", "a=1", ""),)),
    ),
    Row(
        "extend to a millisecond",
        (at(FAR_MS), *HELD),
        extend(hold_ms=1),
        ["extended", FAR_MS + 1],
        End(
            fields={
                KEYS.reservation("r1"): {"deadline_ms": str(FAR_MS + 1)},
                KEYS.sku("a"): {"next_release_ms": str(FAR_MS + 1)},
            },
            events=(("extend", "a=2", ""),),
            holds={KEYS.deadlines: ([("r1", FAR_MS + 1)], False), KEYS.operation("o"): None},
        ),
    ),
    Row(
        "extend up to 900 seconds from the start",
        (at(FAR_MS), *HELD, at(FAR_MS + 600_000)),
        extend(hold_ms=900_000),
        ["extended", END_MS],
        End(fields={KEYS.reservation("r1"): {"deadline_ms": str(END_MS)}}, events=(("extend", "a=2", ""),)),
    ),
    Row(
        "extend to a time when another hold has ended",
        (at(FAR_MS), stock(5), reserve("a=2"), reserve("a=1", "r2", hold_ms=60_000)),
        extend(hold_ms=120_000),
        ["extended", FAR_MS + 120_000],
        End(
            fields={KEYS.sku("a"): {"next_release_ms": str(FAR_MS + 60_000)}},
            events=(("extend", "a=2", ""),),
        ),
    ),
    Row(
        "reserve is replayed, whatever became of its deadline",
        (at(FAR_MS), *HELD, extend(hold_ms=1_000)),
        reserve("a=2"),
        ["replayed"],
    ),
    Row(
        "commit again, and hear how far the ledger is",
        (at(FAR_MS), *PAID, adjust(1, operation="p")),
        commit(),
        ["committed", FAR_MS, 0, 1, 4],
    ),
    Row("hear again of a refund", REFUNDED, commit(), ["refund_required", "a=2/1/insufficient", 1, 5]),
    Row(
        "adjust by a single unit, by a clock that is ahead",
        (stock(5), at(FAR_MS)),
        adjust(1),
        ["adjusted", ...],
        End({"a": (6, 0, 0, 6)}, events=(("restock", "a=1", "", "o f"),)),
    ),
]

REFUSED = [
    Row(
        "reserve one more than the limit leaves",
        (*LIMITED, reserve("a=1", "r2")),
        reserve("a=1", "r3"),
        verdict("a 1 2 limit_exceeded 0 ?"),
    ),
    Row("reserve two when one is left", (stock(1),), reserve("a=2"), verdict("a 2 1 insufficient 1 0")),
    Row(
        "reserve a SKU that nobody has reserved yet",
        (put(KEYS.sku("a"), "available", 0),),
        reserve("a=1"),
        verdict("a 1 0 sold_out 0 0"),
    ),
    Row(
        "reserve more than is left beside what is due",
        DUE,
        reserve("a=4", "r2"),
        verdict("a 4 3 insufficient 3 ?", due=1),
    ),
    Row(
        "reserve over a limit of which some is due",
        (*LIMITED, run_out()),
        reserve("a=2", "r2"),
        verdict("a 2 3 limit_exceeded 1 ?", due=1),
    ),
    Row(
        "reserve what is paused, of which some is due",
        (*DUE, configure("", "paused", 1, request="g", operation="p")),
        reserve("a=1", "r2"),
        verdict("a 1 3 paused 0 ?"),
    ),
    Row(
        "reserve what is sold out while something else is due",
        (stock(0), stock(5, sku="b"), reserve("b=1"), run_out()),
        reserve("a=1", "r2"),
        verdict("a 1 0 sold_out 0 0"),
    ),
    Row(
        "reserve too much of what nobody holds while something else is due",
        (stock(1), stock(5, sku="b"), reserve("b=1"), run_out()),
        reserve("a=2", "r2"),
        verdict("a 2 1 insufficient 1 0"),
    ),
    Row(
        "reserve what is held, with a next release that is too early",
        (stock(2), reserve("a=2"), put(KEYS.sku("a"), "next_release_ms", 1)),
        reserve("a=1", "r2"),
        verdict("a 1 0 all_held 0 1"),
    ),
    Row(
        "replace by more than a limit that came later",
        (*CHECKED_OUT, configure("", "limit_per_customer", 3, request="g", operation="p")),
        check_out("a=4", "r2", "r1", "a=2"),
        verdict("a 4 5 limit_exceeded 3 ?"),
    ),
    Row("cancel a hold of what has a limit", LIMITED, cancel(), ["not_found"]),
]

SECOND_KEYS = [
    Row("commit with other buyers", HELD, of_other_buyers(commit()), ["wrong_keys"]),
    Row("release with other buyers", HELD, of_other_buyers(release()), ["wrong_keys"]),
    Row("expire with other buyers", DUE, of_other_buyers(expire()), ["wrong_keys"]),
    Row("cancel with other buyers", PAID, of_other_buyers(cancel()), ["wrong_keys"]),
    Row(
        "replace with other buyers",
        (*CHECKED_OUT, stock(5, sku="b")),
        of_other_buyers(check_out("b=1", "r2", "r1", "a=2")),
        ["wrong_keys"],
    ),
]

TORN = [
    Row("adjust a SKU that has lost its available", (stock(5), NO_AVAILABLE), adjust(1), ["not_found"]),
    Row("release of a SKU that has lost its available", (*HELD, NO_AVAILABLE), release(), ["inconsistent", "a"]),
    Row("expire of a SKU that has lost its available", (*DUE, NO_AVAILABLE), expire(), ["inconsistent", "a"]),
    Row("commit a hold without its user", (*HELD, NO_USER), commit(), ["inconsistent", ""]),
    Row("commit a hold without its lines", (*HELD, NO_LINES), commit(), ["inconsistent", ""]),
    Row("release a hold without its user", (*HELD, NO_USER), release(), ["inconsistent", ""]),
    Row("release a hold without its lines", (*HELD, NO_LINES), release(), ["inconsistent", ""]),
    Row("expire a hold without its user", (*DUE, NO_USER), expire(), ["inconsistent", ""]),
    Row("commit one unit, none of which is reserved", (*ONE, NOTHING_RESERVED), commit("a=1"), ["inconsistent", "a"]),
    Row("release one unit, none of which is reserved", (*ONE, NOTHING_RESERVED), release("a=1"), ["inconsistent", "a"]),
    Row(
        "expire one unit, none of which is reserved",
        (*ONE, run_out(), NOTHING_RESERVED),
        expire("a=1"),
        ["inconsistent", "a"],
    ),
    Row(
        "replace one unit, none of which is reserved",
        (stock(5), check_out("a=1", "r1"), NOTHING_RESERVED),
        check_out("a=1", "r2", "r1", "a=1"),
        ["inconsistent", "a"],
    ),
    Row(
        "cancel one unit, none of which is allocated",
        (*ONE_PAID, NOTHING_ALLOCATED),
        cancel("a=1"),
        ["inconsistent", "a"],
    ),
    Row(
        "fulfil one unit, none of which is allocated",
        (*ONE_PAID, NOTHING_ALLOCATED),
        fulfil("a=1"),
        ["inconsistent", "a"],
    ),
    Row(
        "recount a SKU that has lost its available",
        (*HELD, NO_AVAILABLE),
        configure(""),
        ["stock_below_claims", 2],
    ),
]

NAMES = [
    Row(
        "release what has a limit and a dash in its name",
        A_DASH,
        release("a-b=2"),
        ["released"],
        End({"a-b": (5, 0, 0, 5)}, buyers={"a-b": {}}, events=(("release", "a-b=2", ""),)),
    ),
    Row(
        "expire what has a limit and a dash in its name",
        (*A_DASH, run_out()),
        expire("a-b=2"),
        ["expired"],
        End({"a-b": (5, 0, 0, 5)}, buyers={"a-b": {}}, events=(("expire", "a-b=2", ""),)),
    ),
    Row(
        "cancel what has a limit and a dash in its name",
        (*A_DASH, commit("a-b=2")),
        cancel("a-b=2"),
        ["cancelled", "cancelled", "", "a-b=2"],
        End({"a-b": (5, 0, 0, 5)}, buyers={"a-b": {}}, events=(("cancel", "a-b=2", "cancelled"),)),
    ),
    Row(
        "replace what has a limit and a dash in its name",
        (stock(5, "limit_per_customer", 3, sku="a-b"), check_out("a-b=2", "r1")),
        check_out("a-b=3", "r2", "r1", "a-b=2"),
        ["reserved", ANY, ANY],
        End(
            {"a-b": (2, 3, 0, 5)},
            {"r1": "released"},
            {"a-b": {"ann": "3"}},
            events=(("release", "a-b=2", ""), ("reserve", "a-b=3", ANY)),
        ),
    ),
]

LEFT = [
    Row(
        "expire one of two holds of a buyer",
        (stock(5, "limit_per_customer", 3), reserve("a=2"), reserve("a=1", "r2"), run_out()),
        expire(),
        ["expired"],
        End({"a": (4, 1, 0, 5)}, buyers={"a": {"ann": "1"}}, events=(("expire", "a=2", ""),)),
    ),
    Row(
        "commit beside another order",
        (*ONE_PAID, reserve("a=2", "r2")),
        commit(reservation_id="r2", payment="p2"),
        ["committed", ANY, 0, 1, 5],
        End({"a": (2, 0, 3, 5)}, {"r2": "committed"}, events=(("commit", "a=2", ""),)),
    ),
    Row(
        "commit the first order of a SKU that never had any",
        (*HELD, NOTHING_ALLOCATED),
        commit(),
        ["committed", ANY, 0, 1, 3],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, events=(("commit", "a=2", ""),)),
    ),
    Row(
        "commit too late the last units, while others hold some",
        (*DUE, expire(), reserve("a=3", "r2")),
        commit(),
        ["committed", ANY, 1, 1, 5],
        End({"a": (0, 3, 2, 5)}, {"r1": "committed"}, events=(("commit", "a=2", "late"),)),
    ),
    Row(
        "commit too late what is sold, while nobody holds any",
        (*DUE, expire(), reserve("a=4", "r2"), commit("a=4", "r2", "p2")),
        commit(settled=0),
        ["refund_required", "a=2/1/insufficient", 1, 6],
        End({"a": (1, 0, 4, 5)}, {"r1": "expired"}, events=(("refund_required", "a=2", "a=2/1/insufficient"),)),
    ),
    Row(
        "create a SKU, which the list of all has by its name alone",
        (),
        configure(5),
        ["created", ...],
        End({"a": (5, 0, 0, 5)}, events=(("recount", "a=5", "", "o f"),), holds={KEYS.skus: ([("a", 0)], False)}),
    ),
]

ROWS = [*AT_ITS_END, *TIMES, *REFUSED, *SECOND_KEYS, *TORN, *NAMES, *LEFT]
