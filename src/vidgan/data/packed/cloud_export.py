"""Writing packed clip sets with litdata's chunks, to folders and to object stores."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vidgan.core.files import write_folder_atomically
from vidgan.core.progress import Progress
from vidgan.core.shapes import LevelShape
from vidgan.data.packed.cloud import is_url, litdata, upload_set, write_level
from vidgan.data.packed.export import ExportReport
from vidgan.data.packed.manifest import level_folder, write_manifest
from vidgan.data.packed.store import PackedStore, open_store
from vidgan.errors import UserError


def export_to_litdata(
    source: str | Path, out: str | Path, progress: Progress | None = None
) -> ExportReport:
    """Rewrite a packed clip set with litdata's chunks, for object stores.

    The payloads are the same bytes. The folder may be copied to an object store later; an address
    as `out` copies it at once. Both are packed sets, for training and everything else.

    Args:
        source: a packed clip set.
        out: folder to make, or address such as s3://bucket/set; nothing may be there yet.
        progress: called with (done, total, what) after every payload.

    Raises:
        UserError: no packed set, `out` is there already or cannot be written, a damaged clip, or
            litdata is missing.
    """
    litdata()
    store = open_store(source)
    items: list[int] = []

    def write(folder: Path) -> None:
        for number, level in enumerate(store.levels):
            start = number * len(store)
            payloads = _payloads(store, level, start, progress)
            write_level(folder / level_folder(level), payloads, store.items_per_chunk)
        write_manifest(folder, replace(store.manifest, chunks="litdata"))
        items.append(_num_bytes(folder))

    if is_url(out):
        with tempfile.TemporaryDirectory(prefix="vidgan-export-") as name:
            folder = Path(name) / "set"
            write_folder_atomically(folder, write)
            upload_set(folder, str(out))
    elif Path(out).exists():
        raise UserError(f"{out} already exists: choose another folder or delete it")
    else:
        write_folder_atomically(out, write)
    size = store.items_per_chunk
    shards = {
        f"{level_folder(store.levels[0])}/{start // size}": min(size, len(store) - start)
        for start in range(0, len(store), size)
    }
    return ExportReport(out=str(out), shards=shards, num_bytes=items[0])


def _payloads(
    store: PackedStore, level: LevelShape, start: int, progress: Progress | None
) -> Iterator[bytes]:
    total = len(store) * len(store.levels)
    for index in range(len(store)):
        yield store.payload(index, level)
        if progress:
            progress(start + index + 1, total, "writing chunks")


def _num_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
