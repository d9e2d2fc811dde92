from __future__ import annotations

import json
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from engine import count_files


def counted(directory: Path, pid: int, times: float) -> None:
    file = MmapedDict(str(directory / f"counter_{pid}.db"))
    file.write_value(json.dumps(["things_total", "things_total", {"kind": "good"}, "Things."]), times, 0.0)
    file.close()


def page(directory: Path) -> str:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))
    return generate_latest(registry).decode()


def test_what_the_dead_have_counted_stays_in_one_file(tmp_path: Path) -> None:
    for pid in (1, 2, 3):
        counted(tmp_path, pid, pid)
    before = page(tmp_path)
    assert 'things_total{kind="good"} 6.0' in before
    for pid in (1, 2, 7):
        count_files.bury(tmp_path, pid)
    assert page(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_3.db", "counter_dead.db"]


def test_the_directory_is_empty_private_and_where_a_full_disk_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(count_files, "MEMORY", tmp_path / "memory")
    made = count_files.make("counts", tmp_path / "elsewhere")
    (made / "counter_1.db").touch()
    again = count_files.make("counts", tmp_path / "elsewhere")
    assert again == made == tmp_path / "memory" / "counts"
    assert list(again.iterdir()) == []
    assert again.stat().st_mode & 0o777 == 0o700
    (tmp_path / "no directory").touch()
    monkeypatch.setattr(count_files, "MEMORY", tmp_path / "no directory")
    assert count_files.make("counts", tmp_path / "elsewhere") == tmp_path / "elsewhere" / "counts"
