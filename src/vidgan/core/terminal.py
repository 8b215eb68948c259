"""One live display at a time: two that redraw themselves would overwrite each other."""

from typing import Any

_live: Any = None


def start(display: Any) -> None:
    """Show a display of rich, after the one that is shown has ended; nothing if it is this one."""
    global _live
    if _live is display:
        return
    if _live is not None:
        _live.stop()
    _live = display
    display.start()


def stop(display: Any) -> None:
    """End a display, if it is shown."""
    global _live
    if _live is display:
        _live = None
        display.stop()
