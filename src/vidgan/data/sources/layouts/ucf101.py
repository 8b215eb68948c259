"""UCF-101 as it is published: `CLASS/v_CLASS_gNN_cNN.avi` and the lists of its three splits.

Clips of one group (`gNN`) come from one longer video, so a group never lies on both sides of a
split. Soomro et al. 2012, arXiv:1212.0402.
"""

from dataclasses import replace
from pathlib import Path

from vidgan.data.settings import DataConfig
from vidgan.data.sources.layouts.base import Layout
from vidgan.data.sources.layouts.lists import Coverage, group_of, read_text, stem_of, ucf_class
from vidgan.data.sources.source import Scan, Source
from vidgan.data.sources.tree import Tree, no_videos
from vidgan.errors import UserError

_LIST_FOLDER = "ucfTrainTestlist"
_CLASS_FILE = "classInd.txt"


def _why(tree: Tree, config: DataConfig) -> str | None:
    count = sum(ucf_class(stem_of(name, tree)) is not None for name in tree.names)
    if count == 0 or 2 * count < len(tree.names):
        return None
    named = f"{count:,} of its {len(tree.names):,} videos are named v_CLASS_gNN_cNN"
    lists = _list_folder(tree)
    return f"{named} and {lists} has the lists of the splits" if lists else named


def _find(tree: Tree, config: DataConfig) -> Scan:
    if not tree.names:
        raise no_videos(tree)
    folder = _list_folder(tree)
    order = _class_order(folder) if folder else []
    sources = [_source(name, tree) for name in tree.names]
    if folder is None:
        note = (
            f"the lists of the splits ({_LIST_FOLDER}/trainlist01.txt) are not there: put them"
            " into the folder to train on a published split"
        )
        return Scan(root=tree.root, sources=sources, notes=[note], classes=order)
    listed = _read_lists(folder, config.fold)
    by_key = {stem_of(source.name, tree).lower(): source for source in sources}
    coverage = Coverage()
    kept: list[Source] = []
    for key, (name, split, table) in listed.items():
        source = by_key.get(key)
        coverage.add(split, name, table, is_there=source is not None)
        if source is not None:
            kept.append(replace(source, split=split))
    known = {source.name for source in kept}
    unlisted = f"stands in neither list of the split data.fold={config.fold}"
    dropped = [(source.name, unlisted) for source in sources if source.name not in known]
    tables = sorted({table for _, _, table in listed.values()})
    return Scan(
        root=tree.root,
        sources=kept,
        dropped=[*dropped, *coverage.missing],
        num_missing=len(coverage.missing),
        notes=[coverage.note(tables)],
        classes=order,
    )


def _source(name: str, tree: Tree) -> Source:
    stem = stem_of(name, tree)
    # The folder, as one class is spelled with another capital letter in its file names.
    folders = name.split("/")[:-1]
    class_name = folders[-1] if folders else ucf_class(stem)
    return Source(
        name=name, path=tree.root / name, class_name=class_name, group=group_of(stem, class_name)
    )


def _list_folder(tree: Tree) -> Path | None:
    """Where the lists lie: below the folder, or beside it as the two archives unpack."""
    for name in tree.others:
        if name.rpartition("/")[2].lower().startswith("trainlist0"):
            return (tree.root / name).parent
    beside = tree.root.resolve().parent / _LIST_FOLDER
    return beside if (beside / "trainlist01.txt").is_file() else None


def _class_order(folder: Path) -> list[str]:
    file = folder / _CLASS_FILE
    rows = [line.split() for line in read_text(file).splitlines()] if file.is_file() else []
    numbered = [(int(row[0]), row[1]) for row in rows if len(row) == 2 and row[0].isdecimal()]
    return [name for _, name in sorted(numbered)]


def _read_lists(folder: Path, fold: int) -> dict[str, tuple[str, str, str]]:
    """Name, split and list of every listed video by its stem in lower case."""
    listed: dict[str, tuple[str, str, str]] = {}
    for split in ("train", "test"):
        file = folder / f"{split}list{fold:02d}.txt"
        if not file.is_file():
            raise UserError(
                f"data.fold={fold} needs the list {file}, which is not there: UCF-101 has the"
                " splits 1, 2 and 3"
            )
        for line in read_text(file).splitlines():
            # The lists of the training clips have a label behind the name.
            name = line.strip().partition(" ")[0].replace("\\", "/")
            if name:
                listed[Path(name).stem.lower()] = name, split, file.name
    return listed


UCF101 = Layout(name="ucf101", what="UCF-101", recognise=_why, find=_find)
