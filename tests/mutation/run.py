"""`make mutants`: break the scripts and the modules that decide, in many small ways, and see whether the fast tests notice."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from loadtests import servers
from tests.mutation import judge, quick, sample
from tests.mutation.judge import Place, Verdict
from tests.mutation.mutant import Mutant
from tests.mutation.survivors import SURVIVORS

COUNT, SEED, WORKERS = 300, 1, 2
MAX_ALIVE = 0.03
ANY_ALIVE, NOTHING_KNOWN, ENDED = 1, 2, 128 + signal.SIGTERM
"""Statuses to exit with."""

REPORT = sample.ROOT / "build" / "mutants.json"

_place: Place
"""Of this worker."""


@dataclass(frozen=True)
class Result:
    mutant: Mutant
    verdict: Verdict
    why: str
    """Why it may live, '' if nobody says so."""


def main() -> int:
    asked = _arguments()
    sources = sample.sources()
    all_of = sample.all_mutants(sources)
    chosen = [mutant for found in all_of.values() for mutant in found] if asked.all else []
    chosen = chosen or sample.drawn(all_of, asked.count, asked.seed)
    # Scripts first: theirs are decided in milliseconds.
    chosen = sorted(
        (mutant for mutant in chosen if asked.only in mutant.path), key=lambda mutant: "engine/" in mutant.path
    )
    whole = sum(len(found) for found in all_of.values())
    print(f"seed {asked.seed}: {len(chosen)} mutants of {whole}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ENDED))
    began_s = time.monotonic()
    try:
        results = _all_judged(asked.workers, chosen, sources)
    except (RuntimeError, RedisError) as error:
        print(f"Nothing is known, for it isn't a mutant that failed: {error!r}")
        return NOTHING_KNOWN
    results.sort(key=lambda result: (result.mutant.path, result.mutant.start, result.mutant.wrong))
    _write(results, sources, asked.seed, time.monotonic() - began_s)
    return _told(results, sources, time.monotonic() - began_s)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=COUNT, help="how many, some more or less")
    parser.add_argument("--all", action="store_true", help="every mutant there is, for hours")
    parser.add_argument("--only", default="", help="those of files with this in their path")
    parser.add_argument("--workers", type=int, default=WORKERS)
    return parser.parse_args()


def _all_judged(workers: int, chosen: list[Mutant], sources: dict[str, str]) -> list[Result]:
    """Raises RuntimeError or RedisError if tests fail for another reason than a mutant."""
    with _pool(workers) as pool:
        _without_mutants(pool, sources, chosen)
        results = list(_judged(pool, chosen, sources))
        # Whatever may have gone wrong meanwhile, a full disk for one, still goes wrong.
        _without_mutants(pool, sources, chosen)
    return results


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Workers, each with a copy of the tree and a server of its own."""
    context = get_context("spawn")
    places = context.Queue()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stockade-mutants-")))
        judge.copy(sample.ROOT, directory / "0")
        for number in range(workers):
            if number:
                shutil.copytree(directory / "0", directory / str(number))
            redis_url = stack.enter_context(servers.running("valkey"))
            places.put(Place(str(directory / str(number)), redis_url))
        pool = stack.enter_context(ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(places,)))
        stack.callback(_end_workers)
        yield pool


def _begin(places: Queue[Place]) -> None:
    """It leads a group of its own: whoever interrupts the program from a terminal means the program, which then ends all."""
    global _place
    os.setpgid(0, 0)
    _place = places.get()
    judge.warm_up()


def _end_workers() -> None:
    """At once, whatever they do: nobody waits for the mutants that are left."""
    for worker in active_children():
        assert worker.pid is not None
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.kill()


def _judge(path: str, text: str, stages: judge.Stages = ()) -> Verdict:
    began_s = time.monotonic()
    script = Path(path).stem if path.endswith(".lua") and not stages else ""
    if script and (by := quick.noticed(_place.redis_url, script, text)):
        verdict = Verdict(by, time.monotonic() - began_s)
    else:
        verdict = judge.judge(_place, path, text, stages or judge.suite(path))
    if verdict.by:
        # Without a server every test fails. Raises RedisError.
        servers.wait_for_redis(_place.redis_url)
    return verdict


def _without_mutants(pool: ProcessPoolExecutor, sources: dict[str, str], chosen: list[Mutant]) -> None:
    """Raises RuntimeError if a test fails even so."""
    files = sorted({name for mutant in chosen for stage in judge.suite(mutant.path) for name in stage})
    path, text = next(iter(sources.items()))
    halves = [files[::2], files[1::2]]
    for future in as_completed([pool.submit(_judge, path, text, (tuple(half),)) for half in halves]):
        if by := future.result().by:
            raise RuntimeError(f"{by} without any mutant")


def _judged(pool: ProcessPoolExecutor, chosen: list[Mutant], sources: dict[str, str]) -> Iterator[Result]:
    waiting = {pool.submit(_judge, mutant.path, mutant.of(sources[mutant.path])): mutant for mutant in chosen}
    for number, future in enumerate(as_completed(waiting), 1):
        mutant, verdict = waiting[future], future.result()
        source = sources[mutant.path]
        why = next((known.why for known in SURVIVORS if known.is_of(mutant, source)), "")
        print(f"{number:4} {verdict.seconds:5.1f} s  {mutant.path}:{mutant.line(source)} {mutant.kind:10} ", end="")
        print(f"killed by {verdict.by}" if verdict.by else f"lives {why and '(listed)'}", flush=True)
        yield Result(mutant, verdict, why)


def _write(results: list[Result], sources: dict[str, str], seed: int, seconds: float) -> None:
    REPORT.parent.mkdir(exist_ok=True)
    told: list[dict[str, Any]] = []
    for result in results:
        mutant, source = result.mutant, sources[result.mutant.path]
        told.append(
            {
                "path": mutant.path,
                "line": mutant.line(source),
                "kind": mutant.kind,
                "changed": mutant.changed(source),
                "killed_by": result.verdict.by,
                "seconds": round(result.verdict.seconds, 1),
                "listed_because": result.why,
            }
        )
    REPORT.write_text(json.dumps({"seed": seed, "seconds": round(seconds), "mutants": told}, indent=1) + "\n")


def _told(results: list[Result], sources: dict[str, str], seconds: float) -> int:
    """Print what became of them. Returns: the status to exit with."""
    alive = [result for result in results if not result.verdict.by]
    unknown = [result for result in alive if not result.why]
    print(f"\n{'file':26} {'mutants':>7} {'killed':>7} {'survived':>8}")
    for path in dict.fromkeys(result.mutant.path for result in results):
        of_file = [result for result in results if result.mutant.path == path]
        living = sum(result in alive for result in of_file)
        print(f"{path:26} {len(of_file):7} {len(of_file) - living:7} {living:8}")
    share = len(alive) / max(len(results), 1)
    print(f"{'all':26} {len(results):7} {len(results) - len(alive):7} {len(alive):8}  {share:.1%} in {seconds:.0f} s\n")
    for result in alive:
        mutant, source = result.mutant, sources[result.mutant.path]
        print(f"{mutant.path}:{mutant.line(source)} {mutant.kind}: {result.why or 'NOT LISTED'}")
        print("\n".join(mutant.diff(source)))
    return ANY_ALIVE if unknown or share >= MAX_ALIVE else 0


if __name__ == "__main__":
    sys.exit(main())
