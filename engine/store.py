"""The connection to Redis, and every read. Writes are scripts: see `engine.scripts`."""

from __future__ import annotations

import time as wall_clock
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import orjson
from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from engine.config import Settings
from engine.errors import Closed, ConfigurationError, Inconsistent, StoreUnavailable
from engine.keys import LAYOUT, Keys
from engine.ledger import Entry, entry_of
from engine.pipe import Command
from engine.redis_calls import RedisCalls
from engine.server_kind import refuse_other_kinds
from engine.sku_names import shown, stored
from engine.values import EVERY_LINE, Event, Line, Operation, Problems, Sku, Units, number, unpacked

RETRIES = 2
"""Of a call without an answer. Safe, because every script gives the same answer when it runs twice."""

RAW: dict[str, Any] = {"NEVER_DECODE": True}
"""What is written into a stream by hand may be no text."""

NEVER_MS = 2**53

COUNTERS = ("on_hand", "available", "reserved", "allocated")

Counters = tuple[int, int, int, int]
"""The values of `COUNTERS`."""

STOCK_FIELDS = ("available", "reserved", "next_release_ms", "paused", "sale_starts_ms", "sale_ends_ms")


class NotCertified(RedisError):
    """The server that was connected to isn't the one that was compared with the ledger."""


def client(settings: Settings, *, certified: bool = False) -> Redis:
    """A pooled client, safe to share between threads, not between processes.

    `certified`: every connection makes sure that its server was compared with the ledger since it started, so that
    nobody sells from a Redis that has lost something. Who looks or mends does without.
    """
    return Redis.from_url(
        settings.redis_url,
        decode_responses=True,
        # Who looks must be able to look at what a bad disk has left.
        encoding_errors="strict" if certified else "backslashreplace",
        socket_timeout=settings.redis_timeout_ms / 1000,
        socket_connect_timeout=settings.redis_timeout_ms / 1000,
        retry=Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.2), RETRIES),
        redis_connect_func=_make_sure if certified else None,
    )


def _make_sure(connection: Any) -> None:
    """Compare the server's run_id with the certified one, and its layout with ours, on a connection that has just been made."""
    connection.on_connect()
    connection.send_command("HMGET", Keys().meta, "run_id", "layout")
    certified, layout = connection.read_response()
    connection.send_command("INFO", "server", "replication")
    if _run(connection.read_response()) != certified or layout != str(LAYOUT):
        raise NotCertified


def _run(info: str | bytes) -> str:
    """What tells this run of this server from any other, out of the text of INFO.

    Its run_id changes with each start. A server that was a replica in between keeps that, but has another master_replid.
    """
    text = info.decode() if isinstance(info, bytes) else info
    return _run_of(dict(line.partition(":")[::2] for line in text.splitlines()))


def _run_of(info: Mapping[str, Any]) -> str:
    """As `_run`, from the fields of INFO. '' for a replica, so that none is ever certified."""
    return f"{info['run_id']}:{info['master_replid']}" if info.get("role") == "master" else ""


CANT_NOW = (
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
"""Replies of a Redis that is there, but can't do it: full, a replica, loading, without the script in a pipeline, …"""


def failed(error: RedisError) -> Exception:
    """The engine's own error for a way in which Redis fails; the same error, if it is a defect of ours."""
    if isinstance(error, ResponseError):
        # In a pipeline redis-py puts the command before the words of Redis.
        said = str(error).rpartition("of pipeline caused error: ")[2]
        if isinstance(error, CANT_NOW) or said.startswith(("MISCONF", "NOREPLICAS", "BUSY")):
            return StoreUnavailable("Redis can't answer now")
        if "XADD" in said:
            return Inconsistent("The ledger is ahead of its counter; nothing was changed")
        return error
    if isinstance(error, NotCertified):
        return Closed("This Redis has not been compared with the ledger yet")
    return StoreUnavailable("Redis can't answer now")


@contextmanager
def answering() -> Iterator[None]:
    """Turn the ways in which Redis fails into the engine's own errors."""
    try:
        yield
    except RedisError as error:
        if (told := failed(error)) is error:
            raise
        raise told from error


def check(redis: Redis) -> None:
    """Refuse a Redis that would lose stock, or can't do the work.

    Raises:
        StoreUnavailable: it can't be reached.
        ConfigurationError: it is too old, a replica, a Sentinel or a cluster's node, or may evict keys.
    """
    refuse_other_kinds(redis)
    try:
        found: dict[str, Any] = redis.info("default")
    except RedisError as error:
        raise StoreUnavailable(f"Redis can't be reached: {error}") from error
    policy = found["maxmemory_policy"]
    if policy != "noeviction":
        raise ConfigurationError(f"Redis may evict stock (maxmemory-policy {policy}); set it to noeviction")
    if int(str(found["redis_version"]).split(".")[0]) < 7:
        raise ConfigurationError(f"Redis {found['redis_version']} is too old; 7.0 is the least")
    if found.get("role") != "master":
        raise ConfigurationError("STOCKADE_REDIS_URL names a replica; it must be the master")


@dataclass(frozen=True)
class Record:
    """A reservation's hash, as it stands."""

    id: str
    fields: dict[str, str]

    @property
    def lines(self) -> tuple[Line, ...]:
        return unpacked(self.fields["lines"])

    @property
    def torn(self) -> bool:
        """Whether somebody has taken out what every reservation has."""
        return not {"state", "user", "lines", "created_ms", "deadline_ms"} <= self.fields.keys()

    @property
    def skus(self) -> list[str]:
        return [line.sku for line in self.lines]


@dataclass(frozen=True)
class Stock:
    """What the availability of SKUs is decided from: one hash each, empty if unknown. `due`: some hold is."""

    open: bool
    now_ms: int
    selling_paused: bool
    due: bool
    skus: dict[str, dict[str, str]]


FULL = 0.99
"""Share of its memory at which a Redis is called full: what it refuses to take isn't in it."""


@dataclass(frozen=True)
class Glance:
    """Redis at one moment. `keeper` is who leads, '' if nobody does; `first_deadline_ms` 0 where no hold lives.

    `units` and `problems` are what a leading keeper has published last: see `engine.totals` and `engine.record_check`. `clock_off_ms`: how far Redis's
    clock is ahead of this process's, 0 if no more than can be told; `clock_ahead_ms`: how far the latest time written lies ahead of it. `writes`: whether
    its last write to the AOF was right.
    """

    now_ms: int
    meta: dict[str, str]
    run_id: str
    live: int
    first_deadline_ms: int
    skus: int
    keeper: str
    units: Units | None
    problems: Problems | None
    used_memory_bytes: int
    max_memory_bytes: int
    clock_off_ms: int = 0
    clock_ahead_ms: int = 0
    writes: bool = True

    @property
    def is_full(self) -> bool:
        """Whether Redis refuses writes, or is about to."""
        return 0 < self.max_memory_bytes * FULL <= self.used_memory_bytes

    @property
    def seq(self) -> int:
        """The number of the ledger's last event; 0 if somebody has made something else of it."""
        return max(0, number(self.meta.get("seq")))


MAX_RATES = 4_000
"""Entries of the stream of rates, about; a process makes one a second while something happens in it."""


class Store:
    """Reads, each one round trip."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        # redis-py's reply types are unions over every client option, so its replies are typed where they are read.
        self.redis: Any = redis
        self.keys = keys
        self.calls = RedisCalls(redis)

    def reconnect(self) -> None:
        """Reopen every connection before its next command, so that none stays with a server that was replaced."""
        self.calls.reconnect()

    def now_ms(self) -> int:
        """The time by which scripts decide: Redis's, but never earlier than the latest that was written."""
        time, clock_ms = self._ask(("TIME",), ("HGET", self.keys.meta, "clock_ms"))
        return _now_ms(time, clock_ms)

    def clock_off_ms(self) -> tuple[int, int]:
        """How far Redis's clock is ahead of this process's, and the latest time written ahead of Redis's: more than 0 after that was set back."""
        asked_ms = wall_clock.time_ns() // 1_000_000
        time, clock_ms = self._ask(("TIME",), ("HGET", self.keys.meta, "clock_ms"))
        off_ms = _off(_time_ms(time), asked_ms, wall_clock.time_ns() // 1_000_000)
        return off_ms, int(clock_ms or 0) - _time_ms(time)

    def meta(self) -> dict[str, str]:
        fields: dict[str, str]
        [fields] = self._ask(("HGETALL", self.keys.meta))
        return fields

    def glance(self) -> Glance:
        asked_ms = wall_clock.time_ns() // 1_000_000
        time, meta, live, first, skus, keeper, units, problems, info = self._ask(
            ("TIME",),
            ("HGETALL", self.keys.meta),
            ("ZCARD", self.keys.deadlines),
            ("ZRANGE", self.keys.deadlines, 0, 0, "WITHSCORES"),
            ("ZCARD", self.keys.skus),
            ("GET", self.keys.keeper),
            ("HGETALL", self.keys.totals),
            ("HMGET", self.keys.record, "as_of_ms", "count", "first", "aof"),
            ("INFO", "server", "replication", "memory", "persistence"),
        )
        off_ms = _off(_time_ms(time), asked_ms, wall_clock.time_ns() // 1_000_000)
        try:
            return self._glance(time, meta, live, first, skus, keeper, _units(units), _problems(problems), info, off_ms)
        except (ValueError, OverflowError) as error:
            raise Inconsistent("Redis has something else where only numbers were written") from error

    def _glance(
        self,
        time: Any,
        meta: dict[str, str],
        live: int,
        first: Any,
        skus: int,
        keeper: str | None,
        units: Units | None,
        problems: Problems | None,
        info: Any,
        off_ms: int,
    ) -> Glance:
        return Glance(
            now_ms=max(_now_ms(time, None), number(meta.get("clock_ms"))),
            meta=meta,
            run_id=_run_of(info),
            live=live,
            first_deadline_ms=_scores(first)[0][1] if first else 0,
            skus=skus,
            keeper=keeper or "",
            units=units,
            problems=problems,
            used_memory_bytes=info["used_memory"],
            max_memory_bytes=info.get("maxmemory", 0),
            clock_off_ms=off_ms,
            clock_ahead_ms=max(0, number(meta.get("clock_ms")) - _time_ms(time)),
            writes=info.get("aof_last_write_status", "ok") == "ok",
        )

    def publish_rates(self, rates: Mapping[str, int]) -> None:
        """Tell everybody what happened in this process in the second before, as counts."""
        words = [word for rate in rates.items() for word in rate]
        self._ask(("XADD", self.keys.rates, "MAXLEN", "~", MAX_RATES, "*", *words))

    def rates(self, from_ms: int) -> list[tuple[int, dict[str, int]]]:
        """What processes told since a time: when, and their counts."""
        with answering():
            entries = self.redis.execute_command("XRANGE", self.keys.rates, from_ms, "+", **RAW)
        return [(int(entry_id.partition(b"-")[0]), _counts(told)) for entry_id, told in entries]

    def publish_units(self, units: Units) -> None:
        """Write the totals, which every process reads with its `glance`."""
        sums = (value for name in COUNTERS for value in (name, getattr(units, name)))
        names = " ".join(map(stored, units.most_reserved))
        self._ask(("HSET", self.keys.totals, "as_of_ms", units.as_of_ms, *sums, "most_reserved", names))

    def publish_problems(self, found: Problems) -> None:
        """Write what the record check found, which every process reads with its `glance`."""
        first = orjson.dumps(found.first).decode()
        numbers = ("as_of_ms", found.as_of_ms, "count", found.count)
        self._ask(("HSET", self.keys.record, *numbers, "first", first, "aof", found.aof, "notes", found.notes))

    def notes(self) -> str:
        """What the record check noted last for whoever leads next; '' if nothing."""
        [found] = self._ask(("HGET", self.keys.record, "notes"))
        return found or ""

    def changes(self, after: tuple[int, int], limit: int) -> list[Change]:
        """The events after (epoch, seq): id, op and SKUs only."""
        epoch, seq = after
        with answering():
            raw = self.redis.execute_command("XRANGE", self.keys.ledger, f"({epoch}-{seq}", "+", "COUNT", limit, **RAW)
        return [_change(entry_id, fields) for entry_id, fields in raw]

    def last_event(self) -> tuple[int, int]:
        """Epoch and seq of the stream's last event; (0, 0) if there is none."""
        epoch, _, seq = (self.head()[1] or "0-0").partition("-")
        return int(epoch), int(seq)

    def sku_names(self, after: str, limit: int) -> list[str]:
        """At most `limit` names of SKUs, after the one named."""
        least = f"({stored(after)}" if after else "-"
        [found] = self._ask(("ZRANGE", self.keys.skus, least, "+", "BYLEX", "LIMIT", 0, limit))
        return [shown(name) for name in found]

    def counters(self, skus: Sequence[str]) -> list[Counters | None]:
        """None for a SKU that doesn't exist or has unreadable counters."""
        return [_counters(row) for row in self._ask(*[("HMGET", self.keys.sku(sku), *COUNTERS) for sku in skus])]

    def head(self) -> tuple[dict[str, str], str]:
        """Meta and, at the same moment, the id of the stream's last event, '' if there is none."""
        while True:
            with answering():
                # Not as a transaction, which would decode what somebody may have written by hand.
                pipe = self.redis.pipeline(transaction=False)
                pipe.hget(self.keys.meta, "seq")
                pipe.execute_command("XREVRANGE", self.keys.ledger, "+", "-", "COUNT", 1, **RAW)
                pipe.hgetall(self.keys.meta)
                before, last, meta = pipe.execute()
            if before == meta.get("seq"):
                return meta, last[0][0].decode() if last else ""

    def check_open(self) -> None:
        """Raises: Closed: the gate is shut, so that Redis may lack what it had and will have again."""
        [gate] = self._ask(("HGET", self.keys.meta, "gate"))
        if gate != "open":
            raise Closed("Redis is compared with the ledger, or made anew from it")

    def record(self, reservation_id: str) -> Record | None:
        [fields] = self._ask(("HGETALL", self.keys.reservation(reservation_id)))
        return Record(reservation_id, fields) if fields else None

    def records(self, reservation_ids: Sequence[str]) -> list[Record]:
        """Those that are there."""
        hashes = self.hashes(map(self.keys.reservation, reservation_ids))
        return [Record(name, fields) for name, fields in zip(reservation_ids, hashes, strict=True) if fields]

    def live(self) -> int:
        """How many holds live."""
        [count] = self._ask(("ZCARD", self.keys.deadlines))
        return int(count)

    def sku(self, sku: str) -> Sku | None:
        [fields] = self._ask(("HGETALL", self.keys.sku(sku)))
        return sku_from(sku, fields) if fields else None

    def skus(self, after: str, limit: int) -> list[Sku]:
        """At most `limit` SKUs by name, after the one named."""
        names, fields = self._page_of_skus(after, limit)
        return [sku_from(name, found) for name, found in zip(names, fields, strict=True) if found]

    def page_of_skus(self, after: str, limit: int) -> tuple[list[str], list[Sku]]:
        """At most `limit` names of SKUs, after the one named, and those SKUs of them that are whole."""
        names, fields = self._page_of_skus(after, limit)
        return names, _whole(names, fields)

    def _page_of_skus(self, after: str, limit: int) -> tuple[list[str], list[dict[str, str]]]:
        names = self.sku_names(after, limit)
        return names, self._ask(*[("HGETALL", self.keys.sku(name)) for name in names])

    def skus_named(self, names: Sequence[str]) -> list[Sku]:
        """The SKUs of these names that there are, and are whole."""
        return _whole(names, self._ask(*[("HGETALL", self.keys.sku(name)) for name in names]))

    def stock(self, skus: Sequence[str]) -> Stock:
        time, (gate, clock_ms, paused), first, *rows = self._ask(
            ("TIME",),
            ("HMGET", self.keys.meta, "gate", "clock_ms", "selling_paused"),
            ("ZRANGE", self.keys.deadlines, 0, 0, "WITHSCORES"),
            *[("HMGET", self.keys.sku(sku), *STOCK_FIELDS) for sku in skus],
        )
        now_ms = _now_ms(time, clock_ms)
        fields = [
            {name: value for name, value in zip(STOCK_FIELDS, row, strict=True) if value is not None} for row in rows
        ]
        due = any(deadline_ms <= now_ms for _, deadline_ms in _scores(first))
        return Stock(gate == "open", now_ms, paused is not None, due, dict(zip(skus, fields, strict=True)))

    def holds(
        self, from_ms: int | str, to_ms: int | str, limit: int, offset: int = 0
    ) -> list[tuple[str, int, list[str]]]:
        """A page of live holds by deadline: id, deadline_ms, SKUs. A hold whose record is gone or torn has no SKUs.

        A full page has all holds of its last millisecond, so more than `limit` maybe: the next one can start right
        after it, and is complete even if others end holds meanwhile.
        """
        page = self._deadlines(from_ms, to_ms, "LIMIT", offset, limit)
        if len(page) == limit:
            last_ms = page[-1][1]
            known = {reservation_id for reservation_id, _ in page}
            page += [tie for tie in self._deadlines(last_ms, last_ms) if tie[0] not in known]
        return self._with_skus(page)

    def deadlines_of(self, reservation_ids: Sequence[str]) -> dict[str, int]:
        """Deadlines of live holds; 0 for what is none."""
        return deadlines(reservation_ids, self._ask(*self.ask_deadlines(reservation_ids)))

    def ask_deadlines(self, reservation_ids: Iterable[str]) -> list[Command]:
        """What `deadlines` reads the answers of."""
        return [("ZSCORE", self.keys.deadlines, reservation_id) for reservation_id in reservation_ids]

    def next_holds(self, from_ms: int, limit: int) -> list[tuple[str, int, list[str]]]:
        """The live holds with the earliest deadlines from a time on, as `holds`, but at most `limit`."""
        return self._with_skus(self._deadlines(from_ms, "+inf", "LIMIT", 0, limit))

    def _with_skus(self, page: Sequence[tuple[str, int]]) -> list[tuple[str, int, list[str]]]:
        lines = self._ask(*[("HGET", self.keys.reservation(reservation_id), "lines") for reservation_id, _ in page])
        return [
            (reservation_id, deadline_ms, _skus(text or ""))
            for (reservation_id, deadline_ms), text in zip(page, lines, strict=True)
        ]

    def live_names(self, from_ms: int, limit: int) -> list[tuple[str, int]]:
        """Ids and deadlines (ms) of at most `limit` live holds, from a deadline on."""
        return self._deadlines(from_ms, "+inf", "LIMIT", 0, limit)

    def next_deadline(self, after_ms: int) -> int:
        """The first deadline of any hold after a time; the end of time if there is none."""
        page = self._deadlines(f"({after_ms}", "+inf", "LIMIT", 0, 1)
        return page[0][1] if page else NEVER_MS

    def _deadlines(self, from_ms: int | str, to_ms: int | str, *limit: int | str) -> list[tuple[str, int]]:
        command = ("ZRANGE", self.keys.deadlines, from_ms, to_ms, "BYSCORE", *limit, "WITHSCORES")
        return _scores(self._ask(command)[0])

    def _ask(self, *commands: Command) -> list[Any]:
        """Replies to commands that may be sent twice, in one round trip, on a loop with whatever others ask in the same turn."""
        # Not with `answering`, which would cost as much as all the rest of this.
        try:
            replies = self.calls.ask(*commands)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        except UnicodeDecodeError as error:
            raise Inconsistent("Redis has bytes where only text was written") from error
        except RedisError as error:
            if (told := failed(error)) is error:
                raise
            raise told from error
        return replies

    def time_ms(self) -> int:
        """The clock of Redis as it stands, by which keys end; without `clock_ms`, which only stock has."""
        [time] = self._ask(("TIME",))
        return _now_ms(time, None)

    def cart(self, cart_id: str) -> tuple[dict[str, str], int]:
        """A cart's hash, empty if there is none, and `time_ms` then."""
        fields, time = self._ask(("HGETALL", self.keys.cart(cart_id)), ("TIME",))
        return fields, _now_ms(time, None)

    def touch_cart(self, cart_id: str, ttl_ms: int) -> None:
        """Let the cart live `ttl_ms` from now on. Never shortens its time: another call may have made it a user's."""
        self._ask(("PEXPIRE", self.keys.cart(cart_id), ttl_ms, "GT"))

    def touch_guest_cart(self, cart_id: str, ttl_ms: int, now_ms: int) -> None:
        """As `touch_cart`; the cart is counted as long as it lives, if it is counted."""
        guest_carts = self.keys.guest_carts
        self._ask(
            ("PEXPIRE", self.keys.cart(cart_id), ttl_ms, "GT"),
            ("ZADD", guest_carts, "XX", "GT", now_ms + ttl_ms, cart_id),
            ("PEXPIRE", guest_carts, ttl_ms, "GT"),
        )

    def discount_guest_cart(self, cart_id: str) -> None:
        """Count the cart no more among the guests'."""
        self._ask(("ZREM", self.keys.guest_carts, cart_id))

    def remember_cart(self, operation: Operation, cart_id: str, keep_ms: int) -> str | None:
        """Keep which cart an operation has made.

        Returns: the id of the first cart of this operation, or None if it is known with another fingerprint.
        """
        key, text = self.keys.operation(operation.id), f'{operation.fingerprint} ["{cart_id}"]'
        known: str = self._ask(("SET", key, text, "PX", keep_ms, "NX", "GET"))[0] or text
        fingerprint, _, answer = known.partition(" ")
        return answer.strip('[]"') if fingerprint == operation.fingerprint else None

    def latest_checkout(self, cart_id: str) -> str:
        """The id of the latest reservation made from the cart, '' if there is none."""
        [name] = self._ask(("GET", self.keys.checkout(cart_id)))
        return str(name or "")

    def allowed(self, user: str, skus: Sequence[str]) -> dict[str, int]:
        """How many units of each SKU the user may still reserve; SKUs without a limit are left out.

        Below 0 where the limit was lowered under what the user holds and bought.
        """
        commands: list[Command] = []
        for sku in skus:
            commands += ("HGET", self.keys.sku(sku), "limit_per_customer"), ("HGET", self.keys.buyers(sku), user)
        replies = self._ask(*commands)
        pairs = zip(skus, replies[::2], replies[1::2], strict=True)
        return {sku: int(limit) - int(counted or 0) for sku, limit, counted in pairs if limit}

    def answer(self, operation_id: str) -> str:
        """The fingerprint and the answer kept for an operation, with a space between them; '' if there is none."""
        [kept] = self._ask(("GET", self.keys.operation(operation_id)))
        return kept or ""

    def remember(self, operation: Operation, keep_ms: int, answer: str = "[]") -> bool:
        """Keep an operation's fingerprint and answer. Returns: False if its id is known with others."""
        key, text = self.keys.operation(operation.id), f"{operation.fingerprint} {answer}"
        return self._ask(("SET", key, text, "PX", keep_ms, "NX", "GET"))[0] in (None, text)

    def has_stock(self) -> bool:
        with answering():
            return bool(self.redis.exists(self.keys.ledger, self.keys.deadlines, self.keys.skus))

    def next_releases(self, skus: Sequence[str]) -> dict[str, int]:
        """`next_release_ms` of those SKUs that have one."""
        with answering():
            pipe = self.redis.pipeline(transaction=False)
            for sku in skus:
                pipe.hget(self.keys.sku(sku), "next_release_ms")
            return {sku: int(text) for sku, text in zip(skus, pipe.execute(), strict=True) if text}

    def keeper_alive(self) -> bool:
        with answering():
            return bool(self.redis.exists(self.keys.keeper))

    def run_id(self) -> str:
        """What tells the run of the server that answers from any other: see `_run`. '' for a replica."""
        with answering():
            return _run_of(self.redis.info("server", "replication"))

    def process(self) -> str:
        """Which process the server is, and where."""
        kept = self.redis.get_connection_kwargs()
        with answering():
            return f"{self.redis.info('server')['process_id']} at {kept.get('path') or kept.get('host')}"

    def names(self) -> set[bytes]:
        """Every key of the partition as it stands; what a bad disk has made of one may be no text."""
        found: set[bytes] = set()
        cursor: int | bytes = 0
        with answering():
            while True:
                words = (cursor, "MATCH", f"{self.keys.prefix}*", "COUNT", 1_000)
                cursor, page = self.redis.execute_command("SCAN", *words, **RAW)
                found |= set(page)
                if not int(cursor):
                    return found

    def hashes(self, keys: Iterable[str]) -> list[dict[str, str]]:
        """Empty where there is nothing."""
        found: list[dict[str, str]] = self._ask(*[("HGETALL", key) for key in keys])
        return found

    def hashes_as_of(
        self, keys: Sequence[str], holds: Sequence[str]
    ) -> tuple[int, list[dict[str, str] | None], list[int]]:
        """The number of the last event; these hashes at the same moment, None for what can't be read as one; these holds' deadlines (ms), 0 without."""
        with answering():
            pipe = self.redis.pipeline(transaction=True)
            pipe.hget(self.keys.meta, "seq")
            for key in keys:
                pipe.hgetall(key)
            for hold in holds:
                pipe.zscore(self.keys.deadlines, hold)
            seq, *found = pipe.execute(raise_on_error=False)
        if isinstance(seq, Exception):
            raise StoreUnavailable("Redis's meta can't be read") from seq
        hashes = [each if isinstance(each, dict) else None for each in found[: len(keys)]]
        scores = [int(each) if isinstance(each, float) else 0 for each in found[len(keys) :]]
        return number(seq), hashes, scores

    def all_skus(self) -> set[str]:
        """What the index has."""
        with answering():
            return {shown(name) for name, _ in self.redis.zscan_iter(self.keys.skus, count=1_000)}

    def deadlines(self) -> dict[str, float]:
        """Unix ms by the id of the hold."""
        with answering():
            return dict(self.redis.zscan_iter(self.keys.deadlines, count=1_000))

    def replicated(self, certified: str) -> bool:
        """Whether its data came from that one (`run_id`) with a checksum.

        Either it became a master after it had followed that one, or that one, once followed, has started again from an
        RDB file; whoever starts from an AOF knows no predecessor.
        """
        with answering():
            found = self.redis.info("replication")
        return bool(certified) and found.get("master_replid2") == certified.partition(":")[2]

    def entries(self, first: str, limit: int) -> list[Entry]:
        """Events of the stream from an entry id on, that one included, as they stand."""
        with answering():
            raw = self.redis.execute_command("XRANGE", self.keys.ledger, first, "+", "COUNT", limit, **RAW)
            return [entry_of(entry_id, fields) for entry_id, fields in raw]

    def latest_entries(self, last: str, limit: int) -> list[Entry]:
        """Events of the stream up to an entry id, the last one first."""
        with answering():
            raw = self.redis.execute_command("XREVRANGE", self.keys.ledger, last, "-", "COUNT", limit, **RAW)
            return [entry_of(entry_id, fields) for entry_id, fields in raw]

    def events(self, after: str, limit: int) -> list[Event]:
        """Ledger events in order, after the entry id given (`-` for the first)."""
        with answering():
            least = after if after == "-" else f"({after}"
            return [
                event_from(entry_id, fields)
                for entry_id, fields in self.redis.xrange(self.keys.ledger, least, "+", limit)
            ]


@dataclass(frozen=True)
class Change:
    """The part of an event that says which SKUs it may have changed."""

    epoch: int
    seq: int
    op: str
    skus: tuple[str, ...]


def _change(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Change:
    epoch, _, seq = entry_id.partition(b"-")
    lines = fields.get(b"lines", b"").decode(errors="backslashreplace")
    skus = tuple(shown(word.rpartition("=")[0]) for word in lines.split())
    return Change(int(epoch), int(seq), fields.get(b"op", b"").decode(errors="backslashreplace"), skus)


def _counters(row: Sequence[str | None]) -> Counters | None:
    try:
        on_hand, available, reserved, allocated = (int(text or "") for text in row)
    except ValueError:
        return None
    return on_hand, available, reserved, allocated


def _units(fields: Mapping[str, str]) -> Units | None:
    try:
        as_of_ms, on_hand, available, reserved, allocated = (int(fields[name]) for name in ("as_of_ms", *COUNTERS))
    except (KeyError, ValueError):
        return None
    most = tuple(map(shown, fields.get("most_reserved", "").split()))
    return Units(as_of_ms, on_hand, available, reserved, allocated, most)


def _problems(fields: Sequence[str | None]) -> Problems | None:
    as_of_ms, count, first, aof = (text or "" for text in fields)
    try:
        return Problems(int(as_of_ms), int(count), tuple(orjson.loads(first)), aof=aof)
    except ValueError:
        return None


def _skus(text: str) -> list[str]:
    try:
        return [line.sku for line in unpacked(text)]
    except ValueError:
        return []


def _scores(reply: Sequence[Any]) -> list[tuple[str, int]]:
    """Members and scores: pairs in RESP3, one list of both in RESP2."""
    pairs = reply if reply and not isinstance(reply[0], str) else zip(reply[::2], reply[1::2], strict=True)
    return [(member, int(float(score))) for member, score in pairs]


def deadlines(reservation_ids: Iterable[str], scores: Iterable[Any]) -> dict[str, int]:
    """By hold; 0 for what is none, lives no more, or can't be told."""
    told = zip(reservation_ids, scores, strict=True)
    return {each: 0 if isinstance(score, Exception) else int(float(score or 0)) for each, score in told}


def _now_ms(time: tuple[int, int], clock_ms: str | None) -> int:
    return max(_time_ms(time), int(clock_ms or 0))


def _time_ms(time: tuple[int, int]) -> int:
    return time[0] * 1000 + time[1] // 1000


def _off(time_ms: int, asked_ms: int, answered_ms: int) -> int:
    """How far a clock is ahead that said `time_ms` at some moment between two of ours; 0 if it may be right."""
    return max(0, time_ms - answered_ms) + min(0, time_ms - asked_ms)


def _counts(told: Mapping[bytes, bytes]) -> dict[str, int]:
    """What somebody has written by hand into the rates counts for nothing."""
    texts = {verb.decode(errors="replace"): times.decode(errors="replace") for verb, times in told.items()}
    return {verb: max(0, number(times)) for verb, times in texts.items()}


def _whole(names: Sequence[str], found: Sequence[dict[str, str]]) -> list[Sku]:
    """SKUs of these names, but for those whose hash is gone or lacks a number."""
    skus = []
    for name, fields in zip(names, found, strict=True):
        with suppress(Inconsistent):
            skus.append(sku_from(name, fields))
    return skus


def sku_from(sku: str, fields: dict[str, str], replayed: bool = False) -> Sku:
    """Raises: Inconsistent: a counter is missing, or something is no number."""

    def maybe(name: str) -> int | None:
        return int(fields[name]) if name in fields else None

    try:
        return Sku(
            sku=sku,
            on_hand=int(fields["on_hand"]),
            available=int(fields["available"]),
            reserved=int(fields["reserved"]),
            allocated=int(fields["allocated"]),
            name=fields.get("name"),
            limit_per_customer=maybe("limit_per_customer"),
            sale_starts_ms=maybe("sale_starts_ms"),
            sale_ends_ms=maybe("sale_ends_ms"),
            paused="paused" in fields,
            replayed=replayed,
        )
    except (KeyError, ValueError) as error:
        raise Inconsistent(f"The counters of SKU {sku} are torn; run stockade verify") from error


def event_from(entry_id: str, fields: dict[str, str]) -> Event:
    epoch, _, seq = entry_id.partition("-")
    return Event(
        epoch=int(epoch),
        seq=int(seq),
        at_ms=int(fields["at_ms"]),
        op=fields["op"],
        actor=fields["actor"],
        user=fields["user"],
        reservation_id=fields["reservation_id"],
        lines=unpacked(fields["lines"]),
        deadline_ms=int(fields["deadline_ms"] or 0),
        payment_id=fields["payment_id"],
        reason=fields["reason"],
        request_id=fields["request_id"],
        detail=fields["detail"],
        operation=fields.get("operation", ""),
        layout=2 if fields.get("counted") == EVERY_LINE else 1,
    )
