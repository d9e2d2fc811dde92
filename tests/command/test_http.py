"""The API as its clients meet it: over HTTP, under gunicorn, with a real server behind it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from tests.command.service import Service, send
from tests.waiting import wait_until

TWO_MIB = b" " * (2 * 1024 * 1024)


def test_a_checkout_goes_from_stock_to_a_shipped_order(service: Service) -> None:
    ops, ann, psp = (service.token(*who) for who in (("o", "ops"), ("ann", "customer"), ("psp", "payments")))
    assert service.call("GET", "/readyz").document["checks"] == {"redis": "ok", "gate": "open", "keeper": "alive"}
    assert service.call("PUT", "/v1/skus/http-1", {"on_hand": 5}, token=ops).status == 201
    assert service.call("GET", "/v1/availability/http-1").document["status"] == "available"
    body = {"lines": [{"sku": "http-1", "quantity": 5}]}
    first, again = (service.call("POST", "/v1/reservations", body, token=ann, key="k") for _ in "12")
    assert (first.status, again.status) == (201, 201)
    assert first.document == again.document
    assert again.headers["Idempotent-Replayed"] == "true"
    path = first.headers["Location"]
    assert service.call("GET", "/v1/availability/http-1").document["status"] == "all_held"
    assert service.call("POST", "/v1/reservations", body, token=ann).document["code"] == "lines_unavailable"
    paid = service.call("POST", f"{path}/commit", {"payment_id": "p"}, token=psp)
    assert (paid.status, paid.document["late"]) == (200, False)
    order = f"/v1/orders/{paid.document['order']['id']}"
    assert service.call("POST", f"{order}/fulfil", token=ops).document["state"] == "fulfilled"
    assert service.call("GET", order, token=ann).document["state"] == "fulfilled"
    sku = service.call("GET", "/v1/skus/http-1", token=ops).document
    assert [sku[name] for name in ("on_hand", "available", "reserved", "allocated")] == [0, 0, 0, 0]
    ops_seen = service.call("GET", "/v1/audit?sku=http-1", token=ops).document["items"]
    assert [event["op"] for event in ops_seen] == ["recount", "reserve", "commit", "fulfil"]


def test_a_hold_ends_by_itself_and_its_stock_comes_back(service: Service) -> None:
    ops, ann = service.token("o", "ops"), service.token("ann", "customer")
    service.call("PUT", "/v1/skus/http-2", {"on_hand": 1}, token=ops)
    body = {"lines": [{"sku": "http-2", "quantity": 1}], "hold_seconds": 1}
    held = service.call("POST", "/v1/reservations", body, token=ann)
    started_s = time.monotonic()
    path = held.headers["Location"]

    def state() -> str:
        return str(service.call("GET", path, token=ann).document["state"])

    assert state() == "reserved"
    wait_until(lambda: state() == "expired", 5)
    assert 0.8 < time.monotonic() - started_s < 3
    assert service.call("GET", "/v1/availability/http-2").document["available"] == 1
    assert service.call("POST", f"{path}/extend", {"hold_seconds": 9}, token=ann).document["code"] == (
        "reservation_expired"
    )


def test_a_body_of_2_mib_is_refused_and_the_connection_goes_on(service: Service) -> None:
    ann = service.token("ann", "customer")
    connection = service.connection()
    for _ in range(3):
        refused = send(connection, "POST", "/v1/reservations", TWO_MIB, token=ann)
        assert (refused.status, refused.document["code"]) == (413, "payload_too_large")
        assert send(connection, "GET", "/healthz").status == 200
    connection.close()


def test_a_body_of_2_mib_in_chunks_is_refused_too(service: Service) -> None:
    connection = service.connection()
    headers = {"Authorization": f"Bearer {service.token('ann', 'customer')}", "Content-Type": "application/json"}
    body = (TWO_MIB[:8_192] for _ in range(256))
    connection.request("POST", "/v1/reservations", body, headers, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 413
    assert b"payload_too_large" in response.read()
    connection.close()


def test_large_bodies_leave_other_requests_alone(service: Service) -> None:
    ann = service.token("ann", "customer")
    with ThreadPoolExecutor(8) as pool:
        large = [pool.submit(service.call, "POST", "/v1/reservations", TWO_MIB, token=ann) for _ in range(8)]
        small = [pool.submit(service.call, "GET", "/v1/availability?sku=nothing") for _ in range(16)]
        assert {call.result().status for call in large} == {413}
        assert {call.result().status for call in small} == {200}
