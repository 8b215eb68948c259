"""The scores of a protocol against one reference."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.metric import SUBSETS_OF, Metric, Protocol, Reference, Scorer, find_metric
from vidgan.evaluation.record_types import Score
from vidgan.metrics.intervals import Reported, bootstrap_interval, subsampling_interval


@dataclass(frozen=True)
class ScoreFunction:
    """A metric that was prepared for a reference."""

    metric: Metric
    compute: Scorer

    def __call__(self, scored: ScoredSet) -> float:
        """The score of a set."""
        return self.compute(scored)

    @classmethod
    def of(cls, metric: Metric, reference: Reference) -> "ScoreFunction":
        """The metric against a reference; one of clips alone, which `pairs` are not."""
        assert metric.make is not None
        return cls(metric, metric.make(reference))


def score_functions(reference: Reference) -> dict[str, ScoreFunction]:
    """The protocol's scores, by key; left out is what `missing_scores` names."""
    missing = missing_scores(reference)
    found: dict[str, ScoreFunction] = {}
    for key in reference.protocol.metrics:
        if key not in missing and find_metric(key).needs != "scores":
            found[key] = ScoreFunction.of(find_metric(key), reference)
    return found


def combined_scores(scores: Mapping[str, Score], protocol: Protocol) -> dict[str, Score]:
    """The protocol's scores that are made of others."""
    found = {}
    for metric in map(find_metric, protocol.metrics):
        if metric.combine is not None and (score := metric.combine(scores)) is not None:
            found[metric.key] = score
    return found


def missing_scores(reference: Reference) -> dict[str, str]:
    """Metrics that cannot be given, each with a sentence that says why.

    The sentence is empty where there are no features: whoever could not make them has said why.
    """
    missing: dict[str, str] = {}
    extraction = reference.real.extraction
    for metric in map(find_metric, reference.protocol.metrics):
        if metric.needs in ("features", "probabilities") and extraction is None:
            missing[metric.key] = ""
        elif metric.missing is not None and (sentence := metric.missing(reference)):
            missing[metric.key] = sentence
    return missing


def extras_of(
    function: ScoreFunction, generated: ScoredSet, reference: Reference, values: Sequence[float]
) -> dict[str, Any]:
    """What a score's entry holds besides, its interval among it if the protocol asks for one.

    Args:
        function: the score.
        generated: all generated clips.
        reference: what they are compared with.
        values: the scores of the groups, whose mean is reported.
    """
    reported = Reported(statistics.fmean(values), len(values))
    interval = _interval(function, generated, reference, reported)
    extras = {} if interval is None else {"interval": interval}
    if function.metric.extras is not None:
        extras |= function.metric.extras(generated, reference)
    return extras


def _interval(
    function: ScoreFunction, generated: ScoredSet, reference: Reference, reported: Reported
) -> dict[str, Any] | None:
    """Around the mean over groups, by the spread of resamples of the first one, or of subsets of n
    of all generated clips if there are more."""
    n, draws, seed = reference.n, reference.protocol.interval_draws, reference.seed
    if not draws or function.metric.resampling == "none":
        return None
    if function.metric.resampling == "bootstrap":
        group = generated.take(torch.arange(n))
        return bootstrap_interval(
            lambda rows: function(group.take(rows)), n, reported=reported, draws=draws, seed=seed
        ).as_record()
    count = generated.clips.shape[0]
    if count < SUBSETS_OF * n:
        return None
    return subsampling_interval(
        lambda rows: function(generated.take(rows)),
        count,
        n,
        reported=reported,
        draws=draws,
        seed=seed,
    ).as_record()
