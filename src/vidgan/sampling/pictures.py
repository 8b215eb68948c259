"""Predictions to be looked at: a film and a strip of frames, with borders that tell which are made.

Every frame has a border: blue around given frames and around the truth, orange around frames that a
model or a baseline made. Names stand beside the rows of a strip and above the clips of a film.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.core.clip_ops import to_uint8
from vidgan.sampling.outputs import display_scale
from vidgan.sampling.predict import Parted
from vidgan.video import frame_strip, tile_clips, write_mp4, write_png

GIVEN_COLOUR, MADE_COLOUR = (0, 114, 178), (230, 120, 0)
"""Blue and orange, which nearly everybody can tell apart."""

BORDER = 4
MAX_COLUMNS = 8
"""Clips in a row of a film."""

MAX_FRAMES = 20
"""Frames in a row of a strip."""

WHITE = 255


@dataclass(frozen=True)
class Row:
    """One clip to be shown.

    Attributes:
        name: what stands beside it.
        frames: uint8 `[C, T, H, W]` with one or three channels.
        num_real: frames at its start that were given or are the truth.
    """

    name: str
    frames: Tensor
    num_real: int


def rows_of_clip(
    parted: Parted, samples: Tensor, baselines: Mapping[str, Tensor], index: int = 0
) -> list[Row]:
    """What is shown of one clip: the truth if it is known, predictions, and their rivals.

    Args:
        parted: context and target of M clips.
        samples: uint8 `[M, K, C, T, H, W]`.
        baselines: by name, uint8 `[M, C, T, H, W]`.
        index: the clip.
    """
    given, truth = to_uint8(parted.context[index]), parted.target[index]
    made = dict(zip(_names(samples.shape[1]), samples[index], strict=True))
    others = {name: clips[index] for name, clips in baselines.items()}
    length = truth.shape[1]
    if parted.restores:
        rows = [Row("given", given.expand_as(truth), length), Row("truth", truth, length)]
        return rows + [Row(name, clip, 0) for name, clip in made.items()]

    def behind_given(name: str, future: Tensor, num_real: int) -> Row:
        return Row(name, torch.cat([given, future], dim=1), given.shape[1] + num_real)

    rows = [behind_given("truth", truth, length)] if length else []
    return rows + [behind_given(name, clip, 0) for name, clip in (made | others).items()]


def _names(num_samples: int) -> list[str]:
    if num_samples == 1:
        return ["prediction"]
    return [f"sample {number}" for number in range(1, num_samples + 1)]


def picture_name(source: str) -> str:
    """What the pictures of a source video are called, which may lie in folders."""
    return Path(source).with_suffix("").as_posix().replace("/", "-")


def write_pictures(
    stem: str | Path,
    parted: Parted,
    samples: Tensor,
    baselines: Mapping[str, Tensor],
    fps: float,
    index: int = 0,
) -> tuple[Path, Path]:
    """Write the film `<stem>.mp4` and the strip `<stem>.png` of one clip; arguments as above."""
    rows = rows_of_clip(parted, samples, baselines, index)
    film, strip = Path(f"{stem}.mp4"), Path(f"{stem}.png")
    write_film(film, rows, fps)
    write_strip(strip, rows)
    return film, strip


def write_film(path: str | Path, rows: Sequence[Row], fps: float) -> None:
    """Write all rows side by side as one MP4, each below its name."""
    clips = _framed(rows)
    width = clips.shape[-1]
    cells = []
    for row, clip in zip(rows, clips, strict=True):
        name = text_image(row.name)
        name = F.pad(name[..., :width], (0, max(0, width - name.shape[-1])), value=WHITE)
        above = name[:, None].expand(-1, clip.shape[1], -1, -1)
        cells.append(torch.cat([above, clip], dim=2))
    write_mp4(path, tile_clips(torch.stack(cells), columns=min(MAX_COLUMNS, len(cells))), fps)


def write_strip(path: str | Path, rows: Sequence[Row]) -> None:
    """Write the frames of every row side by side as one PNG, each row behind its name."""
    strip = frame_strip(_framed(rows), max_frames=MAX_FRAMES)
    write_png(path, beside_rows(strip, [row.name for row in rows]))


def beside_rows(strip: Tensor, names: Sequence[str]) -> Tensor:
    """A picture `[3, H, W]` of equally high rows, with a name in front of each row."""
    images = [text_image(name) for name in names]
    margin = torch.full(
        (3, strip.shape[1], max(image.shape[2] for image in images)), WHITE, dtype=torch.uint8
    )
    row_height = strip.shape[1] / len(names)
    for index, image in enumerate(images):
        top = round(row_height * (index + 0.5) - image.shape[1] / 2)
        margin[:, top : top + image.shape[1], : image.shape[2]] = image
    return torch.cat([margin, strip], dim=2)


def text_image(text: str) -> Tensor:
    """Black letters on white as uint8 `[3, H, W]`; H is the same for every text."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default()
    left, _, right, _ = font.getbbox(text)
    _, top, _, bottom = font.getbbox("Ag")
    picture = Image.new("RGB", (round(right - left) + 8, round(bottom - top) + 6), "white")
    ImageDraw.Draw(picture).text((4 - left, 3 - top), text, fill="black", font=font)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def _framed(rows: Sequence[Row]) -> Tensor:
    """Clips of all rows, enlarged, in colour and with borders: uint8 `[B, 3, T, H, W]`."""
    scale = display_scale(rows[0].frames[None])
    framed = []
    for row in rows:
        clip = row.frames.expand(3, -1, -1, -1)
        clip = clip.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        clip = F.pad(clip, (BORDER,) * 4)
        is_real = torch.arange(clip.shape[1]) < row.num_real
        given, made = torch.tensor([GIVEN_COLOUR, MADE_COLOUR], dtype=torch.uint8)
        colour = torch.where(is_real[None], given[:, None], made[:, None])[:, :, None, None]
        in_border = torch.ones(clip.shape[2:], dtype=torch.bool)
        in_border[BORDER:-BORDER, BORDER:-BORDER] = False
        framed.append(torch.where(in_border, colour, clip))
    return torch.stack(framed)
