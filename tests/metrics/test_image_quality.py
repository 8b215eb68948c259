"""PSNR and SSIM: values by hand, and values recorded from scikit-image."""

import math

import pytest
import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.metrics.image_quality import psnr, ssim

# structural_similarity(channel_axis=2, gaussian_weights=True, sigma=1.5,
# use_sample_covariance=False, data_range=255) and peak_signal_noise_ratio(data_range=255) of
# scikit-image 0.26.0 on the frames of `noisy_pair`.
RECORDED = {
    (1, 3, 2, 16, 24): (
        [15.327879898094503, 15.297439869609068],
        [0.7536814374132916, 0.730064029019864],
    ),
    (2, 1, 1, 11, 11): (
        [14.972157973005391, 14.422004000487739],
        [0.6937049235486868, 0.6654063204741091],
    ),
    (1, 3, 1, 64, 64): ([15.303189264644843], [0.7374288836095805]),
}


def noisy_pair(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Random images, and the same ones darker and with noise."""
    rng = keyed_rng("image quality", *shape)
    clips = torch.randint(256, shape, generator=rng, dtype=torch.uint8)
    noise = torch.randint(-40, 41, shape, generator=rng)
    return clips, (clips.int() // 2 + 60 + noise).clamp(0, 255).to(torch.uint8)


def frames(*values: int) -> Tensor:
    """Flat frames `[1, 1, T, 12, 12]` of these values."""
    rows = torch.tensor(values, dtype=torch.uint8)
    return rows[None, None, :, None, None].expand(1, 1, len(values), 12, 12)


@pytest.mark.parametrize("shape", RECORDED)
def test_values_equal_those_of_scikit_image(shape: tuple[int, ...]) -> None:
    clips, truth = noisy_pair(shape)
    noise, structure = RECORDED[shape]
    assert psnr(clips, truth).flatten().tolist() == pytest.approx(noise, rel=1e-13)
    assert ssim(clips, truth).flatten().tolist() == pytest.approx(structure, rel=1e-12)


@pytest.mark.parametrize("shape", RECORDED)
def test_scikit_image_still_says_so(shape: tuple[int, ...]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    clips, truth = noisy_pair(shape)
    for clip, true, noises, structures in zip(
        clips, truth, psnr(clips, truth), ssim(clips, truth), strict=True
    ):
        for t in range(shape[2]):
            x, y = (part[:, t].permute(1, 2, 0).numpy() for part in (clip, true))
            assert float(noises[t]) == pytest.approx(
                metrics.peak_signal_noise_ratio(y, x, data_range=255), rel=1e-13
            )
            assert float(structures[t]) == pytest.approx(
                metrics.structural_similarity(
                    x,
                    y,
                    channel_axis=2,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                    data_range=255,
                ),
                rel=1e-12,
            )


def test_psnr_by_hand() -> None:
    # MSE 25, 65025 (the worst there is) and, where half of the pixels are off by 10, 50.
    worst = psnr(frames(105, 0), frames(100, 255))[0].tolist()
    assert worst == pytest.approx([10 * math.log10(65025 / 25), 0.0], abs=1e-12)
    half = frames(40).clone()
    half[..., :6] = 30
    assert float(psnr(half, frames(40))) == pytest.approx(10 * math.log10(65025 / 50), rel=1e-14)


def test_equal_frames_count_as_100_db() -> None:
    assert psnr(frames(7, 8), frames(7, 9))[0].tolist() == pytest.approx(
        [100.0, 48.1308036], rel=1e-8
    )


def test_ssim_of_flat_frames_by_hand() -> None:
    # Without variance only the means count: (2ab + c1) / (a^2 + b^2 + c1), c1 = (0.01 * 255)^2.
    c1 = 6.5025
    expected = [(2 * 100 * 120 + c1) / (100**2 + 120**2 + c1), c1 / (255**2 + c1), 1.0]
    assert ssim(frames(100, 0, 3), frames(120, 255, 3))[0].tolist() == pytest.approx(expected)


def test_ssim_of_a_negative_is_negative() -> None:
    stripes = frames(50).clone()
    stripes[..., ::2] = 200
    assert float(ssim(stripes, 250 - stripes)) < -0.9


def test_several_samples_share_a_truth() -> None:
    clips, truth = noisy_pair((2, 3, 2, 12, 13))
    samples = torch.stack([clips, clips.flip(-1), truth], dim=1)  # [M, K, C, T, H, W]
    for metric in (psnr, ssim):
        together = metric(samples, truth[:, None])
        assert together.shape == (2, 3, 2)
        assert torch.equal(together[:, 1], metric(clips.flip(-1), truth))


@pytest.mark.parametrize(
    ("clips", "truth", "message"),
    [
        (frames(1).float(), frames(1), "as uint8"),
        (frames(1, 2), frames(1), "of one size"),
        (frames(1)[0, 0], frames(1)[0, 0], "of one size"),
    ],
)
def test_what_cannot_be_compared_is_named(clips: Tensor, truth: Tensor, message: str) -> None:
    for metric in (psnr, ssim):
        with pytest.raises(ValueError, match=message):
            metric(clips, truth)


def test_ssim_needs_frames_as_large_as_its_window() -> None:
    with pytest.raises(ValueError, match="at least 11x11 pixels, got 10x12"):
        ssim(frames(1)[..., :10, :], frames(1)[..., :10, :])
