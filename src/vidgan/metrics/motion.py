"""Statistics of motion that need no network: how much, where and how evenly clips change.

They tell a frozen or a flickering generator at once.
"""

from typing import Any

import torch
from torch import Tensor

from vidgan.core.clip_ops import to_float
from vidgan.errors import UserError

CHUNK = 64
"""Clips that are floats at once."""

STILL = 2 / 127.5
"""Mean absolute difference of [-1, 1] values below which a clip counts as still: 2 grey levels."""


def motion_statistics(clips: Tensor) -> dict[str, float]:
    """How much clips move, in values of 0..255.

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
    rows = [_per_clip(to_float(chunk)) for chunk in torch.split(clips, CHUNK)]
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
