"""Inception Score: closed forms and an oracle written another way."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vidgan import inception_score
from vidgan.core.randomness import keyed_rng


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
    # The remainder is spread, and not given to the first parts: 13, 13, 13 and 14 rows.
    for part in (q[i * 53 // 4 : (i + 1) * 53 // 4] for i in range(4)):
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


@pytest.mark.parametrize("guard", [1e-7, 1e-20])
def test_the_guard_of_published_codes_stands_inside_both_logarithms(guard: float) -> None:
    # Written as the published loops are, row by row; some probabilities are exactly 0.
    p = random_probabilities(60, 7, seed=2).numpy()
    p[::3] = np.eye(7)[np.arange(20) % 7]
    mean = p.mean(0)
    rows = [(row * np.log(row + guard) - row * np.log(mean + guard)).sum() for row in p]
    guarded = inception_score(torch.from_numpy(p), log_guard=guard)[0]
    assert guarded == pytest.approx(np.exp(np.mean(rows)), rel=1e-12)
    assert guarded == pytest.approx(inception_score(torch.from_numpy(p))[0], rel=1e-5)
    with pytest.raises(ValueError, match="log_guard"):
        inception_score(torch.from_numpy(p), log_guard=-1e-7)


def test_a_score_grows_with_its_sample() -> None:
    """One-hot predictions of 101 equally likely classes: about 76.6 of 205 clips, 98.6 of 2,048."""
    means = {}
    for count in (205, 2048):
        labels = torch.randint(101, (20, count), generator=keyed_rng("sample size", count))
        scores = [inception_score(torch.eye(101)[row])[0] for row in labels]
        means[count] = sum(scores) / len(scores)
    assert means[205] == pytest.approx(76.6, abs=1)
    assert means[2048] == pytest.approx(98.6, abs=0.5)


def test_torchmetrics_oracle() -> None:
    image = pytest.importorskip("torchmetrics.image.inception", exc_type=ImportError)
    logits = 2 * torch.randn(90, 11, generator=keyed_rng(3), dtype=torch.float64)
    metric = image.InceptionScore(feature=torch.nn.Identity(), splits=1).set_dtype(torch.float64)
    metric.update(logits)
    expected = float(metric.compute()[0])
    assert inception_score(logits.softmax(1))[0] == pytest.approx(expected, rel=1e-12)


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
