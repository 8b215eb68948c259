"""Batch norm against torch's, and when its running statistics move."""

import pytest
import torch
from torch import nn

from vidgan.core.distributed import Processes
from vidgan.models.base import Network
from vidgan.models.parts.norms import (
    BatchNorm,
    LayerNorm,
    TimeBatchNorm,
    make_norm,
    normalize_globally,
)


class One(Network):
    """A network of one batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = BatchNorm(3, momentum=0.25)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(x)
        return y


def batch(seed: int, *shape: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=rng, dtype=torch.float64) * 3 + seed


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4), (2, 3, 4, 5), (2, 3, 2, 4, 5)])
def test_batch_norm_equals_torch(shape: tuple[int, ...]) -> None:
    ours, theirs = BatchNorm(3, eps=1e-3).double(), nn.SyncBatchNorm(3, eps=1e-3).double()
    x = batch(1, *shape)
    with torch.no_grad():
        ours.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))  # type: ignore[union-attr]
        ours.bias.copy_(torch.tensor([0.0, -1.0, 5.0]))  # type: ignore[union-attr]
    theirs.load_state_dict({**ours.state_dict(), "num_batches_tracked": torch.tensor(0)})
    reference = torch.nn.functional.batch_norm
    mean, var = torch.zeros(3).double(), torch.ones(3).double()
    expected = reference(x, mean, var, theirs.weight, theirs.bias, True, 0.1, 1e-3)
    ours.observes = True
    torch.testing.assert_close(ours(x), expected)
    ours.settle()
    torch.testing.assert_close(ours.running_mean, mean)
    torch.testing.assert_close(ours.running_var, var)
    torch.testing.assert_close(
        ours.eval()(x), reference(x, mean, var, theirs.weight, theirs.bias, False, 0.1, 1e-3)
    )


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 2, 4, 5)])
@pytest.mark.parametrize("learned", [True, False])
def test_norm_over_processes_equals_torch_where_there_is_one(
    shape: tuple[int, ...], learned: bool
) -> None:
    x = batch(1, *shape).requires_grad_()
    weight = batch(2, 3).requires_grad_() if learned else None
    bias = batch(4, 3).requires_grad_() if learned else None
    mean, var = torch.zeros(3).double(), torch.ones(3).double()
    expected = torch.nn.functional.batch_norm(x, mean, var, weight, bias, True, 1.0, 1e-3)
    found, found_mean, found_var = normalize_globally(x, weight, bias, 1e-3, Processes())
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found_mean, mean)
    torch.testing.assert_close(found_var, var)
    inputs = [value for value in (x, weight, bias) if value is not None]
    slopes = batch(7, *shape)
    for one, other in zip(
        torch.autograd.grad((found * slopes).sum(), inputs),
        torch.autograd.grad((expected * slopes).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_norm_over_processes_computes_in_float32_under_autocast() -> None:
    x = batch(1, 64, 3).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow, mean, var = normalize_globally(x.bfloat16(), None, None, 1e-5, Processes())
    assert (narrow.dtype, mean.dtype, var.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    wide = normalize_globally(x, None, None, 1e-5, Processes())[0]
    torch.testing.assert_close(narrow.float(), wide, atol=0.05, rtol=0)


def test_statistics_move_once_by_the_mean_of_the_passes_that_count() -> None:
    network = One().double()
    first, second = batch(1, 8, 3), batch(2, 8, 3)
    network(batch(9, 8, 3))
    with network.observing(False):
        network(batch(9, 8, 3))
    with network.observing():
        network(first)
        network(second)
    network(batch(9, 8, 3))
    network.eval()
    with network.observing():
        network(batch(9, 8, 3))
    assert network.norm.running_mean.abs().max() == 0
    for layer in network.running_layers():
        layer.settle()
    mean = (first.mean(dim=0) + second.mean(dim=0)) / 2
    var = (first.var(dim=0) + second.var(dim=0)) / 2
    # A momentum of 1/4 counts twice: 1 - (3/4)^2 = 7/16.
    torch.testing.assert_close(network.norm.running_mean, mean * 7 / 16)
    torch.testing.assert_close(network.norm.running_var, (9 + 7 * var) / 16)
    after = network.norm.running_mean.clone()
    network.norm.settle()
    assert torch.equal(network.norm.running_mean, after)


def test_learned_parts_are_optional() -> None:
    x = batch(3, 6, 4)
    plain = BatchNorm(4, scale=False, shift=False).double()
    assert not list(plain.parameters())
    centred = (x - x.mean(dim=0)) / (x.var(dim=0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(plain(x), centred)
    assert [n for n, _ in BatchNorm(4, scale=False).named_parameters()] == ["bias"]
    assert [n for n, _ in BatchNorm(4, shift=False).named_parameters()] == ["weight"]


def test_layer_norm_normalises_a_clip_alone() -> None:
    x = batch(4, 2, 3, 2, 4, 4)
    norm = LayerNorm(3).double()
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    y = norm(x) - norm.bias[:, None, None, None]
    rows = x.flatten(1)
    scale = (rows.var(dim=1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(y.flatten(1), (rows - rows.mean(dim=1, keepdim=True)) / scale)


def test_norms_by_name() -> None:
    assert isinstance(make_norm("batch", 3), BatchNorm)
    assert isinstance(make_norm("layer", 3), LayerNorm)
    assert isinstance(make_norm("none", 3), nn.Identity)


def test_time_batch_norm_is_a_batch_norm_for_every_time_step() -> None:
    x = batch(1, 4, 3, 2, 5, 5)
    expected = [nn.functional.batch_norm(x[:, t], None, None, training=True) for t in range(3)]
    y = TimeBatchNorm(num_frames=3, num_channels=2)(x)
    torch.testing.assert_close(y, torch.stack(expected, dim=1))
