"""The plan of a run, derived from its settings before anything is computed."""

from collections.abc import Iterator, Sequence
from math import lcm

import torch

from vidgan.core.distributed import Processes
from vidgan.core.randomness import derive_seed
from vidgan.data.dataset import ClipRequest
from vidgan.errors import UserError
from vidgan.losses.recipes import make_loss
from vidgan.models import outline_gan
from vidgan.models.base import GAN, ClipShape
from vidgan.training.ema import PLAYERS, copy_generator, player_settings
from vidgan.training.loggers import LOGGERS
from vidgan.training.loss_checks import check_loss
from vidgan.training.presets import Config
from vidgan.training.schedule import Schedule, make_schedule, per_level, stage_at
from vidgan.training.settings import TrainingConfig
from vidgan.training.shares import check_shares
from vidgan.training.step import TrainingStep


def clip_shape(config: Config) -> ClipShape:
    """Shape of the clips that the settings ask for."""
    return ClipShape(3, config.data.frames, config.data.resolution, config.data.resolution)


def plan_schedule(config: Config, clip_shape: Sequence[int]) -> Schedule:
    """The growth schedule of a run on clips of shape (C, T, H, W).

    Raises:
        UserError: the model cannot make such clips, or a list of settings has the wrong length.
    """
    settings = config.training
    schedule = make_schedule(
        config.model.levels(ClipShape(*clip_shape)),
        settings.total_clips,
        settings.stable_clips,
        settings.fade_clips,
        settings.batch_size,
    )
    for player in PLAYERS:
        rates = player_settings(settings, player).lr
        per_level(rates, len(schedule.levels), f"training.{player}.lr")
    return schedule


def new_step(
    config: Config, shape: ClipShape, num_classes: int, num_levels: int, processes: Processes
) -> TrainingStep:
    """Networks with initial weights from the seed, on their device, and their optimizers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "initial weights"))
        gan = config.model.build(shape, num_classes)
    dtype = torch.float64 if config.training.precision.networks == "fp64" else torch.float32
    gan.to(processes.device, dtype).train()
    return TrainingStep(
        gan,
        copy_generator(gan.generator),
        make_loss(config.loss),
        config.training,
        config.seed,
        num_levels,
        processes,
    )


def clips_of_a_group(gan: GAN) -> int:
    """Clips that must stay together, as the networks compare those of a group."""
    return lcm(*(n.group_size for n in gan.networks.values() if n.couples_batch == "group"))


def check_batches(
    schedule: Schedule, gan: GAN, settings: TrainingConfig, processes: Processes
) -> None:
    """Refuse batch sizes that do not split evenly over processes, micro-batches and groups of
    clips.

    A micro-batch must hold whole groups (the minibatch standard deviation compares the clips of
    one), or N processes would not compute what one does.

    Raises:
        UserError: names batch sizes that fit.
    """
    networks = gan.networks.items()
    if settings.accumulate > 1:
        for name, network in networks:
            if network.couples_batch == "batch":
                raise UserError(
                    f"training.accumulate={settings.accumulate} cannot be used with this model: "
                    f"its {name} normalises over the whole batch; set training.accumulate=1"
                )
    normalises = any(network.couples_batch == "batch" for _, network in networks)
    if normalises and min(schedule.batch_sizes) < 2:
        raise UserError(
            f"training.batch_size={min(schedule.batch_sizes)} is too small for this model, which "
            f"normalises over the clips of a batch; use at least 2"
        )
    check_shares(schedule, gan, settings, processes)
    group = clips_of_a_group(gan)
    parts = processes.count * settings.accumulate
    shared = f"{processes.count} processes x {settings.accumulate} micro-batches x "
    for level, (shape, size) in enumerate(zip(schedule.levels, schedule.batch_sizes, strict=True)):
        # A whole batch below the group's size is one group.
        if size % (parts * group) and not (parts == 1 and size < group):
            raise UserError(
                f"training.batch_size={size} at level {level} ({shape.resolution} px) does not "
                f"split into {shared if parts > 1 else ''}groups of {group} clips; use a multiple "
                f"of {parts * group}"
            )


def check_settings(config: Config) -> None:
    """Refuse settings that do not fit each other, as far as one process can tell without clips.

    Raises:
        UserError: what `plan_schedule`, `check_batches` and `check_loss` refuse, or networks that
            cannot be.
    """
    shape = clip_shape(config)
    schedule = plan_schedule(config, shape)
    gan = outline_gan(config.model, shape, 0, "model")
    check_batches(schedule, gan, config.training, Processes())
    check_loss(gan, make_loss(config.loss))
    for name in config.training.loggers:
        LOGGERS.find(name)


def batch_requests(
    clips_seen: int, schedule: Schedule, settings: TrainingConfig, processes: Processes
) -> Iterator[list[ClipRequest]]:
    """This process' clips of every discriminator update from `clips_seen` to the end."""
    while clips_seen < schedule.total:
        stage = stage_at(clips_seen, schedule)
        first, last = processes.rows(stage.batch_size)
        for _ in range(settings.discriminator_steps):
            places = range(clips_seen + first, clips_seen + last)
            yield [ClipRequest(place, stage.frames, stage.resolution) for place in places]
            clips_seen += stage.batch_size


def steps_until(clips: int, schedule: Schedule, settings: TrainingConfig) -> int:
    """Steps of a run after which `clips` reals have been shown."""
    return sum(steps for _, steps in stretches(clips, schedule, settings))


def clips_after(steps: int, schedule: Schedule, settings: TrainingConfig) -> int:
    """Reals that a run has shown after so many steps."""
    clips = 0
    for of_step, here in stretches(schedule.total, schedule, settings):
        taken = min(steps, here)
        clips, steps = clips + taken * of_step, steps - taken
    return clips


def stretches(
    clips: int, schedule: Schedule, settings: TrainingConfig
) -> Iterator[tuple[int, int]]:
    """Reals of a step, and steps, level by level until `clips` reals have been shown."""
    seen = 0
    ends = (*schedule.starts[1:], schedule.total)
    for size, end in zip(schedule.batch_sizes, ends, strict=True):
        of_step = size * settings.discriminator_steps
        steps = max(0, -(-(min(end, clips) - seen) // of_step))
        yield of_step, steps
        seen += steps * of_step


def first_films(schedule: Schedule, settings: TrainingConfig) -> tuple[int, int]:
    """Steps of the first sample film, and of the first one after the last level has faded in."""
    last = steps_until(schedule.total, schedule, settings)
    every = settings.sample_every or last
    grown = steps_until(schedule.starts[-1] + schedule.fades[-1], schedule, settings)
    return min(every, last), min(max(1, -(-grown // every)) * every, last)
