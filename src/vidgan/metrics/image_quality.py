"""PSNR and SSIM of frames against ground truth, for prediction and restoration.

Both compare two images of the same moment. They say nothing of clips that show something else
than the truth and may be just as good, so they are read beside a distance between distributions.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PEAK = 255.0
"""Largest value of a uint8 pixel."""

MAX_PSNR_DB = 100.0
"""PSNR of equal frames, instead of infinity, so that means stay finite."""

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


# ------------------------------------------------------------------------------------------------
# Predicted frames against the true ones, beside forecasts that need no model.
#
# A useful prediction beats trivial baselines: repeating the last given frame,
# or extrapolating every pixel linearly.

Scores = dict[str, dict[str, Any]]

FrameMetric = Callable[[Tensor, Tensor], Tensor]
"""From uint8 clips `[..., C, T, H, W]` and true ones to a float64 value for every frame."""


def repeat_last(context: Tensor, num_frames: int) -> Tensor:
    """The last given frame, repeated.

    Args:
        context: uint8 `[..., C, T0, H, W]`.
        num_frames: T.

    Returns:
        uint8 `[..., C, T, H, W]`.
    """
    return context[..., -1:, :, :].repeat_interleave(num_frames, dim=-3)


def linear_extrapolation(context: Tensor, num_frames: int) -> Tensor:
    """Linear extrapolation of every pixel from the last two given frames, in 0..255.

    Frame k is last + k (last - last but one); with a single given frame it is `repeat_last`.
    Arguments and result as there.
    """
    last = context[..., -1:, :, :].double()
    before = context[..., -2:, :, :][..., :1, :, :].double()
    steps = torch.arange(1, num_frames + 1, dtype=torch.float64)[:, None, None]
    return (last + steps * (last - before)).clamp(0, 255).to(torch.uint8)


Baseline = Callable[[Tensor, int], Tensor]

BASELINES: dict[str, Baseline] = {"repeat last": repeat_last, "linear": linear_extrapolation}
"""Forecasts by the name under which a record lists them."""


class FrameValues(NamedTuple):
    """One measure of every frame: float64 `[M, K, T]`, and `[M, T]` of each baseline."""

    ours: Tensor
    baselines: dict[str, Tensor]


def score_frames(
    samples: Tensor,
    truth: Tensor,
    baselines: Mapping[str, Tensor],
    perceptual: FrameMetric | None = None,
) -> Scores:
    """`sum_up_frames` of `measure_frames`: PSNR, SSIM and, on request, LPIPS."""
    return sum_up_frames(measure_frames(samples, truth, baselines, perceptual))


def measure_frames(
    samples: Tensor,
    truth: Tensor,
    baselines: Mapping[str, Tensor],
    perceptual: FrameMetric | None = None,
) -> dict[str, FrameValues]:
    """PSNR, SSIM and, on request, LPIPS of predicted frames, each beside those of the baselines.

    Args:
        samples: uint8 `[M, K, C, T, H, W]`, K predictions for every clip.
        truth: uint8 `[M, C, T, H, W]`.
        baselines: uint8 `[M, C, T, H, W]`, keyed by baseline.
        perceptual: the distance to add as `lpips`.

    Returns:
        `psnr`, `ssim` unless frames are smaller than its window, and `lpips`.
    """
    metrics: dict[str, FrameMetric] = {"psnr": psnr}
    if min(truth.shape[-2:]) >= WINDOW:
        metrics["ssim"] = ssim
    if perceptual is not None:
        metrics["lpips"] = perceptual
    return {
        name: FrameValues(
            metric(samples, truth[:, None]),
            {key: metric(clips, truth) for key, clips in baselines.items()},
        )
        for name, metric in metrics.items()
    }


def sum_up_frames(found: Mapping[str, FrameValues], *, takes_best: bool = False) -> Scores:
    """What is told of measured frames, as plain values by measure.

    A value is the mean over frames, then samples, then clips. Best of k takes, for every clip, the
    sample with the best mean over frames.

    Args:
        found: from `measure_frames`.
        takes_best: whether the value is that of the best samples, and the mean stands beside it.

    Returns:
        Means, values of every frame, and shares of clips on which the samples beat a baseline.
    """
    scores = {
        name: _entry(values, "lower" if name == "lpips" else "higher", takes_best)
        for name, values in found.items()
    }
    scores["psnr"]["equal_frames"] = int((found["psnr"].ours == MAX_PSNR_DB).sum())
    return scores


def _entry(found: FrameValues, better: str, takes_best: bool) -> dict[str, Any]:
    """The result for one metric."""
    ours, theirs = found
    num_clips, num_samples, num_frames = ours.shape
    sign = 1 if better == "higher" else -1
    best = (sign * ours).mean(dim=2).argmax(dim=1)  # [M]
    best_frames = ours.gather(1, best[:, None, None].expand(-1, 1, num_frames))[:, 0]  # [M, T]
    of_best = best_frames.mean(dim=1)  # [M]
    by_clip = of_best if takes_best else ours.mean(dim=(1, 2))  # [M]
    error = float(by_clip.std() / num_clips**0.5) if num_clips > 1 else None
    return {
        "better": better,
        "value": float(by_clip.mean()),
        "spread": None,
        "standard_error": error,
        "n": num_clips,
        "num_samples": num_samples,
        "best_of_k": float(of_best.mean()),
        **({"mean_of_k": float(ours.mean())} if takes_best else {}),
        "real": None,
        "floor": None,
        "controls": {name: float(values.mean()) for name, values in theirs.items()},
        "share_above": {
            name: float((sign * by_clip > sign * values.mean(1)).double().mean())
            for name, values in theirs.items()
        },
        "per_frame": ours.mean(dim=(0, 1)).tolist(),
        "best_of_k_per_frame": best_frames.mean(0).tolist(),
        "controls_per_frame": {name: values.mean(0).tolist() for name, values in theirs.items()},
    }
