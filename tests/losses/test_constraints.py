"""Constraints against hand-worked values and an independent decomposition."""

import pytest
import torch
from torch import nn

from vidgan.losses.penalties import SingularValueClipping, WeightClipping, clip_singular_values
from vidgan.models.parts.norms import BatchNorm


def singular_values(weight: torch.Tensor) -> torch.Tensor:
    return torch.linalg.svdvals(weight.detach().flatten(1).double())


def test_weight_clipping_reaches_every_parameter() -> None:
    network = nn.Sequential(nn.Linear(2, 1), BatchNorm(1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[0.5, -0.004]]))
        network[0].bias.fill_(-3.0)
    WeightClipping(bound=0.01)(network)
    torch.testing.assert_close(network[0].weight.detach(), torch.tensor([[0.01, -0.004]]))
    assert network[0].bias.item() == pytest.approx(-0.01)
    assert network[1].weight.item() == pytest.approx(0.01)


@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (6, 2, 2, 2, 2), (3, 4, 1, 1)])
def test_clipped_weight_equals_the_rebuilt_decomposition(shape: tuple[int, ...]) -> None:
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=rng, dtype=torch.float64) * 0.6
    weight[0] *= 0.05
    u, s, v = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    assert float(s.max()) > 1 > float(s.min())
    expected = ((u * s.clamp(max=1.0)) @ v).view(shape)
    torch.testing.assert_close(clip_singular_values(weight, 1.0), expected, atol=1e-10, rtol=0)


def test_weights_below_the_bound_keep_their_bits() -> None:
    weight = torch.randn(4, 3, 2, 2) * 0.01
    assert torch.equal(clip_singular_values(weight, 1.0), weight)


@pytest.mark.parametrize("convolution", [nn.Conv2d, nn.Conv3d])
def test_gains_of_convolutions_and_batch_norm_are_bounded(
    convolution: type[nn.Conv2d | nn.Conv3d],
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(convolution(3, 16, 4), BatchNorm(3), nn.Linear(4, 4))
    norm = network[1]
    assert isinstance(norm, BatchNorm)
    with torch.no_grad():
        network[0].weight.mul_(20)
        norm.running_var.copy_(torch.tensor([4.0, 0.25, 1.0]))
        norm.weight.copy_(torch.tensor([5.0, 1e-4, 0.7]))
    before = [network[0].bias.clone(), network[2].weight.clone()]
    SingularValueClipping()(network)
    assert float(singular_values(network[0].weight).max()) <= 1 + 1e-5
    expected = torch.tensor([2.0, 0.005, 0.7])
    torch.testing.assert_close(norm.weight.detach(), expected)
    # Biases and matrices of fewer than 4 axes stay.
    assert torch.equal(network[0].bias, before[0])
    assert torch.equal(network[2].weight, before[1])
