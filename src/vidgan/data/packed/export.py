"""Packed clip sets as WebDataset shards: plain tar files that other tools stream."""

import io
import json
import tarfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vidgan.core.files import write_folder_atomically, write_json_atomically
from vidgan.core.progress import Progress
from vidgan.data.packed.payload import shrunk
from vidgan.data.packed.store import PackedStore, open_store
from vidgan.errors import UserError
from vidgan.video import frame_strip, mp4_bytes, write_png
from vidgan.video.frames import Pixels

ClipFormat = Literal["npy", "mp4"]
_SHARD_BYTES = 1 << 30
"""Pixels in a shard at most, so that several workers find one each to read."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What was written.

    Attributes:
        out: the folder.
        shards: clips in each of its shards.
        num_bytes: bytes of all shards.
    """

    out: str
    shards: dict[str, int]
    num_bytes: int

    @property
    def num_clips(self) -> int:
        """Clips in all shards."""
        return sum(self.shards.values())


def export_clips(
    source: str | Path,
    out: str | Path,
    clips: ClipFormat = "npy",
    shard_clips: int = 1000,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a packed clip set as WebDataset shards `SPLIT-000000.tar` and an `index.json`.

    A sample has the key of its place in the set and the parts `npy` (uint8 `[T, H, W, 3]`, exact)
    or `mp4` (H.264, smaller), `cls` (the class as a number, for labelled sets) and `json` (class
    name, attributes, source, split, group, frames per second). The same set gives the same bytes.

    Args:
        source: a packed clip set.
        out: folder to make; it must not be there yet.
        clips: how the pixels are stored.
        shard_clips: clips in a shard at most; fewer where that would be over 1 GiB of pixels.
        progress: called with (done, total, what) after every clip.

    Raises:
        UserError: no packed set, `out` is there already, or a damaged clip.
    """
    store, out = open_store(source), Path(out)
    if shard_clips < 1:
        raise UserError(f"--shard-clips {shard_clips} must be at least 1")
    if out.exists():
        raise UserError(f"{out} already exists: choose another folder or delete it")
    full = store.levels[0]
    largest = 3 * max(item.stored_frames for item in store.items) * full.resolution**2
    shard_clips = min(shard_clips, max(1, _SHARD_BYTES // largest))
    shards = _plan(store, shard_clips)

    def write(folder: Path) -> None:
        done = 0
        for name, numbers in shards.items():
            with tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as archive:
                for number in numbers:
                    _add_sample(archive, f"{number:08d}", _parts(store, number, clips))
                    done += 1
                    if progress:
                        progress(done, len(store), "writing shards")
        counts = {name: len(numbers) for name, numbers in shards.items()}
        write_json_atomically(folder / "index.json", _index(store, counts))

    write_folder_atomically(out, write)
    return ExportReport(
        out=str(out),
        shards={name: len(numbers) for name, numbers in shards.items()},
        num_bytes=sum((out / name).stat().st_size for name in shards),
    )


def _plan(store: PackedStore, shard_clips: int) -> dict[str, list[int]]:
    """Numbers of the clips of every shard, by its file name."""
    shards: dict[str, list[int]] = {}
    for split in sorted({item.split for item in store.items}):
        numbers = [n for n, item in enumerate(store.items) if item.split == split]
        for shard, start in enumerate(range(0, len(numbers), shard_clips)):
            shards[f"{split}-{shard:06d}.tar"] = numbers[start : start + shard_clips]
    return shards


def _add_sample(archive: tarfile.TarFile, key: str, parts: dict[str, bytes]) -> None:
    for suffix, data in parts.items():
        # Without a date and an owner, so that the same set gives the same bytes.
        info = tarfile.TarInfo(f"{key}.{suffix}")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))


def _parts(store: PackedStore, number: int, clips: ClipFormat) -> dict[str, bytes]:
    """The files of one sample by suffix."""
    item = store.items[number]
    clip = store.read(number, store.levels[0])
    about: dict[str, Any] = {
        "source": item.source,
        "split": item.split,
        "fps": store.fps,
        "frames": item.stored_frames,
    }
    parts: dict[str, bytes] = {
        clips: _npy_bytes(clip) if clips == "npy" else mp4_bytes(clip, store.fps)
    }
    if store.classes:
        name = store.classes[item.label]
        parts["cls"] = str(item.label).encode()
        about |= {"class_name": name, "attributes": store.attributes.get(name, {})}
    if item.group:
        about["group"] = item.group
    parts["json"] = json.dumps(about).encode()
    return parts


def _npy_bytes(clip: Tensor) -> bytes:
    buffer = io.BytesIO()
    pixels = np.ascontiguousarray(clip.permute(1, 2, 3, 0).numpy())
    np.lib.format.write_array(buffer, pixels, allow_pickle=False)
    return buffer.getvalue()


def _index(store: PackedStore, shards: dict[str, int]) -> dict[str, Any]:
    frames, resolution = store.levels[0]
    return {
        "format": "webdataset",
        "shards": shards,
        "classes": list(store.classes),
        "attributes": store.attributes,
        "fps": store.fps,
        "frames": frames,
        "resolution": resolution,
    }


# ------------------------------------------------------------------------------------------------
# Images of some clips of a set, a row of frames each, to be looked at

SHEET_CLIPS = 16
PREVIEW_SIDE = 64
"""Pixels to which larger clips are averaged down."""
_FRAMES = 8
_SHOWN_SIDE = 96


def draw_packed(folder: str | Path, path: str | Path) -> None:
    """Draw up to 16 clips of a packed set, spread over its classes.

    Args:
        folder: the packed set.
        path: PNG to write.

    Raises:
        UserError: `folder` is not a packed set.
    """
    store = open_store(folder)
    full = store.levels[0]
    by_label: dict[int, list[int]] = defaultdict(list)
    for number, item in enumerate(store.items):
        by_label[item.label].append(number)
    few = -(-SHEET_CLIPS // max(1, len(by_label)))
    chosen = [number for label in sorted(by_label) for number in by_label[label][:few]]
    clips = [store.read(number, full)[:, : full.frames].numpy() for number in chosen]
    draw_sheet(path, [shrunk(clip, PREVIEW_SIDE) for clip in clips])


def draw_sheet(path: str | Path, clips: list[Pixels]) -> None:
    """Write a PNG with a row for each of up to 16 clips, evenly out of all.

    Args:
        path: PNG to write.
        clips: uint8 `[3, T, S, S]` of one size; T may differ.
    """
    # Evenly over the alphabet of the classes, where there are more than rows.
    count = min(len(clips), SHEET_CLIPS)
    chosen = [clips[n * len(clips) // count] for n in range(count)]
    shortest = min(clip.shape[1] for clip in chosen)
    stack = torch.from_numpy(np.stack([clip[:, :shortest] for clip in chosen]))
    scale = max(1, _SHOWN_SIDE // stack.shape[-1])
    write_png(path, frame_strip(stack, _FRAMES, scale=scale))
