"""Frechet distance between two sets of features, in float64 and without a regularising epsilon.

With means m and covariances S the squared distance of the fitted Gaussians (Dowson and Landau 1982;
Heusel et al. 2017) is

    |m_a - m_b|^2 + tr S_a + tr S_b - 2 tr (S_a S_b)^(1/2).

For any factors S = F F^T the last trace is the sum of the singular values of F_a^T F_b. Singular
values of that product keep full accuracy where roots of the eigenvalues of S_a S_b lose half of the
digits, so every branch below computes them; only the factors differ.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidgan.metrics.statistics import FeatureStatistics

MAX_CLIPPED_MASS = 1e-8
"""Negative eigenvalues up to this share of a covariance's trace are taken for rounding."""

MAX_SINGULAR_VALUE_DIM = 2048
"""Above this many features eigenvalues replace singular values: 3 times faster, error 1e-11."""


@dataclass(frozen=True)
class FrechetResult:
    """A Frechet distance and how it was computed.

    Attributes:
        distance: the squared distance; sampling error aside 0 for equal distributions.
        mean_part: |m_a - m_b|^2.
        method: `rows`, `cholesky-svd`, `cholesky-eigh` or `eigh-svd`.
        clipped_mass: share of the trace made up of negative eigenvalues set to 0 (`eigh-svd`).
        relative: distance / tr S_b, with the second set (the real one) as the yardstick; None when
            that set does not vary.
    """

    distance: float
    mean_part: float
    method: str
    clipped_mass: float
    relative: float | None

    def as_record(self) -> dict[str, Any]:
        """Plain values for a JSON record."""
        return {
            "value": self.distance,
            "mean_part": self.mean_part,
            "relative_to_real_trace": self.relative,
            "estimator": {
                "method": self.method,
                "covariance_divisor": "n-1",
                "clipped_mass": self.clipped_mass,
                "regularisation": 0.0,
                "dtype": "float64",
            },
        }


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Squared Frechet distance between Gaussians fitted to two feature sets.

    Args:
        features_a: `[M_a, F]`, any float dtype, M_a of at least 2.
        features_b: `[M_b, F]`.

    Returns:
        A float64 number that is not negative. It shrinks with the number of rows even for equal
        distributions: compare only values of equal M.

    Raises:
        ValueError: shapes do not match, or values are not finite.

    Example:
        >>> import torch
        >>> frechet_distance(torch.zeros(2, 3), torch.ones(2, 3))
        3.0
    """
    return frechet_from_features(features_a, features_b).distance


def frechet_from_features(features_a: Tensor, features_b: Tensor) -> FrechetResult:
    """`frechet_distance` with a note of how it was computed; arguments as there."""
    rows_a, rows_b = _checked(features_a, features_b)
    if min(rows_a.shape[0], rows_b.shape[0]) > rows_a.shape[1]:
        return frechet_from_statistics(FeatureStatistics.of(rows_a), FeatureStatistics.of(rows_b))
    mean_a, mean_b = rows_a.mean(0), rows_b.mean(0)
    factor_a = (rows_a - mean_a) / (rows_a.shape[0] - 1) ** 0.5
    factor_b = (rows_b - mean_b) / (rows_b.shape[0] - 1) ** 0.5
    cross = torch.linalg.svdvals(factor_a @ factor_b.T).sum()
    traces = (factor_a.square().sum(), factor_b.square().sum())
    return _result(mean_a - mean_b, traces, cross, "rows", 0.0)


def frechet_from_statistics(a: FeatureStatistics, b: FeatureStatistics) -> FrechetResult:
    """Frechet distance from moments alone, for example those of a cached reference set.

    Raises:
        ValueError: a covariance has negative eigenvalues beyond rounding, or sizes differ.
    """
    if a.mean.shape != b.mean.shape:
        sizes = f"{a.mean.numel()} and {b.mean.numel()}"
        raise ValueError(f"the two feature sets have different lengths: {sizes}")
    cov_a, cov_b = a.covariance, b.covariance
    traces = (cov_a.trace(), cov_b.trace())
    lower_a, failed_a = torch.linalg.cholesky_ex(cov_a)
    lower_b, failed_b = torch.linalg.cholesky_ex(cov_b)
    clipped = 0.0
    if failed_a.item() or failed_b.item():
        factor_a, clipped_a = _symmetric_factor(cov_a)
        factor_b, clipped_b = _symmetric_factor(cov_b)
        cross = torch.linalg.svdvals(factor_a.T @ factor_b).sum()
        method, clipped = "eigh-svd", max(clipped_a, clipped_b)
    elif cov_a.shape[0] <= MAX_SINGULAR_VALUE_DIM:
        cross = torch.linalg.svdvals(lower_a.T @ lower_b).sum()
        method = "cholesky-svd"
    else:
        eigenvalues = torch.linalg.eigvalsh(lower_a.T @ cov_b @ lower_a)
        cross = eigenvalues.clamp_min(0).sqrt().sum()
        method = "cholesky-eigh"
    return _result(a.mean - b.mean, traces, cross, method, clipped)


def _checked(features_a: Tensor, features_b: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets in float64 on the CPU; float32 is off by 4e-3 for ill-conditioned covariances."""
    for name, features in (("first", features_a), ("second", features_b)):
        if features.ndim != 2 or features.shape[0] < 2:
            shape = tuple(features.shape)
            raise ValueError(f"the {name} features must be [M, F] with M >= 2, got {shape}")
        if not torch.isfinite(features).all():
            raise ValueError(f"the {name} features hold values that are not finite")
    if features_a.shape[1] != features_b.shape[1]:
        sizes = f"{features_a.shape[1]} and {features_b.shape[1]}"
        raise ValueError(f"the two feature sets have different lengths: {sizes}")
    rows = [x.detach().to("cpu", torch.float64) for x in (features_a, features_b)]
    return rows[0], rows[1]


def _symmetric_factor(covariance: Tensor) -> tuple[Tensor, float]:
    """F with F F^T = covariance, and the share of the trace lost to negative eigenvalues."""
    values, vectors = torch.linalg.eigh(covariance)
    trace = float(covariance.trace())
    clipped = float(-values.clamp_max(0).sum()) / trace if trace > 0 else 0.0
    if clipped > MAX_CLIPPED_MASS:
        raise ValueError(
            f"a covariance has negative eigenvalues worth {clipped:.1e} of its trace, more than "
            f"rounding explains ({MAX_CLIPPED_MASS:.0e}); the statistics are damaged"
        )
    return vectors * values.clamp_min(0).sqrt(), clipped


def _result(
    difference: Tensor, traces: tuple[Tensor, Tensor], cross: Tensor, method: str, clipped: float
) -> FrechetResult:
    mean_part = float(difference.square().sum())
    trace_b = float(traces[1])
    # Rounding can leave -1e-16 times the trace for equal sets.
    distance = max(0.0, mean_part + float(traces[0] + traces[1] - 2 * cross))
    relative = distance / trace_b if trace_b > 0 else None
    return FrechetResult(distance, mean_part, method, clipped, relative)
