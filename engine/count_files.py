"""The files in which the processes of a host keep their counts for Prometheus: its library makes two for each process."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where they are; the library's own name for it. It has to be there when the library is imported."""

MEMORY = Path("/dev/shm")  # noqa: S108


def make(name: str, otherwise: Path) -> Path:
    """A directory of that name, empty, in memory where a machine lends some: on a full disk counting would kill a process.

    `otherwise` is where it goes if there is none, or somebody else has that name.
    """
    try:
        return _emptied(MEMORY / name)
    except OSError:
        return _emptied(otherwise / name)


def _emptied(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700, parents=True)
    return path


def bury(directory: Path, pid: int) -> None:
    """Put what a dead process has counted to the counts of those that died before it: a page would be slower with each."""
    with locked(directory, fcntl.LOCK_EX):
        for path in directory.glob(f"*_{pid}.db"):
            dead = MmapedDict(str(path.with_name(f"{path.name.partition('_')[0]}_dead.db")))
            for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(str(path)):
                dead.write_value(key, dead.read_value(key)[0] + value, timestamp)
            dead.close()
            path.unlink()


@contextmanager
def locked(directory: Path, how: int = fcntl.LOCK_SH) -> Iterator[None]:
    """Keep the dead where they are while the files are read, or (`LOCK_EX`) everybody from reading."""
    held = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(held, how)
        yield
    finally:
        os.close(held)
