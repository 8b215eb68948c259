"""Videos in NPY, NPZ and HDF5 files; no pickle is ever loaded and no other file is followed."""

import io
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from vidgan.core.files import check_regular
from vidgan.data.sources.containers.archive import Archive, open_archive, open_zipped
from vidgan.data.sources.containers.limits import LIMITS, Limits
from vidgan.data.sources.containers.unpacked import unpack
from vidgan.errors import UserError
from vidgan.video import VideoError

ARRAY_SUFFIXES = (".npy", ".npz", ".h5", ".hdf5", ".hdf")

_START_BYTES = 12
"""Mark, version and length of the header of an NPY file."""
_HEADER_BYTES = 1 << 16
"""Enough for any header of a plain array; NumPy itself refuses text of more than 10,000."""

_DEEPEST_GROUP = 32
"""Groups of an HDF5 file inside of each other; sets have a few, and each costs time for all."""


class ArrayFile:
    """The arrays of one file by name, read in pieces as they are indexed.

    Attributes:
        path: The file.
        shapes: Shape of every array of plain values.
        dtypes: Type of every array; text is `object` in HDF5 and `U` or `S` in NumPy files.
        dropped: Name and reason of what is not read.
    """

    def __init__(self, path: Path, arrays: dict[str, Any], dropped: list[tuple[str, str]]) -> None:
        self.path = path
        self._arrays = arrays
        self.shapes = {name: tuple(array.shape) for name, array in arrays.items()}
        self.dtypes = {name: array.dtype for name, array in arrays.items()}
        self.dropped = tuple(dropped)

    def __getitem__(self, name: str) -> Any:
        array = self._arrays[name]
        return array() if isinstance(array, _Packed) else array

    def texts(self, name: str) -> list[str]:
        """A list of words.

        Raises:
            UserError: the array holds something else.
        """
        values = np.asarray(self[name][...]).ravel().tolist()
        words = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]
        if not all(isinstance(word, str) for word in words):
            raise UserError(f"{self.path}: {name} holds no words")
        return words


def open_arrays(path: str | Path) -> ArrayFile:
    """Open an NPY, NPZ or HDF5 file; it stays open until it changes or others push it out.

    Raises:
        UserError: it is none, damaged, holds pickled objects, or needs the extra `arrays`.
    """
    path = Path(path)
    check_regular(path)
    stat = path.stat()
    return _open_arrays(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _open_arrays(path: Path, time: int, size: int) -> ArrayFile:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return ArrayFile(path, {path.stem: _map_npy(path, path)}, [])
    if suffix == ".npz":
        return _open_npz(path)
    return _open_hdf5(path, LIMITS)


_NPY_FAULTS = (ValueError, EOFError, OSError, OverflowError, TypeError, SyntaxError, TokenError)
"""What NumPy raises for headers and bytes that are none; it parses headers as Python literals."""


def read_npy(data: bytes, path: Path) -> Any:
    """The array in the bytes of an NPY file.

    Raises:
        UserError: they are none, or hold pickled objects.
    """
    try:
        _check_start(data[:_START_BYTES])
        file = io.BytesIO(data)
        shape, dtype = _read_header(file)
        claimed = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if claimed > len(data) - file.tell():
            # NumPy would set the memory aside before it reads.
            raise ValueError(f"its header claims {claimed:,} bytes, more than there are")
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except _NPY_FAULTS as error:
        raise UserError(_npy_fault(path, error)) from error


def _read_header(file: io.BytesIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an NPY; `file` is left where the numbers start."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return tuple(shape), dtype


def _check_start(start: bytes) -> None:
    """Refuse a header that is longer than any, for which NumPy would ask the memory first."""
    wide = start[6:7] > b"\1"
    length = int.from_bytes(start[8:12] if wide else start[8:10], "little")
    if length > _HEADER_BYTES:
        raise ValueError(f"its header claims {length} bytes")


def _npy_fault(path: Path, error: Exception) -> str:
    if "bject" in str(error):
        return f"{path} holds pickled Python objects, which are never loaded: store plain numbers"
    reason = " ".join(str(error).split())
    return f"{path} is no whole NPY file ({reason}): store it anew with numpy.save"


def _map_npy(file: Path, named: Path) -> Any:
    """An array whose file is mapped into memory; `named` is what the user knows of."""
    try:
        with file.open("rb") as opened:
            _check_start(opened.read(_START_BYTES))
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
            # Shapes beyond any memory overflow before they are refused.
            return np.lib.format.open_memmap(file, mode="r")
    except _NPY_FAULTS as error:
        raise UserError(_npy_fault(named, error)) from error


class _Packed:
    """An array inside of an NPZ: unpacked into the cache when it is wanted."""

    def __init__(self, path: Path, archive: Archive, member: str) -> None:
        self._path, self._archive, self._member = path, archive, member
        self.shape, self.dtype = self._header()

    def __call__(self) -> Any:
        opener: Any = partial(open_zipped, self._path, self._archive.members[self._member])
        size = self._path.stat().st_size
        return _map_npy(unpack(self._path, self._member, opener, lambda: size), self._path)

    def _header(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        start = io.BytesIO(self._archive.read(self._member, _HEADER_BYTES))
        try:
            _check_start(start.getvalue()[:_START_BYTES])
            shape, dtype = _read_header(start)
        except _NPY_FAULTS as error:
            raise UserError(_npy_fault(self._path, error)) from error
        if dtype.hasobject:
            raise UserError(_npy_fault(self._path, ValueError("objects")))
        return shape, dtype


def _open_npz(path: Path) -> ArrayFile:
    # The arrays go to the disk and not into memory: any of them may be large.
    archive = open_archive(path, replace(LIMITS, member_bytes=LIMITS.total_bytes))
    arrays: dict[str, Any] = {}
    dropped = list(archive.dropped)
    for name in archive.members:
        plain = name.removesuffix(".npy")
        try:
            arrays[plain] = _Packed(path, archive, name)
        except VideoError as error:
            dropped.append((plain, error.cause))
        except UserError as error:
            dropped.append((plain, str(error)))
    return ArrayFile(path, arrays, dropped)


def _open_hdf5(path: Path, limits: Limits) -> ArrayFile:
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            f"{path} is an HDF5 file, for which h5py is needed: pip install 'vidgan[arrays]'"
        ) from error
    try:
        # Without a lock, so that files on read-only and network disks open.
        file = h5py.File(path, "r", locking=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no whole HDF5 file ({error}): store it anew") from error
    arrays: dict[str, Any] = {}
    dropped: list[tuple[str, str]] = []
    try:
        for name, dataset in _datasets(file, path, limits):
            flaw = _dataset_flaw(dataset, limits)
            if flaw:
                dropped.append((name, flaw))
            else:
                arrays[name] = dataset
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is a damaged HDF5 file ({error}): store it anew") from error
    return ArrayFile(path, arrays, dropped)


def _datasets(file: Any, path: Path, limits: Limits) -> Iterator[tuple[str, Any]]:
    """Name and dataset of each object, once; neither soft nor external links are followed."""
    import h5py

    groups = [("", file, 0)]
    known = {h5py.h5o.get_info(file.id).addr}
    num_links = 0
    while groups:
        start, group, depth = groups.pop()
        if depth > _DEEPEST_GROUP:
            raise UserError(
                f"{path} has groups inside of groups, more than {_DEEPEST_GROUP} deep: store it"
                " with fewer"
            )
        inside = []
        for key in group.id:
            num_links += 1
            limits.check_count(path, num_links)
            if group.id.links.get_info(key).type != h5py.h5l.TYPE_HARD:
                continue
            item = group[key]
            address = h5py.h5o.get_info(item.id).addr
            if address in known:
                continue
            known.add(address)
            shown = key.decode("utf-8", "backslashreplace")
            if isinstance(item, h5py.Dataset):
                yield start + shown, item
            elif isinstance(item, h5py.Group):
                inside.append((f"{start}{shown}/", item, depth + 1))
        groups += reversed(inside)


def _dataset_flaw(dataset: Any, limits: Limits) -> str | None:
    """Why a dataset is not read, or None."""
    import h5py

    if dataset.is_virtual or dataset.external:
        return "takes its numbers from other files"
    if dataset.dtype.hasobject and h5py.check_string_dtype(dataset.dtype) is None:
        return "holds objects and no numbers"
    size = int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    if size > limits.total_bytes or (size > limits.free_bytes and size > limits.ratio * stored):
        return f"claims {size >> 20} MiB out of {stored >> 20} MiB stored, as a bomb does"
    return None
