"""The command `stockade` without its start: forked from a process that has imported it already. For pages with many commands."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.command.service import ROOT
from tests.waiting import wait_until

CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({path!r})
call = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(call).to_bytes(4, "big")], [0, 1, 2])
server.sendall(call)
with server.makefile() as answer:
    command = int(answer.readline())
    signal.signal(signal.SIGTERM, lambda *_: os.kill(command, signal.SIGTERM))
    sys.exit(int(answer.read()))
"""


@contextmanager
def installed(directory: Path) -> Iterator[Path]:
    """A directory for PATH that has the command in it."""
    path, program = directory / "quick.sock", directory / "bin" / "stockade"
    program.parent.mkdir()
    program.write_text(CLIENT.format(python=sys.executable, path=str(path)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    server = subprocess.Popen([sys.executable, "-m", "tests.command.quick", str(path)], cwd=ROOT)
    try:
        wait_until(path.exists)
        yield program.parent
    finally:
        server.terminate()
        server.wait()


def serve(path: str) -> None:
    from engine.cli import main

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        caller, _ = listener.accept()
        # A child that waits for the command and says how it ended, so that commands may run beside each other.
        if os.fork():
            caller.close()
            continue
        command = os.fork()
        if command == 0:
            listener.close()
            _become(caller)
            main()
        caller.sendall(f"{command}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
        caller.sendall(str(code).encode())
        os._exit(0)


def _become(caller: socket.socket) -> None:
    """Take over arguments, directory, environment and the three files of whoever calls."""
    size, files, _, _ = socket.recv_fds(caller, 4, 3)
    with caller.makefile("rb") as stream:
        sys.argv, directory, environment = json.loads(stream.read(int.from_bytes(size, "big")))
    for file, place in zip(files, (0, 1, 2), strict=True):
        os.dup2(file, place)
        os.close(file)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)


if __name__ == "__main__":
    serve(sys.argv[1])
