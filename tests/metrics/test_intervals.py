"""Intervals that hold the truth as often as they say, and distances without their sampling bias."""

import pytest
import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.metrics.frechet import frechet_distance, inception_score
from vidgan.metrics.intervals import (
    Reported,
    bootstrap_interval,
    extrapolated_frechet,
    subsampling_interval,
)


def rows(count: int, dim: int, *key: object) -> Tensor:
    return torch.randn(count, dim, generator=keyed_rng("intervals", *map(str, key)))


def test_a_bootstrap_interval_holds_the_mean_as_often_as_it_says() -> None:
    hits = 0
    for trial in range(120):
        values = rows(60, 1, trial)[:, 0]
        interval = bootstrap_interval(
            lambda chosen, values=values: float(values[chosen].mean()),  # type: ignore[misc]
            60,
            level=0.8,
            seed=trial,
        )
        hits += interval.low <= 0 <= interval.high
    assert 0.8 - 3 * 0.037 < hits / 120 < 0.8 + 3 * 0.037


def test_intervals_depend_on_their_seed_alone() -> None:
    values = rows(50, 1, "seed")[:, 0]

    def mean(chosen: Tensor) -> float:
        return float(values[chosen].mean())

    assert bootstrap_interval(mean, 50, seed=1) == bootstrap_interval(mean, 50, seed=1)
    assert bootstrap_interval(mean, 50, seed=1) != bootstrap_interval(mean, 50, seed=2)
    wide = bootstrap_interval(mean, 50, level=0.99)
    narrow = bootstrap_interval(mean, 50, level=0.5)
    assert wide.low < narrow.low < float(values.mean()) < narrow.high < wide.high
    assert wide.as_record()["method"] == "bootstrap"


def test_subsamples_are_sets_without_duplicates() -> None:
    seen: list[Tensor] = []

    def count(chosen: Tensor) -> float:
        seen.append(chosen)
        return 0.0

    interval = subsampling_interval(count, 30, 12, draws=5)
    assert [len(set(chosen.tolist())) for chosen in seen] == [12] * 5
    assert (interval.low, interval.high, interval.method) == (0, 0, "subsampling")
    with pytest.raises(UserError, match="cannot be drawn from 30"):
        subsampling_interval(count, 30, 30)


def test_subsampling_keeps_the_distance_that_a_bootstrap_biases() -> None:
    fake, real = rows(400, 8, "fake"), rows(2000, 8, "real")

    def distance(chosen: Tensor) -> float:
        return frechet_distance(fake[chosen], real)

    fresh = [frechet_distance(rows(200, 8, "fresh", k), real) for k in range(40)]
    mean = sum(fresh) / len(fresh)
    subsampled = subsampling_interval(distance, 400, 200, draws=40, level=0.9)
    assert subsampled.low < mean < subsampled.high
    biased = [distance(torch.randint(200, (200,), generator=keyed_rng(k))) for k in range(20)]
    assert min(biased) > mean


def test_an_interval_lies_around_the_reported_score_and_not_around_resamples() -> None:
    p = (4 * rows(128, 50, "probabilities").double()).softmax(1)
    value = inception_score(p)[0]

    def score(chosen: Tensor) -> float:
        return inception_score(p[chosen])[0]

    interval = bootstrap_interval(score, 128, draws=100)
    assert (interval.low + interval.high) / 2 == pytest.approx(value, rel=1e-12)
    # Duplicates lower the score: nearly all resamples lie below it.
    drawn = [score(torch.randint(128, (128,), generator=keyed_rng(k))) for k in range(40)]
    assert sum(resample < value for resample in drawn) > 36
    four = bootstrap_interval(score, 128, draws=100, reported=Reported(7.0, groups=4))
    assert (four.low + four.high) / 2 == pytest.approx(7, rel=1e-12)
    assert four.high - four.low == pytest.approx((interval.high - interval.low) / 2, rel=1e-12)
    assert "mean score" in interval.as_record()["covers"]


@pytest.mark.parametrize("groups", [2, 5, 20])
def test_the_overlap_of_subsets_is_undone(groups: int) -> None:
    size = 30
    values = rows(size * groups, 1, "overlap", groups)[:, 0].double()
    interval = subsampling_interval(
        lambda chosen: float(values[chosen].mean()), len(values), size, draws=400, level=0.95
    )
    # The mean of all rows is known to 1.96 deviations over the root of their number.
    reach = 1.966 * float(values.std()) / len(values) ** 0.5
    assert (interval.high - interval.low) / 2 == pytest.approx(reach, rel=0.15)
    assert (interval.high + interval.low) / 2 == pytest.approx(float(values.mean()), abs=reach)


def test_the_line_in_one_over_n_finds_the_distance_of_infinitely_many_clips() -> None:
    # Two unit Gaussians of 12 features, 0.5 apart in each: the true distance is 12 * 0.25 = 3.
    fits = [
        extrapolated_frechet(rows(400, 12, "a", k) + 0.5, rows(400, 12, "b", k), points=5)
        for k in range(16)
    ]
    plain = sum(fit.distances[-1] for fit in fits) / len(fits)
    extrapolated = sum(fit.value for fit in fits) / len(fits)
    assert abs(extrapolated - 3) < 0.7 * abs(plain - 3)
    assert extrapolated == pytest.approx(3, rel=0.06)
    assert sum(fit.low <= 3 <= fit.high for fit in fits) >= 14
    reaches = torch.tensor([fit.high - fit.value for fit in fits])
    deviation = float(torch.tensor([fit.value for fit in fits]).std())
    assert 1.2 * deviation < float(reaches.mean()) < 6 * deviation
    fit = extrapolated_frechet(rows(400, 12, "a", 0), rows(400, 12, "b", 0))
    assert fit.sizes[0] == 200
    assert fit.sizes[-1] == 400
    assert len(fit.sizes) == len(fit.distances) == 15
    assert fit.low < fit.value < fit.high
    assert fit.slope > 0
    assert fit.as_record()["sizes"] == list(fit.sizes)


def test_equal_laws_extrapolate_to_nothing() -> None:
    values = torch.tensor(
        [
            extrapolated_frechet(rows(300, 10, k, 0), rows(300, 10, k, 1), points=5).value
            for k in range(12)
        ]
    )
    floor = frechet_distance(rows(300, 10, 0, 0), rows(300, 10, 0, 1))
    assert abs(float(values.mean())) < 0.25 * floor


def test_nested_subsets_are_deterministic_and_need_rows() -> None:
    a, b = rows(60, 5, "x"), rows(80, 5, "y")
    assert extrapolated_frechet(a, b, seed=1) == extrapolated_frechet(a, b, seed=1)
    assert extrapolated_frechet(a, b, seed=1) != extrapolated_frechet(a, b, seed=2)
    for fewer in ((a[:19], b), (a, b[:19])):
        with pytest.raises(
            UserError, match=r"needs 20 clips or frames a set for 5 features, .* 19"
        ):
            extrapolated_frechet(*fewer)
    with pytest.raises(UserError, match="needs 40 clips or frames a set for 10 features"):
        extrapolated_frechet(rows(39, 10, "x"), rows(80, 10, "y"))
