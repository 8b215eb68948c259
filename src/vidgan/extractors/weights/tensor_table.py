"""Checkpoints of TensorFlow, read without it.

A checkpoint is `PREFIX.index`, a sorted table in the format of LevelDB whose values are small
protocol buffers, and `PREFIX.data-00000-of-00001`, the raw little-endian values. The table is
blocks of entries whose keys leave out what they share with the key before; a footer of 48 bytes
names the index block, which names the data blocks. Every block and every tensor has a checksum.
Formats: LevelDB's `table_format.md`, TensorFlow's `tensor_bundle.proto`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from vidgan.core.crc32c import masked_crc32c
from vidgan.errors import UserError

FOOTER_BYTES = 48
MAGIC = 0xDB4775248B80FB57
TRAILER_BYTES = 5
"""Behind every block: how it is compressed, and its checksum."""
UNCOMPRESSED = 0
TYPES: dict[int, numpy.dtype[Any]] = {
    1: numpy.dtype("<f4"),
    2: numpy.dtype("<f8"),
    3: numpy.dtype("<i4"),
    9: numpy.dtype("<i8"),
}
"""Numbers of TensorFlow's types that can stand in a checkpoint of a network; others are skipped."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types of protocol buffers."""


class DamagedTableError(UserError):
    """A checkpoint's table or values are damaged, or of a kind that is not read."""


@dataclass
class Entry:
    """Where a tensor lies: its `BundleEntryProto`."""

    dtype: int = 0
    shape: list[int] = field(default_factory=list)
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc32c: int = 0
    is_sliced: bool = False


def read_tensor_table(prefix: str | Path) -> dict[str, Tensor]:
    """Every number tensor of a checkpoint, by its TensorFlow name.

    Args:
        prefix: path without `.index`.

    Raises:
        DamagedTableError: a checksum or a length is wrong, or the format is another.
    """
    index_path = Path(f"{prefix}.index")
    data_path = Path(f"{prefix}.data-00000-of-00001")
    entries = read_index(index_path)
    tensors = {}
    with data_path.open("rb") as file:
        for name, entry in entries.items():
            dtype = TYPES.get(entry.dtype)
            if dtype is None:
                continue
            file.seek(entry.offset)
            content = file.read(entry.size)
            count = numpy.prod(entry.shape, dtype=numpy.int64)
            if len(content) != entry.size or count * dtype.itemsize != entry.size:
                raise DamagedTableError(
                    f"{data_path} ends before the values of {name}, or its index lies about their "
                    "size; download it again"
                )
            if masked_crc32c(content) != entry.crc32c:
                raise DamagedTableError(
                    f"the values of {name} in {data_path} do not have the checksum that their "
                    "index gives; download it again"
                )
            array = numpy.frombuffer(content, dtype).reshape(entry.shape)
            tensors[name] = torch.from_numpy(array.astype(dtype.newbyteorder("=")))
    return tensors


def read_index(path: Path) -> dict[str, Entry]:
    """Entries of an `.index` file, by name.

    Raises:
        DamagedTableError: as in `read_tensor_table`.
    """
    try:
        content = path.read_bytes()
        entries = {key.decode(): value for key, value in table_items(content)}
        header = dict(fields(entries.pop("")))
        # Field 1 is the number of data files, field 2 the byte order.
        if header.get(1) != 1 or header.get(2, 0) != 0:
            raise DamagedTableError(
                f"{path} belongs to a checkpoint of several data files or of big-endian numbers, "
                "which is not read; save it anew in one file"
            )
        parsed = {name: parse_entry(value) for name, value in entries.items()}
    except (IndexError, KeyError, TypeError, UnicodeDecodeError, ValueError, struct.error) as error:
        if isinstance(error, DamagedTableError):
            raise
        raise DamagedTableError(
            f"{path} is not the index of a TensorFlow checkpoint, or it is damaged ({error!r}); "
            "download it again"
        ) from error
    for name, entry in parsed.items():
        if entry.is_sliced or entry.shard:
            raise DamagedTableError(
                f"{path} holds {name} in slices, which is not read; save the checkpoint anew"
            )
    return parsed


def table_items(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table, in its order.

    Raises:
        ValueError: no such table, or damaged.
    """
    footer = content[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise ValueError("it does not end like a table")
    _, place = read_handle(footer, 0)
    handle, _ = read_handle(footer, place)
    for _, value in block_items(read_block(content, *handle)):
        data_handle, _ = read_handle(value, 0)
        yield from block_items(read_block(content, *data_handle))


def read_block(content: bytes, offset: int, size: int) -> bytes:
    """One block without its trailer.

    Raises:
        ValueError: damaged or compressed.
    """
    block = content[offset : offset + size]
    trailer = content[offset + size : offset + size + TRAILER_BYTES]
    kind, checksum = struct.unpack("<BI", trailer)
    if masked_crc32c(content[offset : offset + size + 1]) != checksum:
        raise ValueError(f"the block at byte {offset} has another checksum")
    if kind != UNCOMPRESSED:
        raise ValueError(f"the block at byte {offset} is compressed")
    return block


def block_items(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block."""
    (num_restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * num_restarts
    place, key = 0, b""
    while place < end:
        shared, place = read_varint(block, place)
        rest, place = read_varint(block, place)
        length, place = read_varint(block, place)
        key = key[:shared] + block[place : place + rest]
        place += rest
        yield key, block[place : place + length]
        place += length


def read_handle(content: bytes, place: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and the place behind them."""
    offset, place = read_varint(content, place)
    size, place = read_varint(content, place)
    return (offset, size), place


def read_varint(content: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and the place behind it."""
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol buffer's fields."""
    place = 0
    while place < len(message):
        tag, place = read_varint(message, place)
        number, wire = tag >> 3, tag & 7
        value: int | bytes
        if wire == VARINT:
            value, place = read_varint(message, place)
        elif wire == BYTES:
            length, place = read_varint(message, place)
            value, place = message[place : place + length], place + length
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
            value, place = int.from_bytes(message[place : place + length], "little"), place + length
        else:
            raise ValueError(f"a field of wire type {wire}")
        yield number, value


def parse_entry(message: bytes) -> Entry:
    """A tensor's `BundleEntryProto`."""
    entry = Entry()
    names = {1: "dtype", 3: "shard", 4: "offset", 5: "size", 6: "crc32c"}
    for number, value in fields(message):
        if number in names and isinstance(value, int):
            setattr(entry, names[number], value)
        elif number == 2 and isinstance(value, bytes):
            entry.shape = [_axis(axis) for key, axis in fields(value) if key == 2]
        elif number == 7:
            entry.is_sliced = True
    return entry


def _axis(message: int | bytes) -> int:
    if isinstance(message, int):
        raise ValueError("a shape without axes")
    sizes = [value for number, value in fields(message) if number == 1]
    size = sizes[0] if sizes else 0
    if isinstance(size, bytes):
        raise ValueError("a size that is no number")
    return size
