"""Kernel distances: by hand, without bias, JEDi's identity, scikit-learn and torchmetrics."""

import pytest
import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.metrics import kernel
from vidgan.metrics.kernel import (
    KERNELS,
    KernelRule,
    jedi,
    jedi_from_moments,
    kernel_distance,
)


def rows(count: int, dim: int, seed: int, shift: float = 0.0) -> Tensor:
    noise = torch.randn(count, dim, generator=keyed_rng("kernel", seed), dtype=torch.float64)
    return noise + shift


def brute_force(x: Tensor, y: Tensor, name: str, biased: bool = False) -> float:
    """The definition, one pair at a time."""

    def mean(a: Tensor, b: Tensor, skip_equal: bool) -> float:
        values = [
            float(KERNELS[name](p @ q / p.numel()))
            for i, p in enumerate(a)
            for j, q in enumerate(b)
            if not (skip_equal and i == j)
        ]
        return sum(values) / len(values)

    return mean(x, x, not biased) + mean(y, y, not biased) - 2 * mean(x, y, False)


@pytest.mark.parametrize("name", KERNELS)
def test_distances_equal_their_definition(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = rows(13, 5, 0), rows(9, 5, 1, shift=0.4)
    expected = brute_force(x, y, name)
    rule = KernelRule(kernel=name)
    assert kernel_distance(x, y, rule).distance == pytest.approx(expected, rel=1e-12)
    # Blocks that do not divide the rows change nothing.
    monkeypatch.setattr(kernel, "BLOCK", 4)
    assert kernel_distance(x, y, rule).distance == pytest.approx(expected, rel=1e-12)
    assert kernel_distance(y, x, rule).distance == pytest.approx(expected, rel=1e-12)


def test_two_rows_by_hand() -> None:
    # Linear kernel, means 1 and 5: 0*2 + 3*7 - 2 * mean(0*3, 0*7, 2*3, 2*7) = 21 - 10 = 11.
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [7.0]])
    assert kernel_distance(x, y, KernelRule(kernel="linear")).distance == 11
    scaled = kernel_distance(x, y, KernelRule(kernel="linear", scale=1000))
    assert scaled.distance == 11_000


def test_equal_laws_are_at_no_distance_in_the_mean() -> None:
    values = torch.tensor(
        [kernel_distance(rows(40, 6, 2 * k), rows(40, 6, 2 * k + 1)).distance for k in range(200)]
    )
    error = float(values.std()) / len(values) ** 0.5
    assert abs(float(values.mean())) < 3 * error
    assert float(values.min()) < 0
    shifted = kernel_distance(rows(40, 6, 0, shift=1.0), rows(40, 6, 1)).distance
    assert shifted > 10 * float(values.std())


def test_subsets_depend_on_their_seed_alone() -> None:
    x, y = rows(60, 4, 0), rows(50, 4, 1)
    rule = KernelRule(subsets=20, subset_size=30, seed=3)
    first, again = kernel_distance(x, y, rule), kernel_distance(x, y, rule)
    assert first == again
    assert first.spread is not None
    assert first.spread > 0
    assert first != kernel_distance(x, y, KernelRule(subsets=20, subset_size=30, seed=4))
    # A subset of all rows is the whole set, in whatever order.
    whole = kernel_distance(x, y[:50], KernelRule()).distance
    with pytest.raises(UserError, match=r"subset_size=51 cannot be drawn from a set of 50"):
        kernel_distance(x, y, KernelRule(subsets=2, subset_size=51))
    capped = kernel_distance(x[:50], y, KernelRule(subsets=2, subset_size=50))
    assert capped.distance == pytest.approx(kernel_distance(x[:50], y).distance, rel=1e-12)
    assert capped.spread == pytest.approx(0, abs=1e-12)
    assert abs(first.distance - whole) < 3 * first.spread


def test_jedi_is_the_squared_difference_of_second_moments() -> None:
    x, y = rows(31, 7, 0), rows(23, 7, 1, shift=0.5)
    expected = 100 * brute_force(x, y, "square", biased=True)
    assert jedi(x, y) == pytest.approx(expected, rel=1e-12)
    streamed = torch.zeros(7, 7, dtype=torch.float64)
    for batch in x.split([1, 10, 20]):
        streamed += batch.T @ batch
    assert jedi_from_moments(streamed / 31, y.T @ y / 23) == pytest.approx(expected, rel=1e-12)
    assert jedi(x, x) == 0
    # Blind by construction: a set and its negative have the same second moments.
    assert jedi(x, -x) == 0


def test_scikit_learn_oracle() -> None:
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    x, y = rows(60, 11, 0), rows(50, 11, 1, shift=0.3)

    def mean(a: Tensor, b: Tensor, degree: int, coef0: int, skip: bool) -> float:
        found = pairwise.polynomial_kernel(a.numpy(), b.numpy(), degree=degree, coef0=coef0)
        if not skip:
            return float(found.mean())
        return float(found.sum() - found.trace()) / (len(a) * (len(a) - 1))

    kvd = mean(x, x, 3, 1, True) + mean(y, y, 3, 1, True) - 2 * mean(x, y, 3, 1, False)
    assert kernel_distance(x, y).distance == pytest.approx(kvd, rel=1e-12)
    biased = mean(x, x, 2, 0, False) + mean(y, y, 2, 0, False) - 2 * mean(x, y, 2, 0, False)
    assert jedi(x, y) == pytest.approx(100 * biased, rel=1e-12)


def test_torchmetrics_oracle() -> None:
    kid = pytest.importorskip("torchmetrics.image.kid", exc_type=ImportError)
    x, y = rows(40, 9, 0), rows(40, 9, 1, shift=0.3)

    class Rows(torch.nn.Module):
        num_features = 9

        def forward(self, features: Tensor) -> Tensor:
            return features

    metric = kid.KernelInceptionDistance(feature=Rows(), subsets=1, subset_size=40)
    metric = metric.set_dtype(torch.float64)
    metric.update(x, real=False)
    metric.update(y, real=True)
    expected = float(metric.compute()[0])
    assert kernel_distance(x, y).distance == pytest.approx(expected, rel=1e-12)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="no kernel 'cubic'"):
        KernelRule(kernel="cubic")
    with pytest.raises(ValueError, match="subset_size at least 2"):
        KernelRule(subsets=3, subset_size=1)
    with pytest.raises(ValueError, match="real features must be"):
        kernel_distance(rows(3, 2, 0), rows(1, 2, 1))
    with pytest.raises(ValueError, match="different lengths: 2 and 3"):
        jedi(rows(3, 2, 0), rows(3, 3, 1))
