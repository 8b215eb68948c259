"""Spread inside classes sees the collapse that class scores do not see."""

import pytest
import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.metrics.frechet import frechet_from_features, inception_score
from vidgan.metrics.memorisation import compare_spread, mean_pairwise_distance, within_class_spread

CLASSES = ("a", "b", "c")


def classed(count: int, seed: int, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """Features of three classes that lie far apart."""
    labels = torch.arange(count) % 3
    centres = 50 * torch.eye(3, 6)
    noise = torch.randn(count, 6, generator=keyed_rng("classes", seed))
    return centres[labels] + spread * noise, labels


def test_pairs_by_hand() -> None:
    triangle = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 8.0]])
    assert mean_pairwise_distance(triangle) == pytest.approx((5 + 8 + 5) / 3)
    labels = torch.tensor([0, 0, 1])
    assert within_class_spread(triangle, labels, 3) == [5.0, None, None]
    with pytest.raises(ValueError, match="M >= 2"):
        mean_pairwise_distance(triangle[:1])


def test_one_clip_a_class_is_seen_here_and_nowhere_else() -> None:
    real, collapsed = classed(120, 0), classed(120, 1, spread=0.02)
    found = compare_spread(collapsed, real, CLASSES)
    assert found is not None
    assert found["ratio"] < 0.05
    # What the other scores say of the same clips: all classes, evenly, and no great distance.
    predicted = torch.eye(3)[collapsed[1]]
    assert inception_score(predicted)[0] == pytest.approx(3)
    distance = frechet_from_features(collapsed[0], real[0])
    assert distance.relative is not None
    assert distance.relative < 0.01


def test_a_healthy_generator_has_a_ratio_near_one() -> None:
    found = compare_spread(classed(120, 0), classed(150, 1), CLASSES)
    assert found is not None
    assert found["ratio"] == pytest.approx(1, abs=0.1)
    assert set(found["by_class"]) == set(CLASSES)


def test_the_worst_class_is_named() -> None:
    features, labels = classed(120, 2)
    centre = features[labels == 1].mean(0)
    features[labels == 1] = centre + 0.1 * (features[labels == 1] - centre)
    found = compare_spread((features, labels), classed(120, 3), CLASSES)
    assert found is not None
    assert found["lowest"]["class"] == "b"
    assert found["lowest"]["ratio"] == pytest.approx(0.1, abs=0.03)


def test_without_classes_all_clips_are_one() -> None:
    fake, real = classed(30, 4), classed(30, 5)
    unlabelled = torch.full((30,), -1)
    found = compare_spread((fake[0], unlabelled), (real[0], unlabelled), ())
    assert found is not None
    assert list(found["by_class"]) == ["all clips"]
    # A class without pairs on one side is left out; no class, no number.
    lonely = compare_spread((fake[0][:3], fake[1][:3]), real, CLASSES)
    assert lonely is None
