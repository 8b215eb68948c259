"""Sliced Wasserstein distance between space-time patches of two sets of clips (`stswd`).

A metric without weights and without labels. It extends the patch statistic of progressive growing
(Karras et al. 2018, section 5) to video. Clips are taken apart twice: into the bands of a Laplacian
pyramid, and at every scale of it into differences between frames 1, 2, 4, ... apart. From each part
small blocks of pixels and frames are cut at seeded places, standardised by the real set's mean and
deviation, and projected to seeded directions; in one dimension the Wasserstein distance is the mean
gap between sorted projections.

Differences from the image statistic: standardising uses the real set's moments for both sets, so
that wrong brightness, contrast or amount of motion is seen; the pyramid halves by averaging.
"""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.core.clip_ops import fold_time, to_float, unfold_time
from vidgan.core.randomness import derive_seed, keyed_rng
from vidgan.errors import UserError

CHUNK = 64
"""Clips whose pyramids are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class SlicedSettings:
    """What decides the distance; part of its protocol."""

    patch_size: int = 7
    """Side of a patch in pixels."""
    patch_frames: int = 3
    """Frames of a patch."""
    patches_per_clip: int = 32
    """Patches a clip and part of the decomposition."""
    directions: int = 256
    """Random projections for each part."""
    smallest_size: int = 16
    """The pyramid ends at the last level whose shorter side is at least this many pixels."""
    scale: float = 1000.0
    """Factor of the printed value; 1000 means thousandths of a standard deviation."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not math.isfinite(value) or (value < 1 and item.name != "scale"):
                raise UserError(f"sliced.{item.name} must be a number of at least 1, got {value}")


class SlicedResult(NamedTuple):
    """The distance, and its mean over the parts that show appearance and motion."""

    value: float
    appearance: float
    motion: float


class _Part(NamedTuple):
    """The real set's sorted projections `[patches, directions]` and how they came about."""

    mean: Tensor
    deviation: Tensor
    directions: Tensor
    projections: Tensor


class SlicedReference:
    """A set of real clips that others are compared with.

    Args:
        real: uint8 `[M, C, T, H, W]`.
        settings: None for the defaults.
        seed: of the places and of the directions.

    Raises:
        UserError: clips are shorter or smaller than a patch.
    """

    def __init__(self, real: Tensor, settings: SlicedSettings | None = None, seed: int = 0) -> None:
        _check(real)
        self.settings = settings or SlicedSettings()
        self.seed = seed
        self.shape = tuple(real.shape)
        self._parts: dict[str, _Part] = {}
        for name, patches in self._patches(real).items():
            # One mean and deviation for each channel, over all patches and their pixels.
            mean = patches.mean((0, 2, 3, 4), keepdim=True)
            deviation = patches.std((0, 2, 3, 4), keepdim=True).clamp_min(1e-6)
            rng = keyed_rng(seed, "stswd directions", name)
            directions = torch.randn(patches[0].numel(), self.settings.directions, generator=rng)
            directions = directions / directions.norm(dim=0)
            projections = ((patches - mean) / deviation).flatten(1) @ directions
            part = _Part(mean, deviation, directions, projections.sort(0).values)
            self._parts[name] = part

    def distance(self, clips: Tensor) -> SlicedResult:
        """Distance of as many uint8 clips of the same shape; 0 for the reference itself.

        Raises:
            UserError: number or shape of the clips differs from the reference.
        """
        _check(clips)
        if tuple(clips.shape) != self.shape:
            raise UserError(
                f"the sliced distance compares equally many clips of one shape: the reference is "
                f"{self.shape}, the clips are {tuple(clips.shape)}"
            )
        gaps: dict[str, float] = {}
        for name, patches in self._patches(clips).items():
            part = self._parts[name]
            projections = ((patches - part.mean) / part.deviation).flatten(1) @ part.directions
            gap = (projections.sort(0).values - part.projections).abs().double().mean()
            gaps[name] = float(gap) * self.settings.scale
        appearance = [value for name, value in gaps.items() if name.startswith("band")]
        motion = [value for name, value in gaps.items() if name.startswith("change")]
        return SlicedResult(_mean(list(gaps.values())), _mean(appearance), _mean(motion))

    def record(self) -> dict[str, Any]:
        """Plain values that decide the distance."""
        return {**asdict(self.settings), "seed": self.seed, "parts": sorted(self._parts)}

    def _patches(self, clips: Tensor) -> dict[str, Tensor]:
        """Patches `[M * P, C, t, h, w]` of every part, float32."""
        gathered: dict[str, list[Tensor]] = {}
        for index, chunk in enumerate(torch.split(clips, CHUNK)):
            for name, part in _decompose(to_float(chunk), self.settings).items():
                gathered.setdefault(name, []).append(self._cut(part, name, index))
        return {name: torch.cat(parts) for name, parts in gathered.items()}

    def _cut(self, part: Tensor, name: str, chunk: int) -> Tensor:
        """Blocks of `part` at places that depend on the seed, the part and the clip's number."""
        s = self.settings
        b, c, t, h, w = part.shape
        extent = (s.patch_frames, s.patch_size, s.patch_size)
        rng = torch.Generator().manual_seed(derive_seed(self.seed, "stswd places", name, chunk))
        starts = [
            torch.randint(size - length + 1, (CHUNK, s.patches_per_clip), generator=rng)[:b]
            for size, length in zip((t, h, w), extent, strict=True)
        ]
        strides = (h * w, w, 1)
        corner = sum(start * step for start, step in zip(starts, strides, strict=True))
        dt, dy, dx = (torch.arange(length) for length in extent)
        offsets = dt[:, None, None] * strides[0] + dy[:, None] * strides[1] + dx
        places = (torch.as_tensor(corner)[:, :, None] + offsets.flatten()).flatten(1)
        voxels = part.reshape(b, c, t * h * w).gather(2, places[:, None].expand(b, c, -1))
        blocks = voxels.reshape(b, c, s.patches_per_clip, *extent).transpose(1, 2)
        return blocks.reshape(b * s.patches_per_clip, c, *extent)


def space_time_swd(
    clips: Tensor, real: Tensor, *, seed: int = 0, settings: SlicedSettings | None = None
) -> float:
    """Sliced Wasserstein distance between the space-time patches of two sets of clips.

    Args:
        clips: uint8 `[M, C, T, H, W]`, at least 4 frames of 8x8 pixels.
        real: uint8, of the same shape; it sets the scale.
        seed: of the places and of the directions.
        settings: None for the defaults.

    Returns:
        Thousandths of a standard deviation of the real patches; 0 for equal sets. It shrinks with
        the number of clips even for equal distributions.

    Raises:
        UserError: clips are shorter or smaller than a patch, or shapes differ.

    Example:
        >>> import torch
        >>> clips = torch.randint(256, (4, 3, 4, 8, 8), dtype=torch.uint8)
        >>> space_time_swd(clips, clips)
        0.0
    """
    return SlicedReference(real, settings, seed).distance(clips).value


def _check(clips: Tensor) -> None:
    if clips.dtype != torch.uint8 or clips.ndim != 5 or clips.shape[0] == 0:
        raise UserError(
            "the space-time distance compares uint8 clips [M, C, T, H, W] with M of at least one, "
            f"got {clips.dtype} {tuple(clips.shape)}"
        )


def _decompose(clip: Tensor, settings: SlicedSettings) -> dict[str, Tensor]:
    """Parts of a float clip `[B, C, T, H, W]`: `band<k>` and `change<k>/<frames apart>`."""
    frames, size = clip.shape[2], min(clip.shape[3:])
    if frames <= settings.patch_frames or size < settings.patch_size:
        raise UserError(
            f"the space-time distance needs clips of at least {settings.patch_frames + 1} frames "
            f"and {settings.patch_size} pixels, got {frames} frames of "
            f"{clip.shape[3]}x{clip.shape[4]} pixels"
        )
    parts: dict[str, Tensor] = {}
    level = 0
    while True:
        gap = 1
        while frames - gap >= settings.patch_frames:
            parts[f"change{level}/{gap}"] = clip[:, :, gap:] - clip[:, :, :-gap]
            gap *= 2
        if min(clip.shape[3:]) // 2 < max(settings.smallest_size, settings.patch_size):
            parts[f"band{level}"] = clip
            return parts
        folded = fold_time(clip)
        smaller = F.avg_pool2d(folded, 2)
        coarse = F.interpolate(smaller, size=folded.shape[2:], mode="bilinear")
        parts[f"band{level}"] = unfold_time(folded - coarse, clip.shape[0])
        clip = unfold_time(smaller, clip.shape[0])
        level += 1


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
