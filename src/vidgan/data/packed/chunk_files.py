"""Stored payloads by number: out of safetensors chunks in a folder, or out of litdata's chunks."""

import os
from pathlib import Path
from typing import Any, Protocol

from vidgan.core.shapes import LevelShape
from vidgan.data.packed.cloud import fetch_set, is_url, open_level, told
from vidgan.data.packed.manifest import Manifest, level_folder, read_manifest
from vidgan.data.packed.writer import chunk_file, item_key
from vidgan.errors import UserError


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
        path: The set's folder, or its address in an object store.

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
            raise UserError(f"{file} is no file: build the set again")
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
        path: The set.
        cache: Folder for fetched chunks; None reads a folder in place.
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
            number, stored = item["index"], bytes(item["payload"])
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
