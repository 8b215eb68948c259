"""The videos and labels of an NPY, NPZ or HDF5 file."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidgan.data.settings import SPLITS
from vidgan.data.sources.containers.arrays import (
    ArrayFile,
    Axes,
    Scale,
    clip_frames,
    find_axes,
    find_scale,
    num_clips,
    open_arrays,
)
from vidgan.data.sources.containers.items import LIMITS, Frames, name_classes
from vidgan.data.sources.source import Scan, Source
from vidgan.errors import UserError, printable
from vidgan.video import UnreadableVideoError

_RANGES: dict[Scale, str] = {"bytes": "0 to 255", "unit": "0 to 1", "signed": "-1 to 1"}
_KINDS = {".npy": "a NumPy array", ".npz": "NumPy arrays"}
_MAX_TOLD = 6
_LABEL_WORDS = ("label", "class", "categor", "target", "y")


def list_arrays(path: Path, axes: Axes) -> Scan:
    """List every video of every array that has the shape of videos.

    Labels are an array beside the videos with one number or word for each of them; `class_names`
    or `classes` may name the numbers. An NPY finds its labels in `NAME_labels.npy`.

    Args:
        path: the file.
        axes: order of the axes, or auto.

    Raises:
        UserError: no array holds videos, its order is not clear, or the file cannot be read.
    """
    file = open_arrays(path)
    least = 4 if any(len(shape) >= 4 for shape in file.shapes.values()) else 3
    # Three axes are one grey video only where no array has more.
    videos = [name for name, shape in file.shapes.items() if len(shape) >= least]
    videos = [name for name in videos if file.dtypes[name].kind in "iufb"]
    if not videos:
        found = [f"{name} {'x'.join(map(str, shape))}" for name, shape in file.shapes.items()]
        found += [f"{name} {why}" for name, why in file.dropped]
        told = printable(", ".join(found[:_MAX_TOLD])) or "none at all"
        raise UserError(f"{path} holds no array of videos ({told})")
    sources: list[Source] = []
    dropped = [(printable(name), why) for name, why in file.dropped]
    read_as: dict[str, list[str]] = defaultdict(list)
    errors: list[UserError] = []
    for name in videos:
        try:
            order, scale = _understand(file, name, axes)
        except UserError as error:
            errors.append(error)
            dropped.append((printable(name), str(error)))
            continue
        sources += _sources(file, name, order, scale)
        LIMITS.check_count(path, len(sources))
        read_as[f"read as {order} with numbers of {_RANGES[scale]}"].append(name)
    if errors and not sources:
        raise errors[0]
    if not sources:
        raise UserError(f"{path} holds no videos: its arrays are of length 0")
    notes = [_note(file, names, told) for told, names in read_as.items()]
    what = _KINDS.get(path.suffix.lower(), "an HDF5 file")
    return Scan(root=path, what=what, sources=sources, dropped=dropped, notes=notes)


def _understand(file: ArrayFile, name: str, axes: Axes) -> tuple[Axes, Scale]:
    shape, where = file.shapes[name], f"{file.path} ({printable(name)})"
    order = find_axes(shape, axes, where)
    count = num_clips(shape, order)
    LIMITS.check_count(file.path, count)
    if 3 * int(np.prod(shape, dtype=object)) // max(1, count) > LIMITS.member_bytes:
        raise UserError(f"{where} holds videos above {LIMITS.member_bytes >> 30} GiB: split them")
    return order, find_scale(file[name], where)


def _sources(file: ArrayFile, name: str, order: Axes, scale: Scale) -> list[Source]:
    count = num_clips(file.shapes[name], order)
    labels = _labels(file, name, count)
    stem = "" if file.path.suffix.lower() == ".npy" else printable(name)
    splits: set[str] = set()
    folders: list[str] = []
    for part in name.split("/") if "N" in order else name.split("/")[:-1]:
        told = {word for word in re.split(r"[^a-z]+", part.lower()) if word in SPLITS}
        splits |= told
        folders += [] if told else [part]
    return [
        Source(
            name=f"{stem}/{number:06d}".lstrip("/") if "N" in order else stem,
            path=file.path,
            kind="item",
            member=json.dumps([name, number, order, scale]),
            folder="" if file.path.suffix.lower() == ".npy" else "/".join(folders),
            class_name=labels[number] if labels else None,
            split=next(iter(splits)) if len(splits) == 1 else "",
        )
        for number in range(count)
    ]


def _note(file: ArrayFile, names: list[str], told: str) -> str:
    shape = "x".join(map(str, file.shapes[names[0]]))
    which = f"{printable(names[0])} ({shape} {file.dtypes[names[0]]})"
    many = f" and {len(names) - 1} more arrays were" if len(names) > 1 else " was"
    return f"{which}{many} {told}"


def read_array_item(path: Path, member: str) -> Frames:
    """The frames of a source of `list_arrays`.

    Raises:
        UnreadableVideoError: its bytes are damaged.
    """
    name, number, axes, scale = json.loads(member)
    try:
        return Frames(clip_frames(open_arrays(path)[name], number, axes, scale))
    except (OSError, RuntimeError, KeyError) as error:
        raise UnreadableVideoError(path, f"cannot be read ({error})") from error


def _labels(file: ArrayFile, videos: str, count: int) -> list[str] | None:
    """Class names for the `count` videos of an array, if the file or its neighbour has labels."""
    if file.path.suffix.lower() == ".npy":
        beside = file.path.with_name(f"{file.path.stem}_labels.npy")
        if not beside.is_file():
            return None
        file = open_arrays(beside)
        videos = next(iter(file.shapes))
        candidates = [videos]
    else:
        candidates = _label_arrays(file, videos, count)
    if len(candidates) != 1:
        return None
    labels = read_labels(file, candidates[0], count)
    return name_classes(labels, _class_names(file, videos)) if labels else None


def read_labels(file: ArrayFile, name: str, count: int) -> list[int | str] | None:
    """One label for each of `count` videos: numbers, words, or rows of a one-hot table."""
    shape, dtype = file.shapes[name], file.dtypes[name]
    if not shape or shape[0] != count:
        return None
    if dtype.kind in "USO":
        return [*file.texts(name)] if len(shape) == 1 else None
    if dtype.kind not in "biuf":
        raise UserError(
            f"{file.path}: {name} holds {dtype}, not labels: store whole numbers or words"
        )
    values: Any = np.asarray(file[name][...])
    if not np.isfinite(values).all():
        raise UserError(f"{file.path}: {name} holds labels that are NaN or infinite: fix them")
    if len(shape) == 2 and shape[1] > 1:
        values = values.argmax(axis=1)
    if values.size != count or not np.array_equal(values, np.rint(values)):
        return None
    return [int(value) for value in values.ravel()]


def _label_arrays(file: ArrayFile, videos: str, count: int) -> list[str]:
    """Arrays with one value a video, in the folder of the videos; by their names, if several."""
    folder = videos.rpartition("/")[0]
    fitting = [
        name
        for name, shape in file.shapes.items()
        if name.rpartition("/")[0] == folder
        and shape in ((count,), (count, 1))
        and file.dtypes[name].kind in "iuUSO"
    ]
    if len(fitting) <= 1:
        return fitting
    return by_word(fitting)[:1]


def by_word(names: Sequence[str]) -> list[str]:
    """Those of `names` that look like labels, the most explicit first."""
    told = [re.split(r"[^a-z]+", name.lower()) for name in names]
    return [
        name
        for word in _LABEL_WORDS
        for name, parts in zip(names, told, strict=True)
        if any(part == word or (len(word) > 1 and part.startswith(word)) for part in parts)
    ]


def _class_names(file: ArrayFile, videos: str) -> list[str] | None:
    folder = videos.rpartition("/")[0]
    for name in ("class_names", "classes"):
        for full in (f"{folder}/{name}".lstrip("/"), name):
            if full in file.shapes and file.dtypes[full].kind in "USO":
                return file.texts(full)
    return None
