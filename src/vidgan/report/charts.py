"""Geometry of the line charts of a page: curves, ticks and paths as values for a template."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 8, 22
NUM_BUCKETS = 160
"""Points along a curve; a longer log is averaged within this many equal shares of it."""
MAX_ROWS = 4000
"""Log rows that are looked at, evenly spread: a page is written every few seconds of training."""

PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

TITLES = {
    "loss": "Losses",
    "realness": "Mean score of real and generated clips",
    "speed": "Training speed",
}


@dataclass(frozen=True)
class Curve:
    """One drawn curve: its name, its newest mean, its mean line and the band of its extremes."""

    name: str
    latest: float
    line: str
    band: str


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its place in the drawing and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Fade:
    """A stretch of steps with one alpha: its start and length in the drawing."""

    at: float
    length: float
    alpha: float


@dataclass(frozen=True)
class Chart:
    """A drawn chart, `WIDTH` by `HEIGHT` units."""

    title: str
    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    zero: float | None
    levels: tuple[Tick, ...] = ()
    """Where each level of a growing model begins, but for the first."""
    fades: tuple[Fade, ...] = ()
    """Alpha along the steps."""


Points = Sequence[tuple[float, float]]


def charts_of_log(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Group the numbers of log rows into charts, in the order of their first appearance.

    Columns `loss/...` share one chart, `NAME/real` and `NAME/fake` another, and every other column
    with a slash has its own; `clips_per_second` is the speed. Values that are not finite are left
    out.

    Args:
        rows: log rows, each with a `step`.
    """
    groups: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows[:: math.ceil(len(rows) / MAX_ROWS) or 1]:
        for key, value in row.items():
            place = chart_of_column(key)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if place is None or "step" not in row or not is_number or not math.isfinite(value):
                continue
            title, name = place
            points = groups.setdefault(title, {}).setdefault(name, [])
            points.append((float(row["step"]), float(value)))
    order = list(TITLES.values())
    titles = sorted(groups, key=lambda t: order.index(t) if t in order else len(order) - 1.5)
    growth = growth_of(rows)
    return [draw(title, groups[title], growth) for title in titles]


Growth = Sequence[tuple[float, int, float]]
"""Step, level and alpha at each change of one of them, and at the newest row."""


def growth_of(rows: Sequence[Mapping[str, Any]]) -> Growth:
    """How a model grew, by its log; empty for one that did not."""
    found: list[tuple[float, int, float]] = []
    for row in rows:
        step, level, alpha = row.get("step"), row.get("level"), row.get("alpha")
        if type(step) is not int or type(level) is not int or not isinstance(alpha, float | int):
            continue
        now = (float(step), level, min(max(round(float(alpha), 2), 0.0), 1.0))
        if len(found) > 1 and found[-1][1:] == found[-2][1:] == now[1:]:
            found[-1] = now
        else:
            found.append(now)
    grew = any(level != found[0][1] or alpha < 1 for _, level, alpha in found)
    return found if grew else []


def chart_of_column(key: str) -> tuple[str, str] | None:
    """Title of the chart and name of the curve of a log column; None if it is not drawn."""
    if key == "clips_per_second":
        return TITLES["speed"], "clips per second"
    owner, slash, kind = key.rpartition("/")
    if not slash:
        return None
    if owner == "loss":
        return TITLES["loss"], kind
    if kind in ("real", "fake"):
        name = "real" if kind == "real" else "generated"
        return TITLES["realness"], name if owner == "discriminator" else f"{name} ({owner})"
    title = f"{owner}: {kind}".replace("_", " ")
    return title[0].upper() + title[1:], kind.replace("_", " ")


def draw(title: str, series: Mapping[str, Points], growth: Growth = ()) -> Chart:
    """Scale curves into one frame and cut each to at most `NUM_BUCKETS` points."""
    buckets = {name: bucketed(points) for name, points in series.items()}
    means = sorted(mean for share in buckets.values() for _, mean, _, _ in share)
    xs = [x for share in buckets.values() for x, _, _, _ in share]
    low, high = typical_range(means)
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1)
    if x_low < 0.1 * x_high:
        x_low = 0.0

    def x_at(x: float) -> float:
        return LEFT + PLOT_WIDTH * (x - x_low) / (x_high - x_low)

    def y_at(y: float) -> float:
        inside = min(max((y - low) / (high - low), -0.02), 1.02)
        return TOP + PLOT_HEIGHT * (1 - inside)

    curves = []
    for name, share in buckets.items():
        upper = [(x_at(x), y_at(top)) for x, _, _, top in share]
        lower = [(x_at(x), y_at(bottom)) for x, _, bottom, _ in share]
        line = path([(x_at(x), y_at(mean)) for x, mean, _, _ in share])
        band = path([*upper, *reversed(lower)])
        curves.append(Curve(name, share[-1][1], line, band))
    return Chart(
        title=title,
        curves=tuple(curves),
        x_ticks=tuple(Tick(x_at(x), compact(x)) for x in nice_ticks(x_low, x_high, 4)),
        y_ticks=tuple(Tick(y_at(y), compact(y)) for y in nice_ticks(low, high, 4)),
        zero=y_at(0.0) if low < 0 < high else None,
        levels=tuple(
            Tick(x_at(after[0]), f"level {after[1] + 1}")
            for before, after in pairwise(growth)
            if after[1] != before[1] and x_low <= after[0] <= x_high
        ),
        fades=tuple(
            Fade(x_at(before[0]), x_at(after[0]) - x_at(before[0]), after[2])
            for before, after in pairwise(growth)
            if x_low <= before[0] and after[0] <= x_high
        ),
    )


def bucketed(points: Points) -> list[tuple[float, float, float, float]]:
    """(x, mean, lowest, highest) of at most `NUM_BUCKETS` equal shares of the points."""
    size = math.ceil(len(points) / NUM_BUCKETS)
    found = []
    for first in range(0, len(points), size):
        share = points[first : first + size]
        values = [y for _, y in share]
        found.append(
            (share[-1][0], sum(values) / len(values), min(values), max(values)),
        )
    return found


def typical_range(values: Sequence[float]) -> tuple[float, float]:
    """Limits that hold sorted values but for rare spikes, with a margin.

    A spike is what lies further outside the middle 96 % than its whole width.
    """
    inner_low, inner_high = values[len(values) // 50], values[-1 - len(values) // 50]
    width = inner_high - inner_low
    low, high = max(values[0], inner_low - width), min(values[-1], inner_high + width)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        margin = abs(low) * 0.1 or 1.0
    else:
        margin = (high - low) * 0.05
    return low - margin, high + margin


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers within [low, high]."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= 0.8 * rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(i * step, 12) for i in range(first, last + 1)]


def path(points: Points) -> str:
    """SVG path through points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def compact(value: float) -> str:
    """A number in a few characters: 1500 as 1.5k, 0.00002 as 2e-5."""
    size = abs(value)
    if size >= 1e9:
        return f"{value:.3g}"
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{value / limit:.4g}{letter}"
    if 0 < size < 1e-3:
        digits, _, exponent = f"{value:.2e}".partition("e")
        return f"{float(digits):g}e{int(exponent)}"
    return f"{value:.4g}"
