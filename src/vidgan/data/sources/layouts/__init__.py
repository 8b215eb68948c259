"""Layouts of videos on disk, and how the layout of a source is chosen.

To add one, write a module beside this one that makes a `Layout`, and name it in `LAYOUTS`.
"""

from dataclasses import replace
from pathlib import Path

from vidgan.core.settings import closest
from vidgan.data.packed.manifest import MANIFEST_NAME, is_packed
from vidgan.data.settings import DataConfig
from vidgan.data.sources.containers.reading import CONTAINER_SUFFIXES, is_container
from vidgan.data.sources.layouts.base import Layout
from vidgan.data.sources.layouts.stored import (
    ARCHIVE,
    ARRAYS,
    CLASSES,
    FOLDER,
    STRIPS,
    TFRECORDS,
    TINYVIDEO,
    WEBDATASET,
)
from vidgan.data.sources.layouts.videos import ACTIVITYNET, KINETICS, UCF101
from vidgan.data.sources.source import Scan, settle
from vidgan.data.sources.tree import VIDEO_SUFFIXES, Tree, look_at, no_videos
from vidgan.errors import UserError

__all__ = ["LAYOUTS", "Layout", "scan_sources"]

LAYOUTS: tuple[Layout, ...] = (
    *(KINETICS, ACTIVITYNET, UCF101, TINYVIDEO, STRIPS),
    *(WEBDATASET, TFRECORDS, ARRAYS, ARCHIVE),
    *(CLASSES, FOLDER),
)
"""Most specific first: the first layout that recognises a source is used."""


def scan_sources(root: str | Path, config: DataConfig) -> Scan:
    """List the videos of a folder or container, read as `config.layout` or as what it looks like.

    Raises:
        UserError: there is nothing at `root`, no such layout, or no video.
    """
    root = Path(root)
    tree = look_at(root)
    if root.is_file() and root.suffix.lower() in VIDEO_SUFFIXES:
        tree = Tree(root.parent, videos=(root.name,))
    elif root.is_file() and not is_container(root):
        raise UserError(
            f"{root} is not a video: name one, a folder that holds videos, or an archive or file of"
            f" arrays ({' '.join(CONTAINER_SUFFIXES)})"
        )
    if MANIFEST_NAME in tree.others and is_packed(root):
        raise UserError(f"{root} is a packed clip set already: train with data={root}")
    if {"config.yaml", "last.json"} <= set(tree.others):
        raise UserError(
            f"{root} is the folder of a run, and the films in it are what it generated: name the"
            f" videos that it was trained on ({root / 'config.yaml'} has them as data.path)"
        )
    layout, why = _choose(tree, config)
    found = layout.find(tree, config)
    misnamed = tree.misnamed_without(source.path for source in found.sources)
    several = tree.told_sequences({source.name for source in found.sources})
    if tree.root != root:
        one = f"a single film: vidgan data split {root} OUT makes many clips of it, by its shots"
        several = [*several, one]
    scan = replace(
        found,
        root=root,
        what=f"{root} is read as {layout.what} (data.layout={layout.name}), {why}",
        layout=layout.name,
        dropped=[*found.dropped, *tree.unread, *misnamed],
        num_missing=found.num_missing + len(misnamed),
        notes=[*several, *found.notes],
    )
    return settle(scan, config)


def _choose(tree: Tree, config: DataConfig) -> tuple[Layout, str]:
    by_name = {layout.name: layout for layout in LAYOUTS}
    if config.layout in by_name:
        return by_name[config.layout], "as that setting says"
    if config.layout != "auto":
        guess = closest(config.layout, ["auto", *by_name])
        hint = f"did you mean {guess}?" if guess else f"there are auto, {', '.join(by_name)}"
        raise UserError(f"data.layout={config.layout} is not a known layout; {hint}")
    for layout in LAYOUTS:
        why = layout.recognise(tree, config)
        if why is not None:
            return layout, f"since {why}"
    raise no_videos(tree)
