"""The types `Protocol` and `Metric`, and the table of all metrics.

A protocol names its metrics, and a metric is prepared under a protocol: two mutually dependent
types. A metric is one object of type `Metric` (in `scores`, or in another package) and one line in
`METRICS` (or an entry point `vidgan.metrics`); nothing else refers to it. docs/adding-a-metric.md
shows one.
"""

import hashlib
import importlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal

from vidgan.errors import UserError
from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.record_types import Score
from vidgan.extractors.extractor import ExtractorSpec
from vidgan.extractors.judge import ClassifierSettings
from vidgan.extractors.two_sample import TwoSampleSettings
from vidgan.metrics.appearance import AppearanceSettings
from vidgan.metrics.frechet import MAX_LOG_GUARD
from vidgan.metrics.kernel import KernelRule
from vidgan.metrics.manifold import ManifoldRule
from vidgan.metrics.sliced import SlicedSettings

# ------------------------------------------------------------------------------------------------
# Protocol: every choice that affects a score, as one frozen record

SUBSETS_OF = 1.5
"""Multiple of n clips needed for intervals of distances: subsets of nearly all clips would be
nearly equal, and their spread meaningless."""

ClipRule = Literal[
    "central window of every clip", "first window of every clip", "random window of every clip"
]
"""Which frames of a longer real clip are compared; a random window is drawn by the seed."""

ReferenceRule = Literal["clips beside the floor", "whole split"]
"""Which clips of a split are the reference. The floor's are left out of it, or it holds them and
the floor is measured to the clips of the other videos alone."""

JUDGES = ("own-c3d", "own-ssl")
"""Extractors that are trained on the user's data."""

WITHOUT_NETWORK = (None, *JUDGES, "given")
"""Extractors that no `ExtractorSpec` describes."""

OF_SETS = frozenset(
    {"name", "summary", "source", "metrics", "extractor"} | {"num_clips", "set_size", "max_groups"}
)
"""Fields that move every protocol, or describe it."""

OF_CLIPS = frozenset(
    {"frames", "resolution", "clip_rule", "resize", "reference_split", "reference_rule"}
    | {"max_train_clips", "rounding"}
)
"""Fields that decide which clips are compared; given features were made of other programs'."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How clips become numbers. Changing a field makes it `custom:<hash>`."""

    name: str
    """Name under which it is registered."""
    summary: str = ""
    """One line for lists."""
    metrics: tuple[str, ...] = (
        "inception_score",
        "frechet_distance",
        "space_time_swd",
        "appearance",
        "overall",
        "overall_spread",
    )
    """Keys of `evaluation.metric.METRICS`, or of installed plug-ins."""
    extractor: str | None
    """`own-c3d`, the judge trained on the user's data; `own-ssl`, one that needs no classes;
    `given`, features that another program stored as .npy files; the name of `network`; or None for
    weight-free scores alone."""
    network: ExtractorSpec | None = None
    """Network, weights, layer and preparation of clips, of any other extractor."""
    given_features: str = ""
    """Which features another program has to store."""
    frame_rule: Literal["one frame", "all frames"] = "one frame"
    """Of networks of single frames: one frame of each clip, chosen by seed, or all of them."""
    frames: int = 0
    """Frames of a clip; 0 takes the generator's."""
    resolution: int = 0
    """Pixels a side of the clips that are compared; 0 takes the generator's."""
    frame_step: int = 1
    """Every so many frames of a clip are shown to the network."""
    clip_rule: ClipRule = "central window of every clip"
    """Which frames of a real clip are compared."""
    resize: Literal["mean over whole blocks of pixels and frames"] = (
        "mean over whole blocks of pixels and frames"
    )
    """How real clips are brought to the generator's size."""
    reference_split: Literal["train", "heldout"] = "train"
    """Split of the real clips that distances are measured to; the other one stands beside the
    generated clips as what a perfect generator may hope for."""
    reference_rule: ReferenceRule = "clips beside the floor"
    """Which clips of that split they are."""
    quantise: bool = True
    """Whether a network is shown generated clips as uint8."""
    rounding: Literal["nearest", "down"] = "nearest"
    """How generated clips become uint8: some published codes drop the fraction."""
    num_clips: int = 512
    """Generated clips in all."""
    set_size: int = 0
    """Generated clips a set; 0 takes as many as the held-out clips allow."""
    max_groups: int = 4
    """Most sets of generated clips that are scored; their mean and spread are given."""
    reference_size: int = 0
    """Real clips that distances are measured to; 0 takes all that `reference_rule` leaves."""
    splits: int = 1
    """Parts of a set whose Inception Scores are averaged."""
    log_guard: float = 0.0
    """Added to the arguments of the logarithms of the Inception Score."""
    covariance_divisor: Literal["n-1", "n"] = "n-1"
    """Of the Frechet distance."""
    allow_few: bool = False
    """Whether a Frechet distance of fewer clips than features is given."""
    kernel: KernelRule = field(default_factory=KernelRule)
    """The kernel distance."""
    manifold: ManifoldRule = field(default_factory=ManifoldRule)
    """Precision, recall, density and coverage."""
    interval_draws: int = 0
    """Draws behind the interval of every score; 0 gives none."""
    extrapolate: bool = False
    """Whether the Frechet distance of infinitely many clips is estimated."""
    max_train_clips: int = 10_000
    """Most clips of a split that are read, a seeded choice if there are more; 0 reads all."""
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)
    """How the judge is trained."""
    sliced: SlicedSettings = field(default_factory=SlicedSettings)
    """The weight-free distance of patches."""
    appearance: AppearanceSettings = field(default_factory=AppearanceSettings)
    """The weight-free distance of whole clips."""
    two_sample: TwoSampleSettings = field(default_factory=TwoSampleSettings)
    """The classifier that tells generated from real clips."""
    source: str = ""
    """The paper or code that it repeats, and what is known to differ."""

    def __post_init__(self) -> None:
        where = f"protocol {self.name}"
        expected = self.network.name if self.network else self.extractor
        if self.extractor != expected or (not self.network and expected not in WITHOUT_NETWORK):
            raise UserError(
                f"{where}: there is no extractor {self.extractor!r}; use own-c3d, own-ssl, given "
                "or none, or the name of the network it holds"
            )
        if not self.metrics:
            raise UserError(f"{where}: there are no metrics; name some in metrics")
        if min(self.num_clips, self.splits, self.max_groups) < 1:
            raise UserError(f"{where}: num_clips, splits and max_groups must be at least 1")
        if not 0 <= self.log_guard < MAX_LOG_GUARD:
            raise UserError(
                f"{where}: log_guard must lie in [0, {MAX_LOG_GUARD}), got {self.log_guard}"
            )
        if self.frame_step < 1:
            raise UserError(f"{where}: frame_step must be at least 1, got {self.frame_step}")
        least = (self.set_size, self.reference_size, self.interval_draws, self.frames)
        if min(*least, self.resolution, self.max_train_clips) < 0:
            raise UserError(
                f"{where}: set_size, reference_size, interval_draws, frames, resolution and "
                "max_train_clips must not be negative"
            )
        self._check_real_clips(where)
        task = {"own-c3d": "classes", "own-ssl": "changes"}.get(self.extractor or "")
        if task is not None and self.classifier.task != task:
            raise UserError(
                f"{where}: the extractor {self.extractor} is a judge of {task}, and "
                f"classifier.task is {self.classifier.task}"
            )
        groups = self.num_clips // self.set_size if self.set_size else 0
        if groups and self.max_groups > groups and self.max_groups != Protocol.max_groups:
            raise UserError(
                f"{where}: max_groups={self.max_groups} sets of set_size={self.set_size} are more "
                f"than num_clips={self.num_clips}"
            )
        looked_at = self.max_groups * self.set_size
        if self.extractor == "given" and 0 < looked_at < self.num_clips and not self.interval_draws:
            raise UserError(
                f"{where}: num_clips={self.num_clips} is more than max_groups={self.max_groups} "
                f"sets of set_size={self.set_size}, and the others are unused"
            )
        if self.set_size > self.num_clips:
            raise UserError(
                f"{where}: set_size={self.set_size} is more than num_clips={self.num_clips}"
            )
        self._check_metrics(where)

    def _check_real_clips(self, where: str) -> None:
        """Refuse a reference or rounding rule that contradicts its name."""
        if self.reference_rule == "whole split" and self.max_train_clips:
            raise UserError(
                f"{where}: reference_rule=whole split needs max_train_clips=0, for a choice of "
                f"{self.max_train_clips} clips is not a whole split"
            )
        if self.reference_split == "heldout" and self.extractor in JUDGES:
            raise UserError(
                f"{where}: reference_split=heldout compares with training clips beside, and the "
                f"judge {self.extractor} has seen those: leave it at train"
            )
        if self.rounding != "nearest" and not self.quantise:
            raise UserError(f"{where}: rounding={self.rounding} has no effect with quantise=false")

    def _check_metrics(self, where: str) -> None:
        """Refuse metrics that can never be computed, and fields that have no effect."""
        try:
            metrics = [find_metric(key) for key in self.metrics]
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        for metric in metrics:
            if metric.needs in ("features", "probabilities") and self.extractor is None:
                raise UserError(
                    f"{where}: {metric.key} needs {metric.needs}, and there is no extractor"
                )
            if metric.needs in ("clips", "scores") and self.extractor == "given":
                raise UserError(
                    f"{where}: {metric.key} needs {metric.needs}, and the extractor given has "
                    "features alone"
                )
            if metric.needs == "probabilities" and not self._has_probabilities:
                raise UserError(
                    f"{where}: {metric.key} needs probabilities of classes, and {self.extractor} "
                    "gives none"
                )
        resampled = {metric.resampling for metric in metrics} - {"none"}
        few = self.set_size > 0 and self.num_clips < SUBSETS_OF * self.set_size
        if self.interval_draws and few and resampled == {"subsampling"}:
            raise UserError(
                f"{where}: interval_draws of distances need num_clips of {SUBSETS_OF} times "
                f"set_size={self.set_size} at least, got {self.num_clips}"
            )
        read = self._fields_read(metrics)
        for item in fields(self):
            value, default = getattr(self, item.name), _default(item)
            if item.name not in read and value != default:
                raise UserError(
                    f"{where}: {item.name} has no effect, for neither the extractor "
                    f"{self.extractor} nor any of the metrics {', '.join(self.metrics)} reads it: "
                    f"leave it at {default!r}"
                )

    @property
    def _has_probabilities(self) -> bool:
        if self.network is not None:
            return self.network.probabilities is not None
        return self.extractor == "own-c3d"

    def _fields_read(self, metrics: "Sequence[Metric]") -> frozenset[str]:
        """Fields that move a number of this protocol, or describe it."""
        read = OF_SETS.union(*(metric.reads for metric in metrics))
        if any(metric.resampling != "none" for metric in metrics):
            read |= {"interval_draws"}
        if any(metric.uses_reference for metric in metrics):
            read |= {"reference_size"}
        if self.extractor == "given":
            return read | {"given_features"}
        read |= OF_CLIPS
        if self.extractor is not None:
            read |= {"quantise"}
        if self.extractor in JUDGES:
            read |= {"classifier"}
        if self.network is not None:
            read |= {"network", "frame_step"}
            read |= {"frame_rule"} if self.network.is_per_frame else set()
        return read

    @property
    def is_published(self) -> bool:
        """Whether it needs weights that the user has to download."""
        return self.network is not None and self.network.weights is not None


def custom_id(fields: Mapping[str, Any]) -> str:
    """The id of a protocol with these fields, which is not a registered one."""
    text = json.dumps(fields, sort_keys=True)
    return f"custom:{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _default(item: Field[Any]) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()


# ------------------------------------------------------------------------------------------------
# Metric, and the table of all metrics

Scorer = Callable[[ScoredSet], float]
"""Maps one set of clips to its score."""

METRICS = {
    "inception_score": "vidgan.evaluation.scores:INCEPTION_SCORE",
    "frechet_distance": "vidgan.evaluation.scores:FRECHET_DISTANCE",
    "kernel_distance": "vidgan.evaluation.scores:KERNEL_DISTANCE",
    "jedi": "vidgan.evaluation.scores:JEDI",
    "precision": "vidgan.evaluation.scores:PRECISION",
    "recall": "vidgan.evaluation.scores:RECALL",
    "density": "vidgan.evaluation.scores:DENSITY",
    "coverage": "vidgan.evaluation.scores:COVERAGE",
    "psnr": "vidgan.evaluation.scores:PSNR",
    "ssim": "vidgan.evaluation.scores:SSIM",
    "lpips": "vidgan.evaluation.scores:LPIPS",
    "space_time_swd": "vidgan.evaluation.scores:SPACE_TIME_SWD",
    "appearance": "vidgan.evaluation.scores:APPEARANCE",
    "c2st_auc": "vidgan.evaluation.scores:C2ST_AUC",
    "c2st_accuracy": "vidgan.evaluation.scores:C2ST_ACCURACY",
    "overall": "vidgan.evaluation.scores:OVERALL",
    "overall_spread": "vidgan.evaluation.scores:OVERALL_SPREAD",
}
"""Key to `module:METRIC`; third parties add theirs by the entry point `vidgan.metrics`."""


@dataclass(frozen=True)
class Reference:
    """The reference that every set is compared with.

    Attributes:
        real: the real clips behind a distance.
        n: clips of every set that is scored.
        protocol: how clips become numbers.
        seed: of the evaluation.
        shared: shared intermediate results of metrics that are computed together.
    """

    real: ScoredSet
    n: int
    protocol: "Protocol"
    seed: int
    shared: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One score."""

    key: str
    """Name in protocols, in a record's `scores` and in `METRICS`."""
    title: str
    """Title in tables."""
    needs: Literal["features", "probabilities", "clips", "pairs", "scores"]
    """What it is computed from. `pairs` are generated and true clips: `vidgan predict` makes
    those; `scores` are the others of the evaluation."""
    better: Literal["lower", "higher"]
    """Which way is better."""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """Lowest and highest value that it can have; no record with another one is compared."""
    make: Callable[[Reference], Scorer] | None = None
    """Prepares the comparison with a reference; None only for `pairs` and `scores`."""
    combine: Callable[[Mapping[str, Score], float | None], Score | None] | None = None
    """Of `scores` alone: computes this score from the others and from the spread inside classes
    over that of real clips (None where it is not known), or None if it cannot."""
    reads: frozenset[str] = frozenset()
    """Fields of a protocol that move it, beside those that choose clips and features."""
    resampling: Literal["bootstrap", "subsampling", "none"] = "none"
    """How its interval is drawn: clips of one set with replacement, or subsets of all clips."""
    uses_reference: bool = True
    """Whether its value depends on the reference. If not, the floor is the absolute difference of
    two sets of real clips."""
    missing: Callable[[Reference], str] | None = None
    """Why it cannot be given for this reference, in a sentence; empty where it can."""
    extras: Callable[[ScoredSet, Reference], dict[str, Any]] | None = None
    """What its entry in a record holds besides, from all generated clips."""
    warn: Callable[[str, Score], list[str]] | None = None
    """Maps title and score to warnings. None: a distance should stand in the order
    floor < generated < noise, and nothing is said of other scores."""

    def __post_init__(self) -> None:
        is_made = self.needs not in ("pairs", "scores")
        if (self.make is not None) != is_made or (self.combine is not None) != (
            self.needs == "scores"
        ):
            raise UserError(f"the metric {self.key} needs one of make, combine and pairs")


def list_metrics() -> list[str]:
    """Keys of all metrics, ours and those of installed plug-ins."""
    return [*METRICS, *(key for key in sorted(_plugins()) if key not in METRICS)]


@cache
def find_metric(key: str) -> Metric:
    """The registered metric of this key.

    Raises:
        UserError: no such metric, or it cannot be imported.
    """
    target = METRICS.get(key) or _plugins().get(key)
    if target is None:
        raise UserError(f"there is no metric {key}; use {', '.join(list_metrics())}")
    module, _, name = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"the metric {key} cannot be imported: {error}") from error
    if not isinstance(found, Metric) or found.key != key:
        raise UserError(f"{target} is not a vidgan.evaluation.metric.Metric with the key {key}")
    return found


def metric_title(key: str) -> str:
    """The title of a metric; of one that is not installed, its key."""
    return find_metric(key).title if key in METRICS or key in _plugins() else key


def _plugins() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group="vidgan.metrics")}
