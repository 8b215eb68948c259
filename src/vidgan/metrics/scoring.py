"""From sets of clips to scores, each beside its real reference, floor and controls.

Every set that is scored holds the same number n of clips and is compared with one *reference* of
training clips in one way, since all these scores move with n:

* value: generated clips, averaged over groups of n;
* real: held-out clips, what a perfect generator may hope for;
* floor: training clips of videos that are not in the reference, pure sampling noise;
* controls: noise, the mean clip, and held-out clips with shuffled, frozen or reversed frames.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidgan.errors import UserError
from vidgan.metrics.controls import CONTROLS, motion_sensitivity
from vidgan.metrics.frechet import frechet_from_features
from vidgan.metrics.inception_score import inception_score
from vidgan.metrics.own_classifier import Extraction, OwnClassifier
from vidgan.metrics.protocols import Protocol
from vidgan.metrics.sliced import SlicedReference
from vidgan.randomness import keyed_rng

MIN_CLIPS = 8
"""Fewest clips a set for which numbers are given at all."""


@dataclass(frozen=True)
class RealClips:
    """Real clips of one split.

    Attributes:
        clips: uint8 `[M, C, T, H, W]`.
        labels: int64 `[M]`; -1 without classes.
        video_ids: source video of every clip.
    """

    clips: Tensor
    labels: Tensor
    video_ids: tuple[str, ...]

    def take(self, rows: Tensor) -> "RealClips":
        """The clips in `rows`, int64."""
        ids = tuple(self.video_ids[row] for row in rows.tolist())
        return RealClips(self.clips[rows], self.labels[rows], ids)

    def __len__(self) -> int:
        return self.clips.shape[0]


class ScoredSet(NamedTuple):
    """Clips, uint8 `[M, C, T, H, W]`, and what the judge made of them (None without a judge)."""

    clips: Tensor
    extraction: Extraction | None

    @classmethod
    def of(cls, clips: Tensor, judge: OwnClassifier | None) -> "ScoredSet":
        """The clips with the judge's features and probabilities."""
        return cls(clips, None if judge is None else judge.extract(clips))

    def take(self, rows: Tensor) -> "ScoredSet":
        """The clips in `rows`, int64; nothing is computed again."""
        if self.extraction is None:
            return ScoredSet(self.clips[rows], None)
        return ScoredSet(self.clips[rows], Extraction(*(part[rows] for part in self.extraction)))


@dataclass(frozen=True)
class RealData:
    """The real clips of an evaluation.

    Attributes:
        train: training clips; the judge is trained on them.
        heldout: clips of other videos.
        classes: names; empty for unlabelled data, which gets weight-free scores alone.
        warnings: sentences about the data for the record.
    """

    train: RealClips
    heldout: RealClips
    classes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Which clips take part in an evaluation, as int64 rows of the splits; see the module.

    Attributes:
        n: clips of every set that is scored.
        reference, floor: rows of the training clips, of different videos.
        heldout: rows of the held-out clips.
    """

    n: int
    reference: Tensor
    floor: Tensor
    heldout: Tensor


def plan_comparison(real: RealData, num_generated: int, seed: int) -> Comparison:
    """Choose n and the real clips.

    Raises:
        UserError: too few clips or videos for any comparison.
    """
    train, heldout = real.train, real.heldout
    n = min(num_generated, len(heldout), len(train) // 2)
    if n < MIN_CLIPS:
        raise UserError(
            f"an evaluation needs {MIN_CLIPS} generated, {MIN_CLIPS} held-out and {2 * MIN_CLIPS} "
            f"training clips, got {num_generated}, {len(heldout)} and {len(train)}; hold out more "
            "videos or generate more clips"
        )
    ranks = _balanced_ranks(train, seed)
    rows = ranks.argsort(stable=True)
    reference = rows[ranks[rows] > ranks[rows[n - 1]]]
    if reference.shape[0] < MIN_CLIPS:
        raise UserError(
            f"the training clips come from {len(set(train.video_ids))} videos, too few to compare "
            "some with the others; add videos"
        )
    chosen = _balanced_ranks(heldout, seed).argsort(stable=True)[:n]
    return Comparison(n, reference, rows[:n], chosen)


Metric = Callable[[ScoredSet], float]


def compute_scores(
    generated: ScoredSet,
    train: ScoredSet,
    heldout: ScoredSet,
    comparison: Comparison,
    judge: OwnClassifier | None,
    protocol: Protocol,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """All scores of the protocol; those that need the judge are left out without one.

    Args:
        generated: at least n clips.
        train, heldout: all real clips.
        comparison: from `plan_comparison`.
        judge: one that passed its gate, or None.
        protocol: what to compute.
        seed: of the controls and of the sliced distance.

    Returns:
        By metric: `value` with its `spread` over groups, `real`, `floor`, `controls` and more.
    """
    n = comparison.n
    num_groups = min(generated.clips.shape[0] // n, protocol.max_groups)
    groups = [generated.take(torch.arange(k * n, (k + 1) * n)) for k in range(num_groups)]
    real, floor = heldout.take(comparison.heldout), train.take(comparison.floor)
    reference = train.take(comparison.reference)
    controls = {
        name: ScoredSet.of(make(real.clips, seed), judge) for name, make in CONTROLS.items()
    }
    metrics = _metrics(reference, n, protocol, seed)
    scores: dict[str, dict[str, Any]] = {}
    for key, metric in metrics.items():
        values = [metric(group) for group in groups]
        entry: dict[str, Any] = {
            "value": statistics.fmean(values),
            "spread": statistics.pstdev(values) if len(values) > 1 else None,
            "values": values,
            "n": n,
            "real": metric(real),
            "controls": {name: metric(control) for name, control in controls.items()},
        }
        if key == "inception_score":
            entry["better"] = "higher"
            entry["floor"] = abs(metric(floor) - entry["real"])
            entry["floor_meaning"] = "difference between two sets of real clips, same n"
            entry["share_of_real"] = entry["value"] / entry["real"]
        else:
            entry["better"] = "lower"
            entry["floor"] = metric(floor)
            entry["floor_meaning"] = "other training clips against the reference, same n"
            entry["motion_sensitivity"] = motion_sensitivity(
                entry["controls"]["shuffled"], entry["real"], entry["controls"]["noise"]
            )
        scores[key] = entry
    if groups[0].extraction and reference.extraction:
        pair = groups[0].extraction.features, reference.extraction.features
        scores["frechet_distance"]["first_group"] = frechet_from_features(*pair).as_record()
    return scores


def score_warnings(scores: dict[str, dict[str, Any]], judge: OwnClassifier | None) -> list[str]:
    """What a reader of these scores has to know, a sentence each."""
    warnings = []
    n = scores["space_time_swd"]["n"]
    if judge is not None and n <= judge.settings.feature_dim:
        warnings.append(
            f"n = {n} clips a set is not more than the {judge.settings.feature_dim} features: the "
            "Frechet distance is dominated by sampling noise; read it beside its real reference"
        )
    distance = scores.get("frechet_distance")
    if distance:
        # Which of the two is worse depends on the judge: a generator has to beat both.
        ceiling = min(distance["controls"]["mean clip"], distance["controls"]["noise"])
        if distance["value"] > 0.5 * ceiling:
            warnings.append(
                "the Frechet distance is above half of that of noise or of the mean clip: the "
                "generator has not learned the data"
            )
    return warnings


def proportional_labels(labels: Tensor, count: int, seed: int) -> Tensor:
    """`count` labels, int64, in the proportions of `labels`, in seeded order.

    Every group that is scored then holds each class as often as real clips do, so that no score
    suffers from an unlucky draw.
    """
    quantiles = ((torch.arange(count) + 0.5) / count * labels.shape[0]).long()
    chosen = labels.sort().values[quantiles]
    return chosen[torch.randperm(count, generator=keyed_rng(seed, "asked labels"))]


def _balanced_ranks(real: RealClips, seed: int) -> Tensor:
    """A rank for every clip, int64 `[M]`, equal for clips of one video.

    The first clips by rank, however many, hold the classes in the proportions of all of them: each
    class's videos are shuffled and laid out evenly over 0..1.
    """
    class_of = dict(zip(real.video_ids, real.labels.tolist(), strict=True))
    members: dict[int, list[str]] = {}
    for video in sorted(class_of):
        members.setdefault(class_of[video], []).append(video)
    places: list[tuple[float, float, str]] = []
    for label, videos in members.items():
        rng = keyed_rng(seed, "balanced ranks", label)
        ties = torch.rand(len(videos), generator=rng).tolist()
        for place, index in enumerate(torch.randperm(len(videos), generator=rng).tolist()):
            places.append(((place + 0.5) / len(videos), ties[place], videos[index]))
    rank_of = {video: rank for rank, (_, _, video) in enumerate(sorted(places))}
    return torch.tensor([rank_of[video] for video in real.video_ids])


def _metrics(reference: ScoredSet, n: int, protocol: Protocol, seed: int) -> dict[str, Metric]:
    chosen = torch.randperm(reference.clips.shape[0], generator=keyed_rng(seed, "stswd reference"))[
        :n
    ]
    sliced = SlicedReference(reference.clips[chosen], protocol.sliced, seed)
    metrics: dict[str, Metric] = {
        "space_time_swd": lambda scored: sliced.distance(scored.clips).value
    }
    if reference.extraction is None:
        return metrics
    features = reference.extraction.features

    def inception(scored: ScoredSet) -> float:
        return inception_score(_judged(scored).probabilities, protocol.splits)[0]

    def frechet(scored: ScoredSet) -> float:
        return frechet_from_features(_judged(scored).features, features).distance

    metrics = {"frechet_distance": frechet, **metrics}
    # Sixteen changes are no classes that a generator should show in equal shares.
    return metrics if protocol.extractor == "own-ssl" else {"inception_score": inception, **metrics}


def _judged(scored: ScoredSet) -> Extraction:
    if scored.extraction is None:
        raise ValueError("the reference was judged and a set that is compared with it was not")
    return scored.extraction
