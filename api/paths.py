"""Paths as they were sent: percent-encoded UTF-8, in which an encoded slash belongs to the word that it stands in.

WSGI's `PATH_INFO` is decoded, so `Red%20Shirt%2FXL` would be two words. `decode` replaces it by the *routing form*: decoded,
but with `/` and `%` inside a word still percent-encoded. Both routers, the dicts of `api.app` and Flask's, split that at its
slashes, and `word` gives what a word of it stands for.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from gunicorn.util import split_request_uri

from api.problems import Problem

NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
KEPT = re.compile(r"%(2[Ff]|25)")
"""Escapes of `/` and of `%`."""


def decode(environ: dict[str, Any]) -> None:
    """Put the routing form of the path into `PATH_INFO`.

    Raises:
        Problem: `bad_request`, if the path isn't percent-encoded UTF-8.
    """
    sent: str = environ.get("RAW_URI", "")
    if "%" not in sent and environ["PATH_INFO"].isascii():
        return
    path = split_request_uri(sent).path if sent else environ["PATH_INFO"]
    if NO_ESCAPE.search(path):
        raise Problem(
            "bad_request", "A % in the path is not followed by two hexadecimal digits; write % itself as %25."
        )
    data = unquote_to_bytes(KEPT.sub(r"%25\1", path).encode("latin-1"))
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise Problem("bad_request", "The path is not UTF-8, percent-encoded.") from error
    environ["PATH_INFO"] = data.decode("latin-1")


def word(routed: str) -> str:
    """What a word of the routing form stands for."""
    if "%" not in routed:
        return routed
    return routed.replace("%2F", "/").replace("%2f", "/").replace("%25", "%")
