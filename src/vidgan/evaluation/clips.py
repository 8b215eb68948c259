"""From clips in memory to an evaluation record; independent of models and files."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidgan.core.clip_ops import to_uint8
from vidgan.core.distributed import Processes
from vidgan.core.progress import Notify, ignore
from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.evaluation.checks import (
    check_clip_shape,
    check_protocol,
    check_real_clips,
    check_warnings,
    has_copies,
)
from vidgan.evaluation.extraction import ScoredSet, ShownFrames
from vidgan.evaluation.metric import JUDGES, Reference
from vidgan.evaluation.protocols import Protocol, find_protocol, protocol_id, protocol_record
from vidgan.evaluation.record import (
    comparability,
    comparable_protocols,
    environment_record,
    time_stamp,
)
from vidgan.evaluation.record_types import Counts, DataFacts, GeneratorFacts, Record, Seeds
from vidgan.evaluation.score import (
    ClipSelection,
    ComparedSets,
    RealData,
    compute_scores,
    missing_scores,
    nearest_image,
    nearest_pairs,
    plan_comparison,
    refuse_without_scores,
    spread_ratio,
)
from vidgan.evaluation.warnings import score_warnings
from vidgan.extractors.extractor import Extractor, load_extractor
from vidgan.extractors.feature_store import FeatureStore
from vidgan.extractors.judge import OwnClassifier, clips_hash, obtain_judge
from vidgan.extractors.pretext import TIMES
from vidgan.metrics.appearance import compare_motion
from vidgan.metrics.intervals import agreement, per_class_agreement
from vidgan.metrics.memorisation import (
    SPACES,
    Nearest,
    compare_nearest,
    compare_repeats,
    compare_spread,
    nearest_clips,
    nearest_rows,
    share_of_copies,
    thumbnails,
)
from vidgan.video.writing import write_png

# ------------------------------------------------------------------------------------------------
# Options of an evaluation besides source, data and protocol


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Seeds, folders and the device of an evaluation; none of them is part of a protocol."""

    checkpoint: str | int = "best"
    """Of a run folder: `best`, `last` or a step."""
    seed: int = 0
    """Of latents, labels, controls and choices of clips."""
    judge_seed: int = 0
    """Of the judge; publish with another seed than the one used during development."""
    cache: str | Path | None = None
    """Folder where judges are kept between calls; None keeps nothing."""
    features: str | Path | None = None
    """Folder where features are kept between calls, so that each set of clips is extracted once;
    None keeps nothing."""
    weights: str | Path | None = None
    """Folder of converted weight files; None takes the one of `vidgan weights`."""
    images: str | Path | None = None
    """Folder for an image of the generated clips that lie nearest to training clips; None writes
    none."""
    device: torch.device | str = "cpu"
    """Where the generator and the judge compute."""
    processes: Processes = field(default_factory=Processes)
    """Those that share generating and extracting; all of them call, and get the same record. The
    folders have to be the same ones too."""
    notify: Notify = ignore
    """Told in a few words what happens next."""


DEFAULTS = EvaluationOptions()


# ------------------------------------------------------------------------------------------------
# From clips in memory to an evaluation record; independent of models and files

MAX_FOR_SPREAD = 1024
"""Clips whose pairs are compared without a judge; more take time and move the mean by little."""


def evaluate_clips(
    clips: Tensor,
    labels: Tensor | None,
    real: RealData,
    protocol: str | Protocol = "own-c3d",
    options: EvaluationOptions = DEFAULTS,
    *,
    generator_facts: GeneratorFacts | None = None,
) -> Record:
    """Score clips that are in memory; `vidgan.evaluate` gathers them first.

    Args:
        clips: generated, uint8 `[M, C, T, H, W]`; floats in [-1, 1] serve under a protocol that
            does not round.
        labels: the classes they should show, int64 `[M]`, or None.
        real: the real clips, of the same shape.
        protocol, options: as in `vidgan.evaluate`.
        generator_facts: where they came from.

    Returns:
        The record.

    Raises:
        UserError: shapes differ, clips are too few, weights are missing, or no score is left.
    """
    started = time.perf_counter()
    # Whatever does not fit is refused before anything is extracted.
    clips, protocol, notes = _as_applied(find_protocol(protocol), clips)
    labels = None if labels is None else labels[: protocol.num_clips]
    _check(protocol, clips, real, options)
    comparison = plan_comparison(real, clips.shape[0], options.seed, protocol)

    # Features of every set.
    judge, extractor, said = _find_extractor(real, protocol, options)
    store = None if options.features is None else FeatureStore(options.features)
    options.notify("scoring")
    rounded = clips if clips.dtype == torch.uint8 else to_uint8(clips)
    extract = partial(ScoredSet.of, extractor=extractor, store=store, processes=options.processes)
    fake = extract(rounded, seen=clips)
    seen, unseen = (extract(part.clips) for part in (real.train, real.heldout))

    # Scores against the reference, with real reference, floor and controls.
    same, other = (seen, unseen) if protocol.reference_split == "train" else (unseen, seen)
    reference = Reference(same.take(comparison.reference), comparison.n, protocol, options.seed)
    sets = ComparedSets.of(fake, same, other, comparison, protocol)
    of_floor = _reference_of_floor(same, comparison, reference)
    beside = _beside_scores(fake, seen, unseen, labels, real, protocol)
    scores = compute_scores(sets, reference, extract, of_floor, spread_ratio(beside["diversity"]))
    said += filter(None, missing_scores(reference).values())
    refuse_without_scores(scores, protocol, said)

    # Diagnostics beside the scores, and warnings.
    card = None if judge is None else judge_card(judge)
    network = _network_record(extractor, protocol)
    if options.images is not None:
        _show_nearest(Path(options.images), fake, seen, beside["memorisation"], options.notify)
    facts = generator_facts or GeneratorFacts()
    warnings = [*notes, *said, *score_warnings(scores)]
    warnings += check_warnings(beside, real.classes, labels, (len(clips), len(real.heldout)), facts)
    return Record(
        created=time_stamp(),
        protocol=protocol_record(protocol),
        counts=_counts(rounded, real, comparison),
        scores=scores,
        **beside,
        judge=card,
        extractor=network,
        data=real_data_facts(real),
        generator=_with_clips(facts, rounded, labels),
        seeds=Seeds(evaluation=options.seed, judge=options.judge_seed),
        environment=environment_record(str(options.device)),
        wall_seconds=round(time.perf_counter() - started, 1),
        warnings=(*real.warnings, *warnings),
        comparable_to=tuple(comparable_protocols(protocol, network)),
        sentence=comparability(card, protocol, network),
    )


def _reference_of_floor(
    same: ScoredSet, comparison: ClipSelection, reference: Reference
) -> Reference | None:
    """What the floor is measured to, where the reference holds the floor's own clips."""
    if reference.protocol.reference_rule != "whole split":
        return None
    return replace(reference, real=same.take(comparison.floor_reference), shared={})


def _network_record(extractor: Extractor | None, protocol: Protocol) -> dict[str, Any] | None:
    """A record's entry on a network other than a judge, as JSON stores it."""
    if extractor is None or protocol.network is None:
        return None
    found: dict[str, Any] = json.loads(json.dumps(extractor.record()))
    return found


def _beside_scores(
    fake: ScoredSet,
    seen: ScoredSet,
    unseen: ScoredSet,
    labels: Tensor | None,
    real: RealData,
    protocol: Protocol,
) -> dict[str, Any]:
    """Diagnostics beside the scores: agreement, copies, within-class spread, motion."""
    is_judged = fake.extraction is not None and protocol.extractor == "own-c3d"
    space = "judge features" if protocol.extractor in JUDGES else "features"
    return {
        "agreement": _agreement(fake, labels, unseen, real) if is_judged else None,
        "memorisation": _memorisation(fake, seen, unseen, real, space),
        "diversity": _diversity(fake, labels, unseen, real, is_judged),
        "motion": compare_motion(fake.clips, unseen.clips) if fake.clips.shape[2] > 1 else None,
    }


def _show_nearest(
    folder: Path, fake: ScoredSet, train: ScoredSet, found: dict[str, Any], notify: Notify
) -> None:
    """Write `nearest-<hash>.png`: generated clips that lie nearest to a training clip."""
    # Network features measure similarity; counted copies come first.
    spaces = [space for space in reversed(found.values()) if "nearest" in space]
    shown = max(spaces, key=has_copies)
    image = nearest_image(fake.clips, train.clips, shown["nearest"])
    nothing = torch.zeros(0, dtype=torch.int64)
    path = folder / f"nearest-{clips_hash(fake.clips, nothing)}.png"
    write_png(path, image)
    notify(f"generated clips above their nearest training clips: {path}")


def _as_applied(protocol: Protocol, clips: Tensor) -> tuple[Tensor, Protocol, list[str]]:
    """The clips to score, the protocol that applies to uint8 clips, and warnings.

    A protocol with another rounding, or none, changes for clips that are already rounded.
    """
    clips = clips[: protocol.num_clips]
    truncates = protocol.rounding == "down"
    if clips.dtype != torch.uint8:
        return to_uint8(clips, truncate=truncates) if protocol.quantise else clips, protocol, []
    if protocol.quantise and not truncates:
        return clips, protocol, []
    applied = replace(protocol, quantise=True, rounding="nearest")
    how = (
        "drops the fraction of pixels itself"
        if truncates
        else "takes clips that were never rounded"
    )
    sentence = (
        f"{protocol.name} {how} and these are bytes, so the protocol is {protocol_id(applied)}"
    )
    return clips, applied, [sentence]


def _find_extractor(
    real: RealData, protocol: Protocol, options: EvaluationOptions
) -> tuple[OwnClassifier | None, Extractor | None, list[str]]:
    """The judge if the protocol has one, the feature extractor, and warnings."""
    if protocol.network is not None:
        options.notify(f"loading {protocol.network.name}")
        loaded = load_extractor(protocol.network, folder=options.weights, device=options.device)
        return None, shown_frames(loaded, protocol), []
    if protocol.extractor is not None:
        options.notify("training the judge, or loading it")
    judge, said = find_judge(real, protocol, options)
    return judge, judge if judge is not None and judge.passed else None, said


def shown_frames(extractor: Extractor, protocol: Protocol) -> Extractor:
    """The extractor as the protocol shows clips to it."""
    is_per_frame = protocol.network is not None and protocol.network.is_per_frame
    one_frame = is_per_frame and protocol.frame_rule == "one frame"
    if protocol.frame_step == 1 and not one_frame:
        return extractor
    return ShownFrames(extractor, protocol.frame_step, one_frame)


def _counts(clips: Tensor, real: RealData, comparison: ClipSelection) -> Counts:
    return Counts(
        n=comparison.n,
        generated=clips.shape[0],
        reference=comparison.reference.shape[0],
        train=len(real.train),
        heldout=len(real.heldout),
        train_videos=len(set(real.train.video_ids)),
        heldout_videos=len(set(real.heldout.video_ids)),
    )


def _with_clips(facts: GeneratorFacts, clips: Tensor, labels: Tensor | None) -> GeneratorFacts:
    shown = torch.zeros(0, dtype=torch.int64) if labels is None else labels
    digest = clips_hash(clips, shown)
    return replace(facts, clips_hash=digest, is_labelled=labels is not None)


def _check(protocol: Protocol, clips: Tensor, real: RealData, options: EvaluationOptions) -> None:
    """Refuse clips that do not fit each other or the protocol, and missing weights."""
    check_protocol(protocol, options.weights)
    fake, seen, unseen = (
        tuple(part.shape[1:]) for part in (clips, real.train.clips, real.heldout.clips)
    )
    if not fake == seen == unseen:
        raise UserError(
            f"generated clips are {fake} (C, T, H, W), real ones {seen} and {unseen}; bring them "
            "to one shape first"
        )
    check_real_clips(protocol, len(real.train), real.clip_rule)
    check_clip_shape(protocol, clips.shape[1:])


def find_judge(
    real: RealData, protocol: Protocol, options: EvaluationOptions
) -> tuple[OwnClassifier | None, list[str]]:
    """The judge, if the protocol has one and the data allow it, and warnings."""
    if protocol.extractor is None:
        return None, []
    if protocol.classifier.task == "classes" and len(real.classes) < 2:
        sentence = (
            "the data has no two classes, so only weight-free scores are given; the protocol "
            "own-ssl needs none"
        )
        return None, [sentence]
    judge = obtain_judge(
        real.train,
        real.classes,
        seed=options.judge_seed,
        settings=protocol.classifier,
        cache=None if options.cache is None else Path(options.cache),
        device=options.device,
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
    """Warnings about a judge that passed: a self-supervised one may be blind to motion."""
    accuracy = judge.report["accuracy"]["motion"]
    if judge.settings.task == "classes" or accuracy >= 2 / len(TIMES):
        return []
    sentence = (
        f"the judge names only {accuracy:.0%} of the changes of time rightly, little more than "
        f"{1 / len(TIMES):.0%} by chance: its distance says little about motion"
    )
    return [sentence]


def judge_card(judge: OwnClassifier) -> dict[str, Any]:
    """A record's entry on a judge."""
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
    result: dict[str, Any] = {
        "heldout": agreement(shown, labels, classes),
        "heldout_by_class": per_class_agreement(shown, labels, classes),
    }
    fake = generated.extraction.probabilities
    if asked is None:
        # Nobody was asked for a class: what is left to compare is how often each is shown.
        result["shown"] = {
            name: {c: int((part.argmax(1) == index).sum()) for index, c in enumerate(classes)}
            for name, part in (("generated", fake), ("heldout", shown))
        }
    else:
        result["generated"] = agreement(fake, asked, classes)
        result["generated_by_class"] = per_class_agreement(fake, asked, classes)
    return result


def _memorisation(
    generated: ScoredSet, train: ScoredSet, heldout: ScoredSet, real: RealData, space: str
) -> dict[str, dict[str, Any]]:
    sets, videos = (generated, heldout), real.train.video_ids
    num_videos = len(set(real.heldout.video_ids))
    found: dict[str, dict[str, Any]] = {}
    to_train = torch.zeros(0)
    for name in SPACES:
        fake, unseen = (nearest_clips(part.clips, train.clips, name) for part in sets)
        medians = compare_nearest(fake.distances, unseen.distances)
        to_train = to_train if found else fake.distances
        if found and medians["ratio"] is None:
            # Without colours, real clips of few shapes may be identical.
            continue
        copies = share_of_copies(fake.distances, unseen.distances, num_videos)
        pairs = _named_pairs(fake, videos)
        found[name] = {**medians, "copies": copies, "nearest": pairs}
    if min(part.clips.shape[0] for part in (*sets, train)) > 1:
        found["thumbnails"] |= compare_repeats(
            generated.clips, heldout.clips, train.clips, to_train, len(set(videos))
        )
    if all(part.extraction for part in (*sets, train)):
        fake, unseen = (nearest_rows(part.features, train.features) for part in sets)
        found[space] = dict(compare_nearest(fake.distances, unseen.distances))
        if fake.rows.shape[0] == generated.clips.shape[0]:
            found[space]["nearest"] = _named_pairs(fake, videos)
    return found


def _named_pairs(nearest: Nearest, videos: Sequence[str]) -> list[dict[str, Any]]:
    return [{**pair, "video": videos[pair["train"]]} for pair in nearest_pairs(nearest)]


def _diversity(
    generated: ScoredSet,
    asked: Tensor | None,
    heldout: ScoredSet,
    real: RealData,
    is_judged: bool,
) -> dict[str, Any] | None:
    """Spread within requested classes: of the judge's features, or of thumbnails without a judge.

    Without requested classes, within the judge's predicted classes, or over all clips.
    """
    if is_judged:
        labels = generated.probabilities.argmax(1) if asked is None else asked
        fake, unseen = (generated.features, labels), (heldout.features, real.heldout.labels)
        return compare_spread(fake, unseen, real.classes)
    fake = _thumbnails_of_some(generated.clips, asked)
    unseen = _thumbnails_of_some(heldout.clips, None if asked is None else real.heldout.labels)
    return compare_spread(fake, unseen, () if asked is None else real.classes)


def _thumbnails_of_some(clips: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    count = clips.shape[0]
    rows = torch.randperm(count, generator=keyed_rng("spread", count))[:MAX_FOR_SPREAD]
    kept = torch.zeros(count, dtype=torch.int64) if labels is None else labels
    return thumbnails(clips[rows]), kept[rows]


def real_data_facts(real: RealData) -> DataFacts:
    """A record's entry on the real clips."""
    channels, frames, height, width = real.train.clips.shape[1:]
    hashes = [clips_hash(part.clips, part.labels) for part in (real.train, real.heldout)]
    return DataFacts(
        classes=real.classes,
        channels=channels,
        frames=frames,
        height=height,
        width=width,
        train_hash=hashes[0],
        heldout_hash=hashes[1],
        hash=hashlib.sha256("".join(hashes).encode()).hexdigest()[:16],
    )
