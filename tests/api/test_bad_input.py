"""What nobody should send: each gets the contract's answer, never a 500, and changes nothing in Redis."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis import Redis

from tests.api.calling import Caller, bearer, dump, refused, token

EVERYTHING = "customer storefront payments ops"
UNKNOWN_ID = "0123456789ABCDEFabcdef"
LINE = {"sku": "tee", "quantity": 1}

NO_QUANTITIES: list[Any] = [
    None,
    0,
    -1,
    1_000_001,
    10**30,
    -(10**30),
    1.0,
    1.5,
    1e3,
    True,
    False,
    "1",
    "",
    [],
    [1],
    {},
]
NO_SKUS: list[Any] = [
    None,
    "",
    " a",
    "a  b",
    ".",
    "..",
    "a\u00a0b",
    "a\n",
    "a\x00",
    "x" * 129,
    "\u200d",
    1,
    True,
    ["tee"],
    {},
]
NO_WORDS: list[Any] = [None, "", "x" * 256, "line\nbreak", "nul\x00", "\x1b[31m", "\x7f", "\u2028", 1, True, [], {}]
NO_TIMES: list[Any] = [
    "",
    "soon",
    "2026-11-27",
    "2026-11-27T08:00:00",
    "2026-11-27 08:00:00Z",
    "2026-11-27T08:00:00+0100",
    "2026-11-27T08:00:00+99:99",
    "2026-02-30T08:00:00Z",
    "2026-11-27T25:00:00Z",
    "1969-12-31T23:59:59Z",
    "1970-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:00",
    "9999-12-31T23:59:59-23:59",
    "10000-01-01T00:00:00Z",
    "٢٠٢٦-11-27T08:00:00Z",
    1764230400,
    1.5,
    True,
    [],
    {},
]
NO_DOCUMENTS = [None, [], [LINE], "lines", 1, 1.5, True]


def shown(value: object) -> str:
    return repr(value)[:40]


@pytest.fixture
def anybody(stocked: Caller) -> Caller:
    """Somebody who may do everything."""
    return Caller(stocked.client, bearer(token("anybody", EVERYTHING)))


@pytest.fixture
def cart(stocked: Caller) -> str:
    """The path of a guest's cart with a tee."""
    guest = Caller(stocked.client)
    path = str(guest.post("/v1/carts").headers["Location"])
    assert guest.put(f"{path}/lines/tee", {"quantity": 1}).status_code == 200
    return path


@pytest.fixture
def unchanged(stocked: Caller, cart: str, fake_redis: Redis) -> Any:
    """Fails unless Redis is at the end as it was at the start."""
    before = dump(fake_redis)
    yield
    assert dump(fake_redis) == before


pytestmark = pytest.mark.usefixtures("unchanged")


def invalid(response: Any, *at: str) -> None:
    """The answer is 422, and its errors name the field `at`."""
    errors = refused(response, 422, "validation_failed")["errors"]
    for word in at:
        errors = errors[word]
    assert errors


@pytest.mark.parametrize("quantity", NO_QUANTITIES, ids=shown)
def test_only_a_whole_number_in_range_is_a_quantity(anybody: Caller, cart: str, quantity: Any) -> None:
    lines = [LINE, {"sku": "mug", "quantity": quantity}]
    invalid(anybody.post("/v1/reservations", {"lines": lines}), "lines", "1", "quantity")
    response = anybody.post(f"/v1/orders/{UNKNOWN_ID}/cancel", {"reason": "x", "lines": lines})
    invalid(response, "lines", "1", "quantity")
    for path in (cart, f"/v1/carts/{UNKNOWN_ID}"):
        invalid(anybody.put(f"{path}/lines/tee", {"quantity": quantity}), "quantity")


@pytest.mark.parametrize("sku", NO_SKUS, ids=shown)
def test_only_a_sku_is_a_sku(anybody: Caller, sku: Any) -> None:
    response = anybody.post("/v1/reservations", {"lines": [{"sku": sku, "quantity": 1}]})
    invalid(response, "lines", "0", "sku")


@pytest.mark.parametrize(
    "lines",
    [None, [], {}, "tee", 1, [LINE] * 201, [[LINE]], ["tee"], [None], [{}], [LINE | {"price": 1}], [LINE, 7]],
    ids=shown,
)
def test_lines_are_1_to_200_objects_of_sku_and_quantity(anybody: Caller, lines: Any) -> None:
    invalid(anybody.post("/v1/reservations", {"lines": lines}), "lines")


@pytest.mark.parametrize("seconds", [None, 0, -1, 901, 10**30, 1.0, 900.0, True, "60", "", [], {}], ids=shown)
def test_a_hold_lasts_1_to_900_whole_seconds(anybody: Caller, cart: str, seconds: Any) -> None:
    invalid(anybody.post("/v1/reservations", {"lines": [LINE], "hold_seconds": seconds}), "hold_seconds")
    invalid(anybody.post(f"/v1/reservations/{UNKNOWN_ID}/extend", {"hold_seconds": seconds}), "hold_seconds")
    invalid(anybody.post(f"{cart}/checkout", {"hold_seconds": seconds}), "hold_seconds")


@pytest.mark.parametrize("on_hand", [None, -1, 1_000_000_001, 10**30, 1.0, True, "1", [], {}], ids=shown)
def test_on_hand_is_a_whole_number_from_0(anybody: Caller, on_hand: Any) -> None:
    invalid(anybody.put("/v1/skus/tee", {"on_hand": on_hand, "name": "x"}), "on_hand")
    invalid(anybody.put("/v1/skus/new", {"on_hand": on_hand}), "on_hand")


@pytest.mark.parametrize("delta", [None, 0, 0.5, 1.0, True, "1", 1_000_000_001, -1_000_000_001, 10**30], ids=shown)
def test_a_delta_is_a_whole_number_but_0(anybody: Caller, delta: Any) -> None:
    invalid(anybody.post("/v1/skus/tee/adjustments", {"delta": delta, "reason": "x"}), "delta")


@pytest.mark.parametrize("words", NO_WORDS, ids=shown)
def test_words_are_1_to_255_printable_characters(anybody: Caller, words: Any) -> None:
    if words is not None:
        invalid(anybody.put("/v1/skus/tee", {"name": words}), "name")
    invalid(anybody.post("/v1/skus/tee/adjustments", {"delta": 1, "reason": words}), "reason")
    invalid(anybody.post(f"/v1/reservations/{UNKNOWN_ID}/commit", {"payment_id": words}), "payment_id")
    invalid(anybody.post(f"/v1/orders/{UNKNOWN_ID}/cancel", {"reason": words}), "reason")
    invalid(anybody.put("/v1/selling", {"paused": True, "reason": words}), "reason")


@pytest.mark.parametrize("time", NO_TIMES, ids=shown)
def test_a_time_has_a_zone_and_lies_between_1970_and_9999(anybody: Caller, time: Any) -> None:
    invalid(anybody.put("/v1/skus/tee", {"sale_starts_at": time}), "sale_starts_at")
    invalid(anybody.put("/v1/skus/tee", {"sale_ends_at": time}), "sale_ends_at")


@pytest.mark.parametrize("end", ["2026-11-27T07:59:59Z", "2026-11-27T08:00:00Z", "2026-11-27T08:30:00+01:00"])
def test_a_sale_ends_after_it_starts(anybody: Caller, end: str) -> None:
    window = {"sale_starts_at": "2026-11-27T08:00:00Z", "sale_ends_at": end}
    invalid(anybody.put("/v1/skus/tee", window), "sale_ends_at")
    invalid(anybody.put("/v1/skus/new", window), "sale_ends_at")


@pytest.mark.parametrize("paused", [0, 1, "true", "false", "", [], {}], ids=shown)
def test_paused_is_true_or_false(anybody: Caller, paused: Any) -> None:
    invalid(anybody.put("/v1/skus/tee", {"paused": paused}), "paused")
    invalid(anybody.put("/v1/selling", {"paused": paused, "reason": "x"}), "paused")


@pytest.mark.parametrize("limit", [0, -1, 1.0, True, "1", 10**30, []], ids=shown)
def test_a_limit_is_a_whole_number_from_1(anybody: Caller, limit: Any) -> None:
    invalid(anybody.put("/v1/skus/tee", {"limit_per_customer": limit}), "limit_per_customer")


BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("PUT", "/v1/skus/tee"): {"on_hand": 3},
    ("POST", "/v1/skus/tee/adjustments"): {"delta": 1, "reason": "x"},
    ("POST", "/v1/reservations"): {"lines": [LINE]},
    ("POST", f"/v1/reservations/{UNKNOWN_ID}/extend"): {"hold_seconds": 60},
    ("POST", f"/v1/reservations/{UNKNOWN_ID}/commit"): {"payment_id": "p"},
    ("POST", f"/v1/orders/{UNKNOWN_ID}/cancel"): {"reason": "x"},
    ("PUT", "/v1/selling"): {"paused": True, "reason": "x"},
    ("PUT", f"/v1/carts/{UNKNOWN_ID}/lines/tee"): {"quantity": 1},
}
"""Every route with a body, and one that it would take."""

every_route = pytest.mark.parametrize(("method", "path"), list(BODIES), ids=" ".join)


@every_route
def test_a_document_that_is_no_object_is_invalid(anybody: Caller, method: str, path: str) -> None:
    for document in NO_DOCUMENTS:
        data = json.dumps(document)
        invalid(anybody.send(method, path, data=data, content_type="application/json"), "body")


@every_route
def test_unknown_and_missing_fields_are_named(anybody: Caller, method: str, path: str) -> None:
    body = BODIES[method, path]
    for name in ("x", "__proto__", "ON_HAND", "", "\x00", "sale_starts_ms"):
        invalid(anybody.send(method, path, json=body | {name: 1}), name)
    if path != "/v1/skus/tee":
        for name in body:
            invalid(anybody.send(method, path, json={}), name)


@every_route
def test_what_is_not_json_is_a_bad_request(anybody: Caller, method: str, path: str) -> None:
    body = json.dumps(BODIES[method, path])
    for data in (
        b"",
        b" ",
        b"{",
        body.encode() + b"}",
        body.encode() + b"\x00",
        body.replace('"', "'").encode(),
        body.encode("utf-16"),
        b"\xef\xbb\xbf" + body.encode(),
        b'{"name": "\xff\xfe"}',
        b'{"name": "\xc3"}',
        rb'{"name": "\ud800"}',
        b'{"name": "a\nb"}',
        b'{"on_hand": NaN}',
        b'{"on_hand": Infinity}',
        b'{"on_hand": 01}',
        b"[" * 20_000,
        b'{"x":' * 5_000,
    ):
        response = anybody.send(method, path, data=data, content_type="application/json")
        refused(response, 400, "bad_request")


@every_route
def test_a_body_must_say_that_it_is_json(anybody: Caller, method: str, path: str) -> None:
    data = json.dumps(BODIES[method, path]).encode()
    for content_type in (
        None,
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json-patch+json",
        "application/jsonx",
        ";",
    ):
        refused(anybody.send(method, path, data=data, content_type=content_type), 400, "bad_request")


@every_route
def test_a_body_over_64_kib_is_too_large(anybody: Caller, method: str, path: str) -> None:
    for data in (b"x" * 65_537, json.dumps(BODIES[method, path] | {"x": "y" * 70_000}).encode(), b"[" * 100_000):
        response = anybody.send(method, path, data=data, content_type="application/json")
        refused(response, 413, "payload_too_large")


@every_route
def test_a_deeply_nested_body_is_refused_with_and_without_an_idempotency_key(
    anybody: Caller, method: str, path: str
) -> None:
    body = json.dumps(BODIES[method, path])
    for depth in (100, 250, 260, 900, 1_020):
        data = f'{body[:-1]}, "x": {"[" * depth}{"]" * depth}}}'
        for key in (None, "k"):
            response = anybody.send(method, path, data=data, content_type="application/json", key=key)
            assert response.status_code in (400, 422), response.text
            refused(
                response, response.status_code, "bad_request" if response.status_code == 400 else "validation_failed"
            )


@every_route
def test_an_idempotency_key_is_1_to_255_visible_ascii(anybody: Caller, method: str, path: str) -> None:
    for key in ("", "x" * 256, "a b", " ", "a\tb", "a\x7fb", "schlüssel", "\u00a0", "\x01"):
        refused(anybody.send(method, path, json=BODIES[method, path], key=key), 400, "bad_request")


def test_a_fulfilment_s_idempotency_key_is_looked_at_as_well(anybody: Caller) -> None:
    refused(anybody.post(f"/v1/orders/{UNKNOWN_ID}/fulfil", key="a b"), 400, "bad_request")


def test_a_body_of_just_64_kib_is_taken_apart(anybody: Caller) -> None:
    body = json.dumps({"lines": [LINE], "x": ""})
    data = body[:-2] + "y" * (65_536 - len(body)) + body[-2:]
    invalid(anybody.post("/v1/reservations", data=data, content_type="application/json"), "x")


@pytest.mark.parametrize("sku", ["a%20%20b", "%C2%A0", "a%00", "a%0A", "x" * 129, "%2e%2e", "%2e%2e%20", "%e2%80%8d"])
def test_what_is_no_sku_cannot_be_made_or_wanted_and_is_not_found(anybody: Caller, cart: str, sku: str) -> None:
    invalid(anybody.put(f"/v1/skus/{sku}", {"on_hand": 1}), "sku")
    invalid(anybody.put(f"{cart}/lines/{sku}", {"quantity": 1}), "sku")
    refused(anybody.get(f"/v1/skus/{sku}"), 404, "not_found")
    refused(anybody.get(f"/v1/availability/{sku}"), 404, "not_found")
    refused(anybody.post(f"/v1/skus/{sku}/adjustments", {"delta": 1, "reason": "x"}), 404, "not_found")


@pytest.mark.parametrize(
    "id", [UNKNOWN_ID, "x", "0", "x" * 5_000, "%00", "a%20b", "*", "..%20", "a%2Fb", "{p0}", "meta", "%F0%9F%92%A9"]
)
def test_what_is_no_id_is_not_found(anybody: Caller, id: str) -> None:
    reservation, order, cart = f"/v1/reservations/{id}", f"/v1/orders/{id}", f"/v1/carts/{id}"
    for response in (
        anybody.get(reservation),
        anybody.delete(reservation),
        anybody.post(f"{reservation}/extend", {"hold_seconds": 60}),
        anybody.post(f"{reservation}/commit", {"payment_id": "p"}),
        anybody.get(order),
        anybody.post(f"{order}/fulfil"),
        anybody.post(f"{order}/cancel", {"reason": "x"}),
        anybody.get(cart),
        anybody.put(f"{cart}/lines/tee", {"quantity": 1}),
        anybody.delete(f"{cart}/lines/tee"),
        anybody.delete(cart),
        anybody.post(f"{cart}/checkout"),
    ):
        refused(response, 404, "not_found")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("skus?cursor=", "cursor"),
        ("skus?cursor=a%20%20b", "cursor"),
        ("skus?cursor=%zz", "cursor"),
        ("skus?limit=1&limit=1", "limit"),
        ("skus?cursor=%ff", "cursor"),
        ("skus?cursor=a%0A", "cursor"),
        ("skus?limit=0", "limit"),
        ("skus?limit=-1", "limit"),
        ("skus?limit=1001", "limit"),
        ("skus?limit=", "limit"),
        ("skus?limit=1.0", "limit"),
        ("skus?limit=ten", "limit"),
        ("skus?limit=" + "9" * 5_000, "limit"),
        ("skus?offset=1", "offset"),
        ("audit?after=", "after"),
        ("audit?after=1", "after"),
        ("audit?after=-", "after"),
        ("audit?after=(1-1", "after"),
        ("audit?after=1-1%0A", "after"),
        ("audit?after=%D9%A1-%D9%A1", "after"),
        ("audit?after=9999999999999999999-1", "after"),
        ("audit?limit=0", "limit"),
        ("audit?limit=1001", "limit"),
        ("audit?sku=a%20%20b", "sku"),
        ("audit?sku=tee&sku=mug", "sku"),
        ("audit?op=nothing", "op"),
        ("audit?user=", "user"),
        ("audit?op=a%00", "op"),
        ("audit?reservation_id=" + "x" * 256, "reservation_id"),
        ("audit?actor=x", "actor"),
        ("availability", "sku"),
        ("availability?sku=tee&sku=%ff", "sku"),
        ("availability?" + "&".join(["sku=tee"] * 501), "sku"),
        ("availability?skus=tee", "skus"),
    ],
    ids=shown,
)
def test_a_wrong_query_names_its_parameter(anybody: Caller, query: str, field: str) -> None:
    invalid(anybody.get(f"/v1/{query}"), field)
