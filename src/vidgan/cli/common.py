"""What the verbs share: command-line words, printing, and finding the run."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from vidgan.core import progress
from vidgan.core.escaping import terminal as escaped
from vidgan.core.progress import say
from vidgan.errors import UserError, printable

if TYPE_CHECKING:
    from vidgan.data.dataset import ClipDataset
    from vidgan.data.settings import DataConfig
    from vidgan.evaluation.record_types import Record
    from vidgan.report.page import Status
    from vidgan.training.presets import Config

Run = Annotated[str, tyro.conf.arg(metavar="RUN")]
Out = Annotated[Path, tyro.conf.arg(metavar="OUT")]
Words = Annotated[tuple[str, ...], tyro.conf.arg(metavar="[KEY=VALUE ...]")]
ClassName = Annotated[str | None, tyro.conf.arg(name="class")]

Group = TypeVar("Group")
Flags = Annotated[Group, tyro.conf.arg(name="")]
"""A dataclass whose fields are flags of a verb."""

SECONDS_BETWEEN_LINES = 10.0
"""Interval of progress lines where stderr is not a terminal."""

# ------------------------------------------------------------------------------------------------
# Printing


def print_lines(*values: object, end: str = "\n") -> None:
    """Print human-readable lines to stdout with terminal control characters escaped."""
    print(escaped("\n".join(map(str, values))), end=end)


def print_json(value: Any) -> None:
    """Print plain values as one JSON document."""
    print(json.dumps(value, indent=2, allow_nan=False, default=str))


def print_made(out: str | Path, as_json: bool, **facts: Any) -> None:
    """Print the place of what a verb made, or a JSON document of it and facts about it."""
    if as_json:
        print_json({"out": str(out), **facts})
    else:
        print_lines(out)


def print_note(sentence: str) -> None:
    """Print a remark to stderr, if there is one."""
    if sentence:
        print(printable(sentence), file=sys.stderr)


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as an aligned table, numbers to the right, nothing for absent values."""
    cells = [[in_words(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    numeric = [
        all(isinstance(row.get(column), int | float | None) for row in rows) for column in columns
    ]
    for line in [list(columns), *cells]:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        print_lines("  ".join(padded).rstrip())


def in_words(value: Any) -> str:
    """A human-readable value: thousands separated, four digits of a float, `yes` and `no`."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


# ------------------------------------------------------------------------------------------------
# Progress of long work, on stderr: a bar with the time that is left, or now and then a line


@contextmanager
def progress_on_stderr() -> Iterator[progress.Progress]:
    """A callback (done, total, what) that shows progress."""
    if not sys.stderr.isatty():
        yield _Lines()
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    tasks: dict[str, Any] = {}

    def show(done: int, total: int, what: str) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        progress.start(bar)
        bar.update(tasks[what], completed=done, total=total)
        if bar.finished:
            # Show what comes next, which may take minutes.
            progress.stop(bar)
            bar.remove_task(tasks.pop(what))

    try:
        yield show
    finally:
        progress.stop(bar)


class _Lines:
    """Plain lines, at most one in `SECONDS_BETWEEN_LINES` and one at the end of each piece."""

    def __init__(self) -> None:
        self.started: dict[str, float] = {}
        self.last = time.monotonic()

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        started = self.started.setdefault(what, now)
        if done < total and now - self.last < SECONDS_BETWEEN_LINES:
            return
        self.last = now
        left = (now - started) / max(done, 1) * (total - done)
        ending = f", about {left:.0f} s left" if done < total else ""
        print(printable(f"{what}: {done} of {total}{ending}"), file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------
# The run or generator that a verb is about, and its data


def config_of_run(source: str, words: tuple[str, ...]) -> "Config | None":
    """The settings of a run folder; None for a generator outside a run folder."""
    from vidgan.training.presets import load_config

    if not (Path(source) / "config.yaml").exists():
        return None
    refuse_unknown_metric(words)
    other = data_of_run(words)
    if other is None:
        return load_config(source, words)
    config = load_config(
        source, [word for word in words if not word.startswith(("data=", "data."))]
    )
    size = config.data.frames, config.data.resolution
    return replace(config, data=clips_like(other, size, words))


def refuse_unknown_metric(words: Sequence[str]) -> None:
    """Refuse `best.metric=NAME` of no metric, before hours have been spent on it."""
    from vidgan.evaluation.metric import find_metric

    for word in words:
        if word.startswith("best.metric="):
            find_metric(word.removeprefix("best.metric="))


def clips_like(
    other: "DataConfig | None", size: tuple[int, int], words: tuple[str, ...]
) -> "DataConfig":
    """Clips of a size, cut like those of another run, as far as the words do not say otherwise."""
    from vidgan.core.settings import apply_overrides, from_dict, to_dict
    from vidgan.data.settings import DataConfig

    settings = {} if other is None else to_dict(other)
    settings |= {"frames": size[0], "resolution": size[1]}
    if other is not None:
        words = tuple(word for word in words if not word.startswith("data="))
    given = [
        f"path={word.removeprefix('data=')}"
        if word.startswith("data=")
        else word.removeprefix("data.")
        for word in words
    ]
    return from_dict(DataConfig, apply_overrides(settings, given), "the settings of the data")


def data_of_run(words: tuple[str, ...]) -> "DataConfig | None":
    """The data of the run that `data=RUN` names; None where it names no run, or is not there."""
    from vidgan.training.presets import load_config

    named = [word.removeprefix("data=") for word in words if word.startswith("data=")]
    if not named or not (Path(named[-1]) / "config.yaml").is_file():
        return None
    found = load_config(named[-1]).data
    if not Path(found.path).exists() and not any(word.startswith("data.path=") for word in words):
        raise UserError(
            f"{found.path}, which {named[-1]} was trained on, is not there: name the place with"
            " data.path=FOLDER behind it"
        )
    return found


def tell_edited_settings(source: str, step: int | None) -> None:
    """Say so if the settings of a run are not those that the generator of a step was made with."""
    run = Path(source)
    if step is None or not (run / "config.yaml").is_file():
        return
    from vidgan.sampling.storage import DamagedError
    from vidgan.training.presets import load_run_config
    from vidgan.training.run_folder import foreign_checkpoint

    # A generator carries its settings: what is wrong with those of the run is for doctor to say.
    with suppress(OSError, UserError, DamagedError):
        if found := foreign_checkpoint(run, load_run_config(run), step):
            say(f"{run}: {found}; the generator is made by its own settings")


def open_data(
    source: str, words: tuple[str, ...], checkpoint: str
) -> tuple["Config | None", "ClipDataset"]:
    """The clips of a run, with its settings, or those named for a generator outside of its run."""
    from vidgan.data.build.packing import cached_build
    from vidgan.data.dataset import ClipDataset
    from vidgan.data.packed.store import open_store
    from vidgan.training.loop import open_clips

    config = config_of_run(source, words)
    if config is not None:
        return config, open_clips(config, say)
    settings = data_settings(source, words, checkpoint)
    with progress_on_stderr() as progress:
        store = open_store(cached_build(settings, progress=progress))
    return None, ClipDataset(store, settings, seed=0)


def data_settings(source: str, words: tuple[str, ...], checkpoint: str) -> "DataConfig":
    """How real clips are cut to the size of generated ones that come from outside of a run."""
    from vidgan.evaluation.gather import stored_size

    return clips_like(data_of_run(words), stored_size(source, checkpoint), words)


def write_page_of(run: Path) -> None:
    """Rewrite a run's page; log, checkpoints and lock say whether it is finished."""
    from vidgan.sampling.storage import checkpoint_steps
    from vidgan.training.logs import LOG_FILE, read_log
    from vidgan.training.page import write_page
    from vidgan.training.presets import load_run_config
    from vidgan.training.run_folder import is_training, reached

    total = load_run_config(run).training.total_clips
    log = read_log(run / LOG_FILE)
    is_complete = reached(run, log, checkpoint_steps(run))[1] >= total
    unfinished: Status = "training" if is_training(run) else "interrupted"
    for doubt in write_page(run, "done" if is_complete else unfinished, log):
        say(doubt)


def choose_best(run: Path, config: "Config", record: "Record") -> None:
    """Point `best.json` to the evaluated checkpoint if it is the best, and rewrite the page."""
    from vidgan.evaluation.generators import update_best

    metric = config.best.metric
    if metric not in record.scores:
        say(f"best.metric={metric} is not among the scores, so no checkpoint was chosen")
    elif update_best(run, record, metric):
        say(f"step {record.generator.step} is the best checkpoint so far")
    write_page_of(run)
