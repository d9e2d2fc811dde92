"""The console: a page for people on call. It holds no data; its scripts fetch that with the operator's token.

And the page at `/`, for whoever opens the service's address in a browser.
"""

from __future__ import annotations

from importlib.resources import files

from flask import Blueprint, Response, abort

blueprint = Blueprint("console", __name__)

PAGE, START = "index.html", "start.html"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}

HEADERS = {
    # Trusted types: the browser itself refuses to make markup of text.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def _files() -> dict[str, tuple[bytes, str]]:
    """Every file of the console with its type: there is no path that leads to another."""
    found = [path for path in (files("api") / "console").iterdir() if path.is_file()]
    return {path.name: (path.read_bytes(), TYPES["." + path.name.rpartition(".")[2]]) for path in found}


FILES = _files()


@blueprint.get("/")
def start() -> Response:
    return _served(START)


@blueprint.get("/console")
def page() -> Response:
    return _served(PAGE)


@blueprint.get("/console/<name>")
def asset(name: str) -> Response:
    if name not in FILES or name in (PAGE, START):
        abort(404)
    return _served(name)


def _served(name: str) -> Response:
    data, content_type = FILES[name]
    return Response(data, content_type=content_type, headers=HEADERS)
