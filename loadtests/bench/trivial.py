"""What a front can do at best: apps that do nothing, behind the same gunicorn settings and called in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask

ANSWER = {"message": "Hello, World!"}


def hello() -> Flask:
    """The plainest Flask app there is. The body is left unread."""
    app = Flask("hello")

    @app.post("/v1/reservations")
    def answer() -> tuple[dict[str, str], int]:
        return ANSWER, 201

    return app


def bare() -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    """The same without Flask."""
    body = b'{"message":"Hello, World!"}'
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]

    def answer(environment: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response("201 Created", headers)
        return [body]

    return answer
