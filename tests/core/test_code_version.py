"""The version of the running code, in a checkout and installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vidgan

PRINT = "from vidgan.core.code_version import code_version; print(code_version())"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout with the package in `src`, all committed."""
    package = tmp_path / "src" / "vidgan"
    (package / "core").mkdir(parents=True)
    for name in ("__init__.py", "core/__init__.py", "core/code_version.py"):
        shutil.copy(Path(vidgan.__file__).parent / name, package / name)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "src")
    git(tmp_path, "-c", "user.name=n", "-c", "user.email=n@n", "commit", "-qm", "all")
    return tmp_path


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def printed(checkout: Path) -> str:
    """What a fresh process prints that imports the package of the checkout."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", PRINT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_checkout_names_its_commit_and_changes(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "--short=10", "HEAD")
    assert printed(checkout) == f"{vidgan.__version__}, commit {commit}"
    (checkout / "src" / "vidgan" / "new.py").touch()
    assert printed(checkout) == f"{vidgan.__version__}, commit {commit} with changes"


def test_without_a_repository_the_version_is_all(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    assert printed(checkout) == vidgan.__version__
