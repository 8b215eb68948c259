"""Self-attention over the pixels of frames, or over each axis of a clip in turn.

H. Zhang et al., "Self-Attention Generative Adversarial Networks", ICML 2019, arXiv:1805.08318, with
the widths of A. Brock et al. 2019, arXiv:1809.11096.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.models.parts.layers import ScaledLinear


class SelfAttention(nn.Module):
    """Self-attention over a sequence `[N, L, C]`.

    y = x + gain * W_o softmax(W_q x (W_k x)^T) W_v x, with queries and keys of C / 8 channels and
    values of C / 2. The gain starts at 0, so that the layer starts as the identity.
    """

    def __init__(self, channels: int, spectral_norm: bool) -> None:
        super().__init__()
        narrow, half = max(channels // 8, 1), max(channels // 2, 1)

        def linear(before: int, after: int) -> ScaledLinear:
            return ScaledLinear(
                before,
                after,
                bias=False,
                spectral_norm=spectral_norm,
                initialise=nn.init.orthogonal_,
            )

        self.query, self.key = linear(channels, narrow), linear(channels, narrow)
        self.value, self.out = linear(channels, half), linear(half, channels)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x, self.key(x), self.value(x))

    def attend(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Add attention over keys `[N, M, C / 8]` and values `[N, M, C / 2]`."""
        weights = torch.softmax(self.query(x) @ keys.transpose(1, 2), dim=2)  # [N, L, M]
        y: Tensor = x + self.gain * self.out(weights @ values)  # [N, L, C]
        return y


class SeparableAttention(nn.Module):
    """Self-attention along height, then width, then time, of features `[B, T, C, H, W]`.

    Three sequences of length H, W and T in place of one of length T H W (Clark et al. 2019,
    version 1). Time is attended in both directions, so a clip's first frames depend on its length.
    """

    AXES = (3, 4, 1)
    """Height, width and time of features."""

    def __init__(self, channels: int, spectral_norm: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(SelfAttention(channels, spectral_norm) for _ in self.AXES)

    def forward(self, x: Tensor) -> Tensor:
        for layer, axis in zip(self.layers, self.AXES, strict=True):
            # The axis and the channels go last; all others are sequences of their own.
            moved = x.movedim((axis, 2), (3, 4))
            y = layer(moved.flatten(0, 2)).view(moved.shape)
            x = y.movedim((3, 4), (axis, 2))
        return x


class FrameAttention(SelfAttention):
    """Self-attention over all pixels of frames `[N, C, H, W]`.

    Keys and values are the largest of 2x2 pixels each, a quarter of the pairs (Brock et al. 2019).
    Frames of 2 px are not pooled: attention over a single key is trivial.
    """

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(2).transpose(1, 2)  # [N, H*W, C]
        keys, values = (
            largest_of_blocks(rows, x.shape[2], x.shape[3])
            for rows in (self.key(pixels), self.value(pixels))
        )  # [N, H*W/4, C/8] and [N, H*W/4, C/2]
        y = self.attend(pixels, keys, values)
        return y.transpose(1, 2).view(x.shape)


def largest_of_blocks(rows: Tensor, height: int, width: int) -> Tensor:
    """Rows of pixels `[N, H*W, D]`, the largest of every 2x2 pixels: `[N, H*W/4, D]`."""
    if min(height, width) <= 2:
        return rows
    maps = rows.transpose(1, 2).reshape(rows.shape[0], -1, height, width)
    return F.max_pool2d(maps, 2).flatten(2).transpose(1, 2)
