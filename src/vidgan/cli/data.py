"""Verbs about clips: `data build`, `data check`, `data export`, `data motions`."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from vidgan.cli.common import Flags, Out, Words, print_json, print_lines, progress_on_stderr
from vidgan.core.files import check_place
from vidgan.core.settings import apply_overrides, from_dict, to_dict
from vidgan.data.build.engine import EngineKind
from vidgan.errors import UserError, counted

if TYPE_CHECKING:
    from vidgan.data.build.report import BuildReport
    from vidgan.data.settings import DataConfig

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
            numbered pictures count as videos.
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
    """Say what a source looks like and what a build would keep and drop, and draw some clips.

    Of a packed clip set, every clip is read and compared with its checksum.

    Args:
        source: folder of videos, archive (zip, tar), file of arrays or TFRecords, or packed clip
            set.
        words: settings of the clips as key=value, such as resolution=64 frames=16 short=loop.
        preset: take the settings from this preset; by default from the one that vidgan train
            would choose on this machine.
        sheet: picture to write, a row of frames for each of some clips.
        workers: processes that decode.
        strict: end with exit code 2 if any video would be dropped or is damaged.
        json: print the report as JSON.
    """
    from vidgan.data.build.packing import check_source, is_packed

    check_place(sheet)
    if is_packed(source):
        from vidgan.data.build.packing import verify_set
        from vidgan.data.packed.sheet import draw_packed

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
    if strict and unclean:
        raise UserError(
            f"{counted(len(unclean), 'video')} of {source}, {unclean[0]} first, would be dropped or"
            " is damaged: mend or remove such files, or leave out --strict"
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
    print_lines(folder)


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
            raise UserError(f"--levels {text} is no list like 8x32,4x16 (frames x size)")
        found.append((int(match[1]), int(match[2])))
    return found


def print_report(report: "BuildReport", as_json: bool, **more: str) -> None:
    """Print what became of every video, for people or as JSON."""
    if as_json:
        print_json({**asdict(report), "num_clips": report.num_clips, **more})
        return
    print_lines("\n".join(report.lines()))
    for name, value in {"packed set": report.out, **more}.items():
        if value:
            print_lines(f"{name.replace('_', ' ')}: {value}")
