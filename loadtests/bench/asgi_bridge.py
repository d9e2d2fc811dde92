"""The service behind a server that speaks ASGI: the same app in the same greenlets, without the promises of our worker."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from api import wsgi
from engine import switch

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Bridge:
    """Made on the first call, because only then there is a loop."""

    def __init__(self) -> None:
        self._app: Any = None
        self._loop: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if self._app is None:
            self._loop = switch.run_on(asyncio.get_running_loop())
            self._app = wsgi.app()
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        status, headers, answer = await self._answered(_environ(scope, body))
        named = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": int(status[:3]), "headers": named})
        await send({"type": "http.response.body", "body": answer})

    def _answered(self, environ: dict[str, Any]) -> asyncio.Future[tuple[str, list[tuple[str, str]], bytes]]:
        answered: asyncio.Future[tuple[str, list[tuple[str, str]], bytes]]
        answered = asyncio.get_running_loop().create_future()

        def run() -> None:
            begun: list[Any] = []
            parts = self._app(environ, lambda status, headers, error=None: begun.extend((status, headers)))
            answered.set_result((begun[0], begun[1], b"".join(parts)))

        self._loop.start(run)
        return answered


def _environ(scope: Scope, body: bytes) -> dict[str, Any]:
    path = scope["raw_path"].partition(b"?")[0].decode("latin-1")
    environ = {
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": path,
        "RAW_URI": path,
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": "x",
        "SERVER_PORT": "0",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SCRIPT_NAME": "",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
    }
    for name, value in scope["headers"]:
        text = name.decode("latin-1").upper().replace("-", "_")
        environ[text if text in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{text}"] = value.decode("latin-1")
    return environ


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


app = Bridge()
