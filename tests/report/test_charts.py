"""Geometry of charts."""

import re

import pytest

from vidgan.report.charts import (
    HEIGHT,
    LEFT,
    NUM_BUCKETS,
    TOP,
    WIDTH,
    bucketed,
    charts_of_log,
    compact,
    growth_of,
    nice_ticks,
    typical_range,
)


def points_of(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](\S+) ([^ LZ]+)", path)]


def test_columns_are_grouped_in_a_fixed_order() -> None:
    row = {
        "step": 1,
        "clips_per_second": 3.0,
        "discriminator/gradient_penalty": 1.0,
        "image/real": 1.0,
        "discriminator/fake": 0.0,
        "discriminator/real": 1.0,
        "loss/generator": 1.0,
        "loss/discriminator": 1.0,
        "alpha": 0.5,
        "note": "text",
        "ok/flag": True,
    }
    found = {chart.title: [c.name for c in chart.curves] for chart in charts_of_log([row])}
    assert found == {
        "Losses": ["generator", "discriminator"],
        "Mean score of real and generated clips": ["real (image)", "generated", "real"],
        "Discriminator: gradient penalty": ["gradient penalty"],
        "Training speed": ["clips per second"],
    }
    assert [*found][:1] + [*found][-1:] == ["Losses", "Training speed"]
    assert charts_of_log([]) == []


def test_growth_is_drawn_above_the_curves() -> None:
    rows = [
        {"step": step, "level": int(step >= 40), "alpha": alpha, "loss/a": 1.0}
        for step, alpha in ((0, 1.0), (20, 1.0), (40, 0.25), (60, 0.75), (80, 1.0), (100, 1.0))
    ]
    (chart,) = charts_of_log(rows)
    width = WIDTH - LEFT - 10
    (level,) = chart.levels
    assert level.text == "level 2"
    assert level.at == pytest.approx(LEFT + 0.4 * width)
    assert [fade.alpha for fade in chart.fades] == [1.0, 0.25, 0.75, 1.0, 1.0]
    assert [fade.length / width for fade in chart.fades] == pytest.approx([0.2] * 5)
    # Neither a model of one level nor a log with odd values has any.
    for changed in ({"level": 0, "alpha": 1.0}, {"level": "x"}, {"alpha": None}):
        (chart,) = charts_of_log([row | changed for row in rows])
        assert (chart.levels, chart.fades) == ((), ())


def test_growth_is_kept_at_its_changes_alone() -> None:
    rows = [{"step": s, "level": int(s > 500), "alpha": 1.0} for s in range(1001)]
    assert growth_of(rows) == [(0, 0, 1), (500, 0, 1), (501, 1, 1), (1000, 1, 1)]


def test_a_straight_line_is_drawn_straight_and_to_scale() -> None:
    (chart,) = charts_of_log([{"step": i, "loss/a": 2.0 * i} for i in range(101)])
    points = points_of(chart.curves[0].line)
    assert points[0][0] == LEFT
    assert points[-1][0] == pytest.approx(WIDTH - 10)
    slopes = {
        round((b[1] - a[1]) / (b[0] - a[0]), 1) for a, b in zip(points, points[5:], strict=False)
    }
    assert len(slopes) == 1
    height_of = {tick.text: tick.at for tick in chart.y_ticks}
    assert height_of["0"] == pytest.approx(points[0][1], abs=0.06)
    assert height_of["200"] == pytest.approx(points[-1][1], abs=0.06)
    assert [tick.text for tick in chart.x_ticks] == ["0", "20", "40", "60", "80", "100"]


def test_buckets_keep_mean_and_extremes() -> None:
    points = [(float(i), float(i % 2)) for i in range(NUM_BUCKETS * 4)]
    found = bucketed(points)
    assert len(found) == NUM_BUCKETS
    assert found[0] == (3.0, 0.5, 0.0, 1.0)
    assert bucketed(points[:5]) == [(x, y, y, y) for x, y in points[:5]]


def test_one_spike_does_not_flatten_the_rest() -> None:
    values = sorted([i / 100 for i in range(100)] + [1e6])
    low, high = typical_range(values)
    assert -1 < low <= 0
    assert 1 <= high < 3
    log = [{"step": i, "loss/a": 1e6 if i == 50 else float(i % 3)} for i in range(100)]
    (chart,) = charts_of_log(log)
    heights = [y for _, y in points_of(chart.curves[0].line)]
    assert min(heights) >= 0
    assert max(heights) <= HEIGHT
    assert heights[50] < TOP
    assert max(heights) - min(h for i, h in enumerate(heights) if i != 50) > 30


def test_constant_and_single_values_have_a_range() -> None:
    for rows in ([{"step": 5, "loss/a": 3.0}], [{"step": i, "loss/a": 0.0} for i in range(9)]):
        (chart,) = charts_of_log(rows)
        assert chart.y_ticks
        assert all(TOP <= y <= HEIGHT for _, y in points_of(chart.curves[0].line))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-1.2, 3.1, [-1.0, 0.0, 1.0, 2.0, 3.0]),
        (0.0, 4200.0, [0.0, 1000.0, 2000.0, 3000.0, 4000.0]),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high, 4) == ticks


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1500, "1.5k"), (-2e6, "-2M"), (2e-5, "2e-5"), (0.25, "0.25"), (3e12, "3e+12")],
)
def test_numbers_on_axes_are_compact(value: float, text: str) -> None:
    assert compact(value) == text
