"""Predictions from given frames, grey clips or damaged clips.

One rule serves every model that takes a context. A *window* is a clip as the model was trained on:
`generator.make_context` parts it into context and target. Output frames that only show given frames
again (`context_overlap`) are not predictions, unless the whole output does, as in colourising and
inpainting: there every frame is *restored*.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.core.clip_ops import Labels, Values, as_labels, as_tensor, to_float, to_uint8
from vidgan.core.randomness import BatchRandom, derive_seed
from vidgan.errors import UserError
from vidgan.metrics.image_quality import BASELINES
from vidgan.models.base import Box, Generator
from vidgan.sampling.generate import sample_clips, sample_latents
from vidgan.sampling.outputs import display_scale
from vidgan.video import frame_strip, tile_clips, write_mp4, write_png

PART_BATCH = 64
"""Windows that are parted together, so that not all of them are floats at once."""


def predict(
    generator: Generator,
    context: Values,
    num_samples: int = 1,
    *,
    seed: int = 0,
    labels: Labels | None = None,
    first: int = 0,
) -> Tensor:
    """Continue given frames, several times each.

    Args:
        generator: one that takes a context, as `load_generator` returns it.
        context: given frames `[B, C, T0, H, W]`, uint8 or float in [-1, 1].
        num_samples: predictions for every clip; a model without a latent makes one.
        seed: prediction m of clip b depends on (seed, b, m) alone.
        labels: as `sample_clips` takes them, one for every given clip.
        first: number b of the first given clip.

    Returns:
        uint8 `[B, M, C, T, H, W]`, all frames that the generator makes; M is `num_samples`, or 1
        for a model without a latent.

    Raises:
        UserError: the generator takes no context, or the given frames or labels do not fit it.

    Example:
        >>> import torch, vidgan
        >>> from vidgan.models.hrvgan import HRVGANConfig
        >>> config = HRVGANConfig(latent=8, context_frames=4, channels=(4, 4))
        >>> generator = vidgan.build_gan(config, (3, 12, 8, 8)).generator
        >>> vidgan.predict(generator, torch.zeros(2, 3, 4, 8, 8), num_samples=3).shape
        torch.Size([2, 3, 3, 8, 8, 8])
    """
    check_takes_context(generator)
    if num_samples < 1:
        raise UserError(f"num_samples={num_samples} must be at least 1")
    context = as_tensor(context, "context")
    if context.dim() != 5 or not len(context) or context.shape[2] != generator.context_frames:
        raise UserError(
            f"this generator takes {generator.context_frames} given frames as a context "
            f"[B, C, {generator.context_frames}, H, W], got {list(context.shape)}"
        )
    _check_side(generator, context)
    if context.dtype == torch.uint8:
        context = to_float(context)
    count = samples_of(generator, num_samples)
    rows = [(first + b, m) for b in range(len(context)) for m in range(count)]
    latents = sample_latents(generator, [derive_seed(seed, "prediction", b, m) for b, m in rows])
    if labels is not None:
        labels = as_labels(labels, len(context)).repeat_interleave(count)
    clips = sample_clips(generator, latents, labels, context.repeat_interleave(count, dim=0))
    return clips.reshape(len(context), count, *clips.shape[1:])


def samples_of(generator: Generator, num_samples: int) -> int:
    """Predictions that differ: `num_samples`, or 1 for a model without a latent."""
    return num_samples if generator.latent_dim() else 1


def check_takes_context(generator: Generator) -> None:
    """Raise UserError for a generator that takes no context."""
    if not generator.context_frames:
        raise UserError(
            "this model generates clips from noise and takes no context; use vidgan sample, or "
            "train a "
            "model that takes given frames"
        )


def _check_side(generator: Generator, context: Tensor) -> None:
    card = getattr(generator, "card", None)
    if card is not None and tuple(context.shape[3:]) != tuple(card.clip_shape[2:]):
        height, width = card.clip_shape[2:]
        raise UserError(
            f"this generator was trained on frames of {height}x{width} pixels, the given ones have "
            f"{context.shape[3]}x{context.shape[4]}; resize them first"
        )


# ------------------------------------------------------------------------------------------------
# Windows


class Parted(NamedTuple):
    """Windows parted as the model was trained.

    Attributes:
        context: what the generator is given, float `[M, C, T0, H, W]`.
        target: the ground truth, uint8 `[M, C, T, H, W]`.
        restores: whether each target frame is a given one, colourised or restored.
    """

    context: Tensor
    target: Tensor
    restores: bool

    def new_frames(self, generator: Generator, clips: Tensor) -> Tensor:
        """Generated clips `[..., C, T', H, W]` without frames that show given ones again."""
        return clips if self.restores else clips[..., generator.context_overlap :, :, :]

    def baselines(self, num_frames: int) -> dict[str, Tensor]:
        """Baselines: forecasts without a model, or the given clip unchanged.

        uint8 `[M, C, T, H, W]`, keyed by baseline.
        """
        given = to_uint8(self.context)
        if self.restores:
            return {"given": given.expand_as(self.target)}
        return {name: make(given, num_frames) for name, make in BASELINES.items()}


def part_windows(
    generator: Generator, windows: Tensor, seed: int = 0, box: Box | None = None
) -> Parted:
    """Part uint8 windows `[M, C, T, H, W]` into context and target.

    Args:
        generator: one that takes a context.
        windows: clips of the length that the model was trained on; or the given frames alone,
            which leave no target frames.
        seed: of the damage, where the context is a damaged clip.
        box: hide this box of every clip instead, for a generator that inpaints.

    Raises:
        UserError: `box` for a generator that does not inpaint, or one outside of the frame.
    """
    check_takes_context(generator)
    if box is not None:
        _check_box(generator, box, windows)
    parts = list(_part(generator, windows, seed, box))
    context, target = (torch.cat(part) for part in zip(*parts, strict=True))
    parted = Parted(context, target, _restores(generator, windows))
    return parted._replace(target=parted.new_frames(generator, target))


def targets_of(generator: Generator, windows: Tensor) -> Tensor:
    """The targets alone of many windows, as `part_windows` gives them."""
    target = torch.cat([target for _, target in _part(generator, windows)])
    return target if _restores(generator, windows) else target[:, :, generator.context_overlap :]


def _restores(generator: Generator, windows: Tensor) -> bool:
    # The whole window is given, and the whole window comes out.
    return windows.shape[2] == generator.context_frames == generator.context_overlap > 1


def _part(
    generator: Generator, windows: Tensor, seed: int = 0, box: Box | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Context and uint8 target, batch by batch."""
    for first in range(0, len(windows), PART_BATCH):
        batch = to_float(windows[first : first + PART_BATCH])
        size = len(batch)
        rng = BatchRandom((seed, "prediction context", first), size, 0, size, batch.device)
        context, target = generator.make_context(batch, rng)
        assert context is not None
        if context.shape[2] != generator.context_frames:
            raise UserError(
                f"clips of {windows.shape[2]} frames are too short for a model that takes "
                f"{generator.context_frames} given ones"
            )
        yield context if box is None else generator.cover(batch, box), to_uint8(target)


def _check_box(generator: Generator, box: Box, windows: Tensor) -> None:
    if not generator.supports_mask:
        raise UserError("this model does not inpaint; leave the mask out")
    height, width = windows.shape[3:]
    inside = box.x >= 0 and box.y >= 0 and box.x + box.width <= width
    if min(box.width, box.height) < 1 or not inside or box.y + box.height > height:
        raise UserError(
            f"the mask {box.x},{box.y},{box.width},{box.height} (x, y, width, height) must lie "
            f"inside of frames of {width}x{height} pixels"
        )


# ------------------------------------------------------------------------------------------------
# Visualising predictions: a video and a strip of frames, with borders that mark generated frames.
#
# Every frame has a border: blue around given frames and around the truth, orange around frames that
# a model or a baseline made. Names stand beside the rows of a strip and above the clips of a video.

GIVEN_COLOUR, MADE_COLOUR = (0, 114, 178), (230, 120, 0)
"""Blue and orange, which are colour-blind safe."""

BORDER = 4
MAX_COLUMNS = 8
"""Clips in a row of a video."""

MAX_FRAMES = 20
"""Frames in a row of a strip."""

WHITE = 255


@dataclass(frozen=True)
class LabelledClip:
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
) -> list[LabelledClip]:
    """Rows for one clip: the truth if known, predictions, and baselines.

    Args:
        parted: context and target of M clips.
        samples: uint8 `[M, K, C, T, H, W]`.
        baselines: uint8 `[M, C, T, H, W]`, keyed by baseline.
        index: the clip.
    """
    given, truth = to_uint8(parted.context[index]), parted.target[index]
    made = dict(zip(_names(samples.shape[1]), samples[index], strict=True))
    others = {name: clips[index] for name, clips in baselines.items()}
    length = truth.shape[1]
    if parted.restores:
        rows = [
            LabelledClip("given", given.expand_as(truth), length),
            LabelledClip("truth", truth, length),
        ]
        return rows + [LabelledClip(name, clip, 0) for name, clip in made.items()]

    def behind_given(name: str, future: Tensor, num_real: int) -> LabelledClip:
        return LabelledClip(name, torch.cat([given, future], dim=1), given.shape[1] + num_real)

    rows = [behind_given("truth", truth, length)] if length else []
    return rows + [behind_given(name, clip, 0) for name, clip in (made | others).items()]


def _names(num_samples: int) -> list[str]:
    if num_samples == 1:
        return ["prediction"]
    return [f"sample {number}" for number in range(1, num_samples + 1)]


def image_name(source: str) -> str:
    """What the images of a source video are called, which may lie in folders."""
    return Path(source).with_suffix("").as_posix().replace("/", "-")


def write_prediction(
    stem: str | Path,
    parted: Parted,
    samples: Tensor,
    baselines: Mapping[str, Tensor],
    fps: float,
    index: int = 0,
) -> tuple[Path, Path]:
    """Write the video `<stem>.mp4` and the strip `<stem>.png` of one clip; arguments as above."""
    rows = rows_of_clip(parted, samples, baselines, index)
    video, strip = Path(f"{stem}.mp4"), Path(f"{stem}.png")
    write_rows(video, rows, fps)
    write_strip(strip, rows)
    return video, strip


def write_rows(path: str | Path, rows: Sequence[LabelledClip], fps: float) -> None:
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


def write_strip(path: str | Path, rows: Sequence[LabelledClip]) -> None:
    """Write the frames of every row side by side as one PNG, each row after its name."""
    strip = frame_strip(_framed(rows), max_frames=MAX_FRAMES)
    write_png(path, beside_rows(strip, [row.name for row in rows]))


def beside_rows(strip: Tensor, names: Sequence[str]) -> Tensor:
    """An image `[3, H, W]` of equally high rows, with a name in front of each row."""
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
    image = Image.new("RGB", (round(right - left) + 8, round(bottom - top) + 6), "white")
    ImageDraw.Draw(image).text((4 - left, 3 - top), text, fill="black", font=font)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _framed(rows: Sequence[LabelledClip]) -> Tensor:
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
