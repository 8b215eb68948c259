"""Convolutions as one product of matrices, for layers whose weight is larger than their clips.

The widest kernels of VGAN, of 4 and stride 2 between 2x4x4 and 4x8x8 voxels, take 3 to 4.5 times as
long in oneDNN's convolutions as the product that they are (512 and 1,024 channels, 4 clips, torch
2.13, bfloat16 and AMX; 1.7 to 2 times in float32). A convolution is the trilinear form
<coarse, conv(fine, w)>, and with the patches P of the fine side, one row for each voxel of the
coarse side, its three readings are

    coarse = P(fine) w^T,    fine = P^T(coarse w),    w = coarse^T P(fine).

Shapes here: coarse `[B, M, t, h, w]`, fine `[B, N, T, H, W]`, weight `[M, N, k, k, k]`, or fewer
axes; so stands the weight of a convolution (out, in) and of its transpose (in, out).
"""

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor


def is_faster(
    coarse: Sequence[int], weight: Tensor, stride: Sequence[int], for_weight: bool = False
) -> bool:
    """Whether the product is faster on a CPU.

    Args:
        coarse: shape of the coarse side.
        weight: the kernel.
        stride: of every axis.
        for_weight: whether it is the gradient of the weight, for which oneDNN is slowest in
            bfloat16 over three axes.
    """
    rows, taps = coarse[0] * prod(coarse[2:]), prod(weight.shape[2:])
    factor = 2 if for_weight and weight.dim() == 5 and weight.dtype == torch.bfloat16 else 1
    return (
        weight.device.type == "cpu"
        and taps > 1
        and rows < factor * weight.shape[0]
        and (2 in stride or rows == coarse[0])
    )


def coarse_shape(
    fine: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> tuple[int, ...]:
    """Shape of conv(fine, weight)."""
    axes = zip(fine.shape[2:], weight.shape[2:], stride, padding, strict=True)
    return (len(fine), len(weight), *((n + 2 * p - k) // s + 1 for n, k, s, p in axes))


def gather(fine: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """conv(fine, weight), the coarse side."""
    shape = coarse_shape(fine, weight, stride, padding)
    rows = _patches(fine, weight, stride, padding) @ weight.flatten(1).t()  # [B t h w, M]
    return rows.view(len(fine), *shape[2:], len(weight)).movedim(-1, 1).contiguous()


def spread(
    coarse: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    fine_sizes: Sequence[int],
) -> Tensor:
    """The transpose of `gather`: the fine side, with `fine_sizes` voxels an axis."""
    sizes, kernel = coarse.shape[2:], weight.shape[2:]
    rows = _rows(coarse) @ weight.flatten(1)  # [B t h w, N k k k]
    parts = rows.view(len(coarse), *sizes, weight.shape[1], *kernel)
    padded = [n + 2 * p for n, p in zip(fine_sizes, padding, strict=True)]
    fine = rows.new_zeros(len(coarse), *padded, weight.shape[1])
    for place in product(*map(range, kernel)):
        axes = zip(place, stride, sizes, strict=True)
        reached = (slice(None), *(slice(start, start + s * n, s) for start, s, n in axes))
        fine[reached] += parts[(..., *place)]  # type: ignore[index]
    inner = (slice(p, p + n) for p, n in zip(padding, fine_sizes, strict=True))
    return fine[(slice(None), *inner)].movedim(-1, 1).contiguous()


def weight_gradient(
    coarse: Tensor, fine: Tensor, like: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """The gradient of <coarse, conv(fine, w)> with respect to w, of which the shape is read."""
    return (_rows(coarse).t() @ _patches(fine, like, stride, padding)).view(like.shape)


def _rows(coarse: Tensor) -> Tensor:
    """One row for each voxel: `[B t h w, M]`."""
    return coarse.movedim(1, -1).flatten(0, -2)


def _patches(fine: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """What lies under the kernel at each place: `[B t h w, N k k k]`."""
    num_axes = fine.dim() - 2
    x = F.pad(fine, [p for p in reversed(padding) for _ in range(2)]) if any(padding) else fine
    for axis in range(num_axes):
        x = x.unfold(2 + axis, weight.shape[2 + axis], stride[axis])  # [B, N, t, h, w, k, k, k]
    return x.movedim(1, 1 + num_axes).reshape(-1, weight[0].numel())
