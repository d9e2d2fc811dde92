"""redis-cli without the program: what it does with its arguments, and its exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from engine.redis_cli.address import Address
from engine.redis_cli.options import Options, Stop, parse
from engine.redis_cli.prompt import converse
from engine.redis_cli.session import Session
from engine.redis_cli.words import unquoted

WARNING = "Warning: Using a password with '-a' or '-u' option on the command line interface may not be safe.\n"


def main(address: Address, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Do what redis-cli does with these arguments, and return its exit code."""
    try:
        options = parse(arguments, address, environment, in_terminal=sys.stdout.isatty(), version=version("stockade"))
        if options.warns:
            sys.stderr.write(WARNING)
        return _run(options, environment)
    except Stop as stop:
        (sys.stderr if stop.code else sys.stdout).write(stop.text)
        return stop.code
    except BrokenPipeError:
        # Whoever reads has enough. Nothing may be written when Python ends, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(options: Options, environment: Mapping[str, str]) -> int:
    interactive = not options.words and not options.script
    session = Session(options, interactive=interactive)
    connected = session.connect()
    try:
        if interactive:
            converse(session, environment)
            return 0
        if not connected:
            return 1
        return 0 if session.issue(_command(options), options.repeat) else 1
    finally:
        session.close()


def _command(options: Options) -> list[bytes]:
    """The command's words, with what comes from files or from standard input."""
    if options.script:
        return _eval(options)
    words = list(options.words)
    if options.quoted_input:
        given = [unquoted(word) for word in words]
        words = [word for word in given if word is not None]
        if len(words) < len(given):
            raise Stop("Invalid quoted string\n")
    if options.reads_last:
        return [*words, sys.stdin.buffer.read()]
    if options.tag is not None:
        if options.tag not in words:
            raise Stop("Using -X option but stdin tag not match.\n")
        words[words.index(options.tag)] = sys.stdin.buffer.read()
    return words


def _eval(options: Options) -> list[bytes]:
    """EVAL with the script of a file. The first word that is a comma stands between keys and arguments."""
    try:
        script = Path(options.script).read_bytes()
    except OSError as error:
        raise Stop(f"Can't open file '{options.script}': {error.strerror}\n") from error
    words = list(options.words)
    keys = words.index(b",") if b"," in words else len(words)
    return [b"EVAL", script, str(keys).encode(), *words[:keys], *words[keys + 1 :]]
