"""Programs that some tests run and that neither Python nor a wheel brings.

`make test` passes without any of them: what needs one is skipped, and the reason says how to get it. In CI (`CI=true`) it fails instead.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PACKAGES = {
    "bash": "bash",
    "chromium": "chromium",
    "curl": "curl",
    "git": "git",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "promtool": "prometheus",
    "redis-cli": "redis-tools",
    "redis-server": "redis-server",
    "unshare": "util-linux",
}
"""The Debian package of each."""

UNPACKED = Path(__file__).parents[1] / "build" / "promtool" / "usr" / "bin"
"""Where .ci/run puts promtool, whose package would start a server."""


def has(name: str) -> bool:
    """Whether the program is installed."""
    return shutil.which(name) is not None


def needs(name: str) -> str:
    """The path of an installed program. Without it the test is skipped, in CI it fails."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    if found:
        return found
    missing = f"{name} is not installed (Debian: apt-get install {PACKAGES[name]})"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def without(directory: Path, *names: str) -> str:
    """A PATH that has everything of this process's PATH but these programs. `directory` must not exist."""
    directory.mkdir()
    for folder in reversed(os.get_exec_path()):
        for program in Path(folder).iterdir() if Path(folder).is_dir() else ():
            link = directory / program.name
            link.unlink(missing_ok=True)
            if program.name not in names:
                link.symlink_to(program)
    return str(directory)
