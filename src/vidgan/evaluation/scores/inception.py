"""The Inception Score of an evaluation."""

import math
from typing import Any

import torch

from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.metric import Metric, Reference, Scorer
from vidgan.metrics.inception_score import inception_score


def _make(reference: Reference) -> Scorer:
    return lambda scored: _over_splits(scored, reference)[0]


def _extras(generated: ScoredSet, reference: Reference) -> dict[str, Any]:
    """The deviation over the splits of the first group, which codes with one group print."""
    if reference.protocol.splits == 1:
        return {}
    return {
        "spread_over_splits": _over_splits(generated.take(torch.arange(reference.n)), reference)[1]
    }


def _over_splits(scored: ScoredSet, reference: Reference) -> tuple[float, float]:
    """Mean and population standard deviation over the splits of a set."""
    rows, protocol = scored.probabilities, reference.protocol
    splits = min(protocol.splits, rows.shape[0])
    return inception_score(rows, splits, log_guard=protocol.log_guard)


INCEPTION_SCORE = Metric(
    key="inception_score",
    title="Inception Score",
    needs="probabilities",
    better="higher",
    bounds=(0.0, math.inf),
    make=_make,
    reads=frozenset({"splits", "log_guard"}),
    resampling="bootstrap",
    uses_reference=False,
    extras=_extras,
)
