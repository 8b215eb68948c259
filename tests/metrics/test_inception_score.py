"""Inception Score: closed forms and an oracle written another way."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vidgan import inception_score
from vidgan.randomness import keyed_rng


def random_probabilities(rows: int, classes: int, seed: int = 0) -> Tensor:
    logits = 2 * torch.randn(rows, classes, generator=keyed_rng(seed), dtype=torch.float64)
    return logits.softmax(1)


def test_one_hot_and_uniform_is_the_number_of_classes() -> None:
    assert inception_score(torch.eye(7).repeat(3, 1)) == (pytest.approx(7, rel=1e-12), 0)


def test_the_same_prediction_for_every_clip_scores_one() -> None:
    assert inception_score(torch.full((9, 5), 0.2))[0] == pytest.approx(1, abs=1e-12)
    assert inception_score(torch.eye(5)[:1].repeat(9, 1))[0] == pytest.approx(1, abs=1e-12)


def test_two_clips_by_hand() -> None:
    # p = (3/4, 1/4) and mirrored: KL = 3/4 ln(3/2) + 1/4 ln(1/2), the same for both.
    p = torch.tensor([[0.75, 0.25], [0.25, 0.75]])
    expected = np.exp(0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    assert inception_score(p)[0] == pytest.approx(expected, rel=1e-7)


def test_splits_equal_a_loop_over_parts() -> None:
    p = random_probabilities(53, 6)
    q = p.numpy()
    scores = []
    for part in np.array_split(q, 4):
        divergence = (part * (np.log(part) - np.log(part.mean(0)))).sum(1)
        scores.append(np.exp(divergence.mean()))
    mean, deviation = inception_score(p, splits=4)
    assert mean == pytest.approx(np.mean(scores), rel=1e-12)
    assert deviation == pytest.approx(np.std(scores), rel=1e-9)
    assert mean < inception_score(p, splits=1)[0]


def test_scipy_oracle() -> None:
    stats = pytest.importorskip("scipy.stats")
    p = random_probabilities(200, 11, seed=1).numpy()
    expected = np.exp(stats.entropy(p, p.mean(0, keepdims=True), axis=1).mean())
    assert inception_score(torch.from_numpy(p))[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("p", "splits", "message"),
    [
        (torch.full((4, 2), 0.4), 1, "sum to 1"),
        (torch.tensor([[1.5, -0.5]]), 1, "non-negative"),
        (torch.full((4, 2), float("nan")), 1, "sum to 1"),
        (torch.eye(2), 3, "splits must lie in 1 .. 2"),
        (torch.eye(2), 0, "splits must lie"),
        (torch.ones(3), 1, r"\[M, N\]"),
    ],
)
def test_bad_probabilities_are_named(p: Tensor, splits: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inception_score(p, splits)
