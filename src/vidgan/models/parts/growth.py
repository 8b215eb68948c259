"""Growth in space and time: frames and resolution of every level, and what a stage trains.

Resolution doubles from level to level; frames stay or double. While a level fades in, generated
clips, features of discriminators and reals are blends of the new level with the one before.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from vidgan.core.clip_ops import Factor, pool_clip, upsample_clip
from vidgan.errors import UserError
from vidgan.models.base import GAN, ClipShape, LevelShape, Stage
from vidgan.models.parts.convolution import wide_dtype

BASE_RESOLUTION = 4
FRAME_PLANS = {
    "thesis": (4, 8, 8, 8, 16, 16, 32),
    "code": (4, 8, 8, 16, 16, 32, 32),
}
"""Frames at 4, 8, 16, ... px: thesis table A.1, and the authors' code; no count depends on it."""


def plan_levels(
    clip_shape: ClipShape, plan: str, frames: tuple[int, ...] | None = None
) -> tuple[LevelShape, ...]:
    """Frames and resolution of every level, 4 px first.

    Args:
        clip_shape: the clip of the last level.
        plan: a name of `FRAME_PLANS`, or `auto`.
        frames: frames of every level instead of a plan.

    Raises:
        UserError: no levels lead to such a clip.
    """
    _, num_frames, height, width = clip_shape
    num_levels = (height // BASE_RESOLUTION).bit_length()
    if height != width or height != BASE_RESOLUTION * 2 ** max(num_levels - 1, 0):
        raise UserError(
            f"this model makes square clips of 4, 8, 16, ... px, not {height}x{width}; "
            f"set data.resolution to a power of two of at least 4"
        )
    frames = frames or _plan_frames(plan, num_frames, num_levels)
    if len(frames) != num_levels or frames[-1] != num_frames:
        raise UserError(
            f"model.frames {list(frames)} must list {num_levels} lengths, one per level up to "
            f"{height} px, and end with data.frames={num_frames}"
        )
    if any(b not in (a, 2 * a) for a, b in pairwise(frames)):
        raise UserError(f"model.frames {list(frames)} may only stay or double from level to level")
    return tuple(LevelShape(t, BASE_RESOLUTION * 2**i) for i, t in enumerate(frames))


def _plan_frames(plan: str, num_frames: int, num_levels: int) -> tuple[int, ...]:
    """Frames per level: a published plan where it fits, else doublings spread over the levels."""
    # At 256 px the thesis prints its plan; below, its clips of 32 frames need the code's.
    automatic = (
        ("thesis", "code") if num_levels == len(FRAME_PLANS["thesis"]) else ("code", "thesis")
    )
    for name in automatic if plan == "auto" else (plan,):
        frames = FRAME_PLANS[name][:num_levels]
        if len(frames) == num_levels and frames[-1] == num_frames:
            return frames
    if plan != "auto":
        raise UserError(
            f"the {plan} frame plan {FRAME_PLANS[plan]} has no level of {num_frames} frames at "
            f"{BASE_RESOLUTION * 2 ** (num_levels - 1)} px; use model.frame_plan=auto"
        )

    # Halve the length at most once a level and down to no fewer than 3 frames.
    doublings = 0
    while (
        doublings < num_levels - 1
        and num_frames % 2 ** (doublings + 1) == 0
        and num_frames // 2 ** (doublings + 1) >= 3
    ):
        doublings += 1
    span = (num_levels - 2) / max(doublings - 1, 1)
    doubled_at = {1 + int(index * span) for index in range(doublings)}
    frames = (num_frames // 2**doublings,)
    for level in range(1, num_levels):
        frames += (frames[-1] * (2 if level in doubled_at else 1),)
    return frames


def growth_factors(levels: tuple[LevelShape, ...]) -> tuple[Factor, ...]:
    """Scale (T, H, W) from each level's predecessor; (1, 1, 1) for the first."""
    return ((1, 1, 1), *((b.frames // a.frames, 2, 2) for a, b in pairwise(levels)))


def last_stage(levels: tuple[LevelShape, ...]) -> Stage:
    """The final level, stable; its batch size is set by the schedule."""
    final = levels[-1]
    return Stage(
        level=len(levels) - 1, frames=final.frames, resolution=final.resolution, batch_size=1
    )


def heads_in_use(stage: Stage) -> set[int]:
    """Levels whose colour layers work at a stage: two while it fades."""
    return {stage.level, stage.level - 1} if fades(stage) else {stage.level}


def fades(stage: Stage) -> bool:
    """Whether the newest level is still fading in."""
    return stage.level > 0 and stage.alpha < 1


def train_only(modules: Iterable[nn.Module], indices: Collection[int]) -> None:
    """Set requires_grad on exactly the modules of these indices."""
    for index, module in enumerate(modules):
        module.requires_grad_(index in indices)


_ALPHA: ContextVar[Tensor | None] = ContextVar("weight of the newest level", default=None)


@contextmanager
def alpha_from(place: Tensor) -> Iterator[None]:
    """Blend by the number in `place` (float64, no axes) at run time.

    A CUDA graph freezes plain numbers at capture; this one is read at every replay.
    """
    token = _ALPHA.set(place)
    try:
        yield
    finally:
        _ALPHA.reset(token)


def blend(old: Tensor, new: Tensor, alpha: float) -> Tensor:
    """(1 - alpha) old + alpha new; under autocast small layers may differ in precision."""
    place = _ALPHA.get()
    if place is None:
        return torch.lerp(old.to(new.dtype), new, alpha)
    blended: Tensor = _Blend.apply(old.to(new.dtype), new, place)  # type: ignore[no-untyped-call]
    return blended


class _Blend(torch.autograd.Function):
    """`torch.lerp` with a plain number and its derivative, bit for bit.

    A plain number is rounded to float32 where it meets a factor, even in half precision.
    """

    @staticmethod
    def forward(ctx: Any, old: Tensor, new: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        wide = wide_dtype(new)
        return torch.lerp(old.to(wide), new.to(wide), place.to(wide)).to(new.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (place,) = ctx.saved_tensors
        wide = wide_dtype(gradient)
        old, new = (gradient.to(wide) * part.to(wide) for part in (1 - place, place))
        return old.to(gradient.dtype), new.to(gradient.dtype), None


def fade_in(old: Callable[[], Tensor], new: Tensor, stage: Stage) -> Tensor:
    """The new level's tensor, blended with the level before's while the stage fades.

    Args:
        old: makes the tensor of the level before; called only if it counts.
    """
    return blend(old(), new, stage.alpha) if fades(stage) else new


@dataclass
class GrowingGAN(GAN):
    """A generator and its discriminators that grow together; with one level, of fixed size.

    Attributes:
        levels: clip size of every level.
    """

    levels: tuple[LevelShape, ...]

    def __post_init__(self) -> None:
        self.set_stage(last_stage(self.levels))

    def set_stage(self, stage: Stage) -> None:
        self.stage = stage
        super().set_stage(stage)

    def prepare_real(self, real: Tensor) -> Tensor:
        """Blend real clips with their own shrunk and enlarged copy, by the stage's alpha."""
        factor = growth_factors(self.levels)[self.stage.level]
        return fade_in(lambda: upsample_clip(pool_clip(real, factor), factor), real, self.stage)
