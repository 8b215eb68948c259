"""Uncertainty of scores: bootstrap intervals, and the Frechet distance of infinitely many clips."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from scipy.special import stdtrit
from torch import Tensor

from vidgan.core.clip_ops import Values
from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.metrics.frechet import frechet_from_features
from vidgan.metrics.statistics import feature_pair

Statistic = Callable[[Tensor], float]
"""From int64 rows of a set to a score."""


COVERED = "the mean score of such sets of clips by this generator, against this reference"
"""What an interval holds. It holds neither the score of infinitely many clips, which lies lower
for a biased distance, nor what another reference or judge would give."""


@dataclass(frozen=True)
class Interval:
    """Where a score may lie.

    Attributes:
        low, high: ends.
        level: how often such intervals hold what they cover, as far as scores are near normal;
            benchmarks/coverage.py measures how far that is.
        method: `bootstrap` (rows drawn with replacement) or `subsampling` (without, see there).
        covers: what is held.
    """

    low: float
    high: float
    level: float
    method: str
    covers: str = COVERED

    def as_record(self) -> dict[str, Any]:
        """Plain values for a JSON record."""
        return asdict(self)


class Reported(NamedTuple):
    """A score as it is reported: the mean over so many groups of equal size."""

    value: float
    groups: int = 1


def bootstrap_interval(
    statistic: Statistic,
    num_rows: int,
    *,
    reported: Reported | None = None,
    draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of a score from sets of rows drawn with replacement (Efron 1979).

    Only their spread is used and not where they lie: duplicates lower an Inception Score, so that
    percentiles of the draws would lie too low and hold the truth less often than they say.

    Args:
        statistic: the score of the rows it is given.
        num_rows: M.
        reported: the score that the interval lies around; None takes that of all rows.
        draws: resamples.
        level: how often the truth should be inside.
        seed: of the resamples.
    """
    rng = keyed_rng(seed, "bootstrap")
    values = [statistic(torch.randint(num_rows, (num_rows,), generator=rng)) for _ in range(draws)]
    around = reported or Reported(statistic(torch.arange(num_rows)))
    deviation = _deviation(values) / around.groups**0.5
    return _around(around.value, deviation, draws, level, "bootstrap")


def subsampling_interval(
    statistic: Statistic,
    num_rows: int,
    size: int,
    *,
    reported: Reported | None = None,
    draws: int = 100,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of a score from subsets of a fixed size, drawn without replacement.

    Duplicates bias a Frechet or kernel distance, so subsets are drawn instead, of the size n at
    which the score is reported. Subsets of M rows share rows and differ less than fresh sets do: by
    the factor 1 - n/M in variance of any sampling without replacement, which is undone. Between
    equal distributions, where a distance varies in the second order alone, the interval is then too
    wide.

    Args:
        statistic, draws, level, seed: as in `bootstrap_interval`.
        num_rows: M.
        size: n, below M.
        reported: the score that the interval lies around, a mean over groups of n rows; None takes
            the mean over the subsets, which is worth M / n groups.

    Raises:
        UserError: the size is not smaller than the number of rows.
    """
    if not 1 <= size < num_rows:
        raise UserError(f"subsets of {size} rows cannot be drawn from {num_rows}")
    rng = keyed_rng(seed, "subsampling")
    values = [statistic(torch.randperm(num_rows, generator=rng)[:size]) for _ in range(draws)]
    groups = num_rows / size if reported is None else reported.groups
    value = math.fsum(values) / draws if reported is None else reported.value
    of_fresh_sets = _deviation(values) / (1 - size / num_rows) ** 0.5
    return _around(value, of_fresh_sets / groups**0.5, draws, level, "subsampling")


@dataclass(frozen=True)
class Extrapolation:
    """A Frechet distance as a line in 1/n.

    Attributes:
        value: the intercept, an estimate for infinitely many clips; noise may take it below 0.
        low, high: ends of an interval of it, by leaving out one of `JACKKNIFE_PARTS` parts of
            both sets at a time (Efron and Tibshirani 1993, section 11).
        level: how often the interval should hold the distance of infinitely many clips.
        slope: of the line.
        residual: root of the mean squared gap between line and points.
        sizes: n of the points.
        distances: the points.
    """

    value: float
    low: float
    high: float
    level: float
    slope: float
    residual: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]

    def as_record(self) -> dict[str, Any]:
        """Plain values for a JSON record."""
        record = asdict(self)
        return {**record, "sizes": list(self.sizes), "distances": list(self.distances)}


MIN_ROWS_PER_FEATURE = 4
"""Rows that are needed for each feature. Half of nine tenths of the rows, the smallest set of a fit
that leaves a part out, are fewer than the features below 2.3; towards there the bias bends away
from a line in 1/n. At 4 the intervals still hold the truth (benchmarks/coverage.py)."""

JACKKNIFE_PARTS = 10
"""Parts of which one is left out at a time."""

MIN_ROWS = 2 * JACKKNIFE_PARTS


def extrapolated_frechet(
    fake: Values,
    real: Values,
    *,
    points: int = 15,
    level: float = 0.95,
    seed: int = 0,
    divides_by_n: bool = False,
) -> Extrapolation:
    """Fit the Frechet distance of nested subsets against 1/n and read off n = infinity.

    The bias of the distance falls like 1/n (Chong and Forsyth 2020). Subset of size n: the first n
    rows of both sets in seeded order, so larger subsets contain the smaller ones; the smallest
    holds half of the rows.

    Args:
        fake: `[M, F]`.
        real: `[R, F]`; both sets are taken to the same sizes.
        points: subsets, at equal steps of 1/n.
        level: of the interval.
        seed: of the order.
        divides_by_n: as in the distance.

    Raises:
        UserError: a set has fewer rows than 4 for each feature, or than 20.
    """
    fake, real = feature_pair(fake, real, ("fake", "real"))
    largest, dim = min(fake.shape[0], real.shape[0]), fake.shape[1]
    if (sentence := refuse_extrapolation(largest, dim)) is not None:
        raise UserError(sentence)
    fake, real = (
        rows[torch.randperm(rows.shape[0], generator=keyed_rng(seed, "nested subsets", name))]
        for rows, name in ((fake, "fake"), (real, "real"))
    )
    fake, real = fake[:largest], real[:largest]
    line = _Line.through(fake, real, points, divides_by_n)
    # Every tenth row, so that each part is spread over the nested subsets.
    kept = (torch.arange(largest) % JACKKNIFE_PARTS != part for part in range(JACKKNIFE_PARTS))
    without = [_Line.through(fake[rows], real[rows], points, divides_by_n).value for rows in kept]
    # The jackknife's variance is (J - 1) / J times the sum of squares, and that is (J - 1) times
    # the usual variance.
    deviation = _deviation(without) * (JACKKNIFE_PARTS - 1) / JACKKNIFE_PARTS**0.5
    interval = _around(line.value, deviation, JACKKNIFE_PARTS, level, "jackknife")
    return Extrapolation(
        value=line.value,
        low=interval.low,
        high=interval.high,
        level=level,
        slope=line.slope,
        residual=line.residual,
        sizes=line.sizes,
        distances=line.distances,
    )


def refuse_extrapolation(rows: int, dim: int) -> str | None:
    """Why the distance of infinitely many clips cannot be estimated from this many, or None."""
    wanted = max(MIN_ROWS_PER_FEATURE * dim, MIN_ROWS)
    if rows >= wanted:
        return None
    return (
        f"the Frechet distance of infinitely many clips needs {wanted} clips or frames a set for "
        f"{dim} features, and there are {rows}"
    )


class _Line(NamedTuple):
    """A least-squares line of the distance in 1/n."""

    value: float
    slope: float
    residual: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]

    @classmethod
    def through(cls, fake: Tensor, real: Tensor, points: int, divides_by_n: bool) -> "_Line":
        """The line through the distances of the first n of as many rows, from half of them on."""
        largest = fake.shape[0]
        inverse = torch.linspace(1 / largest, 2 / largest, points, dtype=torch.float64)
        sizes = sorted({round(1 / float(x)) for x in inverse})
        distances = [
            frechet_from_features(fake[:n], real[:n], divides_by_n=divides_by_n).distance
            for n in sizes
        ]
        x = 1 / torch.tensor(sizes, dtype=torch.float64)
        y = torch.tensor(distances, dtype=torch.float64)
        centred = x - x.mean()
        slope = float((centred * (y - y.mean())).sum() / centred.square().sum())
        value = float(y.mean()) - slope * float(x.mean())
        residual = float((y - value - slope * x).square().mean().sqrt())
        return cls(value, slope, residual, tuple(sizes), tuple(distances))


def _deviation(values: Sequence[float]) -> float:
    return float(torch.tensor(list(values), dtype=torch.float64).std())


def _around(value: float, deviation: float, draws: int, level: float, method: str) -> Interval:
    """By Student's distribution, for the deviation is itself an estimate from few draws."""
    reach = float(stdtrit(draws - 1, (1 + level) / 2)) * deviation
    return Interval(value - reach, value + reach, level, method)


# ------------------------------------------------------------------------------------------------
# Accuracy, calibration and, for classes named `<object>-<motion>`, accuracy of the two parts

NUM_CALIBRATION_BINS = 15


@dataclass(frozen=True)
class AttributeGrid:
    """How joint classes `<object>-<motion>` divide into objects and motions.

    Attributes:
        objects, motions: sorted names.
        object_of, motion_of: int64 `[N]`, the index of each class's object and motion.
    """

    objects: tuple[str, ...]
    motions: tuple[str, ...]
    object_of: Tensor
    motion_of: Tensor

    @classmethod
    def of(cls, classes: Sequence[str]) -> "AttributeGrid | None":
        """The grid behind class names, or None unless they are a full product of two name lists.

        The first dash divides a name, so a motion's own name may hold dashes.
        """
        parts = [name.split("-", 1) for name in classes]
        if any(len(part) != 2 or not all(part) for part in parts):
            return None
        objects = tuple(sorted({part[0] for part in parts}))
        motions = tuple(sorted({part[1] for part in parts}))
        is_product = len({(a, b) for a, b in parts}) == len(objects) * len(motions) == len(parts)
        if not is_product or min(len(objects), len(motions)) < 2:
            return None
        object_of = torch.tensor([objects.index(part[0]) for part in parts])
        motion_of = torch.tensor([motions.index(part[1]) for part in parts])
        return cls(objects, motions, object_of, motion_of)


def agreement(
    probabilities: Tensor, labels: Tensor, classes: Sequence[str]
) -> dict[str, float | None]:
    """Share of clips that a judge assigns to the class they should show.

    Args:
        probabilities: `[M, N]`; objects and motions are read from their own marginal
            probabilities, not from the likeliest joint class.
        labels: int64 `[M]`.
        classes: N names.

    Returns:
        `joint`, `object` and `motion` in 0..1; the last two None if classes are not
        `<object>-<motion>`.
    """
    joint = _share(probabilities.argmax(1), labels)
    grid = AttributeGrid.of(classes)
    if grid is None:
        return {"joint": joint, "object": None, "motion": None}
    result: dict[str, float | None] = {"joint": joint}
    tables = {"object": (grid.object_of, grid.objects), "motion": (grid.motion_of, grid.motions)}
    for name, (part_of, names) in tables.items():
        marginal = probabilities.new_zeros(probabilities.shape[0], len(names))
        marginal.index_add_(1, part_of, probabilities)
        result[name] = _share(marginal.argmax(1), part_of[labels])
    return result


def per_class_agreement(
    probabilities: Tensor, labels: Tensor, classes: Sequence[str]
) -> dict[str, float]:
    """Joint accuracy for each class that occurs in `labels`; arguments as in `agreement`."""
    right = probabilities.argmax(1) == labels
    return {
        name: float(right[labels == index].double().mean())
        for index, name in enumerate(classes)
        if bool((labels == index).any())
    }


def expected_calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Mean gap between confidence and accuracy over 15 equal bins of confidence, in 0..1.

    (Guo et al. 2017, eq. 3.) Probabilities `[M, N]`, labels int64 `[M]`.
    """
    confidence, predicted = probabilities.double().max(1)
    right = (predicted == labels).double()
    bins = (confidence * NUM_CALIBRATION_BINS).long().clamp_max(NUM_CALIBRATION_BINS - 1)
    gaps = torch.zeros(NUM_CALIBRATION_BINS, dtype=torch.float64)
    gaps.index_add_(0, bins, confidence - right)
    return float(gaps.abs().sum() / labels.shape[0])


def chance_accuracy(labels: Tensor) -> float:
    """Accuracy of always naming the commonest of the int64 `labels`."""
    return float(labels.bincount().max()) / labels.shape[0]


def _share(predicted: Tensor, labels: Tensor) -> float:
    return float((predicted == labels).double().mean())
