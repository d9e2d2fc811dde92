"""URLs of Redis: what may stand in one. redis-py takes any parameter, drops what it can't read, and lets it win over the service's own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlparse

from engine.errors import ConfigurationError

SCHEMES = ("redis", "rediss", "unix")
LOGIN = ("db", "username", "password")
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
TLS = (*FILES, "ssl_ca_path", "ssl_password", "ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers", "ssl_min_version")
"""Parameters of rediss:// alone."""

VALUES = {
    "db": r"[0-9]{1,9}",
    "ssl_cert_reqs": "required|none",
    "ssl_check_hostname": r"(?i)true|false|yes|no",
    # As in Python's ssl.TLSVersion: TLS 1.2 and 1.3.
    "ssl_min_version": "771|772",
}
MEANS = {
    "db": "a number",
    "ssl_cert_reqs": "required or none",
    "ssl_check_hostname": "true or false",
    "ssl_min_version": "771 (TLS 1.2) or 772 (TLS 1.3)",
}


def refuse_bad_url(variable: str, text: str) -> None:
    """Raises: ConfigurationError: what can't be used, by name. A password may stand anywhere, so no value is shown."""
    if not _is_url(text):
        raise ConfigurationError(f"{variable} must be redis://HOST:PORT/DB, rediss:// or unix://PATH")
    url = urlparse(text)
    pairs = parse_qsl(url.query, keep_blank_values=True)
    names = [name for name, _ in pairs]
    known = LOGIN + (TLS if url.scheme == "rediss" else ())
    for name, value in pairs:
        if name not in known:
            raise ConfigurationError(
                f"{variable} has a parameter that isn't taken there; it may have {', '.join(known)}"
            )
        if names.count(name) > 1 or not value:
            raise ConfigurationError(f"{variable} has {name} twice, or without a value")
        if not re.fullmatch(VALUES.get(name, ".*"), value):
            raise ConfigurationError(f"{variable}: {name} must be {MEANS[name]}")
        if (name in FILES and not os.access(value, os.R_OK)) or (name == "ssl_ca_path" and not Path(value).is_dir()):
            raise ConfigurationError(f"{variable}: {name} can't be read: {value}")
        if name in (*FILES, "ssl_ca_path") and not Path(value).is_absolute():
            raise ConfigurationError(f"{variable}: {name} must be an absolute path")
    twice = [name for name, given in _before_the_query(text).items() if given and name in names]
    if twice:
        raise ConfigurationError(f"{variable} has {twice[0]} twice")
    if ("ssl_keyfile" in names) != ("ssl_certfile" in names):
        raise ConfigurationError(f"{variable} needs both ssl_certfile and ssl_keyfile, or neither")


def _before_the_query(text: str) -> Mapping[str, str | None]:
    url = urlparse(text)
    database = url.path.removeprefix("/") if url.scheme != "unix" else ""
    return {"db": database, "username": url.username, "password": url.password}


def _is_url(text: str) -> bool:
    try:
        url = urlparse(text)
        # What follows a # would be dropped: it belongs to a password, where it is %23.
        if url.scheme not in SCHEMES or not text.startswith(f"{url.scheme}://") or url.port == 0 or "#" in text:
            return False
        if url.scheme == "unix":
            return unquote(url.path).startswith("/") and len(url.path) > 1 and not url.hostname
        return bool(url.hostname) and bool(re.fullmatch(r"(/[0-9]{0,9})?", url.path))
    except ValueError:
        return False
