"""What is special about VGAN, iVGAN, TGAN and MoCoGAN, and bugs of public versions of them."""

from typing import Literal

import pytest
import torch
from model_cases import CASES, SHAPE
from torch import Tensor, nn

from vidgan.core.clip_ops import to_grey
from vidgan.core.randomness import BatchRandom
from vidgan.errors import UserError
from vidgan.models.base import GAN, ClipShape
from vidgan.models.ivgan import FrameStart, IVGANConfig, IVGANGenerator, damage_clip
from vidgan.models.mocogan import ImageDiscriminator, MoCoGANConfig, MoCoGANGenerator
from vidgan.models.parts.dcgan import SizePlan
from vidgan.models.tgan import TGANConfig, TGANDiscriminator
from vidgan.models.vgan import VGANConfig, VGANDiscriminator, VGANGenerator
from vidgan.sampling.generate import sample_clips, sample_latents
from vidgan.training.ema import estimate_statistics


def random_rows(count: int, *key: str) -> BatchRandom:
    return BatchRandom((0, *key), count, 0, count, torch.device("cpu"))


# ------------------------------------------------------------------------------------------------
# VGAN


def two_streams(mask_logit: float) -> dict[str, Tensor]:
    case = CASES["vgan"]
    generator = case.build().generator.eval()
    assert isinstance(generator, VGANGenerator)
    with torch.no_grad():
        generator.to_mask.weight.zero_()
        assert generator.to_mask.bias is not None
        generator.to_mask.bias.fill_(mask_logit)
        return generator.parts(case.latents(CASES["vgan"].build(), 2))


def test_vgan_without_mask_is_its_still_background() -> None:
    parts = two_streams(-1e4)
    assert torch.equal(parts["clip"], parts["background"])
    assert torch.equal(parts["clip"], parts["clip"][:, :, :1].expand_as(parts["clip"]))
    assert float((parts["clip"][0] - parts["clip"][1]).abs().max()) > 0


def test_vgan_with_a_full_mask_is_its_foreground() -> None:
    parts = two_streams(1e4)
    assert torch.equal(parts["clip"], parts["foreground"])
    assert float((parts["clip"] - parts["clip"][:, :, :1]).abs().max()) > 0


def test_vgan_scores_the_difference_of_its_logits() -> None:
    discriminator = CASES["vgan-layer-norm"].build().discriminators["discriminator"]
    assert isinstance(discriminator, VGANDiscriminator)
    clips = CASES["vgan"].clips(3)
    before = discriminator(clips).realness
    with torch.no_grad():
        assert discriminator.to_logits.bias is not None
        discriminator.to_logits.bias.copy_(torch.tensor([0.25, -0.5]))
    torch.testing.assert_close(discriminator(clips).realness, before + 0.75)
    # Two-way cross-entropy with "real" as class 0 is softplus of minus the difference.
    logits = torch.randn(4, 2, dtype=torch.float64)
    two_way = nn.functional.cross_entropy(logits, torch.zeros(4, dtype=torch.int64))
    binary = nn.functional.softplus(logits[:, 1] - logits[:, 0]).mean()
    torch.testing.assert_close(two_way, binary)


def test_vgan_starts_with_small_weights_and_no_biases() -> None:
    torch.manual_seed(0)
    gan = VGANConfig(width=16).build(SHAPE)
    for network in gan.networks.values():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                assert float(parameter.detach().abs().max()) == 0, name
            elif parameter.numel() > 2000:
                assert float(parameter.detach().std()) == pytest.approx(0.01, rel=0.1), name


def test_first_frame_is_the_context() -> None:
    case = CASES["vgan-first-frame"]
    gan, real = case.build(), case.clips(2)
    context, target = gan.make_context(real, random_rows(2))
    assert context is not None
    assert torch.equal(context, real[:, :, :1])
    assert torch.equal(target, real)
    assert gan.generator.context_overlap == 1


# ------------------------------------------------------------------------------------------------
# iVGAN


def test_channels_become_time_steps_without_moving_rows() -> None:
    start = FrameStart(IVGANConfig(width=4), 3, SizePlan(2, (2, 2)), 5).eval()
    features = torch.randn(2, 10, 4, 4)
    start.convs, start.norms = nn.ModuleList(), nn.ModuleList()
    split = start(features[:, :, None])
    assert split.shape == (2, 5, 2, 4, 4)
    for step in range(2):
        assert torch.equal(split[:, :, step], features[:, 5 * step : 5 * step + 5])


def test_tasks_get_the_context_they_need() -> None:
    real = CASES["ivgan"].clips(3)
    frames = {"ivgan": 0, "ivgan-predict": 1, "ivgan-colorize": 6, "ivgan-inpaint": 6}
    for name, count in frames.items():
        generator = CASES[name].build().generator
        assert (generator.context_frames, generator.context_overlap) == (count, count)
    predict, _ = CASES["ivgan-predict"].build().make_context(real, random_rows(3))
    assert predict is not None
    assert torch.equal(predict, real[:, :, :1])
    grey, target = CASES["ivgan-colorize"].build().make_context(real, random_rows(3))
    assert grey is not None
    assert grey.shape == (3, 1, 6, 16, 16)
    assert torch.equal(grey, to_grey(real))
    assert torch.equal(target, real)
    with pytest.raises(UserError, match="3 channels"):
        IVGANConfig(task="colorize").build(ClipShape(1, 6, 16, 16))


def test_salt_and_pepper_hits_a_quarter_of_the_pixels() -> None:
    real = torch.full((4, 3, 8, 16, 16), 0.3)
    damaged = damage_clip(real, "salt_and_pepper", random_rows(4))
    assert torch.equal(damaged.amin(dim=1), damaged.amax(dim=1)), "colours are hit together"
    for value, share in ((-1.0, 0.125), (1.0, 0.125), (0.3, 0.75)):
        assert float((damaged == value).float().mean()) == pytest.approx(share, abs=0.01)
    again = damage_clip(real, "salt_and_pepper", random_rows(4))
    assert torch.equal(damaged, again)


def test_boxes_have_the_published_size_and_place() -> None:
    real = torch.ones(6, 3, 2, 64, 64)
    fixed = damage_clip(real, "box", random_rows(6)) == 0
    assert bool(fixed[:, :, :, 23:43, 23:43].all())
    assert int(fixed.sum()) == 6 * 3 * 2 * 20 * 20
    moved = damage_clip(real, "moving_box", random_rows(6)) == 0
    assert int(moved.sum()) == int(fixed.sum())
    places = {tuple(torch.nonzero(clip[0, 0])[0].tolist()) for clip in moved}
    assert len(places) > 3


def test_one_standing_batch_samples_as_the_authors_of_ivgan_do() -> None:
    """In training mode, by the statistics of the batch; but any row of it alone."""
    case = CASES["ivgan"]
    gan = case.build()
    latents = case.latents(gan, 64)
    theirs = gan.generator.train()(latents)
    running = gan.generator.eval()(latents)
    estimate_statistics(gan.generator, [(latents, None, None)])
    ours = gan.generator(latents)
    # What is left is the unbiased variance, larger by 1 / (64 * 16).
    torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=0)
    assert float((running - theirs).detach().abs().max()) > 0.1
    torch.testing.assert_close(gan.generator(latents[:2]), ours[:2])


# ------------------------------------------------------------------------------------------------
# TGAN


def test_tgan_scores_time_steps_one_by_one() -> None:
    """The authors' reshape mixes channels and time wherever more than one step is left."""
    case = CASES["tgan-layer-norm"]
    discriminator = case.build().discriminators["discriminator"].double()
    assert isinstance(discriminator, TGANDiscriminator)
    seen: list[Tensor] = []
    discriminator.norms[-1].register_forward_hook(lambda *call: seen.append(call[2]))
    scores = discriminator(case.clips(2).double(), torch.tensor([0, 1]))
    features = nn.functional.leaky_relu(seen[0], 0.2)
    steps = features.shape[2]
    assert steps == 3
    for step in range(steps):
        one = discriminator.to_score(features[:, :, step])[:, :, 0, 0]
        torch.testing.assert_close(scores.realness[:, step : step + 1], one)


def test_tgan_makes_any_even_number_of_frames() -> None:
    config = CASES["tgan"].config
    for frames in (2, 4, 12, 20):
        gan = config.build(ClipShape(3, frames, 8, 8))
        clips = gan.generator(torch.randn(2, gan.generator.latent_dim()))
        assert clips.shape == (2, 3, frames, 8, 8)
        assert gan.discriminators["discriminator"](clips).realness.isfinite().all()
    with pytest.raises(UserError, match="even number of frames"):
        config.levels(ClipShape(3, 5, 8, 8))


def test_tgan_draws_uniform_latents_inside() -> None:
    case = CASES["tgan"]
    generator = case.build().generator.eval()
    seen: list[Tensor] = []
    generator.temporal.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    generator(torch.randn(4000, generator.latent_dim(), generator=torch.Generator().manual_seed(0)))
    values = seen[0].flatten()
    assert float(values.abs().max()) < 1
    counts = torch.histc(values, bins=4, min=-1, max=1) / len(values)
    torch.testing.assert_close(counts, torch.full((4,), 0.25), atol=0.01, rtol=0)


def test_label_reaches_discriminator_and_generator_of_its_row_only() -> None:
    case = CASES["tgan-layer-norm"]
    gan = case.build()
    clips, labels = case.clips(3).detach(), torch.tensor([0, 1, 2])
    other = torch.tensor([0, 1, 0])
    discriminator = gan.discriminators["discriminator"]
    moved = (
        (discriminator(clips, labels).realness - discriminator(clips, other).realness)
        .abs()
        .amax(dim=1)
    )
    assert [bool(row > 1e-9) for row in moved] == [False, False, True]
    with pytest.raises(ValueError, match="needs labels"):
        discriminator(clips)


@pytest.mark.parametrize("init", ["uniform", "lecun"])
def test_tgan_draws_initial_weights_as_the_authors(init: Literal["uniform", "lecun"]) -> None:
    torch.manual_seed(0)
    config = TGANConfig(temporal_width=64, image_width=32, width=16, init=init)
    gan = config.build(SHAPE)
    lecun = []
    for network in gan.networks.values():
        for name, parameter in network.named_parameters():
            values = parameter.detach()
            if name.endswith("bias"):
                assert not values.any(), name
            elif values.dim() > 1 and float(values.abs().max()) > 0.01:
                lecun.append(name)
                if values.numel() > 2000:
                    # Chainer counts the second axis of a weight, whatever the layer.
                    fan_in = values[0].numel()
                    assert float(values.std()) == pytest.approx(fan_in**-0.5, rel=0.1), name
            elif values.dim() > 1 and values.numel() > 2000:
                assert float(values.std()) == pytest.approx(0.01 / 3**0.5, rel=0.1), name
    networks = {name.split(".")[0] for name in lecun}
    others = {"temporal", "first", "convs", "to_score"}
    assert networks == (others if init == "lecun" else set())


# ------------------------------------------------------------------------------------------------
# MoCoGAN


def mocogan() -> tuple[GAN, MoCoGANGenerator]:
    gan = CASES["mocogan-categories"].build()
    assert isinstance(gan.generator, MoCoGANGenerator)
    return gan, gan.generator.eval()


def test_content_and_category_stay_while_motion_moves() -> None:
    _, generator = mocogan()
    codes = generator.codes(sample_latents(generator, [0, 1]), torch.tensor([2, 0]))
    still, moving = codes[:, :, :-3], codes[:, :, -3:]
    assert torch.equal(still, still[:, :1].expand_as(still))
    assert float((moving[:, 1:] - moving[:, :-1]).detach().abs().min()) > 0
    assert torch.equal(still[0, 0, 4:], torch.tensor([0.0, 0.0, 1.0]))


def test_clips_of_any_length_begin_alike() -> None:
    _, generator = mocogan()
    seeds, labels = [3, 4], torch.tensor([0, 1])
    short = sample_clips(generator, sample_latents(generator, seeds), labels)
    latents = sample_latents(generator, seeds, num_frames=64)
    long = sample_clips(generator, latents, labels, num_frames=64)
    assert long.shape[2] == 64
    assert int((long[:, :, : short.shape[2]].int() - short.int()).abs().max()) <= 1
    with pytest.raises(UserError, match=r"latents must be \[B, \d+\]"):
        sample_clips(generator, latents, labels)


def test_fixed_models_refuse_other_lengths_in_a_sentence() -> None:
    generator = CASES["vgan"].build().generator
    with pytest.raises(UserError, match="makes 6 frames, not 8"):
        sample_clips(generator, sample_latents(generator, [0]), num_frames=8)


def test_content_and_motion_can_be_exchanged() -> None:
    _, generator = mocogan()
    first, second = sample_latents(generator, [5, 6])
    mixed = first.clone()
    for name in ("start", "motion"):
        mixed[generator.latent_parts[name]] = second[generator.latent_parts[name]]
    labels = torch.tensor([1, 1, 1])
    codes = generator.codes(torch.stack([first, second, mixed]), labels)
    assert torch.equal(codes[2, :, :4], codes[0, :, :4])
    assert torch.equal(codes[2, :, -3:], codes[1, :, -3:])


def test_image_discriminator_sees_the_drawn_frame_alone() -> None:
    case = CASES["mocogan-full-patch"]
    image = case.build().discriminators["image"]
    assert isinstance(image, ImageDiscriminator)
    clips = case.clips(4)
    view = image.draw_view(4, torch.Generator().manual_seed(0))
    assert view is not None
    frames = image.frame_of(clips, view)
    changed = torch.randn_like(clips)
    rows = torch.arange(4)
    changed[rows, :, frames] = clips[rows, :, frames]
    torch.testing.assert_close(image(changed, view=view).realness, image(clips, view=view).realness)
    draws = image.draw_view(600, torch.Generator().manual_seed(1))
    assert draws is not None
    counts = image.frame_of(clips[:1].expand(600, -1, -1, -1, -1), draws).bincount(minlength=6)
    assert counts.min() > 60
    top = torch.full((1,), 1 - 2**-24)
    assert int(image.frame_of(torch.zeros(1, 3, 12, 8, 8), top)) == 11


def inputs_of_convolutions(network: nn.Module) -> list[Tensor]:
    """What the convolutions of a network will be given in its next passes."""
    inputs: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            module.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    return inputs


@pytest.mark.parametrize("kind", ["patch", "full"])
def test_mocogan_disturbs_what_the_authors_disturb(kind: Literal["patch", "full"]) -> None:
    """At 64 px: four noise layers in either image discriminator, four in the video one."""
    shape = ClipShape(3, 16, 64, 64)
    gan = MoCoGANConfig(width=2, noise=0.1, image_discriminator=kind).build(shape, 2)
    clips = torch.zeros(2, *shape)
    view = torch.tensor([0.25, 0.5])
    for name, scored in (("image", kind == "patch"), ("video", False)):
        network = gan.discriminators[name].eval()
        inputs = inputs_of_convolutions(network)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
        network(clips, view=view)
        # Of zeros by zero weights nothing is left but the noise.
        disturbed = [bool(x.any()) for x in inputs]
        assert disturbed == [True] * (len(inputs) - 1) + [scored]
        assert sum(disturbed) == 4


def test_video_discriminator_fits_any_length() -> None:
    for frames in (1, 2, 5, 8, 16, 24):
        gan = MoCoGANConfig(width=2).build(ClipShape(3, frames, 16, 16), 2)
        scores = gan.discriminators["video"](torch.randn(2, 3, frames, 16, 16))
        assert scores.realness.shape[1] >= 1
        assert scores.class_logits is not None
        assert scores.class_logits.shape == (2, 2)


# ------------------------------------------------------------------------------------------------
# Sizes


@pytest.mark.parametrize(
    "config", [VGANConfig(), IVGANConfig(), TGANConfig(), MoCoGANConfig()], ids=lambda c: c.NAME
)
@pytest.mark.parametrize(("height", "width"), [(4, 4), (24, 24), (16, 32)])
def test_other_sizes_are_refused(
    config: VGANConfig | IVGANConfig | TGANConfig | MoCoGANConfig, height: int, width: int
) -> None:
    with pytest.raises(UserError, match="makes square clips of 8, 16, 32"):
        config.levels(ClipShape(3, 8, height, width))


@pytest.mark.parametrize("config", [VGANConfig(), IVGANConfig()], ids=lambda c: c.NAME)
def test_a_single_frame_is_no_clip(config: VGANConfig | IVGANConfig) -> None:
    with pytest.raises(UserError, match="at least 2 frames"):
        config.levels(ClipShape(3, 1, 16, 16))


def test_ivgan_generator_has_offsets_but_no_factors() -> None:
    generator = CASES["ivgan"].build().generator
    assert isinstance(generator, IVGANGenerator)
    names = [name for name, _ in generator.named_parameters() if "norm" in name]
    assert names
    assert all(name.endswith("bias") for name in names)
    assert TGANConfig().discriminator_norm == "batch"
