"""Distances of an evaluation in one number, to choose checkpoints by.

Each distance is blind to something: to colour, to dropped classes, to motion. Their geometric mean,
each over that of real held-out clips, rises with any of them, whatever their units.
"""

import math
import statistics
from collections.abc import Mapping, Sequence

from vidgan.evaluation.metric import Metric
from vidgan.evaluation.record_types import Score

PARTS = ("frechet_distance", "space_time_swd", "appearance")
"""Distances that count, where they are given: none of them can be negative, and what one does not
see another does. docs/evaluation.md shows it."""


def combine(scores: Mapping[str, Score]) -> Score | None:
    """The geometric mean of `PARTS` over those of real clips: 1 for a perfect generator.

    None where no part is given, or real clips are at 0.
    """
    parts = {key: scores[key] for key in PARTS if key in scores and scores[key].real}
    if not parts:
        return None
    units = [score.real or 1 for score in parts.values()]
    first = next(iter(parts.values()))
    values = tuple(
        _mean(group, units) for group in zip(*(p.values for p in parts.values()), strict=True)
    )
    return Score(
        value=statistics.fmean(values),
        spread=statistics.pstdev(values) if len(values) > 1 else None,
        values=values,
        n=first.n,
        n_real=first.n_real,
        real=1.0,
        floor=_mean([part.floor or 0 for part in parts.values()], units),
        floor_meaning=first.floor_meaning,
        controls={
            name: _mean([part.controls[name] for part in parts.values()], units)
            for name in first.controls
        },
        better="lower",
        details={"of": list(parts)},
    )


def _mean(values: Sequence[float], units: Sequence[float]) -> float:
    """The geometric mean of values, each over its unit."""
    ratios = [value / unit for value, unit in zip(values, units, strict=True)]
    return float(math.prod(ratios) ** (1 / len(ratios)))


OVERALL = Metric(
    key="overall",
    title="Overall: distances over those of real clips (geometric mean)",
    needs="scores",
    better="lower",
    bounds=(0.0, math.inf),
    combine=combine,
    # Each of its parts has said what there is to say.
    warn=lambda title, score: [],
)
