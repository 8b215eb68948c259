"""Motion statistics of clips whose motion is known."""

import pytest
import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.evaluation.score import frozen_frames, uniform_noise
from vidgan.metrics.appearance import compare_motion, motion_statistics


def flat(*values: int) -> Tensor:
    """One grey clip `[1, 3, T, 16, 16]` whose frames have these values."""
    frames = torch.tensor(values, dtype=torch.uint8)
    return frames[None, None, :, None, None].expand(1, 3, len(values), 16, 16).contiguous()


def sliding(count: int, dy: int, dx: int, size: int = 32, frames: int = 4) -> Tensor:
    """Smooth noise that moves by (dy, dx) pixels a frame, without edges."""
    rng = keyed_rng("sliding", dy, dx)
    image = torch.rand(count, 3, size, size, generator=rng)
    clip = torch.stack([image.roll((dy * t, dx * t), (2, 3)) for t in range(frames)], 2)
    return (clip * 255).to(torch.uint8)


def test_statistics_by_hand() -> None:
    # Steps of 10, 10 and 30; second differences 0 and 20; first to last 50.
    found = motion_statistics(flat(0, 10, 20, 50))
    assert found["change"] == pytest.approx(50 / 3, abs=1e-4)
    assert found["jerk"] == pytest.approx(10, abs=1e-4)
    assert found["loop"] == pytest.approx(50, abs=1e-4)
    assert found["change_deviation"] == 0
    assert found["still"] == 0
    two = motion_statistics(torch.cat([flat(0, 10), flat(7, 7)]))
    assert two["still"] == 0.5
    assert two["change"] == pytest.approx(5, abs=1e-4)
    assert two["change_deviation"] == pytest.approx(5, abs=1e-4)
    assert two["jerk"] == 0


def test_frozen_and_flickering_clips_are_told_apart() -> None:
    real = sliding(6, 0, 1, frames=6)
    moving, still = motion_statistics(real), motion_statistics(frozen_frames(real))
    assert (still["change"], still["still"]) == (0, 1)
    assert moving["still"] == 0
    noise = motion_statistics(uniform_noise(real))
    assert noise["jerk"] > noise["change"]
    compared = compare_motion(frozen_frames(real), real)
    assert compared["ratio"] == 0
    assert compare_motion(real, real)["ratio"] == 1
    assert compare_motion(real, frozen_frames(real))["ratio"] is None


def test_single_frames_have_no_motion() -> None:
    with pytest.raises(ValueError, match="2 frames"):
        motion_statistics(flat(3))
