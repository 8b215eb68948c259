"""Frame folders, or videos, with a JSON file in ActivityNet's form that gives subsets and labels.

Loaders for 3D networks and ports of DVD-GAN keep UCF-101 and Kinetics so: pictures
`CLASS/KEY/image_00001.jpg` with their number in `n_frames`, and a file `{"labels": [...],
"database": {KEY: {"subset": "training", "annotations": {"label": CLASS}}}}`.
"""

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from vidgan.core.files import open_file
from vidgan.data.settings import DataConfig
from vidgan.data.sources.layouts.base import Layout
from vidgan.data.sources.layouts.lists import (
    SUBSETS,
    Coverage,
    by_stem,
    group_of,
    in_folder,
    read_text,
)
from vidgan.data.sources.source import Scan, Source
from vidgan.data.sources.tree import Tree
from vidgan.errors import UserError
from vidgan.video.sequences import IMAGE_SUFFIXES

_HEAD_BYTES = 1 << 16
_MARKS = (b'"database"', b'"labels"', b'"taxonomy"')
_COUNT_FILE = "n_frames"


def _why(tree: Tree, config: DataConfig) -> str | None:
    tables = _tables(tree)
    there = by_stem(tree) if tables else {}
    chosen = [name for name in tables if _number(name) == config.fold]
    for name in [*chosen, *tables]:
        database = tables[name]
        count = sum(key in there for key in database)
        if count:
            return f"{name} gives {count:,} of its {len(tree.names):,} videos a subset and a label"
    return None


def _find(tree: Tree, config: DataConfig) -> Scan:
    tables = _of_fold(_tables(tree), config.fold)
    if not tables:
        raise UserError(
            f"{tree.root} has no JSON file with a database of subsets and annotations: put it into"
            " the folder or choose another data.layout"
        )
    there = by_stem(tree)
    coverage = Coverage()
    sources: dict[str, Source] = {}
    unlabelled: list[tuple[str, str]] = []
    for table, database in tables.items():
        for key, entry in database.items():
            label, split = _label(entry), _split(entry)
            names = there.get(key, [])
            coverage.add(split, key, table, is_there=bool(names))
            if not names:
                continue
            name = in_folder(names, label or "")
            if label is None:
                unlabelled.append((name, f"has no label in {table}"))
                continue
            sources[name] = Source(
                name=name,
                path=tree.root / name,
                split=split,
                class_name=label,
                group=group_of(key, label),
            )
    known = {*sources, *(name for name, _ in unlabelled)}
    unlisted = [(n, f"is not in {', '.join(tables)}") for n in tree.names if n not in known]
    notes = [coverage.note(tables), *_miscounted(tree, [*sources])]
    return Scan(
        root=tree.root,
        sources=list(sources.values()),
        dropped=[*unlabelled, *unlisted, *coverage.missing],
        num_missing=len(coverage.missing),
        notes=notes,
    )


def _tables(tree: Tree) -> dict[str, dict[str, Any]]:
    """The database of every JSON file of this form by the file's name."""
    found = {}
    for name in tree.tables(".json"):
        file = tree.root / name
        database = _database(file, file.stat().st_mtime_ns)
        if database:
            found[name] = database
    return found


@lru_cache(maxsize=4)
def _database(file: Path, time: int) -> dict[str, Any]:
    """The database in a JSON file, without entries that are none; empty for another file."""
    with open_file(file) as opened:
        head = opened.read(_HEAD_BYTES)
    if not any(mark in head for mark in _MARKS):
        return {}
    try:
        table = json.loads(read_text(file))
    except (ValueError, RecursionError):
        return {}
    database = table.get("database") if isinstance(table, dict) else None
    if not isinstance(database, dict):
        return {}
    return {str(k): v for k, v in database.items() if isinstance(v, dict) and "subset" in v}


def _of_fold(tables: dict[str, dict[str, Any]], fold: int) -> dict[str, dict[str, Any]]:
    """The file of the asked split where several are numbered, as ucf101_01.json; else all."""
    if len(tables) < 2 or None in map(_number, tables):
        return tables
    chosen = {name: database for name, database in tables.items() if _number(name) == fold}
    if not chosen:
        raise UserError(
            f"data.fold={fold} fits none of {', '.join(tables)}: choose one of their numbers"
        )
    return chosen


def _number(name: str) -> int | None:
    digits = re.search(r"([0-9]+)\.json$", name.lower())
    return int(digits[1]) if digits else None


def _label(entry: dict[str, Any]) -> str | None:
    """The label of an entry; ActivityNet itself has a list with one for every segment."""
    annotations = entry.get("annotations")
    if isinstance(annotations, list):
        annotations = annotations[0] if annotations else None
    label = annotations.get("label") if isinstance(annotations, dict) else None
    return label if isinstance(label, str) and label else None


def _split(entry: dict[str, Any]) -> str:
    return SUBSETS.get(str(entry.get("subset", "")).lower(), "train")


def _miscounted(tree: Tree, names: list[str]) -> list[str]:
    """A sentence about folders that hold other than the number of pictures they claim."""
    wrong = [n for n in names if n in tree.image_folder_set and not _is_counted(tree.root / n)]
    note = (
        f"{len(wrong):,} folders, {wrong[0] if wrong else ''} first, hold another number of"
        f" pictures than their {_COUNT_FILE} says; all pictures are used"
    )
    return [note] if wrong else []


def _is_counted(folder: Path) -> bool:
    try:
        told = int(read_text(folder / _COUNT_FILE).strip())
    except (OSError, ValueError):
        return True
    return told == sum(file.suffix.lower() in IMAGE_SUFFIXES for file in folder.iterdir())


ACTIVITYNET = Layout(
    name="activitynet",
    what="frame folders with a JSON file of ActivityNet's form",
    recognise=_why,
    find=_find,
)
