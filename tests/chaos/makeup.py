"""What a run's Redis is: which kind of server, and whether it lets in only the users of docs/deploy/redis.acl."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from loadtests.servers import KINDS, binary
from tests.integration.guarded import ACL, API, KEEPER, PASSWORD

ADMIN, SERVICE = "admin", "stockade-up"
"""Those that the file doesn't have: who strikes and judges, and `up`, whose API and keeper share one address of Redis."""

OWN = "chaos"
"""The name of connections by which faults strike."""


@dataclass(frozen=True)
class Makeup:
    kind: str = KINDS[0]
    guarded: bool = False

    def __str__(self) -> str:
        return f"{self.kind}, {'ACL of docs/deploy' if self.guarded else 'no ACL'}"

    @property
    def program(self) -> str:
        return str(binary(self.kind))

    def url(self, socket: Path, user: str) -> str:
        return f"unix://{user}:{PASSWORD}@{socket}" if self.guarded else f"unix://{socket}"

    def client(self, socket: Path) -> Redis:
        """One of the kit's own; no fault ends those."""
        return Redis.from_url(self.url(socket, ADMIN), decode_responses=True, socket_timeout=10, client_name=OWN)

    def options(self, directory: Path) -> list[str]:
        """Of the server in this directory; a replica logs in at its master as the administrator."""
        if not self.guarded:
            return []
        file = directory / "users.acl"
        file.write_text(users())
        return ["--aclfile", str(file), "--masteruser", ADMIN, "--masterauth", PASSWORD]


def users() -> str:
    """The file of docs/deploy with passwords, and with the two of our own. `up`'s has what API and keeper have together."""
    rights = {line.split()[1]: line.split()[4:] for line in ACL.splitlines() if " reset on " in line}
    ours = {SERVICE: [*rights[API], *rights[KEEPER]], ADMIN: ["~*", "&*", "+@all"]}
    [default] = [line for line in ACL.splitlines() if line.startswith("user default ")]
    lines = [f"user {name} reset on >{PASSWORD} {' '.join(words)}" for name, words in (rights | ours).items()]
    return "\n".join([default, *lines]) + "\n"


MAKEUPS = tuple(Makeup(kind, guarded) for guarded in (False, True) for kind in KINDS)


def makeup(seed: int) -> Makeup:
    """That of a seed: four that follow each other have each. Where a kind isn't installed another one stands in for it."""
    drawn = MAKEUPS[(seed - 1) % len(MAKEUPS)]
    return drawn if binary(drawn.kind) else Makeup(guarded=drawn.guarded)
