"""Whether Redis will load its AOF when it starts again: what the user may do as whom it is loaded."""

from __future__ import annotations

import time
from enum import Enum
from typing import Any

import structlog
from redis.exceptions import NoPermissionError, ResponseError

from engine.keys import Keys
from engine.store import Store, answering

log = structlog.get_logger()

ASK_AGAIN_SECONDS = 5.0

REPLAYED = (
    ("DEL",),
    ("HDEL", "1"),
    ("HINCRBY", "1", "1"),
    ("HSET", "1", "1"),
    ("HSETNX", "1", "1"),
    ("PERSIST",),
    ("PEXPIREAT", "1"),
    ("SET", "1"),
    ("UNLINK",),
    ("XADD", "*", "1", "1"),
    ("XTRIM", "MAXLEN", "1"),
    ("ZADD", "1", "1"),
    ("ZREM", "1"),
)
"""Commands in the AOF's transactions, and what follows the key. Redis 7 runs those as the user `default` when it
loads it, and leaves out what that user may not do: https://github.com/redis/redis/issues/14541."""


class MayNotAsk(Enum):
    """Why it isn't known what `default` may do."""

    NO_RIGHT = "this user may not ACL DRYRUN"
    NO_ANSWER = "this server doesn't say what the user default may do"


class ReplayCheck:
    """Asks every few seconds, and logs what has changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked_s = -ASK_AGAIN_SECONDS
        self._found = ""

    def look(self) -> str:
        """Why a restart of Redis would forget its AOF; '' if it wouldn't, or nobody can tell.

        Raises: StoreUnavailable: Redis doesn't answer.
        """
        if time.monotonic() - self._asked_s < ASK_AGAIN_SECONDS:
            return self._found
        with answering():
            found = forgets(left_out(self._store.redis, self._store.keys))
        self._asked_s = time.monotonic()
        if found != self._found:
            log.error("aof_not_loadable", why=found) if found else log.info("aof_loadable")
        self._found = found
        return found


def forgets(found: tuple[str, ...] | MayNotAsk) -> str:
    """In words what a restart would do to the AOF; '' if nothing, or if the server doesn't say."""
    if found is MayNotAsk.NO_RIGHT:
        return f"{found.value}, so a restart may forget the AOF unseen"
    if isinstance(found, MayNotAsk) or not found:
        return ""
    more = "…" if len(found) > 3 else ""
    return f"a restart forgets what is in the AOF: the user default may not {', '.join(found[:3])}{more}"


def left_out(redis: Any, keys: Keys) -> tuple[str, ...] | MayNotAsk:
    """Which of `REPLAYED` the user `default` may not do on some key of ours."""
    asked = [
        (command, key, *words) for key in (keys.meta, keys.cart("1"), keys.guest_carts) for command, *words in REPLAYED
    ]
    pipe = redis.pipeline(transaction=False)
    for words in asked:
        pipe.execute_command("ACL", "DRYRUN", "default", *words)
    answers = pipe.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, NoPermissionError):
            return MayNotAsk.NO_RIGHT
        if isinstance(answer, ResponseError):
            return MayNotAsk.NO_ANSWER
        if isinstance(answer, Exception):
            raise answer
    return tuple(dict.fromkeys(words[0] for words, answer in zip(asked, answers, strict=True) if str(answer) != "OK"))
