"""Checks of a run folder before training, and facts about finished runs."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vidgan.core.clip_ops import pool_uint8
from vidgan.core.files import read_bytes, read_json, read_sealed_json, take_lock
from vidgan.core.progress import Notify, say
from vidgan.core.settings import MAX_INT, from_dict
from vidgan.data.settings import DATA_FILE
from vidgan.errors import UserError
from vidgan.models.base import ClipShape
from vidgan.report.page import Medium, flatten
from vidgan.sampling.storage import (
    CHECKPOINTS_FOLDER,
    GENERATOR_FILE,
    DamagedError,
    checkpoint_folder,
    checkpoint_steps,
    read_card,
    read_state,
)
from vidgan.training.checkpoint import SETTINGS, leftovers
from vidgan.training.logs import LOG_FILE, count_lines, read_log
from vidgan.training.presets import (
    CONFIG_FILE,
    Config,
    check_same_settings,
    fixed_settings,
    load_run_config,
)
from vidgan.video import mp4_bytes, probe, read_frames

LOCK_FILE = ".lock"
ENVIRONMENT_FILE = "environment.json"
ENVIRONMENT_REMEDY = "writes it again, of this machine"
"""What training does about a lost or damaged one, as the end of a sentence."""


def check_run_folder(config: Config) -> None:
    """Refuse a folder that holds something else than this run.

    Raises:
        UserError: files that are not of a run, or a run with other settings or without the
            checkpoints that it wrote.
    """
    run = Path(config.run)
    if (run / CONFIG_FILE).exists():
        check_same_settings(run, load_run_config(run), config)
        check_not_emptied(run)
    elif run.exists() and not run.is_dir():
        raise UserError(f"run={run} is a file; name a folder for the run")
    elif run.exists():
        # A kill before the first checkpoint leaves no more than these.
        own = {run / LOCK_FILE, *leftovers(run)}
        foreign = sorted(item.name for item in run.iterdir() if item not in own)
        if foreign:
            raise UserError(
                f"run={run} holds other files and no {CONFIG_FILE} ({foreign[0]} is there); "
                f"name a new folder for the run"
            )


def check_not_emptied(run: Path) -> None:
    """Refuse a run whose checkpoints are gone, which training would begin anew on its old log.

    The first checkpoint comes before the first step: a kill before it leaves an empty log.

    Raises:
        UserError: no checkpoint is there, but what is only written after one.
    """
    if checkpoint_steps(run):
        return
    written = LOG_FILE if count_lines(run / LOG_FILE) else "last.json"
    if (run / written).exists():
        raise UserError(
            f"{run} holds the {written} of a run whose checkpoints are gone: bring "
            f"{run / CHECKPOINTS_FOLDER} back, or start in another folder with run=FOLDER"
        )


def foreign_checkpoint(run: Path, config: Config, step: int) -> str:
    """How one sees that a checkpoint is not of this run, in a sentence, or nothing."""
    here: dict[str, Any] = fixed_settings(config)
    # Damage of the facts is told where the data is opened.
    with suppress(UserError):
        if (clips := read_clip_facts(run)) is not None:
            here |= {"clip shape": [*clips.clip_shape], "classes": [*clips.classes]}
    folder = checkpoint_folder(run, step)
    card = read_card(folder / GENERATOR_FILE)
    kept = {"clip shape": [*card.clip_shape], "classes": [*card.class_names]}
    kept |= flatten({"model": card.model, "loss": {"name": card.loss}})
    kept |= read_state(folder).get(SETTINGS, {})
    unlike = [
        f"{key} is {kept[key]} there and {here[key]} here"
        for key in sorted(kept.keys() & here.keys())
        if kept[key] != here[key]
    ]
    if not unlike:
        return ""
    return f"checkpoint step-{step} is of another run, or the settings were edited: " + ", ".join(
        unlike
    )


def check_own_checkpoint(run: Path, config: Config, step: int) -> None:
    """Refuse to go on from a checkpoint of another run, or with settings that were edited.

    Raises:
        UserError: says what differs.
    """
    if found := foreign_checkpoint(run, config, step):
        raise UserError(
            f"{run}: {found}; put {CONFIG_FILE} or the checkpoints of this run back, or begin "
            f"another run with init_from={run} run=FOLDER"
        )


def check_same_data(run: str | Path, facts: dict[str, Any], notify: Notify) -> bool:
    """Refuse data that the run's networks were not built for, and point out other changes.

    Returns:
        Whether the run has recorded the same clips.

    Raises:
        UserError: the clips have another shape or other classes.
    """
    path = Path(run) / DATA_FILE
    if not path.exists():
        return False
    try:
        before = read_sealed_json(path, unsealed=True)
    except UserError as error:
        notify(f"{error}; it is rewritten from the data at hand")
        return False
    for key, what in (("clip_shape", "clips of shape"), ("classes", "classes")):
        if before.get(key) != facts[key]:
            raise UserError(
                f"{run} was trained on {what} {before.get(key)}, but the data now has "
                f"{facts[key]}; give the old data, or another folder with run=FOLDER"
            )
    # Of the same videos, another version of vidgan may hold out others.
    if any(before.get(key, facts[key]) != facts[key] for key in ("source_hash", "num_clips")):
        notify(
            f"the videos are not those that {run} began with ({before.get('num_clips')} clips "
            f"then, {facts['num_clips']} now); training continues with the new ones"
        )
        return False
    return True


def recorded_drops(run: Path) -> frozenset[tuple[str, str]]:
    """Name and reason of every video that a run has recorded as left out; none if it is unknown."""
    with suppress(UserError):
        if (facts := read_clip_facts(run)) is not None:
            return frozenset(facts.dropped)
    return frozenset()


@contextmanager
def run_lock(run: str | Path) -> Iterator[Callable[[], None]]:
    """Keep other processes from training in the same folder; the lock dies with this process.

    A folder that is made for it goes again if training fails before its first checkpoint.

    Yields:
        A check that the folder is still in its place, to be made before anything is written: a
        `UserError` says that it is not, where writing would begin another run there.

    Raises:
        UserError: another process trains there.
    """
    new = [folder for folder in (Path(run), *Path(run).parents) if not folder.exists()]
    Path(run).mkdir(parents=True, exist_ok=True)
    handle = os.open(Path(run) / LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        # Loader processes would inherit the lock, and hold it when this one has been killed.
        if not take_lock(handle, run, inherited=False):
            raise UserError(
                f"another process is training in {run}; wait for it or name another folder with "
                f"run=FOLDER"
            )
        check_place = partial(_check_place, Path(run), handle)
        try:
            yield check_place
        except Exception as error:
            # A save in progress when the folder was moved fails with another error.
            if isinstance(error, UserError | OSError):
                check_place()
            if new and not checkpoint_steps(run):
                _remove_folders(new)
            raise
    finally:
        os.close(handle)


def _remove_folders(made: Sequence[Path]) -> None:
    """Remove a folder, and the empty ones around it that were made for it."""
    shutil.rmtree(made[0], ignore_errors=True)
    with suppress(OSError):
        for parent in made[1:]:
            parent.rmdir()


def is_training(run: str | Path) -> bool:
    """Whether another process trains in a run folder right now; the folder is left as it is."""
    lock = Path(run) / LOCK_FILE
    try:
        # Whoever looks may have no right to write, nor the disk.
        handle = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        say(
            f"nobody can tell whether a process trains in {run}: {lock} cannot be read "
            f"({error.strerror})"
        )
        return False
    try:
        return not take_lock(handle, run, inherited=False, shared=True)
    finally:
        os.close(handle)


def _check_place(run: Path, handle: int) -> None:
    try:
        if os.path.samestat(os.fstat(handle), (run / LOCK_FILE).stat()):
            return
    except FileNotFoundError:
        pass
    raise UserError(
        f"{run} was moved or deleted while it was trained in: move it back, or name its new place"
        " with run=FOLDER; the same command continues from its newest checkpoint"
    )


# ------------------------------------------------------------------------------------------------
# Facts about a finished run: cost, sizes and clips

CHECKS = "gradient_checks"
"""Key under which the environment keeps what was found of each level's arithmetic."""
MAX_PREDICTIONS = 2
"""Videos of predictions that are shown of a run."""
MEDIUM_BYTES = 1 << 28
"""Longest video or image that a page takes in."""
_SAMPLE_NAME = re.compile(r"step-(0|[1-9]\d{0,14})\.mp4", re.ASCII)
VIDEO_WIDTH = 400
"""Pixels: a page of many systems shows videos about as wide, and embeds them no wider."""


def reached(run: Path, log: Sequence[Mapping[str, Any]], steps: Sequence[int]) -> tuple[int, int]:
    """How far a run came, in steps and clips seen: by its log, or where that lost lines, by the
    newest of its checkpoints `steps`."""
    known = (log[-1]["step"], log[-1]["clips_seen"]) if log else (0, 0)
    if not steps or steps[-1] <= known[0]:
        return known
    try:
        seen = read_state(checkpoint_folder(run, steps[-1])).get("clips_seen")
    except (OSError, DamagedError):
        seen = None
    if type(seen) is not int:
        return reached(run, log, steps[:-1])
    return steps[-1], seen


def device_seconds(run: Path) -> float | None:
    """Seconds that all devices of a run trained for, roll-backs not counted; None if unknown."""
    lines = read_log(run / LOG_FILE)
    if (
        not (run / ENVIRONMENT_FILE).is_file()
        or not lines
        or any("device_seconds" not in line for line in lines)
    ):
        return None
    processes = environment_facts(run)[0].get("processes")
    seconds = sum(line["device_seconds"] for line in lines)
    return float(seconds) * processes if type(processes) is int else None


def device_of(run: Path) -> str | None:
    """What a run was trained on, such as `2 x NVIDIA H200`; None if it does not say."""
    found, _ = environment_facts(run)
    name, count = found.get("device_name"), found.get("processes", 1)
    if not isinstance(name, str) or type(count) is not int:
        return None
    return f"{count} x {name}" if count > 1 else name


@dataclass(frozen=True, kw_only=True)
class ClipFacts:
    """What `data.json` of a run says of its clips, as far as others rely on it.

    Attributes:
        clip_shape: channels, frames, height, width.
        classes: their names; empty without labels.
        counts: clips by class, of the class "" without labels.
        num_clips: clips that the networks see.
        fps: frames a second.
        dropped: name and reason of every video that was left out.
    """

    clip_shape: tuple[int, int, int, int]
    classes: tuple[str, ...]
    counts: dict[str, int]
    num_clips: int
    fps: float
    dropped: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        sizes = (*self.clip_shape, *(number + 1 for number in self.counts.values()))
        if not all(0 < size <= MAX_INT for size in (*sizes, self.num_clips + 1)):
            raise UserError("a number of clips, frames or pixels is out of range")


def read_clip_facts(run: Path) -> ClipFacts | None:
    """The facts of `data.json`; None if there is none.

    Raises:
        UserError: it is damaged, or a part of it does not fit.
    """
    path = run / "data.json"
    if not path.exists():
        return None
    found = read_sealed_json(path, unsealed=True)
    known = {item.name: found[item.name] for item in fields(ClipFacts) if item.name in found}
    return from_dict(ClipFacts, known, str(path))


_OF_CHECK = ("sentence", "float32")


def read_environment(run: Path) -> dict[str, Any]:
    """What `environment.json` of a run holds; nothing before there is one.

    Raises:
        UserError: it is damaged.
    """
    try:
        return read_json(run / ENVIRONMENT_FILE)
    except FileNotFoundError:
        return {}
    except UserError as error:
        raise UserError(f"{error}; vidgan train {run} {ENVIRONMENT_REMEDY}") from error


def environment_facts(run: Path) -> tuple[dict[str, Any], list[str]]:
    """The plain values of `environment.json`, and the names of those that are left out.

    Kept are words, numbers, groups of them such as those of the processor, and what was found of
    each level's arithmetic.

    Raises:
        UserError: it is damaged.
    """
    found = read_environment(run)
    kept = {key: value for key, value in found.items() if _is_plain(value) or _is_group(value)}
    kept.pop(CHECKS, None)
    checks = found.get(CHECKS)
    if isinstance(checks, dict):
        fitting = {level: facts for level, facts in checks.items() if _is_check(facts)}
        # Other findings, such as lists of layers, are not shown on pages.
        fitting = {
            level: {key: facts[key] for key in _OF_CHECK}
            | ({"emulated": True} if facts.get("emulated") is True else {})
            for level, facts in fitting.items()
        }
        kept |= {CHECKS: fitting} if fitting or not checks else {}
    return kept, [key for key in found if key not in kept]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _is_group(value: Any) -> bool:
    """Whether a value is a group of plain ones and lists of words."""
    return isinstance(value, dict) and all(
        _is_plain(inner)
        or (isinstance(inner, list) and all(isinstance(word, str) for word in inner))
        for inner in value.values()
    )


def _is_check(facts: Any) -> bool:
    """Whether the findings on a level are what a page shows of them."""
    return isinstance(facts, dict) and all(isinstance(facts.get(key), str) for key in _OF_CHECK)


def count_parameters(run: Path) -> tuple[int, int] | None:
    """Parameters of the generator, and of all discriminators, at the last level; None for a run
    that does not say what its clips are like."""
    facts = read_clip_facts(run)
    if facts is None:
        return None
    with torch.device("meta"):
        gan = load_run_config(run).model.build(ClipShape(*facts.clip_shape), len(facts.classes))
    counts = {
        name: sum(parameter.numel() for _, parameter in network.parameters_in_use())
        for name, network in gan.networks.items()
    }
    return counts.pop("generator"), sum(counts.values())


def media_of(run: Path) -> Iterator[Medium]:
    """The newest samples of a run, its walk and its predictions."""
    steps = sample_videos(run)
    if steps:
        yield _video(steps[max(steps)], f"Samples at step {max(steps):,}")
    if (run / "interpolation.mp4").is_file():
        yield _video(run / "interpolation.mp4", "Walk through the latent space")
    predicted = (path for path in (run / "predictions").glob("*.mp4") if path.is_file())
    for path in sorted(predicted)[:MAX_PREDICTIONS]:
        yield _video(path, "Given frames (blue) and predicted ones (orange)")


def sample_videos(run: Path) -> dict[int, Path]:
    """The samples of a run by step; other files are ignored."""
    names = ((path, _SAMPLE_NAME.fullmatch(path.name)) for path in (run / "samples").glob("*.mp4"))
    return {int(found[1]): path for path, found in names if found and path.is_file()}


def _video(path: Path, title: str) -> Medium:
    return {"title": title, "mime": "video/mp4", "content": _fitted(path)}


def _fitted(path: Path) -> bytes:
    """The bytes of a video; one that is too wide is averaged over whole blocks of pixels first."""
    found = probe(path)
    factor = -(-found.width // VIDEO_WIDTH)
    if factor == 1:
        return read_bytes(path, MEDIUM_BYTES)
    clip = read_frames(path).clip
    height, width = (length - length % (2 * factor) for length in clip.shape[2:])
    return mp4_bytes(pool_uint8(clip[:, :, :height, :width], (1, factor, factor)), found.fps)
