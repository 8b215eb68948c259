"""What a training will need and take, level by level, before its first step."""

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vidgan.core.distributed import Processes
from vidgan.core.machine import device_memory, has_bfloat16, machine_name
from vidgan.core.progress import Notify
from vidgan.data.loader import BATCHES_AHEAD
from vidgan.errors import UserError
from vidgan.models.base import ClipShape, Stage
from vidgan.sampling.storage import MAX_CLASSES
from vidgan.training.budget import STEPS_SHARE, full_stage, measure_step, scale_schedule
from vidgan.training.device_rates import DEVICES, GIB, DeviceRates, step_seconds
from vidgan.training.gradient_check import in_float32
from vidgan.training.graphs import step_graphs
from vidgan.training.health import repeatable_arithmetic
from vidgan.training.planner import (
    check_settings,
    clip_shape,
    first_films,
    new_step,
    plan_schedule,
    stretches,
)
from vidgan.training.presets import Config
from vidgan.training.schedule import Schedule
from vidgan.training.settings import TrainingConfig
from vidgan.training.step import Batch, TrainingStep
from vidgan.training.step_cost import StepCost, count_step

CARD_MARGIN, CARD_FIXED = 1.12, 0.1 * GIB
"""What a card takes beside the tensors of a step: work space of its libraries, in proportion and
at least. With these the peak of each of 20 steps on an H200 was from 13 % below to 19 % above
what its allocator counted."""
MAX_CLIPS = 10**9

CPU_MARGIN, CPU_FIXED = 1.3, 0.42 * GIB
"""What a training process on a CPU takes beside its tensors: holes in kept memory and work space of
kernels, in proportion, and Python, torch, clips and codecs. In bfloat16 the proportion was 1.3 to
1.6 from 16x32x32 to 32x256x256; two trainings of small networks took 399 and 468 MiB in all."""
PATIENCE_S = 60.0
"""For the measured steps of all levels together, about."""
PIXEL_FACTOR = 2000
"""A step of any preset takes less than so many times its batch of clips in float32 (DVD-GAN: 900),
beside weights. What is far below the memory by that is not counted before a training."""


@dataclass(frozen=True, kw_only=True)
class LevelPlan:
    """One level; memory in bytes, times in seconds.

    Attributes:
        level: its number.
        size: its clips, as `TxHxW`.
        batch_size: clips of an update.
        parameters: trained ones, by network.
        gmac: thousand million multiplications with additions in a step.
        saved_discriminator: what the discriminators' backward pass reads.
        saved_generator: what the generator's reads.
        peak_discriminator: memory while the discriminators move, without penalties.
        peak_penalty: the same with every penalty; 0 without one.
        peak_generator: memory while the generator moves.
        largest_batch: that fits at once; 0 if not one group of clips does.
        accumulate: least number of micro-batches in which the batch fits; 0 if in none.
        step_seconds: of a mean step.
        how: `measured`, `scaled` (from a smaller batch or level) or `table`.
        clips: reals that are shown at this level.
        seconds: for all of them.
    """

    level: int
    size: str
    batch_size: int
    parameters: dict[str, int]
    gmac: float
    saved_discriminator: int
    saved_generator: int
    peak_discriminator: int
    peak_penalty: int
    peak_generator: int
    largest_batch: int
    accumulate: int
    step_seconds: float
    how: str
    clips: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training needs and takes.

    Attributes:
        device: what computes.
        memory: bytes of its memory.
        source: where the times come from.
        levels: one by one.
        seconds: of the whole.
        first_film_s: until the first sample film.
        first_full_film_s: until the first one at full size, wholly faded in.
        clips_bytes: of the packed clips, before compression; None if their number is unknown.
        checkpoint_bytes: of all checkpoints that stay, and the one being written.
        shared_memory: bytes of batches that loader processes read ahead.
        problems: what does not fit, and what would, in sentences.
    """

    device: str
    memory: int
    source: str
    levels: tuple[LevelPlan, ...]
    seconds: float
    first_film_s: float
    first_full_film_s: float
    clips_bytes: int | None
    checkpoint_bytes: int
    shared_memory: int
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def make_plan(
    config: Config,
    device: str = "auto",
    num_classes: int = 0,
    num_clips: int | None = None,
    notify: Notify = lambda sentence: None,
) -> Plan:
    """Work out what a training needs and takes; no clips are needed.

    A schedule in minutes is scaled to them, as `train` scales it after its own measurement.

    Args:
        config: settings of the training.
        device: `auto`, `cpu` or `cuda` measures on this machine; a name of `DEVICES` takes the
            table, unless that card is the one at hand.
        num_classes: of the data.
        num_clips: of the data, for the room that they take.
        notify: takes a sentence about progress.

    Raises:
        UserError: no such device, numbers out of range, or settings that do not fit each other.
    """
    _check_data(num_classes, num_clips)
    check_settings(config)
    rates, place = _find_device(config, device)
    if rates is None:
        config = _in_formats_of(config, place)
    shape = clip_shape(config)
    schedule = plan_schedule(config, shape)
    costs = []
    for level in range(len(schedule.levels)):
        notify(f"counting level {level + 1} of {len(schedule.levels)}")
        costs.append(count_step(config, shape, num_classes, level))
    if rates is not None:
        timed = [(step_seconds(cost, rates), "table") for cost in costs]
        name, memory, source = rates.title, rates.memory, rates.source
    else:
        timed = _measured(config, shape, num_classes, costs, place, notify)
        name, memory = machine_name(str(place)), device_memory(place)
        source = "measured here by about 20 steps of noise"
    on_card = rates is not None or place.type == "cuda"

    def plan_levels() -> tuple[LevelPlan, ...]:
        return tuple(
            _level_plan(schedule, level, cost, timed[level], on_card, memory)
            for level, cost in enumerate(costs)
        )

    levels = plan_levels()
    if config.training.minutes is not None:
        factor = 60 * config.training.minutes / sum(level.seconds for level in levels)
        config = scale_schedule(config, factor)
        schedule = plan_schedule(config, shape)
        levels = plan_levels()
    settings = config.training
    films = first_films(schedule, settings)
    until = [_seconds_of_steps(step, schedule, settings, levels) for step in films]
    return Plan(
        device=name,
        memory=memory,
        source=source,
        levels=levels,
        seconds=sum(level.seconds for level in levels),
        first_film_s=until[0],
        first_full_film_s=until[1],
        clips_bytes=_bytes_of_clips(schedule, num_clips),
        checkpoint_bytes=(settings.keep_checkpoints + 1) * costs[-1].checkpoint,
        shared_memory=_shared_memory(schedule, settings),
        problems=tuple(
            _problem(schedule, level, cost, cost.batch_size, memory, on_card, name)
            for level, cost in enumerate(costs)
            if memory and levels[level].accumulate != 1
        ),
    )


def _bytes_of_clips(schedule: Schedule, num_clips: int | None) -> int | None:
    """Of all clips at every level; None if nobody said how many there are."""
    if num_clips is None:
        return None
    return num_clips * sum(3 * level.frames * level.resolution**2 for level in schedule.levels)


def _check_data(num_classes: int, num_clips: int | None) -> None:
    if not 0 <= num_classes <= MAX_CLASSES:
        raise UserError(f"classes={num_classes} must lie in 0..{MAX_CLASSES}")
    if num_clips is not None and not 1 <= num_clips <= MAX_CLIPS:
        raise UserError(f"clips={num_clips} must lie in 1..{MAX_CLIPS:,}")


def _find_device(config: Config, device: str) -> tuple[DeviceRates | None, torch.device]:
    """The row of the table, or the device of this machine that is measured."""
    there = torch.cuda.is_available()
    if device == "auto":
        device = config.training.device
    if device in DEVICES:
        word = DEVICES[device].title.removeprefix("NVIDIA ").split()[-1 if "RTX" in device else 0]
        if there and word.lower() in torch.cuda.get_device_name().lower():
            return None, torch.device("cuda")
        return DEVICES[device], torch.device("cpu")
    if device == "cuda" and not there:
        raise UserError(f"no card is here to be measured: --device takes {', '.join(DEVICES)}, cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError("training.device=mps, but this machine has none; set it to cpu or auto")
    if device not in ("auto", "cpu", "cuda", "mps"):
        raise UserError(f"--device {device} is none of auto, cpu, cuda, {', '.join(DEVICES)}")
    if device == "auto":
        device = "cuda" if there else "cpu"
    return None, torch.device(device)


def _in_formats_of(config: Config, place: torch.device) -> Config:
    """The settings in float32 where bfloat16 is emulated, as `train` takes them then."""
    precision = config.training.precision
    if precision.networks != "bf16" or precision.check == "off" or has_bfloat16(place):
        return config
    precision = dict(in_float32(precision))["networks"]
    training = dataclasses.replace(config.training, precision=precision)
    return dataclasses.replace(config, training=training)


# ------------------------------------------------------------------------------------------------
# Time


def _measured(
    config: Config,
    shape: ClipShape,
    num_classes: int,
    costs: Sequence[StepCost],
    place: torch.device,
    notify: Notify,
) -> list[tuple[float, str]]:
    """Seconds of a step at each level and how they were found, by steps on noise."""
    schedule = plan_schedule(config, shape)
    patience_s = PATIENCE_S / len(costs)
    found: list[tuple[float, str]] = []
    threads = config.training.threads or torch.get_num_threads()
    # A single thread's own time is what it takes on a machine that does nothing else.
    alone = place.type == "cpu" and threads == 1
    clock = time.process_time if alone else time.monotonic
    with repeatable_arithmetic(place, {"threads": str(threads)}):
        for level, cost in enumerate(costs):
            notify(f"measuring level {level + 1} of {len(costs)}")
            before = found[-1][0] * _work(cost) / _work(costs[level - 1]) if found else 0.0
            size = _batch_to_measure(cost, before, patience_s, device_memory(place))
            if config.training.discriminator_batch_size and size < cost.batch_size:
                size = 0  # the numbers of each discriminator belong to the whole batch
            if not size:
                found.append((before, "scaled"))
                continue
            stage = dataclasses.replace(full_stage(schedule, level), batch_size=size)
            step = _build(config, shape, num_classes, stage, schedule, place)
            batch = _noise(stage, num_classes, place)
            graphs = step_graphs(step, lambda sentence: None)
            seconds = measure_step(graphs, lambda batch=batch: batch, clock, patience_s)  # type: ignore[misc]
            whole = size == cost.batch_size
            ratio = 1.0 if whole else cost.batch_size / size
            found.append((seconds * ratio, "measured" if whole else "scaled"))
    return found


def _work(cost: StepCost) -> float:
    """By which the time of a step is carried over to another level: voxels count as operations."""
    return cost.flop + 100 * cost.bytes


def _batch_to_measure(cost: StepCost, step_s: float, patience_s: float, memory: int) -> int:
    """Clips of the steps that are measured: all, or fewer where two steps would take too long."""
    unit = cost.group or 2
    share = min(1.0, patience_s / (2 * step_s)) if step_s else 1.0
    size = cost.batch_size if share == 1 else max(unit, int(share * cost.batch_size) // unit * unit)
    fits = not memory or CARD_MARGIN * cost.peak_at(size) < memory
    return min(size, cost.batch_size) if fits else 0


def _build(
    config: Config,
    shape: ClipShape,
    num_classes: int,
    stage: Stage,
    schedule: Schedule,
    place: torch.device,
) -> TrainingStep:
    training = dataclasses.replace(config.training, accumulate=1)
    config = dataclasses.replace(config, training=training)
    step = new_step(config, shape, num_classes, len(schedule.levels), Processes(device=place))
    step.enter(stage)
    return step


def _noise(stage: Stage, num_classes: int, place: torch.device) -> Batch:
    rng = torch.Generator().manual_seed(0)
    size = (stage.batch_size, 3, stage.frames, stage.resolution, stage.resolution)
    clip = torch.randint(0, 256, size, generator=rng, dtype=torch.uint8)
    labels = torch.arange(stage.batch_size) % max(num_classes, 1)
    return Batch(clip.to(place), labels.to(place), stage.batch_size, 0)


def _seconds_of_steps(
    steps: int, schedule: Schedule, settings: TrainingConfig, levels: Sequence[LevelPlan]
) -> float:
    """Time of the first so many steps."""
    seconds = 0.0
    for level, (_, here) in zip(levels, stretches(schedule.total, schedule, settings), strict=True):
        seconds += min(steps, here) * level.step_seconds
        steps -= min(steps, here)
    return seconds / STEPS_SHARE


# ------------------------------------------------------------------------------------------------
# Memory and disk


def needed_memory(peak: float, on_card: bool) -> float:
    """Memory of a process whose tensors take `peak` bytes at most."""
    margin, fixed = _room_beside(on_card)
    return margin * peak + fixed


def _room_beside(on_card: bool) -> tuple[float, float]:
    return (CARD_MARGIN, CARD_FIXED) if on_card else (CPU_MARGIN, CPU_FIXED)


def _level_plan(
    schedule: Schedule,
    level: int,
    cost: StepCost,
    timed: tuple[float, str],
    on_card: bool,
    memory: int,
) -> LevelPlan:
    shape = schedule.levels[level]
    ends = (*schedule.starts[1:], schedule.total)
    clips = ends[level] - schedule.starts[level]
    return LevelPlan(
        level=level,
        size=f"{shape.frames}x{shape.resolution}x{shape.resolution}",
        batch_size=cost.batch_size,
        parameters=dict(cost.parameters),
        gmac=cost.flop / 2e9,
        saved_discriminator=cost.saved_discriminator,
        saved_generator=cost.saved_generator,
        peak_discriminator=round(needed_memory(cost.peak_discriminator, on_card)),
        peak_penalty=round(needed_memory(cost.peak_penalty, on_card)) if cost.peak_penalty else 0,
        peak_generator=round(needed_memory(cost.peak_generator, on_card)),
        largest_batch=largest_batch(cost, memory, on_card),
        accumulate=micro_batches(cost, cost.batch_size, memory, on_card),
        step_seconds=timed[0],
        how=timed[1],
        clips=clips,
        seconds=timed[0] * math.ceil(clips / cost.clips) / STEPS_SHARE,
    )


def largest_batch(cost: StepCost, memory: int, on_card: bool) -> int:
    """Clips that fit into a memory at once; 0 if not one group of them does."""
    unit = cost.group or 1
    least, slope = cost.peak_at(0), cost.peak_at(1) - cost.peak_at(0)
    margin, fixed = _room_beside(on_card)
    room = (memory - fixed) / margin - least
    return max(0, math.floor(room / max(slope, 1.0))) // unit * unit


def micro_batches(cost: StepCost, batch_size: int, memory: int, on_card: bool) -> int:
    """The least `training.accumulate` with which a batch fits; 0 if none does."""
    most = largest_batch(cost, memory, on_card)
    if batch_size <= most:
        return 1
    if not cost.group:
        return 0
    fitting = (
        count
        for count in range(2, batch_size // cost.group + 1)
        if batch_size % (count * cost.group) == 0 and batch_size // count <= most
    )
    return next(fitting, 0)


def _problem(
    schedule: Schedule,
    level: int,
    cost: StepCost,
    batch_size: int,
    memory: int,
    on_card: bool,
    name: str,
) -> str:
    """One sentence on a level that does not fit, and on what would."""
    shape = schedule.levels[level]
    most, parts = (
        largest_batch(cost, memory, on_card),
        micro_batches(cost, batch_size, memory, on_card),
    )
    if parts:
        way_out = (
            f"training.accumulate={parts} computes the same batch in parts of {batch_size // parts}"
            f" clips, training.batch_size={most} fits at once"
        )
    elif most and not cost.group:
        way_out = (
            f"training.batch_size={most} fits (this model normalises over the whole batch, so it "
            f"cannot be computed in parts)"
        )
    elif most:
        way_out = f"training.batch_size={most} fits"
    else:
        way_out = "not one group of clips fits: lower data.resolution or the widths of the model"
    return (
        f"a step at level {level} ({shape.frames}x{shape.resolution}x{shape.resolution}, batch "
        f"{batch_size}) needs about {needed_memory(cost.peak_at(batch_size), on_card) / GIB:.1f}"
        f" GiB, and {name} has {memory / GIB:.1f}: {way_out}"
    )


def _shared_memory(schedule: Schedule, settings: TrainingConfig) -> int:
    batches = zip(schedule.levels, schedule.batch_sizes, strict=True)
    largest = max(3 * size * level.frames * level.resolution**2 for level, size in batches)
    return settings.workers * BATCHES_AHEAD * largest


def refuse_larger_than_device(
    config: Config,
    schedule: Schedule,
    clip_shape: ClipShape,
    num_classes: int,
    processes: Processes,
) -> None:
    """Refuse a training whose largest step has tensors beyond the memory of its device.

    Only what certainly does not fit is refused: libraries take more than the tensors counted here.

    Raises:
        UserError: names what would fit.
    """
    memory, parts = device_memory(processes.device), config.training.accumulate
    shapes = zip(schedule.levels, schedule.batch_sizes, strict=True)
    voxels = [shape.frames * shape.resolution**2 * size for shape, size in shapes]
    level = max(range(len(voxels)), key=voxels.__getitem__)
    if not memory or PIXEL_FACTOR * 12 * voxels[level] / (processes.count * parts) < memory:
        return
    own = schedule.batch_sizes[level] // processes.count
    config = _in_formats_of(config, processes.device)
    whole = dataclasses.replace(config.training, accumulate=1)
    cost = count_step(
        dataclasses.replace(config, training=whole), clip_shape, num_classes, level, own // parts
    )
    if cost.peak > memory:
        on_card, name = processes.device.type == "cuda", machine_name(str(processes.device))
        raise UserError(_problem(schedule, level, cost, own, memory, on_card, name))
