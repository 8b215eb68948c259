"""How far apart sets of real clips lie in the checks beside the scores, and where damaged ones lie.

    python benchmarks/limits.py [--repeats 6]

The limits of `vidgan.evaluation.checks` stand between both. Each real row is the range over fresh
sets of the demo's moving shapes (256 clips of 8 frames of 16x16 px, 16 classes) beside 256 held-out
and 1,200 training ones; every other row is the first set, damaged in one way. Thumbnails are used
throughout, so that no judge is trained. Takes a minute on one core.
"""

import argparse
from collections.abc import Callable, Iterator

import torch
from damages import SCENES, blurred, noisy
from torch import Tensor

from vidgan.core.clip_ops import pool_uint8
from vidgan.core.randomness import keyed_rng
from vidgan.data.synthetic.motions import motion_clip
from vidgan.evaluation.score import frozen_frames, shuffled_frames
from vidgan.metrics.appearance import compare_motion
from vidgan.metrics.memorisation import (
    compare_nearest,
    compare_repeats,
    compare_spread,
    nearest_clips,
    share_of_copies,
    thumbnails,
)

SCENE = SCENES["both ways"]
NUM_TRAIN, NUM_CLIPS = 1200, 256
Labelled = tuple[Tensor, Tensor]
COLUMNS = {
    "spread": "{:.2f}",
    "change": "{:.2f}",
    "jerk": "{:.2f}",
    "still": "{:.0%}",
    "median distance": "{:.2f}",
    "copies": "{:.1%}",
    "repeats": "{:.1%}",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=6, help="fresh sets of real clips")
    arguments = parser.parse_args()
    train, heldout = rendered("train", NUM_TRAIN), rendered("heldout", NUM_CLIPS)
    fresh = [rendered(f"fresh {number}", NUM_CLIPS) for number in range(arguments.repeats)]
    print(f"| clips | {' | '.join(COLUMNS)} |\n|{' --- |' * (len(COLUMNS) + 1)}")
    found = [numbers(part, train, heldout) for part in fresh]
    ends = zip(*((min(column), max(column)) for column in zip(*found, strict=True)), strict=True)
    for name, row in zip(("real sets, lowest", "real sets, highest"), ends, strict=True):
        print(line(name, row))
    for name, part in damaged(fresh[0], train):
        print(line(name, numbers(part, train, heldout)), flush=True)


def line(name: str, row: tuple[float, ...]) -> str:
    """A row of the table."""
    forms = zip(COLUMNS.values(), row, strict=True)
    return f"| {name} | {' | '.join(form.format(value) for form, value in forms)} |"


def rendered(split: str, count: int) -> Labelled:
    """Clips uint8 `[M, 3, 8, 16, 16]` and labels."""
    clips, labels = zip(*(motion_clip(SCENE, i, split) for i in range(count)), strict=True)
    return torch.stack([pool_uint8(clip, (1, 4, 4)) for clip in clips]), torch.tensor(labels)


def numbers(fake: Labelled, train: Labelled, heldout: Labelled) -> tuple[float, ...]:
    """What the checks look at, in the order of the columns."""
    spread = compare_spread(
        (thumbnails(fake[0]), fake[1]), (thumbnails(heldout[0]), heldout[1]), SCENE.classes
    )
    assert spread is not None
    motion = compare_motion(fake[0], heldout[0])
    made, real = motion["generated"], motion["heldout"]
    ours, theirs = (
        nearest_clips(part[0], train[0], "thumbnails").distances for part in (fake, heldout)
    )
    ratio = compare_nearest(ours, theirs)["ratio"]
    assert ratio is not None
    repeats = compare_repeats(fake[0], heldout[0], train[0], ours, NUM_TRAIN)["repeats"]
    return (
        spread["ratio"],
        made["change"] / real["change"],
        made["jerk"] / real["jerk"],
        made["still"] - real["still"],
        ratio,
        share_of_copies(ours, theirs, NUM_CLIPS)["share"],
        repeats["share"],
    )


def damaged(first: Labelled, train: Labelled) -> Iterator[tuple[str, Labelled]]:
    """Sets that a check should tell of, by name."""
    clips, labels = first
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "blurred": blurred,
        "noise of 5 levels": noisy(5),
        "shuffled frames": lambda part: shuffled_frames(part, 0),
        "a quarter frozen": lambda part: torch.cat(
            [frozen_frames(part[: NUM_CLIPS // 4], 0), part[NUM_CLIPS // 4 :]]
        ),
    }
    for name, change in changes.items():
        yield name, (change(clips), labels)
    order = torch.randperm(len(labels), generator=keyed_rng("mixed classes"))
    yield "classes mixed", (clips, labels[order])
    one = torch.stack([clips[labels == label][0] for label in labels.tolist()])
    yield "one clip a class", (one, labels)
    copies = train[0][:NUM_CLIPS], train[1][:NUM_CLIPS]
    yield "training clips", copies
    for levels in (5, 20, 40):
        yield f"training clips, noise of {levels} levels", (noisy(levels)(copies[0]), copies[1])
    for share in (0.1, 0.5):
        count = int(share * NUM_CLIPS)
        part = torch.cat([copies[0][:count], clips[count:]])
        yield f"{share:.0%} training clips", (part, torch.cat([copies[1][:count], labels[count:]]))


if __name__ == "__main__":
    main()
