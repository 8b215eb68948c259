"""The version of the running code."""

import subprocess
from functools import cache
from pathlib import Path

VERSION = "0.1.0"
"""Of the package; `pyproject.toml` says the same."""

PACKAGE_FOLDER = Path(__file__).parent.parent
"""Where the package `vidgan` lies: installed, or below `src` of a checkout."""


@cache
def code_version() -> str:
    """The version, and in a git checkout its commit: `0.1.0, commit 1a2b3c4d5e with changes`."""
    if not (PACKAGE_FOLDER.parent.parent / ".git").exists():
        return VERSION  # installed, possibly inside another project's checkout
    commit = _git(PACKAGE_FOLDER, "rev-parse", "--short=10", "HEAD")
    if not commit:
        return VERSION
    changes = " with changes" if _git(PACKAGE_FOLDER, "status", "--porcelain", "--", ".") else ""
    return f"{VERSION}, commit {commit}{changes}"


def _git(folder: Path, *words: str) -> str:
    """What git prints; empty if git is missing or fails."""
    command = ["git", "-C", str(folder), *words]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
