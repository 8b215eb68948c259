"""Building a packed clip set out of a folder or container, checking one, and the user's cache.

Worker processes decode and encode; this process alone appends their results in the order of the
file names, so the set is the same whatever the number of workers, and a build that was killed
continues after its last complete chunk.
"""

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vidgan.core.code_version import VERSION
from vidgan.core.files import DiskFullError, cache_folder, disk_errors_named
from vidgan.core.progress import Notify, Progress
from vidgan.core.shapes import LevelShape
from vidgan.data.build.duplicates import DuplicateGate
from vidgan.data.build.encode import EncodedClip, EncodeJob, encode_video, full_levels
from vidgan.data.build.engine import Engine, num_cores
from vidgan.data.build.report import (
    BuildReport,
    broken_sources,
    make_manifest,
    make_record,
    refuse_misfit,
    refuse_unusable,
    report_of_manifest,
    unmet_settings,
)
from vidgan.data.packed.cloud import is_url
from vidgan.data.packed.export import PREVIEW_SIDE, SHEET_CLIPS, draw_sheet
from vidgan.data.packed.manifest import is_packed, read_manifest, write_manifest
from vidgan.data.packed.store import open_store
from vidgan.data.packed.writer import BuildPlan, ChunkWriter, SourceRecord, build_lock
from vidgan.data.settings import DataConfig
from vidgan.data.sources.layouts import scan_sources
from vidgan.data.sources.source import Scan, Source, drawn_without
from vidgan.errors import UserError
from vidgan.video.frames import Pixels
from vidgan.video.sequences import files_at

__all__ = [
    "BuildReport",
    "DataConfig",
    "build_clips",
    "cached_build",
    "check_source",
    "is_packed",
    "verify_set",
]

_CHUNK_BYTES = 64 << 20
_MAX_NAMED = 5
_VIDEOS_PER_WORKER = 8
"""Decoding fewer takes no longer than starting another process."""


def build_clips(
    source: str | Path,
    out: str | Path,
    config: DataConfig,
    levels: Sequence[tuple[int, int]] = (),
    progress: Progress | None = None,
    *,
    wait: bool = False,
    engine: Engine | None = None,
) -> BuildReport:
    """Build the packed clip set `out` from the folder or container `source`.

    A call that was interrupted continues; a finished set of the same videos and settings is left
    as it is. The set appears at `out` when it is complete and never before.

    Args:
        source: folder of videos or container, see `scan_sources`.
        out: folder to make.
        config: how clips are cut and stored; its `path` is not used.
        levels: lower (frames, resolution) levels to store beside the full size.
        progress: called with (done, total, what).
        wait: wait for another process that builds the same set, instead of raising.
        engine: where videos are decoded; None takes processes of this machine.

    Raises:
        UserError: nothing usable, a foreign `out`, another build in progress, a full disk, or a
            dropped or damaged video under `config.strict`.
    """
    out = Path(out)
    stored = full_levels(config, levels)
    scan = scan_sources(source, config)
    plan = _plan(scan, config, stored)
    with disk_errors_named(out), build_lock(out, wait=wait) as folder:
        if out.exists():
            shutil.rmtree(folder)
            return _finished_report(out, scan, plan)
        writer = ChunkWriter(folder, plan, stored)
        try:
            _encode_all(writer, scan, config, stored, engine or Engine(), progress)
            scan = drawn_without(scan, broken_sources(writer.records), config)
            manifest = make_manifest(scan, writer.records, plan, config, stored)
            refuse_unusable(scan, writer.records, manifest, config)
        except DiskFullError:
            raise
        except UserError:
            # Other videos or settings are needed, with which nothing here can be continued.
            shutil.rmtree(folder)
            raise
        report = report_of_manifest(scan.root, scan.what, manifest, out)
        writer.finish()
        write_manifest(folder, manifest)
        writer.publish(out)
    return report


def check_source(
    source: str | Path,
    config: DataConfig,
    contact_sheet_path: str | Path | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Say what `build_clips` would make of a source, and draw some of the clips.

    Args:
        source: folder of videos or container.
        config: how clips would be cut.
        contact_sheet_path: PNG to write: a row for each of up to 16 clips spread over the classes.
        progress: called with (done, total, what).

    Raises:
        UserError: nothing usable.
    """
    stored = full_levels(config, ())
    scan = scan_sources(source, config)
    jobs = [_job(source, config, stored, preview=PREVIEW_SIDE) for source in scan.sources]
    records: list[SourceRecord] = []
    previews: dict[str, list[Pixels]] = defaultdict(list)
    default = _default_workers(len(jobs))
    results = Engine().map_in_order(encode_video, jobs, config.workers, default)
    gate = DuplicateGate(config.quality, scan.sources)
    for number, result in enumerate(results):
        if isinstance(result, EncodedClip):
            result = gate.judge(number, result)
        records.append(make_record(number, result))
        class_name = scan.sources[number].class_name or ""
        if isinstance(result, EncodedClip) and result.preview is not None:
            few = previews[class_name]
            if len(few) < -(-SHEET_CLIPS // max(1, len(scan.classes))):
                few.append(result.preview[:, : config.frames])
        if progress:
            progress(number + 1, len(jobs), "checking videos")
    plan = _plan(scan, config, stored)
    scan = drawn_without(scan, broken_sources(records), config)
    manifest = make_manifest(scan, records, plan, config, stored)
    refuse_unusable(scan, records, manifest, config)
    if contact_sheet_path is not None:
        clips = [clip for name in sorted(previews) for clip in previews[name]]
        draw_sheet(contact_sheet_path, clips)
    return report_of_manifest(scan.root, scan.what, manifest, None)


def verify_set(path: str | Path, progress: Progress | None = None) -> BuildReport:
    """Read every clip of a packed set at every level and check it against its checksum.

    Args:
        path: the packed set.
        progress: called with (done, total, what).

    Returns:
        What the set says about its build.

    Raises:
        UserError: it is not a packed set, or clips are damaged; the sentence names them.
    """
    store = open_store(path)
    damaged: dict[int, str] = {}
    for index in range(len(store)):
        for level in store.levels:
            try:
                store.read(index, level)
            except UserError as error:
                damaged.setdefault(index, str(error))
        if progress:
            progress(index + 1, len(store), "checking clips")
    if len(damaged) == 1:
        raise UserError(*damaged.values())
    if damaged:
        names = [f"{index} ({store.items[index].source})" for index in damaged]
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        raise UserError(
            f"{len(damaged)} of the {len(store)} clips in {path} are damaged or missing, numbers"
            f" {', '.join(names[:_MAX_NAMED])}{more}: build the set again"
        )
    return report_of_manifest(path, f"{path} is a packed clip set", store.manifest, None)


def cached_build(
    config: DataConfig,
    levels: Sequence[tuple[int, int]] = (),
    cache_dir: str | Path | None = None,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> Path | str:
    """The packed clip set for `config.path`, built into the user's cache if need be.

    The cache is `cache_dir`, else the environment variable VIDGAN_CACHE, else ~/.cache/vidgan; a
    set is found again by the names, sizes and times of its files and by the clip settings. If
    `config.path` is a packed set itself, it is returned, once it is known to fit. `notify` gets a
    sentence about the layout that was recognised, or about settings that a packed set was not
    built with.

    Raises:
        UserError: as `build_clips`, or a packed set that does not fit the settings.
    """
    if not config.path:
        raise UserError("no data given: set data=FOLDER to a folder of videos or a packed set")
    path = Path(config.path)
    if is_packed(config.path):
        manifest = open_store(config.path).manifest
        refuse_misfit(manifest, config, path)
        unmet = unmet_settings(manifest, config)
        if unmet and notify:
            notify(f"{path} was built with {', '.join(unmet)}: build it again to change that")
        return config.path if is_url(config.path) else path
    cache = Path(cache_dir or cache_folder())
    scan = scan_sources(path, config)
    stored = full_levels(config, levels)
    key = _hash([_plan(scan, config, stored), str(path.resolve())])
    out = cache / "clips" / f"{path.resolve().name}-{key}"
    if not is_packed(out):
        if notify:
            notify(scan.what)
        report = build_clips(path, out, config, levels, progress, wait=True)
        if notify:
            for note in report.set_notes:
                notify(note)
    return out


def _plan(scan: Scan, config: DataConfig, levels: Sequence[LevelShape]) -> BuildPlan:
    """Everything that decides the bytes of the set, as plain values."""
    settings = asdict(config)
    for name in ("path", "workers", "strict", "flip"):
        del settings[name]
    stat_of = {path: _stat(path) for path in dict.fromkeys(s.path for s in scan.sources)}
    entries = [[s.name, s.split, s.class_name, s.group, stat_of[s.path][0]] for s in scan.sources]
    largest = 3 * (config.num_stored or 8 * config.frames) * config.resolution**2
    return {
        "builder": VERSION,
        "settings": settings,
        "layout": scan.layout,
        "levels": [list(level) for level in levels],
        "attributes": scan.attributes,
        "source_hash": _hash(entries),
        "times_hash": _hash([time for _, time in stat_of.values()]),
        "items_per_chunk": min(256, max(8, _CHUNK_BYTES // largest)),
    }


def _job(
    source: Source, config: DataConfig, levels: tuple[LevelShape, ...], preview: int | None = None
) -> EncodeJob:
    # Absolute: the workers of a cluster run elsewhere.
    return EncodeJob(replace(source, path=source.path.absolute()), config, levels, preview)


def _stat(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change in ns; for a folder, over the files in it."""
    stats = [file.stat() for file in files_at(path) if file.exists()]
    return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)


def _hash(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=8).hexdigest()


def _default_workers(num_videos: int) -> int:
    """At least one process: a file that crashes or hangs its decoder must not end the work."""
    return max(1, min(num_cores(), 32, num_videos // _VIDEOS_PER_WORKER))


def _encode_all(
    writer: ChunkWriter,
    scan: Scan,
    config: DataConfig,
    levels: tuple[LevelShape, ...],
    engine: Engine,
    progress: Progress | None,
) -> None:
    if config.strict and scan.dropped:
        raise _not_clean(*scan.dropped[0])
    first, total = len(writer.records), len(scan.sources)
    jobs = (_job(source, config, levels) for source in scan.sources[first:])
    default = _default_workers(total - first)
    results = engine.map_in_order(encode_video, jobs, config.workers, default)
    gate = DuplicateGate(config.quality, scan.sources)
    for record in writer.records:
        gate.remember(record)
    for number, result in enumerate(results, first):
        if isinstance(result, EncodedClip):
            result = gate.judge(number, result)
        record = make_record(number, result)
        if config.strict and (record["reason"] is not None or record["num_corrupt"]):
            raise _not_clean(scan.sources[number].name, record["reason"] or record["notes"][0])
        writer.add(record, result if isinstance(result, EncodedClip) else None)
        if progress:
            progress(number + 1, total, "building clips")


def _not_clean(name: str, what: str) -> UserError:
    return UserError(
        f"{name} is not clean ({what}) and data.strict is set: fix or remove the file, or drop"
        " data.strict"
    )


def _finished_report(out: Path, scan: Scan, plan: BuildPlan) -> BuildReport:
    """The report of a set that is there already, if it is the one that was asked for."""
    manifest = read_manifest(out) if is_packed(out) else None
    same = manifest is not None and [
        manifest.source_hash,
        manifest.settings,
        [list(level) for level in manifest.levels],
    ] == [plan["source_hash"], plan["settings"], plan["levels"]]
    if manifest is None or not same:
        what = "a clip set of other videos or settings" if manifest else "something else"
        raise UserError(f"{out} holds {what} already: choose another folder or delete it")
    return report_of_manifest(scan.root, scan.what, manifest, out)
