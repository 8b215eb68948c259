"""Scoring predictions of many held-out clips, as one record.

Frames are compared with the true ones (PSNR, SSIM, on request LPIPS), beside forecasts that need no
model. Where the data has classes, a judge that was trained on real clips of just these frames also
tells how far the predicted frames are from real ones as a set, and whether they show the motion
that was given.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.data.dataset import ClipDataset, open_dataset
from vidgan.errors import UserError
from vidgan.evaluation.clips import (
    DEFAULTS,
    EvaluationOptions,
    find_judge,
    judge_card,
    real_data_facts,
)
from vidgan.evaluation.gather import (
    Inputs,
    OptionInputs,
    SourceInputs,
    check_classes,
    clip_size,
    data_inputs,
    file_facts,
    gather_real,
    generator_origin,
    list_real_clips,
    with_context,
)
from vidgan.evaluation.protocols import find_protocol, protocol_record
from vidgan.evaluation.record import comparability, environment_record, time_stamp
from vidgan.evaluation.record_types import Counts, GeneratorFacts, Record, Score, Seeds
from vidgan.evaluation.score import RealData, plan_comparison
from vidgan.extractors.judge import OwnClassifier
from vidgan.extractors.lpips import PerceptualDistance, load_perceptual
from vidgan.metrics.frechet import frechet_from_features
from vidgan.metrics.image_quality import (
    K1,
    K2,
    MAX_PSNR_DB,
    SIGMA,
    WINDOW,
    FrameValues,
    Scores,
    measure_frames,
    sum_up_frames,
)
from vidgan.metrics.intervals import agreement
from vidgan.models.base import Box, Generator
from vidgan.sampling.predict import Parted, check_takes_context, part_windows, predict, targets_of
from vidgan.sampling.storage import find_generator_file, load_generator

JUDGE_PROTOCOL = find_protocol("own-c3d")
PREDICTION, BEST_OF_100 = "prediction", "prediction-best-of-100"
"""Names of the protocols of predictions."""
PREDICTIONS = (PREDICTION, BEST_OF_100)
PROTOCOL = find_protocol(PREDICTION)
ROWS = 400
"""Predictions that are made and compared together where only the best of a clip counts."""
KEPT_SAMPLES = 4
"""Of those, so many of a clip are kept to be looked at."""

FRAME_METRICS = ("psnr", "ssim", "lpips")


@dataclass(frozen=True)
class Predictions:
    """Clips that were predicted.

    Attributes:
        parted: context and target of every clip.
        samples: uint8 `[M, K, C, T, H, W]`.
        baselines: uint8 `[M, C, T, H, W]`, keyed by baseline.
        names: source video of every clip.
    """

    parted: Parted
    samples: Tensor
    baselines: dict[str, Tensor]
    names: tuple[str, ...]


def evaluate_predictions(
    source: str | Path | Generator,
    data: ClipDataset | str | Path,
    num_clips: int = PROTOCOL.num_clips,
    num_samples: int = 4,
    *,
    box: Box | None = None,
    lpips: str | None = None,
    options: EvaluationOptions = DEFAULTS,
) -> tuple[Record, Predictions]:
    """Predict held-out clips and score the predictions.

    The protocol is `prediction`; see also `evaluate_best_of_100`.

    Args:
        source: a generator that takes a context, or where one lies.
        data: the real clips, with a training and a held-out split; as in `vidgan.evaluate`.
        num_clips: held-out clips, a seeded choice; all of them if there are fewer.
        num_samples: predictions for every clip; a model without a latent makes one.
        box: of every clip hide this, for a generator that inpaints.
        lpips: backbone of LPIPS, `alex` or `vgg`, whose weights were converted; None leaves it out.
        options: seeds, folders and the device.

    Returns:
        The sealed record, and the clips behind it.

    Raises:
        UserError: the generator takes no context, the data do not fit it, or weights are missing.
    """
    return _evaluate(source, data, Asked(num_clips, num_samples, box, lpips), options)


def evaluate_best_of_100(
    source: str | Path | Generator,
    data: ClipDataset | str | Path,
    *,
    lpips: str | None = None,
    options: EvaluationOptions = DEFAULTS,
) -> tuple[Record, Predictions]:
    """Score the best of 100 predictions of each of 256 held-out clips, by every measure.

    The protocol is `prediction-best-of-100`: nothing else of it can be chosen, and its cost is told
    as soon as a first batch has been measured. Arguments and result as in `evaluate_predictions`,
    with a few of the predictions.

    Raises:
        UserError: as there, and for a model that makes one prediction of a clip.
    """
    num_clips = find_protocol(BEST_OF_100).num_clips
    return _evaluate(source, data, Asked(num_clips, 100, None, lpips, BEST_OF_100), options)


@dataclass(frozen=True)
class Asked:
    """What is predicted and how it is scored; see `evaluate_predictions`."""

    num_clips: int
    num_samples: int
    box: Box | None
    lpips: str | None
    protocol: str = PREDICTION

    @property
    def takes_best(self) -> bool:
        """Whether the best sample of a clip is its score."""
        return self.protocol == BEST_OF_100


def _evaluate(
    source: str | Path | Generator,
    data: ClipDataset | str | Path,
    asked: Asked,
    options: EvaluationOptions,
) -> tuple[Record, Predictions]:
    started, seed, notify = time.perf_counter(), options.seed, options.notify
    if not isinstance(data, ClipDataset):
        data = open_dataset(data, size=clip_size(source, options.checkpoint), notify=notify)
    generator, facts, origin = _open(source, options.checkpoint)
    check_classes(generator, data)
    if asked.takes_best and not generator.latent_dim():
        raise UserError(
            f"this model makes one prediction of a clip, so there is no best of "
            f"{asked.num_samples}: use the protocol {PREDICTION}"
        )
    perceptual = _perceptual(asked.lpips, options)
    generator = generator.to(options.device)
    notify("reading real clips")
    windows, real, parted = _part_heldout(generator, data, asked.num_clips, seed, asked.box)
    if perceptual is not None:
        perceptual.check_side(min(parted.target.shape[-2:]))
    predictions, frames = _predict(generator, real, parted, asked, (perceptual, options))
    scores = {key: Score.of(entry) for key, entry in frames.items()}
    judged = Judged(None, {}, None, [])
    if not asked.takes_best:
        judged = _judge(predictions, real, options)
    card = judged.card
    weights = {
        "judge": (card or {}).get("hash"),
        "lpips": None if perceptual is None else perceptual.fingerprint,
    }
    record = Record(
        created=time_stamp(),
        protocol=prediction_protocol(asked.protocol),
        counts=_counts(frames["psnr"], real, facts.given_frames),
        scores=scores | judged.scores,
        agreement=judged.agreement,
        mask=None if asked.box is None else tuple(asked.box),
        perceptual=None if perceptual is None else perceptual.record(),
        judge=card,
        data=real_data_facts(real),
        generator=facts,
        inputs=Inputs(
            source=origin,
            data=data_inputs(data, seed),
            weights=weights,
            options=_options(options.device, asked),
        ).to_dict(),
        # Whole windows: an edited given frame moves a score as well.
        clips=list_real_clips(windows),
        seeds=Seeds(evaluation=seed, judge=options.judge_seed),
        environment=environment_record(str(options.device)),
        wall_seconds=round(time.perf_counter() - started, 1),
        sentence=comparability(card),
    )
    said = _warnings(record, asked.num_clips - len(real.heldout))
    record = replace(record, warnings=(*real.warnings, *judged.notes, *said))
    return record.sealed(), predictions


Cells = dict[str, str | float | None]
"""A row of a table, by column."""


def table_rows(record: Record) -> list[Cells]:
    """A record's scores as rows for a terminal: the model, its best samples, baselines, truth."""
    scores, shares = record.scores, record.agreement or {}
    judged, psnr = scores.get("frechet_distance"), scores["psnr"]
    part = "motion" if (shares.get("heldout") or {}).get("motion") is not None else "class"
    key = "motion" if part == "motion" else "joint"

    def row(name: str, value: Callable[[Score], float | None]) -> Cells:
        cells: Cells = {"": name}
        return cells | {
            metric.upper(): value(scores[metric]) for metric in FRAME_METRICS if metric in scores
        }

    def judge(cells: Cells, distance: float | None, share: Any) -> Cells:
        if judged:
            cells |= {"Frechet distance": distance, f"{part} right": (share or {}).get(key)}
        return cells

    value, controls = (judged.value, judged.controls) if judged else (None, {})
    mean = row("model, mean", lambda score: score.details.get("mean_of_k", score.value))
    rows = [judge(mean, value, shares.get("generated"))]
    best = f"model, best of {psnr.details['num_samples']}"
    rows.append(row(best, lambda score: score.details["best_of_k"]))
    for name in psnr.controls:
        share = (shares.get("controls") or {}).get(name)
        cells = row(name, lambda score, name=name: score.controls[name])  # type: ignore[misc]
        rows.append(judge(cells, controls.get(name), share))
    if judged:
        rows.append(judge({"": "truth"}, judged.real, shares.get("heldout")))
    return rows


def headline(record: Record) -> str:
    """What a record was made of, in one sentence."""
    counts, data = record.counts, record.data
    assert data is not None
    return (
        f"{counts.heldout} held-out clips: {counts.given_frames} frames given, "
        f"{data.frames} compared, of {data.height}x{data.width} pixels; "
        f"{counts.samples} predictions a clip"
    )


# ------------------------------------------------------------------------------------------------
# Generator and clips


def _open(
    source: str | Path | Generator, checkpoint: str | int
) -> tuple[Generator, GeneratorFacts, SourceInputs]:
    """A generator that takes a context, what a record says of it, and where it lies."""
    facts = GeneratorFacts(source="generator")
    origin = SourceInputs()
    if isinstance(source, str | Path):
        file = find_generator_file(source, checkpoint)
        facts, source = file_facts(file), load_generator(file)
        origin = generator_origin(file, facts)
    check_takes_context(source)
    facts = replace(with_context(facts, source), is_labelled=source.num_classes > 0)
    return source, facts, origin


def _part_heldout(
    generator: Generator, data: ClipDataset, num_clips: int, seed: int, box: Box | None
) -> tuple[RealData, RealData, Parted]:
    """A seeded choice of held-out clips, parted as in training.

    Returns:
        The real windows, their targets, and the parted held-out clips.
    """
    windows = gather_real(data, data.config.frames, data.config.resolution, JUDGE_PROTOCOL, seed)
    order = torch.randperm(len(windows.heldout), generator=keyed_rng(seed, "predicted clips"))
    heldout = windows.heldout.take(order[:num_clips])
    parted = part_windows(generator, heldout.clips, seed, box)
    train = replace(windows.train, clips=targets_of(generator, windows.train.clips))
    targets = replace(windows, train=train, heldout=replace(heldout, clips=parted.target))
    return replace(windows, heldout=heldout), targets, parted


def _predict(
    generator: Generator,
    real: RealData,
    parted: Parted,
    asked: Asked,
    how: tuple[PerceptualDistance | None, EvaluationOptions],
) -> tuple[Predictions, Scores]:
    """Predictions and their scores; of a best of many, batch by batch, and few are kept."""
    perceptual, options = how
    count, notify = len(real.heldout), options.notify
    every = max(1, ROWS // asked.num_samples) if asked.takes_best else count
    notify(
        f"predicting {count} held-out clips"
        + (f", {count * asked.num_samples:,} predictions in all" if asked.takes_best else "")
    )
    baselines = parted.baselines(parted.target.shape[2])
    kept, values, start_s = [], [], time.perf_counter()
    for first in range(0, count, every):
        rows = slice(first, first + every)
        made = predict(
            generator,
            parted.context[rows],
            asked.num_samples,
            seed=options.seed,
            labels=real.heldout.labels[rows] if generator.num_classes else None,
            first=first,
        )
        samples, truth = parted.new_frames(generator, made), parted.target[rows]
        if samples.shape[2:] != truth.shape[1:]:
            raise UserError(
                f"the model makes {tuple(samples.shape[2:])} (C, T, H, W) of these clips and the "
                f"truth is {tuple(truth.shape[1:])}; give clips of the length it was trained on"
            )
        others = {name: clips[rows] for name, clips in baselines.items()}
        values.append(measure_frames(samples, truth, others, perceptual))
        kept.append(samples[:, :KEPT_SAMPLES] if asked.takes_best else samples)
        if first == 0 and every < count:
            minutes = (time.perf_counter() - start_s) * count / every / 60
            notify(f"that takes about {minutes:.0f} minutes; Ctrl-C ends it, nothing is kept then")
    predictions = Predictions(parted, torch.cat(kept), baselines, real.heldout.video_ids)
    return predictions, sum_up_frames(_joined(values), takes_best=asked.takes_best)


def _joined(parts: Sequence[Mapping[str, FrameValues]]) -> dict[str, FrameValues]:
    """Measures of all clips, of those of their batches."""
    return {
        name: FrameValues(
            torch.cat([part[name].ours for part in parts]),
            {
                key: torch.cat([part[name].baselines[key] for part in parts])
                for key in parts[0][name].baselines
            },
        )
        for name in parts[0]
    }


# ------------------------------------------------------------------------------------------------
# Parts of a record


def _perceptual(lpips: str | None, options: EvaluationOptions) -> PerceptualDistance | None:
    return load_perceptual(lpips, options.weights, device=options.device) if lpips else None


def _options(device: torch.device | str, asked: Asked) -> OptionInputs:
    """The request, and what may change the last digits."""
    return OptionInputs(
        device=str(device),
        threads=torch.get_num_threads(),
        num_clips=asked.num_clips,
        num_samples=asked.num_samples,
    )


def prediction_protocol(name: str = PREDICTION) -> dict[str, Any]:
    """Everything that affects a score, except counts and seeds, which the record holds."""
    own: dict[str, Any] = {"judge": protocol_record(JUDGE_PROTOCOL)}
    if name == BEST_OF_100:
        own = {"value": "best of k", "num_samples": 100, "num_clips": find_protocol(name).num_clips}
    return {
        "id": name,
        "clip_rule": JUDGE_PROTOCOL.clip_rule,
        "psnr": {"peak": 255, "averaged": "frames, samples, clips", "cap_db": MAX_PSNR_DB},
        "ssim": {"window": WINDOW, "sigma": SIGMA, "k1": K1, "k2": K2, "border": "valid"},
        "best_of_k": "for each clip and metric the sample with the highest mean over frames",
        **own,
    }


def _counts(psnr: dict[str, Any], real: RealData, given_frames: int | None) -> Counts:
    num_clips, num_samples = psnr["n"], psnr["num_samples"]
    return Counts(
        n=num_clips,
        generated=num_clips * num_samples,
        samples=num_samples,
        heldout=num_clips,
        train=len(real.train),
        given_frames=given_frames,
        train_videos=len(set(real.train.video_ids)),
        heldout_videos=len(set(real.heldout.video_ids)),
    )


class Judged(NamedTuple):
    """A judge's result on predictions: its card, scores, class shares, and remarks."""

    card: dict[str, Any] | None
    scores: dict[str, Score]
    agreement: dict[str, Any] | None
    notes: list[str]


def _judge(predictions: Predictions, real: RealData, options: EvaluationOptions) -> Judged:
    """The judge's result, if the data allow a judge."""
    options.notify("training the judge, or loading it")
    judge, notes = find_judge(real, JUDGE_PROTOCOL, options)
    if judge is None:
        return Judged(None, {}, None, notes)
    if not judge.passed:
        return Judged(judge_card(judge), {}, None, notes)
    options.notify("judging")
    scores, shares, said = _judged(predictions, real, judge, options.seed)
    return Judged(judge_card(judge), scores, shares, [*notes, *said])


def _judged(
    predictions: Predictions, real: RealData, judge: OwnClassifier, seed: int
) -> tuple[dict[str, Score], dict[str, Any] | None, list[str]]:
    """Frechet distances, agreement with the true class, and warnings."""
    train, heldout = real.train, real.heldout
    try:
        comparison = plan_comparison(real, len(heldout), seed)
    except UserError as error:
        return {}, None, [f"there is no distance between sets: {error}"]
    reference = judge.features(train.clips[comparison.reference])
    rows = comparison.other

    def distance(features: Tensor) -> float:
        # The note below covers few clips.
        return frechet_from_features(features, reference, allow_few=True).distance

    truth = judge.extract(heldout.clips)
    samples = [judge.extract(sample) for sample in predictions.samples.unbind(dim=1)]
    others = {name: judge.extract(clips) for name, clips in predictions.baselines.items()}
    values = [distance(sample.features[rows]) for sample in samples]
    score = Score(
        better="lower",
        value=fmean(values),
        spread=pstdev(values) if len(values) > 1 else None,
        values=tuple(values),
        n=comparison.n,
        real=distance(truth.features[rows]),
        floor=distance(judge.features(train.clips[comparison.floor])),
        floor_meaning="other training clips against the reference, same n",
        controls={name: distance(other.features[rows]) for name, other in others.items()},
    )
    made = torch.cat([sample.probabilities for sample in samples])
    shares = {
        "generated": agreement(made, heldout.labels.repeat(len(samples)), real.classes),
        "heldout": agreement(truth.probabilities, heldout.labels, real.classes),
        "controls": {
            name: agreement(other.probabilities, heldout.labels, real.classes)
            for name, other in others.items()
        },
    }
    notes = []
    if comparison.n <= judge.settings.feature_dim:
        notes.append(
            f"n = {comparison.n} clips a set is not more than the {judge.settings.feature_dim} "
            "features: the Frechet distance is dominated by sampling noise"
        )
    return {"frechet_distance": score}, shares, notes


def _warnings(record: Record, missing_clips: int) -> list[str]:
    warnings = []
    if missing_clips > 0:
        warnings.append(
            f"the data has {record.counts.heldout} held-out clips, "
            f"{missing_clips} fewer than asked for"
        )
    if record.generator.is_labelled:
        warnings.append("the model was told the class of every clip")
    psnr = record.scores["psnr"]
    better = [name for name, value in psnr.controls.items() if value >= psnr.value]
    if better:
        warnings.append(
            f"{' and '.join(better)}: a PSNR as high as the model's or higher, without a model"
        )
    return warnings
