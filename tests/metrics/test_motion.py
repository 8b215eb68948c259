"""Motion statistics and histograms of clips whose motion is known."""

import pytest
import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.evaluation.controls import frozen_frames, shuffled_frames, uniform_noise
from vidgan.metrics.motion import (
    REACH,
    _offsets,
    compare_motion,
    difference_histogram,
    flow_histogram,
    motion_statistics,
)


def flat(*values: int) -> Tensor:
    """One grey clip `[1, 3, T, 16, 16]` whose frames have these values."""
    frames = torch.tensor(values, dtype=torch.uint8)
    return frames[None, None, :, None, None].expand(1, 3, len(values), 16, 16).contiguous()


def sliding(count: int, dy: int, dx: int, size: int = 32, frames: int = 4) -> Tensor:
    """Smooth noise that moves by (dy, dx) pixels a frame, without edges."""
    rng = keyed_rng("sliding", dy, dx)
    picture = torch.rand(count, 3, size, size, generator=rng)
    clip = torch.stack([picture.roll((dy * t, dx * t), (2, 3)) for t in range(frames)], 2)
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


@pytest.mark.parametrize(("dy", "dx"), [(0, 0), (0, 2), (-1, 0), (3, -2)])
def test_block_matching_finds_the_displacement(dy: int, dx: int) -> None:
    clips = sliding(2, dy, dx)
    histogram = flow_histogram(clips)
    assert histogram.shape == (2, (2 * REACH + 1) ** 2)
    torch.testing.assert_close(histogram.sum(1), torch.ones(2, dtype=torch.float64))
    # Blocks at the border look for pixels that have left the frame.
    assert float(histogram[:, _offsets().index((dy, dx))].min()) >= 0.5
    assert _offsets()[int(histogram.mean(0).argmax())] == (dy, dx)


def test_histograms_see_shuffled_frames() -> None:
    clips = sliding(8, 0, 1, frames=8)
    ordered, shuffled = flow_histogram(clips), flow_histogram(shuffled_frames(clips))
    one_step = _offsets().index((0, 1))
    assert float(ordered[:, one_step].mean()) > 2 * float(shuffled[:, one_step].mean())


def test_difference_histogram_by_hand() -> None:
    # Black to white fills the last bin; no change the first; 16 grey levels sqrt(16/255) * 16 = 4.
    found = difference_histogram(torch.cat([flat(0, 255), flat(9, 9), flat(0, 16)]))
    assert found.shape == (3, 16)
    assert [int(row.argmax()) for row in found] == [15, 0, 4]
    torch.testing.assert_close(found.sum(1), torch.ones(3, dtype=torch.float64))


def test_grey_clips_serve_and_single_frames_do_not() -> None:
    assert flow_histogram(sliding(1, 0, 1)[:, :1]).shape == (1, 49)
    for function in (motion_statistics, difference_histogram, flow_histogram):
        with pytest.raises(ValueError, match="2 frames"):
            function(flat(3))
    with pytest.raises(ValueError, match="at least 8 pixels"):
        flow_histogram(flat(1, 2)[..., :4, :])
