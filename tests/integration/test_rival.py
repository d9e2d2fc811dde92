"""The service on Postgres that `make bench` measures us against does the job: a rival that cheats would be no measure."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from loadtests.bench import rival_postgres, shop

UNITS, CALLERS = 25, 40


def reserve(app: Flask, key: str, quantity: int = 1) -> TestResponse:
    headers = {"Authorization": f"Bearer {shop.token('a buyer', 'customer')}", "Idempotency-Key": key}
    lines = [{"sku": shop.HOT, "quantity": quantity}]
    return app.test_client().post("/v1/reservations", json={"lines": lines}, headers=headers)


def test_the_rival_sells_every_unit_once_and_gives_a_repeat_its_first_answer(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rival_postgres.prepare(database, shop.HOT, UNITS)
    for name, value in shop.environment("unix:///nowhere", database).items():
        monkeypatch.setenv(name, value)
    app = rival_postgres.app()
    keys = [f"key-{number}" for number in range(CALLERS)]
    with ThreadPoolExecutor(8) as pool:
        # Each call comes twice at once.
        answers = list(pool.map(lambda key: reserve(app, key), [key for key in keys for _ in range(2)]))
    made = {answer.json["id"] for answer in answers if answer.status_code == 201 and answer.json}
    assert sorted({answer.status_code for answer in answers}) == [201, 409]
    assert len(made) == UNITS
    assert sum(answer.status_code == 201 for answer in answers) == 2 * UNITS
    [first] = {answer.data for answer in answers[:2]}
    again = reserve(app, keys[0])
    assert (again.status_code, again.data) == (201, first)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert reserve(app, keys[0], quantity=2).status_code == 422
    with psycopg.connect(database) as connection:
        counts = "SELECT available, reserved, (SELECT count(*) FROM hold), (SELECT count(*) FROM event) FROM sku"
        assert connection.execute(counts).fetchone() == (0, UNITS, UNITS, UNITS)
    app.extensions["stockade"].engine.reservations.close()
