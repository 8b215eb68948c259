"""Statistics of motion that need no network: how much, where and how evenly clips change.

They tell a frozen or a flickering generator at once, and give features for a distance between
sets: a histogram of frame differences, and one of the displacements that block matching finds.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.core.clip_ops import to_float, to_grey

CHUNK = 64
"""Clips that are floats at once."""

DIFFERENCE_BINS = 16
BLOCK_SIZE, REACH = 8, 3
"""Side of the blocks that are matched, and the largest displacement looked for, in pixels."""

STILL = 2 / 127.5
"""Mean absolute difference of [-1, 1] values below which a clip counts as still: 2 grey levels."""


def motion_statistics(clips: Tensor) -> dict[str, float]:
    """How much clips move, in values of 0..255.

    Args:
        clips: uint8 `[M, C, T, H, W]` of at least 2 frames.

    Returns:
        `change`: mean absolute difference of neighbouring frames; `change_deviation`: its standard
        deviation over clips; `jerk`: mean absolute second difference (flicker raises it above
        `change`); `loop`: mean absolute difference of first and last frame; `still`: share of clips
        that change by less than 2 grey levels.

    Raises:
        ValueError: clips of one frame.
    """
    _check(clips)
    rows = [_per_clip(to_float(chunk)) for chunk in torch.split(clips, CHUNK)]
    change, jerk, loop = torch.cat(rows).double().unbind(1)
    scale = 127.5
    return {
        "change": scale * float(change.mean()),
        "change_deviation": scale * float(change.std(correction=0)),
        "jerk": scale * float(jerk.mean()),
        "loop": scale * float(loop.mean()),
        "still": float((change < STILL).double().mean()),
    }


def compare_motion(fake: Tensor, real: Tensor) -> dict[str, Any]:
    """`motion_statistics` of both sets, and `ratio`: change of the fake over that of the real."""
    generated, heldout = motion_statistics(fake), motion_statistics(real)
    ratio = generated["change"] / heldout["change"] if heldout["change"] > 0 else None
    return {"generated": generated, "heldout": heldout, "ratio": ratio}


def difference_histogram(clips: Tensor) -> Tensor:
    """Share of voxels by size of their change to the next frame, float64 `[M, 16]`.

    Bins are equal steps of the square root of |difference| / 2, so that small changes are told
    apart. Features for `frechet_distance` or `kernel_distance`.
    """
    _check(clips)
    parts = []
    for chunk in torch.split(clips, CHUNK):
        floats = to_float(chunk)
        size = ((floats[:, :, 1:] - floats[:, :, :-1]).abs() / 2).sqrt().flatten(1)
        bins = (size * DIFFERENCE_BINS).long().clamp_max(DIFFERENCE_BINS - 1)
        counts = torch.zeros(chunk.shape[0], DIFFERENCE_BINS, dtype=torch.float64)
        counts.scatter_add_(1, bins, torch.ones_like(bins, dtype=torch.float64))
        parts.append(counts / bins.shape[1])
    return torch.cat(parts)


def flow_histogram(clips: Tensor) -> Tensor:
    """Share of blocks by displacement to the next frame, float64 `[M, 49]`.

    Every block of 8x8 grey pixels is looked for within 3 pixels in the next frame; the displacement
    with the least mean absolute difference counts, and of equal ones the shortest.

    Raises:
        ValueError: clips of one frame, or smaller than a block.
    """
    _check(clips)
    if min(clips.shape[-2:]) < BLOCK_SIZE:
        raise ValueError(f"block matching needs frames of at least {BLOCK_SIZE} pixels a side")
    offsets = _offsets()
    parts = []
    for chunk in torch.split(clips, CHUNK):
        floats = to_float(chunk)
        grey = (to_grey(floats) if floats.shape[1] == 3 else floats[:, :1])[:, 0]  # [B, T, H, W]
        best = _match(grey[:, :-1].flatten(0, 1), grey[:, 1:].flatten(0, 1), offsets)
        counts = F.one_hot(best.reshape(chunk.shape[0], -1), len(offsets)).double().mean(1)
        parts.append(counts)
    return torch.cat(parts)


def _offsets() -> list[tuple[int, int]]:
    """Displacements (dy, dx), the shortest first."""
    reach = range(-REACH, REACH + 1)
    return sorted(((y, x) for y in reach for x in reach), key=lambda d: (d[0] ** 2 + d[1] ** 2, d))


def _match(first: Tensor, second: Tensor, offsets: list[tuple[int, int]]) -> Tensor:
    """Index of the best displacement of every block, int64 `[N, blocks]`; frames `[N, H, W]`."""
    height, width = first.shape[1:]
    padded = F.pad(second[:, None], (REACH,) * 4, mode="replicate")[:, 0]
    costs = []
    for dy, dx in offsets:
        moved = padded[:, REACH + dy : REACH + dy + height, REACH + dx : REACH + dx + width]
        costs.append(F.avg_pool2d((first - moved).abs()[:, None], BLOCK_SIZE).flatten(1))
    # argmin of the first of equal costs: offsets are sorted by length.
    stacked = torch.stack(costs)
    is_least = stacked <= stacked.min(0).values + 1e-7
    return is_least.to(torch.uint8).argmax(0)


def _per_clip(clip: Tensor) -> Tensor:
    """Change, jerk and loop of each clip, `[B, 3]`, for float clips."""
    first = clip[:, :, 1:] - clip[:, :, :-1]
    second = first[:, :, 1:] - first[:, :, :-1]
    change = first.abs().flatten(1).mean(1)
    jerk = second.abs().flatten(1).mean(1) if second.shape[2] else torch.zeros_like(change)
    loop = (clip[:, :, -1] - clip[:, :, 0]).abs().flatten(1).mean(1)
    return torch.stack([change, jerk, loop], 1)


def _check(clips: Tensor) -> None:
    if clips.ndim != 5 or clips.shape[2] < 2:
        raise ValueError(
            f"motion needs clips [M, C, T, H, W] of 2 frames, got {tuple(clips.shape)}"
        )
