"""Finding the containers that a user names, and everything that lies in them."""

import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidgan.core.files import TEMPORARY_MARK
from vidgan.data.sources.containers.axes import Axes
from vidgan.data.sources.containers.items import Item, Listing
from vidgan.data.sources.containers.reading import is_container, list_container
from vidgan.data.sources.containers.tfrecord_items import TFRECORD_SUFFIXES, choose_levels
from vidgan.data.sources.source import SPLITS
from vidgan.errors import UserError, printable

_LABELS_OF_NPY = "_labels.npy"


@dataclass(frozen=True)
class Contained:
    """Everything in some containers.

    Attributes:
        what: What was recognised, for people.
        videos: Container and item of every video, in the order of the files; names are unique,
            folders and splits are settled.
        dropped: Name and reason of what is left out.
        notes: Sentences about choices.
    """

    what: str
    videos: tuple[tuple[Path, Item], ...]
    dropped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def find_containers(root: Path) -> list[Path]:
    """The containers below a folder, sorted, or the file itself if it is one."""
    if root.is_file():
        return [root] if is_container(root) else []
    return sorted(_walk(root))


def _walk(root: Path) -> Iterator[Path]:
    seen: set[Path] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        if here.resolve() in seen:
            # A link back to a folder above would be walked for ever.
            subfolders.clear()
            continue
        seen.add(here.resolve())
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in files:
            is_ours = name.startswith((".", TEMPORARY_MARK)) or name.endswith(_LABELS_OF_NPY)
            if not is_ours and is_container(here / name):
                yield here / name


def scan_containers(
    root: Path, files: Sequence[Path], axes: Axes, resolution: int, *, splits: bool
) -> Contained:
    """List the videos of containers and settle what their folders mean.

    Args:
        root: What the user named: one of the files, or a folder above all of them.
        files: The containers.
        axes: Order of the axes of arrays, or auto.
        resolution: Side that is wanted, where a container offers several.
        splits: Whether names of files and folders may say train, val, test or heldout.

    Raises:
        UserError: none of the files can be read; the sentence is that of the first one.
    """
    records = [file for file in files if file.name.lower().endswith(TFRECORD_SUFFIXES)]
    chosen, level_notes = choose_levels(records, resolution)
    files = sorted({*files} - {*records} | {*chosen})
    listings: list[tuple[Path, Listing]] = []
    dropped: list[tuple[str, str]] = []
    errors: list[UserError] = []
    for file in files:
        try:
            listings.append((file, list_container(file, axes)))
        except UserError as error:
            errors.append(error)
            dropped.append((_relative(file, root), str(error)))
    if not listings:
        raise errors[0]
    notes = list(level_notes)
    for file, listing in listings:
        place = _relative(file, root)
        named = f"{place}: " if file != root else ""
        notes += [f"{named}{note}" for note in listing.notes]
        dropped += [
            (name if file == root else _join(place, name), why) for name, why in listing.dropped
        ]
    common = _common_folders(listings)
    if common:
        notes.append(f"the folder {printable('/'.join(common))} holds everything and names nothing")
    videos = []
    for file, listing in listings:
        split = _split_of(file) if splits and len(files) > 1 else None
        videos += [(file, _settle(item, file, root, len(common), split)) for item in listing.items]
    return Contained(_recognised(listings), tuple(videos), tuple(dropped), tuple(notes))


def _settle(item: Item, file: Path, root: Path, num_common: int, split: str | None) -> Item:
    """An item with its name and folders as seen from `root`."""
    place = _relative(file, root)
    name = item.name if file == root else _join(place, item.name)
    outer = place.split("/")[:-1]
    inner = item.folder.split("/")[num_common:] if item.folder else []
    folder = "/".join([*outer, *inner])
    return replace(item, name=name or file.stem, folder=folder, split=item.split or split)


def _common_folders(listings: Sequence[tuple[Path, Listing]]) -> list[str]:
    """Folders inside of the containers that all videos share; a split among them says something."""
    folders = {item.folder for _, listing in listings for item in listing.items}
    shared = posixpath.commonpath(folders)
    common = shared.split("/") if shared else []
    telling = [number for number, part in enumerate(common) if part in SPLITS]
    return common[: telling[0]] if telling else common


def _split_of(file: Path) -> str | None:
    told = {word for word in re.split(r"[^a-z]+", file.name.lower()) if word in SPLITS}
    return told.pop() if len(told) == 1 else None


def _recognised(listings: Sequence[tuple[Path, Listing]]) -> str:
    """Such as "3 files, each a WebDataset shard"."""
    kinds = Counter(listing.what for _, listing in listings)
    if len(listings) == 1:
        return listings[0][1].what
    return ", ".join(
        f"{count} files of the kind {what.removeprefix('a ').removeprefix('an ')!r}"
        if count > 1
        else what
        for what, count in kinds.items()
    )


def _relative(file: Path, root: Path) -> str:
    return printable(file.name if file == root else file.relative_to(root).as_posix())


def _join(place: str, name: str) -> str:
    return f"{place}/{name}" if name else place
