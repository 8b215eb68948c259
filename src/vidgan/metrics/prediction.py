"""Predicted frames against the true ones, beside forecasts that need no model.

A prediction is worth something only if it beats what anybody can do: show the last given frame
again, or let every pixel change on as it last did.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from vidgan.metrics.image_quality import MAX_PSNR_DB, WINDOW, psnr, ssim

Scores = dict[str, dict[str, Any]]

FrameMetric = Callable[[Tensor, Tensor], Tensor]
"""From uint8 clips `[..., C, T, H, W]` and true ones to a float64 value for every frame."""


def repeat_last(context: Tensor, num_frames: int) -> Tensor:
    """The last given frame again and again.

    Args:
        context: uint8 `[..., C, T0, H, W]`.
        num_frames: T.

    Returns:
        uint8 `[..., C, T, H, W]`.
    """
    return context[..., -1:, :, :].repeat_interleave(num_frames, dim=-3)


def linear_extrapolation(context: Tensor, num_frames: int) -> Tensor:
    """Every pixel goes on changing as from the last but one to the last given frame, in 0..255.

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


def score_frames(
    samples: Tensor,
    truth: Tensor,
    baselines: Mapping[str, Tensor],
    perceptual: FrameMetric | None = None,
) -> Scores:
    """PSNR, SSIM and, on request, LPIPS of predicted frames, each beside those of the baselines.

    A value is the mean over frames, then samples, then clips. Best of k takes, for every clip, the
    sample with the best mean over frames.

    Args:
        samples: uint8 `[M, K, C, T, H, W]`, K predictions for every clip.
        truth: uint8 `[M, C, T, H, W]`.
        baselines: by name, uint8 `[M, C, T, H, W]`.
        perceptual: the distance to add as `lpips`.

    Returns:
        `psnr`, `ssim` unless frames are smaller than its window, and `lpips`: plain values, with
        means, values of every frame, and shares of clips on which the samples' mean beats a
        baseline.
    """
    metrics: dict[str, FrameMetric] = {"psnr": psnr}
    if min(truth.shape[-2:]) >= WINDOW:
        metrics["ssim"] = ssim
    if perceptual is not None:
        metrics["lpips"] = perceptual
    scores: Scores = {}
    for name, metric in metrics.items():
        ours = metric(samples, truth[:, None])  # [M, K, T]
        theirs = {key: metric(clips, truth) for key, clips in baselines.items()}
        scores[name] = _entry(ours, theirs, "lower" if name == "lpips" else "higher")
    scores["psnr"]["equal_frames"] = int((psnr(samples, truth[:, None]) == MAX_PSNR_DB).sum())
    return scores


def _entry(ours: Tensor, theirs: Mapping[str, Tensor], better: str) -> dict[str, Any]:
    """What is told of one metric; ours `[M, K, T]`, theirs `[M, T]`."""
    num_clips, num_samples, num_frames = ours.shape
    sign = 1 if better == "higher" else -1
    by_clip = ours.mean(dim=(1, 2))  # [M]
    best = (sign * ours).mean(dim=2).argmax(dim=1)  # [M]
    best_frames = ours.gather(1, best[:, None, None].expand(-1, 1, num_frames))[:, 0]  # [M, T]
    error = float(by_clip.std() / num_clips**0.5) if num_clips > 1 else None
    return {
        "better": better,
        "value": float(by_clip.mean()),
        "spread": None,
        "standard_error": error,
        "n": num_clips,
        "num_samples": num_samples,
        "best_of_k": float(best_frames.mean()),
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
