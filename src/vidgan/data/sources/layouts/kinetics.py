"""Kinetics: tables of YouTube addresses and times, and whichever of the clips were to be had.

A clip is called `<youtube_id>_<start>_<end>` with times of six digits, flat or in class folders.
Carreira et al. 2018, arXiv:1808.01340.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vidgan.core.files import open_file
from vidgan.data.settings import DataConfig
from vidgan.data.sources.layouts.base import Layout
from vidgan.data.sources.layouts.lists import (
    SUBSETS,
    Coverage,
    by_stem,
    in_folder,
    read_text,
    split_word,
)
from vidgan.data.sources.source import Scan, Source
from vidgan.data.sources.tree import Tree
from vidgan.errors import UserError

_COLUMNS = {"youtube_id", "time_start", "time_end"}
_HEADER_BYTES = 4096


class _Row(NamedTuple):
    key: str
    youtube_id: str
    label: str
    split: str


def _tables(tree: Tree) -> list[str]:
    return [name for name in tree.tables(".csv") if _is_table(tree.root / name)]


def _is_table(file: Path) -> bool:
    with open_file(file) as opened:
        first = opened.readline(_HEADER_BYTES).decode("utf-8-sig", "replace")
    return _COLUMNS.issubset(_plain(name) for name in first.split(","))


def _plain(name: str | None) -> str:
    return (name or "").strip().strip('"').lower()


def _why(tree: Tree, config: DataConfig) -> str | None:
    tables = _tables(tree)
    if not tables:
        return None
    more = f" and {len(tables) - 1} more tables" if len(tables) > 1 else ""
    have = "have" if more else "has"
    return f"{tables[0]}{more} {have} the columns youtube_id, time_start and time_end"


def _find(tree: Tree, config: DataConfig) -> Scan:
    tables = _tables(tree)
    if not tables:
        raise UserError(
            f"{tree.root} has no table (.csv) with the columns {', '.join(sorted(_COLUMNS))}: put"
            " the published ones into the folder or choose another data.layout"
        )
    there = by_stem(tree)
    coverage = Coverage()
    sources: dict[str, Source] = {}
    unlabelled: list[tuple[str, str]] = []
    seen: set[str] = set()
    num_bad = 0
    for table in tables:
        for row in _rows(tree.root / table):
            if row is None:
                num_bad += 1
                continue
            if row.key in seen:
                continue
            seen.add(row.key)
            names = there.get(row.key, [])
            coverage.add(row.split, f"{row.key}.mp4", table, is_there=bool(names))
            if names:
                name = in_folder(names, row.label)
                sources[name] = Source(
                    name=name,
                    path=tree.root / name,
                    split=row.split,
                    class_name=row.label or None,
                    group=row.youtube_id,
                )
    if not sources:
        raise UserError(
            f"none of the {coverage.num_listed:,} clips that {', '.join(tables)} lists is in"
            f" {tree.root}: they should be called <youtube_id>_<start>_<end>.mp4 with times of six"
            " digits, as -abcdefghij_000012_000022.mp4"
        )
    kept = list(sources.values())
    if any(source.class_name for source in kept):
        unlabelled = [(s.name, "has no label in its table") for s in kept if not s.class_name]
        kept = [source for source in kept if source.class_name]
    unlisted = [(name, "stands in no table") for name in tree.names if name not in sources]
    notes = [coverage.note(tables)]
    if num_bad:
        notes.append(
            f"{num_bad:,} rows of the tables lack an address or times and were passed over"
        )
    return Scan(
        root=tree.root,
        sources=kept,
        dropped=[*unlabelled, *unlisted, *coverage.missing],
        num_missing=len(coverage.missing),
        notes=notes,
    )


def _rows(file: Path) -> Iterator[_Row | None]:
    """The rows of a table; None for one that names no clip."""
    told = split_word(file.stem) or "train"
    try:
        lines = list(csv.reader(io.StringIO(read_text(file), newline="")))
    except csv.Error as error:
        raise UserError(f"{file} is damaged ({error}): fetch it again") from error
    header = [_plain(name) for name in lines[0]]
    for cells in filter(None, lines[1:]):
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        try:
            times = [int(float(row[name])) for name in ("time_start", "time_end")]
            youtube_id = row["youtube_id"]
        except (KeyError, ValueError, OverflowError):
            yield None
            continue
        key = f"{youtube_id}_{times[0]:06d}_{times[1]:06d}"
        split = SUBSETS.get(row.get("split", "").lower(), told)
        yield _Row(key, youtube_id, row.get("label", ""), split) if youtube_id else None


KINETICS = Layout(name="kinetics", what="Kinetics", recognise=_why, find=_find)
