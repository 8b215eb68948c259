"""The page of a run, built from its folder."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from vidgan.core.files import read_bytes, read_text, write_text_atomically
from vidgan.core.yaml_text import load_yaml
from vidgan.errors import UserError
from vidgan.evaluation.record_checks import read_run_records
from vidgan.report.page import (
    DataReport,
    Medium,
    RunPage,
    StageRow,
    Status,
    flatten,
    run_page,
)
from vidgan.report.scores import table_of_record
from vidgan.sampling.storage import checkpoint_steps
from vidgan.training.doctor import EARLY, looks_of
from vidgan.training.gradient_check import EMULATED
from vidgan.training.logs import LOG_FILE, damaged_lines, lost_lines, read_log
from vidgan.training.planner import plan_schedule
from vidgan.training.presets import (
    Config,
    config_to_dict,
    find_preset,
    list_presets,
    load_config,
    load_run_config,
)
from vidgan.training.run_folder import (
    CHECKS,
    MEDIUM_BYTES,
    ClipFacts,
    environment_facts,
    reached,
    read_clip_facts,
    sample_videos,
)

VERDICTS = (EARLY, "healthy", "warn", "stop")
MAX_TABLES = 3
"""Records that the page shows, the newest first."""
MAX_EARLIER, EARLIER_BYTES = 11, 4 << 20
"""Sample videos of earlier steps that the page holds besides the newest, and their size."""


def write_page(
    run: str | Path,
    status: Status,
    log: Sequence[dict[str, Any]] | None = None,
    remaining_seconds: float | None = None,
) -> list[str]:
    """Write `index.html` of a run folder.

    Args:
        run: the run folder.
        status: what the run does now.
        log: its log lines; None reads them.
        remaining_seconds: time to the end, if known.

    Returns:
        Problems of the run's evaluations and what was left out of the page, a sentence each.
    """
    run = Path(run)
    lines = read_log(run / LOG_FILE) if log is None else log
    config = load_run_config(run)
    remarks = []
    # Reading the log again takes too long between two steps.
    if status != "training":
        remarks += [f"left out: {sentence}" for sentence in damaged_lines(run / LOG_FILE)]
        remarks += lost_lines(lines, max(checkpoint_steps(run), default=0))
    page = page_of_run(run, config, status, lines, remaining_seconds, remarks)
    # Hashing weights takes too long between two steps.
    settings = None if status == "training" else config_to_dict(config)
    records, refused = read_run_records(run, settings, MAX_TABLES)
    doubts = [f"{found.path.name}: {mark}" for found in records for mark in found.marks]
    doubts += [f"left out: {sentence}" for sentence in refused]
    if records:
        page["scores"] = [table_of_record(found.record, found.marks) for found in records]
    warnings = [
        *doubts,
        *(records[0].record.warnings if records else ()),
        *page.get("warnings", ()),
    ]
    if warnings:
        page["warnings"] = warnings
    write_text_atomically(run / "index.html", run_page(page))
    return [*doubts, *remarks]


def page_of_run(
    run: Path,
    config: Config,
    status: Status,
    log: Sequence[dict[str, Any]],
    remaining_seconds: float | None,
    remarks: list[str],
) -> RunPage:
    """Everything the page shows, as plain values; what is left out is added to `remarks`."""
    last: dict[str, Any] = log[-1] if log else {}
    step, seen = reached(run, log, checkpoint_steps(run))
    page: RunPage = {
        "title": run.resolve().name,
        "status": status,
        "model": f"{type(config.model).NAME}, {config.loss.name}",
        "progress": {
            "step": step,
            "clips_seen": seen,
            "total_clips": config.training.total_clips,
            "clips_per_second": last.get("clips_per_second", 0.0),
            "remaining_seconds": remaining_seconds,
        },
        "alpha": last.get("alpha", 1.0),
        "level": last.get("level", 0),
        "log": list(log),
        "media": media_of_run(run, remarks),
        "settings": config_to_dict(config),
        "sources": setting_sources(config),
        "written_at": time.time(),
    }
    with told_in(remarks):
        page["environment"], odd = environment_facts(run)
        remarks += [f"left out of environment.json: {name[:100]}" for name in odd]
    checks = page.get("environment", {}).get(CHECKS, {}).values()
    # A device without bfloat16 says nothing about a level.
    doubted = [check for check in checks if not check.get("emulated")]
    warnings = [check["sentence"] for check in doubted if check["float32"] != "nothing"]
    if len(doubted) < len(checks):
        page["notes"] = [f"{EMULATED}: the networks are computed in float32"]
    with told_in(remarks):
        facts = read_clip_facts(run)
        if facts is not None:
            page["stages"] = stage_rows(config, facts.clip_shape)
            page["data"] = data_report(config, facts)
    command = run / "command.txt"
    if command.exists():
        with told_in(remarks):
            page["command"] = (read_text(command, errors="replace").splitlines() or [""])[-1]
    looks = [look for line in log if (look := looks_of(line)) is not None]
    if looks:
        step = next(line["step"] for line in reversed(log) if looks_of(line) is looks[-1])
        verdict = looks[-1].get("verdict")
        page["doctor"] = {
            "verdict": verdict if verdict in VERDICTS else "unknown",
            "step": step,
            "num_looks": len(looks),
        }
        warnings += [f"training doctor: {one['sentence']}" for one in looks[-1]["findings"]]
    if warnings or remarks:
        page["warnings"] = [*warnings, *remarks]
    return page


def setting_sources(config: Config) -> dict[str, str]:
    """Where each setting comes from, by its dotted key: a preset, the user, or the default.

    Only presets of the package are read: a run may come from somebody else, and name any file.
    """
    is_preset = config.preset in list_presets()
    typed, usual = _usual_values(config.preset if is_preset else None, type(config.model).NAME)
    found = {}
    for key, value in flatten(config_to_dict(config)).items():
        if value != usual.get(key):
            found[key] = "given"
        else:
            found[key] = f"preset {config.preset}" if key in typed else "default"
    return found


@cache
def _usual_values(preset: str | None, model: str) -> tuple[frozenset[str], dict[str, Any]]:
    """Keys that a preset's file names, and all settings that follow from it, or from a model."""
    if preset is None:
        try:
            return frozenset(), flatten(config_to_dict(load_config({"model": {"name": model}})))
        except UserError:
            return frozenset(), {}
    typed = frozenset(flatten(load_yaml(find_preset(preset))))
    return typed, flatten(config_to_dict(load_config(preset)))


@contextmanager
def told_in(remarks: list[str]) -> Iterator[None]:
    """Skip damaged files of the run, and say so in `remarks`."""
    try:
        yield
    except (UserError, OSError) as error:
        remarks.append(f"left out: {error}")


def stage_rows(config: Config, clip_shape: Sequence[int]) -> list[StageRow]:
    """The schedule, level by level."""
    schedule = plan_schedule(config, clip_shape)
    ends = [*schedule.starts[1:], schedule.total]
    rows = zip(
        schedule.levels, schedule.batch_sizes, schedule.starts, schedule.fades, ends, strict=True
    )
    return [
        {
            "frames": shape.frames,
            "resolution": shape.resolution,
            "batch_size": batch_size,
            "start": start,
            "fade": fade,
            "end": end,
        }
        for shape, batch_size, start, fade, end in rows
    ]


def media_of_run(run: Path, remarks: list[str]) -> list[Medium]:
    """The newest samples beside real clips, then what evaluation and interpolation left.

    What cannot be embedded is listed in `remarks`.
    """
    videos = sample_videos(run)
    steps = sorted(videos)
    media: list[Medium] = []

    def add(path: Path, medium: Medium) -> None:
        with told_in(remarks):
            medium["mime"] = "image/png" if path.suffix == ".png" else "video/mp4"
            medium["content"] = read_bytes(path, MEDIUM_BYTES)
            media.append(medium)

    if steps:
        newest_step = steps[-1]
        title = f"Generated clips, step {newest_step}"
        add(videos[newest_step], {"title": title, "step": newest_step})
        reals = [path for path in (run / "samples").glob("real-*.mp4") if path.is_file()]
        if reals:
            newest = max(reals, key=lambda path: path.stat().st_mtime)
            add(newest, {"title": "Real clips of the same classes"})
        largest = max(1, *(videos[step].stat().st_size for step in steps))
        count = min(max(EARLIER_BYTES // largest, 3), MAX_EARLIER)
        for step in _spread(steps[:-1], count):
            add(videos[step], {"title": f"Step {step}", "small": True, "step": step})
    walk, figure = run / "interpolation.mp4", run / "interpolation.png"
    if walk.exists():
        add(walk, {"title": "Walk through the latent space", "wide": True})
    if figure.exists():
        add(figure, {"title": "A row of frames for each step of the walk", "wide": True})
    return media


def data_report(config: Config, facts: ClipFacts) -> DataReport:
    """What the clips were made of, from `data.json`."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name, reason in facts.dropped:
        by_reason[reason].append(name)
    _, frames, height, width = facts.clip_shape
    return {
        "source": config.data.path,
        "num_videos": sum(facts.counts.values()) + len(facts.dropped),
        "num_clips": facts.num_clips,
        "clip": f"{frames} frames of {height}x{width} px, {facts.fps:g} frames a second",
        "classes": facts.counts if facts.classes else {},
        "dropped": [
            {"reason": reason, "count": len(names), "examples": names[:3]}
            for reason, names in by_reason.items()
        ],
    }


def _spread(values: list[int], count: int) -> list[int]:
    """At most `count` values, evenly spread, the first one included."""
    stride = max(1, -(-len(values) // count))
    return values[::stride]
