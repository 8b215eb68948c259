"""Kernel distances between two sets of features: unbiased MMD (KID, KVD) and JEDi.

With a kernel k the squared maximum mean discrepancy (Gretton et al. 2012) is

    E k(x, x') + E k(y, y') - 2 E k(x, y),

estimated without bias by leaving the diagonals out (their lemma 6). It is 0 in the mean for equal
distributions whatever the number of rows, so a value may be negative.

JEDi (Luo et al. 2024) is the biased estimate with k(a, b) = (a.b / F)^2. As the kernel is a plain
square, it equals (1 / F^2) ||E x x^T - E y y^T||_F^2 and needs second moments only, which stream.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vidgan.core.clip_ops import Values
from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.metrics.statistics import feature_pair, refuse_not_finite

BLOCK = 2048
"""Rows of the kernel matrix that are in memory at once."""

JEDI_SCALE = 100.0

Kernel = Callable[[Tensor], Tensor]
"""From inner products a.b / F to values of the kernel, entry by entry."""

KERNELS: dict[str, Kernel] = {
    # Binkowski et al. 2018, section 4; also the defaults of scikit-learn's polynomial kernel.
    "polynomial-3": lambda products: (products + 1).pow(3),
    "square": lambda products: products.square(),
    "linear": lambda products: products,
}
"""Kernels by the name under which a protocol lists them."""


@dataclass(frozen=True, kw_only=True)
class KernelRule:
    """Everything that moves a kernel distance; part of a protocol.

    Attributes:
        kernel: key in `KERNELS`.
        subsets: 0 takes all rows at once (KVD); else the number of random subsets (KID).
        subset_size: rows of a subset; no set may hold fewer.
        seed: of the subsets.
        scale: factor of the printed value.
    """

    kernel: str = "polynomial-3"
    subsets: int = 0
    subset_size: int = 1000
    seed: int = 0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise UserError(f"there is no kernel {self.kernel!r}; use {', '.join(KERNELS)}")
        if self.subsets < 0 or self.subset_size < 2:
            raise UserError("subsets must be at least 0 and subset_size at least 2")
        if not math.isfinite(self.scale):
            raise UserError(f"kernel.scale must be a finite number, got {self.scale}")
        for name in ("subset_size", "seed"):
            if not self.subsets and getattr(self, name) != getattr(type(self), name):
                raise UserError(f"kernel.{name} has no effect without subsets: set kernel.subsets")


@dataclass(frozen=True)
class KernelResult:
    """A kernel distance, and its population standard deviation over subsets (None for one)."""

    distance: float
    spread: float | None


def kernel_distance(fake: Values, real: Values, rule: KernelRule | None = None) -> KernelResult:
    """Unbiased squared MMD between two feature sets.

    Args:
        fake: `[M, F]`, any float dtype, M of at least 2.
        real: `[R, F]`.
        rule: None takes the cubic kernel on all rows.

    Returns:
        A float64 number that may be negative; 0 in the mean for equal distributions.

    Raises:
        UserError: shapes do not match, there are fewer than two rows, or fewer than a subset has,
            or values are not finite.

    Example:
        >>> import torch
        >>> rule = KernelRule(kernel="linear")
        >>> kernel_distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [7.0]]), rule)
        KernelResult(distance=11.0, spread=None)
    """
    rule = rule or KernelRule()
    x, y = feature_pair(fake, real, ("fake", "real"))
    if not rule.subsets:
        return KernelResult(rule.scale * _unbiased(x, y, rule.kernel), None)
    size, smaller = rule.subset_size, min(x.shape[0], y.shape[0])
    if size > smaller:
        raise UserError(
            f"subsets of kernel.subset_size={size} cannot be drawn from a set of {smaller}: take "
            "smaller subsets, or more clips"
        )
    rng = keyed_rng(rule.seed, "kernel subsets")
    values = []
    for _ in range(rule.subsets):
        chosen_x = torch.randperm(x.shape[0], generator=rng)[:size]
        chosen_y = torch.randperm(y.shape[0], generator=rng)[:size]
        values.append(rule.scale * _unbiased(x[chosen_x], y[chosen_y], rule.kernel))
    found = torch.tensor(values, dtype=torch.float64)
    return KernelResult(float(found.mean()), float(found.std(correction=0)))


def jedi(fake: Values, real: Values) -> float:
    """JEDi of two feature sets `[M, F]` and `[R, F]`: 100 times the biased MMD, see the module.

    Raises:
        UserError: shapes do not match, or values are not finite.
    """
    x, y = feature_pair(fake, real, ("fake", "real"))
    return jedi_from_moments(x.T @ x / x.shape[0], y.T @ y / y.shape[0])


def jedi_from_moments(second_fake: Tensor, second_real: Tensor) -> float:
    """JEDi from the second moments E x x^T, float64 `[F, F]`.

    Raises:
        UserError: they are not finite.
    """
    refuse_not_finite("moments of features", second_fake, second_real)
    dim = second_fake.shape[0]
    return JEDI_SCALE * float((second_fake - second_real).square().sum()) / dim**2


def _unbiased(x: Tensor, y: Tensor, kernel: str) -> float:
    return (
        _mean_off_diagonal(x, kernel)
        + _mean_off_diagonal(y, kernel)
        - 2 * _kernel_sum(x, y, kernel) / (x.shape[0] * y.shape[0])
    )


def _mean_off_diagonal(x: Tensor, kernel: str) -> float:
    rows, dim = x.shape
    diagonal = float(KERNELS[kernel](x.square().sum(1) / dim).sum())
    return (_kernel_sum(x, x, kernel) - diagonal) / (rows * (rows - 1))


def _kernel_sum(x: Tensor, y: Tensor, kernel: str) -> float:
    """Sum of the kernel over all pairs, block by block, so that no matrix is ever whole."""
    function, dim = KERNELS[kernel], x.shape[1]
    return math.fsum(
        float(function(a @ b.T / dim).sum())
        for a in torch.split(x, BLOCK)
        for b in torch.split(y, BLOCK)
    )
