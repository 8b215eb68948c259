"""Self-supervised labels of clips: the rotation and the temporal change applied to a clip.

A judge of unlabelled clips is trained to classify sixteen transformations: a quarter turn out of
    four
(Gidaris et al. 2018) times a change of time out of four (in the manner of Jenni et al. 2020).
Telling them apart takes knowledge of appearance and of motion. Playing backwards
is none of the changes, since much of the world moves both ways alike.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError

MIN_FRAMES = 4
"""With fewer frames the temporal changes look alike."""

CHECKED_CLIPS = 64
"""Clips that a judge is validated on, each with every change."""

TURNS = ("0", "90", "180", "270")
"""Counter-clockwise degrees."""


def _forward(frames: int, _: torch.Generator) -> Tensor:
    """As it was."""
    return torch.arange(frames)


def _slow(frames: int, _: torch.Generator) -> Tensor:
    """The middle half of a clip, every frame twice."""
    return frames // 4 + torch.arange(frames) // 2


def _there_and_back(frames: int, _: torch.Generator) -> Tensor:
    """Every second frame to the end, and the others on the way back."""
    return torch.cat([torch.arange(0, frames, 2), torch.arange(1, frames, 2).flip(0)])


def _shuffled(frames: int, rng: torch.Generator) -> Tensor:
    """All frames in random order."""
    return torch.randperm(frames, generator=rng)


TIMES: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "forward": _forward,
    "slow": _slow,
    "there-and-back": _there_and_back,
    "shuffled": _shuffled,
}
"""Which frames of a clip are shown, by the name of the change."""

PRETEXT_CLASSES = tuple(f"{turn}-{time}" for turn in TURNS for time in TIMES)
"""Names of the sixteen changes, the turn first; class 0 leaves a clip as it was."""


def change_clips(clips: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
    """Each clip with the change that its label names.

    Args:
        clips: `[B, C, T, H, W]` of any type, square.
        labels: int64 `[B]`, places in `PRETEXT_CLASSES`.
        rng: source of the orders of shuffled frames.

    Raises:
        UserError: the clips are too short or not square.
    """
    frames, height, width = clips.shape[2:]
    if frames < MIN_FRAMES or height != width:
        raise UserError(
            f"a judge without classes needs square clips of at least {MIN_FRAMES} frames, got "
            f"{frames} frames of {height}x{width} pixels; evaluate with --protocol stswd"
        )
    choices = list(TIMES.values())
    changed = []
    for clip, label in zip(clips, labels.tolist(), strict=True):
        turn, time = divmod(label, len(choices))
        changed.append(clip[:, choices[time](frames, rng)].rot90(turn, (2, 3)))
    return torch.stack(changed)


def random_changes(count: int, rng: torch.Generator) -> Tensor:
    """Random labels, int64 `[count]`, all equally likely."""
    return torch.randint(len(PRETEXT_CLASSES), (count,), generator=rng)


def every_change(clips: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """A seeded choice of clips, each with all sixteen changes, and their labels.

    Args:
        clips: uint8 `[M, C, T, H, W]`.
        seed: of the choice and of the orders of shuffled frames.

    Returns:
        uint8 `[16 * min(M, CHECKED_CLIPS), C, T, H, W]` and int64 of that length.
    """
    rng = keyed_rng(seed, "pretext check")
    chosen = torch.randperm(clips.shape[0], generator=rng)[:CHECKED_CLIPS]
    labels = torch.arange(len(PRETEXT_CLASSES)).repeat(len(chosen))
    rows = chosen.repeat_interleave(len(PRETEXT_CLASSES))
    return change_clips(clips[rows], labels, rng), labels
