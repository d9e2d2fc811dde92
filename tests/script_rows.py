"""Every script as a table: start, call, reply, end. The same rows run on fakeredis and on real servers.

A row without an end must change nothing at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import EllipsisType
from typing import Any
from unittest.mock import ANY

from engine.engine import Engine
from engine.fold import ENDED
from engine.keys import LAYOUT, Keys
from engine.scripts import sources
from engine.sku_names import shown, stored
from engine.store import Store
from tests import books
from tests.books import Counters

KEYS = Keys()
SOURCES = dict(sources())
CART = KEYS.cart("c1")
WHO = ("actor", "request_id", "reservation_id", "user", "payment_id", "reason", "deadline_ms")
GIVES_WAY = {"reserve": ("replaces", "replaced"), "commit": ("latest", "paid")}
"""Scripts that may release another hold: the argument that has its id, and the reason in the event."""

DAY_MS = 86_400_000
GUEST_MS = 3_600_000
FAR_MS = 4_000_000_000_000


@dataclass(frozen=True)
class Call:
    script: str
    keys: list[str]
    arguments: list[str | int]


Step = Call | Callable[[Store], object]


@dataclass(frozen=True)
class End:
    """`events` are those of the call: op, lines and detail; then operation, unless it is empty.

    `holds` has keys with their value and whether they are forgotten some day, None for those that are gone.
    `broken`: the start was so already, so that the books can't be right.
    """

    counters: Mapping[str, Counters] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    buyers: Mapping[str, dict[str, str]] = field(default_factory=dict)
    fields: Mapping[str, dict[str, str | None]] = field(default_factory=dict)
    events: tuple[tuple[Any, ...], ...] = ()
    holds: Mapping[str, tuple[Any, bool] | None] = field(default_factory=dict)
    broken: bool = False


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
    for step in row.start:
        if isinstance(step, Call):
            perform(store, step)
        else:
            step(store)
    before = books.dump(store.redis)
    earlier = len(books.events(store))
    from_ms = clock_ms(store, row.call)
    reply = perform(store, row.call)
    to_ms = max(from_ms, server_ms(store))
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
    assert tuple(told(event) for _, event in happened) == row.end.events
    for _, event in happened:
        assert from_ms <= int(event["at_ms"]) <= to_ms
        assert store.redis.hget(KEYS.meta, "clock_ms") == event["at_ms"]
        assert {name: event[name] for name in WHO} == by_whom(store, row.call, event)
    after = books.dump(store.redis)
    assert {key: after.get(key) for key in row.end.holds} == row.end.holds
    assert list(kept_wrongly(store, after)) == []
    if not row.end.broken:
        books.assert_right(engine)


def server_ms(store: Store) -> int:
    seconds, microseconds = store.redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def clock_ms(store: Store, call: Call) -> int:
    """The time that a call made now takes: never one before that of an event."""
    known = int(store.redis.hget(KEYS.meta, "clock_ms") or 0)
    in_the_ledger = int(arguments_of(call)["clock_ms"]) if call.script == "open" else 0
    return max(server_ms(store), known, in_the_ledger)


def arguments_of(call: Call) -> dict[str, str]:
    """Those that the header of the script names once."""
    named = re.findall(r"ARGV\[(\d+)\] (\w+)", SOURCES[call.script])
    return {name: str(call.arguments[int(at) - 1]) for at, name in named if int(at) <= len(call.arguments)}


def by_whom(store: Store, call: Call, event: dict[str, str]) -> dict[str, str]:
    """What the event of a call must say of who did what to which reservation, and why."""
    given = arguments_of(call)
    gives_way = GIVES_WAY.get(call.script) if event["op"] == "release" else None
    reservation_id = given[gives_way[0]] if gives_way else given.get("id", "")
    record = store.redis.hgetall(KEYS.reservation(reservation_id))
    of_an_order = event["op"] in ("cancel", "fulfil")
    reason = given.get("reason", "")
    if call.script == "configure" and not given["lever"]:
        reason = ", ".join(f"{name}={value}" for name, value in json.loads(event["detail"] or "[]"))
    return {
        "actor": given["actor"],
        "request_id": given.get("request_id", ""),
        "reservation_id": reservation_id,
        "user": record.get("user", ""),
        "payment_id": record["payment_id"] if of_an_order else "" if gives_way else given.get("payment_id", ""),
        "deadline_ms": record["deadline_ms"] if event["op"] in ("reserve", "extend") else "",
        "reason": gives_way[1] if gives_way else "already_committed" if call.script == "refund" else reason,
    }


def kept_wrongly(store: Store, after: Mapping[str, tuple[Any, bool]]) -> Iterator[str]:
    """Keys that are forgotten some day, or not, other than their state asks for."""
    for key, (value, is_forgotten) in after.items():
        _, _, name = key.rpartition(":")
        if key == KEYS.reservation(name) and is_forgotten != (value["state"] in ENDED):
            yield f"{name} is {value['state']}"
        if key == KEYS.lease(name) and (after[KEYS.reservation(name)][0]["state"], value) != ("reserved", "1"):
            yield f"{name} has a lease"
        if key == KEYS.sku(name) and ("next_release_ms" in value) != (int(value["reserved"]) > 0):
            yield f"{name} has a next release, or lacks it"
        if key == KEYS.cart(name.strip("{}")) and not is_forgotten:
            yield f"cart {name} is kept for good"
        if key == KEYS.payment(name) and not is_forgotten:
            yield f"payment {name} is kept for good"


def told(event: dict[str, str]) -> tuple[str, ...]:
    return (event["op"], event["lines"], event["detail"], *([event["operation"]] if event["operation"] else []))


def perform(store: Store, call: Call) -> list[Any]:
    reply: list[Any] = store.redis.eval(SOURCES[call.script], len(call.keys), *call.keys, *call.arguments)
    return reply


def skus_of(lines: str) -> list[str]:
    return [shown(word.split("=")[0]) for word in lines.split()]


def words_of(lines: str) -> list[str | int]:
    return [part for word in lines.split() for part in word.split("=")]


def hold_keys(reservation_id: str) -> list[str]:
    return [KEYS.meta, KEYS.ledger, *KEYS.hold(reservation_id)]


def order_keys(order_id: str, operation: str) -> list[str]:
    return [KEYS.meta, KEYS.ledger, KEYS.reservation(order_id), KEYS.operation(operation)]


def reserve(
    lines: str, reservation_id: str = "r1", user: str = "ann", hold_ms: int = 900_000, request: str = "", asked: int = 1
) -> Call:
    keys = hold_keys(reservation_id) + KEYS.skus_and_buyers(skus_of(lines))
    fixed: list[str | int] = [reservation_id, user, user, "q", hold_ms, request, "", "", DAY_MS, asked]
    return Call("reserve", keys, [*fixed, *words_of(lines)])


def check_out(lines: str, reservation_id: str, latest: str = "", replaced: str | None = None, **more: Any) -> Call:
    """The checkout of cart c1, whose latest hold was read as `latest`, with the lines `replaced`."""
    plain = reserve(lines, reservation_id, **more)
    keys = [*plain.keys, KEYS.checkout("c1")]
    if replaced is not None:
        keys += [KEYS.reservation(latest), KEYS.lease(latest), *KEYS.skus_and_buyers(skus_of(replaced))]
    return Call("reserve", keys, [*plain.arguments[:6], "c1", latest, *plain.arguments[8:]])


def refund(payment: str = "p1", reservation_id: str = "r1") -> Call:
    keys = [KEYS.meta, KEYS.ledger, KEYS.reservation(reservation_id), KEYS.payment(payment)]
    return Call("refund", keys, [reservation_id, payment, "shop", "q", DAY_MS])


def note(
    told: str = "payment.processing",
    payment: str = "p1",
    reservation_id: str = "r1",
    operation: str = "o",
    request: str = "",
) -> Call:
    keys = [KEYS.meta, KEYS.ledger, KEYS.reservation(reservation_id), KEYS.operation(operation)]
    return Call("note", keys, [reservation_id, payment, "shop", "q", told, request, DAY_MS])


def put_line(line: str, most: int = 200, user: str = "", owner: str = "", may_make: int = 0) -> Call:
    return Call("put_line", [CART], [user, owner, may_make, most, DAY_MS, GUEST_MS, *words_of(line)])


def set_lines(
    lines: str, most: int = 200, user: str = "", owner: str = "", may_make: int = 0, only_new: int = 0
) -> Call:
    arguments: list[str | int] = [user, owner, may_make, most, DAY_MS, GUEST_MS, only_new]
    return Call("set_lines", [CART], arguments + words_of(lines))


def delete_cart(user: str = "", keep_ms: int = DAY_MS) -> Call:
    return Call("delete_cart", [CART], [user, keep_ms])


def admit_cart(cart_id: str = "c1", most: int = 2, ttl_ms: int = GUEST_MS) -> Call:
    return Call("admit_cart", [KEYS.guest_carts], [cart_id, ttl_ms, most])


def counted(**until_ms: int) -> Step:
    """Guests' carts that are counted until then."""

    def step(store: Store) -> None:
        store.redis.zadd(KEYS.guest_carts, until_ms)

    return step


def bind_cart(user: str = "ann") -> Call:
    return Call("bind_cart", [CART], [user, DAY_MS])


def empty_cart(lines: str = "a=2", order_id: str = "r1") -> Call:
    return Call("empty_cart", [CART], [order_id, DAY_MS, *words_of(lines)])


def extend(lines: str = "a=2", reservation_id: str = "r1", hold_ms: int = 300_000, request: str = "") -> Call:
    keys = [*hold_keys(reservation_id), KEYS.operation("o"), *(KEYS.sku(sku) for sku in skus_of(lines))]
    return Call("extend", keys, [reservation_id, "ann", "q", hold_ms, request, DAY_MS])


def release(
    lines: str = "a=2", reservation_id: str = "r1", reason: str = "left", lever: str = "", attempt: str = ""
) -> Call:
    keys = hold_keys(reservation_id) + KEYS.skus_and_buyers(skus_of(lines))
    return Call("release", keys, [reservation_id, "ann", "q", reason, DAY_MS, lever, attempt])


def expire(lines: str = "a=2", reservation_id: str = "r1") -> Call:
    keys = hold_keys(reservation_id) + KEYS.skus_and_buyers(skus_of(lines))
    return Call("expire", keys, [reservation_id, "keeper", "q", DAY_MS])


def commit(
    lines: str = "a=2", reservation_id: str = "r1", payment: str = "p1", settled: int = 1, request: str = ""
) -> Call:
    keys = [*hold_keys(reservation_id), KEYS.operation("o"), KEYS.payment(payment)]
    keys += KEYS.skus_and_buyers(skus_of(lines))
    return Call("commit", keys, [reservation_id, payment, "shop", "q", settled, request, DAY_MS, ""])


def pay_replaced(lines: str, latest: str, held: str | None, cart: str = "c1", **more: Any) -> Call:
    """The payment for hold r1, which was made from a cart, whose latest hold was read as `latest`, with the lines `held`."""
    plain = commit(lines, **more)
    keys = [*plain.keys, KEYS.checkout(cart)]
    if held is not None:
        keys += [KEYS.reservation(latest), KEYS.lease(latest), *KEYS.skus_and_buyers(skus_of(held))]
    return Call("commit", keys, [*plain.arguments[:7], latest])


def cancel(lines: str = "a=2", what: str = "", order_id: str = "r1", request: str = "") -> Call:
    keys = order_keys(order_id, "o") + KEYS.skus_and_buyers(skus_of(lines))
    return Call("cancel", keys, [order_id, "ops", "q", "broken", request, DAY_MS, DAY_MS, *words_of(what)])


def fulfil(lines: str = "a=2", what: str = "", order_id: str = "r1", request: str = "") -> Call:
    keys = order_keys(order_id, "o") + [KEYS.sku(sku) for sku in skus_of(lines)]
    return Call("fulfil", keys, [order_id, "ops", "q", request, DAY_MS, DAY_MS, *words_of(what)])


def adjust(delta: int, sku: str = "a", operation: str = "o", request: str = "f", most: int = 100) -> Call:
    keys = [KEYS.meta, KEYS.ledger, KEYS.sku(sku), KEYS.operation(operation)]
    return Call("adjust", keys, [stored(sku), delta, "ops", "q", "delivery", request, DAY_MS, most])


def configure(
    on_hand: int | str,
    *attributes: str | int,
    sku: str = "a",
    operation: str = "o",
    request: str = "f",
    reason: str = "",
    lever: str = "",
) -> Call:
    keys = [KEYS.meta, KEYS.ledger, KEYS.sku(sku), KEYS.operation(operation), KEYS.skus]
    return Call("configure", keys, [stored(sku), on_hand, "ops", "q", request, DAY_MS, reason, lever, *attributes])


def of_another_sku(call: Call) -> Call:
    return replace(call, keys=[KEYS.sku("other") if key == KEYS.sku("a") else key for key in call.keys])


def selling(paused: int, reason: str = "fire", lever: str = "do") -> Call:
    return Call("selling", [KEYS.meta, KEYS.ledger], [paused, reason, "ops", "q", lever])


def adopt(kind: str, key: str, *fields: str, id: str = "", lines: str = "") -> Call:
    return Call("adopt", [KEYS.meta, KEYS.ledger, key], [kind, id, lines, "ops", "found so", *fields])


def default_hold(hold_ms: int | str, reason: str = "a rush", lever: str = "do") -> Call:
    return Call("default_hold", [KEYS.meta, KEYS.ledger], [hold_ms, reason, "ops", "q", lever])


def close(restoring: int = 0, token: str = "t", layout: int = LAYOUT) -> Call:
    return Call("close", [KEYS.meta], [layout, token, "looked at", restoring])


def open_store(
    seq: int = 0,
    chain: str = "",
    epoch: int = 1,
    token: str = "t",
    layout: int = LAYOUT,
    clock_ms: int = 0,
    selling: tuple[str, str] = ("", ""),
    default_hold_ms: int | str = "",
) -> Call:
    arguments: list[str | int] = [layout, token, "run", epoch, seq, chain, clock_ms, "keeper", "why", *selling]
    arguments.append(default_hold_ms)
    return Call("open", [KEYS.meta, KEYS.ledger], arguments)


def restore(kind: str, key: str, name: str, *words: str | int, until_ms: int = 0, token: str = "t") -> Call:
    index = {"hold": [KEYS.deadlines, KEYS.lease(name)], "record": [KEYS.deadlines, KEYS.lease(name)]}
    keys = [KEYS.meta, key, *index.get(kind, [KEYS.skus] if kind == "sku" else [])]
    return Call("restore", keys, [token, kind, name, until_ms, *words])


def recall(*words: str | int) -> Call:
    return Call("recall", [KEYS.meta, KEYS.reservation("r1")], [DAY_MS, *words])


def trim(seq: int = 2, epoch: int = 1, keep: int = 1_000, most: int = 10) -> Call:
    return Call("trim", [KEYS.meta, KEYS.ledger], [epoch, seq, keep, most])


def stock(on_hand: int, *attributes: str | int, sku: str = "a") -> Call:
    return configure(on_hand, *attributes, sku=sku, operation=f"stock-{stored(sku)}")


def put(key: str, *fields_and_values: str | int) -> Step:
    return lambda store: store.redis.hset(key, items=list(fields_and_values))


def run_out(reservation_id: str = "r1") -> Step:
    return lambda store: books.run_out(store, reservation_id)


def lose(*keys: str) -> Step:
    return lambda store: store.redis.delete(*keys)


def forget_the_hold(store: Store) -> None:
    """Leave nothing of hold r1 but the counters and the ledger."""
    store.redis.delete(KEYS.reservation("r1"), KEYS.lease("r1"))
    store.redis.zrem(KEYS.deadlines, "r1")


def lives_again(store: Store) -> None:
    """Take hold r1 for alive, as a Redis does that has lost the last second."""
    store.redis.hset(KEYS.reservation("r1"), "state", "reserved")
    store.redis.set(KEYS.lease("r1"), 1)
    store.redis.zadd(KEYS.deadlines, {"r1": 2})


def at(now_ms: int) -> Step:
    """Set the clock, which must be later than the real one."""
    return put(KEYS.meta, "clock_ms", now_ms)


CLOSED = put(KEYS.meta, "gate", "closed")
FULL = put(KEYS.meta, "full_seq", 2)
NEARLY_FULL = put(KEYS.meta, "full_seq", 3)
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
    Row("reserve is closed when too much waits for Postgres", (*HELD, FULL), reserve("a=1", "r2"), ["closed"]),
    Row("reserve is closed even for a repeat when too much waits", (*HELD, FULL), reserve("a=2"), ["closed"]),
    Row("reserve is closed before it looks at units", (*HELD, FULL), reserve("a=0", "r2"), ["closed"]),
    Row(
        "reserve makes the last event that may wait for Postgres",
        (*HELD, NEARLY_FULL),
        reserve("a=1", "r2"),
        ["reserved", ANY, ANY],
        End({"a": (2, 3, 0, 5)}, {"r2": "reserved"}, events=(("reserve", "a=1", ""),)),
    ),
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
    Row("reserve is replayed", HELD, reserve("a=2"), ["replayed"]),
    Row(
        "reserve is replayed with its key",
        (stock(5), reserve("a=2", request="7")),
        reserve("a=2", request="7"),
        ["replayed"],
    ),
    Row("reserve is replayed when stock is gone", (stock(2), reserve("a=2")), reserve("a=2"), ["replayed"]),
    Row("reserve is replayed after expiry", EXPIRED, reserve("a=2"), ["replayed"]),
    Row("reserve is replayed after release", RELEASED, reserve("a=2"), ["replayed"]),
    Row("reserve is replayed after payment", PAID, reserve("a=2"), ["replayed"]),
    Row("reserve is replayed before a pause counts", (*HELD, PAUSED), reserve("a=2"), ["replayed"]),
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
    Row("check out is replayed", CHECKED_OUT, check_out("a=2", "r1"), ["replayed"]),
    Row(
        "check out is replayed after it was replaced",
        (*CHECKED_OUT, check_out("a=1", "r2", "r1", "a=2")),
        check_out("a=2", "r1"),
        ["replayed"],
    ),
    Row(
        "a replacement is replayed",
        (*CHECKED_OUT, check_out("a=1", "r2", "r1", "a=2", request="7")),
        check_out("a=1", "r2", "r1", "a=2", request="7"),
        ["replayed"],
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
        "replace over the limit: only the units of the old one are free",
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
        End(
            {"a": (3, 2, 0, 5)},
            buyers={"a": {"ann": "2"}},
            events=(("release", "a=4", ""), ("reserve", "a=2", ANY)),
        ),
    ),
]

REFUND = [
    Row("refund is closed", (*PAID, CLOSED), refund("p2"), ["closed"]),
    Row("refund an unknown order", (stock(5),), refund("p2"), ["not_found"]),
    Row("refund a hold", HELD, refund("p2"), ["not_found"]),
    Row("refund an expired hold", EXPIRED, refund("p2"), ["not_found"]),
    Row("refund the very payment of the order", PAID, refund("p1"), ["committed", 1, 3]),
    Row("refund the very payment of a cancelled order", CANCELLED, refund("p1"), ["committed", 1, 4]),
    Row("refund again", (*PAID, refund("p2"), adjust(1)), refund("p2"), ["refund_required", 1, 5]),
    Row(
        "refund a second payment",
        PAID,
        refund("p2"),
        ["refund_required", 1, 4],
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
        ["refund_required", 1, 5],
        End({"a": (5, 0, 0, 5)}, {"r1": "cancelled"}, events=(("refund_required", "", ""),)),
    ),
]

PUT_LINE = [
    Row("put a line into no cart", (), put_line("a=1"), ["not_found"]),
    Row(
        "put a line into a cart that was deleted",
        (*A_CART, delete_cart()),
        put_line("a=1", may_make=1),
        ["not_found"],
    ),
    Row(
        "make a guest's cart with its first line",
        (),
        put_line("a=1", user="ann", may_make=1),
        ["put"],
        End(fields={CART: {"sku:a": "1", "user": None}}),
    ),
    Row(
        "make a user's cart with its first line",
        (),
        put_line("a=1", user="ann", owner="ann", may_make=1),
        ["put"],
        End(fields={CART: {"sku:a": "1", "user": "ann"}}),
    ),
    Row(
        "a first line comes second: the cart has both",
        (put_line("a=1", may_make=1),),
        put_line("b=1", may_make=1),
        ["put"],
        End(fields={CART: {"sku:a": "1", "sku:b": "1"}}),
    ),
    Row(
        "a guest's first line comes after the cart was bound",
        (*A_CART, bind_cart("bob")),
        put_line("a=1", may_make=1),
        ["not_found"],
    ),
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

SET_LINES = [
    Row("set the lines of no cart", (), set_lines("a=1"), ["not_found"]),
    Row("set the lines of a deleted cart", (*A_CART, delete_cart()), set_lines("a=1", may_make=1), ["not_found"]),
    Row("set the lines of another user's cart", (*A_CART, bind_cart("bob")), set_lines("a=1"), ["not_found"]),
    Row("set too many lines", CART_OF_TWO, set_lines("a=1 b=1 c=1", most=2), ["too_many_lines"]),
    Row(
        "set other lines",
        (*CART_OF_TWO, bind_cart(), empty_cart("d=1")),
        set_lines("a=9 c=2", most=2, user="ann"),
        ["set"],
        End(fields={CART: {"sku:a": "9", "sku:b": None, "sku:c": "2", "user": "ann", "bought:r1": "1"}}),
    ),
    Row("set no line", CART_OF_TWO, set_lines(""), ["set"], End(fields={CART: {"sku:a": None, "created_ms": "1"}})),
    Row(
        "make a user's cart with lines",
        (),
        set_lines("a=1 b=2", user="ann", owner="ann", may_make=1, only_new=1),
        ["set"],
        End(fields={CART: {"sku:a": "1", "sku:b": "2", "user": "ann"}}),
    ),
    Row("make a cart that is there", CART_OF_TWO, set_lines("c=2", may_make=1, only_new=1), ["set"]),
]

DELETE_CART = [
    Row("delete another user's cart", (*A_CART, bind_cart("bob")), delete_cart("ann"), ["not_found"]),
    Row("a guest deletes a user's cart", (*A_CART, bind_cart("bob")), delete_cart(), ["not_found"]),
    Row(
        "delete a cart",
        (*CART_OF_TWO, bind_cart()),
        delete_cart("ann"),
        ["deleted"],
        End(fields={CART: {"deleted": "1", "user": None, "created_ms": None, "sku:a": None}}),
    ),
    Row("delete a cart that never had a line", (), delete_cart(), ["deleted"], End(fields={CART: {"deleted": "1"}})),
    Row(
        "delete a cart without a mark",
        CART_OF_TWO,
        delete_cart(keep_ms=0),
        ["deleted"],
        End(fields={CART: {"deleted": None, "created_ms": None}}),
    ),
]

ADMIT_CART = [
    Row("admit one cart too many", (counted(c2=FAR_MS, c3=FAR_MS),), admit_cart(), ["full", ANY]),
    Row(
        "admit a cart again though it is full",
        (counted(c1=FAR_MS, c2=FAR_MS, c3=FAR_MS),),
        admit_cart(),
        ["admitted"],
        End(),
    ),
    Row(
        "admit the last cart that may be",
        (counted(c2=FAR_MS),),
        admit_cart(),
        ["admitted"],
        End(),
    ),
    Row(
        "a cart whose time has run out makes room",
        (counted(c2=1, c3=FAR_MS),),
        admit_cart(),
        ["admitted"],
        End(),
    ),
]

BIND_CART = [
    Row("bind no cart", (), bind_cart(), ["not_found"]),
    Row("bind a deleted cart", (*A_CART, delete_cart()), bind_cart(), ["not_found"]),
    Row("bind another user's cart", (*A_CART, bind_cart("bob")), bind_cart("ann"), ["not_found"]),
    Row("bind again", (*A_CART, bind_cart()), bind_cart(), ["bound"]),
    Row("bind a guest's cart", CART_OF_TWO, bind_cart(), ["bound"], End(fields={CART: {"user": "ann", "sku:a": "3"}})),
]

EMPTY_CART = [
    Row("empty no cart", (), empty_cart(), ["not_found"]),
    Row("empty a deleted cart", (*A_CART, delete_cart()), empty_cart(), ["not_found"]),
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
    Row("extend is closed when too much waits for Postgres", (*HELD, FULL), extend(), ["closed"]),
    Row("extend is closed before it looks at the time", (*HELD, FULL), extend(hold_ms=0), ["closed"]),
    Row(
        "extend makes the last event that may wait for Postgres",
        (*HELD, NEARLY_FULL),
        extend(),
        ["extended", ANY],
        End({"a": (3, 2, 0, 5)}, events=(("extend", "a=2", ""),)),
    ),
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
        End({"a": (3, 2, 0, 5)}, {"r1": "reserved"}, events=(("extend", "a=2", "", "o 7"),)),
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
    Row("an operator's release without a reason", HELD, release(reason=" ", lever="do"), ["reason_required"]),
    Row(
        "an operator's release of an order without a reason", PAID, release(reason="", lever="do"), ["reason_required"]
    ),
    Row("release with a lever that is misspelled", HELD, release(lever="dry-run"), ["bad_request"]),
    Row("an operator's release is closed", (*HELD, CLOSED), release(reason="", lever="do"), ["closed"]),
    Row("an operator's release of an order", PAID, release(lever="dry_run"), ["already_committed"]),
    Row("an operator's release of what is due", DUE, release(lever="dry_run"), ["due", ANY]),
    Row(
        "a dry run of a release sees counters that are too low",
        (*HELD, TOO_FEW_RESERVED),
        release(lever="dry_run"),
        ["inconsistent", "a"],
    ),
    Row("a dry run of a release", LIMITED, release(lever="dry_run"), ["would_release"]),
    Row(
        "an operator's release",
        LIMITED,
        release(reason="a bot", lever="do"),
        ["released"],
        End({"a": (5, 0, 0, 5)}, {"r1": "released"}, {"a": {}}, events=(("release", "a=2", ""),)),
    ),
    Row(
        "release gives everything back",
        LIMITED,
        release(),
        ["released"],
        End({"a": (5, 0, 0, 5)}, {"r1": "released"}, {"a": {}}, events=(("release", "a=2", ""),)),
    ),
    Row(
        "release goes on when too much waits for Postgres",
        (*HELD, FULL),
        release(),
        ["released"],
        End({"a": (5, 0, 0, 5)}, events=(("release", "a=2", ""),)),
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
    Row(
        "commit is replayed",
        (*HELD, commit(request="7")),
        commit(request="7"),
        ["replayed", 1, 3, "committed", ANY, 0],
    ),
    Row(
        "commit is replayed, and says how far the ledger is by now",
        (*HELD, commit(request="7"), adjust(1, operation="p")),
        commit(request="7"),
        ["replayed", 1, 4, "committed", ANY, 0],
    ),
    Row(
        "commit goes on when too much waits for Postgres",
        (*HELD, FULL),
        commit(request="7"),
        ["committed", ANY, 0, 1, 3],
        End({"a": (3, 0, 2, 5)}, events=(("commit", "a=2", "", "o 7"),)),
    ),
    Row(
        "commit in a later epoch",
        (*HELD, close(), open_store(2, "1-2 abc", 2)),
        commit(),
        ["committed", ANY, 0, 2, 4],
        End({"a": (3, 0, 2, 5)}, events=(("commit", "a=2", ""),)),
    ),
    Row(
        "commit after expiry with stock and a key",
        EXPIRED,
        commit(request="7"),
        ["committed", ANY, 1, 1, 4],
        End({"a": (3, 0, 2, 5)}, events=(("commit", "a=2", "late", "o 7"),)),
    ),
    Row(
        "commit after expiry counts, with a limit that came later",
        (*EXPIRED, configure("", "limit_per_customer", 3, operation="limit")),
        commit(),
        ["committed", ANY, 1, 1, 5],
        End(
            {"a": (3, 0, 2, 5)},
            buyers={"a": {"ann": "2"}},
            events=(("commit", "a=2", "late"),),
        ),
    ),
    Row(
        "commit a key's payment without stock: no answer is kept",
        TAKEN,
        commit(request="7"),
        ["refund_required", "a=2/1/insufficient", 1, 5],
        End(
            {"a": (1, 4, 0, 5)},
            events=(("refund_required", "a=2", "a=2/1/insufficient"),),
            holds={KEYS.operation("o"): None},
        ),
    ),
    Row("commit an unknown hold", (stock(5),), commit(), ["not_found"]),
    Row("commit with another payment", PAID, commit(payment="p2"), ["already_committed"]),
    Row("commit again", PAID, commit(), ["committed", ANY, 0, 1, ANY]),
    Row("commit again after it was cancelled", CANCELLED, commit(), ["committed", ANY, 0, 1, ANY]),
    Row("commit again after it was fulfilled", FULFILLED, commit(), ["committed", ANY, 0, 1, ANY]),
    Row("commit again after a late payment", (*EXPIRED, commit()), commit(), ["committed", ANY, 1, 1, ANY]),
    Row("commit a refunded payment", REFUNDED, commit(), ["refund_required", "a=2/1/insufficient", 1, ANY]),
    Row(
        "commit a refunded payment though stock is back",
        (*REFUNDED, release("a=4", "r2")),
        commit(),
        ["refund_required", "a=2/1/insufficient", 1, ANY],
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
        ["refund_required", "a=2/1/insufficient", 1, ANY],
        End({"a": (1, 4, 0, 5)}, {"r1": "expired"}, events=(("refund_required", "a=2", "a=2/1/insufficient"),)),
    ),
    Row(
        "commit another payment after a refund",
        REFUNDED,
        commit(payment="p2"),
        ["refund_required", "a=2/1/insufficient", 1, ANY],
        End({"a": (1, 4, 0, 5)}, {"r1": "expired"}, events=(("refund_required", "a=2", "a=2/1/insufficient"),)),
    ),
    Row(
        "commit another payment when stock is back",
        (*REFUNDED, release("a=4", "r2")),
        commit(payment="p2"),
        ["committed", ANY, 1, 1, ANY],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, events=(("commit", "a=2", "late"),)),
    ),
    Row(
        "commit after expiry needs every line",
        (*TWO_LINES, run_out(), expire("a=2 b=1"), reserve("b=5", "r2")),
        commit("a=2 b=1"),
        ["refund_required", "a=2/5/ok b=1/0/all_held", 1, ANY],
        End(
            {"a": (5, 0, 0, 5), "b": (0, 5, 0, 5)},
            {"r1": "expired"},
            events=(("refund_required", "a=2 b=1", "a=2/5/ok b=1/0/all_held"),),
        ),
    ),
    Row(
        "commit a hold",
        LIMITED,
        commit(),
        ["committed", ANY, 0, 1, ANY],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, {"a": {"ann": "2"}}, events=(("commit", "a=2", ""),)),
    ),
    Row(
        "commit a hold while selling is paused",
        (*HELD, PAUSED),
        commit(),
        ["committed", ANY, 0, 1, ANY],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, events=(("commit", "a=2", ""),)),
    ),
    Row(
        "commit after expiry with stock",
        (*LIMITED, run_out(), expire()),
        commit(settled=0),
        ["committed", ANY, 1, 1, ANY],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, {"a": {"ann": "2"}}, events=(("commit", "a=2", "late"),)),
    ),
    Row(
        "commit after release with stock",
        RELEASED,
        commit(settled=0),
        ["committed", ANY, 1, 1, ANY],
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
        ["replayed", "cancelled", "committed", "", "a=1"],
    ),
    Row("cancel an unknown order", (stock(5),), cancel(), ["not_found"]),
    Row("cancel a hold", HELD, cancel(), ["not_found"]),
    Row("cancel an expired hold", EXPIRED, cancel(), ["not_found"]),
    Row("cancel again", CANCELLED, cancel(), ["cancelled", "cancelled", "", "a=2"]),
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
        ["cancelled", "cancelled", "", "a=2"],
        End({"a": (5, 0, 0, 5)}, {"r1": "cancelled"}, {"a": {}}, events=(("cancel", "a=2", "cancelled"),)),
    ),
    Row(
        "cancel a part",
        (*LIMITED, commit()),
        cancel(what="a=1"),
        ["cancelled", "committed", "", "a=1"],
        End(
            {"a": (4, 0, 1, 5)},
            {"r1": "committed"},
            {"a": {"ann": "1"}},
            events=(("cancel", "a=1", "committed"),),
        ),
    ),
    Row(
        "cancel one line of two",
        TWO_PAID,
        cancel("a=2 b=1", what="b=1"),
        ["cancelled", "committed", "", "b=1"],
        End({"a": (3, 0, 2, 5), "b": (5, 0, 0, 5)}, {"r1": "committed"}, events=(("cancel", "b=1", "committed"),)),
    ),
    Row(
        "cancel what is left",
        (*TWO_PAID, cancel("a=2 b=1", what="a=1")),
        cancel("a=2 b=1", request="7"),
        ["cancelled", "cancelled", "", "a=2 b=1"],
        End(
            {"a": (5, 0, 0, 5), "b": (5, 0, 0, 5)},
            {"r1": "cancelled"},
            events=(("cancel", "a=1 b=1", "cancelled", "o 7"),),
        ),
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
    Row(
        "fulfil is replayed",
        (*PAID, fulfil(request="7")),
        fulfil(request="7"),
        ["replayed", "fulfilled", "fulfilled", "a=2", ""],
    ),
    Row("fulfil an unknown order", (stock(5),), fulfil(), ["not_found"]),
    Row("fulfil a hold", HELD, fulfil(), ["not_found"]),
    Row("fulfil a released hold", RELEASED, fulfil(), ["not_found"]),
    Row("fulfil again", FULFILLED, fulfil(), ["fulfilled", "fulfilled", "a=2", ""]),
    Row("fulfil a cancelled order", CANCELLED, fulfil(), ["invalid_transition", "cancelled"]),
    Row("fulfil with the keys of another SKU", PAID, fulfil("b=2"), ["wrong_keys"]),
    Row("fulfil with counters that are too low", (*PAID, TOO_FEW_ALLOCATED), fulfil(), ["inconsistent", "a"]),
    Row(
        "fulfil an order",
        (*LIMITED, commit()),
        fulfil(request="7"),
        ["fulfilled", "fulfilled", "a=2", ""],
        End(
            {"a": (3, 0, 0, 3)},
            {"r1": "fulfilled"},
            {"a": {"ann": "2"}},
            events=(("fulfil", "a=2", "fulfilled", "o 7"),),
        ),
    ),
    Row(
        "fulfil what a cancellation left",
        (*TWO_PAID, cancel("a=2 b=1", what="a=1 b=1")),
        fulfil("a=2 b=1"),
        ["fulfilled", "fulfilled", "a=1", "a=1 b=1"],
        End({"a": (4, 0, 0, 4), "b": (5, 0, 0, 5)}, {"r1": "fulfilled"}, events=(("fulfil", "a=1", "fulfilled"),)),
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
    Row("adjust with another SKU's key", (stock(5),), of_another_sku(adjust(1)), ["wrong_keys"]),
    Row("adjust is replayed", (stock(5), adjust(1)), adjust(1), ["replayed", "adjusted", ...]),
    Row("adjust an unknown SKU", (), adjust(1), ["not_found"]),
    Row("adjust below what is available", HELD, adjust(-4), ["insufficient_stock", 3]),
    Row("adjust above the most", (stock(5),), adjust(96), ["on_hand_too_large", 100]),
    Row(
        "adjust up to the most",
        HELD,
        adjust(95),
        ["adjusted", ...],
        End({"a": (98, 2, 0, 100)}, events=(("restock", "a=95", "", "o f"),)),
    ),
    Row(
        "adjust down to nothing",
        HELD,
        adjust(-3),
        ["adjusted", ...],
        End({"a": (0, 2, 0, 2)}, events=(("withdraw", "a=3", "", "o f"),)),
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
    Row("configure with another SKU's key", (), of_another_sku(configure(5)), ["wrong_keys"]),
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
    Row("an operator's recount without a reason", HELD, configure(9, lever="do"), ["reason_required"]),
    Row("a recount with a lever that is misspelled", HELD, configure(9, reason="x", lever="dryrun"), ["bad_request"]),
    Row("an operator's recount is closed", (*HELD, CLOSED), configure(9, lever="do"), ["closed"]),
    Row(
        "an operator's call is replayed, and so is its dry run",
        (configure(5, reason="x", lever="do"),),
        configure(5, reason="x", lever="dry_run"),
        ["replayed", "created", ...],
    ),
    Row("a dry run below what is claimed", HELD, configure(1, reason="x", lever="dry_run"), ["stock_below_claims", 2]),
    Row(
        "a dry run of what is so already",
        (stock(5, "name", "A"),),
        configure(5, "name", "A", reason="x", lever="dry_run"),
        ["changed", ...],
    ),
    Row("a dry run of a new SKU", (), configure(5, "name", "A", reason="x", lever="dry_run"), ["would_create", ...]),
    Row("a dry run of a recount", HELD, configure(9, reason="x", lever="dry_run"), ["would_change", ...]),
    Row(
        "a dry run of a pause",
        (stock(5),),
        configure("", "paused", 1, reason="x", lever="dry_run"),
        ["would_change", ...],
    ),
    Row(
        "an operator's pause of a SKU",
        HELD,
        configure("", "paused", 1, reason="wrong price", lever="do"),
        ["changed", ...],
        End(
            {"a": (3, 2, 0, 5)},
            {"r1": "reserved"},
            fields={KEYS.sku("a"): {"paused": "1"}},
            events=(("configure", "a=0", '[["paused","1"]]', "o f"),),
        ),
    ),
    Row(
        "configure a new SKU",
        (),
        configure(5, "name", "A"),
        ["created", ...],
        End(
            {"a": (5, 0, 0, 5)},
            fields={KEYS.sku("a"): {"name": "A"}},
            events=(("recount", "a=5", '[["name","A"]]', "o f"),),
        ),
    ),
    Row(
        "configure a new SKU without stock",
        (),
        configure(""),
        ["created", ...],
        End({"a": (0, 0, 0, 0)}, events=(("recount", "a=0", "", "o f"),)),
    ),
    Row(
        "configure a recount down to the claims",
        HELD,
        configure(2),
        ["changed", ...],
        End({"a": (0, 2, 0, 2)}, {"r1": "reserved"}, events=(("recount", "a=-3", "", "o f"),)),
    ),
    Row(
        "configure attributes alone",
        (stock(5, "name", "A", "paused", 1),),
        configure("", "name", "", "paused", 1, "limit_per_customer", 2),
        ["changed", ...],
        End(
            {"a": (5, 0, 0, 5)},
            fields={KEYS.sku("a"): {"name": None, "paused": "1", "limit_per_customer": "2"}},
            events=(("configure", "a=0", ANY, "o f"),),
        ),
    ),
]

SELLING = [
    Row("selling is closed", (CLOSED,), selling(1, ""), ["closed"]),
    Row("selling is paused without a reason", (), selling(1, ""), ["reason_required"]),
    Row("selling is paused for a blank", (), selling(1, " \t"), ["reason_required"]),
    Row("selling is paused by a lever that is misspelled", (), selling(1, lever="dry"), ["bad_request"]),
    Row("selling is paused by no lever", (), selling(1, lever=""), ["bad_request"]),
    Row("a dry run of a pause of all", (), selling(1, lever="dry_run"), ["would_set"]),
    Row("a dry run of a resumption", (selling(1),), selling(0, lever="dry_run"), ["would_set"]),
    Row("a dry run of a pause that is there", (selling(1),), selling(1, lever="dry_run"), ["set"]),
    Row("selling is paused already", (selling(1),), selling(1), ["set"]),
    Row("selling goes on already", (selling(1), selling(0)), selling(0), ["set"]),
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

ADOPTED = [
    Row("adopt is closed", (stock(5), CLOSED), adopt("sku", KEYS.sku("a"), lines="a=0"), ["closed"]),
    Row(
        "a SKU is adopted",
        (stock(5),),
        adopt("sku", KEYS.sku("a"), lines="a=0"),
        ["adopted"],
        End(
            counters={"a": (5, 0, 0, 5)},
            events=(("adopt", "a=0", '["sku","available","5","reserved","0","allocated","0","on_hand","5"]'),),
        ),
    ),
    Row(
        "a SKU that isn't there is adopted as that",
        (),
        adopt("sku", KEYS.sku("a"), lines="a=0"),
        ["adopted"],
        End(events=(("adopt", "a=0", '["sku"]'),), broken=True),
    ),
    Row(
        "customers' counts are adopted by name",
        (stock(5), put(KEYS.buyers("a"), "ann", "2")),
        adopt("buyers", KEYS.buyers("a"), "ann", "bob", lines="a=0"),
        ["adopted"],
        End(events=(("adopt", "a=0", '["buyers","ann","2","bob",""]'),), broken=True),
    ),
    Row(
        "levers are adopted",
        (put(KEYS.meta, "default_hold_ms", 60_000),),
        adopt("levers", KEYS.meta, "selling_paused", "default_hold_ms"),
        ["adopted"],
        End(events=(("adopt", "", '["levers","selling_paused","","default_hold_ms","60000"]'),), broken=True),
    ),
    Row(
        "a reservation that isn't there is adopted as that",
        (),
        adopt("reservation", KEYS.reservation("r"), id="r"),
        ["adopted"],
        End(events=(("adopt", "", '["reservation"]'),), broken=True),
    ),
]

SHORTER = default_hold(60_000)
AT_FAR = at(FAR_MS)


def ends(after_ms: int) -> list[str | int | EllipsisType]:
    """A hold that was made just at `FAR_MS`."""
    return ["reserved", FAR_MS, FAR_MS + after_ms]


DEFAULT_HOLD = [
    Row("default hold is closed", (CLOSED,), default_hold(60_000, ""), ["closed"]),
    Row("default hold without a reason", (), default_hold(60_000, ""), ["reason_required"]),
    Row("default hold by a lever that is misspelled", (), default_hold(60_000, lever="DO"), ["bad_request"]),
    *(
        Row(f"default hold of {hold_ms!r}", (), default_hold(hold_ms), ["bad_request"])
        for hold_ms in (0, 999, 1_500, 901_000, 9_000_000, -1_000, "60000.0", "6e4", " 60000", "some")
    ),
    Row("default hold that is so already", (SHORTER,), SHORTER, ["set"]),
    Row("default hold that never was is cleared", (), default_hold(""), ["set"]),
    Row("a dry run of a default hold", (), default_hold(60_000, lever="dry_run"), ["would_set"]),
    Row("a dry run of its end", (SHORTER,), default_hold("", lever="dry_run"), ["would_set"]),
    Row("a dry run of a default hold that is so already", (SHORTER,), default_hold(60_000, lever="dry_run"), ["set"]),
    *(
        Row(
            f"default hold is set to {hold_ms} ms",
            (),
            default_hold(hold_ms),
            ["set"],
            End(fields={KEYS.meta: {"default_hold_ms": str(hold_ms)}}, events=(("default_hold", "", str(hold_ms)),)),
        )
        for hold_ms in (1_000, 60_000, 900_000)
    ),
    Row(
        "default hold is cleared",
        (SHORTER,),
        default_hold(""),
        ["set"],
        End(fields={KEYS.meta: {"default_hold_ms": None}}, events=(("default_hold", "", ""),)),
    ),
    Row(
        "reserve for no time that was asked for",
        (AT_FAR, stock(5), SHORTER),
        reserve("a=1", asked=0),
        ends(60_000),
        End({"a": (4, 1, 0, 5)}, events=(("reserve", "a=1", ""),)),
    ),
    Row(
        "reserve for a time that was asked for",
        (AT_FAR, stock(5), SHORTER),
        reserve("a=1", hold_ms=300_000),
        ends(300_000),
        End({"a": (4, 1, 0, 5)}, events=(("reserve", "a=1", ""),)),
    ),
    Row(
        "reserve for the deployment's default",
        (AT_FAR, stock(5)),
        reserve("a=1", hold_ms=300_000, asked=0),
        ends(300_000),
        End({"a": (4, 1, 0, 5)}, events=(("reserve", "a=1", ""),)),
    ),
    Row(
        "reserve for the deployment's default where somebody has written nonsense",
        (AT_FAR, stock(5), put(KEYS.meta, "default_hold_ms", "soon")),
        reserve("a=1", hold_ms=300_000, asked=0),
        ends(300_000),
        End({"a": (4, 1, 0, 5)}, events=(("reserve", "a=1", ""),)),
    ),
    Row(
        "reserve is replayed whatever the default is now",
        (AT_FAR, stock(5), reserve("a=1", request="7", asked=0), SHORTER),
        reserve("a=1", request="7", asked=0),
        ["replayed"],
    ),
    Row(
        "a default hold never lasts longer than 900 s from its checkout's start",
        (AT_FAR, stock(5), check_out("a=2", "r1"), at(FAR_MS + 880_000), SHORTER),
        check_out("a=1", "r2", "r1", "a=2", asked=0),
        ["reserved", FAR_MS, FAR_MS + 900_000],
        End({"a": (4, 1, 0, 5)}, {"r1": "released"}, events=(("release", "a=2", ""), ("reserve", "a=1", ANY))),
    ),
]

CLOSE = [
    Row(
        "close a store of a later layout",
        (put(KEYS.meta, "layout", LAYOUT + 1),),
        close(),
        ["layout_unknown", str(LAYOUT + 1)],
    ),
    Row(
        "close a store of an earlier layout",
        (stock(5), put(KEYS.meta, "layout", LAYOUT - 1)),
        close(),
        ["shut"],
        End({"a": (5, 0, 0, 5)}, fields={KEYS.meta: {"gate": "closed", "gate_token": "t", "layout": str(LAYOUT - 1)}}),
    ),
    Row(
        "close a store of an earlier layout, which is made anew",
        (put(KEYS.meta, "layout", LAYOUT - 1),),
        close(restoring=1),
        ["shut"],
        End(
            fields={KEYS.meta: {"gate": "closed", "layout": str(LAYOUT), "restoring": "1", "epoch": None, "seq": None}}
        ),
    ),
    Row("close again", (close(),), close(), ["shut"]),
    Row(
        "close an open store",
        (stock(5),),
        close(),
        ["shut"],
        End(
            {"a": (5, 0, 0, 5)},
            fields={KEYS.meta: {"gate": "closed", "gate_token": "t", "gate_reason": "looked at", "restoring": None}},
        ),
    ),
    Row(
        "close what somebody else has closed",
        (stock(5), close(token="other")),
        close(),
        ["shut"],
        End(fields={KEYS.meta: {"gate": "closed", "gate_token": "t"}}),
    ),
    Row(
        "close a store without a layout",
        (lose(KEYS.meta),),
        close(),
        ["shut"],
        End(holds={KEYS.meta: ({"gate": "closed", "gate_token": "t", "gate_reason": "looked at"}, False)}),
    ),
    Row(
        "close forgets everything in meta that comes back from the ledger",
        (selling(1), lose(KEYS.ledger)),
        close(restoring=1),
        ["shut"],
        End(
            holds={
                KEYS.meta: (
                    {
                        "layout": str(LAYOUT),
                        "restoring": "1",
                        "gate": "closed",
                        "gate_token": "t",
                        "gate_reason": "looked at",
                    },
                    False,
                )
            }
        ),
    ),
]

OPEN = [
    Row(
        "open a store of a later layout",
        (put(KEYS.meta, "layout", LAYOUT + 1),),
        open_store(),
        ["layout_unknown", str(LAYOUT + 1)],
    ),
    Row(
        "open a store of an earlier layout",
        (close(), put(KEYS.meta, "layout", LAYOUT - 1)),
        open_store(),
        ["layout_unknown", str(LAYOUT - 1)],
    ),
    Row(
        "open a store of another layout that somebody else has closed",
        (close(token="other"), put(KEYS.meta, "layout", LAYOUT + 1)),
        open_store(),
        ["layout_unknown", str(LAYOUT + 1)],
    ),
    Row("open an open store", (), open_store(), ["taken_over"]),
    Row("open a store again", (close(), open_store()), open_store(), ["taken_over"]),
    Row("open what was not closed", (lose(KEYS.meta),), open_store(), ["taken_over"]),
    Row("open what somebody else has closed since", (close(), close(token="other")), open_store(), ["taken_over"]),
    Row(
        "open what is ahead, though somebody else has closed it",
        (stock(5), close(token="other")),
        open_store(),
        ["taken_over"],
    ),
    Row(
        "open a store that has events which Postgres lacks", (*HELD, close()), open_store(1, "1-1 abc", 2), ["ahead", 2]
    ),
    Row(
        "open an empty store",
        (lose(KEYS.meta), close()),
        open_store(),
        ["opened", 1, 0],
        End(
            fields={
                KEYS.meta: {
                    "gate": "open",
                    "run_id": "run",
                    "epoch": "1",
                    "seq": "0",
                    "layout": str(LAYOUT),
                    "gate_token": None,
                    "gate_reason": None,
                }
            }
        ),
    ),
    Row(
        "open with a new epoch, which the ledger has as an event",
        (*HELD, FULL, close()),
        open_store(2, "1-2 abc", 2),
        ["opened", 2, 3],
        End(
            {"a": (3, 2, 0, 5)},
            {"r1": "reserved"},
            fields={KEYS.meta: {"gate": "open", "epoch": "2", "seq": "3", "full_seq": None, "gate_token": None}},
            events=(("open", "", "1-2 abc"),),
        ),
    ),
    Row(
        "open a store that was made anew from the ledger",
        (close(restoring=1),),
        open_store(0, "", 3, clock_ms=FAR_MS),
        ["opened", 3, 0],
        End(fields={KEYS.meta: {"epoch": "3", "seq": "0", "clock_ms": str(FAR_MS), "restoring": None}}),
    ),
    Row(
        "open never sets the clock back",
        (at(FAR_MS), close()),
        open_store(clock_ms=FAR_MS - 1),
        ["opened", 1, 0],
        End(fields={KEYS.meta: {"clock_ms": str(FAR_MS)}}),
    ),
    Row(
        "open with the global stop on",
        (close(),),
        open_store(selling=("1", "fire")),
        ["opened", 1, 0],
        End(fields={KEYS.meta: {"selling_paused": "1", "selling_reason": "fire"}}),
    ),
    Row(
        "open with a default hold",
        (close(),),
        open_store(default_hold_ms=60_000),
        ["opened", 1, 0],
        End(fields={KEYS.meta: {"default_hold_ms": "60000"}}),
    ),
    Row(
        "open without the default hold that was set here",
        (SHORTER, close()),
        open_store(1, "1-1 abc", 2),
        ["opened", 2, 2],
        End(fields={KEYS.meta: {"default_hold_ms": None}}, events=(("open", "", "1-1 abc"),)),
    ),
    Row(
        "open without the global stop that was on here",
        (selling(1), close()),
        open_store(1, "1-1 abc", 2, selling=("", "out")),
        ["opened", 2, 2],
        End(
            fields={KEYS.meta: {"selling_paused": None, "selling_reason": "out"}},
            events=(("open", "", "1-1 abc"),),
        ),
    ),
]

R1 = ("state", "reserved", "user", "ann", "lines", "a=2", "created_ms", FAR_MS, "deadline_ms", FAR_MS + 900_000)
DEAD = ("state", "expired", "user", "ann", "lines", "a=2", "created_ms", 1, "deadline_ms", 2)
SKU = ("available", 3, "reserved", 2, "allocated", 0, "on_hand", 5, "next_release_ms", FAR_MS + 900_000)


def text_of(*words: str | int) -> dict[str, str]:
    return {str(name): str(value) for name, value in zip(words[::2], words[1::2], strict=True)}


RESTORE = [
    Row("restore while the gate is open", HELD, restore("sku", KEYS.sku("a"), "a", *SKU), ["taken_over"]),
    Row(
        "restore what somebody else has closed since",
        (*HELD, close(), close(token="other")),
        restore("sku", KEYS.sku("a"), "a", *SKU),
        ["taken_over"],
    ),
    Row("restore without meta", (lose(KEYS.meta),), restore("sku", KEYS.sku("a"), "a", *SKU), ["taken_over"]),
    Row(
        "restore a live hold",
        (at(FAR_MS), *HELD, forget_the_hold, close()),
        restore("hold", KEYS.reservation("r1"), "r1", *R1, until_ms=FAR_MS + 900_000),
        ["restored"],
        End(
            {"a": (3, 2, 0, 5)},
            holds={
                KEYS.reservation("r1"): (text_of(*R1), False),
                KEYS.lease("r1"): ("1", True),
                KEYS.deadlines: ([("r1", FAR_MS + 900_000)], False),
            },
        ),
    ),
    Row(
        "restore a live hold over what was there",
        (at(FAR_MS), *HELD, put(KEYS.reservation("r1"), "state", "released", "made", "up"), close()),
        restore("hold", KEYS.reservation("r1"), "r1", *R1, until_ms=FAR_MS + 900_000),
        ["restored"],
        End({"a": (3, 2, 0, 5)}, holds={KEYS.reservation("r1"): (text_of(*R1), False)}),
    ),
    Row(
        "restore an expired hold that lives here",
        (*EXPIRED, lives_again, close()),
        restore("record", KEYS.reservation("r1"), "r1", *DEAD, until_ms=FAR_MS),
        ["restored"],
        End(
            {"a": (5, 0, 0, 5)},
            holds={
                KEYS.reservation("r1"): (text_of(*DEAD), True),
                KEYS.lease("r1"): None,
                KEYS.deadlines: None,
            },
        ),
    ),
    Row(
        "restore an order, which stays",
        (*PAID, forget_the_hold, close()),
        restore("record", KEYS.reservation("r1"), "r1", "state", "committed", *R1[2:], "payment_id", "p1"),
        ["restored"],
        End({"a": (3, 0, 2, 5)}, {"r1": "committed"}, holds={KEYS.lease("r1"): None, KEYS.deadlines: None}),
    ),
    Row(
        "restore a SKU that is gone",
        (at(FAR_MS), *HELD, lose(KEYS.sku("a"), KEYS.skus), close()),
        restore("sku", KEYS.sku("a"), "a", *SKU),
        ["restored"],
        End(
            {"a": (3, 2, 0, 5)},
            holds={KEYS.sku("a"): (text_of(*SKU), False), KEYS.skus: ([("a", 0)], False)},
        ),
    ),
    Row(
        "restore a SKU over one that has more fields",
        (at(FAR_MS), *HELD, put(KEYS.sku("a"), "available", 9, "paused", 1), close()),
        restore("sku", KEYS.sku("a"), "a", *SKU),
        ["restored"],
        End({"a": (3, 2, 0, 5)}, holds={KEYS.sku("a"): (text_of(*SKU), False)}),
    ),
    Row(
        "restore the buyers of a SKU",
        (*LIMITED, put(KEYS.buyers("a"), "ann", 7, "eve", 7), close()),
        restore("hash", KEYS.buyers("a"), "a", "ann", 2),
        ["restored"],
        End(buyers={"a": {"ann": "2"}}),
    ),
    Row(
        "restore more buyers of the same SKU",
        (*LIMITED, close()),
        restore("more", KEYS.buyers("a"), "a", "bob", 3),
        ["restored"],
        End(buyers={"a": {"ann": "2", "bob": "3"}}),
    ),
    Row(
        "restore that a SKU has no buyers",
        (stock(5), put(KEYS.buyers("a"), "ann", 7), close()),
        restore("hash", KEYS.buyers("a"), "a"),
        ["restored"],
        End(holds={KEYS.buyers("a"): None}),
    ),
    Row(
        "restore the reservation of a payment",
        (*HELD, close()),
        restore("text", KEYS.payment("p1"), "p1", "r1", until_ms=FAR_MS),
        ["restored"],
        End(holds={KEYS.payment("p1"): ("r1", True)}),
    ),
    Row(
        "restore an answer",
        (stock(5), close()),
        restore("text", KEYS.operation("o"), "o", "7 [1]", until_ms=FAR_MS),
        ["restored"],
        End(holds={KEYS.operation("o"): ("7 [1]", True)}),
    ),
]

RECALL = [
    Row("recall is closed", (*EXPIRED, lose(KEYS.reservation("r1")), CLOSED), recall(*DEAD), ["closed"]),
    Row("recall what is there behind a closed gate", (*EXPIRED, CLOSED), recall(*DEAD), ["closed"]),
    Row("recall what is there", PAID, recall(*DEAD), ["known"]),
    Row(
        "recall what was let go",
        (*EXPIRED, lose(KEYS.reservation("r1"))),
        recall(*DEAD),
        ["recalled"],
        End(
            {"a": (5, 0, 0, 5)},
            holds={
                KEYS.reservation("r1"): (text_of(*DEAD), True),
                KEYS.lease("r1"): None,
                KEYS.deadlines: None,
            },
        ),
    ),
]

TRIM = [
    Row("trim is closed", (*HELD, CLOSED), trim(), ["closed"]),
    Row("trim what was restored since", HELD, trim(epoch=2), ["closed"]),
    Row(
        "trim says how far the ledger may grow",
        HELD,
        trim(),
        ["trimmed", 0],
        End({"a": (3, 2, 0, 5)}, fields={KEYS.meta: {"full_seq": "12"}}),
    ),
    Row(
        "trim never lets go of the last event that Postgres has",
        HELD,
        trim(seq=1, keep=0),
        ["trimmed", 0],
        End({"a": (3, 2, 0, 5)}, fields={KEYS.meta: {"full_seq": "11"}}),
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
    *ADOPTED,
    *DEFAULT_HOLD,
    *CLOSE,
    *OPEN,
    *RESTORE,
    *RECALL,
    *TRIM,
    *ADMIT_CART,
    *PUT_LINE,
    *SET_LINES,
    *BIND_CART,
    *DELETE_CART,
    *EMPTY_CART,
]
