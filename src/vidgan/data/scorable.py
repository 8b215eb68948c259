"""Whether a set holds enough clips for an evaluation, checked before anything is trained.

Where a split has too few videos, windows of long ones count as clips. The split itself is by
video: no window of a held-out video is ever trained on.
"""

import math
from collections.abc import Sequence

from vidgan.data.packed.manifest import ClipItem

MIN_CLIPS = 8
"""Fewest clips a set for which numbers are given at all."""
MAX_WINDOWS = 32
"""Windows of one video at most: more of them add little."""
STAND_IN_SHARE = 5
"""One training video in this many replaces a missing held-out split."""


def count_windows(items: Sequence[ClipItem], frames: int, fewest: int) -> list[int]:
    """Clips to be made of every video of a split: one, or more if there are too few videos.

    Args:
        items: the videos of the split.
        frames: of a clip; windows of one video overlap by half at most.
        fewest: so many videos suffice with a clip each.
    """
    if len(items) >= fewest:
        return [1] * len(items)
    hop = max(1, frames // 2)
    return [min(MAX_WINDOWS, 1 + (item.stored_frames - frames) // hop) for item in items]


def why_unscorable(items: Sequence[ClipItem], frames: int) -> str | None:
    """Why these clips cannot be evaluated, and how to change that; None if they can.

    Args:
        items: all clips of a set.
        frames: of a clip.
    """
    seen = [item for item in items if item.split == "train"]
    unseen = [item for item in items if item.split != "train"]
    if not unseen:
        count = len(seen) // STAND_IN_SHARE
        seen, unseen = seen[count:], seen[:count]
    num_unseen = sum(count_windows(unseen, frames, MIN_CLIPS))
    num_seen = sum(count_windows(seen, frames, 2 * MIN_CLIPS))
    if num_unseen >= MIN_CLIPS and num_seen >= 2 * MIN_CLIPS and len(seen) > 1:
        return None
    return (
        f"vidgan evaluate will not score these clips: it needs {MIN_CLIPS} held-out and "
        f"{2 * MIN_CLIPS} training clips of several videos, and there are {num_unseen} of "
        f"{len(unseen)} and {num_seen} of {len(seen)}; {how_to_score(len(items))}"
    )


def how_to_score(num_videos: int) -> str:
    """The settings by which a small set of videos can be evaluated, as the end of a sentence."""
    windows = "set data.clip=random, by which windows of long videos count, or add videos"
    if num_videos < 3 * MIN_CLIPS:
        return windows
    fraction = math.ceil(100 * MIN_CLIPS / num_videos) / 100
    return (
        f"set data.heldout_fraction={fraction:g}, which holds out enough of them (where folders "
        f"name the split, move videos from one to the other instead), or {windows}"
    )
