"""The appearance distance of an evaluation."""

import math
from typing import Any

import torch

from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.metric import Metric, Reference, Scorer
from vidgan.evaluation.record_types import Score
from vidgan.evaluation.warnings import warn_distance
from vidgan.metrics.appearance import AppearanceReference


def _compared(reference: Reference) -> AppearanceReference:
    if "appearance" not in reference.shared:
        reference.shared["appearance"] = AppearanceReference(
            reference.real.clips, reference.protocol.appearance, reference.seed
        )
    shared: AppearanceReference = reference.shared["appearance"]
    return shared


def _make(reference: Reference) -> Scorer:
    compared = _compared(reference)
    return lambda scored: compared.distance(scored.clips)


def _extras(generated: ScoredSet, reference: Reference) -> dict[str, Any]:
    """The parts of the first group."""
    first = generated.take(torch.arange(reference.n))
    return {"parts": _compared(reference).distances(first.clips)}


def _warn(title: str, score: Score) -> list[str]:
    # Its parts hardly look at motion, by design.
    return warn_distance(title, score, sees_motion=False)


APPEARANCE = Metric(
    key="appearance",
    title="Appearance: colours and layout (sliced Wasserstein distance, x1000)",
    needs="clips",
    better="lower",
    bounds=(0.0, math.inf),
    make=_make,
    reads=frozenset({"appearance"}),
    resampling="subsampling",
    extras=_extras,
    warn=_warn,
)
