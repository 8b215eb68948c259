"""The videos of a source with their classes, splits and groups, whatever layout they came in."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vidgan.core.files import read_json
from vidgan.data.settings import DataConfig
from vidgan.errors import UserError

SPLITS = ("train", "val", "test", "heldout")
SourceKind = Literal["file", "item", "strip"]
"""A video file or folder of numbered pictures, a part of a container, or a picture of frames."""
ATTRIBUTES_FILE = "attributes.json"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One video.

    Attributes:
        name: Unique in its set: a path relative to the root, with forward slashes.
        path: Where it lies, or the container that holds it.
        kind: How it is read.
        member: Address inside the container.
        split: One of `SPLITS`; train where nothing says so.
        class_name: Its class, or None.
        group: Videos of one group (of one film, of one person) share a split; None stands alone.
    """

    name: str
    path: Path
    kind: SourceKind = "file"
    member: str = ""
    split: str = "train"
    class_name: str | None = None
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a layout makes of a tree.

    Attributes:
        sources: Usable candidates.
        dropped: Name and reason of videos that are left out before any is opened.
        num_missing: Of those, videos that a table lists and that are not there at all.
        notes: Sentences about choices that were made.
        class_order: Published order of the classes; others follow in alphabetical order.
        attributes: What each class is made of.
    """

    sources: Sequence[Source]
    dropped: Sequence[tuple[str, str]] = ()
    num_missing: int = 0
    notes: Sequence[str] = ()
    class_order: Sequence[str] = ()
    attributes: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SourceScan:
    """What a folder or container holds.

    Attributes:
        root: The folder or file.
        layout: Name of the layout that it is read as.
        told: One sentence that names the layout and says why it is believed.
        sources: Usable candidates in a fixed order.
        classes: Class names, alphabetical unless the layout has an order; empty without labels.
        dropped: Name and reason of videos that are left out before any is opened.
        num_missing: Of those, videos that are listed and not there at all.
        notes: Sentences about choices that the scan made.
        attributes: What each class is made of.
    """

    root: Path
    layout: str
    told: str
    sources: list[Source]
    classes: list[str]
    dropped: list[tuple[str, str]]
    num_missing: int
    notes: list[str]
    attributes: dict[str, dict[str, str]]


def settle(root: Path, layout: str, told: str, found: Found, config: DataConfig) -> SourceScan:
    """Drop what has no class where others have one, and hold out what no split is known for."""
    sources = sorted(found.sources, key=lambda source: source.name)
    if config.group_by:
        sources = [_grouped(source, config.group_by) for source in sources]
    if config.splits == "off":
        sources = [replace(source, split="train") for source in sources]
    dropped, notes = list(found.dropped), list(found.notes)
    named = {source.class_name for source in sources} - {None}
    if named:
        dropped += [
            (source.name, "lies outside the class folders")
            for source in sources
            if source.class_name is None
        ]
        sources = [source for source in sources if source.class_name is not None]
    classes = [name for name in found.class_order if name in named]
    classes += sorted(name for name in named if name is not None and name not in classes)
    if config.splits == "auto" and all(source.split == "train" for source in sources):
        sources, note = hold_out(sources, config.heldout_fraction)
        notes += [note] if note else []
    attributes = {name: found.attributes[name] for name in classes if name in found.attributes}
    attributes |= read_attributes(root, classes)
    return SourceScan(
        root=root,
        layout=layout,
        told=told,
        sources=sources,
        classes=classes,
        dropped=dropped,
        num_missing=found.num_missing,
        notes=notes,
        attributes=attributes,
    )


def _grouped(source: Source, pattern: str) -> Source:
    found = re.search(pattern, source.name)
    return source if found is None else replace(source, group=found.group(1))


def split_and_class(folders: Iterable[str], splits: str) -> tuple[str, str | None]:
    """What the folders above a video say: a first one that names a split, and the class below."""
    folders = list(folders)
    split = "train"
    if splits == "auto" and folders and folders[0] in SPLITS:
        split = folders.pop(0)
    return split, folders[0] if folders else None


def hold_out(sources: list[Source], fraction: float) -> tuple[list[Source], str]:
    """Hold out a fraction of whole groups, spread evenly over the classes, and say so.

    The draw is keyed by the names of the groups, and of videos without one, so that it does not
    depend on anything else.

    Returns:
        The sources with their splits, and a sentence, empty if nothing was to be held out.
    """
    units: dict[tuple[str, bool], list[Source]] = defaultdict(list)
    for source in sources:
        units[source.group or source.name, source.group is not None].append(source)
    wanted = round(len(sources) * fraction)
    if fraction > 0 and len(sources) > 1:
        wanted = min(max(1, wanted), len(sources) - 1)
    chosen: set[str] = set()
    num_groups = 0
    for key in _spread(units):
        members = units[key]
        if len(chosen) < wanted and len(chosen) + len(members) < len(sources):
            chosen |= {source.name for source in members}
            num_groups += len(members) > 1
    if not chosen:
        return sources, "nothing is held out: all videos are of one group" if wanted else ""
    marked = [replace(s, split="heldout") if s.name in chosen else s for s in sources]
    whole = f" ({num_groups} whole group{'s'[: num_groups > 1]})" if num_groups else ""
    note = f"{len(chosen)} of {len(sources)} videos{whole} were held out by a fixed draw"
    return marked, note


def _spread(units: dict[tuple[str, bool], list[Source]]) -> list[tuple[str, bool]]:
    """Keys in an order whose every beginning has all classes in their proportions."""
    # Loads torch, for which processes that only decode would have to wait.
    from vidgan.core.randomness import derive_seed

    by_class: dict[str | None, list[tuple[str, bool]]] = defaultdict(list)
    for key in sorted(units, key=lambda key: derive_seed("split", key[0])):
        by_class[units[key][0].class_name].append(key)
    ranked: list[tuple[float, int, tuple[str, bool]]] = []
    for keys in by_class.values():
        total, before = sum(len(units[key]) for key in keys), 0
        for key in keys:
            middle = before + len(units[key]) / 2
            ranked.append((middle / total, derive_seed("tie", key[0]), key))
            before += len(units[key])
    return [key for _, _, key in sorted(ranked)]


def read_attributes(root: Path, classes: Sequence[str]) -> dict[str, dict[str, str]]:
    """What `attributes.json` in a folder says about these classes.

    Raises:
        UserError: the file does not map class names to attributes.
    """
    file = root / ATTRIBUTES_FILE
    if not file.is_file():
        return {}
    try:
        return attributes_of(read_json(file), classes)
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f"{file} must map class names to attributes, as"
            ' {"disc-left": {"object": "disc", "motion": "left"}}: mend or delete it'
        ) from error


def attributes_of(table: Any, classes: Sequence[str]) -> dict[str, dict[str, str]]:
    """A table of attributes as plain text, for these classes."""
    return {
        name: {str(key): str(value) for key, value in table[name].items()}
        for name in classes
        if name in table
    }
