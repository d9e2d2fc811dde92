"""URLs of Redis: each parameter is honoured by the service, the doctor and both redis-clis, or refused in one line; so is TLS."""

from __future__ import annotations

import inspect
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis import connection

from engine import doctor
from engine.checks import Verdict
from engine.config import from_environment
from engine.errors import ConfigurationError, StoreUnavailable
from engine.redis_cli.address import Address
from engine.redis_url import LOGIN, TLS
from engine.store import check, client
from tests import servers
from tests.conftest import SECRETS, settings
from tests.programs import needs
from tests.redis_clis import installed, own

ROOT = Path(__file__).parents[2]


def refusal(url: str, variable: str = "STOCKADE_REDIS_URL") -> str:
    with pytest.raises(ConfigurationError) as refused:
        from_environment(SECRETS | {"STOCKADE_REDIS_URL": "redis://nowhere"} | {variable: url})
    message = str(refused.value)
    assert "\n" not in message
    assert "hunter2" not in message
    assert message.startswith(variable)
    return message


def of_redis_py() -> list[str]:
    """Every parameter that redis-py would take from a URL."""
    kinds: list[Any] = [
        *(connection.AbstractConnection, connection.Connection, connection.SSLConnection),
        *(connection.UnixDomainSocketConnection, connection.ConnectionPool),
    ]
    found = {name for kind in kinds for name in inspect.signature(kind.__init__).parameters}
    return sorted(found | set(connection.URL_QUERY_ARGUMENT_PARSERS) | {*LOGIN, *TLS} - {"self", "kwargs"})


VALUE = {"db": "1", "ssl_cert_reqs": "none", "ssl_check_hostname": "false", "ssl_min_version": "772"}


@pytest.mark.parametrize("scheme", ["redis://h", "rediss://h", "unix:///tmp/socket"])
@pytest.mark.parametrize("name", of_redis_py())
def test_every_parameter_of_redis_py_is_documented_or_refused(name: str, scheme: str) -> None:
    value = VALUE.get(name, "/" if name == "ssl_ca_path" else "/dev/null")
    more = {"ssl_certfile": "&ssl_keyfile=/dev/null", "ssl_keyfile": "&ssl_certfile=/dev/null"}.get(name, "")
    url = f"{scheme}?{name}={value}{more}"
    documented = (ROOT / "docs" / "deploy" / "README.md").read_text()
    if name in LOGIN or (name in TLS and scheme.startswith("rediss")):
        assert settings(url).redis_url == url
        assert f"| `{name}` |" in documented
    else:
        assert "has a parameter that isn't taken there; it may have db, username, password" in refusal(url)
        assert f"| `{name}` |" not in documented or name in TLS


WRONG = [
    ("redis://h/abc", "must be redis://HOST:PORT/DB"),
    ("redis://h/0/1", "must be redis://HOST:PORT/DB"),
    ("redis://", "must be redis://HOST:PORT/DB"),
    ("redis:///0", "must be redis://HOST:PORT/DB"),
    ("REDIS://h", "must be redis://HOST:PORT/DB"),
    ("redis://h:0", "must be redis://HOST:PORT/DB"),
    ("redis://me:1#hunter2@h", "must be redis://HOST:PORT/DB"),
    ("redis://me:1/hunter2@h", "must be redis://HOST:PORT/DB"),
    ("redis://me:1?hunter2@h", "has a parameter that isn't taken there"),
    ("redis://me:1?hunter2=a@h", "has a parameter that isn't taken there"),
    ("unix://tmp/redis.sock", "must be redis://HOST:PORT/DB, rediss:// or unix://PATH"),
    ("unix://", "unix://PATH"),
    ("redis+sentinel://h:26379/mymaster", "must be redis://HOST:PORT/DB"),
    ("redis://h?db=1&db=2", "has db twice"),
    ("redis://h/1?db=2", "has db twice"),
    ("redis://h?db=", "has db twice, or without a value"),
    ("redis://h?db", "without a value"),
    ("redis://h?db=-1", "db must be a number"),
    ("redis://:hunter2@h?password=hunter2", "has password twice"),
    ("redis://me@h?username=you", "has username twice"),
    ("redis://h?ssl_ca_certs=/dev/null", "it may have db, username, password"),
    ("rediss://h?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs can't be read: /nowhere/ca.pem"),
    ("rediss://h?ssl_ca_certs=README.md", "ssl_ca_certs"),
    ("rediss://h?ssl_ca_path=/dev/null", "ssl_ca_path can't be read: /dev/null"),
    ("rediss://h?ssl_certfile=/dev/null", "needs both ssl_certfile and ssl_keyfile, or neither"),
    ("rediss://h?ssl_cert_reqs=optional", "ssl_cert_reqs must be required or none"),
    ("rediss://h?ssl_check_hostname=perhaps", "ssl_check_hostname must be true or false"),
    ("rediss://h?ssl_min_version=1.2", "ssl_min_version must be 771 (TLS 1.2) or 772 (TLS 1.3)"),
]


@pytest.mark.parametrize(("url", "says"), WRONG)
def test_what_a_url_can_not_mean_is_refused_in_one_line_without_its_password(url: str, says: str) -> None:
    for variable in ("STOCKADE_REDIS_URL", "STOCKADE_LEVERS_REDIS_URL"):
        assert says in refusal(url, variable)


@dataclass(frozen=True)
class Authority:
    """A private certificate authority, and a certificate of it for `localhost`. `locked` is its key with a password."""

    directory: Path

    def __getattr__(self, name: str) -> Path:
        return (
            self.directory
            / {"ca": "ca.pem", "cas": "cas", "cert": "cert.pem", "key": "key.pem", "locked": "locked.pem"}[name]
        )

    def options(self, port: int) -> list[str]:
        files = ("--tls-ca-cert-file", str(self.ca), "--tls-cert-file", str(self.cert), "--tls-key-file", str(self.key))
        return ["--bind", "127.0.0.1", "--tls-port", str(port), *files]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    openssl, directory = needs("openssl"), tmp_path_factory.mktemp("authority")

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=directory, check=True, capture_output=True, timeout=30)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=A shop's own CA")
    run("req", *curve, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=localhost")
    (directory / "extensions").write_text("subjectAltName=DNS:localhost\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions", "-days", "2")
    run("x509", "-req", "-in", "request.pem", *signing, "-out", "cert.pem")
    run("pkey", "-in", "key.pem", "-aes256", "-passout", "pass:hunter2", "-out", "locked.pem")
    (directory / "cas").mkdir()
    (directory / "cas" / "ca.pem").write_bytes((directory / "ca.pem").read_bytes())
    run("rehash", "cas")
    return Authority(directory)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def ports(authority: Authority) -> Iterator[dict[str, int]]:
    """Of two that speak TLS: a `closed` one only with those that have a certificate of the authority's, in TLS 1.2."""
    found = {"open": free_port(), "closed": free_port()}
    with (
        servers.running("redis", *authority.options(found["open"]), "--tls-auth-clients", "no"),
        servers.running(
            "redis", *authority.options(found["closed"]), "--tls-auth-clients", "yes", "--tls-protocols", "TLSv1.2"
        ),
    ):
        yield found


@dataclass(frozen=True)
class Way:
    """How to connect to which server, with names of `Authority` in braces; and the same without, which fails."""

    server: str
    url: str
    without: str


MINE = "ssl_certfile={cert}&ssl_keyfile={key}"
WAYS = {
    "ssl_ca_certs": Way("open", "localhost:{port}/0?ssl_ca_certs={ca}", "localhost:{port}/0"),
    "ssl_ca_path": Way("open", "localhost:{port}?ssl_ca_path={cas}", "localhost:{port}"),
    "ssl_cert_reqs": Way("open", "localhost:{port}?ssl_cert_reqs=none", "localhost:{port}"),
    "ssl_check_hostname": Way(
        "open",
        "127.0.0.1:{port}?ssl_ca_certs={ca}&ssl_check_hostname=false",
        "127.0.0.1:{port}?ssl_ca_certs={ca}",
    ),
    "ssl_certfile": Way("closed", "localhost:{port}?ssl_ca_certs={ca}&" + MINE, "localhost:{port}?ssl_ca_certs={ca}"),
    "ssl_password": Way(
        "closed",
        "localhost:{port}?ssl_ca_certs={ca}&ssl_certfile={cert}&ssl_keyfile={locked}&ssl_password=hunter2",
        "localhost:{port}?ssl_ca_certs={ca}&ssl_certfile={cert}&ssl_keyfile={locked}&ssl_password=wrong",
    ),
    "ssl_ciphers": Way(
        "open",
        "localhost:{port}?ssl_ca_certs={ca}&ssl_ciphers=ECDHE-ECDSA-AES128-GCM-SHA256",
        "localhost:{port}?ssl_ca_certs={ca}&ssl_ciphers=NO-SUCH-CIPHER",
    ),
    "ssl_min_version": Way(
        "closed",
        "localhost:{port}?ssl_ca_certs={ca}&ssl_min_version=771&" + MINE,
        "localhost:{port}?ssl_ca_certs={ca}&ssl_min_version=772&" + MINE,
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_tls_with_a_private_authority_is_spoken_as_the_url_says_by_everything(
    ports: dict[str, int], authority: Authority, tmp_path: Path, name: str
) -> None:
    way = WAYS[name]
    files = {each: getattr(authority, each) for each in ("ca", "cas", "cert", "key", "locked")}
    url, without = (f"rediss://{text.format(port=ports[way.server], **files)}" for text in (way.url, way.without))

    check(client(settings(url)))
    assert redis_check(url, tmp_path) == (Verdict.FINE, f"{Address.from_url(url)} answers")
    assert own(url, "PING").lines == ["PONG"]
    if Address.from_url(url).is_known_to_redis_cli:
        assert installed(url, "PING").lines == ["PONG"]

    with pytest.raises(StoreUnavailable) as refused:
        check(client(settings(without)))
    assert "hunter2" not in str(refused.value)
    verdict, said = redis_check(without, tmp_path)
    assert verdict is Verdict.TO_DO
    assert "\n" not in said
    assert own(without, "PING").code == 1
    # redis-cli itself never compares the name of the host.
    if Address.from_url(without).is_known_to_redis_cli and name != "ssl_check_hostname":
        assert installed(without, "PING").code == 1


def redis_check(url: str, directory: Path) -> tuple[Verdict, str]:
    found = {each.name: each for each in doctor.examine(directory, SECRETS | {"STOCKADE_REDIS_URL": url})}["redis"]
    return found.verdict, found.said


def test_every_parameter_for_tls_is_tried() -> None:
    assert {*WAYS, "ssl_keyfile"} == set(TLS)
