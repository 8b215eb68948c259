"""Layers written out in NumPy and float64, against which the networks are checked."""

from collections.abc import Mapping
from itertools import product

import numpy
import torch
from torch import Tensor

Array = numpy.ndarray
Weights = dict[str, Array]


def as_arrays(state: Mapping[str, Tensor]) -> Weights:
    return {name: value.double().numpy() for name, value in state.items()}


def conv(
    x: Array, weight: Array, stride: int = 1, pads: list[tuple[int, int]] | None = None
) -> Array:
    """Sum over kernel taps; `x` [B, C, *size], `weight` [O, C, *kernel]."""
    axes = x.ndim - 2
    x = numpy.pad(x, [(0, 0), (0, 0), *(pads or [(0, 0)] * axes)])
    kernel = weight.shape[2:]
    sizes = [(n - k) // stride + 1 for n, k in zip(x.shape[2:], kernel, strict=True)]
    out = numpy.zeros((x.shape[0], weight.shape[0], *sizes))
    for tap in product(*map(range, kernel)):
        cut = [
            slice(start, start + (n - 1) * stride + 1, stride)
            for start, n in zip(tap, sizes, strict=True)
        ]
        seen = x[(slice(None), slice(None), *cut)]
        matrix = weight[(slice(None), slice(None), *tap)]
        out += numpy.moveaxis(numpy.tensordot(seen, matrix, axes=(1, 1)), -1, 1)
    return out


def windows(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Array:
    """Every window of the last axes, as further axes at the end."""
    axes = tuple(range(2, x.ndim))
    view = numpy.lib.stride_tricks.sliding_window_view(x, kernel, axis=axes)
    steps = tuple(slice(None, None, s) for s in stride)
    return view[(slice(None), slice(None), *steps)]


def max_pool(
    x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], pads: list[tuple[int, int]]
) -> Array:
    padded = numpy.pad(x, [(0, 0), (0, 0), *pads], constant_values=-numpy.inf)
    inner = tuple(range(-len(kernel), 0))
    return windows(padded, kernel, stride).max(axis=inner)


def relu(x: Array) -> Array:
    return numpy.maximum(x, 0)


def normed(x: Array, weights: Weights, name: str, epsilon: float = 1e-3) -> Array:
    """Batch normalisation with stored moments, per channel."""

    def column(entry: str) -> Array:
        return weights[f"{name}.{entry}"].reshape(1, -1, *[1] * (x.ndim - 2))

    scaled = (x - column("running_mean")) / numpy.sqrt(column("running_var") + epsilon)
    return scaled * column("weight") + column("bias")


def softmax(x: Array) -> Array:
    powers = numpy.exp(x - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def randomised(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights that keep activations near 1, with moments of batch normalisation that matter."""
    rng = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if value.ndim > 1:
            fan_in = value[0].numel()
            value.copy_(torch.randn(value.shape, generator=rng) * (2 / fan_in) ** 0.5)
        elif value.ndim == 1 and name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=rng) + 0.5)
        elif value.ndim == 1:
            is_scale = name.endswith("bn.weight")
            value.copy_(torch.randn(value.shape, generator=rng) * 0.1 + is_scale)
    return network.eval()


def largest_error(found: Tensor, expected: Array) -> float:
    """Largest difference, relative to the largest expected value."""
    return float(numpy.abs(found.double().numpy() - expected).max() / numpy.abs(expected).max())
