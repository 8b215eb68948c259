"""Evaluating a generator: its clips against the data's, as one record of plain values."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vidgan.data.dataset import ClipDataset
from vidgan.errors import UserError
from vidgan.files import read_json
from vidgan.gathering import Source, gather, gather_real
from vidgan.metrics.clip_evaluation import Progress, evaluate_clips, say_nothing
from vidgan.metrics.protocol_checks import check_protocol
from vidgan.metrics.protocol_fields import default_protocol
from vidgan.metrics.protocols import Protocol, find_protocol
from vidgan.metrics.records import format_record, save_record, seal_record
from vidgan.metrics.scoring import RealClips, RealData
from vidgan.origins import data_inputs, list_clips, list_real_clips
from vidgan.sampling.storage import read_pointer, write_pointer

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


def evaluate(
    source: Source,
    data: ClipDataset,
    protocol: str | Protocol | None = None,
    *,
    checkpoint: str | int = "best",
    seed: int = 0,
    judge_seed: int = 0,
    cache: str | Path | None = None,
    features: str | Path | None = None,
    weights: str | Path | None = None,
    pictures: str | Path | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score generated clips against real ones.

    A generator that continues given frames gets them from held-out clips, and its frames are
    compared with real ones at the same place in a clip.

    Args:
        source: a run folder, generator file or hub id; a generator; a folder or container of clips
            that any program generated; or batches of uint8 clips `[B, C, T, H, W]` with int64
            labels `[B]` or None.
        data: the real clips, with a training and a held-out split.
        protocol: name of a protocol, or one with fields of your own; None takes `own-c3d`, or
            `own-ssl` for data without classes.
        checkpoint: of a run folder: `best`, `last` or a step.
        seed: of latents, labels, controls and choices of clips.
        judge_seed: of the judge; publish with another one than the one used while developing.
        cache: folder where judges are kept between calls; None keeps nothing.
        features: folder where features are kept between calls, so that each set of clips is
            extracted once; None keeps nothing.
        weights: folder of converted weight files; None takes the one of `vidgan weights`.
        pictures: folder for a picture of the generated clips that lie nearest to training clips;
            None writes none.
        device: where the generator and the judge compute.
        progress: told in a few words what happens next.

    Returns:
        The record: protocol, data, counts, scores with real reference, floor and controls,
        agreement with the asked classes, memorisation, judge, seeds, versions, warnings, what it
        was made from, and the list of clips.

    Raises:
        UserError: the source or the data do not serve.
    """
    tell = progress or say_nothing
    protocol = find_protocol(default_protocol(data.classes) if protocol is None else protocol)
    check_protocol(protocol, weights)
    gathered = gather(
        source, data, protocol, checkpoint=checkpoint, seed=seed, device=device, tell=tell
    )
    real = gathered.real
    record = evaluate_clips(
        gathered.clips,
        gathered.labels,
        replace(real, warnings=(*real.warnings, *gathered.warnings)),
        protocol=protocol,
        seed=seed,
        judge_seed=judge_seed,
        cache=cache,
        features=features,
        weights=weights,
        pictures=pictures,
        device=device,
        generator_facts=gathered.facts,
        progress=tell,
    )
    record["inputs"] = {
        "source": gathered.origin,
        "data": data_inputs(data),
        "weights": {"judge": (record["judge"] or {}).get("hash")},
        "options": {"device": str(device), "threads": torch.get_num_threads()},
    }
    record["clips"] = list_real_clips(gathered.real)
    if gathered.names:
        named = list_clips(gathered.names, gathered.clips, gathered.labels)
        record["clips"]["generated"] = named
    return seal_record(record)


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
        old = read_json(Path(run) / "best.json")
        is_same = all(old.get(key) == value for key, value in basis.items())
        sign = 1 if score["better"] == "lower" else -1
        value = old.get("value")
        is_better = isinstance(value, int | float) and sign * value <= sign * score["value"]
        if is_same and is_better and old["step"] != step:
            return False
    write_pointer(run, "best", step, value=score["value"], **basis)
    return True
