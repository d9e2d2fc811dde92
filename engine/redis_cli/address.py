"""Where the server is, as the URL says, and the same as redis-cli's options."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection, parse_url

from engine.errors import ConfigurationError

TLS_OPTIONS = {
    "ssl_ca_certs": "--cacert",
    "ssl_ca_path": "--cacertdir",
    "ssl_certfile": "--cert",
    "ssl_keyfile": "--key",
    "ssl_ciphers": "--tls-ciphers",
}
"""Parameters of a rediss:// URL that redis-cli has an option for."""

TLS_CHECKS = ("ssl_cert_reqs", "ssl_check_hostname")
"""redis-cli knows only whether certificates are checked: --insecure. It never compares the host's name."""


@dataclass(frozen=True)
class Address:
    """`path` of a unix socket wins over host and port. `tls` has the URL's `ssl_` parameters, None without TLS."""

    host: str = "localhost"
    port: int = 6379
    path: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: Mapping[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def from_url(cls, url: str) -> Address:
        """Read a URL as redis-py does.

        Raises:
            ConfigurationError: a parameter has a wrong value, or the scheme is none of redis, rediss and unix.
        """
        try:
            given = parse_url(url)
        except ValueError as error:
            # The URL may have a password, and redis-py's text may have a part of the URL.
            raise ConfigurationError("The URL of Redis has a parameter with a wrong value") from error
        over_tls = given.get("connection_class") is SSLConnection
        return cls(
            host=given.get("host", cls.host),
            port=int(given.get("port", cls.port)),
            path=given.get("path", ""),
            username=given.get("username"),
            # As redis-py logs in; redis-cli does only with a password.
            password=given.get("password", "" if "username" in given else None),
            database=given.get("db", 0),
            tls={name: value for name, value in given.items() if name.startswith("ssl_")} if over_tls else None,
        )

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_known_to_redis_cli(self) -> bool:
        """False if TLS has a parameter that redis-cli has no option for, as a key file's password."""
        return set(self.tls or ()) <= {*TLS_OPTIONS, *TLS_CHECKS}

    def redis_cli_options(self) -> tuple[list[str], dict[str, str]]:
        """Options and environment of redis-cli. The password is in the environment: every user can read a command line."""
        options = ["-s", self.path] if self.path else ["-h", self.host, "-p", str(self.port)]
        if self.database:
            options += ["-n", str(self.database)]
        if self.tls is not None:
            options.append("--tls")
            options += ["--sni", self.host] if _is_name(self.host) else []
            options += ["--insecure"] if self.tls.get("ssl_cert_reqs") == "none" else []
            for name, option in TLS_OPTIONS.items():
                options += [option, self.tls[name]] if name in self.tls else []
        if self.username is not None:
            options += ["--user", self.username]
        return options, {} if self.password is None else {"REDISCLI_AUTH": self.password}

    def connection(self) -> AbstractConnection:
        """A connection of redis-py's that isn't connected yet and will not log in by itself: AUTH, SELECT and HELLO follow."""
        # A command may block for as long as it likes.
        common: dict[str, Any] = {"socket_timeout": None, "socket_keepalive": True, "redis_connect_func": _send_nothing}
        if self.path:
            del common["socket_keepalive"]
            return UnixDomainSocketConnection(path=self.path, **common)  # type: ignore[abstract]
        if self.tls is None:
            return Connection(host=self.host, port=self.port, **common)
        return SSLConnection(host=self.host, port=self.port, **common, **self.tls)


def _send_nothing(connection: object) -> None:
    return


def _is_name(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False
