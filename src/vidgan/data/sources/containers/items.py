"""What every container is made into: a list of videos by address, and the contents of one."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Item:
    """One video in a container.

    Attributes:
        name: What people read, in one line: a path inside the container with forward slashes.
        member: Address inside the container, for the reader alone.
        folder: Folders that may name split and class, with forward slashes.
        class_name: What the container says beside the video; None leaves it to the folders.
        split: The same about train, val, test or heldout.
        group: Videos of one group belong into one split.
    """

    name: str
    member: str
    folder: str = ""
    class_name: str | None = None
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The videos of a container.

    Attributes:
        what: The kind of container, such as "a zip archive".
        items: The videos in a fixed order.
        dropped: Name and reason of what is left out.
        notes: Sentences about the container as a whole.
    """

    what: str
    items: tuple[Item, ...]
    dropped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class VideoBytes:
    """A whole video file; FFmpeg finds out of which kind, with the suffix as a hint."""

    data: bytes
    suffix: str = ""


@dataclass(frozen=True)
class Pictures:
    """Picture files in the order of their numbers, at `fps` frames a second if that is known."""

    files: tuple[bytes, ...]
    fps: float | None = None


@dataclass(frozen=True)
class Frames:
    """RGB bytes `[T, H, W, 3]`, at `fps` frames a second if that is known."""

    pixels: npt.NDArray[np.uint8]
    fps: float | None = None


Content = VideoBytes | Pictures | Frames


def name_classes(labels: list[int | str], names: list[str] | None) -> list[str]:
    """Class names of labels; numbers without names are padded, so that they sort as numbers.

    Args:
        labels: A number or a word for each video.
        names: Names by number, if the container gives any.
    """
    numbers = [label for label in labels if isinstance(label, int)]
    named = names is not None and all(0 <= number < len(names) for number in numbers)
    digits = len(str(max(numbers, default=0)))

    def name(label: int | str) -> str:
        if isinstance(label, str):
            return label
        return names[label] if named and names is not None else f"class-{label:0{digits}d}"

    return [name(label) for label in labels]
