"""What happens beside the buyers of a run, on a private service: a worker dies, memory is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtests import processes
from loadtests.figures import RESERVE

if TYPE_CHECKING:
    from loadtests.replay import Run

LOOK_SECONDS = 0.1


def kill_in_the_middle(run: Run) -> None:
    """kill -9 a worker of the API half-way, if that was asked for. A run that ends before that has failed."""
    if not run.options.kill:
        return
    while not _half_way(run):
        if run.closing:
            run.records.problems.append("the run ended before a worker could be killed")
            return
        run.over.wait(LOOK_SECONDS)
    pid = processes.kill_a_worker(run.options.service_pid) if run.options.service_pid else 0
    if pid:
        run.notes.append(f"{run.elapsed:.1f} s after the start, worker {pid} of the API was killed with SIGKILL")
    else:
        run.records.problems.append("there was no worker to kill; only a private service's can be")


def _half_way(run: Run) -> bool:
    if run.seconds and run.elapsed >= run.seconds / 2:
        return True
    awaited = run.checkouts or (run.users if run.environment.shape_class else 0)
    asked = sum(entry.num_requests for (name, _), entry in run.environment.stats.entries.items() if name == RESERVE)
    return bool(awaited) and asked >= awaited / 2


def watch_memory(run: Run) -> None:
    """Note what memory the private service has at the start and at the end."""
    if not run.options.service_pid:
        return
    before = processes.memory(run.options.service_pid)
    run.over.wait()
    after = processes.memory(run.options.service_pid)
    grown = [f"{part} {before.get(part, 0):.0f} -> {size:.0f}" for part, size in after.items()]
    run.notes.append(f"resident MiB, start -> end: {', '.join(grown)}")
