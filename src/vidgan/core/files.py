"""Writing files so that a crash, a full disk or a kill never leaves half of one behind."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY_MARK = ".tmp-"
"""Prefix of names that are still being written; readers ignore them, writers clear them."""


def cache_folder() -> Path:
    """The cache for clip sets, judges and more: VIDGAN_CACHE, or ~/.cache/vidgan."""
    return Path(os.environ.get("VIDGAN_CACHE") or Path.home() / ".cache" / "vidgan")


def write_file_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Call `write(temporary_path)` beside `path`, fsync it and rename it to `path`.

    The temporary name keeps the suffix of `path`. If `write` fails, the temporary file is removed
    and whatever stood at `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_MARK}{os.getpid()}-{path.name}")
    try:
        write(temporary)
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_text_atomically(path: str | Path, text: str) -> None:
    """Write UTF-8 text with `write_file_atomically`."""
    write_file_atomically(path, lambda temporary: _write_text(temporary, text))


def write_json_atomically(path: str | Path, value: Any) -> None:
    """Write plain values as indented JSON; NaN and infinity are refused."""
    write_text_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_folder_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Call `write(temporary_folder)`, fsync every file in it and rename the folder to `path`.

    Raises:
        FileExistsError: `path` is there already.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists already")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_MARK}{os.getpid()}-{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        write(temporary)
        for item in sorted(temporary.rglob("*")):
            sync(item)
        sync(temporary)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(path.parent)


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Wait until no other process holds the file `lock`, and hold it; the lock dies with us."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sync(path: Path) -> None:
    """Force a file's or folder's contents to the disk (folders only where the system can)."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_text(path: Path, text: str) -> None:
    # Names of files may hold bytes that are no text; pages that tell of them spell them out.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
