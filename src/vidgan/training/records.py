"""What a run writes besides checkpoints: log, samples, page and provenance."""

import platform
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from vidgan.core.clip_ops import to_float, to_uint8
from vidgan.core.code_version import code_version
from vidgan.core.distributed import Processes
from vidgan.core.files import (
    read_text,
    write_json_atomically,
    write_sealed_json,
    write_text_atomically,
)
from vidgan.core.machine import describe_processor, machine_name
from vidgan.core.progress import say
from vidgan.core.randomness import BatchRandom, derive_seed
from vidgan.data.dataset import ClipDataset, ClipRequest
from vidgan.errors import UnhealthyTrainingError, UserError
from vidgan.models.base import Generator, Stage
from vidgan.report.page import Status
from vidgan.sampling.generate import sample_clips, sample_latents
from vidgan.training.checkpoint import RunState
from vidgan.training.doctor import Look, TrainingDoctor
from vidgan.training.health import TrainingStopped
from vidgan.training.loggers import LoggedRun, Logger, Loggers
from vidgan.training.logs import Console, DeviceClock, LogFile, Speed, in_time
from vidgan.training.page import write_page
from vidgan.training.planner import clips_after, first_films
from vidgan.training.presets import Config, config_to_dict, save_config
from vidgan.training.run_folder import CHECKS, ENVIRONMENT_FILE, read_environment
from vidgan.training.schedule import Schedule
from vidgan.training.step import TrainingStep
from vidgan.video import tile_clips, write_mp4

DISPLAY_SIZE = 128
"""Pixels to which small clips are enlarged, by a whole factor, in sample videos."""
PAGE_INTERVAL_S = 5.0
"""Seconds at least between two versions of the page while training."""

ENDINGS: dict[type[BaseException], Status] = {
    UnhealthyTrainingError: "unhealthy",
    TrainingStopped: "interrupted",
    KeyboardInterrupt: "interrupted",
}
"""What the page says of a run that ended early; after other errors it stays as it was."""


class Recorder:
    """Writes the run folder, apart from checkpoints; only the first process has one."""

    def __init__(
        self,
        config: Config,
        dataset: ClipDataset,
        schedule: Schedule,
        state: RunState,
        device: str = "cpu",
        loggers: Mapping[str, Logger] = MappingProxyType({}),
    ) -> None:
        self.run = Path(config.run)
        self.config = config
        self.dataset = dataset
        self.schedule = schedule
        self.log = LogFile(self.run, state.step)
        settings = config.training
        total_s = 60 * settings.minutes if settings.minutes else None
        num_warm = int(device == "cuda" and settings.cuda_graphs and state.step == 0)
        self.speed = Speed(schedule, state.clips_seen, total_s, num_warm)
        self.clock = DeviceClock(device)
        self.console = Console(schedule, state)
        self._page_time_s = 0.0
        self._check_ms: dict[str, float] = {}
        # Of a new run: log lines until it can be said what is to be expected.
        self._unsaid = 1 if total_s else 1 + num_warm
        self._is_new = state.step == 0
        self.doctor: TrainingDoctor | None = None
        if settings.doctor != "off":
            self.doctor = TrainingDoctor(dataset, config.seed, settings.total_clips, self.log.lines)
        self._told: set[str] = set()
        self.look: Look | None = None
        logged = LoggedRun(folder=self.run, settings=config_to_dict(config), step=state.step)
        self.loggers = Loggers(loggers, logged)

    def begin(self, step: TrainingStep) -> None:
        """A new run is about to take its first step."""
        if self.doctor is not None:
            self.doctor.begin(step)

    def write_line(self, state: RunState, losses: dict[str, float], step: TrainingStep) -> None:
        """Log one line of numbers, with what the doctor finds if it is time, and show progress."""
        self.speed.update(state.clips_seen)
        look = {"doctor": found.to_dict()} if (found := self.examine(state, losses, step)) else {}
        stage = state.stage
        self.log.append(
            {
                "step": state.step,
                "clips_seen": state.clips_seen,
                "level": stage.level,
                "frames": stage.frames,
                "resolution": stage.resolution,
                "alpha": stage.alpha,
                "attempt": state.attempt,
                "time": round(time.time(), 1),
                "clips_per_second": round(self.speed.clips_per_second, 3),
                "device_seconds": round(self.clock.lap(), 3),
                **self._check_ms,
                **losses,
                **look,
            }
        )
        self.loggers.log(self.log.lines[-1])
        self._check_ms = {}
        self._unsaid -= 1
        if self._is_new and self._unsaid == 0:
            say(self.expectation())
        self.console.show(state, self.speed)
        if time.monotonic() - self._page_time_s > PAGE_INTERVAL_S:
            self.write_page("training")

    def examine(self, state: RunState, losses: dict[str, float], step: TrainingStep) -> Look | None:
        """Let the doctor look if it is time; what it finds for the first time is told and shown."""
        self.look = None
        if self.doctor is None or not self.doctor.is_due(state.step):
            return None
        self.look = self.doctor.look(step, state.step, losses, state.clips_seen)
        new = [finding for finding in self.look.findings if finding.name not in self._told]
        if new:
            evidence = self.run / "doctor" / f"step-{state.step}.mp4"
            self.doctor.write_evidence(evidence, self.dataset.store.fps)
        for finding in new:
            self._told.add(finding.name)
            say(f"the training doctor at step {state.step}: {finding.sentence} (see {evidence})")
        return self.look

    def expectation(self) -> str:
        """When there will be something to see, judged by the steps so far."""
        settings = self.config.training
        first, full = first_films(self.schedule, settings)

        def after(steps: int) -> str:
            clips = clips_after(steps, self.schedule, settings)
            return f"in about {in_time(self.speed.remaining_seconds(clips))} (step {steps:,})"

        at_full_size = f", the first at full size {after(full)}" if full > first else ""
        end = in_time(self.speed.remaining_seconds())
        return f"expect the first sample film {after(first)}{at_full_size}, the end in about {end}"

    def write_check(self, level: int, facts: dict[str, Any]) -> None:
        """Record the gradient check of a level; its cost goes into the next log line."""
        environment = read_environment(self.run)
        environment.setdefault(CHECKS, {})[f"level {level}"] = facts
        write_json_atomically(self.run / ENVIRONMENT_FILE, environment)
        self._check_ms = {"check_ms": facts["milliseconds"]}

    def write_samples(self, state: RunState, averaged: Generator) -> None:
        """Write a grid of generated clips, always from the same latents, and real ones like it."""
        num_samples = self.config.training.num_samples
        seeds = [derive_seed(self.config.seed, "sample video", i) for i in range(num_samples)]
        labels = cycling_labels(num_samples, averaged.num_classes)
        real = f"real-{state.stage.frames}x{state.stage.resolution}"
        is_new = not (self.run / "samples" / f"{real}.mp4").exists()
        context = None
        if is_new or averaged.context_frames:
            real_clips = matching_clips(self.dataset, state.stage, labels, num_samples)
            key = (self.config.seed, "sample context")
            rng = BatchRandom(key, num_samples, 0, num_samples, real_clips.device)
            context, real_clips = averaged.make_context(to_float(real_clips), rng)
            if is_new:
                self._write_grid("real", real, to_uint8(real_clips), state.step)
        clips = sample_clips(averaged, sample_latents(averaged, seeds), labels, context)
        self._write_grid("samples", f"step-{state.step}", clips, state.step)
        self.write_page("training")

    def write_page(self, status: Status) -> None:
        """Rewrite the run's page."""
        self._page_time_s = time.monotonic()
        write_page(self.run, status, self.log.lines, self.speed.remaining_seconds())

    def rewind(self, state: RunState) -> None:
        """Discard output after the checkpoint that training rolled back to."""
        self.log.rewind(state.step)
        self.loggers.rewind(state.step)
        if self.doctor is not None:
            self.doctor.rewind(self.log.lines)
        self.speed.restart(state.clips_seen)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.console.close()
        self.loggers.close()
        for known, status in ENDINGS.items():
            if kind is None or issubclass(kind, known):
                self.write_page("done" if kind is None else status)
                return

    def _write_grid(self, kind: str, name: str, clips: Tensor, step: int) -> None:
        frames, resolution = clips.shape[2:4]
        grid = tile_clips(clips, scale=max(1, DISPLAY_SIZE // resolution))
        # Shorter clips of low levels last as long as full ones.
        fps = self.dataset.store.fps * frames / self.schedule.levels[-1].frames
        write_mp4(self.run / "samples" / f"{name}.mp4", grid, fps)
        self.loggers.clips(step, kind, clips, fps)


def cycling_labels(count: int, num_classes: int) -> Tensor | None:
    """Labels 0, 1, ..., 0, 1, ... for `count` clips, or None without classes."""
    return torch.arange(count) % num_classes if num_classes else None


def matching_clips(dataset: ClipDataset, stage: Stage, labels: Tensor | None, count: int) -> Tensor:
    """The first real clips of the run that show the wanted classes, at a stage's size.

    Returns:
        uint8 `[count, C, T, H, W]`; clips repeat where there are too few of a class.
    """
    position_of: dict[int | None, list[int]] = {}
    for position in range(dataset.num_clips):
        label = dataset.store.items[dataset.index_at(position)].label
        position_of.setdefault(None if labels is None else label, []).append(position)
    wanted = [None] * count if labels is None else labels.tolist()
    everything = list(range(dataset.num_clips))
    chosen = []
    for turn, label in enumerate(wanted):
        positions = position_of.get(label, everything)
        position = positions[wanted[:turn].count(label) % len(positions)]
        chosen.append(dataset[ClipRequest(position, stage.frames, stage.resolution)]["clip"])
    return torch.stack(chosen)


# ------------------------------------------------------------------------------------------------
# Provenance of the run


def describe_run(config: Config, dataset: ClipDataset, processes: Processes) -> None:
    """Write the settings, the command, the environment and the data of a run."""
    run = Path(config.run)
    save_config(run, config)
    command = run / "command.txt"
    earlier = read_text(command, errors="replace") if command.exists() else ""
    line = shlex.join(sys.argv) + "\n"
    if not earlier.endswith(line):
        write_text_atomically(command, earlier + line)
    facts = environment(processes) | _known_checks(run)
    write_json_atomically(run / ENVIRONMENT_FILE, facts)
    write_sealed_json(run / "data.json", run_data_facts(dataset))


def _known_checks(run: Path) -> dict[str, Any]:
    """What earlier calls found of each level's arithmetic; nothing if the record is damaged."""
    try:
        known = read_environment(run).get(CHECKS, {})
    except UserError:
        say(f"{run / ENVIRONMENT_FILE} is damaged; it is written again, of this machine")
        return {}
    return {CHECKS: known} if known else {}


def environment(processes: Processes) -> dict[str, Any]:
    """Versions and hardware that the run uses, as plain values."""
    return {
        "vidgan": code_version(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "system": platform.platform(),
        "device": str(processes.device),
        "device_name": machine_name(str(processes.device)),
        "processor": describe_processor(),
        "processes": processes.count,
        "threads": torch.get_num_threads(),
    }


def run_data_facts(dataset: ClipDataset) -> dict[str, Any]:
    """What the networks were built for and which clips they see, as plain values."""
    store = dataset.store
    manifest = store.manifest
    counts: dict[str, int] = {}
    for item in store.items:
        if item.split == dataset.split:
            name = dataset.classes[item.label] if dataset.classes else ""
            counts[name] = counts.get(name, 0) + 1
    return {
        "clip_shape": list(dataset.full_shape),
        "classes": list(dataset.classes),
        "attributes": dict(store.attributes),
        "split": dataset.split,
        "num_clips": dataset.num_clips,
        "counts": counts,
        "fps": store.fps,
        "source_hash": None if manifest is None else manifest.source_hash,
        "dropped": [] if manifest is None else [list(pair) for pair in manifest.dropped],
        "store": "" if store.path is None else str(store.path),
        "place": str(Path(dataset.config.path).absolute()),
    }
