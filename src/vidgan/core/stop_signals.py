"""Signals that ask a program to stop, from keyboard, terminal, scheduler or launcher.

SLURM, systemd, `timeout` and terminals send them to every process of a group. The process that
commands the others decides what happens; the others never receive them and are ended by it.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
)
"""Those of them that the system has; Windows has the first two."""

_COPY_S = 0.5
"""Seconds in which the same request may arrive twice: `timeout` signals its child and the group."""
_LAUNCHER_COPY_S = 5.0
"""As long may torchrun take to pass on what the group has received already."""


class Interrupted(KeyboardInterrupt):
    """A stop signal that `raised` took, by `number` and `name`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number, self.name = number, signal.Signals(number).name


class StopSignals:
    """Whether a stop signal has come; a second request stops at once."""

    def __init__(self) -> None:
        self._first_s: float | None = None
        self._launcher = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
        self._copy_s = _COPY_S if self._launcher is None else _LAUNCHER_COPY_S

    @property
    def requested(self) -> bool:
        """Whether to save and end: by a signal, or since the launcher has been killed."""
        orphaned = self._launcher is not None and os.getppid() != self._launcher
        return self._first_s is not None or orphaned

    @contextmanager
    def listening(self) -> Iterator["StopSignals"]:
        """Take the signals while the block runs; outside the main thread this does nothing."""
        with _handled_by(self._note, STOP_SIGNALS):
            yield self

    def _note(self, number: int, frame: FrameType | None) -> None:
        now_s = time.monotonic()
        if self._first_s is None:
            self._first_s = now_s
        elif now_s - self._first_s > self._copy_s:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


@contextmanager
def raised() -> Iterator[None]:
    """Let every stop signal end the block as Ctrl-C does, so that temporary files are removed.

    Raises:
        Interrupted: one other than Ctrl-C's came.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    with _handled_by(interrupt, STOP_SIGNALS[1:]):
        yield


@contextmanager
def withheld_from_children() -> Iterator[None]:
    """Leave the signals to this process: those that the block starts never receive one.

    So do processes that they start, such as the server that forks workers; their parent has to end
    them by SIGKILL.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _handled_by(
    handler: Callable[[int, FrameType | None], None], numbers: Sequence[signal.Signals]
) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What nohup makes a program ignore stays ignored.
    taken = [n for n in numbers if n.name != "SIGHUP" or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in taken}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
