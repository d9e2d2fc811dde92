"""The API as its clients meet it: over HTTP, under gunicorn, with a real server behind it."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from api.views.health import READY
from tests.command.service import Service, send
from tests.waiting import wait_until

TWO_MIB = b" " * (2 * 1024 * 1024)


def test_a_checkout_goes_from_stock_to_a_shipped_order(service: Service) -> None:
    ops, ann, psp = (service.token(*who) for who in (("o", "ops"), ("ann", "customer"), ("psp", "payments")))
    assert service.call("GET", "/readyz").document["checks"] == READY
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


def test_a_hundred_long_skus_fit_into_one_query(service: Service) -> None:
    query = "&".join(f"sku={number:064}" for number in range(100))
    answer = service.call("GET", f"/v1/availability?{query}")
    assert answer.status == 200
    assert len(answer.document["items"]) == 100


@pytest.mark.parametrize(
    "trailer", [b"bad trailer", b"a: b\0c", b"\r\n".join([b"a: b"] * 300)], ids=["bad", "nul", "many"]
)
@pytest.mark.parametrize("known", [True, False])
def test_a_broken_chunked_body_is_no_fault_of_ours(service: Service, trailer: bytes, known: bool) -> None:
    token = f"Authorization: Bearer {service.token('ann', 'customer')}\r\n" if known else ""
    head = f"POST /v1/reservations HTTP/1.1\r\nHost: x\r\n{token}Content-Type: application/json\r\n"
    with socket.create_connection((service.host, service.port), timeout=20) as connection:
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + trailer + b"\r\n\r\n")
        first_line = connection.recv(4096).split(b"\r\n")[0]
    assert first_line.split()[1] in ((b"400", b"422") if known else (b"401",))


def test_a_client_that_falls_silent_in_its_body_is_not_waited_for_long(service: Service) -> None:
    head = b"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
    with socket.create_connection((service.host, service.port), timeout=20) as connection:
        connection.sendall(head)
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_the_path_that_the_service_is_mounted_at_is_not_the_client_s_to_say(service: Service) -> None:
    connection = service.connection()
    connection.request("GET", "/healthz", headers={"SCRIPT_NAME": "/x"})
    assert connection.getresponse().status in (200, 400)
    connection.close()


def test_a_body_that_nobody_wants_does_not_harm_the_next_request_of_its_connection(service: Service) -> None:
    connection = service.connection()
    try:
        for size in (2, 100_000) * 20:
            connection.request("POST", "/v1/carts", b"x" * size)
            assert connection.getresponse().read()
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() == b'{"status":"ok"}'
    finally:
        connection.close()


def _all_that_comes(connection: socket.socket) -> bytes:
    """Until the service closes."""
    found = b""
    while more := connection.recv(65_536):
        found += more
    return found


@pytest.mark.parametrize("known", [True, False], ids=["with a token", "without"])
def test_what_follows_a_malformed_body_is_no_request(service: Service, known: bool) -> None:
    token = f"Authorization: Bearer {service.token('ann', 'customer')}\r\n" if known else ""
    head = f"POST /v1/reservations HTTP/1.1\r\nHost: x\r\n{token}Content-Type: application/json\r\n"
    with socket.create_connection((service.host, service.port), timeout=20) as connection:
        connection.sendall(head.encode() + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\nZZ\r\n')
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answers = _all_that_comes(connection)
    assert answers.count(b"HTTP/1.1 ") == 1
    assert answers.split()[1] == (b"400" if known else b"401")


def test_requests_that_come_together_are_all_answered(service: Service) -> None:
    request, last = b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"Connection: close\r\n\r\n"
    with socket.create_connection((service.host, service.port), timeout=20) as connection:
        connection.sendall((request + b"\r\n") * 4 + request + last)
        assert _all_that_comes(connection).count(b"HTTP/1.1 200") == 5


def test_a_client_that_falls_silent_in_its_head_is_told_so_and_cut_off(service: Service) -> None:
    with socket.create_connection((service.host, service.port), timeout=20) as connection:
        connection.sendall(b"GET /healt")
        answer = _all_that_comes(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"The request did not come in time." in answer


def test_a_query_may_have_letters_as_they_are(service: Service) -> None:
    ops = service.token("o", "ops")
    service.call("PUT", "/v1/skus/letters", {"on_hand": 5}, token=ops)
    josé = service.token("josé", "customer")
    body = {"lines": [{"sku": "letters", "quantity": 1}]}
    assert service.call("POST", "/v1/reservations", body, token=josé).status == 201
    with socket.create_connection((service.host, service.port), timeout=20) as connection:
        head = (
            f"GET /v1/audit?user=josé HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ops}\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert b'"user":"jos' in _all_that_comes(connection)
