"""Zip and tar archives, read in place: nothing is ever unpacked under a member's name."""

import lzma
import re
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Self

from vidgan.core.files import check_regular
from vidgan.data.sources.containers.items import LIMITS, Limits, plain_name, unsafe_name
from vidgan.data.sources.containers.unpacked import unpacked
from vidgan.errors import UserError, printable
from vidgan.video import UnreadableVideoError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.bz2", ".tbz2", ".tar.xz")
ARCHIVE_SUFFIXES = (".zip", *TAR_SUFFIXES, ".txz")

_SYMLINK = 0o120000
_FILE_KIND = 0o170000
_ENCRYPTED = 0x1
_BLOCK = 512
_EXTENDED = frozenset({b"x", b"g", b"X", b"L", b"K"})
"""Types of tar headers that only say more about the next one: PAX records and long names of GNU."""
_EXTENDED_BYTES = 1 << 16
"""Longest extended header; names of files have 4,096 bytes at most, and attributes a few more."""
_EXTENDED_IN_A_ROW = 8
"""Writers put a global header, a name, a link and a table of PAX before a file."""
_LONG_NUMBER = re.compile(rb"[0-9]{300}")
"""Longer than any file name; tarfile's patterns take quadratic time on it."""
_PAX_KEYS = frozenset({"path", "size", "hdrcharset"})


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: path inside the archive with forward slashes, always below it.
        size: bytes when unpacked.
        place: where its bytes start in a tar, or its entry in the table of a zip.
    """

    name: str
    size: int
    place: int | zipfile.ZipInfo


@dataclass(frozen=True, eq=False)
class Archive:
    """The table of an archive.

    Attributes:
        path: the file as the user named it.
        members: files that may be read, by name, in the order of the archive.
        dropped: name and reason of members that are not read.
        notes: sentences about the archive as a whole.
    """

    path: Path
    members: dict[str, Member]
    dropped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def read(self, name: str, max_bytes: int | None = None) -> bytes:
        """The bytes of a member.

        Args:
            name: one of `members`.
            max_bytes: read no more than these from its start.

        Raises:
            UnreadableVideoError: the member is damaged, encrypted or cut off.
        """
        member = self.members[name]
        count = member.size if max_bytes is None else min(max_bytes, member.size)
        if isinstance(member.place, zipfile.ZipInfo):
            data = _read_zip(self.path, member, count)
        else:
            with unpacked(self.path).open("rb") as file:
                file.seek(member.place)
                data = file.read(count)
        if len(data) < count:
            raise UnreadableVideoError(self.path, "the archive ends inside of this member")
        return data


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def open_archive(path: str | Path, limits: Limits = LIMITS) -> Archive:
    """Read the table of a zip or tar archive; a table is kept until the file changes.

    A compressed tar has no table: it is unpacked to a plain one in the cache first.

    Raises:
        UserError: it is not an archive, beyond the limits, or nothing of it can be read.
    """
    path = Path(path)
    check_regular(path)
    stat = path.stat()
    return _open_archive(path, limits, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _open_archive(path: Path, limits: Limits, time: int, size: int) -> Archive:
    if size == 0:
        raise UserError(f"{path} is empty: download it again")
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    return _list_zip(path, limits) if is_zip else _list_tar(path, limits)


class _Table:
    """Collects the members of one archive and refuses unsafe ones."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path, self._limits = path, limits
        self._count = 0
        self.members: dict[str, Member] = {}
        self.dropped: list[tuple[str, str]] = []

    def add(self, raw_name: str, size: int, place: int | zipfile.ZipInfo, flaw: str | None) -> None:
        self._count += 1
        self._limits.check_count(self._path, self._count)
        flaw = flaw or unsafe_name(raw_name)
        if flaw is None and size < 0:
            flaw = "claims a negative size"
        if flaw is None and size > self._limits.member_bytes:
            flaw = f"is larger than {self._limits.member_bytes >> 30} GiB"
        if flaw is not None:
            self.dropped.append((printable(raw_name), flaw))
            return
        name = plain_name(raw_name)
        if name in self.members:
            # As when unpacking: later members replace earlier ones.
            self.dropped.append((printable(raw_name), "occurs again later in the archive"))
        self.members[name] = Member(name, size, place)

    def finish(self, notes: tuple[str, ...] = ()) -> Archive:
        return Archive(self._path, self.members, tuple(self.dropped), notes)


def _list_zip(path: Path, limits: Limits) -> Archive:
    table = _Table(path, limits)
    with _opened_zip(path) as archive:
        infos = archive.infolist()
    limits.check_size(path, sum(info.file_size for info in infos), path.stat().st_size)
    for info in infos:
        if info.is_dir():
            continue
        flaw = None
        if info.external_attr >> 16 & _FILE_KIND == _SYMLINK:
            flaw = "is a link"
        elif info.flag_bits & _ENCRYPTED:
            flaw = "is encrypted"
        # The name as it stands there: `filename` ends at a zero byte.
        table.add(info.orig_filename, info.file_size, info, flaw)
    return table.finish()


def _opened_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UserError(
            f"{path} is not a valid zip archive ({error}): download it again"
        ) from error


@lru_cache(maxsize=4)
def _kept_zip(path: Path, time: int) -> zipfile.ZipFile:
    return _opened_zip(path)


def open_zipped(path: Path, member: Member) -> IO[bytes]:
    """A member of a zip archive, opened for reading from its start to its end."""
    if not isinstance(member.place, zipfile.ZipInfo):
        raise UserError(f"{path} is not a zip archive: pack it with numpy.savez")
    return _kept_zip(path, path.stat().st_mtime_ns).open(member.place)


def _read_zip(path: Path, member: Member, count: int) -> bytes:
    try:
        with open_zipped(path, member) as file:
            return file.read(count)
    except _ZIP_DAMAGE as error:
        raise UnreadableVideoError(path, f"cannot be unpacked ({error})") from error


_ZIP_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError, ValueError, OSError),
)


class _BoundedTar(tarfile.TarFile):
    """A tar whose extended headers are looked at before tarfile parses them, one in another."""

    num_extended = 0


class _BoundedHeader(tarfile.TarInfo):
    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        """The next member; called again for what follows an extended header."""
        assert isinstance(archive, _BoundedTar)
        assert archive.fileobj is not None
        start = archive.fileobj.tell()
        block = archive.fileobj.read(_BLOCK)
        if block[156:157] not in _EXTENDED:
            archive.num_extended = 0
        else:
            archive.num_extended += 1
            size = cls.frombuf(block, tarfile.ENCODING, "surrogateescape").size
            if not 0 <= size <= _EXTENDED_BYTES or archive.num_extended > _EXTENDED_IN_A_ROW:
                raise _OverlongHeaderError
            if _LONG_NUMBER.search(archive.fileobj.read(size)):
                raise _OverlongHeaderError
        archive.fileobj.seek(start)
        return super().fromtarfile(archive)


class _OverlongHeaderError(Exception):
    """Whether the extended headers of a file are implausibly long."""


def _list_tar(path: Path, limits: Limits) -> Archive:
    table = _Table(path, limits)
    plain = unpacked(path, limits)
    notes: tuple[str, ...] = ()
    end = 0
    try:
        with _BoundedTar.open(plain, "r:", tarinfo=_BoundedHeader) as archive:
            while (info := archive.next()) is not None:
                end = info.offset_data
                # Each member gets a copy of all that global headers say.
                told = archive.pax_headers
                archive.pax_headers = {key: told[key] for key in _PAX_KEYS & told.keys()}
                # tarfile would keep every entry, and half a million of them fill the memory.
                archive.members.clear()  # type: ignore[attr-defined]
                if info.isdir():
                    continue
                if info.isreg() and not info.issparse():
                    end += -(-info.size // _BLOCK) * _BLOCK
                table.add(info.name, info.size, info.offset_data, _tar_flaw(info))
    except _OverlongHeaderError as error:
        raise UserError(
            f"{path} has extended headers of more than {_EXTENDED_BYTES:,} bytes, more than"
            f" {_EXTENDED_IN_A_ROW} in a row, or endless numbers in them: repack it with tar"
        ) from error
    except (tarfile.TarError, ValueError, OverflowError, OSError) as error:
        # A PAX header may claim any size, beyond the end of the file.
        if not table.members:
            raise UserError(
                f"{path} is not a zip or tar archive ({error}): download it again"
            ) from error
    if not _ends_there(plain, end):
        notes = (f"{path.name} has no end marker: it is cut off or damaged there",)
    return table.finish(notes)


def _tar_flaw(info: tarfile.TarInfo) -> str | None:
    if info.issym() or info.islnk():
        return "is a link"
    # A sparse file claims gigabytes of zeros that nobody stored.
    return None if info.isreg() and not info.issparse() else "is not an ordinary file"


def _ends_there(plain: Path, end: int) -> bool:
    with plain.open("rb") as file:
        # A damaged header may point beyond the end of the file.
        file.seek(min(end, plain.stat().st_size))
        return file.read(_BLOCK) == bytes(_BLOCK)
