"""A server of its own with docs/deploy/redis.acl, which a test may kill and start again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.store import client
from tests.conftest import settings
from tests.integration.shops import PrivateRedis

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
ACL = (DEPLOY / "redis.acl").read_text()
FIRST_LINE, _, USERS_LINES = ACL.partition("\n")
FORMER_FIRST_LINE = "user default reset off"
PASSWORD = "of-the-tests"
API, KEEPER, ONCALL, LEVERS = "stockade-api", "stockade-keeper", "stockade-oncall", "stockade-levers"


class Guarded(PrivateRedis):
    """A server with an AOF and the ACL file, which has an administrator beside our users."""

    def __init__(self, kind: str, acl: Path) -> None:
        self.acl = acl
        self.use(FIRST_LINE)
        aof = ("--appendonly", "yes", "--appendfsync", "always", "--notify-keyspace-events", "Ex")
        super().__init__(kind, "--aclfile", str(acl), *aof, login=f"admin:{PASSWORD}@")

    def use(self, first_line: str) -> None:
        """Write the file with another line for `default`."""
        with_passwords = USERS_LINES.replace(" reset on ", f" reset on >{PASSWORD} ")
        self.acl.write_text(f"{first_line}\n{with_passwords}\nuser admin reset on >{PASSWORD} ~* &* +@all\n")

    def url_of(self, user: str) -> str:
        return self.url.replace("//admin:", f"//{user}:")

    @property
    def admin(self) -> Any:
        return client(settings(self.url))

    def restart(self) -> None:
        self.kill()
        self.start()
