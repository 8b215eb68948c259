"""PocketGAN: sizes, what a latent and a label reach, the first clips."""

import pytest
import torch
from model_cases import CASES

from vidgan.errors import UserError
from vidgan.models.base import ClipShape
from vidgan.models.pocketgan import PocketConfig, coarse_deviation

DEFAULT = ClipShape(3, 8, 16, 16)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_numbers_of_parameters_are_those_of_the_layers() -> None:
    gan, other = (
        PocketConfig(output_skips=more, residual=more).build(DEFAULT, num_classes=16)
        for more in (False, True)
    )
    start = 16 * 32 + 96 * 64 * 16 + 64 * 16 + 96 * 64 * 4 * 16 + 64 * 4 * 16
    style = 64 * 128 + 128 + 128 * 128 + 128
    first = 64 * 64 * 27 + 64
    up8, conv8 = 64 * 32 * 27 + 32 + 129 * 64, 32 * 32 * 27 + 32 + 129 * 32
    up16 = 32 * 16 * 27 + 16 + 129 * 32
    assert count(gan.generator) == start + style + first + up8 + conv8 + up16 + 3 * 16 + 3
    assert count(other.generator) == count(gan.generator) + 3 * (64 + 32) + 2 * 3
    stem, pool = 3 * 16 * 27 + 16, 16 * 32 * 27 + 32
    block = 32 * 32 * 27 + 32 + 32 * 64 * 27 + 64
    last = (64 + 1 + 3) * 64 * 27 + 64 + 64 * 4 * 16 * 64 + 64 + 64 + 1 + 16 * 64
    assert count(gan.discriminators["discriminator"]) == stem + pool + block + last
    assert count(other.discriminators["discriminator"]) == stem + pool + block + last + 32 * 64


def test_motion_leaves_the_style_and_what_stands_still_alone() -> None:
    case = CASES["pocketgan-labels"]
    generator = case.build().generator.eval()
    latent = torch.randn(1, 7, generator=torch.Generator().manual_seed(0))
    other = latent.clone()
    other[:, generator.latent_parts["motion"]] += 1
    seen: dict[str, list[torch.Tensor]] = {"still": [], "moving": []}
    for name in seen:
        layer = getattr(generator, name)
        layer.register_forward_hook(lambda *call, name=name: seen[name].append(call[-1]))
    with torch.no_grad():
        for row in (latent, other):
            generator(row, torch.tensor([1]))
    assert torch.equal(*seen["still"])
    assert not torch.equal(*seen["moving"])


def test_the_label_does_not_reach_the_style() -> None:
    case = CASES["pocketgan-labels"]
    generator = case.build().generator.eval()
    styles: list[torch.Tensor] = []
    generator.style[-1].register_forward_hook(lambda *call: styles.append(call[-1]))
    latent = torch.randn(1, 7, generator=torch.Generator().manual_seed(0)).expand(2, 7)
    with torch.no_grad():
        clips = generator(latent, torch.tensor([0, 2]))
    # Rows of a batch may be rounded differently; a label would move them by far more.
    torch.testing.assert_close(styles[0][0], styles[0][1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(clips[0], clips[1])


def test_the_first_sums_of_colours_are_those_of_the_coarse_levels() -> None:
    torch.manual_seed(0)
    generator = PocketConfig(output_skips=True).build(DEFAULT).generator.eval()
    latent = torch.randn(2, generator.latent_dim())
    with torch.no_grad():
        clip = generator(latent)
        generator.blocks[-1].up.conv.weight.add_(1)
        assert torch.equal(generator(latent), clip)
        generator.blocks[0].up.conv.weight.add_(1)
        assert not torch.allclose(generator(latent), clip)
    assert clip.std() > 0.1


def test_coarse_deviation_of_hand_worked_groups() -> None:
    # Clips of one colour each: those of the first group differ by 0.5 in red, of the second in
    # nothing. What averages to the same colour at 4x4 px is the same.
    clips = torch.zeros(4, 3, 2, 8, 8, dtype=torch.float64)
    clips[1, 0] = 0.5
    clips[3, :, 0], clips[3, :, 1] = 1.0, -1.0
    out = coarse_deviation(clips, group_size=2)
    assert out.shape == (4, 3, 1, 4, 4)
    expected = torch.full_like(out, 4e-4)  # the root of epsilon
    expected[:2, 0] = 4 * 0.25
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=0)


def test_the_discriminator_tells_clips_apart_by_how_much_a_group_differs() -> None:
    torch.manual_seed(0)
    clip = torch.rand(1, *DEFAULT) - 0.5
    for sees in (False, True):
        config = PocketConfig(coarse_deviation=sees, style_dim=0)
        judge = config.build(DEFAULT).discriminators["discriminator"]
        weight = judge.conv.weight.detach()
        assert weight.shape[1] == 64 + 1 + 3 * sees
        with torch.no_grad():
            # Features of the mean deviation play no part here.
            judge.conv.weight[:, 64] = 0
            alike = judge(clip.expand(4, -1, -1, -1, -1)).realness[0]
            brighter = torch.arange(4.0)[:, None, None, None, None] / 8
            apart = judge(clip + brighter).realness[0]
        assert torch.allclose(alike, apart, atol=1e-6) != sees


def test_clips_of_an_odd_length_are_not_pooled_over_frames() -> None:
    config = PocketConfig(channels=(6, 5), discriminator_channels=(5,))
    shape = ClipShape(3, 5, 8, 8)
    gan = config.build(shape)
    scores = gan.discriminators["discriminator"](torch.zeros(2, *shape))
    assert scores.realness.shape == (2, 1)


@pytest.mark.parametrize("part", ["content", "motion"])
def test_no_part_of_the_latent_can_be_empty(part: str) -> None:
    with pytest.raises(UserError, match=f"model.{part}=0"):
        PocketConfig(**{part: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "shape", "words"),
    [
        ({"channels": (4, 4)}, DEFAULT, "model.channels lists 2 widths .* 3"),
        ({"discriminator_channels": (4,)}, DEFAULT, "discriminator_channels lists 1 widths .* 2"),
        ({}, ClipShape(3, 8, 4, 4), "power of two of at least 8"),
        ({}, ClipShape(3, 8, 24, 24), "power of two"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    changes: dict[str, tuple[int, ...]], shape: ClipShape, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        PocketConfig(**changes).build(shape)  # type: ignore[arg-type]
