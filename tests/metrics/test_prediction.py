"""Baselines and the table of scores, with values by hand."""

import math

import pytest
import torch
from torch import Tensor

from vidgan.metrics.image_quality import linear_extrapolation, repeat_last, score_frames


def flat(*rows: tuple[int, ...], size: int = 12) -> Tensor:
    """Clips of flat frames, uint8 `[M, 3, T, size, size]`."""
    values = torch.tensor(rows, dtype=torch.uint8)
    return values[:, None, :, None, None].expand(-1, 3, -1, size, size).contiguous()


def decibels(*errors: int) -> float:
    """Mean PSNR of frames that are off by so much everywhere."""
    return sum(20 * math.log10(255 / error) for error in errors) / len(errors)


def test_the_last_frame_is_repeated() -> None:
    assert torch.equal(repeat_last(flat((1, 2, 9), (4, 4, 5)), 2), flat((9, 9), (5, 5)))


def test_the_last_change_goes_on_and_is_clamped() -> None:
    context = flat((0, 100, 110), (0, 100, 60), (9, 9, 250))
    expected = flat((120, 130, 140), (20, 0, 0), (255, 255, 255))
    assert torch.equal(linear_extrapolation(context, 3), expected)


def test_one_given_frame_has_no_change() -> None:
    assert torch.equal(linear_extrapolation(flat((70,)), 4), repeat_last(flat((70,)), 4))


def test_baselines_work_on_every_pixel_alone() -> None:
    context = torch.randint(256, (2, 3, 4, 5, 6), dtype=torch.uint8)
    ahead = linear_extrapolation(context, 3)
    last, before = context[1, 2, 3, 4, 5], context[1, 2, 2, 4, 5]
    assert int(ahead[1, 2, 2, 4, 5]) == max(0, min(255, 4 * int(last) - 3 * int(before)))
    assert torch.equal(repeat_last(context, 3)[:, :, 1], context[:, :, 3])


def test_means_and_best_of_k_by_hand() -> None:
    truth = flat((100, 100), (50, 50))
    samples = torch.stack(
        [flat((101, 102), (54, 54)), flat((105, 101), (51, 51))],
        dim=1,
    )
    scores = score_frames(samples, truth, {"repeat last": flat((103, 103), (51, 51))})
    entry = scores["psnr"]
    clips = [(decibels(1, 2) + decibels(5, 1)) / 2, (decibels(4, 4) + decibels(1, 1)) / 2]
    assert entry["value"] == pytest.approx(sum(clips) / 2, rel=1e-12)
    # The second sample of the first clip is worse on average, though one of its frames is equal.
    assert entry["best_of_k"] == pytest.approx((decibels(1, 2) + decibels(1, 1)) / 2, rel=1e-12)
    assert entry["best_of_k_per_frame"] == pytest.approx([decibels(1, 1), decibels(2, 1)])
    assert entry["per_frame"] == pytest.approx([decibels(1, 5, 4, 1), decibels(2, 1, 4, 1)])
    assert entry["controls"]["repeat last"] == pytest.approx(decibels(3, 3, 1, 1))
    assert entry["controls_per_frame"]["repeat last"] == pytest.approx([decibels(3, 1)] * 2)
    # Off by 1, 2, 5 and 1 our mean is above off by 3; off by 4 and 1 it is below off by 1.
    assert entry["share_above"]["repeat last"] == 0.5
    assert entry["standard_error"] == pytest.approx(abs(clips[0] - clips[1]) / 2)
    assert (entry["n"], entry["num_samples"], entry["equal_frames"]) == (2, 2, 0)
    assert scores["ssim"]["best_of_k"] >= scores["ssim"]["value"]


def test_a_single_sample_is_its_own_best() -> None:
    truth = flat((100, 100))
    scores = score_frames(flat((104, 100))[:, None], truth, {})
    assert scores["psnr"]["value"] == scores["psnr"]["best_of_k"]
    assert scores["psnr"]["standard_error"] is None
    assert scores["psnr"]["equal_frames"] == 1
    assert scores["psnr"]["per_frame"][1] == 100


def test_best_of_a_hundred_by_hand() -> None:
    # Sample k is off by k + 1 in the first clip and by 100 - k in the second.
    errors = torch.arange(100, dtype=torch.uint8)
    rows = torch.stack([errors + 1, 100 - errors])
    samples = rows[:, :, None, None, None, None].expand(-1, -1, 3, 2, 8, 8)
    truth = torch.zeros(2, 3, 2, 8, 8, dtype=torch.uint8)
    found = score_frames(samples, truth, {})["psnr"]
    assert found["num_samples"] == 100
    assert found["best_of_k"] == pytest.approx(decibels(1), rel=1e-12)
    assert found["value"] == pytest.approx(decibels(*range(1, 101)), rel=1e-12)


def test_frames_below_the_window_have_no_ssim() -> None:
    truth = flat((100, 100), size=10)
    assert list(score_frames(truth[:, None], truth, {})) == ["psnr"]
