"""The private service's processes: the memory they have, and the end of one."""

from __future__ import annotations

import os
import signal
from collections import Counter

import psutil

MEBIBYTE = 1024 * 1024


def workers(service_pid: int) -> list[int]:
    """The API's worker processes: the children of gunicorn's master."""
    for child in psutil.Process(service_pid).children():
        if "gunicorn" in " ".join(child.cmdline()):
            return [worker.pid for worker in child.children()]
    return []


def kill_a_worker(service_pid: int) -> int:
    """End one without warning, as the kernel does when memory runs out. Returns: its process id, 0 if there was none."""
    for pid in workers(service_pid)[:1]:
        os.kill(pid, signal.SIGKILL)
        return pid
    return 0


def memory(service_pid: int) -> dict[str, float]:
    """Resident MiB of the service's parts. Postgres's shared memory counts once for each of its processes."""
    found: Counter[str] = Counter()
    for child in psutil.Process(service_pid).children(recursive=True):
        try:
            found[_part(" ".join(child.cmdline()))] += child.memory_info().rss
        except psutil.Error:
            continue
    return {part: round(size / MEBIBYTE, 1) for part, size in sorted(found.items())}


def _part(command: str) -> str:
    for word, part in (("gunicorn", "api"), ("keeper", "keeper"), ("valkey", "redis"), ("redis", "redis")):
        if word in command:
            return part
    return "postgres" if "postgres" in command else "other"
