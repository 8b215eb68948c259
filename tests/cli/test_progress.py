"""Progress of long work on stderr."""

import contextlib
import io
import os
import pty
import subprocess
import sys

import pytest

from vidgan.cli import common
from vidgan.cli.common import progress_on_stderr


class Terminal(io.StringIO):
    """Text that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress_on_stderr() as show:
        for done in range(1, 4):
            show(done, 3, "packing clips")
    assert "packing clips" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()


def test_a_file_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = [0.0]
    monkeypatch.setattr(common.time, "monotonic", lambda: seconds[0])
    with progress_on_stderr() as show:
        for done in range(1, 101):
            seconds[0] += 0.5
            show(done, 100, "packing clips")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "packing clips: 20 of 100, about 38 s left"
    assert lines[-1] == "packing clips: 100 of 100"
    assert len(lines) == 5


TWO_BARS = """
import time
from vidgan.cli.common import progress_on_stderr
from vidgan.models.base import LevelShape, Stage
from vidgan.training.checkpoint import RunState
from vidgan.training.logs import Console, Speed
from vidgan.training.schedule import make_schedule

schedule = make_schedule((LevelShape(4, 8),), 100, 0, 0, 4)
stage = Stage(level=0, frames=4, resolution=8, batch_size=4)
with progress_on_stderr() as show:
    for done in range(1, NUM_DONE + 1):
        show(done, 3, "rendering")
        time.sleep(0.1)
    console = Console(schedule, RunState(stage=stage))
    for step in range(1, 11):
        console.show(RunState(stage=stage, step=step, clips_seen=4 * step), Speed(schedule, 0))
        time.sleep(0.1)
    console.close()
    show(3, 3, "rendering")
print("the end", flush=True)
"""


def on_a_terminal(script: str) -> str:
    """What a program writes to a terminal of its own."""
    main, side = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=side, stderr=side, stdin=side, env=environment
    )
    os.close(side)
    said = b""
    # Reading fails once the program has closed its side.
    with contextlib.suppress(OSError):
        while block := os.read(main, 65536):
            said += block
    os.close(main)
    assert process.wait(60) == 0, said
    return said.decode()


@pytest.mark.parametrize("num_done", [3, 2])
def test_one_bar_at_a_time_on_a_terminal(num_done: int) -> None:
    said = on_a_terminal(TWO_BARS.replace("NUM_DONE", str(num_done)))
    first = said.index("4x8x8")
    last = said.rindex("4x8x8")
    assert "rendering" in said[:first]
    assert said[first:last].count("4x8x8") >= 5
    assert "rendering" not in said[first:last]
    # No more redraws than the ten a second of the bar that is shown, and one for each step.
    assert said[first:last].count("\r") < 60
    assert said.rstrip().endswith("the end")
