"""Disks that only the processes of a run see, and that can be full (ENOSPC) without harm to anybody else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.programs import has, needs
from tests.waiting import wait_until

APART = "STOCKADE_CHAOS_APART"
"""Set where this program has begun again with mounts of its own."""

ROOM = "4g"


def go_apart() -> None:
    """Begin this program again where it may mount, if this machine lets us; else the disks can't be filled."""
    if APART in os.environ or not has("unshare"):
        return
    unshare = needs("unshare")
    words = [unshare, "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",))]
    probe = [*words, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        os.environ[APART] = "1"
        os.execv(unshare, [*words, sys.executable, *sys.orig_argv[1:]])


def can_be_full() -> bool:
    return APART in os.environ


class Disk:
    """A directory; where that can be, a disk of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o755)
        if can_be_full():
            _run("mount", "-t", "tmpfs", "-o", f"size={ROOM},mode=0755", "tmpfs", directory)

    def fill(self) -> None:
        """Leave no room: the disk is as large as what it holds."""
        wait_until(self._shrinks)

    def clear(self) -> None:
        _run("mount", "-o", f"remount,size={ROOM}", self.directory)

    def stop(self) -> None:
        if can_be_full():
            _run("umount", "--lazy", self.directory)

    def _shrinks(self) -> bool:
        """It doesn't if something was written meanwhile."""
        words = ("mount", "-o", f"remount,size={shutil.disk_usage(self.directory).used}", str(self.directory))
        return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _run(*words: object) -> None:
    subprocess.run([*map(str, words)], check=True, capture_output=True)
