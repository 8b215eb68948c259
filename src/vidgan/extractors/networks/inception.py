"""Inception-v3 as TensorFlow shipped it on 2015-12-05, the network of FID (Szegedy et al. 2016).

It differs from the Inception-v3 of other libraries: 1008 classes; average pooling inside the
blocks divides by the cells that lie in the image, not by nine; the last block takes the maximum
where all others take the mean; batch normalisation has no scale (1 here) and epsilon 1e-3.
Names of weights follow the common PyTorch files.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.core.randomness import keyed_rng

# ------------------------------------------------------------------------------------------------
# The weights of a network: their shapes as functions of a width, or values that need no file.
#
# Seeded weights are a function of a seed. Every tensor is drawn from a generator of its own, keyed
# by the seed and the tensor's name: kernels and matrices from a normal law of variance 2 / fan-in
# (He et al. 2015, arXiv 1502.01852), which keeps the size of activations from layer to layer; batch
# normalisation passes values through and biases are 0.

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


# ------------------------------------------------------------------------------------------------
# Inception-v3 as TensorFlow shipped it on 2015-12-05, the network of FID (Szegedy et al. 2016)

Kernel = tuple[int, int]
UnitSizes = tuple[int, int, Kernel]

BN_EPSILON = 1e-3
NUM_CLASSES = 1008
SIDE = 299

STEM = (
    ("Conv2d_1a_3x3", 3, 32, (3, 3)),
    ("Conv2d_2a_3x3", 32, 32, (3, 3)),
    ("Conv2d_2b_3x3", 32, 64, (3, 3)),
    ("Conv2d_3b_1x1", 64, 80, (1, 1)),
    ("Conv2d_4a_3x3", 80, 192, (3, 3)),
)

BLOCK_A = (
    ("branch1x1", 0, 64, (1, 1)),
    ("branch5x5_1", 0, 48, (1, 1)),
    ("branch5x5_2", 48, 64, (5, 5)),
    ("branch3x3dbl_1", 0, 64, (1, 1)),
    ("branch3x3dbl_2", 64, 96, (3, 3)),
    ("branch3x3dbl_3", 96, 96, (3, 3)),
)
BLOCK_B = (
    ("branch3x3", 0, 384, (3, 3)),
    ("branch3x3dbl_1", 0, 64, (1, 1)),
    ("branch3x3dbl_2", 64, 96, (3, 3)),
    ("branch3x3dbl_3", 96, 96, (3, 3)),
)
BLOCK_D = (
    ("branch3x3_1", 0, 192, (1, 1)),
    ("branch3x3_2", 192, 320, (3, 3)),
    ("branch7x7x3_1", 0, 192, (1, 1)),
    ("branch7x7x3_2", 192, 192, (1, 7)),
    ("branch7x7x3_3", 192, 192, (7, 1)),
    ("branch7x7x3_4", 192, 192, (3, 3)),
)
BLOCK_E = (
    ("branch1x1", 0, 320, (1, 1)),
    ("branch3x3_1", 0, 384, (1, 1)),
    ("branch3x3_2a", 384, 384, (1, 3)),
    ("branch3x3_2b", 384, 384, (3, 1)),
    ("branch3x3dbl_1", 0, 448, (1, 1)),
    ("branch3x3dbl_2", 448, 384, (3, 3)),
    ("branch3x3dbl_3a", 384, 384, (1, 3)),
    ("branch3x3dbl_3b", 384, 384, (3, 1)),
    ("branch_pool", 0, 192, (1, 1)),
)


def block_c(c7: int) -> tuple[tuple[str, int, int, Kernel], ...]:
    """Units of a block with 7-tap kernels whose inner channels are `c7`."""
    return (
        ("branch1x1", 0, 192, (1, 1)),
        ("branch7x7_1", 0, c7, (1, 1)),
        ("branch7x7_2", c7, c7, (1, 7)),
        ("branch7x7_3", c7, 192, (7, 1)),
        ("branch7x7dbl_1", 0, c7, (1, 1)),
        ("branch7x7dbl_2", c7, c7, (7, 1)),
        ("branch7x7dbl_3", c7, c7, (1, 7)),
        ("branch7x7dbl_4", c7, c7, (7, 1)),
        ("branch7x7dbl_5", c7, 192, (1, 7)),
        ("branch_pool", 0, 192, (1, 1)),
    )


BLOCKS = {
    "Mixed_5b": (192, (*BLOCK_A, ("branch_pool", 0, 32, (1, 1)))),
    "Mixed_5c": (256, (*BLOCK_A, ("branch_pool", 0, 64, (1, 1)))),
    "Mixed_5d": (288, (*BLOCK_A, ("branch_pool", 0, 64, (1, 1)))),
    "Mixed_6a": (288, BLOCK_B),
    "Mixed_6b": (768, block_c(128)),
    "Mixed_6c": (768, block_c(160)),
    "Mixed_6d": (768, block_c(160)),
    "Mixed_6e": (768, block_c(192)),
    "Mixed_7a": (768, BLOCK_D),
    "Mixed_7b": (1280, BLOCK_E),
    "Mixed_7c": (2048, BLOCK_E),
}
"""Channels into each block at width 1, and its units: name, channels in (0: those of the block),
channels out, kernel."""

BLOCK_OUTPUTS = {
    "A": ("branch1x1", "branch5x5_2", "branch3x3dbl_3", "branch_pool"),
    "B": ("branch3x3", "branch3x3dbl_3", "*"),
    "C": ("branch1x1", "branch7x7_3", "branch7x7dbl_5", "branch_pool"),
    "D": ("branch3x3_2", "branch7x7x3_4", "*"),
    "E": (
        *("branch1x1", "branch3x3_2a", "branch3x3_2b"),
        *("branch3x3dbl_3a", "branch3x3dbl_3b", "branch_pool"),
    ),
}
"""Units that a block of a kind joins; `*` is its pooled input."""

KINDS = {"5": "AAA", "6": "BCCCC", "7": "DEE"}


def kind_of(block: str) -> str:
    """Kind of a block by its name: `Mixed_6b` is of kind C."""
    return KINDS[block[6]]["abcde".index(block[7]) - (block[6] == "5")]


def inception_units(width: float = 1.0) -> dict[str, UnitSizes]:
    """Every convolution with batch normalisation: name to channels in, out and kernel."""
    units: dict[str, UnitSizes] = {}
    channels = 3
    for name, _, c_out, kernel in STEM:
        units[name] = (channels, scaled(c_out, width), kernel)
        channels = scaled(c_out, width)
    for block, (_, parts) in BLOCKS.items():
        for name, c_in, c_out, kernel in parts:
            inside = scaled(c_in, width) if c_in else channels
            units[f"{block}.{name}"] = (inside, scaled(c_out, width), kernel)
        joined = BLOCK_OUTPUTS[kind_of(block)]
        channels = sum(channels if n == "*" else units[f"{block}.{n}"][1] for n in joined)
    return units


def inception_shapes(width: float = 1.0, num_classes: int = NUM_CLASSES) -> Shapes:
    """Name and shape of every weight: 94 units of 5 entries, and the class layer."""
    shapes: Shapes = {}
    units = inception_units(width)
    for name, (c_in, c_out, kernel) in units.items():
        shapes[f"{name}.conv.weight"] = (c_out, c_in, *kernel)
        for entry in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{entry}"] = (c_out,)
    shapes["fc.weight"] = (num_classes, pool3_dim(width))
    shapes["fc.bias"] = (num_classes,)
    return shapes


def pool3_dim(width: float = 1.0) -> int:
    """Channels of the last block: 2048 at width 1."""
    units = inception_units(width)
    return sum(units[f"Mixed_7c.{name}"][1] for name in BLOCK_OUTPUTS["E"])


class ConvUnit2d(nn.Module):
    """Convolution, batch normalisation and ReLU."""

    def __init__(self, sizes: UnitSizes, stride: int, is_padded: bool) -> None:
        super().__init__()
        c_in, c_out, kernel = sizes
        padding = (kernel[0] // 2, kernel[1] // 2) if is_padded else 0
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=BN_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Block(nn.Module):
    """A block of parallel branches; units named `_1`, `_2`, ... follow one another."""

    def __init__(self, name: str, units: dict[str, UnitSizes]) -> None:
        super().__init__()
        self.kind = kind_of(name)
        self.takes_maximum = name == "Mixed_7c"
        halving = {"B": ("branch3x3", "branch3x3dbl_3"), "D": ("branch3x3_2", "branch7x7x3_4")}
        for part, sizes in units.items():
            halves = part in halving.get(self.kind, ())
            self.add_module(
                part, ConvUnit2d(sizes, stride=2 if halves else 1, is_padded=not halves)
            )

    def forward(self, x: Tensor) -> Tensor:
        unit = self.get_submodule
        if self.kind in "BD":
            outputs = {"*": F.max_pool2d(x, 3, stride=2)}
        elif self.takes_maximum:
            outputs = {"branch_pool": unit("branch_pool")(F.max_pool2d(x, 3, 1, padding=1))}
        else:
            mean = F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)
            outputs = {"branch_pool": unit("branch_pool")(mean)}
        for name, module in self.named_children():
            if name != "branch_pool":
                outputs[name] = module(outputs.get(predecessor(name), x))
        return torch.cat([outputs[name] for name in BLOCK_OUTPUTS[self.kind]], dim=1)


def predecessor(name: str) -> str:
    """The unit before this one in its branch: `branch3x3_1` for `branch3x3_2a`; it need not be."""
    stem, _, place = name.rpartition("_")
    number = place.rstrip("ab")
    return f"{stem}_{int(number) - 1}" if number.isdigit() else ""


class InceptionV3(nn.Module):
    """The FID network of 2015-12-05.

    Args:
        num_classes: N.
        width: scale of the channel counts.
    """

    def __init__(self, num_classes: int = NUM_CLASSES, *, width: float = 1.0) -> None:
        super().__init__()
        units = inception_units(width)
        self.Conv2d_1a_3x3 = ConvUnit2d(units["Conv2d_1a_3x3"], 2, is_padded=False)
        self.Conv2d_2a_3x3 = ConvUnit2d(units["Conv2d_2a_3x3"], 1, is_padded=False)
        self.Conv2d_2b_3x3 = ConvUnit2d(units["Conv2d_2b_3x3"], 1, is_padded=True)
        self.Conv2d_3b_1x1 = ConvUnit2d(units["Conv2d_3b_1x1"], 1, is_padded=False)
        self.Conv2d_4a_3x3 = ConvUnit2d(units["Conv2d_4a_3x3"], 1, is_padded=False)
        for block, (_, parts) in BLOCKS.items():
            inside = {name: units[f"{block}.{name}"] for name, *_ in parts}
            self.add_module(block, Block(block, inside))
        shape = inception_shapes(width, num_classes)["fc.weight"]
        self.fc = nn.Linear(shape[1], shape[0])

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """Features of float frames `[B, 3, 299, 299]`, (v - 128) / 128 of pixels v in 0..255.

        Returns:
            `pool3` `[B, 2048]`; `logits` `[B, N]` and `probabilities`; the same without the bias
            of the class layer as `logits_without_bias` and `probabilities_without_bias`, which
            is what the Inception Score of TensorFlow's original used.
        """
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(frames)))
        x = F.max_pool2d(x, 3, stride=2)  # [B, 64, 73, 73]
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)  # [B, 192, 35, 35]
        for block in BLOCKS:
            x = self.get_submodule(block)(x)
        pool3 = x.mean(dim=(2, 3))  # [B, 2048, 8, 8] before
        without = F.linear(pool3, self.fc.weight)
        logits = without + self.fc.bias
        return {
            "pool3": pool3,
            "logits": logits,
            "probabilities": logits.softmax(1),
            "logits_without_bias": without,
            "probabilities_without_bias": without.softmax(1),
        }
