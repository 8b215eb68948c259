"""Operations on clips that every part of the package shares, above all the value range.

A clip inside models and losses is float `[B, C, T, H, W]` in [-1, 1]; in data, metrics and files
it is uint8 `[B, C, T, H, W]` in 0..255. The two are converted here and nowhere else.
"""

import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.errors import UserError

Factor = tuple[int, int, int]
"""Whole-number scale of a clip along (T, H, W)."""


def to_float(clip: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Map uint8 0..255 to [-1, 1]: `x / 127.5 - 1`, in float32 or another format."""
    if clip.dtype != torch.uint8:
        raise ValueError(f"to_float expects a uint8 clip, got {clip.dtype}")
    return clip.to(dtype) / 127.5 - 1.0


def to_uint8(clip: Tensor, *, truncate: bool = False) -> Tensor:
    """Map float [-1, 1] to uint8 0..255: `round(127.5 x + 127.5)`; values outside are clamped.

    With `truncate` the fraction is dropped, which makes clips darker by half a level on average.
    """
    values = clip.to(torch.float32) * 127.5 + 127.5
    return (values.floor() if truncate else values.round()).clamp(0, 255).to(torch.uint8)


def full_batches(clips: Tensor, size: int) -> Iterator[tuple[Tensor, int]]:
    """Batches of exactly `size` clips, and how many of each count.

    The last one is filled up with its last clip: convolutions and products choose their algorithm
    by the shape they meet, so a clip in a smaller batch would get other last digits.
    """
    for batch in torch.split(clips, size):
        count = batch.shape[0]
        filling = batch[-1:].expand(size - count, *batch.shape[1:])
        yield torch.cat([batch, filling]), count


def pool_clip(clip: Tensor, factor: Factor) -> Tensor:
    """Average a float clip `[B, C, T, H, W]` over blocks of `factor` (T, H, W)."""
    if factor == (1, 1, 1):
        return clip
    pooled: Tensor = _Pool.apply(clip, factor)  # type: ignore[no-untyped-call]
    return pooled


class _Pool(torch.autograd.Function):
    """Averages over blocks, whose derivative repeats them.

    The stock derivative adds where blocks might overlap, which on a GPU has no fixed order.
    """

    @staticmethod
    def forward(ctx: Any, clip: Tensor, factor: Factor) -> Tensor:
        ctx.factor, ctx.sizes = factor, clip.shape[2:]
        # Half precision has no such kernel on a CPU.
        is_half = clip.device.type == "cpu" and clip.dtype in (torch.bfloat16, torch.float16)
        return F.avg_pool3d(clip.float() if is_half else clip, factor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        blocks = _Repeat.apply(gradient, ctx.factor) / math.prod(ctx.factor)  # type: ignore[no-untyped-call]
        # Voxels beyond the last whole block were left out.
        rest = [size - there for size, there in zip(ctx.sizes, blocks.shape[2:], strict=True)]
        return (F.pad(blocks, (0, rest[2], 0, rest[1], 0, rest[0])) if any(rest) else blocks), None


class _Repeat(torch.autograd.Function):
    """Repeats every voxel, whose derivative adds up the blocks."""

    @staticmethod
    def forward(ctx: Any, clip: Tensor, factor: Factor) -> Tensor:
        ctx.factor = factor
        b, c, t, h, w = clip.shape
        ft, fh, fw = factor
        blocks = clip[:, :, :, None, :, None, :, None]
        return blocks.expand(b, c, t, ft, h, fh, w, fw).reshape(b, c, t * ft, h * fh, w * fw)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        pooled = _Pool.apply(gradient, ctx.factor)  # type: ignore[no-untyped-call]
        return pooled * math.prod(ctx.factor), None


def pool_uint8(clip: Tensor, factor: Factor) -> Tensor:
    """Mean over blocks of `factor` (T, H, W) of uint8 `[C, T, H, W]`, rounded once."""
    if factor == (1, 1, 1):
        return clip
    return pool_clip(clip[None].float(), factor)[0].round().to(torch.uint8)


def upsample_clip(clip: Tensor, factor: Factor) -> Tensor:
    """Repeat every voxel of a clip `[B, C, T, H, W]` `factor` times (nearest neighbour)."""
    if factor == (1, 1, 1):
        return clip
    repeated: Tensor = _Repeat.apply(clip, factor)  # type: ignore[no-untyped-call]
    return repeated


def upsample_clip_linear(clip: Tensor, factor: Factor) -> Tensor:
    """Double a clip `[B, C, T, H, W]` along the axes of factor 2, by straight lines between voxels.

    What `torch.nn.functional.interpolate` does by `trilinear`, whose derivative on a GPU adds in no
    fixed order.

    Raises:
        ValueError: a factor other than 1 and 2.
    """
    for axis, times in enumerate(factor, start=2):
        if times not in (1, 2):
            raise ValueError(f"linear upsampling is by 1 or 2 along an axis, not {times}")
        if times == 1:
            continue
        size = clip.shape[axis]
        first, last = clip.narrow(axis, 0, 1), clip.narrow(axis, size - 1, 1)
        before = torch.cat([first, clip.narrow(axis, 0, size - 1)], dim=axis)
        after = torch.cat([clip.narrow(axis, 1, size - 1), last], dim=axis)
        pair = [0.75 * clip + 0.25 * neighbour for neighbour in (before, after)]
        clip = torch.stack(pair, dim=axis + 1).flatten(axis, axis + 1)
    return clip


GREY = (0.21, 0.72, 0.07)
"""Weights of red, green and blue in a grey value (Kratzwald et al. 2017, authors' code)."""


def to_grey(clip: Tensor) -> Tensor:
    """Colour clips `[B, 3, T, H, W]` to grey ones `[B, 1, T, H, W]`."""
    weights = torch.tensor(GREY, dtype=clip.dtype, device=clip.device)
    return (clip * weights[:, None, None, None]).sum(dim=1, keepdim=True)


def fold_time(clip: Tensor) -> Tensor:
    """`[B, C, T, H, W]` to frames `[B*T, C, H, W]`, clip-major: row b*T + t is frame t of b."""
    b, c, t, h, w = clip.shape
    return clip.transpose(1, 2).reshape(b * t, c, h, w)


def unfold_time(frames: Tensor, num_clips: int) -> Tensor:
    """Undo `fold_time`: `[B*T, C, H, W]` to `[B, C, T, H, W]`."""
    c, h, w = frames.shape[1:]
    return frames.reshape(num_clips, -1, c, h, w).transpose(1, 2)


# ------------------------------------------------------------------------------------------------
# Tensors out of what callers hold: NumPy arrays, lists and numbers

Values = Tensor | npt.NDArray[Any] | Sequence[Any]
Labels = Values | int


def as_tensor(values: Values | float, name: str) -> Tensor:
    """`values` as a tensor; one that is a tensor already is returned as it is.

    Raises:
        UserError: they are not numbers, or rows of unlike length; `name` says which values.
    """
    if isinstance(values, Tensor):
        return values
    try:
        array = np.array(values, order="C")
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} must be a tensor, an array or lists of one length") from error
    if array.dtype.kind not in "biuf":
        shown = type(values).__name__
        raise UserError(f"{name} must be numbers in a tensor, an array or a list, not {shown}")
    if array.dtype.kind in "iu" and array.dtype.itemsize > 1:
        # torch computes with few of the other whole numbers.
        array = array.astype(np.int64)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def as_labels(labels: Labels, count: int) -> Tensor:
    """Class numbers as int64 `[B]`; a single number serves all `count` clips.

    Raises:
        UserError: they are not numbers.
    """
    found = as_tensor(labels, "labels")
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise UserError(f"labels must be whole numbers, one for every clip, not {found.dtype}")
    return (found.expand(count) if found.dim() == 0 else found).to(torch.int64)


def as_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    """Seeds as plain whole numbers.

    Raises:
        UserError: one number, which may mean a seed or how many, or values that are not whole
            numbers.
    """
    try:
        return tuple(operator.index(seed) for seed in seeds)
    except TypeError:
        example = f"[{seeds}] for the clip of this seed, range({seeds}) for so many clips"
        hint = example if isinstance(seeds, int) else "such as [0, 1, 2] or range(3)"
        raise UserError(f"seeds must be a list of whole numbers: {hint}") from None
