"""Training output: lines of JSON in the run folder, and progress on stderr."""

import json
import math
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidgan.core import progress
from vidgan.core.files import parse_json, read_text, write_text_atomically
from vidgan.core.progress import say
from vidgan.core.settings import MAX_INT
from vidgan.errors import UserError, counted
from vidgan.training.checkpoint import RunState
from vidgan.training.schedule import Schedule

LOG_FILE = "log.jsonl"
MAX_NAMED = 5
"""Damaged lines that are named by their number."""
PLAIN_INTERVAL_S = 10.0
"""Seconds between lines of progress where there is no terminal to redraw."""


class LogFile:
    """The run's `log.jsonl`: one line of numbers every few steps."""

    def __init__(self, run: str | Path, last_step: int) -> None:
        """Open the log and drop lines beyond `last_step`, which are about to be written again."""
        self.path = Path(run) / LOG_FILE
        self.rewind(last_step)

    def rewind(self, last_step: int) -> None:
        """Drop lines beyond a step, and a last line that a kill cut short.

        Damaged ones before stay, so that whoever looks at the run later learns of them.
        """
        kept = _up_to(_rows_of(self.path), last_step)
        text = "".join(f"{line}\n" if record is None else _line(record) for line, record in kept)
        write_text_atomically(self.path, text)
        self.lines = [record for _, record in kept if record is not None]

    def append(self, record: dict[str, Any]) -> None:
        """Add one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(record))
        self.lines.append(record)


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The records of a `log.jsonl`; lines that are not whole or do not fit are left out.

    A line ends with the CRC-32 of what stands before it; logs of earlier versions have none.
    """
    return [record for _, record in _rows_of(path) if record is not None]


def read_spans(path: str | Path) -> list[tuple[int | None, dict[str, Any]]]:
    """The records of a `log.jsonl`, each with the step that its means begin after.

    That is the step of the line before it; None where this line is damaged, or not before it.
    """
    found = []
    before: int | None = 0
    for _, record in _rows_of(path):
        if record is None:
            before = None
            continue
        step = record["step"]
        found.append((before if before is not None and before < step else None, record))
        before = step
    return found


def count_lines(path: str | Path) -> int:
    """Lines of a `log.jsonl`, whatever they hold."""
    return len(_lines_of(path))


def damaged_lines(path: str | Path) -> list[str]:
    """A sentence on the lines that `read_log` leaves out, if there are any."""
    numbers = [number for number, (_, record) in enumerate(_rows_of(path), 1) if record is None]
    if not numbers:
        return []
    is_one = len(numbers) == 1
    more = f" and {len(numbers) - MAX_NAMED} more" if len(numbers) > MAX_NAMED else ""
    named = f"line{'s'[is_one:]} {', '.join(map(str, numbers[:MAX_NAMED]))}{more}"
    what = f"{path} has {counted(len(numbers), 'damaged line')} ({named})"
    return [f"{what}, whose numbers are lost: delete {'it' if is_one else 'them'}"]


def lost_lines(log: Sequence[Mapping[str, Any]], step: int) -> list[str]:
    """A sentence on a log that does not reach a checkpoint, which is written after its line."""
    if (log[-1]["step"] if log else 0) >= step:
        return []
    if not log:
        what = f"{LOG_FILE} is lost, although there is a checkpoint of step {step}"
        return [f"{what}: its curves cannot be shown, and all else works without it"]
    return [f"{LOG_FILE} ends before the checkpoint of step {step}: lines are missing"]


Row = tuple[str, dict[str, Any] | None]
"""A line of a log and its record; None if the line is damaged."""


def _rows_of(path: str | Path) -> list[Row]:
    lines = _lines_of(path)
    is_checked = any(_CHECKSUM in line for line in lines)
    return [(line, _record_of(line, is_checked)) for line in lines]


def _up_to(rows: Sequence[Row], last_step: int) -> list[Row]:
    """The rows up to a step, at which a checkpoint is; damaged ones after a row of its own go."""
    end = step = 0
    for number, (_, record) in enumerate(rows, 1):
        if record is not None and record["step"] <= last_step:
            end, step = number, record["step"]
    while step < last_step and end < len(rows) and rows[end][1] is None:
        end += 1
    return [row for row in rows[:end] if row[1] is None or row[1]["step"] <= last_step]


def _lines_of(path: str | Path) -> list[str]:
    try:
        return read_text(path, errors="replace").splitlines()
    except FileNotFoundError:
        return []


_CHECKSUM = ', "crc32": '


def _line(record: dict[str, Any]) -> str:
    text = json.dumps(record)
    return f"{text[:-1]}{_CHECKSUM}{zlib.crc32(text.encode())}}}\n"


def _record_of(line: str, is_checked: bool) -> dict[str, Any] | None:
    """The record in a line; None if the line is damaged."""
    start, mark, checksum = line.rpartition(_CHECKSUM)
    text = start + "}" if mark else line
    if is_checked and checksum != f"{zlib.crc32(text.encode())}}}":
        return None
    try:
        record = parse_json(text, "a line")
    except UserError:
        return None
    return record if _fits(record) else None


def _fits(record: dict[str, Any]) -> bool:
    """Whether the fields that readers use are as `Recorder` writes them."""
    counts = [record.get("step"), record.get("clips_seen"), record.get("level", 0)]
    alpha, seconds = record.get("alpha", 1.0), record.get("device_seconds", 0.0)
    numbers = [alpha, seconds, record.get("clips_per_second", 0.0)]
    return (
        all(type(count) is int and 0 <= count <= MAX_INT for count in counts)
        and all(type(number) in (int, float) for number in numbers)
        and 0 <= alpha <= 1
        and 0 <= seconds < math.inf
    )


class Speed:
    """Clips per second, and the remaining time.

    Levels differ in cost, so the rest is judged by work: see `work_between`.

    Args:
        schedule: of the run.
        clips_seen: real clips shown so far.
        total_s: what the whole run was measured to take, if it was.
        num_warm: first intervals that are forgotten after the next one: on a card CUDA graphs are
            captured in the first steps, which are far slower than all others.
    """

    def __init__(
        self,
        schedule: Schedule,
        clips_seen: int,
        total_s: float | None = None,
        num_warm: int = 0,
    ) -> None:
        self._schedule = schedule
        self._time_s = time.monotonic()
        self._clips = clips_seen
        self._work_per_s = work_between(schedule, 0, schedule.total) / total_s if total_s else 0.0
        self._weights = [] if total_s else [1.0] * (num_warm + 1)
        self.clips_per_second = 0.0

    def update(self, clips_seen: int) -> None:
        """Measure from the last call to now."""
        now_s = time.monotonic()
        elapsed_s = max(now_s - self._time_s, 1e-9)
        rate = work_between(self._schedule, self._clips, clips_seen) / elapsed_s
        self.clips_per_second = (clips_seen - self._clips) / elapsed_s
        # A running mean: one slow interval (a checkpoint, another program) should not move it far.
        weight = self._weights.pop() if self._weights else 0.2
        self._work_per_s += weight * (rate - self._work_per_s)
        self._time_s, self._clips = now_s, clips_seen

    def restart(self, clips_seen: int) -> None:
        """Restart measuring, after a roll-back or a pause."""
        self._time_s, self._clips = time.monotonic(), clips_seen

    def remaining_seconds(self, clips: int | None = None) -> float:
        """Seconds until so many clips were shown, by default all, at the present speed."""
        end = self._schedule.total if clips is None else clips
        left = work_between(self._schedule, self._clips, end)
        return left / self._work_per_s if self._work_per_s else 0.0


class DeviceClock:
    """Seconds of a device that training took: of all its cores on a CPU, else of the wall."""

    def __init__(self, device: str) -> None:
        self._now_s = time.process_time if device == "cpu" else time.monotonic
        self._last_s = self._now_s()

    def lap(self) -> float:
        """Seconds since the last lap, or the start."""
        before, self._last_s = self._last_s, self._now_s()
        return self._last_s - before


VOXEL_EXPONENT = 0.6
"""Channels shrink as clips grow: a step of the Progressive Video GAN on one CPU thread took
2.7, 10 and 18 ms a clip of 64, 512 and 2,048 voxels."""


def work_between(schedule: Schedule, first: int, last: int) -> float:
    """Cost of the clips number `first` to `last` of a run, in clips of one voxel."""
    work = 0.0
    ends = (*schedule.starts[1:], max(schedule.total, last))
    for shape, start, end in zip(schedule.levels, schedule.starts, ends, strict=True):
        clips = max(0, min(last, end) - max(first, start))
        work += clips * (shape.frames * shape.resolution**2) ** VOXEL_EXPONENT
    return work


class Console:
    """Progress on stderr: a bar on a terminal, otherwise occasional lines."""

    def __init__(self, schedule: Schedule, state: RunState) -> None:
        self._total = schedule.total
        self._last_line_s = 0.0
        self._bar: Any = None
        if sys.stderr.isatty():
            self._bar, self._task = _make_bar(schedule.total, state.clips_seen)

    def show(self, state: RunState, speed: Speed) -> None:
        """Show where training stands."""
        left = in_time(speed.remaining_seconds())
        stage = stage_in_words(state)
        if self._bar is not None:
            rate = f"{speed.clips_per_second:.1f} clips/s"
            text = f"{stage} | {rate} | {left} left"
            progress.start(self._bar)
            self._bar.update(self._task, completed=state.clips_seen, text=text)
        elif time.monotonic() - self._last_line_s >= PLAIN_INTERVAL_S:
            self._last_line_s = time.monotonic()
            done = f"{state.clips_seen:,} of {self._total:,} clips"
            rate = f"{speed.clips_per_second:.1f} clips/s"
            say(f"step {state.step}: {done}, {stage}, {rate}, {left} left")

    def close(self) -> None:
        """Restore the terminal."""
        if self._bar is not None:
            progress.stop(self._bar)


def _make_bar(total: int, done: int) -> tuple[Any, Any]:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    bar = Progress(*columns, console=RichConsole(stderr=True))
    return bar, bar.add_task("training", total=total, completed=done, text="")


def stage_in_words(state: RunState) -> str:
    """The stage as progress lines name it."""
    stage = state.stage
    fade = "" if stage.alpha == 1 else f", fading in {stage.alpha:.0%}"
    return f"{stage.frames}x{stage.resolution}x{stage.resolution}{fade}"


def in_time(seconds: float) -> str:
    """Seconds as `1 h 02 min`, `3 min 04 s` or `5 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
