"""`stockade redis-cli`: the installed program where there is one, our own elsewhere, and both print the same."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from engine.redis_cli.address import Address
from engine.redis_cli.words import quoted, split, unquoted
from tests import servers
from tests.command.running import Command
from tests.command.service import ROOT, Service, environment, stockade
from tests.command.terminal import Terminal
from tests.programs import needs, without
from tests.redis_clis import installed, own

FORMATS = (
    "",
    "-3",
    "--no-raw",
    "--no-raw -3",
    "--csv",
    "--csv -3",
    "--json",
    "--json -2",
    "--quoted-json",
    "-d , -D |",
)
TYPES = ("string", "integer", "double", "null", "array", "set", "map", "push", "verbatim", "true", "false")
NESTED = "return {1, 'a', {3, {4, 'x'}}, {}, false, redis.status_reply('S'), redis.error_reply('E x')}"
MANY = "local all = {} for i = 1, 12 do all[i] = {i, {i, 'v'}} end return all"
MAPS = "redis.setresp(3); return {map = {a = {1, 2}, b = {map = {x = 1.5}}, c = {}, d = {map = {}}, e = {set = {a = true}}}}"
DOUBLES = "redis.setresp(3); return {{double = 1e300}, {double = 1/0}, {double = 0.1}, 3.9}"

COMMANDS: list[list[str]] = [
    *(["DEBUG", "PROTOCOL", name] for name in TYPES),
    *(["EVAL", script, "0"] for script in (NESTED, MANY, MAPS, DOUBLES, "return {}", "return {err = 'a\\r\\nb'}")),
    ["GET", "string"],
    ["GET", "binary"],
    ["GET", "nothing"],
    ["MGET", "string", "nothing", "binary"],
    ["SET", "other", 'a"\\\n\t\x07\x7fü\r'],
    ["SET", "other", ""],
    ["HGETALL", "hash"],
    ["HGETALL", "nothing"],
    ["LRANGE", "list", "0", "-1"],
    ["LPUSH", "string", "wrong type"],
    ["ZRANGE", "zset", "0", "-1", "WITHSCORES"],
    ["ZSCORE", "zset", "a"],
    ["XRANGE", "stream", "-", "+"],
    ["XINFO", "STREAM", "stream"],
    ["CONFIG", "GET", "maxmemory-policy"],
    ["GEOPOS", "geo", "here", "nowhere"],
    ["COMMAND", "INFO", "GET", "NOSUCH"],
    ["INCRBYFLOAT", "number", "1.5"],
    ["MEMORY", "DOCTOR"],
    ["LATENCY", "DOCTOR"],
    ["LOLWUT", "VERSION", "5", "1", "1", "1"],
    ["CLUSTER", "NODES"],
    ["HELLO"],
    ["HELLO", "3"],
    ["QUIT"],
    ["NOSUCH"],
    ["NOSUCH", "with", "arguments"],
    [""],
    ["-e", "NOSUCH"],
    ["-e", "PING"],
    ["-r", "3", "PING"],
    ["-r", "2", "-i", "0.01", "NOSUCH"],
    ["-r", "0", "PING"],
    ["-n", "2", "SET", "string", "in 2"],
    ["-n", "2", "GET", "string"],
    ["--eval", "SCRIPT", "a", "b", ",", "c", "d"],
    ["--eval", "SCRIPT"],
    ["--eval", "SCRIPT", ",", "c", ","],
    ["--eval", "SCRIPT", "a,", "b"],
    ["--eval", "/nowhere/at/all.lua"],
    ["-x", "SET", "string"],
    ["-X", "tag", "SET", "tag", "value"],
    ["-X", "tag", "SET", "string", "value"],
    ["--quoted-input", "SET", '"a\\x00b"', "'c d'"],
    ["--user", "nobody", "PING"],
    ["--no-auth-warning", "PING"],
    ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"],
]
"""Each one runs in every format. SCRIPT is a file; standard input has a line and a byte 0."""

LINES = [
    b'PING\n"open\n\n   \n2 PING\n0 PING\n-1 PING\n2x PING\nget string\nNOSUCH\n:set hints\n:set x\n:foo\n',
    b"clear\n",
    b'set a "\\x41\\n"\nget a\nset "a"b c\nget x"y"\n"\\q\\xzz"\nset q \'it\\\'s\'\nget q\n  get\t"q"  \nget q',
    b"SELECT 3\nSET a 1\nSELECT 99\nGET a\nMULTI\nSET a 2\nGET a\nEXEC\nMULTI\nDISCARD\nMULTI\nNOSUCH\nEXEC\nRESET\nGET a\n",
    b"HELLO 3\nHGETALL hash\nCLIENT TRACKING ON\nGET string\nSET string 2\nGET string\nPING",
    b"AUTH nobody x\nAUTH reader secret\nGET string\nSET string 1\nACL WHOAMI\n",
    b"ping\r\nquit\r\nping\n",
    b"exit\n",
    b"",
]
"""Commands from standard input, in every format."""


@pytest.fixture(scope="module", params=servers.one_and_the_other_slowly())
def debuggable(request: pytest.FixtureRequest) -> Iterator[str]:
    with servers.running(request.param, "--enable-debug-command", "yes") as url:
        yield url


def prepared(url: str) -> None:
    with Redis.from_url(url) as redis:
        redis.flushall()
        redis.execute_command("CONFIG", "RESETSTAT")
        redis.acl_setuser("reader", enabled=True, passwords=["+secret"], keys=["*"], commands=["+get", "+acl|whoami"])
        redis.mset({"string": "value", "binary": bytes(range(256)), "number": "3"})
        redis.hset("hash", mapping={"one": "1", "two": ""})
        redis.rpush("list", *range(10), "ten")
        redis.zadd("zset", {"a": 1.5, "b": 2})
        redis.xadd("stream", {"field": "value"}, id="1-1")
        redis.geoadd("geo", (13.361389, 38.115556, "here"))


NUMBER = re.compile(rb'(\bid"?(?: => |\s+(?:\d+\) )?|[,:])(?:\(integer\) )?)\d+')
"""A connection's, which HELLO has in its answer."""


def same(url: str, arguments: list[str], stdin: bytes) -> tuple[object, object]:
    """What both print, each on the same data."""
    printed = []
    for redis_cli in (installed, own):
        prepared(url)
        done = redis_cli(url, *arguments, stdin=stdin)
        printed.append((done.code, re.sub(NUMBER, rb"\1N", done.out), done.err))
    return printed[0], printed[1]


@pytest.mark.parametrize("options", FORMATS)
def test_every_reply_is_printed_as_the_installed_program_prints_it(
    debuggable: str, tmp_path: Path, options: str
) -> None:
    needs("redis-cli")
    script = tmp_path / "script.lua"
    script.write_text("return {KEYS, ARGV}\n")
    for command in COMMANDS:
        words = [str(script) if word == "SCRIPT" else word for word in command]
        theirs, ours = same(debuggable, [*options.split(), *words], b"a line\n\0")
        assert ours == theirs, command


@pytest.mark.parametrize("options", [*FORMATS, "--show-pushes yes", "--no-raw --show-pushes yes"])
def test_commands_from_standard_input_are_read_as_the_installed_program_reads_them(
    debuggable: str, options: str
) -> None:
    needs("redis-cli")
    for lines in LINES:
        theirs, ours = same(debuggable, options.split(), lines)
        assert ours == theirs, lines


@pytest.mark.parametrize(
    "arguments",
    [["-p", "1", "PING"], ["-h", "no.such.host.invalid", "PING"], ["-h", "::1", "-p", "1", "PING"]],
    ids=" ".join,
)
def test_a_server_that_is_not_there_is_reported_as_the_installed_program_does(arguments: list[str]) -> None:
    ours = own("redis://127.0.0.1", *arguments)
    assert (ours.code, ours.out) == (1, b"")
    assert ours.err.startswith(b"Could not connect to Redis at ")
    if arguments[1] != "::1":  # redis-cli leaves out the brackets.
        assert ours == installed("redis://127.0.0.1", *arguments)


def test_a_socket_that_is_not_there_is_reported_as_the_installed_program_does(tmp_path: Path) -> None:
    ours = own(f"unix://{tmp_path}/nothing.sock", stdin=b"PING\nPING\n")
    assert (
        ours.err.decode() == f"Could not connect to Redis at {tmp_path}/nothing.sock: No such file or directory\n" * 3
    )
    assert ours == installed(f"unix://{tmp_path}/nothing.sock", stdin=b"PING\nPING\n")


@pytest.mark.parametrize("output", ["--raw", "--no-raw"])
@pytest.mark.parametrize(
    ("name", "shown"),
    [("attrib", "Some real reply following the attribute"), ("bignum", "1234567999999999999999999999999999999")],
)
def test_what_redis_cli_of_7_0_does_not_know_is_printed_all_the_same(
    debuggable: str, name: str, shown: str, output: str
) -> None:
    [line] = own(debuggable, "-3", output, "DEBUG", "PROTOCOL", name).lines
    assert line.strip('"') == shown


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["-n", "99"], "SELECT 99 failed: "),
        (["--user", "reader", "-a", "wrong", "--no-auth-warning"], "AUTH failed: "),
        (["--pass", "wrong"], "AUTH failed: "),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_command_is_not_sent_where_the_login_or_the_database_was_refused(
    debuggable: str, options: list[str], what: str
) -> None:
    """redis-cli 7.0 goes on as another user or in another database; later versions stop, too."""
    prepared(debuggable)
    printed = own(debuggable, *options, "SET", "string", "changed")
    assert (printed.code, printed.out) == (1, b"")
    assert what in printed.err.decode()
    assert "wrong" not in printed.err.decode()
    with Redis.from_url(debuggable, decode_responses=True) as redis:
        assert redis.get("string") == "value"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--scan"],
            "Unrecognized option or bad number of args for: '--scan'; redis-cli itself, which isn't installed",
        ),
        (["--nothing", "PING"], "'--nothing'"),
        (["-"], "'-'"),
        (["-n"], "'-n'"),
        (["--eval"], "'--eval'"),
        (["-n", "one", "PING"], "redis-cli -n: this must be a number: 'one'"),
        (["-r", "often", "PING"], "redis-cli -r: this must be a number: 'often'"),
        (["-i", "-1", "PING"], "redis-cli -i: this must be a number: '-1'"),
        (["-p", "65536", "PING"], "redis-cli -p: a port is from 1 to 65535: '65536'"),
        (["--show-pushes", "maybe", "PING"], "redis-cli --show-pushes: this must be yes or no: 'maybe'"),
        (["-u", "http://host", "PING"], "The URL of Redis has a parameter with a wrong value"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_wrong_option_is_refused_in_one_line(
    run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], said: str
) -> None:
    monkeypatch.setenv("STOCKADE_REDIS_URL", f"unix://{tmp_path}/nothing.sock")
    monkeypatch.setenv("PATH", "/nowhere")
    printed = run("redis-cli", *arguments)
    assert (printed.code, printed.out) == (1, "")
    [line] = printed.err.splitlines()
    assert line.startswith("stockade: ")
    assert said in line


def test_a_parameter_of_the_url_that_does_not_exist_is_refused_as_by_every_command(
    run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STOCKADE_REDIS_URL", f"unix://{tmp_path}/nothing.sock?no_such_option=1")
    assert "STOCKADE_REDIS_URL has a parameter that isn't taken there" in run("redis-cli", "PING").err


def test_a_quoted_argument_that_is_not_closed_is_refused(debuggable: str) -> None:
    printed = own(debuggable, "--quoted-input", "SET", "a", '"b')
    assert (printed.code, printed.out, printed.err) == (1, b"", b"Invalid quoted string\n")


@pytest.mark.parametrize(
    ("option", "begins"), [("-h", "Usage: stockade redis-cli"), ("--version", "redis-cli (stockade ")]
)
def test_help_and_version_are_printed_without_a_server(option: str, begins: str) -> None:
    printed = own("redis://127.0.0.1:1", option)
    assert printed.code == 0
    assert printed.out.decode().startswith(begins)


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_words_that_were_quoted_are_split_into_themselves(words: list[bytes]) -> None:
    assert split(b" ".join(map(quoted, words))) == words
    for word in words:
        assert unquoted(quoted(word)) == word


@given(st.binary(max_size=40))
def test_any_line_is_split_or_refused(line: bytes) -> None:
    words = split(line)
    assert words is None or all(isinstance(word, bytes) for word in words)


def test_shutdown_ends_well(tmp_path: Path) -> None:
    with servers.running("valkey") as url:
        assert own(url, "SHUTDOWN", "NOSAVE").lines == []
        assert own(url, "PING").code == 1


# The command itself.


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with no redis-cli."""
    return without(tmp_path_factory.mktemp("bare") / "bin", "redis-cli", "valkey-cli")


@pytest.fixture(params=["installed", "own"])
def path(request: pytest.FixtureRequest, bare: str) -> str:
    """A PATH with the installed program, and one without it."""
    if request.param == "own":
        return bare
    needs("redis-cli")
    return os.environ["PATH"]


def test_options_and_exit_codes_are_redis_clis(service: Service, path: str) -> None:
    where = ("--data-dir", service.data_dir)
    raw = stockade("redis-cli", *where, "--raw", "-n", "0", "HGET", "stk:{p0}:meta", "gate", more={"PATH": path})
    assert (raw.returncode, raw.stdout) == (0, "open\n")
    assert stockade("redis-cli", *where, "-e", "NOSUCHCOMMAND", more={"PATH": path}).returncode == 1


def test_user_password_and_database_of_the_url_are_used(debuggable: str, path: str) -> None:
    prepared(debuggable)
    with Redis.from_url(debuggable) as redis:
        redis.acl_setuser("operator", enabled=True, passwords=["+p@ss word"], keys=["*"], commands=["+@all"])
    url = debuggable.replace("unix://", "unix://operator:p%40ss%20word@") + "?db=2"
    printed = stockade("redis-cli", "CLIENT", "INFO", more={"PATH": path, "STOCKADE_REDIS_URL": url})
    assert printed.stderr == ""
    assert " user=operator " in printed.stdout
    assert " db=2 " in printed.stdout


def test_a_server_with_tls_is_reached_with_the_certificates_of_the_url(tmp_path: Path, path: str) -> None:
    files = certificates(tmp_path)
    tls = [f"--{name.replace('_', '-')}={file}" for name, file in files.items()]
    port = free_port()
    with servers.running("redis", "--tls-port", str(port), *(word for option in tls for word in option.split("=", 1))):
        names = {"tls_ca_cert_file": "ssl_ca_certs", "tls_cert_file": "ssl_certfile", "tls_key_file": "ssl_keyfile"}
        query = "&".join(f"{names[name]}={file}" for name, file in files.items())
        more = {"PATH": path, "STOCKADE_REDIS_URL": f"rediss://localhost:{port}/1?{query}"}
        printed = stockade("redis-cli", "CLIENT", "INFO", more=more)
        assert (printed.returncode, printed.stderr) == (0, "")
        assert " db=1 " in printed.stdout
        # A server whose certificate nobody vouches for isn't spoken to.
        more["STOCKADE_REDIS_URL"] = f"rediss://localhost:{port}/1"
        refused = stockade("redis-cli", "PING", more=more)
        assert (refused.returncode, refused.stdout) == (1, "")
        why = "SSL_connect failed: certificate verify failed"
        assert refused.stderr == f"Could not connect to Redis at localhost:{port}: {why}\n"


def test_an_unbroken_reader_is_not_needed(service: Service, path: str) -> None:
    """As `| head -1` leaves it."""
    command = [
        sys.executable,
        "-m",
        "engine.cli",
        "redis-cli",
        "--data-dir",
        str(service.data_dir),
        "-r",
        "100000",
        "PING",
    ]
    with subprocess.Popen(
        command, env=environment({"PATH": path}), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == b"PONG\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) != 0


def test_what_is_published_and_what_others_send_is_printed_until_somebody_interrupts(
    debuggable: str, path: str
) -> None:
    prepared(debuggable)
    more = environment({"PATH": path, "STOCKADE_REDIS_URL": debuggable})
    with Redis.from_url(debuggable) as redis:
        for words, tell, line in (
            (["SUBSCRIBE", "news"], lambda: redis.publish("news", "a line"), b"a line\n"),
            (["MONITOR"], lambda: redis.get("a key"), b'"GET" "a key"\n'),
        ):
            command = [sys.executable, "-m", "engine.cli", "redis-cli", *words]
            with subprocess.Popen(command, env=more, cwd=ROOT, stdout=subprocess.PIPE) as process:
                assert process.stdout
                first = [process.stdout.readline() for _ in range(3 if words[1:] else 1)]
                assert first == ([b"subscribe\n", b"news\n", b"1\n"] if words[1:] else [b"OK\n"])
                tell()
                while (printed := process.stdout.readline()) and not printed.endswith(line):
                    pass
                assert printed.endswith(line)
                process.send_signal(signal.SIGINT)
                assert process.wait(20) in (130, -signal.SIGINT)


# Which program runs.


@pytest.fixture
def stub(tmp_path: Path) -> Callable[[str], str]:
    """Installs a program that prints its arguments and the password; gives a PATH with nothing else in it."""
    (tmp_path / "bin").mkdir()

    def install(name: str) -> str:
        program = tmp_path / "bin" / name
        program.write_text('#!/bin/sh\necho "${0##*/} $*"\necho "password $REDISCLI_AUTH"\nexit 7\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return str(program.parent)

    return install


def test_an_installed_program_runs_and_finds_the_password_in_its_environment_only(stub: Callable[[str], str]) -> None:
    path = stub("valkey-cli")
    more = {"STOCKADE_REDIS_URL": "redis://me:s%20cret@localhost:7000/3", "PATH": path}
    printed = stockade("redis-cli", "-x", "GET", "a", more=more)
    options = "-h localhost -p 7000 -n 3 --user me -x GET a"
    assert (printed.returncode, printed.stdout) == (7, f"valkey-cli {options}\npassword s cret\n")
    stub("redis-cli")
    assert stockade("redis-cli", "-x", "GET", "a", more=more).stdout.startswith(f"redis-cli {options}\n")


def test_a_url_that_the_installed_program_has_no_option_for_is_followed_by_our_own(
    stub: Callable[[str], str], tmp_path: Path
) -> None:
    files = certificates(tmp_path)
    key = f"ssl_keyfile={files['tls_key_file']}&ssl_certfile={files['tls_cert_file']}"
    url = f"rediss://localhost:1?{key}&ssl_password=secret"
    printed = stockade("redis-cli", "PING", more={"STOCKADE_REDIS_URL": url, "PATH": stub("redis-cli")})
    assert printed.stderr == "Could not connect to Redis at localhost:1: Connection refused\n"
    assert (printed.returncode, printed.stdout) == (1, "")


TLS = "-h h -p 6379 --tls --sni h"


@pytest.mark.parametrize(
    ("url", "options", "password"),
    [
        ("redis://localhost", "-h localhost -p 6379", None),
        ("redis://h:7000/3", "-h h -p 7000 -n 3", None),
        ("redis://h:7000?db=3", "-h h -p 7000 -n 3", None),
        ("redis://:s%20t@h/0", "-h h -p 6379", "s t"),
        ("redis://h?username=me&password=secret", "-h h -p 6379 --user me", "secret"),
        ("redis://me@h", "-h h -p 6379 --user me", ""),
        ("rediss://me:secret@h:1/0", "-h h -p 1 --tls --sni h --user me", "secret"),
        ("rediss://127.0.0.1", "-h 127.0.0.1 -p 6379 --tls", None),
        ("rediss://h?ssl_cert_reqs=none", f"{TLS} --insecure", None),
        ("rediss://h?ssl_cert_reqs=required&ssl_check_hostname=false", TLS, None),
        ("rediss://h?ssl_ca_certs=/ca&ssl_certfile=/c&ssl_keyfile=/k", f"{TLS} --cacert /ca --cert /c --key /k", None),
        ("rediss://h?ssl_ca_path=/cas&ssl_ciphers=AES", f"{TLS} --cacertdir /cas --tls-ciphers AES", None),
        ("unix:///a%20b/redis.sock", "-s /a b/redis.sock", None),
        ("unix://me:secret@/redis.sock?db=1", "-s /redis.sock -n 1 --user me", "secret"),
    ],
)
def test_the_installed_program_goes_where_the_url_says(url: str, options: str, password: str | None) -> None:
    address = Address.from_url(url)
    assert address.is_known_to_redis_cli
    given, variables = address.redis_cli_options()
    assert (" ".join(given), variables) == (options, {} if password is None else {"REDISCLI_AUTH": password})
    assert "secret" not in repr(address)


# The prompt.


@contextmanager
def prompt(url: str, path: str, directory: Path, *options: str, **more: str) -> Iterator[Terminal]:
    given = {"PATH": path, "STOCKADE_REDIS_URL": url, "REDISCLI_HISTFILE": str(directory / "history"), **more}
    command = [sys.executable, "-m", "engine.cli", "redis-cli", *options]
    with Terminal(command, environment(given), ROOT) as terminal:
        yield terminal


def test_in_a_terminal_replies_are_for_people(debuggable: str, path: str, tmp_path: Path) -> None:
    prepared(debuggable)
    with prompt(debuggable, path, tmp_path, "MGET", "string", "nothing") as terminal:
        assert terminal.end() == 0
        assert terminal.screen == '1) "value"\n2) (nil)\n'


def test_a_prompt_says_where_it_is_and_takes_one_command_after_the_other(
    debuggable: str, bare: str, tmp_path: Path
) -> None:
    prepared(debuggable)
    here = f"redis {debuggable.removeprefix('unix://')}"
    with prompt(debuggable, bare, tmp_path) as terminal:
        terminal.wait_for(f"{here}> ")
        assert terminal.answer("PING", f"{here}> ") == "PONG\n"
        assert terminal.answer("", f"{here}> ") == ""
        assert terminal.answer('SET "a key" "a\\tvalue"', f"{here}> ") == "OK\n"
        assert terminal.answer("2 GET 'a key'", f"{here}> ") == '"a\\tvalue"\n"a\\tvalue"\n'
        assert terminal.answer('GET "a', f"{here}> ") == "Invalid argument(s)\n"
        assert terminal.answer("NOSUCH", f"{here}> ").startswith("(error) ERR unknown command")
        assert terminal.answer("SELECT 3", f"{here}[3]> ") == "OK\n"
        assert terminal.answer("MULTI", f"{here}[3](TX)> ") == "OK\n"
        assert terminal.answer("SET a ü", f"{here}[3](TX)> ") == "QUEUED\n"
        assert terminal.answer("EXEC", f"{here}[3]> ") == "1) OK\n"
        assert terminal.answer("GET a", f"{here}[3]> ") == '"\\xc3\\xbc"\n'
        assert "COMMAND DOCS" in terminal.answer("help", f"{here}[3]> ")
        assert re.fullmatch(r"OK\n\(0\.\d\ds\)\n", terminal.answer("DEBUG SLEEP 0.5", f"{here}[3]> "))
        terminal.type("quit\n")
        assert terminal.end() == 0


@pytest.mark.parametrize("key", ["\x04", "\x03"], ids=["ctrl-d", "ctrl-c"])
def test_a_prompt_ends_with_the_keys_for_that(debuggable: str, bare: str, tmp_path: Path, key: str) -> None:
    with prompt(debuggable, bare, tmp_path) as terminal:
        terminal.wait_for("> ")
        terminal.type(key)
        try:
            terminal.end(seconds=3)
        except subprocess.TimeoutExpired:
            # CPython notices a signal that comes in the moment before readline waits only at the next key.
            terminal.type(key)
        assert terminal.end() == 0
        assert "Traceback" not in terminal.screen


def test_a_prompt_over_tcp_has_host_and_port_and_moves_to_another_server(
    debuggable: str, bare: str, tmp_path: Path
) -> None:
    port, other = free_port(), free_port()
    with servers.running("valkey", "--port", str(port)), servers.running("valkey", "--port", str(other)) as url:
        with Redis.from_url(url) as redis:
            redis.set("a", "of the other")
        with prompt(f"redis://127.0.0.1:{port}", bare, tmp_path) as terminal:
            terminal.wait_for(f"127.0.0.1:{port}> ")
            assert terminal.answer("GET a", "> ") == f"(nil)\n127.0.0.1:{port}"
            terminal.answer(f"connect 127.0.0.1 {other}", f"127.0.0.1:{other}> ")
            assert terminal.answer("GET a", f"127.0.0.1:{other}> ") == '"of the other"\n'


def test_a_prompt_outlives_its_server_and_goes_on_in_the_same_database(bare: str, tmp_path: Path) -> None:
    port = free_port()
    here = f"127.0.0.1:{port}"
    with prompt(f"redis://{here}/3", bare, tmp_path) as terminal:
        terminal.wait_for(f"Could not connect to Redis at {here}: Connection refused\nnot connected> ")
        for _ in range(2):
            with servers.running("valkey", "--port", str(port)):
                assert terminal.answer("PING", f"{here}[3]> ") == "PONG\n"
            assert terminal.answer("PING", "not connected> ") == "Error: Server closed the connection\n"
            refused = f"Could not connect to Redis at {here}: Connection refused\n"
            assert terminal.answer("PING", "not connected> ") == refused


def test_a_prompt_whose_login_was_refused_can_log_in_later(debuggable: str, bare: str, tmp_path: Path) -> None:
    prepared(debuggable)
    with prompt(debuggable, bare, tmp_path, "--user", "reader", REDISCLI_AUTH="wrong") as terminal:
        terminal.wait_for("AUTH failed: WRONGPASS")
        terminal.wait_for("> ")
        assert terminal.answer("AUTH reader secret", "> ").startswith("OK\n")
        assert terminal.answer("ACL WHOAMI", "> ").startswith('"reader"\n')


def test_a_prompt_remembers_lines_but_no_passwords(debuggable: str, bare: str, tmp_path: Path) -> None:
    prepared(debuggable)
    secret = ["AUTH reader secret", "ACL SETUSER x >secret", "CONFIG SET requirepass ''", "HELLO 2 AUTH reader secret"]
    with prompt(debuggable, bare, tmp_path) as terminal:
        for line in ("PING", *secret, "GET string"):
            terminal.wait_for("> ")
            terminal.type(f"{line}\n")
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert terminal.end() == 0
    history = tmp_path / "history"
    assert history.read_text() == "PING\nGET string\n"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    with prompt(debuggable, bare, tmp_path) as terminal:
        terminal.wait_for("> ")
        terminal.type("\x10\x10\n")  # Two lines back.
        terminal.wait_for("PONG")


def certificates(directory: Path) -> dict[str, Path]:
    """A certificate for localhost that vouches for itself, by the names of the server's options."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "key.pem").write_bytes(private)
    certificate_file = directory / "certificate.pem"
    return {
        "tls_cert_file": certificate_file,
        "tls_key_file": directory / "key.pem",
        "tls_ca_cert_file": certificate_file,
    }


def free_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
