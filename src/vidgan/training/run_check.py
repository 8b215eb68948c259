"""What a run folder is worth, and where two runs part."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from vidgan.core.files import read_json
from vidgan.core.settings import differences
from vidgan.errors import UserError
from vidgan.sampling.storage import (
    GENERATOR_FILE,
    checkpoint_folder,
    checkpoint_steps,
    pointer_flaws,
    read_state,
)
from vidgan.training.checkpoint import DAMAGED_MARK, check_checkpoint, leftovers
from vidgan.training.doctor import looks_of
from vidgan.training.logs import LOG_FILE, damaged_lines, lost_lines, read_log, read_spans
from vidgan.training.presets import (
    CONFIG_FILE,
    Config,
    config_to_dict,
    load_run_config,
)
from vidgan.training.run_folder import (
    ENVIRONMENT_FILE,
    ENVIRONMENT_REMEDY,
    check_not_emptied,
    foreign_checkpoint,
    is_training,
    reached,
    read_clip_facts,
)


@dataclass(frozen=True)
class RunCheck:
    """What was found in a run folder.

    Attributes:
        facts: plain values by name.
        problems: what is wrong, a sentence each.
        next: what to do now, a command or a sentence.
    """

    facts: dict[str, Any]
    problems: tuple[str, ...]
    next: str


def check_run(run: Path) -> RunCheck:
    """Look at settings, data, checkpoints, log, disk and device of a run; nothing is changed.

    Raises:
        UserError: the folder holds no run.
    """
    if not (run / CONFIG_FILE).is_file():
        raise UserError(f"{run} holds no {CONFIG_FILE}, so it is no run of vidgan train")
    problems: list[str] = []
    config = None
    try:
        config = load_run_config(run)
    except UserError as error:
        problems.append(f"the settings cannot be read: {error}")
    whole, damaged = _checkpoints(run)
    problems += damaged
    pointers = pointer_flaws(run)
    problems += pointers
    log = read_log(run / LOG_FILE)
    problems += _log_problems(run, log, whole)
    foreign = []
    if config is not None:
        problems += _place_problems(run, config, whole)
        foreign = [found for n in whole if (found := foreign_checkpoint(run, config, n))]
        problems += foreign
    trains = is_training(run)
    halves = [] if trains else [path.name for path in leftovers(run)]
    total = None if config is None else config.training.total_clips
    step, seen = reached(run, log, whole)
    looks = [look for line in log if (look := looks_of(line)) is not None]
    # Lines of the log outlive checkpoints that are gone; what is left of a run are the latter.
    ends = bool(whole) and whole[-1] >= step
    finished = total is not None and seen >= total and ends
    facts = {
        "run": str(run),
        "state": "training now" if trains else "finished" if finished else "unfinished",
        "step": step,
        "clips_seen": seen,
        "total_clips": total,
        "whole_checkpoints": whole,
        "half_written": halves,
        "last_look": looks[-1].get("verdict") if looks else None,
        "free_disk_gib": round(shutil.disk_usage(run).free / 2**30, 1),
    }
    if looks:
        problems += [f"training doctor: {one['sentence']}" for one in looks[-1]["findings"]]
    if config is None and not trains:
        proposal = f"put {run / CONFIG_FILE} back from a copy: without it nothing can go on"
    elif foreign:
        proposal = f"put {run / CONFIG_FILE} or the checkpoints of this run back from a copy"
    elif finished and any("last.json" in flaw for flaw in pointers):
        proposal = f"vidgan train {run} (writes last.json again)"
    else:
        proposal = _next(run, trains, finished, whole, damaged)
    return RunCheck(facts, tuple(problems), proposal)


def _checkpoints(run: Path) -> tuple[list[int], list[str]]:
    """Steps of whole checkpoints, and what is wrong with the others."""
    whole, wrong = [], []
    for step in checkpoint_steps(run):
        flaw = check_checkpoint(checkpoint_folder(run, step), step)
        if flaw is None:
            whole.append(step)
        else:
            wrong.append(f"checkpoint step-{step} is damaged: {flaw}")
    try:
        check_not_emptied(run)
    except UserError as error:
        wrong.append(str(error))
    wrong += [
        f"{path.name} was set aside by an earlier call"
        for path in sorted((run / "checkpoints").glob(f"{DAMAGED_MARK}*"))
    ]
    return whole, wrong


def _environment(run: Path, problems: list[str]) -> dict[str, Any]:
    """`environment.json` of a run; nothing, and a sentence more in `problems`, if it is damaged."""
    try:
        return read_json(run / ENVIRONMENT_FILE)
    except (OSError, UserError) as error:
        problems.append(
            f"the environment of {run} is unknown ({error}): vidgan train {run} "
            f"{ENVIRONMENT_REMEDY}"
        )
        return {}


def _log_problems(run: Path, log: Sequence[Mapping[str, Any]], whole: Sequence[int]) -> list[str]:
    problems = damaged_lines(run / LOG_FILE)
    for before, after in pairwise(log):
        if after["step"] <= before["step"] or after["clips_seen"] < before["clips_seen"]:
            problems.append(
                f"{LOG_FILE} goes back from step {before['step']} to step {after['step']}"
            )
            break
    return problems + lost_lines(log, max(whole, default=0))


def _place_problems(run: Path, config: Config, whole: Sequence[int]) -> list[str]:
    """What of the machine does not suit the run."""
    problems = []
    try:
        read_clip_facts(run)
    except UserError as error:
        problems.append(str(error))
    if "://" not in config.data.path and not Path(config.data.path).exists():
        problems.append(f"the videos are not at {config.data.path}: name their place with data=")
    device = str(_environment(run, problems).get("device"))
    if device.startswith("cuda") and not torch.cuda.is_available():
        problems.append("it was trained on a GPU, and torch sees none here")
    if whole:
        folder = checkpoint_folder(run, whole[-1])
        needed = sum(file.stat().st_size for file in folder.iterdir())
        free = shutil.disk_usage(run).free
        if free < needed:
            problems.append(
                f"the disk has {free / 2**20:,.0f} MiB left and a checkpoint takes "
                f"{needed / 2**20:,.0f}"
            )
    return problems


def _next(
    run: Path, trains: bool, finished: bool, whole: Sequence[int], damaged: Sequence[str]
) -> str:
    if trains:
        return f"open {run / 'index.html'}; it trains now"
    if damaged and not whole:
        return f"bring {run / 'checkpoints'} back from a copy, or train in another folder"
    newest = max(checkpoint_steps(run), default=0)
    if whole and newest > whole[-1]:
        return (
            f"vidgan train {run} (sets the damaged step-{newest} aside and goes on from step "
            f"{whole[-1]})"
        )
    if finished:
        return f"vidgan evaluate {run}"
    where = f"step {whole[-1]}" if whole else "the start"
    return f"vidgan train {run} (goes on from {where})"


# ------------------------------------------------------------------------------------------------
# Two runs


@dataclass(frozen=True)
class RunDifference:
    """Where two runs part.

    Attributes:
        settings: differing settings, as `key: first, second`; the folder is not one.
        environment: differing facts of the machines, likewise.
        same_until: last step, before they part, up to which the runs are shown to be the same; None
            if there is none.
        parts_at: first step at which they are shown to differ; None if none is.
        numbers: there, what differs: numbers of the log, or files of the checkpoint.
        checkpoints: steps that both have, with `same` or the files that differ.
        damaged: what could not be compared, a sentence each.
    """

    settings: tuple[str, ...]
    environment: tuple[str, ...]
    same_until: int | None
    parts_at: int | None
    numbers: tuple[str, ...]
    checkpoints: dict[int, str]
    damaged: tuple[str, ...]


Unlike = Mapping[int, Sequence[str]]
"""By step, what differs there between two runs: nothing where they are the same."""


def compare_runs(first: Path, second: Path) -> RunDifference:
    """Find the first step at which two runs are shown to differ, and what else is different.

    Raises:
        UserError: one folder holds no run.
    """
    for run in (first, second):
        if not (run / CONFIG_FILE).is_file():
            raise UserError(f"{run} holds no {CONFIG_FILE}, so it is no run of vidgan train")
    settings = differences(*(config_to_dict(load_run_config(run)) for run in (first, second)))
    damaged = [flaw for run in (first, second) for flaw in damaged_lines(run / LOG_FILE)]
    files, unusable = _compare_checkpoints(first, second)
    # What the average makes of the weights does not act on training.
    saved = {step: [n for n in names if n != GENERATOR_FILE] for step, names in files.items()}
    lines = _compare_lines(first, second)
    same, parts, unlike = first_difference(lines, saved)
    damaged += _contradictions(lines, same)
    unread: list[str] = []
    environments = [_environment(run, unread) for run in (first, second)]
    damaged += [*unread, *unusable.values()]
    verdicts = {s: f"{', '.join(names)} differ" if names else "same" for s, names in files.items()}
    return RunDifference(
        settings=tuple(f"{d.key}: {d.first}, {d.second}" for d in settings if d.key != "run"),
        environment=tuple(unread or _unlike_environments(*environments)),
        same_until=same,
        parts_at=parts,
        numbers=tuple(unlike),
        checkpoints=dict(sorted((verdicts | unusable).items())),
        damaged=tuple(damaged),
    )


def first_difference(lines: Unlike, saved: Unlike) -> tuple[int | None, int | None, list[str]]:
    """Where two runs are shown to part.

    Runs that are the same at a step had not parted before it. Checkpoints show both; losses that
    are the same show it less surely, since weights may differ by too little to be seen in them.

    Args:
        lines: of log lines that stand for the same steps.
        saved: of checkpoints.

    Returns:
        Last step before they part at which they are the same, first one at which they differ, and
        what differs there.
    """
    same_saved = max(_same(saved), default=-1)
    same = max((same_saved, *_same(lines)))
    parting = {step: list(lines[step]) for step in lines if lines[step] and step > same}
    for step in saved:
        if saved[step] and step > same_saved:
            parting.setdefault(step, []).extend(f"checkpoint: {name}" for name in saved[step])
    parts = min(parting, default=None)
    before = [step for step in (*_same(saved), *_same(lines)) if parts is None or step < parts]
    return max(before, default=None), parts, parting.get(parts, []) if parts is not None else []


def _same(unlike: Unlike) -> list[int]:
    return [step for step, names in unlike.items() if not names]


def _contradictions(lines: Unlike, same_until: int | None) -> list[str]:
    """A sentence on the first line that differs although the runs are the same later."""
    wrong = [step for step in lines if lines[step] and step <= (same_until or 0)]
    if not wrong:
        return []
    told = (
        f"the lines of step {wrong[0]} differ ({'; '.join(lines[wrong[0]])}), although the runs are"
        f" the same at step {same_until}: one of them was edited, or another version wrote it"
    )
    return [told]


def _compare_lines(first: Path, second: Path) -> dict[int, list[str]]:
    """By step at which both logs have a line: the numbers that differ.

    Means are compared if both lines stand for the same steps; where they don't, only lines are
    there whose other numbers differ.
    """
    logs = [
        {record["step"]: (start, record) for start, record in read_spans(run / LOG_FILE)}
        for run in (first, second)
    ]
    found = {}
    for step in sorted(logs[0].keys() & logs[1].keys()):
        (start, one), (other_start, other) = logs[0][step], logs[1][step]
        is_whole = start is not None and start == other_start
        unlike = list(_unlike(one, other, with_means=is_whole))
        if unlike or is_whole:
            found[step] = unlike
    return found


MOVED = ("clips_seen", "level", "frames", "resolution", "alpha", "attempt")
"""Numbers of a log line, beside the losses, that training decides; all others are of the clock."""


def _unlike(first: Mapping[str, Any], second: Mapping[str, Any], with_means: bool) -> Iterator[str]:
    """Numbers of training that differ in a bit, or stand in one line alone."""
    for key in dict.fromkeys((*first, *second)):
        if key not in MOVED and not (with_means and "/" in key):
            continue
        a, b = first.get(key), second.get(key)
        if a != b and not (a != a and b != b):
            yield f"{key}: {a!r}, {b!r}"


def _unlike_environments(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys((*first, *second)):
        a, b = first.get(key), second.get(key)
        # What was found of gradients carries times.
        if a != b and key != "gradient_checks":
            yield f"{key}: {a}, {b}"


def _have_same_tensors(name: str, folders: Sequence[Path]) -> bool:
    """Whether files of tensors differ in their notes alone, such as the seconds of a training."""
    if not name.endswith(".safetensors") or not all((each / name).is_file() for each in folders):
        return False
    first, second = (load_file(folder / name) for folder in folders)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def _compare_checkpoints(first: Path, second: Path) -> tuple[dict[int, list[str]], dict[int, str]]:
    """By step that both have: the files that hold something else; and which cannot be compared."""
    found, damaged = {}, {}
    for step in sorted({*checkpoint_steps(first)} & {*checkpoint_steps(second)}):
        hashes = []
        folders = [checkpoint_folder(run, step) for run in (first, second)]
        for folder in folders:
            if check_checkpoint(folder, step) is None:
                hashes.append(read_state(folder)["sha256"])
            else:
                damaged[step] = f"{folder} is damaged"
        if len(hashes) == 2:
            found[step] = [
                name
                for name in hashes[0]
                if hashes[0][name] != hashes[1].get(name) and not _have_same_tensors(name, folders)
            ]
    return found, damaged
