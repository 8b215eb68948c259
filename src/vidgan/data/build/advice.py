"""What a training set amounts to, and what to expect of it, in sentences."""

from collections import Counter

from vidgan.data.build.quality import FILTERS
from vidgan.data.packed.manifest import Manifest
from vidgan.data.scorable import why_unscorable

_SIZES = {
    100: "a generator repeats so few: add videos, or cut more out of long ones with clip=random",
    1000: "enough for a small model at 16 to 32 pixels; set training.augment against memorising",
    10_000: "enough for one kind of scene at 32 to 64 pixels; UCF-101, 101 kinds, trains on 9,537",
    1 << 62: "the size of published sets: TrailerFaces holds 10,910 clips, Golf 603,776",
}
"""Below so many training clips, that is to be expected; from what published systems trained on."""
_UNEVEN = 3
"""A class this many times as large as another is told: a model sees the other that seldom."""
_FEW_OF_A_CLASS = 20
_FEW_HELDOUT = 50
"""Below so many, scores of held-out clips are mostly noise."""


def advise(manifest: Manifest) -> list[str]:
    """Sentences about size, balance and doubtful clips of a set; none for an empty one."""
    train = [item for item in manifest.items if item.split == "train"]
    if not train:
        return []
    full = manifest.levels[0]
    windows = sum(item.stored_frames - full.frames + 1 for item in train)
    frames = sum(item.stored_frames for item in manifest.items)
    decoded = 3 * full.resolution**2 * frames
    size = (
        f"training set: {len(train):,} clips, {windows:,} windows of {full.frames} frames; the"
        f" whole set takes {_bytes(manifest.num_bytes)} packed and {_bytes(decoded)} decoded"
    )
    text = [size, f"  {next(what for limit, what in _SIZES.items() if len(train) < limit)}"]
    text += [f"  {line}" for line in (*_balance(manifest), *_heldout(manifest))]
    counts = Counter(name for _, name, _ in manifest.flaws)
    text += [
        f"  {counts[name]:,} clips {what}: quality.{name}=drop leaves such out"
        for name, what in FILTERS.items()
        if counts[name]
    ]
    return text


def _balance(manifest: Manifest) -> list[str]:
    classes = Counter(item.label for item in manifest.items if item.split == "train")
    if not manifest.classes:
        return []
    counts = {name: classes[label] for label, name in enumerate(manifest.classes)}
    # The first in alphabetical order of those that are equal.
    small, large = min(counts, key=lambda n: counts[n]), max(counts, key=lambda n: counts[n])
    text = []
    if counts[large] >= _UNEVEN * counts[small]:
        text.append(
            f"the classes are uneven, from {counts[small]:,} training clips ({small}) to"
            f" {counts[large]:,} ({large}): a conditional model learns the small ones last"
        )
    few = [name for name, count in counts.items() if count < _FEW_OF_A_CLASS]
    if few:
        more = f" and {len(few) - 1} more" if len(few) > 1 else ""
        text.append(
            f"fewer than {_FEW_OF_A_CLASS} training clips are of class {few[0]}{more}: a model"
            " without classes may do better"
        )
    return text


def _heldout(manifest: Manifest) -> list[str]:
    reason = why_unscorable(manifest.items, manifest.levels[0].frames)
    if reason:
        return [reason]
    count = sum(item.split != "train" for item in manifest.items)
    if count >= _FEW_HELDOUT:
        return []
    return [f"{count} held-out clips: scores on fewer than {_FEW_HELDOUT} are mostly noise"]


def _bytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB" if count < 1 << 30 else f"{count / 2**30:,.1f} GiB"
