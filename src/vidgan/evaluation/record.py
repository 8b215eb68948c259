"""Evaluation records: what they share, how they are stored and how they read on a terminal.

A record is one JSON object. Fields are only ever added, so a reader takes those it knows:

* `schema`, `created`, `wall_seconds`, `environment`: version of this list, time, cost, versions.
* `protocol`: `id` (a registered name or `custom:<hash>`) and every field of the protocol.
* `counts`: clips, n a set among them.
* `scores`: by metric `value`, `spread`, `values` (one a group or repeat), `n`, `real`, `floor`,
  `floor_meaning`, `controls`, `better` (lower or higher); where it has been asked for `interval`
  (`low`, `high`, `level`, `method`) and, of a Frechet distance, `extrapolated` to infinitely many
  clips.
* `agreement`, `memorisation`: what the judge makes of asked classes, nearest training clips.
* `diversity`: mean distance between clips of a class, `generated`, `heldout`, `ratio`, `by_class`;
  a collapse inside classes is seen here and not in the scores. None without a judge.
* `motion`: statistics of frame differences, `generated`, `heldout` and their `ratio`.
* `judge`: the classifier that was trained on the data, or None.
* `extractor`: of a protocol with published weights `name`, `layer`, `dim`, `weights_file`, `bytes`,
  `sha256`, `width`; None for any other.
* `perceptual`: of predictions the weights of LPIPS, or None; `mask`: the hidden box, or None.
* `data`, `generator`, `seeds`: what was compared, with hashes.
* `inputs`: what `vidgan evaluate --verify` needs to do everything again: `source` (kind, path, hash
  of a generator's file), `data` (kind, settings, hash of a packed set's manifest), `weights`,
  `options`.
* `clips`: by split (`train`, `heldout`, and `generated` if they are files) the name, label and
  CRC-32 of the pixels of every clip. On disk it lies in a file of its own beside the records that
  share it, named by its hash.
* `warnings`, `comparable_to`, `sentence`: what a reader has to know.
* `seal`: the hash of every other field, so that an edited one can be named.
"""

import hashlib
import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import torch

from vidgan import __version__
from vidgan.core.files import write_json_atomically, write_text_atomically
from vidgan.core.machine import describe_processor, machine_name
from vidgan.core.settings import plain_hash
from vidgan.errors import UserError
from vidgan.evaluation.metric import metric_title
from vidgan.evaluation.protocol_fields import Protocol

RECORD_SCHEMA = 1

ClipLists = dict[str, dict[str, list[Any]]]
"""By split the columns `name`, `label` and `crc32`."""

ClipRow = tuple[str, str, int, int]
"""Split, name, label and checksum of one clip."""

UNSEALED = frozenset({"seal"})
"""Fields that the seal leaves out."""


def environment_record(device: str) -> dict[str, Any]:
    """Versions and machine settings that may move the last digits of a score."""
    return {
        "vidgan": __version__,
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
    """The present time, UTC, to the second."""
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
        f"protocol {protocol.identity} or its weights differ from every published procedure, not "
        "comparable with published scores"
    )


def comparable_protocols(protocol: Protocol, network: dict[str, Any] | None) -> list[str]:
    """Registered protocols whose published scores these may stand beside."""
    is_true = protocol.is_published and protocol.identity == protocol.name
    return [protocol.name] if is_true and network and network.get("is_verified") else []


def seal_record(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the hash of every field in `seal`."""
    seal = {name: plain_hash(value) for name, value in record.items() if name not in UNSEALED}
    return {**record, "seal": seal}


def broken_seals(record: dict[str, Any]) -> list[str]:
    """Fields that were edited, added or taken away after the record was made."""
    seal = record.get("seal") or {}
    names = [*seal, *(name for name in record if name not in seal and name not in UNSEALED)]
    return [
        name for name in names if name not in record or seal.get(name) != plain_hash(record[name])
    ]


def without_clips(record: dict[str, Any]) -> dict[str, Any]:
    """A record as it is printed and stored, with the list of clips left to a file of its own."""
    return {name: value for name, value in record.items() if name != "clips"}


def save_record(record: dict[str, Any], folder: str | Path) -> Path:
    """Write a record to a file of its own in `folder`; records are only ever added.

    Returns:
        The file, named after protocol, step (if the record knows one) and contents.
    """
    if "clips" in record:
        rows = clip_rows(record["clips"])
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_text_atomically(clip_list_path(record, folder), text)
        record = without_clips(record)
    text = json.dumps(record, sort_keys=True)
    step = record["generator"].get("step")
    parts = [record["protocol"]["id"].replace(":", "-")]
    parts += [] if step is None else [f"step-{step}"]
    parts += [hashlib.sha256(text.encode()).hexdigest()[:8]]
    path = Path(folder) / ("-".join(parts) + ".json")
    write_json_atomically(path, record)
    return path


def clip_list_path(record: dict[str, Any], folder: str | Path) -> Path:
    """Where the list of a sealed record's clips lies: `clips-<hash>.jsonl` beside the record."""
    return Path(folder) / f"clips-{record['seal']['clips']}.jsonl"


def clip_rows(clips: ClipLists) -> list[ClipRow]:
    """A record's `clips` as rows of split, name, label and checksum."""
    return [
        (split, name, label, checksum)
        for split, columns in clips.items()
        for name, label, checksum in zip(
            columns["name"], columns["label"], columns["crc32"], strict=True
        )
    ]


def read_sealed_record(path: str | Path) -> dict[str, Any]:
    """A record with its list of clips, which is left out if its file is gone.

    Raises:
        UserError: no record, or one without a seal.
    """
    path = Path(path)
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows = []
        if "seal" in record and clip_list_path(record, path.parent).exists():
            text = clip_list_path(record, path.parent).read_text(encoding="utf-8")
            rows = [json.loads(line) for line in text.splitlines()]
        lists: ClipLists = {}
        for split, *values in rows:
            columns = lists.setdefault(split, {"name": [], "label": [], "crc32": []})
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read as a record of vidgan evaluate ({error}): name a file "
            "RUN/evals/*.json"
        ) from error
    if not {"seal", "inputs", "protocol", "scores"} <= record.keys():
        raise UserError(
            f"{path} has no seal, so nothing can be verified: evaluate again with this vidgan"
        )
    return {**record, "clips": lists} if lists else record


def format_record(record: dict[str, Any]) -> str:
    """A table for the terminal: each score with protocol, n, real reference, floor and controls."""
    counts, data = record["counts"], record["data"]
    first = (
        f"protocol {record['protocol']['id']}: n = {counts['n']} a set, {counts['generated']} "
        f"generated, {counts['heldout']} held-out and {counts['train']} training clips of "
        f"{data['frames']} frames of {data['height']}x{data['width']} pixels"
    )
    lines = [first]
    for key, score in record["scores"].items():
        spread = "" if score["spread"] is None else f" +- {_short(score['spread'])}"
        lines += [
            f"{metric_title(key)} ({score['better']} is better)",
            f"  generated    {_short(score['value'])}{spread}",
            f"  real         {_short(score['real'])}  (held-out clips, {_count(score)})",
            f"  floor        {_short(score['floor'])}  ({score['floor_meaning']})",
        ]
        lines += [f"  {name:12} {_short(value)}" for name, value in score["controls"].items()]
        lines += _certainty_lines(score)
    lines += _agreement_lines(record) + _diversity_lines(record) + _memorisation_lines(record)
    lines += [f"warning: {warning}" for warning in record["warnings"]]
    return "\n".join([*lines, record["sentence"]])


def _count(score: dict[str, Any]) -> str:
    return f"n = {score['n_real']}" if "n_real" in score else "same n"


def _certainty_lines(score: dict[str, Any]) -> list[str]:
    lines = []
    if "interval" in score:
        ends = score["interval"]
        lines.append(
            f"  {ends['level']:.0%} interval {_short(ends['low'])} to {_short(ends['high'])}  "
            f"({ends['method']})"
        )
    if "extrapolated" in score:
        value = score["extrapolated"]["value"]
        lines.append(f"  infinitely many clips {_short(value)}  (line in 1/n)")
    return lines


def _diversity_lines(record: dict[str, Any]) -> list[str]:
    lines = []
    spread, motion = record.get("diversity"), record.get("motion")
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


def _agreement_lines(record: dict[str, Any]) -> list[str]:
    lines = []
    for name, title in (("generated", "generated clips"), ("heldout", "real held-out clips")):
        found = (record["agreement"] or {}).get(name)
        if found:
            shares = ", ".join(f"{k} {v:.1%}" for k, v in found.items() if v is not None)
            lines.append(f"judged as the class they should show, {title}: {shares}")
    return lines


def _memorisation_lines(record: dict[str, Any]) -> list[str]:
    return [
        f"nearest training clip ({space}): median of generated / of held-out = "
        f"{_short(found['ratio'])}"
        for space, found in record["memorisation"].items()
    ]


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
