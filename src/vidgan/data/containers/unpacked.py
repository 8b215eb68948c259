"""Compressed streams, unpacked once into the user's cache under a name of ours.

A compressed tar or NPZ can only be read from its start. To reach any clip of it, its plain bytes
are kept in `unpacked` below the cache folder; nothing is written anywhere else.
"""

import bz2
import gzip
import hashlib
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from zstandard import ZstdDecompressor, ZstdError

from vidgan.data.containers.limits import LIMITS, Limits
from vidgan.errors import UserError
from vidgan.files import write_file_atomically

_BLOCK_BYTES = 1 << 20

Opener = Callable[[], Any]


def unpacked(path: Path, limits: Limits = LIMITS) -> Path:
    """A file with the plain bytes of `path`: itself, or a copy in the cache if it is compressed.

    A stream that ends too early gives what it holds.

    Raises:
        UserError: the stream is damaged or beyond the limits.
    """
    with path.open("rb") as file:
        start = file.read(6)
    for magic, opener in _OPENERS.items():
        if start.startswith(magic):
            return unpack(path, "", partial(opener, path), path.stat().st_size, limits)
    return path


def unpack(path: Path, part: str, open_part: Opener, packed: int, limits: Limits = LIMITS) -> Path:
    """The cached plain copy of one compressed stream.

    Args:
        path: The file that holds it; a change of it makes a new copy.
        part: Which of the streams in the file.
        open_part: Opens the stream for reading.
        packed: Its compressed bytes.
        limits: What it may unpack to.

    Raises:
        UserError: the stream is damaged or beyond the limits.
    """
    stat = path.stat()
    key = repr((str(path.resolve()), stat.st_size, stat.st_mtime_ns, part))
    digest = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    stem = re.sub(r"\W", "-", path.name, flags=re.ASCII)[:40]
    out = _cache_folder() / f"{stem}-{digest}"
    if out.exists():
        return out

    def write(temporary: Path) -> None:
        with open_part() as source, temporary.open("wb") as target:
            total = 0
            for block in iter(lambda: _read_block(source), b""):
                total += len(block)
                limits.check_size(path, total, packed)
                target.write(block)

    try:
        write_file_atomically(out, write)
    except _DamagedStreamError as error:
        raise UserError(f"{path} is damaged ({error}): fetch it again") from error
    return out


_DAMAGE = (zlib.error, lzma.LZMAError, zipfile.BadZipFile, ZstdError, ValueError, OSError)


class _DamagedStreamError(Exception):
    """The compressed bytes are wrong; tells them from a disk that cannot be written."""


def _read_block(source: Any) -> bytes:
    try:
        # read1, as read would lose what a cut stream still gave.
        block: bytes = source.read1(_BLOCK_BYTES)
    except EOFError:
        return b""
    except _DAMAGE as error:
        raise _DamagedStreamError(str(error)) from error
    return block


def _open_zstd(path: Path) -> Any:
    return ZstdDecompressor().stream_reader(path.open("rb"), read_across_frames=True)


_OPENERS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"\x28\xb5\x2f\xfd": _open_zstd,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}


def _cache_folder() -> Path:
    cache = os.environ.get("VIDGAN_CACHE") or Path.home() / ".cache" / "vidgan"
    return Path(cache) / "unpacked"
