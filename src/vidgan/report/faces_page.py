"""The page of a build of face clips: plain values in, one HTML file out that needs nothing else."""

from collections.abc import Mapping
from typing import Any, TypedDict

from vidgan.report.page import flatten, template


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


class Sheet(TypedDict):
    """The contact sheet of one film as a JPEG."""

    film: str
    content: bytes


class FacesPage(TypedDict, total=False):
    """Everything the page shows; whatever is missing is left out.

    `groups` are the steps that count the same thing (films, shots, clips), which share one scale;
    `thesis` are the numbers to draw beside `lengths`.
    """

    title: str
    facts: dict[str, str]
    groups: list[list[StepRow]]
    lengths: dict[str, int]
    thesis: dict[str, int]
    failed: list[tuple[str, str]]
    sheets: list[Sheet]
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
