"""One HTTP request as the worker hands it over: read from the WSGI environment itself, which costs a tenth of Flask's view of it."""

from __future__ import annotations

import re
from typing import Any

import orjson
from werkzeug.http import parse_options_header

from api.problems import Problem
from engine.ids import random_word

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def is_spoiled(stream: Any) -> bool:
    """Whether nobody can tell where the request ends (`api.http1`)."""
    return getattr(stream, "spoiled", False)


class Incoming:
    """Headers as WSGI has them: bytes as Latin-1 text."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ
        self.method: str = environ["REQUEST_METHOD"]
        self._body: bytes | None = None

    @property
    def request_id(self) -> str:
        """The caller's own, if it can be one, or a new one; the same as long as the request lasts."""
        known: str | None = self.environ.get("stockade.request_id")
        if known is None:
            given = self.environ.get("HTTP_X_REQUEST_ID", "")
            known = self.environ["stockade.request_id"] = given if REQUEST_ID.fullmatch(given) else random_word()
        return known

    def header(self, name: str) -> str | None:
        """`name` as WSGI has it: `HTTP_STOCKADE_USER`."""
        return self.environ.get(name)

    @property
    def is_json(self) -> bool:
        declared = self.environ.get("CONTENT_TYPE", "")
        return declared == "application/json" or parse_options_header(declared)[0].lower() == "application/json"

    @property
    def has_body(self) -> bool:
        return self.environ.get("CONTENT_LENGTH", "") not in ("", "0") or "HTTP_TRANSFER_ENCODING" in self.environ

    def sends_anything(self) -> bool:
        """Whether a request that has a body has one that isn't empty. Only of a body in chunks is something read."""
        return "HTTP_TRANSFER_ENCODING" not in self.environ or bool(self._taken(1))

    def body(self, most_bytes: int) -> bytes:
        """Read it, once.

        Raises:
            Problem: `payload_too_large`, or `bad_request`: it ends too soon.
        """
        if self._body is None:
            self._body = self._read(most_bytes)
        return self._body

    def _read(self, most_bytes: int) -> bytes:
        length = self.environ.get("CONTENT_LENGTH", "")
        chunked = "HTTP_TRANSFER_ENCODING" in self.environ
        # The worker refuses lengths that are no numbers, and chunks with a length beside them.
        if not chunked and int(length or 0) > most_bytes:
            raise Problem("payload_too_large", "")
        body = self._taken(most_bytes + 1 if chunked else int(length or 0))
        if len(body) > most_bytes:
            raise Problem("payload_too_large", "")
        if not chunked and len(body) < int(length or 0):
            raise Problem("bad_request", "The body ends before its Content-Length.")
        return body

    def _taken(self, bytes_wanted: int) -> bytes:
        stream = self.environ["wsgi.input"]
        try:
            return bytes(stream.read(bytes_wanted))
        except OSError as error:
            raise Problem("bad_request", "The body is not valid HTTP, or did not come in time.") from error


def canonical(document: Any) -> bytes:
    """A JSON document as bytes, the same whatever the order of its fields.

    Raises:
        Problem: `bad_request`: it is nested deeper than can be written.
    """
    try:
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:  # orjson reads deeper documents than it writes.
        raise Problem("bad_request", "The body is nested too deep.") from error
