"""Normalisation layers: batch norm with declared statistics, and layer norm per channel."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.core.distributed import Processes
from vidgan.models.base import RunningStatistics
from vidgan.models.parts.convolution import full_precision

NormKind = Literal["batch", "layer", "none"]
"""Choices of a discriminator's normalisation."""


class BatchStatistics(RunningStatistics):
    """Running mean and variance `shape`, moved at each optimizer step.

    `momentum` counts once for every pass of the step, as it does where each pass moves them at
    once; but the passes of a step weigh the same, whatever their order.

    Where several processes train, a batch is that of all of them: its mean and variance are found
    by differentiable sums over `processes`, so that many compute what one computes.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, *shape: int, eps: float, momentum: float) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))

    def by_batch(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Normalise `[B, C, ...]` with its own mean and variance; record them if the pass
        counts."""
        if self.processes.count > 1:
            y, mean, var = normalize_globally(x, weight, bias, self.eps, self.processes)
        elif self.observes:
            # With momentum 1 these receive the mean and the unbiased variance of this batch.
            mean, var = torch.zeros_like(self.running_mean), torch.ones_like(self.running_var)
            y = F.batch_norm(
                x,
                mean.view(-1),
                var.view(-1),
                weight,
                bias,
                training=True,
                momentum=1.0,
                eps=self.eps,
            )
        else:
            return F.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)
        if self.observes:
            self.note(mean.view_as(self.running_mean), var.view_as(self.running_var))
        return y

    @torch.no_grad()
    def settle(self, momentum: float | None = None) -> None:
        if self.observed:
            share = 1 - (1 - self.momentum) ** self.passes if momentum is None else momentum
            mean, var = self.observed
            self.running_mean.lerp_(mean / self.passes, share)
            self.running_var.lerp_(var / self.passes, share)
        self.forget()


def normalize_globally(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, processes: Processes
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise this process' rows `[B, C, ...]` over the rows of all.

    The variance is summed around the common mean: a difference of mean squares would cancel.

    Returns:
        The rows, and mean and unbiased variance `[C]` of the whole batch.
    """
    with full_precision(x) as wide:
        axes = [axis for axis in range(x.dim()) if axis != 1]
        column = (-1, *[1] * (x.dim() - 2))  # [C, 1, ...], beside every axis but the first
        count = x.numel() // x.shape[1] * processes.count
        mean = processes.sum_differentiably(wide.sum(axes)) / count
        centred = wide - mean.view(column)
        var = processes.sum_differentiably(centred.square().sum(axes)) / count
        y = centred * torch.rsqrt(var + eps).view(column)
        if weight is not None:
            y = y * weight.view(column)
        if bias is not None:
            y = y + bias.view(column)
    return y.to(x.dtype), mean, var * (count / max(count - 1, 1))


class BatchNorm(BatchStatistics):
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

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        scale: bool = True,
        shift: bool = True,
    ) -> None:
        super().__init__(num_channels, eps=eps, momentum=momentum)
        self.weight = nn.Parameter(torch.ones(num_channels)) if scale else None
        self.bias = nn.Parameter(torch.zeros(num_channels)) if shift else None

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.ones_like(self.running_var) if self.weight is None else self.weight
        bias = torch.zeros_like(self.running_mean) if self.bias is None else self.bias
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, weight, bias, eps=self.eps)
        return self.by_batch(x, weight, bias)


class TimeBatchNorm(BatchStatistics):
    """Batch norm of frames `[B, T, C, H, W]` with statistics of their own for every time step.

    Means and variances run over B, H and W alone, so frames do not influence each other
    (Clark et al. 2019). There is no scale and no shift. In eval mode a clip longer than those
    trained on is normalised with the last step's statistics from there on.
    """

    def __init__(
        self, num_frames: int, num_channels: int, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__(num_frames, num_channels, eps=eps, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        num_frames, trained_frames = x.shape[1], len(self.running_mean)
        steps = x.flatten(1, 2)  # [B, T*C, H, W]: time steps are channels of their own
        if not self.training:
            step = torch.arange(num_frames, device=x.device).clamp(max=trained_frames - 1)
            mean, var = self.running_mean[step].flatten(), self.running_var[step].flatten()
            return F.batch_norm(steps, mean, var, eps=self.eps).view(x.shape)
        if num_frames != trained_frames:
            raise ValueError(f"training needs clips of {trained_frames} frames, not {num_frames}")
        return self.by_batch(steps, None, None).view(x.shape)


class LayerNorm(nn.Module):
    """Layer norm over all axes but the first, with a factor and an offset per channel.

    (Ba et al. 2016; the affine part as in the discriminators of Gulrajani et al. 2017.)
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
