"""Progressive Video GAN: a 3-D convolutional GAN grown in space and time.

Papers:
    D. Acharya, "Towards High Resolution Video Generation with Progressive Growing of Sliced
    Wasserstein GANs", 2018, arXiv:1810.02419 (chapters 4 and 5, tables A.1 and A.2).
    T. Karras et al., "Progressive Growing of GANs", ICLR 2018, arXiv:1710.10196 (growth, pixel
    normalisation, equalized learning rate, minibatch standard deviation).
    J. Wu et al., "Sliced Wasserstein Generative Models", CVPR 2019, arXiv:1706.02631 (the head).
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.core.clip_ops import Factor, pool_clip, upsample_clip
from vidgan.core.settings import Latent, Range, Width
from vidgan.errors import UserError
from vidgan.models.base import (
    GAN,
    ClipShape,
    Discriminator,
    Generator,
    LevelShape,
    ModelConfig,
    Scores,
    Stage,
)
from vidgan.models.parts.growth import (
    BASE_RESOLUTION,
    GrowingGAN,
    fade_in,
    growth_factors,
    heads_in_use,
    plan_levels,
    train_only,
)
from vidgan.models.parts.layers import (
    ConvPool3d,
    ScaledConv3d,
    ScaledLinear,
    UpsampleConv3d,
    leaky_pixel_norm,
    leaky_relu,
    minibatch_stddev,
    pixel_norm,
    update_spectral_norms,
)
from vidgan.models.parts.sliced_head import SlicedWassersteinHead, class_conditional_scores


@dataclass(frozen=True, kw_only=True)
class ProgressiveConfig(ModelConfig):
    """Settings of the Progressive Video GAN.

    Attributes:
        latent: length of the latent, normalised to unit root mean square inside the generator.
        channel_base: level l has min(channel_base / 2**(l + 1), channel_max) channels.
        channel_max: upper limit of that rule (thesis: 1024 and 128).
        channels: explicit widths, one per level; replaces the rule.
        frame_plan: frames at each level: `thesis`, `code`, or `auto` (code up to 128 px, thesis at
            256 px, and doublings spread over the levels for lengths that neither lists).
        frames: explicit frames, one per level; replaces the plan.
        downsample: order of the discriminator's convolution, pooling and activation.
        head: last layer of the discriminator.
        head_blocks: blocks of projections of a sliced Wasserstein head.
        head_keeps_signs: whether the projections of a sliced Wasserstein head keep their direction
            when they are made orthonormal again; in the authors' code they may flip.
        head_classes: what a class has under `projection` with a sliced Wasserstein head: a `vector`
            whose inner product with the encoding is added, as beside a linear head, or `dual`
            functions of its own.
        conditioning: how the discriminator uses labels of a labelled data set; `none` ignores them
            in both networks.
        label_input: how a label joins the latent: a learned `embedding`, both normalised to unit
            root mean square by themselves, or `one-hot`, both normalised as one vector (code of
            Karras et al. 2018).
        label_dim: length of a learned embedding.
        group_size: clips over which the minibatch standard deviation is taken.
        spectral_norm: divide the discriminator's weights by their spectral norm.
        fast: use the resampling convolutions in their fast, equal form.
    """

    NAME: ClassVar[str] = "pvgan"
    DIFFERENCES: ClassVar[tuple[str, ...]] = (
        "toRGB is linear; table A.1 lists an activation there, the authors' code has none.",
        (
            "The second convolution of the 64-channel block is 64 -> 64 (110,656 parameters; the "
            "table prints twice that), and table A.2 is read as the mirror of A.1: its shape "
            "column is a copy of the generator's."
        ),
        (
            "Downsampling averages before the activation (`conv-pool-act`, the authors' code); "
            "`conv-act-pool` is the order the table prints."
        ),
        "Reals fade only along the axes that grow at the level.",
        "Clips of one frame get 2-D kernels (1x3x3), which is the image model of Karras et al.",
        (
            "Class conditioning is ours (the thesis names it as future work): a learned label "
            "embedding, normalised by itself, joins the normalised latent (`label_input`), and "
            "the discriminator has an inner product with a class vector (`projection`; a sliced "
            "head may have dual functions of every class instead) or a classifier (`auxiliary`)."
        ),
    )

    latent: Latent = 128
    channel_base: Annotated[int, Range(1, 1 << 20)] = 1024
    channel_max: Width = 128
    channels: Annotated[tuple[int, ...] | None, Range(1, 65_536)] = None
    frame_plan: Literal["auto", "thesis", "code"] = "auto"
    frames: Annotated[tuple[int, ...] | None, Range(1, 65_536)] = None
    downsample: Literal["conv-pool-act", "conv-act-pool"] = "conv-pool-act"
    head: Literal["linear", "sliced_wasserstein"] = "linear"
    head_blocks: Annotated[int, Range(1, 64)] = 1
    head_keeps_signs: bool = True
    head_classes: Literal["vector", "dual"] = "vector"
    conditioning: Literal["projection", "auxiliary", "none"] = "projection"
    label_input: Literal["embedding", "one-hot"] = "embedding"
    label_dim: Width = 32
    group_size: Width = 4
    spectral_norm: bool = False
    fast: bool = True

    def levels(self, clip_shape: ClipShape) -> tuple[LevelShape, ...]:
        """Frames and resolution of every level, 4 px first."""
        return plan_levels(clip_shape, self.frame_plan, self.frames)

    def widths(self, num_levels: int) -> tuple[int, ...]:
        """Channels of every level."""
        if self.channels is None:
            return tuple(
                min(self.channel_base // 2 ** (level + 1), self.channel_max)
                for level in range(num_levels)
            )
        if len(self.channels) != num_levels:
            raise UserError(
                f"model.channels lists {len(self.channels)} widths but the clip size needs "
                f"{num_levels}, one per level from 4 px up"
            )
        return self.channels

    def build(self, clip_shape: ClipShape, num_classes: int = 0) -> GAN:
        has_duals = self.head == "sliced_wasserstein" and self.conditioning == "projection"
        if self.head_classes == "dual" and not has_duals:
            raise UserError(
                "model.head_classes=dual needs dual functions and labels that choose among them; "
                "set loss.name=swgan and model.conditioning=projection, or leave it out"
            )
        levels = self.levels(clip_shape)
        classes = 0 if self.conditioning == "none" else num_classes
        return GrowingGAN(
            generator=ProgressiveGenerator(self, levels, clip_shape.channels, classes),
            discriminators={
                "discriminator": ProgressiveDiscriminator(
                    self, levels, clip_shape.channels, classes
                )
            },
            levels=levels,
        )


def kernel_frames(levels: tuple[LevelShape, ...]) -> int:
    """Frames under a kernel: 3, or 1 where clips are single frames, which makes it 2-D."""
    return 1 if levels[-1].frames == 1 else 3


# ------------------------------------------------------------------------------------------------
# Generator (thesis table A.1)


class FirstBlock(nn.Module):
    """Latent to features at 4x4 px: linear, bias per channel, then one convolution."""

    def __init__(self, in_dim: int, channels: int, num_frames: int, kernel_frames: int) -> None:
        super().__init__()
        self.shape = (channels, num_frames, BASE_RESOLUTION, BASE_RESOLUTION)
        # Gain sqrt(2) / 4 instead of sqrt(2): Karras et al. 2018, official code.
        num_units = channels * num_frames * BASE_RESOLUTION**2
        self.linear = ScaledLinear(in_dim, num_units, gain=2**0.5 / 4, bias=False)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.conv = ScaledConv3d(channels, channels, kernel_frames=kernel_frames)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.linear(latent).unflatten(1, self.shape)  # [B, C, T0, 4, 4]
        # Channels last: twice as fast in narrow layers, no slower in wide ones.
        x = x.contiguous(memory_format=torch.channels_last_3d)
        x = leaky_pixel_norm(x + self.bias[:, None, None, None].to(x.dtype))
        return leaky_pixel_norm(self.conv(x))  # [B, C, T0, 4, 4]


class UpBlock(nn.Module):
    """Features of one level to features of the next."""

    def __init__(
        self, in_channels: int, channels: int, factor: Factor, fast: bool, kernel_frames: int
    ) -> None:
        super().__init__()
        self.up = UpsampleConv3d(in_channels, channels, factor, fast, kernel_frames)
        self.conv = ScaledConv3d(channels, channels, kernel_frames=kernel_frames)

    def forward(self, x: Tensor) -> Tensor:
        x = leaky_pixel_norm(self.up(x))  # [B, C, T or 2T, 2H, 2W]
        return leaky_pixel_norm(self.conv(x))


class ProgressiveGenerator(Generator):
    """Latents `[B, Z]` to clips `[B, C, T, H, W]` of the current stage's size."""

    def __init__(
        self,
        config: ProgressiveConfig,
        levels: tuple[LevelShape, ...],
        channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        widths = config.widths(len(levels))
        self.levels = levels
        self.factors = growth_factors(levels)
        self.num_classes = num_classes
        self.latent_length = config.latent
        in_dim = config.latent
        self.one_hot = config.label_input == "one-hot"
        if num_classes and not self.one_hot:
            self.label_embedding = nn.Parameter(torch.randn(num_classes, config.label_dim))
        if num_classes:
            in_dim += num_classes if self.one_hot else config.label_dim
        taps = kernel_frames(levels)
        blocks: list[nn.Module] = [FirstBlock(in_dim, widths[0], levels[0].frames, taps)]
        for level in range(1, len(levels)):
            factor = self.factors[level]
            blocks.append(UpBlock(widths[level - 1], widths[level], factor, config.fast, taps))
        self.blocks = nn.ModuleList(blocks)
        self.to_rgb = nn.ModuleList(
            ScaledConv3d(width, channels, kernel_size=1, gain=1.0) for width in widths
        )

    def latent_dim(self, num_frames: int | None = None) -> int:
        self.check_frames(num_frames, self.stage.frames)
        return self.latent_length

    def set_stage(self, stage: Stage) -> None:
        self.stage = stage
        train_only(self.blocks, range(stage.level + 1))
        train_only(self.to_rgb, heads_in_use(stage))

    def parts(
        self,
        latent: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        num_frames: int | None = None,
    ) -> dict[str, Tensor]:
        level = self.stage.level
        self.check_frames(num_frames, self.stage.frames)
        self.check_labels(labels)

        # Blocks up to the current level.
        x = previous = self.join(latent, labels)  # [B, Z], longer with labels
        for block in self.blocks[: level + 1]:
            previous, x = x, block(x)  # [B, C, T, H, W]
        clip: Tensor = self.to_rgb[level](x)  # [B, 3, T, H, W]

        # Fade: blend with the previous level's clip, enlarged.
        def old_clip() -> Tensor:
            return upsample_clip(self.to_rgb[level - 1](previous), self.factors[level])

        return {"clip": fade_in(old_clip, clip, self.stage)}

    def join(self, latent: Tensor, labels: Tensor | None) -> Tensor:
        """The normalised latent `[B, Z]`, with labels `[B, Z + label_dim]` or `[B, Z + N]`."""
        if labels is None:
            return pixel_norm(latent)
        if self.one_hot:
            classes = F.one_hot(labels, self.num_classes).to(latent.dtype)
            return pixel_norm(torch.cat([latent, classes], dim=1))
        # Each is normalised by itself, so that a growing embedding cannot dominate the latent.
        embedding = pixel_norm(self.label_embedding[labels])
        return torch.cat([pixel_norm(latent), embedding], dim=1)


# ------------------------------------------------------------------------------------------------
# Discriminator (thesis table A.2, mirrored)


class DownBlock(nn.Module):
    """Features of one level to features of the level below."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        factor: Factor,
        config: ProgressiveConfig,
        kernel_frames: int,
    ) -> None:
        super().__init__()
        spectral = config.spectral_norm
        self.conv = ScaledConv3d(
            channels, channels, spectral_norm=spectral, kernel_frames=kernel_frames
        )
        self.down = ConvPool3d(
            channels,
            out_channels,
            factor,
            order=config.downsample,
            fast=config.fast,
            spectral_norm=spectral,
            kernel_frames=kernel_frames,
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(leaky_relu(self.conv(x)))  # [B, C', T or T/2, H/2, W/2]
        return y


class LastBlock(nn.Module):
    """Features at 4x4 px to an encoding `[B, F]`."""

    def __init__(
        self, channels: int, num_frames: int, config: ProgressiveConfig, kernel_frames: int
    ) -> None:
        super().__init__()
        num_units = channels * num_frames * BASE_RESOLUTION**2
        spectral = config.spectral_norm
        self.group_size = config.group_size
        self.conv = ScaledConv3d(
            channels + 1, channels, spectral_norm=spectral, kernel_frames=kernel_frames
        )
        self.linear = ScaledLinear(num_units, channels, spectral_norm=spectral)

    def forward(self, x: Tensor) -> Tensor:
        x = minibatch_stddev(x, self.group_size)  # [B, C + 1, T0, 4, 4]
        x = leaky_relu(self.conv(x))  # [B, C, T0, 4, 4]
        return leaky_relu(self.linear(x.flatten(1)))  # [B, C]


class ProgressiveDiscriminator(Discriminator):
    """Clips of the current stage's size to scores."""

    couples_batch = "group"

    def __init__(
        self,
        config: ProgressiveConfig,
        levels: tuple[LevelShape, ...],
        channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        widths = config.widths(len(levels))
        spectral = config.spectral_norm
        self.factors = growth_factors(levels)
        self.group_size = config.group_size
        self.conditioning = config.conditioning if num_classes else "none"
        self.from_rgb = nn.ModuleList(
            ScaledConv3d(channels, width, kernel_size=1, spectral_norm=spectral) for width in widths
        )
        taps = kernel_frames(levels)
        blocks: list[nn.Module] = [LastBlock(widths[0], levels[0].frames, config, taps)]
        for level in range(1, len(levels)):
            factor = self.factors[level]
            blocks.append(DownBlock(widths[level], widths[level - 1], factor, config, taps))
        self.blocks = nn.ModuleList(blocks)

        # The head: one number, or K learned projections; then what labels add.
        self.class_vectors = self.classifier = None
        projects = self.conditioning == "projection"
        is_dual = False
        if config.head == "sliced_wasserstein":
            is_dual = projects and config.head_classes == "dual"
            self.head: nn.Module = SlicedWassersteinHead(
                widths[0], config.head_blocks, num_classes * is_dual, config.head_keeps_signs
            )
        else:
            self.head = ScaledLinear(widths[0], 1, gain=1.0, spectral_norm=spectral)
        if projects and not is_dual:
            self.class_vectors = nn.Parameter(torch.randn(num_classes, widths[0]))
        if self.conditioning == "auxiliary":
            self.classifier = ScaledLinear(widths[0], num_classes, gain=1.0, spectral_norm=spectral)

    def set_stage(self, stage: Stage) -> None:
        self.stage = stage
        train_only(self.blocks, range(stage.level + 1))
        train_only(self.from_rgb, heads_in_use(stage))

    def encode(self, clip: Tensor) -> Tensor:
        """Clips of the stage's size to encodings `[B, F]`."""
        level = self.stage.level
        expected = (self.stage.frames, self.stage.resolution, self.stage.resolution)
        if tuple(clip.shape[2:]) != expected:
            raise ValueError(f"expected clips of (T, H, W) = {expected}, got {clip.shape[2:]}")

        clip = clip.contiguous(memory_format=torch.channels_last_3d)
        x = leaky_relu(self.from_rgb[level](clip))  # [B, C, T, H, W]
        if level > 0:
            x = self.blocks[level](x)  # [B, C', T or T/2, H/2, W/2]

            # Fade: blend with what the previous level would see of the shrunk clip.
            def old_features() -> Tensor:
                small = pool_clip(clip, self.factors[level])
                return leaky_relu(self.from_rgb[level - 1](small))

            x = fade_in(old_features, x, self.stage)
        for index in range(max(level - 1, 0), -1, -1):
            x = self.blocks[index](x)
        return x  # [B, F]

    def forward(
        self,
        clip: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        view: Tensor | None = None,
    ) -> Scores:
        labels = labels if self.conditioning == "projection" else None
        sliced = isinstance(self.head, SlicedWassersteinHead)
        head = partial(self.head, labels=labels) if sliced else self.head
        return class_conditional_scores(
            self.encode(clip), labels, head, self.class_vectors, self.classifier
        )

    def before_step(self) -> None:
        if isinstance(self.head, SlicedWassersteinHead):
            self.head.project_gradient()

    def after_step(self, step: int) -> None:
        if isinstance(self.head, SlicedWassersteinHead):
            self.head.retract()
        update_spectral_norms(self)
