"""Sizes of clips and of levels; without torch, so that processes that only decode start quickly."""

from typing import NamedTuple


class ClipShape(NamedTuple):
    """Channels, frames, height and width of a clip."""

    channels: int
    frames: int
    height: int
    width: int


class LevelShape(NamedTuple):
    """Frames and resolution (height = width, px) of one level, grown by a model or stored."""

    frames: int
    resolution: int
