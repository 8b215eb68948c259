"""Finding the videos of a folder, their splits and their classes."""

import json
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vidgan.data.settings import DataConfig
from vidgan.errors import UserError
from vidgan.files import TEMPORARY_MARK
from vidgan.randomness import derive_seed
from vidgan.video import is_image_folder

SPLITS = ("train", "val", "test", "heldout")
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts"}
    | {".wmv", ".flv", ".ogv", ".3gp", ".gif", ".vob"}
)


@dataclass(frozen=True)
class Source:
    """One video of a folder.

    Attributes:
        name: Path relative to the folder, with forward slashes.
        split: One of `SPLITS`.
        class_name: The folder below the split, or None for a video outside of any.
    """

    name: str
    split: str
    class_name: str | None


@dataclass(frozen=True)
class SourceScan:
    """What a folder holds.

    Attributes:
        root: The folder.
        sources: Usable candidates in a fixed order.
        classes: Class names in alphabetical order; empty if the videos are unlabelled.
        dropped: Name and reason of videos that are left out before any is opened.
        notes: Sentences about choices that the scan made.
        attributes: What each class is made of, as told by `attributes.json` in the folder.
    """

    root: Path
    sources: list[Source]
    classes: list[str]
    dropped: list[tuple[str, str]]
    notes: list[str]
    attributes: dict[str, dict[str, str]]


def scan_sources(root: str | Path, config: DataConfig) -> SourceScan:
    """List the videos and the folders of numbered images below `root`.

    Raises:
        UserError: `root` is no folder or holds no video.
    """
    root = Path(root)
    if root.is_file():
        raise UserError(f"{root} is a file: name the folder that holds the videos")
    if not root.is_dir():
        raise UserError(f"there is no folder {root}: name a folder of video files")
    unread: list[tuple[str, str]] = []

    def note_unread(error: OSError) -> None:
        folder = Path(error.filename).relative_to(root).as_posix()
        unread.append((folder, f"the folder cannot be read ({error.strerror})"))

    names, num_others = find_videos(root, note_unread)
    if not names:
        other = f", only {num_others} other files" if num_others else ""
        other += f", {len(unread)} folders that cannot be read" if unread else ""
        raise UserError(
            f"no videos in {root}{other}: it needs video files ({' '.join(sorted(VIDEO_SUFFIXES))})"
            " or folders of numbered images"
        )
    notes = [f"{num_others} files that are no videos were passed over"] if num_others else []
    sources = [_classify(name, config) for name in names]
    classes = sorted({source.class_name for source in sources if source.class_name is not None})
    dropped = sorted(unread)
    if classes:
        dropped += [
            (source.name, "lies outside the class folders")
            for source in sources
            if source.class_name is None
        ]
        sources = [source for source in sources if source.class_name is not None]
    if config.splits == "auto" and all(source.split == "train" for source in sources):
        sources, num_heldout = _hold_out(sources, config.heldout_fraction)
        if num_heldout:
            notes.append(f"{num_heldout} of {len(sources)} videos were held out by a fixed draw")
    return SourceScan(root, sources, classes, dropped, notes, _read_attributes(root, classes))


def find_videos(
    root: Path, note_unread: Callable[[OSError], None] | None = None
) -> tuple[list[str], int]:
    """Sorted names of the videos and folders of numbered images below `root`, and other files.

    Args:
        root: The folder.
        note_unread: Told of every folder that cannot be read.
    """
    names: list[str] = []
    num_others = 0
    seen: set[Path] = set()
    for folder, subfolders, files in os.walk(root, onerror=note_unread, followlinks=True):
        here = Path(folder)
        if here.resolve() in seen:
            # A link back to a folder above would be walked for ever.
            subfolders.clear()
            continue
        seen.add(here.resolve())
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        videos = [name for name in files if _is_video(name)]
        if not videos and here != root and is_image_folder(here):
            names.append(here.relative_to(root).as_posix())
            continue
        names += [(here / name).relative_to(root).as_posix() for name in videos]
        num_others += sum(not name.startswith(".") for name in files) - len(videos)
        num_others -= sum(here == root and name in _OWN_FILES for name in files)
    return sorted(names), num_others


_OWN_FILES = ("attributes.json", "motions.json")


def _is_video(name: str) -> bool:
    hidden = name.startswith((".", TEMPORARY_MARK))
    return not hidden and Path(name).suffix.lower() in VIDEO_SUFFIXES


def _classify(name: str, config: DataConfig) -> Source:
    folders = name.split("/")[:-1]
    split = "train"
    if config.splits == "auto" and folders and folders[0] in SPLITS:
        split = folders.pop(0)
    return Source(name, split, folders[0] if folders else None)


def _hold_out(sources: list[Source], fraction: float) -> tuple[list[Source], int]:
    """Hold out a fraction, spread evenly over the classes, by a draw keyed by the file names."""
    count = round(len(sources) * fraction)
    if fraction > 0 and len(sources) > 1:
        count = min(max(1, count), len(sources) - 1)
    by_class: dict[str | None, list[Source]] = defaultdict(list)
    for source in sorted(sources, key=lambda source: derive_seed("split", source.name)):
        by_class[source.class_name].append(source)
    ranked = [
        ((rank + 0.5) / len(members), derive_seed("tie", source.name), source.name)
        for members in by_class.values()
        for rank, source in enumerate(members)
    ]
    chosen = {name for _, _, name in sorted(ranked)[:count]}
    return [replace(s, split="heldout") if s.name in chosen else s for s in sources], count


def _read_attributes(root: Path, classes: list[str]) -> dict[str, dict[str, str]]:
    file = root / "attributes.json"
    if not file.exists():
        return {}
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        return {
            name: {str(key): str(value) for key, value in table[name].items()}
            for name in classes
            if name in table
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f"{file} must map class names to attributes, as"
            ' {"disc-left": {"object": "disc", "motion": "left"}}: mend or delete it'
        ) from error
