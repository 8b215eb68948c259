"""The growth schedule: a pure function from clips seen to the stage of training.

Level 0 is stable from the start. Every further level first fades in (its weight alpha rises
linearly from 0 to 1), then is stable (Karras et al. 2018, section 2). A model of fixed size has one
level. The last level stays until the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from vidgan.errors import UserError
from vidgan.models.base import LevelShape, Stage

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Schedule:
    """When each level starts, how long it fades, and its batch size.

    Attributes:
        levels: clip size of each level.
        starts: clips seen when each level begins.
        fades: clips each level takes to fade in; 0 for the first.
        batch_sizes: clips of one discriminator update at each level.
        total: clips seen at the end of training.
    """

    levels: tuple[LevelShape, ...]
    starts: tuple[int, ...]
    fades: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    total: int


def make_schedule(
    levels: Sequence[LevelShape],
    total: int,
    stable: int | Sequence[int],
    fade: int | Sequence[int],
    batch_sizes: int | Sequence[int],
) -> Schedule:
    """Lay the levels out one after the other.

    Args:
        levels: clip size of each level.
        total: clips of the whole run.
        stable: clips each level but the last stays stable (the last stays to the end).
        fade: clips each level but the first takes to fade in.
        batch_sizes: clips of one discriminator update.

    Raises:
        UserError: a list has the wrong length, or training ends before the last level is in.
    """
    count = len(levels)
    stables = per_level(stable, max(count - 1, 1), "training.stable_clips")
    fades = (0, *per_level(fade, count - 1, "training.fade_clips")) if count > 1 else (0,)
    sizes = per_level(batch_sizes, count, "training.batch_size")
    starts = [0]
    for level in range(1, count):
        starts.append(starts[-1] + fades[level - 1] + stables[level - 1])
    grown = starts[-1] + fades[-1]
    if grown > total or total <= 0:
        raise UserError(
            f"training.total_clips={total} ends before the last level is faded in at {grown} "
            f"clips; raise it, or give minutes=10, which scales all lengths of the schedule"
        )
    return Schedule(tuple(levels), tuple(starts), fades, sizes, total)


def stage_at(clips_seen: int, schedule: Schedule) -> Stage:
    """The stage of the update that begins after `clips_seen` real clips."""
    level = max(i for i, start in enumerate(schedule.starts) if start <= clips_seen)
    fade = schedule.fades[level]
    into = clips_seen - schedule.starts[level]
    frames, resolution = schedule.levels[level]
    return Stage(
        level=level,
        frames=frames,
        resolution=resolution,
        batch_size=schedule.batch_sizes[level],
        alpha=min(into / fade, 1.0) if fade else 1.0,
    )


def per_level(value: Number | Sequence[Number], count: int, name: str) -> tuple[Number, ...]:
    """One value for each of `count` levels, from a single number or a list of them."""
    if not isinstance(value, Sequence):
        return (value,) * count
    if len(value) != count:
        raise UserError(
            f"{name} lists {len(value)} values, but this model and clip size need {count} "
            f"(one number alone serves every level)"
        )
    return tuple(value)
