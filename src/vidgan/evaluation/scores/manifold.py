"""Precision, recall, density and coverage: four scores from one pass over distances."""

import math
from typing import Literal

import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.metric import Metric, Reference, Scorer
from vidgan.metrics.manifold import manifold_metrics

Name = Literal["precision", "recall", "density", "coverage"]


class _Shared:
    """The four numbers of every set that any of them was asked for."""

    def __init__(self, reference: Reference) -> None:
        # Both sets hold n clips, since all four move with either number.
        rng = keyed_rng(reference.seed, "manifold")
        order = torch.randperm(reference.real.clips.shape[0], generator=rng)
        self._features = reference.real.take(order[: reference.n]).features
        self._rule = reference.protocol.manifold
        self._known: dict[int, tuple[Tensor, dict[str, float]]] = {}

    def value(self, scored: ScoredSet, name: Name) -> float:
        """One of the numbers of a set."""
        rows, key = scored.features, id(scored.clips)
        if key not in self._known or not torch.equal(self._known[key][0], rows):
            found = manifold_metrics(real=self._features, fake=rows, rule=self._rule)
            self._known[key] = rows, found.as_record()
        return self._known[key][1][name]


def _metric(name: Name) -> Metric:
    def make(reference: Reference) -> Scorer:
        if "manifold" not in reference.shared:
            reference.shared["manifold"] = _Shared(reference)
        shared: _Shared = reference.shared["manifold"]
        return lambda scored: shared.value(scored, name)

    return Metric(
        key=name,
        title=name.capitalize(),
        needs="features",
        better="higher",
        bounds=(0.0, math.inf if name == "density" else 1.0),
        make=make,
        reads=frozenset({"manifold"}),
    )


PRECISION = _metric("precision")
RECALL = _metric("recall")
DENSITY = _metric("density")
COVERAGE = _metric("coverage")
