"""Writing files so that a crash, a full disk or a kill never leaves half of one behind."""

import errno
import fcntl
import glob
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vidgan.errors import UserError

TEMPORARY_MARK = ".tmp-"
"""Prefix of names that are still being written; readers ignore them, writers clear them."""


DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNUSABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT}
_UNUSABLE |= {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTEMPTY}
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class DiskFullError(UserError):
    """No room is left where something is written; what was there before is whole."""


def remove_leftovers(folder: str | Path) -> None:
    """Remove what killed processes of this machine were writing below a folder."""
    for left in Path(folder).rglob(f"{TEMPORARY_MARK}*"):
        _remove_leftover(left)


def _remove_leftover(path: Path) -> None:
    found = re.match(rf"{re.escape(TEMPORARY_MARK)}(\d+)-", path.name)
    if not found:
        return
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        _remove(path)
    except (OSError, OverflowError):
        # Alive, but somebody else's; or no process' number.
        return


def is_vacant(folder: str | Path) -> bool:
    """Whether a folder is not there or holds nothing but what is still being written."""
    folder = Path(folder)
    return not folder.exists() or (
        folder.is_dir() and all(p.name.startswith(TEMPORARY_MARK) for p in folder.iterdir())
    )


@contextmanager
def disk_errors_named(path: str | Path) -> Iterator[None]:
    """Turn what goes wrong on the disk while `path` is written into one sentence.

    Raises:
        DiskFullError: no room is left.
        UserError: the place cannot be written to.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = _system_error(error)
        reason = os.strerror(number)
        if number in DISK_FULL:
            raise DiskFullError(
                f"{path} cannot be written, the disk is full ({reason}): free some space and give"
                " the same command again"
            ) from error
        if number in _UNUSABLE and _concerns(error, Path(path)):
            raise UserError(
                f"{path} cannot be written ({reason}): choose another place, or make this one"
                " writable"
            ) from error
        raise


def _system_error(error: Exception) -> int:
    """The system's error number, which safetensors gives in words only; 0 if there is none."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return getattr(error, "errno", None) or (int(found[1]) if found else 0)


def _concerns(error: Exception, path: Path) -> bool:
    """Whether an error is about `path`, its temporary name, or a folder on the way there."""
    named = Path(os.fsdecode(getattr(error, "filename", None) or path))
    return named.parent == path.parent or named in path.parents or named == path


def cache_folder() -> Path:
    """The cache for clip sets, judges and more: VIDGAN_CACHE, or ~/.cache/vidgan."""
    return Path(os.environ.get("VIDGAN_CACHE") or Path.home() / ".cache" / "vidgan")


def write_file_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Call `write(temporary_path)` beside `path`, fsync it and rename it to `path`.

    The temporary name keeps the suffix of `path`. If `write` fails, the temporary file is removed
    and whatever stood at `path` stays as it was.

    Raises:
        UserError: the disk is full (`DiskFullError`), or the place cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY_MARK}{os.getpid()}-{path.name}")
    with disk_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            sync(temporary)
            temporary.replace(path)
        except BaseException:
            _remove(temporary)
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
        UserError: the disk is full (`DiskFullError`), or the place cannot be written to.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists already")
    temporary = path.with_name(f"{TEMPORARY_MARK}{os.getpid()}-{path.name}")
    with disk_errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{TEMPORARY_MARK}*-{glob.escape(path.name)}"):
            _remove_leftover(left)
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


def _remove(temporary: Path) -> None:
    # The error that led here is the one to be told, and not that nothing can be removed either.
    with suppress(OSError):
        shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink()


def take_lock(call: Callable[[int, int], Any], handle: int, flags: int, path: str | Path) -> None:
    """Lock an open file by `fcntl.flock` or `fcntl.lockf`; where there are no locks, say so.

    Raises:
        BlockingIOError: another process holds it, and `flags` do not wait.
    """
    try:
        call(handle, flags)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print(
            f"the file system of {path} knows no locks ({error.strerror}): see to it that no other"
            " process works there at the same time",
            file=sys.stderr,
        )


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Wait until no other process holds the file `lock`, and hold it; the lock dies with us."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        take_lock(fcntl.flock, handle, fcntl.LOCK_EX, lock)
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
