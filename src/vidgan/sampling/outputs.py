"""Samples and paths as files: grids, folders of lossless clips, interpolation images.

Every function takes a generator that `load_generator` returned: its card knows the class names and
the frame rate.
"""

import csv
import hashlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vidgan.core.clip_ops import Values, as_tensor
from vidgan.core.distributed import Processes
from vidgan.core.escaping import csv_cell
from vidgan.core.files import (
    is_vacant,
    read_json,
    remove_leftovers,
    write_json_atomically,
    write_text_atomically,
)
from vidgan.core.settings import closest
from vidgan.errors import UserError
from vidgan.models.base import Generator
from vidgan.sampling.generate import (
    PathMode,
    interpolate,
    labels_for_seeds,
    sample_clips,
    sample_latents,
)
from vidgan.sampling.storage import GeneratorCard, card_of
from vidgan.video import (
    frame_strip,
    tile_clips,
    told_left_out,
    write_gif,
    write_mp4,
    write_png,
    write_webp,
)

RECORD_FILE = "samples.json"
LABELS_FILE = "labels.csv"
FOLDER_BATCH = 64
"""Clips of a sample folder that are generated together."""

MAX_FRAMES = 8
"""Frames in a row of an image."""

ANIMATIONS = {".mp4": write_mp4, ".gif": write_gif, ".webp": write_webp}


@dataclass(frozen=True)
class Samples:
    """Clips and where they come from.

    Attributes:
        clips: uint8 `[B, C, T, H, W]`.
        seeds: the seed of each clip.
        labels: int64 `[B]`, or None without classes.
    """

    clips: Tensor
    seeds: tuple[int, ...]
    labels: Tensor | None


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """How clips are drawn, their seeds aside.

    Attributes:
        class_name: one class for all clips; None draws a class from every seed.
        truncation: see `sample_clips`.
        num_frames: see `sample_clips`.
    """

    class_name: str | None = None
    truncation: float | None = None
    num_frames: int | None = None


AS_TRAINED = SampleSettings()


def sample(
    generator: Generator, seeds: Sequence[int], settings: SampleSettings = AS_TRAINED
) -> Samples:
    """Generate one clip for each seed."""
    labels = labels_of(generator, seeds, settings.class_name)
    latents = sample_latents(generator, seeds, settings.num_frames)
    clips = sample_clips(generator, latents, labels, None, settings.truncation, settings.num_frames)
    return Samples(clips, tuple(seeds), labels)


def labels_of(
    generator: Generator, seeds: Sequence[int], class_name: str | None = None
) -> Tensor | None:
    """Labels for the clips of these seeds: all of the named class, or drawn by each seed.

    Raises:
        UserError: the generator has no classes, or none of that name.
    """
    if class_name is None:
        return labels_for_seeds(seeds, generator.num_classes)
    if not generator.num_classes:
        raise UserError("this generator was trained without classes; leave the class out")
    names = card_of(generator).class_names
    if class_name not in names:
        guess = closest(class_name, names)
        hint = f"did you mean {guess}?" if guess else f"choose one of {', '.join(names)}"
        raise UserError(f"there is no class {class_name!r}; {hint}")
    return torch.full((len(seeds),), names.index(class_name))


def save_video(path: str | Path, clip: Values, fps: float = 16.0) -> None:
    """Write a clip as a video.

    Args:
        path: file to write, .mp4 (H.264), .gif or .webp; its folder is made if needed.
        clip: uint8 `[C, T, H, W]` with one or three channels, as `sample_clips` makes them; a
            tensor or an array.
        fps: frames per second.

    Raises:
        UserError: another suffix, or no such clip.

    Example:
        >>> import tempfile, torch, vidgan
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     vidgan.save_video(f"{folder}/black.mp4", torch.zeros(3, 4, 16, 16).byte(), fps=8)
    """
    write = ANIMATIONS.get(Path(path).suffix.lower())
    if write is None:
        raise UserError(f"{path} must end in one of {', '.join(ANIMATIONS)}")
    clip = as_tensor(clip, "clip")
    is_clip = clip.dim() == 4 and clip.shape[0] in (1, 3) and clip.numel() > 0
    if not is_clip or clip.dtype != torch.uint8:
        raise UserError(
            f"a clip to save must be uint8 [1 or 3, T, H, W], got {clip.dtype} {list(clip.shape)}"
        )
    if not 0 < fps < math.inf:
        raise UserError(f"fps={fps} must be above 0")
    write(path, clip, fps)


# ------------------------------------------------------------------------------------------------
# A grid in one file


def write_sample_grid(
    path: str | Path, samples: Samples, fps: float, columns: int | None = None
) -> str:
    """Write all clips side by side as one video: .mp4, .gif or .webp, or .png for a frame strip.

    Small clips are enlarged by repeating pixels. A video has `columns` clips in a row, by default
    about as many as rows.

    Returns:
        A sentence about frames that the video cannot show at this rate; nothing if it has all.

    Raises:
        UserError: another suffix.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    scale = display_scale(samples.clips)
    if suffix == ".png":
        write_png(path, frame_strip(samples.clips, max_frames=MAX_FRAMES, scale=scale))
    elif suffix in ANIMATIONS:
        ANIMATIONS[suffix](path, tile_clips(samples.clips, columns, scale=scale), fps)
    else:
        kinds = ", ".join((*ANIMATIONS, ".png"))
        raise UserError(f"{path} must end in one of {kinds}, or be a folder for single clips")
    return told_left_out(path, samples.clips.shape[2], fps)


def display_scale(clips: Tensor) -> int:
    """Whole factor that brings the shorter side of clips to about 100 px, at least 1."""
    return max(1, 96 // min(clips.shape[-2:]))


# ------------------------------------------------------------------------------------------------
# A folder of lossless clips


def write_sample_folder(
    folder: str | Path,
    generator: Generator,
    seeds: range,
    settings: SampleSettings = AS_TRAINED,
    on_progress: Callable[[int, int], None] | None = None,
    processes: Processes | None = None,
) -> None:
    """Write a clip for each seed as lossless MP4 files with `labels.csv`, for use with other metric
    code.

    Every file appears complete or not at all and `labels.csv` comes
    last; the same call after an interruption writes what is missing.

    Args:
        folder: new, empty, or begun by the same call.
        generator: see the module.
        seeds: one after the other, `range(first, first + num)`.
        settings: class, truncation and length of all clips.
        on_progress: called with (clips written, clips in all).
        processes: those that share the work by turns; all have to call, and see the folder.

    Raises:
        UserError: the folder holds something else, or no clip is asked for.
    """
    num = len(seeds)
    if num < 1 or seeds.step != 1:
        raise UserError(f"num={num} must be at least 1, and the seeds must be consecutive")
    folder, card = Path(folder), card_of(generator)
    processes = processes or Processes()
    if processes.is_first:
        _claim(folder, _request(generator, seeds, settings))
    processes.barrier()
    for first in range(0, num, FOLDER_BATCH)[processes.rank :: processes.count]:
        rows = range(first, min(first + FOLDER_BATCH, num))
        missing = [row for row in rows if not (folder / _clip_name(row)).exists()]
        if missing:
            part = sample(generator, [seeds[row] for row in missing], settings)
            for row, clip in zip(missing, part.clips, strict=True):
                write_mp4(folder / _clip_name(row), clip, card.fps, lossless=True)
        if on_progress:
            on_progress(rows.stop, num)
    processes.barrier()
    if processes.is_first:
        labels = labels_of(generator, seeds, settings.class_name)
        write_text_atomically(folder / LABELS_FILE, _labels_table(seeds, labels, card))


def generator_fingerprint(generator: Generator) -> str:
    """A short hash of a generator's weights."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in generator.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def diagonal_pixels(generator: Generator) -> tuple[int, ...]:
    """The diagonal of the middle frame of one clip: seed 0, the first class, a grey context."""
    _, frames, side, _ = card_of(generator).clip_shape
    given = generator.context_frames
    context = torch.full((1, 3, given, side, side), 128, dtype=torch.uint8) if given else None
    labels = torch.zeros(1, dtype=torch.int64) if generator.num_classes else None
    clips = sample_clips(generator, sample_latents(generator, [0]), labels, context)
    frame = clips[0, :, frames // 2]  # [C, H, W]
    return tuple(torch.diagonal(frame, dim1=1, dim2=2).flatten().tolist())


def _request(
    generator: Generator, seeds: range, settings: SampleSettings
) -> dict[str, str | int | float | None]:
    """What the clips of a folder are made from."""
    return {
        "generator": generator_fingerprint(generator),
        "step": card_of(generator).step,
        "num": len(seeds),
        "seed": seeds.start,
        "class": settings.class_name,
        "truncation": settings.truncation,
        "num_frames": settings.num_frames,
    }


def _clip_name(row: int) -> str:
    return f"clip-{row:06d}.mp4"


def _claim(folder: Path, request: Mapping[str, object]) -> None:
    """Record the folder's parameters, or check that they are the same."""
    record = folder / RECORD_FILE
    if record.exists():
        try:
            found = read_json(record)
        except ValueError:
            found = None
        if found != request:
            raise UserError(
                f"{folder} holds other samples, or was begun by another call, which would go on "
                f"with it (see {record}); choose another folder, or delete this one"
            )
    elif not is_vacant(folder):
        raise UserError(f"{folder} exists and is not an empty folder; choose another one")
    else:
        write_json_atomically(record, request)
    remove_leftovers(folder)


def _labels_table(seeds: Sequence[int], labels: Tensor | None, card: GeneratorCard) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", "seed", "label", "class"])
    for row, seed in enumerate(seeds):
        label = None if labels is None else int(labels[row])
        name = "" if label is None else card.class_names[label]
        table.writerow([_clip_name(row), seed, "" if label is None else label, csv_cell(name)])
    return text.getvalue()


# ------------------------------------------------------------------------------------------------
# Paths


def interpolate_seeds(
    generator: Generator,
    start_seed: int,
    end_seed: int,
    steps: int,
    mode: PathMode = "linear",
    class_name: str | None = None,
) -> Tensor:
    """Clips uint8 `[steps, C, T, H, W]` on the path between the latents of two seeds.

    The class stays the same on the way: the named one, or the one that `start_seed` draws.
    """
    start, end = sample_latents(generator, [start_seed, end_seed])
    labels = labels_of(generator, [start_seed], class_name)
    return interpolate(generator, start, end, steps, mode, labels)


def write_interpolation(
    video_path: str | Path, png_path: str | Path, clips: Tensor, fps: float, max_frames: int = 8
) -> None:
    """Write a path as a video of all its clips in one row, and as a figure.

    The figure has one row of frames for each step along the path.

    Args:
        video_path: video to write, .mp4, .gif or .webp.
        png_path: figure to write.
        clips: uint8 `[steps, C, T, H, W]`.
        fps: frames per second.
        max_frames: frames in a row of the figure, evenly spaced.
    """
    scale = display_scale(clips)
    row = tile_clips(clips, columns=len(clips), scale=scale)
    ANIMATIONS[Path(video_path).suffix.lower()](Path(video_path), row, fps)
    write_png(png_path, frame_strip(clips, max_frames=max_frames, scale=scale))
