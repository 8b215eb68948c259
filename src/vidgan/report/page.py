"""The page of a run: from plain values to one self-contained HTML file."""

import base64
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from vidgan.core.escaping import terminal
from vidgan.report.charts import HEIGHT, LEFT, RIGHT, TOP, WIDTH, charts_of_log, compact

if TYPE_CHECKING:
    from jinja2 import Template


Status = Literal["waiting", "training", "done", "interrupted", "unhealthy"]


class RunProgress(TypedDict, total=False):
    """Progress of a run: updates, real clips, and seconds if known."""

    step: int
    clips_seen: int
    total_clips: int
    elapsed_seconds: float
    remaining_seconds: float | None
    clips_per_second: float


class StageRow(TypedDict, total=False):
    """One level of growth, in real clips: when it starts, how long it fades, when it ends."""

    frames: int
    resolution: int
    batch_size: int
    start: int
    fade: int
    end: int


class Medium(TypedDict, total=False):
    """An embedded video or image; wide ones have a row each, small ones share the last."""

    title: str
    step: int
    caption: str
    mime: Literal["video/mp4", "image/png"]
    content: bytes
    wide: bool
    small: bool


class ScoreRow(TypedDict, total=False):
    """One metric of the generated clips and its references."""

    metric: str
    better: Literal["higher", "lower"]
    value: float | None
    spread: float | None
    real: float | None
    floor: float | None
    controls: dict[str, float]
    percent: bool


class ScoreTable(TypedDict, total=False):
    """The scores of one evaluation, never without their protocol and counts."""

    title: str
    protocol: str
    num_generated: int
    num_real: int
    num_per_set: int
    note: str
    rows: list[ScoreRow]


class Dropped(TypedDict, total=False):
    """Dropped videos by reason."""

    reason: str
    count: int
    examples: list[str]


class DataReport(TypedDict, total=False):
    """The data of a run."""

    source: str
    num_videos: int
    num_clips: int
    clip: str
    classes: dict[str, int]
    dropped: list[Dropped]


class Checkup(TypedDict):
    """What the training doctor found when it looked last, and how often it did."""

    verdict: str
    step: int
    num_looks: int


class RunPage(TypedDict, total=False):
    """The contents of a page; missing keys are left out."""

    title: str
    status: Status
    model: str
    progress: RunProgress
    alpha: float
    level: int
    stages: list[StageRow]
    warnings: list[str]
    notes: list[str]
    log: list[dict[str, Any]]
    media: list[Medium]
    scores: list[ScoreTable]
    data: DataReport
    settings: dict[str, Any]
    sources: dict[str, str]
    environment: dict[str, Any]
    doctor: Checkup
    command: str
    written_at: float
    refresh_seconds: int


def run_page(data: RunPage) -> str:
    """Render the page of a run as one self-contained HTML document.

    Every text is escaped and nothing is requested from elsewhere: style, curves and videos are in
    the document. While `status` is "training" the page loads itself again every `refresh_seconds`.

    Args:
        data: what is known of the run; every key is optional.

    Example:
        >>> "<h1>demo</h1>" in run_page({"title": "demo", "status": "done"})
        True
    """
    progress = data.get("progress", {})
    seen, total = progress.get("clips_seen", 0), progress.get("total_clips", 0)
    return template("page.html.j2").render(
        page=data,
        progress=progress,
        percent=min(100.0, 100 * seen / total) if total else None,
        charts=charts_of_log(data.get("log", [])),
        chart_size={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP},
        settings=flatten(data.get("settings", {})),
        environment=flatten(data.get("environment", {})),
        refresh=data.get("refresh_seconds", 20) if data.get("status") == "training" else None,
    )


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + str(key)] = value
    return flat


def duration(seconds: float | None) -> str:
    """A duration in about two units: 42 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
    if seconds is None or not math.isfinite(seconds):
        return "unknown"
    left = max(0, round(seconds))
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts = []
    for name, size in units:
        count, left = divmod(left, size)
        parts.append((count, name))
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{count} {name}" for count, name in parts[:2] if count) or "0 s"


def number(value: Any) -> str:
    """A human-readable number: 1,234,567, four digits of a float, a dash for None."""
    if value is None:
        return "\u2013"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return "not finite"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 1e-3 or value == 0 else compact(value)


def score(value: float | None, percent: bool = False) -> str:
    """A score, or a share of 1 as a percentage."""
    return f"{100 * value:.1f} %" if percent and isinstance(value, float | int) else number(value)


def setting(value: Any) -> str:
    """A setting as it would be written after `key=`."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(setting, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def moment(seconds: float) -> str:
    """A time stamp in UTC, such as 2024-05-01 12:30 UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


@cache
def template(name: str) -> "Template":
    """A template of this package with the filters above; every text is escaped for HTML."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("vidgan.report", "."),
        autoescape=True,
        # Invisible characters, such as bidirectional overrides, are escaped.
        finalize=lambda value: terminal(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": duration,
        "number": number,
        "score": score,
        "setting": setting,
        "moment": moment,
        "compact": compact,
        "base64": lambda content: base64.b64encode(content).decode(),
    }
    return environment.get_template(name)


# ------------------------------------------------------------------------------------------------
# The page of a face-clip build: from plain values to one self-contained HTML file


class StepRow(TypedDict):
    """One step of the funnel: what is counted, how many, and what was dropped before it and why."""

    what: str
    count: int
    dropped: dict[str, int]


class LengthBar(TypedDict):
    """One bin of the length histogram, in clips and as shares of the highest bar."""

    name: str
    count: int
    height: float
    compared: float


class FilmSheet(TypedDict):
    """The contact sheet of one film as a JPEG."""

    film: str
    content: bytes


class FacesPage(TypedDict, total=False):
    """The contents of the page; missing keys are left out.

    `groups` are the steps that count the same thing (films, shots, clips), which share one scale;
    `thesis` are the numbers to draw beside `lengths`.
    """

    title: str
    facts: dict[str, str]
    groups: list[list[StepRow]]
    lengths: dict[str, int]
    thesis: dict[str, int]
    failed: list[tuple[str, str]]
    sheets: list[FilmSheet]
    num_sheets: int
    settings: dict[str, Any]
    command: str


def faces_page(data: FacesPage) -> str:
    """Render the page as one self-contained HTML document; every text is escaped.

    Example:
        >>> "<h1>my films</h1>" in faces_page({"title": "my films"})
        True
    """
    groups = [
        [dict(step, share=step["count"] / max(1, *(s["count"] for s in group))) for step in group]
        for group in data.get("groups", [])
    ]
    return template("faces_page.html.j2").render(
        page=data,
        groups=groups,
        bars=_bars(data.get("lengths", {}), data.get("thesis", {})),
        settings=flatten(data.get("settings", {})),
    )


def _bars(lengths: Mapping[str, int], thesis: Mapping[str, int]) -> list[LengthBar]:
    """Both histograms as shares of their own clips, on one scale."""
    ours, theirs = max(1, sum(lengths.values())), max(1, sum(thesis.values()))
    shares = {name: (n / ours, thesis.get(name, 0) / theirs) for name, n in lengths.items()}
    highest = max((max(pair) for pair in shares.values()), default=0) or 1
    return [
        LengthBar(name=name, count=lengths[name], height=a / highest, compared=b / highest)
        for name, (a, b) in shares.items()
    ]
