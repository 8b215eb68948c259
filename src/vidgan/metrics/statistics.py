"""Features as every metric takes them, and their mean and covariance, gathered batch by batch.

Sums of squared deviations are merged pairwise (Chan, Golub and LeVeque 1979), so shards of a
feature set, gathered in different places, merge without the cancellation that raw second moments
suffer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vidgan.core.clip_ops import Values, as_tensor
from vidgan.errors import UserError

MAX_SIZE, MIN_SIZE = 1e50, 1e-50
"""Largest and smallest size of a set's largest feature. The cubic kernel takes sixth powers, and
float64 ends at 1e308: beyond, sums are infinite and their differences NaN; squares of
smaller features vanish, and so would every distance. All of float32 but its last digits fits."""


def feature_rows(values: Values, name: str = "features", fewest: int = 1) -> Tensor:
    """Features as float64 rows on the CPU; float64 is kept, anything else loses nothing.

    Args:
        values: `[M, F]` numbers: a tensor, an array or lists.
        name: what a message calls them, such as `the real features`.
        fewest: rows that are needed.

    Raises:
        UserError: no such matrix, values that are not finite, or too large or small to square.
    """
    rows = as_tensor(values, name).detach()
    if rows.is_complex() or rows.ndim != 2 or rows.shape[0] < fewest or rows.shape[1] == 0:
        raise UserError(
            f"{name} must be [M, F] with M >= {fewest}, real numbers, got {rows.dtype} "
            f"{tuple(rows.shape)}"
        )
    rows = rows.to("cpu", torch.float64)
    refuse_not_finite(name, rows)
    size = float(rows.abs().max())
    if size > MAX_SIZE:
        raise UserError(
            f"{name} hold values up to {size:.1e}, beyond {MAX_SIZE:.0e}, whose powers float64 "
            "cannot hold: look for a broken network, or scale both sets alike"
        )
    if 0 < size < MIN_SIZE:
        raise UserError(
            f"{name} are at most {size:.1e}, below {MIN_SIZE:.0e}, and their squares would vanish "
            "in float64: scale both sets alike"
        )
    return rows


def feature_pair(
    first: Values, second: Values, names: tuple[str, str], fewest: int = 2
) -> tuple[Tensor, Tensor]:
    """Two sets of features of one length as `feature_rows` gives them.

    Args:
        first, second: `[M, F]` and `[R, F]`.
        names: what a message calls them: `real` becomes "the real features".
        fewest: rows that either needs.

    Raises:
        UserError: as there, or the lengths differ.
    """
    a, b = (
        feature_rows(values, f"the {name} features", fewest)
        for values, name in zip((first, second), names, strict=True)
    )
    if a.shape[1] != b.shape[1]:
        sizes = f"{a.shape[1]} and {b.shape[1]}"
        raise UserError(
            f"the two feature sets have different lengths: {sizes}: extract both with one network"
        )
    return a, b


def refuse_not_finite(name: str, *values: Tensor) -> None:
    """Raise UserError for values that are infinite or NaN; `name` says which."""
    for part in values:
        bad = int((~torch.isfinite(part)).sum())
        if bad:
            raise UserError(
                f"{name} hold values that are not finite ({bad:,} of {part.numel():,}): look for a "
                "broken network or damaged files"
            )


@dataclass(frozen=True)
class FeatureStatistics:
    """Moments of a set of features.

    Attributes:
        count: number of rows seen.
        mean: `[F]` float64.
        scatter: `[F, F]` float64, the sum over rows of (x - mean)(x - mean)^T.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def empty(cls, feature_dim: int) -> "FeatureStatistics":
        """Statistics of no rows at all; merging them changes nothing."""
        mean = torch.zeros(feature_dim, dtype=torch.float64)
        return cls(0, mean, torch.zeros(feature_dim, feature_dim, dtype=torch.float64))

    @classmethod
    def of(cls, features: Tensor) -> "FeatureStatistics":
        """Statistics of `[M, F]` features of any float dtype.

        Raises:
            UserError: they are not a matrix of finite numbers with at least one row.
        """
        rows = feature_rows(features)
        mean = rows.mean(0)
        centred = rows - mean
        return cls(rows.shape[0], mean, centred.T @ centred)

    def merge(self, other: "FeatureStatistics") -> "FeatureStatistics":
        """Statistics of both sets of rows together."""
        if self.count == 0 or other.count == 0:
            return other if self.count == 0 else self
        count = self.count + other.count
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.count / count)
        between = torch.outer(difference, difference) * (self.count * other.count / count)
        return FeatureStatistics(count, mean, self.scatter + other.scatter + between)

    def update(self, features: Tensor) -> "FeatureStatistics":
        """Statistics after `[M, F]` more rows."""
        return self.merge(FeatureStatistics.of(features))

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance `[F, F]` (divisor count - 1), float64.

        Raises:
            ValueError: fewer than two rows were seen.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 rows, got {self.count}")
        return self.scatter / (self.count - 1)
