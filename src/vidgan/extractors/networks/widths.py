"""The weights of a network: their shapes as functions of a width, or values that need no file.

Seeded weights are a function of a seed. Every tensor is drawn from a generator of its own, keyed by
the seed and the tensor's name: kernels and matrices from a normal law of variance 2 / fan-in (He et
al. 2015, arXiv 1502.01852), which keeps the size of activations from layer to layer; batch
normalisation passes values through and biases are 0.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng

Shapes = dict[str, tuple[int, ...]]
"""Name of a weight to its shape, in the order of the network."""
ONES = ("bn.weight", "norm.weight", "running_var")


def scaled(channels: int, width: float) -> int:
    """Channels at a width: `channels * width`, rounded, at least 1."""
    return max(1, round(channels * width))


def seeded_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Float32 weights of these names and shapes.

    Args:
        shapes: name to shape, out-channels first.
        seed: any integer; equal seeds give equal weights.
    """
    weights = {}
    for name, shape in shapes.items():
        if len(shape) > 1:
            drawn = torch.randn(shape, generator=keyed_rng(seed, "seeded weights", name))
            weights[name] = drawn * math.sqrt(2 / math.prod(shape[1:]))
        else:
            weights[name] = torch.ones(shape) if name.endswith(ONES) else torch.zeros(shape)
    return weights
