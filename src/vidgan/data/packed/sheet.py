"""Pictures of some clips of a set, a row of frames each, to be looked at."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from vidgan.data.packed.payload import shrunk
from vidgan.data.packed.store import open_store
from vidgan.video import frame_strip, write_png
from vidgan.video.frames import Pixels

SHEET_CLIPS = 16
PREVIEW_SIDE = 64
"""Pixels to which larger clips are averaged down."""
_FRAMES = 8
_SHOWN_SIDE = 96


def draw_packed(folder: str | Path, path: str | Path) -> None:
    """Draw up to 16 clips of a packed set, spread over its classes.

    Args:
        folder: The packed set.
        path: PNG to write.

    Raises:
        UserError: `folder` is no packed set.
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
