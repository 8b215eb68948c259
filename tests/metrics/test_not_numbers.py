"""Features that no float64 arithmetic can compare are refused by name, and float64 is kept."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.metrics.appearance import motion_statistics
from vidgan.metrics.frechet import frechet_distance, frechet_from_statistics, inception_score
from vidgan.metrics.intervals import extrapolated_frechet
from vidgan.metrics.kernel import KernelRule, jedi, jedi_from_moments, kernel_distance
from vidgan.metrics.manifold import manifold_metrics
from vidgan.metrics.memorisation import compare_spread, mean_pairwise_distance
from vidgan.metrics.sliced import SlicedSettings, space_time_swd
from vidgan.metrics.statistics import FeatureStatistics
from vidgan.metrics.streaming import FrechetDistance, Jedi


def rows(count: int = 40, seed: int = 0) -> Tensor:
    rng = keyed_rng("not numbers", seed)
    return torch.randn(count, 3, dtype=torch.float64, generator=rng)


def streamed(metric: Any) -> Callable[[Tensor, Tensor], Any]:
    def compute(fake: Tensor, real: Tensor) -> Any:
        filled = metric()
        filled.update(fake, real=False)
        filled.update(real, real=True)
        return filled.compute()

    return compute


def labelled(features: Tensor) -> tuple[Tensor, Tensor]:
    return features, torch.zeros(features.shape[0], dtype=torch.int64)


COMPARED: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "frechet": frechet_distance,
    "frechet of moments": lambda a, b: frechet_from_statistics(
        FeatureStatistics.of(a), FeatureStatistics.of(b)
    ),
    "frechet of infinitely many": extrapolated_frechet,
    "frechet streamed": streamed(FrechetDistance),
    "kernel": kernel_distance,
    "kernel of subsets": lambda a, b: kernel_distance(a, b, KernelRule(subsets=2, subset_size=9)),
    "jedi": jedi,
    "jedi streamed": streamed(Jedi),
    "manifold": lambda a, b: manifold_metrics(real=b, fake=a),
    "spread": lambda a, b: compare_spread(labelled(a), labelled(b), ()),
    "pairs": lambda a, b: mean_pairwise_distance(a) + mean_pairwise_distance(b),
}


def damaged(value: float) -> Tensor:
    features = rows()
    features[7, 1] = value
    return features


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e160, -1e308])
def test_what_is_no_number_or_too_large_is_refused_by_name(name: str, value: float) -> None:
    for pair in ((damaged(value), rows(seed=1)), (rows(seed=1), damaged(value))):
        with pytest.raises(UserError, match=r"features.* (not finite|beyond 1e\+50)"):
            COMPARED[name](*pair)


@pytest.mark.parametrize("name", ["frechet", "jedi", "manifold", "spread", "kernel"])
def test_features_so_small_that_squares_vanish_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"features are at most 1\.0e-160"):
        COMPARED[name](*(torch.full((9, 2), 1e-160, dtype=torch.float64) for _ in range(2)))


def test_zeros_and_large_numbers_inside_the_range_are_compared() -> None:
    assert frechet_distance(torch.zeros(9, 2), torch.zeros(9, 2)) == 0
    scaled = frechet_distance(1e40 * rows(), 1e40 * rows(seed=1))
    assert scaled == pytest.approx(1e80 * frechet_distance(rows(), rows(seed=1)), rel=1e-9)


def test_statistics_and_moments_made_elsewhere_are_looked_at_too() -> None:
    good = FeatureStatistics.of(rows())
    bad = FeatureStatistics(40, good.mean, good.scatter * math.nan)
    with pytest.raises(UserError, match="statistics of features hold values that are not finite"):
        frechet_from_statistics(bad, good)
    with pytest.raises(UserError, match="moments of features hold values that are not finite"):
        jedi_from_moments(good.scatter * math.inf, good.scatter)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1])
def test_probabilities_that_are_none_are_refused(value: float) -> None:
    p = torch.full((6, 2), 0.5)
    p[2, 0] = value
    with pytest.raises(UserError, match="row of probabilities"):
        inception_score(p)


@pytest.mark.parametrize("text", [torch.ones(3, 2, dtype=torch.complex64), [["a"]] * 3])
def test_features_are_real_numbers(text: Any) -> None:
    with pytest.raises(UserError, match="features"):
        frechet_distance(text, torch.ones(3, 2))


def test_every_metric_takes_arrays_and_keeps_float64() -> None:
    # float32 cannot tell these two sets apart.
    first, second = 1.0 + 1e-9 * rows(), 1.0 + 1e-9 * (rows(seed=1) + 5.0)
    for name in ("frechet", "jedi", "spread", "manifold", "kernel"):
        assert COMPARED[name](first.numpy(), second.numpy()) == COMPARED[name](first, second)
    assert frechet_distance(first, second) > 0
    assert frechet_distance(first.float(), second.float()) == pytest.approx(0, abs=1e-18)
    odds = torch.softmax(rows(), dim=1)
    assert inception_score(odds.numpy(), 2) == inception_score(odds, 2)
    assert inception_score(odds.tolist()) == inception_score(odds)


@pytest.mark.parametrize(
    ("field", "value"),
    [("directions", 0), ("patches_per_clip", 0), ("patch_size", 0), ("scale", math.nan)],
)
def test_a_sliced_distance_of_nothing_is_refused(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"sliced\.{field}"):
        SlicedSettings(**{field: value})
    with pytest.raises(UserError, match=r"kernel\.scale"):
        KernelRule(scale=math.inf)


def test_clips_that_are_no_clips_are_refused() -> None:
    with pytest.raises(UserError, match="uint8 clips"):
        space_time_swd(torch.full((4, 3, 4, 8, 8), math.nan), torch.zeros(4, 3, 4, 8, 8))
    with pytest.raises(UserError, match="at least one"):
        motion_statistics(torch.zeros(0, 3, 4, 8, 8, dtype=torch.uint8))
