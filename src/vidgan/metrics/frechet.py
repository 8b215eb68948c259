"""Frechet distance between two sets of features, in float64 and without a regularising epsilon.

With means m and covariances S the squared distance of the fitted Gaussians (Dowson and Landau 1982;
Heusel et al. 2017) is

    |m_a - m_b|^2 + tr S_a + tr S_b - 2 tr (S_a S_b)^(1/2).

For any factors S = F F^T the last trace is the sum of the singular values of F_a^T F_b. Singular
values of that product keep full accuracy where roots of the eigenvalues of S_a S_b lose half of the
digits, so every branch below computes them; only the factors differ. Features in memory give the
best ones: the rows themselves, or the triangles of their QR decomposition. From moments alone they
are Cholesky factors, and for a singular covariance eigenvectors.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vidgan.core.clip_ops import Values, as_tensor
from vidgan.errors import UserError
from vidgan.metrics.statistics import FeatureStatistics, feature_pair, refuse_not_finite

# ------------------------------------------------------------------------------------------------
# Inception Score of class probabilities (Salimans et al. 2016)

MAX_LOG_GUARD = 1e-3
"""More would move the score itself."""


def inception_score(
    probabilities: Values, splits: int = 1, *, log_guard: float = 0.0
) -> tuple[float, float]:
    """`exp(mean_i KL(p(c|i) || p(c)))`, with p(c) the mean over the clips of a split.

    The score lies in 1 .. N. It grows with the number of clips of a split, so the number of clips
    and of splits belong to the score's name. Terms with p = 0 are 0.

    Args:
        probabilities: `[M, N]`, rows that sum to 1; a tensor or an array.
        splits: number of contiguous parts that are scored one by one; part i begins at row
            i * M // splits, as in the authors' code. Shuffle rows that are sorted by class before
            asking for more than one.
        log_guard: added to the arguments of both logarithms. Published codes add 1e-7 or 1e-20,
            which keeps their score of perfectly sure predictions below N by as little.

    Returns:
        Mean and population standard deviation over the splits.

    Raises:
        UserError: rows are not distributions, or there are more splits than rows.

    Example:
        >>> import torch
        >>> inception_score(torch.eye(4), splits=1)
        (4.0, 0.0)
    """
    probabilities = as_tensor(probabilities, "probabilities")
    if probabilities.ndim != 2 or probabilities.shape[0] == 0:
        shape = tuple(probabilities.shape)
        raise UserError(f"probabilities must be [M, N] with M of at least 1, got {shape}")
    if not 1 <= splits <= probabilities.shape[0]:
        rows = probabilities.shape[0]
        raise UserError(f"splits must lie in 1 .. {rows} (the number of clips), got {splits}")
    p = probabilities.detach().to("cpu", torch.float64)
    sums = p.sum(1)
    # Negated so that NaN, which compares false with everything, is refused as well.
    if not bool((p >= 0).all()) or not bool(((sums - 1).abs() < 1e-3).all()):
        raise UserError("every row of probabilities must be non-negative and sum to 1")
    if not 0 <= log_guard < MAX_LOG_GUARD:
        raise UserError(f"log_guard must lie in [0, {MAX_LOG_GUARD}), got {log_guard}")
    # float32 softmax rows sum to 1 within 1e-6 only; an exact sum keeps the score at most N.
    p = p / sums[:, None]
    rows = p.shape[0]
    starts = [i * rows // splits for i in range(1, splits)]
    scores = torch.stack([_score(part, log_guard) for part in p.tensor_split(starts)])
    return float(scores.mean()), float(scores.std(correction=0))


def _score(p: Tensor, guard: float) -> Tensor:
    mean = p.mean(0)
    # xlogy(0, 0) is 0. The mean of the rows' second terms is that of the mean row.
    of_rows = torch.special.xlogy(p, p + guard).sum(1).mean()
    of_mean = torch.special.xlogy(mean, mean + guard).sum()
    score: Tensor = (of_rows - of_mean).clamp_min(0).exp()
    return score


# ------------------------------------------------------------------------------------------------
# Frechet distance between two sets of features, in float64 and without a regularising epsilon

MAX_CLIPPED_MASS = 1e-8
"""Negative eigenvalues up to this share of a covariance's trace are taken for rounding."""

MAX_SINGULAR_VALUE_DIM = 2048
"""Above this many features speed decides: moments replace QR decompositions, and eigenvalues
replace singular values, four times faster. At condition 1e12 the error grows from 1e-15 to 1e-12.
"""


@dataclass(frozen=True)
class FrechetResult:
    """A Frechet distance and how it was computed.

    Attributes:
        distance: the squared distance; sampling error aside 0 for equal distributions.
        mean_part: |m_a - m_b|^2.
        method: `rows-svd` or `qr-svd` of features; `cholesky-svd`, `cholesky-eigh` or `eigh-svd`
            of moments.
        clipped_mass: share of the trace made up of negative eigenvalues set to 0 (`eigh-svd`).
        relative: distance / tr S_b, with the second set (the real one) as the yardstick; None when
            that set does not vary.
        few_rows: whether a set has fewer rows than features, which had to be allowed.
        divides_by_n: whether covariances were divided by n in place of n - 1.
    """

    distance: float
    mean_part: float
    method: str
    clipped_mass: float
    relative: float | None
    few_rows: bool
    divides_by_n: bool = False

    def as_record(self) -> dict[str, Any]:
        """Plain values for a JSON record."""
        return {
            "value": self.distance,
            "mean_part": self.mean_part,
            "relative_to_real_trace": self.relative,
            "estimator": {
                "method": self.method,
                "covariance_divisor": "n" if self.divides_by_n else "n-1",
                "clipped_mass": self.clipped_mass,
                "regularisation": 0.0,
                "few_rows": self.few_rows,
                "dtype": "float64",
            },
        }


def frechet_distance(
    features_a: Values,
    features_b: Values,
    *,
    allow_few: bool = False,
    divides_by_n: bool = False,
) -> float:
    """Squared Frechet distance between Gaussians fitted to two feature sets.

    Args:
        features_a: `[M_a, F]`, any float dtype, M_a of at least 2; a tensor or an array.
        features_b: `[M_b, F]`.
        allow_few: whether sets of fewer rows than features are compared; their distance is mostly
            sampling noise.
        divides_by_n: whether covariances are divided by n, as some published codes do.

    Returns:
        A float64 number that is not negative. It shrinks with the number of rows even for equal
        distributions: compare only values of equal M.

    Raises:
        UserError: a set has fewer rows than features, shapes do not match, or values are not
            finite or beyond what float64 can square.

    Example:
        >>> import torch
        >>> frechet_distance(torch.zeros(4, 3), torch.ones(4, 3))
        3.0
    """
    result = frechet_from_features(
        features_a, features_b, allow_few=allow_few, divides_by_n=divides_by_n
    )
    return result.distance


def frechet_from_features(
    features_a: Values, features_b: Values, *, allow_few: bool = False, divides_by_n: bool = False
) -> FrechetResult:
    """`frechet_distance` with a note of how it was computed; arguments as there."""
    # In float64: float32 is off by 4e-3 for ill-conditioned covariances.
    rows_a, rows_b = feature_pair(features_a, features_b, ("first", "second"))
    count, dim = min(rows_a.shape[0], rows_b.shape[0]), rows_a.shape[1]
    _refuse_few(count, dim, allow_few)
    if count > dim > MAX_SINGULAR_VALUE_DIM:
        moments = FeatureStatistics.of(rows_a), FeatureStatistics.of(rows_b)
        return frechet_from_statistics(*moments, divides_by_n=divides_by_n)
    mean_a, mean_b = rows_a.mean(0), rows_b.mean(0)
    lost = 0 if divides_by_n else 1
    factor_a = (rows_a - mean_a) / (rows_a.shape[0] - lost) ** 0.5
    factor_b = (rows_b - mean_b) / (rows_b.shape[0] - lost) ** 0.5
    traces = (factor_a.square().sum(), factor_b.square().sum())
    if count > dim:
        # As F F^T = R^T R, the triangles serve as factors, and nothing is squared on the way.
        factor_a, factor_b = (torch.linalg.qr(f, mode="r").R for f in (factor_a, factor_b))
    cross = torch.linalg.svdvals(factor_a @ factor_b.T).sum()
    method = "qr-svd" if count > dim else "rows-svd"
    result = _result(mean_a - mean_b, traces, cross, method=method, few_rows=count < dim)
    return replace(result, divides_by_n=divides_by_n)


def frechet_from_statistics(
    a: FeatureStatistics,
    b: FeatureStatistics,
    *,
    allow_few: bool = False,
    divides_by_n: bool = False,
) -> FrechetResult:
    """Frechet distance from moments alone, for example those of a cached reference set.

    Raises:
        UserError: a set has fewer rows than features, and that is not allowed, moments are not
            finite, a covariance has negative eigenvalues beyond rounding, or sizes differ.
    """
    if a.mean.shape != b.mean.shape:
        sizes = f"{a.mean.numel()} and {b.mean.numel()}"
        raise UserError(f"the two feature sets have different lengths: {sizes}")
    refuse_not_finite("statistics of features", a.mean, b.mean, a.scatter, b.scatter)
    cov_a, cov_b = (
        moments.covariance * ((moments.count - 1) / moments.count if divides_by_n else 1.0)
        for moments in (a, b)
    )
    count, dim = min(a.count, b.count), a.mean.numel()
    _refuse_few(count, dim, allow_few)
    traces = (cov_a.trace(), cov_b.trace())
    lower_a, failed_a = torch.linalg.cholesky_ex(cov_a)
    lower_b, failed_b = torch.linalg.cholesky_ex(cov_b)
    clipped = 0.0
    if failed_a.item() or failed_b.item():
        factor_a, clipped_a = _symmetric_factor(cov_a)
        factor_b, clipped_b = _symmetric_factor(cov_b)
        cross = torch.linalg.svdvals(factor_a.T @ factor_b).sum()
        method, clipped = "eigh-svd", max(clipped_a, clipped_b)
    elif dim <= MAX_SINGULAR_VALUE_DIM:
        cross = torch.linalg.svdvals(lower_a.T @ lower_b).sum()
        method = "cholesky-svd"
    else:
        eigenvalues = torch.linalg.eigvalsh(lower_a.T @ cov_b @ lower_a)
        cross = eigenvalues.clamp_min(0).sqrt().sum()
        method = "cholesky-eigh"
    result = _result(
        a.mean - b.mean, traces, cross, method=method, clipped=clipped, few_rows=count < dim
    )
    return replace(result, divides_by_n=divides_by_n)


def _refuse_few(count: int, dim: int, allow_few: bool) -> None:
    if count < dim and not allow_few:
        raise UserError(
            f"the Frechet distance of {count} clips in {dim} features is mostly sampling noise: "
            f"give at least {dim} clips a set, take a kernel distance, or allow few clips "
            "(allow_few=True), which the record then says"
        )


def _symmetric_factor(covariance: Tensor) -> tuple[Tensor, float]:
    """F with F F^T = covariance, and the share of the trace lost to negative eigenvalues."""
    values, vectors = torch.linalg.eigh(covariance)
    trace = float(covariance.trace())
    clipped = float(-values.clamp_max(0).sum()) / trace if trace > 0 else 0.0
    if clipped > MAX_CLIPPED_MASS:
        raise UserError(
            f"a covariance has negative eigenvalues worth {clipped:.1e} of its trace, more than "
            f"rounding explains ({MAX_CLIPPED_MASS:.0e}); the statistics are damaged"
        )
    return vectors * values.clamp_min(0).sqrt(), clipped


def _result(
    difference: Tensor,
    traces: tuple[Tensor, Tensor],
    cross: Tensor,
    *,
    method: str,
    few_rows: bool,
    clipped: float = 0.0,
) -> FrechetResult:
    mean_part = float(difference.square().sum())
    trace_b = float(traces[1])
    distance = mean_part + float(traces[0] + traces[1] - 2 * cross)
    # Rounding can leave -1e-16 times the trace for equal sets; NaN stays NaN.
    distance = 0.0 if distance < 0 else distance
    relative = distance / trace_b if trace_b > 0 else None
    return FrechetResult(distance, mean_part, method, clipped, relative, few_rows)
