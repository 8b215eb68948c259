"""The appearance distance against closed forms, and what it sees."""

import pytest
import torch
from metric_clips import Labelled, moving_shapes
from scipy.stats import wasserstein_distance
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.metrics.appearance import (
    DESCRIPTIONS,
    AppearanceReference,
    colour_histograms,
    describe,
    layouts,
    mean_colours,
)


def grey(count: int, seed: str) -> Tensor:
    """Clips of one grey value each, uint8 `[M, 1, 2, 4, 4]`."""
    values = torch.randint(256, (count, 1, 1, 1, 1), generator=keyed_rng("grey", seed))
    return values.expand(-1, 1, 2, 4, 4).to(torch.uint8).contiguous()


def test_descriptions_by_hand() -> None:
    clip = torch.zeros(1, 3, 2, 4, 4)
    clip[0, 0, :, :2] = 1
    clip[0, 2] = 0.25
    assert mean_colours(clip).tolist() == [[0.5, 0, 0.25]]
    # Half of the pixels have red 1, and as many of the quantiles.
    quantiles = colour_histograms(clip).view(6, 16)
    assert quantiles[0].tolist() == [0] * 8 + [1] * 8
    # Red less blue (the channel before it, around the end) and green less red.
    assert quantiles[3].tolist() == [-0.25] * 8 + [0.75] * 8
    assert quantiles[4].tolist() == [-1] * 8 + [0] * 8
    assert layouts(clip).view(3, 2, 4, 4).equal(clip[0])


@pytest.mark.parametrize("count", [30, 41])
def test_one_value_a_clip_gives_the_wasserstein_distance(count: int) -> None:
    """Every part of a grey clip is its value, so every direction is that of one number."""
    real, fake = grey(30, "real"), grey(count, "fake")
    deviation = real[:, 0, 0, 0, 0].double().std(correction=0)
    values = [clips[:, 0, 0, 0, 0].numpy() for clips in (fake, real)]
    expected = 1000 * wasserstein_distance(*values) / float(deviation)
    assert AppearanceReference(real).distances(fake)["mean colour"] == pytest.approx(expected)


def test_equal_sets_are_at_0(other_shapes: Labelled) -> None:
    reference = AppearanceReference(other_shapes.clips)
    assert reference.distance(other_shapes.clips) == 0
    assert reference.distance(other_shapes.clips.flip(0).repeat(2, 1, 1, 1, 1)) < 1e-9


def test_dark_backgrounds_and_wrong_hues_have_a_number(training_shapes: Labelled) -> None:
    reference, fresh = AppearanceReference(training_shapes.clips), moving_shapes(120, 5).clips
    real = reference.distances(fresh)
    assert set(real) == set(DESCRIPTIONS)
    dark = reference.distances(fresh.where(fresh >= 90, fresh // 3))
    hue = reference.distances(fresh[:, [1, 2, 0]] // 2)
    for damaged in (dark, hue):
        assert all(damaged[part] > 1.5 * real[part] for part in DESCRIPTIONS)


def test_it_depends_on_the_seed_alone(training_shapes: Labelled, other_shapes: Labelled) -> None:
    a, again, b = (
        AppearanceReference(training_shapes.clips, seed=s).distance(other_shapes.clips)
        for s in (0, 0, 1)
    )
    assert a == again
    assert a == pytest.approx(b, rel=0.2)
    assert a != b


def test_constant_descriptions_do_not_divide_by_zero() -> None:
    flat = torch.full((9, 3, 4, 8, 8), 7, dtype=torch.uint8)
    assert all(rows.isfinite().all() for rows in describe(flat).values())
    assert AppearanceReference(flat).distance(flat) == 0
    assert AppearanceReference(flat).distance(flat + 20) > 1000
