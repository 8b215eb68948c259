"""From clips in memory to an evaluation record; knows neither models nor files of clips."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidgan.errors import UserError
from vidgan.metrics.agreement import agreement, per_class_agreement
from vidgan.metrics.controls import memorisation, thumbnails
from vidgan.metrics.judging import clips_hash, obtain_judge
from vidgan.metrics.own_classifier import OwnClassifier
from vidgan.metrics.pretext import TIMES
from vidgan.metrics.protocols import Protocol, find_protocol
from vidgan.metrics.records import (
    RECORD_SCHEMA,
    comparability,
    environment_record,
    time_stamp,
)
from vidgan.metrics.scoring import (
    Comparison,
    RealData,
    ScoredSet,
    compute_scores,
    plan_comparison,
    score_warnings,
)

Progress = Callable[[str], None]
"""Told in a few words what happens next."""


def say_nothing(_: str) -> None:
    """The progress of callers who want none."""


def evaluate_clips(
    clips: Tensor,
    labels: Tensor | None,
    real: RealData,
    *,
    protocol: str | Protocol = "own-c3d",
    seed: int = 0,
    judge_seed: int = 0,
    cache: str | Path | None = None,
    device: torch.device | str = "cpu",
    generator_facts: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score clips that are in memory; `vidgan.evaluate` gathers them first.

    Args:
        clips: generated, uint8 `[M, C, T, H, W]`.
        labels: the classes they should show, int64 `[M]`, or None.
        real: the real clips, of the same shape.
        generator_facts: plain values for the record.
        protocol, seed, judge_seed, cache, device, progress: as in `vidgan.evaluate`.

    Returns:
        The record.

    Raises:
        UserError: shapes differ, or there are too few clips.
    """
    started = time.perf_counter()
    protocol, tell = find_protocol(protocol), progress or say_nothing
    _check_shapes(clips, real)
    clips = clips[: protocol.num_clips]
    labels = None if labels is None else labels[: protocol.num_clips]
    comparison = plan_comparison(real, clips.shape[0], seed)
    if protocol.extractor is not None:
        tell("training the judge, or loading it")
    judge, note = find_judge(real, protocol, judge_seed, cache, device)
    card = None if judge is None else judge_card(judge)
    judge = judge if judge is not None and judge.passed else None
    knows_classes = protocol.extractor == "own-c3d"
    tell("scoring")
    parts = (clips, real.train.clips, real.heldout.clips)
    fake, seen, unseen = (ScoredSet.of(part, judge) for part in parts)
    scores = compute_scores(fake, seen, unseen, comparison, judge, protocol, seed)
    return {
        "schema": RECORD_SCHEMA,
        "created": time_stamp(),
        "protocol": protocol.record(),
        "counts": _counts(clips, real, comparison),
        "scores": scores,
        "agreement": _agreement(fake, labels, unseen, real) if knows_classes else None,
        "memorisation": _memorisation(fake, seen, unseen),
        "judge": card,
        "data": data_facts(real),
        "generator": _generator_facts(generator_facts, clips, labels),
        "seeds": {"evaluation": seed, "judge": judge_seed},
        "environment": environment_record(str(device)),
        "wall_seconds": round(time.perf_counter() - started, 1),
        "warnings": [*real.warnings, *note, *score_warnings(scores, judge)],
        "comparable_to": [],
        "sentence": comparability(card),
    }


def _counts(clips: Tensor, real: RealData, comparison: Comparison) -> dict[str, int]:
    return {
        "n": comparison.n,
        "generated": clips.shape[0],
        "reference": comparison.reference.shape[0],
        "train": len(real.train),
        "heldout": len(real.heldout),
        "train_videos": len(set(real.train.video_ids)),
        "heldout_videos": len(set(real.heldout.video_ids)),
    }


def _generator_facts(
    facts: dict[str, Any] | None, clips: Tensor, labels: Tensor | None
) -> dict[str, Any]:
    asked = torch.zeros(0, dtype=torch.int64) if labels is None else labels
    return {
        **(facts or {"source": "clips"}),
        "clips_hash": clips_hash(clips, asked),
        "is_labelled": labels is not None,
    }


def _check_shapes(clips: Tensor, real: RealData) -> None:
    fake, seen, unseen = (
        tuple(part.shape[1:]) for part in (clips, real.train.clips, real.heldout.clips)
    )
    if not fake == seen == unseen:
        raise UserError(
            f"generated clips are {fake} (C, T, H, W), real ones {seen} and {unseen}; bring them "
            "to one shape first"
        )


def find_judge(
    real: RealData,
    protocol: Protocol,
    seed: int,
    cache: str | Path | None,
    device: torch.device | str,
) -> tuple[OwnClassifier | None, list[str]]:
    """The judge, if the protocol wants one and the data allow it, and what has to be said."""
    if protocol.extractor is None:
        return None, []
    if protocol.classifier.task == "classes" and len(real.classes) < 2:
        sentence = (
            "the data has no two classes, so only weight-free scores are given; the protocol "
            "own-ssl needs none"
        )
        return None, [sentence]
    judge = obtain_judge(
        real.train.clips,
        real.train.labels,
        real.classes,
        real.train.video_ids,
        seed=seed,
        settings=protocol.classifier,
        cache=None if cache is None else Path(cache),
        device=device,
    )
    if judge.passed:
        return judge, judge_warnings(judge)
    accuracy = judge.report["accuracy"]["joint"]
    sentence = (
        f"the judge names only {accuracy:.0%} of unseen real clips rightly and needs "
        f"{judge.required_accuracy:.0%}: scores that rest on it are left out"
    )
    return judge, [sentence]


def judge_warnings(judge: OwnClassifier) -> list[str]:
    """What has to be said of a judge that passed: one of changes may be blind to motion."""
    accuracy = judge.report["accuracy"]["motion"]
    if judge.settings.task == "classes" or accuracy >= 2 / len(TIMES):
        return []
    sentence = (
        f"the judge names only {accuracy:.0%} of the changes of time rightly, little more than "
        f"{1 / len(TIMES):.0%} by chance: its distance says little about motion"
    )
    return [sentence]


def judge_card(judge: OwnClassifier) -> dict[str, Any]:
    """What a record tells of a judge."""
    return {
        "extractor": judge.name,
        "hash": judge.hash,
        "passed": judge.passed,
        "required_accuracy": judge.required_accuracy,
        **judge.report,
    }


def _agreement(
    generated: ScoredSet, asked: Tensor | None, heldout: ScoredSet, real: RealData
) -> dict[str, Any] | None:
    if generated.extraction is None or heldout.extraction is None:
        return None
    shown = heldout.extraction.probabilities
    labels, classes = real.heldout.labels, real.classes
    result: dict[str, Any] = {"heldout": agreement(shown, labels, classes)}
    if asked is not None:
        fake = generated.extraction.probabilities
        result["generated"] = agreement(fake, asked, classes)
        result["generated_by_class"] = per_class_agreement(fake, asked, classes)
    return result


def _memorisation(
    generated: ScoredSet, train: ScoredSet, heldout: ScoredSet
) -> dict[str, dict[str, float | None]]:
    parts = generated, heldout, train
    result = {"thumbnails": memorisation(*(thumbnails(part.clips) for part in parts))}
    features = [part.extraction.features for part in parts if part.extraction]
    if features:
        result["judge features"] = memorisation(*features)
    return result


def data_facts(real: RealData) -> dict[str, Any]:
    """What a record tells of the real clips."""
    channels, frames, height, width = real.train.clips.shape[1:]
    hashes = [clips_hash(part.clips, part.labels) for part in (real.train, real.heldout)]
    return {
        "classes": list(real.classes),
        "channels": channels,
        "frames": frames,
        "height": height,
        "width": width,
        "train_hash": hashes[0],
        "heldout_hash": hashes[1],
        "hash": hashlib.sha256("".join(hashes).encode()).hexdigest()[:16],
    }
