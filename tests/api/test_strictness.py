"""Nothing that a caller sends is ignored: each route is sent what it doesn't know, refuses it by name, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from werkzeug.test import TestResponse

from api import strictness
from api.route import ROUTES, Route
from tests.api.calling import Caller, answered, dump, refused, signature
from tests.api.every_route import CALLS, World, every_route, everything, where
from tests.api.every_route import world as world

UNKNOWN = "unexpected"


def test_every_route_has_a_call_that_the_tests_can_change() -> None:
    assert CALLS.keys() == {route.name for route, _ in ROUTES}


@every_route
def test_every_route_takes_the_call_that_the_tests_change(world: World, route: Route) -> None:
    response = world.send(route)
    assert response.status_code in (200, 201, 204), response.text


def objects_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a document an object stands."""
    if isinstance(value, dict):
        yield path
    for name, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from objects_in(inner, (*path, name))


def with_unknown(body: Any, path: tuple[Any, ...]) -> Any:
    document = json.loads(json.dumps(body))
    place = document
    for name in path:
        place = place[name]
    place[UNKNOWN] = 1
    return document


def problem_of(response: TestResponse) -> dict[str, Any]:
    """The problem of an answer, or of the one item of a batch."""
    if response.status_code != 200:
        return refused(response, 422, "validation_failed")
    [item] = answered(response)["results"]
    assert item["status"] == 422
    problem: dict[str, Any] = item["problem"]
    return problem


@where(lambda route: route.body)
def test_a_field_that_no_route_knows_is_refused_however_deep_it_stands(
    world: World, fake_redis: Redis, route: Route
) -> None:
    body, before = CALLS[route.name].body, dump(fake_redis)
    for path in objects_in(body):
        problem = problem_of(world.send(route, body=with_unknown(body, path)))
        assert UNKNOWN in problem["detail"]
        assert "Unknown field" in json.dumps(problem["errors"])
    assert dump(fake_redis) == before


@where(lambda route: route.body)
def test_a_field_that_stands_there_twice_is_refused(world: World, fake_redis: Redis, route: Route) -> None:
    text, before = world.filled(json.dumps(CALLS[route.name].body)), dump(fake_redis)
    name = next(iter(CALLS[route.name].body))
    escaped = f'"\\u{ord(name[0]):04x}{name[1:]}"'
    for again in (f'{{"{name}": 1, {text[1:]}', f"{{{escaped}: 1, {text[1:]}"):
        problem = refused(world.send(route, data=again.encode()), 400, "bad_request")
        assert name in problem["detail"]
    assert dump(fake_redis) == before


@where(lambda route: not route.body)
@pytest.mark.parametrize("data", [b"{}", b'{"unexpected": 1}', b" ", b"x"])
def test_a_body_is_refused_where_none_belongs(world: World, fake_redis: Redis, route: Route, data: bytes) -> None:
    before = dump(fake_redis)
    problem = refused(world.send(route, data=data), 400, "bad_request")
    assert "takes no body" in problem["detail"]
    assert route.template in problem["detail"]
    assert dump(fake_redis) == before


@where(lambda route: not route.body)
def test_an_empty_body_is_no_body(world: World, route: Route) -> None:
    assert world.send(route, data=b"").status_code in (200, 201, 204)


@every_route
def test_an_unknown_query_parameter_is_refused(world: World, fake_redis: Redis, route: Route) -> None:
    before, good = dump(fake_redis), CALLS[route.name].query
    for name in (UNKNOWN, "Limit", "sku[]", "_", "größe"):
        query = "&".join(filter(None, (good, f"{name}=1")))
        problem = refused(world.send(route, query=query), 422, "validation_failed")
        assert "Unknown query parameter" in problem["errors"][name][0]
        assert name in problem["detail"]
    refused(world.send(route, query="&".join(filter(None, (good, "bare")))), 422, "validation_failed")
    assert dump(fake_redis) == before


@where(lambda route: route.query)
def test_a_query_parameter_that_is_no_list_is_given_once(world: World, route: Route) -> None:
    for name, field in route.query().fields.items() if route.query else ():
        if type(field).__name__ != "List":
            problem = refused(world.send(route, query=f"{name}=1&{name}=1"), 422, "validation_failed")
            assert problem["errors"] == {name: ["Must be given once."]}


OURS = {
    "Idempotency-Key": ("k", strictness.KEY),
    "Stockade-User": ("ann", strictness.USER),
    "Stockade-Signature": (signature(b""), strictness.SIGNATURE),
    "Stockade-Nothing": ("x", ""),
    "Stockade-Event-Id": ("1-1", ""),
}


@pytest.mark.parametrize("header", OURS)
@every_route
def test_a_header_of_ours_that_a_route_does_not_use_is_refused(
    world: World, fake_redis: Redis, route: Route, header: str
) -> None:
    value, name = OURS[header]
    if name in route.headers:
        return
    before = dump(fake_redis)
    problem = refused(world.send(route, headers={header: value}), 400, "bad_request")
    assert header in problem["detail"]
    assert dump(fake_redis) == before


@where(lambda route: route.guests)
def test_a_guest_names_no_user(world: World, guest: Caller, fake_redis: Redis, route: Route) -> None:
    before = dump(fake_redis)
    response = guest.send(
        route.method, world.path(route), json=CALLS[route.name].body, headers={"Stockade-User": "ann"}
    )
    assert "Stockade-User" in refused(response, 400, "bad_request")["detail"]
    assert dump(fake_redis) == before


def test_an_operator_who_names_a_user_sees_only_what_that_user_sees(world: World, client: Any) -> None:
    anybody, path = everything(client), f"/v1/orders/{world.ids['order']}"
    assert answered(anybody.get(path))["user"] == "ann"
    assert answered(anybody.get(path, headers={"Stockade-User": "ann"}))["user"] == "ann"
    refused(anybody.get(path, headers={"Stockade-User": "bob"}), 404, "not_found")


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/openapi.json", "/console", "/docs/"])
def test_outside_v1_a_balancer_or_a_browser_may_add_what_it_likes(guest: Caller, path: str) -> None:
    response = guest.get(f"{path}?x=1", headers={"Stockade-Nothing": "x", "Idempotency-Key": "k"}, data=b"x")
    assert response.status_code == 200
    response.close()


def test_a_body_that_says_it_is_compressed_is_refused(world: World, ann: Caller, fake_redis: Redis) -> None:
    before = dump(fake_redis)
    body = {"lines": [{"sku": "tee", "quantity": 1}]}
    response = ann.post("/v1/reservations", body, headers={"Content-Encoding": "gzip"})
    assert "Content-Encoding" in refused(response, 400, "bad_request")["detail"]
    assert dump(fake_redis) == before
