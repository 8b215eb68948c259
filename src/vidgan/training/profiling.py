"""What steps spend their time on: a table for people and a trace for a viewer."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch

from vidgan.core.files import write_file_atomically, write_text_atomically
from vidgan.core.progress import Notify
from vidgan.errors import counted
from vidgan.training.step import Logs

WARM_UP = 3
"""Steps that come before: the first ones set up what later ones find."""
ROWS = 40
FOLDER, TABLE, TRACE = "profile", "table.md", "trace.json"


class StepProfiler:
    """Takes steps, some of them under torch's profiler, and then writes what was found.

    Left as a context, it writes what a run that ended early had found. A profiler that is on when
    Python ends brings the process down.

    Args:
        run: run folder; `profile/` in it gets the two files.
        steps: to be profiled, after a few others; 0 for none.
        device: that computes.
        notify: takes the sentence about the files.
    """

    def __init__(self, run: Path, steps: int, device: torch.device, notify: Notify) -> None:
        self.folder, self.steps, self.device, self.notify = run / FOLDER, steps, device, notify
        self.taken = self.profiled = 0
        self.profile: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.profile is not None:
            self.end(fine=kind is None or issubclass(kind, SystemExit))

    def __call__(self, take: Callable[[], Logs]) -> Logs:
        """Take a step."""
        number, self.taken = self.taken, self.taken + 1
        if not WARM_UP <= number < WARM_UP + self.steps:
            return take()
        if self.profile is None:
            activity = torch.profiler.ProfilerActivity
            # Its library else reports start and stop on stderr.
            os.environ.setdefault("KINETO_LOG_LEVEL", "6")
            on_card = [activity.CUDA] if self.device.type == "cuda" else []
            self.profile = torch.profiler.profile(activities=[activity.CPU, *on_card])
            self.profile.start()
        logs = take()
        self.profiled += 1
        if self.profiled == self.steps:
            self.end()
        return logs

    def end(self, fine: bool = True) -> None:
        """Switch the profiler off, and write both files unless the steps failed."""
        if fine and self.device.type == "cuda":
            torch.cuda.synchronize()
        self.profile.stop()
        if fine and self.profiled:
            self.write()
        self.profile = None

    def write(self) -> None:
        """Write both files."""
        self.folder.mkdir(exist_ok=True)
        write_text_atomically(self.folder / TABLE, self.table())
        write_file_atomically(
            self.folder / TRACE, lambda path: self.profile.export_chrome_trace(str(path))
        )
        self.notify(
            f"profile of {counted(self.profiled, 'step')}: {self.folder / TABLE}; {TRACE} beside "
            "it opens in Perfetto or chrome://tracing"
        )

    def table(self) -> str:
        """Operators by the time that they alone took, longest first."""
        on_card = self.device.type == "cuda"
        spent = "self_device_time_total" if on_card else "self_cpu_time_total"
        rows = sorted(self.profile.key_averages(), key=lambda row: -getattr(row, spent))
        total = sum(getattr(row, spent) for row in rows) or 1.0
        where = "GPU" if on_card else "CPU"
        ms = total / 1e3 / self.profiled
        steps = counted(self.profiled, "step")
        lines = [
            f"# {steps} after {WARM_UP} others: {ms:.3g} ms of {where} time a step\n",
            "| operator | ms a step | share | calls a step |",
            "| --- | --- | --- | --- |",
        ]
        for row in rows[:ROWS]:
            us = getattr(row, spent)
            lines.append(
                f"| {row.key[:100]} | {us / 1e3 / self.profiled:.3g} | {us / total:.1%} | "
                f"{row.count / self.profiled:.3g} |"
            )
        return "\n".join(lines) + "\n"
