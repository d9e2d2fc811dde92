from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command.service import ROOT, Service, stockade

FIRST_VERSION = ROOT / "tests" / "data" / "first-version" / "redis"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Today's `stockade up` on the data directory of the first version."""
    data_dir = tmp_path / "data"
    shutil.copytree(FIRST_VERSION, data_dir / "redis")
    service = Service(data_dir)
    yield service
    service.stop()


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
