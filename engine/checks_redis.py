"""Checks of Redis: can it do the work, will it keep what it holds, and who may do what there."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from engine.checks import Check, fine, not_asked, size, to_do
from engine.config import Settings
from engine.redis_cli.address import Address
from engine.replay import MayNotAsk, forgets, left_out
from engine.store import Store, answering

MIN_REDIS, MIN_VALKEY = 7, 8
FULL = 0.8
SLOW_ROUND_TRIP_MS = 5.0
ROUND_TRIPS = 10
SLOW_CALL_MS = 250
"""From then on buyers notice: it is as long as a hold may end late."""

SLOW_SINCE_S = 3_600
TOLERATED_CLOCK_MS = 1_000
LISTPACK_BYTES = 1_024
SETTINGS = ("appendfsync", "notify-keyspace-events", "hash-max-listpack-value")
DANGEROUS = (("FLUSHALL",), ("CONFIG", "SET", "dir", "x"), ("SHUTDOWN",), ("KEYS", "*"), ("ACL", "LIST"))
"""What nobody who sells has to be able to do."""

ACL_FILE = "docs/deploy/redis.acl"


@dataclass(frozen=True)
class RedisSeen:
    """What was asked of Redis. None is what it doesn't let this user ask.

    `clock_off_ms`: how far its clock is from this machine's; `clock_ahead_ms`: how far the latest time written lies ahead.
    `private`: nobody else on this machine can open the socket. `slow_ms`: calls of ours in the slow log. `left_out`: commands
    that a restart would leave out of the AOF.
    """

    address: str
    embedded: bool
    private: bool
    password: bool
    info: dict[str, Any]
    settings: dict[str, str] | None
    round_trip_ms: float
    clock_off_ms: int
    clock_ahead_ms: int
    user: str
    may: tuple[str, ...] | None
    slow_ms: tuple[int, ...] | None
    left_out: tuple[str, ...] | MayNotAsk


def look(store: Store, settings: Settings, *, embedded: bool) -> RedisSeen:
    """Raises: StoreUnavailable: it doesn't answer, or not to this user."""
    address, redis = Address.from_url(settings.redis_url), store.redis
    with answering():
        info = redis.info("everything")
        round_trips_ms, clocks_off_ms = [], []
        for _ in range(ROUND_TRIPS):
            asked_s, asked_ns = time.monotonic(), time.time_ns()
            seconds, microseconds = redis.time()
            round_trips_ms.append((time.monotonic() - asked_s) * 1000)
            between_ms = (asked_ns + time.time_ns()) / 2_000_000
            clocks_off_ms.append(round(seconds * 1000 + microseconds / 1000 - between_ms))
        user = _user(redis, address.username or "")
        return RedisSeen(
            address=f"unix socket {address}" if address.path else str(address),
            embedded=embedded,
            private=bool(address.path) and _private(Path(address.path)),
            password=bool(address.password),
            info=info,
            settings=_settings(redis),
            round_trip_ms=min(round_trips_ms),
            clock_off_ms=min(clocks_off_ms, key=abs),
            clock_ahead_ms=_ahead(store),
            user=user,
            may=_may(redis, user),
            slow_ms=_slow(redis, store.keys.prefix),
            left_out=left_out(redis, store.keys),
        )


def checks(seen: RedisSeen) -> Iterator[Check]:
    yield fine("redis", f"{seen.address} answers")
    yield _round_trip(seen)
    yield _version(seen)
    yield _role(seen)
    yield _policy(seen)
    yield _memory(seen)
    yield from _append_only_file(seen)
    yield from _settings_checked(seen)
    yield _clock(seen)
    yield _who(seen)
    yield _slow_calls(seen)


def _round_trip(seen: RedisSeen) -> Check:
    took = f"{seen.round_trip_ms:.2f} ms"
    if seen.round_trip_ms > SLOW_ROUND_TRIP_MS:
        return to_do("redis round trip", f"takes {took} at best: every request pays that; put Redis nearer")
    return fine("redis round trip", took)


def _version(seen: RedisSeen) -> Check:
    # Valkey says 7.2.4 as its redis_version, for the sake of old clients.
    valkey = seen.info.get("valkey_version")
    name, version = ("Valkey", valkey) if valkey else ("Redis", seen.info.get("redis_version", "?"))
    least = MIN_VALKEY if valkey else MIN_REDIS
    major = str(version).partition(".")[0]
    if not major.isdigit() or int(major) < least:
        return to_do("redis version", f"{name} {version} is too old: install {name} {least} or newer")
    return fine("redis version", f"{name} {version}")


def _role(seen: RedisSeen) -> Check:
    if seen.info.get("role") != "master":
        return to_do("redis role", "is a replica: name the master in STOCKADE_REDIS_URL")
    return fine("redis role", "master")


def _policy(seen: RedisSeen) -> Check:
    policy = seen.info.get("maxmemory_policy")
    if policy != "noeviction":
        return to_do("redis maxmemory-policy", f"is {policy}, which evicts stock: set it to noeviction")
    return fine("redis maxmemory-policy", policy)


def _memory(seen: RedisSeen) -> Check:
    used, limit = int(seen.info["used_memory"]), int(seen.info.get("maxmemory", 0))
    if not limit and not seen.embedded:
        return to_do(
            "redis maxmemory",
            f"isn't set ({size(used)} used): set it, so that a full Redis refuses to reserve instead of being killed",
        )
    whole = limit or int(seen.info["total_system_memory"])
    of = f"{size(used)} of {size(whole)}" + ("" if limit else ", all that the machine has")
    if used >= FULL * whole:
        return to_do("redis maxmemory", f"is {used * 100 // whole} % full ({of}): raise it, or find out what grows")
    return fine("redis maxmemory", of)


def _append_only_file(seen: RedisSeen) -> Iterator[Check]:
    if not seen.info.get("aof_enabled"):
        yield to_do("redis AOF", "is off, so that a restart loses what isn't in Postgres yet: set appendonly yes")
        return
    for word, said in (("write", "aof_last_write_status"), ("rewrite", "aof_last_bgrewrite_status")):
        if seen.info.get(said, "ok") != "ok":
            yield to_do("redis AOF", f"the last {word} failed: look at its disk and its log")
            return
    yield fine("redis AOF", "on, the last write and rewrite were right")
    yield _replay(seen)


def _replay(seen: RedisSeen) -> Check:
    if seen.left_out is MayNotAsk.NO_ANSWER:
        return not_asked("redis AOF replay", seen.left_out.value)
    if why := forgets(seen.left_out):
        return to_do("redis AOF replay", f"{why}: load {ACL_FILE} of this version")
    return fine("redis AOF replay", "the user default, as whom it is loaded, may do all that is in it")


def _settings_checked(seen: RedisSeen) -> Iterator[Check]:
    if seen.settings is None:
        for name in SETTINGS:
            yield not_asked(f"redis {name}", "this user may not CONFIG GET")
        return
    fsync, events, bytes_text = (seen.settings.get(name, "") for name in SETTINGS)
    if fsync not in ("everysec", "always"):
        yield to_do("redis appendfsync", f"is {fsync!r}: set it to everysec or always")
    else:
        yield fine("redis appendfsync", fsync)
    if "E" in events and ("x" in events or "A" in events):
        yield fine("redis notify-keyspace-events", events)
    else:
        advice = f"is {events!r}, so that holds end up to a sweep later: set it to Ex"
        yield to_do("redis notify-keyspace-events", advice)
    if bytes_text.isdigit() and int(bytes_text) < LISTPACK_BYTES:
        advice = f"is {bytes_text}, so that long baskets take several times the memory: set it to {LISTPACK_BYTES}"
        yield to_do("redis hash-max-listpack-value", advice)
    else:
        yield fine("redis hash-max-listpack-value", bytes_text or "has no limit here")


def _clock(seen: RedisSeen) -> Check:
    if abs(seen.clock_off_ms) > TOLERATED_CLOCK_MS:
        advice = f"is {seen.clock_off_ms / 1000:+.1f} s off this machine's: let NTP set both"
        return to_do("redis clock", advice)
    if seen.clock_ahead_ms > TOLERATED_CLOCK_MS:
        behind = f"is {seen.clock_ahead_ms / 1000:.1f} s behind the latest time written"
        return to_do("redis clock", f"{behind}: it was set back, and no hold ends until it has caught up")
    return fine("redis clock", f"{seen.clock_off_ms:+d} ms off this machine's")


def _who(seen: RedisSeen) -> Check:
    if seen.private:
        return fine("redis user", f"{seen.user}, on a socket that nobody else on this machine can open")
    if seen.user == "default" and not seen.password:
        advice = f"whoever reaches {seen.address} may do everything there: load {ACL_FILE}, log in as a user of it"
        return to_do("redis user", advice)
    if seen.may is None:
        return not_asked("redis user", f"{seen.user}; this server doesn't say what it may do")
    if seen.may:
        advice = f"{seen.user} may {', '.join(seen.may)}, which the service never needs: log in as a user of {ACL_FILE}"
        return to_do("redis user", advice)
    return fine("redis user", f"{seen.user}, who may do nothing beside its work")


def _slow_calls(seen: RedisSeen) -> Check:
    if seen.slow_ms is None:
        return not_asked("redis slow calls", "this user may not SLOWLOG GET")
    slow = [took for took in seen.slow_ms if took >= SLOW_CALL_MS]
    if slow:
        advice = f"{len(slow)} of ours took {SLOW_CALL_MS} ms or more in the last hour, the longest {max(slow)} ms"
        return to_do("redis slow calls", f"{advice}: see SLOWLOG GET, and what else that machine does")
    return fine("redis slow calls", f"none of {SLOW_CALL_MS} ms or more in the last hour")


def _settings(redis: Any) -> dict[str, str] | None:
    try:
        return dict(redis.config_get(*SETTINGS))
    except ResponseError:
        return None


def _ahead(store: Store) -> int:
    try:
        return store.clock_off_ms()[1]
    except ValueError:
        # Somebody has written it by hand; the gate is shut then, and says so.
        return 0


def _user(redis: Any, named: str) -> str:
    try:
        return str(redis.acl_whoami())
    except ResponseError:
        return named or "default"


def _may(redis: Any, user: str) -> tuple[str, ...] | None:
    """What of `DANGEROUS` the user may do. Who may not even ask has no right to it either."""
    found = []
    for words in DANGEROUS:
        try:
            if str(redis.execute_command("ACL", "DRYRUN", user, *words)) == "OK":
                found.append(" ".join(words[: 2 if words[0] in ("ACL", "CONFIG") else 1]))
        except NoPermissionError:
            return ()
        except ResponseError:
            return None
    return tuple(found)


def _slow(redis: Any, prefix: str) -> tuple[int, ...] | None:
    try:
        entries = redis.slowlog_get(128)
    except ResponseError:
        return None
    since_s = redis.time()[0] - SLOW_SINCE_S
    ours = [
        entry for entry in entries if entry["start_time"] >= since_s and prefix.encode() in _bytes(entry["command"])
    ]
    return tuple(int(entry["duration"]) // 1000 for entry in ours)


def _bytes(command: str | bytes) -> bytes:
    return command.encode() if isinstance(command, str) else command


def _private(socket: Path) -> bool:
    """Whether nobody but its owner (and root) can open a socket."""
    try:
        shut = not socket.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        return shut or any(not above.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH) for above in socket.parents)
    except OSError:
        return False
