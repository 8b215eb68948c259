"""Weight gradients of strided convolutions as those of convolutions that visit every block."""

import pytest
import torch

from vidgan.models.parts import convolution
from vidgan.models.parts.convolution import (
    Geometry,
    _is_narrow_and_strided,
    convolve,
    strided_weight_gradient,
)


def geometry(stride: tuple[int, ...], transposed: bool = False) -> Geometry:
    ones, zeros = (1,) * len(stride), (0,) * len(stride)
    return Geometry(stride, ones, ones, transposed, zeros, 1)


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 2, 2), (2, 1, 1), (2, 2), (1, 2)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_blocks_as_channels_give_the_same_gradient(
    stride: tuple[int, ...], transposed: bool, last: bool
) -> None:
    rng, num_axes = torch.Generator().manual_seed(0), len(stride)
    sizes = (4, 8, 6)[-num_axes:]
    small = [size // step for size, step in zip(sizes, stride, strict=True)]
    fine = torch.randn(2, 3, *sizes, generator=rng, dtype=torch.float64)
    coarse = torch.randn(2, 5, *small, generator=rng, dtype=torch.float64)
    if last:
        layout = torch.channels_last_3d if num_axes == 3 else torch.channels_last
        fine, coarse = (t.contiguous(memory_format=layout) for t in (fine, coarse))
    kernel = [4 if step == 2 else 3 for step in stride]
    like = torch.zeros(5, 3, *kernel, dtype=torch.float64)
    form = geometry(stride, transposed)
    assert _is_narrow_and_strided(fine, like, form)
    grad, x = (fine, coarse) if transposed else (coarse, fine)
    backward = torch.ops.aten.convolution_backward.default
    expected = backward(grad, x, like, None, *form, (False, True, False))[1]
    found = strided_weight_gradient(coarse, fine, like, form)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_other_convolutions_keep_their_kernel() -> None:
    form, clip = geometry((2, 2, 2)), torch.empty(1, 8, 4, 6, 6)
    assert _is_narrow_and_strided(clip, torch.empty(16, 8, 4, 4, 4), form)
    for fine, kernel, other in (
        (torch.empty(1, 32, 4, 6, 6), (64, 32, 4, 4, 4), form),
        (clip, (16, 8, 3, 3, 3), geometry((1, 1, 1))),
        (clip, (16, 8, 5, 4, 4), form),
        (clip, (16, 8, 4, 4, 4), form._replace(padding=(0, 0, 0))),
        # Without two equal halves there are no whole blocks.
        (torch.empty(1, 8, 4, 3, 6), (16, 8, 4, 4, 4), form),
        (torch.empty(1, 8, 3, 6, 6), (16, 8, 4, 4, 4), form),
    ):
        assert not _is_narrow_and_strided(fine, torch.empty(kernel), other)


@pytest.mark.parametrize("sizes", [(2, 4), (3, 2)])
@pytest.mark.parametrize("transposed", [False, True])
def test_every_derivative_is_right_where_it_is_taken(
    sizes: tuple[int, int], transposed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a CPU it never is by itself.
    taken = []
    monkeypatch.setattr(
        convolution,
        "_folds",
        lambda *call: _is_narrow_and_strided(*call) and not taken.append(1),
    )
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, 1, *sizes, generator=rng, dtype=torch.float64, requires_grad=True)
    kernel = (2, 1, 3, 4, 4) if transposed else (1, 2, 3, 4, 4)
    weight = torch.randn(kernel, generator=rng, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(1, generator=rng, dtype=torch.float64, requires_grad=True)

    def curved(*parts: torch.Tensor) -> torch.Tensor:
        return convolve(*parts, (1, 2, 2), 1, transposed).square()

    assert torch.autograd.gradcheck(curved, (x, weight, bias))
    assert torch.autograd.gradgradcheck(curved, (x, weight, bias))
    # A transposed convolution enlarges to twice its size, which is even.
    assert bool(taken) == (transposed or sizes == (2, 4))
