"""Opening one video of any kind, and strips: images made of a row of square frames.

A strip's frames are as wide as its shorter side and go along the longer one: downwards as in the
tiny-video sets, or to the right as in MoCoGAN's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vidgan.data.sources.containers.items import Frames
from vidgan.data.sources.containers.reading import ArrayReader, FileReader, VideoReader, open_item
from vidgan.data.sources.source import Source
from vidgan.video import UnreadableVideoError
from vidgan.video.frames import rgb_image
from vidgan.video.images import ImageError, open_image

_EXIF_ORIENTATION = 0x0112


@contextmanager
def open_source(source: Source) -> Iterator[VideoReader]:
    """Read a video file, a folder of numbered images, a part of a container, or a strip.

    Raises:
        VideoError: it is damaged.
    """
    if source.kind == "item":
        with open_item(source.path, source.member) as reader:
            yield reader
    elif source.kind == "strip":
        yield _open_strip(source.path)
    else:
        yield FileReader(source.path)


def strip_length(width: int, height: int) -> int | None:
    """Frames of a strip of this size, or None if it is not made of squares."""
    count, rest = divmod(max(width, height), min(width, height))
    return None if rest else count


def _open_strip(path: Path) -> ArrayReader:
    try:
        with open_image(path) as image:
            as_stored = image.getexif().get(_EXIF_ORIENTATION, 1) == 1
            # The payload of packed sets is a strip that goes down, of three colours.
            fits = image.format == "JPEG" and image.mode == "RGB" and as_stored
            pixels = rgb_image(image)
            data = path.read_bytes() if fits else None
    except ImageError as error:
        raise UnreadableVideoError(path, f"cannot be read as an image ({error})") from error
    height, width = pixels.shape[:2]
    count = strip_length(width, height)
    if count is None:
        raise UnreadableVideoError(path, f"is {width} x {height} pixels, no strip of squares")
    side = min(width, height)
    if height >= width:
        frames = pixels.reshape(count, side, side, 3)
    else:
        frames = pixels.reshape(side, count, side, 3).swapaxes(0, 1)
    stored = data if height >= width else None
    return ArrayReader(path, Frames(np.ascontiguousarray(frames)), stored)
