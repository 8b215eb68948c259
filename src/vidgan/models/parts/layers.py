"""Layers shared by the models: equalized convolutions, exact fast resampling, normalisation.

The two resampling convolutions are the paper's layers in fewer multiplications, not other layers:
nearest-neighbour upsampling followed by a 3x3x3 convolution equals one transposed convolution, and
a 3x3x3 convolution followed by average pooling equals one strided convolution, both with a kernel
of 4 taps on every doubled axis. The plain forms stay here as the definition and as the oracle.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses import FakeTensor

from vidgan.core.clip_ops import Factor, pool_clip, upsample_clip
from vidgan.errors import UserError
from vidgan.models.parts.convolution import convolve, wide_dtype

# ------------------------------------------------------------------------------------------------
# Noise inside a discriminator that is a function of its view, so that the pass stays pure

NUM_SEEDS = 2**24
"""Different values of a float32 drawn uniformly from [0, 1)."""


class RowNoise:
    """Adds noise N(0, deviation^2) whose rows follow from one number of a view each.

    A discriminator draws nothing itself: noise would depend on how a batch is split over processes
    and micro-batches. Row b of all noise of a pass comes from a generator of its own, so reals and
    fakes of row b get the same noise, and another step gets other noise.

    Args:
        deviation: of the noise; 0 for none.
        view: uniform numbers `[B]` in [0, 1) that key the rows; None for no noise.
    """

    def __init__(self, deviation: float, view: Tensor | None) -> None:
        self.deviation = deviation
        self.rngs: list[torch.Generator] = []
        if deviation and view is not None and not view.is_meta:
            seeds = (view.double() * NUM_SEEDS).long().tolist()
            self.rngs = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, x: Tensor) -> Tensor:
        """Features `[B, ...]` with the next numbers of every row added."""
        if not self.rngs:
            return x
        rows = [torch.randn(x.shape[1:], generator=rng) for rng in self.rngs]
        return x + self.deviation * torch.stack(rows).to(x)


def refuse_negative_noise(deviation: float) -> None:
    """Raise UserError for a deviation below 0."""
    if deviation < 0:
        raise UserError(f"model.noise={deviation} is a deviation: set it to 0 or more")


# ------------------------------------------------------------------------------------------------
# Layers shared by the models: equalized convolutions, exact fast resampling, normalisation

LEAKY_SLOPE = 0.2


def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 0.2, the value of most papers here."""
    return F.leaky_relu(x, LEAKY_SLOPE)


def pixel_norm(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Divide every position's feature vector (axis 1) by its root mean square."""
    mean_square = x.square().mean(dim=1, keepdim=True)
    return x * torch.rsqrt(mean_square.to(wide_dtype(x)) + eps).to(x.dtype)


def leaky_pixel_norm(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Equal to `pixel_norm(leaky_relu(x), eps)`; its derivative reads memory half as often."""
    y, _ = _LeakyPixelNorm.apply(x, eps)  # type: ignore[no-untyped-call]
    normalised: Tensor = y
    return normalised


class _LeakyPixelNorm(torch.autograd.Function):
    """y = a r with a = leaky_relu(x), r = 1 / sqrt(mean a^2 + eps), to y and r.

    Both are outputs, so that the derivative, which is written in them, can be differentiated again:
    dL/da = r (dL/dy - y mean(y dL/dy)) - r^2 y dL/dr / C.
    """

    @staticmethod
    def forward(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        a = leaky_relu(x)
        mean_square = a.square().mean(dim=1, keepdim=True)
        r = torch.rsqrt(mean_square.to(wide_dtype(x)) + eps).to(x.dtype)
        return a.mul_(r), r

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, of_y: Tensor | None, of_r: Tensor | None) -> tuple[Tensor | None, None]:
        y, r = ctx.saved_tensors
        if of_y is not None:
            inner = (of_y * y).mean(dim=1, keepdim=True)
            slope = torch.addcmul(of_y, y, inner, value=-1)
            slope = slope * r if torch.is_grad_enabled() else slope.mul_(r)
        else:
            slope = torch.zeros_like(y)
        if of_r is not None:
            slope = slope - of_r * r.square() * y / y.shape[1]
        # The sign of y is that of x.
        return torch.ops.aten.leaky_relu_backward(slope, y, LEAKY_SLOPE, True), None


def group_deviation(x: Tensor, group_size: int, eps: float = 1e-8) -> Tensor:
    """Standard deviation of every feature over each group of clips, the same for all of a group.

    Groups are contiguous rows: reals followed by fakes share none if a group's size divides the
    number of each.

    Args:
        x: features `[B, ...]`.
        group_size: rows of a group; a smaller batch is one group.

    Returns:
        `sqrt(variance + eps)` in float32 or finer, of the shape of `x`.

    Raises:
        ValueError: the batch is larger than a group and not a multiple of it.
    """
    num_clips = x.shape[0]
    group = min(group_size, num_clips)
    if num_clips % group:
        raise ValueError(f"a batch of {num_clips} clips does not split into groups of {group}")
    groups = x.to(wide_dtype(x)).reshape(num_clips // group, group, *x.shape[1:])
    centred = groups - groups.mean(dim=1, keepdim=True)
    deviation = (centred.square().mean(dim=1) + eps).sqrt()
    return deviation.repeat_interleave(group, dim=0)


def minibatch_stddev(x: Tensor, group_size: int, eps: float = 1e-8) -> Tensor:
    """Append the mean of `group_deviation` as one constant channel (Karras et al. 2018, section 3).

    Args:
        x: features `[B, C, T, H, W]`.
        group_size: rows of a group; a smaller batch is one group.

    Returns:
        `[B, C + 1, T, H, W]`.

    Raises:
        ValueError: the batch is larger than a group and not a multiple of it.
    """
    deviation = group_deviation(x, group_size, eps).mean(dim=(1, 2, 3, 4), keepdim=True)
    return torch.cat([x, deviation.to(x.dtype).expand(-1, 1, *x.shape[2:])], dim=1)


# ------------------------------------------------------------------------------------------------
# Resampling convolutions: the definition, and the same function in fewer multiplications


def same_padding(weight: Tensor) -> tuple[int, ...]:
    """Zero padding on each axis with which a kernel of odd lengths keeps the size."""
    return tuple(length // 2 for length in weight.shape[2:])


def upsample_conv3d_plain(x: Tensor, weight: Tensor, bias: Tensor | None, factor: Factor) -> Tensor:
    """Nearest-neighbour upsampling by `factor`, then a 3x3x3 convolution with zero padding 1."""
    return convolve(upsample_clip(x, factor), weight, bias, padding=same_padding(weight))


def upsample_conv3d(x: Tensor, weight: Tensor, bias: Tensor | None, factor: Factor) -> Tensor:
    """Equal to `upsample_conv3d_plain`, as one transposed convolution.

    Each input voxel reaches the outputs through `weight` reversed and widened by a box of the
    factor's length, 8/27 of the multiplications for factor (2, 2, 2).
    """
    kernel = _widen(weight, factor, reverse=True).transpose(0, 1)
    return convolve(x, kernel, bias, factor, same_padding(weight), transposed=True)


def conv3d_pool_plain(x: Tensor, weight: Tensor, bias: Tensor | None, factor: Factor) -> Tensor:
    """A 3x3x3 convolution with zero padding 1, then averaging over blocks of `factor`."""
    return pool_clip(convolve(x, weight, bias, padding=same_padding(weight)), factor)


def conv3d_pool(x: Tensor, weight: Tensor, bias: Tensor | None, factor: Factor) -> Tensor:
    """Equal to `conv3d_pool_plain`, as one strided convolution."""
    kernel = _widen(weight, factor, scale=1 / math.prod(factor))
    return convolve(x, kernel, bias, factor, same_padding(weight))


def _widen(weight: Tensor, factor: Factor, scale: float = 1.0, reverse: bool = False) -> Tensor:
    """Convolve kernels with a box of length 2 along every axis whose factor is 2.

    That is linear in the taps (27, or 9 of one frame), so one small matrix product does it, several
    times faster than padding and adding. The kernels are multiplied by `scale` and, if asked,
    reversed on all axes.
    """
    if not {1, 2}.issuperset(factor):
        raise ValueError(f"resampling factors are 1 or 2, got {factor}")
    lengths = tuple(weight.shape[2:])
    # What is made under a mode of tensors, or while a graph is traced or captured, belongs to that.
    is_own = (
        torch.compiler.is_compiling()  # first: a compiler knows none of the others
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
        or isinstance(weight, FakeTensor)
        or torch._C._get_tracing_state() is not None
        or (weight.is_cuda and torch.cuda.is_current_stream_capturing())
    )
    box = _box_matrix.__wrapped__ if is_own else _box_matrix
    matrix = box(lengths, factor, scale, reverse, weight.dtype, weight.device)
    widened = (size + step - 1 for size, step in zip(lengths, factor, strict=True))
    return (weight.flatten(2) @ matrix).reshape(*weight.shape[:2], *widened)


@cache
def _box_matrix(
    lengths: tuple[int, ...],
    factor: Factor,
    scale: float,
    reverse: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """The matrix of `_widen`, `[old taps, new taps]`: a dozen small operators, made once."""
    # A tensor of inference mode could not serve in training afterwards.
    with torch.inference_mode(False):
        along = []
        for length, step in zip(lengths, factor, strict=True):
            single = torch.eye(length, dtype=dtype, device=device)
            doubled = F.pad(single, (0, 1)) + F.pad(single, (1, 0))  # [3, 4]
            along.append(doubled if step == 2 else single)
        matrix = torch.kron(torch.kron(along[0], along[1]), along[2]) * scale  # [27, taps]
        return matrix.flip(1) if reverse else matrix


# ------------------------------------------------------------------------------------------------
# Weight layers


Initialise = Callable[[Tensor], object]
"""Fills a new weight in place."""


class WeightLayer(nn.Module):
    """A weight with runtime scaling: equalized learning rate, or spectral normalisation.

    Equalized learning rate stores weights ~ N(0, 1) and multiplies them by gain / sqrt(fan_in)
    when used (Karras et al. 2018, section 4.1). With `initialise` the weight starts as that leaves
    it and is used without a factor. Spectral normalisation divides by the largest
    singular value of the weight as a matrix `[out, rest]` (Miyato et al. 2018); its vector moves
    only in `update_spectral_norm`, called once per optimizer step, so a forward pass stays pure.
    """

    spectral_vector: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        num_biases: int,
        gain: float = math.sqrt(2.0),
        spectral_norm: bool = False,
        initialise: Initialise | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))
        self.bias = nn.Parameter(torch.zeros(num_biases)) if num_biases else None
        self.scale = gain / math.sqrt(math.prod(shape[1:]))
        if initialise is not None:
            self.scale = 1.0
            if not self.weight.is_meta:
                initialise(self.weight)
        self.spectral_norm = spectral_norm
        if spectral_norm:
            self.register_buffer("spectral_vector", F.normalize(torch.randn(shape[0]), dim=0))
            # Enough iterations for the first forward pass to divide by nearly the true value.
            self.update_spectral_norm(num_rounds=10)

    def scaled_weight(self) -> Tensor:
        """The weight as used in the forward pass."""
        if not self.spectral_norm:
            return self.weight * self.scale
        matrix = self.weight.flatten(1)
        right = F.normalize(matrix.detach().t() @ self.spectral_vector, dim=0)
        return self.weight / (self.spectral_vector @ (matrix @ right))

    @torch.no_grad()
    def update_spectral_norm(self, num_rounds: int = 1) -> None:
        """Move the estimate of the first singular vector by power iteration."""
        if not self.spectral_norm or self.weight.is_meta:
            return
        matrix = self.weight.flatten(1)
        vector = self.spectral_vector
        for _ in range(num_rounds):
            vector = F.normalize(matrix @ (matrix.t() @ vector), dim=0)
        self.spectral_vector.copy_(vector)


class ScaledLinear(WeightLayer):
    """Fully connected layer `[B, in] -> [B, out]`."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        gain: float = math.sqrt(2.0),
        bias: bool = True,
        spectral_norm: bool = False,
        initialise: Initialise | None = None,
    ) -> None:
        shape = (out_features, in_features)
        super().__init__(shape, out_features * bias, gain, spectral_norm, initialise)

    def forward(self, x: Tensor) -> Tensor:
        if self.spectral_norm:
            return F.linear(x, self.scaled_weight(), self.bias)
        # The same product, without a pass over the weight, which is far larger than the input.
        return F.linear(x * self.scale, self.weight, self.bias)


class ScaledConv3d(WeightLayer):
    """Convolution with an odd kernel, stride 1 and zero padding that keeps the size.

    The kernel is a cube, or as many frames long as `kernel_frames` says.
    """

    num_axes = 3

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        gain: float = math.sqrt(2.0),
        bias: bool = True,
        spectral_norm: bool = False,
        initialise: Initialise | None = None,
        kernel_frames: int | None = None,
    ) -> None:
        kernel = [kernel_size] * self.num_axes
        if kernel_frames is not None:
            kernel[0] = kernel_frames
        shape = (out_channels, in_channels, *kernel)
        super().__init__(shape, out_channels * bias, gain, spectral_norm, initialise)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.scaled_weight()
        return convolve(x, weight, self.bias, padding=same_padding(weight))


class ScaledConv2d(ScaledConv3d):
    """The same on frames `[B, C, H, W]`, with a square kernel."""

    num_axes = 2


class UpsampleConv3d(ScaledConv3d):
    """Nearest-neighbour upsampling by `factor` and a 3x3x3 convolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        factor: Factor,
        fast: bool = True,
        kernel_frames: int | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_frames=kernel_frames)
        self.factor = factor
        self.fast = fast

    def forward(self, x: Tensor) -> Tensor:
        function = upsample_conv3d if self.fast else upsample_conv3d_plain
        return function(x, self.scaled_weight(), self.bias, self.factor)


class ConvPool3d(ScaledConv3d):
    """A 3x3x3 convolution, average pooling by `factor` and leaky ReLU, in a named order.

    `conv-pool-act` averages before the activation, as the authors' code does, and runs as one
    strided convolution; `conv-act-pool` averages after it, as the thesis' table prints.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        factor: Factor,
        order: str = "conv-pool-act",
        fast: bool = True,
        spectral_norm: bool = False,
        kernel_frames: int | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, spectral_norm=spectral_norm, kernel_frames=kernel_frames
        )
        self.factor = factor
        self.order = order
        self.fast = fast

    def forward(self, x: Tensor) -> Tensor:
        weight = self.scaled_weight()
        if self.order == "conv-act-pool":
            y = leaky_relu(convolve(x, weight, self.bias, padding=same_padding(weight)))
            return pool_clip(y, self.factor)
        function = conv3d_pool if self.fast else conv3d_pool_plain
        return leaky_relu(function(x, weight, self.bias, self.factor))


def update_spectral_norms(network: nn.Module) -> None:
    """Move the spectral-norm vectors of a network, once per optimizer step of its own."""
    for module in network.modules():
        if isinstance(module, WeightLayer):
            module.update_spectral_norm()
