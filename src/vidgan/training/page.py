"""The page of a run, out of what its folder holds."""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidgan.core.files import read_sealed_json, read_text, write_text_atomically
from vidgan.evaluation.record import read_records
from vidgan.report.page import DataReport, Medium, RunPage, StageRow, Status, run_page
from vidgan.report.scores import tables_of_records
from vidgan.training.logs import LOG_FILE, read_log
from vidgan.training.planner import plan_schedule
from vidgan.training.run_config import Config, config_to_dict, load_run_config

MAX_EARLIER = 3
"""Sample videos of earlier sizes that the page shows besides the newest."""


def write_page(
    run: str | Path,
    status: Status,
    log: Sequence[dict[str, Any]] | None = None,
    remaining_seconds: float | None = None,
) -> None:
    """Write `index.html` of a run folder.

    Args:
        run: the run folder.
        status: what the run does now.
        log: its log lines; None reads them.
        remaining_seconds: time to the end, if known.
    """
    run = Path(run)
    lines = read_log(run / LOG_FILE) if log is None else log
    page = page_of_run(run, load_run_config(run), status, lines, remaining_seconds)
    write_text_atomically(run / "index.html", run_page(page))


def page_of_run(
    run: Path,
    config: Config,
    status: Status,
    log: Sequence[dict[str, Any]],
    remaining_seconds: float | None,
) -> RunPage:
    """Everything the page shows, as plain values."""
    data = _read_json(run / "data.json")
    last: dict[str, Any] = (
        log[-1] if log else {"step": 0, "clips_seen": 0, "alpha": 1.0, "level": 0}
    )
    page: RunPage = {
        "title": run.resolve().name,
        "status": status,
        "model": f"{type(config.model).NAME}, {config.loss.name}",
        "progress": {
            "step": last["step"],
            "clips_seen": last["clips_seen"],
            "total_clips": config.training.total_clips,
            "clips_per_second": last.get("clips_per_second", 0.0),
            "remaining_seconds": remaining_seconds,
        },
        "alpha": last["alpha"],
        "level": last["level"],
        "log": list(log),
        "media": media_of_run(run),
        "settings": config_to_dict(config),
        "environment": _read_json(run / "environment.json"),
        "written_at": time.time(),
    }
    checks = page["environment"].get("gradient_checks", {}).values()
    mended = [check["sentence"] for check in checks if check["float32"] != "nothing"]
    if mended:
        page["warnings"] = mended
    records = read_records(run / "evals")
    if records:
        page["scores"] = tables_of_records(records)
        page["warnings"] = [*mended, *records[0].warnings]
    if data:
        page["stages"] = stage_rows(config, data["clip_shape"])
        page["data"] = data_report(config, data)
    command = run / "command.txt"
    if command.exists():
        page["command"] = (read_text(command, errors="replace").splitlines() or [""])[-1]
    return page


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


def media_of_run(run: Path) -> list[Medium]:
    """The newest samples beside real clips, then what evaluation and interpolation left."""
    steps = sorted(_step_of(path) for path in (run / "samples").glob("step-*.mp4"))
    media: list[Medium] = []
    if steps:
        newest = run / "samples" / f"step-{steps[-1]}.mp4"
        media.append(_video(newest, f"Generated clips, step {steps[-1]}"))
        reals = sorted((run / "samples").glob("real-*.mp4"), key=lambda path: path.stat().st_mtime)
        if reals:
            media.append(_video(reals[-1], "Real clips of the same classes"))
        for step in _spread(steps[:-1], MAX_EARLIER):
            earlier = _video(run / "samples" / f"step-{step}.mp4", f"Step {step}")
            media.append({**earlier, "small": True})
    if (run / "interpolation.mp4").exists():
        walk = _video(run / "interpolation.mp4", "Walk through the latent space")
        media.append({**walk, "wide": True})
    figure = run / "interpolation.png"
    if figure.exists():
        picture: Medium = {"title": "A row of frames for each step of the walk", "wide": True}
        media.append({**picture, "mime": "image/png", "content": figure.read_bytes()})
    return media


def data_report(config: Config, data: dict[str, Any]) -> DataReport:
    """What the clips were made of, from `data.json`."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name, reason in data["dropped"]:
        by_reason[reason].append(name)
    frames, height, width = data["clip_shape"][1:]
    counts = Counter(data["counts"])
    return {
        "source": config.data.path,
        "num_videos": counts.total() + len(data["dropped"]),
        "num_clips": data["num_clips"],
        "clip": f"{frames} frames of {height}x{width} px, {data['fps']:g} frames a second",
        "classes": dict(counts) if data["classes"] else {},
        "dropped": [
            {"reason": reason, "count": len(names), "examples": names[:3]}
            for reason, names in by_reason.items()
        ],
    }


def _video(path: Path, title: str) -> Medium:
    return {"title": title, "mime": "video/mp4", "content": path.read_bytes()}


def _step_of(path: Path) -> int:
    found = re.search(r"\d+", path.stem)
    return int(found[0]) if found else -1


def _spread(values: list[int], count: int) -> list[int]:
    """At most `count` values, evenly spread, the first one included."""
    stride = max(1, -(-len(values) // count))
    return values[::stride]


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    return read_sealed_json(path, unsealed=True)
