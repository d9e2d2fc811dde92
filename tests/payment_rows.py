"""Rows for what payments bring: late ones, ids that were used before, a later checkout's units, attempts that a provider tells of."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import ANY

from tests.books import Counters
from tests.script_rows import (
    CANCELLED,
    CHECKED_OUT,
    CLOSED,
    DAY_MS,
    DUE,
    EXPIRED,
    FAR_MS,
    FULL,
    HELD,
    KEYS,
    LIMITED,
    PAID,
    PAUSED,
    REFUNDED,
    RELEASED,
    TAKEN,
    TWO_LINES,
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
    lose,
    note,
    pay_replaced,
    put,
    refund,
    release,
    reserve,
    run_out,
    stock,
)

R1, PAYMENT = KEYS.reservation("r1"), KEYS.payment("p1")
FOR_R1 = {PAYMENT: ("r1", True)}


def change(*attributes: str | int, sku: str = "a") -> Call:
    """Attributes of a SKU that was there before."""
    return configure("", *attributes, sku=sku, operation="change")


def at_hand(store_key: str, value: str) -> Step:
    return lambda store: store.redis.set(store_key, value, px=DAY_MS)


def refused(name: str, start: tuple[Step, ...], said: str, counters: Counters | None = None, settled: int = 0) -> Row:
    """The late payment of two units for hold r1, which is put on record as refused, with a verdict."""
    return Row(
        f"a late payment is refused: {name}",
        start,
        commit(settled=settled),
        ["refund_required", said, 1, ANY],
        End(
            {"a": counters} if counters else {},
            {"r1": "expired"},
            fields={R1: {"refund:p1": said, "payment_id": None}},
            events=(("refund_required", "a=2", said),),
            holds=FOR_R1,
            broken=counters is None,
        ),
    )


def accepted(name: str, start: tuple[Step, ...], counters: Counters, units: int) -> Row:
    return Row(
        f"a late payment takes stock: {name}",
        start,
        commit(settled=0),
        ["committed", ANY, 1, 1, ANY],
        End(
            {"a": counters},
            {"r1": "committed"},
            {"a": {"ann": str(units)}},
            fields={R1: {"late": "1", "payment_id": "p1"}},
            events=(("commit", "a=2", "late"),),
            holds=FOR_R1,
        ),
    )


OF_TWO = (*TWO_LINES, run_out(), expire("a=2 b=1"))
IN_1096 = (at(FAR_MS), *DUE, expire())
HAS_ONE = (*EXPIRED, reserve("a=1", "r2"))
HAS_TWO = (*EXPIRED, reserve("a=2", "r2"))

LATE = [
    refused("the SKU is paused", (*EXPIRED, change("paused", 1)), "a=2/5/paused", (5, 0, 0, 5)),
    refused("all selling is paused", (*EXPIRED, PAUSED), "a=2/5/paused", (5, 0, 0, 5)),
    refused(
        "its sale has not started",
        (*EXPIRED, change("sale_starts_ms", FAR_MS)),
        "a=2/5/not_started",
        (5, 0, 0, 5),
    ),
    refused("its sale has ended", (*EXPIRED, change("sale_ends_ms", 1)), "a=2/5/ended", (5, 0, 0, 5)),
    refused(
        "its sale ends in this millisecond",
        (*IN_1096, change("sale_ends_ms", FAR_MS + 60_000), at(FAR_MS + 60_000)),
        "a=2/5/ended",
        (5, 0, 0, 5),
    ),
    refused(
        "a limit that came later, with a hold",
        (*HAS_ONE, change("limit_per_customer", 2)),
        "a=2/4/limit_exceeded",
        (4, 1, 0, 5),
    ),
    refused(
        "a limit, with an order that was shipped",
        (*HAS_TWO, commit("a=2", "r2", "p2"), change("limit_per_customer", 3)),
        "a=2/3/limit_exceeded",
        (3, 0, 2, 5),
    ),
    refused(
        "a limit before the stock", (*TAKEN, change("limit_per_customer", 5)), "a=2/1/limit_exceeded", (1, 4, 0, 5)
    ),
    refused("too little is left", TAKEN, "a=2/1/insufficient", (1, 4, 0, 5)),
    refused("others hold all", (*EXPIRED, reserve("a=5", "r2", "bob")), "a=2/0/all_held", (0, 5, 0, 5)),
    refused(
        "others have bought all",
        (*EXPIRED, reserve("a=5", "r2", "bob"), commit("a=5", "r2", "p2")),
        "a=2/0/sold_out",
        (0, 0, 5, 5),
    ),
    refused("nobody knows the SKU", (*EXPIRED, lose(KEYS.sku("a"))), "a=2/0/unknown_sku"),
    refused(
        "paused, while what is due is in the way",
        (*TAKEN, run_out("r2"), change("paused", 1)),
        "a=2/1/paused",
        (1, 4, 0, 5),
    ),
    refused(
        "what is due was expired, and others are in the way",
        (*TAKEN, run_out("r2")),
        "a=2/1/insufficient",
        (1, 4, 0, 5),
        settled=1,
    ),
    refused(
        "sold out, while something else is due",
        (
            *(*EXPIRED, stock(5, sku="b"), reserve("b=1", "r3"), run_out("r3")),
            *(reserve("a=5", "r2"), commit("a=5", "r2", "p2")),
        ),
        "a=2/0/sold_out",
        (0, 0, 5, 5),
    ),
    accepted("up to the limit", (*LIMITED, run_out(), expire(), reserve("a=1", "r2")), (2, 1, 2, 5), 3),
    accepted(
        "its sale starts in this millisecond",
        (*IN_1096, change("sale_starts_ms", FAR_MS + 60_000), at(FAR_MS + 60_000)),
        (3, 0, 2, 5),
        2,
    ),
    accepted(
        "its sale ends in the next millisecond",
        (*IN_1096, change("sale_ends_ms", FAR_MS + 60_001), at(FAR_MS + 60_000)),
        (3, 0, 2, 5),
        2,
    ),
    accepted("all that is left", (*EXPIRED, adjust(-3)), (0, 0, 2, 2), 2),
    accepted("what others hold is due, but not in the way", (*HAS_ONE, run_out("r2")), (2, 1, 2, 5), 3),
    Row(
        "a late payment while all is held by what is due",
        (*EXPIRED, reserve("a=5", "r2"), run_out("r2")),
        commit(settled=0),
        ["due", ANY],
    ),
    Row(
        "a late payment over a limit of which some is due",
        (*HAS_TWO, change("limit_per_customer", 3), run_out("r2")),
        commit(settled=0),
        ["due", ANY],
    ),
    Row(
        "a late payment of a paused line, and of another for which something is due",
        (*OF_TWO, reserve("b=5", "r2"), run_out("r2"), change("paused", 1)),
        commit("a=2 b=1", settled=0),
        ["due", ANY],
    ),
    Row(
        "a late payment has a verdict for each line",
        (*OF_TWO, reserve("b=5", "r2"), change("paused", 1)),
        commit("a=2 b=1"),
        ["refund_required", "a=2/5/paused b=1/0/all_held", 1, ANY],
        End(
            {"a": (5, 0, 0, 5), "b": (0, 5, 0, 5)},
            {"r1": "expired", "r2": "reserved"},
            {"a": {}, "b": {"ann": "5"}},
            events=(("refund_required", "a=2 b=1", "a=2/5/paused b=1/0/all_held"),),
        ),
    ),
]

OTHER = (*PAID, reserve("a=1", "r2"))
"""Order r1, paid with p1, and hold r2."""

ONE_PAYMENT = [
    Row("commit with a payment that paid for another", OTHER, commit("a=1", "r2"), ["payment_already_used"]),
    Row(
        "commit with a payment that paid for another, which was cancelled",
        (*CANCELLED, reserve("a=1", "r2")),
        commit("a=1", "r2"),
        ["payment_already_used"],
    ),
    Row(
        "commit late with a payment that paid for another",
        (*OTHER, release("a=1", "r2")),
        commit("a=1", "r2"),
        ["payment_already_used"],
    ),
    Row(
        "commit what is due with a payment that paid for another",
        (*OTHER, run_out("r2")),
        commit("a=1", "r2"),
        ["payment_already_used"],
    ),
    Row(
        "commit what is paid for with a payment that paid for another",
        (*OTHER, commit("a=1", "r2", "p2")),
        commit("a=1", "r2"),
        ["payment_already_used"],
    ),
    Row(
        "commit with a payment that came second to another",
        (*OTHER, refund("p2")),
        commit("a=1", "r2", "p2"),
        ["payment_already_used"],
    ),
    Row(
        "commit with a payment that came too late for another", REFUNDED, commit("a=4", "r2"), ["payment_already_used"]
    ),
    Row(
        "refund a payment that paid for another",
        (*OTHER, commit("a=1", "r2", "p2")),
        refund("p1", "r2"),
        ["payment_already_used"],
    ),
    Row(
        "refund a payment that came too late for another",
        (*REFUNDED, commit("a=4", "r2", "p2")),
        refund("p1", "r2"),
        ["payment_already_used"],
    ),
    Row("commit again, though its payment is forgotten", (*PAID, lose(PAYMENT)), commit(), ["committed", ANY, 0, 1, 3]),
    Row(
        "commit again, though its payment was used since",
        (*OTHER, lose(PAYMENT), commit("a=1", "r2")),
        commit(),
        ["committed", ANY, 0, 1, 5],
    ),
    Row(
        "commit with a payment that failed before",
        (*HELD, at_hand(PAYMENT, "r1")),
        commit(),
        ["committed", ANY, 0, 1, 3],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, events=(("commit", "a=2", ""),), holds=FOR_R1),
    ),
    Row(
        "commit keeps whose payment it is",
        HELD,
        commit(),
        ["committed", ANY, 0, 1, 3],
        End(
            {"a": (3, 0, 2, 5)}, {"r1": "committed"}, {"a": {"ann": "2"}}, events=(("commit", "a=2", ""),), holds=FOR_R1
        ),
    ),
    Row(
        "refund keeps whose payment it is",
        PAID,
        refund("p2"),
        ["refund_required", 1, 4],
        End(events=(("refund_required", "", ""),), holds={KEYS.payment("p2"): ("r1", True)}),
    ),
]


def replaced(lines: str, first: str = "a=2", user: str = "ann") -> tuple[Step, ...]:
    """Five each of a and b; a cart was checked out with the lines `first` as r1, then with `lines` as r2."""
    both = (stock(5), stock(5, sku="b"), check_out(first, "r1", user=user))
    return (*both, check_out(lines, "r2", "r1", first, user=user))


SUCCEEDED = replaced("a=2")
TWO_UNITS = (stock(2), check_out("a=2", "r1"))
BOBS = (*CHECKED_OUT, release(), reserve("a=2", "r2", user="bob"), at_hand(KEYS.checkout("c1"), "r2"))
"""A live hold of another user as the latest of the cart: nobody may write that, and nobody's units are touched for it."""


def paid_from(
    name: str,
    start: tuple[Step, ...],
    held: str,
    counters: dict[str, Counters],
    buyers: dict[str, dict[str, str]],
    lines: str = "a=2",
) -> Row:
    """The payment for r1, the units of which the later hold r2 gives up."""
    return Row(
        f"a payment takes the later hold's units: {name}",
        start,
        pay_replaced(lines, "r2", held, settled=0),
        ["committed", ANY, 1, 1, ANY],
        End(
            counters,
            {"r1": "committed", "r2": "released"},
            buyers,
            fields={R1: {"late": "1", "payment_id": "p1"}, KEYS.reservation("r2"): {"payment_id": None}},
            events=(("release", held, "r1"), ("commit", lines, "late")),
            holds={**FOR_R1, KEYS.lease("r2"): None},
        ),
    )


def stands(name: str, start: tuple[Step, ...], said: str, lines: str = "a=2", held: str = "a=1") -> Row:
    """The payment for r1 is refused, and the later hold r2 stands."""
    return Row(
        f"a payment leaves the later hold alone: {name}",
        start,
        pay_replaced(lines, "r2", held, settled=0),
        ["refund_required", said, 1, ANY],
        End(
            states={"r1": "released", "r2": "reserved"},
            fields={R1: {"refund:p1": said}},
            events=(("refund_required", lines, said),),
            holds={**FOR_R1, KEYS.lease("r2"): ("1", True)},
        ),
    )


def apart(name: str, start: tuple[Step, ...], call: Call, counters: Counters, r2: str, units: int = 2) -> Row:
    """The payment for r1 takes what is free, and r2 stays as it is."""
    return Row(
        f"a payment takes free stock beside {name}",
        start,
        call,
        ["committed", ANY, 1, 1, ANY],
        End(
            {"a": counters},
            {"r1": "committed", **({"r2": r2} if r2 else {})},
            {"a": {"ann": str(units), **({"bob": "2"} if start == BOBS else {})}},
            events=(("commit", "a=2", "late"),),
            holds=FOR_R1,
        ),
    )


ALL_IN_R2 = ({"a": (3, 0, 2, 5)}, {"a": {"ann": "2"}})

SUCCESSORS = [
    paid_from("exactly these", SUCCEEDED, "a=2", *ALL_IN_R2),
    paid_from("more than these", replaced("a=4"), "a=4", *ALL_IN_R2),
    paid_from("fewer, and the rest is free", replaced("a=1"), "a=1", *ALL_IN_R2),
    paid_from(
        "none, it is of another SKU",
        replaced("b=3"),
        "b=3",
        {**ALL_IN_R2[0], "b": (5, 0, 0, 5)},
        {**ALL_IN_R2[1], "b": {}},
    ),
    paid_from(
        "those of other SKUs return",
        replaced("b=3 a=2"),
        "b=3 a=2",
        {"a": (3, 0, 2, 5), "b": (5, 0, 0, 5)},
        {"a": {"ann": "2"}, "b": {}},
    ),
    paid_from(
        "those of other SKUs return, beside what else is held of them",
        (*replaced("a=2 b=3"), reserve("b=1", "r3"), reserve("b=1", "r4", user="bob")),
        "a=2 b=3",
        {"a": (3, 0, 2, 5), "b": (3, 2, 0, 5)},
        {"a": {"ann": "2"}, "b": {"ann": "1", "bob": "1"}},
    ),
    paid_from(
        "one line of two",
        replaced("b=1", "a=2 b=2"),
        "b=1",
        {"a": (3, 0, 2, 5), "b": (3, 0, 2, 5)},
        {"a": {"ann": "2"}, "b": {"ann": "2"}},
        "a=2 b=2",
    ),
    paid_from(
        "the last there are",
        (*TWO_UNITS, check_out("a=2", "r2", "r1", "a=2")),
        "a=2",
        {"a": (0, 0, 2, 2)},
        {"a": {"ann": "2"}},
    ),
    paid_from(
        "the last, beside another's",
        (stock(3), check_out("a=2", "r1"), check_out("a=2", "r2", "r1", "a=2"), reserve("a=1", "r3", user="bob")),
        "a=2",
        {"a": (0, 1, 2, 3)},
        {"a": {"ann": "2", "bob": "1"}},
    ),
    paid_from("the SKU is paused meanwhile", (*SUCCEEDED, change("paused", 1)), "a=2", *ALL_IN_R2),
    paid_from("all selling is paused meanwhile", (*SUCCEEDED, PAUSED), "a=2", *ALL_IN_R2),
    paid_from("the sale has ended meanwhile", (*SUCCEEDED, change("sale_ends_ms", 1)), "a=2", *ALL_IN_R2),
    paid_from("the limit was lowered meanwhile", (*SUCCEEDED, change("limit_per_customer", 1)), "a=2", *ALL_IN_R2),
    paid_from(
        "up to the limit",
        (*replaced("a=1", "a=3"), change("limit_per_customer", 3)),
        "a=1",
        {"a": (2, 0, 3, 5)},
        {"a": {"ann": "3"}},
        "a=3",
    ),
    stands(
        "over the limit",
        (*replaced("a=1", "a=3"), reserve("a=1", "r3"), change("limit_per_customer", 3)),
        "a=3/4/limit_exceeded",
        "a=3",
    ),
    stands(
        "the rest is another's",
        (*TWO_UNITS, check_out("a=1", "r2", "r1", "a=2"), reserve("a=1", "r3", user="bob")),
        "a=2/1/insufficient",
    ),
    stands("the rest is paused", (*replaced("a=1"), change("paused", 1)), "a=2/5/paused"),
    stands(
        "its units are of another SKU, and these are sold",
        (*replaced("b=1"), reserve("a=5", "r3", user="bob"), commit("a=5", "r3", "p3")),
        "a=2/0/sold_out",
        held="b=1",
    ),
    Row(
        "a payment takes the latest hold's units, of a cart that was checked out three times",
        (*SUCCEEDED, check_out("a=3", "r3", "r2", "a=2")),
        pay_replaced("a=2", "r3", "a=3"),
        ["committed", ANY, 1, 1, 9],
        End(
            {"a": (3, 0, 2, 5)},
            {"r1": "committed", "r2": "released", "r3": "released"},
            {"a": {"ann": "2"}},
            events=(("release", "a=3", "r1"), ("commit", "a=2", "late")),
        ),
    ),
    Row(
        "a payment with a key takes the later hold's units, and only its own event is the call's",
        SUCCEEDED,
        pay_replaced("a=2", "r2", "a=2", request="7"),
        ["committed", ANY, 1, 1, 7],
        End(
            {"a": (3, 0, 2, 5)},
            {"r1": "committed", "r2": "released"},
            fields={KEYS.sku("a"): {"next_release_ms": None}},
            events=(("release", "a=2", "r1"), ("commit", "a=2", "late", "o 7")),
            holds={KEYS.deadlines: None},
        ),
    ),
    Row(
        "the payment of a cart's live hold needs no other",
        CHECKED_OUT,
        commit(),
        ["committed", ANY, 0, 1, 3],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, events=(("commit", "a=2", ""),)),
    ),
    Row(
        "the payment of the latest hold itself, which has ended",
        (*CHECKED_OUT, run_out(), expire()),
        pay_replaced("a=2", "r1", None),
        ["committed", ANY, 1, 1, 4],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, events=(("commit", "a=2", "late"),)),
    ),
    apart("another user's hold", BOBS, pay_replaced("a=2", "r2", "a=2"), (1, 2, 2, 5), "reserved"),
    apart(
        "a later hold that is due",
        (*SUCCEEDED, run_out("r2")),
        pay_replaced("a=2", "r2", "a=2", settled=0),
        (1, 2, 2, 5),
        "reserved",
        4,
    ),
    apart(
        "a later hold in the millisecond of its deadline",
        (at(FAR_MS), *SUCCEEDED, at(FAR_MS + 900_000)),
        pay_replaced("a=2", "r2", "a=2", settled=0),
        (1, 2, 2, 5),
        "reserved",
        4,
    ),
    apart(
        "a later hold that was given up",
        (*SUCCEEDED, release("a=2", "r2")),
        pay_replaced("a=2", "r2", None),
        (3, 0, 2, 5),
        "released",
    ),
    apart(
        "a later hold that was given up since it was read",
        (*SUCCEEDED, release("a=2", "r2")),
        pay_replaced("a=2", "r2", "a=2"),
        (3, 0, 2, 5),
        "released",
    ),
    apart(
        "a later hold that was let go",
        (*SUCCEEDED, release("a=2", "r2"), lose(KEYS.reservation("r2"))),
        pay_replaced("a=2", "r2", "a=2"),
        (3, 0, 2, 5),
        "",
    ),
    apart(
        "a later hold, of which nobody knows any more that it is the cart's",
        (*SUCCEEDED, lose(KEYS.checkout("c1"))),
        pay_replaced("a=2", "", None),
        (1, 2, 2, 5),
        "reserved",
        4,
    ),
    apart(
        "a later hold that was paid for",
        (*SUCCEEDED, commit("a=2", "r2", "p2")),
        pay_replaced("a=2", "r2", "a=2"),
        (1, 0, 4, 5),
        "committed",
        4,
    ),
    Row(
        "a payment beside a later hold that is due and in the way",
        (*TWO_UNITS, check_out("a=2", "r2", "r1", "a=2"), run_out("r2")),
        pay_replaced("a=2", "r2", "a=2", settled=0),
        ["due", ANY],
    ),
    Row("a payment that looked for no later hold", SUCCEEDED, commit(), ["moved"]),
    Row("a payment that took the hold itself for the latest", SUCCEEDED, pay_replaced("a=2", "r1", None), ["moved"]),
    Row("a payment that found no latest hold", SUCCEEDED, pay_replaced("a=2", "", None), ["moved"]),
    Row(
        "a payment whose latest hold was replaced since it was read",
        (*SUCCEEDED, check_out("a=3", "r3", "r2", "a=2")),
        pay_replaced("a=2", "r2", "a=2"),
        ["moved"],
    ),
    Row(
        "a payment whose latest hold was forgotten since it was read",
        (*SUCCEEDED, lose(KEYS.checkout("c1"))),
        pay_replaced("a=2", "r2", "a=2"),
        ["moved"],
    ),
    Row(
        "a payment with the keys of another SKU for the later hold",
        SUCCEEDED,
        pay_replaced("a=2", "r2", "b=2"),
        ["wrong_keys"],
    ),
    Row("a payment with too few keys for the later hold", SUCCEEDED, pay_replaced("a=2", "r2", ""), ["wrong_keys"]),
    Row(
        "a payment with other buyers for the later hold",
        replaced("b=2"),
        replace(
            (call := pay_replaced("a=2", "r2", "b=2")),
            keys=[KEYS.buyers("a") if key == KEYS.buyers("b") else key for key in call.keys],
        ),
        ["wrong_keys"],
    ),
    Row(
        "a payment with counters that are too low for the later hold",
        (*SUCCEEDED, put(KEYS.sku("a"), "reserved", 1, "available", 4)),
        pay_replaced("a=2", "r2", "a=2"),
        ["inconsistent", "a"],
    ),
    Row(
        "a payment with counters that are too low for another line of the later hold",
        (*replaced("a=2 b=1"), lambda store: store.redis.hdel(KEYS.sku("b"), "reserved")),
        pay_replaced("a=2", "r2", "a=2 b=1"),
        ["inconsistent", "b"],
    ),
]

UNKNOWN = note(reservation_id="r9")
PROCESSING = End(
    {"a": (3, 2, 0, 5)},
    {"r1": "reserved"},
    fields={R1: {"attempt": "p1", "attempt:p1": "1"}},
    events=(("note", "", "payment.processing"),),
)

NOTE = [
    Row("note is closed", (*HELD, CLOSED), note(), ["closed"]),
    Row("note is closed without a reservation", (CLOSED,), UNKNOWN, ["closed"]),
    Row(
        "note of a message that says something else now",
        (*HELD, note(request="7")),
        note("payment.failed", request="8"),
        ["idempotency_key_reused"],
    ),
    Row(
        "note is replayed",
        (*HELD, note(request="7"), adjust(1, operation="p")),
        note(request="7"),
        ["replayed", 1, 4, "noted"],
    ),
    Row(
        "note of an unknown reservation is replayed",
        (note(reservation_id="r9", request="7"),),
        note(reservation_id="r9", request="7"),
        ["replayed", 1, 1, "unknown_reservation"],
    ),
    Row(
        "note of an unknown reservation is replayed, though it is known by now",
        (stock(5), note(request="7"), reserve("a=2")),
        note(request="7"),
        ["replayed", 1, 3, "unknown_reservation"],
    ),
    Row(
        "note of an unknown reservation",
        (),
        UNKNOWN,
        ["unknown_reservation", 1, 1],
        End(
            events=(("unknown_reservation", "", "payment.processing"),),
            holds={KEYS.reservation("r9"): None, KEYS.operation("o"): None, KEYS.payment("p1"): None},
        ),
    ),
    Row(
        "note of an unknown reservation with a key",
        (),
        note("payment.failed", reservation_id="r9", request="7"),
        ["unknown_reservation", 1, 1],
        End(
            events=(("unknown_reservation", "", "payment.failed", "o 7"),),
            holds={KEYS.operation("o"): ('7 ["unknown_reservation"]', True)},
        ),
    ),
    Row("note an attempt", HELD, note(), ["noted", 1, 3], PROCESSING),
    Row("note the same attempt again", (*HELD, note()), note(), ["noted", 1, 4], PROCESSING),
    Row(
        "note an attempt with a key",
        HELD,
        note("payment.failed", request="7"),
        ["noted", 1, 3],
        End(
            fields={R1: {"attempt": "p1"}},
            events=(("note", "", "payment.failed", "o 7"),),
            holds={KEYS.operation("o"): ('7 ["noted"]', True), PAYMENT: None},
        ),
    ),
    Row(
        "note another attempt",
        (*HELD, note()),
        note(payment="p2"),
        ["noted", 1, 4],
        End(
            fields={R1: {"attempt": "p2", "attempt:p1": "1", "attempt:p2": "1"}},
            events=(("note", "", "payment.processing"),),
        ),
    ),
    Row(
        "note of the first attempt after the second: the second is the last one",
        (*HELD, note(), note(payment="p2")),
        note("payment.failed"),
        ["noted", 1, 5],
        End(
            fields={R1: {"attempt": "p2", "attempt:p1": "1", "attempt:p2": "1"}},
            events=(("note", "", "payment.failed"),),
        ),
    ),
    Row(
        "note an attempt of an expired hold, which is forgotten no later",
        EXPIRED,
        note(),
        ["noted", 1, 4],
        End(
            {"a": (5, 0, 0, 5)},
            {"r1": "expired"},
            fields={R1: {"attempt": "p1"}},
            events=(("note", "", "payment.processing"),),
        ),
    ),
    Row(
        "note an attempt of an order",
        PAID,
        note(payment="p2"),
        ["noted", 1, 4],
        End(
            {"a": (3, 0, 2, 5)},
            {"r1": "committed"},
            fields={R1: {"attempt": "p2", "payment_id": "p1"}},
            events=(("note", "", "payment.processing"),),
        ),
    ),
    Row("note goes on when too much waits for Postgres", (*HELD, FULL), note(), ["noted", 1, 3], PROCESSING),
    Row("note takes the time of a clock that is ahead", (at(FAR_MS), *HELD), note(), ["noted", 1, 3], PROCESSING),
]

ATTEMPTED = (*HELD, note(), note(payment="p2"))
GIVEN_BACK = End({"a": (5, 0, 0, 5)}, {"r1": "released"}, {"a": {}}, events=(("release", "a=2", ""),))

ATTEMPTS = [
    Row("release for an attempt before the last", ATTEMPTED, release(attempt="p1"), ["other_attempt", "p2"]),
    Row("release for an attempt that nobody told of", ATTEMPTED, release(attempt="p3"), ["other_attempt", "p2"]),
    Row(
        "release for the first attempt, which was told of again",
        (*ATTEMPTED, note("payment.failed")),
        release(attempt="p1"),
        ["other_attempt", "p2"],
    ),
    Row("release for an attempt is closed", (*ATTEMPTED, CLOSED), release(attempt="p1"), ["closed"]),
    Row(
        "release what is due for an attempt before the last",
        (*ATTEMPTED, run_out()),
        release(attempt="p1"),
        ["due", ANY],
    ),
    Row("release an order for an attempt", (*ATTEMPTED, commit()), release(attempt="p2"), ["already_committed"]),
    Row("release an ended hold for an attempt", (*ATTEMPTED, release()), release(attempt="p1"), ["ended", "released"]),
    Row("release for the last attempt", ATTEMPTED, release(attempt="p2"), ["released"], GIVEN_BACK),
    Row("release for an attempt where none was noted", HELD, release(attempt="p1"), ["released"], GIVEN_BACK),
    Row("release by the buyer, whatever was attempted", ATTEMPTED, release(), ["released"], GIVEN_BACK),
    Row(
        "release by hand, without the argument for an attempt",
        ATTEMPTED,
        replace((by_hand := release(lever="do")), arguments=by_hand.arguments[:-1]),
        ["released"],
        GIVEN_BACK,
    ),
    Row(
        "commit by an attempt before the last",
        ATTEMPTED,
        commit(),
        ["committed", ANY, 0, 1, 5],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, events=(("commit", "a=2", ""),)),
    ),
    Row(
        "commit late by an attempt that was noted after the end",
        (*RELEASED, note()),
        commit(),
        ["committed", ANY, 1, 1, 5],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, events=(("commit", "a=2", "late"),)),
    ),
    Row(
        "cancel what was attempted",
        (*ATTEMPTED, commit()),
        cancel(),
        ["cancelled", "cancelled", "", "a=2"],
        End({"a": (5, 0, 0, 5)}, {"r1": "cancelled"}, {"a": {}}, events=(("cancel", "a=2", "cancelled"),)),
    ),
]

ROWS = [*LATE, *ONE_PAYMENT, *SUCCESSORS, *NOTE, *ATTEMPTS]
