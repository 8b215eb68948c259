"""Warnings about scores, a sentence each."""

from collections.abc import Mapping

from vidgan.evaluation.metric import find_metric
from vidgan.evaluation.record_types import Score

CLEAR = 0.02
"""Required score of shuffled frames, from real clips (0) to the ceiling (1)."""

SUSPICIOUS = 0.5
"""Generated clips this much nearer to the reference than real ones are suspected copies."""


def score_warnings(scores: Mapping[str, Score]) -> list[str]:
    """Warnings about implausible scores, by the rule of each metric."""
    warnings = []
    for key, score in scores.items():
        metric = find_metric(key)
        if metric.warn is not None:
            warnings += metric.warn(metric.title, score)
        elif metric.better == "lower":
            warnings += warn_distance(metric.title, score)
    sizes = {score.n_real for score in scores.values() if score.n_real is not None}
    if sizes:
        count = next(iter(scores.values())).n
        warnings.append(
            f"there are too few real clips for sets of {count}: real reference, floor and controls "
            f"hold {min(sizes)}, and a score moves with its number of clips"
        )
    return warnings


def warn_distance(
    title: str,
    score: Score,
    *,
    half_is_far: bool = False,
    suspicious: float | None = SUSPICIOUS,
    sees_motion: bool = True,
) -> list[str]:
    """Warnings about a distance that violates floor < generated < ceiling.

    The ceiling is the lower one of noise and mean clip: which of them is worse depends on the
    network, and a generator has to beat both.

    Args:
        title: of the metric.
        score: with real reference, floor and controls.
        half_is_far: whether nothing was learned above half of the ceiling already.
        suspicious: share of the lower one of real and floor below which clips are hardly new; None
            for a distance that may be 0 by chance.
        sees_motion: whether shuffled frames have to stand out.
    """
    return _controls_out_of_order(title, score, sees_motion) or _generated_out_of_order(
        title, score, half_is_far, suspicious
    )


def _controls_out_of_order(title: str, score: Score, sees_motion: bool) -> list[str]:
    """Damaged real clips that score no worse than intact ones."""
    controls = score.controls
    assert score.real is not None
    assert score.floor is not None
    best, shuffled = max(score.real, score.floor), controls["shuffled"]
    ceiling = min(controls["noise"], controls["mean clip"])
    sentences = []
    if ceiling <= best:
        sentences.append(
            f"{title}: the controls are out of order, real clips are at {best:.4g} and noise or "
            f"the mean clip at {ceiling:.4g}: this score cannot tell them apart here"
        )
    elif sees_motion and shuffled < best + CLEAR * (ceiling - best):
        sentences.append(
            f"{title}: real clips with shuffled frames are at {shuffled:.4g} and whole ones at "
            f"{best:.4g}: this score says nothing of motion here"
        )
    return sentences


def _generated_out_of_order(
    title: str, score: Score, half_is_far: bool, suspicious: float | None
) -> list[str]:
    """Generated clips at or above the ceiling, most of the way to it, or suspiciously good."""
    controls, value = score.controls, score.value
    assert score.real is not None
    assert score.floor is not None
    ceiling = min(controls["noise"], controls["mean clip"])
    best = min(score.floor, score.real)
    sentences = []
    if value > ceiling:
        sentences.append(
            f"{title}: generated clips ({value:.4g}) are worse than noise or the mean clip "
            f"({ceiling:.4g}): the generator has not learned the data"
        )
    elif half_is_far and value > 0.5 * ceiling:
        sentences.append(
            f"the {title} is above half of that of noise or of the mean clip: the "
            "generator has not learned the data"
        )
    elif suspicious is not None and value < suspicious * best:
        sentences.append(
            f"{title}: generated clips ({value:.4g}) are nearer to the reference than other real "
            f"clips ({best:.4g}): look for copied training clips"
        )
    return sentences
