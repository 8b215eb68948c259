"""Evaluating a generator: its clips against the data's, as one record of plain values."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidgan.data.dataset import ClipDataset
from vidgan.errors import UserError
from vidgan.metrics.clip_evaluation import Progress, evaluate_clips, say_nothing
from vidgan.metrics.protocols import Protocol, find_protocol
from vidgan.metrics.records import format_record, save_record
from vidgan.metrics.scoring import RealClips, RealData, plan_comparison, proportional_labels
from vidgan.models.base import Generator
from vidgan.randomness import derive_seed, keyed_rng
from vidgan.sampling.generate import sample_clips
from vidgan.sampling.latents import sample_latents
from vidgan.sampling.predict import part_windows, targets_of
from vidgan.sampling.storage import (
    find_generator_file,
    load_generator,
    read_card,
    read_pointer,
    write_pointer,
)

__all__ = [
    "RealClips",
    "RealData",
    "evaluate",
    "evaluate_clips",
    "format_record",
    "gather_real",
    "save_record",
    "update_best",
]

READ_BATCH = 64
SAMPLE_BATCH = 32

GeneratedBatches = Iterable[tuple[Tensor, Tensor | None]]
"""Batches of generated clips, uint8 `[B, C, T, H, W]`, with the labels they should show."""


def evaluate(
    source: str | Path | Generator | GeneratedBatches,
    data: ClipDataset,
    protocol: str | Protocol = "own-c3d",
    *,
    checkpoint: str | int = "best",
    seed: int = 0,
    judge_seed: int = 0,
    cache: str | Path | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score generated clips against real ones.

    A generator that continues given frames gets them from held-out clips, and its frames are
    compared with real ones at the same place in a clip.

    Args:
        source: a run folder, generator file or hub id; a generator; or batches of uint8 clips
            `[B, C, T, H, W]` with int64 labels `[B]` or None.
        data: the real clips, with a training and a held-out split.
        protocol: name of a protocol, or one with fields of your own.
        checkpoint: of a run folder: `best`, `last` or a step.
        seed: of latents, labels, controls and choices of clips.
        judge_seed: of the judge; publish with another one than the one used while developing.
        cache: folder where judges are kept between calls; None keeps nothing.
        device: where the generator and the judge compute.
        progress: told in a few words what happens next.

    Returns:
        The record: protocol, data, counts, scores with real reference, floor and controls,
        agreement with the asked classes, memorisation, judge, seeds, versions, warnings.

    Raises:
        UserError: the source or the data do not serve.
    """
    protocol, tell = find_protocol(protocol), progress or say_nothing
    facts: dict[str, Any] = {"source": "clips"}
    if isinstance(source, str | Path):
        facts = file_facts(source, checkpoint)
        source = load_generator(source, checkpoint)
    if isinstance(source, Generator):
        check_classes(source, data)
        facts["given_frames"] = source.context_frames
        gather = _gather_continued if source.context_frames else _gather_with_generator
        gathered = gather(source.to(device), data, protocol, seed, tell)
    else:
        gathered = _gather_with_batches(source, data, protocol, seed, tell)
    clips, labels, real = gathered
    return evaluate_clips(
        clips,
        labels,
        real,
        protocol=protocol,
        seed=seed,
        judge_seed=judge_seed,
        cache=cache,
        device=device,
        generator_facts=facts,
        progress=tell,
    )


def gather_real(
    data: ClipDataset, frames: int, resolution: int, protocol: Protocol, seed: int
) -> RealData:
    """Training and held-out clips of a data set at a generator's size.

    Without a held-out split, a seeded fifth of the training videos stands in for it.
    """
    limit = protocol.max_train_clips
    train = _gather_split(data, "train", frames, resolution, limit, seed)
    split = data.heldout_split
    if split is not None:
        heldout = _gather_split(data, split, frames, resolution, limit, seed)
        return RealData(train, heldout, data.classes)
    videos = sorted(set(train.video_ids))
    order = torch.randperm(len(videos), generator=keyed_rng(seed, "stand-in videos")).tolist()
    stand_in = {videos[i] for i in order[: len(videos) // 5]}
    is_unseen = torch.tensor([video in stand_in for video in train.video_ids])
    warning = (
        "the data has no held-out split: a fifth of the training videos, which the generator may "
        "have seen, stands in for it"
    )
    rows = torch.arange(len(train))
    seen, unseen = train.take(rows[~is_unseen]), train.take(rows[is_unseen])
    return RealData(seen, unseen, data.classes, (warning,))


def _gather_split(
    data: ClipDataset, split: str, frames: int, resolution: int, limit: int, seed: int
) -> RealClips:
    """Clips of a split, at most `limit`, chosen by `seed` if there are more."""
    videos = [item.source for item in data.store.items if item.split == split]
    order = torch.randperm(len(videos), generator=keyed_rng(seed, "real clips", split))
    chosen = torch.zeros(len(videos), dtype=torch.bool)
    chosen[order[:limit]] = True
    clips, labels, start = [], [], 0
    for batch, batch_labels in data.iter_clips(split, frames, resolution, READ_BATCH):
        keep = chosen[start : start + batch.shape[0]]
        clips.append(batch[keep])
        labels.append(batch_labels[keep])
        start += batch.shape[0]
    kept = tuple(video for video, is_kept in zip(videos, chosen.tolist(), strict=True) if is_kept)
    return RealClips(torch.cat(clips), torch.cat(labels), kept)


def update_best(run: str | Path, record: dict[str, Any], metric: str) -> bool:
    """Point a run's `best.json` to the evaluated checkpoint if it is the best so far.

    Scores are compared only between records of the same protocol, n and real clips; otherwise the
    new record replaces the old choice.

    Args:
        run: the run folder.
        record: of one of its checkpoints.
        metric: key in the record's `scores`.

    Returns:
        Whether the checkpoint is now the best.

    Raises:
        UserError: the record has no such score, or is not of a checkpoint.
    """
    step, score = record["generator"].get("step"), record["scores"].get(metric)
    if score is None or step is None:
        known = ", ".join(record["scores"])
        raise UserError(
            f"best.metric={metric} cannot choose a checkpoint: this evaluation has step {step} and "
            f"the scores {known}"
        )
    basis = {
        "metric": metric,
        "protocol": record["protocol"]["id"],
        "n": record["counts"]["n"],
        "data": record["data"]["hash"],
        "judge": (record["judge"] or {}).get("hash"),
        "seed": record["seeds"]["evaluation"],
    }
    if read_pointer(run, "best") is not None:
        old = json.loads((Path(run) / "best.json").read_text(encoding="utf-8"))
        is_same = all(old.get(key) == value for key, value in basis.items())
        sign = 1 if score["better"] == "lower" else -1
        if is_same and old["step"] != step and sign * old["value"] <= sign * score["value"]:
            return False
    write_pointer(run, "best", step, value=score["value"], **basis)
    return True


class _Gathered(NamedTuple):
    """Everything that `evaluate_clips` compares."""

    clips: Tensor
    labels: Tensor | None
    real: RealData


def _gather_with_generator(
    generator: Generator, data: ClipDataset, protocol: Protocol, seed: int, tell: Progress
) -> _Gathered:
    # Two clips tell the size at the generator's present stage.
    shape = _generate(generator, torch.zeros(2, dtype=torch.int64), seed)[0].shape
    tell("reading real clips")
    real = gather_real(data, shape[2], shape[3], protocol, seed)
    n = plan_comparison(real, protocol.num_clips, seed).n
    tell(f"generating {protocol.num_clips} clips")
    asked = _asked_labels(real.train.labels, protocol.num_clips, n, seed)
    return _Gathered(*_generate(generator, asked, seed), real)


def _gather_continued(
    generator: Generator, data: ClipDataset, protocol: Protocol, seed: int, tell: Progress
) -> _Gathered:
    """What a generator makes of held-out clips, in seeded order, and what it should make."""
    tell("reading real clips")
    windows = gather_real(data, data.config.frames, data.config.resolution, protocol, seed)
    parted = part_windows(generator, windows.heldout.clips, seed)
    train = replace(windows.train, clips=targets_of(generator, windows.train.clips))
    heldout = replace(windows.heldout, clips=parted.target)
    order = torch.randperm(len(heldout), generator=keyed_rng(seed, "evaluation contexts"))
    if generator.latent_dim():
        # Given the same frames again, another latent makes another clip.
        order = order.repeat(-(-protocol.num_clips // len(order)))
    rows = order[: protocol.num_clips]
    tell(f"continuing {len(rows)} held-out clips")
    asked = heldout.labels[rows]
    clips, _ = _generate(generator, asked, seed, parted.context[rows])
    real = replace(windows, train=train, heldout=heldout)
    return _Gathered(parted.new_frames(generator, clips), asked if data.classes else None, real)


def _gather_with_batches(
    batches: GeneratedBatches, data: ClipDataset, protocol: Protocol, seed: int, tell: Progress
) -> _Gathered:
    clips, labels = _collect(batches, protocol.num_clips)
    tell("reading real clips")
    real = gather_real(data, clips.shape[2], clips.shape[3], protocol, seed)
    return _Gathered(clips, labels, real)


def _generate(
    generator: Generator, asked: Tensor, seed: int, context: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """One clip for each asked label, and context; latent i depends on (seed, i) alone."""
    labels = asked if generator.num_classes else None
    clips = []
    for start in range(0, asked.shape[0], SAMPLE_BATCH):
        rows = slice(start, min(start + SAMPLE_BATCH, asked.shape[0]))
        seeds = [derive_seed(seed, "evaluation latent", i) for i in range(rows.start, rows.stop)]
        latents = sample_latents(generator, seeds)
        given_labels, given = (None if part is None else part[rows] for part in (labels, context))
        clips.append(sample_clips(generator, latents, given_labels, given))
    return torch.cat(clips), labels


def _asked_labels(labels: Tensor, count: int, n: int, seed: int) -> Tensor:
    """Labels for `count` clips; each group of n holds the classes as often as real clips do."""
    groups = range(-(-count // n))
    return torch.cat([proportional_labels(labels, n, derive_seed(seed, g)) for g in groups])[:count]


def _collect(batches: GeneratedBatches, limit: int) -> tuple[Tensor, Tensor | None]:
    clips: list[Tensor] = []
    labels: list[Tensor] = []
    count = 0
    for batch, batch_labels in batches:
        clips.append(batch)
        if batch_labels is not None:
            labels.append(batch_labels)
        count += batch.shape[0]
        if count >= limit:
            break
    if not clips:
        raise UserError("there are no generated clips to evaluate")
    return torch.cat(clips), torch.cat(labels) if len(labels) == len(clips) else None


def check_classes(generator: Generator, data: ClipDataset) -> None:
    """Raise UserError unless a conditional generator knows as many classes as the data has."""
    if generator.num_classes and generator.num_classes != len(data.classes):
        raise UserError(
            f"the generator knows {generator.num_classes} classes and the data has "
            f"{len(data.classes)}; evaluate it on the data it was trained on"
        )


def file_facts(source: str | Path, checkpoint: str | int) -> dict[str, Any]:
    """What a record tells of a generator on disk."""
    path = find_generator_file(source, checkpoint)
    card = read_card(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "source": "file",
        "file": path.name,
        "sha256": digest,
        "step": card.step,
        "clips_seen": card.clips_seen,
        "loss": card.loss,
        "model": card.model,
        "weights": "averaged",
        "truncation": None,
    }
