"""Convolutions against PyTorch's own, to the third derivative, and what they do not compute."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vidgan.models.parts import patch_product
from vidgan.models.parts.convolution import convolve, stock_convolutions

KINDS = [(axes, transposed) for axes in (1, 2, 3) for transposed in (False, True)]


def double(*shape: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def case(num_axes: int, transposed: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Clips, a kernel of 4 taps and a bias that ask for gradients."""
    outer = (3, 5) if transposed else (5, 3)
    x = double(2, 3, *[6] * num_axes).requires_grad_()
    weight = (double(*outer, *[4] * num_axes, seed=1) / 4).requires_grad_()
    return x, weight, double(5, seed=2).requires_grad_()


@pytest.mark.parametrize(("num_axes", "transposed"), KINDS)
@pytest.mark.parametrize("has_bias", [True, False])
def test_three_derivatives_equal_the_stock_ones(
    num_axes: int, transposed: bool, has_bias: bool
) -> None:
    x, weight, bias = case(num_axes, transposed)
    inputs = (x, weight, bias) if has_bias else (x, weight)
    results = []
    for context in (stock_convolutions(), nullcontext()):
        with context:
            y = convolve(x, weight, bias if has_bias else None, 2, 1, transposed)
        loss = (y * torch.sin(y)).sum()
        first = torch.autograd.grad(loss, inputs, create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), inputs, create_graph=True)
        third = torch.autograd.grad(sum((g**2).sum() for g in second), inputs)
        results.append([value.detach() for value in (y, *first, *second, *third)])
    for stock, ours in zip(*results, strict=True):
        assert float((stock - ours).abs().max()) <= 1e-12 * float(stock.abs().max())


def test_derivatives_equal_finite_differences() -> None:
    inputs = (double(1, 2, 4), double(2, 2, 4, seed=1), double(2, seed=2))
    inputs = tuple(part.requires_grad_() for part in inputs)
    assert torch.autograd.gradcheck(lambda *a: convolve(*a, 2, 1), inputs)
    assert torch.autograd.gradgradcheck(lambda *a: convolve(*a, 2, 1), inputs)


def flops(of: Tensor, inputs: list[Tensor], create_graph: bool = False) -> int:
    """Multiplications and additions of a backward pass."""
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(of, inputs, create_graph=create_graph)
    return counter.get_total_flops()


@pytest.mark.parametrize("create_graph", [False, True])
def test_only_the_gradients_that_a_pass_asks_for_are_computed(create_graph: bool) -> None:
    x, weight, bias = case(3, False)
    one = flops(convolve(x, weight, bias, 2, 1).sum(), [x], create_graph)
    assert one > 0
    for wanted, count in (([x], 1), ([weight], 1), ([weight, bias], 1), ([x, weight, bias], 2)):
        # The second layer passes a gradient on, whatever is asked of the first.
        inner = convolve(x, weight, bias, 2, 1)
        assert flops(inner.sum(), wanted, create_graph) == count * one
        with stock_convolutions():
            stock = convolve(x, weight, bias, 2, 1)
        assert flops(stock.sum(), wanted, create_graph) == count * one


def test_autocast_decides_the_precision_and_spares_float64() -> None:
    x, weight, bias = case(3, False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert convolve(x.float(), weight.float(), bias.float(), 1, 1).dtype == torch.bfloat16
        assert convolve(x, weight, bias, 1, 1).dtype == torch.float64


def test_second_derivatives_under_autocast_are_near_the_exact_ones() -> None:
    x, weight, bias = case(3, False)
    results = []
    for low in (False, True):
        clip = x.detach().to(torch.float32 if low else torch.float64).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            hidden = convolve(clip, weight.to(clip.dtype), bias.to(clip.dtype), 1, 1)
            back = weight.to(clip.dtype)
            y = convolve(F.leaky_relu(hidden, 0.2), back, None, 1, 1, transposed=True)
            (gradient,) = torch.autograd.grad(y.float().square().sum(), clip, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), weight)
        results.append(second.double().flatten())
    assert float(F.cosine_similarity(*results, dim=0)) > 0.999


def test_functional_transforms_and_meta_tensors_pass_through() -> None:
    x, weight, bias = (t.detach() for t in case(3, True))
    penalty = torch.func.grad(
        lambda w: (
            torch.func.grad(lambda c: convolve(c, w, bias, 2, 1, True).pow(3).sum())(x)
            .square()
            .sum()
        )
    )
    weight_again = weight.clone().requires_grad_()
    clip = x.clone().requires_grad_()
    y = F.conv_transpose3d(clip, weight_again, bias, 2, 1)
    (gradient,) = torch.autograd.grad(y.pow(3).sum(), clip, create_graph=True)
    (expected,) = torch.autograd.grad(gradient.square().sum(), weight_again)
    torch.testing.assert_close(penalty(weight), expected)

    meta = [t.to("meta").requires_grad_() for t in (x, weight, bias)]
    y = convolve(*meta, 2, 1, True)
    (gradient,) = torch.autograd.grad(y.pow(3).sum(), meta[0], create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), meta[1])
    assert second.shape == weight.shape


WIDE = 64
"""More channels than the cases below have voxels on their coarse side."""
SLIDES = [  # kernel, stride, padding, length of an axis
    (4, 2, 1, 4),
    (4, 2, 1, 5),
    (3, 2, 1, 5),
    (3, 1, 0, 3),
    (4, 1, 0, 4),
]


@pytest.mark.parametrize(("num_axes", "transposed"), KINDS)
@pytest.mark.parametrize("slide", SLIDES)
def test_products_of_matrices_equal_convolutions(
    num_axes: int, transposed: bool, slide: tuple[int, int, int, int]
) -> None:
    kernel, stride, padding, length = slide
    coarse = 2 if stride == 2 else 1
    shape = (2, WIDE, *[coarse] * num_axes) if transposed else (2, 3, *[length] * num_axes)
    x = double(*shape).requires_grad_()
    weight = (double(WIDE, 3, *[kernel] * num_axes, seed=1) / kernel).requires_grad_()
    bias = double(3 if transposed else WIDE, seed=2).requires_grad_()
    coarse_shape = x.shape
    if not transposed:
        axes = [stride] * num_axes, [padding] * num_axes
        coarse_shape = patch_product.coarse_shape(x, weight, *axes)
    assert patch_product.is_faster(coarse_shape, weight, [stride] * num_axes)

    results = []
    for context in (stock_convolutions(), nullcontext()):
        with context:
            y = convolve(x, weight, bias, stride, padding, transposed)
        loss = (y * torch.sin(y)).sum()
        first = torch.autograd.grad(loss, (x, weight, bias), create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), (x, weight, bias))
        results.append([value.detach() for value in (y, *first, *second)])
    for stock, ours in zip(*results, strict=True):
        assert float((stock - ours).abs().max()) <= 1e-12 * float(stock.abs().max())


def test_a_layer_with_many_voxels_is_a_convolution() -> None:
    weight = double(WIDE, 3, 4, 4, 4)
    assert not patch_product.is_faster((2, WIDE, 4, 4, 4), weight, (2, 2, 2))
    # A step of one voxel repeats most of its patches.
    assert not patch_product.is_faster((1, WIDE, 2, 2, 2), weight, (1, 1, 1))
    assert patch_product.is_faster((1, WIDE, 2, 2, 2), weight, (2, 2, 2))


def test_wide_layers_at_two_voxels_are_right_in_bfloat16() -> None:
    """There oneDNN leaves the gradient of the weight uninitialised."""
    x, weight = double(2, 8, 4, 4, 4), (double(64, 8, 4, 4, 4, seed=1) / 20).requires_grad_()
    grads = []
    for dtype in (torch.float64, torch.bfloat16):
        y = convolve(x.to(dtype), weight.to(dtype), None, 2, 1)
        assert y.dtype == dtype
        grads.append(torch.autograd.grad((y * y).sum(), weight)[0])
    assert float((grads[0] - grads[1]).norm() / grads[0].norm()) < 0.01
