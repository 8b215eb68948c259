"""From clips to what a network was fed by the code whose numbers a protocol repeats."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.core.clip_ops import fold_time, to_float, unfold_time
from vidgan.errors import UserError

# ------------------------------------------------------------------------------------------------
# The ways in which published evaluation codes bring frames to a network's size.
#
# Codes that share weights differ here, and their scores with them: on natural 64-pixel frames the
# enlargements below lie several grey levels apart. The kernel is therefore a part of the protocol.
# Nothing here clamps or rounds; cubic kernels overshoot.

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


# ------------------------------------------------------------------------------------------------
# From clips to what a network was fed by the code whose numbers a protocol repeats

MEAN_SHAPE = (3, 16, 128, 171)
"""Colour (blue, green, red), frame, row and column of the mean clip of Sports-1M."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Preprocessing of a network's input. Every field affects scores.

    The order is: clamp, resize, clamp, value map, channel order, mean, crop. The value map and the
    channel order may follow the resize, since every kernel is linear.
    """

    kernel: str
    """Resize kernel, one of `resize.KERNELS`."""
    size: tuple[int, int]
    """Height and width after the resize; equal, and those of the shorter side, under
    "shorter-side"."""
    aspect: Literal["stretch", "shorter-side"] = "stretch"
    """Whether frames are stretched to `size` or enlarged until both sides reach it."""
    crop: tuple[int, int] | None = None
    """Height and width of the centre crop after the resize, or None."""
    clamp: Literal["before", "after"] | None = None
    """Whether values are clamped to [-1, 1] before the resize or after it (cubic kernels
    overshoot), or never."""
    scale: float = 1.0
    """Value map: input = scale * x + offset, for x in [-1, 1]."""
    offset: float = 0.0
    channel_order: Literal["RGB", "BGR"] = "RGB"
    mean_corner: tuple[int, int] | None = None
    """Row and column of the mean clip that the corner of the resized frame meets; None: no mean."""

    def apply(self, clips: Tensor, mean: Tensor | None = None) -> Tensor:
        """Turn clips into the network's input.

        Args:
            clips: uint8 in 0..255 or float in [-1, 1], RGB, `[B, 3, T, H, W]`.
            mean: mean clip `[3, 16, 128, 171]` where the preprocessing subtracts one.

        Returns:
            float32 `[B, 3, T, H', W']`.

        Raises:
            UserError: no colour clips, values outside the range, or frames the mean does not fit.
        """
        check_clips(clips)
        x = to_float(clips) if clips.dtype == torch.uint8 else clips.float()
        x = x.clamp(-1, 1) if self.clamp == "before" else x
        num_clips = x.shape[0]
        frames = resize_frames(fold_time(x), self.resized(x.shape[3], x.shape[4]), self.kernel)
        frames = frames.clamp(-1, 1) if self.clamp == "after" else frames
        x = unfold_time(frames, num_clips) * self.scale + self.offset
        if self.channel_order == "BGR":
            x = x.flip(1)
        if self.mean_corner is not None:
            x = x - self._mean_window(x, mean)
        return x if self.crop is None else centre_crop(x, self.crop)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that frames of this size have after the resize."""
        if self.aspect == "stretch":
            return self.size
        # Rounded up in floats as the code does that this rule comes from.
        scale = self.size[0] / min(height, width)
        if height < width:
            return self.size[0], math.ceil(width * scale)
        return math.ceil(height * scale), self.size[1]

    def _mean_window(self, x: Tensor, mean: Tensor | None) -> Tensor:
        if mean is None or self.mean_corner is None:
            raise UserError(
                "this protocol subtracts the mean clip of C3D; convert TGAN's mean2.npz with "
                "'vidgan weights convert mean2.npz'"
            )
        row, column = self.mean_corner
        window = mean[:, :, row : row + x.shape[3], column : column + x.shape[4]]
        if window.shape != x.shape[1:]:
            raise UserError(
                f"the mean clip of C3D fits clips of {mean.shape[1]} frames, not of {x.shape[2]}; "
                "evaluate clips of that length or choose another protocol"
            )
        return window.to(x)


def check_clips(clips: Tensor) -> None:
    """Refuse what no extractor takes.

    Raises:
        UserError: other than colour clips in uint8 or in float around [-1, 1].
    """
    if clips.ndim != 5 or clips.shape[1] != 3:
        raise UserError(
            f"an extractor takes colour clips [B, 3, T, H, W] and got shape {tuple(clips.shape)}"
        )
    if clips.dtype == torch.uint8:
        return
    if not clips.dtype.is_floating_point:
        raise UserError(f"an extractor takes uint8 or float clips and got {clips.dtype}")
    # Linear outputs may leave [-1, 1] a little; a clip in 0..255 or NaN is a mistake.
    if clips.numel() and not bool((clips.abs() <= 16).all()):
        raise UserError(
            "float clips for an extractor lie in [-1, 1], and these hold values beyond 16 or NaN; "
            "give clips of 0..255 as uint8"
        )


def centre_crop(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The centre `size` (H, W) of `[..., H, W]`; of an odd rest the larger half stays behind."""
    top, left = (x.shape[-2] - size[0]) // 2, (x.shape[-1] - size[1]) // 2
    return x[..., top : top + size[0], left : left + size[1]]


C3D_TGAN = Preprocessing(
    kernel="bicubic",
    size=(128, 128),
    crop=(112, 112),
    scale=128.0,
    offset=128.0,
    channel_order="BGR",
    mean_corner=(0, 21),
)
"""pfnet-research/tgan: cubic to 128, mean subtracted before the centre crop to 112."""
C3D_TGAN2 = Preprocessing(
    kernel="bilinear-corners",
    size=(112, 112),
    clamp="before",
    scale=128.0,
    offset=128.0,
    channel_order="BGR",
    mean_corner=(8, 8),
)
"""pfnet-research/tgan2: straight to 112, no crop; the mean's columns are not centred there."""
I3D_TF = Preprocessing(kernel="bilinear-tf1", size=(224, 224))
"""The FVD reference script: the grid of TensorFlow 1, aspect ratio ignored."""
I3D_STRETCH = Preprocessing(kernel="bilinear", size=(224, 224))
"""TATS and cd-fvd: half-pixel bilinear, aspect ratio ignored."""
I3D_CROP = Preprocessing(kernel="bilinear", size=(224, 224), aspect="shorter-side", crop=(224, 224))
"""VideoGPT and DIGAN: shorter side to 224, then the centre."""
INCEPTION_TF = Preprocessing(
    kernel="bilinear-tf1", size=(299, 299), scale=127.5 / 128, offset=-0.5 / 128
)
"""The original FID: the grid of TensorFlow 1, (v - 128) / 128."""
INCEPTION_CLEAN = Preprocessing(
    kernel="bicubic-antialias",
    size=(299, 299),
    clamp="after",
    scale=127.5 / 128,
    offset=-0.5 / 128,
)
"""clean-fid: Pillow's cubic kernel in float, cut to 0..255 and never rounded, (v - 128) / 128."""
