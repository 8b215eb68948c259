"""What a training costs, and the same training for another price."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from vidgan.core.distributed import Processes
from vidgan.data.dataset import ClipDataset, ClipRequest
from vidgan.data.loader import make_loader
from vidgan.models.base import Stage
from vidgan.training.loop import build_step, open_clips
from vidgan.training.planner import plan_schedule
from vidgan.training.run_config import Config
from vidgan.training.step import Batch

WARM_UP_STEPS, MEASURED_STEPS = 3, 8
"""Steps at each level by which the cost of a clip is judged."""


def scale_schedule(config: Config, factor: float) -> Config:
    """The same training with every stretch of its schedule `factor` times as long."""

    def scaled(clips: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if isinstance(clips, tuple):
            return tuple(max(1, round(factor * count)) for count in clips)
        return max(1, round(factor * clips))

    training = replace(
        config.training,
        total_clips=max(1, round(factor * config.training.total_clips)),
        stable_clips=scaled(config.training.stable_clips),
        fade_clips=scaled(config.training.fade_clips),
    )
    return replace(config, training=training)


def predict_seconds(config: Config, tell: Callable[[str], None]) -> float:
    """Device-seconds that a training will take, judged by a few steps at each level.

    On a CPU they are seconds of all cores together.
    """
    dataset = open_clips(config, tell)
    schedule = plan_schedule(config, dataset.full_shape)
    device = config.training.device
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    place = torch.device("cuda" if cuda else "cpu")
    clock = time.monotonic if cuda else time.process_time
    turns = config.training.discriminator_steps
    threads = torch.get_num_threads()
    torch.set_num_threads(config.training.threads or threads)
    try:
        step = build_step(config, dataset, schedule, Processes(device=place))
        total, start = 0.0, 0.0
        ends = (*schedule.starts[1:], schedule.total)
        for level, (shape, size) in enumerate(
            zip(schedule.levels, schedule.batch_sizes, strict=True)
        ):
            stage = Stage(
                level=level,
                frames=shape.frames,
                resolution=shape.resolution,
                batch_size=size,
                alpha=1.0,
            )
            step.enter(stage)
            batches = _same_batch(dataset, stage, place)
            for index in range(WARM_UP_STEPS + MEASURED_STEPS):
                if index == WARM_UP_STEPS:
                    start = clock()
                losses = step.run(index, 0, batches)
            # Reading a loss waits for the device.
            float(next(iter(losses.values())))
            clips = MEASURED_STEPS * size * turns
            total += (clock() - start) / clips * (ends[level] - schedule.starts[level])
    finally:
        torch.set_num_threads(threads)
    return total


def _same_batch(dataset: ClipDataset, stage: Stage, place: torch.device) -> Callable[[], Batch]:
    """One batch again and again: which clips it holds does not change the cost."""
    requests = [
        ClipRequest(position, stage.frames, stage.resolution)
        for position in range(stage.batch_size)
    ]
    clip, labels, _ = next(iter(make_loader(dataset, iter([requests]), 0, place)))
    batch = Batch(clip, labels, len(clip), 0)
    return lambda: batch
