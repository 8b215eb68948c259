"""Anybody's clips: video files and folders of numbered pictures, with class folders or without."""

from dataclasses import replace

from vidgan.data.settings import SPLITS, DataConfig
from vidgan.data.sources.containers.reading import is_container
from vidgan.data.sources.layouts.base import Layout
from vidgan.data.sources.layouts.lists import group_of, stem_of
from vidgan.data.sources.source import Scan, Source, split_and_class
from vidgan.data.sources.tree import Tree, no_videos

_SHOWN = 3


def _classes_why(tree: Tree, config: DataConfig) -> str | None:
    sources = _sources(tree, config.splits)
    classes = sorted({source.class_name for source in sources if source.class_name is not None})
    if not classes:
        return None
    if len(classes) == 1:
        return f"its folder {classes[0]} names a class"
    more = f" and {len(classes) - _SHOWN} more" if len(classes) > _SHOWN else ""
    return f"its folders {', '.join(classes[:_SHOWN])}{more} name classes"


def _folder_why(tree: Tree, config: DataConfig) -> str | None:
    if not tree.names:
        return None
    splits = sorted({name.split("/")[0] for name in tree.names if "/" in name} & {*SPLITS})
    if config.splits == "auto" and splits:
        return f"its videos lie in {', '.join(splits)} and in no folders that name classes"
    return "its videos lie in no folders that name classes"


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
        notes.append(f"{others} files that are no videos were passed over")
    return notes


CLASSES = Layout(name="classes", what="class folders", recognise=_classes_why, find=_find_classes)
FOLDER = Layout(
    name="folder", what="a plain folder of videos", recognise=_folder_why, find=_find_unlabelled
)
