"""Keeps a few processes running: starts them, restarts one that dies, gives up when it keeps dying, stops them in order."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO

DEATHS_TO_GIVE_UP = 5
WITHIN_SECONDS = 30.0
POLL_SECONDS = 0.1
STOP_SECONDS = 15.0
REST_SECONDS = 5.0
LAST_WORDS_SECONDS = 0.5
PR_SET_PDEATHSIG = 1


class KeepsDying(Exception):
    """A process died too often to go on."""


@dataclass
class Child:
    """One process, working in `directory`. `keep_open` are file descriptors it inherits.

    `stop_signal` ends it, also when the supervisor is gone. `run_as` are user and group, if they aren't the supervisor's.
    `before_restart` clears away what a killed one may have left. `reload_signal` makes it begin anew without an end. What a process `relayed`
    writes goes through the supervisor: one that waits for whoever reads the log would stand still with them.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    keep_open: Sequence[int] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    run_as: tuple[int, int] | None = None
    before_restart: Callable[[], None] = lambda: None
    reload_signal: signal.Signals | None = None
    relayed: bool = False
    process: subprocess.Popen[bytes] | None = None
    deaths_s: deque[float] = field(default_factory=lambda: deque(maxlen=DEATHS_TO_GIVE_UP))
    rests_until_s: float = 0.0
    relay: threading.Thread | None = None

    def start(self) -> None:
        """Start it in a session of its own, so that a Ctrl-C reaches it through the supervisor, in order."""
        user, group = self.run_as or (None, None)
        self.process = subprocess.Popen(
            self.command,
            env=dict(self.environment),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if self.relayed else sys.stderr,
            stderr=subprocess.STDOUT if self.relayed else None,
            pass_fds=self.keep_open,
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=[] if self.run_as else None,
            preexec_fn=partial(_end_with_parent, self.stop_signal) if sys.platform == "linux" else None,
        )
        if self.process.stdout:
            self.relay = threading.Thread(target=_relay, args=(self.process.stdout,), daemon=True)
            self.relay.start()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            say(f"{self.name} doesn't stop; killing it")
            self.process.kill()
            self.process.wait()
        self.listen_to_the_end()

    def listen_to_the_end(self) -> None:
        """Have the last words of a dead process written. What it has left behind may keep its pipe open, so not for long."""
        if self.relay:
            self.relay.join(LAST_WORDS_SECONDS)

    def reload(self) -> None:
        if self.process is not None and self.reload_signal is not None:
            self.process.send_signal(self.reload_signal)


class Supervisor:
    """`excuse` says why processes that keep dying aren't given up; '' where there is no reason."""

    def __init__(self, excuse: Callable[[], str] = str) -> None:
        self._excuse = excuse
        self._children: list[Child] = []
        # Not events: a handler that sets one while the same thread is inside its wait() waits for itself, for ever.
        self._stopping = False
        self._reloading = False

    def start(self, child: Child) -> None:
        child.start()
        self._children.append(child)

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Keep everything running until `ready`. Returns: whether it came to that, before time ran out or a stop came."""
        give_up_s = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < give_up_s:
            if ready():
                return True
            self._look_after_them()
            time.sleep(POLL_SECONDS)
        return False

    def run(self) -> None:
        """Keep everything running until `stop`.

        Raises:
            KeepsDying: a process died `DEATHS_TO_GIVE_UP` times within `WITHIN_SECONDS`.
        """
        while not self._stopping:
            self._look_after_them()
            time.sleep(POLL_SECONDS)

    @property
    def stopping(self) -> bool:
        return self._stopping

    def stop(self, signum: int = 0, frame: FrameType | None = None) -> None:
        self._stopping = True

    def reload(self) -> None:
        """Let those that can begin anew do so, at the next look after them."""
        self._reloading = True

    def stop_all(self) -> None:
        """Stop the processes, the last one started first."""
        for child in reversed(self._children):
            child.stop()

    def _look_after_them(self) -> None:
        self._restart_the_dead()
        if self._reloading:
            self._reloading = False
            for child in self._children:
                child.reload()

    def _restart_the_dead(self) -> None:
        for child in self._children:
            code = child.process.poll() if child.process else None
            if code is None or time.monotonic() < child.rests_until_s:
                continue
            child.listen_to_the_end()
            child.deaths_s.append(time.monotonic())
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
            often = len(child.deaths_s) == DEATHS_TO_GIVE_UP
            if often and child.deaths_s[-1] - child.deaths_s[0] < WITHIN_SECONDS:
                excuse = self._excuse()
                if not excuse:
                    raise KeepsDying(f"{child.name} keeps dying ({how}); its last words are above")
                say(f"{child.name} keeps dying ({how}): {excuse}; trying again in {REST_SECONDS:.0f} s")
                child.deaths_s.clear()
                child.rests_until_s = time.monotonic() + REST_SECONDS
                continue
            say(f"{child.name} died ({how}); starting it again")
            try:
                child.before_restart()
                child.start()
            except OSError as error:
                # The next look finds it dead once more.
                say(f"{child.name} can't be started: {error}")


def say(text: str) -> None:
    """Write a line about this process's work on stderr: in one piece, so that it stays one."""
    sys.stderr.write(f"stockade: {text}\n")
    sys.stderr.flush()


def _relay(lines: IO[bytes]) -> None:
    with lines:
        for line in lines:
            sys.stderr.write(line.decode(errors="backslashreplace"))
            sys.stderr.flush()


def _end_with_parent(how: signal.Signals) -> None:
    """Ask the kernel for that signal when the supervisor is gone, even by kill -9.

    It runs after a change of user, which would make the kernel forget the wish.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, how)
