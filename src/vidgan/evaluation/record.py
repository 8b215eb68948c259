"""Evaluation records: creating, storing and printing them."""

import hashlib
import json
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import torch

from vidgan.core.code_version import VERSION
from vidgan.core.files import parse_value, read_text, write_json_atomically, write_text_atomically
from vidgan.core.machine import describe_processor, machine_name, processor_line
from vidgan.core.settings import HASH_DIGITS, shortened
from vidgan.errors import UserError
from vidgan.evaluation.metric import Protocol, metric_title
from vidgan.evaluation.protocols import protocol_id
from vidgan.evaluation.record_types import ClipLists, Record, Score

RECORD_BYTES = 64 << 20
"""Longest record that is read, without its list of clips; one of all metrics has some 100 kB."""

MAX_NESTING = 32
"""Groups inside of groups; a record has eight at most."""

ClipRow = tuple[str, str, int, int]
"""Split, name, label and checksum of one clip."""


def environment_record(device: str) -> dict[str, Any]:
    """Versions and machine settings that may change the last digits of a score."""
    return {
        "vidgan": VERSION,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "machine": machine_name(device),
        "processor": describe_processor(),
        "device": device,
        "threads": torch.get_num_threads(),
        "dtype": "float32 features, float64 distances",
        "tf32": bool(torch.backends.cuda.matmul.allow_tf32),
    }


def time_stamp() -> str:
    """The current UTC time, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def comparability(
    judge: dict[str, Any] | None,
    protocol: Protocol | None = None,
    network: dict[str, Any] | None = None,
) -> str:
    """The sentence that every record ends with.

    Args:
        judge: card of the judge, if the protocol has one.
        protocol: as it was applied.
        network: record of any other extractor.
    """
    if judge is not None:
        accuracy = judge["accuracy"]["joint"]
        if judge.get("extractor") == "own-ssl":
            return (
                f"own classifier of turned and retimed clips, acc={accuracy:.2f}, not comparable "
                "with published scores"
            )
        return f"own classifier, acc={accuracy:.2f}, not comparable with published scores"
    if network is None or protocol is None:
        return "weight-free scores of the user's own data, not comparable with published scores"
    if not protocol.is_published:
        return "features of an untrained network, not comparable with published scores"
    if comparable_protocols(protocol, network):
        return (
            f"comparable with scores of {protocol.name} on the same data, and with no others; "
            "read it beside its real reference"
        )
    return (
        f"protocol {protocol_id(protocol)} or its weights differ from every published procedure, "
        "not comparable with published scores"
    )


def comparable_protocols(protocol: Protocol, network: dict[str, Any] | None) -> list[str]:
    """Registered protocols whose published scores these may stand beside."""
    is_true = protocol.is_published and protocol_id(protocol) == protocol.name
    return [protocol.name] if is_true and network and network.get("is_verified") else []


def save_record(record: Record, folder: str | Path) -> Path:
    """Write a record to a file of its own in `folder`; records are only ever added.

    Returns:
        The file, named after protocol, step (if the record knows one) and contents.
    """
    if record.clips is not None and record.seal is not None:
        rows = clip_rows(record.clips)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_text_atomically(clip_list_path(record.seal["clips"], folder), text)
        record = record.without_clips()
    plain = record.to_dict()
    text = json.dumps(plain, sort_keys=True)
    step = record.generator.step
    parts = [record.protocol_id.replace(":", "-")]
    parts += [] if step is None else [f"step-{step}"]
    parts += [hashlib.sha256(text.encode()).hexdigest()[:8]]
    path = Path(folder) / ("-".join(parts) + ".json")
    write_json_atomically(path, plain)
    return path


def clip_list_path(digest: str, folder: str | Path) -> Path:
    """File of a list of clips, named by its seal: `clips-<hash>.jsonl` beside the records.

    Raises:
        UserError: the seal is not a hash, and might be a path.
    """
    if not re.fullmatch(rf"[0-9a-f]{{{HASH_DIGITS}}}", digest):
        raise UserError(f"the seal of a list of clips is {shortened(digest)}, which is not a hash")
    return Path(folder) / f"clips-{digest}.jsonl"


def clip_rows(clips: ClipLists) -> list[ClipRow]:
    """A record's `clips` as rows of split, name, label and checksum."""
    return [
        (split, name, label, checksum)
        for split, columns in clips.items()
        for name, label, checksum in zip(
            columns["name"], columns["label"], columns["crc32"], strict=True
        )
    ]


def read_record(path: str | Path) -> Record:
    """One record file, without its list of clips.

    Raises:
        UserError: it is not a record, or does not fit; see `Record.from_dict`.
    """
    return Record.from_dict(_read_json(Path(path)), str(path))


def read_plain_record(path: Path) -> Any:
    """The plain values of what may be a record, with its list of clips if that lies beside it.

    Raises:
        UserError: one of both files cannot be read.
    """
    record = _read_json(path)
    seal = record.get("seal") if isinstance(record, dict) else None
    if seal is None:
        return record
    if not isinstance(seal, dict) or not all(isinstance(value, str) for value in seal.values()):
        raise UserError(f"{path} has an invalid seal: its field seal was edited")
    return _with_clips(record, path) if "clips" in seal else record


def read_sealed_record(path: str | Path) -> dict[str, Any]:
    """The plain values of a record, with its list of clips unless the file of that is gone.

    Raises:
        UserError: no record, or one without a seal.
    """
    path = Path(path)
    record = _read_json(path)
    if (
        not isinstance(record, dict)
        or not {"seal", "inputs", "protocol", "scores"} <= record.keys()
    ):
        raise UserError(
            f"{path} has no seal, so nothing can be verified: evaluate again with this vidgan"
        )
    if not isinstance(record["seal"], dict) or "clips" not in record["seal"]:
        raise UserError(f"the list of clips of {path} cannot be read: its seal does not name it")
    return _with_clips(record, path)


def _with_clips(record: dict[str, Any], path: Path) -> dict[str, Any]:
    """A record with its list of clips, unless the file of that is gone."""
    try:
        clips = clip_list_path(record["seal"]["clips"], path.parent)
        if not clips.exists():
            return record
        lists: ClipLists = {}
        for line in read_text(clips).splitlines():
            split, *values = parse_value(line, "a line")
            columns = lists.setdefault(split, {"name": [], "label": [], "crc32": []})
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"the list of clips of {path} cannot be read ({error})") from error
    return {**record, "clips": lists} if lists else record


def _read_json(path: Path) -> Any:
    try:
        found = parse_value(read_text(path, RECORD_BYTES), "the text")
        if flaw := _unfit_value(found):
            raise UserError(flaw)
        return found
    except (OSError, UserError) as error:
        raise UserError(
            f"{path} cannot be read as a record of vidgan evaluate ({error}): name a file "
            "RUN/evals/*.json"
        ) from error


_Place = tuple[Any, "_Place"] | None


def _unfit_value(plain: Any) -> str | None:
    """Where a number is NaN or infinite, or nesting is too deep."""
    # A place is a key and its parent, formatted only if it is reported.
    waiting: list[tuple[_Place, Any, int]] = [(None, plain, 0)]
    while waiting:
        place, value, depth = waiting.pop()
        if depth > MAX_NESTING:
            return f"{_in_words(place)} lies in more than {MAX_NESTING} groups"
        if isinstance(value, dict):
            waiting += [((key, place), item, depth + 1) for key, item in value.items()]
        elif isinstance(value, list):
            waiting += [((key, place), item, depth + 1) for key, item in enumerate(value)]
        elif isinstance(value, int | float) and not abs(value) <= sys.float_info.max:
            return f"{_in_words(place)} is {shortened(value)}, which is not a number"
    return None


def _in_words(place: _Place) -> str:
    keys: list[str] = []
    while place is not None:
        key, place = place
        keys.append(str(key)[:100])
    return ".".join(reversed(keys))[:100] or "the record"


def format_record(record: Record) -> str:
    """A table for the terminal: each score with protocol, n, real reference, floor and controls."""
    counts, data = record.counts, record.data
    of = "" if data is None else f" of {data.frames} frames of {data.height}x{data.width} pixels"
    first = (
        f"protocol {record.protocol_id}: n = {counts.n} a set, {counts.generated} "
        f"generated, {counts.heldout} held-out and {counts.train} training clips{of}"
    )
    lines = [first]
    is_heldout = record.protocol.get("reference_split") == "heldout"
    other = "training" if is_heldout else "held-out"
    for key, score in record.scores.items():
        spread = "" if score.spread is None else f" +- {_short(score.spread)}"
        count = "same n" if score.n_real is None else f"n = {score.n_real}"
        lines += [
            f"{metric_title(key)} ({score.better} is better)",
            f"  generated    {_short(score.value)}{spread}",
            f"  real         {_short(score.real)}  ({other} clips, {count})",
            f"  floor        {_short(score.floor)}  ({score.floor_meaning})",
        ]
        lines += [f"  {name:12} {_short(value)}" for name, value in score.controls.items()]
        lines += _certainty_lines(score)
    lines += _agreement_lines(record) + _diversity_lines(record) + _memorisation_lines(record)
    lines += [f"warning: {warning}" for warning in record.warnings]
    return "\n".join([*lines, record.sentence])


def _certainty_lines(score: Score) -> list[str]:
    lines = []
    if "spread_over_splits" in score.details:
        lines.append(f"  over splits  +- {_short(score.details['spread_over_splits'])}")
    if score.interval is not None:
        ends = score.interval
        lines.append(
            f"  {ends['level']:.0%} interval {_short(ends['low'])} to {_short(ends['high'])}  "
            f"({ends['method']})"
        )
    if score.extrapolated is not None:
        line = score.extrapolated
        reach = f", {_short(line['low'])} to {_short(line['high'])}" if "low" in line else ""
        lines.append(f"  infinitely many clips {_short(line['value'])}{reach}  (line in 1/n)")
    return lines


def _diversity_lines(record: Record) -> list[str]:
    lines = []
    spread, motion = record.diversity, record.motion
    if spread:
        lowest = spread["lowest"]
        lines.append(
            f"spread inside classes: generated / held-out = {_short(spread['ratio'])}, lowest "
            f"{_short(lowest['ratio'])} ({lowest['class']})"
        )
    if motion:
        lines.append(
            f"change from frame to frame: generated / held-out = {_short(motion['ratio'])}, still "
            f"clips {motion['generated']['still']:.0%} of generated, "
            f"{motion['heldout']['still']:.0%} of held-out"
        )
    return lines


def _agreement_lines(record: Record) -> list[str]:
    lines = []
    for name, title in (("generated", "generated clips"), ("heldout", "real held-out clips")):
        found = (record.agreement or {}).get(name)
        if found:
            shares = ", ".join(f"{k} {v:.1%}" for k, v in found.items() if v is not None)
            lines.append(f"judged as the class they should show, {title}: {shares}")
    return lines


def _memorisation_lines(record: Record) -> list[str]:
    lines = []
    for space, found in record.memorisation.items():
        line = f"nearest training clip ({space}): median of generated / of held-out = "
        line += _short(found["ratio"])
        if copies := found.get("copies"):
            line += (
                f", {copies['share']:.1%} as near as the nearest of held-out ones (chance "
                f"explains {copies['limit']:.1%})"
            )
        lines.append(line)
    return lines


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


# ------------------------------------------------------------------------------------------------
# Differences between a record and the one recomputed from its inputs, in sentences

TOLERANCE = 1e-5
"""Relative difference that another machine or number of threads may make."""

SAME_MACHINE = ("machine", "processor", "device", "threads", "vidgan", "python", "torch", "numpy")
"""Parts of a record's `environment` that have to agree for equal bits."""

NOT_COMPARED = frozenset(
    {"schema", "created", "wall_seconds", "environment", "seal", "inputs", "clips"}
)
"""Fields that may differ, or that are compared in a way of their own."""

MAY_MOVE = frozenset(
    {"inputs.source.path", "inputs.source.sha256", "inputs.weights", "inputs.options.device"}
    | {"inputs.data.settings.path", "inputs.data.manifest_sha256"}
)
"""Inputs that may be elsewhere, or that are compared in a way of their own."""

TIMES = "training_cpu_seconds"
"""Key of a judge's card that holds a duration."""

MAX_NAMED = 5
"""Differences of one field, or clips of one split, that are named one by one."""


def same_machine(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """How two environments differ, a phrase per part; empty if results must be bit-identical."""
    return [
        f"{part} {_part(now, part)} instead of {_part(before, part)}"
        for part in SAME_MACHINE
        # Records of earlier versions do not describe the processor.
        if now.get(part) != before.get(part) and (part != "processor" or part in before)
    ]


def _part(environment: Mapping[str, Any], part: str) -> str:
    if part == "processor":
        return processor_line(environment[part])
    return str(environment.get(part))


def value_changes(
    before: Mapping[str, Any], now: Mapping[str, Any], tolerance: float, skipped: frozenset[str]
) -> list[str]:
    """Values of a record that today's differ from.

    Args:
        before: the record.
        now: the one made again.
        tolerance: relative difference of numbers that passes; 0 requires bit-identity.
        skipped: dotted names that are not compared.

    Returns:
        A sentence for each differing value, with both; many of one field are summed up.
    """
    sentences = []
    fields = [name for name in {**before, **now} if name not in NOT_COMPARED | skipped]
    for field in fields:
        found = [
            f"{where} is {_short_value(old)} in the record and {_short_value(new)} when computed "
            "again"
            for where, old, new in _differences(before.get(field), now.get(field), field)
            if where not in skipped and not _is_close(old, new, tolerance)
        ]
        rest = len(found) - MAX_NAMED
        sentences += found[:MAX_NAMED]
        sentences += [f"{rest} more values of {field} differ"] if rest > 0 else []
    return sentences


def clip_changes(before: ClipLists, now: ClipLists) -> list[str]:
    """Clips that are missing, new, relabelled or changed."""
    old, new = (_by_name(lists) for lists in (before, now))
    kinds: dict[tuple[str, str], list[str]] = {}
    for key in {**old, **new}:
        split, name = key
        if key not in new:
            kinds.setdefault((split, "is in the record and is now missing"), []).append(name)
        elif key not in old:
            kinds.setdefault((split, "is not in the record"), []).append(name)
        elif len(old[key]) != len(new[key]):
            times = f"stands {len(old[key])} times in the record and {len(new[key])} times there"
            kinds.setdefault((split, times), []).append(name)
        elif [label for label, _ in old[key]] != [label for label, _ in new[key]]:
            kinds.setdefault((split, "has another class than in the record"), []).append(name)
        elif old[key] != new[key]:
            kinds.setdefault((split, "shows other frames than in the record"), []).append(name)
    sentences = []
    for (split, what), names in kinds.items():
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        sentences.append(f"{split} clip {', '.join(names[:MAX_NAMED])}{more}: {what}")
    for split in before:
        names, others = (lists.get(split, {}).get("name", []) for lists in (before, now))
        if names != others and sorted(names) == sorted(others):
            sentences.append(f"the {split} clips stand in another order in the record")
    return sentences


def _by_name(lists: ClipLists) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """By split and name label and checksum of a clip, or of each window if it has several."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for split, name, *values in clip_rows(lists):
        found.setdefault((split, name), []).append((values[0], values[1]))
    return found


def input_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Statements of a record about inputs and arithmetic that do not hold.

    Paths and the device may be others, and what `SAME_MACHINE` names decides how much numbers may
    differ; files and weights are compared elsewhere.
    """
    may_differ = {f"environment.{part}" for part in SAME_MACHINE} | MAY_MOVE
    return [
        f"{where} is {_short_value(old)} in the record and {_short_value(new)} when computed again"
        for field in ("inputs", "environment")
        for where, old, new in _differences(before.get(field), now.get(field), field)
        if not any(where == name or where.startswith(f"{name}.") for name in may_differ)
    ]


def _differences(old: Any, new: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """Leaves of two trees of plain values that are not identical."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if key != TIMES:
                yield from _differences(old.get(key), new.get(key), f"{where}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _differences(left, right, f"{where}[{index}]")
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield where, old, new


def _is_close(old: Any, new: Any, tolerance: float) -> bool:
    numbers = [isinstance(value, float) for value in (old, new)]
    return all(numbers) and abs(old - new) <= tolerance * max(abs(old), abs(new))


def _short_value(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
