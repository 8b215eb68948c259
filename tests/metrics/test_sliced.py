"""The weight-free space-time distance: zero, order, motion, small clips, and one value by hand."""

import pytest
import torch
from metric_clips import Labelled, moving_shapes
from torch import Tensor

from vidgan.errors import UserError
from vidgan.evaluation.score import frozen_frames, shuffled_frames
from vidgan.metrics.sliced import SlicedReference, SlicedSettings, space_time_swd


@pytest.fixture(scope="module")
def reference(other_shapes: Labelled) -> SlicedReference:
    return SlicedReference(other_shapes.clips)


@pytest.fixture(scope="module")
def unseen() -> Tensor:
    return moving_shapes(80, seed=2).clips


def noisy(clips: Tensor, deviation: float) -> Tensor:
    noise = torch.randn(clips.shape, generator=torch.Generator().manual_seed(0))
    return (clips + deviation * noise).clamp(0, 255).to(torch.uint8)


def test_equal_sets_are_at_zero(reference: SlicedReference, other_shapes: Labelled) -> None:
    assert reference.distance(other_shapes.clips) == (0, 0, 0)


def test_it_grows_with_noise(reference: SlicedReference, unseen: Tensor) -> None:
    values = [reference.distance(noisy(unseen, s)).value for s in (20, 40, 80, 160)]
    assert values == sorted(values)
    assert values[-1] > 2 * values[0]


def test_it_sees_motion_that_single_frames_do_not_show(
    reference: SlicedReference, unseen: Tensor
) -> None:
    floor = reference.distance(unseen)
    assert reference.distance(frozen_frames(unseen)).motion > 5 * floor.motion
    assert reference.distance(shuffled_frames(unseen)).motion > 2 * floor.motion


def test_brightness_is_seen(reference: SlicedReference, unseen: Tensor) -> None:
    brighter = (unseen.int() + 40).clamp(0, 255).to(torch.uint8)
    assert reference.distance(brighter).appearance > 2 * reference.distance(unseen).appearance


def test_the_seed_decides_it_and_moves_it_little(other_shapes: Labelled, unseen: Tensor) -> None:
    a, again, b = (space_time_swd(unseen, other_shapes.clips, seed=s) for s in (0, 0, 1))
    assert a == again
    assert a != b
    assert a == pytest.approx(b, rel=0.3)


def test_constant_sets_by_hand() -> None:
    """Two sets that differ by a constant are apart by that constant times |sum of directions|."""
    settings = SlicedSettings(patch_size=1, patch_frames=1, patches_per_clip=64, scale=1.0)
    rng = torch.Generator().manual_seed(0)
    real = torch.randint(50, 100, (32, 1, 2, 1, 1), dtype=torch.uint8, generator=rng)
    result = SlicedReference(real, settings).distance(real + 51)
    # One pixel: every direction is +-1. 51 levels are 0.4; deviations of the 64 drawn pixels per
    # clip are those of the clips up to sampling.
    deviation = (real.double() / 127.5).std()
    assert result.appearance == pytest.approx(0.4 / float(deviation), rel=0.05)
    # Only the rounding of 0.4 is left, of values whose deviation is 0.11.
    assert result.motion < 1e-5


def test_the_smallest_clips_serve() -> None:
    clips = torch.randint(256, (4, 3, 4, 8, 8), dtype=torch.uint8)
    others = torch.randint(128, (4, 3, 4, 8, 8), dtype=torch.uint8)
    assert SlicedReference(clips).record()["parts"] == ["band0", "change0/1"]
    assert space_time_swd(others, clips) > 100


def test_larger_clips_have_more_scales() -> None:
    clips = torch.randint(256, (2, 1, 8, 32, 48), dtype=torch.uint8)
    parts = SlicedReference(clips).record()["parts"]
    names = [f"band{k}" for k in (0, 1)]
    assert parts == sorted(names + [f"change{k}/{gap}" for k in (0, 1) for gap in (1, 2, 4)])


@pytest.mark.parametrize("shape", [(3, 3, 3, 8, 8), (3, 3, 4, 6, 8)])
def test_clips_smaller_than_a_patch_are_refused(shape: tuple[int, ...]) -> None:
    clips = torch.zeros(shape, dtype=torch.uint8)
    with pytest.raises(UserError, match="at least 4 frames and 7 pixels"):
        space_time_swd(clips, clips)


def test_sets_of_another_size_are_refused(reference: SlicedReference, unseen: Tensor) -> None:
    with pytest.raises(ValueError, match="equally many clips"):
        reference.distance(unseen[:-1])
