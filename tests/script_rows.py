"""Every script as a table: start, call, reply, end. The same rows run on fakeredis and on real servers.

A row without an end must change nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any
from unittest.mock import ANY

from engine.engine import Engine
from engine.keys import Keys
from engine.scripts import sources
from engine.store import Store
from tests import books
from tests.books import Counters

KEYS = Keys()
SOURCES = dict(sources())
CART = KEYS.cart("c1")
DAY_MS = 86_400_000
FAR_MS = 4_000_000_000_000


@dataclass(frozen=True)
class Call:
    script: str
    keys: list[str]
    arguments: list[str | int]


Step = Call | Callable[[Store], object]


@dataclass(frozen=True)
class End:
    """`events` are those of the call: op, lines and detail."""

    counters: Mapping[str, Counters] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    buyers: Mapping[str, dict[str, str]] = field(default_factory=dict)
    fields: Mapping[str, dict[str, str | None]] = field(default_factory=dict)
    events: tuple[tuple[str, str, Any], ...] = ()


@dataclass(frozen=True)
class Row:
    """A reply that ends in `...` has more than is said."""

    name: str
    start: tuple[Step, ...]
    call: Call
    reply: list[str | int | EllipsisType]
    end: End | None = None


def run(engine: Engine, row: Row) -> None:
    store = engine.store
    if row.call.script == "open":
        store.redis.flushall()
    for step in row.start:
        if isinstance(step, Call):
            perform(store, step)
        else:
            step(store)
    before = books.dump(store.redis)
    earlier = len(books.events(store))
    reply = perform(store, row.call)
    if row.reply[-1] is ...:
        assert reply[: len(row.reply) - 1] == row.reply[:-1]
    else:
        assert reply == row.reply
    if row.end is None:
        assert books.dump(store.redis) == before
        return
    assert {sku: books.counters(store, sku) for sku in row.end.counters} == row.end.counters
    for reservation_id, state in row.end.states.items():
        assert store.redis.hget(KEYS.reservation(reservation_id), "state") == state
    assert {sku: store.redis.hgetall(KEYS.buyers(sku)) for sku in row.end.buyers} == row.end.buyers
    for key, fields in row.end.fields.items():
        assert {name: store.redis.hget(key, name) for name in fields} == fields
    happened = store.redis.xrange(KEYS.ledger)[earlier:]
    assert tuple((event["op"], event["lines"], event["detail"]) for _, event in happened) == row.end.events
    books.assert_right(engine)


def perform(store: Store, call: Call) -> list[Any]:
    reply: list[Any] = store.redis.eval(SOURCES[call.script], len(call.keys), *call.keys, *call.arguments)
    return reply


def skus_of(lines: str) -> list[str]:
    return [word.split("=")[0] for word in lines.split()]


def words_of(lines: str) -> list[str | int]:
    return [part for word in lines.split() for part in word.split("=")]


def hold_keys(reservation_id: str) -> list[str]:
    return [KEYS.meta, KEYS.ledger, *KEYS.hold(reservation_id)]


def order_keys(order_id: str, operation: str) -> list[str]:
    return [KEYS.meta, KEYS.ledger, KEYS.reservation(order_id), KEYS.operation(operation)]


def reserve(
    lines: str, reservation_id: str = "r1", user: str = "ann", hold_ms: int = 900_000, request: str = ""
) -> Call:
    keys = hold_keys(reservation_id) + KEYS.skus_and_buyers(skus_of(lines))
    return Call("reserve", keys, [reservation_id, user, user, "q", hold_ms, request, "", "", DAY_MS, *words_of(lines)])


def check_out(lines: str, reservation_id: str, latest: str = "", replaced: str | None = None, **more: Any) -> Call:
    """The checkout of cart c1, whose latest hold was read as `latest`, with the lines `replaced`."""
    plain = reserve(lines, reservation_id, **more)
    keys = [*plain.keys, KEYS.checkout("c1")]
    if replaced is not None:
        keys += [KEYS.reservation(latest), KEYS.lease(latest), *KEYS.skus_and_buyers(skus_of(replaced))]
    return Call("reserve", keys, [*plain.arguments[:6], "c1", latest, *plain.arguments[8:]])


def refund(payment: str = "p1", reservation_id: str = "r1") -> Call:
    keys = [KEYS.meta, KEYS.ledger, KEYS.reservation(reservation_id)]
    return Call("refund", keys, [reservation_id, payment, "shop", "q"])


def put_line(line: str, most: int = 200, user: str = "") -> Call:
    return Call("put_line", [CART], [*words_of(line), user, most, DAY_MS])


def bind_cart(user: str = "ann") -> Call:
    return Call("bind_cart", [CART], [user, DAY_MS])


def empty_cart(lines: str = "a=2", order_id: str = "r1") -> Call:
    return Call("empty_cart", [CART], [order_id, DAY_MS, *words_of(lines)])


def extend(lines: str = "a=2", reservation_id: str = "r1", hold_ms: int = 300_000, request: str = "") -> Call:
    keys = [*hold_keys(reservation_id), KEYS.operation("o"), *(KEYS.sku(sku) for sku in skus_of(lines))]
    return Call("extend", keys, [reservation_id, "ann", "q", hold_ms, request, DAY_MS])


def release(lines: str = "a=2", reservation_id: str = "r1") -> Call:
    keys = hold_keys(reservation_id) + KEYS.skus_and_buyers(skus_of(lines))
    return Call("release", keys, [reservation_id, "ann", "q", "left", DAY_MS])


def expire(lines: str = "a=2", reservation_id: str = "r1") -> Call:
    keys = hold_keys(reservation_id) + KEYS.skus_and_buyers(skus_of(lines))
    return Call("expire", keys, [reservation_id, "keeper", "q", DAY_MS])


def commit(
    lines: str = "a=2", reservation_id: str = "r1", payment: str = "p1", settled: int = 1, request: str = ""
) -> Call:
    keys = [*hold_keys(reservation_id), KEYS.operation("o"), *KEYS.skus_and_buyers(skus_of(lines))]
    return Call("commit", keys, [reservation_id, payment, "shop", "q", settled, request, DAY_MS])


def cancel(lines: str = "a=2", what: str = "", order_id: str = "r1", request: str = "") -> Call:
    keys = order_keys(order_id, "o") + KEYS.skus_and_buyers(skus_of(lines))
    return Call("cancel", keys, [order_id, "ops", "q", "broken", request, DAY_MS, DAY_MS, *words_of(what)])


def fulfil(lines: str = "a=2", order_id: str = "r1", request: str = "") -> Call:
    keys = order_keys(order_id, "o") + [KEYS.sku(sku) for sku in skus_of(lines)]
    return Call("fulfil", keys, [order_id, "ops", "q", request, DAY_MS, DAY_MS])


def adjust(delta: int, sku: str = "a", operation: str = "o", request: str = "f", most: int = 100) -> Call:
    keys = [KEYS.meta, KEYS.ledger, KEYS.sku(sku), KEYS.operation(operation)]
    return Call("adjust", keys, [sku, delta, "ops", "q", "delivery", request, DAY_MS, most])


def configure(
    on_hand: int | str, *attributes: str | int, sku: str = "a", operation: str = "o", request: str = "f"
) -> Call:
    keys = [KEYS.meta, KEYS.ledger, KEYS.sku(sku), KEYS.operation(operation), KEYS.skus]
    return Call("configure", keys, [sku, on_hand, "ops", "q", request, DAY_MS, *attributes])


def selling(paused: int, reason: str = "fire") -> Call:
    return Call("selling", [KEYS.meta, KEYS.ledger], [paused, reason, "ops", "q"])


def open_store(layout: int = 1) -> Call:
    return Call("open", [KEYS.meta, KEYS.ledger, KEYS.deadlines, KEYS.skus], [layout])


def stock(on_hand: int, *attributes: str | int, sku: str = "a") -> Call:
    return configure(on_hand, *attributes, sku=sku, operation=f"stock-{sku}")


def put(key: str, *fields_and_values: str | int) -> Step:
    return lambda store: store.redis.hset(key, items=list(fields_and_values))


def run_out(reservation_id: str = "r1") -> Step:
    return lambda store: books.run_out(store, reservation_id)


def leave_only_the_ledger(store: Store) -> None:
    perform(store, open_store())
    perform(store, selling(1))
    store.redis.delete(KEYS.meta)


def at(now_ms: int) -> Step:
    """Set the clock, which must be later than the real one."""
    return put(KEYS.meta, "clock_ms", now_ms)


CLOSED = put(KEYS.meta, "gate", "closed")
PAUSED = selling(1)
HELD = (stock(5), reserve("a=2"))
LIMITED = (stock(5, "limit_per_customer", 3), reserve("a=2"))
DUE = (*HELD, run_out())
EXPIRED = (*DUE, expire())
RELEASED = (*HELD, release())
PAID = (*HELD, commit())
CANCELLED = (*PAID, cancel())
FULFILLED = (*PAID, fulfil())
TAKEN = (*EXPIRED, reserve("a=4", "r2"))
REFUNDED = (*TAKEN, commit())
TWO_LINES = (stock(5), stock(5, sku="b"), reserve("a=2 b=1"))
TWO_PAID = (*TWO_LINES, commit("a=2 b=1"))
A_CART = (put(CART, "created_ms", 1),)
CART_OF_TWO = (*A_CART, put_line("a=3"), put_line("b=1"))
CHECKED_OUT = (stock(5), check_out("a=2", "r1"))
CHECKED_OUT_AND_DUE = (*CHECKED_OUT, run_out())
TOO_FEW_RESERVED = put(KEYS.sku("a"), "reserved", 1, "available", 4)
TOO_FEW_ALLOCATED = put(KEYS.sku("a"), "allocated", 1, "available", 4)


def verdict(text: str, due: int = 0) -> list[str | int | EllipsisType]:
    """`a 6 5 insufficient 5 0`: one refused line, its next release ANY where it's a question mark."""
    sku, requested, available, word, most, next_release_ms = text.split()
    last = ANY if next_release_ms == "?" else int(next_release_ms)
    return ["lines_unavailable", ANY, due, sku, int(requested), int(available), word, int(most), last]


RESERVE = [
    Row("reserve is closed", (stock(5), CLOSED), reserve("a=2"), ["closed"]),
    Row("reserve no unit", (stock(5),), reserve("a=0"), ["bad_request"]),
    Row("reserve fewer than none", (stock(5),), reserve("a=-1"), ["bad_request"]),
    Row("reserve half a unit", (stock(5),), reserve("a=1.5"), ["bad_request"]),
    Row("reserve something", (stock(5),), reserve("a=some"), ["bad_request"]),
    Row("reserve nothing", (stock(5),), reserve(""), ["bad_request"]),
    Row("reserve for no time", (stock(5),), reserve("a=1", hold_ms=0), ["bad_request"]),
    Row("extend for no time", HELD, extend(hold_ms=0), ["bad_request"]),
    Row("extend for less than no time", HELD, extend(hold_ms=-5), ["bad_request"]),
    Row("reserve is closed without meta", (lambda store: store.redis.flushall(),), reserve("a=2"), ["closed"]),
    Row(
        "reserve with a key that came with another request",
        (stock(5), reserve("a=2", request="7")),
        reserve("a=3", request="8"),
        ["idempotency_key_reused"],
    ),
    Row("reserve with a key against a hold without one", HELD, reserve("a=2", request="8"), ["idempotency_key_reused"]),
    Row("reserve is replayed", HELD, reserve("a=2"), ["replayed", ANY, ANY]),
    Row(
        "reserve is replayed with its key",
        (stock(5), reserve("a=2", request="7")),
        reserve("a=2", request="7"),
        ["replayed", ANY, ANY],
    ),
    Row("reserve is replayed when stock is gone", (stock(2), reserve("a=2")), reserve("a=2"), ["replayed", ANY, ANY]),
    Row("reserve is replayed after expiry", EXPIRED, reserve("a=2"), ["replayed", ANY, ANY]),
    Row("reserve is replayed after release", RELEASED, reserve("a=2"), ["replayed", ANY, ANY]),
    Row("reserve is replayed after payment", PAID, reserve("a=2"), ["replayed", ANY, ANY]),
    Row("reserve is replayed before a pause counts", (*HELD, PAUSED), reserve("a=2"), ["replayed", ANY, ANY]),
    Row("reserve an unknown SKU", (), reserve("a=2"), verdict("a 2 0 unknown_sku 0 0")),
    Row("reserve a paused SKU", (stock(5, "paused", 1),), reserve("a=2"), verdict("a 2 5 paused 0 0")),
    Row("reserve while selling is paused", (stock(5), PAUSED), reserve("a=2"), verdict("a 2 5 paused 0 0")),
    Row(
        "reserve before the sale",
        (stock(5, "sale_starts_ms", FAR_MS),),
        reserve("a=2"),
        verdict("a 2 5 not_started 0 0"),
    ),
    Row("reserve after the sale", (stock(5, "sale_ends_ms", 1),), reserve("a=2"), verdict("a 2 5 ended 0 0")),
    Row(
        "reserve over the limit at once",
        (stock(5, "limit_per_customer", 3),),
        reserve("a=4"),
        verdict("a 4 5 limit_exceeded 3 0"),
    ),
    Row("reserve over the limit with a hold", LIMITED, reserve("a=2", "r2"), verdict("a 2 3 limit_exceeded 1 ?")),
    Row("reserve more than there is", (stock(5),), reserve("a=6"), verdict("a 6 5 insufficient 5 0")),
    Row("reserve what others hold", (stock(2), reserve("a=2")), reserve("a=1", "r2"), verdict("a 1 0 all_held 0 ?")),
    Row("reserve what is sold out", (stock(0),), reserve("a=1"), verdict("a 1 0 sold_out 0 0")),
    Row(
        "reserve what is paid for",
        (stock(2), reserve("a=2"), commit()),
        reserve("a=1", "r2"),
        verdict("a 1 0 sold_out 0 0"),
    ),
    Row(
        "reserve what is due",
        (stock(2), reserve("a=2"), run_out()),
        reserve("a=1", "r2"),
        verdict("a 1 0 all_held 0 ?", due=1),
    ),
    Row("reserve sums the lines of a SKU", (stock(5),), reserve("a=3 a=3"), verdict("a 6 5 insufficient 5 0")),
    Row(
        "reserve is refused whole, with a verdict for each line",
        (stock(5), stock(0, sku="b")),
        reserve("a=2 b=1 c=1"),
        [*verdict("a 2 5 ok 5 0"), "b", 1, 0, "sold_out", 0, 0, "c", 1, 0, "unknown_sku", 0, 0],
    ),
    Row(
        "reserve takes the last unit",
        (stock(2),),
        reserve("a=2"),
        ["reserved", ANY, ANY],
        End({"a": (0, 2, 0, 2)}, {"r1": "reserved"}, events=(("reserve", "a=2", ""),)),
    ),
    Row(
        "reserve takes lines of one SKU summed",
        (stock(5), stock(5, sku="b")),
        reserve("a=1 b=2 a=3"),
        ["reserved", ANY, ANY],
        End({"a": (1, 4, 0, 5), "b": (3, 2, 0, 5)}, {"r1": "reserved"}, events=(("reserve", "a=4 b=2", ""),)),
    ),
    Row(
        "reserve up to the limit",
        LIMITED,
        reserve("a=1", "r2", request="9"),
        ["reserved", ANY, ANY],
        End({"a": (2, 3, 0, 5)}, {"r2": "reserved"}, {"a": {"ann": "3"}}, events=(("reserve", "a=1", "9"),)),
    ),
    Row(
        "reserve counts each user's limit alone",
        LIMITED,
        reserve("a=3", "r2", user="bob"),
        ["reserved", ANY, ANY],
        End({"a": (0, 5, 0, 5)}, buyers={"a": {"ann": "2", "bob": "3"}}, events=(("reserve", "a=3", ""),)),
    ),
]

CHECK_OUT = [
    Row("check out is closed", (*CHECKED_OUT, CLOSED), check_out("a=1", "r2", "r1", "a=2"), ["closed"]),
    Row(
        "check out with a key that came with another request",
        (stock(5), check_out("a=2", "r1", request="7")),
        check_out("a=2", "r1", request="8"),
        ["idempotency_key_reused"],
    ),
    Row("check out is replayed", CHECKED_OUT, check_out("a=2", "r1"), ["replayed", ANY, ANY]),
    Row(
        "check out is replayed after it was replaced",
        (*CHECKED_OUT, check_out("a=1", "r2", "r1", "a=2")),
        check_out("a=2", "r1"),
        ["replayed", ANY, ANY],
    ),
    Row(
        "a replacement is replayed",
        (*CHECKED_OUT, check_out("a=1", "r2", "r1", "a=2", request="7")),
        check_out("a=1", "r2", "r1", "a=2", request="7"),
        ["replayed", ANY, ANY],
    ),
    Row("check out when another one came first", CHECKED_OUT, check_out("a=1", "r2"), ["moved"]),
    Row("check out when the latest one is forgotten", (stock(5),), check_out("a=1", "r2", "r1"), ["moved"]),
    Row(
        "check out when another one came between",
        (*CHECKED_OUT, check_out("a=1", "r2", "r1", "a=2")),
        check_out("a=3", "r3", "r1", "a=2"),
        ["moved"],
    ),
    Row(
        "replace with the keys of another SKU",
        (*CHECKED_OUT, stock(5, sku="b")),
        check_out("a=1", "r2", "r1", "b=2"),
        ["wrong_keys"],
    ),
    Row("replace with too few keys", CHECKED_OUT, check_out("a=1", "r2", "r1", ""), ["wrong_keys"]),
    Row(
        "replace with counters that are too low",
        (*CHECKED_OUT, TOO_FEW_RESERVED),
        check_out("a=1", "r2", "r1", "a=2"),
        ["inconsistent", "a"],
    ),
    Row(
        "replace by more than there is: the old one stands",
        CHECKED_OUT,
        check_out("a=6", "r2", "r1", "a=2"),
        verdict("a 6 5 insufficient 5 ?"),
    ),
    Row(
        "replace by what others hold: the old one stands",
        (*CHECKED_OUT, stock(1, sku="b"), reserve("b=1", "r9")),
        check_out("a=2 b=1", "r2", "r1", "a=2"),
        [*verdict("a 2 5 ok 5 ?"), "b", 1, 0, "all_held", 0, ANY],
    ),
    Row(
        "replace after a pause: the old one stands",
        (*CHECKED_OUT, PAUSED),
        check_out("a=1", "r2", "r1", "a=2"),
        verdict("a 1 5 paused 0 ?"),
    ),
    Row(
        "replace over the limit: only what is counted of the old one is free",
        (stock(9, "limit_per_customer", 3), reserve("a=1", "r9"), check_out("a=2", "r1")),
        check_out("a=3", "r2", "r1", "a=2"),
        verdict("a 3 8 limit_exceeded 2 ?"),
    ),
    Row(
        "a hold that is due gives up nothing, and must be expired first if it is in the way",
        (stock(5), check_out("a=5", "r1"), run_out()),
        check_out("a=1", "r2", "r1", "a=5"),
        verdict("a 1 0 all_held 0 ?", due=1),
    ),
    Row(
        "a hold that is due gives up nothing",
        CHECKED_OUT_AND_DUE,
        check_out("a=3", "r2", "r1", "a=2"),
        ["reserved", ANY, ANY],
        End(
            {"a": (0, 5, 0, 5)},
            {"r1": "reserved", "r2": "reserved"},
            fields={KEYS.reservation("r2"): {"cart": "c1"}},
            events=(("reserve", "a=3", ANY),),
        ),
    ),
    Row(
        "an expired hold gives up nothing, and its start is forgotten",
        (at(FAR_MS), *CHECKED_OUT, run_out(), expire(), at(FAR_MS + 600_000)),
        check_out("a=3", "r2", "r1", "a=2"),
        ["reserved", FAR_MS + 600_000, FAR_MS + 1_500_000],
        End({"a": (2, 3, 0, 5)}, {"r1": "expired", "r2": "reserved"}, events=(("reserve", "a=3", ANY),)),
    ),
    Row(
        "a released hold gives up nothing",
        (*CHECKED_OUT, release()),
        check_out("a=3", "r2", "r1", "a=2"),
        ["reserved", ANY, ANY],
        End({"a": (2, 3, 0, 5)}, {"r1": "released", "r2": "reserved"}, events=(("reserve", "a=3", ANY),)),
    ),
    Row(
        "a hold that was paid for since it was read must be read again",
        (*CHECKED_OUT, commit()),
        check_out("a=3", "r2", "r1", "a=2"),
        ["moved"],
    ),
    Row(
        "a hold that was read as paid gives up nothing",
        (*CHECKED_OUT, commit()),
        check_out("a=3", "r2", "r1"),
        ["reserved", ANY, ANY],
        End({"a": (0, 3, 2, 5)}, {"r1": "committed", "r2": "reserved"}, events=(("reserve", "a=3", ANY),)),
    ),
    Row(
        "a hold that was read as dead gives up nothing",
        (*CHECKED_OUT, release()),
        check_out("a=3", "r2", "r1"),
        ["reserved", ANY, ANY],
        End({"a": (2, 3, 0, 5)}, {"r1": "released", "r2": "reserved"}, events=(("reserve", "a=3", ANY),)),
    ),
    Row(
        "check out a cart for the first time",
        (at(FAR_MS), stock(5)),
        check_out("a=2", "r1", request="7"),
        ["reserved", FAR_MS, FAR_MS + 900_000],
        End(
            {"a": (3, 2, 0, 5)},
            {"r1": "reserved"},
            fields={KEYS.reservation("r1"): {"cart": "c1", "request": "7"}},
            events=(("reserve", "a=2", f"7 c1 {FAR_MS}"),),
        ),
    ),
    Row(
        "replace keeps the first start, for the cap",
        (at(FAR_MS), *CHECKED_OUT, at(FAR_MS + 600_000)),
        check_out("a=1", "r2", "r1", "a=2"),
        ["reserved", FAR_MS, FAR_MS + 900_000],
        End(
            {"a": (4, 1, 0, 5)},
            {"r1": "released", "r2": "reserved"},
            fields={KEYS.reservation("r2"): {"created_ms": str(FAR_MS), "deadline_ms": str(FAR_MS + 900_000)}},
            events=(("release", "a=2", ""), ("reserve", "a=1", f" c1 {FAR_MS}")),
        ),
    ),
    Row(
        "replace by a shorter hold",
        (at(FAR_MS), *CHECKED_OUT, at(FAR_MS + 600_000)),
        check_out("a=1", "r2", "r1", "a=2", hold_ms=60_000),
        ["reserved", FAR_MS, FAR_MS + 660_000],
        End({"a": (4, 1, 0, 5)}, events=(("release", "a=2", ""), ("reserve", "a=1", ANY))),
    ),
    Row(
        "replace by all there is: the old one's units are free for it",
        CHECKED_OUT,
        check_out("a=5", "r2", "r1", "a=2"),
        ["reserved", ANY, ANY],
        End(
            {"a": (0, 5, 0, 5)},
            {"r1": "released", "r2": "reserved"},
            events=(("release", "a=2", ""), ("reserve", "a=5", ANY)),
        ),
    ),
    Row(
        "replace lines that are only in the old one, only in the new one, and in both",
        (stock(5), stock(5, sku="b"), stock(5, sku="c"), check_out("a=2 b=4", "r1")),
        check_out("b=5 c=1", "r2", "r1", "a=2 b=4"),
        ["reserved", ANY, ANY],
        End(
            {"a": (5, 0, 0, 5), "b": (0, 5, 0, 5), "c": (4, 1, 0, 5)},
            {"r1": "released", "r2": "reserved"},
            fields={KEYS.sku("a"): {"next_release_ms": None}},
            events=(("release", "a=2 b=4", ""), ("reserve", "b=5 c=1", ANY)),
        ),
    ),
    Row(
        "replace up to the limit",
        (stock(9, "limit_per_customer", 3), reserve("a=1", "r9"), check_out("a=1", "r1")),
        check_out("a=2", "r2", "r1", "a=1"),
        ["reserved", ANY, ANY],
        End(
            {"a": (6, 3, 0, 9)},
            {"r1": "released", "r2": "reserved"},
            {"a": {"ann": "3"}},
            events=(("release", "a=1", ""), ("reserve", "a=2", ANY)),
        ),
    ),
    Row(
        "replace gives the limit of a line back that is only in the old one",
        (stock(5, "limit_per_customer", 3), stock(5, sku="b"), check_out("a=2", "r1")),
        check_out("b=1", "r2", "r1", "a=2"),
        ["reserved", ANY, ANY],
        End(
            {"a": (5, 0, 0, 5), "b": (4, 1, 0, 5)},
            buyers={"a": {}},
            events=(("release", "a=2", ""), ("reserve", "b=1", ANY)),
        ),
    ),
    Row(
        "replace what was held before there was a limit",
        (stock(5), check_out("a=4", "r1"), configure("", "limit_per_customer", 2, operation="limit")),
        check_out("a=2", "r2", "r1", "a=4"),
        ["reserved", ANY, ANY],
        End({"a": (3, 2, 0, 5)}, buyers={"a": {"ann": "2"}}, events=(("release", "a=4", ""), ("reserve", "a=2", ANY))),
    ),
]

REFUND = [
    Row("refund is closed", (*PAID, CLOSED), refund("p2"), ["closed"]),
    Row("refund an unknown order", (stock(5),), refund("p2"), ["not_found"]),
    Row("refund a hold", HELD, refund("p2"), ["not_found"]),
    Row("refund an expired hold", EXPIRED, refund("p2"), ["not_found"]),
    Row("refund the very payment of the order", PAID, refund("p1"), ["committed"]),
    Row("refund the very payment of a cancelled order", CANCELLED, refund("p1"), ["committed"]),
    Row("refund again", (*PAID, refund("p2")), refund("p2"), ["refund_required"]),
    Row(
        "refund a second payment",
        PAID,
        refund("p2"),
        ["refund_required"],
        End(
            {"a": (3, 0, 2, 5)},
            {"r1": "committed"},
            fields={KEYS.reservation("r1"): {"payment_id": "p1", "refund:p2": ""}},
            events=(("refund_required", "", ""),),
        ),
    ),
    Row(
        "refund a second payment of a cancelled order",
        CANCELLED,
        refund("p2"),
        ["refund_required"],
        End({"a": (5, 0, 0, 5)}, {"r1": "cancelled"}, events=(("refund_required", "", ""),)),
    ),
]

PUT_LINE = [
    Row("put a line into no cart", (), put_line("a=1"), ["not_found"]),
    Row("put a line into another user's cart", (*A_CART, bind_cart("bob")), put_line("a=1", user="ann"), ["not_found"]),
    Row("a guest puts a line into a user's cart", (*A_CART, bind_cart("bob")), put_line("a=1"), ["not_found"]),
    Row("put one line too many", CART_OF_TWO, put_line("c=1", most=2), ["too_many_lines"]),
    Row("put a line", A_CART, put_line("a=1", most=1), ["put"], End(fields={CART: {"sku:a": "1"}})),
    Row(
        "put another quantity into a full cart",
        CART_OF_TWO,
        put_line("a=7", most=2),
        ["put"],
        End(fields={CART: {"sku:a": "7", "sku:b": "1"}}),
    ),
    Row(
        "put nothing of a line",
        CART_OF_TWO,
        put_line("a=0", most=2),
        ["put"],
        End(fields={CART: {"sku:a": None, "sku:b": "1"}}),
    ),
    Row("put nothing of what is not there", CART_OF_TWO, put_line("c=0", most=2), ["put"]),
    Row(
        "put a line into a cart that bought before: only lines count",
        (*A_CART, bind_cart(), empty_cart("a=1")),
        put_line("a=1", most=1, user="ann"),
        ["put"],
        End(fields={CART: {"sku:a": "1", "user": "ann", "bought:r1": "1"}}),
    ),
]

BIND_CART = [
    Row("bind no cart", (), bind_cart(), ["not_found"]),
    Row("bind another user's cart", (*A_CART, bind_cart("bob")), bind_cart("ann"), ["not_found"]),
    Row("bind again", (*A_CART, bind_cart()), bind_cart(), ["bound"]),
    Row("bind a guest's cart", CART_OF_TWO, bind_cart(), ["bound"], End(fields={CART: {"user": "ann", "sku:a": "3"}})),
]

EMPTY_CART = [
    Row("empty no cart", (), empty_cart(), ["not_found"]),
    Row("empty again", (*CART_OF_TWO, empty_cart("a=1")), empty_cart("a=1"), ["emptied"]),
    Row(
        "empty again what was put in since",
        (*CART_OF_TWO, empty_cart("a=3"), put_line("a=3")),
        empty_cart("a=3"),
        ["emptied"],
    ),
    Row(
        "empty of less than is wanted",
        CART_OF_TWO,
        empty_cart("a=2"),
        ["emptied"],
        End(fields={CART: {"sku:a": "1", "sku:b": "1", "bought:r1": "1"}}),
    ),
    Row(
        "empty of all that is wanted, and of what is not",
        CART_OF_TWO,
        empty_cart("a=3 b=2 c=1"),
        ["emptied"],
        End(fields={CART: {"sku:a": None, "sku:b": None, "sku:c": None, "created_ms": "1"}}),
    ),
    Row(
        "empty for another order",
        (*CART_OF_TWO, empty_cart("a=1")),
        empty_cart("a=1", "r2"),
        ["emptied"],
        End(fields={CART: {"sku:a": "1", "bought:r1": "1", "bought:r2": "1"}}),
    ),
]

EXTEND = [
    Row("extend is closed", (*HELD, CLOSED), extend(), ["closed"]),
    Row(
        "extend with a key that came with another request",
        (*HELD, extend(request="7")),
        extend(request="8"),
        ["idempotency_key_reused"],
    ),
    Row("extend is replayed", (*HELD, extend(request="7")), extend(request="7"), ["replayed", "extended", ANY]),
    Row(
        "extend is replayed after the end",
        (*HELD, extend(request="7"), release()),
        extend(request="7"),
        ["replayed", "extended", ANY],
    ),
    Row("extend an unknown hold", (stock(5),), extend(), ["not_found"]),
    Row("extend a hold that is due", DUE, extend(), ["reservation_expired"]),
    Row("extend an expired hold", EXPIRED, extend(), ["reservation_expired"]),
    Row("extend a released hold", RELEASED, extend(), ["invalid_transition", "released"]),
    Row("extend an order", PAID, extend(), ["invalid_transition", "committed"]),
    Row("extend a cancelled order", CANCELLED, extend(), ["invalid_transition", "cancelled"]),
    Row("extend with the keys of another SKU", HELD, extend("b=2"), ["wrong_keys"]),
    Row("extend with too few keys", TWO_LINES, extend("a=2"), ["wrong_keys"]),
    Row("extend with too many keys", (*HELD, stock(5, sku="b")), extend("a=2 b=1"), ["wrong_keys"]),
    Row(
        "extend a hold",
        (stock(5), reserve("a=2", hold_ms=60_000)),
        extend(),
        ["extended", ANY],
        End({"a": (3, 2, 0, 5)}, {"r1": "reserved"}, events=(("extend", "a=2", ""),)),
    ),
    Row(
        "extend shortens a hold",
        HELD,
        extend(hold_ms=1_000, request="7"),
        ["extended", ANY],
        End({"a": (3, 2, 0, 5)}, {"r1": "reserved"}, events=(("extend", "a=2", ""),)),
    ),
]

RELEASE = [
    Row("release is closed", (*HELD, CLOSED), release(), ["closed"]),
    Row("release an unknown hold", (stock(5),), release(), ["not_found"]),
    Row("release an order", PAID, release(), ["already_committed"]),
    Row("release a cancelled order", CANCELLED, release(), ["already_committed"]),
    Row("release a fulfilled order", FULFILLED, release(), ["already_committed"]),
    Row("release again", RELEASED, release(), ["ended", "released"]),
    Row("release an expired hold", EXPIRED, release(), ["ended", "expired"]),
    Row("release a hold that is due", DUE, release(), ["due", ANY]),
    Row("release with the keys of another SKU", HELD, release("b=2"), ["wrong_keys"]),
    Row("release with counters that are too low", (*HELD, TOO_FEW_RESERVED), release(), ["inconsistent", "a"]),
    Row(
        "release without a reserved counter",
        (*HELD, lambda store: store.redis.hdel(KEYS.sku("a"), "reserved")),
        release(),
        ["inconsistent", "a"],
    ),
    Row(
        "release with the last line inconsistent",
        (*TWO_LINES, put(KEYS.sku("b"), "reserved", 0)),
        release("a=2 b=1"),
        ["inconsistent", "b"],
    ),
    Row(
        "release gives everything back",
        LIMITED,
        release(),
        ["released"],
        End({"a": (5, 0, 0, 5)}, {"r1": "released"}, {"a": {}}, events=(("release", "a=2", ""),)),
    ),
    Row(
        "release leaves other holds alone",
        (*LIMITED, reserve("a=1", "r2")),
        release(),
        ["released"],
        End(
            {"a": (4, 1, 0, 5)},
            {"r1": "released", "r2": "reserved"},
            {"a": {"ann": "1"}},
            events=(("release", "a=2", ""),),
        ),
    ),
]

EXPIRE = [
    Row("expire is closed", (*DUE, CLOSED), expire(), ["closed"]),
    Row("expire an unknown hold", (stock(5),), expire(), ["ended"]),
    Row("expire again", EXPIRED, expire(), ["ended"]),
    Row("expire a released hold", RELEASED, expire(), ["ended"]),
    Row("expire an order", PAID, expire(), ["ended"]),
    Row("expire too early", HELD, expire(), ["not_due", ANY]),
    Row("expire with the keys of another SKU", DUE, expire("b=2"), ["wrong_keys"]),
    Row("expire with counters that are too low", (*DUE, TOO_FEW_RESERVED), expire(), ["inconsistent", "a"]),
    Row(
        "expire without a reserved counter",
        (*DUE, lambda store: store.redis.hdel(KEYS.sku("a"), "reserved")),
        expire(),
        ["inconsistent", "a"],
    ),
    Row(
        "expire a hold whose lines are torn",
        (*DUE, put(KEYS.reservation("r1"), "lines", "torn")),
        expire(),
        ["inconsistent", ""],
    ),
    Row(
        "expire a hold without a deadline",
        (*DUE, lambda store: store.redis.hdel(KEYS.reservation("r1"), "deadline_ms")),
        expire(),
        ["inconsistent", ""],
    ),
    Row(
        "expire without the SKU",
        (*DUE, lambda store: store.redis.delete(KEYS.sku("a"))),
        expire(),
        ["inconsistent", "a"],
    ),
    Row(
        "expire drops an entry without a hold",
        (stock(5), lambda store: store.redis.zadd(KEYS.deadlines, {"r9": 1})),
        expire(reservation_id="r9"),
        ["dropped"],
        End({"a": (5, 0, 0, 5)}),
    ),
    Row(
        "expire gives everything back",
        (*LIMITED, run_out()),
        expire(),
        ["expired"],
        End({"a": (5, 0, 0, 5)}, {"r1": "expired"}, {"a": {}}, events=(("expire", "a=2", ""),)),
    ),
    Row(
        "expire gives every line back",
        (*TWO_LINES, run_out()),
        expire("a=2 b=1"),
        ["expired"],
        End({"a": (5, 0, 0, 5), "b": (5, 0, 0, 5)}, {"r1": "expired"}, events=(("expire", "a=2 b=1", ""),)),
    ),
]

COMMIT = [
    Row("commit is closed", (*HELD, CLOSED), commit(), ["closed"]),
    Row(
        "commit with a key that came with another request",
        (*HELD, commit(request="7")),
        commit(payment="p2", request="8"),
        ["idempotency_key_reused"],
    ),
    Row("commit is replayed", (*HELD, commit(request="7")), commit(request="7"), ["replayed", "committed", ANY, 0]),
    Row("commit an unknown hold", (stock(5),), commit(), ["not_found"]),
    Row("commit with another payment", PAID, commit(payment="p2"), ["already_committed"]),
    Row("commit again", PAID, commit(), ["committed", ANY, 0]),
    Row("commit again after it was cancelled", CANCELLED, commit(), ["committed", ANY, 0]),
    Row("commit again after it was fulfilled", FULFILLED, commit(), ["committed", ANY, 0]),
    Row("commit again after a late payment", (*EXPIRED, commit()), commit(), ["committed", ANY, 1]),
    Row("commit a refunded payment", REFUNDED, commit(), ["refund_required", "a=2/1"]),
    Row(
        "commit a refunded payment though stock is back",
        (*REFUNDED, release("a=4", "r2")),
        commit(),
        ["refund_required", "a=2/1"],
    ),
    Row("commit with the keys of another SKU", HELD, commit("b=2"), ["wrong_keys"]),
    Row("commit a dead hold with the keys of another SKU", EXPIRED, commit("b=2"), ["wrong_keys"]),
    Row("commit a hold that is due", DUE, commit(settled=0), ["due", ANY]),
    Row("commit a hold that is due though settled", DUE, commit(settled=1), ["due", ANY]),
    Row("commit a dead hold while due holds are in the way", (*TAKEN, run_out("r2")), commit(settled=0), ["due", ANY]),
    Row("commit with counters that are too low", (*HELD, TOO_FEW_RESERVED), commit(), ["inconsistent", "a"]),
    Row(
        "commit after expiry without stock",
        TAKEN,
        commit(settled=0),
        ["refund_required", "a=2/1"],
        End({"a": (1, 4, 0, 5)}, {"r1": "expired"}, events=(("refund_required", "a=2", "a=2/1"),)),
    ),
    Row(
        "commit another payment after a refund",
        REFUNDED,
        commit(payment="p2"),
        ["refund_required", "a=2/1"],
        End({"a": (1, 4, 0, 5)}, {"r1": "expired"}, events=(("refund_required", "a=2", "a=2/1"),)),
    ),
    Row(
        "commit another payment when stock is back",
        (*REFUNDED, release("a=4", "r2")),
        commit(payment="p2"),
        ["committed", ANY, 1],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, events=(("commit", "a=2", "late"),)),
    ),
    Row(
        "commit after expiry needs every line",
        (*TWO_LINES, run_out(), expire("a=2 b=1"), reserve("b=5", "r2")),
        commit("a=2 b=1"),
        ["refund_required", "b=1/0"],
        End(
            {"a": (5, 0, 0, 5), "b": (0, 5, 0, 5)},
            {"r1": "expired"},
            events=(("refund_required", "a=2 b=1", "b=1/0"),),
        ),
    ),
    Row(
        "commit a hold",
        LIMITED,
        commit(),
        ["committed", ANY, 0],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, {"a": {"ann": "2"}}, events=(("commit", "a=2", ""),)),
    ),
    Row(
        "commit a hold while selling is paused",
        (*HELD, PAUSED),
        commit(),
        ["committed", ANY, 0],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, events=(("commit", "a=2", ""),)),
    ),
    Row(
        "commit after expiry with stock",
        (*LIMITED, run_out(), expire()),
        commit(settled=0),
        ["committed", ANY, 1],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, {"a": {"ann": "2"}}, events=(("commit", "a=2", "late"),)),
    ),
    Row(
        "commit after release with stock",
        RELEASED,
        commit(settled=0),
        ["committed", ANY, 1],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, events=(("commit", "a=2", "late"),)),
    ),
]

CANCEL = [
    Row("cancel is closed", (*PAID, CLOSED), cancel(), ["closed"]),
    Row(
        "cancel with a key that came with another request",
        (*PAID, cancel(what="a=1", request="7")),
        cancel(what="a=2", request="8"),
        ["idempotency_key_reused"],
    ),
    Row(
        "cancel is replayed",
        (*PAID, cancel(what="a=1", request="7")),
        cancel(what="a=1", request="7"),
        ["replayed", "cancelled", "committed", "a=1"],
    ),
    Row("cancel an unknown order", (stock(5),), cancel(), ["not_found"]),
    Row("cancel a hold", HELD, cancel(), ["not_found"]),
    Row("cancel an expired hold", EXPIRED, cancel(), ["not_found"]),
    Row("cancel again", CANCELLED, cancel(), ["cancelled", "cancelled", "a=2"]),
    Row("cancel a fulfilled order", FULFILLED, cancel(), ["invalid_transition", "fulfilled"]),
    Row("cancel with the keys of another SKU", PAID, cancel("b=2"), ["wrong_keys"]),
    Row("cancel more than was bought", PAID, cancel(what="a=3"), ["not_in_order", "a"]),
    Row("cancel more than is left", (*PAID, cancel(what="a=1")), cancel(what="a=2"), ["not_in_order", "a"]),
    Row("cancel more than was bought in two lines", PAID, cancel(what="a=1 a=2"), ["not_in_order", "a"]),
    Row("cancel what was not bought", PAID, cancel(what="a=1 b=1"), ["not_in_order", "b"]),
    Row("cancel with counters that are too low", (*PAID, TOO_FEW_ALLOCATED), cancel(), ["inconsistent", "a"]),
    Row(
        "cancel the whole order",
        (*LIMITED, commit()),
        cancel(),
        ["cancelled", "cancelled", "a=2"],
        End({"a": (5, 0, 0, 5)}, {"r1": "cancelled"}, {"a": {}}, events=(("cancel", "a=2", "cancelled"),)),
    ),
    Row(
        "cancel a part",
        (*LIMITED, commit()),
        cancel(what="a=1"),
        ["cancelled", "committed", "a=1"],
        End({"a": (4, 0, 1, 5)}, {"r1": "committed"}, {"a": {"ann": "1"}}, events=(("cancel", "a=1", "committed"),)),
    ),
    Row(
        "cancel one line of two",
        TWO_PAID,
        cancel("a=2 b=1", what="b=1"),
        ["cancelled", "committed", "b=1"],
        End({"a": (3, 0, 2, 5), "b": (5, 0, 0, 5)}, {"r1": "committed"}, events=(("cancel", "b=1", "committed"),)),
    ),
    Row(
        "cancel what is left",
        (*TWO_PAID, cancel("a=2 b=1", what="a=1")),
        cancel("a=2 b=1", request="7"),
        ["cancelled", "cancelled", "a=2 b=1"],
        End({"a": (5, 0, 0, 5), "b": (5, 0, 0, 5)}, {"r1": "cancelled"}, events=(("cancel", "a=1 b=1", "cancelled"),)),
    ),
]

FULFIL = [
    Row("fulfil is closed", (*PAID, CLOSED), fulfil(), ["closed"]),
    Row(
        "fulfil with a key that came with another request",
        (*PAID, fulfil(request="7")),
        fulfil(request="8"),
        ["idempotency_key_reused"],
    ),
    Row("fulfil is replayed", (*PAID, fulfil(request="7")), fulfil(request="7"), ["replayed", "fulfilled", ""]),
    Row("fulfil an unknown order", (stock(5),), fulfil(), ["not_found"]),
    Row("fulfil a hold", HELD, fulfil(), ["not_found"]),
    Row("fulfil a released hold", RELEASED, fulfil(), ["not_found"]),
    Row("fulfil again", FULFILLED, fulfil(), ["fulfilled", ""]),
    Row("fulfil a cancelled order", CANCELLED, fulfil(), ["invalid_transition", "cancelled"]),
    Row("fulfil with the keys of another SKU", PAID, fulfil("b=2"), ["wrong_keys"]),
    Row("fulfil with counters that are too low", (*PAID, TOO_FEW_ALLOCATED), fulfil(), ["inconsistent", "a"]),
    Row(
        "fulfil an order",
        (*LIMITED, commit()),
        fulfil(),
        ["fulfilled", ""],
        End({"a": (3, 0, 0, 3)}, {"r1": "fulfilled"}, {"a": {"ann": "2"}}, events=(("fulfil", "a=2", ""),)),
    ),
    Row(
        "fulfil what a cancellation left",
        (*TWO_PAID, cancel("a=2 b=1", what="a=1 b=1")),
        fulfil("a=2 b=1"),
        ["fulfilled", "a=1 b=1"],
        End({"a": (4, 0, 0, 4), "b": (5, 0, 0, 5)}, {"r1": "fulfilled"}, events=(("fulfil", "a=1", ""),)),
    ),
]

ADJUST = [
    Row("adjust is closed", (stock(5), CLOSED), adjust(1), ["closed"]),
    Row(
        "adjust with a key that came with another request",
        (stock(5), adjust(1)),
        adjust(2, request="g"),
        ["idempotency_key_reused"],
    ),
    Row("adjust is replayed", (stock(5), adjust(1)), adjust(1), ["replayed", "adjusted", ...]),
    Row("adjust an unknown SKU", (), adjust(1), ["not_found"]),
    Row("adjust below what is available", HELD, adjust(-4), ["insufficient_stock", 3]),
    Row("adjust above the most", (stock(5),), adjust(96), ["on_hand_too_large", 100]),
    Row(
        "adjust up to the most",
        HELD,
        adjust(95),
        ["adjusted", ...],
        End({"a": (98, 2, 0, 100)}, events=(("restock", "a=95", ""),)),
    ),
    Row(
        "adjust down to nothing",
        HELD,
        adjust(-3),
        ["adjusted", ...],
        End({"a": (0, 2, 0, 2)}, events=(("withdraw", "a=3", ""),)),
    ),
]

CONFIGURE = [
    Row("configure is closed", (CLOSED,), configure(5), ["closed"]),
    Row(
        "configure with a call that came with another request",
        (configure(5),),
        configure(6, request="g"),
        ["idempotency_key_reused"],
    ),
    Row("configure is replayed", (configure(5),), configure(5), ["replayed", "created", ...]),
    Row(
        "configure is replayed though the stock has moved",
        (configure(5), reserve("a=2")),
        configure(5),
        ["replayed", "created", ...],
    ),
    Row("configure below what is claimed", HELD, configure(1), ["stock_below_claims", 2]),
    Row("configure below what is sold", PAID, configure(1, "paused", 1), ["stock_below_claims", 2]),
    Row(
        "configure a sale that ends before it starts",
        (stock(5),),
        configure("", "sale_starts_ms", 20, "sale_ends_ms", 20),
        ["sale_ends_before_it_starts"],
    ),
    Row(
        "configure an end before the start that is set",
        (stock(5, "sale_starts_ms", 20),),
        configure(9, "sale_ends_ms", 10),
        ["sale_ends_before_it_starts"],
    ),
    Row("configure what is so already", (stock(5, "name", "A"),), configure(5, "name", "A"), ["changed", ...]),
    Row(
        "configure a new SKU",
        (),
        configure(5, "name", "A"),
        ["created", ...],
        End({"a": (5, 0, 0, 5)}, fields={KEYS.sku("a"): {"name": "A"}}, events=(("recount", "a=5", '[["name","A"]]'),)),
    ),
    Row(
        "configure a new SKU without stock",
        (),
        configure(""),
        ["created", ...],
        End({"a": (0, 0, 0, 0)}, events=(("recount", "a=0", ""),)),
    ),
    Row(
        "configure a recount down to the claims",
        HELD,
        configure(2),
        ["changed", ...],
        End({"a": (0, 2, 0, 2)}, {"r1": "reserved"}, events=(("recount", "a=-3", ""),)),
    ),
    Row(
        "configure attributes alone",
        (stock(5, "name", "A", "paused", 1),),
        configure("", "name", "", "paused", 1, "limit_per_customer", 2),
        ["changed", ...],
        End(
            {"a": (5, 0, 0, 5)},
            fields={KEYS.sku("a"): {"name": None, "paused": "1", "limit_per_customer": "2"}},
            events=(("configure", "a=0", ANY),),
        ),
    ),
]

SELLING = [
    Row("selling is closed", (CLOSED,), selling(1), ["closed"]),
    Row("selling is paused already", (selling(1),), selling(1), ["set"]),
    Row("selling was never paused", (), selling(0, ""), ["set"]),
    Row(
        "selling is paused",
        (),
        selling(1),
        ["set"],
        End(fields={KEYS.meta: {"selling_paused": "1", "selling_reason": "fire"}}, events=(("pause", "", ""),)),
    ),
    Row(
        "selling goes on",
        (selling(1),),
        selling(0, "out"),
        ["set"],
        End(fields={KEYS.meta: {"selling_paused": None, "selling_reason": "out"}}, events=(("resume", "", ""),)),
    ),
]

OPEN = [
    Row("open a store of another layout", (put(KEYS.meta, "layout", 2),), open_store(), ["layout_unknown", "2"]),
    Row("open an open store", (open_store(),), open_store(), ["ready", "open"]),
    Row("open a closed store", (open_store(), CLOSED), open_store(), ["ready", "closed"]),
    Row("open a store without a gate", (put(KEYS.meta, "layout", 1),), open_store(), ["ready", "closed"]),
    *(
        Row(f"open stock without meta, {key.rpartition(':')[2]} left", (step,), open_store(), ["not_empty"])
        for key, step in {
            KEYS.ledger: leave_only_the_ledger,
            KEYS.deadlines: lambda store: store.redis.zadd(KEYS.deadlines, {"r1": 1}),
            KEYS.skus: lambda store: store.redis.zadd(KEYS.skus, {"a": 0}),
        }.items()
    ),
    Row(
        "open an empty store",
        (),
        open_store(),
        ["opened"],
        End(fields={KEYS.meta: {"gate": "open", "epoch": "1", "seq": "0", "layout": "1"}}),
    ),
]

ROWS = [
    *RESERVE,
    *CHECK_OUT,
    *EXTEND,
    *RELEASE,
    *EXPIRE,
    *COMMIT,
    *REFUND,
    *CANCEL,
    *FULFIL,
    *ADJUST,
    *CONFIGURE,
    *SELLING,
    *OPEN,
    *PUT_LINE,
    *BIND_CART,
    *EMPTY_CART,
]
