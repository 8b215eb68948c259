"""What a record was made from, in enough detail to read it again and to name what was edited."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import Tensor

from vidgan.core.files import sha256_of
from vidgan.core.ranges import Range
from vidgan.core.settings import from_dict, to_dict
from vidgan.data.dataset import ClipDataset
from vidgan.data.packed.manifest import is_packed
from vidgan.data.packed.store import PackedStore
from vidgan.data.settings import DataConfig
from vidgan.evaluation.record_types import GeneratorFacts, Record
from vidgan.evaluation.score import RealData
from vidgan.extractors.judge_data import RealClips

IN_MEMORY = {"kind": "memory"}
"""Origin of what was never in a file."""


Level = Annotated[tuple[int, int], Range(1, 65_536)]
"""Frames and pixels a side of stored clips."""


@dataclass(frozen=True, kw_only=True)
class SourceInputs:
    """Where generated clips or their generator lie; `sha256` of a generator's file."""

    kind: Literal["memory", "generator", "folder"]
    path: str = ""
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class DataInputs:
    """Where real clips come from and how they were cut; `seed` chooses them."""

    kind: Literal["memory", "videos", "packed"]
    settings: DataConfig = field(default_factory=DataConfig)
    seed: int = 0
    levels: tuple[Level, ...] = ()
    manifest_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class OptionInputs:
    """What may move the last digits, and of predictions how many were asked for."""

    device: str
    threads: int
    num_clips: int = 0
    num_samples: int = 0


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """A record's `inputs`, typed; see `read_inputs`."""

    source: SourceInputs
    data: DataInputs
    options: OptionInputs
    weights: dict[str, str | None]


def read_inputs(record: Record, where: str) -> Inputs:
    """What a record says that it was made from; `where` names it in messages.

    Raises:
        UserError: a part of it does not fit.
    """
    return from_dict(Inputs, record.inputs or {}, f"{where}, inputs")


def generator_origin(path: Path, facts: GeneratorFacts) -> dict[str, Any]:
    """Where a generator lies; `facts` are those of `gathering.file_facts`."""
    return {"kind": "generator", "path": str(path), "sha256": facts.sha256}


def data_inputs(data: ClipDataset, seed: int) -> dict[str, Any]:
    """Where real clips come from and how they were cut, enough to read them again.

    Args:
        data: the clips; its own seed orders them for training and moves no score.
        seed: of the evaluation, which chooses among them.
    """
    store, settings = data.store, to_dict(data.config)
    if not isinstance(store, PackedStore):
        return dict(IN_MEMORY)
    path = str(data.config.path)
    kind = "videos" if path and not is_packed(path) else "packed"
    facts: dict[str, Any] = {"kind": kind, "settings": settings, "seed": seed}
    facts["levels"] = [list(level) for level in store.levels]
    if kind == "packed":
        settings["path"] = str(store.path)
        facts["manifest_sha256"] = sha256_of(store.manifest_file)
    return facts


def list_real_clips(real: RealData) -> dict[str, dict[str, list[Any]]]:
    """Name, label and checksum of every real clip, by split."""
    return {split: _of(part) for split, part in (("train", real.train), ("heldout", real.heldout))}


def list_clips(names: Sequence[str], clips: Tensor, labels: Tensor | None) -> dict[str, list[Any]]:
    """Name, label (-1 without one) and CRC-32 of the pixels of clips `[M, C, T, H, W]`."""
    return {
        "name": list(names),
        "label": [-1] * len(names) if labels is None else labels.tolist(),
        "crc32": [zlib.crc32(clip.contiguous().numpy()) for clip in clips],
    }


def _of(part: RealClips) -> dict[str, list[Any]]:
    return list_clips(part.video_ids, part.clips, part.labels)
