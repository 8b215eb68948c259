"""Predictions: what a generator makes of given frames, of a grey clip or of a damaged one.

One rule serves every model that takes a context. A *window* is a clip as the model was trained on:
`generator.make_context` parts it into context and target. Output frames that only show given frames
again (`context_overlap`) are no prediction, unless the whole output does, as in colourising and
inpainting: there every frame is *restored*.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vidgan.core.arrays import Labels, Values, as_labels, as_tensor
from vidgan.core.clip_ops import to_float, to_uint8
from vidgan.core.randomness import BatchRandom, derive_seed
from vidgan.errors import UserError
from vidgan.metrics.prediction import BASELINES
from vidgan.models.base import Box, Generator
from vidgan.sampling.generate import sample_clips
from vidgan.sampling.latents import sample_latents

PART_BATCH = 64
"""Windows that are parted together, so that not all of them are floats at once."""


def predict(
    generator: Generator,
    context: Values,
    num_samples: int = 1,
    *,
    seed: int = 0,
    labels: Labels | None = None,
) -> Tensor:
    """Continue given frames, several times each.

    Args:
        generator: one that takes a context, as `load_generator` returns it.
        context: given frames `[B, C, T0, H, W]`, uint8 or float in [-1, 1].
        num_samples: predictions for every clip; a model without a latent makes one.
        seed: prediction m of clip b depends on (seed, b, m) alone.
        labels: as `sample_clips` takes them, one for every given clip.

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
    rows = [(b, m) for b in range(len(context)) for m in range(count)]
    latents = sample_latents(generator, [derive_seed(seed, "prediction", b, m) for b, m in rows])
    if labels is not None:
        labels = as_labels(labels, len(context)).repeat_interleave(count)
    clips = sample_clips(generator, latents, labels, context.repeat_interleave(count, dim=0))
    return clips.reshape(len(context), count, *clips.shape[1:])


def samples_of(generator: Generator, num_samples: int) -> int:
    """Predictions that differ: `num_samples`, or 1 for a model without a latent."""
    return num_samples if generator.latent_dim() else 1


def check_takes_context(generator: Generator) -> None:
    """Raise UserError for a generator that starts from nothing but a latent."""
    if not generator.context_frames:
        raise UserError(
            "this model makes clips from noise and continues none; use vidgan sample, or train a "
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
        target: what it should make of it, uint8 `[M, C, T, H, W]`.
        restores: whether each target frame is a given one, in colour or mended.
    """

    context: Tensor
    target: Tensor
    restores: bool

    def new_frames(self, generator: Generator, clips: Tensor) -> Tensor:
        """Generated clips `[..., C, T', H, W]` without frames that show given ones again."""
        return clips if self.restores else clips[..., generator.context_overlap :, :, :]

    def baselines(self, num_frames: int) -> dict[str, Tensor]:
        """What stands beside the model: forecasts without one, or the given clip as it is.

        By name, uint8 `[M, C, T, H, W]`.
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
