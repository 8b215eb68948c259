"""Speed and accuracy of the Frechet distance beside SciPy's matrix root.

    python benchmarks/frechet.py [--dims 400 2048 4096]

Every row of the table is a problem whose answer is known: two sets of features whose covariances
commute and have given spectra, or (32 features) a distance computed with 60 digits by mpmath. All
methods run in one process on one thread, and their seconds are the process' CPU time.

`sqrtm` is the usual formula with `scipy.linalg.sqrtm`; `eigenvalues` takes roots of the eigenvalues
of the product of both covariances, as newer tools do. It and one problem are left out above 2048
features. Both start from moments, whose seconds have a column of their own and are not counted
again. So does ours above 2048 features; below, and with fewer rows than features, it starts from
the features and needs no moments at all. Needs SciPy. The largest size takes about ten minutes.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import mpmath
import torch
from scipy.linalg import sqrtm as matrix_root
from torch import Tensor

from vidgan.core.machine import processor_id
from vidgan.metrics.frechet import (
    MAX_SINGULAR_VALUE_DIM,
    frechet_from_features,
    frechet_from_statistics,
)
from vidgan.metrics.statistics import FeatureStatistics

Result = TypeVar("Result")
Moments = tuple[FeatureStatistics, FeatureStatistics]

MAX_DIM_OF_EXTRAS = 2048
ROWS = {400: (2048, 256), 2048: (10_000, 1000), 4096: (10_000, 2048)}
"""Features: rows of the two full-rank problems, and of the rank-deficient one."""


class Problem(NamedTuple):
    """Two sets of features, float64 `[M, F]`, and their distance."""

    title: str
    first: Tensor
    second: Tensor
    expected: float


def ours(problem: Problem, moments: Moments) -> float:
    rows, dim = problem.first.shape
    if rows > dim > MAX_SINGULAR_VALUE_DIM:
        return frechet_from_statistics(*moments).distance
    return frechet_from_features(problem.first, problem.second, allow_few=True).distance


def sqrtm(problem: Problem, moments: Moments) -> float:
    root = matrix_root((moments[0].covariance @ moments[1].covariance).numpy())
    return _with_cross_term(*moments, float(root.trace().real))


def eigenvalues(problem: Problem, moments: Moments) -> float:
    product = moments[0].covariance @ moments[1].covariance
    return _with_cross_term(*moments, float(torch.linalg.eigvals(product).sqrt().real.sum()))


Method = Callable[[Problem, Moments], float]
METHODS: dict[str, Method] = {"ours": ours, "sqrtm": sqrtm, "eigenvalues": eigenvalues}


def _with_cross_term(a: FeatureStatistics, b: FeatureStatistics, cross: float) -> float:
    gap = float((a.mean - b.mean).square().sum())
    return gap + float(a.covariance.trace() + b.covariance.trace()) - 2 * cross


def commuting(dim: int, rows: int, condition: float, opposed: bool = False) -> Problem:
    """Sets with one eigenbasis; the eigenvalues of the first fall from 1 to 1 / condition.

    The second has those of the first times four, as features of one network have, or, opposed, in
    reverse order. With fewer rows than features both have rank `rows - 1`.
    """
    rng = torch.Generator().manual_seed(dim)
    rank = min(dim, rows - 1)
    basis = torch.linalg.qr(torch.randn(dim, rank, generator=rng, dtype=torch.float64)).Q
    first = condition ** -torch.linspace(0, 1, rank, dtype=torch.float64)
    second = 4 * (first.flip(0) if opposed else first)
    sets = []
    for spectrum, mean in ((first, 0.0), (second, 0.01)):
        noise = torch.randn(rows, rank, generator=rng, dtype=torch.float64)
        directions = torch.linalg.qr(noise - noise.mean(0)).Q * (rows - 1) ** 0.5
        sets.append(mean + (directions * spectrum.sqrt()) @ basis.T)
    expected = dim * 0.01**2 + float((first.sqrt() - second.sqrt()).square().sum())
    kind = f"condition {condition:.0e}" if rows > dim else f"rank {rank}"
    kind += ", opposed" if opposed else ""
    return Problem(f"{dim} features, {rows} rows, {kind}", sets[0], sets[1], expected)


def many_digits(dim: int, rows: int, condition: float) -> Problem:
    """Random sets of rectified features whose distance mpmath computes from the same numbers."""
    rng = torch.Generator().manual_seed(dim)
    scales = condition ** (-0.5 * torch.linspace(0, 1, dim, dtype=torch.float64))
    a, b = (
        torch.randn(rows, dim, generator=rng, dtype=torch.float64).relu() * scales for _ in range(2)
    )
    with mpmath.workdps(60):
        moments = [_exact_moments(part) for part in (a, b)]
        lower = mpmath.cholesky(moments[0][1])
        roots = mpmath.eigsy(lower.T * moments[1][1] * lower, eigvals_only=True)
        cross = mpmath.fsum(mpmath.sqrt(value) for value in roots)
        traces = mpmath.fsum(moment[1][i, i] for moment in moments for i in range(dim))
        gap = moments[0][0] - moments[1][0]
        expected = float((gap * gap.T)[0, 0] + traces - 2 * cross)
    title = f"{dim} features, {rows} rows, scales 1 to {condition:.0e}, 60 digits"
    return Problem(title, a, b, expected)


def _exact_moments(rows: Tensor) -> tuple[mpmath.matrix, mpmath.matrix]:
    """Mean `[1, F]` and covariance `[F, F]` of the rows in the working precision."""
    x = mpmath.matrix(rows.tolist())
    mean = mpmath.ones(1, x.rows) * x / x.rows
    centred = x - mpmath.ones(x.rows, 1) * mean
    return mean, centred.T * centred / (x.rows - 1)


def problems(dims: list[int]) -> Iterator[Problem]:
    yield many_digits(32, 80, 1e2)
    yield many_digits(32, 80, 1e12)
    for dim in dims:
        many, few = ROWS.get(dim, (3 * dim, dim // 2))
        yield commuting(dim, many, 1e2)
        yield commuting(dim, many, 1e12)
        if dim <= MAX_DIM_OF_EXTRAS:
            yield commuting(dim, many, 1e12, opposed=True)
        yield commuting(dim, few, 1e2)


def measure(run: Callable[[], Result], repeats: int) -> tuple[float, Result]:
    """Least CPU seconds of some runs, and what the last one gave."""
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        result = run()
        seconds.append(time.process_time() - started)
    return min(seconds), result


def row(problem: Problem) -> str:
    dim = problem.first.shape[1]
    repeats = 3 if dim <= 400 else 1
    sets = problem.first, problem.second
    of_moments, found = measure(lambda: [FeatureStatistics.of(part) for part in sets], repeats)
    cells, seconds = [f"{of_moments:.3g}"], {}
    for name, method in METHODS.items():
        if name == "eigenvalues" and dim > MAX_DIM_OF_EXTRAS:
            cells += ["-", "-"]
            continue
        seconds[name], value = measure(
            lambda method=method: method(problem, (found[0], found[1])), repeats
        )
        error = abs(value - problem.expected) / problem.expected
        cells += [f"{seconds[name]:.3g}", f"{error:.1e}"]
    gain = seconds["sqrtm"] / seconds["ours"]
    return f"| {problem.title} | {' | '.join(cells)} | {gain:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dims", nargs="+", type=int, default=[400], metavar="FEATURES")
    dims = parser.parse_args().dims
    torch.set_num_threads(1)
    print(f"{processor_id()}\n")
    names = " | ".join(f"{name}: s | error" for name in METHODS)
    print(f"| problem | moments: s | {names} | sqrtm / ours |")
    print("| --- |" + " --- |" * (2 * len(METHODS) + 2))
    for problem in problems(dims):
        print(row(problem), flush=True)


if __name__ == "__main__":
    main()
