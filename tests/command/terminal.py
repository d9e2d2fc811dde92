"""A command in a terminal of its own, and somebody who types."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
"""What a terminal acts upon instead of showing it."""


class Terminal:
    """What it shows is in `screen`; `wait_for` goes on behind what it found last."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], directory: Path) -> None:
        self._side, side = pty.openpty()
        self._process = subprocess.Popen(
            command,
            stdin=side,
            stdout=side,
            stderr=side,
            env={**environment, "TERM": "dumb"},
            cwd=directory,
            start_new_session=True,
            # Makes it the terminal whose Ctrl-C reaches the command.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(side)
        self.screen = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._read_to = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._side)

    def type(self, text: str) -> None:
        os.write(self._side, text.encode())

    def wait_for(self, text: str, seconds: float = 15.0) -> None:
        give_up_s = time.monotonic() + seconds
        while (found := self.screen.find(text, self._read_to)) < 0:
            assert self._read(give_up_s), f"{text!r} doesn't come: {self.screen[self._read_to :]!r}"
        self._read_to = found + len(text)

    def answer(self, line: str, prompt: str) -> str:
        """Type a line, and give what it prints before the prompt comes again."""
        begun = self._read_to
        self.type(f"{line}\n")
        self.wait_for(f"{line}\n")
        begun = self._read_to
        self.wait_for(prompt)
        return self.screen[begun : self._read_to - len(prompt)]

    def end(self, seconds: float = 15.0) -> int:
        """Wait until the command has ended. Returns: its exit code."""
        give_up_s = time.monotonic() + seconds
        while self._read(give_up_s):
            pass
        return self._process.wait(seconds)

    def _read(self, give_up_s: float) -> bool:
        ready, _, _ = select.select([self._side], [], [], max(0.0, give_up_s - time.monotonic()))
        try:
            more = os.read(self._side, 65536) if ready else b""
        except OSError:  # As Linux says that nobody is at the other side any more.
            return False
        self.screen += SEQUENCES.sub("", self._decoder.decode(more)).replace("\r", "")
        return bool(more)
