"""Numbered images: which names of a folder or archive make one video, and in which order.

The frame number is the part of the names that varies: `frame_3_of_16`, `3_64x64` and
`frame_3_seed0` all have the number 3. Names that differ in anything else, as `clipA_001` and
`clipB_001` do, belong to different videos.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median_low
from typing import NamedTuple

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
MARK = "*"
"""Stands for the number in the address of one sequence out of several, as in `clipA_*`."""

_FRAME_WORD = re.compile(r"(^|[^a-z])(frames?|fr|f)[^a-z]*$")
"""Prefix of a frame number; distinguishes it from other varying numbers."""


_NUMBERS = re.compile(r"([0-9]{1,255})")
"""No file on a disk has a longer name, and Python turns no text of above 4,300 digits into a
number; what comes with such a name in an archive counts as several numbers."""


class SameNumberError(ValueError):
    """Two images of one sequence have the same number; the message names them."""


class Numbered(NamedTuple):
    """Images of one video.

    Attributes:
        pattern: their names with `MARK` for the number, such as `clipA_*`.
        names: in the order of their numbers.
        numbers: increasing.
    """

    pattern: str
    names: list[str]
    numbers: list[int]

    @property
    def num_missing(self) -> int:
        """Numbers that are left out, where the others follow each other in even steps."""
        steps = [b - a for a, b in zip(self.numbers, self.numbers[1:], strict=False)]
        usual = median_low(steps) if steps else 1
        return sum(-(-step // usual) - 1 for step in steps)


class _Name(NamedTuple):
    """A name taken apart: `texts` are before, between and after the `digits`."""

    name: str
    suffix: str
    texts: tuple[str, ...]
    digits: tuple[str, ...]


def find_sequences(names: Iterable[str]) -> list[Numbered]:
    """The videos that the images among some names make, sorted by their patterns.

    There is none unless every image has a number and some two differ in nothing else.

    Raises:
        SameNumberError: two names have the same number, as `1.png` and `01.png`.
    """
    groups: dict[tuple[str, ...], list[_Name]] = defaultdict(list)
    for name in sorted(names):
        stem, dot, suffix = name.rpartition(".")
        if f"{dot}{suffix}".lower() not in IMAGE_SUFFIXES:
            continue
        parts = _NUMBERS.split(stem)
        if len(parts) == 1:
            return []
        texts = tuple(text.casefold() for text in parts[::2])
        groups[texts].append(_Name(name, suffix.lower(), tuple(parts[::2]), tuple(parts[1::2])))
    found = [sequence for group in groups.values() for sequence in _split(group)]
    is_video = any(len(sequence.names) > 1 for sequence in found)
    return sorted(found) if is_video else []


def _split(group: list[_Name]) -> Iterator[Numbered]:
    """Names that differ in numbers alone to one sequence for each value of the other numbers."""
    column, is_enough = _frame_column(group)
    parts: dict[tuple[str, ...], list[_Name]] = defaultdict(list)
    for item in group:
        others = () if is_enough else item.digits[:column] + item.digits[column + 1 :]
        parts[others].append(item)
    for part in parts.values():
        numbers = {int(item.digits[column]) for item in part}
        if len(numbers) == len(part):
            yield _sequence(part, column, "")
            continue
        # Such as images (.jpg) beside their masks (.png).
        for suffix in sorted({item.suffix for item in part}):
            chosen = [item for item in part if item.suffix == suffix]
            yield _sequence(chosen, column, f".{suffix}")


def _frame_column(group: list[_Name]) -> tuple[int, bool]:
    """Which of the numbers in names is the frame number, and whether it identifies every frame."""
    columns = list(zip(*(item.digits for item in group), strict=True))
    varying = [n for n, column in enumerate(columns) if len(set(column)) > 1]
    if len(varying) < 2:
        return (varying[0] if varying else len(columns) - 1), False
    values = {n: {int(digits) for digits in columns[n]} for n in varying}
    telling = [n for n in varying if len(values[n]) == len(group)]
    if telling:
        # Each of these orders all frames by itself; a counter leaves fewer numbers out than a
        # time stamp or a random seed.
        return min(telling, key=lambda n: (max(values[n]) - min(values[n]), -n)), True
    named = [n for n in varying if _FRAME_WORD.search(group[0].texts[n].lower())]
    return (named[0] if len(named) == 1 else varying[-1]), False


def _sequence(part: list[_Name], column: int, suffix: str) -> Numbered:
    ordered = sorted(part, key=lambda item: int(item.digits[column]))
    numbers = [int(item.digits[column]) for item in ordered]
    for first, second in itertools.pairwise(ordered):
        if int(first.digits[column]) == int(second.digits[column]):
            number = int(first.digits[column])
            raise SameNumberError(
                f"{first.name} and {second.name} both have the number {number}: rename or move one"
            )
    texts, digits = ordered[0].texts, ordered[0].digits
    parts = [texts[0]]
    for n, text in enumerate(texts[1:]):
        parts += [MARK if n == column else digits[n], text]
    return Numbered("".join(parts) + suffix, [item.name for item in ordered], numbers)


def is_numbered_images(path: Path) -> bool:
    """Whether a path is read as images: a folder, or the address of a sequence in one."""
    return path.is_dir() or (MARK in path.name and not path.exists() and path.parent.is_dir())


def files_at(path: Path) -> list[Path]:
    """The files of a video: itself, all in a folder, or the images of a sequence."""
    if path.is_dir():
        return sorted(path.iterdir())
    found = sequence_at(path) if is_numbered_images(path) else None
    return [path.parent / name for name in found.names] if found else [path]


def sequence_at(path: Path) -> Numbered | None:
    """The images of a folder, of its first sequence if it has several, or of an address.

    A folder whose images make no video gives all of them in the order of their names.

    Raises:
        SameNumberError: two images have the same number.
    """
    folder = path if path.is_dir() else path.parent
    images = [file.name for file in folder.iterdir() if is_image(file.name)]
    found = find_sequences(images)
    if path.is_dir():
        found = found or [Numbered(path.name, sorted(images), [])]
        return found[0] if images else None
    return next((sequence for sequence in found if sequence.pattern == path.name), None)


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
