"""The files of a packed clip set while it is being built: chunks, journal and lock."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NotRequired, Protocol, TypedDict

import torch
from safetensors.torch import save

from vidgan.core.files import (
    TEMPORARY_MARK,
    is_leftover,
    parse_value,
    read_json,
    sync,
    take_lock,
    write_file_atomically,
    write_json_atomically,
)
from vidgan.core.shapes import LevelShape
from vidgan.data.build.encode import EncodedClip
from vidgan.data.packed.cloud import fetch_set, is_url, open_level, told
from vidgan.data.packed.manifest import Manifest, is_packed, level_folder, read_manifest
from vidgan.errors import UserError

# ------------------------------------------------------------------------------------------------
# Stored payloads by number: out of safetensors chunks in a folder, or out of litdata's chunks


class ChunkFiles(Protocol):
    """Payloads of all levels; may be shared by threads and sent to processes."""

    def place(self, level: LevelShape, index: int) -> str:
        """The file or folder that holds an item, for messages."""
        ...

    def payload(self, level: LevelShape, index: int) -> bytes:
        """The stored bytes of an item.

        Raises:
            UserError: the chunk is missing or damaged.
        """
        ...


def open_chunks(path: str | Path) -> tuple[Path, Manifest, ChunkFiles]:
    """The folder with a packed set's manifest, the manifest, and the set's payloads.

    Args:
        path: the set's folder, or its address in an object store.

    Raises:
        UserError: there is none, or litdata is needed and missing.
    """
    if is_url(path):
        folder = fetch_set(str(path))
        manifest = read_manifest(folder)
        if manifest.chunks != "litdata":
            raise UserError(
                f"the clip set at {path} has the chunks of a local set, which are not read over a"
                " network: write it with `vidgan data export SET OUT --format litdata`"
            )
        return folder, manifest, LitdataChunks(str(path), folder)
    folder = Path(path)
    manifest = read_manifest(folder)
    if manifest.chunks == "litdata":
        return folder, manifest, LitdataChunks(str(path), None)
    return folder, manifest, SafetensorsChunks(folder, manifest.items_per_chunk)


class SafetensorsChunks:
    """Chunk files of a folder."""

    def __init__(self, path: Path, items_per_chunk: int) -> None:
        self._path = path
        self._items_per_chunk = items_per_chunk
        self._chunks: dict[Path, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Open files stay behind; the receiving process opens its own.
        return {**self.__dict__, "_chunks": {}}

    def place(self, level: LevelShape, index: int) -> str:
        """The chunk file that holds an item."""
        return str(self._file(level, index))

    def payload(self, level: LevelShape, index: int) -> bytes:
        """The stored bytes of an item; see `ChunkFiles`."""
        file = self._file(level, index)
        if file.exists() and not file.is_file():
            raise UserError(f"{file} is not a file: build the set again")
        try:
            tensor = self._open(file).get_tensor(item_key(index))
            if (str(tensor.dtype), tensor.dim()) != ("torch.uint8", 1):
                raise ValueError(f"{item_key(index)} holds no bytes")
            stored: bytes = tensor.numpy().tobytes()
        except FileNotFoundError as error:
            raise UserError(
                f"{file} is missing: copy it back from where the set comes from, or build the set"
                " again"
            ) from error
        except Exception as error:
            # safetensors raises a type of its own for every kind of damage.
            raise UserError(f"{file} is damaged ({error}): build the set again") from error
        return stored

    def _file(self, level: LevelShape, index: int) -> Path:
        return chunk_file(self._path, level, index // self._items_per_chunk)

    def _open(self, file: Path) -> Any:
        from safetensors import safe_open

        if file not in self._chunks:
            self._chunks[file] = safe_open(file, framework="pt")
        return self._chunks[file]


class LitdataChunks:
    """Chunk folders of litdata, of a folder or of an object store.

    Args:
        path: the set.
        cache: folder for fetched chunks; None reads a folder in place.
    """

    def __init__(self, path: str, cache: Path | None) -> None:
        self._path = path.rstrip("/")
        self._cache = cache
        self._levels: dict[tuple[int, LevelShape], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_levels": {}}

    def place(self, level: LevelShape, index: int) -> str:
        """The chunk folder that holds an item."""
        return f"{self._path}/{level_folder(level)}"

    def payload(self, level: LevelShape, index: int) -> bytes:
        """The stored bytes of an item; see `ChunkFiles`."""
        place = self.place(level, index)
        # litdata's connections do not survive a fork: every process has its own.
        key = os.getpid(), level
        try:
            if key not in self._levels:
                cache = None if self._cache is None else self._cache / level_folder(level)
                self._levels[key] = open_level(place, cache)
            item = self._levels[key][index]
            number, payload = item.values() if isinstance(item, dict) else item
            stored = bytes(payload)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"a chunk in {place}, of clip {index}, is missing or damaged ({told(error)}): copy"
                " the set there again"
            ) from error
        if number != index:
            raise UserError(
                f"{place} gives clip {number} for clip {index}, it belongs to another set: copy"
                " the set there again"
            )
        return stored


# ------------------------------------------------------------------------------------------------
# The files of a packed clip set while it is being built: chunks, journal and lock

_PLAN_NAME = "plan.json"
_PLAN_PATTERN = re.compile(re.escape(_PLAN_NAME))
_JOURNAL_NAME = "journal.jsonl"
_LOCK_NAME = "lock"


def chunk_file(folder: Path, level: LevelShape, chunk: int) -> Path:
    """Where a chunk of a level lies."""
    return folder / level_folder(level) / f"chunk-{chunk:05d}.safetensors"


def item_key(index: int) -> str:
    """Name of an item inside its chunk file."""
    return f"{index:08d}"


def working_folder(out: Path) -> Path:
    """Where a set is built before it is renamed to `out`."""
    return out.with_name(f"{out.name}.building")


@contextmanager
def build_lock(out: Path, *, wait: bool) -> Iterator[Path]:
    """Hold the building folder of `out` for this process alone; the lock dies with the process.

    Raises:
        UserError: another process builds there and `wait` is false.
    """
    folder = working_folder(out)
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(folder / _LOCK_NAME, os.O_CREAT | os.O_RDWR)
        except FileNotFoundError:
            continue
        if not take_lock(handle, folder, wait=wait):
            os.close(handle)
            raise UserError(
                f"another process is building {out}: wait for it or choose another folder"
            )
        # Whoever held the lock before may have finished and moved the folder away.
        lock = folder / _LOCK_NAME
        if lock.exists() and os.path.samestat(os.fstat(handle), lock.stat()):
            break
        os.close(handle)
    try:
        _refuse_foreign(folder)
        yield folder
    finally:
        os.close(handle)


def _refuse_foreign(folder: Path) -> None:
    """Raise UserError if a folder that may be cleared is not one of a build."""
    if (folder / _PLAN_NAME).is_file() or is_packed(folder):
        return
    for item in folder.iterdir():
        if item.name != _LOCK_NAME and not is_leftover(item.name, _PLAN_PATTERN):
            raise UserError(
                f"{folder} is where the clips are built, and holds other files ({item.name}): move"
                " it, or choose another folder for the clips"
            )


class BuildPlan(TypedDict):
    """Everything that decides the bytes of a set; another plan starts the build anew."""

    builder: str
    settings: dict[str, Any]
    layout: str
    levels: list[list[int]]
    attributes: dict[str, dict[str, str]]
    source_hash: str
    times_hash: str
    items_per_chunk: int


class KeptRecord(TypedDict):
    """A line of the journal on a source that gave an item."""

    source: int
    reason: None
    notes: list[str]
    num_corrupt: int
    stored_frames: int
    fps: float
    crc32: list[int]
    num_bytes: int
    flaws: dict[str, str]
    signature: str


class DroppedRecord(TypedDict):
    """A line of the journal on a source that gave none; `num_frames` if they were counted.

    Journals of earlier versions do not say what `is_broken`.
    """

    source: int
    reason: str
    num_frames: int | None
    is_broken: NotRequired[bool]
    notes: list[str]


SourceRecord = KeptRecord | DroppedRecord


class ChunkWriter:
    """Appends items in their order; what is complete on disk survives a kill.

    Items are collected until a chunk is full. Then its file is written for every level, and after
    that the journal gets one line with everything seen since the line before. A restart reads the
    journal and continues after its last complete line.
    """

    def __init__(self, folder: Path, plan: BuildPlan, levels: tuple[LevelShape, ...]) -> None:
        self._folder = folder
        self._levels = levels
        self._items_per_chunk = plan["items_per_chunk"]
        self._pending: list[EncodedClip] = []
        self._new_records: list[SourceRecord] = []
        self.records: list[SourceRecord] = []
        self.num_items = 0
        plan_file = folder / _PLAN_NAME
        if _is_plan(plan_file, plan):
            self._read_journal()
        else:
            _clear(folder)
            write_json_atomically(plan_file, plan)
        for level in levels:
            (folder / level_folder(level)).mkdir(exist_ok=True)
        for leftover in folder.rglob(f"{TEMPORARY_MARK}*"):
            leftover.unlink()

    def add(self, record: SourceRecord, clip: EncodedClip | None) -> None:
        """Append the record of one source and, if it gave one, its item."""
        self.records.append(record)
        self._new_records.append(record)
        if clip is not None:
            self._pending.append(clip)
            if len(self._pending) == self._items_per_chunk:
                self._flush()

    def finish(self) -> None:
        """Write the last chunk."""
        self._flush()

    def publish(self, out: Path) -> None:
        """Rename the building folder to `out`, without the files that only building needs."""
        for name in (_PLAN_NAME, _JOURNAL_NAME):
            (self._folder / name).unlink(missing_ok=True)
        sync(self._folder)
        self._folder.rename(out)
        # The lock goes last: before, another process could make a new one in the folder.
        (out / _LOCK_NAME).unlink()
        sync(out.parent)

    def _flush(self) -> None:
        if self._pending:
            chunk = self.num_items // self._items_per_chunk
            for number, level in enumerate(self._levels):
                tensors = {
                    item_key(self.num_items + place): torch.frombuffer(
                        bytearray(clip.payloads[number]), dtype=torch.uint8
                    )
                    for place, clip in enumerate(self._pending)
                }
                file = chunk_file(self._folder, level, chunk)
                # Written here and not by safetensors, whose errors do not tell a full disk.
                write_file_atomically(file, partial(_write_bytes, data=save(tensors)))
            self.num_items += len(self._pending)
            self._pending = []
        with (self._folder / _JOURNAL_NAME).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps([self.num_items, self._new_records]) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        self._new_records = []

    def _read_journal(self) -> None:
        file = self._folder / _JOURNAL_NAME
        if not file.exists():
            return
        text = file.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self.num_items, records = parse_value(line.decode(), str(file))
            self.records += records
        if len(whole) < len(text):
            os.truncate(file, len(whole))


def _is_plan(file: Path, plan: BuildPlan) -> bool:
    try:
        return read_json(file) == plan
    except (FileNotFoundError, UserError):
        return False


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _LOCK_NAME:
            path.unlink()
