"""Progress of long work on stderr."""

import io
import sys

import pytest

from vidgan.cli import progress
from vidgan.cli.progress import progress_on_stderr


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
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    with progress_on_stderr() as show:
        for done in range(1, 101):
            seconds[0] += 0.5
            show(done, 100, "packing clips")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "packing clips: 20 of 100, about 38 s left"
    assert lines[-1] == "packing clips: 100 of 100"
    assert len(lines) == 5
