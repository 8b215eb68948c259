"""The classifier two-sample test of an evaluation: its two scores come from one training."""

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.metric import Metric, Reference, Scorer
from vidgan.evaluation.record_types import Score
from vidgan.extractors.two_sample import TwoSampleResult, two_sample_test
from vidgan.metrics.intervals import Interval

Name = Literal["auc", "accuracy"]

SAME_LAW = 0.6
"""Score of real held-out clips above which splits differ by more than chance."""


class _Shared:
    """The tests that were made of any set."""

    def __init__(self, reference: Reference) -> None:
        clips = reference.real.clips
        rng = keyed_rng(reference.seed, "two-sample reference")
        self._real = clips[torch.randperm(clips.shape[0], generator=rng)[: reference.n]]
        self._settings, self._seed = reference.protocol.two_sample, reference.seed
        self._known: list[tuple[Tensor, TwoSampleResult]] = []

    def result(self, scored: ScoredSet) -> TwoSampleResult:
        """What came of one set."""
        for clips, known in self._known:
            if clips.shape == scored.clips.shape and torch.equal(clips, scored.clips):
                return known
        found = two_sample_test(scored.clips, self._real, self._settings, self._seed)
        self._known.append((scored.clips, found))
        return found


def _shared(reference: Reference) -> _Shared:
    if "two-sample" not in reference.shared:
        reference.shared["two-sample"] = _Shared(reference)
    shared: _Shared = reference.shared["two-sample"]
    return shared


def _make(reference: Reference, name: Name) -> Scorer:
    shared = _shared(reference)

    def compute(scored: ScoredSet) -> float:
        found = shared.result(scored)
        return found.auc if name == "auc" else found.accuracy

    return compute


def _extras(generated: ScoredSet, reference: Reference, name: Name) -> dict[str, Any]:
    """The interval of the first group."""
    first = generated.take(torch.arange(reference.n))
    low, high = _shared(reference).result(first).intervals[name]
    interval = Interval(
        low, high, 0.95, "bootstrap of clips and seeds", "other clips, and networks of other seeds"
    )
    return {"interval": interval.as_record()}


def _warn(title: str, score: Score) -> list[str]:
    if score.real is None or score.real <= SAME_LAW:
        return []
    return [
        (
            f"{title}: held-out clips are told from training clips in {score.real:.0%} of cases: "
            "the splits differ, and no generator can reach 0.5"
        )
    ]


def _metric(name: Name, title: str) -> Metric:
    return Metric(
        key=f"c2st_{name}",
        title=title,
        needs="clips",
        better="lower",
        bounds=(0.0, 1.0),
        make=partial(_make, name=name),
        reads=frozenset({"two_sample"}),
        extras=partial(_extras, name=name),
        warn=_warn,
    )


C2ST_AUC = _metric("auc", "Told from real clips: area under the ROC curve (0.5 is perfect)")
C2ST_ACCURACY = _metric("accuracy", "Told from real clips: accuracy (0.5 is perfect)")
