"""Convolutions of all models, whose every derivative runs through the weight-gradient kernel.

A convolution, the gradient of its input and the gradient of its weight are three readings of one
trilinear form <g, conv(x, w)>: each is linear in two of (g, x, w), and its derivatives are the
other two. Stated so, as three autograd functions, they are closed under differentiation and exact
to any order.

The stock double backward instead forms a weight gradient as a convolution whose
kernel is as large as the clip. That is slow, and oneDNN's bfloat16 kernel for AMX processors
returns noise for it or divides by zero (torch 2.11 and 2.13).

Where a weight is larger than its clips, the three are products of matrices (`patch_product`).
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.models.parts import patch_product

_STOCK = ContextVar("use stock convolutions", default=False)

_backward = torch.ops.aten.convolution_backward.default


class Geometry(NamedTuple):
    """How a kernel slides: the arguments of `torch.ops.aten.convolution` after the bias."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    transposed: bool = False,
) -> Tensor:
    """A convolution over 1, 2 or 3 axes, in bfloat16 under autocast where that is accurate.

    Args:
        x: `[B, in, ...]`.
        weight: `[out, in, ...]`, or `[in, out, ...]` if `transposed`.
        bias: `[out]` or None.
        stride, padding: of every axis, or one number for all.
        transposed: the transpose of a convolution, which enlarges by `stride`.

    Returns:
        `[B, out, ...]` in the type of `x`, or of autocast.
    """
    num_axes = x.dim() - 2
    stride, padding = (
        (value,) * num_axes if isinstance(value, int) else tuple(value)
        for value in (stride, padding)
    )
    geometry = Geometry(stride, padding, (1,) * num_axes, transposed, (0,) * num_axes, 1)
    dtype = _compute_dtype(x)
    if dtype == torch.bfloat16 and _is_unsound_in_bfloat16(x, weight, geometry):
        with out_of_autocast(x):
            wide = None if bias is None else bias.float()
            args = (wide, stride, padding, transposed)
            return convolve(x.float(), weight.float(), *args).to(x.dtype)
    if torch.compiler.is_compiling() or _STOCK.get():
        return _stock_convolve(x, weight, bias, stride, padding, transposed)
    if dtype == torch.bfloat16 and x.device.type == "cpu":
        x = x.to(memory_format=_channels_last(num_axes))
    parts = [None if t is None else _inner(t.to(dtype)) for t in (x, weight, bias)]
    y: Tensor = _call(_Convolution, *parts, geometry)
    return y


class _Convolution(torch.autograd.Function):
    """conv(x, w) + b."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        y = _as_product(x, weight, geometry, geometry.transposed)
        if y is None:
            return torch.convolution(x, weight, bias, *geometry)
        return y if bias is None else y + bias.view(-1, *[1] * (y.dim() - 2))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, ctx.geometry = inputs
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), form = ctx.saved_tensors, ctx.geometry
        for_x, for_weight, for_bias = (_is_wanted(ctx, index) for index in range(3))
        grad_x = _call(_InputGradient, grad, weight, x.detach(), form) if for_x else None
        grad_weight = grad_bias = None
        if for_weight or for_bias:
            pair = _call(_WeightGradient, grad, x, weight.detach(), form, ctx.has_bias)
            grad_weight, grad_bias = pair
        return grad_x, grad_weight, grad_bias, None


class _InputGradient(torch.autograd.Function):
    """The gradient of <g, conv(x, w)> with respect to x; of x only the shape is used."""

    @staticmethod
    def forward(grad: Tensor, weight: Tensor, like: Tensor, geometry: Geometry) -> Tensor:
        y = _as_product(grad, weight, geometry, not geometry.transposed, like.shape[2:])
        if y is None:
            y = _backward(grad, like, weight, None, *geometry, (True, False, False))[0]
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        grad, weight, _, ctx.geometry = inputs
        ctx.save_for_backward(grad, weight)

    @staticmethod
    def backward(ctx: Any, tangent: Tensor) -> tuple[Tensor | None, ...]:
        (grad, weight), form = ctx.saved_tensors, ctx.geometry
        for_grad, for_weight = (_is_wanted(ctx, index) for index in range(2))
        new_grad = _call(_Convolution, tangent, weight, None, form) if for_grad else None
        new_weight = None
        if for_weight:
            new_weight, _ = _call(_WeightGradient, grad, tangent, weight.detach(), form, False)
        return new_grad, new_weight, None, None


class _WeightGradient(torch.autograd.Function):
    """The gradients of <g, conv(x, w) + b> with respect to w and b; of w only the shape is used."""

    @staticmethod
    def forward(
        grad: Tensor, x: Tensor, like: Tensor, geometry: Geometry, has_bias: bool
    ) -> tuple[Tensor, Tensor | None]:
        coarse, fine = (x, grad) if geometry.transposed else (grad, x)
        weight = None
        if patch_product.is_faster(coarse.shape, like, geometry.stride, for_weight=True):
            weight = patch_product.weight_gradient(coarse, fine, like, *geometry[:2])
        elif _folds(fine, like, geometry):
            weight = strided_weight_gradient(coarse, fine, like, geometry)
        if weight is not None:
            over = [axis for axis in range(grad.dim()) if axis != 1]
            return weight, grad.sum(over) if has_bias else None
        sizes = [grad.shape[1]] if has_bias else None
        _, weight, bias = _backward(grad, x, like, sizes, *geometry, (False, True, has_bias))
        return weight, bias

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        grad, x, _, ctx.geometry, _ = inputs
        ctx.save_for_backward(grad, x)

    @staticmethod
    def backward(
        ctx: Any, tangent: Tensor, bias_tangent: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        (grad, x), form = ctx.saved_tensors, ctx.geometry
        for_grad, for_x = (_is_wanted(ctx, index) for index in range(2))
        new_grad = _call(_Convolution, x, tangent, bias_tangent, form) if for_grad else None
        new_x = _call(_InputGradient, grad, tangent, x.detach(), form) if for_x else None
        return new_grad, new_x, None, None, None


def _channels_last(num_axes: int) -> torch.memory_format:
    """The layout in which processors with bfloat16 convolve fastest; not measured on cards."""
    formats = torch.contiguous_format, torch.channels_last, torch.channels_last_3d
    return formats[num_axes - 1]


def _as_product(
    x: Tensor,
    weight: Tensor,
    geometry: Geometry,
    enlarges: bool,
    fine_sizes: Sequence[int] | None = None,
) -> Tensor | None:
    """A convolution, or its transpose if it `enlarges`, as one product where that is faster."""
    slide = stride, padding = geometry[:2]
    coarse = x.shape if enlarges else patch_product.coarse_shape(x, weight, stride, padding)
    if not patch_product.is_faster(coarse, weight, stride):
        return None
    if not enlarges:
        return patch_product.gather(x, weight, *slide)
    if fine_sizes is None:
        axes = zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True)
        fine_sizes = [(n - 1) * s - 2 * p + k for n, k, s, p in axes]
    return patch_product.spread(x, weight, *slide, fine_sizes)


MAX_NARROW = 16


def _folds(fine: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether `strided_weight_gradient` is faster."""
    return fine.is_cuda and _is_narrow_and_strided(fine, weight, geometry)


def _is_narrow_and_strided(fine: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether cuDNN uses a slow kernel for the weight gradient where a fast one exists.

    From 8 to 16 channels at 4x32x256x256 and with stride 2 it takes 36 ms in bfloat16, and 0.8 ms
    this way (H200, cuDNN 9.19): three such gradients were half of a training step.
    """
    kernel = [step + 2 if step == 2 else 3 for step in geometry.stride]
    halves = all(n % step == 0 for n, step in zip(fine.shape[2:], geometry.stride, strict=True))
    return (
        weight.shape[1] <= MAX_NARROW
        and 2 in geometry.stride
        and halves
        and list(weight.shape[2:]) == kernel
        and set(geometry.padding) == set(geometry.dilation) == {1}
        and geometry.groups == 1
        and not any(geometry.output_padding)
    )


def strided_weight_gradient(
    coarse: Tensor, fine: Tensor, like: Tensor, geometry: Geometry
) -> Tensor:
    """The gradient of <coarse, conv(fine, w)> for kernels of 4 on axes of stride 2, 3 on others.

    Blocks of 2 along the strided axes become channels; over them the kernel is 2 long, and it
    visits all of them.

    Args:
        coarse: `[B, out, ...]`.
        fine: `[B, in, ...]`, twice as long along the strided axes.
        like: a kernel `[out, in, ...]`, of which only the shape is read.
        geometry: of the convolution, or of its transpose.
    """
    num_axes, stride = fine.dim() - 2, geometry.stride
    # [B, T, H, W, in] with one voxel of zeros around strided axes, cut into blocks.
    rows = fine.movedim(1, -1)
    rows = F.pad(rows, [0, 0, *(step - 1 for step in reversed(stride) for _ in range(2))])
    for axis in reversed(range(num_axes)):
        cut = (rows.shape[axis + 1] // stride[axis], stride[axis])
        rows = rows.reshape(*rows.shape[: axis + 1], *cut, *rows.shape[axis + 2 :])
    blocks = [1 + 2 * axis for axis in range(num_axes)]
    places = [2 + 2 * axis for axis in range(num_axes)]
    folded = rows.permute(0, *blocks, *places, 2 * num_axes + 1).flatten(num_axes + 1)
    folded = folded.movedim(-1, 1)  # [B, places * in, ...]

    channels, kernel = fine.shape[1], [2 if step == 2 else 3 for step in stride]
    shape = like.new_empty((coarse.shape[1], folded.shape[1], *kernel))
    form = ([1] * num_axes, [0 if step == 2 else 1 for step in stride], [1] * num_axes)
    rest = (False, [0] * num_axes, 1, (False, True, False))
    found: Tensor = _backward(coarse, folded, shape, None, *form, *rest)[1]
    # [out, places, in, blocks] to [out, in, block and place of every axis].
    found = found.reshape(len(found), *stride, channels, *kernel)
    pairs = [axis for i in range(num_axes) for axis in (num_axes + 2 + i, 1 + i)]
    return found.permute(0, num_axes + 1, *pairs).reshape(like.shape)


def _call(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    if torch._C._are_functorch_transforms_active():
        return function.apply(*inputs)  # type: ignore[no-untyped-call]
    # `Function.apply` calls this after inspecting signatures, which takes longer than a small
    # convolution.
    return super(torch.autograd.Function, function).apply(*inputs)  # type: ignore[misc]


def _inner(x: Tensor) -> Tensor:
    # The engine reports whether it will run inner nodes, but not leaves.
    return x.view_as(x) if x.is_leaf and x.requires_grad else x


def _is_wanted(ctx: Any, index: int) -> bool:
    """Whether this backward pass needs the gradient of an input.

    `ctx.needs_input_grad` says only that some pass might: a penalty asks for gradients of clips
    alone and a generator's update passes through the discriminator, and neither should pay for
    the gradients of weights.
    """
    if not ctx.needs_input_grad[index]:
        return False
    node = ctx.next_functions[index][0]
    if node.name().endswith("AccumulateGrad"):  # a leaf
        return True
    wanted: bool = torch._C._will_engine_execute_node(node)
    return wanted


# ------------------------------------------------------------------------------------------------
# Precision


def out_of_autocast(x: Tensor) -> AbstractContextManager[None]:
    """A block that computes in the precision of its inputs, on the device of `x`."""
    if not torch.amp.is_autocast_available(x.device.type):
        return nullcontext()
    context: AbstractContextManager[None] = torch.autocast(x.device.type, enabled=False)
    return context


@contextmanager
def full_precision(x: Tensor) -> Iterator[Tensor]:
    """A block out of autocast, for sums over a batch or over frames; yields `x` for it.

    Such sums are compared with each other, and bfloat16 would lose the difference.
    """
    with out_of_autocast(x):
        yield x.to(wide_dtype(x))


def wide_dtype(x: Tensor) -> torch.dtype:
    """The number format of `x`, or float32 if that is finer."""
    return torch.promote_types(x.dtype, torch.float32)


def _compute_dtype(x: Tensor) -> torch.dtype:
    # As autocast does: float64 stays.
    device = x.device.type
    available = torch.amp.is_autocast_available(device)
    if available and torch.is_autocast_enabled(device) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return x.dtype


def _is_unsound_in_bfloat16(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether bfloat16 returns a wrong weight gradient.

    oneDNN 3.12 on CPUs leaves that gradient uninitialised when a kernel of more than one tap runs
    over an axis of length 2 (measured with torch 2.13 for every width and batch size; lengths 3
    and more are right). Such convolutions are the smallest of a network, or products.
    """
    if x.device.type != "cpu" or weight.shape[-1] == 1 or min(x.shape[2:]) > 2:
        return False
    coarse: Sequence[int] = x.shape
    if not geometry.transposed:
        coarse = patch_product.coarse_shape(x, weight, geometry.stride, geometry.padding)
    return not patch_product.is_faster(coarse, weight, geometry.stride)


# ------------------------------------------------------------------------------------------------
# PyTorch's own convolutions, for comparison


@contextmanager
def stock_convolutions() -> Iterator[None]:
    """A block in which convolutions are PyTorch's own, stock double backward included."""
    token = _STOCK.set(True)
    try:
        yield
    finally:
        _STOCK.reset(token)


def _stock_convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    transposed: bool,
) -> Tensor:
    kind = "conv_transpose" if transposed else "conv"
    y: Tensor = getattr(F, f"{kind}{x.dim() - 2}d")(x, weight, bias, stride, padding)
    return y
