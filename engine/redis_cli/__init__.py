"""`stockade redis-cli`: the installed redis-cli or valkey-cli on the server in use, or an implementation of our own.

The embedded server's wheel has no command-line client, so on a machine without one the runbook's commands run here. Replies, prompts
and exit codes are those of redis-cli 7.0; `tests/command/test_redis_cli.py` runs the same commands through both programs.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from engine.errors import StoreUnavailable
from engine.redis_cli.address import Address

GOES_ELSEWHERE = {"-h", "-p", "-s", "-u", "-v", "--version", "--help"}
"""Options with which the server of the URL isn't asked, or none is."""


def run(url: str, arguments: Sequence[str], environment: Mapping[str, str], patience_s: float) -> int:
    """Run redis-cli on the server of `url` and return its exit code. An installed program replaces this process.

    Raises:
        StoreUnavailable: the server hangs: it doesn't answer a PING within `patience_s`. redis-cli would wait for ever.
        ConfigurationError: an argument that only the installed program understands.
    """
    address = Address.from_url(url)
    if not GOES_ELSEWHERE & set(arguments):
        _refuse_if_it_hangs(address, patience_s)
    program = shutil.which("redis-cli") or shutil.which("valkey-cli")
    if program and address.is_known_to_redis_cli:
        options, variables = address.redis_cli_options()
        # Python ignores it, and the program would inherit that and go on writing after `| head` has ended.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execve(program, [program, *options, *arguments], {**environment, **variables})
    # Imported here: most calls become the installed program.
    from engine.redis_cli.main import main

    return main(address, arguments, environment)


def _refuse_if_it_hangs(address: Address, patience_s: float) -> None:
    """Whatever else is wrong with it, redis-cli says better."""
    connection = address.connection()
    connection.socket_timeout = connection.socket_connect_timeout = patience_s
    try:
        connection.connect()
        socket = connection._get_socket()
        assert socket
        socket.settimeout(patience_s)
        socket.sendall(b"PING\r\n")
        socket.recv(1)
    except (RedisTimeout, TimeoutError) as error:
        raise StoreUnavailable(f"Redis at {address} doesn't answer within {patience_s:g} s") from error
    except (RedisError, OSError):
        pass
    finally:
        connection.disconnect()
