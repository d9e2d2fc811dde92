"""What the scripts of lua/look say, as a table: start, script, lines; of healthy and of broken states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.store import Store
from tests.order_rows import ODD_HELD
from tests.script_rows import (
    CANCELLED,
    DUE,
    EXPIRED,
    FAR_MS,
    FULFILLED,
    HELD,
    KEYS,
    LIMITED,
    PAID,
    REFUNDED,
    RELEASED,
    TWO_LINES,
    TWO_PAID,
    Step,
    at,
    cancel,
    check_out,
    commit,
    extend,
    fulfil,
    lose,
    note,
    put,
    reserve,
    selling,
    stock,
)

NOW = at(FAR_MS)
"""2096-10-02T07:06:40Z, and it stands still."""

FOUR_LEFT = at(FAR_MS + 648_000)
A, BUYERS, R1 = KEYS.sku("a"), KEYS.buyers("a"), KEYS.reservation("r1")
KEYS_OF = {
    "sku": [KEYS.meta, A, BUYERS],
    "holders": [KEYS.meta, KEYS.deadlines, A],
    "invariants": [KEYS.meta, KEYS.deadlines, A, BUYERS],
    "reservation": [KEYS.meta, KEYS.deadlines, R1, KEYS.lease("r1")],
    "health": [KEYS.meta, KEYS.ledger, KEYS.deadlines, KEYS.keeper],
}
HOSTILE = 'ann\n2) "BAD\x1b[31m\\x' + "é%\0 o'hara"
LONGEST = "\N{GOTHIC LETTER HWAIR}" * 128
"""A SKU of as many bytes as can be."""

SAFE = "ann%0A2) %22BAD%1B[31m%5Cx%C3%A9%25%00 o'hara"


@dataclass(frozen=True)
class Look:
    """`says` are lines, whole, in their order; others may stand between them. One that begins with ~ must not be there."""

    name: str
    start: tuple[Step, ...]
    script: str
    says: tuple[str, ...]
    arguments: tuple[str | int, ...] = ()
    keys: tuple[str, ...] | None = None


def zset(*members: Any) -> Step:
    return lambda store: store.redis.zadd(KEYS.deadlines, dict(zip(members[::2], members[1::2], strict=True)))


def other_type(key: str) -> Step:
    """Make the key one of a type that no script of Stockade makes it."""

    def overwritten(store: Store) -> None:
        store.redis.delete(key)
        store.redis.rpush(key, "something")

    return overwritten


def without(key: str, *fields: str) -> Step:
    return lambda store: store.redis.hdel(key, *fields)


SKU = [
    Look(
        "sku with a hold",
        (NOW, *HELD, FOUR_LEFT),
        "sku",
        (
            "SKU          a, as of 2096-10-02T07:17:28Z",
            "status       available",
            "on_hand                5 units 100.0 %  in the house",
            "available              3 units  60.0 %  can be reserved now",
            "reserved               2 units  40.0 %  claimed by live checkouts",
            "allocated              0 units   0.0 %  paid for, not yet shipped",
            "adds up      yes",
            "limit        none, users counted: 1",
            "window       no start, no end",
            "paused       no; all selling: on",
            "next release not before 2096-10-02T07:21:40Z (in 4 min 12 s)",
        ),
    ),
    Look(
        "sku with every attribute",
        (
            NOW,
            stock(5, "name", "Boot", "limit_per_customer", 3, "sale_starts_ms", FAR_MS - 7_000_000),
            put(A, "sale_ends_ms", FAR_MS + 90_000_000),
            reserve("a=2"),
        ),
        "sku",
        (
            "SKU          a, Boot, as of 2096-10-02T07:06:40Z",
            "status       available",
            "limit        3 units a customer, users counted: 1",
            "window       from 2096-10-02T05:10:00Z (1 h 56 min ago), until 2096-10-03T08:06:40Z (in 25 h 0 min)",
        ),
    ),
    Look(
        "sku with holds that may be due",
        (NOW, stock(2), reserve("a=2"), at(FAR_MS + 901_000)),
        "sku",
        (
            "status       all_held",
            "next release not before 2096-10-02T07:21:40Z (1.0 s ago); whoever needs it ends what is due first",
        ),
    ),
    Look(
        "sku without a unit",
        (stock(0),),
        "sku",
        (
            "status       sold_out",
            "on_hand                0 units       -  in the house",
            "next release none known: no live hold",
        ),
    ),
    Look("sku before the sale", (stock(5, "sale_starts_ms", FAR_MS),), "sku", ("status       not_started",)),
    Look("sku after the sale", (stock(5, "sale_ends_ms", 1),), "sku", ("status       ended",)),
    Look(
        "sku paused",
        (stock(5, "paused", 1),),
        "sku",
        ("status       paused", "paused       YES; all selling: on"),
    ),
    Look(
        "sku with all selling paused",
        (stock(5), selling(1, "fire\nin the house")),
        "sku",
        ("status       paused", "paused       no; all selling: PAUSED, fire%0Ain the house"),
    ),
    Look(
        "sku that does not add up",
        (stock(5), put(A, "available", 4)),
        "sku",
        ("BAD adds up  available + reserved + allocated is 4, on_hand is 5",),
    ),
    Look(
        "sku with torn fields",
        (stock(5), put(A, "available", "much\n", "next_release_ms", "1e9"), without(A, "allocated")),
        "sku",
        (
            "status       unknown",
            "available    unknown",
            "allocated    unknown",
            "adds up      unknown",
            "BAD field    available is no whole number: much%0A",
            "BAD field    allocated is missing",
            "BAD field    next_release_ms is no whole number: 1e9",
        ),
    ),
    Look("sku unknown", (NOW,), "sku", ("unknown_sku: there is no stk:{p0}:sku:a, as of 2096-10-02T07:06:40Z",)),
    Look("sku in an empty Redis", (lose(KEYS.meta), stock(5)), "sku", ("~status",)),
    Look(
        "sku of any name",
        (stock(5, sku="größe 50%"),),
        "sku",
        ("status       available", "on_hand                5 units 100.0 %  in the house"),
        keys=(KEYS.meta, KEYS.sku("größe 50%"), KEYS.buyers("größe 50%")),
    ),
    Look(
        "sku of any name, unknown",
        (NOW,),
        "sku",
        ("unknown_sku: there is no stk:{p0}:sku:gr%C3%B6%C3%9Fe%2050%25, as of 2096-10-02T07:06:40Z",),
        keys=(KEYS.meta, KEYS.sku("größe 50%"), KEYS.buyers("größe 50%")),
    ),
    Look(
        "sku of another type",
        (other_type(A),),
        "sku",
        ("wrong_keys: KEYS[2] must be the hash stk:{p0}:sku:a, not list stk:{p0}:sku:a",),
    ),
    Look(
        "sku with the keys of two",
        (stock(5),),
        "sku",
        ("wrong_keys: KEYS[3] must be the hash stk:{p0}:buyers:a, not  stk:{p0}:buyers:b",),
        keys=(KEYS.meta, A, KEYS.buyers("b")),
    ),
]

HOLDERS = [
    Look(
        "holders, who holds most first, and what ends first",
        (
            NOW,
            *(stock(90), stock(5, sku="aa"), reserve("a=2"), reserve("aa=1 a=5", "r2", user="eve")),
            *(reserve("a=4", "r3", hold_ms=60_000), reserve("aa=3", "r4"), at(FAR_MS + 59_000)),
        ),
        "holders",
        (
            "SKU          a, as of 2096-10-02T07:07:39Z",
            "reserved     11 units by its counter",
            "found        11 units in 3 holds of 2 users, among 4 live holds of any SKU",
            "    units  holds  user",
            "        6      2  ann",
            "        5      1  eve",
            "    units  age           left              deadline              id                      user",
            "        4  59 s          1.0 s             2096-10-02T07:07:40Z  r3                      ann",
            "        2  59 s          14 min 1 s        2096-10-02T07:21:40Z  r1                      ann",
            "        5  59 s          14 min 1 s        2096-10-02T07:21:40Z  r2                      eve",
            "more         no: the last live hold was looked at",
        ),
    ),
    Look(
        "holders of what is due",
        (NOW, *HELD, at(FAR_MS + 910_000)),
        "holders",
        (
            "        2  15 min 10 s   due 10 s          2096-10-02T07:21:40Z  r1                      ann",
            "more         no: the last live hold was looked at",
        ),
    ),
    Look(
        "holders, one at a time",
        (NOW, *HELD, reserve("a=1", "r2")),
        "holders",
        (
            "found        2 units in 1 holds of 1 users, among 1 live holds of any SKU",
            f"more         1 live holds; go on with: , 1 {FAR_MS + 900_000}+1",
        ),
        (1,),
    ),
    Look(
        "holders, going on among those of one moment",
        (NOW, *HELD, reserve("a=1", "r2"), reserve("a=1", "r3")),
        "holders",
        (
            "found        1 units in 1 holds of 1 users, among 1 live holds of any SKU",
            f"more         1 live holds; go on with: , 1 {FAR_MS + 900_000}+2",
        ),
        (1, f"{FAR_MS + 900_000}+1"),
    ),
    Look(
        "holders start at the SKU's next release",
        (NOW, stock(5), stock(5, sku="b"), reserve("b=1", "r2", hold_ms=60_000), reserve("a=2")),
        "holders",
        ("found        2 units in 1 holds of 1 users, among 1 live holds of any SKU",),
    ),
    Look(
        "holders from the first on",
        (NOW, stock(5), stock(5, sku="b"), reserve("b=1", "r2", hold_ms=60_000), reserve("a=2")),
        "holders",
        ("found        2 units in 1 holds of 1 users, among 2 live holds of any SKU",),
        (1000, "0"),
    ),
    Look(
        "holders of a SKU that is gone",
        (*HELD, lose(A)),
        "holders",
        (
            "unknown_sku  there is no stk:{p0}:sku:a",
            "reserved     unknown units by its counter",
            "found        2 units in 1 holds of 1 users, among 1 live holds of any SKU",
        ),
    ),
    Look(
        "holders of a SKU of any name",
        (NOW, *ODD_HELD),
        "holders",
        (
            "SKU          Red%20Shirt/XL, as of 2096-10-02T07:06:40Z",
            "found        2 units in 1 holds of 1 users, among 1 live holds of any SKU",
        ),
        keys=(KEYS.meta, KEYS.deadlines, KEYS.sku("Red Shirt/XL")),
    ),
    Look(
        "holders in an empty Redis",
        (lose(KEYS.meta),),
        "holders",
        ("found        0 units in 0 holds of 0 users, among 0 live holds of any SKU",),
    ),
    Look(
        "holders with torn records",
        (
            *(
                NOW,
                stock(9),
                reserve("a=1", "r0", user=HOSTILE),
                reserve("a=2"),
                put(R1, "lines", "a=two", "user", "x"),
            ),
            *(reserve("a=3", "r2"), other_type(KEYS.reservation("r2")), zset("r4", FAR_MS, "r5", "inf")),
            *(reserve("a=1", "r6"), without(KEYS.reservation("r6"), "user", "created_ms")),
        ),
        "holders",
        (
            "found        2 units in 2 holds of 2 users, among 5 live holds of any SKU",
            "BAD records  3 live holds have none that can be read; run stockade verify",
            f"        1      1  {SAFE}",
            f"        1  0.0 s         15 min 0 s        2096-10-02T07:21:40Z  r0                      {SAFE}",
            "        1  unknown       15 min 0 s        2096-10-02T07:21:40Z  r6                      ",
        ),
    ),
    Look("holders of too many", (), "holders", ("wrong_argument: look must be from 1 to 2000, not 2001",), (2001,)),
    Look("holders of none", (), "holders", ("wrong_argument: look must be from 1 to 2000, not 0",), (0,)),
    Look("holders of some", (), "holders", ("wrong_argument: look must be from 1 to 2000, not 1e2",), ("1e2",)),
    Look(
        "holders from nowhere",
        (),
        "holders",
        ("wrong_argument: cursor must be as a last line said, not 5;1",),
        (5, "5;1"),
    ),
    Look(
        "holders with more to say",
        (),
        "holders",
        ("wrong_argument: look and cursor are all there is, not 3 arguments",),
        (5, "", 1),
    ),
]

FINE = (
    "ok   range: counters are whole numbers from 0 on",
    "ok   deadlines: the holds end when deadlines says",
    "ok   limits: no user holds more than is counted",
)
INVARIANTS = [
    Look(
        "invariants of a SKU with two holds",
        (NOW, *LIMITED, reserve("a=1", "r2")),
        "invariants",
        (
            "SKU          a, as of 2096-10-02T07:06:40Z, looked at 2 of 2 live holds of any SKU",
            "ok   conservation: on_hand 5; available 2 + reserved 3 + allocated 0",
            FINE[0],
            "ok   holds: reserved 3, 3 units in 2 live holds",
            FINE[1],
            f"ok   next_release: next_release_ms is {FAR_MS + 900_000}, the earliest deadline {FAR_MS + 900_000}"
            " (2096-10-02T07:21:40Z)",
            FINE[2],
        ),
    ),
    Look(
        "invariants without a hold",
        PAID,
        "invariants",
        (
            "ok   holds: reserved 0, 0 units in 0 live holds",
            "ok   next_release: next_release_ms is missing, no live hold seen",
        ),
    ),
    Look(
        "invariants that were only partly looked at",
        (NOW, *LIMITED, reserve("a=1", "r2")),
        "invariants",
        (
            "ok   conservation: on_hand 5; available 2 + reserved 3 + allocated 0",
            "?    holds: reserved 3, 2 units in 1 live holds, which are not all",
            "?    deadlines: the holds end when deadlines says",
            f"ok   next_release: next_release_ms is {FAR_MS + 900_000}, the earliest deadline {FAR_MS + 900_000}"
            " (2096-10-02T07:21:40Z)",
            "?    limits: no user holds more than is counted",
            "no verdict   for ?: not every live hold was looked at; use stockade verify",
        ),
        (1,),
    ),
    Look(
        "invariants where a part is too much already",
        (*HELD, reserve("a=1", "r2"), put(A, "reserved", 1, "available", 4)),
        "invariants",
        ("BAD  holds: reserved 1, 2 units in 1 live holds, which are not all",),
        (1,),
    ),
    Look(
        "invariants of counters that do not add up",
        (stock(5), put(A, "on_hand", 6)),
        "invariants",
        ("BAD  conservation: on_hand 6; available 5 + reserved 0 + allocated 0", FINE[0]),
    ),
    Look(
        "invariants of a counter below 0",
        (stock(5), put(A, "available", -1, "allocated", 6)),
        "invariants",
        (
            "ok   conservation: on_hand 5; available -1 + reserved 0 + allocated 6",
            "BAD  range: counters are whole numbers from 0 on",
        ),
    ),
    Look(
        "invariants of a torn SKU",
        (*HELD, put(A, "available", "x\n"), without(A, "reserved", "next_release_ms")),
        "invariants",
        (
            "BAD  conservation: on_hand 5; available x%0A + reserved missing + allocated 0",
            "BAD  range: counters are whole numbers from 0 on",
            "BAD  holds: reserved missing, 2 units in 1 live holds",
        ),
    ),
    Look(
        "invariants of a hold that deadlines lacks",
        (*HELD, lambda store: store.redis.zrem(KEYS.deadlines, "r1")),
        "invariants",
        ("BAD  holds: reserved 2, 0 units in 0 live holds",),
    ),
    Look(
        "invariants of a hold with another deadline",
        (NOW, *HELD, zset("r1", FAR_MS)),
        "invariants",
        (f"BAD  deadlines: r1 ends {FAR_MS + 900_000}, in deadlines {FAR_MS}; 1 in all",),
    ),
    Look(
        "invariants of entries without a live hold",
        (
            NOW,
            *HELD,
            zset("r2", 1),
            put(R1, "state", "released"),
            zset("r3", "-inf"),
            other_type(KEYS.reservation("r3")),
        ),
        "invariants",
        (
            "BAD  holds: reserved 2, 0 units in 0 live holds",
            "BAD  deadlines: r3 has no record that can be read; r2 has no record that can be read; r1 is released; 3 in all",
        ),
    ),
    Look(
        "invariants of a late next release",
        (NOW, *HELD, put(A, "next_release_ms", FAR_MS + 900_001)),
        "invariants",
        (
            f"BAD  next_release: next_release_ms is {FAR_MS + 900_001}, the earliest deadline {FAR_MS + 900_000}"
            " (2096-10-02T07:21:40Z)",
        ),
    ),
    Look(
        "invariants of a count that is too low, with a limit",
        (*LIMITED, put(BUYERS, "ann", 1)),
        "invariants",
        ("BAD  limits: ann holds 2 units, counted are 1; 1 in all",),
    ),
    Look(
        "invariants of a count that is missing, without a limit",
        (*HELD, lose(BUYERS)),
        "invariants",
        ("BAD  limits: ann holds 2 units, counted are none; 1 in all",),
    ),
    *(
        Look(
            f"invariants of {sku}",
            (NOW, *ODD_HELD),
            "invariants",
            (
                f"SKU          {shown}, as of 2096-10-02T07:06:40Z, looked at 1 of 1 live holds of any SKU",
                f"ok   holds: reserved {units}, {units} units in 1 live holds",
                FINE[2],
            ),
            keys=(KEYS.meta, KEYS.deadlines, KEYS.sku(sku), KEYS.buyers(sku)),
        )
        for sku, shown, units in (
            ("Red Shirt/XL", "Red%20Shirt/XL", 2),
            ("größe-42", "gr%C3%B6%C3%9Fe-42", 1),
            ("50%", "50%25", 3),
        )
    ),
    Look(
        "invariants of an unknown SKU",
        (NOW,),
        "invariants",
        ("unknown_sku: there is no stk:{p0}:sku:a, as of 2096-10-02T07:06:40Z",),
    ),
    Look(
        "invariants of too many", (), "invariants", ("wrong_argument: look must be from 1 to 2000, not 2001",), (2001,)
    ),
    Look(
        "invariants with more to say",
        (),
        "invariants",
        ("wrong_argument: look is all there is, not 2 arguments",),
        (1, 0),
    ),
]

RESERVATION = [
    Look(
        "reservation that lives",
        (*TWO_LINES, put(R1, "user", HOSTILE)),
        "reservation",
        (
            "state        reserved",
            "next         commit (paid), release (given up), expire (time is up)",
            f"user         {SAFE}",
            "payment      none",
            "kept         until it ends",
            "line         2 units of a: on_hand 5, available 3, reserved 2, allocated 0",
            "line         1 units of b: on_hand 5, available 4, reserved 1, allocated 0",
            "by force     this is a dry run; then do instead of dry_run, with your own reason:",
        ),
    ),
    Look(
        "reservation of a cart, extended",
        (NOW, stock(5), check_out("a=2", "r1", hold_ms=60_000), extend(), FOUR_LEFT),
        "reservation",
        (
            "reservation  r1, as of 2096-10-02T07:17:28Z",
            "next         expire: its time is up",
            "created      2096-10-02T07:06:40Z (10 min 48 s ago)",
            "deadline     2096-10-02T07:11:40Z (5 min 48 s ago)",
            f"deadlines    has it at {FAR_MS + 300_000}, as it should",
            "cart         c1",
            "~by force",
        ),
    ),
    Look(
        "reservation with a lease that goes otherwise",
        (*HELD, lambda store: store.redis.pexpire(KEYS.lease("r1"), 150_900)),
        "reservation",
        ("state        reserved", "lease        ends in 2 min 30 s, which is not the deadline"),
    ),
    Look(
        "reservation without a lease",
        (*HELD, lose(KEYS.lease("r1"))),
        "reservation",
        ("lease        gone or endless: the keeper still finds the hold by its deadline",),
    ),
    Look(
        "reservation that is due",
        (*DUE, lose(KEYS.lease("r1"))),
        "reservation",
        ("next         expire: its time is up", "lease        gone, as it should be", "~by force"),
    ),
    Look(
        "reservation that is paid for",
        (NOW, *PAID),
        "reservation",
        (
            "state        committed",
            "next         fulfil (shipped), cancel (called off)",
            "~lease",
            "deadlines    has it not, as it should",
            "payment      p1, committed 2096-10-02T07:06:40Z (0.0 s ago)",
            "kept         until it ends",
            "~by force",
        ),
    ),
    Look(
        "reservation that is paid for late",
        (NOW, *EXPIRED, commit()),
        "reservation",
        (
            "state        committed",
            "payment      p1, committed 2096-10-02T07:06:40Z (0.0 s ago), late: after the hold had ended",
        ),
    ),
    Look(
        "reservation with a part cancelled",
        (*TWO_PAID, cancel("a=2 b=1", "a=1")),
        "reservation",
        ("state        committed", "cancelled    a=1"),
    ),
    Look(
        "reservation with a part shipped and another cancelled",
        (*TWO_PAID, fulfil("a=2 b=1", "b=1"), cancel("a=2 b=1", "a=1")),
        "reservation",
        (
            "state        committed",
            "next         fulfil (shipped), cancel (called off)",
            "fulfilled    b=1",
            "cancelled    a=1",
        ),
    ),
    Look(
        "reservation that somebody tries to pay",
        (*HELD, note(), note(payment="p\n2"), note("payment.failed")),
        "reservation",
        (
            "state        reserved",
            "payment      none",
            "attempt      p%0A2, the last one that the provider told of",
            "by force     this is a dry run; then do instead of dry_run, with your own reason:",
        ),
    ),
    Look(
        "reservation of SKUs with blanks and signs",
        (
            *(stock(5, sku=sku) for sku in ("Red Shirt/XL", "50%", "$(reboot)")),
            reserve("Red%20Shirt/XL=2 50%25=1 $(reboot)=1"),
        ),
        "reservation",
        (
            "line         2 units of Red%20Shirt/XL: on_hand 5, available 3, reserved 2, allocated 0",
            "line         1 units of 50%25: on_hand 5, available 4, reserved 1, allocated 0",
            "line         1 units of $(reboot): on_hand 5, available 4, reserved 1, allocated 0",
            "by force     this is a dry run; then do instead of dry_run, with your own reason:",
        ),
    ),
    *(
        Look(
            f"reservation of {sku}, which can't be pasted",
            (stock(5, sku=sku), reserve(f"{sku}=2")),
            "reservation",
            (
                f"line         2 units of {shown}: on_hand 5, available 3, reserved 2, allocated 0",
                "by force     this is a dry run; then without --dry-run, with your own reason:",
                "stockade release r1 --reason 'by on-call' --dry-run",
            ),
        )
        for sku, shown in (("größe-42", "gr%C3%B6%C3%9Fe-42"), ("o'hara", "o'hara"), ('7"', "7%22"), ("a\\b", "a%5Cb"))
    ),
    Look(
        "reservation of the longest SKU that was shipped, and must be paid back",
        (
            *(stock(5, sku=LONGEST), reserve(f"{LONGEST}=2"), commit(f"{LONGEST}=2"), fulfil(f"{LONGEST}=2")),
            put(R1, "refund:p2", f"{LONGEST}=2/0/sold_out"),
        ),
        "reservation",
        (
            f"fulfilled    {'%F0%90%8D%88' * 128}=2",
            f"refund       p2: {'%F0%90%8D%88' * 128}=2/0/sold_out",
            f"line         2 units of {'%F0%90%8D%88' * 128}: on_hand 3, available 3, reserved 0, allocated 0",
        ),
    ),
    Look(
        "reservation of as many and as long SKUs as there can be",
        (put(R1, "state", "released", "lines", " ".join(f"{LONGEST[3:]}{number}=1" for number in range(100, 300))),),
        "reservation",
        ("~BAD line",),
    ),
    Look(
        "reservation cancelled", CANCELLED, "reservation", ("state        cancelled", "next         nothing: the end")
    ),
    Look(
        "reservation fulfilled", FULFILLED, "reservation", ("state        fulfilled", "next         nothing: the end")
    ),
    Look(
        "reservation released",
        RELEASED,
        "reservation",
        (
            "state        released",
            "next         commit, by a late payment, if all lines can still be had",
            "~kept         until",
        ),
    ),
    Look(
        "reservation that needs a refund",
        REFUNDED,
        "reservation",
        (
            "state        expired",
            "next         commit, by a late payment, if all lines can still be had",
            "refund       p1: a=2/1/insufficient",
        ),
    ),
    Look(
        "reservation that is gone",
        (NOW,),
        "reservation",
        (
            "not_found    stk:{p0}:rsv:r1 is not in Redis, as of 2096-10-02T07:06:40Z: it never was, or ended over 24 h ago",
            "deadlines    has it neither",
            "look         stockade explain r1",
        ),
    ),
    Look(
        "reservation that only deadlines has",
        (zset("r1", 5),),
        "reservation",
        ("BAD deadlines has it all the same, at 5",),
    ),
    Look(
        "reservation that deadlines lacks",
        (*HELD, lambda store: store.redis.zrem(KEYS.deadlines, "r1")),
        "reservation",
        ("state        reserved", "BAD deadlines has it not"),
    ),
    Look(
        "reservation that deadlines keeps after its end",
        (*RELEASED, zset("r1", 5)),
        "reservation",
        ("state        released", "BAD deadlines has it at 5"),
    ),
    Look(
        "reservation that deadlines has too early",
        (NOW, *HELD, zset("r1", "17.5")),
        "reservation",
        ("BAD deadlines has it at 17.5",),
    ),
    Look(
        "reservation that is torn",
        (put(R1, "state", "lost\r", "lines", "a=2 'b'=1 c", "refund:\n", "\t", "deadline_ms", "x"),),
        "reservation",
        (
            "BAD state    lost%0D",
            "next         unknown",
            "user         missing",
            "created      unknown",
            "deadline     unknown",
            "refund       %0A: %09",
            "line         2 units of a: on_hand missing, available missing, reserved missing, allocated missing",
            "line         1 units of 'b': on_hand missing, available missing, reserved missing, allocated missing",
            "BAD line     c",
        ),
    ),
    Look(
        "reservation that lives with a torn line",
        (*HELD, put(R1, "lines", "a=2 $(reboot)")),
        "reservation",
        ("BAD line     $(reboot)", "by force     no command, because its lines are torn: run stockade verify"),
    ),
    Look(
        "reservation without a field",
        (put(R1, "cart", "c1"),),
        "reservation",
        ("BAD state    missing", "BAD lines    missing"),
    ),
]


def leads(store: Store) -> None:
    store.redis.set(KEYS.keeper, "host:1:abc", px=150_900)


def certified(store: Store) -> None:
    info = store.redis.info("everything")
    store.redis.hset(KEYS.meta, "run_id", f"{info['run_id']}:{info['master_replid']}")


HEALTH = [
    Look(
        "health of a shop that sells",
        (certified, leads, *HELD, put(KEYS.meta, "full_seq", 12, "default_hold_ms", 300_000)),
        "health",
        (
            "      gate          open",
            "      server        the certified one",
            "      keeper        host:1:abc leads, for another 2 min 30 s unless it renews",
            "      expiry        1 live holds, 0 of them due, the oldest 0.0 s late",
            "      ledger        epoch 1, seq 2, 1 events since 1",
            "      room          10 more events until reserve and extend answer closed (full_seq 12)",
            "      clock         not behind clock_ms",
            "      selling       on",
            "      default_hold  5 min 0 s, set by an operator",
            "~ALARM",
        ),
        (1,),
    ),
    Look(
        "health of a server that nobody certified",
        (),
        "health",
        (
            "      gate          open",
            "ALARM keeper        none leads: only requests end holds, and only commits write the ledger",
            "      room          full_seq missing: the keeper sets it once it has written the ledger",
            "      default_hold  as each process is configured (STOCKADE_DEFAULT_HOLD_SECONDS)",
        ),
    ),
    Look(
        "health of an empty Redis",
        (lambda store: store.redis.flushall(),),
        "health",
        (
            "ALARM gate          there is no meta: an empty Redis, or another partition",
            "ALARM ledger        epoch missing, seq missing",
            "      stream        0 events",
        ),
    ),
    Look(
        "health behind a gate that is shut",
        (put(KEYS.meta, "gate", "closed", "gate_reason", "ledger_gap\n", "restoring", 1),),
        "health",
        ("ALARM gate          closed: ledger_gap%0A, being restored",),
    ),
    Look(
        "health of what lags",
        (NOW, *HELD, at(FAR_MS + 1_020_000)),
        "health",
        ("ALARM expiry        1 live holds, 1 of them due, the oldest 2 min 0 s late", "~      clock "),
    ),
    Look(
        "health with a keeper that leads for ever",
        (lambda store: store.redis.set(KEYS.keeper, "k\n"),),
        "health",
        ("ALARM keeper        k%0A leads, but its key has no TTL, so that nobody can follow it",),
    ),
    Look("health with all selling paused", (selling(1),), "health", ("      selling       PAUSED: fire",)),
    Look(
        "health with no room",
        (stock(5), put(KEYS.meta, "full_seq", 1)),
        "health",
        ("ALARM room          0 more events until reserve and extend answer closed (full_seq 1)",),
    ),
    Look(
        "health of a ledger that lost its end",
        (NOW, *HELD, put(KEYS.meta, "seq", 7)),
        "health",
        (
            "      ledger        epoch 1, seq 7",
            "ALARM stream        2 events, 1-1 to 1-2, the last one 2096-10-02T07:06:40Z (0.0 s ago)",
        ),
    ),
    Look(
        "health of torn meta",
        (put(KEYS.meta, "seq", "x", "epoch", "\n", "clock_ms", "late", "default_hold_ms", "-", "full_seq", "?"),),
        "health",
        (
            "ALARM ledger        epoch %0A, seq x",
            "      room          full_seq ?: the keeper sets it once it has written the ledger",
            "ALARM default_hold  -",
        ),
    ),
    Look("health since when", (), "health", ("wrong_argument: since must be a seq, a whole number, not x",), ("x",)),
]

ROWS = [*SKU, *HOLDERS, *INVARIANTS, *RESERVATION, *HEALTH]
