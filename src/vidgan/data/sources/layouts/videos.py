"""Published sets of labelled videos, whose clips and splits are named by lists beside them."""

import csv
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from vidgan.core.files import open_file
from vidgan.data.settings import DataConfig
from vidgan.data.sources.layouts.base import Layout
from vidgan.data.sources.source import Scan, Source
from vidgan.data.sources.tree import Tree, no_videos
from vidgan.errors import UserError
from vidgan.video.sequences import IMAGE_SUFFIXES

# ------------------------------------------------------------------------------------------------
# What published layouts share: tables beside the videos, and which of their rows are there

SUBSETS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "heldout": "heldout",
}
"""What published sets call their splits."""

_UCF_NAME = re.compile(r"v_(.+)_g([0-9]+)_c[0-9]+", re.IGNORECASE)
_CLIP_NAME = re.compile(r"([\w-]{11})_[0-9]{6}_[0-9]{6}")


def stem_of(name: str, tree: Tree) -> str:
    """The last part of a video's name, without its suffix if it is a file, or its number mark."""
    last = name.rpartition("/")[2]
    if name in tree.image_folder_set:
        return last
    return re.sub(r"[\W_]*[*]", "", last) if name in tree.sequence_set else Path(last).stem


def by_stem(tree: Tree) -> dict[str, list[str]]:
    """Names of all videos by their stems."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in tree.names:
        found[stem_of(name, tree)].append(name)
    return found


def in_folder(names: Sequence[str], folder: str) -> str:
    """That of several names which lies in a folder of this name, else the first."""
    return next((name for name in names if folder in name.split("/")[:-1]), names[0])


def group_of(stem: str, class_name: str | None) -> str | None:
    """The group encoded in a published name: UCF-101's `gNN` of a class, or a YouTube address."""
    ucf = _UCF_NAME.fullmatch(stem)
    if ucf:
        return f"{class_name or ucf[1]}/g{int(ucf[2]):02d}"
    clip = _CLIP_NAME.fullmatch(stem)
    return clip[1] if clip else None


def ucf_class(stem: str) -> str | None:
    """The class in a name such as `v_Archery_g01_c02`, or None for another name."""
    match = _UCF_NAME.fullmatch(stem)
    return match[1] if match else None


def split_word(text: str) -> str | None:
    """The split that a file name contains, if there is exactly one."""
    told = {SUBSETS[word] for word in re.split(r"[^a-z]+", text.lower()) if word in SUBSETS}
    return told.pop() if len(told) == 1 else None


def table_text(file: Path) -> str:
    """Text of a table, whatever its line ends; bytes that are no UTF-8 are replaced."""
    with io.TextIOWrapper(open_file(file), "utf-8-sig", "replace") as opened:
        return opened.read()


class Coverage:
    """Counts, split by split, how many of the listed videos are there.

    Attributes:
        missing: name and reason of those that are not.
    """

    def __init__(self) -> None:
        self._listed: Counter[str] = Counter()
        self._present: Counter[str] = Counter()
        self.missing: list[tuple[str, str]] = []

    def add(self, split: str, name: str, table: str, *, is_there: bool) -> None:
        """Count one row of a table."""
        self._listed[split] += 1
        self._present[split] += is_there
        if not is_there:
            self.missing.append((name, f"is listed in {table} and not on the disk"))

    @property
    def num_present(self) -> int:
        """Rows whose video is there."""
        return self._present.total()

    @property
    def num_listed(self) -> int:
        """All rows."""
        return self._listed.total()

    def note(self, tables: Iterable[str]) -> str:
        """Such as `of train.csv, 812 of 1,000 videos are there (81.2 %): train 812 of 1,000`."""
        told = ", ".join(
            f"{split} {self._present[split]:,} of {count:,}"
            for split, count in sorted(self._listed.items())
        )
        share = 100 * self.num_present / max(1, self.num_listed)
        # A few missing rows of many thousands must not be rounded away.
        shown = "100" if self.num_present == self.num_listed else f"{min(share, 99.9):.1f}"
        return (
            f"{self.num_present:,} of the {self.num_listed:,} videos listed in"
            f" {', '.join(tables)} are there ({shown} %): {told}"
        )


# ------------------------------------------------------------------------------------------------
# Frame folders, or videos, with a JSON file in ActivityNet's form that gives subsets and labels.
#
# Loaders for 3D networks and ports of DVD-GAN keep UCF-101 and Kinetics so: images
# `CLASS/KEY/image_00001.jpg` with their number in `n_frames`, and a file `{"labels": [...],
# "database": {KEY: {"subset": "training", "annotations": {"label": CLASS}}}}`.

_HEAD_BYTES = 1 << 16
_MARKS = (b'"database"', b'"labels"', b'"taxonomy"')
_COUNT_FILE = "n_frames"


def _why_activitynet(tree: Tree, config: DataConfig) -> str | None:
    tables = _activitynet_tables(tree)
    there = by_stem(tree) if tables else {}
    chosen = [name for name in tables if _number(name) == config.fold]
    for name in [*chosen, *tables]:
        database = tables[name]
        count = sum(key in there for key in database)
        if count:
            return f"{name} gives {count:,} of its {len(tree.names):,} videos a subset and a label"
    return None


def _find_activitynet(tree: Tree, config: DataConfig) -> Scan:
    tables = _of_fold(_activitynet_tables(tree), config.fold)
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


def _activitynet_tables(tree: Tree) -> dict[str, dict[str, Any]]:
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
        table = json.loads(table_text(file))
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
    """A sentence about folders that hold other than the number of images they claim."""
    wrong = [n for n in names if n in tree.image_folder_set and not _is_counted(tree.root / n)]
    note = (
        f"{len(wrong):,} folders, {wrong[0] if wrong else ''} first, hold another number of"
        f" images than their {_COUNT_FILE} says; all images are used"
    )
    return [note] if wrong else []


def _is_counted(folder: Path) -> bool:
    try:
        told = int(table_text(folder / _COUNT_FILE).strip())
    except (OSError, ValueError):
        return True
    return told == sum(file.suffix.lower() in IMAGE_SUFFIXES for file in folder.iterdir())


ACTIVITYNET = Layout(
    name="activitynet",
    what="frame folders with a JSON file of ActivityNet's form",
    recognise=_why_activitynet,
    find=_find_activitynet,
)


# ------------------------------------------------------------------------------------------------
# Kinetics: tables of YouTube addresses and times, and the clips that were still available.
#
# A clip is called `<youtube_id>_<start>_<end>` with times of six digits, flat or in class folders.
# Carreira et al. 2018, arXiv:1808.01340.

_COLUMNS = {"youtube_id", "time_start", "time_end"}
_HEADER_BYTES = 4096


class _Row(NamedTuple):
    key: str
    youtube_id: str
    label: str
    split: str


def _kinetics_tables(tree: Tree) -> list[str]:
    return [name for name in tree.tables(".csv") if _is_table(tree.root / name)]


def _is_table(file: Path) -> bool:
    with open_file(file) as opened:
        first = opened.readline(_HEADER_BYTES).decode("utf-8-sig", "replace")
    return _COLUMNS.issubset(_plain(name) for name in first.split(","))


def _plain(name: str | None) -> str:
    return (name or "").strip().strip('"').lower()


def _why_kinetics(tree: Tree, config: DataConfig) -> str | None:
    tables = _kinetics_tables(tree)
    if not tables:
        return None
    more = f" and {len(tables) - 1} more tables" if len(tables) > 1 else ""
    have = "have" if more else "has"
    return f"{tables[0]}{more} {have} the columns youtube_id, time_start and time_end"


def _find_kinetics(tree: Tree, config: DataConfig) -> Scan:
    tables = _kinetics_tables(tree)
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
    unlisted = [(name, "is in no table") for name in tree.names if name not in sources]
    notes = [coverage.note(tables)]
    if num_bad:
        notes.append(f"{num_bad:,} rows of the tables lack an address or times and were ignored")
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
        lines = list(csv.reader(io.StringIO(table_text(file), newline="")))
    except csv.Error as error:
        raise UserError(f"{file} is damaged ({error}): download it again") from error
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


KINETICS = Layout(name="kinetics", what="Kinetics", recognise=_why_kinetics, find=_find_kinetics)


# ------------------------------------------------------------------------------------------------
# UCF-101 as it is published: `CLASS/v_CLASS_gNN_cNN.avi` and the lists of its three splits.
#
# Clips of one group (`gNN`) come from one longer video, so a group never lies on both sides of a
# split. Soomro et al. 2012, arXiv:1212.0402.

_LIST_FOLDER = "ucfTrainTestlist"
_CLASS_FILE = "classInd.txt"


def _why_ucf101(tree: Tree, config: DataConfig) -> str | None:
    count = sum(ucf_class(stem_of(name, tree)) is not None for name in tree.names)
    if count == 0 or 2 * count < len(tree.names):
        return None
    named = f"{count:,} of its {len(tree.names):,} videos are named v_CLASS_gNN_cNN"
    lists = _list_folder(tree)
    return f"{named} and {lists} has the lists of the splits" if lists else named


def _find_ucf101(tree: Tree, config: DataConfig) -> Scan:
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
    unlisted = f"is in neither list of the split data.fold={config.fold}"
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
    rows = [line.split() for line in table_text(file).splitlines()] if file.is_file() else []
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
        for line in table_text(file).splitlines():
            # The lists of the training clips have a label after the name.
            name = line.strip().partition(" ")[0].replace("\\", "/")
            if name:
                listed[Path(name).stem.lower()] = name, split, file.name
    return listed


UCF101 = Layout(name="ucf101", what="UCF-101", recognise=_why_ucf101, find=_find_ucf101)
