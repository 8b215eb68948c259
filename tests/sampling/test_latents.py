"""Latents by seed: every part and every frame draws numbers of its own."""

import pytest
import torch

from vidgan.models import build_gan
from vidgan.models.base import Generator
from vidgan.models.mocogan import MoCoGANConfig
from vidgan.sampling.generate import sample_latents


@pytest.fixture(scope="module")
def mocogan() -> Generator:
    """Content of 5 numbers, then 3 of motion for each of 8 frames."""
    config = MoCoGANConfig(content=5, motion=3, width=2)
    return build_gan(config, (3, 8, 16, 16)).generator.eval()


def test_every_frame_draws_noise_of_its_own(mocogan: Generator) -> None:
    (name,) = mocogan.frame_noise
    latents = sample_latents(mocogan, range(400))
    frames = latents[:, mocogan.latent_parts[name]].unflatten(1, (8, mocogan.frame_noise[name]))
    assert len(frames[0].unique()) == frames[0].numel()
    # Standard normal, and neither frames nor numbers of a frame go together: 1 / sqrt(400) = 0.05.
    columns = frames.flatten(1)
    torch.testing.assert_close(
        torch.corrcoef(columns.T), torch.eye(columns.shape[1]), rtol=0, atol=0.25
    )
    assert float(columns.mean().abs()) < 0.05
    assert float((columns.std() - 1).abs()) < 0.05


def test_a_longer_clip_begins_with_the_noise_of_a_shorter_one(mocogan: Generator) -> None:
    short, long = (sample_latents(mocogan, [7, 8], num_frames=count) for count in (8, 12))
    assert long.shape[1] > short.shape[1]
    assert torch.equal(long[:, : short.shape[1]], short)
