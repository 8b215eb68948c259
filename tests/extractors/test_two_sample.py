"""The classifier two-sample test tells what differs, and guesses where nothing does."""

import pytest
import torch
from metric_clips import Labelled, moving_shapes

from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.extractors.two_sample import TwoSampleSettings, _scores, two_sample_test

QUICK = TwoSampleSettings(clips_seen=1600, seeds=1, channels=16, draws=50)


def test_scores_by_hand() -> None:
    # Of 3 x 2 pairs the fake one is above in 4, equal in 1; 4 of 6 signs are right.
    fake, real = torch.tensor([[3.0, 1.0, 1.0]]), torch.tensor([[2.0, 1.0, -4.0]])
    auc, accuracy = _scores(fake, real)
    pairs = [(f > r) + 0.5 * (f == r) for f in fake[0].tolist() for r in real[0].tolist()]
    assert auc == pytest.approx(sum(pairs) / 9)
    assert accuracy == pytest.approx((3 + 1) / 6)


def test_clips_of_one_law_cannot_be_told(training_shapes: Labelled) -> None:
    found = two_sample_test(moving_shapes(240, 9).clips, training_shapes.clips, QUICK)
    assert found.auc == pytest.approx(0.5, abs=0.12)
    low, high = found.intervals["auc"]
    assert low < found.auc < high
    assert high - low < 0.2


@pytest.mark.parametrize("damage", ["noise", "shuffled"])
def test_damage_is_told(damage: str, training_shapes: Labelled) -> None:
    fresh = moving_shapes(240, 9).clips
    if damage == "noise":
        noise = 12 * torch.randn(fresh.shape, generator=keyed_rng("noise"))
        fresh = (fresh + noise).clamp(0, 255).to(torch.uint8)
    else:
        fresh = fresh[:, :, [2, 0, 3, 1]]
    found = two_sample_test(fresh, training_shapes.clips, QUICK)
    assert found.auc > 0.75
    assert found.intervals["auc"][0] > 0.65


def test_it_repeats_and_leaves_the_generator_of_others_alone(other_shapes: Labelled) -> None:
    quick = TwoSampleSettings(clips_seen=64, seeds=1, channels=4, draws=5)
    clips = other_shapes.clips
    state = torch.random.get_rng_state()
    first = two_sample_test(clips[:20], clips[20:], quick)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert two_sample_test(clips[:20], clips[20:], quick) == first
    assert two_sample_test(clips[:20], clips[20:], quick, seed=1) != first


def test_what_cannot_be_tested_is_refused(other_shapes: Labelled) -> None:
    with pytest.raises(UserError, match="needs 8 clips of each set, got 5"):
        two_sample_test(other_shapes.clips[:5], other_shapes.clips)
    with pytest.raises(UserError, match="folds of at least 2"):
        TwoSampleSettings(folds=1)
