"""Verbs that use a trained generator: `sample` and `interpolate`."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from vidgan.cli.common import (
    ClassName,
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


def sample(
    run: Run,
    out: Out,
    /,
    *,
    num: int = 16,
    class_name: ClassName = None,
    truncation: float | None = None,
    frames: int | None = None,
    show: Literal["clips", "layers", "motions"] = "clips",
    seed: int = 0,
    checkpoint: str = "best",
    json: bool = False,
) -> None:
    """Generate clips: a grid in one file, or a folder of lossless clips.

    Args:
        run: run folder, checkpoint folder, generator file, or hub id.
        out: OUT.mp4, .gif or .webp for a grid, .png for frames side by side, else a folder.
        num: number of clips.
        class_name: one class for all clips; without it every clip draws its own.
        truncation: bound of the latents in standard deviations, where the model supports it.
        frames: length of the clips, where the model makes any; by default the trained one.
        show: clips; layers shows mask, foreground and background beside each clip (vgan); motions
            is a square of clips with the same content along rows and the same motion along columns
            (mocogan).
        seed: seed of the first clip; clip i has seed + i.
        checkpoint: best, last or a step.
        json: print a JSON document.
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
    check_counts(num, frames)
    if show != "clips" and suffix not in GRID_SUFFIXES:
        raise UserError(
            f"--show {show} is one picture or film; name a file that ends in one of "
            f"{', '.join(sorted(GRID_SUFFIXES))}, not {out}"
        )
    check_place(out)
    generator = load_generator(run, checkpoint)
    card = card_of(generator)
    wishes = (class_name, truncation, frames)
    if show == "layers":
        seeds = range(seed, seed + num)
        print_note(write_table(out, layers_table(generator, seeds, *wishes), card.fps))
    elif show == "motions":
        seeds = range(seed, seed + rows_of_square(num))
        print_note(write_table(out, motions_table(generator, seeds, *wishes), card.fps))
    elif suffix in GRID_SUFFIXES:
        samples = draw_samples(generator, range(seed, seed + num), *wishes)
        print_note(write_sample_grid(out, samples, card.fps))
    else:
        with progress_on_stderr() as progress:
            write_sample_folder(
                out,
                generator,
                num,
                seed,
                *wishes,
                lambda done, total: progress(done, total, "generating clips"),
            )
    if json:
        print_json({"out": str(out), "num": num, "seed": seed, "step": card.step})
    else:
        print_lines(out)


def check_counts(num: int, frames: int | None) -> None:
    """Raise UserError for no clips, or clips of no frames."""
    if num < 1:
        raise UserError(f"--num {num} asks for no clip; give 1 or more")
    if frames is not None and frames < 1:
        raise UserError(f"--frames {frames} asks for no frame; give 1 or more")


def interpolate(
    run: Run,
    out: Annotated[Path | None, tyro.conf.arg(metavar="[OUT]")] = None,
    /,
    *,
    start: int = 0,
    end: int = 1,
    steps: int = 8,
    mode: Literal["linear", "slerp"] = "linear",
    class_name: ClassName = None,
    checkpoint: str = "best",
    json: bool = False,
) -> None:
    """Walk through the latent space: a film, and a picture with one row of frames a step.

    Args:
        run: run folder, checkpoint folder, generator file, or hub id.
        out: film to write (.mp4, .gif or .webp), with the picture beside it as .png; by default
            interpolation.mp4 in the run.
        start: seed of the first clip.
        end: seed of the last clip.
        steps: clips along the path.
        mode: straight line, or arc on the sphere.
        class_name: class of every clip; without it the class that the first seed draws.
        checkpoint: best, last or a step.
        json: print a JSON document.
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
    generator = load_generator(run, checkpoint)
    card = card_of(generator)
    picture = film.with_suffix(".png")
    clips = interpolate_seeds(generator, start, end, steps, mode, class_name)
    write_interpolation(film, picture, clips, card.fps)
    if json:
        print_json({"film": str(film), "picture": str(picture), "step": card.step})
    else:
        print_lines(film, picture)
