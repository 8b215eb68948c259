"""Verbs about clips: `data build`, `data check`, `data export`, `data motions`."""

import io
import re
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from vidgan.cli.common import (
    Flags,
    Out,
    Words,
    print_json,
    print_lines,
    print_made,
    progress_on_stderr,
)
from vidgan.core.files import check_place, write_text_atomically
from vidgan.core.settings import apply_overrides, from_dict, to_dict
from vidgan.data.build.engine import EngineKind
from vidgan.errors import UserError, counted

if TYPE_CHECKING:
    from vidgan.data.build.report import BuildReport
    from vidgan.data.settings import DataConfig
    from vidgan.films.faces.build import FacesReport
    from vidgan.films.faces.film import FacesConfig
    from vidgan.report.page import FilmSheet


Levels = list[tuple[int, int]]

Source = Annotated[Path, tyro.conf.arg(metavar="SOURCE")]


@dataclass(frozen=True, kw_only=True)
class BuildFlags:
    """Flags of `data build`."""

    preset: str | None = None
    """take the settings, and the lower levels, from a preset of vidgan train."""
    levels: str = ""
    """lower levels to store too, as FRAMESxSIZE separated by commas, such as 8x32,4x16."""
    workers: int | None = None
    """processes that decode; 0 decodes in this one, without protection from crashes."""
    strict: bool = False
    """refuse the folder if any video is dropped or damaged."""
    engine: EngineKind = "processes"
    """processes of this machine, or ray (needs vidgan[cluster])."""
    address: str | None = None
    """of a running Ray cluster; without it Ray starts here."""
    time_limit: float = 600.0
    """seconds for one video, after which it is dropped."""
    json: bool = False
    """print the report as JSON."""


def build(
    source: Source,
    out: Out,
    words: Words = (),
    /,
    *,
    flags: Flags[BuildFlags],
) -> None:
    """Pack the clips of a folder, an archive or a published set, so that training reads them fast.

    The layout is recognised and named; layout=NAME overrides that. In a plain folder the first
    level may name splits (train, val, test, heldout), the next one names classes. The same call
    continues a build that was interrupted.

    Args:
        source: folder of videos, archive (zip, tar), or file of arrays or TFRecords; folders of
            numbered images count as videos.
        out: folder to make.
        words: settings of the clips as key=value, such as resolution=64 frames=16 clip=random.
    """
    from vidgan.data.build.engine import Engine
    from vidgan.data.build.packing import build_clips

    config, lower = clip_settings(words, flags.preset, flags.workers, flags.strict)
    check_place(out)
    lower = parse_levels(flags.levels) if flags.levels else lower
    place = Engine(kind=flags.engine, address=flags.address, time_limit_s=flags.time_limit)
    with progress_on_stderr() as progress:
        report = build_clips(source, out, config, lower, progress, engine=place)
    print_report(report, flags.json)


def check(
    source: Source,
    words: Words = (),
    /,
    *,
    preset: str | None = None,
    sheet: Path = Path("contact-sheet.png"),
    workers: int | None = None,
    strict: bool = False,
    json: bool = False,
) -> None:
    """Report what a source contains and what a build would keep and drop, and draw some clips.

    Of a packed clip set, every clip is read and compared with its checksum.

    Args:
        source: folder of videos, archive (zip, tar), file of arrays or TFRecords, or packed clip
            set.
        words: settings of the clips as key=value, such as resolution=64 frames=16 short=loop.
        preset: take the settings from this preset; by default from the one that vidgan train
            would choose on this machine.
        sheet: image to write, a row of frames for each of some clips.
        workers: processes that decode.
        strict: end with exit code 2 if any video would be dropped or is damaged.
        json: print the report as JSON.
    """
    from vidgan.data.build.packing import check_source, is_packed

    check_place(sheet)
    if sheet.suffix.lower() != ".png":
        raise UserError(f"--sheet {sheet} must be an image: give it a name that ends in .png")
    if is_packed(source):
        from vidgan.data.build.packing import verify_set
        from vidgan.data.packed.export import draw_packed

        with progress_on_stderr() as progress:
            report = verify_set(source, progress)
        draw_packed(source, sheet)
        all_clips = "read, and as they were stored"
        print_report(report, json, all_clips=all_clips, contact_sheet=str(sheet))
        return
    from vidgan.training.presets import default_preset

    preset = preset or default_preset({})
    config, _ = clip_settings(words, preset, workers, strict)
    with progress_on_stderr() as progress:
        report = check_source(source, config, sheet, progress)
    print_report(report, json, settings_of=f"the preset {preset}", contact_sheet=str(sheet))
    damaged = [name for name, note in report.notes if note.startswith("damaged")]
    unclean = [*(name for name, _ in report.dropped), *damaged]
    if config.strict and unclean:
        first, are = (
            (f", {unclean[0]} first,", "are") if unclean[1:] else (f" ({unclean[0]})", "is")
        )
        raise UserError(
            f"{counted(len(unclean), 'video')} of {source}{first} would be dropped or {are}"
            " damaged: fix or remove such files, or leave out strict"
        )


def export(
    source: Source,
    out: Annotated[str, tyro.conf.arg(metavar="OUT")],
    /,
    *,
    format: Literal["webdataset", "litdata"] = "webdataset",
    clips: Literal["npy", "mp4"] = "npy",
    shard_clips: int = 1000,
    json: bool = False,
) -> None:
    """Write a packed clip set as WebDataset shards, or with litdata's chunks for object stores.

    As webdataset every split gets tar files SPLIT-000000.tar; a sample is KEY.npy or KEY.mp4,
    KEY.cls, KEY.json. As litdata it stays a packed set, which training also reads from an object
    store, as data=s3://bucket/set (needs vidgan[cloud]).

    Args:
        source: packed clip set, made by vidgan data build.
        out: folder to make; with litdata also an address to copy it to, such as s3://bucket/set.
        format: webdataset or litdata.
        clips: npy (exact pixels, frames x height x width x 3) or mp4 (H.264, smaller); of
            webdataset.
        shard_clips: clips in a tar file at most; of webdataset.
        json: print the report as JSON.
    """
    from vidgan.data.packed.cloud_export import export_to_litdata
    from vidgan.data.packed.export import export_clips

    if "://" not in out:
        check_place(out)
    with progress_on_stderr() as progress:
        if format == "litdata":
            report = export_to_litdata(source, out, progress)
        else:
            report = export_clips(source, out, clips, shard_clips, progress)
    if json:
        print_json({**asdict(report), "num_clips": report.num_clips})
        return
    print_lines(
        f"{counted(report.num_clips, 'clip')} in {counted(len(report.shards), f'{format} shard')},"
        f" {report.num_bytes / 2**20:.1f} MiB: {report.out}"
    )


@dataclass(frozen=True, kw_only=True)
class MotionFlags:
    """Flags of `data motions`."""

    videos: int = 960
    """number of videos, held-out ones included."""
    size: int = 64
    """side in pixels."""
    frames: int = 16
    """frames a video."""
    seed: int = 0
    """same seed, same frames."""
    objects: str = "shapes"
    """shapes, digits, or names separated by commas."""
    motions: str = "all"
    """all, or names separated by commas."""
    heldout: float = 0.1
    """share of the videos that training never sees."""
    palette: str = "pastel"
    """pastel or vivid objects."""
    json: bool = False
    """print a JSON document."""


def motions(
    out: Out,
    /,
    *,
    flags: Flags[MotionFlags],
) -> None:
    """Render the labelled demo set: objects that move, turn, grow or shrink, as MP4 files.

    Args:
        out: folder to make, with train/CLASS and heldout/CLASS inside.
    """
    from vidgan.data.synthetic.motions import motion_settings, render_motions

    check_place(out)
    with progress_on_stderr() as progress:
        folder = render_motions(
            out,
            motion_settings(
                objects=flags.objects,
                motions=flags.motions,
                size=flags.size,
                frames=flags.frames,
                seed=flags.seed,
                palette=flags.palette,
            ),
            videos=flags.videos,
            heldout=flags.heldout,
            progress=progress,
        )
    print_made(folder, flags.json, videos=flags.videos)


def clip_settings(
    words: tuple[str, ...], preset: str | None, workers: int | None, strict: bool
) -> tuple["DataConfig", Levels]:
    """Settings of the clips, and the lower levels that a preset's model is trained at.

    Args:
        words: `key=value`, with or without `data.` in front of the key.
        preset: name of a preset, or None for the defaults.
        workers: processes, or None to let the settings decide.
        strict: whether any dropped video is an error.

    Raises:
        UserError: no such preset or setting.
    """
    from vidgan.data.settings import DataConfig
    from vidgan.models.base import ClipShape

    base: dict[str, Any] = {}
    model = None
    if preset is not None:
        from vidgan.training.presets import load_config

        of_preset = load_config(preset)
        base, model = to_dict(of_preset.data), of_preset.model
    given = apply_overrides(base, [word.removeprefix("data.") for word in words])
    if workers is not None:
        given["workers"] = workers
    if strict:
        given["strict"] = True
    config = from_dict(DataConfig, given, "the settings of the clips")
    if model is None:
        return config, []
    sizes = model.levels(ClipShape(3, config.frames, config.resolution, config.resolution))
    return config, [(level.frames, level.resolution) for level in sizes[:-1]]


def parse_levels(text: str) -> Levels:
    """Read `8x32,4x16` as [(8, 32), (4, 16)].

    Raises:
        UserError: another form.
    """
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)x(\d+)", part.strip())
        if not match:
            raise UserError(f"--levels {text} is not a list like 8x32,4x16 (frames x size)")
        found.append((int(match[1]), int(match[2])))
    return found


def print_report(report: "BuildReport", as_json: bool, **more: str) -> None:
    """Print what became of every video, as text or as JSON."""
    if as_json:
        print_json({**asdict(report), "num_clips": report.num_clips, **more})
        return
    print_lines("\n".join(report.lines()))
    for name, value in {"packed set": report.out, **more}.items():
        if value:
            print_lines(f"{name.replace('_', ' ')}: {value}")


# ------------------------------------------------------------------------------------------------
# Verbs that make clips out of raw footage: `data split`, `data faces`, `data stabilize`

Films = Annotated[Path, tyro.conf.arg(metavar="FILMS")]
VideoSource = Annotated[Path, tyro.conf.arg(metavar="SRC")]

_PAGE_SHEETS = 24
_PAGE_ROWS = 6
"""Clips of one film that the page shows; the sheet in the folder shows all."""


@dataclass(frozen=True, kw_only=True)
class FilmFlags:
    """Flags of `data faces` and `data stabilize`."""

    workers: int | None = None
    """processes; one a core by default."""
    time_limit: float = 3600.0
    """seconds for one film or video, after which it is given up."""
    retry: bool = False
    """try again what failed before."""
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
    flags: Flags[FilmFlags],
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
    from vidgan.films.faces.film import FacesConfig

    check_place(out)
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
        film: video file, or folder of numbered images.
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


def stabilize(
    source: VideoSource,
    out: Out,
    words: Words = (),
    /,
    *,
    flags: Flags[FilmFlags],
) -> None:
    """Stabilise shaky videos, as the tiny-video set did.

    The clips lie in OUT/clips in the folders of their videos, which vidgan data build reads. The
    same call continues work that was interrupted and takes up new videos.

    Args:
        source: folder of videos, at any depth.
        out: folder to make.
        words: settings as key=value, such as size=64 max_frames=32 restart=true.
    """
    from vidgan.data.build.engine import Engine
    from vidgan.films.stabilize import StabilizeConfig, stabilize_folder

    check_place(out)
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
    """The page of a face-clip build as HTML.

    Args:
        report: what became of the films.
        config: the settings.
        command: the call, to be shown.
    """
    from vidgan.films.faces.build import THESIS_LENGTHS, length_histogram
    from vidgan.report.page import FacesPage, StepRow, faces_page

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


def _sheets(report: "FacesReport") -> "list[FilmSheet]":
    """Contact sheets of some films, evenly spread over all, cut to a few clips each."""
    from vidgan.video.images import open_image

    count = min(len(report.sheets), _PAGE_SHEETS)
    chosen = [report.sheets[n * len(report.sheets) // count] for n in range(count)]
    sheets: list[FilmSheet] = []
    for file, film in chosen:
        with open_image(Path(report.out) / file) as image:
            rows = min(image.height, _PAGE_ROWS * image.width // 8 + 2)
            buffer = io.BytesIO()
            image.crop((0, 0, image.width, rows)).save(buffer, format="JPEG", quality=85)
        sheets.append({"film": film, "content": buffer.getvalue()})
    return sheets
