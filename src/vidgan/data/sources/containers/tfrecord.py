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

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count as count_from
from pathlib import Path
from typing import BinaryIO

from vidgan.core.crc32c import masked_crc32c
from vidgan.core.files import open_file
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
        offsets: Byte offset of every record's header.
        damage: Why the file ends before its last byte does, or None.
    """

    offsets: tuple[int, ...]
    damage: str | None


@dataclass(frozen=True)
class Record:
    """One parsed record.

    Attributes:
        features: Of an Example, or the context of a SequenceExample.
        lists: Of a SequenceExample: features by name and step.
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


def read_record(path: str | Path, offset: int) -> bytes:
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


def parse_record(data: bytes) -> Record:
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
    return Record(features, lists)


def _read_length(file: BinaryIO) -> int | str:
    """Length of the record that starts here, or what is wrong with its header."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return "is cut off"
    length, checksum = _HEADER.unpack(header)
    if masked_crc32c(header[:8]) != checksum:
        return "has a damaged length, behind which no record can be found"
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
        raise ValueError("a number stands where a message should be")
    return value
