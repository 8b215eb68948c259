"""Frechet distance and feature moments: closed forms, invariances, an independent oracle."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vidgan import frechet_distance
from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.metrics import frechet
from vidgan.metrics.frechet import frechet_from_features, frechet_from_statistics
from vidgan.metrics.statistics import FeatureStatistics


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


@pytest.mark.parametrize(("rows", "method"), [(20, "rows-svd"), (32, "rows-svd"), (300, "qr-svd")])
def test_a_set_is_at_no_distance_from_itself(rows: int, method: str) -> None:
    features = relu_features(rows, 32, 0)
    result = frechet_from_features(features, features, allow_few=True)
    assert (result.method, result.few_rows) == (method, rows < 32)
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
    by_qr = frechet_from_features(a, b)
    monkeypatch.setattr(frechet, "MAX_SINGULAR_VALUE_DIM", 10)
    by_eigenvalues = frechet_from_features(a, b)
    wide = torch.cat([torch.eye(40, dtype=torch.float64), torch.zeros(40, 100)], 1)
    by_rows = frechet_from_features(a @ wide, b @ wide, allow_few=True)
    padded = FeatureStatistics.of(a @ wide), FeatureStatistics.of(b @ wide)
    by_clipping = frechet_from_statistics(*padded, allow_few=True)
    methods = [r.method for r in (by_svd, by_qr, by_eigenvalues, by_rows, by_clipping)]
    assert methods == ["cholesky-svd", "qr-svd", "cholesky-eigh", "rows-svd", "eigh-svd"]
    for other in (by_qr, by_eigenvalues, by_rows, by_clipping):
        assert other.distance == pytest.approx(by_svd.distance, rel=1e-9)
    assert by_clipping.clipped_mass < 1e-8
    assert by_rows.as_record()["estimator"]["few_rows"]
    assert not by_qr.as_record()["estimator"]["few_rows"]


def test_fewer_clips_than_features_are_refused() -> None:
    a, b = relu_features(40, 30, 0), relu_features(29, 30, 1)
    for pair in ((a, b), (b, a)):
        with pytest.raises(UserError, match="of 29 clips in 30 features is mostly sampling noise"):
            frechet_distance(*pair)
        with pytest.raises(UserError, match="allow few clips"):
            frechet_from_statistics(*(FeatureStatistics.of(part) for part in pair))
    assert frechet_distance(a, b, allow_few=True) > 0
    assert frechet_distance(a, a[:30]) > 0


def test_the_distance_of_one_law_to_itself_falls_like_one_over_n() -> None:
    # About d / (2n) of the trace each: two samples of one Gaussian with a flat spectrum.
    shares = []
    for rows in (256, 512):
        a, b = (
            torch.randn(rows, 64, generator=keyed_rng(rows, part), dtype=torch.float64)
            for part in "ab"
        )
        result = frechet_from_features(a, b)
        assert result.relative is not None
        shares.append(result.relative)
    assert shares[0] / shares[1] == pytest.approx(2, rel=0.1)


def test_features_keep_their_digits_where_covariances_lose_them() -> None:
    """At condition 1e12 roots of the product of both covariances are off by 1e-8."""
    spectrum = 1e12 ** -torch.linspace(0, 1, 48, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(48, 48, generator=keyed_rng("t"), dtype=torch.float64)).Q
    sets = []
    for scale, seed in ((1.0, 0), (2.0, 1)):
        noise = torch.randn(150, 48, generator=keyed_rng(seed), dtype=torch.float64)
        flat = torch.linalg.qr(noise - noise.mean(0)).Q * 149**0.5
        sets.append((flat * (scale * spectrum.sqrt())) @ turn.T)
    assert frechet_distance(*sets) == pytest.approx(float(spectrum.sum()), rel=1e-12)


def test_torchmetrics_oracle() -> None:
    fid = pytest.importorskip("torchmetrics.image.fid", exc_type=ImportError)

    class Rows(torch.nn.Module):
        num_features = 24

        def forward(self, rows: Tensor) -> Tensor:
            return rows

    a, b = relu_features(300, 24, 0), relu_features(200, 24, 1, shift=0.2)
    metric = fid.FrechetInceptionDistance(feature=Rows()).set_dtype(torch.float64)
    metric.update(a, real=True)
    metric.update(b, real=False)
    expected = float(metric.compute())
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_rank_deficient_rows_equal_a_brute_force_root() -> None:
    a, b = relu_features(12, 30, 0), relu_features(15, 30, 1)
    cov_a, cov_b = np.cov(a.numpy().T), np.cov(b.numpy().T)
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    gap = float((a.mean(0) - b.mean(0)).square().sum())
    expected = gap + np.trace(cov_a) + np.trace(cov_b) - 2 * cross
    # The brute-force root loses half of the digits of the zero eigenvalues.
    assert frechet_distance(a, b, allow_few=True) == pytest.approx(expected, rel=1e-5)


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
    a = FeatureStatistics(21, zero, 20 * spectrum.diag())
    b = FeatureStatistics(21, zero, (80 * spectrum).diag())
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
