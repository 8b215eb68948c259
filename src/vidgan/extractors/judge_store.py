"""Judges kept on disk, keyed by everything that makes them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vidgan.core.files import one_at_a_time, write_folder_atomically
from vidgan.errors import UserError
from vidgan.extractors.judge import (
    SCHEMA_VERSION,
    ClassifierSettings,
    OwnClassifier,
    train_own_classifier,
)
from vidgan.extractors.judge_data import RealClips
from vidgan.extractors.pretext import PRETEXT_CLASSES


def clips_hash(clips: Tensor, labels: Tensor) -> str:
    """First 16 hex digits of SHA-256 over shape, bytes and labels of uint8 clips."""
    digest = hashlib.sha256(repr(tuple(clips.shape)).encode())
    for clip in clips:
        digest.update(clip.contiguous().numpy().tobytes())
    digest.update(labels.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def obtain_judge(
    real: RealClips,
    classes: Sequence[str],
    *,
    seed: int,
    settings: ClassifierSettings,
    cache: Path | None,
    device: torch.device | str = "cpu",
) -> OwnClassifier:
    """Load the judge for exactly these clips, settings and seed from `cache`, or train it.

    Args:
        real: training clips.
        classes, seed, settings, device: as in `train_own_classifier`.
        cache: folder that holds one folder a judge; None trains anew and keeps nothing.
    """
    facts = {
        "clips": clips_hash(real.clips, real.labels),
        "classes": list(classes),
        "videos": [str(video) for video in real.video_ids],
        "settings": asdict(settings),
        "seed": seed,
        "schema": SCHEMA_VERSION,
        "torch": torch.__version__,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    train = partial(
        train_own_classifier,
        real.clips,
        real.labels,
        classes,
        real.video_ids,
        seed=seed,
        settings=settings,
        device=device,
    )
    if cache is None:
        return train()
    folder = Path(cache) / f"judge-{key}"
    # Whoever comes second waits for the first one's judge, which costs less than a second one.
    with one_at_a_time(folder.with_suffix(".lock")):
        if not folder.exists():
            judge = train()
            write_folder_atomically(folder, judge.save)
            return judge
    judge = OwnClassifier.load(folder, device)
    names = tuple(PRETEXT_CLASSES if settings.task == "changes" else classes)
    expected = {**asdict(settings), "classes": names, "seed": seed}
    found = {**asdict(judge.settings), "classes": judge.classes, "seed": judge.report.get("seed")}
    other = [f"{key}={found[key]}" for key in expected if found[key] != expected[key]]
    if other:
        raise UserError(
            f"the card of the classifier in {folder} was edited, for it says {', '.join(other)}; "
            "delete the folder to train it again"
        )
    return judge
