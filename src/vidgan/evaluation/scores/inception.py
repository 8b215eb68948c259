"""The Inception Score of an evaluation."""

import math

from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.metric import Metric, Reference, Scorer
from vidgan.metrics.inception_score import inception_score


def _make(reference: Reference) -> Scorer:
    protocol = reference.protocol

    def compute(scored: ScoredSet) -> float:
        rows = scored.probabilities
        splits = min(protocol.splits, rows.shape[0])
        return inception_score(rows, splits, log_guard=protocol.log_guard)[0]

    return compute


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
)
