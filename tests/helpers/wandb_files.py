"""Reads the file of an offline run of wandb: records of the LevelDB log format, of protobufs."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 1 << 15
FILE_HEADER, CHUNK_HEADER = 7, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def history(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows that were logged to an offline run."""
    proto = importlib.import_module("wandb.proto.wandb_internal_pb2")
    (file,) = folder.glob("*.wandb")
    for data in _records(file.read_bytes()):
        record = proto.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            yield {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}


def _records(content: bytes) -> Iterator[bytes]:
    position, parts = FILE_HEADER, b""
    while position + CHUNK_HEADER <= len(content):
        if BLOCK - position % BLOCK < CHUNK_HEADER:
            # What is left of a block and too short for a header is padding.
            position += BLOCK - position % BLOCK
            continue
        length = int.from_bytes(content[position + 4 : position + 6], "little")
        kind = content[position + 6]
        start = position + CHUNK_HEADER
        parts += content[start : start + length]
        position = start + length
        if kind in (FULL, LAST):
            yield parts
            parts = b""
