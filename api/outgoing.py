"""An answer that is ready for the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class Outgoing:
    """A whole body with its headers, as a WSGI application: Flask takes it for a response, and the worker needs no Flask.

    An empty body has no type and no length; one without a type has both among its headers. `code` is the word by which the answer is counted.
    """

    __slots__ = ("body", "code", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        content_type: str = "",
        headers: Mapping[str, str] | None = None,
        code: str = "ok",
    ) -> None:
        self.status = status
        self.code = code
        self.body = body
        self.headers: dict[str, str] = {**headers} if headers else {}
        if body and content_type:
            self.headers |= {"Content-Type": content_type, "Content-Length": str(len(body))}

    def not_modified(self) -> None:
        """Leave out what the client has already."""
        self.status, self.body = 304, b""
        for name in ("Content-Type", "Content-Length"):
            self.headers.pop(name, None)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response(STATUS_LINES[self.status], [*self.headers.items()])
        return [self.body]
