"""The videos and labels of TFRecord files: TrailerFaces' layout and what others write.

TrailerFaces stores one file for each size, `NAME-r02.tfrecords` (4 pixels) to `NAME-r08.tfrecords`
(256 pixels), with an Example for each clip: `shape` (frames, channels, height, width) and `data`,
the bytes. Labels, if any, lie in `NAME-rxx.labels`, a NumPy file.

Of other sets, a record may hold pictures (a list of PNG or JPEG files, as in a SequenceExample) or
one video file; a feature whose name says label or class gives the class.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vidgan.data.sources.containers.array_items import by_word, read_labels
from vidgan.data.sources.containers.arrays import ArrayFile, read_npy
from vidgan.data.sources.containers.axes import Axes, clip_frames, find_axes
from vidgan.data.sources.containers.items import (
    Content,
    Frames,
    Pictures,
    VideoBytes,
    name_classes,
)
from vidgan.data.sources.containers.limits import LIMITS
from vidgan.data.sources.containers.tfrecord import (
    Record,
    index_records,
    parse_record,
    read_record,
)
from vidgan.data.sources.source import Scan, Source
from vidgan.errors import UserError
from vidgan.video import UnreadableVideoError

TFRECORD_SUFFIXES = (".tfrecords", ".tfrecord")

_LEVEL = re.compile(r"-r(\d\d)\.tfrecords?$")
_LONGEST_NAME = 200
"""Bytes of a class name; what is longer is no name."""
_PICTURE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")
_VIDEO_STARTS = (b"\x1a\x45\xdf\xa3", b"GIF8", b"RIFF")


def choose_levels(files: Sequence[Path], resolution: int) -> tuple[list[Path], list[str]]:
    """Keep one of the sizes of every set that comes in several, and say which.

    Args:
        files: TFRecord files; others than those named by level stay.
        resolution: Side that is wanted; the smallest level with as much is taken, else the largest.
    """
    levels: dict[Path, dict[int, Path]] = {}
    kept: list[Path] = []
    for file in files:
        match = _LEVEL.search(file.name)
        if match:
            stem = file.with_name(file.name[: match.start()])
            levels.setdefault(stem, {})[int(match[1])] = file
        else:
            kept.append(file)
    notes = []
    for stem, by_level in levels.items():
        enough = [level for level in by_level if 2**level >= resolution]
        level = min(enough) if enough else max(by_level)
        kept.append(by_level[level])
        if len(by_level) > 1:
            notes.append(
                f"{stem.name} has {len(by_level)} sizes of the same clips, of which"
                f" {by_level[level].name} ({2**level} pixels) is read"
            )
    return sorted(kept), notes


def list_records(path: Path) -> Scan:
    """List the records of a file.

    Raises:
        UserError: the file is compressed, or its first record is damaged or holds no video.
    """
    index = index_records(path)
    LIMITS.check_count(path, len(index.offsets))
    if not index.offsets:
        with path.open("rb") as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
        advice = "unpack it with gunzip" if is_gzip else "fetch it again"
        raise UserError(f"{path} holds no whole record ({index.damage or 'it is empty'}): {advice}")
    labels = _label_file(path, len(index.offsets)) or _label_features(path, index.offsets)
    sources = [
        Source(
            name=f"{number:06d}",
            path=path,
            kind="item",
            member=str(offset),
            class_name=labels[number] if labels else None,
        )
        for number, offset in enumerate(index.offsets)
    ]
    notes = [f"{path.name} ends early: {index.damage}"] if index.damage else []
    what = "TFRecords of TrailerFaces' layout" if _LEVEL.search(path.name) else "TFRecords"
    return Scan(root=path, what=what, sources=sources, notes=notes)


def read_record_item(path: Path, member: str) -> Content:
    """The contents of a source of `list_records`.

    Raises:
        UnreadableVideoError: the record is damaged or holds no video.
    """
    data = read_record(path, int(member))
    try:
        record = parse_record(data)
        content = _array(record, path) or _pictures(record) or _video(record)
    except ValueError as error:
        raise UnreadableVideoError(path, f"the record cannot be parsed ({error})") from error
    if content is None:
        names = ", ".join(sorted({*record.features, *record.lists})[:8]) or "nothing"
        raise UnreadableVideoError(path, f"the record holds no video (its features: {names})")
    return content


def _array(record: Record, path: Path) -> Frames | None:
    shape, data = record.features.get("shape"), record.features.get("data")
    if not shape or not data or not isinstance(data[0], bytes):
        return None
    lengths = [int(length) for length in shape]
    if (
        len(lengths) not in (3, 4)
        or min(lengths) < 1
        or np.prod(lengths, dtype=object) != len(data[0])
    ):
        raise ValueError(f"{len(data[0])} bytes do not have the shape {lengths}")
    # The published order; its smallest level has sides of 4 pixels, at which others may be meant.
    published = len(lengths) == 4 and lengths[1] in (1, 3)
    axes: Axes = "TCHW" if published else find_axes(lengths, "auto", path.name)
    array = np.frombuffer(data[0], np.uint8).reshape(lengths)
    return Frames(clip_frames(array, 0, axes, "bytes"))


def _pictures(record: Record) -> Pictures | None:
    sequences: list[Sequence[object]] = [
        [step[0] if step else None for step in steps] for steps in record.lists.values()
    ]
    # In an Example, all pictures may stand in one feature.
    for sequence in [*sequences, *record.features.values()]:
        files = tuple(value for value in sequence if isinstance(value, bytes))
        if len(files) > 1 and files[0].startswith(_PICTURE_STARTS):
            return Pictures(files)
    return None


def _video(record: Record) -> VideoBytes | None:
    for feature in record.features.values():
        if feature and isinstance(feature[0], bytes):
            data = feature[0]
            if data[4:8] == b"ftyp" or data.startswith(_VIDEO_STARTS):
                return VideoBytes(data)
    return None


def _label_file(path: Path, count: int) -> list[str] | None:
    beside = path.with_name(_LEVEL.sub("-rxx.labels", path.name))
    if beside == path or not beside.is_file():
        return None
    table = ArrayFile(beside, {"labels": read_npy(beside.read_bytes(), beside)}, [])
    labels = read_labels(table, "labels", count)
    if labels is None:
        raise UserError(f"{beside} does not hold a label for each of the {count} records: mend it")
    return name_classes(labels, None)


def _label_features(path: Path, offsets: Sequence[int]) -> list[str] | None:
    """A class for every record, if the first one has a feature that says so."""
    first = _label_of(path, offsets[0])
    if first is None:
        return None
    # A damaged record is told when it is read; until then it counts to the first one's class.
    labels = [label if (label := _label_of(path, at)) is not None else first for at in offsets]
    return name_classes(labels, None)


def _label_of(path: Path, offset: int) -> int | str | None:
    try:
        features = parse_record(read_record(path, offset)).features
    except ValueError:
        return None
    words = {name: value[0] for name, value in features.items() if len(value) == 1}
    texts = {
        name: value.decode("utf-8", "replace")
        for name, value in words.items()
        if isinstance(value, bytes) and 0 < len(value) <= _LONGEST_NAME
    }
    named = by_word(list(texts))
    numbered = by_word([name for name, value in words.items() if isinstance(value, int)])
    if named:
        return texts[named[0]]
    return int(words[numbered[0]]) if numbered else None
