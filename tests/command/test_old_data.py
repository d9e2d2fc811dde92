from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from engine import database
from engine.config import from_environment
from engine.data_dir import DataDir
from engine.embedded_postgres import POSTGRES
from loadtests.servers import wait_for_postgres
from tests.command.service import ROOT, Service, stockade

FIRST_VERSION = ROOT / "tests" / "data" / "first-version" / "redis"
SECOND_VERSION = ROOT / "tests" / "data" / "second-version"

PAID, PAID_WITH_THE_SAME = "qc39g7VDBFPcbpMYBa2r50", "mHOhN44IaFQm8Icq2fG7Y3"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Today's `stockade up` on the data directory of the first version."""
    data_dir = tmp_path / "data"
    shutil.copytree(FIRST_VERSION, data_dir / "redis")
    service = Service(data_dir)
    yield service
    service.stop()


@pytest.mark.slow
def test_a_data_directory_of_the_first_version_starts_and_its_whole_history_comes_to_postgres(service: Service) -> None:
    run = stockade("verify", "--json", "--data-dir", service.data_dir)
    assert (run.returncode, json.loads(run.stdout)["problems"]) == (0, [])
    shown = json.loads(stockade("stock", "show", "--json", "--data-dir", service.data_dir).stdout)
    assert [(sku["sku"], sku["on_hand"], sku["allocated"]) for sku in shown] == [("a", 53, 6), ("b", 49, 2)]
    page = service.call("GET", "/v1/audit?limit=5", token=service.token("olga", "ops")).document
    assert [(event["epoch"], event["seq"], event["op"]) for event in page["items"]] == [
        (1, 1, "recount"),
        (1, 2, "recount"),
        (1, 3, "reserve"),
        (1, 4, "reserve"),
        (1, 5, "reserve"),
    ]


def put_postgres_back(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedded Postgres as the second version left it: its schema, and the rows that are kept in tests/data."""
    directory = DataDir(data_dir)
    socket = directory.socket_path(POSTGRES.socket)
    child = POSTGRES.child(directory, socket, ())
    child.start()
    try:
        url = POSTGRES.url(socket)
        wait_for_postgres(url)
        monkeypatch.setattr(database, "SCHEMA", "0001")
        given = {"STOCKADE_REDIS_URL": "redis://nowhere", "STOCKADE_DATABASE_URL": url}
        database.migrate(database.Database(from_environment(given, secrets_required=False)))
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            # Snapshots before their entries.
            for rows in sorted((SECOND_VERSION / "postgres").iterdir(), key=lambda path: (len(path.stem), path.stem)):
                with cursor.copy(f"COPY {rows.stem} FROM STDIN") as copy:
                    copy.write(rows.read_bytes())
    finally:
        child.stop()
        directory.remove_socket(socket)


@pytest.fixture(params=["with its Redis", pytest.param("without its Redis", marks=pytest.mark.slow)])
def upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Service]:
    """Today's `stockade up` on the data directory of the second version, the last one with layout 1."""
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    put_postgres_back(data_dir, monkeypatch)
    if request.param == "with its Redis":
        shutil.copytree(SECOND_VERSION / "redis", data_dir / "redis")
    service = Service(data_dir)
    yield service
    service.stop()


def test_a_data_directory_of_layout_1_is_made_anew_from_its_ledger_and_goes_on(upgraded: Service) -> None:
    run = stockade("verify", "--json", "--data-dir", upgraded.data_dir)
    assert (run.returncode, json.loads(run.stdout)["problems"]) == (0, [])
    shown = json.loads(stockade("stock", "show", "--json", "--data-dir", upgraded.data_dir).stdout)
    assert [(sku["sku"], sku["on_hand"], sku["allocated"]) for sku in shown] == [
        ("a", 50, 3),
        ("b", 19, 1),
        ("c", 2, 2),
    ]
    ops, pay = upgraded.token("olga", "ops"), upgraded.token("till", "payments")
    shipped = upgraded.call("GET", f"/v1/orders/{PAID_WITH_THE_SAME}", token=ops).document
    assert (shipped["state"], shipped["fulfilled_lines"], shipped["cancelled_lines"]) == (
        "fulfilled",
        [{"sku": "b", "quantity": 1}, {"sku": "c", "quantity": 1}],
        [{"sku": "b", "quantity": 1}],
    )
    # Its payment id paid for two in the second version; what was answered stays so.
    for reservation_id in (PAID, PAID_WITH_THE_SAME):
        again = upgraded.call("POST", f"/v1/reservations/{reservation_id}/commit", {"payment_id": "pay-1"}, token=pay)
        assert (again.status, again.document["order"]["id"]) == (200, reservation_id)


@pytest.mark.slow
def test_what_was_bought_before_the_upgrade_counts_for_limits_and_payments(upgraded: Service) -> None:
    ann, pay = upgraded.token("ann", "customer"), upgraded.token("till", "payments")
    # Three were bought before there was a limit of four; the two that were held then have run out.
    over = upgraded.call("POST", "/v1/reservations", {"lines": [{"sku": "a", "quantity": 2}]}, token=ann)
    assert [line["verdict"] for line in over.document["lines"]] == ["limit_exceeded"]
    held = upgraded.call("POST", "/v1/reservations", {"lines": [{"sku": "a", "quantity": 1}]}, token=ann)
    assert held.status == 201
    commit = f"/v1/reservations/{held.document['id']}/commit"
    used = [upgraded.call("POST", commit, {"payment_id": f"pay-{old}"}, token=pay) for old in (1, 4, 5)]
    assert [(answer.status, answer.document["code"]) for answer in used] == [(409, "payment_already_used")] * 3
    assert upgraded.call("POST", commit, {"payment_id": "pay-9"}, token=pay).status == 200
    run = stockade("verify", "--json", "--data-dir", upgraded.data_dir)
    assert (run.returncode, json.loads(run.stdout)["problems"]) == (0, [])
