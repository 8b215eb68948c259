"""From sets of clips to scores, each beside its real reference, floor and controls.

Every set that is scored holds the same number n of clips and is compared with one *reference* of
training clips in one way, since all these scores move with n:

* value: generated clips, averaged over groups of n;
* real: held-out clips, what a perfect generator may hope for;
* floor: training clips of videos that are not in the reference, pure sampling noise;
* controls: noise, the mean clip, and held-out clips with shuffled, frozen or reversed frames.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.data.scorable import MIN_CLIPS, how_to_score
from vidgan.errors import UserError
from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.metric import (
    SUBSETS_OF,
    ClipRule,
    Metric,
    Protocol,
    Reference,
    Scorer,
    find_metric,
)
from vidgan.evaluation.protocols import protocol_id
from vidgan.evaluation.record_types import Score
from vidgan.extractors.judge import RealClips
from vidgan.metrics.intervals import Reported, bootstrap_interval, subsampling_interval
from vidgan.metrics.memorisation import Nearest
from vidgan.video.writing import frame_strip

# ------------------------------------------------------------------------------------------------
# Controls: damaged real clips, noise, and nearest training clips.
#
# All functions map uint8 clips `[M, C, T, H, W]` to as many clips of the same shape and type.


def uniform_noise(clips: Tensor, seed: int = 0) -> Tensor:
    """Clips of independent uniform pixels: the ceiling of every distance."""
    rng = keyed_rng(seed, "noise control")
    return torch.randint(256, clips.shape, dtype=torch.uint8, generator=rng)


def repeated_mean_clip(clips: Tensor, seed: int = 0) -> Tensor:
    """The pixel-wise mean of the clips, repeated: a generator without diversity."""
    total = torch.zeros(clips.shape[1:], dtype=torch.float64)
    for clip in clips:
        total += clip
    return (total / clips.shape[0]).round().to(torch.uint8).expand_as(clips).contiguous()


def shuffled_frames(clips: Tensor, seed: int = 0) -> Tensor:
    """Each clip's frames in a random order of its own."""
    rng = keyed_rng(seed, "shuffle control")
    order = torch.rand(clips.shape[0], clips.shape[2], generator=rng).argsort(1)
    return clips.gather(2, order[:, None, :, None, None].expand_as(clips))


def frozen_frames(clips: Tensor, seed: int = 0) -> Tensor:
    """The first frame of each clip, repeated."""
    return clips[:, :, :1].expand_as(clips).contiguous()


def reversed_frames(clips: Tensor, seed: int = 0) -> Tensor:
    """Each clip played backwards; a set with every motion in both directions hardly changes."""
    return clips.flip(2)


Control = Callable[[Tensor, int], Tensor]

CONTROLS: dict[str, Control] = {
    "noise": uniform_noise,
    "mean clip": repeated_mean_clip,
    "shuffled": shuffled_frames,
    "frozen": frozen_frames,
    "reversed": reversed_frames,
}
"""Controls by the name under which a record lists them."""


def motion_sensitivity(shuffled: float, floor: float, ceiling: float) -> float | None:
    """Where shuffled real clips lie between floor (0) and ceiling (1) of a distance.

    Near 0 the metric does not see motion. None if floor and ceiling do not differ.
    """
    return (shuffled - floor) / (ceiling - floor) if ceiling > floor else None


def nearest_pairs(nearest: Nearest, count: int = 6) -> list[dict[str, Any]]:
    """The generated clips that lie nearest to any training clip, the nearest first.

    Args:
        nearest: the nearest training clip of every generated one.
        count: at most so many pairs, of different training clips.

    Returns:
        Rows `generated` and `train`, and their `distance`.
    """
    rows = nearest.rows.tolist()
    pairs: dict[int, dict[str, Any]] = {}
    for row in nearest.distances.argsort(stable=True).tolist():
        if len(pairs) == count:
            break
        pair = {"generated": row, "train": rows[row], "distance": float(nearest.distances[row])}
        pairs.setdefault(rows[row], pair)
    return list(pairs.values())


def nearest_image(fake: Tensor, train: Tensor, pairs: list[dict[str, Any]]) -> Tensor:
    """Two rows of frames for every pair: the generated clip and below it its training clip.

    Args:
        fake, train: uint8 `[M, C, T, H, W]`.
        pairs: from `nearest_pairs`.

    Returns:
        uint8 `[C, H', W']`, small pixels enlarged.
    """
    rows = [clip for p in pairs for clip in (fake[p["generated"]], train[p["train"]])]
    scale = max(1, 96 // fake.shape[-1])
    strips = [
        frame_strip(torch.stack(rows[i : i + 2]), 8, scale=scale) for i in range(0, len(rows), 2)
    ]
    gap = strips[0].new_full((*strips[0].shape[:1], 4 * scale, strips[0].shape[2]), 255)
    return torch.cat([part for strip in strips for part in (strip, gap)], 1)


# ------------------------------------------------------------------------------------------------
# The scores of a protocol against one reference


@dataclass(frozen=True)
class ScoreFunction:
    """A metric that was prepared for a reference."""

    metric: Metric
    compute: Scorer

    def __call__(self, scored: ScoredSet) -> float:
        """The score of a set."""
        return self.compute(scored)

    @classmethod
    def of(cls, metric: Metric, reference: Reference) -> "ScoreFunction":
        """The metric against a reference; one of clips alone, which `pairs` are not."""
        assert metric.make is not None
        return cls(metric, metric.make(reference))


def score_functions(reference: Reference) -> dict[str, ScoreFunction]:
    """The protocol's scores, by key; left out is what `missing_scores` names."""
    missing = missing_scores(reference)
    found: dict[str, ScoreFunction] = {}
    for key in reference.protocol.metrics:
        if key not in missing and find_metric(key).needs != "scores":
            found[key] = ScoreFunction.of(find_metric(key), reference)
    return found


def spread_ratio(diversity: Mapping[str, Any] | None) -> float | None:
    """Spread inside classes over that of real clips, from a record's `diversity`."""
    return None if diversity is None else diversity.get("ratio")


def combined_scores(
    scores: Mapping[str, Score], protocol: Protocol, spread: float | None
) -> dict[str, Score]:
    """The protocol's scores that are made of others, and of the spread inside classes."""
    found = {}
    for metric in map(find_metric, protocol.metrics):
        if metric.combine is not None and (score := metric.combine(scores, spread)) is not None:
            found[metric.key] = score
    return found


def missing_scores(reference: Reference) -> dict[str, str]:
    """Metrics that cannot be computed, each with the reason.

    The sentence is empty without features: the reason was given where they failed.
    """
    missing: dict[str, str] = {}
    extraction = reference.real.extraction
    for metric in map(find_metric, reference.protocol.metrics):
        if metric.needs in ("features", "probabilities") and extraction is None:
            missing[metric.key] = ""
        elif metric.missing is not None and (sentence := metric.missing(reference)):
            missing[metric.key] = sentence
    return missing


def refuse_without_scores(
    scores: Mapping[str, Score], protocol: Protocol, reasons: Sequence[str]
) -> None:
    """Refuse a record that would hold no score.

    Raises:
        UserError: says why there is none.
    """
    if not scores:
        raise UserError(
            f"the protocol {protocol.name} gives no score of these clips ({'; '.join(reasons)}): "
            "give more clips, or choose another protocol ('vidgan evaluate --list' names them all)"
        )


def extras_of(
    function: ScoreFunction, generated: ScoredSet, reference: Reference, values: Sequence[float]
) -> dict[str, Any]:
    """What a score's entry holds besides, its interval among it if the protocol asks for one.

    Args:
        function: the score.
        generated: all generated clips.
        reference: what they are compared with.
        values: the scores of the groups, whose mean is reported.
    """
    reported = Reported(statistics.fmean(values), len(values))
    interval = _interval(function, generated, reference, reported)
    extras = {} if interval is None else {"interval": interval}
    if function.metric.extras is not None:
        extras |= function.metric.extras(generated, reference)
    return extras


def _interval(
    function: ScoreFunction, generated: ScoredSet, reference: Reference, reported: Reported
) -> dict[str, Any] | None:
    """Around the mean over groups, by the spread of resamples of the first one, or of subsets of n
    of all generated clips if there are more."""
    n, draws, seed = reference.n, reference.protocol.interval_draws, reference.seed
    if not draws or function.metric.resampling == "none":
        return None
    if function.metric.resampling == "bootstrap":
        group = generated.take(torch.arange(n))
        return bootstrap_interval(
            lambda rows: function(group.take(rows)), n, reported=reported, draws=draws, seed=seed
        ).as_record()
    count = generated.clips.shape[0]
    if count < SUBSETS_OF * n:
        return None
    return subsampling_interval(
        lambda rows: function(generated.take(rows)),
        count,
        n,
        reported=reported,
        draws=draws,
        seed=seed,
    ).as_record()


# ------------------------------------------------------------------------------------------------
# From sets of clips to scores, each beside its real reference, floor and controls


@dataclass(frozen=True)
class RealData:
    """The real clips of an evaluation.

    Attributes:
        train: training clips; the judge is trained on them.
        heldout: clips of other videos.
        classes: names; empty for unlabelled data, which gets weight-free scores alone.
        warnings: sentences about the data for the record.
        clip_rule: which frames of longer stored clips these are.
    """

    train: RealClips
    heldout: RealClips
    classes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    clip_rule: ClipRule = "central window of every clip"

    def sides(self, protocol: Protocol | None) -> tuple[RealClips, RealClips]:
        """The clips that hold reference and floor, and the others, which stand beside them."""
        if protocol is not None and protocol.reference_split == "heldout":
            return self.heldout, self.train
        return self.train, self.heldout


@dataclass(frozen=True)
class ClipSelection:
    """Which clips take part in an evaluation, as int64 rows of the splits; see the module.

    Attributes:
        n: generated clips of every set that is scored.
        reference: rows of the split that is compared with (`RealData.sides`).
        floor: rows of that split.
        floor_reference: rows of it that the floor is measured to, of other videos than the floor.
        other: rows of the other split.
    """

    n: int
    reference: Tensor
    floor: Tensor
    floor_reference: Tensor
    other: Tensor


def plan_comparison(
    real: RealData, num_generated: int, seed: int, protocol: Protocol | None = None
) -> ClipSelection:
    """Choose n and the real clips.

    A protocol with a `set_size` fixes n; where there are not as many real clips, floor and held-out
    clips are fewer.

    Raises:
        UserError: too few clips or videos for any comparison, or for the protocol.
    """
    train, heldout = real.sides(protocol)
    n = m = min(num_generated, len(heldout), len(train) // 2)
    if protocol is not None and protocol.set_size:
        n = protocol.set_size
        m = min(n, m)
    if n > num_generated or m < MIN_CLIPS:
        raise UserError(
            f"an evaluation needs {max(MIN_CLIPS, n)} generated, {MIN_CLIPS} held-out and "
            f"{2 * MIN_CLIPS} training clips, got {num_generated}, {len(real.heldout)} and "
            f"{len(real.train)}; {_how_to_mend(real, num_generated, max(MIN_CLIPS, n))}"
        )
    ranks = _balanced_ranks(train, seed)
    rows = ranks.argsort(stable=True)
    outside = rows[ranks[rows] > ranks[rows[m - 1]]]
    if outside.shape[0] < MIN_CLIPS:
        raise UserError(
            f"the {_split_name(protocol)} clips come from {len(set(train.video_ids))} videos, too "
            "few to compare some with the others; add videos"
        )
    is_whole = protocol is not None and protocol.reference_rule == "whole split"
    # From the back: a part of a split then holds none of the floor's clips if there are enough.
    reference = rows.flip(0) if is_whole else outside
    wanted = 0 if protocol is None else protocol.reference_size
    if reference.shape[0] < wanted:
        name = protocol_id(protocol) if protocol else ""
        left = "" if is_whole else f" are left beside {m} for the floor"
        raise UserError(
            f"protocol {name} compares with {wanted} real clips, "
            f"and {reference.shape[0]} of {len(train)} {_split_name(protocol)} clips{left}: take "
            "another protocol, or change its reference_size, which makes it a custom one"
        )
    chosen = _balanced_ranks(heldout, seed).argsort(stable=True)[:m]
    reference, others = (
        part[: wanted or None] for part in (reference, outside.flip(0) if is_whole else outside)
    )
    return ClipSelection(n, reference, rows[:m], others, chosen)


def _split_name(protocol: Protocol | None) -> str:
    """The split that is compared with, as a sentence calls it."""
    is_heldout = protocol is not None and protocol.reference_split == "heldout"
    return "held-out" if is_heldout else "training"


def _how_to_mend(real: RealData, num_generated: int, wanted: int) -> str:
    if num_generated < wanted:
        return "generate more clips"
    return how_to_score(len({*real.train.video_ids, *real.heldout.video_ids}))


@dataclass(frozen=True)
class ComparedSets:
    """The sets scored against the reference.

    Attributes:
        generated: all generated clips.
        groups: of n generated clips each.
        real: clips of the other split than the reference's, as a rule held-out ones.
        floor: clips of the reference's split, measured to those of other videos.
    """

    generated: ScoredSet
    groups: tuple[ScoredSet, ...]
    real: ScoredSet
    floor: ScoredSet

    @classmethod
    def of(
        cls,
        generated: ScoredSet,
        same: ScoredSet,
        other: ScoredSet,
        comparison: ClipSelection,
        protocol: Protocol,
    ) -> "ComparedSets":
        """The sets that a comparison chooses from at least n generated and all real clips.

        `same` is the split of the reference and `other` the other one.
        """
        n = comparison.n
        num_groups = min(generated.clips.shape[0] // n, protocol.max_groups)
        groups = (generated.take(torch.arange(k * n, (k + 1) * n)) for k in range(num_groups))
        real, floor = other.take(comparison.other), same.take(comparison.floor)
        return cls(generated, tuple(groups), real, floor)


def compute_scores(
    sets: ComparedSets,
    reference: Reference,
    extract: Callable[[Tensor], ScoredSet],
    of_floor: Reference | None = None,
    spread: float | None = None,
) -> dict[str, Score]:
    """All scores of the protocol that the clips allow; see `missing_scores` for the others.

    Args:
        sets: from `ComparedSets.of`.
        reference: what they are compared with, under which protocol.
        extract: gives controls, uint8 `[M, C, T, H, W]`, the features that the other sets have.
        of_floor: what the floor is compared with, where the reference holds its clips.
        spread: inside classes, over that of real clips.

    Returns:
        By metric.
    """
    real = sets.real
    controls = {name: extract(make(real.clips, reference.seed)) for name, make in CONTROLS.items()}
    scores = {}
    for key, function in score_functions(reference).items():
        score = _score(function, sets, controls, reference)
        others = None if of_floor is None else ScoreFunction.of(function.metric, of_floor)
        scores[key] = _with_floor(score, function, sets.floor, others)
    return scores | combined_scores(scores, reference.protocol, spread)


def _score(
    function: ScoreFunction,
    sets: ComparedSets,
    controls: Mapping[str, ScoredSet],
    reference: Reference,
) -> Score:
    values = tuple(function(group) for group in sets.groups)
    count = sets.real.clips.shape[0]
    extras = extras_of(function, sets.generated, reference, values)
    return Score(
        value=statistics.fmean(values),
        spread=statistics.pstdev(values) if len(values) > 1 else None,
        values=values,
        n=reference.n,
        n_real=None if count == reference.n else count,
        real=function(sets.real),
        controls={name: function(control) for name, control in controls.items()},
        better=function.metric.better,
        interval=extras.pop("interval", None),
        extrapolated=extras.pop("extrapolated", None),
        details=extras,
    )


def _with_floor(
    score: Score, function: ScoreFunction, floor: ScoredSet, others: ScoreFunction | None
) -> Score:
    """With the floor and what follows from it; `others` measures one inside of the reference."""
    real = score.real
    assert real is not None
    if not function.metric.uses_reference:
        return replace(
            score,
            floor=abs(function(floor) - real),
            floor_meaning="difference between two sets of real clips, same n",
            details={"share_of_real": score.value / real} | score.details,
        )
    score = replace(
        score,
        floor=(others or function)(floor),
        floor_meaning="other training clips against the reference, same n"
        if others is None
        else "clips of the reference against those of its other videos, same n",
    )
    if function.metric.better != "lower":
        return score
    controls = score.controls
    sensitivity = motion_sensitivity(controls["shuffled"], real, controls["noise"])
    return replace(score, details={"motion_sensitivity": sensitivity} | score.details)


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
