"""Bodies that nobody should send, and types and encodings that don't fit them."""

from __future__ import annotations

import gzip
import json
from random import Random
from typing import Any

LINE = {"sku": "fuzz", "quantity": 1}

TEMPLATES: dict[tuple[str, str], Any] = {
    ("PUT", "/v1/skus/fuzz-other"): {"on_hand": 3, "name": "x", "sale_starts_at": "2026-11-27T08:00:00Z"},
    ("POST", "/v1/skus/fuzz-other/adjustments"): {"delta": 1, "reason": "x"},
    ("POST", "/v1/carts"): {"lines": [LINE]},
    ("PUT", "/v1/carts/{cart}"): {"lines": [LINE]},
    ("PUT", "/v1/carts/{cart}/lines/fuzz"): {"quantity": 1},
    ("POST", "/v1/carts/{cart}/checkout"): {"hold_seconds": 5},
    ("POST", "/v1/reservations"): {"lines": [LINE], "hold_seconds": 5},
    ("POST", "/v1/reservations/batch"): {"reservations": [{"user": "u", "lines": [LINE], "hold_seconds": 5}]},
    ("POST", "/v1/reservations/{held}/extend"): {"hold_seconds": 5},
    ("POST", "/v1/reservations/{held}/commit"): {"payment_id": "p"},
    ("POST", "/v1/orders/{order}/cancel"): {"reason": "x"},
    ("PUT", "/v1/selling"): {"paused": False, "reason": "x"},
    ("POST", "/v1/payments/webhook"): {"id": "e", "type": "payment.failed", "reservation_id": "r", "payment_id": "p"},
}
"""Every route with a body, and one that it takes."""

LEAVES = [
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1e-999", b"1E400", b"-0", b"0.1", b"1.0", b"01", b"+1"),
    *(b"0x10", b"1_0", b"9" * 30, b"-" + b"9" * 30, b"9" * 5_000, b"18446744073709551616", b"9223372036854775808"),
    *(b"true", b"null", b"[]", b"{}", b'""', b'" "', b'"\\u0000"', b'"\\ud800"', b'"\\udfff\\ud800"', b'"\xff\xfe"'),
    *(b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\\u202e"', b'"\xe2\x80\xae"', b'"\\n\\r"', b'"a\nb"', b'"\x1b[31m"'),
    *(b'"*"', b'"{p0}"', b'"stk:{p0}:meta"', b'"a=1 b=2"', b'"\';DROP TABLE ledger;--"', b'"%s%n%x"', b'"${jndi:x}"'),
    *(b'"__proto__"', b'"\xf0\x9f\x92\xa9"', b'"' + b"x" * 60_000 + b'"', b'"' + b"\\u0041" * 9_000 + b'"'),
    *(b"[" * 500 + b"]" * 500, b'{"a":' * 500 + b"1" + b"}" * 500, b"[" * 30_000, b"[" * 30_000 + b"]" * 30_000),
    *(b'{"__proto__":1}', b'{"sku":"fuzz","sku":"fuzz-2"}', b"'x'", b"undefined", b"/**/1", b"1 1", b""),
]
"""Values, as they stand in the text."""

TYPES = [
    *("", "text/plain", "application/json; charset=utf-16", "application/json; charset=latin-1", "application/json;"),
    *(
        "application/JSON",
        "application/json, text/plain",
        "application/json;charset",
        "application/json; a=" + "x" * 4_000,
    ),
    *(
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        "\xff\xfe",
        "/",
        ";",
    ),
    *('application/json; charset="', "application/json; x*=utf-8''%ff", "application/json; x*0*=a", "text/xml"),
]

BOMB = gzip.compress(b" " * 30_000_000, mtime=0)
"""30 KB that would be 30 MB."""

ENCODINGS = ["gzip", "deflate", "br", "identity", "gzip, gzip", "x"]


def made(pick: Random) -> tuple[str, str, dict[str, str], bytes]:
    """A request with a body: method, path, headers, body. Many are nearly right, so that they get far."""
    method, path = pick.choice(list(TEMPLATES))
    text = json.dumps(TEMPLATES[method, path]).encode()
    headers = {"Content-Type": "application/json"}
    way = pick.randrange(8)
    if way < 4:
        text = _with_a_leaf(pick, TEMPLATES[method, path])
    elif way == 4:
        text = _with_a_key_twice(pick, text)
    elif way == 5:
        text = pick.choice((b"\xef\xbb\xbf" + text, text.decode().encode("utf-16"), text + b"\0", text * 2, text[:-1]))
    elif way == 6:
        headers["Content-Type"] = pick.choice(TYPES)
    else:
        headers["Content-Encoding"] = pick.choice(ENCODINGS)
        text = pick.choice((text, gzip.compress(text, mtime=0), BOMB))
    if pick.random() < 0.3:
        headers["Idempotency-Key"] = pick.choice(("k", "x" * 255, str(pick.random())))
    return method, path, headers, text


def _with_a_leaf(pick: Random, template: Any) -> bytes:
    """The template, with one of its values, or a new one, replaced by something that needn't be JSON."""
    document = json.loads(json.dumps(template))
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            places.append((value, name))
            if isinstance(inner, dict | list):
                walk(inner)

    walk(document)
    value, name = pick.choice([*places, (document, "new")])
    value[name] = "@@"
    return json.dumps(document).encode().replace(b'"@@"', pick.choice(LEAVES))


def _with_a_key_twice(pick: Random, text: bytes) -> bytes:
    return text[:-1] + b", " + text[1:-1] + b"}" if pick.random() < 0.5 else b'{"a": 1, "a": 2, ' + text[1:]
