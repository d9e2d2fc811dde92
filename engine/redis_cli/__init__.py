"""`stockade redis-cli`: the installed redis-cli or valkey-cli on the server in use, or an implementation of our own.

The embedded server's wheel has no command-line client, so on a machine without one the runbook's commands run here. Replies, prompts
and exit codes are those of redis-cli 7.0; `tests/command/test_redis_cli.py` runs the same commands through both programs.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence

from engine.redis_cli.address import Address


def run(url: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run redis-cli on the server of `url` and return its exit code. An installed program replaces this process.

    Raises:
        ConfigurationError: an argument that only the installed program understands.
    """
    address = Address.from_url(url)
    program = shutil.which("redis-cli") or shutil.which("valkey-cli")
    if program and address.is_known_to_redis_cli:
        options, variables = address.redis_cli_options()
        # Python ignores it, and the program would inherit that and go on writing after `| head` has ended.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execve(program, [program, *options, *arguments], {**environment, **variables})
    # Imported here: most calls become the installed program.
    from engine.redis_cli.main import main

    return main(address, arguments, environment)
