"""Verifying a record: its inputs are read again and everything in it is recomputed.

With the same machine, versions and number of threads every bit must agree; otherwise numbers may
differ by `TOLERANCE`. Whatever does not agree is named: an edited field of the record, the file of
a generator, a clip, a judge's weights, a value.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vidgan.core.files import sha256_of
from vidgan.core.progress import Notify, ignore
from vidgan.core.settings import from_dict, load_yaml
from vidgan.data.build.packing import cached_build
from vidgan.data.dataset import RUN_SETTINGS, ClipDataset
from vidgan.data.packed.cloud import refuse_told_address
from vidgan.data.packed.manifest import MANIFEST_NAME, is_packed
from vidgan.data.packed.store import open_store
from vidgan.errors import UserError
from vidgan.evaluation.clips import EvaluationOptions
from vidgan.evaluation.gather import DataInputs, SourceInputs, read_inputs
from vidgan.evaluation.generators import evaluate
from vidgan.evaluation.predictions import (
    BEST_OF_100,
    PREDICTIONS,
    evaluate_best_of_100,
    evaluate_predictions,
)
from vidgan.evaluation.protocols import Protocol, protocol_id
from vidgan.evaluation.record import (
    TOLERANCE,
    clip_changes,
    clip_list_path,
    environment_record,
    input_changes,
    read_sealed_record,
    same_machine,
    value_changes,
)
from vidgan.evaluation.record_types import Plain, Record, broken_seals
from vidgan.models.base import Box

MAX_THREADS = 1024
"""More than any record was made with; torch ends the process when it cannot start them."""
FOUNDATION = {"protocol", "inputs", "seeds", "mask", "perceptual"}
"""Fields without which nothing can be computed again."""


@dataclass(frozen=True)
class Verification:
    """The result of verifying a record.

    Attributes:
        findings: a sentence per disagreement; empty for a valid record.
        elsewhere: how this machine differs from the record's; empty if bit-identity was required.
    """

    findings: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether everything agrees."""
        return not self.findings


def verify(
    path: str | Path,
    data: str | None = None,
    *,
    cache: str | Path | None = None,
    notify: Notify = ignore,
) -> Verification:
    """Compute a record again from its inputs.

    Videos are decoded again, into a folder that is deleted afterwards; features are extracted
    again. The judge is taken from `cache` if it is there, else trained again.

    Args:
        path: the record.
        data: where the real clips lie now; None takes the path in the record.
        cache: folder where judges are kept.
        notify: called with a short message about what happens next.

    Raises:
        UserError: the file is not a sealed record, or what it was made from is gone or was never in
            files.
    """
    path = Path(path)
    plain = read_sealed_record(path)
    seals = _seal_findings(plain, path)
    if seals.keys() & FOUNDATION:
        return Verification(tuple(seals.values()))
    record = Record.from_dict(plain, str(path))
    inputs = read_inputs(record, str(path))
    source = _find_source(inputs.source, path)
    again_from = _predicted_again if record.protocol_id in PREDICTIONS else _scored_again
    findings = [*seals.values(), *_file_findings(inputs.source, source)]
    device = _device_of(inputs.options.device)
    options = EvaluationOptions(
        seed=record.seeds.evaluation or 0,
        judge_seed=record.seeds.judge or 0,
        cache=cache,
        device=device,
        notify=notify,
    )
    with (
        _threads_of(inputs.options.threads),
        _real_clips(inputs.data, data, path, notify) as clips,
    ):
        findings += _manifest_findings(inputs.data, clips)
        elsewhere = same_machine(record.environment, environment_record(device))
        try:
            again = again_from(record, source, clips, options)
        except UserError as error:
            return Verification(
                (*findings, f"it cannot be computed again: {error}"), tuple(elsewhere)
            )
    # As JSON would hold it: lists for tuples, strings for keys.
    now = json.loads(json.dumps(again.to_dict()))
    # Earlier versions wrote the seed by which a run orders its clips.
    if inputs.data.seed in (0, _seed_of_run(source)):
        now["inputs"]["data"]["seed"] = inputs.data.seed
    findings += _changes_since(plain, now, bool(elsewhere))
    return Verification(tuple(findings), tuple(elsewhere))


def _scored_again(
    record: Record, source: Path, clips: ClipDataset, options: EvaluationOptions
) -> Record:
    return evaluate(source, clips, _protocol_of(record), options)


def _predicted_again(
    record: Record, source: Path, clips: ClipDataset, options: EvaluationOptions
) -> Record:
    asked = read_inputs(record, "the record").options
    lpips = (record.perceptual or {}).get("backbone")
    if record.protocol_id == BEST_OF_100:
        return evaluate_best_of_100(source, clips, lpips=lpips, options=options)[0]
    again, _ = evaluate_predictions(
        source,
        clips,
        asked.num_clips,
        asked.num_samples,
        box=None if record.mask is None else Box(*record.mask),
        lpips=lpips,
        options=options,
    )
    return again


def _seal_findings(record: Plain, path: Path) -> dict[str, str]:
    """By field, that it was edited."""
    found = {}
    for name in broken_seals(record):
        sentence = f"the field {name} was edited after the record was made: its seal is broken"
        if name == "clips":
            file = clip_list_path(record["seal"]["clips"], path.parent)
            what = "was edited: its seal is broken" if "clips" in record else "is gone"
            sentence = f"the list of clips {file} {what}"
        found[name] = sentence
    return found


def _find_source(source: SourceInputs, path: Path) -> Path:
    """Where the generated clips or the generator lie, from here or as seen from the record."""
    if source.kind == "memory":
        raise UserError(
            f"{path} is of clips that were never in a file, so they cannot be read again"
        )
    found = Path(source.path)
    # A record lies in evals/ of its run or folder of clips, which may have moved as a whole.
    home = path.resolve().parent.parent
    moved = home if source.kind == "folder" else home.joinpath(*found.parts[-3:])
    if not found.exists() and moved.exists() and path.resolve().parent.name == "evals":
        return moved
    if not found.exists():
        raise UserError(
            f"{path} is of {found}, which is not there: give the command in the folder where the "
            "record was made"
        )
    # Where a folder of clips was edited into a generator, the comparison says so.
    is_own = source.kind == "folder" or found.resolve() == home
    if not found.is_file() and not (found.is_dir() and is_own):
        raise UserError(f"{path} is of {found}, which is not a file: name a record of your own")
    return found


def _protocol_of(record: Record) -> Protocol:
    fields = {name: value for name, value in record.protocol.items() if name != "id"}
    protocol = from_dict(Protocol, fields, "the protocol of the record")
    if protocol_id(protocol) != record.protocol_id:
        raise UserError(
            f"this vidgan calls the record's protocol {protocol_id(protocol)} and not "
            f"{record.protocol_id}: verify it with vidgan {record.environment.get('vidgan')}"
        )
    return protocol


def _seed_of_run(source: Path) -> int | None:
    """The seed in the settings of the run that a generator's file lies in."""
    *_, run = source.resolve().parents[:3]
    settings = run / RUN_SETTINGS
    return load_yaml(settings).get("seed") if settings.is_file() else None


def _device_of(device: str) -> str:
    return device if torch.cuda.is_available() and device.startswith("cuda") else "cpu"


@contextmanager
def _threads_of(threads: int) -> Iterator[None]:
    """As many threads as the record was computed with."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(max(threads, 1), MAX_THREADS))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _real_clips(
    inputs: DataInputs, data: str | None, path: Path, notify: Notify
) -> Iterator[ClipDataset]:
    """The real clips, repacked if they come from videos."""
    if inputs.kind == "memory":
        raise UserError(
            f"{path} compares with real clips that were in memory alone, so they cannot be read "
            "again"
        )
    if data is None:
        refuse_told_address(inputs.settings.path, path)
    config = replace(inputs.settings, path=data or inputs.settings.path)
    if not is_packed(config.path) and not Path(config.path).exists():
        raise UserError(
            f"the real clips of {path} are not in {config.path}: give the command where the record "
            "was made, or data=FOLDER after it"
        )
    with tempfile.TemporaryDirectory(prefix="vidgan-verify-") as folder:
        if not is_packed(config.path):
            notify(f"reading the videos in {config.path} again")
        packed = cached_build(config, inputs.levels, cache_dir=folder)
        yield ClipDataset(open_store(packed), config, seed=inputs.seed)


def _file_findings(told: SourceInputs, source: Path) -> list[str]:
    expected = told.sha256
    if expected is None:
        return []
    found = sha256_of(source)
    if found == expected:
        return []
    return [f"the generator file {source} was edited: its SHA-256 is {found}, not {expected}"]


def _manifest_findings(told: DataInputs, clips: ClipDataset) -> list[str]:
    expected = told.manifest_sha256
    manifest = Path(clips.config.path) / MANIFEST_NAME
    if expected is None or not manifest.exists():
        return []
    found = sha256_of(manifest)
    if found == expected:
        return []
    return [f"the manifest {manifest} was edited: its SHA-256 is {found}, not {expected}"]


OTHER_WINDOWS = (
    "the record is older than the rule that a model's levels move no window of longer videos: what"
    " follows may come of that"
)


def _changes_since(record: Plain, again: Plain, is_elsewhere: bool) -> list[str]:
    """What differs, by no edit where an earlier version chose other windows."""
    before, now = (found["inputs"]["data"].get("levels", []) for found in (record, again))
    found = _changes(record, again, is_elsewhere)
    return [OTHER_WINDOWS, *found] if len(before) > len(now) else found


def _changes(record: Plain, again: Plain, is_elsewhere: bool) -> list[str]:
    """Clips and values that differ from the record."""
    clips = clip_changes(record["clips"], again["clips"]) if "clips" in record else []
    old, new = (found["inputs"]["weights"] for found in (record, again))
    weights = [
        f"the weights of {name} are others: hash {new.get(key)} instead of {old.get(key)}"
        for key, name in (("judge", "the judge"), ("lpips", "LPIPS"))
        if old.get(key) != new.get(key)
    ]
    skipped = set()
    if is_elsewhere and record["inputs"]["source"]["kind"] == "generator":
        # Rounding to bytes may fall to the other side of a half.
        skipped.add("generator.clips_hash")
    tolerance = TOLERANCE if is_elsewhere else 0.0
    values = value_changes(record, again, tolerance, frozenset(skipped))
    return [*clips, *weights, *input_changes(record, again), *values]
