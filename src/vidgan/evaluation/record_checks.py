"""Whether a record is trustworthy as stored: its seals, and the consistency of its parts.

Nothing is computed again here, `vidgan evaluate --verify` does that. Contradictions cannot
have been written by an evaluation, and is refused; possible edits are reported.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidgan.core.files import sha256_of
from vidgan.core.settings import NOT_SET, Difference, differences, from_dict, shortened
from vidgan.errors import UserError
from vidgan.evaluation.checks import check_warnings
from vidgan.evaluation.metric import (
    JUDGES,
    METRICS,
    Metric,
    Protocol,
    custom_id,
    find_metric,
    list_metrics,
)
from vidgan.evaluation.predictions import (
    FRAME_METRICS,
    PREDICTION,
    PREDICTIONS,
    prediction_protocol,
)
from vidgan.evaluation.protocols import PROTOCOLS, find_protocol, protocol_id, protocol_record
from vidgan.evaluation.record import (
    clip_list_path,
    comparability,
    comparable_protocols,
    read_plain_record,
    read_record,
)
from vidgan.evaluation.record_consistency import (
    ROUNDING,
    derived_contradictions,
    diagnostic_contradictions,
    is_close,
    is_share,
)
from vidgan.evaluation.record_types import (
    SHAPES,
    Plain,
    Record,
    Score,
    broken_seals,
    unknown_fields,
)
from vidgan.evaluation.warnings import score_warnings
from vidgan.metrics.memorisation import QUANTILE, SPACES, copies_limit
from vidgan.sampling.storage import (
    CHECKPOINTS_FOLDER,
    EVALS_FOLDER,
    GENERATOR_FILE,
    list_checkpoints,
)

FEATURE_SPACES = ("judge features", "features")
"""Beside `SPACES`, where distances to training clips are measured in features."""
MAX_NAMED = 3
"""Settings that a sentence on a record of another run names."""
MAX_CLIPS = 10**6
"""Most clips whose limit of copies is computed again, which takes a step a clip."""


@dataclass(frozen=True, kw_only=True)
class CheckedRecord:
    """A record whose parts agree.

    Attributes:
        record: what it says.
        path: its file.
        marks: reasons why it may have been edited; empty for a sealed record.
        is_sealed: whether it has an intact seal.
    """

    record: Record
    path: Path
    marks: tuple[str, ...]
    is_sealed: bool


def read_checked_record(path: str | Path) -> CheckedRecord:
    """A consistent record file, with remarks.

    Raises:
        UserError: no record, one that does not fit, or one that contradicts itself.
    """
    path = Path(path)
    plain = read_plain_record(path)
    record = Record.from_dict(plain, str(path))
    try:
        protocol = _named_protocol(record.protocol)
        flaw = next(contradictions(record, protocol), None)
    except UserError as error:
        flaw = str(error)
    if flaw:
        raise UserError(f"{path} contradicts itself, so it is not compared: {flaw}")
    seals = tuple(_seal_marks(plain, path))
    marks = *seals, *_marks(record, plain, protocol)
    return CheckedRecord(record=record, path=path, marks=marks, is_sealed=not seals)


def read_run_records(
    run: str | Path, settings: Mapping[str, Any] | None = None, newest: int | None = None
) -> tuple[list[CheckedRecord], list[str]]:
    """The records in `evals` of a run whose parts agree, the newest first.

    Args:
        run: the run folder, or an evaluated folder of clips.
        settings: of the run as plain values, with which its records are compared; without them
            nothing is asked of its generators either.
        newest: as many are read at most; None reads all.

    Returns:
        The records, and a sentence for each file that is none, contradicts itself or is of another
        run.
    """
    dated, refused = [], []
    for path in sorted(Path(run, EVALS_FOLDER).glob("*.json")):
        try:
            # Records of one second are told apart by their files.
            dated.append((read_record(path).created, path.stat().st_mtime_ns, path))
        except UserError as error:
            refused.append(str(error))
    found: list[CheckedRecord] = []
    for *_, path in sorted(dated, reverse=True):
        if newest is not None and len(found) == newest:
            break
        try:
            checked = read_checked_record(path)
            found.append(checked if settings is None else _of_run(checked, Path(run), settings))
        except UserError as error:
            refused.append(str(error))
    return found, list(dict.fromkeys(refused))


def _of_run(checked: CheckedRecord, run: Path, settings: Mapping[str, Any]) -> CheckedRecord:
    """A record of the run in whose folder it is, checked against its generator file.

    Raises:
        UserError: it is of another run.
    """
    generator = checked.record.generator
    told = {"model": generator.model or {}}
    told |= {"loss": {"name": generator.loss}} if generator.loss is not None else {}
    # Keys that only one side has come from another version.
    other = [d for d in differences(settings, told) if NOT_SET not in (d.first, d.second)]
    if other:
        named = ", ".join(f"{d.key}={d.second} instead of {d.first}" for d in other[:MAX_NAMED])
        raise UserError(f"a record in {checked.path.parent} is of another run: it has {named}")
    newest = max(list_checkpoints(run), default=None)
    if newest is not None and (generator.step or 0) > newest:
        mark = f"it is of step {generator.step}, and the newest checkpoint of {run} is {newest}"
        return replace(checked, marks=(*checked.marks, mark))
    file = run / CHECKPOINTS_FOLDER / f"step-{generator.step}" / GENERATOR_FILE
    if generator.sha256 and file.is_file() and sha256_of(file) != generator.sha256:
        mark = f"{file} is another file now than the one it is of"
        return replace(checked, marks=(*checked.marks, mark))
    return checked


# ------------------------------------------------------------------------------------------------
# What may have been edited


def _seal_marks(plain: Plain, path: Path) -> Iterator[str]:
    seal = plain.get("seal")
    if not seal:
        yield "it has no seal, so nothing says that it was not edited"
        return
    broken = broken_seals(plain)
    if "clips" in broken and "clips" not in plain:
        broken.remove("clips")
        yield f"its list of clips {clip_list_path(str(seal['clips']), path.parent).name} is gone"
    if broken:
        plural = len(broken) > 1
        yield (
            f"its field{'s' * plural} {', '.join(broken)} {'were' if plural else 'was'} edited "
            f"after it was made: the seal{'s are' if plural else ' is'} broken"
        )


def _marks(record: Record, plain: Plain, protocol: Protocol) -> Iterator[str]:
    """Checks beyond the seal, since an edited record can be sealed again."""
    unknown = unknown_fields(plain)
    if unknown:
        yield f"it holds fields that this vidgan does not know: {', '.join(unknown)}"
    metrics = _metrics(record)
    other = [space for space in record.memorisation if space not in (*SPACES, *FEATURE_SPACES)]
    if other:
        yield f"it holds distances in a space that this vidgan does not know: {', '.join(other)}"
    strange = [key for key in record.scores if key not in metrics]
    if strange:
        yield f"no metric of this name is installed, so nothing was checked: {', '.join(strange)}"
    generator = record.generator
    if not (generator.sha256 or generator.clips_hash or record.features):
        yield "it gives no hash of a generator or of clips"
    is_prediction = record.protocol_id in PREDICTIONS
    if protocol.extractor == "given":
        return
    sentence = comparability(record.judge, None if is_prediction else protocol, record.extractor)
    # Clips that were handed over in memory have no names, and their generator has no file.
    is_of_files = generator.sha256 is not None or plain.get("inputs") is not None
    if is_of_files and plain.get("seal") and "clips" not in plain["seal"]:
        yield "it lacks its list of clips"
    if record.sentence != sentence:
        yield f"it ends with {shortened(record.sentence)} and the true ending is: {sentence}"
    if is_prediction:
        return
    if not record.memorisation:
        yield "it lacks its comparison with the training clips"
    if record.motion is None and record.data is not None and record.data.frames > 1:
        yield "it lacks its comparison of motion"
    for warning in _warnings(record, metrics):
        if warning not in record.warnings:
            yield f"it lacks the warning that its scores call for: {warning}"
    yield from _limit_marks(record)


def _warnings(record: Record, metrics: Mapping[str, Metric]) -> list[str]:
    """Warnings that scores and diagnostics call for, as far as no labels of clips are needed."""
    beside = {name: getattr(record, name) for name in SHAPES}
    classes = () if record.data is None else record.data.classes
    sizes = record.counts.generated, record.counts.heldout or 0
    return [
        *score_warnings({key: record.scores[key] for key in metrics}),
        *check_warnings(beside, classes, None, sizes, record.generator),
    ]


def _limit_marks(record: Record) -> Iterator[str]:
    """Limits of copies that are not what chance explains."""
    counts = record.counts
    made, videos = counts.generated, counts.heldout_videos or 0
    if not 0 < made + videos <= MAX_CLIPS or not videos:
        return
    limit = copies_limit(made, videos, max(1, int(QUANTILE * videos)))
    for space, found in record.memorisation.items():
        told = (found.get("copies") or {}).get("limit", limit)
        if not is_close(told, limit):
            yield f"its limit of copies ({space}) is {told:g} and chance explains {limit:g}"


# ------------------------------------------------------------------------------------------------
# Contradictions


def contradictions(record: Record, protocol: Protocol) -> Iterator[str]:
    """Sentences about contradictory parts of a record.

    Args:
        record: the record.
        protocol: that it names; of predictions that of the judge.
    """
    is_prediction = record.protocol_id in PREDICTIONS
    yield from _missing(record, is_given=not is_prediction and protocol.extractor == "given")
    yield from _of_counts(record, None if is_prediction else protocol)
    yield from _of_scores(record, None if is_prediction else protocol)
    yield from _of_networks(record, protocol)
    if not is_prediction:
        yield from derived_contradictions(record, protocol, _metrics(record))
    yield from diagnostic_contradictions(record)
    published = [] if is_prediction else comparable_protocols(protocol, record.extractor)
    if list(record.comparable_to) != published:
        yield (
            f"comparable_to is {shortened(list(record.comparable_to))} and protocol and weights "
            f"allow {published}"
        )


def _named_protocol(fields: Any) -> Protocol:
    """The protocol that a record names; of predictions that of the judge.

    Raises:
        UserError: its fields are not those that its id stands for.
    """
    if not isinstance(fields, Mapping) or not isinstance(fields.get("id"), str):
        raise UserError("its protocol has no id")
    name = fields["id"]
    if name in PREDICTIONS:
        found = differences(prediction_protocol(name), fields)
        _check_unchanged(name, [item for item in found if not item.key.startswith("judge")])
        return _named_protocol(fields.get("judge")) if name == PREDICTION else find_protocol(name)
    plain = {key: value for key, value in fields.items() if key != "id"}
    protocol = find_protocol(from_dict(Protocol, plain, "its protocol"))
    # A protocol that has got a field since has another hash of the same fields.
    if name not in (protocol_id(protocol), custom_id(plain)):
        if name in PROTOCOLS:
            _check_unchanged(
                name, differences(protocol_record(PROTOCOLS[name]), protocol_record(protocol))
            )
        raise UserError(
            f"its protocol is called {name} and its fields are those of {protocol_id(protocol)}"
        )
    return protocol


def _check_unchanged(name: str, found: Sequence[Difference]) -> None:
    changed = [f"{item.key}={shortened(item.second)}" for item in found if item.key != "id"]
    if changed:
        raise UserError(f"its protocol is called {name} and has {', '.join(changed)}")


def _missing(record: Record, *, is_given: bool) -> Iterator[str]:
    """Fields required for two scores to be comparable."""
    counts, features = record.counts, record.features or {}
    if is_given == (record.features is None):
        yield "it names given features under another protocol, or the reverse"
    real = features.get("real") if is_given else record.data and record.data.hash
    if not real or not isinstance(real, str):
        yield "it does not say which real clips it was compared with"
    elif not is_given and (counts.heldout is None or counts.train is None):
        yield "it does not say how many real clips there were"
    if record.seeds.evaluation is None:
        yield "it does not say the seed of the evaluation"
    if not record.scores:
        yield "it holds no scores"


def _of_counts(record: Record, protocol: Protocol | None) -> Iterator[str]:
    counts, data = record.counts, record.data
    least = {name: value for name, value in vars(counts).items() if value is not None}
    low = [f"counts.{name}={value}" for name, value in least.items() if value < 0]
    if low or counts.n < 1:
        yield f"there cannot be {', '.join(low) or f'counts.n={counts.n}'} clips"
        return
    if data is not None and min(data.frames, data.height, data.width, data.channels) < 1:
        yield f"clips of {data.frames}x{data.height}x{data.width} have no pixels"
    if protocol is None:
        if counts.generated != counts.n * (counts.samples or 0):
            yield (
                f"{counts.samples} predictions of {counts.n} clips are not "
                f"counts.generated={counts.generated}"
            )
        samples = record.protocol.get("num_samples", counts.samples)
        if samples != counts.samples:
            yield f"counts.samples is {counts.samples} and its protocol has num_samples={samples}"
        return
    shape = (None, None) if data is None else (data.frames, data.height)
    pairs = [
        ("counts.n", counts.n, "set_size", protocol.set_size),
        ("counts.reference", counts.reference, "reference_size", protocol.reference_size),
        ("data.frames", shape[0], "frames", protocol.frames),
        ("data.height", shape[1], "resolution", protocol.resolution),
    ]
    for name, value, field, wanted in pairs:
        if wanted and value is not None and value != wanted:
            yield f"{name} is {value} and its protocol has {field}={wanted}"
    if not counts.n <= counts.generated <= protocol.num_clips:
        yield (
            f"counts.generated is {counts.generated}, with sets of {counts.n} and a protocol of "
            f"num_clips={protocol.num_clips}"
        )
    for name in ("train", "heldout"):
        videos, clips = getattr(counts, f"{name}_videos"), getattr(counts, name)
        if videos is not None and clips is not None and videos > clips:
            yield f"{clips} {name} clips cannot come from {videos} videos"
    split = protocol.reference_split
    clips = getattr(counts, split)
    if None not in (counts.reference, clips) and counts.reference > clips:
        yield f"counts.reference is {counts.reference}, of {clips} {split} clips"
    if counts.heldout == 0:
        yield "there cannot be counts.heldout=0 clips"
    if counts.train is not None and 0 < protocol.max_train_clips < counts.train:
        yield (
            f"counts.train is {counts.train} and its protocol has "
            f"max_train_clips={protocol.max_train_clips}"
        )


def _of_scores(record: Record, protocol: Protocol | None) -> Iterator[str]:
    named = (*FRAME_METRICS, "frechet_distance") if protocol is None else protocol.metrics
    metrics = _metrics(record)
    for key, score in record.scores.items():
        if key not in named:
            yield f"its protocol gives no scores.{key}"
        elif key in metrics:
            yield from _of_metric(key, score, metrics[key])
        takes_best = record.protocol.get("value") == "best of k"
        if takes_best and not is_close(score.details.get("best_of_k"), score.value):
            yield f"scores.{key}.value is {score.value:g} and its best of k another"
        yield from _of_groups(key, score)
        counts = record.counts
        if protocol is None:
            continue
        if protocol.extractor != "given":
            needed = {"real": score.real, "floor": score.floor}
            needed |= {
                name: score.controls.get(name) for name in ("noise", "mean clip", "shuffled")
            }
            lacking = [name for name, value in needed.items() if value is None]
            if lacking:
                yield f"scores.{key} lacks {', '.join(lacking)}"
        if score.n != counts.n:
            yield f"scores.{key}.n is {score.n} and counts.n {counts.n}"
        groups = min(counts.generated // counts.n, protocol.max_groups)
        if len(score.values) != groups:
            yield f"scores.{key} has {len(score.values)} values of {groups} sets"


def _of_metric(key: str, score: Score, metric: Metric) -> Iterator[str]:
    """A direction or a value that the metric does not have."""
    if score.better != metric.better:
        yield f"scores.{key}.better is {score.better}, and {metric.better} is better"
    lowest, highest = metric.bounds
    told = {"value": score.value, "real": score.real, **score.controls}
    told |= {"floor": score.floor} if metric.uses_reference else {}
    told |= {f"values[{index}]": value for index, value in enumerate(score.values)}
    for name, value in told.items():
        if value is not None and not lowest <= value <= highest:
            yield f"scores.{key}.{name} is {value:g}, outside of {lowest:g} to {highest:g}"


def _of_groups(key: str, score: Score) -> Iterator[str]:
    """Mean and spread that do not match the listed values."""
    values = score.values
    if values and not _is_same(score.value, statistics.fmean(values), values):
        yield f"scores.{key}.value is {score.value:g} and the mean of its sets is another"
    spread = statistics.pstdev(values) if len(values) > 1 else None
    if values and (spread is None) != (score.spread is None):
        yield f"scores.{key}.spread is {score.spread} of {len(values)} sets"
    elif spread is not None and not _is_same(score.spread or 0.0, spread, values):
        yield f"scores.{key}.spread is {score.spread:g} and that of its sets is another"


def _is_same(told: float, found: float, scale: tuple[float, ...]) -> bool:
    return math.isclose(
        told, found, rel_tol=ROUNDING, abs_tol=ROUNDING * max(abs(value) for value in scale)
    )


def _of_networks(record: Record, protocol: Protocol) -> Iterator[str]:
    """Scores on features of an absent network, or of a judge that did not pass."""
    judge, network = record.judge, record.extractor
    resting = [
        key
        for key, metric in _metrics(record).items()
        if metric.needs in ("features", "probabilities")
    ]
    if record.agreement is not None:
        resting.append("agreement")
    if judge is not None:
        yield from _of_judge(judge, protocol)
    if "lpips" in record.scores and not (record.perceptual or {}).get("fingerprint"):
        yield "it has scores.lpips and names no LPIPS weights"
    if not resting:
        return
    if protocol.extractor in JUDGES:
        if judge is None or not isinstance(judge.get("hash"), str):
            yield f"{', '.join(resting)} rest on a judge, and it names none"
        elif judge.get("passed") is not True:
            yield f"{', '.join(resting)} rest on a judge that did not pass"
    elif protocol.network is not None:
        told, name = network or {}, protocol.network.identity
        # The hash of a network of one's own is another once a spec has got a field.
        named = str(told.get("name")).partition(":")[0] == name.partition(":")[0]
        if not named or not isinstance(told.get("fingerprint", told.get("sha256")), str):
            yield f"{', '.join(resting)} rest on {name}, and it names no such weights"


def _of_judge(judge: Plain, protocol: Protocol) -> Iterator[str]:
    """A judge that passed below its gate, or the reverse."""
    found, chance = judge.get("accuracy"), judge.get("chance")
    accuracy = found.get("joint") if isinstance(found, Mapping) else None
    for name, value in (("accuracy.joint", accuracy), ("chance", chance)):
        if not is_share(value):
            yield f"judge.{name} is {shortened(value)} and not a share in [0, 1]"
            return
    assert accuracy is not None
    assert chance is not None
    required = min(protocol.classifier.gate_multiple * chance, (1 + chance) / 2)
    if judge.get("passed") is not (accuracy >= required):
        yield (
            f"judge.passed is {shortened(judge.get('passed'))}, with an accuracy of {accuracy:g} "
            f"where {required:g} is required"
        )
    # Records of the first schema do not name it.
    if judge.get("extractor", protocol.extractor) != protocol.extractor:
        yield f"its judge is {shortened(judge['extractor'])} and its protocol's is another"


def _metrics(record: Record) -> dict[str, Metric]:
    """The metrics of its scores, as far as they are installed."""
    # Looking for plug-ins takes long, and few records need any.
    known = METRICS if record.scores.keys() <= METRICS.keys() else list_metrics()
    return {key: find_metric(key) for key in record.scores if key in known}
