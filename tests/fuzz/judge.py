"""What must hold of every answer, whatever was asked."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from api.problems import STATUS

STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3}) [ -~]*\r\n")
INTERNAL = re.compile(
    rb"Traceback|File \"/|site-packages|psycopg|redis\.exceptions|line \d+, in |/data/postgres|user_script"
)
"""Words that a client has no business to read."""


@dataclass(frozen=True)
class Answered:
    """One answer off the wire. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        return self.headers.get("x-request-id", "")


class Unreadable(Exception):
    """What came is no sequence of HTTP answers."""


def answers(data: bytes, methods: list[str]) -> list[Answered]:
    """Take apart what a connection brought. `methods` are those of the requests, as far as they are known: HEAD has no body.

    Raises:
        Unreadable: bytes are missing, or too many.
    """
    found: list[Answered] = []
    while data:
        line = STATUS_LINE.match(data)
        head, end, rest = data.partition(b"\r\n\r\n")
        if not line or not end:
            raise Unreadable(f"no answer begins with {data[:80]!r}")
        status = int(line[1])
        pairs = [each.decode("latin-1").partition(": ") for each in head.split(b"\r\n")[1:]]
        headers = {name.lower(): value for name, _, value in pairs}
        if len(headers) < len(pairs):
            raise Unreadable(f"a header stands there twice: {head!r}")
        if status == 100:
            data = rest
            continue
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        body, data = _body(rest, headers, empty=method == "HEAD" or status in (204, 304))
        found.append(Answered(status, headers, body))
    return found


def _body(rest: bytes, headers: dict[str, str], *, empty: bool) -> tuple[bytes, bytes]:
    """A body, and what comes behind it."""
    if empty:
        return b"", rest
    if "content-length" in headers:
        length = int(headers["content-length"])
        if len(rest) < length:
            raise Unreadable(f"{length} bytes were promised, {len(rest)} came")
        return rest[:length], rest[length:]
    if headers.get("transfer-encoding") != "chunked":
        return rest, b""
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body, rest = body + rest[:length], rest[length + 2 :]
        if not length:
            return body, rest


def faults(answer: Answered) -> list[str]:
    """What is wrong with an answer, whoever got it."""
    found = []
    if not answer.request_id:
        found.append("it has no X-Request-Id")
    if INTERNAL.search(answer.body):
        found.append("it tells of the inside")
    if answer.status >= 500 and answer.status != 503:
        found.append(f"it is a {answer.status}")
    if answer.status >= 400:
        found += _of_problem(answer)
    return found


def _of_problem(answer: Answered) -> list[str]:
    kind = answer.headers.get("content-type", "")
    if kind != "application/problem+json":
        return [f"a refusal of the type {kind!r}"]
    if not answer.body:
        return []  # HEAD.
    try:
        problem: Any = json.loads(answer.body)
    except ValueError:
        return ["a refusal that is no JSON"]
    if STATUS.get(problem.get("code")) != answer.status or problem.get("status") != answer.status:
        return [f"a {answer.status} with the code {problem.get('code')!r}"]
    if ("retry-after" in answer.headers) != (answer.status in (429, 503)):
        return ["Retry-After at the wrong place"]
    return []
