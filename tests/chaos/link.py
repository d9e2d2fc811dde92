"""A wire that can be bad: a process between two unix sockets that delays, loses answers, falls silent or is cut.

Run as a program it is the wire; `Link` starts one and tells it how to be.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from tests.waiting import wait_until

CHUNK = 65_536
LONGEST_DELAY_SECONDS = 0.15
LOST_EACH = 0.02
"""Of the answers, how many are lost."""


class Mode(StrEnum):
    """How the wire is. All of it is so within a moment, also for connections that are open already."""

    GOOD = "good"
    DELAYING = "delaying"
    """Each piece, either way, comes up to 150 ms late."""

    LOSING_REPLIES = "losing_replies"
    """What was asked arrives, and is done; now and then its answer never comes: the connection is closed instead."""

    HALF_OPEN = "half_open"
    """Nothing passes either way, and nobody is told."""

    CUT = "cut"
    """Every connection is closed, and so is each new one."""


class Wire:
    """What runs in the process: one listening socket, any number of connections."""

    def __init__(self, target: Path, seed: int) -> None:
        self._target = target
        self._pick = random.Random(seed)
        self._mode = Mode.GOOD
        self._changed = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()

    async def listen(self, socket: Path) -> None:
        server = await asyncio.start_unix_server(self._accept, socket)
        socket.chmod(0o777)
        print("listening", flush=True)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while word := (await reader.readline()).decode().strip():
            self._turn(Mode(word))
            print(word, flush=True)
        server.close()

    def _turn(self, mode: Mode) -> None:
        self._mode = mode
        # Who waits for a silent wire looks again.
        self._changed.set()
        self._changed = asyncio.Event()
        if mode is Mode.CUT:
            for writer in list(self._open):
                writer.transport.abort()

    async def _accept(self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        if self._mode is Mode.CUT:
            near_out.transport.abort()
            return
        try:
            far_in, far_out = await asyncio.open_unix_connection(self._target)
        except OSError:
            near_out.transport.abort()
            return
        both = {near_out, far_out}
        self._open |= both
        try:
            asked = asyncio.create_task(self._carry(near_in, far_out, answers=False))
            answered = asyncio.create_task(self._carry(far_in, near_out, answers=True))
            await asyncio.wait([asked, answered], return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            answered.cancel()
        finally:
            self._open -= both
            for writer in both:
                writer.transport.abort()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool) -> None:
        with suppress(OSError):
            while True:
                piece = await source.read(CHUNK)
                if self._mode is Mode.DELAYING:
                    await asyncio.sleep(self._pick.random() * LONGEST_DELAY_SECONDS)
                # Nor does the other end learn that this one has hung up.
                while self._mode is Mode.HALF_OPEN:
                    await self._changed.wait()
                if not piece:
                    return
                if self._mode is Mode.LOSING_REPLIES and answers and self._pick.random() < LOST_EACH:
                    return
                sink.write(piece)
                await sink.drain()


class Link:
    """One wire: `socket` is the near end. `target` may be a symbolic link, which each new connection follows anew."""

    def __init__(self, socket: Path, target: Path, seed: int) -> None:
        self.socket = socket
        command = [sys.executable, "-m", "tests.chaos.link", str(socket), str(target), str(seed)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._hear("listening")

    def turn(self, mode: Mode) -> None:
        """Returns when it is so."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{mode}\n")
        self._process.stdin.flush()
        self._hear(mode)

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()
        wait_until(lambda: self._process.poll() is not None)

    def _hear(self, word: str) -> None:
        assert self._process.stdout is not None
        heard = self._process.stdout.readline().strip()
        assert heard == word, f"the wire says {heard!r}"


if __name__ == "__main__":
    _, near, far, with_seed = sys.argv
    asyncio.run(Wire(Path(far), int(with_seed)).listen(Path(near)))
