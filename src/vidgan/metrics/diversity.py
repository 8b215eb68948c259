"""Spread inside classes: do clips of one class differ from each other as real ones do?

A generator that makes one good clip for each class looks perfect to the Inception Score and to
agreement, and a Frechet distance hardly moves while classes lie far apart. The mean distance
between clips of one class shows it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vidgan.core.arrays import Values
from vidgan.metrics.statistics import feature_rows


def mean_pairwise_distance(features: Values) -> float:
    """Mean Euclidean distance between different rows of `[M, F]`, float64.

    Raises:
        UserError: fewer than two rows, or values that are not finite.

    Example:
        >>> import torch
        >>> mean_pairwise_distance(torch.tensor([[0.0], [1.0], [3.0]]))
        2.0
    """
    return float(torch.pdist(feature_rows(features, "features in pairs", fewest=2)).mean())


def within_class_spread(features: Values, labels: Tensor, num_classes: int) -> list[float | None]:
    """Mean pairwise distance inside each class.

    Args:
        features: `[M, F]`.
        labels: int64 `[M]`.
        num_classes: N.

    Returns:
        N values; None for a class with fewer than two rows.
    """
    found: list[float | None] = []
    features = feature_rows(features)
    for label in range(num_classes):
        rows = features[labels == label]
        found.append(mean_pairwise_distance(rows) if rows.shape[0] > 1 else None)
    return found


def compare_spread(
    fake: tuple[Tensor, Tensor], real: tuple[Tensor, Tensor], classes: Sequence[str]
) -> dict[str, Any] | None:
    """Spread of generated clips over that of real ones, class by class.

    Args:
        fake: features `[M, F]` and labels int64 `[M]`.
        real: the same of held-out clips.
        classes: N names; empty takes all clips for one class.

    Returns:
        `generated` and `heldout` (means over classes that have pairs in both), their `ratio` (near
        1 for a healthy generator, near 0 for one clip a class), `lowest` (class and ratio) and
        `by_class`. None if no class has pairs in both.
    """
    names = list(classes) or ["all clips"]
    sets = [
        (features, labels if classes else torch.zeros_like(labels))
        for features, labels in (fake, real)
    ]
    ours, theirs = (within_class_spread(*part, len(names)) for part in sets)
    by_class = {
        name: {"generated": a, "heldout": b, "ratio": a / b}
        for name, a, b in zip(names, ours, theirs, strict=True)
        if a is not None and b is not None and b > 0
    }
    if not by_class:
        return None
    means = {
        key: sum(entry[key] for entry in by_class.values()) / len(by_class)
        for key in ("generated", "heldout")
    }
    lowest = min(by_class, key=lambda name: by_class[name]["ratio"])
    return {
        **means,
        "ratio": means["generated"] / means["heldout"],
        "lowest": {"class": lowest, "ratio": by_class[lowest]["ratio"]},
        "by_class": by_class,
    }
