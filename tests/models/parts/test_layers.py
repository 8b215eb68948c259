"""Layers against hand-worked values, definitions and independent computations."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from vidgan.core.clip_ops import Factor
from vidgan.models.parts.convolution import convolve
from vidgan.models.parts.layers import (
    ConvPool3d,
    RowNoise,
    ScaledConv2d,
    ScaledConv3d,
    ScaledLinear,
    UpsampleConv3d,
    conv3d_pool,
    conv3d_pool_plain,
    leaky_pixel_norm,
    leaky_relu,
    minibatch_stddev,
    pixel_norm,
    update_spectral_norms,
    upsample_conv3d,
    upsample_conv3d_plain,
)

FACTORS = [(2, 2, 2), (1, 2, 2), (2, 1, 1)]


def double(*shape: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------
# Normalisation and statistics


def test_pixel_norm_divides_by_the_root_mean_square_over_channels() -> None:
    x = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1, 1)
    expected = torch.tensor([3.0, 4.0]) / math.sqrt(12.5)
    torch.testing.assert_close(pixel_norm(x).flatten(), expected)
    assert torch.equal(pixel_norm(torch.zeros(1, 4)), torch.zeros(1, 4))
    many = pixel_norm(double(2, 6, 3, 4, 5))
    torch.testing.assert_close(many.square().mean(dim=1), torch.ones(2, 3, 4, 5).double())


def test_leaky_pixel_norm_is_both_with_every_derivative() -> None:
    x, slope = double(2, 3, 2, 2, 2).requires_grad_(), double(2, 3, 2, 2, 2)
    both, one = pixel_norm(leaky_relu(x)), leaky_pixel_norm(x)
    assert torch.equal(both, one)
    first, second = (torch.autograd.grad(y, x, slope)[0] for y in (both, one))
    torch.testing.assert_close(second, first, rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(leaky_pixel_norm, x)
    assert torch.autograd.gradgradcheck(leaky_pixel_norm, x)
    # A penalty of its gradient, as a discriminator would have it.
    penalties = []
    for function in (leaky_pixel_norm, lambda x: pixel_norm(leaky_relu(x))):
        (inner,) = torch.autograd.grad(function(x).exp().sum(), x, create_graph=True)
        penalties.append(torch.autograd.grad(inner.square().sum(), x)[0])
    torch.testing.assert_close(*penalties, rtol=1e-12, atol=1e-12)


def test_pixel_norm_keeps_bfloat16_and_sums_it_well() -> None:
    x = double(2, 128, 4)
    low = pixel_norm(x.bfloat16())
    assert low.dtype == torch.bfloat16
    assert float((low.double() - pixel_norm(x)).abs().max()) < 0.03


def test_leaky_relu_has_slope_one_fifth() -> None:
    assert leaky_relu(torch.tensor([-5.0, 0.0, 5.0])).tolist() == [-1.0, 0.0, 5.0]


def test_minibatch_stddev_of_hand_worked_groups() -> None:
    # Rows 0 and 1 differ by 2 and 4 in their two features: deviations 1 and 2, mean 1.5.
    # Rows 2 and 3 are equal: deviation sqrt(eps).
    rows = torch.tensor([[1.0, 0.0], [3.0, 4.0], [7.0, 7.0], [7.0, 7.0]])
    out = minibatch_stddev(rows.reshape(4, 2, 1, 1, 1), group_size=2, eps=1e-8)
    assert out.shape == (4, 3, 1, 1, 1)
    torch.testing.assert_close(out[:, :2].flatten(1), rows)
    expected = torch.tensor([1.5, 1.5, 1e-4, 1e-4])
    torch.testing.assert_close(out[:, 2].flatten(), expected)


def test_minibatch_stddev_groups_are_contiguous() -> None:
    x = double(8, 3, 2, 2, 2)
    whole = minibatch_stddev(x, 4)
    torch.testing.assert_close(whole[:4], minibatch_stddev(x[:4], 4))
    torch.testing.assert_close(whole[4:], minibatch_stddev(x[4:], 4))
    # A batch smaller than a group is one group.
    torch.testing.assert_close(minibatch_stddev(x[:3], 4), minibatch_stddev(x[:3], 3))
    with pytest.raises(ValueError, match="6 clips does not split into groups of 4"):
        minibatch_stddev(x[:6], 4)


# ------------------------------------------------------------------------------------------------
# Fast forms equal plain forms


def test_what_a_kernel_is_widened_by_serves_every_mode() -> None:
    x, weight = double(2, 3, 4, 6, 4), double(5, 3, 3, 3, 3, seed=1).requires_grad_()
    other, third = (torch.float32, torch.float64), ((2, 2, 2), (2, 1, 2), (1, 1, 2))
    for dtype, factor in itertools.product(other, third):
        typed = x.to(dtype), weight.to(dtype)
        # Shapes alone, as `vidgan plan` asks for them: nothing of it may be kept.
        with FakeTensorMode() as mode:
            conv3d_pool(*(mode.from_tensor(t) for t in typed), None, factor)
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            conv3d_pool(mode.from_tensor(typed[0]), typed[1], None, factor)
        with torch.inference_mode():
            expected = conv3d_pool(*typed, None, factor)
        y = conv3d_pool(*typed, None, factor)
        assert torch.equal(y, expected)
        (slope,) = torch.autograd.grad(y.sum(), weight)
        assert slope.shape == weight.shape
    compiled = torch.compile(conv3d_pool, backend="eager", fullgraph=True)
    torch.testing.assert_close(
        compiled(x, weight, None, third[0]), conv3d_pool(x, weight, None, third[0])
    )


def test_kernels_of_one_frame_are_two_dimensional_layers() -> None:
    x, weight, bias = double(2, 3, 4, 6, 4), double(5, 3, 1, 3, 3, seed=1), double(5, seed=2)
    factor, flat = (1, 2, 2), weight[:, :, 0]
    up, down = (f(x, weight, bias, factor) for f in (upsample_conv3d, conv3d_pool))
    assert up.shape == (2, 5, 4, 12, 8)
    assert down.shape == (2, 5, 4, 3, 2)
    for t in range(4):
        enlarged = F.interpolate(x[:, :, t], scale_factor=2)
        torch.testing.assert_close(up[:, :, t], F.conv2d(enlarged, flat, bias, padding=1))
        shrunk = F.avg_pool2d(F.conv2d(x[:, :, t], flat, bias, padding=1), 2)
        torch.testing.assert_close(down[:, :, t], shrunk)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(
    ("fast", "plain"),
    [(upsample_conv3d, upsample_conv3d_plain), (conv3d_pool, conv3d_pool_plain)],
    ids=["up", "down"],
)
def test_fast_resampling_equals_plain_to_the_second_derivative(
    factor: Factor,
    fast: Callable[..., Tensor],
    plain: Callable[..., Tensor],
) -> None:
    results = []
    for function in (fast, plain):
        x = double(2, 3, 4, 6, 4).requires_grad_()
        weight = double(5, 3, 3, 3, 3, seed=1).requires_grad_()
        bias = double(5, seed=2).requires_grad_()
        y = function(x, weight, bias, factor)
        loss = (y * torch.sin(y)).sum()
        first = torch.autograd.grad(loss, (x, weight, bias), create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), (x, weight, bias))
        results.append([value.detach() for value in (y, *first, *second)])
    for one, other in zip(*results, strict=True):
        assert float((one - other).abs().max() / other.abs().max()) < 1e-12


def test_fast_resampling_refuses_other_factors() -> None:
    with pytest.raises(ValueError, match="factors are 1 or 2"):
        conv3d_pool(double(1, 1, 3, 3, 3), double(1, 1, 3, 3, 3), None, (3, 3, 3))


def test_downsampling_order_is_a_choice_of_its_own() -> None:
    torch.manual_seed(0)
    layer = ConvPool3d(2, 3, (2, 2, 2), "conv-act-pool").double()
    x = double(1, 2, 4, 4, 4)
    full = F.conv3d(x, layer.scaled_weight(), layer.bias, padding=1)
    torch.testing.assert_close(layer(x), F.avg_pool3d(leaky_relu(full), 2))
    layer.order = "conv-pool-act"
    torch.testing.assert_close(layer(x), leaky_relu(F.avg_pool3d(full, 2)))


def test_upsampling_layer_repeats_then_convolves() -> None:
    torch.manual_seed(0)
    x = double(1, 2, 3, 3, 3)
    for fast in (True, False):
        layer = UpsampleConv3d(2, 3, (2, 2, 2), fast).double()
        repeated = x.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
        expected = F.conv3d(repeated, layer.scaled_weight(), layer.bias, padding=1)
        torch.testing.assert_close(layer(x), expected)


# ------------------------------------------------------------------------------------------------
# bfloat16


@pytest.mark.parametrize(
    ("frames", "factor", "down"),
    [
        (frames, factor, down)
        for frames in (1, 2, 3, 4)
        for factor in ((1, 1, 1), (1, 2, 2), (2, 2, 2))
        for down in (False, True)
        if not down or frames % factor[0] == 0
    ],
)
def test_bfloat16_weight_gradients_are_right_at_every_length(
    frames: int, factor: Factor, down: bool
) -> None:
    function = conv3d_pool if down else upsample_conv3d
    x, weight = double(2, 32, frames, 4, 4), double(32, 32, 3, 3, 3, seed=1)
    gradients = []
    for low in (False, True):
        dtype = torch.float32 if low else torch.float64
        w = weight.to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            first = x.to(torch.bfloat16) if low else x
            y = function(first, w, None, factor)
        assert y.dtype == (torch.bfloat16 if low else torch.float64)
        grid = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape)
        (gradient,) = torch.autograd.grad(y, w, grid.to(y.dtype))
        gradients.append(gradient.double())
    exact, low_precision = gradients
    assert float((low_precision - exact).norm() / exact.norm()) < 0.02


def test_unsound_length_keeps_the_precision_it_was_given() -> None:
    x, weight = double(1, 2, 2, 4, 4), double(3, 2, 3, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = convolve(x, weight, None, padding=1)
    torch.testing.assert_close(y, F.conv3d(x, weight, padding=1), atol=1e-14, rtol=0)


# ------------------------------------------------------------------------------------------------
# Weight scaling


def test_equalized_weights_are_unit_normal_and_scaled_by_fan_in() -> None:
    torch.manual_seed(0)
    layer = ScaledConv3d(16, 32, kernel_size=3)
    assert float(layer.weight.detach().std()) == pytest.approx(1, abs=0.02)
    assert layer.scale == pytest.approx(math.sqrt(2 / (16 * 27)))
    torch.testing.assert_close(layer.scaled_weight(), layer.weight * layer.scale)
    assert layer.bias is not None
    assert layer.bias.tolist() == [0.0] * 32
    assert ScaledLinear(9, 4, gain=1.0).scale == pytest.approx(1 / 3)
    assert ScaledLinear(9, 4, bias=False).bias is None


@pytest.mark.parametrize("layer", [ScaledLinear, ScaledConv3d])
def test_spectral_norm_divides_by_the_largest_singular_value(layer: type[ScaledLinear]) -> None:
    torch.manual_seed(0)
    module = layer(4, 6, spectral_norm=True).double()
    module.update_spectral_norm(num_rounds=500)
    matrix = module.weight.detach().flatten(1)
    largest = torch.linalg.svdvals(matrix)[0]
    torch.testing.assert_close(module.scaled_weight().detach().flatten(1), matrix / largest)


def test_spectral_norm_gradient_matches_the_singular_value_decomposition() -> None:
    torch.manual_seed(0)
    module = ScaledLinear(5, 4, spectral_norm=True).double()
    module.update_spectral_norm(num_rounds=500)
    target = double(4, 5)
    (ours,) = torch.autograd.grad((module.scaled_weight() * target).sum(), module.weight)
    weight = module.weight.detach().requires_grad_()
    normalised = weight / torch.linalg.svdvals(weight)[0]
    (exact,) = torch.autograd.grad((normalised * target).sum(), weight)
    torch.testing.assert_close(ours, exact)


def test_spectral_norm_moves_only_when_told() -> None:
    torch.manual_seed(0)
    module = ScaledLinear(5, 4, spectral_norm=True).train()
    before = module.spectral_vector.clone()
    module(torch.randn(3, 5))
    assert torch.equal(module.spectral_vector, before)
    with torch.no_grad():
        module.weight.copy_(torch.randn(4, 5))
    module.update_spectral_norm()
    assert not torch.equal(module.spectral_vector, before)
    assert float(module.spectral_vector.norm()) == pytest.approx(1)


# ------------------------------------------------------------------------------------------------
# Weights that start otherwise, and on frames


def test_weights_with_a_start_of_their_own_are_used_as_they_are() -> None:
    layer = ScaledConv2d(3, 5, initialise=torch.nn.init.orthogonal_).double()
    assert layer.weight.shape == (5, 3, 3, 3)
    matrix = layer.weight.detach().flatten(1)
    torch.testing.assert_close(matrix @ matrix.t(), torch.eye(5).double(), atol=1e-6, rtol=0)
    x = double(2, 3, 4, 6)
    expected = F.conv2d(x, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), expected)


@torch.no_grad()
def test_spectral_vectors_of_a_network_move_when_told() -> None:
    network = torch.nn.Sequential(ScaledLinear(4, 3, spectral_norm=True), ScaledLinear(3, 2))
    layer = network[0]
    assert isinstance(layer, ScaledLinear)
    layer.weight.copy_(torch.diag(torch.tensor([1.0, 5.0, 2.0, 0.0]))[:3])
    for _ in range(50):
        update_spectral_norms(network)
    torch.testing.assert_close(layer.spectral_vector.abs(), torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(layer.scaled_weight(), layer.weight / 5)


def test_convolutions_of_frames_avoid_the_unsound_bfloat16_case() -> None:
    x, weight = double(2, 3, 2, 2).float(), double(4, 3, 3, 3, seed=1).float().requires_grad_()
    convolve(x, weight, None, padding=1).square().sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    exact, weight.grad = weight.grad, None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        convolve(x, weight, None, padding=1).square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(weight.grad, exact, rtol=1e-3, atol=1e-3)


def test_row_noise_is_added_by_row_and_never_twice_the_same() -> None:
    x = torch.full((3, 2, 40, 40), 5.0)
    noise = RowNoise(0.1, torch.tensor([0.25, 0.75, 0.25]))
    first, second = noise(x) - x, noise(x) - x
    assert torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
    assert abs(float(first.std()) - 0.1) < 0.005
    assert abs(float(first.mean())) < 0.01
