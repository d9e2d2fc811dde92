"""SKUs of every kind through a real service: in paths, queries and bodies, in the record and in the metrics."""

from __future__ import annotations

import socket
import unicodedata
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import seed
from tests.command.service import Service
from tests.waiting import wait_until

SKUS = [
    *(
        "Red Shirt/XL",
        "a+b",
        "50%",
        "#1",
        "größe-42",
        "a=b",
        "日本",
        "x" * 128,
        "%2F",
        "a/../b",
        "?",
        "{p0}:meta",
        '"q"',
        "\\",
    ),
    *("a&b", "100% #1/größe a=b+c", "👟", "/", "a//b", "..."),
]

WHAT_HAPPENED = ["recount", "restock", "restock", "reserve", "reserve", "commit", "cancel"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One that has no SKUs yet, as any name may be that of another test's."""
    running = Service(seed.plant(tmp_path_factory.mktemp("names") / "data", tmp_path_factory))
    yield running
    assert running.stop() == 0


def forms(sku: str) -> list[str]:
    """The ways in which a path may have a SKU."""
    whole = "".join(f"%{byte:02x}" for byte in sku.encode())
    return [quote(sku, safe=""), whole, quote(unicodedata.normalize("NFD", sku), safe="")]


@pytest.mark.parametrize("sku", SKUS)
def test_a_sku_of_any_alphabet_is_sold_from_stock_to_the_record(service: Service, sku: str) -> None:
    ops, ann, psp = (service.token(*who) for who in (("o", "ops"), ("ann", "customer"), ("psp", "payments")))
    decomposed = unicodedata.normalize("NFD", sku)
    path, *others = (f"/v1/skus/{form}" for form in forms(sku))
    created = service.call("PUT", path, {"on_hand": 7, "name": sku}, token=ops)
    assert (created.status, created.document["sku"]) == (201, sku)
    for other in others:
        assert service.call("PUT", other, {"name": f"the same as {other}"[:200]}, token=ops).status == 200
        assert service.call("GET", other, token=ops).document["sku"] == sku
        adjusted = service.call("POST", f"{other}/adjustments", {"delta": 1, "reason": "x"}, token=ops)
        assert adjusted.document["sku"] == sku
    for form in forms(sku):
        assert service.call("GET", f"/v1/availability/{form}").document["sku"] == sku
    [item] = service.call("GET", f"/v1/availability?sku={quote_plus(decomposed)}").document["items"]
    assert (item["sku"], item["status"], item["available"]) == (sku, "available", 9)

    cart = service.call("POST", "/v1/carts", token=ann).headers["Location"]
    for form in forms(sku):
        line = f"{cart}/lines/{form}"
        assert service.call("PUT", line, {"quantity": 2}, token=ann).document["lines"][0]["sku"] == sku
        assert service.call("DELETE", line, token=ann).document["lines"] == []
    service.call("PUT", line, {"quantity": 2}, token=ann)
    checked_out = service.call("POST", f"{cart}/checkout", token=ann).document
    assert checked_out["lines"] == [{"sku": sku, "quantity": 2}]

    lines = [{"sku": decomposed, "quantity": 1}, {"sku": sku, "quantity": 1}]
    held = service.call("POST", "/v1/reservations", {"lines": lines}, token=ann).document
    assert held["lines"] == [{"sku": sku, "quantity": 2}]
    refused = service.call("POST", "/v1/reservations", {"lines": [{"sku": sku, "quantity": 99}]}, token=ann).document
    assert [line["sku"] for line in refused["lines"]] == [sku]
    paid = service.call("POST", f"/v1/reservations/{held['id']}/commit", {"payment_id": f"p {held['id']}"}, token=psp)
    order = f"/v1/orders/{paid.document['order']['id']}"
    body = {"reason": "x", "lines": [{"sku": decomposed, "quantity": 1}]}
    assert service.call("POST", f"{order}/cancel", body, token=ops, key=held["id"]).document["cancelled_lines"] == [
        {"sku": sku, "quantity": 1}
    ]
    assert service.call("GET", order, token=ann).document["lines"] == [{"sku": sku, "quantity": 2}]

    for written in (sku, decomposed):
        events = service.call("GET", f"/v1/audit?sku={quote_plus(written)}", token=ops).document["items"]
        ops_told = [event["op"] for event in events]
        assert [op for op in ops_told if op != "configure"] == WHAT_HAPPENED
        assert all(line["sku"] == sku for event in events for line in event["lines"])
    found = [item["sku"] for item in service.call("GET", "/v1/skus?limit=1000", token=ops).document["items"]]
    assert sku in found
    shown = service.call("GET", f"/v1/skus?limit=1&cursor={quote_plus(sku)}", token=ops).document["items"]
    assert [item["sku"] for item in shown] == found[found.index(sku) + 1 :][:1]


def test_metrics_have_every_sku_as_a_label(service: Service) -> None:
    ops, ann = service.token("o", "ops"), service.token("ann", "customer")
    for sku in SKUS:
        service.call("PUT", f"/v1/skus/{quote(sku, safe='')}", {"on_hand": 9_000}, token=ops)
        held = service.call("POST", "/v1/reservations", {"lines": [{"sku": sku, "quantity": 5_000}]}, token=ann)
        assert held.status == 201

    def labels() -> set[str]:
        text = service.call("GET", "/metrics").document.decode()
        families = {family.name: family for family in text_string_to_metric_families(text)}
        return {sample.labels["sku"] for sample in families["stockade_sku_units"].samples}

    assert wait_until(lambda: set(SKUS) <= labels(), 40)


def raw(service: Service, target: bytes) -> bytes:
    token = service.token("o", "ops").encode()
    with socket.create_connection((service.host, service.port), timeout=20) as connection:
        head = b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + token
        connection.sendall(head + b"\r\n\r\n")
        found = b""
        while more := connection.recv(65_536):
            found += more
    return found


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (b"/v1/skus/%zz", b"A % in the path"),
        (b"/v1/skus/50%", b"A % in the path"),
        (b"/v1/availability/50%2", b"A % in the path"),
        (b"/v1/skus/%ff", b"The path is not UTF-8"),
        (b"/v1/skus/%ed%a0%80", b"The path is not UTF-8"),
        (b"/v1/skus/\xff", b"The path is not UTF-8"),
        (b"/v1/skus/%c0%af", b"The path is not UTF-8"),
    ],
)
def test_a_path_that_is_no_percent_encoded_utf_8_gets_one_clear_line(
    service: Service, target: bytes, words: bytes
) -> None:
    head, _, body = raw(service, target).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"Cache-Control: no-store" in head
    assert words in body


@pytest.mark.parametrize(
    "target", [b"/v1/skus/%2e%2e", b"/v1/skus/..", b"/v1/skus/%2e", b"/v1/skus/a%00", b"/v1/skus/a%0d%0ab"]
)
def test_a_path_whose_word_can_be_no_sku_is_not_found(service: Service, target: bytes) -> None:
    head, _, body = raw(service, target).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert b"No SKU can be called" in body


def test_a_path_may_have_letters_as_they_are_and_a_host_before_it(service: Service) -> None:
    service.call("PUT", f"/v1/skus/{quote('größe 1', safe='')}", {"on_hand": 1}, token=service.token("o", "ops"))
    for target in ("/v1/skus/größe%201", "http://shop.example/v1/skus/gr%C3%B6%C3%9Fe%201", "/v1/skus/gro\u0308ße%201"):
        assert raw(service, target.encode()).startswith(b"HTTP/1.1 200 "), target


def test_five_hundred_skus_of_any_length_fit_into_one_query(service: Service) -> None:
    query = "&".join(f"sku={number:0128}" for number in range(500))
    answer = service.call("GET", f"/v1/availability?{query}")
    assert answer.status == 200
    assert len(answer.document["items"]) == 500
