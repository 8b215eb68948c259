"""What a metric is, and the table of all of them.

A metric is one file below `scores/` (or in another package) and one line in `METRICS` (or an entry
point `vidgan.metrics`); nothing else knows it. docs/adding-a-metric.md shows one.
"""

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal

from vidgan.errors import UserError
from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.record_types import Score

if TYPE_CHECKING:
    from vidgan.evaluation.protocol_fields import Protocol

Scorer = Callable[[ScoredSet], float]
"""From one set of clips to its score."""

METRICS = {
    "inception_score": "vidgan.evaluation.scores.inception:INCEPTION_SCORE",
    "frechet_distance": "vidgan.evaluation.scores.frechet:FRECHET_DISTANCE",
    "kernel_distance": "vidgan.evaluation.scores.kernel:KERNEL_DISTANCE",
    "jedi": "vidgan.evaluation.scores.kernel:JEDI",
    "precision": "vidgan.evaluation.scores.manifold:PRECISION",
    "recall": "vidgan.evaluation.scores.manifold:RECALL",
    "density": "vidgan.evaluation.scores.manifold:DENSITY",
    "coverage": "vidgan.evaluation.scores.manifold:COVERAGE",
    "psnr": "vidgan.evaluation.scores.frames:PSNR",
    "ssim": "vidgan.evaluation.scores.frames:SSIM",
    "lpips": "vidgan.evaluation.scores.frames:LPIPS",
    "space_time_swd": "vidgan.evaluation.scores.sliced:SPACE_TIME_SWD",
    "appearance": "vidgan.evaluation.scores.appearance:APPEARANCE",
    "c2st_auc": "vidgan.evaluation.scores.two_sample:C2ST_AUC",
    "c2st_accuracy": "vidgan.evaluation.scores.two_sample:C2ST_ACCURACY",
    "overall": "vidgan.evaluation.scores.overall:OVERALL",
}
"""Key to `module:METRIC`; third parties add theirs by the entry point `vidgan.metrics`."""


@dataclass(frozen=True)
class Reference:
    """What every set is compared with.

    Attributes:
        real: the real clips behind a distance.
        n: clips of every set that is scored.
        protocol: how clips become numbers.
        seed: of the evaluation.
        shared: what metrics that are computed together keep for each other, by a name of theirs.
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
    """Name on pages and terminals."""
    needs: Literal["features", "probabilities", "clips", "pairs", "scores"]
    """What it is computed from. `pairs` are generated and true clips: `vidgan predict` makes
    those; `scores` are the others of the evaluation."""
    better: Literal["lower", "higher"]
    """Which way is better."""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """Lowest and highest value that it can have; no record with another one is compared."""
    make: Callable[[Reference], Scorer] | None = None
    """Prepares the comparison with a reference; None only for `pairs` and `scores`."""
    combine: Callable[[Mapping[str, Score]], Score | None] | None = None
    """Of `scores` alone: from the others to this one, or None where they do not serve."""
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
    """From title and score to what a reader has to know. None: a distance should stand in the order
    floor < generated < noise, and nothing is said of other scores."""

    def __post_init__(self) -> None:
        is_made = self.needs not in ("pairs", "scores")
        if (self.make is not None) != is_made or (self.combine is not None) != (
            self.needs == "scores"
        ):
            raise UserError(f"the metric {self.key} has to say how it is made")


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
        raise UserError(f"{target} is no vidgan.evaluation.metric.Metric with the key {key}")
    return found


def metric_title(key: str) -> str:
    """The title of a metric; of one that is not installed, its key."""
    return find_metric(key).title if key in METRICS or key in _plugins() else key


def _plugins() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group="vidgan.metrics")}
