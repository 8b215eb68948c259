"""Evaluating a generator: its clips against the data's, as one record."""

from dataclasses import replace
from pathlib import Path

import torch

from vidgan.data.dataset import ClipDataset, open_dataset
from vidgan.errors import UserError
from vidgan.evaluation.checks import check_protocol
from vidgan.evaluation.clips import DEFAULTS, EvaluationOptions, evaluate_clips
from vidgan.evaluation.gather import (
    Inputs,
    OptionInputs,
    Source,
    clip_size,
    data_inputs,
    gather,
    gather_real,
    list_clips,
    list_real_clips,
)
from vidgan.evaluation.protocols import Protocol, default_protocol, find_protocol
from vidgan.evaluation.record import format_record, save_record
from vidgan.evaluation.record_types import Record
from vidgan.evaluation.score import RealData
from vidgan.extractors.judge import RealClips
from vidgan.sampling.storage import best_on_record, read_best, write_pointer

__all__ = [
    "EvaluationOptions",
    "RealClips",
    "RealData",
    "evaluate",
    "evaluate_clips",
    "format_record",
    "gather_real",
    "save_record",
    "update_best",
]


def evaluate(
    source: Source,
    data: ClipDataset | str | Path,
    protocol: str | Protocol | None = None,
    options: EvaluationOptions = DEFAULTS,
) -> Record:
    """Score generated clips against real ones.

    A generator that continues given frames gets them from held-out clips, and its frames are
    compared with real ones at the same place in a clip.

    Args:
        source: a run folder, generator file, `zoo:NAME` or hub id; a generator; a folder or
            container of clips that any program generated; or batches of uint8 clips
            `[B, C, T, H, W]` with int64 labels `[B]` or None.
        data: the real clips, with a training and a held-out split: a data set from
            `vidgan.open_dataset`, or what that opens: a folder of videos, a packed set, or a run.
        protocol: name of a protocol, or one with fields of your own; None takes `own-c3d`, or
            `own-ssl` for data without classes.
        options: seeds, folders and the device.

    Returns:
        The record: protocol, data, counts, scores with real reference, floor and controls,
        agreement with the asked classes, memorisation, judge, seeds, versions, warnings, what it
        was made from, and the list of clips.

    Raises:
        UserError: the source or the data cannot be used, or allow no score of the protocol.
    """
    if not isinstance(data, ClipDataset):
        data = open_dataset(data, size=clip_size(source, options.checkpoint), notify=options.notify)
    protocol = find_protocol(default_protocol(data.classes) if protocol is None else protocol)
    check_protocol(protocol, options.weights)
    gathered = gather(source, data, protocol, options)
    real, clips = gathered.real, gathered.clips
    record = evaluate_clips(
        clips,
        gathered.labels,
        replace(real, warnings=(*real.warnings, *gathered.warnings)),
        protocol,
        options,
        generator_facts=gathered.facts,
    )
    inputs = Inputs(
        source=gathered.origin,
        data=data_inputs(data, options.seed, (clips.shape[2], clips.shape[3])),
        weights={"judge": record.judge_hash},
        options=OptionInputs(device=str(options.device), threads=torch.get_num_threads()),
    )
    listed = list_real_clips(real)
    if gathered.names:
        listed["generated"] = list_clips(gathered.names, clips, gathered.labels)
    return replace(record, inputs=inputs.to_dict(), clips=listed).sealed()


def update_best(run: str | Path, record: Record, metric: str) -> bool:
    """Point a run's `best.json` to the evaluated checkpoint if it is the best so far.

    Scores are compared only between records of the same protocol, n and real clips; otherwise the
    best of those like the new record replaces the old choice, and so it does one that contradicts
    the run's records.

    Args:
        run: the run folder.
        record: of one of its checkpoints.
        metric: key in the record's `scores`.

    Returns:
        Whether the checkpoint is now the best.

    Raises:
        UserError: the record has no such score, or is not of a checkpoint.
    """
    step, score = record.generator.step, record.scores.get(metric)
    if score is None or step is None:
        known = ", ".join(record.scores)
        raise UserError(
            f"best.metric={metric} cannot choose a checkpoint: this evaluation has step {step} and "
            f"the scores {known}"
        )
    basis = {
        "metric": metric,
        "protocol": record.protocol_id,
        "n": record.counts.n,
        "data": None if record.data is None else record.data.hash,
        "judge": record.judge_hash,
        "seed": record.seeds.evaluation,
    }
    old = read_best(run)
    sign = 1 if score.better == "lower" else -1
    if old is not None:
        is_same = all(old.get(key) == value for key, value in basis.items())
        value = old.get("value")
        is_better = isinstance(value, int | float) and sign * value <= sign * score.value
        if is_same and is_better and old["step"] != step:
            return False
    before = best_on_record(run, basis)
    if before is not None and before[0] != step and sign * before[1] < sign * score.value:
        write_pointer(run, "best", before[0], value=before[1], **basis)
        return False
    write_pointer(run, "best", step, value=score.value, **basis)
    return True
