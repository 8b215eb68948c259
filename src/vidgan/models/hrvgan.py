"""HRVGAN: 3-D convolutions up and down, for generation and prediction.

Paper:
    A. Sagar, "HRVGAN: High Resolution Video Generation using Spatio-Temporal GAN", 2020,
    arXiv:2008.09646.

The text names layers, losses and conditions but no widths, sizes or weights, and the code published
with it holds no networks. `HRVGANConfig` builds what the text says; `HRVGANRepoConfig` is the model
that the published code was cut from, the progressive GAN with the sliced Wasserstein loss.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.core.clip_ops import Factor
from vidgan.core.randomness import BatchRandom
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
)
from vidgan.models.parts.convolution import convolve
from vidgan.models.parts.growth import GrowingGAN, growth_factors, plan_levels
from vidgan.models.parts.layers import (
    ScaledConv3d,
    ScaledLinear,
    WeightLayer,
    leaky_relu,
)
from vidgan.models.parts.norms import BatchNorm
from vidgan.models.parts.sliced_head import class_conditional_scores
from vidgan.models.pvgan import (
    ProgressiveConfig,
    ProgressiveDiscriminator,
    ProgressiveGenerator,
)

initialise = partial(nn.init.normal_, std=0.02)


@dataclass(frozen=True, kw_only=True)
class HRVGANConfig(ModelConfig):
    """Settings of HRVGAN.

    Attributes:
        latent: length of the latent; 0 makes prediction deterministic.
        context_frames: frames given for prediction, 0 for generation. A clip of the data holds
            given and future frames together.
        code_dim: length of the code of the given frames.
        channels: widths from 4 px up; unset they are 128 and halve from 32 px on.
        conditioning: how the discriminator uses labels of a labelled data set; `none` ignores them
            in both networks.
    """

    NAME: ClassVar[str] = "hrvgan"
    DIFFERENCES: ClassVar[tuple[str, ...]] = (
        (
            "Widths, and the levels at which frames double, are those of the Progressive Video "
            "GAN, the only published geometry of this size (D. Acharya 2018, table A.1)."
        ),
        (
            "Generation starts from a latent and the one-hot class; prediction adds a code of the "
            "given frames, made by an encoder that mirrors the generator."
        ),
        "In prediction the discriminator sees given and generated frames as one clip.",
        (
            "The class reaches the discriminator as an inner product with its features, or it "
            "classifies."
        ),
        "The first and last layers of the discriminator are not normalised.",
        "Weights start from a normal distribution of standard deviation 0.02.",
    )

    latent: Latent = 128
    context_frames: Annotated[int, Range(0, 65_536)] = 0
    code_dim: Width = 128
    channels: Annotated[tuple[int, ...] | None, Range(1, 65_536)] = None
    conditioning: Literal["projection", "auxiliary", "none"] = "projection"

    def levels(self, clip_shape: ClipShape) -> tuple[LevelShape, ...]:
        _, num_frames, height, _ = clip_shape
        plan_levels(clip_shape, "auto")
        if not 0 <= self.context_frames < num_frames:
            raise UserError(
                f"model.context_frames={self.context_frames} must leave something to predict: "
                f"data.frames={num_frames} counts given and future frames together"
            )
        if self.latent < 1 and not self.context_frames:
            raise UserError(
                f"model.latent={self.latent} leaves nothing to generate from; set model.latent=128 "
                f"or give frames with model.context_frames"
            )
        self.widths(height)
        return super().levels(clip_shape)

    def widths(self, resolution: int) -> tuple[int, ...]:
        """Channels at 4, 8, ... px."""
        num_levels = (resolution // 4).bit_length()
        if self.channels is None:
            return tuple(min(1024 // 2 ** (level + 1), 128) for level in range(num_levels))
        if len(self.channels) != num_levels:
            raise UserError(
                f"model.channels lists {len(self.channels)} widths but clips of {resolution} px "
                f"need {num_levels}, one per size from 4 px up"
            )
        return self.channels

    def build(self, clip_shape: ClipShape, num_classes: int = 0) -> GAN:
        self.levels(clip_shape)
        classes = 0 if self.conditioning == "none" else num_classes
        return GAN(
            generator=HRVGenerator(self, clip_shape, classes),
            discriminators={"discriminator": HRVDiscriminator(self, clip_shape, classes)},
        )


class ResamplingConv3d(WeightLayer):
    """A convolution that halves every axis of `factor` 2, or a transposed one that doubles it."""

    def __init__(
        self, in_channels: int, out_channels: int, factor: Factor, transposed: bool = False
    ) -> None:
        # 4 taps on a halved or doubled axis, 3 on others: padding 1 suits both.
        kernel = [4 if scale == 2 else 3 for scale in factor]
        outer = [in_channels, out_channels] if transposed else [out_channels, in_channels]
        super().__init__(tuple(outer + kernel), out_channels, initialise=initialise)
        self.factor = factor
        self.transposed = transposed

    def forward(self, x: Tensor) -> Tensor:
        weight = self.scaled_weight()
        return convolve(x, weight, self.bias, self.factor, padding=1, transposed=self.transposed)


class InstanceNorm(nn.Module):
    """Normalise every channel of every clip over T, H and W, then scale and shift it."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        # On CPUs one group a channel takes many times as long where channels lie last.
        return F.group_norm(x.contiguous(), x.shape[1], self.weight, self.bias)


# ------------------------------------------------------------------------------------------------
# Generator


class FrameCodeEncoder(nn.Module):
    """Given frames `[B, C, T0, H, W]` to a code `[B, code_dim]`; convolution, BN, ReLU."""

    def __init__(self, config: HRVGANConfig, context: ClipShape) -> None:
        super().__init__()
        widths = config.widths(context.height)
        levels = plan_levels(context, "auto")
        layers: list[nn.Module] = [
            ScaledConv3d(context.channels, widths[-1], initialise=initialise),
            BatchNorm(widths[-1]),
            nn.ReLU(),
        ]
        for level in range(len(levels) - 1, 0, -1):
            before, after = widths[level], widths[level - 1]
            factor = growth_factors(levels)[level]
            layers += [ResamplingConv3d(before, after, factor), BatchNorm(after), nn.ReLU()]
        num_units = widths[0] * levels[0].frames * levels[0].resolution ** 2
        self.features = nn.Sequential(*layers)
        self.code = ScaledLinear(num_units, config.code_dim, initialise=initialise)

    def forward(self, context: Tensor) -> Tensor:
        features = self.features(context)  # [B, C, T0, 4, 4]
        code: Tensor = self.code(features.flatten(1))  # [B, code_dim]
        return code


class HRVGenerator(Generator):
    """Latents, one-hot labels and given frames to clips `[B, C, T, H, W]`."""

    couples_batch = "batch"

    def __init__(self, config: HRVGANConfig, clip_shape: ClipShape, num_classes: int) -> None:
        super().__init__()
        future = clip_shape._replace(frames=clip_shape.frames - config.context_frames)
        widths = config.widths(future.height)
        levels = plan_levels(future, "auto")
        self.num_frames = future.frames
        self.num_classes = num_classes
        self.latent_length = config.latent
        self.context_frames = config.context_frames
        in_dim = config.latent + num_classes
        if config.context_frames:
            self.encoder = FrameCodeEncoder(
                config, clip_shape._replace(frames=config.context_frames)
            )
            in_dim += config.code_dim

        # One block for each size: convolution, batch norm, ReLU.
        frames, resolution = levels[0]
        self.first_shape = (widths[0], frames, resolution, resolution)
        num_units = widths[0] * frames * resolution**2
        self.first = ScaledLinear(in_dim, num_units, initialise=initialise)
        self.first_norm = BatchNorm(widths[0])
        layers: list[nn.Module] = []
        for level in range(1, len(levels)):
            before, after = widths[level - 1], widths[level]
            factor = growth_factors(levels)[level]
            up = ResamplingConv3d(before, after, factor, transposed=True)
            layers += [up, BatchNorm(after), nn.ReLU()]
        self.blocks = nn.Sequential(*layers)
        self.to_rgb = ScaledConv3d(widths[-1], future.channels, initialise=initialise)

    def latent_dim(self, num_frames: int | None = None) -> int:
        self.check_frames(num_frames, self.num_frames)
        return self.latent_length

    def make_context(self, real: Tensor, rng: BatchRandom) -> tuple[Tensor | None, Tensor]:
        if not self.context_frames:
            return None, real
        return real[:, :, : self.context_frames], real[:, :, self.context_frames :]

    def parts(
        self,
        latent: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        num_frames: int | None = None,
    ) -> dict[str, Tensor]:
        self.check_labels(labels)
        self.check_frames(num_frames, self.num_frames)
        inputs = [latent]  # [B, Z]
        if labels is not None:
            inputs.append(F.one_hot(labels, self.num_classes).to(latent.dtype))  # [B, N]
        if self.context_frames:
            code = self.encoder(self.check_context(context))  # [B, code_dim]
            inputs.append(code.to(latent.dtype))
        elif context is not None:
            raise ValueError("this generator takes no context")

        x = self.first(torch.cat(inputs, dim=1)).unflatten(1, self.first_shape)  # [B, C, T0, 4, 4]
        x = F.relu(self.first_norm(x))
        x = self.blocks(x)  # [B, C, T, H, W]
        return {"clip": torch.tanh(self.to_rgb(x))}


# ------------------------------------------------------------------------------------------------
# Discriminator


class HRVDiscriminator(Discriminator):
    """Clips, given frames included, to scores: convolution, instance norm, leaky ReLU.

    Instance norm never lets one clip see another, so a gradient penalty on single clips is sound.
    """

    def __init__(self, config: HRVGANConfig, clip_shape: ClipShape, num_classes: int) -> None:
        super().__init__()
        widths = config.widths(clip_shape.height)
        levels = plan_levels(clip_shape, "auto")
        self.context_frames = config.context_frames
        self.conditioning = config.conditioning if num_classes else "none"
        self.from_rgb = ScaledConv3d(clip_shape.channels, widths[-1], initialise=initialise)
        convolutions, norms = [], []
        for level in range(len(levels) - 1, 0, -1):
            factor = growth_factors(levels)[level]
            convolutions.append(ResamplingConv3d(widths[level], widths[level - 1], factor))
            norms.append(InstanceNorm(widths[level - 1]))
        self.convolutions = nn.ModuleList(convolutions)
        self.norms = nn.ModuleList(norms)
        num_units = widths[0] * levels[0].frames * levels[0].resolution ** 2
        self.head = ScaledLinear(num_units, 1, initialise=initialise)
        self.class_vectors = self.classifier = None
        if self.conditioning == "projection":
            self.class_vectors = nn.Parameter(initialise(torch.empty(num_classes, num_units)))
        if self.conditioning == "auxiliary":
            self.classifier = ScaledLinear(num_units, num_classes, initialise=initialise)

    def forward(
        self,
        clip: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        view: Tensor | None = None,
    ) -> Scores:
        if self.context_frames:
            if context is None:
                raise ValueError("this discriminator needs the given frames that a clip continues")
            clip = torch.cat([context, clip], dim=2)  # [B, C, T0 + T, H, W]
        x = leaky_relu(self.from_rgb(clip))  # [B, C, T, H, W]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = leaky_relu(norm(convolution(x)))  # [B, C', T or T/2, H/2, W/2]
        return class_conditional_scores(
            x.flatten(1), labels, self.head, self.class_vectors, self.classifier
        )


# ------------------------------------------------------------------------------------------------
# The published code


@dataclass(frozen=True, kw_only=True)
class HRVGANRepoConfig(ProgressiveConfig):
    """The model behind the published code: the progressive GAN with the sliced head.

    The labels reach the generator alone, as the loss of that code has no term for them; there they
    are one-hot and normalised together with the latent, which `label_input=one-hot` makes so.
    """

    NAME: ClassVar[str] = "hrvgan_repo"
    ABOUT: ClassVar[str] = "HRVGAN as published code: the progressive GAN with the sliced head."
    DIFFERENCES = HRVGANConfig.DIFFERENCES

    head: Literal["linear", "sliced_wasserstein"] = "sliced_wasserstein"

    def build(self, clip_shape: ClipShape, num_classes: int = 0) -> GAN:
        levels, channels = self.levels(clip_shape), clip_shape.channels
        classes = 0 if self.conditioning == "none" else num_classes
        discriminator = ProgressiveDiscriminator(self, levels, channels, num_classes=0)
        return GrowingGAN(
            generator=ProgressiveGenerator(self, levels, channels, classes),
            discriminators={"discriminator": discriminator},
            levels=levels,
        )
