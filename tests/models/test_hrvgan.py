"""HRVGAN: recorded counts, layers of the text, both tasks, and the model of the published code."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.core.randomness import BatchRandom
from vidgan.errors import UserError
from vidgan.losses.recipes import LossConfig, make_loss
from vidgan.models import build_gan
from vidgan.models.base import GAN, Stage
from vidgan.models.hrvgan import (
    HRVGANConfig,
    HRVGANRepoConfig,
    InstanceNorm,
    ResamplingConv3d,
)
from vidgan.models.parts.layers import ScaledConv3d
from vidgan.models.parts.norms import BatchNorm
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.training.ema import copy_generator
from vidgan.training.settings import TrainingConfig
from vidgan.training.step import Batch, TrainingStep, UpdateKey

TINY = HRVGANConfig(channels=(6, 5, 4), latent=7, code_dim=9)
SHAPE = (3, 6, 16, 16)


def tiny(num_classes: int = 0, **changes: Any) -> GAN:
    torch.manual_seed(0)
    return build_gan(replace(TINY, **changes), SHAPE, num_classes).to(dtype=torch.float64)


def double(*shape: int, seed: int = 5) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_convolutions_at_256_px_have_the_recorded_count() -> None:
    with torch.device("meta"):
        gan = build_gan(HRVGANConfig(), (3, 32, 256, 256))
        latent = torch.empty(1, 128)
        shapes = []
        for module in gan.generator.blocks:  # type: ignore[union-attr]
            if isinstance(module, ResamplingConv3d):
                module.register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape[1:])))
        assert gan.generator(latent).shape == (1, 3, 32, 256, 256)
    convolutions = [
        m for m in gan.generator.modules() if isinstance(m, (ResamplingConv3d, ScaledConv3d))
    ]
    assert sum(count(m) for m in convolutions) == 2_393_091
    assert shapes == [
        (128, 8, 8, 8),
        (128, 8, 16, 16),
        (64, 8, 32, 32),
        (32, 16, 64, 64),
        (16, 16, 128, 128),
        (8, 32, 256, 256),
    ]


def test_layers_are_those_of_the_text() -> None:
    gan = tiny(context_frames=2)
    kinds = [type(m) for m in gan.generator.modules()]
    assert kinds.count(BatchNorm) == 3 + 3  # first layer and two blocks; encoder
    assert kinds.count(nn.ReLU) == 2 + 3
    discriminator: Any = gan.discriminators["discriminator"]
    kinds = [type(m) for m in discriminator.modules()]
    assert kinds.count(InstanceNorm) == 2
    assert BatchNorm not in kinds
    assert discriminator.couples_batch == "none"


def test_resampling_convolutions_equal_torchs() -> None:
    x = double(2, 3, 4, 6, 6)
    for factor, kernel in (((2, 2, 2), (4, 4, 4)), ((1, 2, 2), (3, 4, 4))):
        down = ResamplingConv3d(3, 5, factor).double()
        assert down.weight.shape == (5, 3, *kernel)
        expected = F.conv3d(x, down.weight, down.bias, factor, padding=1)
        torch.testing.assert_close(down(x), expected)
        up = ResamplingConv3d(3, 5, factor, transposed=True).double()
        assert up.weight.shape == (3, 5, *kernel)
        y = up(x)
        torch.testing.assert_close(y, F.conv_transpose3d(x, up.weight, up.bias, factor, padding=1))
        assert y.shape[2:] == tuple(a * f for a, f in zip(x.shape[2:], factor, strict=True))


def test_instance_norm_normalises_every_channel_of_every_clip() -> None:
    norm, x = InstanceNorm(3).double(), 3 * double(2, 3, 2, 4, 4) + 1
    norm.weight.data.copy_(torch.tensor([1.0, 2.0, 3.0]))
    norm.bias.data.fill_(0.5)
    y = norm(x)
    torch.testing.assert_close(y.mean(dim=(2, 3, 4)), torch.full((2, 3), 0.5).double())
    deviation = y.var(dim=(2, 3, 4), correction=0).sqrt()
    expected = torch.tensor([1.0, 2.0, 3.0]).double().expand(2, -1)
    torch.testing.assert_close(deviation, expected, atol=1e-4, rtol=0)


def test_prediction_continues_given_frames() -> None:
    gan = tiny(context_frames=2, latent=0).train(False)
    real = double(2, *SHAPE)
    context, target = gan.make_context(real, BatchRandom((0,), 2, 0, 2, torch.device("cpu")))
    assert context is not None
    assert torch.equal(torch.cat([context, target], dim=2), real)
    clip = gan.generator(torch.empty(2, 0).double(), None, context)
    assert clip.shape == target.shape
    for t in range(2):
        other = context.clone()
        other[:, :, t] = -other[:, :, t]
        assert not torch.allclose(gan.generator(torch.empty(2, 0).double(), None, other), clip)
    discriminator = gan.discriminators["discriminator"]
    with_context = discriminator(target, None, context).realness
    assert not torch.allclose(discriminator(target, None, -context).realness, with_context)
    with pytest.raises(ValueError, match="needs the given frames"):
        discriminator(target)
    with pytest.raises(ValueError, match="needs 2 given frames"):
        gan.generator(torch.empty(2, 0).double())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_frames": 6}, "must leave something to predict"),
        ({"latent": 0}, "nothing to generate from"),
        ({"channels": (4, 4)}, "lists 2 widths but clips of 16 px need 3"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(**changes)


def test_labels_enter_as_one_hot_rows() -> None:
    gan = tiny(3).train(False)
    first: Any = gan.generator.first
    assert first.weight.shape[1] == 7 + 3
    latent = double(1, 7)
    a, b = (gan.generator(latent, torch.tensor([label])) for label in (0, 2))
    assert not torch.allclose(a, b)
    with torch.no_grad():
        first.weight[:, 9] = first.weight[:, 7]
    a, b = (gan.generator(latent, torch.tensor([label])) for label in (0, 2))
    torch.testing.assert_close(a, b)


def test_pixel_error_pulls_a_prediction_to_its_truth() -> None:
    gan = tiny(context_frames=2).to(dtype=torch.float32)
    loss = make_loss(LossConfig(name="wgan-gp", auxiliary={"pixels": {}}))
    step = TrainingStep(gan, copy_generator(gan.generator), loss, TrainingConfig(), seed=1)
    step.enter(Stage(level=0, frames=6, resolution=16, batch_size=2))
    rng = torch.Generator().manual_seed(0)
    clip = torch.randint(0, 256, (2, *SHAPE), generator=rng, dtype=torch.uint8)
    logs = step.run(0, 0, lambda: Batch(clip, None, 2, 0))
    batch = step.split(Batch(clip, None, 2, 0), UpdateKey(0, 0, 0, 0))[0]
    assert 0.2 < float(logs["generator/pixels"]) < 0.6  # noise of variance 1/3 and a flat clip
    assert batch.real.shape[2] == 4
    # Without a truth to compare with there is nothing to pull to.
    plain = tiny().to(dtype=torch.float32)
    with pytest.raises(UserError, match="clips made from a latent alone have none"):
        TrainingStep(plain, copy_generator(plain.generator), loss, TrainingConfig(), seed=1)


def test_model_of_the_published_code_is_the_progressive_one_with_labels_in_the_generator() -> None:
    small = {"channels": (6, 5, 4), "latent": 7, "label_dim": 3, "group_size": 2}
    gan = build_gan(HRVGANRepoConfig(**small), SHAPE, 3)  # type: ignore[arg-type]
    same = build_gan(
        ProgressiveConfig(head="sliced_wasserstein", **small),  # type: ignore[arg-type]
        SHAPE,
    )
    found, expected = (g.discriminators["discriminator"].state_dict() for g in (gan, same))
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in expected.items()}
    assert gan.generator.num_classes == 3
    clips, discriminator = torch.randn(2, *SHAPE), gan.discriminators["discriminator"]
    scores = [discriminator(clips, torch.tensor([a, 1])).realness for a in (0, 2)]
    assert torch.equal(*scores)
