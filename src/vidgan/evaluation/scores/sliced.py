"""The space-time sliced Wasserstein distance of an evaluation."""

import math

import torch

from vidgan.core.randomness import keyed_rng
from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.metric import Metric, Reference, Scorer
from vidgan.metrics.sliced import SlicedReference


def _make(reference: Reference) -> Scorer:
    rng = keyed_rng(reference.seed, "stswd reference")
    clips = reference.real.clips
    whole = clips[torch.randperm(clips.shape[0], generator=rng)[: reference.n]]
    settings, references = reference.protocol.sliced, dict[int, SlicedReference]()

    def compute(scored: ScoredSet) -> float:
        # The distance compares equally many clips; real sets may be smaller than generated ones.
        count = min(scored.clips.shape[0], whole.shape[0])
        if count not in references:
            references[count] = SlicedReference(whole[:count], settings, reference.seed)
        return references[count].distance(scored.clips[:count]).value

    return compute


SPACE_TIME_SWD = Metric(
    key="space_time_swd",
    title="Space-time sliced Wasserstein distance (x1000)",
    needs="clips",
    better="lower",
    bounds=(0.0, math.inf),
    make=_make,
    reads=frozenset({"sliced"}),
)
