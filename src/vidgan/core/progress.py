"""How long work reports: types of callbacks, lines on stderr, and one live display at a time."""

import sys
from collections.abc import Callable
from typing import Any

from vidgan.errors import printable

Notify = Callable[[str], None]
"""Called with a short message about what happens next."""

Progress = Callable[[int, int, str], None]
"""Called with (done, total, description) after every item."""

_live: Any = None


def say(sentence: str) -> None:
    """Print one line to stderr."""
    print(printable(sentence), file=sys.stderr, flush=True)


def ignore(_: str) -> None:
    """A `Notify` that drops every message."""


def start(display: Any) -> None:
    """Show a rich display; one that is already live ends first, since both would redraw."""
    global _live
    if _live is display:
        return
    if _live is not None:
        _live.stop()
    _live = display
    display.start()


def stop(display: Any) -> None:
    """End a display if it is live."""
    global _live
    if _live is display:
        _live = None
        display.stop()
