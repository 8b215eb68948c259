"""Videos in NPY, NPZ and HDF5 files; no pickle is ever loaded and no other file is followed."""

import errno
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vidgan.core.files import check_regular
from vidgan.data.sources.containers.archive import Archive, open_archive, open_zipped
from vidgan.data.sources.containers.items import LIMITS, Limits
from vidgan.data.sources.containers.unpacked import unpack
from vidgan.errors import UserError
from vidgan.video import VideoError

# ------------------------------------------------------------------------------------------------
# Which axis of an array is what, and how its numbers become bytes.
#
# Letters as everywhere: `N` clips, `T` frames, `C` channels, `H` height, `W` width.

Axes = Literal["auto", "NTHWC", "NCTHW", "NTCHW", "NTHW", "TNHW", "THWC", "CTHW", "TCHW", "THW"]
"""Order of the axes of an array of videos; without `N` it is one video, without `C` it is grey."""
Scale = Literal["bytes", "unit", "signed"]
"""Range of the numbers: 0 to 255, 0 to 1, or -1 to 1."""

_WITH_CHANNELS: dict[int, tuple[Axes, ...]] = {
    5: ("NTHWC", "NCTHW", "NTCHW"),
    4: ("THWC", "CTHW", "TCHW"),
}
_CHANNELS = (1, 3, 4)
_SMALLEST_SIDE = 8
"""Pixels; an order with smaller images is rejected."""
_CLEARLY_LONGER = 4
"""A set has several times as many videos as a video has frames; below that, it is ambiguous."""
_SCAN_BYTES = 32 << 20


def find_axes(shape: Sequence[int], asked: Axes, where: str) -> Axes:
    """The order of the axes of an array of this shape.

    An axis of 1, 3 or 4 in a place where channels may stand is channels, if the images are then
    at least 8 pixels wide and high. A grey array of four axes counts videos along the longer one of
    its first two, if that is at least 4 times as long.

    Args:
        shape: lengths of the axes.
        asked: the order to take, or auto.
        where: file and array, for the sentence.

    Raises:
        UserError: none or several orders fit; the sentence names the setting.
    """
    shown = "x".join(map(str, shape))
    if asked != "auto":
        if not _fits(shape, asked):
            raise UserError(
                f"{where} is {shown}, which data.axes={asked} does not fit: give the order of its"
                " axes or leave it at auto"
            )
        return asked
    fitting = [axes for axes in _WITH_CHANNELS.get(len(shape), ()) if _fits(shape, axes)]
    if not fitting and len(shape) == 4 and min(shape[2:]) >= _SMALLEST_SIDE:
        first, second = shape[:2]
        fitting = ["NTHW", "TNHW"]
        if max(first, second) >= _CLEARLY_LONGER * min(first, second):
            fitting = ["NTHW" if first > second else "TNHW"]
    elif len(shape) == 3 and min(shape[1:]) >= _SMALLEST_SIDE:
        fitting = ["THW"]
    if len(fitting) > 1:
        raise UserError(
            f"{where} is {shown}, which may be {' or '.join(fitting)}: say which with"
            f" data.axes={fitting[0]} (N videos, T frames, C channels, H height, W width)"
        )
    if not fitting:
        raise UserError(
            f"{where} is {shown}, which is no known order of videos, frames, channels, height and"
            " width: store it as NTHWC, or say data.axes"
        )
    return fitting[0]


def _fits(shape: Sequence[int], axes: Axes) -> bool:
    if len(shape) != len(axes):
        return False
    length = dict(zip(axes, shape, strict=True))
    sides = min(length["H"], length["W"])
    return length.get("C", 1) in _CHANNELS and sides >= _SMALLEST_SIDE


def find_scale(array: Any, where: str) -> Scale:
    """The range of an array's numbers; all of them are looked at unless they are bytes.

    Raises:
        UserError: the numbers are of no known range.
    """
    if array.dtype == np.uint8:
        return "bytes"
    if array.dtype == np.bool_:
        return "unit"
    if array.dtype.kind not in "iuf":
        raise UserError(f"{where} holds {array.dtype}, not numbers: store bytes from 0 to 255")
    step = max(1, _SCAN_BYTES // max(1, array.dtype.itemsize * int(np.prod(array.shape[1:]))))
    low, high = np.inf, -np.inf
    for start in range(0, len(array), step):
        block = array[start : start + step]
        low, high = min(low, block.min()), max(high, block.max())
        if not np.isfinite([low, high]).all():
            raise UserError(f"{where} holds NaN or infinite numbers: fix it")
    if low >= 0 and high <= 255 and (high > 1 or array.dtype.kind != "f"):
        return "bytes"
    if low >= -1 and high <= 1 and array.dtype.kind == "f":
        return "signed" if low < 0 else "unit"
    raise UserError(
        f"{where} holds numbers from {low:g} to {high:g}: store 0 to 255, 0 to 1 or -1 to 1"
    )


def num_clips(shape: Sequence[int], axes: Axes) -> int:
    """Videos in an array."""
    return shape[axes.index("N")] if "N" in axes else 1


def clip_frames(array: Any, number: int, axes: Axes, scale: Scale) -> npt.NDArray[np.uint8]:
    """Video `number` of an array as RGB bytes `[T, H, W, 3]`; grey is repeated, alpha left out."""
    where: list[int | slice] = [slice(None)] * len(axes)
    if "N" in axes:
        where[axes.index("N")] = number
    clip = np.asarray(array[tuple(where)])
    rest = axes.replace("N", "")
    if "C" not in rest:
        clip, rest = clip[..., None], rest + "C"
    clip = clip.transpose([rest.index(letter) for letter in "THWC"])
    is_grey = clip.shape[-1] == 1
    clip = np.broadcast_to(clip, (*clip.shape[:-1], 3)) if is_grey else clip[..., :3]
    if scale == "bytes":
        pixels = np.empty(clip.shape, np.uint8)
        if clip.dtype.kind == "f":
            # Floats from 0 to 255 are rounded, not cut.
            np.rint(clip, out=pixels, casting="unsafe")
        else:
            pixels[...] = clip
        return pixels
    # Loading torch takes seconds, and few arrays need it.
    import torch

    from vidgan.core.clip_ops import to_uint8

    signed = clip.astype(np.float32) * 2.0 - 1.0 if scale == "unit" else clip.astype(np.float32)
    frames: npt.NDArray[np.uint8] = to_uint8(torch.from_numpy(signed)).numpy()
    return np.ascontiguousarray(frames)


# ------------------------------------------------------------------------------------------------
# Videos in NPY, NPZ and HDF5 files; no pickle is ever loaded and no other file is followed

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
        path: the file.
        shapes: shape of every array of plain values.
        dtypes: type of every array; text is `object` in HDF5 and `U` or `S` in NumPy files.
        dropped: name and reason of what is not read.
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
            raise UserError(f"{self.path}: {name} does not hold strings")
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
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return (
            f"{path} cannot be mapped into memory, as it is larger than what this process may"
            " address: raise that limit (ulimit -v unlimited), or store fewer videos in one file"
        )
    reason = " ".join(str(error).split())
    return f"{path} is not a valid NPY file ({reason}): save it again with numpy.save"


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
        raise UserError(f"{path} is not a valid HDF5 file ({error}): save it again") from error
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
        raise UserError(f"{path} is a damaged HDF5 file ({error}): save it again") from error
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
        return "holds objects, not numbers"
    size = int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    if size > limits.total_bytes or (size > limits.free_bytes and size > limits.ratio * stored):
        return f"claims {size >> 20} MiB out of {stored >> 20} MiB stored, as a bomb does"
    return None
