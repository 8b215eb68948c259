"""Stores of clips behind one protocol: packed sets on disk, and small sets in memory."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from vidgan.data.chunks import chunk_file, item_key
from vidgan.data.index import ClipItem, Level, read_manifest
from vidgan.data.payload import decode_payload
from vidgan.errors import UserError

__all__ = ["ClipItem", "ClipStore", "Level", "MemoryStore", "PackedStore", "open_store"]


class ClipStore(Protocol):
    """Clips that can be read by number, at full size and at the stored lower levels.

    Attributes:
        items: Label, split, source and length of every clip.
        classes: Class names; empty without labels.
        attributes: What each class is made of; may be empty.
        levels: Stored sizes, full size first; frames count one clip.
        fps: Frames per second at which the clips play.
        items_per_chunk: Clips that lie together; reading those in a row is cheap.
    """

    @property
    def items(self) -> Sequence[ClipItem]: ...
    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def attributes(self) -> dict[str, dict[str, str]]: ...
    @property
    def levels(self) -> Sequence[Level]: ...
    @property
    def fps(self) -> float: ...
    @property
    def items_per_chunk(self) -> int: ...

    def __len__(self) -> int: ...

    def read(self, index: int, level: Level | tuple[int, int]) -> Tensor:
        """Clip `index` at a stored level: uint8 `[C, stored frames, H, W]`."""
        ...


def open_store(path: str | Path) -> "PackedStore":
    """Open a packed clip set.

    Raises:
        UserError: `path` is none.
    """
    return PackedStore(path)


class PackedStore:
    """A packed clip set on disk; may be shared by threads and sent to processes."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        manifest = read_manifest(path)
        self.manifest = manifest
        self.items: Sequence[ClipItem] = manifest.items
        self.classes: Sequence[str] = manifest.classes
        self.attributes = manifest.attributes
        self.levels: Sequence[Level] = manifest.levels
        self.fps = manifest.fps
        self.items_per_chunk = manifest.items_per_chunk
        self._chunks: dict[tuple[Level, int], Any] = {}

    def __len__(self) -> int:
        return len(self.items)

    def __getstate__(self) -> dict[str, Any]:
        # Open files stay behind; the receiving process opens its own.
        return {**self.__dict__, "_chunks": {}}

    def read(self, index: int, level: Level | tuple[int, int]) -> Tensor:
        """Clip `index` at a stored level: uint8 `[3, stored frames, H, W]`.

        Raises:
            UserError: the level is not stored, or the clip is damaged on disk.
        """
        level = Level(*level)
        if level not in self.levels:
            raise UserError(f"{self.path} stores no level {level}: it has {list(self.levels)}")
        number = self.levels.index(level)
        item = self.items[index]
        chunk = index // self.items_per_chunk
        file = chunk_file(self.path, level, chunk)
        try:
            payload = self._open(level, chunk).get_tensor(item_key(index)).numpy().tobytes()
        except FileNotFoundError as error:
            raise UserError(
                f"{file} is missing: copy it back from where the set comes from, or build the set"
                " again"
            ) from error
        except Exception as error:
            # safetensors raises a type of its own for every kind of damage.
            raise UserError(f"{file} is damaged ({error}): build the set again") from error
        if zlib.crc32(payload) != item.checksums[number]:
            raise UserError(
                f"clip {index} ({item.source}) in {file} is damaged, its checksum differs:"
                " build the set again"
            )
        full = self.levels[0]
        frames = item.stored_frames // (full.frames // level.frames)
        shape = (3, frames, level.resolution, level.resolution)
        return decode_payload(payload, self.manifest.codecs[number], shape)

    def _open(self, level: Level, chunk: int) -> Any:
        from safetensors import safe_open

        key = level, chunk
        if key not in self._chunks:
            file = chunk_file(self.path, level, chunk)
            self._chunks[key] = safe_open(file, framework="pt")
        return self._chunks[key]


class MemoryStore:
    """Clips in memory.

    Args:
        clips: uint8 `[M, C, T, H, W]`, square.
        labels: int64 `[M]`, positions in `classes`; None without labels.
        classes: Class names; None numbers them.
        splits: Split of every clip; None puts all into train.
        fps: Frames per second at which they play.
    """

    def __init__(
        self,
        clips: Tensor,
        labels: Tensor | None = None,
        *,
        classes: Sequence[str] | None = None,
        splits: Sequence[str] | None = None,
        attributes: dict[str, dict[str, str]] | None = None,
        fps: float = 8.0,
    ) -> None:
        m, _, t, h, w = clips.shape
        if h != w:
            raise UserError(f"clips in memory must be square, not {h} x {w}")
        numbers = [-1] * m if labels is None else [int(label) for label in labels]
        if classes is None:
            classes = [str(n) for n in range(max(numbers, default=-1) + 1)]
        self._clips = clips
        self.items: Sequence[ClipItem] = [
            ClipItem(numbers[i], splits[i] if splits else "train", f"memory/{i}", t)
            for i in range(m)
        ]
        self.classes: Sequence[str] = tuple(classes)
        self.attributes = attributes or {}
        self.levels: Sequence[Level] = (Level(t, h),)
        self.fps = fps
        self.items_per_chunk = 1

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int, level: Level | tuple[int, int]) -> Tensor:
        """Clip `index`, uint8 `[C, T, H, W]`; only the full size is kept."""
        if level != self.levels[0]:
            raise UserError(f"clips in memory have no level {level}: only {self.levels[0]}")
        return self._clips[index]
