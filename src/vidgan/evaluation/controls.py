"""What every score is read against: damaged real clips, noise, and nearest training clips.

All functions map uint8 clips `[M, C, T, H, W]` to as many clips of the same shape and type.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.metrics.memorisation import Nearest
from vidgan.video.writing import frame_strip


def uniform_noise(clips: Tensor, seed: int = 0) -> Tensor:
    """Clips of independent uniform pixels: the ceiling of every distance."""
    rng = keyed_rng(seed, "noise control")
    return torch.randint(256, clips.shape, dtype=torch.uint8, generator=rng)


def mean_clip(clips: Tensor, seed: int = 0) -> Tensor:
    """The pixel-wise mean of the clips, repeated: what a generator without diversity may reach."""
    total = torch.zeros(clips.shape[1:], dtype=torch.float64)
    for clip in clips:
        total += clip
    return (total / clips.shape[0]).round().to(torch.uint8).expand_as(clips).contiguous()


def shuffled_frames(clips: Tensor, seed: int = 0) -> Tensor:
    """Each clip's frames in a random order of its own."""
    rng = keyed_rng(seed, "shuffle control")
    order = torch.rand(clips.shape[0], clips.shape[2], generator=rng).argsort(1)
    return clips.gather(2, order[:, None, :, None, None].expand_as(clips))


def frozen_frames(clips: Tensor, seed: int = 0) -> Tensor:
    """The first frame of each clip, repeated."""
    return clips[:, :, :1].expand_as(clips).contiguous()


def reversed_frames(clips: Tensor, seed: int = 0) -> Tensor:
    """Each clip played backwards; a set that holds every motion both ways hardly changes."""
    return clips.flip(2)


Control = Callable[[Tensor, int], Tensor]

CONTROLS: dict[str, Control] = {
    "noise": uniform_noise,
    "mean clip": mean_clip,
    "shuffled": shuffled_frames,
    "frozen": frozen_frames,
    "reversed": reversed_frames,
}
"""Controls by the name under which a record lists them."""


def motion_sensitivity(shuffled: float, floor: float, ceiling: float) -> float | None:
    """Where shuffled real clips lie between floor (0) and ceiling (1) of a distance.

    Near 0 the metric does not see motion. None if floor and ceiling do not differ.
    """
    return (shuffled - floor) / (ceiling - floor) if ceiling > floor else None


def nearest_pairs(nearest: Nearest, count: int = 6) -> list[dict[str, Any]]:
    """The generated clips that lie nearest to any training clip, the nearest first.

    Args:
        nearest: the nearest training clip of every generated one.
        count: at most so many pairs, of different training clips.

    Returns:
        Rows `generated` and `train`, and their `distance`.
    """
    rows = nearest.rows.tolist()
    pairs: dict[int, dict[str, Any]] = {}
    for row in nearest.distances.argsort(stable=True).tolist():
        if len(pairs) == count:
            break
        pair = {"generated": row, "train": rows[row], "distance": float(nearest.distances[row])}
        pairs.setdefault(rows[row], pair)
    return list(pairs.values())


def nearest_picture(fake: Tensor, train: Tensor, pairs: list[dict[str, Any]]) -> Tensor:
    """Two rows of frames for every pair: the generated clip and below it its training clip.

    Args:
        fake, train: uint8 `[M, C, T, H, W]`.
        pairs: from `nearest_pairs`.

    Returns:
        uint8 `[C, H', W']`, small pixels enlarged.
    """
    rows = [clip for p in pairs for clip in (fake[p["generated"]], train[p["train"]])]
    scale = max(1, 96 // fake.shape[-1])
    strips = [
        frame_strip(torch.stack(rows[i : i + 2]), 8, scale=scale) for i in range(0, len(rows), 2)
    ]
    gap = strips[0].new_full((*strips[0].shape[:1], 4 * scale, strips[0].shape[2]), 255)
    return torch.cat([part for strip in strips for part in (strip, gap)], 1)
