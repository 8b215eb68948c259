"""How often the intervals of scores hold what they say they hold.

    python benchmarks/coverage.py [--repeats 200] [--seed 0]

Features are Gaussian, so that fresh sets can be drawn at will; class probabilities are a softmax of
Gaussians. Every line repeats a whole evaluation on fresh clips against one reference and counts how
often its 95 % interval holds the truth: the mean score of many fresh sets of n clips for intervals
of scores, the distance of the two Gaussians for that of infinitely many clips. `percentiles` are
those of the draws themselves, the usual interval, for comparison. Two standard errors of a share of
200 repeats are 3 %. Takes two to three minutes on one core.
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.metrics.frechet import frechet_distance, inception_score
from vidgan.metrics.intervals import (
    Interval,
    Reported,
    bootstrap_interval,
    extrapolated_frechet,
    subsampling_interval,
)
from vidgan.metrics.kernel import kernel_distance

FRESH_SETS = 600
"""Behind the mean score of fresh sets; its own error is a twelfth of one interval's reach."""

Score = Callable[[Tensor], float]
Draw = Callable[[int, int], Tensor]
"""From a number of clips and of the repeat to fresh features, or probabilities."""


class Found(NamedTuple):
    """Shares of intervals that hold the truth."""

    interval: float
    percentiles: float | None = None


class Recorded:
    """A statistic that remembers what it gave, so that percentiles cost nothing more."""

    def __init__(self, score: Score, rows: Tensor) -> None:
        self._score, self._rows = score, rows
        self.values: list[float] = []

    def __call__(self, chosen: Tensor) -> float:
        self.values.append(self._score(self._rows[chosen]))
        return self.values[-1]

    def holds(self, truth: float) -> bool:
        ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
        low, high = torch.quantile(torch.tensor(self.values, dtype=torch.float64), ends).tolist()
        return bool(low <= truth <= high)


def holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def mean_of_fresh_sets(score: Score, draw: Draw, n: int) -> float:
    return sum(score(draw(n, -1 - k)) for k in range(FRESH_SETS)) / FRESH_SETS


def bootstrap_coverage(score: Score, draw: Draw, n: int, repeats: int) -> Found:
    """One group of n clips, as `own-c3d-is` takes it."""
    truth, inside, usual = mean_of_fresh_sets(score, draw, n), 0, 0
    for repeat in range(repeats):
        rows = draw(n, repeat)
        statistic = Recorded(score, rows)
        reported = Reported(score(rows))
        interval = bootstrap_interval(statistic, n, reported=reported, draws=100, seed=repeat)
        inside += holds(interval, truth)
        usual += statistic.holds(truth)
    return Found(inside / repeats, usual / repeats)


def subsampling_coverage(score: Score, draw: Draw, n: int, groups: int, repeats: int) -> Found:
    """The mean over groups of n clips, with subsets of all of them."""
    truth, inside, usual = mean_of_fresh_sets(score, draw, n), 0, 0
    for repeat in range(repeats):
        rows = draw(n * groups, repeat)
        values = [score(part) for part in rows.split(n)]
        statistic = Recorded(score, rows)
        reported = Reported(sum(values) / groups, groups)
        interval = subsampling_interval(
            statistic, n * groups, n, reported=reported, draws=40, seed=repeat
        )
        inside += holds(interval, truth)
        usual += statistic.holds(truth)
    return Found(inside / repeats, usual / repeats)


def gaussian(dim: int, shift: float, scale: float, seed: int) -> Draw:
    """Features whose deviations fall from `scale` to a third of it."""
    deviations = scale * torch.linspace(1, 1 / 3, dim, dtype=torch.float64)

    def draw(count: int, repeat: int) -> Tensor:
        rng = keyed_rng(seed, "coverage", repeat)
        rows = torch.randn(count, dim, dtype=torch.float64, generator=rng)
        return rows * deviations + shift

    return draw


def probabilities(classes: int, sharpness: float, seed: int) -> Draw:
    draw = gaussian(classes, 0.0, sharpness, seed)
    return lambda count, repeat: draw(count, repeat).softmax(1)


def extrapolation_coverage(dim: int, n: int, shift: float, seed: int, repeats: int) -> Found:
    """Fresh sets of both sides; the truth is known: the deviations differ by a factor 1.2."""
    fake, real = gaussian(dim, shift, 1.2, seed), gaussian(dim, 0.0, 1.0, seed + 1)
    deviations = torch.linspace(1, 1 / 3, dim, dtype=torch.float64)
    truth = dim * shift**2 + float((0.2 * deviations).square().sum())
    inside = 0
    for repeat in range(repeats):
        found = extrapolated_frechet(fake(n, repeat), real(n, repeat), points=5, seed=repeat)
        inside += found.low <= truth <= found.high
    return Found(inside / repeats)


def line(title: str, found: Found) -> None:
    usual = "" if found.percentiles is None else f"{found.percentiles:.0%}"
    print(f"| {title} | {found.interval:.0%} | {usual} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    repeats, seed, started = options.repeats, options.seed, time.process_time()
    print("| score | held | percentiles |\n| --- | --- | --- |")
    for n, classes, sharpness in ((64, 10, 2.0), (256, 10, 2.0), (128, 50, 4.0)):
        draw = probabilities(classes, sharpness, seed)
        found = bootstrap_coverage(lambda p: inception_score(p)[0], draw, n, repeats)
        line(f"Inception Score, n = {n}, {classes} classes", found)
    for dim, n, groups, shift in (
        (8, 64, 2, 0.3),
        (8, 64, 8, 0.3),
        (32, 128, 2, 0.3),
        (32, 128, 4, 0.3),
        (32, 128, 4, 0.0),
    ):
        real = gaussian(dim, 0.0, 1.0, seed + 1)(4 * n, 0)
        draw = gaussian(dim, shift, 1.2 if shift else 1.0, seed)
        where = f"n = {n}, {dim} features, {groups} groups"
        law = "" if shift else ", equal laws"
        found = subsampling_coverage(
            lambda rows, real=real: frechet_distance(rows, real),  # type: ignore[misc]
            draw,
            n,
            groups,
            repeats,
        )
        line(f"Frechet distance, {where}{law}", found)
    for shift in (0.3, 0.0):
        real = gaussian(16, 0.0, 1.0, seed + 1)(200, 0)
        draw = gaussian(16, shift, 1.0, seed)
        found = subsampling_coverage(
            lambda rows, real=real: kernel_distance(rows, real).distance,  # type: ignore[misc]
            draw,
            64,
            4,
            repeats,
        )
        law = "" if shift else ", equal laws"
        line(f"kernel distance, n = 64, 16 features, 4 groups{law}", found)
    for dim, n in ((8, 32), (8, 64), (32, 128), (32, 256)):
        found = extrapolation_coverage(dim, n, 0.3, seed, repeats)
        line(f"infinitely many clips, n = {n}, {dim} features", found)
    print(f"{time.process_time() - started:.0f} s of the processor")


if __name__ == "__main__":
    main()
