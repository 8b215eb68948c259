"""The Frechet distance of an evaluation."""

import math
from typing import Any

import torch

from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.metric import Metric, Reference, Scorer
from vidgan.evaluation.record_types import Score
from vidgan.evaluation.warnings import warn_distance
from vidgan.metrics.frechet import frechet_from_features
from vidgan.metrics.intervals import extrapolated_frechet, refuse_extrapolation


def _make(reference: Reference) -> Scorer:
    features, options = reference.real.features, _options(reference)
    # Whether there are enough clips was settled for generated sets; real ones may be fewer.
    options["allow_few"] = True

    def compute(scored: ScoredSet) -> float:
        return frechet_from_features(scored.features, features, **options).distance

    return compute


def _missing(reference: Reference) -> str:
    real = reference.real
    num_rows, dim = real.features.shape
    rows = min(reference.n * (num_rows // real.clips.shape[0]), num_rows)
    if rows >= dim or reference.protocol.allow_few:
        return ""
    return (
        f"{rows} clips or frames a set are fewer than the {dim} features: their Frechet "
        "distance would be mostly sampling noise and is left out (a protocol with "
        "allow_few gives it; own-c3d-kid serves from a few clips on)"
    )


def _extras(generated: ScoredSet, reference: Reference) -> dict[str, Any]:
    """The estimator of the first group, and the distance of infinitely many clips if asked for."""
    features, options = reference.real.features, _options(reference)
    first = generated.take(torch.arange(reference.n))
    found = frechet_from_features(first.features, features, **options).as_record()
    extras: dict[str, Any] = {"first_group": found}
    if not reference.protocol.extrapolate:
        return extras
    rows, dim = min(generated.features.shape[0], features.shape[0]), features.shape[1]
    if (sentence := refuse_extrapolation(rows, dim)) is not None:
        return {**extras, "not_extrapolated": sentence}
    found = extrapolated_frechet(
        generated.features,
        features,
        seed=reference.seed,
        divides_by_n=options["divides_by_n"],
    ).as_record()
    return {**extras, "extrapolated": found}


def _warn(title: str, score: Score) -> list[str]:
    sentences = warn_distance(title, score, half_is_far=True)
    why = score.details.get("not_extrapolated")
    if why is not None:
        sentences.append(f"{why}: it is not given")
    return sentences


def _options(reference: Reference) -> dict[str, bool]:
    protocol = reference.protocol
    return {
        "allow_few": protocol.allow_few,
        "divides_by_n": protocol.covariance_divisor == "n",
    }


FRECHET_DISTANCE = Metric(
    key="frechet_distance",
    title="Frechet distance",
    needs="features",
    better="lower",
    bounds=(0.0, math.inf),
    make=_make,
    reads=frozenset({"covariance_divisor", "allow_few", "extrapolate"}),
    resampling="subsampling",
    missing=_missing,
    extras=_extras,
    warn=_warn,
)
