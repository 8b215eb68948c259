"""Self-attention against its equation, axis by axis."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.models import build_gan
from vidgan.models.dvdgan import DVDGANConfig
from vidgan.models.parts.attention import FrameAttention, SelfAttention, SeparableAttention
from vidgan.models.parts.layers import WeightLayer


def double(*shape: int, seed: int = 5) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def with_gain(layer: nn.Module) -> nn.Module:
    layer.double()
    for module in layer.modules():
        if isinstance(module, SelfAttention):
            nn.init.constant_(module.gain, 0.7)
    return layer


def test_attention_of_hand_worked_numbers() -> None:
    layer = with_gain(SelfAttention(2, spectral_norm=False))
    assert isinstance(layer, SelfAttention)
    with torch.no_grad():
        layer.query.weight.copy_(torch.tensor([[1.0, 0.0]]))
        layer.key.weight.copy_(torch.tensor([[0.0, 1.0]]))
        layer.value.weight.copy_(torch.tensor([[1.0, 1.0]]))
        layer.out.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    x = torch.tensor([[[0.0, 3.0], [1.0, 0.0]]], dtype=torch.float64)
    # Place 0 asks with 0: both places count alike, values 3 and 1. Place 1 asks with 1: keys 3, 0.
    e = float(torch.e)
    second = (3 * e**3 + 1) / (e**3 + 1)
    expected = x[0] + 0.7 * torch.tensor([[2.0, -2.0], [second, -second]], dtype=torch.float64)
    torch.testing.assert_close(layer(x)[0], expected)


def test_separable_attention_follows_each_axis_in_turn() -> None:
    torch.manual_seed(0)
    layer = with_gain(SeparableAttention(8, spectral_norm=True))
    x = double(2, 3, 8, 4, 5)  # [B, T, C, H, W]
    expected = x.clone()
    for one, axis in zip(layer.layers, (3, 4, 1), strict=True):  # type: ignore[arg-type, call-overload]
        rows = expected.movedim((axis, 2), (3, 4))
        seen = rows.clone()
        for b in range(2):
            for i in range(rows.shape[1]):
                for j in range(rows.shape[2]):
                    seen[b, i, j] = one(rows[b, i, j][None])[0]
        expected = seen.movedim((3, 4), (axis, 2))
    torch.testing.assert_close(layer(x), expected)


def test_separable_attention_reaches_every_voxel_of_its_clip_and_no_other() -> None:
    torch.manual_seed(0)
    layer = with_gain(SeparableAttention(8, spectral_norm=False))
    x = double(2, 3, 8, 4, 4)
    other = x.clone()
    other[0, 2, :, 3, 1] += 1
    moved = (layer(other) - layer(x)).abs().amax(dim=2)  # [B, T, H, W]
    assert float(moved[0].detach().min()) > 0
    assert float(moved[1].detach().max()) == 0


def test_frame_attention_is_that_of_the_image_model() -> None:
    torch.manual_seed(0)
    layer = with_gain(FrameAttention(8, spectral_norm=False))
    assert isinstance(layer, FrameAttention)
    x = double(2, 8, 4, 6)

    def one_by_one(linear: nn.Module) -> Tensor:
        return F.conv2d(x, linear.weight[:, :, None, None])  # type: ignore[index,operator]

    # Brock et al. 2019: convolutions of one pixel, keys and values by blocks of 2x2.
    query = one_by_one(layer.query).flatten(2)
    key, value = (F.max_pool2d(one_by_one(m), 2).flatten(2) for m in (layer.key, layer.value))
    weights = torch.einsum("ncl,ncm->nlm", query, key).softmax(dim=2)
    seen = torch.einsum("ncm,nlm->ncl", value, weights)
    asked = torch.einsum("oc,ncl->nol", layer.out.weight, seen).view(x.shape)
    torch.testing.assert_close(layer(x), x + 0.7 * asked)


def test_attention_starts_as_no_layer_and_adds_the_counts_of_its_weights() -> None:
    with torch.device("meta"):
        plain = build_gan(DVDGANConfig(), (3, 12, 64, 64), 600)
        other = DVDGANConfig(attention="separable", frame_attention=True)
        attends = build_gan(other, (3, 12, 64, 64), 600)

    def count(network: nn.Module) -> int:
        return sum(parameter.numel() for parameter in network.parameters())

    # C C/8 twice, C C/2 twice and the gain: three times at 512 channels, once at 256 and once at
    # 512, the width after the two 3-D blocks.
    more = [count(attends.networks[n]) - count(plain.networks[n]) for n in plain.networks]
    assert more == [3 * (512 * 640 + 1), 256 * 320 + 1, 512 * 640 + 1]
    layer = SeparableAttention(8, spectral_norm=True).double()
    x = double(1, 2, 8, 3, 3)
    assert torch.equal(layer(x), x)
    weights = [m for m in layer.modules() if isinstance(m, WeightLayer)]
    assert len(weights) == 12
    assert all(weight.spectral_norm for weight in weights)
