"""Compressed streams, unpacked once into the user's cache.

A compressed tar or NPZ can only be read from its start. To reach any clip of it, its plain bytes
are kept in `unpacked` below the cache folder; nothing is written anywhere else.
"""

import bz2
import gzip
import hashlib
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from zstandard import ZstdDecompressor, ZstdError

from vidgan.core.files import TEMPORARY_MARK, cache_folder, one_at_a_time, write_file_atomically
from vidgan.data.sources.containers.items import LIMITS, Limits
from vidgan.errors import UserError

_BLOCK_BYTES = 1 << 20

Opener = Callable[[], Any]


def unpacked(path: Path, limits: Limits = LIMITS) -> Path:
    """A file with the plain bytes of `path`: itself, or a copy in the cache if it is compressed.

    A truncated stream gives what it holds.

    Raises:
        UserError: the stream is damaged or beyond the limits.
    """
    with path.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        for magic, opener in _OPENERS.items():
            if start.startswith(magic):
                return unpack(path, "", partial(opener, file), file.tell, limits)
    return path


def unpack(
    path: Path,
    part: str,
    open_part: Opener,
    num_read: Callable[[], int],
    limits: Limits = LIMITS,
) -> Path:
    """The cached plain copy of one compressed stream.

    Args:
        path: the file that holds it; a change of it makes a new copy.
        part: which of the streams in the file.
        open_part: opens the stream for reading.
        num_read: how many compressed bytes have been read of it, or all that it has.
        limits: what it may unpack to.

    Raises:
        UserError: the stream is damaged or beyond the limits.
    """
    stat = path.stat()
    key = repr((str(path.resolve()), stat.st_size, stat.st_mtime_ns, part))
    digest = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    stem = re.sub(r"\W", "-", path.name, flags=re.ASCII)[:40]
    out = cache_folder() / "unpacked" / f"{stem}-{digest}"
    if out.exists():
        return out

    def write(temporary: Path) -> None:
        with open_part() as source, temporary.open("wb") as target:
            total = 0
            for block in iter(lambda: _read_block(source), b""):
                total += len(block)
                # Checked against what was read so far, so that a bomb is caught before it fills the
                # disk.
                limits.check_size(path, total, num_read())
                target.write(block)

    with one_at_a_time(out.with_name(f"{TEMPORARY_MARK}lock-{out.name}")):
        if out.exists():
            return out
        for left in out.parent.glob(f"{TEMPORARY_MARK}[0-9]*-{out.name}"):
            # Left by a killed process: any live writer holds the lock.
            left.unlink()
        try:
            write_file_atomically(out, write)
        except _DamagedStreamError as error:
            raise UserError(f"{path} is damaged ({error}): download it again") from error
    return out


_DAMAGE = (zlib.error, lzma.LZMAError, zipfile.BadZipFile, ZstdError, ValueError, OSError)


class _DamagedStreamError(Exception):
    """The compressed bytes are damaged, as opposed to a write error."""


def _read_block(source: Any) -> bytes:
    try:
        # read1, as read would lose what a cut stream still gave.
        block: bytes = source.read1(_BLOCK_BYTES)
    except EOFError:
        return b""
    except _DAMAGE as error:
        raise _DamagedStreamError(str(error)) from error
    return block


def _open_zstd(file: BinaryIO) -> Any:
    return ZstdDecompressor().stream_reader(file, read_across_frames=True)


_OPENERS: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\x28\xb5\x2f\xfd": _open_zstd,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
