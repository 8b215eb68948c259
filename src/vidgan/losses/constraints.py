"""Constraints on a discriminator: edits of its parameters after an optimizer step.

Every constraint is a small frozen record of its settings and a function of the module alone. It
runs without gradients on every process alike, so that all keep the same parameters.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vidgan.losses.penalties import refuse_unless


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """Base of all constraints.

    Attributes:
        every: apply after every n-th discriminator update; 0 removes the constraint.
    """

    every: int = 1

    def __post_init__(self) -> None:
        refuse_unless(self.every >= 0, f"every={self.every} must be 0 or more")

    def __call__(self, discriminator: nn.Module) -> None:
        """Edit the parameters in place."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class WeightClipping(Constraint):
    """Clip every parameter to [-bound, bound] (Arjovsky et al. 2017, algorithm 1)."""

    bound: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unless(self.bound > 0, f"bound={self.bound} must be above 0")

    @torch.no_grad()
    def __call__(self, discriminator: nn.Module) -> None:
        for parameter in discriminator.parameters():
            parameter.clamp_(-self.bound, self.bound)


@dataclass(frozen=True, kw_only=True)
class SingularValueClipping(Constraint):
    """Bound the gain of every layer (Saito et al. 2017, section 3.3).

    Each convolution's weight, as a matrix `[out, rest]`, has its singular values cut off at
    `bound`; each batch norm's factor gamma is clamped to [`least_gamma` s, s] with s the running
    standard deviation, so that the layer multiplies by at most 1. Offsets stay as they are.
    """

    every: int = 5
    bound: float = 1.0
    least_gamma: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unless(self.bound > 0, f"bound={self.bound} must be above 0")
        refuse_unless(
            0 <= self.least_gamma <= 1, f"least_gamma={self.least_gamma} must lie in 0..1"
        )

    @torch.no_grad()
    def __call__(self, discriminator: nn.Module) -> None:
        for module in discriminator.modules():
            weight = getattr(module, "weight", None)
            variance = getattr(module, "running_var", None)
            if not isinstance(weight, Tensor):
                continue
            if isinstance(variance, Tensor):
                deviation = variance.to(weight.dtype).sqrt()
                weight.clamp_(self.least_gamma * deviation, deviation)
            elif weight.dim() >= 4:
                weight.copy_(clip_singular_values(weight, self.bound))


def clip_singular_values(weight: Tensor, bound: float) -> Tensor:
    """A weight whose singular values as a matrix `[out, rest]` are cut off at `bound`.

    With W = U S V^T the result U min(S, bound) V^T equals W - U_b diag(1 - bound / S_b) U_b^T W
    over the columns b whose value exceeds the bound. U and S^2 come from the small matrix W W^T,
    in float64 (float32 squares would lose half of the digits).
    """
    matrix = weight.flatten(1).double()
    squares, vectors = torch.linalg.eigh(matrix @ matrix.t())
    too_large = squares > bound**2
    if not bool(too_large.any()):
        return weight
    left = vectors[:, too_large]  # [out, b]
    excess = 1 - bound / squares[too_large].sqrt()
    clipped: Tensor = matrix - (left * excess) @ (left.t() @ matrix)
    return clipped.to(weight.dtype).view_as(weight)


CONSTRAINTS: dict[str, type[Constraint]] = {
    "weight_clipping": WeightClipping,
    "singular_value_clipping": SingularValueClipping,
}
