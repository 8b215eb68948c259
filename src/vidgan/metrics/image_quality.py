"""PSNR and SSIM of frames against the true frames, for prediction and restoration.

Both compare two pictures of the same moment. They say nothing of clips that show something else
than the truth and may be just as good, so they are read beside a distance between distributions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

PEAK = 255.0
"""Largest value of a uint8 pixel."""

MAX_PSNR_DB = 100.0
"""Given to equal frames, whose PSNR is infinite, so that means stay finite."""

WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation of SSIM's Gaussian window in pixels (Wang et al. 2004)."""

K1, K2 = 0.01, 0.03
"""Constants that keep SSIM's two fractions stable (Wang et al. 2004)."""


def psnr(clips: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of every frame in dB, higher is better.

    10 log10(255^2 / MSE), the squared error averaged over channels and pixels of one frame. At most
    100 dB, which equal frames get.

    Args:
        clips: uint8 `[..., C, T, H, W]`.
        truth: uint8 of the same shape, or one that expands to it.

    Returns:
        float64 `[..., T]`.

    Raises:
        ValueError: not uint8, or frames of different sizes.

    Example:
        >>> import torch
        >>> black = torch.zeros(1, 3, 2, 8, 8, dtype=torch.uint8)
        >>> [round(value, 2) for value in psnr(black, black + 16)[0].tolist()]
        [24.05, 24.05]
    """
    _check(clips, truth)
    lead, size = clips.shape[:-4], clips.shape[-4:]
    # One pair at a time: in float64 a hundred samples a clip would take eight times their memory.
    pairs = zip(*(x.reshape(-1, *size) for x in (clips, truth.expand_as(clips))), strict=True)
    errors = [(a.double() - b.double()).square().mean(dim=(0, 2, 3)) for a, b in pairs]
    decibels = 10 * torch.log10(PEAK**2 / torch.stack(errors))
    return decibels.clamp_max(MAX_PSNR_DB).reshape(*lead, size[1])


def ssim(clips: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of every frame, at most 1, higher is better.

    Wang et al. 2004, eq. 13, with the Gaussian window of 11x11 pixels, weighted (biased) moments,
    at the places where the window lies inside the frame; averaged over places and channels.

    Args:
        clips: uint8 `[..., C, T, H, W]` with sides of at least 11.
        truth: uint8 of the same shape, or one that expands to it.

    Returns:
        float64 `[..., T]`.

    Raises:
        ValueError: not uint8, frames of different sizes, or smaller than the window.
    """
    _check(clips, truth)
    if min(clips.shape[-2:]) < WINDOW:
        raise ValueError(
            f"SSIM needs frames of at least {WINDOW}x{WINDOW} pixels, got "
            f"{clips.shape[-2]}x{clips.shape[-1]}"
        )
    truth = truth.expand_as(clips)
    lead, (c, t, h, w) = clips.shape[:-4], clips.shape[-4:]
    # One pair at a time: its moments in float64 take 40 times the memory of the pixels.
    pairs = zip(*(x.reshape(-1, c, t, h, w) for x in (clips, truth)), strict=True)
    rows = [_ssim_of_planes(a.flatten(0, 1), b.flatten(0, 1)).reshape(c, t) for a, b in pairs]
    return torch.stack(rows).mean(dim=1).reshape(*lead, t)


def _ssim_of_planes(x: Tensor, y: Tensor) -> Tensor:
    """Mean SSIM of each pair of uint8 planes `[N, H, W]`: float64 `[N]`."""
    x, y = x.double(), y.double()
    products = torch.stack([x, y, x * x, y * y, x * y])  # [5, N, H, W]
    mean_x, mean_y, square_x, square_y, cross = _gaussian_means(products).unbind()
    var_x, var_y = square_x - mean_x**2, square_y - mean_y**2
    covariance = cross - mean_x * mean_y
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).mean(dim=(1, 2))


def _gaussian_means(planes: Tensor) -> Tensor:
    """Means under the window, where it fits: `[..., H, W]` to `[..., H - 10, W - 10]`."""
    offsets = torch.arange(WINDOW, dtype=planes.dtype) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    rows = F.conv2d(planes.reshape(-1, 1, *planes.shape[-2:]), weights[None, None, :, None])
    rows = F.conv2d(rows, weights[None, None, None])
    means: Tensor = rows.reshape(*planes.shape[:-2], *rows.shape[-2:])
    return means


def _check(clips: Tensor, truth: Tensor) -> None:
    if clips.dtype != torch.uint8 or truth.dtype != torch.uint8:
        raise ValueError(f"frames are compared as uint8, got {clips.dtype} and {truth.dtype}")
    if clips.dim() < 4 or clips.shape[-4:] != truth.shape[-4:]:
        raise ValueError(
            f"clips to compare must be [..., C, T, H, W] of one size, got {list(clips.shape)} and "
            f"{list(truth.shape)}"
        )
