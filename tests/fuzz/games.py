"""Pieces of requests that aren't quite HTTP. One a line, with Python's escapes."""

from __future__ import annotations


def pieces(text: str) -> list[bytes]:
    lines = text.strip("\n").split("\n")
    return [line.encode("latin-1").decode("unicode_escape").encode("latin-1") for line in lines]


LINES = [
    *pieces(r"""
GET /healthz
GET

\r\n
GET /healthz HTTP/0.9
GET /healthz HTTP/1.0
GET /healthz HTTP/1.2
GET /healthz HTTP/2.0
GET  /healthz  HTTP/1.1
GET\t/healthz\tHTTP/1.1
\x20GET /healthz HTTP/1.1
GET /healthz HTTP/1.1 x
GET /healthz http/1.1
GET /healthz HTTP/1.10
GET /healthz HTTP/1.1\r
\0
GET /\0healthz HTTP/1.1
GET http://evil.example/v1/skus HTTP/1.1
GET //evil.example/v1/skus HTTP/1.1
GET * HTTP/1.1
OPTIONS * HTTP/1.1
CONNECT evil.example:443 HTTP/1.1
GET http:// HTTP/1.1
GET http://[ HTTP/1.1
PRI * HTTP/2.0\r\n\r\nSM\r\n
PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\nGET /healthz HTTP/1.1
GET /\xff\xfe HTTP/1.1
\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00
GET /healthz HTTP/1.1\nX: y
GET ?sku=a HTTP/1.1
GET #a HTTP/1.1
GET /v1/availability?sku=%ff%fe&sku=%00 HTTP/1.1
GET /%zz HTTP/1.1
"""),
    b"GET /" + b"a" * 9_000 + b" HTTP/1.1",
    b"GET /healthz?" + b"a=b&" * 3_000 + b" HTTP/1.1",
    bytes(range(256)) * 8,
]
"""Request lines."""

HEADERS = [
    *pieces(r"""
: x
X
X : y
X\0: y
X: \0
X: a\x01b
X: a\x7fb
\x20folded: x
X: y\r\n folded
\xff: x
Host: y
Host: a,b
Expect: 100-continue
Expect: x
Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings
Connection: close, keep-alive
Connection: x, y
Keep-Alive: timeout=999999
TE: trailers
SCRIPT_NAME: /v1
Authorization: Basic eDp4
AUTHORIZATION: bearer
Authorization:
Authorization: Bearer \xff
Authorization: Bearer a.b.c\tX
Stockade-User: a\r\nStockade-User: b
Stockade-User: \xff
Stockade-User:
Stockade-User: \xc3\xa4
Stockade_User: ann
Idempotency-Key: a\r\nIdempotency-Key: b
Idempotency-Key: \xff
X-Request-Id: a\nb
X-Request-Id: {}\x1b[31m
X-Request-Id: ../../etc
X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off
X-Forwarded-For: 1.2.3.4
X-HTTP-Method-Override: DELETE
X-Original-URL: /v1/skus
Range: bytes=0-0,1-1
Accept: */*;q=x
If-None-Match: *
Content-Type: application/json\r\nContent-Type: text/plain
Content-Length: 0\r\nContent-Length: 0
"""),
    b"X" * 9_000 + b": y",
    b"X: " + b"y" * 9_000,
    b"\r\n".join([b"X: y"] * 200),
    b"\r\n".join([b"X: " + b"y" * 8_000] * 60),
    b"Authorization: Bearer " + b"a" * 8_000,
    b"Accept-Encoding: " + b"gzip, " * 900,
    b"Cookie: " + b"a=b; " * 1_500,
]
"""Headers in a request that is otherwise sound."""

FRAMINGS = [
    *pieces(r"""
Content-Length: {n}\r\nTransfer-Encoding: chunked
Transfer-Encoding: chunked\r\nContent-Length: {n}
Content-Length: {n}\r\nContent-Length: {n}
Content-Length: 5\r\nContent-Length: {n}
Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked
Content-Length: {n}\r\nTransfer-Encoding : chunked
Content-Length: {n}\r\n Transfer-Encoding: chunked
Content-Length: {n}\r\nTransfer_Encoding: chunked
Content-Length: {n}\r\nX: x\nTransfer-Encoding: chunked
Content-Length: {n}\r\nX: x\rTransfer-Encoding: chunked
Content-Length: {n}\r\nTransfer-Encoding\0: chunked
Content-Length: -1
Content-Length: +5
Content-Length: 5,5
Content-Length: 0x5
Content-Length: 5 5
Content-Length:
Content-Length: \xb2
Content-Length: 5\0
Content-Length: 1e1
Content-Length: 5;
Content-Length: 18446744073709551621
Transfer-Encoding: xchunked
Transfer-Encoding: chunked, chunked
Transfer-Encoding: chunked, identity
Transfer-Encoding: gzip
Transfer-Encoding: \x0bchunked
Transfer-Encoding: chunked\x0b
Transfer-Encoding: 'chunked'
Transfer-Encoding:
Transfer-Encoding: chunked;q=1
"""),
    b"Content-Length: " + b"9" * 5000,
]
"""Two ways to say how long a body is, or none that is sound. `{n}` is how long it really is."""

SOUND_CHUNKS = [
    *pieces(r"""
d\r\n{"lines": []}\r\n0\r\n\r\n
d;x=y\r\n{"lines": []}\r\n0\r\n\r\n
0d\r\n{"lines": []}\r\n0\r\nA: b\r\n\r\n
"""),
    b"1\r\n{\r\n" * 2_000 + b"0\r\n\r\n",
    b"0" * 9_000 + b"5\r\n12345\r\n0\r\n\r\n",
]

UNSOUND_CHUNKS = [
    *pieces(r"""
d\n{"lines": []}\n0\n\n
5\r\n1234567\r\n0\r\n\r\n
5\r\n12345XX0\r\n\r\n
\r\n\r\n
5\r\n
-1\r\n\r\n
0x5\r\n12345\r\n0\r\n\r\n
ffffffffffffffffff\r\n
5 \r\n12345\r\n0\r\n\r\n
g\r\n
5;\r\r\n12345\r\n0\r\n\r\n
0\r\nContent-Length: 5\r\n\r\n
0\r\nHost: y\r\n\r\n
0\r\nbad\r\n\r\n
"""),
    b"0;" + b"x" * 9_000,
    b"0\r\n" + b"a: b\r\n" * 500 + b"\r\n",
]

GUARDED = ("/v1/skus", "/v1/audit", "/v1/orders/{order}", "/v1/reservations/{held}")
"""Paths that need a token."""

STARTS = [
    "/",
    "/",
    "//",
    "/healthz/../",
    "/availability/..;/",
    "http://x/",
    "/console/../",
    "/docs/../",
    "/docs/%2e%2e/",
    "/%2e%2e/",
]
SLASHES = [
    "/",
    "//",
    "/./",
    "/x/../",
    "%2f",
    "%2F",
    "\\",
    "/%2e/",
    "/x/%2e%2e/",
    "/;a=b/",
    "/%00/",
    "%e2%88%95",
    "%c0%af",
    "%252f",
]
ENDS = ["", "", *["/", "//", "?", "#", "%00", "/.", "%20", ".json", "/..", "%0d%0aX:y"], f"?sku={'a' * 70}"]
"""Other ways to begin a path, to go on, and to end."""

METHODS = [
    "get",
    "GeT",
    "HEAD",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "PROPFIND",
    "G@T",
    "DELETE",
    "PUT",
    "POST",
    "GET,PUT",
    "CONNECT",
    "*",
    "İ",
    "X" * 200,
]
ANYWHERE = (
    *("/v1/skus", "/v1/selling", "/v1/reservations/batch", "/v1/orders/{order}"),
    *("/metrics", "/healthz", "/docs", "/console/page.js", "/nowhere"),
)
