"""Schedules scaled to a budget of clips, device-seconds or minutes."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vidgan.core.distributed import Processes
from vidgan.core.progress import Notify
from vidgan.data.dataset import ClipDataset, ClipRequest
from vidgan.data.loader import make_loader
from vidgan.errors import UserError
from vidgan.models.base import Stage
from vidgan.training.graphs import StepGraphs, step_graphs
from vidgan.training.planner import clip_shape, plan_schedule, steps_until
from vidgan.training.presets import CONFIG_FILE, Config, load_run_config
from vidgan.training.schedule import Schedule
from vidgan.training.step import Batch, TrainingStep

WARM_UP_STEPS, GRAPH_WARM_UP_STEPS, MEASURED_STEPS = 3, 24, 8
"""Steps at each level by which the cost of a clip is judged. Where steps become CUDA graphs, even
those with a lazy penalty are graphs by then."""
STEPS_SHARE = 0.9
"""Of the minutes; the rest goes into samples, checkpoints and checks."""
MEASURING_SHARE = 0.1
"""Of the minutes, for all levels together; two steps of a level are made in any case."""
FEWEST_SAMPLES = 8
"""Sample videos of a run whose length is given in minutes. In a short one, more of them and of the
looks at them would take a good part of its time."""


def scale_schedule(config: Config, factor: float) -> Config:
    """The same training with every part of its schedule `factor` times as long."""

    def scaled(clips: int | tuple[int, ...]) -> int | tuple[int, ...]:
        # Rounded down, so that the last level still begins before the end.
        if isinstance(clips, tuple):
            return tuple(math.floor(factor * count) for count in clips)
        return math.floor(factor * clips)

    training = replace(
        config.training,
        total_clips=max(1, round(factor * config.training.total_clips)),
        stable_clips=scaled(config.training.stable_clips),
        fade_clips=scaled(config.training.fade_clips),
    )
    return replace(config, training=training)


def keep_schedule(config: Config) -> Config:
    """Settings in minutes with the schedule that was worked out when their run began, if it did.

    Raises:
        UserError: the run began with other minutes.
    """
    minutes, run = config.training.minutes, Path(config.run)
    if minutes is None or not (run / CONFIG_FILE).is_file():
        return config
    saved = load_run_config(run).training
    if saved.minutes != minutes:
        before = "without a time" if saved.minutes is None else f"for {saved.minutes:g} minutes"
        raise UserError(
            f"{run} was begun {before}, and its schedule stays: leave minutes={minutes:g} out, name"
            " another folder with run=FOLDER, or raise training.total_clips"
        )
    training = replace(
        config.training,
        total_clips=saved.total_clips,
        stable_clips=saved.stable_clips,
        fade_clips=saved.fade_clips,
        sample_every=saved.sample_every,
    )
    return replace(config, training=training)


def fit_minutes(
    config: Config,
    step: TrainingStep,
    schedule: Schedule,
    dataset: ClipDataset,
    prepare: Callable[[TrainingStep], object],
    notify: Notify,
) -> Config:
    """Settings whose schedule takes `training.minutes`, judged by a few steps at each level.

    Every process takes part and gets the same schedule.

    Args:
        config: settings whose schedule is to be scaled.
        step: networks that are not needed afterwards.
        schedule: of the settings.
        dataset: the clips.
        prepare: as for `measure_seconds`.
        notify: takes what was found.
    """
    minutes = config.training.minutes
    assert minutes is not None
    patience_s = 60 * minutes * MEASURING_SHARE / len(schedule.levels)
    needed = measure_seconds(step, schedule, dataset, prepare, time.monotonic, patience_s)
    # All processes take the first one's time, in whole milliseconds.
    needed = max(1, step.processes.from_first(round(1000 * needed))) / 1000
    fitted = scale_schedule(config, 60 * minutes * STEPS_SHARE / needed)
    settings = fitted.training
    scaled = plan_schedule(fitted, clip_shape(fitted))
    every = max(1, steps_until(scaled.total, scaled, settings) // FEWEST_SAMPLES)
    notify(
        f"{minutes:g} minutes: the settings would take {needed / 60:.1f} on this machine, so the "
        f"schedule is scaled to training.total_clips={settings.total_clips}, stable_clips="
        f"{settings.stable_clips}, fade_clips={settings.fade_clips}"
    )
    return replace(
        fitted, training=replace(settings, sample_every=min(settings.sample_every, every))
    )


def measure_seconds(
    step: TrainingStep,
    schedule: Schedule,
    dataset: ClipDataset,
    prepare: Callable[[TrainingStep], object],
    clock: Callable[[], float],
    patience_s: float = math.inf,
) -> float:
    """Seconds of `clock` that a training will take, judged by a few steps at each level.

    Args:
        step: moves its networks.
        schedule: of the training.
        dataset: the clips.
        prepare: called at each level, for what the training does there before its first step.
        clock: seconds since any moment.
        patience_s: seconds at each level after which two steps have to do.
    """
    total = 0.0
    ends = (*schedule.starts[1:], schedule.total)
    graphs = step_graphs(step, lambda sentence: None)
    for level, start in enumerate(schedule.starts):
        stage = full_stage(schedule, level)
        step.enter(stage)
        prepare(step)
        batches = _same_batch(dataset, stage, step.processes)
        seconds = measure_step(graphs, batches, clock, patience_s)
        clips = stage.batch_size * step.settings.discriminator_steps
        total += seconds / clips * (ends[level] - start)
    return total


def full_stage(schedule: Schedule, level: int) -> Stage:
    """A level wholly faded in."""
    shape = schedule.levels[level]
    return Stage(
        level=level,
        frames=shape.frames,
        resolution=shape.resolution,
        batch_size=schedule.batch_sizes[level],
        alpha=1.0,
    )


def measure_step(
    graphs: StepGraphs,
    batches: Callable[[], Batch],
    clock: Callable[[], float],
    patience_s: float = math.inf,
) -> float:
    """Seconds of `clock` that a step takes at the stage that was entered.

    Args:
        graphs: takes the steps.
        batches: gives the next batch.
        clock: seconds since any moment.
        patience_s: seconds after which two steps have to do.
    """
    warm_up = WARM_UP_STEPS if graphs.make_capture is None else GRAPH_WARM_UP_STEPS
    times: list[float] = []
    for index in range(warm_up + MEASURED_STEPS):
        start = clock()
        losses = graphs.run(index, 0, batches)
        # Reading a loss waits for the device.
        float(next(iter(losses.values())))
        times.append(clock() - start)
        # Processes make the same steps, or they would wait for each other for ever.
        if graphs.step.processes.any(sum(times) > patience_s) and index > 0:
            break
    steady = times[min(warm_up, len(times) - 1) :]
    return sum(steady) / len(steady)


def _same_batch(dataset: ClipDataset, stage: Stage, processes: Processes) -> Callable[[], Batch]:
    """One batch again and again: which clips it holds does not change the cost."""
    rows = range(*processes.rows(stage.batch_size))
    requests = [ClipRequest(position, stage.frames, stage.resolution) for position in rows]
    clip, labels, _ = next(iter(make_loader(dataset, iter([requests]), 0, processes.device)))
    batch = Batch(clip, labels, stage.batch_size, rows.start)
    return lambda: batch
