"""Stores of clips behind one protocol: packed sets, and small sets in memory."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from vidgan.core.shapes import LevelShape
from vidgan.data.packed.cloud import is_url
from vidgan.data.packed.manifest import MANIFEST_NAME, ClipItem, Manifest
from vidgan.data.packed.payload import decode_payload
from vidgan.data.packed.writer import open_chunks
from vidgan.errors import UserError

__all__ = ["ClipItem", "ClipStore", "LevelShape", "MemoryStore", "PackedStore", "open_store"]


class ClipStore(Protocol):
    """Clips that can be read by number, at full size and at the stored lower levels.

    Attributes:
        items: label, split, source and length of every clip.
        classes: class names; empty without labels.
        attributes: what each class is made of; may be empty.
        levels: stored sizes, full size first; frames count one clip.
        fps: frames per second at which the clips play.
        items_per_chunk: clips that lie together; reading those in a row is cheap.
        path: where they lie; None in memory.
        manifest: what is known of how they were made; None where nothing is.
    """

    @property
    def items(self) -> Sequence[ClipItem]: ...
    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def attributes(self) -> dict[str, dict[str, str]]: ...
    @property
    def levels(self) -> Sequence[LevelShape]: ...
    @property
    def fps(self) -> float: ...
    @property
    def items_per_chunk(self) -> int: ...
    @property
    def path(self) -> str | Path | None: ...
    @property
    def manifest(self) -> Manifest | None: ...

    def __len__(self) -> int: ...

    def read(self, index: int, level: LevelShape | tuple[int, int]) -> Tensor:
        """Clip `index` at a stored level: uint8 `[C, stored frames, H, W]`."""
        ...


def open_store(path: str | Path) -> "PackedStore":
    """Open a packed clip set in a folder or, by its address, in an object store.

    Raises:
        UserError: `path` is none.
    """
    return PackedStore(path)


class PackedStore:
    """A packed clip set; may be shared by threads and sent to processes."""

    def __init__(self, path: str | Path) -> None:
        self.path = path if is_url(path) else Path(path)
        folder, manifest, self._chunks = open_chunks(path)
        self.manifest_file = folder / MANIFEST_NAME
        self.manifest = manifest
        self.items: Sequence[ClipItem] = manifest.items
        self.classes: Sequence[str] = manifest.classes
        self.attributes = manifest.attributes
        self.levels: Sequence[LevelShape] = manifest.levels
        self.fps = manifest.fps
        self.items_per_chunk = manifest.items_per_chunk

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int, level: LevelShape | tuple[int, int]) -> Tensor:
        """Clip `index` at a stored level: uint8 `[3, stored frames, H, W]`.

        Raises:
            UserError: the level is not stored, or the clip is damaged on disk.
        """
        payload = self.payload(index, level)
        level, full = LevelShape(*level), self.levels[0]
        frames = self.items[index].stored_frames // (full.frames // level.frames)
        shape = (3, frames, level.resolution, level.resolution)
        try:
            return decode_payload(payload, self.manifest.codecs[self.levels.index(level)], shape)
        except UserError as error:
            raise UserError(
                f"clip {index} ({self.items[index].source}) in {self._chunks.place(level, index)}"
                f" is damaged: {error}; build the set again"
            ) from error

    def payload(self, index: int, level: LevelShape | tuple[int, int]) -> bytes:
        """The stored bytes of clip `index`, checked against their checksum.

        Raises:
            UserError: as `read`.
        """
        level = LevelShape(*level)
        if level not in self.levels:
            raise UserError(f"{self.path} stores no level {level}: it has {list(self.levels)}")
        item = self.items[index]
        payload = self._chunks.payload(level, index)
        if zlib.crc32(payload) != item.checksums[self.levels.index(level)]:
            raise UserError(
                f"clip {index} ({item.source}) in {self._chunks.place(level, index)} is damaged,"
                " its checksum differs: build the set again"
            )
        return payload


class MemoryStore:
    """Clips in memory.

    Args:
        clips: uint8 `[M, C, T, H, W]`, square.
        labels: int64 `[M]`, positions in `classes`; None without labels.
        classes: class names; None numbers them.
        splits: split of every clip; None puts all into train.
        fps: frames per second at which they play.
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
        self.levels: Sequence[LevelShape] = (LevelShape(t, h),)
        self.fps = fps
        self.items_per_chunk = 1
        self.path = None
        self.manifest = None

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int, level: LevelShape | tuple[int, int]) -> Tensor:
        """Clip `index`, uint8 `[C, T, H, W]`; only the full size is kept."""
        if level != self.levels[0]:
            raise UserError(f"clips in memory have no level {level}: only {self.levels[0]}")
        return self._clips[index]
