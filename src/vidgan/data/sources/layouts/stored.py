"""Folders of classes, containers and strips: layouts that need no published lists."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from vidgan.core.files import read_json
from vidgan.data.settings import SPLITS, DataConfig
from vidgan.data.sources.containers.archive import ARCHIVE_SUFFIXES, TAR_SUFFIXES
from vidgan.data.sources.containers.arrays import ARRAY_SUFFIXES
from vidgan.data.sources.containers.reading import (
    find_containers,
    is_container,
    list_container,
    scan_containers,
)
from vidgan.data.sources.containers.tfrecord import TFRECORD_SUFFIXES
from vidgan.data.sources.layouts.base import Layout
from vidgan.data.sources.layouts.videos import Coverage, group_of, split_word, stem_of, table_text
from vidgan.data.sources.source import Scan, Source, names_classes, split_and_class
from vidgan.data.sources.tree import VIDEO_SUFFIXES, Tree, no_videos
from vidgan.data.sources.videos import strip_length
from vidgan.errors import UserError
from vidgan.video.images import ImageError, open_image
from vidgan.video.sequences import IMAGE_SUFFIXES

# ------------------------------------------------------------------------------------------------
# Anybody's clips: video files and folders of numbered images, with class folders or without

_SHOWN = 3


def _classes_why(tree: Tree, config: DataConfig) -> str | None:
    sources = _sources(tree, config.splits)
    if not names_classes(sources):
        return None
    classes = sorted({source.class_name for source in sources if source.class_name is not None})
    if len(classes) == 1:
        return f"its folder {classes[0]} names a class"
    more = f" and {len(classes) - _SHOWN} more" if len(classes) > _SHOWN else ""
    return f"its folders {', '.join(classes[:_SHOWN])}{more} name classes"


def _folder_why(tree: Tree, config: DataConfig) -> str | None:
    if not tree.names:
        return None
    splits = sorted({name.split("/")[0] for name in tree.names if "/" in name} & {*SPLITS})
    if config.splits == "auto" and splits:
        where = f"lie in {', '.join(splits)} outside class folders"
    else:
        where = "are in no class folders"
    sources = _sources(tree, config.splits)
    outside = sum(source.class_name is None for source in sources)
    if outside == len(sources):
        return f"its videos {where}"
    of = f"{outside} of its {len(sources)} videos {where}"
    return f"{of} (data.layout=classes takes the others alone)"


def _find_classes(tree: Tree, config: DataConfig) -> Scan:
    sources = _sources(tree, config.splits)
    return Scan(root=tree.root, sources=sources, notes=_notes(tree))


def _find_unlabelled(tree: Tree, config: DataConfig) -> Scan:
    sources = [replace(source, class_name=None) for source in _sources(tree, config.splits)]
    return Scan(root=tree.root, sources=sources, notes=_notes(tree))


def _sources(tree: Tree, splits: str) -> list[Source]:
    sources = []
    for name in tree.names:
        split, class_name = split_and_class(name.split("/")[:-1], splits)
        group = group_of(stem_of(name, tree), class_name)
        sources.append(
            Source(
                name=name, path=tree.root / name, split=split, class_name=class_name, group=group
            )
        )
    return sources


def _notes(tree: Tree) -> list[str]:
    if not tree.names:
        raise no_videos(tree)
    containers = [name for name in tree.strange if is_container(tree.root / name)]
    notes = []
    if containers:
        notes.append(
            f"{len(containers)} archives or files of arrays, {containers[0]} first, were passed"
            " over: name one of them to read it"
        )
    others = len(tree.strange) - len(containers)
    if others:
        notes.append(f"{others} files that are not videos were ignored")
    return notes


CLASSES = Layout(name="classes", what="class folders", recognise=_classes_why, find=_find_classes)
FOLDER = Layout(
    name="folder", what="a plain folder of videos", recognise=_folder_why, find=_find_unlabelled
)


# ------------------------------------------------------------------------------------------------
# Videos inside of other files: archives, WebDataset shards, TFRecords, HDF5 and NumPy arrays

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
            f"{len(others)} files of other kinds, {others[0]} first, were ignored: name one of"
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


# ------------------------------------------------------------------------------------------------
# Images that hold all frames of a clip in a row: the tiny-video sets, and MoCoGAN's.
#
# The tiny-video sets (Golf, Aeroplane) have JPEG strips that go down, 128 pixels wide, and a text
# file with a path a line (Vondrick et al. 2016, arXiv:1609.02612). MoCoGAN has class folders of
# strips that go either way (Tulyakov et al. 2018, arXiv:1707.04993).

_FOLDER_START = "frames-stable"
_NUM_PROBED = 16
_FEWEST_FRAMES = 4
"""Of an image that nothing but its shape makes a strip: frames of 2:1 and 3:1 are common."""
_HEAD_LINES = 20


def _tiny_why(tree: Tree, config: DataConfig) -> str | None:
    if tree.videos:
        return None
    lists = _lists(tree)
    if not lists and not any(name.startswith(_FOLDER_START) for name in _folders(tree)):
        return None
    if not _are_strips(tree, 1, share=0.5):
        return None
    finder = _Finder(tree.images())
    for name, paths in lists.items():
        if any(finder.find(path) for path in paths[:_HEAD_LINES]):
            return f"{name} lists its images, which are strips of square frames"
    if any(name.startswith(_FOLDER_START) for name in _folders(tree)):
        return f"it has a folder {_FOLDER_START}... of strips of square frames"
    return None


def _find_tiny(tree: Tree, config: DataConfig) -> Scan:
    images = tree.images()
    lists = _lists(tree)
    if not images:
        raise _no_strips(tree)
    if not lists:
        note = "no text file lists the clips, so all images are taken"
        return Scan(root=tree.root, sources=[_source(name, tree) for name in images], notes=[note])
    finder = _Finder(images)
    coverage = Coverage()
    sources: dict[str, Source] = {}
    for table, paths in lists.items():
        split = split_word(Path(table).stem) or "train"
        for path in paths:
            found = finder.find(path)
            coverage.add(split, path, table, is_there=found is not None)
            if found is not None:
                sources[found] = _source(found, tree, split)
    notes = [coverage.note(lists)]
    if not sources:
        raise UserError(f"{notes[0]}: put {next(iter(lists))} beside the folders that it names")
    unlisted = len(images) - len(sources)
    if unlisted:
        notes.append(f"{unlisted:,} images that stand in no list were ignored")
    return Scan(
        root=tree.root,
        sources=list(sources.values()),
        dropped=coverage.missing,
        num_missing=len(coverage.missing),
        notes=notes,
    )


def _row_why(tree: Tree, config: DataConfig) -> str | None:
    if tree.videos:
        return None
    if not _are_strips(tree, _FEWEST_FRAMES, share=0.9):
        return None
    return f"its images are square frames in a row, as in {tree.some_images(1)[0]}"


def _find_rows(tree: Tree, config: DataConfig) -> Scan:
    images = tree.images()
    if not images:
        raise _no_strips(tree)
    sources = []
    for name in images:
        split, class_name = split_and_class(name.split("/")[:-1], config.splits)
        sources.append(
            Source(
                name=name, path=tree.root / name, kind="strip", split=split, class_name=class_name
            )
        )
    return Scan(root=tree.root, sources=sources)


def _no_strips(tree: Tree) -> UserError:
    return UserError(
        f"{tree.root} holds no images ({' '.join(sorted(IMAGE_SUFFIXES))}): choose another"
        " data.layout or leave it at auto"
    )


def _source(name: str, tree: Tree, split: str = "train") -> Source:
    above = name.rpartition("/")[0]
    # Clips of one film lie in a folder that has the film's name.
    group = above if Path(above).suffix.lower() in VIDEO_SUFFIXES else None
    return Source(name=name, path=tree.root / name, kind="strip", split=split, group=group)


def _folders(tree: Tree) -> set[str]:
    return {name.split("/")[0] for name in (*tree.image_folders, *tree.others) if "/" in name}


def _are_strips(tree: Tree, fewest: int, share: float) -> bool:
    """Whether this share of some images is made of squares; damaged ones say nothing."""
    lengths = []
    for name in tree.some_images(_NUM_PROBED):
        try:
            with open_image(tree.root / name) as image:
                lengths.append(strip_length(*image.size))
        except ImageError:
            continue
    fitting = sum(length is not None and length >= fewest for length in lengths)
    return fitting > 0 and fitting >= share * len(lengths)


def _lists(tree: Tree) -> dict[str, list[str]]:
    """Paths of images, with forward slashes, in every text file that has nothing else."""
    found = {}
    for name in tree.tables(".txt"):
        lines = [line.split() for line in table_text(tree.root / name).splitlines()]
        # Older lists have a count after the path.
        paths = [line[0].replace("\\", "/") for line in lines if line]
        if paths and all(_names_image(path) for path in paths[:_HEAD_LINES]):
            found[name] = paths
    return found


def _names_image(path: str) -> bool:
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


class _Finder:
    """Finds listed paths, which may start higher or deeper than the folder that is read.

    Only images of the folder are ever found, whatever a list says.
    """

    def __init__(self, images: list[str]) -> None:
        self._by_tail: dict[str, list[str]] = defaultdict(list)
        for name in images:
            parts = name.split("/")
            self._by_tail["/".join(parts[-2:])].append(name)
            if len(parts) > 1:
                self._by_tail[parts[-1]].append(name)

    def find(self, path: str) -> str | None:
        """The image that a listed path refers to; None if there is none or it is ambiguous."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        whole = "/".join(parts)
        names = self._by_tail.get("/".join(parts[-2:]), [])
        fitting = [
            n for n in names if f"/{n}".endswith(f"/{whole}") or f"/{whole}".endswith(f"/{n}")
        ]
        exact = [name for name in fitting if name == whole]
        return (exact or fitting)[0] if exact or len(fitting) == 1 else None


TINYVIDEO = Layout(
    name="tinyvideo",
    what="strips of the tiny-video sets (Golf, Aeroplane)",
    recognise=_tiny_why,
    find=_find_tiny,
)
STRIPS = Layout(
    name="strips",
    what="strips in class folders (MoCoGAN)",
    recognise=_row_why,
    find=_find_rows,
)
