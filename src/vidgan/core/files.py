"""Writing files so that a crash, a full disk or a kill never leaves a partial one.

And reading small files that may be damaged or untrusted: text and JSON of bounded size,
of ordinary files alone, with a seal that shows the change of any bit.
"""

import errno
import glob
import hashlib
import io
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from vidgan.errors import UserError

_NAME_BYTES = 255
"""Longest name of a file on all usual disks."""
TEXT_BYTES = 1 << 28
"""Longest text that is read into memory; a manifest of a million clips takes half of it."""
SEAL = "seal"
"""Key of the hash of everything else in a JSON file."""

TEMPORARY_MARK = ".tmp-"
"""Prefix of names that are still being written; readers ignore them, writers clear them."""


DISK_FULL = {
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("the quota of the disk is used up", "free some space"),
    errno.EFBIG: (
        "the limit on the size of a file is reached",
        "raise it (ulimit -f), or choose another disk,",
    ),
}
"""The system's errors that say that there is no room: what each means, and what helps."""
_UNUSABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT}
_UNUSABLE |= {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTEMPTY}
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


LEAST_FREE_BYTES = 1 << 20
"""Minimum free space for anything that is written."""


class DiskFullError(UserError):
    """There is no room on the disk; what was there before is intact.

    Attributes:
        number: the system's error, a key of `DISK_FULL`.
    """

    def __init__(self, sentence: str, number: int = errno.ENOSPC) -> None:
        super().__init__(sentence)
        self.number = number


def remove_leftovers(folder: str | Path) -> None:
    """Remove what killed processes on this machine were writing below a folder."""
    for left in Path(folder).rglob(f"{TEMPORARY_MARK}*"):
        _remove_leftover(left)


def _remove_leftover(path: Path) -> None:
    found = re.match(rf"{re.escape(TEMPORARY_MARK)}(\d+)-", path.name)
    if not found:
        return
    if os.name == "nt":
        # On Windows signal 0 is Ctrl-C, so whether the writer lives is unknown.
        return
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        _remove(path)
    except (OSError, OverflowError):
        # Alive, but another user's; or not a process id.
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
            what, remedy = DISK_FULL[number]
            raise DiskFullError(
                f"{path} cannot be written, {what} ({reason}): {remedy} and give the same command"
                " again",
                number,
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


def open_file(path: str | Path) -> io.BufferedReader:
    """Open an ordinary file for reading its bytes.

    Raises:
        OSError: it is not there or may not be read.
        UserError: it is a folder, a device or a named pipe, which would be waited for.
    """
    # Otherwise opening a named pipe would block until something writes to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{path} is not a file")
    return os.fdopen(handle, "rb")


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file in hexadecimal digits; it need not fit in memory.

    Raises what `open_file` raises.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_place(path: str | Path, needed_bytes: int = LEAST_FREE_BYTES) -> None:
    """Refuse an output path that cannot be written, before any work is done.

    Args:
        path: file or folder to be made, or to be written to.
        needed_bytes: room that it will take at least.

    Raises:
        UserError: a file lies in the way, the folder cannot be written to, or its disk is full.
    """
    place = Path(path).absolute()
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    if not there.is_dir() and there != place:
        raise UserError(f"{there} is a file, so {path} cannot be made in it; choose another place")
    folder = there if there.is_dir() else there.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{folder} cannot be written to, so {path} cannot be; choose another place")
    disk = shutil.disk_usage(folder)
    if not disk.total:
        # No disk lies behind it, as with /proc: whether it takes files is to be tried.
        _try_to_write(folder, path)
        return
    free = disk.free
    if free < needed_bytes:
        raise DiskFullError(
            f"{path} needs {needed_bytes / 2**20:,.1f} MiB at least, and its disk has "
            f"{free / 2**20:,.1f} MiB left: free some space, or choose another place"
        )


def _try_to_write(folder: Path, path: str | Path) -> None:
    try:
        with tempfile.NamedTemporaryFile(prefix=TEMPORARY_MARK, dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder} takes no files ({error.strerror}), so {path} cannot be written; choose "
            "another place"
        ) from error


def write_file_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Call `write(temporary_path)` beside `path`, fsync it and rename it to `path`.

    The temporary name keeps the suffix of `path`. If `write` fails, the temporary file is removed
    and whatever stood at `path` stays as it was.

    Raises:
        UserError: the disk is full (`DiskFullError`), or the place cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(_temporary_name(path))
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


def _temporary_name(path: Path) -> str:
    name = f"{TEMPORARY_MARK}{os.getpid()}-{path.name}"
    if len(os.fsencode(name)) <= _NAME_BYTES:
        return name
    # The name itself fits on the disk, so the file has to be writable under another one.
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    return f"{TEMPORARY_MARK}{os.getpid()}-{digest}{path.suffix[:16]}"


def is_leftover(name: str, of: "re.Pattern[str]") -> bool:
    """Whether a killed process left `name` while it wrote or removed something called as `of`."""
    found = re.fullmatch(rf"{re.escape(TEMPORARY_MARK)}(?:\d+-)?(.+)", name)
    return found is not None and of.fullmatch(found[1]) is not None


def write_text_atomically(path: str | Path, text: str) -> None:
    """Write UTF-8 text with `write_file_atomically`."""
    write_file_atomically(path, lambda temporary: _write_text(temporary, text))


def write_json_atomically(path: str | Path, value: Any) -> None:
    """Write plain values as indented JSON; NaN and infinity are refused."""
    write_text_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_sealed_json(path: str | Path, record: dict[str, Any]) -> None:
    """Write a mapping with a hash of its contents, for `read_sealed_json`."""
    write_json_atomically(path, {**record, SEAL: _hash_of(record)})


def check_regular(path: str | Path) -> None:
    """Refuse an existing path that is not an ordinary file.

    Raises:
        UserError: it is a folder, a device, or a named pipe, which would be waited for.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise UserError(f"{path} is not a file")


def refuse_special(path: str | Path) -> None:
    """Refuse an existing path that is neither an ordinary file nor a folder.

    Raises:
        UserError: it is a device, a socket, or a named pipe, which would be waited for.
    """
    if Path(path).exists() and not Path(path).is_dir() and not Path(path).is_file():
        raise UserError(
            f"{path} is neither a file nor a folder but a device, a pipe or a socket: name a file "
            "or folder that holds the data"
        )


def read_bytes(path: str | Path, max_bytes: int) -> bytes:
    """The bytes of an ordinary file that has `max_bytes` at most.

    Raises:
        OSError: it is not there or may not be read.
        UserError: it is not a file, or longer.
    """
    with open_file(path) as file:
        # Python sets as many bytes aside as are asked for.
        data = file.read(min(os.fstat(file.fileno()).st_size, max_bytes) + 1)
    if len(data) > max_bytes:
        raise UserError(f"{path} is longer than {max_bytes:,} bytes")
    return data


def read_text(path: str | Path, max_bytes: int = TEXT_BYTES, errors: str = "strict") -> str:
    """The UTF-8 text of an ordinary file.

    Args:
        path: the file.
        max_bytes: a longer one is refused.
        errors: what becomes of bytes that are not text, as for `bytes.decode`.

    Raises:
        OSError: it is not there or may not be read.
        UserError: it is not a file, too long, or not text.
    """
    try:
        return read_bytes(path, max_bytes).decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged: it is not UTF-8 text") from error


def parse_value(text: str, what: str) -> Any:
    """The value that a JSON text holds; `what` names its source in messages.

    Raises:
        UserError: the text is not JSON, nested too deeply, or has a key twice in one mapping.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{what} is damaged ({error})") from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The mapping of these pairs: of two values with one key a reader sees either."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twin = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twin[:100]!r} is there twice")
    return found


def parse_json(text: str, what: str) -> dict[str, Any]:
    """The mapping that a JSON text holds; `what` names its source in messages.

    Raises:
        UserError: the text is not JSON, nested too deeply, or something else than a mapping.
    """
    found = parse_value(text, what)
    if not isinstance(found, dict):
        raise UserError(f"{what} is damaged: it holds no mapping")
    return found


def read_json(path: str | Path, max_bytes: int = TEXT_BYTES) -> dict[str, Any]:
    """The mapping in a JSON file; raises what `read_text` and `parse_json` do."""
    return parse_json(read_text(path, max_bytes), str(path))


def read_sealed_json(path: str | Path, *, unsealed: bool = False) -> dict[str, Any]:
    """The mapping in a JSON file, without its seal.

    Args:
        path: the file.
        unsealed: whether one without a seal is taken as well, as earlier versions wrote it.

    Raises:
        OSError: it is not there or may not be read.
        UserError: it is damaged, or differs from what was written.
    """
    record = read_json(path)
    seal = record.pop(SEAL, None)
    if seal != _hash_of(record) and not (seal is None and unsealed):
        raise UserError(f"{path} is damaged: it does not match its checksum")
    return record


def _hash_of(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def write_folder_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Call `write(temporary_folder)`, fsync every file in it and rename the folder to `path`.

    Raises:
        FileExistsError: `path` is there already.
        UserError: the disk is full (`DiskFullError`), or the place cannot be written to.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists already")
    temporary = path.with_name(_temporary_name(path))
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
    # Report the error that led here, not that the removal failed too.
    with suppress(OSError):
        shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink()


def take_lock(
    handle: int,
    path: str | Path,
    *,
    wait: bool = False,
    inherited: bool = True,
    shared: bool = False,
) -> bool:
    """Lock an open file; the lock dies with its processes. Warn where locks are not supported.

    Args:
        handle: of the file, which stays open as long as the lock is wanted.
        path: what the lock is for, in the message.
        wait: wait until nobody else holds it.
        inherited: whether processes that this one forks hold it too, even when this one has been
            killed. A lock that is not inherited is never waited for.
        shared: of a lock that is not inherited: several processes may hold it so at the same time,
            and the file need only be open for reading.

    Returns:
        Whether it was taken: False if another process holds it, and nothing is waited for.
    """
    try:
        if inherited:
            return lock_descriptor(handle, blocking=wait)
        return _lock_record(handle, shared)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print(
            f"the file system of {path} does not support locks ({error.strerror}): make sure that "
            "no other"
            " process works there at the same time",
            file=sys.stderr,
        )
        return True


def _lock_record(handle: int, shared: bool) -> bool:
    try:
        import fcntl
    except ImportError:
        # Such systems cannot fork, so no child has the lock of the whole file either.
        return lock_descriptor(handle, blocking=False)
    try:
        fcntl.lockf(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextmanager
def one_at_a_time(lock: Path, busy: str = "") -> Iterator[None]:
    """Hold the file `lock`, which only one process can; the lock dies with it.

    Args:
        lock: made if it is not there, and left there.
        busy: what to say if another process holds it; without it, its end is waited for.

    Raises:
        UserError: another process holds it, and `busy` says so.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        if not take_lock(handle, lock.parent, wait=not busy):
            raise UserError(busy)
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
    # File names may hold bytes that are not text; pages escape them.
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
