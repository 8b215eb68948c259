"""Videos inside of other files: archives, WebDataset shards, TFRecords, HDF5 and NumPy arrays."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from vidgan.core.files import read_json
from vidgan.data.settings import DataConfig
from vidgan.data.sources.containers.archive import ARCHIVE_SUFFIXES, TAR_SUFFIXES
from vidgan.data.sources.containers.arrays import ARRAY_SUFFIXES
from vidgan.data.sources.containers.reading import is_container, list_container
from vidgan.data.sources.containers.scan import find_containers, scan_containers
from vidgan.data.sources.containers.tfrecord_items import TFRECORD_SUFFIXES
from vidgan.data.sources.layouts.base import Layout
from vidgan.data.sources.layouts.lists import group_of
from vidgan.data.sources.source import Scan
from vidgan.data.sources.tree import Tree
from vidgan.errors import UserError

_SHARD = "a WebDataset shard"
_INDEX_FILE = "index.json"


def _files(tree: Tree, suffixes: tuple[str, ...]) -> list[Path]:
    return [file for file in find_containers(tree.root) if file.name.lower().endswith(suffixes)]


def _why(suffixes: tuple[str, ...], told: str, tree: Tree, config: DataConfig) -> str | None:
    """Containers count where no video lies beside them: they are what the user means then."""
    files = [] if tree.names else _files(tree, suffixes)
    if not files:
        return None
    if tree.root.is_file():
        return f"it is a {told}, as its name says"
    also = f" and {len(files) - 1} more files" if len(files) > 1 else ""
    return f"it holds {files[0].relative_to(tree.root)}{also} and no video outside of them"


def _shards_why(tree: Tree, config: DataConfig) -> str | None:
    files = [] if tree.names else _files(tree, TAR_SUFFIXES)
    if not files:
        return None
    try:
        scan = list_container(files[0], config.axes)
    except UserError:
        # The sentence about it comes when it is read as an archive.
        return None
    if scan.what != _SHARD:
        return None
    return f"the files of {files[0].name} share keys with classes beside them (KEY.cls, KEY.json)"


def _find(suffixes: tuple[str, ...], told: str, tree: Tree, config: DataConfig) -> Scan:
    files = _files(tree, suffixes)
    if not files:
        raise UserError(
            f"{tree.root} holds no {told} ({' '.join(suffixes)}): choose another data.layout or"
            " leave it at auto"
        )
    found = scan_containers(
        tree.root, files, config.axes, config.resolution, splits=config.splits == "auto"
    )
    notes = list(found.notes)
    others = [name for name in tree.others if is_container(tree.root / name)]
    others = [name for name in others if not name.lower().endswith(suffixes)]
    if others:
        notes.append(
            f"{len(others)} files of other kinds, {others[0]} first, were passed over: name one of"
            " them, or set data.layout"
        )
    sources = [
        replace(source, group=source.group or group_of(Path(source.name).stem, source.class_name))
        for source in found.sources
    ]
    classes, attributes = _index(tree.root)
    return replace(found, sources=sources, notes=notes, classes=classes, attributes=attributes)


def _index(root: Path) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Class names and attributes of shards that this package exported."""
    file = (root if root.is_dir() else root.parent) / _INDEX_FILE
    try:
        table = read_json(file)
        if table["format"] != "webdataset":
            return [], {}
        attributes = {str(name): dict(value) for name, value in table["attributes"].items()}
        return [str(name) for name in table["classes"]], attributes
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Other tools write other files of this name.
        return [], {}


def _layout(
    name: str,
    what: str,
    told: str,
    suffixes: tuple[str, ...],
    recognise: Callable[[Tree, DataConfig], str | None] | None = None,
) -> Layout:
    return Layout(
        name=name,
        what=what,
        recognise=recognise or partial(_why, suffixes, told),
        find=partial(_find, suffixes, told),
    )


WEBDATASET = _layout(
    "webdataset", "WebDataset shards", "tar file of samples", TAR_SUFFIXES, _shards_why
)
TFRECORDS = _layout(
    "tfrecords", "TFRecords, as TrailerFaces has them", "TFRecord file", TFRECORD_SUFFIXES
)
ARRAYS = _layout("arrays", "arrays of HDF5 or NumPy", "file of arrays", ARRAY_SUFFIXES)
ARCHIVE = _layout("archive", "archives of videos", "zip or tar archive", ARCHIVE_SUFFIXES)
