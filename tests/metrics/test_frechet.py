"""Frechet distance and feature moments: closed forms, invariances, an independent oracle."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vidgan import frechet_distance
from vidgan.metrics import frechet
from vidgan.metrics.frechet import frechet_from_features, frechet_from_statistics
from vidgan.metrics.statistics import FeatureStatistics
from vidgan.randomness import keyed_rng


def relu_features(rows: int, dim: int, seed: int, shift: float = 0.0) -> Tensor:
    """Correlated, non-negative features as a network gives them."""
    rng = keyed_rng(seed, "features")
    mixing = torch.randn(dim, dim, generator=keyed_rng("mixing", dim), dtype=torch.float64)
    rows_ = torch.randn(rows, dim, generator=rng, dtype=torch.float64) @ mixing / dim**0.5
    return (rows_ + shift).relu()


def rows_with(mean: Tensor, covariance: Tensor, count: int, seed: int) -> Tensor:
    """Rows whose sample moments are exactly the given ones."""
    dim = mean.shape[0]
    noise = torch.randn(count, dim, generator=keyed_rng(seed), dtype=torch.float64)
    noise = noise - noise.mean(0)
    orthogonal = torch.linalg.qr(noise).Q * (count - 1) ** 0.5
    return mean + orthogonal @ torch.linalg.cholesky(covariance).T


@pytest.mark.parametrize("count", [40, 400])
def test_commuting_covariances_have_a_closed_form(count: int) -> None:
    rotation = torch.linalg.qr(
        torch.randn(12, 12, generator=keyed_rng("turn"), dtype=torch.float64)
    ).Q
    first = torch.linspace(0.1, 3, 12, dtype=torch.float64)
    second = torch.linspace(2, 0.5, 12, dtype=torch.float64)
    means = torch.zeros(12, dtype=torch.float64), torch.full((12,), 0.5, dtype=torch.float64)
    a = rows_with(means[0], rotation @ first.diag() @ rotation.T, count, 1)
    b = rows_with(means[1], rotation @ second.diag() @ rotation.T, count, 2)
    expected = 12 * 0.25 + float((first.sqrt() - second.sqrt()).square().sum())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_two_points_by_hand() -> None:
    # Means 1 and 5; variances 2 and 8 in one dimension: 16 + (sqrt 8 - sqrt 2)^2 = 18.
    a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [7.0]])
    assert frechet_distance(a, b) == pytest.approx(18, rel=1e-12)


@pytest.mark.parametrize(("rows", "method"), [(20, "rows"), (300, "cholesky-svd")])
def test_a_set_is_at_no_distance_from_itself(rows: int, method: str) -> None:
    features = relu_features(rows, 32, 0)
    result = frechet_from_features(features, features)
    assert result.method == method
    assert 0 <= result.distance < 1e-10 * float(features.var(0).sum())


def test_symmetry_and_invariance_under_a_common_turn() -> None:
    a, b = relu_features(200, 24, 0), relu_features(150, 24, 1, shift=0.3)
    turn = torch.linalg.qr(torch.randn(24, 24, generator=keyed_rng("t"), dtype=torch.float64)).Q
    distance = frechet_distance(a, b)
    assert distance > 0.1
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-10)
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(distance, rel=1e-9)


def test_all_branches_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = relu_features(90, 40, 0), relu_features(120, 40, 1, shift=0.2)
    moments = FeatureStatistics.of(a), FeatureStatistics.of(b)
    by_svd = frechet_from_statistics(*moments)
    monkeypatch.setattr(frechet, "MAX_SINGULAR_VALUE_DIM", 10)
    by_eigenvalues = frechet_from_statistics(*moments)
    wide = torch.cat([torch.eye(40, dtype=torch.float64), torch.zeros(40, 100)], 1)
    by_rows = frechet_from_features(a @ wide, b @ wide)
    padded = FeatureStatistics.of(a @ wide), FeatureStatistics.of(b @ wide)
    by_clipping = frechet_from_statistics(*padded)
    methods = [r.method for r in (by_svd, by_eigenvalues, by_rows, by_clipping)]
    assert methods == ["cholesky-svd", "cholesky-eigh", "rows", "eigh-svd"]
    for other in (by_eigenvalues, by_rows, by_clipping):
        assert other.distance == pytest.approx(by_svd.distance, rel=1e-9)
    assert by_clipping.clipped_mass < 1e-8


def test_rank_deficient_rows_equal_a_brute_force_root() -> None:
    a, b = relu_features(12, 30, 0), relu_features(15, 30, 1)
    cov_a, cov_b = np.cov(a.numpy().T), np.cov(b.numpy().T)
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    gap = float((a.mean(0) - b.mean(0)).square().sum())
    expected = gap + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    # The brute-force root loses half of the digits of the zero eigenvalues.
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)


def test_scipy_oracle() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    a, b = relu_features(500, 16, 0), relu_features(400, 16, 1, shift=0.2)
    cov_a, cov_b = np.cov(a.numpy().T), np.cov(b.numpy().T)
    cross = np.trace(linalg.sqrtm(cov_a @ cov_b)).real
    gap = float((a.mean(0) - b.mean(0)).square().sum())
    expected = gap + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_ill_conditioned_covariances_keep_their_digits() -> None:
    spectrum = torch.logspace(0, -12, 20, dtype=torch.float64)
    zero = torch.zeros(20, dtype=torch.float64)
    a = FeatureStatistics(2, zero, spectrum.diag())
    b = FeatureStatistics(2, zero, (4 * spectrum).diag())
    result = frechet_from_statistics(a, b)
    assert result.distance == pytest.approx(float(spectrum.sum()), rel=1e-11)


def test_damaged_statistics_are_refused() -> None:
    broken = FeatureStatistics(
        2, torch.zeros(2).double(), torch.tensor([1.0, -0.5]).double().diag()
    )
    with pytest.raises(ValueError, match="negative eigenvalues"):
        frechet_from_statistics(broken, broken)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3, 4), "different lengths"),
        (torch.zeros(1, 2), torch.zeros(3, 2), "first features"),
        (torch.zeros(3, 2), torch.full((3, 2), float("nan")), "second features.*finite"),
        (torch.zeros(3), torch.zeros(3, 2), "first features"),
    ],
)
def test_bad_features_are_named(a: Tensor, b: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f".*{message}"):
        frechet_distance(a, b)


def test_streamed_moments_equal_those_of_all_rows() -> None:
    # A mean of 1e6 times the deviation would ruin sums of squares.
    features = relu_features(101, 8, 3) + 1e6
    streamed = FeatureStatistics.empty(8)
    for part in features.split([1, 40, 60]):
        streamed = streamed.update(part)
    whole = FeatureStatistics.of(features)
    expected = torch.from_numpy(np.cov((features - 1e6).numpy().T))
    assert streamed.count == 101
    torch.testing.assert_close(streamed.mean, whole.mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(streamed.covariance, expected, rtol=1e-8, atol=1e-10)


def test_merging_is_blind_to_order_and_to_empty_parts() -> None:
    a = FeatureStatistics.of(relu_features(30, 5, 0))
    b = FeatureStatistics.of(relu_features(7, 5, 1))
    there, back = a.merge(b), b.merge(a)
    torch.testing.assert_close(there.scatter, back.scatter, rtol=1e-12, atol=1e-12)
    assert a.merge(FeatureStatistics.empty(5)) is a
    with pytest.raises(ValueError, match="at least 2 rows"):
        _ = FeatureStatistics.of(torch.zeros(1, 5)).covariance
