"""Progress of long work, on stderr: a bar with the time that is left, or now and then a line."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vidgan.core import terminal

SECONDS_BETWEEN_LINES = 10.0
"""Where stderr is no terminal, such as a log file, a line is written this often."""


@contextmanager
def progress_on_stderr() -> Iterator[Callable[[int, int, str], None]]:
    """A function to be called with (done, total, what) as work goes on."""
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
        terminal.start(bar)
        bar.update(tasks[what], completed=done, total=total)
        if bar.finished:
            # What comes next, perhaps for minutes, shows itself.
            terminal.stop(bar)
            bar.remove_task(tasks.pop(what))

    try:
        yield show
    finally:
        terminal.stop(bar)


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
        print(f"{what}: {done} of {total}{ending}", file=sys.stderr, flush=True)
