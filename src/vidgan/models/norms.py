"""Normalisation layers: batch norm with declared statistics, and layer norm per channel."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.models.base import RunningStatistics

NormKind = Literal["batch", "layer", "none"]
"""Normalisation of a discriminator that lets the user choose."""


class BatchNorm(RunningStatistics):
    """Batch norm over every axis but the second, for inputs `[B, C, ...]` of any rank.

    In training a batch is normalised with its own mean and variance; in eval mode the running ones
    take their place. The running statistics move once per optimizer step of the network, by the
    mean over the passes that counted (see `RunningStatistics`).

    Args:
        num_channels: length C of the second axis.
        eps: added to the variance.
        momentum: part of the running statistics that one step replaces.
        scale, shift: whether there is a learned factor (gamma) and offset (beta) per channel.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        scale: bool = True,
        shift: bool = True,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_channels)) if scale else None
        self.bias = nn.Parameter(torch.zeros(num_channels)) if shift else None
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.ones_like(self.running_var) if self.weight is None else self.weight
        bias = torch.zeros_like(self.running_mean) if self.bias is None else self.bias
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, weight, bias, eps=self.eps)
        if not self.observes:
            return F.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)
        # With momentum 1 these receive the mean and the unbiased variance of this batch.
        mean, var = torch.zeros_like(self.running_mean), torch.ones_like(self.running_var)
        y = F.batch_norm(x, mean, var, weight, bias, training=True, momentum=1.0, eps=self.eps)
        self.note(mean, var)
        return y

    @torch.no_grad()
    def settle(self) -> None:
        if self.observed:
            mean, var = self.observed
            self.running_mean.lerp_(mean / self.passes, self.momentum)
            self.running_var.lerp_(var / self.passes, self.momentum)
        self.forget()


class LayerNorm(nn.Module):
    """Layer norm over all axes but the first, with a factor and an offset per channel.

    (Ba et al. 2016; the affine part as in the critics of Gulrajani et al. 2017.)
    """

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        # One group of channels is the whole of a clip.
        return F.group_norm(x, 1, self.weight, self.bias, self.eps)


def make_norm(
    kind: NormKind, num_channels: int, eps: float = 1e-5, shift: bool = True
) -> nn.Module:
    """A normalisation by its name; `shift` says whether batch norm has a learned offset."""
    if kind == "batch":
        return BatchNorm(num_channels, eps, shift=shift)
    return LayerNorm(num_channels, eps) if kind == "layer" else nn.Identity()
