"""Mean and covariance of features, gathered batch by batch in float64.

Sums of squared deviations are merged pairwise (Chan, Golub and LeVeque 1979), so shards of a
feature set, gathered in different places, merge without the cancellation that raw second moments
suffer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


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
            ValueError: the features are not a matrix with at least one row.
        """
        if features.ndim != 2 or features.shape[0] == 0:
            shape = tuple(features.shape)
            raise ValueError(f"features must be [M, F] with M of at least 1, got {shape}")
        rows = features.detach().to("cpu", torch.float64)
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
