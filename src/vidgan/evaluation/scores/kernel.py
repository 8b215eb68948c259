"""The kernel distance and JEDi of an evaluation."""

from functools import partial

from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.metric import Metric, Reference, Scorer
from vidgan.evaluation.warnings import warn_distance
from vidgan.metrics.kernel import jedi, kernel_distance


def _make_kernel_distance(reference: Reference) -> Scorer:
    features, rule = reference.real.features, reference.protocol.kernel

    def compute(scored: ScoredSet) -> float:
        return kernel_distance(scored.features, features, rule).distance

    return compute


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
