"""What every score is read against: damaged real clips, noise, and nearest training clips.

All functions map uint8 clips `[M, C, T, H, W]` to as many clips of the same shape and type.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vidgan.core.clip_ops import to_float
from vidgan.core.randomness import keyed_rng
from vidgan.video.writing import frame_strip

NEAREST_BLOCK = 1024
"""Rows of the distance matrix that are in memory at once."""


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


def nearest_pairs(queries: Tensor, references: Tensor, count: int = 6) -> list[dict[str, Any]]:
    """The queries `[M, F]` that lie nearest to any reference `[R, F]`, the nearest first.

    Returns:
        At most `count` pairs of different references: rows `generated` and `train`, `distance`.
    """
    references = references.double()
    found = [
        torch.cdist(block.double(), references, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        for block in torch.split(queries, NEAREST_BLOCK)
    ]
    distances = torch.cat([part.values for part in found])
    nearest = torch.cat([part.indices for part in found]).tolist()
    pairs: dict[int, dict[str, Any]] = {}
    for row in distances.argsort(stable=True).tolist():
        if len(pairs) == count:
            break
        pair = {"generated": row, "train": nearest[row], "distance": float(distances[row])}
        pairs.setdefault(nearest[row], pair)
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


def nearest_distances(queries: Tensor, references: Tensor) -> Tensor:
    """Euclidean distance from each row of `[M, F]` to its nearest row of `[R, F]`, float64 `[M]`.

    Distances are taken from differences and not from a product, so that an exact copy is at 0.
    """
    references = references.double()
    parts = [
        torch.cdist(block.double(), references, compute_mode="donot_use_mm_for_euclid_dist")
        .min(1)
        .values
        for block in torch.split(queries, NEAREST_BLOCK)
    ]
    return torch.cat(parts)


def thumbnails(clips: Tensor) -> Tensor:
    """Clips averaged to at most 4 frames of 8x8 pixels and flattened, float32 `[M, F]`."""
    _, _, t, h, w = clips.shape
    size = (min(4, t), min(8, h), min(8, w))
    chunks = [
        torch.nn.functional.adaptive_avg_pool3d(to_float(chunk), size).flatten(1)
        for chunk in torch.split(clips, NEAREST_BLOCK)
    ]
    return torch.cat(chunks)


def memorisation(fake: Tensor, heldout: Tensor, train: Tensor) -> dict[str, float | None]:
    """Are generated clips nearer to training clips than unseen real clips are?

    Args:
        fake, heldout, train: features `[M, F]`.

    Returns:
        Median distance to the nearest training row of `generated` and of `heldout`, and their
        `ratio`; well below 1 it tells of copied training clips. None where held-out clips lie on
        training clips.
    """
    generated = float(nearest_distances(fake, train).median())
    real = float(nearest_distances(heldout, train).median())
    ratio = generated / real if real > 0 else None
    return {"generated": generated, "heldout": real, "ratio": ratio}
