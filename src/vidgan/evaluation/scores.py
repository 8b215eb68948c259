"""The metrics of an evaluation; see `evaluation.metric`."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.metric import Metric, Reference, Scorer
from vidgan.evaluation.record_types import Score
from vidgan.evaluation.warnings import warn_distance
from vidgan.extractors.two_sample import TwoSampleResult, two_sample_test
from vidgan.metrics.appearance import AppearanceReference
from vidgan.metrics.frechet import frechet_from_features, inception_score
from vidgan.metrics.intervals import Interval, extrapolated_frechet, refuse_extrapolation
from vidgan.metrics.kernel import jedi, kernel_distance
from vidgan.metrics.manifold import manifold_metrics
from vidgan.metrics.sliced import SlicedReference

# ------------------------------------------------------------------------------------------------
# The Inception Score of an evaluation


def _make_inception(reference: Reference) -> Scorer:
    return lambda scored: _over_splits(scored, reference)[0]


def _inception_extras(generated: ScoredSet, reference: Reference) -> dict[str, Any]:
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
    make=_make_inception,
    reads=frozenset({"splits", "log_guard"}),
    resampling="bootstrap",
    uses_reference=False,
    extras=_inception_extras,
)


# ------------------------------------------------------------------------------------------------
# The Frechet distance of an evaluation


def _make_frechet(reference: Reference) -> Scorer:
    features, options = reference.real.features, _options(reference)
    # Generated sets are known to be large enough; real ones may be smaller.
    options["allow_few"] = True

    def compute(scored: ScoredSet) -> float:
        return frechet_from_features(scored.features, features, **options).distance

    return compute


def _frechet_missing(reference: Reference) -> str:
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


def _frechet_extras(generated: ScoredSet, reference: Reference) -> dict[str, Any]:
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


def _frechet_warn(title: str, score: Score) -> list[str]:
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
    make=_make_frechet,
    reads=frozenset({"covariance_divisor", "allow_few", "extrapolate"}),
    resampling="subsampling",
    missing=_frechet_missing,
    extras=_frechet_extras,
    warn=_frechet_warn,
)


# ------------------------------------------------------------------------------------------------
# The kernel distance and JEDi of an evaluation


def _make_kernel_distance(reference: Reference) -> Scorer:
    features, rule = reference.real.features, reference.protocol.kernel

    def compute(scored: ScoredSet) -> float:
        # Generated sets were looked at; real ones may be smaller, which the record says, and the
        # distance has no bias that would move with the size.
        size = min(rule.subset_size, scored.features.shape[0], features.shape[0])
        applied = replace(rule, subset_size=size) if rule.subsets else rule
        return kernel_distance(scored.features, features, applied).distance

    return compute


def _kernel_missing(reference: Reference) -> str:
    rule, rows = reference.protocol.kernel, reference.real.features.shape[0]
    rows = min(rows, reference.n * (rows // reference.real.clips.shape[0]))
    if not rule.subsets or rule.subset_size <= rows:
        return ""
    return (
        f"{rows} clips or frames a set are fewer than subsets of kernel.subset_size="
        f"{rule.subset_size}, and their kernel distance is left out"
    )


def _make_jedi(reference: Reference) -> Scorer:
    features = reference.real.features
    return lambda scored: jedi(scored.features, features)


KERNEL_DISTANCE = Metric(
    key="kernel_distance",
    title="Kernel distance (unbiased MMD)",
    needs="features",
    better="lower",
    make=_make_kernel_distance,
    reads=frozenset({"kernel"}),
    resampling="subsampling",
    missing=_kernel_missing,
    # It is near 0, or below it, for any clips of the same law.
    warn=partial(warn_distance, suspicious=None),
)
JEDI = Metric(
    key="jedi",
    title="JEDi (100 x squared difference of second moments)",
    needs="features",
    better="lower",
    make=_make_jedi,
    resampling="subsampling",
)


# ------------------------------------------------------------------------------------------------
# Precision, recall, density and coverage: four scores from one pass over distances

ManifoldName = Literal["precision", "recall", "density", "coverage"]


class _SharedManifold:
    """The four numbers of every set that any of them was asked for."""

    def __init__(self, reference: Reference) -> None:
        # Both sets hold n clips, since all four move with either number.
        rng = keyed_rng(reference.seed, "manifold")
        order = torch.randperm(reference.real.clips.shape[0], generator=rng)
        self._features = reference.real.take(order[: reference.n]).features
        self._rule = reference.protocol.manifold
        self._known: dict[int, tuple[Tensor, dict[str, float]]] = {}

    def value(self, scored: ScoredSet, name: ManifoldName) -> float:
        """One of the numbers of a set."""
        rows, key = scored.features, id(scored.clips)
        if key not in self._known or not torch.equal(self._known[key][0], rows):
            found = manifold_metrics(real=self._features, fake=rows, rule=self._rule)
            self._known[key] = rows, found.as_record()
        return self._known[key][1][name]


def _manifold_metric(name: ManifoldName) -> Metric:
    def make(reference: Reference) -> Scorer:
        if "manifold" not in reference.shared:
            reference.shared["manifold"] = _SharedManifold(reference)
        shared: _SharedManifold = reference.shared["manifold"]
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


PRECISION = _manifold_metric("precision")
RECALL = _manifold_metric("recall")
DENSITY = _manifold_metric("density")
COVERAGE = _manifold_metric("coverage")


# ------------------------------------------------------------------------------------------------
# Measures of predicted frames against the true ones; `vidgan predict` computes them

PSNR = Metric(key="psnr", title="PSNR (dB)", needs="pairs", better="higher", bounds=(0.0, math.inf))
SSIM = Metric(key="ssim", title="SSIM", needs="pairs", better="higher", bounds=(-1.0, 1.0))
LPIPS = Metric(key="lpips", title="LPIPS", needs="pairs", better="lower", bounds=(0.0, math.inf))


# ------------------------------------------------------------------------------------------------
# The space-time sliced Wasserstein distance of an evaluation


def _make_sliced(reference: Reference) -> Scorer:
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
    make=_make_sliced,
    reads=frozenset({"sliced"}),
)


# ------------------------------------------------------------------------------------------------
# The appearance distance of an evaluation


def _compared(reference: Reference) -> AppearanceReference:
    if "appearance" not in reference.shared:
        reference.shared["appearance"] = AppearanceReference(
            reference.real.clips, reference.protocol.appearance, reference.seed
        )
    shared: AppearanceReference = reference.shared["appearance"]
    return shared


def _make_appearance(reference: Reference) -> Scorer:
    compared = _compared(reference)
    return lambda scored: compared.distance(scored.clips)


def _appearance_extras(generated: ScoredSet, reference: Reference) -> dict[str, Any]:
    """The parts of the first group."""
    first = generated.take(torch.arange(reference.n))
    return {"parts": _compared(reference).distances(first.clips)}


def _appearance_warn(title: str, score: Score) -> list[str]:
    # Its parts hardly look at motion, by design.
    return warn_distance(title, score, sees_motion=False)


APPEARANCE = Metric(
    key="appearance",
    title="Appearance: colours and layout (sliced Wasserstein distance, x1000)",
    needs="clips",
    better="lower",
    bounds=(0.0, math.inf),
    make=_make_appearance,
    reads=frozenset({"appearance"}),
    resampling="subsampling",
    extras=_appearance_extras,
    warn=_appearance_warn,
)


# ------------------------------------------------------------------------------------------------
# The classifier two-sample test of an evaluation: its two scores come from one training

TwoSampleName = Literal["auc", "accuracy"]

SAME_LAW = 0.6
"""Score of real held-out clips above which splits differ by more than chance."""


class _SharedTests:
    """The tests that were made of any set."""

    def __init__(self, reference: Reference) -> None:
        clips = reference.real.clips
        rng = keyed_rng(reference.seed, "two-sample reference")
        self._real = clips[torch.randperm(clips.shape[0], generator=rng)[: reference.n]]
        self._settings, self._seed = reference.protocol.two_sample, reference.seed
        self._known: list[tuple[Tensor, TwoSampleResult]] = []

    def result(self, scored: ScoredSet) -> TwoSampleResult:
        """The result for one set."""
        for clips, known in self._known:
            if clips.shape == scored.clips.shape and torch.equal(clips, scored.clips):
                return known
        found = two_sample_test(scored.clips, self._real, self._settings, self._seed)
        self._known.append((scored.clips, found))
        return found


def _shared_tests(reference: Reference) -> _SharedTests:
    if "two-sample" not in reference.shared:
        reference.shared["two-sample"] = _SharedTests(reference)
    shared: _SharedTests = reference.shared["two-sample"]
    return shared


def _make_two_sample(reference: Reference, name: TwoSampleName) -> Scorer:
    shared = _shared_tests(reference)

    def compute(scored: ScoredSet) -> float:
        found = shared.result(scored)
        return found.auc if name == "auc" else found.accuracy

    return compute


def _two_sample_extras(
    generated: ScoredSet, reference: Reference, name: TwoSampleName
) -> dict[str, Any]:
    """The interval of the first group."""
    first = generated.take(torch.arange(reference.n))
    low, high = _shared_tests(reference).result(first).intervals[name]
    interval = Interval(
        low, high, 0.95, "bootstrap of clips and seeds", "other clips, and networks of other seeds"
    )
    return {"interval": interval.as_record()}


def _two_sample_warn(title: str, score: Score) -> list[str]:
    if score.real is None or score.real <= SAME_LAW:
        return []
    return [
        (
            f"{title}: held-out clips are told from training clips in {score.real:.0%} of cases: "
            "the splits differ, and no generator can reach 0.5"
        )
    ]


def _two_sample_metric(name: TwoSampleName, title: str) -> Metric:
    return Metric(
        key=f"c2st_{name}",
        title=title,
        needs="clips",
        better="lower",
        bounds=(0.0, 1.0),
        make=partial(_make_two_sample, name=name),
        reads=frozenset({"two_sample"}),
        extras=partial(_two_sample_extras, name=name),
        warn=_two_sample_warn,
    )


C2ST_AUC = _two_sample_metric(
    "auc", "Told from real clips: area under the ROC curve (0.5 is perfect)"
)
C2ST_ACCURACY = _two_sample_metric("accuracy", "Told from real clips: accuracy (0.5 is perfect)")


# ------------------------------------------------------------------------------------------------
# Distances of an evaluation in one number, to choose checkpoints by.
#
# Each distance is blind to something: to colour, to dropped classes, to motion. Their geometric
# mean, each over that of real held-out clips, rises with any of them, whatever their units.

OVERALL_PARTS = ("frechet_distance", "space_time_swd", "appearance")
"""Distances that count, where they are given: none of them can be negative, and what one does not
see another does. docs/evaluation.md shows it."""


def combine_overall(scores: Mapping[str, Score], spread: float | None = None) -> Score | None:
    """The geometric mean of `OVERALL_PARTS` over those of real clips: 1 for a perfect generator.

    None where no part is given, or real clips are at 0. `spread` moves nothing.
    """
    del spread
    return _combine(scores, None)


LARGEST_FACTOR = 100.0
"""Largest factor of a spread: one clip a class, repeated, has a spread of 0."""


def combine_overall_spread(scores: Mapping[str, Score], spread: float | None) -> Score | None:
    """`combine_overall` with one more factor: how far the spread inside classes is from real.

    The factor is s or 1 / s, whichever is above 1, for s the spread of generated clips over that of
    real ones. Few real clips are far from each other themselves, so distances to them forgive
    a generator that shows one clip a class. Where the spread is not known, as with one held-out
    clip a class, it is `combine_overall`. Floor and controls count as spread like real clips.
    """
    if spread is None:
        return _combine(scores, None)
    return _combine(scores, min(max(spread, 1 / max(spread, 1 / LARGEST_FACTOR)), LARGEST_FACTOR))


def _combine(scores: Mapping[str, Score], factor: float | None) -> Score | None:
    """The geometric mean of the parts and of a factor, which real clips have at 1."""
    parts = {key: scores[key] for key in OVERALL_PARTS if key in scores and scores[key].real}
    if not parts:
        return None
    more = [] if factor is None else [1.0]
    units = [*(score.real or 1 for score in parts.values()), *more]
    ours = [] if factor is None else [factor]
    first = next(iter(parts.values()))
    values = tuple(
        _mean([*group, *ours], units)
        for group in zip(*(part.values for part in parts.values()), strict=True)
    )
    return Score(
        value=statistics.fmean(values),
        spread=statistics.pstdev(values) if len(values) > 1 else None,
        values=values,
        n=first.n,
        n_real=first.n_real,
        real=1.0,
        floor=_mean([*(part.floor or 0 for part in parts.values()), *more], units),
        floor_meaning=first.floor_meaning,
        controls={
            name: _mean([*(part.controls[name] for part in parts.values()), *more], units)
            for name in first.controls
        },
        better="lower",
        details={"of": list(parts)} if factor is None else {"of": [*parts, "spread"]},
    )


def _mean(values: Sequence[float], units: Sequence[float]) -> float:
    """The geometric mean of values, each over its unit."""
    ratios = [value / unit for value, unit in zip(values, units, strict=True)]
    return float(math.prod(ratios) ** (1 / len(ratios)))


def _overall_metric(
    key: str, title: str, combine: Callable[[Mapping[str, Score], float | None], Score | None]
) -> Metric:
    return Metric(
        key=key,
        title=title,
        needs="scores",
        better="lower",
        bounds=(0.0, math.inf),
        combine=combine,
        # Warnings are those of its parts.
        warn=lambda title, score: [],
    )


OVERALL = _overall_metric(
    "overall", "Overall: distances over those of real clips (geometric mean)", combine_overall
)
OVERALL_SPREAD = _overall_metric(
    "overall_spread",
    "Overall with the spread inside classes (geometric mean)",
    combine_overall_spread,
)
