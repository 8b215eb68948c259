"""Speed and accuracy of the Frechet distance beside the usual formula.

    python benchmarks/frechet.py [--sizes 400x2048 2048x10000]

`ours` takes singular values of a product of factors; `eigenvalues` takes roots of the eigenvalues
of the product of both covariances, as common tools do; `sqrtm` is SciPy's matrix root, if SciPy is
installed. Each works in float64 on one thread; seconds are the process' CPU time, best of two. The
first table needs no clock: every method against a distance that is known in closed form.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from vidgan.metrics.frechet import frechet_from_features, frechet_from_statistics
from vidgan.metrics.statistics import FeatureStatistics

Method = Callable[[FeatureStatistics, FeatureStatistics], float]


def ours(a: FeatureStatistics, b: FeatureStatistics) -> float:
    return frechet_from_statistics(a, b).distance


def eigenvalues(a: FeatureStatistics, b: FeatureStatistics) -> float:
    roots = torch.linalg.eigvals(a.covariance @ b.covariance).sqrt().real.sum()
    return _with_cross_term(a, b, float(roots))


def sqrtm(a: FeatureStatistics, b: FeatureStatistics) -> float:
    from scipy.linalg import sqrtm as root

    product = (a.covariance @ b.covariance).numpy()
    return _with_cross_term(a, b, float(root(product).trace().real))


def known_case(dim: int, condition: float, rank: int) -> tuple[FeatureStatistics, float]:
    """Statistics with the given spectrum; those of four times the covariance are tr S away."""
    rng = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(dim, dim, generator=rng, dtype=torch.float64)).Q
    exponents = torch.linspace(0, 1, rank, dtype=torch.float64)
    spectrum = torch.zeros(dim, dtype=torch.float64)
    spectrum[:rank] = condition**-exponents
    covariance = (turn * spectrum) @ turn.T
    mean = torch.zeros(dim, dtype=torch.float64)
    return FeatureStatistics(2, mean, (covariance + covariance.T) / 2), float(spectrum.sum())


def accuracy_table(methods: dict[str, Method]) -> None:
    print(f"{'relative error, 400 features':<34}" + "".join(f"{name:>14}" for name in methods))
    for title, condition, rank in (
        ("condition 1e2", 1e2, 400),
        ("condition 1e6", 1e6, 400),
        ("condition 1e12", 1e12, 400),
        ("rank 100", 1e2, 100),
    ):
        moments, expected = known_case(400, condition, rank)
        larger = FeatureStatistics(2, moments.mean, 4 * moments.scatter)
        errors = [abs(run(moments, larger) - expected) / expected for run in methods.values()]
        print(f"{title:<34}" + "".join(f"{error:>14.1e}" for error in errors))


def relu_features(rows: int, dim: int, seed: int) -> Tensor:
    """Non-negative features with a decaying spectrum, float32 as networks give them."""
    rng = torch.Generator().manual_seed(seed)
    scales = torch.arange(1, dim + 1).float() ** -0.5
    mixing = torch.randn(dim, dim, generator=torch.Generator().manual_seed(99)) / dim**0.5
    return ((torch.randn(rows, dim, generator=rng) * scales) @ mixing + 0.05).relu()


def speed_table(methods: dict[str, Method], dim: int, rows: int) -> None:
    first, second = relu_features(rows, dim, 1), relu_features(rows, dim, 2)
    moments = FeatureStatistics.of(first), FeatureStatistics.of(second)
    print(f"\n{dim} features, {rows} rows")
    for name, run in methods.items():
        value, seconds = timed(lambda run=run: run(*moments))
        print(f"  {name + ', from moments':<32}{seconds:>9.3f} s  distance {value:.9g}")
    value, seconds = timed(lambda: frechet_from_features(first, second).distance)
    print(f"  {'ours, from features':<32}{seconds:>9.3f} s  distance {value:.9g}")
    few = first[: dim // 2], second[: dim // 2]
    value, seconds = timed(lambda: frechet_from_features(*few).distance)
    print(f"  {f'ours, {dim // 2} rows':<32}{seconds:>9.3f} s  distance {value:.9g}")


def timed(run: Callable[[], float]) -> tuple[float, float]:
    best, value = float("inf"), 0.0
    for _ in range(2):
        start = time.process_time()
        value = run()
        best = min(best, time.process_time() - start)
    return value, best


def _with_cross_term(a: FeatureStatistics, b: FeatureStatistics, cross: float) -> float:
    gap = float((a.mean - b.mean).square().sum())
    return gap + float(a.covariance.trace() + b.covariance.trace()) - 2 * cross


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["400x2048"], metavar="FEATURESxROWS")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    methods: dict[str, Method] = {"ours": ours, "eigenvalues": eigenvalues}
    try:
        import scipy.linalg  # noqa: F401
    except ImportError:
        print("SciPy is not installed: its matrix root is left out")
    else:
        methods["sqrtm"] = sqrtm
    accuracy_table(methods)
    for size in arguments.sizes:
        dim, rows = (int(part) for part in size.split("x"))
        speed_table(methods, dim, rows)


if __name__ == "__main__":
    main()
