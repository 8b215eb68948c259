"""Which code is running."""

import subprocess
from functools import cache
from pathlib import Path

import vidgan


@cache
def code_version() -> str:
    """The version, and in a git checkout its commit: `0.1.0, commit 1a2b3c4d5e with changes`."""
    package = Path(vidgan.__file__).parent
    if not (package.parent.parent / ".git").exists():
        return vidgan.__version__  # installed, maybe into somebody else's checkout
    commit = _git(package, "rev-parse", "--short=10", "HEAD")
    if not commit:
        return vidgan.__version__
    changes = " with changes" if _git(package, "status", "--porcelain", "--", ".") else ""
    return f"{vidgan.__version__}, commit {commit}{changes}"


def _git(folder: Path, *words: str) -> str:
    """What git prints; nothing if it is not there or refuses."""
    command = ["git", "-C", str(folder), *words]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
