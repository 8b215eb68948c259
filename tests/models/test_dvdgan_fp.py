"""DVD-GAN-FP: published sizes, what of the given frames each network sees."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vidgan.core.randomness import BatchRandom
from vidgan.errors import UserError
from vidgan.losses.recipes import LossConfig, make_loss
from vidgan.models import build_gan
from vidgan.models.base import GAN, Stage
from vidgan.models.dvdgan_fp import DVDGANFPConfig
from vidgan.training.ema import copy_generator
from vidgan.training.settings import TrainingConfig
from vidgan.training.step import Batch, TrainingStep

TINY = DVDGANFPConfig(channels=3, latent=6, spatial_frames=2, context_frames=2)
SHAPE = (3, 6, 16, 16)


def tiny(**changes: Any) -> GAN:
    torch.manual_seed(0)
    return build_gan(replace(TINY, **changes), SHAPE, 3).to(dtype=torch.float64)


def double(*shape: int, seed: int = 5) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def numbered_clips(count: int) -> Tensor:
    """uint8 clips whose frame t has the value 20 t everywhere."""
    frames = 20 * torch.arange(SHAPE[1], dtype=torch.uint8)
    return frames[:, None, None].expand(count, *SHAPE)


def rows(count: int) -> BatchRandom:
    return BatchRandom((0,), count, 0, count, torch.device("cpu"))


def test_encoder_has_the_recorded_count() -> None:
    with torch.device("meta"):
        generator: Any = build_gan(DVDGANFPConfig(), (3, 16, 64, 64), 600).generator
    encoder = generator.encoder
    assert sum(p.numel() for p in encoder.blocks.parameters()) == 77_679_360
    # 3x3 convolutions from 5 frames' features to the GRUs' widths, 4 px first.
    assert [m.weight.shape[:2] for m in encoder.mixers] == [
        (1024, 5 * 2048),
        (1024, 5 * 1024),
        (1024, 5 * 512),
        (512, 5 * 256),
    ]


@pytest.mark.parametrize(("context", "future"), [(5, 11), (1, 15)])
def test_published_lengths_pass_their_shapes(context: int, future: int) -> None:
    with torch.device("meta"):
        config = DVDGANFPConfig(channels=8, context_frames=context)
        gan = build_gan(config, (3, 16, 64, 64))
        given = torch.empty(1, 3, context, 64, 64)
        clip = gan.generator(torch.empty(1, 120), None, given)
    assert clip.shape == (1, 3, future, 64, 64)


def test_data_frames_count_given_and_future_ones() -> None:
    gan = tiny()
    real = double(2, *SHAPE)
    context, target = gan.make_context(real, rows(2))
    assert context is not None
    assert torch.equal(torch.cat([context, target], dim=2), real)
    assert (gan.generator.context_frames, gan.generator.context_overlap) == (2, 0)
    assert gan.generator(double(2, 6), None, context).shape == target.shape
    with pytest.raises(UserError, match="must leave something to predict"):
        tiny(context_frames=6)
    with pytest.raises(UserError, match=r"spatial_frames=5 must lie in 1\.\.4"):
        tiny(spatial_frames=5)


def test_states_come_from_features_of_their_own_size() -> None:
    generator: Any = tiny().generator
    states = generator.initial_states(double(2, 3, 2, 16, 16))
    assert [tuple(state.shape) for state in states] == [
        (2, scale.gru.candidate.weight.shape[0], side, side)
        for scale, side in zip(generator.scales, (4, 8), strict=True)
    ]
    assert all((state >= 0).all() for state in states)
    with pytest.raises(ValueError, match="needs 2 given frames"):
        generator(double(2, 6))


def test_every_given_frame_and_their_order_matter() -> None:
    generator, latent = tiny().train(False).generator, double(1, 6)
    context = double(1, 3, 2, 16, 16)
    clip = generator(latent, None, context)
    for t in range(2):
        other = context.clone()
        other[:, :, t] = -other[:, :, t]
        moved = (generator(latent, None, other) - clip).abs().amax(dim=(0, 1, 3, 4))
        assert moved.min() > 0
    assert not torch.allclose(generator(latent, None, context.flip(2)), clip)


def test_networks_see_the_frames_they_may_see_in_a_step() -> None:
    gan = tiny()
    gan.to(dtype=torch.float32)
    seen: dict[str, list[Tensor]] = {name: [] for name in gan.discriminators}
    for name, discriminator in gan.discriminators.items():
        score_clip = discriminator.score_clip

        def noted(
            clip: Tensor, labels: Tensor | None, of: str = name, call: Any = score_clip
        ) -> Any:
            seen[of].append(clip.detach())
            return call(clip, labels)

        discriminator.score_clip = noted  # type: ignore[assignment]
    loss, settings = make_loss(LossConfig(name="hinge")), TrainingConfig(fakes="fresh")
    step = TrainingStep(gan, copy_generator(gan.generator), loss, settings, seed=1)
    step.enter(Stage(level=0, frames=6, resolution=16, batch_size=4))
    step.run(0, 0, lambda: Batch(numbered_clips(4), None, 4, 0))

    def values(clip: Tensor) -> Tensor:
        """Number of each frame of clips that `numbered_clips` made, `[B, T]`."""
        return (clip.mean(dim=(1, 3, 4)) + 1) * 127.5 / 20

    # The discriminators' update scores 4 reals and 4 fakes, the generator's 4 fakes.
    both, fakes = seen["spatial"]
    assert both.shape == (8, 3, 2, 16, 16)
    assert values(both[:4]).round().min() >= 2
    flat = torch.cat([both[4:], fakes]).std(dim=(3, 4))
    assert flat.min() > 1e-3, "given frames are flat, generated ones are not"

    both, fakes = seen["temporal"]
    assert both.shape == (8, 3, 6, 8, 8)
    torch.testing.assert_close(values(both[:4]), torch.arange(6.0).expand(4, -1))
    for clips in (both[4:], fakes):
        torch.testing.assert_close(values(clips)[:, :2], torch.arange(2.0).expand(4, -1))
        assert clips[:, :, 2:].std(dim=(3, 4)).min() > 1e-3


def test_temporal_discriminator_needs_the_given_frames() -> None:
    with pytest.raises(ValueError, match="needs the given frames"):
        tiny().discriminators["temporal"](double(1, 3, 4, 16, 16))
