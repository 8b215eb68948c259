"""What a record was made from, in enough detail to read it again and to name what was edited."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vidgan.core.files import sha256_of
from vidgan.core.settings import to_dict
from vidgan.data.dataset import ClipDataset
from vidgan.data.packed.manifest import is_packed
from vidgan.data.packed.store import PackedStore
from vidgan.evaluation.record_types import GeneratorFacts
from vidgan.evaluation.score import RealClips, RealData

IN_MEMORY = {"kind": "memory"}
"""Origin of what was never in a file."""


def generator_origin(path: Path, facts: GeneratorFacts) -> dict[str, Any]:
    """Where a generator lies; `facts` are those of `gathering.file_facts`."""
    return {"kind": "generator", "path": str(path), "sha256": facts.sha256}


def data_inputs(data: ClipDataset) -> dict[str, Any]:
    """Where real clips come from and how they were cut, enough to read them again."""
    store, settings = data.store, to_dict(data.config)
    if not isinstance(store, PackedStore):
        return dict(IN_MEMORY)
    path = str(data.config.path)
    kind = "videos" if path and not is_packed(path) else "packed"
    facts: dict[str, Any] = {"kind": kind, "settings": settings, "seed": data.seed}
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
