"""What published layouts share: tables beside the videos, and which of their rows are there."""

import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from vidgan.core.files import open_file
from vidgan.data.sources.tree import Tree

SUBSETS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "heldout": "heldout",
}
"""What published sets call their splits."""

_UCF_NAME = re.compile(r"v_(.+)_g([0-9]+)_c[0-9]+", re.IGNORECASE)
_CLIP_NAME = re.compile(r"([\w-]{11})_[0-9]{6}_[0-9]{6}")


def stem_of(name: str, tree: Tree) -> str:
    """The last part of a video's name, without its suffix if it is a file, or its number mark."""
    last = name.rpartition("/")[2]
    if name in tree.image_folder_set:
        return last
    return re.sub(r"[\W_]*[*]", "", last) if name in tree.sequence_set else Path(last).stem


def by_stem(tree: Tree) -> dict[str, list[str]]:
    """Names of all videos by their stems."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in tree.names:
        found[stem_of(name, tree)].append(name)
    return found


def in_folder(names: Sequence[str], folder: str) -> str:
    """That of several names which lies in a folder of this name, else the first."""
    return next((name for name in names if folder in name.split("/")[:-1]), names[0])


def group_of(stem: str, class_name: str | None) -> str | None:
    """The group that a published name tells: UCF-101's `gNN` of a class, or a YouTube address."""
    ucf = _UCF_NAME.fullmatch(stem)
    if ucf:
        return f"{class_name or ucf[1]}/g{int(ucf[2]):02d}"
    clip = _CLIP_NAME.fullmatch(stem)
    return clip[1] if clip else None


def ucf_class(stem: str) -> str | None:
    """The class in a name such as `v_Archery_g01_c02`, or None for another name."""
    match = _UCF_NAME.fullmatch(stem)
    return match[1] if match else None


def split_word(text: str) -> str | None:
    """The split that a file name speaks of, if it is only one."""
    told = {SUBSETS[word] for word in re.split(r"[^a-z]+", text.lower()) if word in SUBSETS}
    return told.pop() if len(told) == 1 else None


def read_text(file: Path) -> str:
    """Text of a table, whatever its line ends; bytes that are no UTF-8 are replaced."""
    with io.TextIOWrapper(open_file(file), "utf-8-sig", "replace") as opened:
        return opened.read()


class Coverage:
    """Counts, split by split, how many of the listed videos are there.

    Attributes:
        missing: Name and reason of those that are not.
    """

    def __init__(self) -> None:
        self._listed: Counter[str] = Counter()
        self._present: Counter[str] = Counter()
        self.missing: list[tuple[str, str]] = []

    def add(self, split: str, name: str, table: str, *, is_there: bool) -> None:
        """Count one row of a table."""
        self._listed[split] += 1
        self._present[split] += is_there
        if not is_there:
            self.missing.append((name, f"is listed in {table} and not on the disk"))

    @property
    def num_present(self) -> int:
        """Rows whose video is there."""
        return self._present.total()

    @property
    def num_listed(self) -> int:
        """All rows."""
        return self._listed.total()

    def note(self, tables: Iterable[str]) -> str:
        """Such as `of train.csv, 812 of 1,000 videos are there (81.2 %): train 812 of 1,000`."""
        told = ", ".join(
            f"{split} {self._present[split]:,} of {count:,}"
            for split, count in sorted(self._listed.items())
        )
        share = 100 * self.num_present / max(1, self.num_listed)
        # A row or two of many thousands must not be rounded away.
        shown = "100" if self.num_present == self.num_listed else f"{min(share, 99.9):.1f}"
        return (
            f"{self.num_present:,} of the {self.num_listed:,} videos listed in"
            f" {', '.join(tables)} are there ({shown} %): {told}"
        )
