"""The ways in which published evaluation codes bring frames to a network's size.

Codes that share weights differ here, and their scores with them: on natural 64-pixel frames the
enlargements below lie several grey levels apart. The kernel is therefore a part of the protocol.
Nothing here clamps or rounds; cubic kernels overshoot.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.errors import UserError

KERNELS = {
    "none": "frames must have the network's size already",
    "bilinear": "half-pixel centres, no antialiasing (torch, OpenCV INTER_LINEAR)",
    "bilinear-corners": "corners aligned, no antialiasing (Chainer resize_images)",
    "bilinear-tf1": "grid of TensorFlow 1: source = target * scale, no half-pixel shift",
    "bicubic": "half-pixel centres, a = -0.75, no antialiasing (OpenCV INTER_CUBIC)",
    "bicubic-antialias": "half-pixel centres, a = -0.5, support widened when shrinking (Pillow)",
}
"""Name of a kernel and what it does."""


def resize_frames(frames: Tensor, size: tuple[int, int], kernel: str) -> Tensor:
    """Resize float frames `[M, C, H, W]` to `size` (H, W).

    Args:
        frames: any value range; values may leave it under a cubic kernel.
        size: height and width wanted.
        kernel: one of `KERNELS`.

    Raises:
        UserError: the kernel is unknown, or is "none" and the size differs.
    """
    if kernel not in KERNELS:
        raise UserError(f"there is no resize kernel {kernel!r}; use one of {', '.join(KERNELS)}")
    if kernel == "none" and tuple(frames.shape[2:]) != size:
        height, width = frames.shape[2:]
        raise UserError(
            f"the protocol forbids resizing and its network takes {size[0]}x{size[1]} pixels, but "
            f"the clips have {height}x{width}; bring them to that size first"
        )
    if tuple(frames.shape[2:]) == size:
        return frames
    if kernel == "bilinear-tf1":
        return _tf1_axis(_tf1_axis(frames, 2, size[0]), 3, size[1])
    mode = kernel.partition("-")[0]
    # In float32 the places of cubic kernels are off by up to 1e-2 grey levels; OpenCV and Pillow
    # compute them in float64.
    exact = frames.double() if mode == "bicubic" else frames
    resized = F.interpolate(
        exact,
        size,
        mode=mode,
        align_corners=kernel == "bilinear-corners",
        antialias=kernel == "bicubic-antialias",
    )
    return resized.to(frames.dtype)


def _tf1_axis(frames: Tensor, axis: int, size: int) -> Tensor:
    """Linear interpolation along one axis on the grid of TensorFlow 1."""
    old = frames.shape[axis]
    # TensorFlow computes the scale and the grid in float32.
    scale = torch.tensor(old, dtype=torch.float32) / size
    source = torch.arange(size, dtype=torch.float32) * scale
    lower = source.floor().long().clamp(max=old - 1)
    upper = (lower + 1).clamp(max=old - 1)
    shape = [1] * frames.ndim
    shape[axis] = size
    share = (source - lower).to(frames).reshape(shape)
    lower, upper = lower.to(frames.device), upper.to(frames.device)
    below, above = frames.index_select(axis, lower), frames.index_select(axis, upper)
    return below + (above - below) * share
