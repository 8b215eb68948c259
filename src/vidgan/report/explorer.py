"""The live page of a generator: plain values in, one HTML file out that needs nothing else."""

from typing import Any, TypedDict

from vidgan.report.page import ScoreTable, template


class ContextBox(TypedDict):
    """What is given to a generator that continues or mends clips.

    `shape` is (C, T0, H, W); `goesFirst` says whether clips are shown behind it; `hidden` is the
    value of the box that a generator fills in, None for others.
    """

    shape: list[int]
    goesFirst: bool
    hidden: float | None


class LatentPart(TypedDict):
    """A named part of the latent; `name` is a Python literal, `frame` numbers for each frame."""

    name: str
    start: int
    stop: int
    frame: int
    moves: bool


class Direction(TypedDict):
    """A direction of the latent and its share of the variance of clips."""

    values: list[float]
    share: float


class ServerFacts(TypedDict):
    """What a server adds to the page.

    `titles` are those of all generators that it has, `current` the index of the one on show, and
    `checkpoint` which of a run it is; `projects` says whether clips can be projected onto it.
    """

    current: int
    titles: list[str]
    projects: bool
    checkpoint: str | None
    records: list[ScoreTable]


class LivePage(TypedDict):
    """Everything the page holds; `library` and `binary` are gzip streams of the runtime.

    Without a runtime the server has to make the clips.
    """

    title: str
    source: str
    facts: list[str]
    fps: float
    num_frames: int
    asked_frames: int | None
    classes: list[str]
    latent_length: int
    parts: list[LatentPart]
    truncation: bool
    directions: list[Direction]
    context: ContextBox | None
    context_kind: str
    enlarge: int
    version: str
    runtime: str
    model: bytes
    library: bytes
    binary: bytes
    server: ServerFacts | None


def live_page(data: LivePage) -> str:
    """Render the page as one self-contained HTML document; every text is escaped."""
    server = data["server"]
    is_remote = not data["library"]
    about: dict[str, Any] = {
        "title": data["title"],
        "source": repr(data["source"]),
        "fps": data["fps"],
        "numFrames": data["asked_frames"],
        "classes": data["classes"],
        "latentLength": data["latent_length"],
        "parts": data["parts"],
        "directions": data["directions"],
        "context": data["context"],
        "enlarge": data["enlarge"],
        "remote": is_remote,
        "current": server["current"] if server else None,
        "checkpoint": server["checkpoint"] if server else None,
    }
    page = {
        "title": data["title"],
        "facts": data["facts"],
        "num_frames": data["num_frames"],
        "classes": data["classes"],
        "motion": any(part["moves"] for part in data["parts"]),
        "truncation": data["truncation"],
        "context": data["context_kind"] if data["context"] else None,
        "has_latent": data["latent_length"] > 0,
        "directions": [direction["share"] for direction in data["directions"]],
        "version": data["version"],
        "runtime": data["runtime"],
        "model": data["model"],
        "library": data["library"],
        "binary": data["binary"],
        "remote": is_remote,
        "server": server,
    }
    return template("explorer_page/page.html.j2").render(page=page, about=about)
