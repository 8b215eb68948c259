"""A suite of systems, trained on one data set under one budget and evaluated by one protocol.

Everything is in one folder and done once: the same call continues where it stopped. Runs are
separate processes, so that one which fails does not affect the others.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from vidgan.comparing.results import compare_results, read_results, write_comparison
from vidgan.core.code_version import code_version
from vidgan.core.files import (
    check_place,
    read_json,
    refuse_special,
    write_json_atomically,
    write_text_atomically,
)
from vidgan.core.machine import processor_id
from vidgan.core.plugins import safe_path_for_children, trust_typed
from vidgan.core.progress import Notify
from vidgan.core.settings import dump_yaml, from_dict, load_yaml
from vidgan.data.dataset import ClipDataset
from vidgan.data.scorable import why_unscorable
from vidgan.data.settings import DataConfig
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.errors import UserError
from vidgan.evaluation.checks import check_protocol
from vidgan.evaluation.clips import EvaluationOptions
from vidgan.evaluation.generators import evaluate, save_record, update_best
from vidgan.evaluation.predictions import evaluate_predictions
from vidgan.evaluation.protocols import Protocol, find_protocol
from vidgan.models import model_name
from vidgan.report.comparison import FORMS, Comparison
from vidgan.sampling.generate import sample_clips, sample_latents
from vidgan.sampling.outputs import interpolate_seeds, write_interpolation
from vidgan.sampling.predict import (
    LabelledClip,
    image_name,
    part_windows,
    rows_of_clip,
    write_prediction,
    write_strip,
)
from vidgan.sampling.storage import card_of, load_generator
from vidgan.training.budget import scale_schedule
from vidgan.training.cost import predict_seconds
from vidgan.training.loop import open_clips
from vidgan.training.presets import Config, config_to_dict, load_config

# ------------------------------------------------------------------------------------------------
# What a suite of systems is: its settings and the file they stand in


@dataclass(frozen=True, kw_only=True)
class MotionsSpec:
    """A rendered set, see `vidgan data motions`."""

    videos: int = 2640
    size: int = 64
    frames: int = 8
    seed: int = 0
    objects: tuple[str, ...] = ("ring", "square", "triangle", "cross")
    motions: tuple[str, ...] = ("left", "right", "up", "down")
    heldout: float = 1 / 11


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The budget of each run: exactly one of the two.

    Attributes:
        clips: real clips seen.
        device_seconds: of the CPU's cores together, or of the GPU. A short measurement turns them
            into clips before the first run of a system, so that runs stay repeatable.
    """

    clips: int | None = None
    device_seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.clips is None) == (self.device_seconds is None):
            raise UserError("the budget of a suite needs either clips or device_seconds")


@dataclass(frozen=True, kw_only=True)
class System:
    """One line of the comparison.

    Attributes:
        preset: preset or settings file.
        set: settings that differ from it, as `key=value`.
        frames: length of the rendered videos, where it is not the suite's: whoever continues given
            frames needs longer ones.
    """

    preset: str
    set: tuple[str, ...] = ()
    frames: int | None = None


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Everything that decides a comparison.

    Attributes:
        systems: by label.
        data: folder of videos; empty takes `motions`.
        motions: what is rendered where no folder is named.
        seeds: each system is trained once with each.
        budget: of one run.
        set: settings of every system, as `key=value`.
        protocol: of the evaluation.
        judge_seed: of the judge.
        num_clips: generated clips of an evaluation; 0 leaves the number to the protocol.
        threads: of each run.
    """

    systems: dict[str, System] = field(default_factory=dict)
    data: str = ""
    motions: MotionsSpec = field(default_factory=MotionsSpec)
    seeds: tuple[int, ...] = (0, 1)
    budget: Budget
    set: tuple[str, ...] = ()
    protocol: str = "own-c3d"
    judge_seed: int = 101
    num_clips: int = 0
    threads: int = 1


def read_suite(path: str | Path) -> Suite:
    """A suite from its YAML file.

    Raises:
        UserError: no such file, an unknown key or a value of another kind.
    """
    path = Path(path)
    refuse_special(path)
    if not path.is_file():
        raise UserError(f"there is no suite {path}: name a YAML file such as configs/bench/*.yaml")
    values = load_yaml(path)
    systems = values.pop("systems", None)
    if not isinstance(systems, Mapping) or not systems:
        raise UserError(f"{path} names no systems: it needs systems: {{LABEL: {{preset: NAME}}}}")
    parsed = {
        str(label): from_dict(System, dict(spec), f"{path}, systems.{label}")
        for label, spec in systems.items()
    }
    return replace(from_dict(Suite, values, str(path)), systems=parsed)


# ------------------------------------------------------------------------------------------------
# A suite of systems, trained on one data set under one budget and evaluated by one protocol


NUM_IMAGES = 2
"""Predicted clips of a run that are drawn."""


@dataclass(frozen=True)
class Job:
    """One run of a suite; its settings and messages are kept outside the run folder."""

    label: str
    seed: int
    data: Path
    run: Path
    work_dir: Path


def run_bench(
    suite: Suite,
    out: str | Path,
    notify: Notify = print,
    workers: int = 1,
    title: str = "Comparison",
) -> Comparison:
    """Train and evaluate every system of a suite, and write the comparison.

    Args:
        suite: what is compared.
        out: folder of runs, data and comparison.
        notify: called with a short message about what happens.
        workers: runs side by side.
        title: of the comparison.

    Returns:
        The comparison; `<out>/index.html`, `.md`, `.csv`, `.tex` and `.json` hold it, and
        `<out>/samples-T.png` a clip of T frames of every system below a real one.

    Raises:
        UserError: settings that fit no preset, or `out` belongs to another suite.
    """
    out = Path(out)
    check_place(out)
    _claim(out, suite)
    jobs = list(_jobs(suite, out))

    # Settings of every run, so that mistakes are reported before the first run starts.
    for job in jobs:
        _settings(suite, job)
    check_protocol(_protocol(suite))
    if not suite.data:
        _render_all(jobs, suite.motions, notify)
    _check_scorable(suite, jobs, notify)
    for job in jobs:
        if (job.work_dir / "settings.yaml").exists():
            _check_model(suite, job)
        else:
            config = _within_budget(suite, job, out, notify)
            write_text_atomically(job.work_dir / "settings.yaml", dump_yaml(config_to_dict(config)))

    failed = _train_all(suite, jobs, workers, notify)
    trained = [job for job in jobs if job not in failed and not _is_evaluated(job.run)]
    _evaluate_all(suite, trained, out / "judges", workers, notify)

    labels = {str(job.run): job.label for job in jobs if job not in failed}
    results, left_out = read_results(labels)
    left_out += [f"{job.label}, seed {job.seed}: {why}" for job, why in failed.items()]
    comparison = compare_results(results, left_out, title, **_facts(suite))
    write_comparison(comparison, out / "index.html", *(out / f"index{s}" for s in FORMS))
    first_runs = {job.label: job for job in reversed(jobs) if job not in failed}
    _draw_systems([job for job in jobs if first_runs.get(job.label) == job], out)
    return comparison


# ------------------------------------------------------------------------------------------------
# Before training


def _claim(out: Path, suite: Suite) -> None:
    """Note the suite in its folder, or refuse a folder of another one."""
    marker = out / "suite.json"
    record = json.loads(json.dumps(asdict(suite)))
    if marker.exists():
        before = read_json(marker)
        # Systems and seeds may be added; what is there stays comparable.
        fixed = [key for key in record if key not in ("systems", "seeds")]
        changed = [key for key in fixed if before.get(key) != record[key]]
        changed += [
            f"systems.{label}"
            for label, spec in record["systems"].items()
            if before["systems"].get(label, spec) != spec
        ]
        if changed:
            raise UserError(
                f"{out} holds a suite with other {', '.join(changed)}: give another folder with"
                " --out, or delete it"
            )
    write_json_atomically(marker, record)


def _render_all(jobs: Sequence[Job], spec: MotionsSpec, notify: Notify) -> None:
    for folder in dict.fromkeys(job.data for job in jobs):
        # _jobs names the folders by their length.
        frames = int(folder.name.rpartition("-")[2])
        notify(f"rendering {spec.videos} videos of {frames} frames into {folder}")
        render_motions(
            folder,
            motion_settings(
                objects=list(spec.objects),
                motions=list(spec.motions),
                size=spec.size,
                frames=frames,
                seed=spec.seed,
            ),
            videos=spec.videos,
            heldout=spec.heldout,
        )


def _jobs(suite: Suite, out: Path) -> Iterator[Job]:
    """Seed by seed, so that an early stop leaves whole seeds."""
    for seed in suite.seeds:
        for label, system in suite.systems.items():
            name = "".join(mark if mark.isalnum() else "-" for mark in label.lower())
            name = f"{name}-seed{seed}"
            rendered = out / f"motions-{system.frames or suite.motions.frames}"
            data = Path(suite.data) if suite.data else rendered
            yield Job(label, seed, data, out / "runs" / name, out / "jobs" / name)


def _settings(suite: Suite, job: Job) -> Config:
    system = suite.systems[job.label]
    words = [f"data={job.data}", f"run={job.run}", f"seed={job.seed}"]
    words += [f"training.threads={suite.threads}", *suite.set, *system.set]
    return load_config(system.preset, words)


def _check_scorable(suite: Suite, jobs: Sequence[Job], notify: Notify) -> None:
    """Refuse data on which systems could be trained and never scored."""
    known: list[DataConfig] = []
    for job in jobs:
        config = _settings(suite, job)
        if config.data in known:
            continue
        known.append(config.data)
        items = open_clips(config, notify).store.items
        reason = why_unscorable(items, config.data.frames)
        if reason:
            raise UserError(f"{job.label}: {reason}")


def _check_model(suite: Suite, job: Job) -> None:
    """Refuse settings that were left in the folder for another model than the suite's.

    Training trusts them as the user's own, so they must not import code.
    """
    file = job.work_dir / "settings.yaml"
    section = load_yaml(file).get("model")
    name = section.get("name") if isinstance(section, dict) else section
    expected = model_name(type(_settings(suite, job).model))
    if name != expected:
        raise UserError(
            f"{file} names the model {name} and the suite {expected}: delete that file, or give"
            " another folder with --out"
        )


def _within_budget(suite: Suite, job: Job, out: Path, notify: Notify) -> Config:
    """Settings whose schedule is stretched or shrunk to the budget."""
    config = _settings(suite, job)
    if suite.budget.clips is not None:
        return scale_schedule(config, suite.budget.clips / config.training.total_clips)
    note = out / "budgets.json"
    factors: dict[str, float] = read_json(note) if note.exists() else {}
    if job.label not in factors:
        needed = predict_seconds(config, notify)
        assert suite.budget.device_seconds is not None
        factors[job.label] = suite.budget.device_seconds / needed
        write_json_atomically(note, factors)
        notify(f"{job.label}: the preset would take {needed:.0f} device-seconds")
    return scale_schedule(config, factors[job.label])


# ------------------------------------------------------------------------------------------------
# Training and after


def _train_all(suite: Suite, jobs: Sequence[Job], workers: int, notify: Notify) -> dict[Job, str]:
    """Train unfinished runs, `workers` at a time; returns the reasons of those that failed."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(suite.threads)}
    if suite.threads == 1:
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    waiting = [job for job in jobs if not (job.work_dir / "finished.json").exists()]
    running: dict[Job, subprocess.Popen[bytes]] = {}
    failed: dict[Job, str] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                notify(f"training {job.label}, seed {job.seed} ({len(waiting)} more)")
                running[job] = _start(job, environment)
            for job in [job for job, process in running.items() if process.poll() is not None]:
                if running.pop(job).returncode == 0:
                    write_json_atomically(job.work_dir / "finished.json", {"seed": job.seed})
                else:
                    failed[job] = _last_line(job.work_dir / "train.log")
                    notify(f"{job.label}, seed {job.seed} failed: {failed[job]}")
            time.sleep(0.2)
    finally:
        # An interrupted run saves and ends; the next call continues from there.
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    return failed


def _start(job: Job, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-m", "vidgan", "train", str(job.work_dir / "settings.yaml")]
    with (job.work_dir / "train.log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


def _is_evaluated(run: Path) -> bool:
    return any((run / "evals").glob("*.json"))


def _evaluate_all(
    suite: Suite, jobs: Sequence[Job], judges: Path, workers: int, notify: Notify
) -> None:
    """Evaluate what was trained, `workers` at a time."""
    if not jobs:
        return
    models = {model_name(type(_settings(suite, job).model)) for job in jobs}
    with (
        safe_path_for_children(),
        ProcessPoolExecutor(
            min(workers, len(jobs)),
            # A fork of a process that runs threads may hang.
            mp_context=get_context("spawn"),
            initializer=_start_evaluating,
            initargs=(suite.threads, models),
        ) as pool,
    ):
        notify(f"evaluating {len(jobs)} runs")
        tasks = {pool.submit(_evaluate, suite, job, judges): job for job in jobs}
        for task in as_completed(tasks):
            task.result()
            notify(f"evaluated {tasks[task].label}, seed {tasks[task].seed}")


def _start_evaluating(threads: int, models: set[str]) -> None:
    torch.set_num_threads(threads)
    for name in models:
        trust_typed(name)


def _evaluate(suite: Suite, job: Job, judges: Path) -> None:
    """Score the last checkpoint of a run, and write a walk through its latent space."""
    config = load_config(str(job.run))
    data = open_clips(config, lambda _: None)
    record = evaluate(
        job.run,
        data,
        _protocol(suite),
        EvaluationOptions(checkpoint="last", judge_seed=suite.judge_seed, cache=judges),
    )
    save_record(record, job.run / "evals")
    if config.best.metric in record.scores:
        update_best(job.run, record, config.best.metric)
    generator = load_generator(job.run, "last")
    if generator.context_frames:
        _predict(suite, job, data, judges)
    elif generator.latent_dim():
        card = card_of(generator)
        name = card.class_names[0] if generator.num_classes else None
        walk = interpolate_seeds(generator, 0, 1, 9, "slerp", name)
        write_interpolation(
            job.run / "interpolation.mp4", job.run / "interpolation.png", walk, card.fps
        )


def _predict(suite: Suite, job: Job, data: ClipDataset, judges: Path) -> None:
    """Score the frames of a model that continues given ones, and draw some."""
    record, predictions = evaluate_predictions(
        job.run,
        data,
        # Models without a latent make one, and unlike counts would never share a table.
        num_samples=1,
        options=EvaluationOptions(checkpoint="last", judge_seed=suite.judge_seed, cache=judges),
    )
    save_record(record, job.run / "evals")
    shown = (predictions.parted, predictions.samples, predictions.baselines)
    for index, source in enumerate(predictions.names[:NUM_IMAGES]):
        stem = job.run / "predictions" / image_name(source)
        write_prediction(stem, *shown, data.store.fps, index)


def _draw_systems(jobs: Sequence[Job], out: Path) -> None:
    """Write a strip with one clip of every system; systems of another length get another strip."""
    strips: dict[int, list[LabelledClip]] = {}
    for job in jobs:
        data = open_clips(load_config(str(job.run)), lambda _: None)
        real, made = _one_clip(job, data)
        strips.setdefault(real.frames.shape[1], [real]).append(made)
    for length, rows in strips.items():
        write_strip(out / f"samples-{length}.png", rows)


def _one_clip(job: Job, data: ClipDataset) -> tuple[LabelledClip, LabelledClip]:
    """A real held-out clip, and what the system makes of its class or of its first frames."""
    generator = load_generator(job.run, "last")
    clips, labels = data.real_clips(1, 0, data.heldout_split)
    latents = sample_latents(generator, [0])
    asked = labels if generator.num_classes else None
    real = LabelledClip("real", clips[0], clips.shape[2])
    if not generator.context_frames:
        return real, LabelledClip(job.label, sample_clips(generator, latents, asked)[0], 0)
    parted = part_windows(generator, clips)
    made = sample_clips(generator, latents, asked, parted.context)
    *_, row = rows_of_clip(parted, parted.new_frames(generator, made)[:, None], {})
    return real, replace(row, name=job.label)


def _protocol(suite: Suite) -> Protocol:
    protocol = find_protocol(suite.protocol)
    return replace(protocol, num_clips=suite.num_clips) if suite.num_clips else protocol


def _facts(suite: Suite) -> dict[str, Any]:
    budget = suite.budget
    spent = (
        f"{budget.clips:,} clips"
        if budget.clips is not None
        else f"{budget.device_seconds:g} device-seconds"
    )
    return {
        "budget of a run": spent,
        "seeds": ", ".join(map(str, suite.seeds)),
        "data": Path(suite.data).name
        if suite.data
        else f"{suite.motions.videos:,} rendered videos",
        "threads": suite.threads,
        "processor": processor_id(),
        "made with": f"vidgan {code_version()}",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
