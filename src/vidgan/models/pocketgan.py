"""PocketGAN: a small GAN for one's own clips, made for few steps on small machines.

Not a published system. It puts together what was found since the systems beside it:
    Y. Huang et al., "The GAN is dead; long live the GAN! A Modern GAN Baseline", NeurIPS 2024,
    arXiv:2501.05441 (relativistic pairs with R1 and R2, a discriminator without norm).
    T. Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020,
    arXiv:1912.04958 (channels modulated by the latent, no growth; the sum of outputs if asked for).
    S. Lin et al., "Diffusion Adversarial Post-Training for One-Step Video Generation", 2025,
    arXiv:2501.08316 (R1 and R2 by a difference in noise: losses/penalties.py).
    S. Tulyakov et al., "MoCoGAN", CVPR 2018, arXiv:1707.04993 (content and motion apart).
How it was chosen, and what of it has been measured: docs/recipe.md.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from vidgan.core.clip_ops import Factor, pool_clip, upsample_clip_linear
from vidgan.core.settings import Range, Width
from vidgan.errors import UserError
from vidgan.models.base import (
    GAN,
    ClipShape,
    Discriminator,
    Generator,
    LevelShape,
    ModelConfig,
    Scores,
)
from vidgan.models.parts.growth import BASE_RESOLUTION, growth_factors, plan_levels
from vidgan.models.parts.layers import (
    ConvPool3d,
    ScaledConv3d,
    ScaledLinear,
    UpsampleConv3d,
    group_deviation,
    leaky_pixel_norm,
    leaky_relu,
    minibatch_stddev,
    pixel_norm,
)
from vidgan.models.parts.sliced_head import class_conditional_scores


@dataclass(frozen=True, kw_only=True)
class PocketConfig(ModelConfig):
    """Settings of PocketGAN.

    Attributes:
        content: length of the part of the latent that decides what a clip shows.
        motion: length of the part that decides how it moves.
        channels: widths of every level of the generator, 4 px first; None takes 64, halved at each
            of the last two levels.
        discriminator_channels: widths of every level of the discriminator, 4 px first; its last
            level is half the clip's size. None takes 64, and half of it at the last level.
        stem_channels: width of the discriminator's one convolution at full size.
        pool_frames: frames that the stem averages, 1 or 2.
        style_dim: length of the vector that modulates the generator; 0 for no modulation.
        output_skips: sum the colours of all levels, as StyleGAN2 does; otherwise the last level
            alone makes them, which learns faster (docs/recipe.md).
        residual: whether blocks of the discriminator have a shortcut, which takes time.
        coarse_deviation: whether the discriminator sees how much the coarse pictures of a group
            differ.
        label_dim: length of the learned embedding of a class.
        group_size: clips over which deviations are taken.
    """

    NAME: ClassVar[str] = "pocketgan"
    DIFFERENCES: ClassVar[tuple[str, ...]] = (
        "It is no published system: docs/recipe.md says how it was chosen.",
        (
            "Its preset penalises differences in noise at real clips in every fourth update, where "
            "Huang et al. take exact gradients at real and generated clips in every update."
        ),
        (
            "Layers are those of pvgan (equalized learning rate, pixel norm in the generator), "
            "where Huang et al. scale the initial weights of grouped convolutions."
        ),
    )

    content: Width = 64
    motion: Width = 64
    channels: Annotated[tuple[int, ...] | None, Range(1, 65_536)] = None
    discriminator_channels: Annotated[tuple[int, ...] | None, Range(1, 65_536)] = None
    stem_channels: Width = 16
    pool_frames: Literal[1, 2] = 2
    style_dim: Annotated[int, Range(0, 65_536)] = 128
    output_skips: bool = False
    residual: bool = False
    coarse_deviation: bool = True
    label_dim: Width = 32
    group_size: Width = 4

    def build(self, clip_shape: ClipShape, num_classes: int = 0) -> GAN:
        colours, frames, height, width = clip_shape
        if height < 2 * BASE_RESOLUTION:
            raise UserError(
                f"pocketgan makes square clips of 8, 16, 32, ... px, not {height}x{width}; set "
                "data.resolution to a power of two of at least 8"
            )
        levels = plan_levels(clip_shape, "auto")
        pool = (self.pool_frames if frames % self.pool_frames == 0 else 1, 2, 2)
        small = ClipShape(colours, frames // pool[0], height // 2, width // 2)
        return GAN(
            generator=PocketGenerator(self, clip_shape, levels, num_classes),
            discriminators={
                "discriminator": PocketDiscriminator(
                    self, colours, plan_levels(small, "auto"), pool, num_classes
                )
            },
        )


def widths_of(
    listed: tuple[int, ...] | None, num_levels: int, halvings: int, name: str
) -> tuple[int, ...]:
    """Channels of every level: those listed, or 64, halved at each of the last levels."""
    if listed is None:
        return tuple(
            64 // 2 ** max(0, halvings + 1 + level - num_levels) for level in range(num_levels)
        )
    if len(listed) != num_levels:
        raise UserError(
            f"model.{name} lists {len(listed)} widths but the clip size needs {num_levels}, one "
            "per level from 4 px up"
        )
    return listed


# ------------------------------------------------------------------------------------------------
# Generator


class StyledBlock(nn.Module):
    """Features of one level to features of the next, every channel weighted by the style."""

    def __init__(
        self, in_channels: int, channels: int, factor: Factor, style_dim: int, is_last: bool
    ) -> None:
        super().__init__()
        self.up = StyledLayer(UpsampleConv3d(in_channels, channels, factor), in_channels, style_dim)
        # At full size, where it would cost most, one layer is enough.
        self.conv = (
            None if is_last else StyledLayer(ScaledConv3d(channels, channels), channels, style_dim)
        )

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = self.up(x, style)  # [B, C, T or 2T, 2H, 2W]
        return x if self.conv is None else self.conv(x, style)


class StyledLayer(nn.Module):
    """y = pixel_norm(leaky_relu(conv(x (1 + A s)))) for features x and style s (without s: A = 0).

    The norm after the convolution does what demodulation does in StyleGAN2 (Karras et al. 2020,
    section 2.2), at every position.
    """

    def __init__(self, conv: nn.Module, in_channels: int, style_dim: int) -> None:
        super().__init__()
        self.conv = conv
        self.scales = ScaledLinear(style_dim, in_channels, gain=1.0) if style_dim else None

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        if self.scales is not None:
            x = x * (1 + self.scales(style))[:, :, None, None, None].to(x.dtype)
        return leaky_pixel_norm(self.conv(x))


class PocketGenerator(Generator):
    """Latents `[B, Z]` to clips `[B, C, T, H, W]`."""

    motion_parts = ("motion",)

    def __init__(
        self,
        config: PocketConfig,
        clip_shape: ClipShape,
        levels: tuple[LevelShape, ...],
        num_classes: int,
    ) -> None:
        super().__init__()
        widths = widths_of(config.channels, len(levels), 2, "channels")
        self.num_classes = num_classes
        self.num_frames = clip_shape.frames
        self.lengths = [config.content, config.motion]
        self.factors = growth_factors(levels)
        label_dim = config.label_dim if num_classes else 0
        if num_classes:
            self.label_embedding = nn.Parameter(torch.randn(num_classes, config.label_dim))

        # 4x4 px: what stands still, what moves, and the style.
        content_dim, motion_dim = config.content + label_dim, config.motion + label_dim
        self.start_shape = (widths[0], levels[0].frames, BASE_RESOLUTION, BASE_RESOLUTION)
        num_units = widths[0] * BASE_RESOLUTION**2
        gain = math.sqrt(2) / 4  # as in pvgan
        self.still = ScaledLinear(content_dim, num_units, gain=gain)
        self.moving = ScaledLinear(motion_dim, num_units * levels[0].frames, gain=gain)
        self.style = nn.ModuleList()
        if config.style_dim:
            # Without the label, or colours would follow the class and no latent would change them.
            self.style.append(ScaledLinear(config.content, config.style_dim))
            self.style.append(ScaledLinear(config.style_dim, config.style_dim))
        self.conv = ScaledConv3d(widths[0], widths[0])

        self.blocks = nn.ModuleList(
            StyledBlock(
                widths[level - 1],
                widths[level],
                self.factors[level],
                config.style_dim,
                is_last=level == len(levels) - 1,
            )
            for level in range(1, len(levels))
        )
        outputs = [
            ScaledConv3d(width, clip_shape.channels, kernel_size=1, gain=1.0)
            for width in (widths if config.output_skips else widths[-1:])
        ]
        if config.output_skips:
            # The first clips are those of the coarse levels: smooth.
            nn.init.zeros_(outputs[-1].weight)
        self.to_rgb = nn.ModuleList(outputs)

    @property
    def latent_parts(self) -> dict[str, slice]:
        content, motion = self.lengths
        return {"content": slice(0, content), "motion": slice(content, content + motion)}

    def latent_dim(self, num_frames: int | None = None) -> int:
        self.check_frames(num_frames, self.num_frames)
        return sum(self.lengths)

    def parts(
        self,
        latent: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        num_frames: int | None = None,
    ) -> dict[str, Tensor]:
        self.check_frames(num_frames, self.num_frames)
        self.check_labels(labels)

        # Each input is normalised by itself, so that none can dominate the others.
        content, motion = map(pixel_norm, torch.split(latent, self.lengths, dim=1))
        style = content
        for layer in self.style:
            style = leaky_relu(layer(style))  # [B, style_dim]
        if labels is not None:
            embedding = pixel_norm(self.label_embedding[labels])
            content = torch.cat([content, embedding], dim=1)  # [B, content + label_dim]
            motion = torch.cat([motion, embedding], dim=1)

        # 4x4 px: content is the same in every frame.
        channels, frames, height, width = self.start_shape
        still = self.still(content).unflatten(1, (channels, 1, height, width))
        moving = self.moving(motion).unflatten(1, (channels, frames, height, width))
        x = (still + moving).contiguous(memory_format=torch.channels_last_3d)
        x = leaky_pixel_norm(self.conv(leaky_pixel_norm(x)))  # [B, C, T0, 4, 4]

        # Up to full size; summed, every level adds its colours to those of the levels before.
        sums = len(self.to_rgb) > 1
        clip = self.to_rgb[0](x) if sums else None  # [B, 3, T0, 4, 4]
        for level, block in enumerate(self.blocks, start=1):
            x = block(x, style)  # [B, C, T, H, W]
            if clip is not None:
                # Repeated, colours of 4x4 px would be seen as a mosaic.
                clip = upsample_clip_linear(clip, self.factors[level]) + self.to_rgb[level](x)
        return {"clip": self.to_rgb[-1](x) if clip is None else clip}


# ------------------------------------------------------------------------------------------------
# Discriminator


class DownBlock(nn.Module):
    """Features of one level to features of the level below."""

    def __init__(self, channels: int, out_channels: int, factor: Factor, shortcut: bool) -> None:
        super().__init__()
        self.factor = factor
        self.conv = ScaledConv3d(channels, channels)
        self.down = ConvPool3d(channels, out_channels, factor)
        self.shortcut = (
            ScaledConv3d(channels, out_channels, kernel_size=1, gain=1.0, bias=False)
            if shortcut
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(leaky_relu(self.conv(x)))  # [B, C', T or T/2, H/2, W/2]
        if self.shortcut is None:
            return y
        short: Tensor = self.shortcut(pool_clip(x, self.factor))
        return (y + short) * math.sqrt(0.5)


class PocketDiscriminator(Discriminator):
    """Clips to scores.

    Its one convolution at full size is narrow, and averages follow it: a wide one costs as much as
    all others together, and one with strides sends patterns of its grid back to the generator.
    """

    couples_batch = "group"

    def __init__(
        self,
        config: PocketConfig,
        colours: int,
        levels: tuple[LevelShape, ...],
        pool: Factor,
        num_classes: int,
    ) -> None:
        super().__init__()
        name = "discriminator_channels"
        widths = widths_of(config.discriminator_channels, len(levels), 1, name)
        factors = growth_factors(levels)
        self.group_size = config.group_size
        self.stem = ScaledConv3d(colours, config.stem_channels)
        self.pool = ConvPool3d(config.stem_channels, widths[-1], pool)
        self.blocks = nn.ModuleList(
            DownBlock(widths[level], widths[level - 1], factors[level], config.residual)
            for level in range(len(levels) - 1, 0, -1)
        )
        width = widths[0]
        self.coarse_deviation = config.coarse_deviation
        self.conv = ScaledConv3d(width + 1 + colours * self.coarse_deviation, width)
        self.linear = ScaledLinear(width * levels[0].frames * BASE_RESOLUTION**2, width)
        self.head = ScaledLinear(width, 1, gain=1.0)
        self.class_vectors = nn.Parameter(torch.randn(num_classes, width)) if num_classes else None

    def forward(
        self,
        clip: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        view: Tensor | None = None,
    ) -> Scores:
        x = clip.contiguous(memory_format=torch.channels_last_3d)
        x = self.pool(leaky_relu(self.stem(x)))  # [B, C, T or T/2, H/2, W/2]
        for block in self.blocks:
            x = block(x)  # [B, C, T, H, W], down to 4x4 px
        x = minibatch_stddev(x, self.group_size)
        if self.coarse_deviation:
            deviation = coarse_deviation(clip, self.group_size).to(x.dtype)
            x = torch.cat([x, deviation.expand(-1, -1, x.shape[2], -1, -1)], dim=1)
        x = leaky_relu(self.conv(x))  # [B, C, T0, 4, 4]
        features = leaky_relu(self.linear(x.flatten(1)))  # [B, F]

        # Unscaled, the sum over F would start far larger than the score beside it.
        vectors = None
        if self.class_vectors is not None:
            vectors = self.class_vectors / math.sqrt(features.shape[1])
        return class_conditional_scores(features, labels, self.head, vectors)


COARSE_GAIN = 4.0
"""Brings them near 1: coarse colours of four moving shapes deviate by 0.19 on average."""


def coarse_deviation(clip: Tensor, group_size: int) -> Tensor:
    """How much the clips of a group differ in their colours at 4x4 px, averaged over time.

    The mean of all features' deviations (Karras et al. 2018) hardly changes when all backgrounds
    become alike, for objects that move make most of it; these numbers do.

    Returns:
        `[B, C, 1, 4, 4]` for clips `[B, C, T, H, W]`.
    """
    frames, height, width = clip.shape[2:]
    picture = pool_clip(clip, (frames, height // BASE_RESOLUTION, width // BASE_RESOLUTION))
    return COARSE_GAIN * group_deviation(picture, group_size)
