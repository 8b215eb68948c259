"""What one video of a container is read into, and how classes are named by labels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


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
