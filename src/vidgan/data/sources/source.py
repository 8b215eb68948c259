"""The videos of a source with their classes, splits and groups, for any layout."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vidgan.core.expressions import search
from vidgan.core.files import read_json
from vidgan.data.settings import SPLITS, DataConfig
from vidgan.errors import UserError

SourceKind = Literal["file", "item", "strip"]
"""A video file or folder of numbered images, a part of a container, or an image of frames."""
ATTRIBUTES_FILE = "attributes.json"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One video.

    Attributes:
        name: unique in its set and in one line: a path relative to the root, with forward slashes.
        path: where it lies, or the container that holds it.
        kind: how it is read.
        member: address inside the container, for the reader alone.
        folder: folders inside the container that may name split and class, with forward slashes.
        split: one of `SPLITS`; empty if unknown, which becomes train.
        class_name: its class, or None.
        group: videos of one group (of one film, of one person) share a split; None stands alone.
    """

    name: str
    path: Path
    kind: SourceKind = "file"
    member: str = ""
    folder: str = ""
    split: str = ""
    class_name: str | None = None
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What a container, a folder of containers or a whole data source holds.

    Attributes:
        root: the folder or file.
        what: what it was recognised as, in words.
        layout: name of the layout that it is read as; empty for a part of a source.
        sources: usable candidates in a fixed order.
        classes: class names in their published order, if there is one. Once the scan is settled:
            all classes in use, the others of them in alphabetical order; empty without labels.
        dropped: name and reason of videos that are left out before any is opened.
        num_missing: of those, how many are no videos: a table lists them and they are not there,
            or they are folders.
        notes: sentences about the source as a whole and about choices that were made.
        attributes: what each class is made of.
        draw: what was said about the draw of held-out videos, which may be nothing; None if the
            source tells its splits itself.
    """

    root: Path
    what: str = ""
    layout: str = ""
    sources: Sequence[Source]
    classes: Sequence[str] = ()
    dropped: Sequence[tuple[str, str]] = ()
    num_missing: int = 0
    notes: Sequence[str] = ()
    attributes: dict[str, dict[str, str]] = field(default_factory=dict)
    draw: str | None = None


def names_classes(sources: Sequence[Source]) -> bool:
    """Whether class folders are used: some video has one, and most do not lie outside of all."""
    outside = sum(source.class_name is None for source in sources)
    return outside < len(sources) and 2 * outside <= len(sources)


def settle(scan: Scan, config: DataConfig) -> Scan:
    """Drop videos without a class where most have one, and hold out videos if no split is known."""
    sources = sorted(scan.sources, key=lambda source: source.name)
    if config.group_by:
        sources = [_grouped(source, config.group_by) for source in sources]
    is_off = config.splits == "off"
    sources = [
        replace(source, split="train" if is_off else source.split or "train") for source in sources
    ]
    dropped, notes = list(scan.dropped), list(scan.notes)
    named = {source.class_name for source in sources} - {None}
    if named and config.layout != "classes" and not names_classes(sources):
        outside = sum(source.class_name is None for source in sources)
        notes.append(
            f"{outside} of {len(sources)} videos have no class, so those of the others are not used"
        )
        sources = [replace(source, class_name=None) for source in sources]
        named = set()
    if named:
        mend = ": data.layout=folder takes all, without classes" if scan.layout == "classes" else ""
        dropped += [
            (source.name, f"lies outside the class folders{mend}")
            for source in sources
            if source.class_name is None
        ]
        sources = [source for source in sources if source.class_name is not None]
    classes = [name for name in scan.classes if name in named]
    classes += sorted(name for name in named if name is not None and name not in classes)
    draw = None
    if config.splits == "auto" and all(source.split == "train" for source in sources):
        sources, draw = hold_out(sources, config.heldout_fraction)
        notes += [draw] if draw else []
    attributes = {name: scan.attributes[name] for name in classes if name in scan.attributes}
    attributes |= read_attributes(scan.root, classes)
    return replace(
        scan,
        sources=sources,
        classes=classes,
        dropped=dropped,
        notes=notes,
        attributes=attributes,
        draw=draw,
    )


def drawn_without(scan: Scan, broken: Collection[int], config: DataConfig) -> Scan:
    """The scan with its held-out videos drawn as if those of these numbers were not there."""
    if scan.draw is None or not broken:
        return scan
    whole = [
        replace(source, split="train")
        for number, source in enumerate(scan.sources)
        if number not in broken
    ]
    marked, draw = hold_out(whole, config.heldout_fraction)
    split_of = {source.name: source.split for source in marked}
    sources = [replace(s, split=split_of.get(s.name, "train")) for s in scan.sources]
    notes = [note for note in scan.notes if note != scan.draw] + ([draw] if draw else [])
    return replace(scan, sources=sources, notes=notes, draw=draw)


def _grouped(source: Source, pattern: str) -> Source:
    found = search(pattern, source.name, "data.group_by")
    return source if found is None else replace(source, group=found.group(1))


def split_and_class(folders: Iterable[str], splits: str) -> tuple[str, str | None]:
    """Split and class named by the folders above a video."""
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
            ' {"disc-left": {"object": "disc", "motion": "left"}}: fix or delete it'
        ) from error


def attributes_of(table: Any, classes: Sequence[str]) -> dict[str, dict[str, str]]:
    """A table of attributes as plain text, for these classes."""
    return {
        name: {str(key): str(value) for key, value in table[name].items()}
        for name in classes
        if name in table
    }
