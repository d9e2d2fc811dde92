"""How many connections each worker has, in memory that all workers of one gunicorn share."""

from __future__ import annotations

import mmap
from array import array

MAX_PLACES = 1024
"""Four times the most workers there can be: a reload has two generations at once."""

ABSENT = 2**31 - 1
"""In the place of a worker that takes no connections: it isn't there yet, or no more, or stops."""


class Places:
    """One number a worker. Places are taken and given back by gunicorn's parent alone, which has one thread.

    A worker writes into its own place only, and a write of four bytes is atomic, so nothing is locked.
    """

    def __init__(self) -> None:
        self._connections = memoryview(mmap.mmap(-1, MAX_PLACES * array("i").itemsize)).cast("i")
        self._free = list(range(MAX_PLACES))
        for place in self._free:
            self._connections[place] = ABSENT

    def take(self) -> int:
        return self._free.pop(0)

    def give_back(self, place: int) -> None:
        self._connections[place] = ABSENT
        self._free.append(place)

    def write(self, place: int, connections: int) -> None:
        self._connections[place] = connections

    def least(self) -> int:
        """How many connections the worker has that has the fewest."""
        return min(self._connections)
