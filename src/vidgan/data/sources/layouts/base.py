"""What a layout is: how a published set is arranged on disk, and what is read from that."""

from collections.abc import Callable
from dataclasses import dataclass

from vidgan.data.settings import DataConfig
from vidgan.data.sources.source import Scan
from vidgan.data.sources.tree import Tree


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One layout of videos on disk.

    Attributes:
        name: word for `data.layout`.
        what: what it is called in sentences.
        recognise: says why a tree is believed to be of this layout, or None if it is not.
        find: lists the videos with their classes, splits and groups. It may be called for a tree
            that was not recognised, as the user may know better, and then raises a `UserError`
            that says what is missing.
    """

    name: str
    what: str
    recognise: Callable[[Tree, DataConfig], str | None]
    find: Callable[[Tree, DataConfig], Scan]
