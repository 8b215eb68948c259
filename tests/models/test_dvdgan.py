"""DVD-GAN: published sizes, recurrence, statistics per time step, views, spectral norm."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.core.clip_ops import pool_clip
from vidgan.errors import UserError
from vidgan.models import build_gan
from vidgan.models.base import GAN
from vidgan.models.dvdgan import (
    ConditionalBatchNorm,
    ConvGRU,
    DVDGANConfig,
    SpatialDiscriminator,
)
from vidgan.models.parts.layers import WeightLayer
from vidgan.models.parts.norms import TimeBatchNorm

TINY = DVDGANConfig(channels=3, latent=6, label_dim=3, spatial_frames=3)
SHAPE = (3, 6, 16, 16)


def tiny(num_classes: int = 3, **changes: Any) -> GAN:
    torch.manual_seed(0)
    return build_gan(replace(TINY, **changes), SHAPE, num_classes).to(dtype=torch.float64)


def double(*shape: int, seed: int = 5) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# ------------------------------------------------------------------------------------------------
# Published sizes


@pytest.mark.parametrize(
    ("side", "channels", "num_classes", "counts"),
    [
        (64, None, 600, (305_282_371, 154_411_777, 162_683_137)),
        (128, None, 600, (176_963_139, 87_356_449, 88_522_849)),
        (64, 32, 101, (21_055_579, 9_630_401, 10_149_953)),
    ],
)
def test_parameter_counts_are_the_recorded_ones(
    side: int, channels: int | None, num_classes: int, counts: tuple[int, ...]
) -> None:
    with torch.device("meta"):
        gan = build_gan(DVDGANConfig(channels=channels), (3, 12, side, side), num_classes)
    assert tuple(count(network) for network in gan.networks.values()) == counts


def test_layers_have_the_recorded_counts() -> None:
    with torch.device("meta"):
        gan = build_gan(DVDGANConfig(), (3, 12, 64, 64), 600)
    generator: Any = gan.generator
    found = [[count(part) for part in (s.gru, s.block, s.up)] for s in generator.scales]
    assert found == [
        [56_626_176, 19_859_456, 20_909_056],
        [56_626_176, 19_859_456, 20_909_056],
        [56_626_176, 19_859_456, 8_340_992],
        [14_157_312, 5_211_136, 2_269_952],
    ]
    spatial, temporal = (d for d in gan.discriminators.values())
    assert [count(block) for block in spatial.blocks] == [  # type: ignore[union-attr]
        598_272,
        3_671_552,
        14_683_136,
        58_726_400,
        75_501_568,
    ]
    assert [count(block) for block in temporal.blocks][:2] == [  # type: ignore[union-attr]
        1_791_744,
        10_749_440,
    ]


def test_one_other_width_gives_other_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from vidgan.models import dvdgan

    monkeypatch.setitem(dvdgan.GENERATOR_WIDTHS, 4, (8, 8, 8, 4, 1))
    with torch.device("meta"):
        gan = build_gan(DVDGANConfig(), (3, 12, 64, 64), 600)
    assert count(gan.generator) != 305_282_371


def test_largest_published_size_passes_its_shapes() -> None:
    with torch.device("meta"):
        gan = build_gan(DVDGANConfig(), (3, 12, 256, 256), 600)
        clip = gan.generator(torch.empty(1, 120), torch.zeros(1, dtype=torch.int64))
    assert clip.shape == (1, 3, 12, 256, 256)


def test_feature_maps_of_the_discriminators_end_at_four_and_two_pixels() -> None:
    sizes: list[tuple[int, ...]] = []
    with torch.device("meta"):
        gan = build_gan(DVDGANConfig(channels=4), (3, 12, 64, 64))
        for discriminator in gan.discriminators.values():
            last: Any = discriminator.blocks[-1]  # type: ignore[index]
            last.register_forward_hook(lambda m, i, output: sizes.append(tuple(output.shape)))
            x = torch.empty(1, 3, 12, 64, 64)
            if isinstance(discriminator, SpatialDiscriminator):
                x = x[:, :, :8]
            else:
                x = pool_clip(x, (1, 2, 2))
            for block in discriminator.blocks[: discriminator.num_blocks_3d]:  # type: ignore[index]
                x = block(x)
            x = x.transpose(1, 2).flatten(0, 1)
            for block in discriminator.blocks[discriminator.num_blocks_3d :]:  # type: ignore[index]
                x = block(x)
    # 8 frames; 12 frames halved twice.
    assert sizes == [(8, 64, 4, 4), (3, 64, 2, 2)]


@pytest.mark.parametrize(
    ("shape", "changes", "message"),
    [
        ((3, 8, 48, 48), {}, "set data.resolution to one of these"),
        ((3, 8, 32, 16), {}, "not 32x16"),
        ((3, 3, 16, 16), {}, "at least 4 frames"),
        ((3, 6, 16, 16), {"spatial_frames": 64}, r"model.spatial_frames=64 must lie in 1\.\.6"),
    ],
)
def test_impossible_sizes_are_refused(
    shape: tuple[int, int, int, int], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build_gan(replace(TINY, **changes), shape)


# ------------------------------------------------------------------------------------------------
# The recurrent unit


def test_gru_equals_its_equations() -> None:
    torch.manual_seed(1)
    gru = ConvGRU(4, spectral_norm=True).double()
    for layer in (gru.reset, gru.update, gru.candidate):
        nn.init.normal_(layer.bias)  # type: ignore[arg-type]
    x, h = double(2, 5, 4, 3, 3), double(2, 4, 3, 3, seed=6)
    expected = []
    for t in range(5):
        both = torch.cat([h, x[:, t]], dim=1)
        r, u = torch.sigmoid(gru.reset(both)), torch.sigmoid(gru.update(both))
        c = F.relu(gru.candidate(torch.cat([r * h, x[:, t]], dim=1)))
        h = u * h + (1 - u) * c
        expected.append(h)
    states = gru(x, 5, double(2, 4, 3, 3, seed=6))
    torch.testing.assert_close(states, torch.stack(expected, dim=1), atol=1e-12, rtol=0)


def test_gru_repeats_a_single_input_and_starts_from_zero() -> None:
    torch.manual_seed(1)
    gru = ConvGRU(4, spectral_norm=False).double()
    x = double(2, 1, 4, 3, 3)
    states = gru(x, 4)
    expected = gru(x.expand(-1, 4, -1, -1, -1), 4, torch.zeros(2, 4, 3, 3).double())
    torch.testing.assert_close(states, expected, atol=1e-12, rtol=0)
    assert (states[:, 1] - states[:, 0]).abs().max() > 1e-3


# ------------------------------------------------------------------------------------------------
# Normalisation


def test_statistics_are_those_of_each_time_step_alone() -> None:
    norm = TimeBatchNorm(3, 2).double()
    x = double(4, 3, 2, 5, 5) * torch.tensor([1.0, 5.0, 9.0])[None, :, None, None, None]
    norm.observes = True
    y = norm(x)
    for t in range(3):
        expected = F.batch_norm(x[:, t], None, None, training=True)
        torch.testing.assert_close(y[:, t], expected, atol=1e-12, rtol=0)
    norm.settle(momentum=1.0)
    torch.testing.assert_close(norm.running_mean, x.mean(dim=(0, 3, 4)))
    torch.testing.assert_close(norm.running_var, x.var(dim=(0, 3, 4)))
    assert (norm.running_var[0] - norm.running_var[2]).abs().min() > 10

    other = x.clone()
    other[:, 2] = -3 * other[:, 2] + 1
    assert torch.equal(norm(other)[:, :2], y[:, :2])


def test_longer_clips_reuse_the_last_steps_statistics() -> None:
    norm = TimeBatchNorm(3, 2).double()
    norm.running_mean.copy_(double(3, 2))
    norm.running_var.copy_(double(3, 2, seed=7).exp())
    norm.eval()
    x = double(1, 1, 2, 4, 4).expand(-1, 5, -1, -1, -1)
    y = norm(x)
    assert torch.equal(y[:, 3], y[:, 2])
    assert torch.equal(y[:, 4], y[:, 2])
    assert not torch.equal(y[:, 1], y[:, 2])
    norm.train()
    with pytest.raises(ValueError, match="clips of 3 frames, not 5"):
        norm(x)


@torch.no_grad()
def test_conditional_scale_starts_around_one_and_shift_around_zero() -> None:
    torch.manual_seed(2)
    norm = ConditionalBatchNorm(1, 64, 240, spectral_norm=True)
    condition = torch.randn(500, 240)
    gain, shift = 1 + norm.gain(condition), norm.shift(condition)
    assert abs(float(gain.mean()) - 1) < 0.05
    assert abs(float(shift.mean())) < 0.05
    assert float(gain.std()) < 1.1
    assert count(norm) == 2 * 240 * 64


def test_a_clips_condition_normalises_all_its_frames() -> None:
    norm = ConditionalBatchNorm(3, 4, 5, spectral_norm=False).double()
    x, condition = double(2, 3, 4, 2, 2), double(2, 5, seed=8)
    y = norm(x, condition)
    plain = norm.normalize(x)
    for b in range(2):
        gain, shift = 1 + norm.gain(condition)[b], norm.shift(condition)[b]
        for t in range(3):
            expected = plain[b, t] * gain[:, None, None] + shift[:, None, None]
            torch.testing.assert_close(y[b, t], expected, atol=1e-12, rtol=0)


def test_trained_generators_statistics_differ_over_time() -> None:
    gan = tiny()
    with gan.generator.observing():
        gan.generator(double(8, 6), torch.arange(8) % 3)
    for layer in gan.generator.running_layers():
        layer.settle(momentum=1.0)
        mean = layer.running_mean
        assert isinstance(mean, Tensor)
        assert mean.shape[0] == 6
        assert (mean[0] - mean[1]).abs().max() > 1e-6


# ------------------------------------------------------------------------------------------------
# Generator


def test_clips_of_any_length_begin_alike() -> None:
    gan = tiny().train(False)
    labels = torch.tensor([0, 2])
    short = gan.generator.parts(double(2, 6), labels)["clip"]
    long = gan.generator.parts(double(2, 6), labels, num_frames=9)["clip"]
    assert long.shape[2] == 9
    torch.testing.assert_close(long[:, :, :6], short, atol=1e-12, rtol=0)


def test_context_is_refused_where_there_is_none() -> None:
    with pytest.raises(ValueError, match="takes no context"):
        tiny().generator(double(1, 6), torch.tensor([0]), double(1, 3, 1, 16, 16))


def test_spectral_norm_bounds_every_layer_of_every_network() -> None:
    for name, network in tiny().networks.items():
        layers = [m for m in network.modules() if isinstance(m, WeightLayer)]
        assert len(layers) > 5
        for layer in layers:
            assert layer.spectral_norm, name
            value = torch.linalg.svdvals(layer.scaled_weight().detach().flatten(1))[0]
            assert float(value) == pytest.approx(1, abs=0.02)


def test_spectral_vectors_move_only_after_a_step() -> None:
    gan = tiny()
    for network in gan.networks.values():
        for layer in network.modules():
            if isinstance(layer, WeightLayer):
                layer.weight.data.copy_(double(*layer.weight.shape))

    def vectors() -> dict[str, Tensor]:
        return {
            f"{name}.{key}": value.clone()
            for name, network in gan.networks.items()
            for key, value in network.state_dict().items()
            if key.endswith("spectral_vector")
        }

    before = vectors()
    clips = gan.generator(double(2, 6), torch.tensor([0, 1]))
    for discriminator in gan.discriminators.values():
        discriminator(clips, torch.tensor([0, 1]))
    assert all(torch.equal(value, before[key]) for key, value in vectors().items())
    gan.discriminators["spatial"].after_step(0)
    moved = {key for key, value in vectors().items() if not torch.equal(value, before[key])}
    assert {key.split(".")[0] for key in moved} == {"spatial"}


# ------------------------------------------------------------------------------------------------
# Discriminators


def spatial(**changes: Any) -> Any:
    return tiny(**changes).discriminators["spatial"]


def test_frame_scores_are_summed_and_all_frames_are_scored_when_k_is_t() -> None:
    clips, labels = double(2, 3, 6, 16, 16), torch.tensor([0, 2])
    discriminator = spatial(spatial_frames=6)
    view = discriminator.draw_view(2, torch.Generator().manual_seed(0))
    by_view = discriminator(clips, labels, None, view).realness
    assert by_view.shape == (2, 1)
    alone = [discriminator.score_clip(clips[:, :, t : t + 1], labels).realness for t in range(6)]
    torch.testing.assert_close(by_view, torch.stack(alone).sum(dim=0))
    torch.testing.assert_close(by_view, discriminator(clips, labels).realness)


def test_views_are_drawn_for_every_clip_without_repeats() -> None:
    views = spatial().draw_view(400, torch.Generator().manual_seed(0))
    assert views.shape == (400, 3)
    assert (views[:, 1:] > views[:, :-1]).all()
    assert len({tuple(row) for row in views.tolist()}) == 20  # all of 6 choose 3
    share = torch.bincount(views.flatten(), minlength=6) / 400
    assert float((share - 0.5).abs().max()) < 0.1


def test_frame_discriminator_sees_the_frames_of_its_view_alone() -> None:
    discriminator, clips = spatial(num_classes=0), double(2, 3, 6, 16, 16)
    view = torch.tensor([[0, 2, 3], [1, 4, 5]])
    before = discriminator(clips, None, None, view).realness
    other = clips.clone()
    other[0, :, [1, 4, 5]] = 7
    other[1, :, [0, 2, 3]] = 7
    assert torch.equal(discriminator(other, None, None, view).realness, before)
    other[1, :, 4] = 7
    moved = discriminator(other, None, None, view).realness != before
    assert moved.flatten().tolist() == [False, True]


def test_temporal_discriminator_sees_half_the_size_and_every_frame() -> None:
    discriminator, clips = tiny(0).discriminators["temporal"], double(1, 3, 6, 16, 16)
    before = discriminator(clips).realness
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8)
    torch.testing.assert_close(discriminator(clips + checks).realness, before)
    for t in range(6):
        other = clips.clone()
        other[:, :, t] += 1
        assert not torch.allclose(discriminator(other).realness, before)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    assert not torch.allclose(discriminator(clips[:, :, order]).realness, before)
    frames = spatial(num_classes=0, spatial_frames=6)
    torch.testing.assert_close(
        frames(clips[:, :, order]).realness, frames(clips).realness, atol=1e-10, rtol=0
    )


def test_class_vectors_are_projected_on_the_features() -> None:
    discriminator, clips = spatial(spatial_frames=6), double(3, 3, 6, 16, 16)
    labels = torch.tensor([2, 0, 1])
    with_class = discriminator(clips, labels)
    without = discriminator(clips)
    vectors = discriminator.class_vectors.scaled_weight()[labels]
    inner = 6 * (with_class.encoding * vectors).sum(dim=1, keepdim=True)
    torch.testing.assert_close(with_class.realness, without.realness + inner)
