"""Rows for orders that are shipped and called off in parts, for buyers' counts without a limit, and for SKUs of any name."""

from __future__ import annotations

from unittest.mock import ANY

from tests.script_rows import (
    A_CART,
    CANCELLED,
    CART,
    CHECKED_OUT,
    EXPIRED,
    FULFILLED,
    HELD,
    KEYS,
    PAID,
    TOO_FEW_ALLOCATED,
    TWO_LINES,
    TWO_PAID,
    End,
    Row,
    Step,
    adjust,
    cancel,
    check_out,
    commit,
    configure,
    empty_cart,
    expire,
    extend,
    fulfil,
    pay_replaced,
    put,
    put_line,
    refund,
    release,
    reserve,
    run_out,
    stock,
    verdict,
)

BOTH = "a=2 b=1"
SENT_B = (*TWO_PAID, fulfil(BOTH, "b=1"))
"""An order of a=2 b=1 of which b was shipped."""

SENT_ONE_OF_A = (*TWO_PAID, fulfil(BOTH, "a=1"))
THREE_PAID = (stock(5), reserve("a=3"), commit("a=3"))
R1 = KEYS.reservation("r1")

PARTS_SHIPPED = [
    Row(
        "fulfil one line of two",
        TWO_PAID,
        fulfil(BOTH, "b=1"),
        ["fulfilled", "committed", "b=1", ""],
        End(
            {"a": (3, 0, 2, 5), "b": (4, 0, 0, 4)},
            {"r1": "committed"},
            {"a": {"ann": "2"}, "b": {"ann": "1"}},
            fields={R1: {"fulfilled": "b=1", "cancelled": None}},
            events=(("fulfil", "b=1", "committed"),),
        ),
    ),
    Row(
        "fulfil a part of a line, with a key",
        TWO_PAID,
        fulfil(BOTH, "a=1", request="7"),
        ["fulfilled", "committed", "a=1", ""],
        End(
            {"a": (3, 0, 1, 4), "b": (4, 0, 1, 5)},
            {"r1": "committed"},
            fields={R1: {"fulfilled": "a=1"}},
            events=(("fulfil", "a=1", "committed", "o 7"),),
            holds={KEYS.operation("o"): ('7 ["fulfilled","committed","a=1",""]', True)},
        ),
    ),
    Row(
        "fulfil a line that is named twice",
        TWO_PAID,
        fulfil(BOTH, "a=1 a=1"),
        ["fulfilled", "committed", "a=2", ""],
        End({"a": (3, 0, 0, 3), "b": (4, 0, 1, 5)}, {"r1": "committed"}, events=(("fulfil", "a=2", "committed"),)),
    ),
    Row(
        "fulfil all lines by name, in another order",
        TWO_PAID,
        fulfil(BOTH, "b=1 a=2"),
        ["fulfilled", "fulfilled", BOTH, ""],
        End({"a": (3, 0, 0, 3), "b": (4, 0, 0, 4)}, {"r1": "fulfilled"}, events=(("fulfil", BOTH, "fulfilled"),)),
    ),
    Row(
        "fulfil the rest",
        SENT_ONE_OF_A,
        fulfil(BOTH),
        ["fulfilled", "fulfilled", BOTH, ""],
        End(
            {"a": (3, 0, 0, 3), "b": (4, 0, 0, 4)},
            {"r1": "fulfilled"},
            fields={R1: {"fulfilled": BOTH}},
            events=(("fulfil", "a=1 b=1", "fulfilled"),),
        ),
    ),
    Row(
        "fulfil the rest by name",
        SENT_B,
        fulfil(BOTH, "a=2"),
        ["fulfilled", "fulfilled", BOTH, ""],
        End({"a": (3, 0, 0, 3), "b": (4, 0, 0, 4)}, {"r1": "fulfilled"}, events=(("fulfil", "a=2", "fulfilled"),)),
    ),
    Row(
        "fulfil a part of a line that was shipped in part",
        (*THREE_PAID, fulfil("a=3", "a=1")),
        fulfil("a=3", "a=1"),
        ["fulfilled", "committed", "a=2", ""],
        End({"a": (2, 0, 1, 3)}, {"r1": "committed"}, events=(("fulfil", "a=1", "committed"),)),
    ),
    Row("fulfil more than was bought", PAID, fulfil(what="a=3"), ["not_in_order", "a"]),
    Row("fulfil more than was bought in two lines", PAID, fulfil(what="a=1 a=2"), ["not_in_order", "a"]),
    Row("fulfil what was not bought", TWO_PAID, fulfil(BOTH, "a=1 c=1"), ["not_in_order", "c"]),
    Row("fulfil a line twice", SENT_B, fulfil(BOTH, "b=1"), ["not_in_order", "b"]),
    Row("fulfil more than is left to ship", SENT_ONE_OF_A, fulfil(BOTH, "a=2"), ["not_in_order", "a"]),
    Row("fulfil what was cancelled", (*PAID, cancel(what="a=1")), fulfil(what="a=2"), ["not_in_order", "a"]),
    Row("fulfil lines of a fulfilled order", FULFILLED, fulfil(what="a=1"), ["invalid_transition", "fulfilled"]),
    Row("fulfil lines of a cancelled order", CANCELLED, fulfil(what="a=1"), ["invalid_transition", "cancelled"]),
    Row("fulfil lines of a hold", HELD, fulfil(what="a=1"), ["not_found"]),
    Row("fulfil lines with the keys of another SKU", PAID, fulfil("b=2", "a=1"), ["wrong_keys"]),
    Row("fulfil lines with too few keys", TWO_PAID, fulfil("a=2", "a=1"), ["wrong_keys"]),
    Row("fulfil more than is allocated", (*PAID, TOO_FEW_ALLOCATED), fulfil(what="a=2"), ["inconsistent", "a"]),
    Row("fulfil more than is in the house", (*PAID, put(KEYS.sku("a"), "on_hand", 1)), fulfil(), ["inconsistent", "a"]),
    Row(
        "fulfil a part is replayed",
        (*TWO_PAID, fulfil(BOTH, "b=1", request="7")),
        fulfil(BOTH, "b=1", request="7"),
        ["replayed", "fulfilled", "committed", "b=1", ""],
    ),
    Row(
        "fulfil a part is replayed after the rest was shipped",
        (*TWO_PAID, fulfil(BOTH, "b=1", request="7"), fulfil(BOTH)),
        fulfil(BOTH, "b=1", request="7"),
        ["replayed", "fulfilled", "committed", "b=1", ""],
    ),
    Row(
        "fulfil a part with a key that came with other lines",
        (*TWO_PAID, fulfil(BOTH, "b=1", request="7")),
        fulfil(BOTH, "a=1", request="8"),
        ["idempotency_key_reused"],
    ),
    Row(
        "fulfil what is left of a line that was shipped and cancelled in parts",
        (*THREE_PAID, fulfil("a=3", "a=1"), cancel("a=3", "a=1")),
        fulfil("a=3"),
        ["fulfilled", "fulfilled", "a=2", "a=1"],
        End(
            {"a": (3, 0, 0, 3)},
            {"r1": "fulfilled"},
            {"a": {"ann": "2"}},
            fields={R1: {"fulfilled": "a=2", "cancelled": "a=1"}},
            events=(("fulfil", "a=1", "fulfilled"),),
        ),
    ),
    Row(
        "fulfil one of what a cancellation left",
        (*THREE_PAID, cancel("a=3", "a=1")),
        fulfil("a=3", "a=1"),
        ["fulfilled", "committed", "a=1", "a=1"],
        End({"a": (3, 0, 1, 4)}, {"r1": "committed"}, events=(("fulfil", "a=1", "committed"),)),
    ),
    Row(
        "fulfil again what ended with a cancellation",
        (*SENT_B, cancel(BOTH)),
        fulfil(BOTH),
        ["fulfilled", "fulfilled", "b=1", "a=2"],
    ),
]

PARTS_CANCELLED = [
    Row(
        "cancel what was not shipped",
        SENT_B,
        cancel(BOTH),
        ["cancelled", "fulfilled", "b=1", "a=2"],
        End(
            {"a": (5, 0, 0, 5), "b": (4, 0, 0, 4)},
            {"r1": "fulfilled"},
            {"a": {}, "b": {"ann": "1"}},
            fields={R1: {"fulfilled": "b=1", "cancelled": "a=2"}},
            events=(("cancel", "a=2", "fulfilled"),),
        ),
    ),
    Row(
        "cancel the rest of a line, by name and with a key",
        (*THREE_PAID, fulfil("a=3", "a=2")),
        cancel("a=3", "a=1", request="7"),
        ["cancelled", "fulfilled", "a=2", "a=1"],
        End(
            {"a": (3, 0, 0, 3)},
            {"r1": "fulfilled"},
            {"a": {"ann": "2"}},
            events=(("cancel", "a=1", "fulfilled", "o 7"),),
            holds={KEYS.operation("o"): ('7 ["cancelled","fulfilled","a=2","a=1"]', True)},
        ),
    ),
    Row(
        "cancel a part of what was not shipped",
        SENT_B,
        cancel(BOTH, "a=1"),
        ["cancelled", "committed", "b=1", "a=1"],
        End(
            {"a": (4, 0, 1, 5), "b": (4, 0, 0, 4)},
            {"r1": "committed"},
            {"a": {"ann": "1"}, "b": {"ann": "1"}},
            events=(("cancel", "a=1", "committed"),),
        ),
    ),
    Row("cancel less than nothing", PAID, cancel(what="a=-1"), ["not_in_order", "a"]),
    Row("cancel half a unit", PAID, cancel(what="a=0.5"), ["not_in_order", "a"]),
    Row("fulfil less than nothing", PAID, fulfil(what="a=-1"), ["not_in_order", "a"]),
    Row("fulfil half a unit", PAID, fulfil(what="a=0.5"), ["not_in_order", "a"]),
    Row("cancel what was shipped", SENT_B, cancel(BOTH, "b=1"), ["not_in_order", "b"]),
    Row("cancel more than is left to ship", SENT_ONE_OF_A, cancel(BOTH, "a=2"), ["not_in_order", "a"]),
    Row(
        "cancel the rest of a part is replayed",
        (*SENT_B, cancel(BOTH, request="7")),
        cancel(BOTH, request="7"),
        ["replayed", "cancelled", "fulfilled", "b=1", "a=2"],
    ),
    Row(
        "cancel lines of an order that ended as shipped",
        (*SENT_B, cancel(BOTH)),
        cancel(BOTH, "a=1"),
        ["invalid_transition", "fulfilled"],
    ),
    Row("release an order that was shipped in part", SENT_B, release(BOTH), ["already_committed"]),
    Row("extend an order that was shipped in part", SENT_B, extend(BOTH), ["invalid_transition", "committed"]),
    Row("commit again what was shipped in part", SENT_B, commit(BOTH), ["committed", ANY, 0, 1, 5]),
    Row(
        "refund a second payment of an order that was shipped in part",
        SENT_B,
        refund("p2"),
        ["refund_required", 1, 6],
        End({"b": (4, 0, 0, 4)}, {"r1": "committed"}, events=(("refund_required", "", ""),)),
    ),
]

A_LIMIT = configure("", "limit_per_customer", 3, operation="limit")

COUNTS = [
    Row(
        "reserve counts its buyer without a limit",
        (*HELD, reserve("a=1", "r2", user="bob")),
        reserve("a=2", "r3"),
        ["reserved", ANY, ANY],
        End({"a": (0, 5, 0, 5)}, buyers={"a": {"ann": "4", "bob": "1"}}, events=(("reserve", "a=2", ""),)),
    ),
    Row(
        "expire takes its buyer's count back without a limit",
        (*HELD, reserve("a=1", "r2"), run_out()),
        expire(),
        ["expired"],
        End({"a": (4, 1, 0, 5)}, buyers={"a": {"ann": "1"}}, events=(("expire", "a=2", ""),)),
    ),
    Row(
        "expire takes its buyer's whole count back without a limit",
        (*TWO_LINES, run_out()),
        expire(BOTH),
        ["expired"],
        End(buyers={"a": {}, "b": {}}, events=(("expire", BOTH, ""),)),
    ),
    Row(
        "release takes its buyer's count back without a limit",
        TWO_LINES,
        release(BOTH),
        ["released"],
        End(buyers={"a": {}, "b": {}}, events=(("release", BOTH, ""),)),
    ),
    Row(
        "cancel takes its buyer's count back without a limit",
        TWO_PAID,
        cancel(BOTH, "a=1 b=1"),
        ["cancelled", "committed", "", "a=1 b=1"],
        End(buyers={"a": {"ann": "1"}, "b": {}}, events=(("cancel", "a=1 b=1", "committed"),)),
    ),
    Row(
        "replace takes its buyer's count back without a limit",
        (*CHECKED_OUT, stock(5, sku="b"), reserve("a=1", "r9")),
        check_out("b=2", "r2", "r1", "a=2"),
        ["reserved", ANY, ANY],
        End(buyers={"a": {"ann": "1"}, "b": {"ann": "2"}}, events=(("release", "a=2", ""), ("reserve", "b=2", ANY))),
    ),
    Row(
        "commit leaves its buyer's count without a limit",
        HELD,
        commit(),
        ["committed", ANY, 0, 1, 3],
        End(buyers={"a": {"ann": "2"}}, events=(("commit", "a=2", ""),)),
    ),
    Row(
        "commit late counts its buyer without a limit",
        EXPIRED,
        commit(),
        ["committed", ANY, 1, 1, 4],
        End(buyers={"a": {"ann": "2"}}, events=(("commit", "a=2", "late"),)),
    ),
    Row(
        "fulfil leaves its buyer's count without a limit",
        PAID,
        fulfil(),
        ["fulfilled", "fulfilled", "a=2", ""],
        End(buyers={"a": {"ann": "2"}}, events=(("fulfil", "a=2", "fulfilled"),)),
    ),
    Row(
        "a limit counts what was held before it was set",
        (*HELD, A_LIMIT),
        reserve("a=2", "r2"),
        verdict("a 2 3 limit_exceeded 1 ?"),
    ),
    Row(
        "a limit counts what was bought before it was set",
        (*PAID, A_LIMIT),
        reserve("a=2", "r2"),
        verdict("a 2 3 limit_exceeded 1 0"),
    ),
    Row(
        "a limit counts what was shipped before it was set",
        (*FULFILLED, A_LIMIT),
        reserve("a=2", "r2"),
        verdict("a 2 3 limit_exceeded 1 0"),
    ),
    Row(
        "a limit counts more than it allows",
        (stock(9), reserve("a=4"), commit("a=4"), A_LIMIT),
        reserve("a=1", "r2"),
        verdict("a 1 5 limit_exceeded 0 0"),
    ),
    Row(
        "a limit leaves room for what was cancelled before it was set",
        (*PAID, cancel(what="a=1"), A_LIMIT),
        reserve("a=2", "r2"),
        ["reserved", ANY, ANY],
        End(buyers={"a": {"ann": "3"}}, events=(("reserve", "a=2", ""),)),
    ),
    Row(
        "a limit counts nobody else's",
        (*PAID, A_LIMIT),
        reserve("a=3", "r2", user="bob"),
        ["reserved", ANY, ANY],
        End(buyers={"a": {"ann": "2", "bob": "3"}}, events=(("reserve", "a=3", ""),)),
    ),
]

ODD = "Red%20Shirt/XL=2 größe-42=1 50%25=3 a%3Db=1"
"""Lines as Redis has them, of the SKUs `Red Shirt/XL`, `größe-42`, `50%` and `a=b`."""

NAMES = ("Red Shirt/XL", "größe-42", "50%", "a=b")
ODD_STOCK: tuple[Step, ...] = tuple(stock(5, sku=sku) for sku in NAMES)
ODD_HELD = (*ODD_STOCK, reserve(ODD))
ODD_PAID = (*ODD_HELD, commit(ODD))
ODD_REPLACED = (*ODD_STOCK, check_out(ODD, "r1"), check_out(ODD, "r2", "r1", ODD))
NOBODY: dict[str, dict[str, str]] = {sku: {} for sku in NAMES}
ANN = {sku: {"ann": units} for sku, units in zip(NAMES, "2131", strict=True)}
FREE = dict.fromkeys(NAMES, (5, 0, 0, 5))
RESERVED = dict(zip(NAMES, ((3, 2, 0, 5), (4, 1, 0, 5), (2, 3, 0, 5), (4, 1, 0, 5)), strict=True))
ALLOCATED = dict(zip(NAMES, ((3, 0, 2, 5), (4, 0, 1, 5), (2, 0, 3, 5), (4, 0, 1, 5)), strict=True))
SHIPPED = dict(zip(NAMES, ((3, 0, 0, 3), (4, 0, 0, 4), (2, 0, 0, 2), (4, 0, 0, 4)), strict=True))
SAID = "Red%20Shirt/XL=2/5/ok größe-42=1/5/ok 50%25=3/0/all_held a%3Db=1/5/ok"

STORED_FORMS = [
    Row(
        "reserve SKUs of any name",
        ODD_STOCK,
        reserve(ODD),
        ["reserved", ANY, ANY],
        End(RESERVED, {"r1": "reserved"}, ANN, fields={R1: {"lines": ODD}}, events=(("reserve", ODD, ""),)),
    ),
    Row(
        "reserve is refused with verdicts for SKUs of any name",
        (*ODD_STOCK, reserve("50%25=5", "r2")),
        reserve("Red%20Shirt/XL=2 50%25=3 größe-42=9 a%3Dc=1"),
        [
            *("lines_unavailable", ANY, 0, "Red%20Shirt/XL", 2, 5, "ok", 5, 0, "50%25", 3, 0, "all_held", 0, ANY),
            *("größe-42", 9, 5, "insufficient", 5, 0, "a%3Dc", 1, 0, "unknown_sku", 0, 0),
        ],
    ),
    Row(
        "replace SKUs of any name",
        (*ODD_STOCK, check_out(ODD, "r1")),
        check_out("50%25=5", "r2", "r1", ODD),
        ["reserved", ANY, ANY],
        End(
            {**FREE, "50%": (0, 5, 0, 5)},
            {"r1": "released"},
            {**NOBODY, "50%": {"ann": "5"}},
            events=(("release", ODD, ""), ("reserve", "50%25=5", ANY)),
        ),
    ),
    Row(
        "extend a hold of SKUs of any name",
        ODD_HELD,
        extend(ODD),
        ["extended", ANY],
        End(RESERVED, {"r1": "reserved"}, events=(("extend", ODD, ""),)),
    ),
    Row(
        "release SKUs of any name",
        ODD_HELD,
        release(ODD),
        ["released"],
        End(FREE, {"r1": "released"}, NOBODY, events=(("release", ODD, ""),)),
    ),
    Row(
        "expire SKUs of any name",
        (*ODD_HELD, run_out()),
        expire(ODD),
        ["expired"],
        End(FREE, {"r1": "expired"}, NOBODY, events=(("expire", ODD, ""),)),
    ),
    Row(
        "commit SKUs of any name",
        ODD_HELD,
        commit(ODD),
        ["committed", ANY, 0, 1, 6],
        End(ALLOCATED, {"r1": "committed"}, ANN, events=(("commit", ODD, ""),)),
    ),
    Row(
        "commit late SKUs of any name",
        (*ODD_HELD, release(ODD)),
        commit(ODD),
        ["committed", ANY, 1, 1, 7],
        End(ALLOCATED, {"r1": "committed"}, ANN, events=(("commit", ODD, "late"),)),
    ),
    Row(
        "commit late is refused with verdicts for SKUs of any name",
        (*ODD_HELD, release(ODD), reserve("50%25=5", "r2")),
        commit(ODD),
        ["refund_required", SAID, 1, 8],
        End({"50%": (0, 5, 0, 5)}, fields={R1: {"refund:p1": SAID}}, events=(("refund_required", ODD, SAID),)),
    ),
    Row(
        "commit from a later hold of SKUs of any name",
        ODD_REPLACED,
        pay_replaced(ODD, "r2", ODD),
        ["committed", ANY, 1, 1, 9],
        End(
            ALLOCATED,
            {"r1": "committed", "r2": "released"},
            ANN,
            events=(("release", ODD, "r1"), ("commit", ODD, "late")),
        ),
    ),
    Row(
        "cancel SKUs of any name",
        (*ODD_PAID, cancel(ODD, "größe-42=1 50%25=1")),
        cancel(ODD),
        ["cancelled", "cancelled", "", ODD],
        End(
            FREE,
            {"r1": "cancelled"},
            NOBODY,
            fields={R1: {"cancelled": ODD}},
            events=(("cancel", "Red%20Shirt/XL=2 50%25=2 a%3Db=1", "cancelled"),),
        ),
    ),
    Row(
        "fulfil SKUs of any name",
        (*ODD_PAID, fulfil(ODD, "Red%20Shirt/XL=1 a%3Db=1")),
        fulfil(ODD),
        ["fulfilled", "fulfilled", ODD, ""],
        End(
            SHIPPED,
            {"r1": "fulfilled"},
            ANN,
            fields={R1: {"fulfilled": ODD}},
            events=(("fulfil", "Red%20Shirt/XL=1 größe-42=1 50%25=3", "fulfilled"),),
        ),
    ),
    Row(
        "cancel what was not bought under such a name",
        ODD_PAID,
        cancel(ODD, "Red%20Shirt=1"),
        ["not_in_order", "Red%20Shirt"],
    ),
    Row("fulfil what was not bought under such a name", ODD_PAID, fulfil(ODD, "50=1"), ["not_in_order", "50"]),
    *(
        Row(
            f"adjust {sku}",
            ODD_STOCK,
            adjust(2, sku=sku),
            ["adjusted", ...],
            End({sku: (7, 0, 0, 7)}, events=(("restock", f"{stored}=2", "", "o f"),)),
        )
        for sku, stored in zip(NAMES, ("Red%20Shirt/XL", "größe-42", "50%25", "a%3Db"), strict=True)
    ),
    *(
        Row(
            f"configure {sku}",
            (),
            configure(5, sku=sku),
            ["created", ...],
            End(
                {sku: (5, 0, 0, 5)},
                events=(("recount", f"{stored}=5", "", "o f"),),
                holds={KEYS.skus: ([(stored, 0)], False)},
            ),
        )
        for sku, stored in zip(NAMES, ("Red%20Shirt/XL", "größe-42", "50%25", "a%3Db"), strict=True)
    ),
    Row(
        "put a line of a SKU of any name",
        A_CART,
        put_line("Red%20Shirt/XL=3"),
        ["put"],
        End(fields={CART: {"sku:Red%20Shirt/XL": "3"}}),
    ),
    Row(
        "empty a cart of SKUs of any name",
        (*A_CART, put_line("Red%20Shirt/XL=3"), put_line("größe-42=1"), put_line("a%3Db=1")),
        empty_cart(ODD),
        ["emptied"],
        End(fields={CART: {"sku:Red%20Shirt/XL": "1", "sku:größe-42": None, "sku:a%3Db": None}}),
    ),
]

ROWS = [*PARTS_SHIPPED, *PARTS_CANCELLED, *COUNTS, *STORED_FORMS]
