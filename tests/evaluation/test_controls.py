"""Controls change what they say and nothing else, and the nearest training clips are shown."""

from math import comb

import pytest
import torch
from metric_clips import Labelled

from vidgan.evaluation.checks import chance_of_so_few, lost_class_warnings
from vidgan.evaluation.score import (
    CONTROLS,
    motion_sensitivity,
    nearest_image,
    nearest_pairs,
    repeated_mean_clip,
)
from vidgan.metrics.memorisation import nearest_clips


@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_controls_keep_shape_and_repeat(name: str, other_shapes: Labelled) -> None:
    clips = other_shapes.clips
    control = CONTROLS[name](clips, 3)
    assert control.shape == clips.shape
    assert control.dtype == torch.uint8
    assert torch.equal(control, CONTROLS[name](clips, 3))
    assert not torch.equal(control, clips)


@pytest.mark.parametrize("name", ["shuffled", "reversed"])
def test_reordering_keeps_every_frame(name: str, other_shapes: Labelled) -> None:
    clips = other_shapes.clips
    before = clips.double().sum((1, 3, 4)).sort(1).values
    after = CONTROLS[name](clips, 0).double().sum((1, 3, 4)).sort(1).values
    assert torch.equal(before, after)


def test_mean_clip_by_hand() -> None:
    clips = torch.tensor([10, 20, 60], dtype=torch.uint8).reshape(3, 1, 1, 1, 1)
    assert repeated_mean_clip(clips).flatten().tolist() == [30, 30, 30]


def test_motion_sensitivity() -> None:
    assert motion_sensitivity(shuffled=3, floor=1, ceiling=5) == 0.5
    assert motion_sensitivity(shuffled=3, floor=1, ceiling=1) is None


def test_the_nearest_training_clips_are_shown_below_the_generated_ones(
    training_shapes: Labelled, other_shapes: Labelled
) -> None:
    train, fresh = training_shapes.clips, other_shapes.clips
    fake = torch.cat([fresh[:10], train[7:9], train[7:8]])
    pairs = nearest_pairs(nearest_clips(fake, train, "thumbnails"), count=3)
    # Rows 10, 11 and 12 are copies; two of the same training clip count once.
    assert [(pair["generated"], pair["train"]) for pair in pairs[:2]] == [(10, 7), (11, 8)]
    assert pairs[0]["distance"] == pairs[1]["distance"] == 0
    assert pairs[2]["distance"] > 0
    assert len(nearest_pairs(nearest_clips(fake, train[:2], "thumbnails"))) <= 2
    image = nearest_image(fake, train, pairs[:1])
    assert image.dtype == torch.uint8
    # Above and below are the same frames, four of 16 pixels, six times enlarged.
    height, width = 2 * (96 + 2) + 2 + 4 * 6, 4 * (96 + 2) + 2
    assert tuple(image.shape) == (3, height, width)
    assert torch.equal(image[:, 2:98], image[:, 100:196])


def test_a_lost_class_is_named_where_no_class_was_asked_for() -> None:
    real = dict.fromkeys("abcdefghijklmnop", 32)  # 16 classes of 512 clips
    even = dict(real)
    assert lost_class_warnings({"generated": even, "heldout": real}) == []
    # Fifteen classes: the one that is gone is named.
    (said,) = lost_class_warnings({"generated": {**even, "c": 0, "d": 64}, "heldout": real})
    assert said.startswith(
        "of the generated clips the judge assigns to c (0%), less than a quarter"
    )
    # Half as often is no loss, and neither is an empty class among few clips.
    assert lost_class_warnings({"generated": {**even, "c": 16, "d": 48}, "heldout": real}) == []
    few = dict.fromkeys(real, 2)
    assert lost_class_warnings({"generated": {**few, "c": 0, "d": 4}, "heldout": few}) == []
    assert lost_class_warnings({}) == []


def test_chance_of_so_few_by_hand() -> None:
    # Of 4 clips 2 are marked: neither of the 2 of the first set with chance 1 / 6, at most one 5/6.
    assert chance_of_so_few(0, 2, 2, 2) == pytest.approx(1 / 6)
    assert chance_of_so_few(1, 1, 2, 2) == pytest.approx(5 / 6)
    assert chance_of_so_few(2, 0, 2, 2) == 1.0
    for few, others, num_few, num_others in ((3, 30, 40, 90), (9, 11, 20, 70), (0, 7, 50, 60)):
        marked, total = few + others, num_few + num_others
        ways = (comb(marked, k) * comb(total - marked, num_few - k) for k in range(few + 1))
        expected = sum(ways) / comb(total, num_few)
        found = chance_of_so_few(few, others, num_few, num_others)
        assert found == pytest.approx(expected, rel=1e-10)
    # Sets of any size take a moment: 40 and 60 % where half is expected, of ten million clips each.
    assert chance_of_so_few(4_000_000, 6_000_000, 10**7, 10**7) == 0.0
    assert chance_of_so_few(6_000_000, 4_000_000, 10**7, 10**7) == 1.0
