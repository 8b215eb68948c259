"""I3D (Carreira and Zisserman 2017, arXiv 1705.07750), the RGB stream.

Inception-v1 with every kernel inflated along time. TensorFlow's "SAME" padding holds everywhere:
an axis of n steps at stride s gives ceil(n / s), and of the steps that are missing the odd one is
added at the end. Batch normalisation has no scale in the original; the scale here is 1 then.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.extractors.networks.inception import Shapes, scaled

Triple = tuple[int, int, int]

MIXED = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
"""Channels of the branches b0, b1a, b1b, b2a, b2b, b3b of every mixed block at width 1."""

NORM_EPSILON = 1e-3
"""Of batch normalisation in the original; the PyTorch class of VideoGPT and others has 1e-5."""
MIN_FRAMES = 9
"""Fewer frames leave one step in front of the average pooling, which spans two."""


def i3d_units(width: float = 1.0) -> dict[str, tuple[int, int, int]]:
    """Every convolution with batch normalisation: name to channels in, out and kernel side."""
    c64, c192 = scaled(64, width), scaled(192, width)
    units = {
        "Conv3d_1a_7x7": (3, c64, 7),
        "Conv3d_2b_1x1": (c64, c64, 1),
        "Conv3d_2c_3x3": (c64, c192, 3),
    }
    c_in = c192
    for block, channels in MIXED.items():
        b0, b1a, b1b, b2a, b2b, b3b = (scaled(c, width) for c in channels)
        units |= {
            f"Mixed_{block}.b0": (c_in, b0, 1),
            f"Mixed_{block}.b1a": (c_in, b1a, 1),
            f"Mixed_{block}.b1b": (b1a, b1b, 3),
            f"Mixed_{block}.b2a": (c_in, b2a, 1),
            f"Mixed_{block}.b2b": (b2a, b2b, 3),
            f"Mixed_{block}.b3b": (c_in, b3b, 1),
        }
        c_in = b0 + b1b + b2b + b3b
    return units


def i3d_shapes(width: float = 1.0, num_classes: int = 400) -> Shapes:
    """Name and shape of every weight: 57 units of 5 entries, and the class layer."""
    shapes: Shapes = {}
    for name, (c_in, c_out, side) in i3d_units(width).items():
        shapes[f"{name}.conv3d.weight"] = (c_out, c_in, side, side, side)
        for entry in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{entry}"] = (c_out,)
    features = feature_dim(width)
    shapes["logits.conv3d.weight"] = (num_classes, features, 1, 1, 1)
    shapes["logits.conv3d.bias"] = (num_classes,)
    return shapes


def feature_dim(width: float = 1.0) -> int:
    """Channels of the last mixed block: 1024 at width 1."""
    b0, _, b1b, _, b2b, b3b = (scaled(c, width) for c in MIXED["5c"])
    return b0 + b1b + b2b + b3b


def pad_amounts(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Steps that TensorFlow's "SAME" adds before and after an axis of `size` steps."""
    missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return missing // 2, missing - missing // 2


def pad_same(x: Tensor, kernel: Triple, stride: Triple, value: float = 0.0) -> Tensor:
    """Pad `[B, C, T, H, W]` as TensorFlow's "SAME" does."""
    sizes = x.shape[2:]
    pads = [pad_amounts(n, k, s) for n, k, s in zip(sizes, kernel, stride, strict=True)]
    # F.pad takes the last axis first.
    flat = [step for pair in reversed(pads) for step in pair]
    return F.pad(x, flat, value=value) if any(flat) else x


def max_pool_same(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Max pooling with "SAME" padding, which never wins a window."""
    return F.max_pool3d(pad_same(x, kernel, stride, float("-inf")), kernel, stride)


class ConvUnit3d(nn.Module):
    """Convolution with "SAME" padding, batch normalisation and ReLU; the class layer, which has no
    `epsilon`, is only the convolution, with a bias."""

    def __init__(
        self, c_in: int, c_out: int, side: int, stride: int = 1, epsilon: float | None = None
    ) -> None:
        super().__init__()
        self.kernel: Triple = (side, side, side)
        self.stride: Triple = (stride, stride, stride)
        self.conv3d = nn.Conv3d(c_in, c_out, self.kernel, self.stride, bias=epsilon is None)
        self.bn = None if epsilon is None else nn.BatchNorm3d(c_out, eps=epsilon)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3d(pad_same(x, self.kernel, self.stride))
        return out if self.bn is None else F.relu(self.bn(out), inplace=True)


class Mixed(nn.Module):
    """Four branches side by side: 1; 1 and 3; 1 and 3; max pooling and 1."""

    def __init__(self, units: dict[str, ConvUnit3d]) -> None:
        super().__init__()
        for name, unit in units.items():
            self.add_module(name, unit)

    def forward(self, x: Tensor) -> Tensor:
        unit = self.get_submodule
        pooled = max_pool_same(x, (3, 3, 3), (1, 1, 1))
        branches = [
            unit("b0")(x),
            unit("b1b")(unit("b1a")(x)),
            unit("b2b")(unit("b2a")(x)),
            unit("b3b")(pooled),
        ]
        return torch.cat(branches, dim=1)


class I3D(nn.Module):
    """The RGB stream of I3D.

    Args:
        num_classes: N: 400 or 600 (Kinetics).
        width: scale of the channel counts.
        norm_epsilon: added to the variances of batch normalisation.
    """

    def __init__(
        self, num_classes: int = 400, *, width: float = 1.0, norm_epsilon: float = NORM_EPSILON
    ) -> None:
        super().__init__()
        units, epsilon = i3d_units(width), norm_epsilon
        self.Conv3d_1a_7x7 = ConvUnit3d(*units["Conv3d_1a_7x7"], stride=2, epsilon=epsilon)
        self.Conv3d_2b_1x1 = ConvUnit3d(*units["Conv3d_2b_1x1"], epsilon=epsilon)
        self.Conv3d_2c_3x3 = ConvUnit3d(*units["Conv3d_2c_3x3"], epsilon=epsilon)
        for block in MIXED:
            prefix = f"Mixed_{block}."
            inside = {
                name.removeprefix(prefix): ConvUnit3d(*sizes, epsilon=epsilon)
                for name, sizes in units.items()
                if name.startswith(prefix)
            }
            self.add_module(f"Mixed_{block}", Mixed(inside))
        self.logits = ConvUnit3d(feature_dim(width), num_classes, 1)

    def forward(self, clip: Tensor) -> dict[str, Tensor]:
        """Features of a float clip `[B, 3, T, 224, 224]` in [-1, 1], T at least 9.

        Returns:
            `avg_pool` `[B, 1024]`: average-pooled activations, averaged over time; `logits`
            `[B, N]`: class scores, averaged over time; `probabilities`: their softmax.
        """
        mixed = self.get_submodule
        x = self.Conv3d_1a_7x7(clip)  # [B, 64, T/2, 112, 112]
        x = max_pool_same(x, (1, 3, 3), (1, 2, 2))  # [B, 64, T/2, 56, 56]
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        x = max_pool_same(x, (1, 3, 3), (1, 2, 2))  # [B, 192, T/2, 28, 28]
        x = mixed("Mixed_3c")(mixed("Mixed_3b")(x))
        x = max_pool_same(x, (3, 3, 3), (2, 2, 2))  # [B, 480, T/4, 14, 14]
        for block in ("4b", "4c", "4d", "4e", "4f"):
            x = mixed(f"Mixed_{block}")(x)
        x = max_pool_same(x, (2, 2, 2), (2, 2, 2))  # [B, 832, T/8, 7, 7]
        x = mixed("Mixed_5c")(mixed("Mixed_5b")(x))
        pooled = F.avg_pool3d(x, (2, 7, 7), stride=1)  # [B, 1024, T/8 - 1, 1, 1]
        logits = self.logits(pooled).mean(dim=(2, 3, 4))
        return {
            "avg_pool": pooled.mean(dim=(2, 3, 4)),
            "logits": logits,
            "probabilities": logits.softmax(1),
        }
