"""Training: from settings to a run folder, resumable at any point."""

import math
import shlex
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vidgan.core.distributed import Processes, join_processes
from vidgan.core.files import check_place
from vidgan.core.machine import keep_freed_memory
from vidgan.core.progress import Notify, Progress, ignore, say
from vidgan.core.stop_signals import StopSignals
from vidgan.data.build.packing import cached_build
from vidgan.data.build.report import listed
from vidgan.data.dataset import ClipDataset
from vidgan.data.loader import lost_workers_named, make_loader
from vidgan.data.packed.store import open_store
from vidgan.data.scorable import why_unscorable
from vidgan.errors import UnhealthyTrainingError, UserError, counted
from vidgan.models import model_name, refuse_larger_than_memory
from vidgan.models.base import ClipShape
from vidgan.sampling.storage import GeneratorCard, plain_model
from vidgan.training.budget import fit_minutes, keep_schedule
from vidgan.training.checkpoint import (
    RunState,
    explained_disk_errors,
    find_checkpoint,
    init_from,
    load_checkpoint,
    room_for_checkpoints,
    save_checkpoint,
    tidy,
)
from vidgan.training.gradient_check import GradientCheck
from vidgan.training.graphs import step_graphs
from vidgan.training.health import (
    LossMeans,
    TrainingStopped,
    choose_arithmetic,
    crowded,
    explained_memory_errors,
    repeatable_arithmetic,
    weights_are_finite,
)
from vidgan.training.loggers import make_loggers
from vidgan.training.logs import LOG_FILE, PLAIN_INTERVAL_S, lost_lines, read_log
from vidgan.training.plan import refuse_larger_than_device
from vidgan.training.planner import (
    batch_requests,
    check_batches,
    check_settings,
    clip_shape,
    new_step,
    plan_schedule,
)
from vidgan.training.presets import CONFIG_FILE, Config, fixed_settings
from vidgan.training.profiling import StepProfiler
from vidgan.training.records import Recorder, describe_run, run_data_facts
from vidgan.training.run_folder import (
    check_not_emptied,
    check_own_checkpoint,
    check_run_folder,
    check_same_data,
    recorded_drops,
    run_lock,
)
from vidgan.training.schedule import Schedule, stage_at
from vidgan.training.settings import TrainingConfig
from vidgan.training.step import Batch, TrainingStep

MAX_NAMED = 10
"""Lines about videos that are left out."""


def train(config: Config) -> Path:
    """Train a GAN, or continue the run in `config.run`.

    Every number of a run is a function of its settings and of the clips it has seen, so a run that
    was stopped, even by a crash, ends with the same weights as one that was not.

    Args:
        config: settings, as `vidgan.load_config` returns them.

    Returns:
        The run folder.

    Raises:
        UserError: settings that do not fit the data, each other or the run that is there.
        UnhealthyTrainingError: losses or weights were not finite after every allowed roll-back.
        TrainingStopped: SIGINT, SIGTERM, SIGHUP or SIGUSR1 came; the run is saved, and the same
            call continues.

    Example:
        >>> import vidgan
        >>> config = vidgan.load_config(None, ["data=clips/", "run=runs/first"])
        >>> vidgan.train(config)  # doctest: +SKIP
        PosixPath('runs/first')
    """
    if not isinstance(config, Config):
        raise UserError("train takes settings as load_config returns them: load_config(settings)")
    config = keep_schedule(config)
    run = Path(config.run)
    with ExitStack() as stack:
        # The processes that share the work; the first one writes and talks.
        processes = stack.enter_context(join_processes(config.training.device))
        if config.training.keep_memory and processes.device.type == "cpu":
            keep_freed_memory()
        notify: Notify = say if processes.is_first else ignore
        stack.enter_context(explained_disk_errors(run))
        stack.enter_context(lost_workers_named())
        check_before(config)
        loggers = make_loggers(config.training.loggers if processes.is_first else ())

        # Data, schedule, networks: whatever does not fit is refused before anything is written.
        config, dataset, schedule, step, is_known = fit_together(config, processes, notify)
        settings = config.training
        stack.enter_context(explained_memory_errors(run, step))

        # Where the run stands: at a checkpoint, or at the start.
        still_there = stack.enter_context(run_lock(run)) if processes.is_first else None
        found = find_checkpoint(run, notify)
        processes.barrier()
        kept = found.arithmetic if found else {}
        arithmetic = choose_arithmetic(settings, processes, kept, notify)
        stack.enter_context(repeatable_arithmetic(processes.device, arithmetic))
        state = replace(restore(config, step, schedule, found, notify), arithmetic=arithmetic)

        # From here on a stop signal saves before ending.
        stop = stack.enter_context(StopSignals().listening())

        # The run folder; its first checkpoint allows roll-backs.
        recorder = None
        if processes.is_first:
            for line in lost_lines(read_log(run / LOG_FILE), found.step if found else 0):
                notify(f"{run}: {line}")
            tidy(run, found)
            describe_run(config, dataset, processes)
            device = processes.device.type
            recorder = Recorder(config, dataset, schedule, state, device, loggers)
            stack.enter_context(recorder)
        for line in opening(config, dataset, schedule, step, state, is_known):
            notify(line)

        # The number formats of a level are those in which its gradients are correct.
        note = recorder.write_check if recorder else lambda level, facts: None
        checked = GradientCheck(config, dataset, processes, notify, note)
        if found is None:
            state = checked(step, state)
            if recorder:
                recorder.begin(step)
                save(config, dataset, step, state)

        # Steps; clips_seen is the clock.
        batches = open_batches(dataset, schedule, settings, state.clips_seen, processes)
        stack.callback(lambda: batches.close())
        means, graphs = LossMeans(), step_graphs(step, notify)
        profiled = settings.profile_steps if processes.is_first else 0
        timed = stack.enter_context(StepProfiler(run, profiled, processes.device, notify))
        while state.clips_seen < schedule.total:
            step.enter(stage_at(state.clips_seen, schedule))
            state = checked(step, state)
            take = partial(graphs.run, state.step, state.attempt, batches.__next__)
            means.add(timed(take))
            state = advance(state, step)

            # What is due; a stop requested of one process stops all.
            finished = state.clips_seen >= schedule.total
            stopped = processes.any(stop.requested)
            saves = finished or stopped or is_due(state, settings.checkpoint_every)
            samples = finished or is_due(state, settings.sample_every)
            if not (saves or samples or is_due(state, settings.log_every)):
                continue

            if still_there:
                still_there()

            # Non-finite losses or weights: roll back to the last good checkpoint.
            losses = means.take(processes)
            if not all_finite(losses) or (saves and not weights_are_finite(step.gan)):
                state = roll_back(config, step, state, notify)
                batches.close()
                batches = open_batches(dataset, schedule, settings, state.clips_seen, processes)
                if recorder:
                    recorder.rewind(state)
                continue

            # Records.
            if recorder:
                recorder.write_line(state, losses, step)
                if saves or samples:
                    step.measure_averaged(state.step)
                # The checkpoint last: after a kill before it, all of this is redone.
                if samples:
                    recorder.write_samples(state, step.averaged)
                if saves:
                    save(config, dataset, step, state)
            end_if_ill(config, recorder, processes, state)
            if stopped and not finished:
                notify(f"stopped and saved at step {state.step}; run the same command to continue")
                raise TrainingStopped(0)
        notify(f"finished at step {state.step} after {counted(state.clips_seen, 'clip')}: {run}")
        if not why_unscorable(dataset.store.items, config.data.frames):
            notify(f"next: vidgan evaluate {shlex.quote(str(run))}")
    return run


# ------------------------------------------------------------------------------------------------
# Before the first step


def check_before(config: Config) -> None:
    """Check folder, schedule and clip size before any clip is decoded.

    Raises:
        UserError: the folder holds something else or cannot be written to, or settings do not fit.
    """
    config = keep_schedule(config)
    check_run_folder(config)
    check_place(config.run)
    check_settings(config)


class Fitted(NamedTuple):
    """Settings, what was made by them, and whether the run has recorded these very clips."""

    config: Config
    dataset: ClipDataset
    schedule: Schedule
    step: TrainingStep
    is_known: bool


def fit_together(config: Config, processes: Processes, notify: Notify) -> Fitted:
    """Open the data, plan the schedule and build the networks; nothing is written to the run.

    Raises:
        UserError: data, settings, machine and the run that is there do not fit each other.
    """
    threads = config.training.threads
    for line in crowded(f"training.threads={threads}", threads):
        notify(line)
    dataset = open_clips(config, notify)
    config = scheduled(config, dataset, processes, notify)
    schedule = plan_schedule(config, dataset.full_shape)
    step = build_step(config, dataset, schedule, processes)
    check_batches(schedule, step.gan, config.training, processes)
    check_place(config.run, room_for_checkpoints(Path(config.run), step))
    shape = ClipShape(*dataset.full_shape)
    refuse_larger_than_device(config, schedule, shape, dataset.num_classes, processes)
    is_known = check_same_data(Path(config.run), run_data_facts(dataset), notify)
    return Fitted(config, dataset, schedule, step, is_known)


def scheduled(config: Config, dataset: ClipDataset, processes: Processes, notify: Notify) -> Config:
    """The settings of a new run in minutes, with the schedule that takes them; all others as is."""
    if config.training.minutes is None or (Path(config.run) / CONFIG_FILE).exists():
        return config
    schedule = plan_schedule(config, dataset.full_shape)
    # Networks of their own: the run begins with those that its seed gives.
    step = build_step(config, dataset, schedule, processes)
    check_batches(schedule, step.gan, config.training, processes)
    arithmetic = choose_arithmetic(config.training, processes, {}, notify)
    with (
        explained_memory_errors(Path(config.run), step),
        repeatable_arithmetic(processes.device, arithmetic),
    ):
        # The check's result is reported when the run repeats it from the cache.
        check = GradientCheck(config, dataset, processes, lambda sentence: None)
        return fit_minutes(config, step, schedule, dataset, check.prepare, notify)


def open_clips(config: Config, notify: Notify) -> ClipDataset:
    """The training clips, decoded into the cache if need be.

    Every process calls this; one builds, the others wait.
    """
    levels = [(level.frames, level.resolution) for level in config.model.levels(clip_shape(config))]
    path = cached_build(config.data, levels[:-1], progress=spoken_progress(notify), notify=notify)
    store = open_store(path)
    known = recorded_drops(Path(config.run))
    new = [pair for pair in store.manifest.dropped if pair not in known]
    title = "more videos left out" if known else "videos left out"
    for line in listed(title, new, MAX_NAMED):
        notify(line)
    return ClipDataset(store, config.data, config.seed)


def build_step(
    config: Config, dataset: ClipDataset, schedule: Schedule, processes: Processes
) -> TrainingStep:
    """Networks with initial weights from the seed, and their optimizers."""
    shape = ClipShape(*dataset.full_shape)
    refuse_larger_than_memory(config.model, shape, dataset.num_classes)
    return new_step(config, shape, dataset.num_classes, len(schedule.levels), processes)


def restore(
    config: Config, step: TrainingStep, schedule: Schedule, found: RunState | None, notify: Notify
) -> RunState:
    """Restore the networks and return the run's state."""
    if found is not None:
        check_own_checkpoint(Path(config.run), config, found.step)
        load_checkpoint(config.run, step, found)
        return found
    if config.init_from is not None:
        init_from(config.init_from, step, notify)
    stage = stage_at(0, schedule)
    step.enter(stage)
    return RunState(stage=stage)


def open_batches(
    dataset: ClipDataset,
    schedule: Schedule,
    settings: TrainingConfig,
    clips_seen: int,
    processes: Processes,
) -> Generator[Batch]:
    """This process' share of the real clips of every discriminator update from `clips_seen` on."""
    requests = batch_requests(clips_seen, schedule, settings, processes)
    notify: Notify = say if processes.is_first else ignore
    loader = make_loader(dataset, requests, settings.workers, processes.device, notify)
    try:
        for clip, labels, _ in loader:
            size = len(clip)
            yield Batch(clip, labels, size * processes.count, size * processes.rank)
    except UserError as error:
        # Only the first process' errors are printed at its end, and no other one read these clips.
        if not processes.is_first:
            say(str(error))
        raise


def opening(
    config: Config,
    dataset: ClipDataset,
    schedule: Schedule,
    step: TrainingStep,
    state: RunState,
    is_known: bool,
) -> Iterator[str]:
    """A one-line description of the run, and what its samples will not be good for, unless a run
    that goes on with the same clips has said so before."""
    classes = f" in {counted(dataset.num_classes, 'class')}" if dataset.num_classes else ""
    _, frames, height, width = dataset.full_shape
    where = f"continues at step {state.step}" if state.step else "starts"
    yield (
        f"{config.run} {where}: {config.preset or 'own settings'}, loss {config.loss.name}, "
        f"{counted(dataset.num_clips, 'clip')} of {frames}x{height}x{width}{classes}, "
        f"{counted(schedule.total - state.clips_seen, 'clip')} to show"
    )
    if state.step and is_known:
        return
    reason = why_unscorable(dataset.store.items, config.data.frames)
    if reason:
        yield reason
    if dataset.num_classes and not step.gan.generator.num_classes:
        name = model_name(type(config.model))
        yield f"{name} does not condition on classes: its samples have no labels"


def spoken_progress(notify: Notify) -> Progress:
    """Progress of decoding as a line every ten seconds."""
    last_s = time.monotonic()

    def progress(done: int, total: int, what: str) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= PLAIN_INTERVAL_S:
            last_s = time.monotonic()
            notify(f"{what}: {done} of {total}")

    return progress


# ------------------------------------------------------------------------------------------------
# After a step


def advance(state: RunState, step: TrainingStep) -> RunState:
    """The state after one more step."""
    assert step.stage is not None
    clips = step.stage.batch_size * step.settings.discriminator_steps
    return replace(
        state, stage=step.stage, step=state.step + 1, clips_seen=state.clips_seen + clips
    )


def is_due(state: RunState, every: int) -> bool:
    """Whether something that happens every few steps (0: never) is due."""
    return every > 0 and state.step % every == 0


def all_finite(losses: Mapping[str, float]) -> bool:
    """Whether every loss is finite."""
    return all(math.isfinite(value) for value in losses.values())


def save(config: Config, dataset: ClipDataset, step: TrainingStep, state: RunState) -> None:
    """Write a checkpoint, unless this step has one already."""
    card = GeneratorCard(
        model=plain_model(config.model),
        clip_shape=dataset.full_shape,
        num_classes=len(dataset.classes),
        class_names=tuple(dataset.classes),
        stage=state.stage,
        fps=dataset.store.fps,
        step=state.step,
        clips_seen=state.clips_seen,
        loss=config.loss.name,
    )
    keep = config.training.keep_checkpoints
    save_checkpoint(config.run, step, state, card, fixed_settings(config), keep)


def end_if_ill(
    config: Config, recorder: Recorder | None, processes: Processes, state: RunState
) -> None:
    """End a run that the doctor gives up, where the settings say so.

    Raises:
        UnhealthyTrainingError: the first process' doctor says stop.
    """
    if config.training.doctor != "stop":
        return
    look = recorder.look if recorder else None
    if processes.any(look is not None and look.verdict == "stop"):
        found = "; ".join(f.sentence for f in look.findings) if look else "see the first process"
        raise UnhealthyTrainingError(
            f"the training doctor stops {config.run} at step {state.step}: {found}; the newest"
            f" checkpoint stays (training.doctor=warn goes on)"
        )


def roll_back(config: Config, step: TrainingStep, state: RunState, notify: Notify) -> RunState:
    """Return to the newest checkpoint; the next attempt at the same steps draws other noise.

    Raises:
        UnhealthyTrainingError: the allowed roll-backs are used up.
        UserError: somebody has removed the checkpoints.
    """
    if state.attempt >= config.training.max_rollbacks:
        raise UnhealthyTrainingError(
            f"losses or weights are not finite at step {state.step} after {state.attempt} "
            f"roll-backs: lower training.generator.lr and training.discriminator.lr, or set "
            f"training.precision.networks=fp32, in a new run with init_from={config.run}"
        )
    check_not_emptied(Path(config.run))
    good = find_checkpoint(config.run, notify)
    assert good is not None
    notify(f"losses or weights are not finite at step {state.step}: back to step {good.step}")
    load_checkpoint(config.run, step, good)
    return replace(good, attempt=state.attempt + 1, arithmetic=state.arithmetic)
