from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.app import Stockade
from api.route import Parts, Route
from engine.engine import Engine
from tests.api.calling import Caller, answered, refused
from tests.api.every_route import World, every_route, where
from tests.api.every_route import world as world

cached = where(lambda route: route.cached)


def set_max_age(client: FlaskClient, seconds: int) -> None:
    app: Any = client.application
    assert isinstance(app, Stockade)
    parts: Parts = app._parts
    settings = replace(parts.engine.settings, availability_max_age_seconds=seconds)
    app.extensions["stockade"] = app._parts = replace(parts, engine=replace(parts.engine, settings=settings))


@every_route
def test_no_answer_under_v1_may_be_kept_but_availability(world: World, route: Route) -> None:
    allowed = "no-cache" if route.cached else "no-store"
    assert world.send(route).headers["Cache-Control"] == allowed
    assert world.send(route, query="unexpected=1").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/nothing"), ("PATCH", "/v1/skus"), ("GET", "/v1/skus/%ff")])
def test_no_problem_may_be_kept(guest: Caller, method: str, path: str) -> None:
    response = guest.send(method, path)
    assert response.status_code in (400, 404, 405)
    assert response.headers["Cache-Control"] == "no-store"
    refused(guest.get("/v1/availability/nothing"), 404, "not_found")
    assert guest.get("/v1/availability/nothing").headers["Cache-Control"] == "no-store"


@cached
def test_an_availability_may_be_kept_as_long_as_the_settings_say(
    world: World, client: FlaskClient, route: Route
) -> None:
    set_max_age(client, 5)
    assert world.send(route).headers["Cache-Control"] == "public, max-age=5"


@cached
def test_who_has_an_availability_already_gets_no_second_copy_until_it_changes(
    world: World, ann: Caller, fake_engine: Engine, monkeypatch: pytest.MonkeyPatch, route: Route
) -> None:
    first = world.send(route)
    tag = first.headers["ETag"]
    assert tag.startswith('W/"')
    now_ms = fake_engine.store.now_ms()
    fake_engine.store.redis.hset(fake_engine.store.keys.meta, "clock_ms", now_ms + 5_000)
    later = world.send(route)
    assert later.data != first.data
    assert later.headers["ETag"] == tag
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        same = world.send(route, headers={"If-None-Match": known})
        assert (same.status_code, same.data) == (304, b"")
        assert (same.headers["ETag"], same.headers["Cache-Control"]) == (tag, "no-cache")
        assert same.headers["X-Request-Id"]
        assert "Content-Type" not in same.headers
    for unknown in ('W/"other"', "nonsense", ""):
        assert world.send(route, headers={"If-None-Match": unknown}).status_code == 200
    ann.reserve(("tee", 1))
    changed = world.send(route, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != tag


def test_a_sku_called_like_the_time_of_an_answer_has_a_tag_of_its_own(stocked: Caller, guest: Caller) -> None:
    names = ['"as_of":"1"', '"as_of":"2"']
    tags = set()
    for name in names:
        path = name.replace('"', "%22")
        answered(stocked.put(f"/v1/skus/{path}", {"on_hand": 1}), 201)
        response = guest.get(f"/v1/availability/{path}")
        assert answered(response)["sku"] == name
        tags.add(response.headers["ETag"])
    assert len(tags) == 2
