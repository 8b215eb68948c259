"""The manifest of a packed clip set: its contents, in one JSON file without dates."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from vidgan.core.files import read_json, write_json_atomically
from vidgan.core.shapes import LevelShape
from vidgan.data.packed.cloud import is_url
from vidgan.data.packed.payload import Codec
from vidgan.data.settings import SPLITS
from vidgan.errors import UserError

FORMAT = "vidgan-clips"
SCHEMA = 1
MANIFEST_NAME = "manifest.json"
ChunkFormat = Literal["safetensors", "litdata"]

MANIFEST_BYTES = 1 << 30
"""Longest manifest that is read: some five million clips."""
MAX_SIDE = 1 << 16
"""Frames of a clip and pixels of its side; JPEG and H.264 end there."""
MAX_CLIP_BYTES = 1 << 32
"""Bytes of one decoded item: four hours of 64 x 64 pixels."""
MAX_FPS = 1e6


def level_folder(level: LevelShape) -> str:
    """Name of the folder that holds the chunks of a level."""
    return f"level-{level.frames}x{level.resolution}"


@dataclass(frozen=True)
class ClipItem:
    """One stored clip.

    Attributes:
        label: position in the classes, -1 without classes.
        split: train, val, test or heldout.
        source: name of the video it was cut from.
        stored_frames: frames of its full-size level, at least those of a clip.
        checksums: CRC-32 of its payload for every level.
        group: videos of one group share a split; empty for one that stands alone.
    """

    label: int
    split: str
    source: str
    stored_frames: int
    checksums: tuple[int, ...] = ()
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a packed clip set holds.

    Attributes:
        levels: full size first; the frames count one clip, items may store more.
        codecs: payload codec of every level.
        classes: class names; empty without labels.
        attributes: what each class is made of, e.g. object and motion.
        fps: median frame rate of the stored clips.
        items_per_chunk: items in every chunk file but the last.
        items: all items; their order is that of the chunks.
        dropped: name and reason of each video that was left out.
        notes: name and remark of each video that was handled specially.
        flaws: source of a kept clip, filter of `QualityConfig`, and the problem.
        num_bytes: length of all payloads together.
        settings: settings of the build.
        source_hash: hash of the names and sizes of the source files.
        builder: version of vidgan that wrote the set.
        chunks: format of the chunk folders.
        layout: what the source was read as, a name for `data.layout`.
        num_missing: of the dropped ones, videos that a published list names but the source lacks.
    """

    levels: tuple[LevelShape, ...]
    codecs: tuple[Codec, ...]
    classes: tuple[str, ...]
    attributes: dict[str, dict[str, str]]
    fps: float
    items_per_chunk: int
    items: tuple[ClipItem, ...]
    dropped: tuple[tuple[str, str], ...]
    notes: tuple[tuple[str, str], ...]
    flaws: tuple[tuple[str, str, str], ...]
    num_bytes: int
    settings: dict[str, Any]
    source_hash: str
    builder: str
    chunks: ChunkFormat = "safetensors"
    layout: str = ""
    num_missing: int = 0

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of clips by split and class (class "" without labels)."""
        table: dict[str, Counter[str]] = {}
        for item in self.items:
            name = self.classes[item.label] if self.classes else ""
            table.setdefault(item.split, Counter())[name] += 1
        return {split: dict(sorted(counter.items())) for split, counter in sorted(table.items())}


def is_packed(path: str | Path) -> bool:
    """Whether a folder is a finished packed clip set; an address in an object store names one."""
    return is_url(path) or (Path(path) / MANIFEST_NAME).is_file()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`; items are stored as columns to keep it small."""
    items = manifest.items
    write_json_atomically(
        folder / MANIFEST_NAME,
        {
            "format": FORMAT,
            "schema": SCHEMA,
            "builder": manifest.builder,
            "num_clips": len(items),
            "counts": manifest.counts(),
            "classes": list(manifest.classes),
            "attributes": manifest.attributes,
            "fps": manifest.fps,
            "levels": [
                {"frames": level.frames, "resolution": level.resolution, "codec": codec}
                for level, codec in zip(manifest.levels, manifest.codecs, strict=True)
            ],
            "chunks": manifest.chunks,
            "items_per_chunk": manifest.items_per_chunk,
            "layout": manifest.layout,
            "num_missing": manifest.num_missing,
            "settings": manifest.settings,
            "source_hash": manifest.source_hash,
            "dropped": [list(pair) for pair in manifest.dropped],
            "notes": [list(pair) for pair in manifest.notes],
            "flaws": [list(flaw) for flaw in manifest.flaws],
            "num_bytes": manifest.num_bytes,
            "items": {
                "source": [item.source for item in items],
                "split": [item.split for item in items],
                "label": [item.label for item in items],
                "group": [item.group for item in items],
                "stored_frames": [item.stored_frames for item in items],
                "crc32": [list(item.checksums) for item in items],
            },
        },
    )


def read_manifest(folder: str | Path) -> Manifest:
    """Read the manifest of a packed clip set.

    Raises:
        UserError: the folder holds none, a foreign or damaged one, or one of another schema.
    """
    file = Path(folder) / MANIFEST_NAME
    if not file.is_file():
        raise UserError(f"{folder} is not a packed clip set: make one with `vidgan data build`")
    table = read_json(file, MANIFEST_BYTES)
    if table.get("format") != FORMAT:
        raise UserError(
            f"{folder} is not a packed clip set, its {MANIFEST_NAME} says {table.get('format')}: "
            "name"
            " one that `vidgan data build` made"
        )
    schema = table.get("schema")
    if type(schema) is int and schema > SCHEMA:
        raise UserError(
            f"{folder} was made by a newer vidgan (schema {schema}, this one knows {SCHEMA}):"
            " update vidgan"
        )
    try:
        manifest = _manifest_of(table)
        _check(manifest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{file} is damaged ({reason}): build the set again") from error
    return manifest


def _manifest_of(table: dict[str, Any]) -> Manifest:
    """A manifest of stored values, not yet checked; raises arbitrary errors."""
    columns = table["items"]
    rows = zip(
        columns["label"],
        columns["split"],
        columns["source"],
        columns["stored_frames"],
        (tuple(sums) for sums in columns["crc32"]),
        # Sets of the first release know no groups.
        columns.get("group", [""] * len(columns["label"])),
        strict=True,
    )
    return Manifest(
        levels=tuple(LevelShape(row["frames"], row["resolution"]) for row in table["levels"]),
        codecs=tuple(row["codec"] for row in table["levels"]),
        classes=tuple(table["classes"]),
        attributes=table["attributes"],
        fps=table["fps"],
        items_per_chunk=table["items_per_chunk"],
        items=tuple(ClipItem(*row) for row in rows),
        dropped=tuple((name, reason) for name, reason in table["dropped"]),
        notes=tuple((name, note) for name, note in table["notes"]),
        flaws=tuple((name, key, what) for name, key, what in table.get("flaws", ())),
        num_bytes=table.get("num_bytes", 0),
        settings=table["settings"],
        source_hash=table["source_hash"],
        builder=table["builder"],
        # Nor do they know of flaws, sizes, layouts, missing videos and formats of chunks.
        chunks=table.get("chunks", "safetensors"),
        layout=table.get("layout", ""),
        num_missing=table.get("num_missing", 0),
    )


def _check(manifest: Manifest) -> None:
    """Raise ValueError unless everything has its type and range, so that readers may rely on it."""
    words = ("source_hash", "builder", "layout")
    checks = {
        "levels": _are_levels(manifest.levels),
        "codec": all(codec in get_args(Codec) for codec in manifest.codecs),
        "classes": all(type(name) is str for name in manifest.classes),
        "attributes": _is_table_of_words(manifest.attributes),
        "fps": type(manifest.fps) in (int, float) and 0 < manifest.fps <= MAX_FPS,
        "items_per_chunk": _is_whole(manifest.items_per_chunk, 1),
        "settings": isinstance(manifest.settings, dict),
        "chunks": manifest.chunks in get_args(ChunkFormat),
        "num_bytes": _is_whole(manifest.num_bytes, 0),
        "num_missing": _is_whole(manifest.num_missing, 0),
        "items": bool(manifest.items),
        **{name: type(getattr(manifest, name)) is str for name in words},
    }
    for name in ("dropped", "notes", "flaws"):
        checks[name] = all(type(word) is str for row in getattr(manifest, name) for word in row)
    wrong = [name for name, holds in checks.items() if not holds]
    if wrong:
        raise ValueError(f"{wrong[0]} is out of range")
    for number, item in enumerate(manifest.items):
        flaw = _item_flaw(item, manifest)
        if flaw:
            raise ValueError(f"{flaw} of item {number} is out of range")


def _are_levels(levels: tuple[LevelShape, ...]) -> bool:
    """Whether there are sizes, the full one first, of which every other is a whole part."""
    sizes = [size for level in levels for size in level]
    if not levels or not all(_is_whole(size, 1, MAX_SIDE) for size in sizes):
        return False
    full = levels[0]
    parts = all(not (full.frames % t or full.resolution % r) for t, r in levels)
    return parts and len(set(levels)) == len(levels)


def _item_flaw(item: ClipItem, manifest: Manifest) -> str | None:
    labels = range(len(manifest.classes)) if manifest.classes else range(-1, 0)
    full = manifest.levels[0]
    # Decoded, a clip has to fit in memory; three bytes a pixel.
    most = MAX_CLIP_BYTES // (3 * full.resolution**2)
    checks = {
        "the label": type(item.label) is int and item.label in labels,
        "the split": item.split in SPLITS,
        "the source": type(item.source) is str,
        "stored_frames": _is_whole(item.stored_frames, full.frames, most),
        "the group": type(item.group) is str,
        "crc32": len(item.checksums) == len(manifest.levels)
        and all(_is_whole(value, 0, 2**32 - 1) for value in item.checksums),
    }
    return next((name for name, holds in checks.items() if not holds), None)


def _is_whole(value: Any, least: int, most: int = 2**63 - 1) -> bool:
    return type(value) is int and least <= value <= most


def _is_table_of_words(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(row, dict) and all(type(word) is str for word in row.values())
        for row in value.values()
    )
