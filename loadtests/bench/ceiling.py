"""What the caller itself can do: against a server that only answers, so that it isn't taken for a limit of ours."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from loadtests.bench import calls, cores
from loadtests.bench.calls import Side
from loadtests.bench.fronts import Front
from loadtests.bench.report import ROOT, Run

ANSWER = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def ceiling(run: Run) -> None:
    """Call a server that reads whatever comes and answers it, without a look at it."""
    with _answering() as front:
        found = calls.in_turn(run, "ceiling of the caller", [Side("constant answer", front, calls.reserve())])
    run.compare("the caller, against a constant answer", found["constant answer"].rate, None, "/s")


@contextmanager
def _answering() -> Iterator[Front]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        descriptor, port = listener.fileno(), listener.getsockname()[1]
        command = [sys.executable, "-m", "loadtests.bench.ceiling", str(descriptor)]
        with cores.on(cores.SERVICE):
            process = subprocess.Popen(command, pass_fds=[descriptor], cwd=ROOT)
    try:
        with socket.create_connection(("127.0.0.1", port)) as first:
            first.sendall(b"?")
            first.recv(len(ANSWER))
        yield Front(port, (psutil.Process(process.pid),))
    finally:
        process.kill()
        process.wait()


def answer_all(listener: socket.socket) -> None:
    """A request is one packet here, so there is an answer for each."""
    poll, connections = select.epoll(), {}
    poll.register(listener.fileno(), select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                connection = listener.accept()[0]
                connections[connection.fileno()] = connection
                poll.register(connection.fileno(), select.EPOLLIN)
            elif connections[descriptor].recv(65_536):
                connections[descriptor].sendall(ANSWER)
            else:
                connections.pop(descriptor).close()


if __name__ == "__main__":
    answer_all(socket.socket(fileno=int(sys.argv[1])))
