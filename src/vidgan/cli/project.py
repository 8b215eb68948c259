"""The verb `project`: a clip of one's own in the latent space of a generator."""

import math
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import tyro

from vidgan.cli.common import (
    ClassName,
    Flags,
    Run,
    print_json,
    print_lines,
    print_table,
    progress_on_stderr,
    tell_edited_settings,
)
from vidgan.cli.sample import MAX_GRID
from vidgan.core.files import check_place, read_json
from vidgan.errors import UserError

Clip = Annotated[Path, tyro.conf.arg(metavar="CLIP")]
OptionalOut = Annotated[Path | None, tyro.conf.arg(metavar="[OUT]")]


@dataclass(frozen=True, kw_only=True)
class ProjectFlags:
    """Flags of `project`."""

    class_name: ClassName = None
    """class of the clip; without it all classes are tried."""
    vary: int = 0
    """also write so many variations of what was found, as OUT-variations.mp4."""
    motion: Path | None = None
    """also write the clip as it moves in this one, as OUT-moved.mp4, where the model's latent
    parts motion from content (mocogan)."""
    minutes: float = 5.0
    """longest search for one clip."""
    seed: int = 0
    """of the random latents."""
    checkpoint: str = "best"
    """best, last or a step."""
    json: bool = False
    """print a JSON document."""


def project(
    run: Run, clip: Clip, out: OptionalOut = None, /, *, flags: Flags[ProjectFlags]
) -> None:
    """Find the latent from which a generator makes a clip, and say whether it was found.

    Writes OUT.mp4 (the clip beside what was found), OUT.safetensors (the latent) and OUT.json.

    Args:
        run: run folder, checkpoint folder, generator file, zoo:NAME or hub id.
        clip: video to project, cut and resized as the clips of the run are.
        out: video to write; by default projections/CLIP.mp4 in the run folder, with a number
            behind the name if another clip has it.
    """
    from vidgan.sampling.projection import ProjectionOptions, check_parts_motion
    from vidgan.sampling.storage import card_of, load_generator
    from vidgan.sharing.project import project as project_clip
    from vidgan.sharing.project import write_moved, write_projection, write_variations

    folder = Path(run) if Path(run).is_dir() else Path()
    out = out or free_name(folder / "projections", clip)
    if out.suffix.lower() != ".mp4":
        raise UserError(f"{out} must end in .mp4; the latent and the summary go beside it")
    if not 0 <= flags.vary <= MAX_GRID:
        raise UserError(f"--vary {flags.vary} must lie in 0..{MAX_GRID}")
    if not 0 < flags.minutes < math.inf:
        raise UserError(f"--minutes {flags.minutes:g} must be above 0")
    check_place(out)
    options = ProjectionOptions(seed=flags.seed, minutes=flags.minutes)
    generator = load_generator(run, flags.checkpoint)
    tell_edited_settings(run, card_of(generator).step)
    if flags.motion is not None:
        check_parts_motion(generator)
    with progress_on_stderr() as progress:

        def find(path: Path) -> Any:
            return project_clip(
                run,
                path,
                flags.class_name,
                options,
                checkpoint=flags.checkpoint,
                progress=progress,
            )

        found = find(clip)
        other = None if flags.motion is None else find(flags.motion)
    summary = write_projection(out, found, generator, str(clip))
    written = [out, out.with_suffix(".safetensors"), out.with_suffix(".json")]
    if flags.vary:
        written.append(out.with_name(f"{out.stem}-variations.mp4"))
        write_variations(written[-1], found, generator, flags.vary, flags.seed)
    if other is not None:
        written.append(out.with_name(f"{out.stem}-moved.mp4"))
        write_moved(written[-1], found, other, generator)
    if flags.json:
        print_json(summary | {"written": [str(path) for path in written]})
        return
    print_lines(*written)
    rows = [
        {"clip": name, "PSNR in dB": round(summary[key], 1)}
        for name, key in (
            ("found", "psnr"),
            (f"best of {found.num_starts} random latents", "psnr_best_random"),
            ("mean clip of the generator", "psnr_mean_clip"),
            ("random latent", "psnr_random"),
        )
    ]
    print_table(rows, list(rows[0]))
    print_lines(f"{found.verdict}: {found.reason}")


def free_name(folder: Path, clip: Path) -> Path:
    """A video in the folder that is named after the clip, and of no other clip."""
    for number in count(1):
        path = folder / f"{clip.stem}{'' if number == 1 else f'-{number}'}.mp4"
        summary = path.with_suffix(".json")
        if not path.exists() and not summary.exists():
            return path
        with suppress(OSError, ValueError, AttributeError):
            if read_json(summary).get("clip") == str(clip):
                return path
    raise AssertionError("unreachable")
