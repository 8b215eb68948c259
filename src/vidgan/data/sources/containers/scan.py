"""Finding the containers that a user names, and everything that lies in them."""

import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vidgan.core.files import TEMPORARY_MARK
from vidgan.data.settings import SPLITS
from vidgan.data.sources.containers.axes import Axes
from vidgan.data.sources.containers.reading import is_container, list_container
from vidgan.data.sources.containers.tfrecord_items import TFRECORD_SUFFIXES, choose_levels
from vidgan.data.sources.source import Scan, Source, split_and_class
from vidgan.errors import UserError, printable

_LABELS_OF_NPY = "_labels.npy"


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
            if not is_ours and is_container(here / name) and (here / name).is_file():
                yield here / name


def scan_containers(
    root: Path, files: Sequence[Path], axes: Axes, resolution: int, *, splits: bool
) -> Scan:
    """List the videos of containers and settle what their folders mean.

    The sources come in the order of the files; their names are unique.

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
    scans: list[Scan] = []
    dropped: list[tuple[str, str]] = []
    errors: list[UserError] = []
    for file in files:
        try:
            scans.append(list_container(file, axes))
        except UserError as error:
            errors.append(error)
            dropped.append((_relative(file, root), str(error)))
    if not scans:
        raise errors[0]
    notes = list(level_notes)
    for scan in scans:
        place = "" if scan.root == root else _relative(scan.root, root)
        notes += [f"{place}: {note}" if place else note for note in scan.notes]
        dropped += [(_join(place, name), why) for name, why in scan.dropped]
    common = _common_folders(scans)
    if common:
        notes.append(f"the folder {printable('/'.join(common))} holds everything and names nothing")
    sources = []
    for scan in scans:
        split = _split_of(scan.root) if splits and len(files) > 1 else ""
        sources += [_settle(s, root, len(common), split, splits=splits) for s in scan.sources]
    what = _recognised(scans)
    return Scan(root=root, what=what, sources=sources, dropped=dropped, notes=notes)


def _settle(source: Source, root: Path, num_common: int, split: str, *, splits: bool) -> Source:
    """A source as seen from `root`: its name, and the split and class that its folders say."""
    file = source.path
    place = _relative(file, root)
    name = source.name if file == root else _join(place, source.name)
    folders = [*place.split("/")[:-1], *source.folder.split("/")[num_common:]]
    folders = [part for part in folders if part]
    folder_split, folder_class = split_and_class(folders, "auto" if splits else "off")
    return replace(
        source,
        name=name or file.stem,
        folder="/".join(folders),
        split=source.split or split or folder_split,
        class_name=source.class_name or folder_class,
    )


def _common_folders(scans: Sequence[Scan]) -> list[str]:
    """Folders inside of the containers that all videos share; a split among them says something."""
    folders = {source.folder for scan in scans for source in scan.sources}
    shared = posixpath.commonpath(folders)
    common = shared.split("/") if shared else []
    telling = [number for number, part in enumerate(common) if part in SPLITS]
    return common[: telling[0]] if telling else common


def _split_of(file: Path) -> str:
    told = {word for word in re.split(r"[^a-z]+", file.name.lower()) if word in SPLITS}
    return told.pop() if len(told) == 1 else ""


def _recognised(scans: Sequence[Scan]) -> str:
    """Such as "3 files, each a WebDataset shard"."""
    kinds = Counter(scan.what for scan in scans)
    if len(scans) == 1:
        return scans[0].what
    return ", ".join(
        f"{count} files of the kind {what.removeprefix('a ').removeprefix('an ')!r}"
        if count > 1
        else what
        for what, count in kinds.items()
    )


def _relative(file: Path, root: Path) -> str:
    return printable(file.name if file == root else file.relative_to(root).as_posix())


def _join(place: str, name: str) -> str:
    return f"{place}/{name}" if place and name else place or name
