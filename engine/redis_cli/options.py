"""redis-cli's command line: the options that work without the installed program."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from engine.errors import ConfigurationError
from engine.redis_cli.address import Address
from engine.redis_cli.formats import Output

USAGE = """Usage: stockade redis-cli [OPTIONS] [cmd [arg [arg ...]]]
  -h <hostname>      Server hostname, if it isn't the URL's.
  -p <port>          Server port, if it isn't the URL's.
  -s <socket>        Server socket (overrides hostname and port).
  -u <uri>           Server URI: redis://, rediss:// or unix://.
  -a, --pass <password>  Better in the environment variable REDISCLI_AUTH.
  --user <username>  Used to send AUTH username password. Needs -a.
  -n <db>            Database number.
  -2, -3             Start session in RESP2 or RESP3 protocol mode.
  -r <repeat>        Execute the command N times; negative: without an end.
  -i <interval>      Wait this many seconds between the commands of -r, as in 0.1.
  -x                 Read the last argument from standard input.
  -X <tag>           Read the argument that is <tag> from standard input.
  -d <delimiter>     Between the elements of a raw reply (default: \\n).
  -D <delimiter>     Behind a raw reply (default: \\n).
  -e                 Exit with 1 when the command fails.
  --raw, --no-raw    Replies for programs or for people; default: as standard output is a terminal.
  --csv, --json, --quoted-json  Replies in these formats.
  --quoted-input     Arguments are quoted strings.
  --show-pushes <yn> Whether to print RESP3 PUSH messages.
  --eval <file>      Send an EVAL command with the Lua script of <file>: keys, a comma, arguments.
  -v, --version      Print the version.

Without a command it reads commands from standard input, one a line, or from a prompt.
It is Stockade's own: where redis-cli or valkey-cli is installed, that runs instead.
"""


class Protocol(Enum):
    RESP2 = 2
    RESP3 = 3
    RESP3_IF_POSSIBLE = 0
    """As JSON output wants it."""


class Stop(Exception):
    """The program ends: `text` goes to standard error, or to standard output if all is well."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.code = code


@dataclass(frozen=True)
class Options:
    address: Address
    output: Output
    shows_pushes: bool
    protocol: Protocol | None = None
    repeat: int = 1
    interval_s: float = 0.0
    reads_last: bool = False
    tag: bytes | None = None
    delimiter: bytes = b"\n"
    end: bytes = b"\n"
    fails: bool = False
    quoted_input: bool = False
    script: str = ""
    warns: bool = False
    """A password stood on the command line."""
    words: tuple[bytes, ...] = ()
    """The command, or keys and arguments of `script`."""


def parse(
    arguments: Sequence[str], address: Address, environment: Mapping[str, str], *, in_terminal: bool, version: str
) -> Options:
    """Read the command line up to the command's name.

    Raises:
        Stop: only help or version was asked for.
        ConfigurationError: an option is unknown here, lacks its value, or has one that can't be.
    """
    if address.password is None and "REDISCLI_AUTH" in environment:
        address = replace(address, password=environment["REDISCLI_AUTH"])
    options = Options(address, Output.STANDARD if in_terminal else Output.RAW, shows_pushes=in_terminal)
    quiet, left = False, list(arguments)
    while left and left[0].startswith("-"):
        word = left.pop(0)
        if word == "--help" or (word == "-h" and not left):
            raise Stop(USAGE, 0)
        if word in ("-v", "--version"):
            raise Stop(f"redis-cli (stockade {version})\n", 0)
        if word == "--no-auth-warning":
            quiet = True
        elif word in FLAGS:
            options = FLAGS[word](options)
        elif word in VALUES and left:
            options = VALUES[word](options, left.pop(0))
        else:
            more = "redis-cli itself, which isn't installed, has more (Debian: redis-tools)"
            raise ConfigurationError(f"Unrecognized option or bad number of args for: '{word}'; {more}")
    return replace(options, words=tuple(map(os.fsencode, left)), warns=options.warns and not quiet)


def _located(options: Options, **changes: object) -> Options:
    return replace(options, address=replace(options.address, **changes))  # type: ignore[arg-type]


def _number(name: str, text: str, pattern: str = r"-?[0-9]{1,18}") -> str:
    if not re.fullmatch(pattern, text):
        raise ConfigurationError(f"redis-cli {name}: this must be a number: {text!r}")
    return text


def _port(text: str) -> int:
    port = int(_number("-p", text, "[0-9]{1,5}"))
    if not 0 < port < 65536:
        raise ConfigurationError(f"redis-cli -p: a port is from 1 to 65535: {text!r}")
    return port


def _pushes(text: str) -> bool:
    if text[:1].lower() not in ("y", "n"):
        raise ConfigurationError(f"redis-cli --show-pushes: this must be yes or no: {text!r}")
    return text[:1].lower() == "y"


def _json(options: Options, output: Output) -> Options:
    return replace(options, output=output, protocol=options.protocol or Protocol.RESP3_IF_POSSIBLE)


FLAGS: dict[str, Callable[[Options], Options]] = {
    "-2": lambda options: replace(options, protocol=Protocol.RESP2),
    "-3": lambda options: replace(options, protocol=Protocol.RESP3),
    "-x": lambda options: replace(options, reads_last=True),
    "-e": lambda options: replace(options, fails=True),
    "--raw": lambda options: replace(options, output=Output.RAW),
    "--no-raw": lambda options: replace(options, output=Output.STANDARD),
    "--csv": lambda options: replace(options, output=Output.CSV),
    "--json": lambda options: _json(options, Output.JSON),
    "--quoted-json": lambda options: _json(options, Output.QUOTED_JSON),
    "--quoted-input": lambda options: replace(options, quoted_input=True),
}
VALUES: dict[str, Callable[[Options, str], Options]] = {
    "-h": lambda options, text: _located(options, host=text),
    "-p": lambda options, text: _located(options, port=_port(text)),
    "-s": lambda options, text: _located(options, path=text),
    "-u": lambda options, text: replace(options, address=Address.from_url(text), warns="@" in text),
    "-a": lambda options, text: replace(_located(options, password=text), warns=True),
    "--pass": lambda options, text: replace(_located(options, password=text), warns=True),
    "--user": lambda options, text: _located(options, username=text),
    "-n": lambda options, text: _located(options, database=int(_number("-n", text, "[0-9]{1,9}"))),
    "-r": lambda options, text: replace(options, repeat=int(_number("-r", text))),
    "-i": lambda options, text: replace(options, interval_s=float(_number("-i", text, r"[0-9]*\.?[0-9]+"))),
    "-X": lambda options, text: replace(options, tag=os.fsencode(text)),
    "-d": lambda options, text: replace(options, delimiter=os.fsencode(text)),
    "-D": lambda options, text: replace(options, end=os.fsencode(text)),
    "--eval": lambda options, text: replace(options, script=text),
    "--show-pushes": lambda options, text: replace(options, shows_pushes=_pushes(text)),
}
