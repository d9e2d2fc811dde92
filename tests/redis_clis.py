"""redis-cli twice: the installed program, and Stockade's own in this process, which is quicker than a command."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from engine.redis_cli.address import Address
from engine.redis_cli.main import main
from tests.programs import needs

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Printed:
    code: int
    out: bytes
    err: bytes

    @property
    def lines(self) -> list[str]:
        """What a command printed that must have gone well."""
        assert (self.code, self.err) == (0, b"")
        return self.out.decode().splitlines()


RedisCli = Callable[..., Printed]


def installed(url: str, *arguments: str, stdin: bytes = b"") -> Printed:
    address = Address.from_url(url)
    options, _ = address.redis_cli_options()
    done = subprocess.run(
        [needs("redis-cli"), *options, *arguments],
        input=stdin,
        cwd=ROOT,
        capture_output=True,
        timeout=20,
        check=False,
    )
    return Printed(done.returncode, done.stdout, done.stderr)


def own(url: str, *arguments: str, stdin: bytes = b"") -> Printed:
    out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        chdir(ROOT),
    ):
        code = main(Address.from_url(url), arguments, {})
    out.flush()
    err.flush()
    return Printed(code, out.buffer.getvalue(), err.buffer.getvalue())  # type: ignore[attr-defined]


both = pytest.mark.parametrize("redis_cli", [installed, own], ids=["installed", "own"])
"""Runs a test with each."""
