"""The contents of one video of a container, and class names of labels."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vidgan.errors import UserError

# ------------------------------------------------------------------------------------------------
# Limits on archives and their member names, against hostile ones


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on one archive; beyond them it is refused.

    Attributes:
        members: entries. Their table is kept in memory at about half a kilobyte each; larger sets
            come in several files.
        member_bytes: bytes of one member, which is held in memory: half an hour of video at
            8 Mbit/s.
        total_bytes: bytes of all members: more than any published set keeps in one file.
        ratio: unpacked bytes for each packed one. Videos and images shrink by a few percent and
            arrays of black frames by some tens; DEFLATE reaches 1032 on zeros alone, as bombs do.
        free_bytes: unpacked bytes up to which the ratio does not matter, as small things that
            shrink well are harmless.
    """

    members: int = 1_000_000
    member_bytes: int = 2 << 30
    total_bytes: int = 1 << 40
    ratio: int = 200
    free_bytes: int = 64 << 20

    def check_size(self, path: Path, unpacked: int, packed: int) -> None:
        """Refuse an archive of `packed` bytes that unpacks to at least `unpacked`.

        Raises:
            UserError: it is beyond the limits.
        """
        if unpacked > self.total_bytes:
            raise UserError(
                f"{path} unpacks to more than {self.total_bytes >> 30} GiB: unpack it yourself, if"
                " you trust it, and name the folder"
            )
        if unpacked > self.free_bytes and unpacked > self.ratio * packed:
            raise UserError(
                f"{path} unpacks to over {self.ratio} times its size, as a decompression bomb does:"
                " unpack it yourself, if you trust it, and name the folder"
            )

    def check_count(self, path: Path, count: int) -> None:
        """Refuse an archive of at least `count` members.

        Raises:
            UserError: that are too many.
        """
        if count > self.members:
            raise UserError(
                f"{path} has more than {self.members} members: split it, or unpack it and name the"
                " folder"
            )


LIMITS = Limits()


def unsafe_name(name: str) -> str | None:
    """Why a member's name must not be used, or None if it stays below its archive."""
    plain = name.replace("\\", "/")
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain):
        return "has an absolute name"
    if ".." in plain.split("/"):
        return "has a name that leads out of the archive"
    return None


def plain_name(name: str) -> str:
    """A member's name with forward slashes and without empty or `.` parts."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


# ------------------------------------------------------------------------------------------------
# What one video of a container is read into, and how classes are named by labels


@dataclass(frozen=True)
class VideoBytes:
    """A whole video file; FFmpeg finds out of which kind, with the suffix as a hint."""

    data: bytes
    suffix: str = ""


@dataclass(frozen=True)
class Images:
    """Image files in the order of their numbers, at `fps` frames a second if that is known."""

    files: tuple[bytes, ...]
    fps: float | None = None


@dataclass(frozen=True)
class Frames:
    """RGB bytes `[T, H, W, 3]`, at `fps` frames a second if that is known."""

    pixels: npt.NDArray[np.uint8]
    fps: float | None = None


Content = VideoBytes | Images | Frames


def name_classes(labels: list[int | str], names: list[str] | None) -> list[str]:
    """Class names of labels; numbers without names are padded, so that they sort as numbers.

    Args:
        labels: a number or a word for each video.
        names: names by number, if the container gives any.
    """
    numbers = [label for label in labels if isinstance(label, int)]
    named = names is not None and all(0 <= number < len(names) for number in numbers)
    digits = len(str(max(numbers, default=0)))

    def name(label: int | str) -> str:
        if isinstance(label, str):
            return label
        return names[label] if named and names is not None else f"class-{label:0{digits}d}"

    return [name(label) for label in labels]
