"""What every growing model promises of its levels and fades."""

from collections.abc import Iterator

import pytest
import torch
from model_cases import CASES, Case
from torch import Tensor, nn

from vidgan.core.clip_ops import pool_clip, upsample_clip
from vidgan.models.base import GAN, ClipShape, Network, Stage
from vidgan.models.mocogan import MoCoGANConfig
from vidgan.models.parts.growth import GrowingGAN, growth_factors
from vidgan.models.tgan import TGANConfig

GROWING = {
    name: case for name, case in CASES.items() if len(case.config.levels(case.clip_shape)) > 1
}
PLACES = [
    (name, level)
    for name, case in GROWING.items()
    for level in range(1, len(case.config.levels(case.clip_shape)))
]


def test_growing_models_are_among_the_cases() -> None:
    assert {"pvgan", "tgan-growing", "mocogan-growing", "hrvgan_repo"} <= set(GROWING)


def grown(case: Case) -> GrowingGAN:
    """A growing model in float64 and eval mode, without zeros that would hide mistakes."""
    gan = case.build().train(False)
    gan.to(dtype=torch.float64)
    assert isinstance(gan, GrowingGAN)
    torch.manual_seed(1)
    for network in gan.networks.values():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter, std=0.1)
    return gan


def enter(gan: GrowingGAN, level: int, alpha: float = 1.0) -> None:
    frames, resolution = gan.levels[level]
    gan.set_stage(
        Stage(level=level, frames=frames, resolution=resolution, batch_size=4, alpha=alpha)
    )


def generate(case: Case, gan: GAN) -> Tensor:
    clips: Tensor = gan.generator(case.latents(gan, 4), case.labels(gan, 4)).detach()
    return clips


def scores(case: Case, gan: GAN, clips: Tensor) -> list[Tensor]:
    """Realness by every discriminator in a view that does not depend on the level."""
    rng = torch.Generator().manual_seed(3)
    return [
        d(clips, case.labels(gan, len(clips)), None, d.draw_view(len(clips), rng)).realness.detach()
        for d in gan.discriminators.values()
    ]


def real_clips(case: Case, gan: GrowingGAN, level: int) -> Tensor:
    frames, side = gan.levels[level]
    channels = case.clip_shape.channels
    rng = torch.Generator().manual_seed(2)
    return torch.rand(4, channels, frames, side, side, generator=rng, dtype=torch.float64) * 2 - 1


def same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", GROWING)
def test_every_level_makes_and_scores_clips_of_its_size(name: str) -> None:
    case = GROWING[name]
    gan = grown(case)
    assert gan.levels == case.config.levels(case.clip_shape)
    assert gan.levels[-1] == (case.clip_shape.frames, case.clip_shape.height)
    for level, (frames, side) in enumerate(gan.levels):
        for alpha in (0.5, 1.0):
            enter(gan, level, alpha)
            clips = generate(case, gan)
            assert clips.shape == (4, case.clip_shape.channels, frames, side, side)
            for realness in scores(case, gan, clips):
                assert realness.isfinite().all()


@pytest.mark.parametrize(("name", "level"), PLACES)
def test_alpha_zero_is_the_previous_stage_enlarged(name: str, level: int) -> None:
    case = GROWING[name]
    gan = grown(case)
    factor = growth_factors(gan.levels)[level]
    clips = real_clips(case, gan, level)
    enter(gan, level - 1)
    before, shrunk = generate(case, gan), scores(case, gan, pool_clip(clips, factor))
    enter(gan, level, alpha=0.0)
    same(generate(case, gan), upsample_clip(before, factor))
    for fading, previous in zip(scores(case, gan, clips), shrunk, strict=True):
        same(fading, previous)


@pytest.mark.parametrize(("name", "level"), PLACES)
def test_alpha_one_does_not_depend_on_the_previous_stage(name: str, level: int) -> None:
    case = GROWING[name]
    gan = grown(case)
    clips = real_clips(case, gan, level)
    enter(gan, level)
    before = [generate(case, gan), *scores(case, gan, clips)]
    for network in gan.networks.values():
        for parameter in unused(network):
            nn.init.constant_(parameter, torch.nan)
    after = [generate(case, gan), *scores(case, gan, clips)]
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)
    # The old heads are among what was spoilt: any fade shows it.
    enter(gan, level, alpha=0.99)
    assert not generate(case, gan).isfinite().any()
    assert not any(realness.isfinite().any() for realness in scores(case, gan, clips))


def unused(network: Network) -> Iterator[nn.Parameter]:
    return (parameter for parameter in network.parameters() if not parameter.requires_grad)


@pytest.mark.parametrize(("name", "level"), PLACES)
def test_fade_is_linear_in_alpha(name: str, level: int) -> None:
    case = GROWING[name]
    gan = grown(case)
    clips = {}
    for alpha in (0.0, 0.25, 1.0):
        enter(gan, level, alpha)
        clips[alpha] = generate(case, gan)
    same(clips[0.25], 0.75 * clips[0.0] + 0.25 * clips[1.0])
    assert float((clips[1.0] - clips[0.0]).abs().max()) > 1e-6


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize(("name", "level"), [(name, 0) for name in GROWING] + PLACES)
def test_gradient_reaches_exactly_what_the_stage_uses(name: str, level: int, alpha: float) -> None:
    case = GROWING[name]
    gan = grown(case).train()
    assert isinstance(gan, GrowingGAN)
    enter(gan, level, alpha)
    clips = gan.generator(case.latents(gan, 8), case.labels(gan, 8))
    total = torch.zeros(())
    rng = torch.Generator().manual_seed(3)
    for d in gan.discriminators.values():
        found = d(clips, case.labels(gan, 8), None, d.draw_view(8, rng))
        total = total + (found.realness * torch.randn_like(found.realness)).sum()
        if found.class_logits is not None:
            total = total + (found.class_logits * torch.randn_like(found.class_logits)).sum()
    total.backward()
    for network in gan.networks.values():
        for key, parameter in network.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, key
                assert parameter.grad.abs().max() > 0, key
            else:
                assert parameter.grad is None, key


# ------------------------------------------------------------------------------------------------
# TGAN and MoCoGAN: growth ends with the published networks


def counts(config: TGANConfig | MoCoGANConfig, level: int) -> tuple[list[int], list[int]]:
    """Parameters in use at a level, and all, of every network at 16 frames of 64 px."""
    with torch.device("meta"):
        gan = config.build(ClipShape(3, 16, 64, 64), 0 if isinstance(config, TGANConfig) else 6)
    assert isinstance(gan, GrowingGAN)
    enter(gan, level)
    used = [sum(p.numel() for _, p in n.parameters_in_use()) for n in gan.networks.values()]
    return used, [sum(p.numel() for p in n.parameters()) for n in gan.networks.values()]


def test_grown_tgan_has_the_published_counts() -> None:
    used, everything = counts(TGANConfig(growing=True), 3)
    assert used == [825_444 + 3_622_691, 11_032_385]
    # Colours at 8, 16 and 32 px: 3x3 kernels from 256, 128 and 64 channels.
    assert everything[0] - used[0] == 27 * (256 + 128 + 64) + 3 * 3
    # First layers at 8, 16 and 32 px: 4x4x4 kernels to 512, 256 and 128 channels.
    assert everything[1] - used[1] == (3 * 64 + 1) * (512 + 256 + 128)


def test_grown_mocogan_has_the_published_counts() -> None:
    # Patch discriminators start at 16 px.
    used, everything = counts(MoCoGANConfig(growing=True), 2)
    assert used == [3_298_836, 663_296, 11_253_504]
    assert everything[0] - used[0] == 3 * 16 * (256 + 128)
    assert everything[1] - used[1] == 3 * 16 * (256 + 128)
    # Kernels over 10 and 7 frames stand for 3 and 2 convolutions over 4.
    assert everything[2] - used[2] == 3 * 16 * (10 * 256 + 7 * 128)


def test_frames_of_grown_models() -> None:
    shape = ClipShape(3, 16, 64, 64)
    assert TGANConfig(growing=True).levels(shape) == ((2, 8), (4, 16), (8, 32), (16, 64))
    assert MoCoGANConfig(growing=True).levels(shape) == ((16, 16), (16, 32), (16, 64))
    full = MoCoGANConfig(growing=True, image_discriminator="full")
    assert full.levels(shape) == ((16, 8), (16, 16), (16, 32), (16, 64))
    assert TGANConfig().levels(shape) == ((16, 64),)
    # Small sides keep a length that cannot be halved as often.
    short = ClipShape(3, 6, 64, 64)
    assert TGANConfig(growing=True).levels(short) == ((3, 8), (3, 16), (3, 32), (6, 64))
