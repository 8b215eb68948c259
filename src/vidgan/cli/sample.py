"""Verbs that use a trained generator: `sample` and `interpolate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vidgan.cli.common import (
    ClassName,
    Flags,
    Out,
    Run,
    print_json,
    print_lines,
    print_note,
    progress_on_stderr,
)
from vidgan.core.files import check_place
from vidgan.errors import UserError

GRID_SUFFIXES = {".mp4", ".gif", ".webp", ".png"}
OTHER_SUFFIXES = {".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".jpg", ".jpeg", ".tiff", ".bmp"}
"""A file is meant, and not a folder of this name."""


@dataclass(frozen=True, kw_only=True)
class SampleFlags:
    """Flags of `sample`."""

    num: int = 16
    """number of clips."""
    class_name: ClassName = None
    """one class for all clips; without it every clip draws its own."""
    truncation: float | None = None
    """bound of the latents in standard deviations, where the model supports it."""
    frames: int | None = None
    """length of the clips, where the model makes any; by default the trained one."""
    show: Literal["clips", "layers", "motions"] = "clips"
    """clips; layers shows mask, foreground and background beside each clip (vgan); motions
    is a square of clips with the same content along rows and the same motion along columns
    (mocogan)."""
    seed: int = 0
    """seed of the first clip; clip i has seed + i."""
    checkpoint: str = "best"
    """best, last or a step."""
    json: bool = False
    """print a JSON document."""


def sample(
    run: Run,
    out: Out,
    /,
    *,
    flags: Flags[SampleFlags],
) -> None:
    """Generate clips: a grid in one file, or a folder of lossless clips.

    Args:
        run: run folder, checkpoint folder, generator file, or hub id.
        out: OUT.mp4, .gif or .webp for a grid, .png for frames side by side, else a folder.
    """
    from vidgan.sampling.outputs import sample as draw_samples
    from vidgan.sampling.outputs import write_sample_folder, write_sample_grid
    from vidgan.sampling.showing import layers_table, motions_table, rows_of_square, write_table
    from vidgan.sampling.storage import card_of, load_generator

    suffix = out.suffix.lower()
    if suffix in OTHER_SUFFIXES and not out.is_dir():
        raise UserError(
            f"{out} is no kind of file that samples are written as; choose one of "
            f"{', '.join(sorted(GRID_SUFFIXES))} for a grid, or a folder without a suffix"
        )
    check_counts(flags.num, flags.frames)
    if flags.show != "clips" and suffix not in GRID_SUFFIXES:
        raise UserError(
            f"--show {flags.show} is one picture or film; name a file that ends in one of "
            f"{', '.join(sorted(GRID_SUFFIXES))}, not {out}"
        )
    check_place(out)
    generator = load_generator(run, flags.checkpoint)
    card = card_of(generator)
    wishes = (flags.class_name, flags.truncation, flags.frames)
    if flags.show == "layers":
        seeds = range(flags.seed, flags.seed + flags.num)
        print_note(write_table(out, layers_table(generator, seeds, *wishes), card.fps))
    elif flags.show == "motions":
        seeds = range(flags.seed, flags.seed + rows_of_square(flags.num))
        print_note(write_table(out, motions_table(generator, seeds, *wishes), card.fps))
    elif suffix in GRID_SUFFIXES:
        samples = draw_samples(generator, range(flags.seed, flags.seed + flags.num), *wishes)
        print_note(write_sample_grid(out, samples, card.fps))
    else:
        with progress_on_stderr() as progress:
            write_sample_folder(
                out,
                generator,
                range(flags.seed, flags.seed + flags.num),
                *wishes,
                lambda done, total: progress(done, total, "generating clips"),
            )
    if flags.json:
        print_json({"out": str(out), "num": flags.num, "seed": flags.seed, "step": card.step})
    else:
        print_lines(out)


def check_counts(num: int, frames: int | None) -> None:
    """Raise UserError for no clips, or clips of no frames."""
    if num < 1:
        raise UserError(f"--num {num} asks for no clip; give 1 or more")
    if frames is not None and frames < 1:
        raise UserError(f"--frames {frames} asks for no frame; give 1 or more")


@dataclass(frozen=True, kw_only=True)
class InterpolateFlags:
    """Flags of `interpolate`."""

    start: int = 0
    """seed of the first clip."""
    end: int = 1
    """seed of the last clip."""
    steps: int = 8
    """clips along the path."""
    mode: Literal["linear", "slerp"] = "linear"
    """straight line, or arc on the sphere."""
    class_name: ClassName = None
    """class of every clip; without it the class that the first seed draws."""
    checkpoint: str = "best"
    """best, last or a step."""
    json: bool = False
    """print a JSON document."""


def interpolate(
    run: Run,
    out: Annotated[Path | None, tyro.conf.arg(metavar="[OUT]")] = None,
    /,
    *,
    flags: Flags[InterpolateFlags],
) -> None:
    """Walk through the latent space: a film, and a picture with one row of frames a step.

    Args:
        run: run folder, checkpoint folder, generator file, or hub id.
        out: film to write (.mp4, .gif or .webp), with the picture beside it as .png; by default
            interpolation.mp4 in the run.
    """
    from vidgan.sampling.outputs import ANIMATIONS, interpolate_seeds, write_interpolation
    from vidgan.sampling.storage import card_of, load_generator

    folder = Path(run) if Path(run).is_dir() else Path()
    film = out or folder / "interpolation.mp4"
    if film.suffix.lower() in ("", ".png"):
        film = film.with_suffix(".mp4")
    if film.suffix.lower() not in ANIMATIONS:
        raise UserError(
            f"{film} is no kind of film that a walk is written as; name a file that ends in one of "
            f"{', '.join(ANIMATIONS)}"
        )
    check_place(film)
    generator = load_generator(run, flags.checkpoint)
    card = card_of(generator)
    picture = film.with_suffix(".png")
    clips = interpolate_seeds(
        generator, flags.start, flags.end, flags.steps, flags.mode, flags.class_name
    )
    write_interpolation(film, picture, clips, card.fps)
    if flags.json:
        print_json({"film": str(film), "picture": str(picture), "step": card.step})
    else:
        print_lines(film, picture)
