"""TFRecord files without TensorFlow: record framing and the wire format of their protobufs.

A record is its length (8 bytes, little-endian), the masked CRC-32C of these, the data, and the
masked CRC-32C of the data. The data is a `tf.train.Example` or `tf.train.SequenceExample`:

    Example         { Features features = 1; }
    SequenceExample { Features context = 1; FeatureLists lists = 2; }
    Features        { map<string, Feature> = 1; }
    FeatureLists    { map<string, FeatureList> = 1; }
    FeatureList     { repeated Feature = 1; }
    Feature         { oneof: bytes list = 1, float list = 2, int64 list = 3; each with values = 1; }
"""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count as count_from
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vidgan.core.crc32c import masked_crc32c
from vidgan.core.files import open_file
from vidgan.data.sources.containers.array_items import by_word, read_labels
from vidgan.data.sources.containers.arrays import ArrayFile, Axes, clip_frames, find_axes, read_npy
from vidgan.data.sources.containers.items import (
    LIMITS,
    Content,
    Frames,
    Images,
    VideoBytes,
    name_classes,
)
from vidgan.data.sources.source import Scan, Source
from vidgan.errors import UserError
from vidgan.video import UnreadableVideoError

Feature = list[bytes] | list[float] | list[int]

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types of protobuf; the others are groups, which nothing here uses."""


_LONGEST_NUMBERS = 1 << 20
"""Bytes of a list of numbers that is looked into."""
_MOST_FIELDS = 1 << 20
"""Fields of one message; those of videos have a few, or one for every frame."""


@dataclass(frozen=True)
class RecordIndex:
    """Where the records of a file lie.

    Attributes:
        offsets: byte offset of every record's header.
        damage: why the file ends before its last byte does, or None.
    """

    offsets: tuple[int, ...]
    damage: str | None


@dataclass(frozen=True)
class ParsedExample:
    """One parsed record.

    Attributes:
        features: of an Example, or the context of a SequenceExample.
        lists: of a SequenceExample: features by name and step.
    """

    features: dict[str, Feature]
    lists: dict[str, list[Feature]]


def index_records(path: str | Path) -> RecordIndex:
    """Find the records of a file by their headers; the data is passed over, not read."""
    path = Path(path)
    size = path.stat().st_size
    offsets: list[int] = []
    position = 0
    with open_file(path) as file:
        while position < size:
            file.seek(position)
            length = _read_length(file)
            if isinstance(length, str):
                return RecordIndex(tuple(offsets), f"record {len(offsets)} {length}")
            end = position + _HEADER.size + length + _FOOTER.size
            if end > size:
                return RecordIndex(tuple(offsets), f"record {len(offsets)} is cut off")
            offsets.append(position)
            position = end
    return RecordIndex(tuple(offsets), None)


def read_record_bytes(path: str | Path, offset: int) -> bytes:
    """The data of the record whose header lies at `offset`.

    Raises:
        UnreadableVideoError: the record is cut off or a checksum differs.
    """
    path = Path(path)
    with path.open("rb") as file:
        file.seek(offset)
        length = _read_length(file)
        if isinstance(length, str):
            raise UnreadableVideoError(path, length)
        if length > path.stat().st_size - offset:
            raise UnreadableVideoError(path, "the record is cut off")
        data = file.read(length)
        footer = file.read(_FOOTER.size)
    if len(footer) < _FOOTER.size:
        raise UnreadableVideoError(path, "the record is cut off")
    if masked_crc32c(data) != _FOOTER.unpack(footer)[0]:
        raise UnreadableVideoError(path, "the checksum of the record differs: it is damaged")
    return data


def parse_example(data: bytes) -> ParsedExample:
    """Parse a `tf.train.Example` or `tf.train.SequenceExample`.

    Raises:
        ValueError: `data` is neither.
    """
    features: dict[str, Feature] = {}
    lists: dict[str, list[Feature]] = {}
    for number, value in _fields(memoryview(data)):
        if number == 1:
            features |= {name: _feature(body) for name, body in _map(_bytes(value))}
        elif number == 2:
            for name, body in _map(_bytes(value)):
                steps = (_bytes(step) for place, step in _fields(body) if place == 1)
                lists[name] = [_feature(step) for step in steps]
    return ParsedExample(features, lists)


def _read_length(file: BinaryIO) -> int | str:
    """Length of the record that starts here, or what is wrong with its header."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return "is cut off"
    length, checksum = _HEADER.unpack(header)
    if masked_crc32c(header[:8]) != checksum:
        return "has a damaged length, after which no record can be found"
    return int(length)


def _feature(view: memoryview) -> Feature:
    # A later member of a oneof replaces an earlier one.
    result: Feature = []
    for kind, body in _fields(view):
        if kind in (2, 3) and len(_bytes(body)) > _LONGEST_NUMBERS:
            # No label and no shape; its millions of numbers would fill the memory as objects.
            result = []
            continue
        values = [value for number, value in _fields(_bytes(body)) if number == 1]
        if kind == 1:
            result = [bytes(_bytes(value)) for value in values]
        elif kind == 2:
            result = [number for value in values for number in _floats(value)]
        elif kind == 3:
            result = [number for value in values for number in _integers(value)]
    return result


def _floats(value: int | memoryview) -> tuple[float, ...]:
    packed = _bytes(value)
    if len(packed) % 4:
        raise ValueError("a list of floats has a broken length")
    return struct.unpack(f"<{len(packed) // 4}f", packed)


def _integers(value: int | memoryview) -> Iterator[int]:
    if isinstance(value, int):
        yield _signed(value)
        return
    position = 0
    while position < len(value):
        number, position = _varint(value, position)
        yield _signed(number)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _map(view: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Keys and message values of a protobuf map."""
    for number, entry in _fields(view):
        if number != 1:
            continue
        parts = dict(_fields(_bytes(entry)))
        key = bytes(_bytes(parts.get(1, memoryview(b"")))).decode("utf-8", "replace")
        yield key, _bytes(parts.get(2, memoryview(b"")))


def _fields(view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of every field: an integer for varints, else the bytes of the value."""
    position = 0
    for count in count_from(0):
        if position >= len(view):
            return
        if count == _MOST_FIELDS:
            raise ValueError("a message has more than a million fields")
        key, position = _varint(view, position)
        wire_type = key & 7
        if wire_type == _VARINT:
            number, position = _varint(view, position)
            yield key >> 3, number
            continue
        if wire_type == _BYTES:
            length, position = _varint(view, position)
        elif wire_type in (_FIXED32, _FIXED64):
            length = 4 if wire_type == _FIXED32 else 8
        else:
            raise ValueError(f"a field has the unknown wire type {wire_type}")
        if length > len(view) - position:
            raise ValueError("a field is longer than its message")
        yield key >> 3, view[position : position + length]
        position += length


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        if position >= len(view):
            raise ValueError("a number is cut off")
        byte = view[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & (1 << 64) - 1, position
    raise ValueError("a number is longer than 64 bits")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message was expected")
    return value


# ------------------------------------------------------------------------------------------------
# The videos and labels of TFRecord files: TrailerFaces' layout and what others write.
#
# TrailerFaces stores one file for each size, `NAME-r02.tfrecords` (4 pixels) to
# `NAME-r08.tfrecords` (256 pixels), with an Example for each clip: `shape` (frames, channels,
# height, width) and `data`, the bytes. Labels, if any, lie in `NAME-rxx.labels`, a NumPy file.
#
# Of other sets, a record may hold images (a list of PNG or JPEG files, as in a SequenceExample)
# or one video file; a feature whose name says label or class gives the class.

TFRECORD_SUFFIXES = (".tfrecords", ".tfrecord")

_LEVEL = re.compile(r"-r(\d\d)\.tfrecords?$")
_LONGEST_NAME = 200
"""Bytes of a class name; longer ones are not names."""
_IMAGE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")
_VIDEO_STARTS = (b"\x1a\x45\xdf\xa3", b"GIF8", b"RIFF")


def choose_levels(files: Sequence[Path], resolution: int) -> tuple[list[Path], list[str]]:
    """Keep one of the sizes of every set that comes in several, and say which.

    Args:
        files: TFRecord files; others than those named by level stay.
        resolution: side that is wanted; the smallest level with as much is taken, else the largest.
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
        advice = "unpack it with gunzip" if is_gzip else "download it again"
        raise UserError(
            f"{path} contains no complete record ({index.damage or 'it is empty'}): {advice}"
        )
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
    data = read_record_bytes(path, int(member))
    try:
        record = parse_example(data)
        content = _array(record, path) or _images(record) or _video(record)
    except ValueError as error:
        raise UnreadableVideoError(path, f"the record cannot be parsed ({error})") from error
    if content is None:
        names = ", ".join(sorted({*record.features, *record.lists})[:8]) or "nothing"
        raise UnreadableVideoError(path, f"the record holds no video (its features: {names})")
    return content


def _array(record: ParsedExample, path: Path) -> Frames | None:
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


def _images(record: ParsedExample) -> Images | None:
    sequences: list[Sequence[object]] = [
        [step[0] if step else None for step in steps] for steps in record.lists.values()
    ]
    # In an Example, all images may stand in one feature.
    for sequence in [*sequences, *record.features.values()]:
        files = tuple(value for value in sequence if isinstance(value, bytes))
        if len(files) > 1 and files[0].startswith(_IMAGE_STARTS):
            return Images(files)
    return None


def _video(record: ParsedExample) -> VideoBytes | None:
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
        raise UserError(f"{beside} does not hold a label for each of the {count} records: fix it")
    return name_classes(labels, None)


def _label_features(path: Path, offsets: Sequence[int]) -> list[str] | None:
    """A class for every record, if the first one has a feature that says so."""
    first = _label_of(path, offsets[0])
    if first is None:
        return None
    # A damaged record is reported when it is read; until then it has the first one's class.
    labels = [label if (label := _label_of(path, at)) is not None else first for at in offsets]
    return name_classes(labels, None)


def _label_of(path: Path, offset: int) -> int | str | None:
    try:
        features = parse_example(read_record_bytes(path, offset)).features
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
