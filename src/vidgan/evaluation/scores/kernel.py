"""The kernel distance and JEDi of an evaluation."""

from dataclasses import replace
from functools import partial

from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.metric import Metric, Reference, Scorer
from vidgan.evaluation.warnings import warn_distance
from vidgan.metrics.kernel import jedi, kernel_distance


def _make_kernel_distance(reference: Reference) -> Scorer:
    features, rule = reference.real.features, reference.protocol.kernel

    def compute(scored: ScoredSet) -> float:
        # Generated sets were looked at; real ones may be smaller, which the record says, and the
        # distance has no bias that would move with the size.
        size = min(rule.subset_size, scored.features.shape[0], features.shape[0])
        applied = replace(rule, subset_size=size) if rule.subsets else rule
        return kernel_distance(scored.features, features, applied).distance

    return compute


def _missing(reference: Reference) -> str:
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
    missing=_missing,
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
