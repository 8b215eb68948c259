"""Progressive Video GAN: published sizes, growth, fades, fast and plain networks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vidgan.core.clip_ops import pool_clip, upsample_clip
from vidgan.errors import UserError
from vidgan.models import build_gan, list_models, model_config_class
from vidgan.models.base import GAN, ClipShape, Stage
from vidgan.models.parts.growth import growth_factors
from vidgan.models.parts.layers import leaky_relu
from vidgan.models.pvgan import ProgressiveConfig

TINY = ProgressiveConfig(channels=(6, 5, 4), latent=7, label_dim=3, group_size=2, frames=(3, 3, 6))
TINY_SHAPE = (3, 6, 16, 16)


def stage_of(gan: GAN, level: int, alpha: float = 1.0) -> Stage:
    frames, resolution = gan.generator.levels[level]  # type: ignore[index,union-attr,misc]
    return Stage(level=level, frames=frames, resolution=resolution, batch_size=4, alpha=alpha)


def tiny(seed: int = 0, **changes: Any) -> GAN:
    torch.manual_seed(seed)
    gan = build_gan(replace(TINY, **changes), TINY_SHAPE).to(dtype=torch.float64)
    # Untrained biases are zero and would hide mistakes in their handling.
    for network in gan.networks.values():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter)
    return gan


def double(*shape: int, seed: int = 5) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------
# Published sizes


def on_meta(config: ProgressiveConfig, frames: int, side: int) -> GAN:
    with torch.device("meta"):
        return build_gan(config, (3, frames, side, side))


def count(network: nn.Module, only_in_use: bool) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not only_in_use)


@pytest.mark.parametrize(
    ("side", "frames", "in_use", "with_all_heads"),
    [
        (256, 32, (3_702_091, 3_705_801), (3_703_597, 3_707_785)),
        (128, 32, (3_696_915, 3_700_625), (3_698_370, 3_702_545)),
        (64, 16, (3_676_195, 3_679_905), None),
        (32, 8, (3_593_283, 3_596_993), None),
    ],
)
def test_parameter_counts_are_the_recorded_ones(
    side: int, frames: int, in_use: tuple[int, int], with_all_heads: tuple[int, int] | None
) -> None:
    gan = on_meta(ProgressiveConfig(), frames, side)
    assert tuple(count(n, True) for n in gan.networks.values()) == in_use
    if with_all_heads:
        assert tuple(count(n, False) for n in gan.networks.values()) == with_all_heads


def test_image_model_has_the_recorded_counts() -> None:
    """Clips of one frame: the progressive GAN of Karras et al. 2018 at 1024 px."""
    config = ProgressiveConfig(latent=512, channel_base=8192, channel_max=512)
    gan = on_meta(config, 1, 1024)
    counts = tuple(count(n, only_in_use=False) for n in gan.networks.values())
    assert counts == (23_079_115, 23_087_249)
    with torch.device("meta"):
        for level, side in ((0, 4), (8, 1024)):
            gan.set_stage(stage_of(gan, level))
            clip = gan.generator(torch.empty(1, 512))
            assert clip.shape == (1, 3, 1, side, side)
            assert gan.discriminators["discriminator"](clip).realness.shape == (1, 1)


def test_sliced_head_replaces_the_last_layer() -> None:
    plain = on_meta(ProgressiveConfig(), 32, 256).discriminators["discriminator"]
    sliced = on_meta(ProgressiveConfig(head="sliced_wasserstein"), 32, 256)
    discriminator = sliced.discriminators["discriminator"]
    assert count(discriminator.head, True) == 16_640  # type: ignore[arg-type]
    assert count(discriminator, True) - 16_640 == 3_705_672
    assert count(plain, True) - 129 == 3_705_672
    four = on_meta(ProgressiveConfig(head="sliced_wasserstein", head_blocks=4), 32, 256)
    assert count(four.discriminators["discriminator"].head, True) == 66_560  # type: ignore[arg-type]


def test_one_other_width_gives_other_counts() -> None:
    widths = (128, 128, 128, 64, 32, 16, 9)
    gan = on_meta(ProgressiveConfig(channels=widths), 32, 256)
    # The last level has 9 channels for 8: up, conv and head of G; head, conv, down of D.
    grown_g = (16 * 27 + 1) + (81 - 64) * 27 + 1 + 3
    grown_d = (3 + 1) + (81 - 64) * 27 + 1 + 16 * 27
    counts = tuple(count(n, True) for n in gan.networks.values())
    assert counts == (3_702_091 + grown_g, 3_705_801 + grown_d)


def test_parameter_counts_do_not_depend_on_the_frame_plan() -> None:
    plans: tuple[Any, ...] = ("thesis", "code")
    counts = [
        count(on_meta(ProgressiveConfig(frame_plan=p), 32, 256).generator, False) for p in plans
    ]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("side", "num_frames", "plan", "frames"),
    [
        (256, 32, "auto", (4, 8, 8, 8, 16, 16, 32)),
        (256, 32, "code", (4, 8, 8, 16, 16, 32, 32)),
        (128, 32, "auto", (4, 8, 8, 16, 16, 32)),
        (128, 16, "auto", (4, 8, 8, 8, 16, 16)),
        (64, 16, "auto", (4, 8, 8, 16, 16)),
        (32, 8, "auto", (4, 8, 8, 8)),
        (32, 16, "auto", (4, 8, 8, 16)),
        (16, 8, "auto", (4, 8, 8)),
        (16, 16, "auto", (4, 8, 16)),
        (8, 12, "auto", (6, 12)),
        (64, 7, "auto", (7, 7, 7, 7, 7)),
        (4, 5, "auto", (5,)),
    ],
)
def test_frame_plans(side: int, num_frames: int, plan: Any, frames: tuple[int, ...]) -> None:
    config = ProgressiveConfig(frame_plan=plan)
    levels = config.levels(ClipShape(3, num_frames, side, side))
    assert tuple(level.frames for level in levels) == frames
    assert [level.resolution for level in levels] == [4 * 2**i for i in range(len(levels))]


@pytest.mark.parametrize(
    ("config", "shape", "words"),
    [
        (ProgressiveConfig(), (3, 8, 12, 12), "not 12x12"),
        (ProgressiveConfig(), (3, 8, 16, 32), "not 16x32"),
        (ProgressiveConfig(), (3, 8, 2, 2), "not 2x2"),
        (ProgressiveConfig(frame_plan="thesis"), (3, 32, 128, 128), "no level of 32 frames"),
        (ProgressiveConfig(frames=(4, 8)), (3, 8, 16, 16), "must list 3 lengths"),
        (ProgressiveConfig(frames=(4, 8, 8)), (3, 16, 16, 16), "end with data.frames=16"),
        (ProgressiveConfig(frames=(2, 8, 8)), (3, 8, 16, 16), "only stay or double"),
        (ProgressiveConfig(channels=(8, 8)), (3, 8, 16, 16), "lists 2 widths"),
        (ProgressiveConfig(head_classes="dual"), (3, 8, 16, 16), "set loss.name=swgan"),
    ],
)
def test_impossible_settings_are_one_sentence(
    config: ProgressiveConfig, shape: tuple[int, int, int, int], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        build_gan(config, shape)


def test_models_are_found_by_name_or_class() -> None:
    assert "pvgan" in list_models()
    assert model_config_class("vidgan.models.pvgan:ProgressiveConfig") is ProgressiveConfig
    for name, words in [
        ("pvgam", "choose one of .*pvgan"),
        ("vidgan.nothing:X", "--trust vidgan.nothing:X"),
        ("vidgan.models.base:Stage", "not a subclass"),
    ]:
        with pytest.raises(UserError, match=words):
            model_config_class(name)


# ------------------------------------------------------------------------------------------------
# Growth


def test_growth_factors_follow_the_levels() -> None:
    levels = TINY.levels(ClipShape(*TINY_SHAPE))
    assert growth_factors(levels) == ((1, 1, 1), (1, 2, 2), (2, 2, 2))


@pytest.mark.parametrize("level", [1, 2])
def test_generator_at_alpha_zero_is_the_previous_level_enlarged(level: int) -> None:
    gan = tiny()
    latents = double(2, 7)
    gan.set_stage(stage_of(gan, level - 1))
    before = gan.generator(latents)
    gan.set_stage(stage_of(gan, level, alpha=0.0))
    factor = growth_factors(gan.generator.levels)[level]  # type: ignore[arg-type]
    assert torch.equal(gan.generator(latents), upsample_clip(before, factor))


@pytest.mark.parametrize("level", [1, 2])
def test_discriminator_at_alpha_zero_is_the_previous_level_on_shrunk_clips(level: int) -> None:
    gan = tiny()
    frames, side = gan.generator.levels[level]  # type: ignore[index,union-attr,misc]
    clips = double(2, 3, frames, side, side)
    discriminator = gan.discriminators["discriminator"]
    gan.set_stage(stage_of(gan, level, alpha=0.0))
    fading = discriminator(clips).realness
    gan.set_stage(stage_of(gan, level - 1))
    factor = growth_factors(gan.generator.levels)[level]  # type: ignore[arg-type]
    torch.testing.assert_close(fading, discriminator(pool_clip(clips, factor)).realness)


def test_fade_is_linear_in_alpha_and_ends_at_the_stable_level() -> None:
    gan = tiny()
    latents = double(2, 7)
    clips = {}
    for alpha in (0.0, 0.25, 1.0):
        gan.set_stage(stage_of(gan, 2, alpha))
        clips[alpha] = gan.generator(latents)
    torch.testing.assert_close(clips[0.25], 0.75 * clips[0.0] + 0.25 * clips[1.0])


def test_discriminator_blends_features_by_alpha() -> None:
    gan = tiny()
    d: Any = gan.discriminators["discriminator"]
    clip = double(2, 3, 6, 16, 16)
    gan.set_stage(stage_of(gan, 2, 0.3))
    new = d.blocks[2](leaky_relu(d.from_rgb[2](clip)))
    old = leaky_relu(d.from_rgb[1](pool_clip(clip, (2, 2, 2))))
    features = 0.7 * old + 0.3 * new
    expected = d.blocks[0](d.blocks[1](features))
    torch.testing.assert_close(d.encode(clip), expected)


def test_stable_level_does_not_touch_the_old_heads() -> None:
    gan = tiny()
    gan.set_stage(stage_of(gan, 2))
    for network in gan.networks.values():
        heads = {name for name, _ in network.parameters_in_use() if "rgb" in name}
        assert {name.split(".")[1] for name in heads} == {"2"}
    clips = [gan.generator(double(2, 7))]
    with torch.no_grad():
        gan.generator.to_rgb[1].weight.add_(1)  # type: ignore[index,union-attr]
    clips.append(gan.generator(double(2, 7)))
    assert torch.equal(*clips)


@pytest.mark.parametrize(
    ("level", "alpha", "blocks", "heads"),
    [(0, 1.0, 1, {"0"}), (1, 1.0, 2, {"1"}), (1, 0.5, 2, {"0", "1"}), (2, 0.5, 3, {"1", "2"})],
)
def test_parameters_in_use_follow_the_stage(
    level: int, alpha: float, blocks: int, heads: set[str]
) -> None:
    gan = tiny()
    gan.set_stage(stage_of(gan, level, alpha))
    for network in gan.networks.values():
        names = [name.split(".") for name, _ in network.parameters_in_use()]
        assert {n[1] for n in names if n[0] == "blocks"} == {str(i) for i in range(blocks)}
        assert {n[1] for n in names if n[0] in ("to_rgb", "from_rgb")} == heads


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_gradient_reaches_everything_in_use_at_every_stage(level: int, alpha: float) -> None:
    gan = tiny()
    gan.set_stage(stage_of(gan, level, alpha))
    scores = gan.discriminators["discriminator"](gan.generator(double(4, 7))).realness
    (scores * double(*scores.shape, seed=8)).sum().backward()
    for network in gan.networks.values():
        for name, parameter in network.named_parameters():
            used = parameter.requires_grad
            assert (parameter.grad is not None) == used, name
            assert not used or parameter.grad.abs().max() > 0, name  # type: ignore[union-attr]


def test_reals_fade_like_fakes() -> None:
    gan = tiny()
    real = double(2, 3, 6, 16, 16)
    gan.set_stage(stage_of(gan, 2))
    assert gan.prepare_real(real) is real
    gan.set_stage(stage_of(gan, 2, 0.25))
    blurred = upsample_clip(pool_clip(real, (2, 2, 2)), (2, 2, 2))
    torch.testing.assert_close(gan.prepare_real(real), 0.75 * blurred + 0.25 * real)
    # Level 1 grows in space alone: reals keep their frames apart.
    gan.set_stage(stage_of(gan, 1, 0.0))
    short = double(2, 3, 3, 8, 8)
    prepared = gan.prepare_real(short)
    torch.testing.assert_close(prepared, upsample_clip(pool_clip(short, (1, 2, 2)), (1, 2, 2)))
    gan.set_stage(stage_of(gan, 0))
    assert gan.prepare_real(short) is short


def test_wrong_clip_sizes_are_refused() -> None:
    gan = tiny()
    with pytest.raises(ValueError, match="expected clips of"):
        gan.discriminators["discriminator"](double(2, 3, 3, 16, 16))
    with pytest.raises(ValueError, match="makes 6 frames, not 12"):
        gan.generator.parts(double(2, 7), num_frames=12)


# ------------------------------------------------------------------------------------------------
# Fast and plain networks


def derivatives(gan: GAN, run: Callable[[GAN], Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """Output, gradients, and gradients of the squared input gradient, of one network."""
    output = run(gan)
    loss = (output * torch.sin(output)).sum()
    parameters = [p for n in gan.networks.values() for _, p in n.parameters_in_use()]
    wanted = [*inputs, *parameters]
    first = torch.autograd.grad(loss, wanted, create_graph=True, allow_unused=True)
    square = first[0].square().sum()
    second = torch.autograd.grad(square, wanted, allow_unused=True)
    found = [output, *(g for g in (*first, *second) if g is not None)]
    return [value.detach() for value in found]


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_whole_networks_agree_fast_and_plain(network: str, alpha: float) -> None:
    found = []
    for fast in (True, False):
        gan = tiny(fast=fast, head="sliced_wasserstein")
        gan.set_stage(stage_of(gan, 2, alpha))
        if network == "generator":
            given = double(2, 7).requires_grad_()
            found.append(derivatives(gan, lambda gan, x=given: gan.generator(x), [given]))
        else:
            given = double(2, 3, 6, 16, 16).requires_grad_()
            found.append(
                derivatives(
                    gan,
                    lambda gan, x=given: gan.discriminators["discriminator"](x).realness,
                    [given],
                )
            )
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        assert float((one - other).abs().max()) <= 1e-12 * max(1.0, float(other.abs().max()))


# ------------------------------------------------------------------------------------------------
# Conditioning


def test_label_moves_scores_of_its_row_in_every_way_of_conditioning() -> None:
    dual = {"head": "sliced_wasserstein", "head_classes": "dual"}
    for changes in ({}, {"head": "sliced_wasserstein"}, dual, {"conditioning": "auxiliary"}):
        torch.manual_seed(0)
        gan = build_gan(replace(TINY, **changes), TINY_SHAPE, 3)  # type: ignore[arg-type]
        discriminator: Any = gan.discriminators["discriminator"]
        with torch.no_grad():
            for name, parameter in discriminator.named_parameters():
                if name in ("head.slopes", "head.offsets"):
                    parameter.add_(torch.randn_like(parameter))
        clips = torch.randn(4, *TINY_SHAPE)
        one = discriminator(clips, torch.tensor([0, 1, 2, 0]))
        other = discriminator(clips, torch.tensor([0, 1, 0, 0]))
        moved = (one.realness != other.realness).any(dim=1).tolist()
        if discriminator.conditioning == "auxiliary":
            assert moved == [False] * 4
            assert one.class_logits.shape == (4, 3)
        else:
            assert moved == [False, False, True, False]
            assert one.class_logits is None


def test_projection_adds_the_inner_product() -> None:
    torch.manual_seed(0)
    gan = build_gan(TINY, TINY_SHAPE, 3)
    discriminator: Any = gan.discriminators["discriminator"]
    clips, labels = torch.randn(2, *TINY_SHAPE), torch.tensor([2, 0])
    encoding = discriminator.encode(clips)
    expected = discriminator.head(encoding)[:, 0]
    expected = expected + (discriminator.class_vectors[labels] * encoding).sum(1)
    torch.testing.assert_close(discriminator(clips, labels).realness[:, 0], expected)


def test_scores_are_float32_under_autocast() -> None:
    torch.manual_seed(0)
    gan = build_gan(replace(TINY, head="sliced_wasserstein"), TINY_SHAPE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        clips = gan.generator(torch.randn(2, 7))
        scores = gan.discriminators["discriminator"](clips)
    assert clips.dtype == torch.bfloat16
    assert scores.realness.dtype == torch.float32
    assert scores.encoding is not None
    assert scores.encoding.dtype == torch.float32


def test_a_large_label_embedding_does_not_drown_the_latent() -> None:
    torch.manual_seed(0)
    generator: Any = build_gan(TINY, TINY_SHAPE, 3).to(dtype=torch.float64).generator
    latents, labels = double(4, generator.latent_dim()), torch.zeros(4, dtype=torch.long)
    with torch.no_grad():
        before = generator(latents, labels)
        generator.label_embedding *= 1000
        after = generator(latents, labels)
    # What is left is the 1e-8 beside the mean square that the embedding is divided by.
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


def test_one_hot_labels_and_latents_are_normalised_as_one_vector() -> None:
    generator: Any = tiny_labelled(label_input="one-hot").generator
    latents, labels = double(3, 7), torch.tensor([2, 0, 1])
    seen: list[Tensor] = []
    generator.blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    generator(latents, labels)
    rows = torch.cat([latents, torch.eye(3, dtype=torch.float64)[labels]], dim=1)
    expected = rows * (10**0.5 / rows.norm(dim=1, keepdim=True))
    torch.testing.assert_close(seen[0], expected, rtol=1e-6, atol=1e-6)
    assert "label_embedding" not in dict(generator.named_parameters())


def test_a_class_vector_adds_the_same_to_every_projection() -> None:
    """realness_i = phi(u_i) + <v_c, y>; the dual functions are those of all classes."""
    gan = tiny_labelled(head="sliced_wasserstein")
    discriminator: Any = gan.discriminators["discriminator"]
    clips, labels = double(2, *TINY_SHAPE), torch.tensor([2, 0])
    scores = discriminator(clips, labels)
    assert len(discriminator.head.slopes) == 1
    shared = discriminator.head(scores.encoding)  # [B, K]
    inner = (discriminator.class_vectors[labels] * scores.encoding).sum(1, keepdim=True)
    torch.testing.assert_close(scores.realness, shared + inner)
    dual: Any = tiny_labelled(head="sliced_wasserstein", head_classes="dual")
    dual = dual.discriminators["discriminator"]
    assert dual.class_vectors is None
    assert len(dual.head.slopes) == 3


def tiny_labelled(**changes: Any) -> GAN:
    torch.manual_seed(0)
    return build_gan(replace(TINY, **changes), TINY_SHAPE, 3).to(dtype=torch.float64)


@pytest.mark.parametrize("keeps", [True, False])
def test_projections_may_turn_round_as_in_the_authors_code(keeps: bool) -> None:
    gan = tiny_labelled(head="sliced_wasserstein", head_keeps_signs=keeps)
    discriminator: Any = gan.discriminators["discriminator"]
    with torch.no_grad():
        discriminator.head.projections.copy_(torch.eye(6) + 1e-3 * double(6, 6))
    discriminator.after_step(0)
    after = discriminator.head.projections[0]
    torch.testing.assert_close(after.T @ after, torch.eye(6, dtype=torch.float64))
    assert bool((after.diagonal() > 0).all()) == keeps
