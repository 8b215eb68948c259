"""Verbs that make clips out of raw footage: `data split`, `data faces`, `data stabilize`."""

import io
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vidgan.cli.common import Flags, Out, Words, print_json, print_lines, progress_on_stderr
from vidgan.core.files import write_text_atomically
from vidgan.core.settings import apply_overrides, from_dict, to_dict
from vidgan.data.build.engine import EngineKind
from vidgan.errors import UserError

if TYPE_CHECKING:
    from vidgan.films.faces.config import FacesConfig
    from vidgan.films.faces.outcome import FacesReport
    from vidgan.report.faces_page import Sheet

Films = Annotated[Path, tyro.conf.arg(metavar="FILMS")]
Source = Annotated[Path, tyro.conf.arg(metavar="SRC")]

_PAGE_SHEETS = 24
_PAGE_ROWS = 6
"""Clips of one film that the page shows; the sheet in the folder shows all."""


@dataclass(frozen=True, kw_only=True)
class FacesFlags:
    """Flags of `data faces`."""

    workers: int | None = None
    """processes; one a core by default."""
    time_limit: float = 3600.0
    """seconds for one film, after which it is given up."""
    retry: bool = False
    """try films again that failed before."""
    engine: EngineKind = "processes"
    """processes of this machine, or ray (needs vidgan[cluster])."""
    address: str | None = None
    """of a running Ray cluster; without it Ray starts here."""
    json: bool = False
    """print the report as JSON."""


def faces(
    films: Films,
    out: Out,
    words: Words = (),
    /,
    *,
    flags: Flags[FacesFlags],
) -> None:
    """Make aligned clips of faces out of films: shots, faces, alignment, one person a clip.

    The clips lie in OUT/clips, which vidgan data build reads; OUT/index.html shows what was
    dropped and why. The same call continues work that was interrupted and takes up new films.

    Args:
        films: folder of films, at any depth.
        out: folder to make.
        words: settings as key=value, such as align.size=256 faces.gap_frames=0.
    """
    from vidgan.data.build.engine import Engine
    from vidgan.films.faces.build import build_faces
    from vidgan.films.faces.config import FacesConfig

    config = from_dict(FacesConfig, apply_overrides({}, words), "the settings of the face clips")
    with progress_on_stderr() as progress:
        report = build_faces(
            films,
            out,
            config,
            workers=flags.workers,
            engine=Engine(kind=flags.engine, address=flags.address, time_limit_s=flags.time_limit),
            retry=flags.retry,
            progress=progress,
        )
    page = out / "index.html"
    command = shlex.join(["vidgan", "data", "faces", str(films), str(out), *words])
    write_text_atomically(page, render_faces_page(report, config, command))
    if flags.json:
        print_json({**asdict(report), "num_clips": report.num_clips, "page": str(page)})
    else:
        print_lines("\n".join(report.lines()))
        print_lines(f"page: {page}")
        print_lines(f"clips: {out / 'clips'}")
    if not report.num_clips:
        raise UserError(
            f"no film in {films} gave a clip: see {page} for what was dropped, and loosen the"
            " settings named there in another folder"
        )


def split(
    film: Annotated[Path, tyro.conf.arg(metavar="FILM")],
    out: Out,
    words: Words = (),
    /,
    *,
    heldout: float = 0.1,
    time_limit: float = 36_000.0,
    json: bool = False,
) -> None:
    """Cut a film into its shots, a film each, some of them held out, for vidgan train data=OUT.

    Needs the extra faces, whose search for cuts is used.

    Args:
        film: video file, or folder of numbered pictures.
        out: folder to make, with train and heldout inside.
        words: settings of the search, as key=value, such as threshold=0.15 min_frames=16.
        heldout: share of the shots that training never sees.
        time_limit: seconds after which the film is given up.
        json: print the report as JSON.
    """
    from vidgan.films.faces.shots import ShotConfig
    from vidgan.films.split import split_film

    given = apply_overrides({}, [word.removeprefix("shots.") for word in words])
    config = from_dict(ShotConfig, given, "the settings of the shots")
    report = split_film(film, out, config, heldout, time_limit)
    if json:
        print_json(asdict(report))
    else:
        print_lines("\n".join(report.lines()))


@dataclass(frozen=True, kw_only=True)
class StabilizeFlags:
    """Flags of `data stabilize`."""

    workers: int | None = None
    """processes; one a core by default."""
    time_limit: float = 3600.0
    """seconds for one video, after which it is given up."""
    retry: bool = False
    """try videos again that failed before."""
    engine: EngineKind = "processes"
    """processes of this machine, or ray (needs vidgan[cluster])."""
    address: str | None = None
    """of a running Ray cluster; without it Ray starts here."""
    json: bool = False
    """print the report as JSON."""


def stabilize(
    source: Source,
    out: Out,
    words: Words = (),
    /,
    *,
    flags: Flags[StabilizeFlags],
) -> None:
    """Take the shaking of the camera out of videos, as the tiny-video set did.

    The clips lie in OUT/clips in the folders of their videos, which vidgan data build reads. The
    same call continues work that was interrupted and takes up new videos.

    Args:
        source: folder of videos, at any depth.
        out: folder to make.
        words: settings as key=value, such as size=64 max_frames=32 restart=true.
    """
    from vidgan.data.build.engine import Engine
    from vidgan.films.stabilize import StabilizeConfig
    from vidgan.films.stabilize_build import stabilize_folder

    config = from_dict(StabilizeConfig, apply_overrides({}, words), "the settings")
    with progress_on_stderr() as progress:
        report = stabilize_folder(
            source,
            out,
            config,
            workers=flags.workers,
            engine=Engine(kind=flags.engine, address=flags.address, time_limit_s=flags.time_limit),
            retry=flags.retry,
            progress=progress,
        )
    if flags.json:
        print_json(asdict(report))
    else:
        print_lines("\n".join(report.lines()))
        print_lines(f"clips: {out / 'clips'}")
    if not report.num_clips:
        raise UserError(
            f"no video in {source} could be stabilised: loosen the settings that are named above in"
            " another folder"
        )


def render_faces_page(report: "FacesReport", config: "FacesConfig", command: str) -> str:
    """The page of a build of face clips as HTML.

    Args:
        report: What became of the films.
        config: The settings.
        command: The call, to be shown.
    """
    from vidgan.films.faces.outcome import THESIS_LENGTHS, length_histogram
    from vidgan.report.faces_page import FacesPage, StepRow, faces_page

    steps = [StepRow(what=s.what, count=s.count, dropped=s.dropped) for s in report.funnel]
    facts = {
        "Films": f"{report.funnel[0].count:,}",
        "Clips": f"{report.num_clips:,}",
        "Frames": f"{report.num_clip_frames:,}",
        "Bridged frames": f"{report.num_bridged:,}",
        "Size": f"{config.align.size} x {config.align.size}",
        "Landmarks": config.landmarks.backend,
    }
    facts |= {f"Clips in {name}": f"{n:,}" for name, n in report.clips_by_split.items()}
    page = FacesPage(
        title=f"Face clips: {Path(report.out).resolve().name}",
        facts=facts,
        groups=[steps[:2], steps[2:5], steps[5:]],
        lengths=report.lengths if report.num_clips else {},
        thesis=dict(zip(length_histogram([]), THESIS_LENGTHS, strict=True)),
        failed=list(report.dropped),
        sheets=_sheets(report),
        num_sheets=len(report.sheets),
        settings=to_dict(config),
        command=command,
    )
    return faces_page(page)


def _sheets(report: "FacesReport") -> "list[Sheet]":
    """Contact sheets of some films, evenly spread over all, cut to a few clips each."""
    from vidgan.video.pictures import open_picture

    count = min(len(report.sheets), _PAGE_SHEETS)
    chosen = [report.sheets[n * len(report.sheets) // count] for n in range(count)]
    sheets: list[Sheet] = []
    for file, film in chosen:
        with open_picture(Path(report.out) / file) as picture:
            rows = min(picture.height, _PAGE_ROWS * picture.width // 8 + 2)
            buffer = io.BytesIO()
            picture.crop((0, 0, picture.width, rows)).save(buffer, format="JPEG", quality=85)
        sheets.append({"film": film, "content": buffer.getvalue()})
    return sheets
