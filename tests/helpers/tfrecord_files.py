"""Writes TFRecord files of Examples for the tests, by the published framing."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from vidgan.core.crc32c import masked_crc32c

Values = Sequence[bytes] | Sequence[int]


def write_records(path: Path, records: Sequence[bytes]) -> Path:
    """Frame records: length, its checksum, data, its checksum."""
    with path.open("wb") as file:
        for data in records:
            length = struct.pack("<Q", len(data))
            file.write(length + struct.pack("<I", masked_crc32c(length)))
            file.write(data + struct.pack("<I", masked_crc32c(data)))
    return path


def example(features: Mapping[str, Values]) -> bytes:
    """A `tf.train.Example`."""
    return _field(1, _features(features))


def sequence_example(context: Mapping[str, Values], lists: Mapping[str, Sequence[bytes]]) -> bytes:
    """A `tf.train.SequenceExample` whose lists hold one byte string a step."""
    entries = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, _steps(steps)))
        for name, steps in lists.items()
    )
    return _field(1, _features(context)) + _field(2, entries)


def _steps(steps: Sequence[bytes]) -> bytes:
    return b"".join(_field(1, _feature([step])) for step in steps)


def _features(features: Mapping[str, Values]) -> bytes:
    return b"".join(
        _field(1, _field(1, name.encode()) + _field(2, _feature(values)))
        for name, values in features.items()
    )


def _feature(values: Values) -> bytes:
    if values and isinstance(values[0], int):
        return _field(3, _field(1, b"".join(_varint(int(v)) for v in values)))
    return _field(1, b"".join(_field(1, bytes(value)) for value in values))


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)
