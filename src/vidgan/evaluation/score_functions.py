"""The scores of a protocol, each as a function of one set of clips."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.protocol_fields import METRICS, Protocol
from vidgan.metrics.frechet import frechet_from_features
from vidgan.metrics.inception_score import inception_score
from vidgan.metrics.intervals import bootstrap_interval, extrapolated_frechet, subsampling_interval
from vidgan.metrics.kernel import jedi, kernel_distance
from vidgan.metrics.manifold import manifold_metrics
from vidgan.metrics.sliced import SlicedReference

MANIFOLD = ("precision", "recall", "density", "coverage")


@dataclass(frozen=True)
class ScoreFunction:
    """One score.

    Attributes:
        key: in a record's `scores`.
        compute: from a set to its score.
        better: `lower` or `higher`.
        resampling: how its interval is drawn: `bootstrap`, `subsampling` or none.
    """

    key: str
    compute: Callable[[ScoredSet], float]
    better: str = "lower"
    resampling: str = "subsampling"

    def __call__(self, scored: ScoredSet) -> float:
        """The score of a set."""
        return self.compute(scored)


def score_functions(
    reference: ScoredSet, n: int, protocol: Protocol, seed: int
) -> dict[str, ScoreFunction]:
    """The protocol's scores against a reference, by their key in a record.

    Left out is what the reference does not allow: features without a network, probabilities of a
    network without classes, Frechet distances of fewer clips than features.
    """
    makers = {
        "inception_score": _inception_score,
        "frechet_distance": _frechet_distance,
        "kernel_distance": _kernel_distance,
        "jedi": _jedi,
        "manifold": _manifold,
        "space_time_swd": _space_time_swd,
    }
    missing = missing_scores(reference, n, protocol)
    found: dict[str, ScoreFunction] = {}
    for name in protocol.metrics:
        if name in makers and name not in missing:
            functions = makers[name](reference, n, protocol, seed)
            found |= {function.key: function for function in functions}
    return found


def missing_scores(reference: ScoredSet, n: int, protocol: Protocol) -> dict[str, str]:
    """The protocol's metrics that cannot be given, each with a sentence that says why."""
    missing: dict[str, str] = {}
    extraction = reference.extraction
    for name in protocol.metrics:
        needs = METRICS[name]
        if needs == "clips":
            continue
        if extraction is None or (
            needs == "probabilities" and not extraction.probabilities.numel()
        ):
            missing[name] = ""
    if "frechet_distance" in protocol.metrics and extraction is not None:
        dim = extraction.features.shape[-1]
        rows = n * (reference.features.shape[0] // reference.clips.shape[0])
        rows = min(rows, reference.features.shape[0])
        if rows < dim and not protocol.allow_few:
            missing["frechet_distance"] = (
                f"{rows} clips or frames a set are fewer than the {dim} features: their Frechet "
                "distance would be mostly sampling noise and is left out (a protocol with "
                "allow_few gives it; own-c3d-kid serves from a few clips on)"
            )
    return missing


def extras_of(
    function: ScoreFunction,
    generated: ScoredSet,
    reference: ScoredSet,
    n: int,
    protocol: Protocol,
    seed: int,
) -> dict[str, Any]:
    """Interval, extrapolation and estimator of a score, as far as the protocol asks for them."""
    extras: dict[str, Any] = {}
    interval = _interval(function, generated, n, protocol, seed)
    if interval is not None:
        extras["interval"] = interval
    if function.key != "frechet_distance":
        return extras
    first = generated.take(torch.arange(n))
    extras["first_group"] = frechet_from_features(
        first.features, reference.features, **_frechet_options(protocol)
    ).as_record()
    rows, dim = generated.features.shape
    # The smallest subset holds up to three quarters of the rows, and more of them than features.
    if protocol.extrapolate and 3 * min(rows, reference.features.shape[0]) // 4 > dim:
        extras["extrapolated"] = extrapolated_frechet(
            generated.features, reference.features, seed=seed, **_frechet_options(protocol)
        ).as_record()
    return extras


def _interval(
    function: ScoreFunction, generated: ScoredSet, n: int, protocol: Protocol, seed: int
) -> dict[str, Any] | None:
    """Bootstrap of the first group, or subsets of n of all generated clips if there are more."""
    if not protocol.interval_draws or function.resampling == "none":
        return None
    if function.resampling == "bootstrap":
        group = generated.take(torch.arange(n))
        return bootstrap_interval(
            lambda rows: function(group.take(rows)), n, draws=protocol.interval_draws, seed=seed
        ).as_record()
    count = generated.clips.shape[0]
    # Subsets of nearly all clips are nearly equal: their spread would say nothing.
    if count < 1.5 * n:
        return None
    return subsampling_interval(
        lambda rows: function(generated.take(rows)),
        count,
        n,
        draws=protocol.interval_draws,
        seed=seed,
    ).as_record()


# ------------------------------------------------------------------------------------------------
# One maker a metric


def _inception_score(
    reference: ScoredSet, n: int, protocol: Protocol, seed: int
) -> list[ScoreFunction]:
    def compute(scored: ScoredSet) -> float:
        rows = scored.probabilities
        splits = min(protocol.splits, rows.shape[0])
        return inception_score(rows, splits, log_guard=protocol.log_guard)[0]

    return [ScoreFunction("inception_score", compute, "higher", "bootstrap")]


def _frechet_distance(
    reference: ScoredSet, n: int, protocol: Protocol, seed: int
) -> list[ScoreFunction]:
    features, options = reference.features, _frechet_options(protocol)
    # Whether there are enough clips was settled for generated sets; real ones may be fewer.
    options["allow_few"] = True

    def compute(scored: ScoredSet) -> float:
        return frechet_from_features(scored.features, features, **options).distance

    return [ScoreFunction("frechet_distance", compute)]


def _frechet_options(protocol: Protocol) -> dict[str, bool]:
    return {
        "allow_few": protocol.allow_few,
        "divides_by_n": protocol.covariance_divisor == "n",
    }


def _kernel_distance(
    reference: ScoredSet, n: int, protocol: Protocol, seed: int
) -> list[ScoreFunction]:
    features = reference.features

    def compute(scored: ScoredSet) -> float:
        return kernel_distance(scored.features, features, protocol.kernel).distance

    return [ScoreFunction("kernel_distance", compute)]


def _jedi(reference: ScoredSet, n: int, protocol: Protocol, seed: int) -> list[ScoreFunction]:
    features = reference.features
    return [ScoreFunction("jedi", lambda scored: jedi(scored.features, features))]


def _manifold(reference: ScoredSet, n: int, protocol: Protocol, seed: int) -> list[ScoreFunction]:
    """Four scores from one pass over the distances of a set."""
    # Both sets hold n clips, since all four move with either number.
    order = torch.randperm(reference.clips.shape[0], generator=keyed_rng(seed, "manifold"))
    features = reference.take(order[:n]).features
    cache: dict[int, tuple[Tensor, dict[str, float]]] = {}

    def compute(scored: ScoredSet, name: str) -> float:
        rows = scored.features
        key = id(scored.clips)
        if key not in cache or not torch.equal(cache[key][0], rows):
            found = manifold_metrics(real=features, fake=rows, rule=protocol.manifold)
            cache[key] = rows, found.as_record()
        return cache[key][1][name]

    def function(name: str) -> ScoreFunction:
        return ScoreFunction(name, lambda scored: compute(scored, name), "higher", "none")

    return [function(name) for name in MANIFOLD]


def _space_time_swd(
    reference: ScoredSet, n: int, protocol: Protocol, seed: int
) -> list[ScoreFunction]:
    rng = keyed_rng(seed, "stswd reference")
    chosen = torch.randperm(reference.clips.shape[0], generator=rng)[:n]
    whole = reference.clips[chosen]
    references: dict[int, SlicedReference] = {}

    def compute(scored: ScoredSet) -> float:
        # The distance compares equally many clips; real sets may be smaller than generated ones.
        count = min(scored.clips.shape[0], whole.shape[0])
        if count not in references:
            references[count] = SlicedReference(whole[:count], protocol.sliced, seed)
        return references[count].distance(scored.clips[:count]).value

    return [ScoreFunction("space_time_swd", compute, "lower", "none")]
