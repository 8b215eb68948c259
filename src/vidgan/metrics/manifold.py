"""Precision, recall, density and coverage of one feature set by balls around another.

Around every row of a set lies the ball that reaches to its k-th nearest neighbour in the set
(Kynkaanniemi et al. 2019; Naeem et al. 2020):

* precision: share of fake rows inside any ball of real rows; recall: the same with roles swapped;
* density: mean number of real balls a fake row lies in, over k;
* coverage: share of real balls that hold a fake row.

All move with the number of rows and k, and precision and recall of one law with itself lie far
below 1 in many dimensions: read them beside the values of real rows.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from vidgan.core.clip_ops import Values
from vidgan.errors import UserError
from vidgan.metrics.statistics import feature_pair

BLOCK = 1024
"""Rows of the distance matrix that are in memory at once."""

BOUNDARIES = ("open", "closed")
"""Whether a row exactly on a ball's surface lies inside: `closed`."""


@dataclass(frozen=True, kw_only=True)
class ManifoldRule:
    """Everything that moves these numbers; part of a protocol.

    Attributes:
        neighbours: k; the row itself does not count.
        boundary: `open` (<, as in the package prdc) or `closed` (<=, as in torch-fidelity).
    """

    neighbours: int = 5
    boundary: str = "open"

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise UserError(f"neighbours must be at least 1, got {self.neighbours}")
        if self.boundary not in BOUNDARIES:
            raise UserError(f"boundary must be open or closed, got {self.boundary!r}")


@dataclass(frozen=True)
class ManifoldResult:
    """Shares in 0..1, and the density, which may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float

    def as_record(self) -> dict[str, float]:
        """The four numbers by name."""
        return asdict(self)


def manifold_metrics(
    *, real: Values, fake: Values, rule: ManifoldRule | None = None
) -> ManifoldResult:
    """Precision, recall, density and coverage.

    Args:
        real: `[R, F]`, any float dtype, R greater than k.
        fake: `[M, F]`, M greater than k.
        rule: None takes k = 5 and open balls.

    Raises:
        UserError: shapes do not match, there are too few rows, or values are not finite.

    Example:
        >>> import torch
        >>> real = torch.arange(10.0)[:, None]
        >>> far = manifold_metrics(real=real, fake=real + 100, rule=ManifoldRule(neighbours=1))
        >>> far.precision, far.coverage
        (0.0, 0.0)
    """
    rule = rule or ManifoldRule()
    # A ball needs k neighbours beside its own row.
    x, y = feature_pair(real, fake, ("real", "fake"), fewest=rule.neighbours + 1)
    radii_x, radii_y = _radii(x, rule.neighbours), _radii(y, rule.neighbours)
    balls_of_fake = torch.zeros(len(y), dtype=torch.int64)  # real balls around each fake row
    is_covered = torch.zeros(len(x), dtype=torch.bool)
    is_recalled = torch.zeros(len(x), dtype=torch.bool)
    for start in range(0, len(x), BLOCK):
        rows = slice(start, min(start + BLOCK, len(x)))
        distances = _distances(x[rows], y)  # [block, M]
        in_real = _inside(distances, radii_x[rows, None], rule)
        balls_of_fake += in_real.sum(0)
        is_covered[rows] = in_real.any(1)
        is_recalled[rows] = _inside(distances, radii_y[None], rule).any(1)
    return ManifoldResult(
        precision=float((balls_of_fake > 0).double().mean()),
        recall=float(is_recalled.double().mean()),
        density=float(balls_of_fake.double().mean()) / rule.neighbours,
        coverage=float(is_covered.double().mean()),
    )


def _inside(distances: Tensor, radii: Tensor, rule: ManifoldRule) -> Tensor:
    return distances <= radii if rule.boundary == "closed" else distances < radii


def _radii(rows: Tensor, neighbours: int) -> Tensor:
    """Distance of every row to its k-th neighbour in the set, itself left out."""
    # The row itself is the nearest, so the k-th neighbour is the (k+1)-th smallest distance.
    parts = [
        _distances(block, rows).kthvalue(neighbours + 1, dim=1).values
        for block in torch.split(rows, BLOCK)
    ]
    return torch.cat(parts)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances from differences: those of equal rows are exactly 0."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
