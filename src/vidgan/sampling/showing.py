"""What clips are made of: their layers, and clips that share content or motion.

Each view is a table of clips. Its columns may have names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.errors import UserError
from vidgan.models.base import Generator
from vidgan.sampling.generate import sample_clips, sample_images, sample_latents
from vidgan.sampling.outputs import (
    ANIMATIONS,
    AS_TRAINED,
    MAX_FRAMES,
    SampleSettings,
    display_scale,
    labels_of,
)
from vidgan.sampling.predict import WHITE, beside_rows, text_image
from vidgan.sampling.projection import check_parts_motion
from vidgan.video import frame_strip, tile_clips, told_left_out, write_png

PADDING = 2
"""White pixels around every clip."""


@dataclass(frozen=True)
class ClipTable:
    """Clips in rows and columns.

    Attributes:
        clips: uint8 `[rows * columns, C, T, H, W]`, row by row.
        columns: how many clips stand in a row.
        names: of the columns; empty if they have none.
    """

    clips: Tensor
    columns: int
    names: tuple[str, ...] = ()


def layers_table(
    generator: Generator,
    seeds: Sequence[int],
    settings: SampleSettings = AS_TRAINED,
) -> ClipTable:
    """For every seed a row: the clip and the images that it is made of.

    Raises:
        UserError: the generator has no layers to show.
    """
    if not generator.shows:
        raise UserError(
            "this model generates clips as a whole: it has no mask or background to show"
        )
    labels = labels_of(generator, seeds, settings.class_name)
    latents = sample_latents(generator, seeds, settings.num_frames)
    images = sample_images(
        generator, latents, labels, None, settings.truncation, settings.num_frames
    )
    like = images["clip"]
    layers = [image.expand_as(like) for image in images.values()]
    return ClipTable(torch.stack(layers, dim=1).flatten(0, 1), len(layers), tuple(images))


def motions_table(
    generator: Generator,
    seeds: Sequence[int],
    settings: SampleSettings = AS_TRAINED,
) -> ClipTable:
    """A square of clips that share their content along rows and their motion along columns.

    Row i shows what the clip of seed i shows, its class included; column j moves as the clip of
    seed j does. On the diagonal stand the clips of the seeds themselves.

    Args:
        generator: see `sample_clips`.
        seeds: as many as there are rows; a square of n rows takes n of them.
        settings: class, truncation and length of all clips.

    Raises:
        UserError: the model's latent does not part motion from content.
    """
    check_parts_motion(generator)
    count = len(seeds)
    own = sample_latents(generator, seeds, settings.num_frames)
    moves = torch.zeros(own.shape[1], dtype=torch.bool)
    for name in generator.motion_parts:
        part = generator.latent_parts[name]
        # Per-frame noise comes last and is as long as the clip.
        moves[part.start : None if name in generator.frame_noise else part.stop] = True
    rows, columns = torch.arange(count).repeat_interleave(count), torch.arange(count).repeat(count)
    latents = torch.where(moves, own[columns], own[rows])
    labels = labels_of(generator, seeds, settings.class_name)
    labels = None if labels is None else labels[rows]
    clips = sample_clips(generator, latents, labels, None, settings.truncation, settings.num_frames)
    return ClipTable(clips, count)


def rows_of_square(num: int) -> int:
    """Rows of the largest square of at most `num` clips."""
    return isqrt(num)


def write_table(path: str | Path, table: ClipTable, fps: float) -> str:
    """Write a table as one video (.mp4, .gif, .webp), or as frames side by side (.png).

    Returns:
        A sentence about frames that the video cannot show at this rate; nothing if it has all.

    Raises:
        UserError: another suffix.
    """
    path = Path(path)
    clips = table.clips.expand(-1, 3, -1, -1, -1)
    scale = display_scale(clips)
    num_rows = len(clips) // table.columns
    if path.suffix.lower() == ".png":
        strip = frame_strip(clips, MAX_FRAMES, padding=PADDING, scale=scale)
        write_png(path, beside_rows(strip, table.names * num_rows) if table.names else strip)
    elif path.suffix.lower() in ANIMATIONS:
        grid = tile_clips(clips, table.columns, padding=PADDING, scale=scale)
        if table.names:
            heads = _heads(table.names, clips.shape[-1] * scale + PADDING, grid.shape[-1])
            grid = torch.cat([heads[:, None].expand(-1, grid.shape[1], -1, -1), grid], dim=2)
        ANIMATIONS[path.suffix.lower()](path, grid, fps)
    else:
        raise UserError(f"{path} must end in one of {', '.join((*ANIMATIONS, '.png'))}")
    return told_left_out(path, clips.shape[2], fps)


def _heads(names: Sequence[str], cell: int, width: int) -> Tensor:
    """Names above columns that are `cell` px apart: uint8 `[3, H, width]`."""
    images = [text_image(name)[..., :cell] for name in names]
    cells = [F.pad(image, (0, cell - image.shape[-1]), value=WHITE) for image in images]
    heads = torch.cat(cells, dim=2)
    return F.pad(heads, (PADDING, width - heads.shape[-1] - PADDING), value=WHITE)
