"""Differentiable augmentation for small data sets, one draw for all frames of a clip.

The discriminator sees real and generated clips through the same random transformations, and the
gradient reaches the generator through them (Zhao et al. 2020, "Differentiable Augmentation for
Data-Efficient GAN Training"). Frames of a clip share their draw: motion stays what it was.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.core.randomness import BatchRandom
from vidgan.core.settings import Range, check_fields


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Strengths of the transformations; 0 switches one off.

    Attributes:
        colour: range of brightness, saturation and contrast changes, 1 for the paper's;
            beyond 2 contrasts are turned round.
        translation: largest shift as a part of the frame's side, 0.125 in the paper.
        cutout: side of a grey square as a part of the frame's side, 0.5 in the paper.
    """

    colour: Annotated[float, Range(0, 2)] = 0.0
    translation: Annotated[float, Range(0, 0.5)] = 0.0
    cutout: Annotated[float, Range(0, 1)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "training.augment")

    @property
    def is_on(self) -> bool:
        """Whether any transformation is on."""
        return any((self.colour, self.translation, self.cutout))


def augment(clip: Tensor, config: AugmentConfig, rng: BatchRandom) -> Tensor:
    """Transform clips `[B, C, T, H, W]` in [-1, 1], each by its own draw."""
    if config.colour:
        clip = _change_colour(clip, config.colour, rng)
    if config.translation:
        clip = _translate(clip, config.translation, rng)
    if config.cutout:
        clip = _cut_out(clip, config.cutout, rng)
    return clip


def _change_colour(clip: Tensor, strength: float, rng: BatchRandom) -> Tensor:
    draws = (rng.uniform(3) - 0.5).to(clip.dtype)[:, :, None, None, None, None]  # [B, 3, 1, ...]
    clip = clip + strength * draws[:, 0]
    grey = clip.mean(dim=1, keepdim=True)
    clip = torch.lerp(grey, clip, 1 + 2 * strength * draws[:, 1])
    mean = clip.mean(dim=(1, 2, 3, 4), keepdim=True)
    return torch.lerp(mean, clip, 1 + strength * draws[:, 2])


def _translate(clip: Tensor, strength: float, rng: BatchRandom) -> Tensor:
    height, width = clip.shape[-2:]
    reach = (round(height * strength), round(width * strength))
    draws, pad = rng.uniform(2), max(reach)
    down, right = (
        (draws[:, i : i + 1] * (2 * most + 1)).long() - most for i, most in enumerate(reach)
    )  # [B, 1] each
    padded = F.pad(clip, (pad, pad, pad, pad))
    rows = torch.arange(height, device=clip.device) + pad + down  # [B, H]
    columns = torch.arange(width, device=clip.device) + pad + right  # [B, W]
    batch = torch.arange(len(clip), device=clip.device)[:, None, None]
    # Indexing axes 0, 3 and 4 together puts them in front: [B, H, W, C, T].
    moved = padded[batch, :, :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 4, 1, 2)


def _cut_out(clip: Tensor, strength: float, rng: BatchRandom) -> Tensor:
    height, width = clip.shape[-2:]
    centre = rng.uniform(2)  # [B, 2]
    rows = torch.arange(height, device=clip.device) + 0.5
    columns = torch.arange(width, device=clip.device) + 0.5
    in_rows = (rows - centre[:, :1] * height).abs() <= strength * height / 2  # [B, H]
    in_columns = (columns - centre[:, 1:] * width).abs() <= strength * width / 2  # [B, W]
    hole = in_rows[:, None, None, :, None] & in_columns[:, None, None, None, :]
    return clip.masked_fill(hole, 0.0)
