"""Features on disk: extracted once, in parts, by one process or by many.

A set of features lies in a folder of its own, named after everything that decides its values: the
extractor with its weights, the protocol's preparation of clips, and the clips. While it is being
made the folder holds numbered parts, each written whole; whoever comes later, after a crash or on
another device, continues with the parts that are missing. The finished set is one float32 array
file for each kind of feature, and a manifest that is written last:

    features.npy  probabilities.npy  manifest.json
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vidgan.core.distributed import Processes
from vidgan.core.files import (
    read_json,
    sha256_of,
    write_file_atomically,
    write_json_atomically,
)
from vidgan.core.settings import plain_hash
from vidgan.errors import UserError
from vidgan.metrics.statistics import FeatureStatistics

STORE_SCHEMA = 1
MANIFEST = "manifest.json"
PART_CLIPS = 256
"""Clips of a part: what a crash loses at most, and a multiple of every extractor's batch."""
BLOCK = 4096
"""Rows that are float64 at once."""

Arrays = dict[str, Tensor]
"""By kind (`features`, `probabilities`), float32 `[M, ...]` with one row a clip."""
ReadClips = Callable[[int, int], Tensor]
"""From start and stop to the clips between them, uint8 `[M, C, T, H, W]`."""
Extract = Callable[[Tensor], Arrays]


@dataclass(frozen=True)
class StoredFeatures:
    """A finished set.

    Attributes:
        folder: where it lies.
        manifest: plain values: `facts` that decide it, `count`, and by array `shape`, `sha256`.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the arrays."""
        return tuple(self.manifest["arrays"])

    def array(self, kind: str = "features") -> Tensor:
        """One array, float32 `[M, ...]`, mapped from disk and read as it is used.

        Raises:
            UserError: the set has no such array, or the file does not fit the manifest.
        """
        if kind not in self.manifest["arrays"]:
            raise UserError(f"{self.folder} holds {', '.join(self.kinds)} and no {kind}")
        expected = self.manifest["arrays"][kind]["shape"]
        path = self.folder / f"{kind}.npy"
        try:
            # Copy on write: torch refuses to promise not to write to a read-only map.
            mapped = numpy.load(path, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); {_CURE}") from error
        if list(mapped.shape) != expected or mapped.dtype != numpy.float32:
            raise UserError(
                f"{path} holds {mapped.dtype} {list(mapped.shape)} and its manifest says float32 "
                f"{expected}; {_CURE}"
            )
        return torch.from_numpy(mapped)

    def statistics(self, kind: str = "features") -> FeatureStatistics:
        """Float64 moments of an array `[M, F]`, block by block."""
        rows = self.array(kind)
        found = FeatureStatistics.empty(rows.shape[1])
        for block in torch.split(rows, BLOCK):
            found = found.update(block)
        return found


_CURE = "delete its folder to have the features extracted again"


class FeatureStore:
    """A folder of such sets.

    Args:
        root: the folder; it is made when first written to.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def folder_of(self, facts: Mapping[str, Any]) -> Path:
        """Where the set that these facts decide lies, or will lie."""
        return self.root / plain_hash(dict(facts))

    def find(self, facts: Mapping[str, Any]) -> StoredFeatures | None:
        """The finished set of these facts, or None.

        Raises:
            UserError: its manifest is damaged or of another version.
        """
        folder = self.folder_of(facts)
        path = folder / MANIFEST
        if not path.exists():
            return None
        try:
            manifest = read_json(path)
            is_known = manifest["schema"] == STORE_SCHEMA and manifest["facts"] == _plain(facts)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} cannot be read or is damaged; {_CURE}") from error
        if not is_known:
            raise UserError(f"{path} is of another version of vidgan; {_CURE}")
        return StoredFeatures(folder, manifest)

    def obtain(
        self,
        facts: Mapping[str, Any],
        count: int,
        read: ReadClips,
        extract: Extract,
        *,
        processes: Processes | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> StoredFeatures:
        """The set of these facts, extracted as far as it is missing.

        Args:
            facts: plain values: everything that decides the features, the clips' hash included.
            count: M, the number of clips.
            read: gives clips; called only for parts that are missing.
            extract: from a part's clips to its arrays.
            processes: those that share the work; each takes every n-th part. All have to call.
            progress: called with clips done and M after every part of this process.

        Raises:
            UserError: a stored set is damaged.
            ValueError: an extractor returned another number of rows, or values that are not finite.
        """
        processes = processes or Processes()
        found = self.find(facts)
        if found is None:
            folder = self.folder_of(facts)
            parts = [
                (start, min(start + PART_CLIPS, count)) for start in range(0, count, PART_CLIPS)
            ]
            for start, stop in parts[processes.rank :: processes.count]:
                path = _part_path(folder, start)
                if not path.exists():
                    arrays = _checked(extract(read(start, stop)), stop - start)
                    write_file_atomically(path, lambda to, a=arrays: save_file(a, to))  # type: ignore[misc]
                if progress:
                    progress(stop, count)
            processes.barrier()
            if processes.is_first:
                _finish(folder, _plain(facts), parts)
            processes.barrier()
            found = self.find(facts)
        if found is None:
            raise UserError(f"another process deleted {self.folder_of(facts)} meanwhile; run again")
        return found


def read_features(path: str | Path) -> Tensor:
    """Features that another program stored: a `.npy` array `[M, F]`, float64 as it is.

    Returns:
        float64, or float32 of float32 and float16.

    Raises:
        UserError: the file is no such array.
    """
    try:
        array = numpy.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as a NumPy array: {error}; save it with numpy.save"
        ) from error
    is_matrix = isinstance(array, numpy.ndarray) and array.ndim == 2 and array.size > 0
    # Wider floats than these would lose digits.
    is_float = is_matrix and array.dtype.kind == "f" and array.dtype.itemsize <= 8
    if not is_float or not numpy.isfinite(array).all():
        raise UserError(f"{path} must hold finite floats [clips, features] to serve as features")
    wanted = numpy.float64 if array.dtype.itemsize == 8 else numpy.float32
    return torch.from_numpy(array.astype(wanted))


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts as JSON gives them back."""
    found: dict[str, Any] = json.loads(json.dumps(dict(facts)))
    return found


def _checked(arrays: Arrays, rows: int) -> Arrays:
    kept = {}
    for kind, values in arrays.items():
        if values.shape[0] != rows or not bool(torch.isfinite(values).all()):
            raise ValueError(
                f"the extractor must give {rows} finite rows of {kind}, got shape "
                f"{tuple(values.shape)}"
            )
        kept[kind] = values.detach().to("cpu", torch.float32).contiguous()
    return kept


def _part_path(folder: Path, start: int) -> Path:
    return folder / f"part-{start:09d}.safetensors"


def _finish(folder: Path, facts: dict[str, Any], parts: list[tuple[int, int]]) -> None:
    """Join the parts into arrays, write the manifest, and only then remove the parts."""
    count = parts[-1][1]
    lost = [start for start, _ in parts if not _part_path(folder, start).exists()]
    if lost:
        raise UserError(
            f"{_part_path(folder, lost[0])} is missing: processes that share an extraction need the"
            " same folder, on a file system that all of their machines see"
        )
    first = load_file(_part_path(folder, 0))
    arrays: dict[str, Any] = {}
    for kind, example in first.items():
        shape = (count, *example.shape[1:])
        path = folder / f"{kind}.npy"
        rows = _rows_of(folder, kind, parts)
        write_file_atomically(path, lambda to, s=shape, r=rows: _write_array(to, s, r))  # type: ignore[misc]
        arrays[kind] = {"shape": list(shape), "sha256": sha256_of(path)}
    manifest = {"schema": STORE_SCHEMA, "facts": facts, "count": count, "arrays": arrays}
    write_json_atomically(folder / MANIFEST, manifest)
    for start, _ in parts:
        _part_path(folder, start).unlink(missing_ok=True)


def _rows_of(folder: Path, kind: str, parts: list[tuple[int, int]]) -> Iterator[Tensor]:
    for start, _ in parts:
        yield load_file(_part_path(folder, start))[kind]


def _write_array(path: Path, shape: tuple[int, ...], rows: Iterator[Tensor]) -> None:
    # Not through a memory map, which kills the process where the disk is full.
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        numpy.lib.format.write_array_header_1_0(file, header)
        for part in rows:
            file.write(part.numpy().astype("<f4", copy=False).tobytes())
