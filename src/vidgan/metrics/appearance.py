"""Appearance: sliced Wasserstein distances between descriptors of whole clips.

Each clip becomes a few visible statistics that a network may ignore: its mean colour, the
distribution of its colours, and where it is light, dark and coloured over time. Sets of clips are
compared by the sliced Wasserstein distance of these descriptions (Rabin et al. 2011), so that a set
with dark backgrounds, wrong hues or repeated scenes scores badly.
Patches, as in `stswd`, do not know which of them belong to one clip; descriptions do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.core.clip_ops import to_float
from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError

# ------------------------------------------------------------------------------------------------
# Motion statistics without a network: how much and how evenly clips change.
#
# They expose a frozen or a flickering generator.

MOTION_CHUNK = 64
"""Clips converted to float at a time."""

STILL = 2 / 127.5
"""Mean absolute difference of [-1, 1] values below which a clip counts as still: 2 grey levels."""


def motion_statistics(clips: Tensor) -> dict[str, float]:
    """How much clips move, in grey levels of 0..255.

    Args:
        clips: uint8 `[M, C, T, H, W]` of at least 2 frames.

    Returns:
        `change`: mean absolute difference of neighbouring frames; `change_deviation`: its standard
        deviation over clips; `jerk`: mean absolute second difference (flicker raises it above
        `change`); `loop`: mean absolute difference of first and last frame; `still`: share of clips
        that change by less than 2 grey levels.

    Raises:
        UserError: no clips, or clips of one frame.
    """
    _check(clips)
    rows = [_per_clip(to_float(chunk)) for chunk in torch.split(clips, MOTION_CHUNK)]
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


def _per_clip(clip: Tensor) -> Tensor:
    """Change, jerk and loop of each clip, `[B, 3]`, for float clips."""
    first = clip[:, :, 1:] - clip[:, :, :-1]
    second = first[:, :, 1:] - first[:, :, :-1]
    change = first.abs().flatten(1).mean(1)
    jerk = second.abs().flatten(1).mean(1) if second.shape[2] else torch.zeros_like(change)
    loop = (clip[:, :, -1] - clip[:, :, 0]).abs().flatten(1).mean(1)
    return torch.stack([change, jerk, loop], 1)


def _check(clips: Tensor) -> None:
    if clips.dtype != torch.uint8 or clips.ndim != 5 or clips.shape[0] == 0 or clips.shape[2] < 2:
        raise UserError(
            "motion needs at least one uint8 clip [M, C, T, H, W] of 2 frames or more, got "
            f"{clips.dtype} {tuple(clips.shape)}"
        )


# ------------------------------------------------------------------------------------------------
# Appearance: sliced Wasserstein distances between descriptors of whole clips

CHUNK = 64
"""Clips converted to float at a time."""

NUM_QUANTILES = 16
"""Points of a clip's distribution of one colour value."""

LEAST_DEVIATION = 1 / 255
"""Half a grey level of values in [-1, 1]: numbers that vary less are the same to the eye."""

LAYOUT = (4, 4)
"""Frames and pixels a side, at most, of what counts as layout."""


def mean_colours(clip: Tensor) -> Tensor:
    """The mean of every channel, `[B, C]`, of float clips `[B, C, T, H, W]`."""
    return clip.flatten(2).mean(2)


def colour_histograms(clip: Tensor) -> Tensor:
    """Quantiles of every channel and of differences of neighbouring channels, `[B, F]`.

    A distance of quantiles is the Wasserstein distance of histograms with arbitrarily fine
    likes.
    """
    values = clip.flatten(2)
    values = torch.cat([values, values - values.roll(1, 1)], 1) if clip.shape[1] > 1 else values
    ranked = values.sort(2).values
    return F.adaptive_avg_pool1d(ranked, min(NUM_QUANTILES, ranked.shape[2])).flatten(1)


def layouts(clip: Tensor) -> Tensor:
    """Means over large blocks of pixels and frames, `[B, F]`."""
    _, _, t, h, w = clip.shape
    frames, side = LAYOUT
    return F.adaptive_avg_pool3d(clip, (min(frames, t), min(side, h), min(side, w))).flatten(1)


DESCRIPTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean colour": mean_colours,
    "colour histogram": colour_histograms,
    "layout": layouts,
}
"""Parts of the distance, by name."""


@dataclass(frozen=True, kw_only=True)
class AppearanceSettings:
    """What decides the distance; part of its protocol."""

    directions: int = 256
    """Random projections for each part."""
    scale: float = 1000.0
    """Factor of the printed value; 1000 means thousandths of a standard deviation."""


class AppearanceReference:
    """Real clips that others are compared with, however many each set has.

    Args:
        real: uint8 `[R, C, T, H, W]`.
        settings: None for the defaults.
        seed: of the directions.
    """

    def __init__(
        self, real: Tensor, settings: AppearanceSettings | None = None, seed: int = 0
    ) -> None:
        self.settings = settings or AppearanceSettings()
        self._parts: dict[str, _Part] = {}
        for name, rows in describe(real).items():
            # Every number counts alike, so that small changes of a background are not drowned.
            mean, deviation = rows.mean(0), rows.std(0, correction=0).clamp_min(LEAST_DEVIATION)
            rng = keyed_rng(seed, "appearance directions", name)
            directions = torch.randn(rows.shape[1], self.settings.directions, generator=rng)
            directions = directions.double()
            directions = directions / directions.norm(dim=0) / deviation[:, None]
            ranked = ((rows - mean) @ directions).sort(0).values
            self._parts[name] = _Part(mean, directions, ranked)

    def distances(self, clips: Tensor) -> dict[str, float]:
        """The distance of uint8 clips `[M, C, T, H, W]` by part; 0 for the reference itself.

        In one dimension it is the mean gap between the quantiles of both sets.
        """
        found = {}
        for name, rows in describe(clips).items():
            part = self._parts[name]
            ranked = ((rows - part.mean) @ part.directions).sort(0).values
            gap = _quantile_gap(ranked, part.ranked)
            found[name] = self.settings.scale * float(gap)
        return found

    def distance(self, clips: Tensor) -> float:
        """The mean of `distances`."""
        found = self.distances(clips)
        return sum(found.values()) / len(found)


class _Part(NamedTuple):
    """Mean `[F]` of the real descriptions, directions `[F, D]`, sorted projections `[R, D]`."""

    mean: Tensor
    directions: Tensor
    ranked: Tensor


def describe(clips: Tensor) -> dict[str, Tensor]:
    """The descriptions of uint8 clips `[M, C, T, H, W]`, float64 `[M, F]` by part."""
    chunks = [to_float(chunk) for chunk in torch.split(clips, CHUNK)]
    return {
        name: torch.cat([make(chunk) for chunk in chunks]).double()
        for name, make in DESCRIPTIONS.items()
    }


def _quantile_gap(ours: Tensor, theirs: Tensor) -> Tensor:
    """The integral of |difference of quantiles| of sorted `[M, D]` and `[R, D]`, averaged over D.

    Both quantile functions are steps; between two steps of either the difference is constant.
    """
    m, r = ours.shape[0], theirs.shape[0]
    ends = torch.cat([torch.arange(1, m + 1) * r, torch.arange(1, r + 1) * m]).sort().values
    widths = ends.diff(prepend=torch.zeros(1, dtype=ends.dtype))
    gap = (ours[(ends - 1) // r] - theirs[(ends - 1) // m]).abs().mean(1)
    return (gap * widths).sum().div(m * r)
