"""How sure a score is: bootstrap intervals, and the Frechet distance of infinitely many clips."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from vidgan.core.arrays import Values
from vidgan.core.randomness import keyed_rng
from vidgan.metrics.frechet import frechet_from_features
from vidgan.metrics.statistics import feature_pair

Statistic = Callable[[Tensor], float]
"""From int64 rows of a set to a score."""


@dataclass(frozen=True)
class Interval:
    """Where a score may lie.

    Attributes:
        low, high: ends.
        level: share of draws between them.
        method: `bootstrap` (rows drawn with replacement) or `subsampling` (without, see there).
    """

    low: float
    high: float
    level: float
    method: str

    def as_record(self) -> dict[str, Any]:
        """Plain values for a JSON record."""
        return asdict(self)


def bootstrap_interval(
    statistic: Statistic, num_rows: int, *, draws: int = 200, level: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile interval of a score over rows drawn with replacement (Efron 1979).

    Only for scores that duplicates do not bias: means, the Inception Score, shares. For distances
    between sets take `subsampling_interval`.

    Args:
        statistic: the score of the rows it is given.
        num_rows: M.
        draws: resamples.
        level: share of them between both ends.
        seed: of the resamples.
    """
    rng = keyed_rng(seed, "bootstrap")
    values = [statistic(torch.randint(num_rows, (num_rows,), generator=rng)) for _ in range(draws)]
    return Interval(*_percentiles(values, level), level, "bootstrap")


def subsampling_interval(
    statistic: Statistic,
    num_rows: int,
    size: int,
    *,
    draws: int = 100,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval over subsets of a fixed size, drawn without replacement.

    Duplicates bias a Frechet or kernel distance, so subsets are drawn instead. All hold the size at
    which the score is reported, which has to be well below `num_rows`: at half of the rows the
    spread between subsets is about that between fresh sets divided by sqrt(2).

    Raises:
        ValueError: the size is not smaller than the number of rows.
    """
    if not 1 <= size < num_rows:
        raise ValueError(f"subsets of {size} rows cannot be drawn from {num_rows}")
    rng = keyed_rng(seed, "subsampling")
    values = [statistic(torch.randperm(num_rows, generator=rng)[:size]) for _ in range(draws)]
    return Interval(*_percentiles(values, level), level, "subsampling")


@dataclass(frozen=True)
class Extrapolation:
    """A Frechet distance as a line in 1/n.

    Attributes:
        value: the intercept, an estimate for infinitely many clips; noise may take it below 0.
        slope: of the line.
        residual: root of the mean squared gap between line and points.
        sizes: n of the points.
        distances: the points.
    """

    value: float
    slope: float
    residual: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]

    def as_record(self) -> dict[str, Any]:
        """Plain values for a JSON record."""
        record = asdict(self)
        return {**record, "sizes": list(self.sizes), "distances": list(self.distances)}


def extrapolated_frechet(
    fake: Values,
    real: Values,
    *,
    points: int = 15,
    smallest: int | None = None,
    seed: int = 0,
    **options: bool,
) -> Extrapolation:
    """Fit the Frechet distance of nested subsets against 1/n and read off n = infinity.

    The bias of the distance falls like 1/n (Chong and Forsyth 2020). Subset of size n: the first n
    rows of both sets in seeded order, so larger subsets contain the smaller ones.

    Args:
        fake: `[M, F]`.
        real: `[R, F]`; both sets are taken to the same sizes.
        points: subsets, at equal steps of 1/n.
        smallest: least n; by default half of the rows, and more than F where that is possible.
        seed: of the order.
        options: `allow_few` and `divides_by_n` of the distance.

    Raises:
        ValueError: there are too few rows for two sizes.
    """
    fake, real = feature_pair(fake, real, ("fake", "real"))
    largest, dim = min(fake.shape[0], real.shape[0]), fake.shape[1]
    if smallest is None:
        smallest = min(max(largest // 2, dim + 1), max(2, 3 * largest // 4))
    inverse = torch.linspace(1 / largest, 1 / smallest, points, dtype=torch.float64)
    sizes = sorted({round(1 / float(x)) for x in inverse})
    if len(sizes) < 2 or smallest < 2:
        raise ValueError(
            f"the distance of infinitely many clips needs two different sizes of sets, got "
            f"{largest} rows and a smallest size of {smallest}"
        )
    order_fake, order_real = (
        torch.randperm(rows.shape[0], generator=keyed_rng(seed, "nested subsets", name))
        for name, rows in (("fake", fake), ("real", real))
    )
    distances = [
        frechet_from_features(fake[order_fake[:n]], real[order_real[:n]], **options).distance
        for n in sizes
    ]
    x = 1 / torch.tensor(sizes, dtype=torch.float64)
    y = torch.tensor(distances, dtype=torch.float64)
    centred = x - x.mean()
    slope = float((centred * (y - y.mean())).sum() / centred.square().sum())
    value = float(y.mean()) - slope * float(x.mean())
    residual = float((y - value - slope * x).square().mean().sqrt())
    return Extrapolation(value, slope, residual, tuple(sizes), tuple(distances))


def _percentiles(values: Sequence[float], level: float) -> tuple[float, float]:
    found = torch.tensor(list(values), dtype=torch.float64)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.quantile(found, ends).tolist()
    return low, high
