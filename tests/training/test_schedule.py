"""The schedule against closed forms."""

import pytest

from vidgan.errors import UserError
from vidgan.models.base import LevelShape
from vidgan.training.schedule import make_schedule, per_level, stage_at

LEVELS = (LevelShape(4, 4), LevelShape(4, 8), LevelShape(8, 16))
SCHEDULE = make_schedule(LEVELS, 1000, stable=[100, 200], fade=[40, 80], batch_sizes=[8, 4, 2])


def test_levels_begin_where_the_one_before_was_stable_long_enough() -> None:
    assert SCHEDULE.starts == (0, 100, 340)
    assert SCHEDULE.fades == (0, 40, 80)


def test_lengths_of_four_levels_are_taken_in_their_order() -> None:
    levels = [LevelShape(4, 4 * 2**i) for i in range(4)]
    schedule = make_schedule(levels, 666, stable=[100, 200, 300], fade=[1, 20, 40], batch_sizes=4)
    assert schedule.starts == (0, 100, 301, 621)
    assert schedule.fades == (0, 1, 20, 40)
    with pytest.raises(UserError, match="at 661 clips"):
        make_schedule(levels, 660, [100, 200, 300], [1, 20, 40], 4)


def test_one_level_takes_one_clip_and_no_lengths() -> None:
    schedule = make_schedule(LEVELS[:1], 1, stable=[5], fade=[7, 7], batch_sizes=4)
    assert (schedule.starts, schedule.fades) == ((0,), (0,))
    with pytest.raises(UserError, match="total_clips=0 ends before"):
        make_schedule(LEVELS[:1], 0, 5, 7, 4)


@pytest.mark.parametrize(
    ("clips_seen", "level", "alpha", "batch_size"),
    [
        (0, 0, 1.0, 8),
        (99, 0, 1.0, 8),
        (100, 1, 0.0, 4),
        (130, 1, 0.75, 4),
        (140, 1, 1.0, 4),
        (339, 1, 1.0, 4),
        (340, 2, 0.0, 2),
        (360, 2, 0.25, 2),
        (420, 2, 1.0, 2),
        (5000, 2, 1.0, 2),
    ],
)
def test_stage_at(clips_seen: int, level: int, alpha: float, batch_size: int) -> None:
    stage = stage_at(clips_seen, SCHEDULE)
    assert (stage.level, stage.alpha, stage.batch_size) == (level, alpha, batch_size)
    assert (stage.frames, stage.resolution) == LEVELS[level]


def test_the_published_schedule_reaches_its_size_where_the_code_does() -> None:
    # Official code: 600 thousand clips stable and as many fading; 256 px is in at 7.2 million.
    levels = [LevelShape(4, 4 * 2**i) for i in range(7)]
    thousand = 1000
    schedule = make_schedule(levels, 12_000 * thousand, 600 * thousand, 600 * thousand, 4)
    assert schedule.starts[-1] + schedule.fades[-1] == 7_200 * thousand


def test_one_level_is_stable_throughout() -> None:
    schedule = make_schedule(LEVELS[:1], 100, 50, 50, 4)
    assert {stage_at(c, schedule).alpha for c in range(0, 100, 7)} == {1.0}


def test_no_fade_switches_at_once() -> None:
    schedule = make_schedule(LEVELS[:2], 100, 50, 0, 4)
    assert stage_at(50, schedule).alpha == 1.0


def test_lists_of_the_wrong_length_are_named() -> None:
    with pytest.raises(UserError, match=r"training\.batch_size lists 2 values.*need 3"):
        make_schedule(LEVELS, 1000, 100, 40, [8, 4])
    with pytest.raises(UserError, match=r"lr lists 1 values.*need 2"):
        per_level([0.1], 2, "training.generator.lr")


def test_a_run_that_ends_in_a_fade_is_refused() -> None:
    with pytest.raises(UserError, match=r"total_clips=419 ends before .* at 420 clips"):
        make_schedule(LEVELS, 419, [100, 200], [40, 80], 4)
