"""Shared by models of fixed size: convolutions that halve or double, and their sizes.

A clip of 4 * 2**n px has n convolutions of kernel 4 and stride 2 between it and features at 4 px
(Radford et al. 2016). Time is halved or doubled along with space while the length allows it.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vidgan.errors import UserError
from vidgan.models.base import ClipShape, LevelShape
from vidgan.models.parts.convolution import convolve
from vidgan.models.parts.norms import BatchNorm

BASE_RESOLUTION = 4


class SizePlan(NamedTuple):
    """How features at 4 px become a clip.

    Attributes:
        first_frames: frames at 4 px.
        factors: factor in time (1 or 2) of every doubling of the side, smallest side first.
    """

    first_frames: int
    factors: tuple[int, ...]


def plan_sizes(model: str, clip_shape: ClipShape, least_frames: int) -> SizePlan:
    """Halve the length of a clip as often as its side, or until it is odd or `least_frames`.

    Raises:
        UserError: the clip is not square with a side of 8, 16, 32, ... px, or is too short.
    """
    _, num_frames, height, width = clip_shape
    num_blocks = num_doublings(height)
    if height != width or num_blocks < 1 or height != BASE_RESOLUTION * 2**num_blocks:
        raise UserError(
            f"{model} makes square clips of 8, 16, 32, ... px, not {height}x{width}; "
            f"set data.resolution to a power of two of at least 8"
        )
    if num_frames < least_frames:
        raise UserError(
            f"{model} makes clips of at least {least_frames} frames; data.frames is {num_frames}"
        )
    frames, doublings = num_frames, 0
    while doublings < num_blocks and frames % 2 == 0 and frames // 2 >= least_frames:
        frames //= 2
        doublings += 1
    # The layers at small sides come first; they keep the length if it cannot halve.
    return SizePlan(frames, (1,) * (num_blocks - doublings) + (2,) * doublings)


def num_doublings(side: int) -> int:
    """How often 4 px are doubled up to a side."""
    return (side // BASE_RESOLUTION).bit_length() - 1


def growing_levels(clip_shape: ClipShape, plan: SizePlan, first: int = 1) -> list[LevelShape]:
    """Clip sizes of a model that grows by one doubling of the side from level to level.

    Args:
        clip_shape: the clip of the last level.
        plan: its doublings; frames double where they say so.
        first: doublings from 4 px to the clips of the first level.
    """
    count = len(plan.factors)
    frames = [clip_shape.frames // math.prod(plan.factors[done:]) for done in range(count + 1)]
    return [
        LevelShape(frames[done], BASE_RESOLUTION * 2**done)
        for done in range(min(first, count), count + 1)
    ]


# ------------------------------------------------------------------------------------------------
# Convolutions


class _Plain:
    """The forward pass of torch's layer of the same name, by `convolve`.

    Without dilation, groups, padding other than zeros, and `output_padding`.
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    padding: Any
    transposed: bool

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias, self.stride, self.padding, self.transposed)


class Conv2d(_Plain, nn.Conv2d):
    """`torch.nn.Conv2d`."""


class Conv3d(_Plain, nn.Conv3d):
    """`torch.nn.Conv3d`."""


class ConvTranspose1d(_Plain, nn.ConvTranspose1d):  # type: ignore[misc]
    """`torch.nn.ConvTranspose1d`."""


class ConvTranspose2d(_Plain, nn.ConvTranspose2d):  # type: ignore[misc]
    """`torch.nn.ConvTranspose2d`."""


class ConvTranspose3d(_Plain, nn.ConvTranspose3d):  # type: ignore[misc]
    """`torch.nn.ConvTranspose3d`."""


def double3d(in_channels: int, out_channels: int, factor: int) -> ConvTranspose3d:
    """Double height and width, and multiply the length by `factor` (1 or 2)."""
    kernel, stride = _kernel_and_stride(factor)
    return ConvTranspose3d(in_channels, out_channels, kernel, stride, padding=1)


def halve3d(in_channels: int, out_channels: int, factor: int) -> Conv3d:
    """Halve height and width, and divide the length by `factor` (1 or 2)."""
    kernel, stride = _kernel_and_stride(factor)
    return Conv3d(in_channels, out_channels, kernel, stride, padding=1)


def _kernel_and_stride(factor: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    # With padding 1, 4 taps at stride 2 halve an axis and 3 taps at stride 1 keep it.
    return (4 if factor == 2 else 3, 4, 4), (factor, 2, 2)


def double2d(in_channels: int, out_channels: int, bias: bool = True) -> ConvTranspose2d:
    """Double height and width of frames."""
    return ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=bias)


def halve2d(in_channels: int, out_channels: int, bias: bool = True) -> Conv2d:
    """Halve height and width of frames."""
    return Conv2d(in_channels, out_channels, 4, 2, 1, bias=bias)


def halvings(widths: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs (in, out) of channels of consecutive layers."""
    return list(pairwise(widths))


# ------------------------------------------------------------------------------------------------
# Initial weights and scores


WEIGHTED = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def init_normal(network: nn.Module, deviation: float, scale_deviation: float = 0.0) -> None:
    """Draw convolutions from N(0, deviation), batch norm factors from N(1, `scale_deviation`)."""
    for module in network.modules():
        if isinstance(module, WEIGHTED):
            nn.init.normal_(module.weight, 0.0, deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, BatchNorm) and module.weight is not None:
            nn.init.normal_(module.weight, 1.0, scale_deviation)


def at_least_float32(x: Tensor) -> Tensor:
    """Scores in float32 or finer: they are averaged over a batch and compared."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
