"""TGAN: a temporal generator of frame codes, an image generator, a discriminator of bounded gain.

Paper:
    M. Saito, E. Matsumoto, S. Saito, "Temporal Generative Adversarial Nets with Singular Value
    Clipping", ICCV 2017, arXiv:1611.06624 (sections 3 and 4; layers as in the authors' code).
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.core.clip_ops import fold_time, pool_clip, unfold_time, upsample_clip
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
from vidgan.models.parts.dcgan import (
    BASE_RESOLUTION,
    WEIGHTED,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    SizePlan,
    at_least_float32,
    double2d,
    growing_levels,
    halve3d,
    halvings,
    plan_sizes,
)
from vidgan.models.parts.growth import (
    GrowingGAN,
    blend,
    fades,
    growth_factors,
    heads_in_use,
    train_only,
)
from vidgan.models.parts.layers import RowNoise, leaky_relu, refuse_negative_noise
from vidgan.models.parts.norms import BatchNorm, NormKind, make_norm

Levels = tuple[LevelShape, ...]

NORM_EPS = 2e-5
WEIGHT_BOUND = 0.01
"""Uniform initial weights lie within +- this (authors' code)."""


@dataclass(frozen=True, kw_only=True)
class TGANConfig(ModelConfig):
    """Settings of TGAN.

    Attributes:
        latent: length of the latent of a clip.
        frame_code: length of the code that the temporal generator makes for every frame.
        temporal_width: channels of the temporal generator's first layer, halved twice.
        image_width: channels of either half of the image generator's first layer, halved at every
            doubling of the side.
        width: channels of the discriminator's first layer, doubled at every halving of the side.
        conditioning: how labels of a labelled data set are used: `concat` appends a one-hot vector
            to the latent and one-hot channels to the discriminator's clips; `none` ignores them.
        init: initial weights of the temporal generator and the discriminator: `uniform` within
            +-0.01, or `lecun` for N(0, 1 / fan in); those of the image generator are uniform. The
            authors' commands use `lecun` for UCF-101 and `uniform` for Moving MNIST.
        discriminator_norm: normalisation of the discriminator; gradient penalties need `layer` or
            `none`.
        growing: train at 8 px first and double side and frames from level to level.
        noise: deviation of the noise on the discriminator's pre-activations in training (authors'
            code with the original loss: 0.3).
    """

    NAME: ClassVar[str] = "tgan"
    DIFFERENCES: ClassVar[tuple[str, ...]] = (
        "Latents are standard normal like everywhere here; the generator maps them to U(-1, 1).",
        (
            "The discriminator folds time into the batch clip by clip before its last layer and "
            "returns one score per remaining time step. The authors' code reshapes without moving "
            "the time axis, which is right for 16 frames only, where one step remains."
        ),
        "Clips lie in [-1, 1]; the authors scale to (x - 128) / 128.",
        "Sides of 8, 16, 32, ... px and any even number of frames.",
        "The discriminator's batch norm layers can be replaced for the use of a gradient penalty.",
        (
            "Progressive growing (`growing`) is ours: it starts at 8 px and as many frames as the "
            "discriminator's layers there leave, ends with the paper's networks, and passes every "
            "k-th frame code on while clips are shorter. Noise is added to the discriminator's "
            "pre-activations on request (`noise`), as the authors' code does in its variant with "
            "the original loss."
        ),
    )

    latent: Latent = 100
    frame_code: Width = 100
    temporal_width: Width = 512
    image_width: Width = 256
    width: Width = 64
    conditioning: Literal["concat", "none"] = "concat"
    init: Literal["uniform", "lecun"] = "uniform"
    discriminator_norm: NormKind = "batch"
    growing: bool = False
    noise: Annotated[float, Range(0, 100)] = 0.0

    def levels(self, clip_shape: ClipShape) -> tuple[LevelShape, ...]:
        plan = plan_sizes(self.NAME, clip_shape, 1)
        if clip_shape.frames % 2:
            raise UserError(
                f"tgan makes an even number of frames, not data.frames={clip_shape.frames}"
            )
        if self.temporal_width < 4 or self.image_width >> len(plan.factors) < 1:
            raise UserError(
                f"model.temporal_width={self.temporal_width} must be at least 4 and "
                f"model.image_width={self.image_width} at least {2 ** len(plan.factors)}"
            )
        refuse_negative_noise(self.noise)
        if self.growing:
            return tuple(growing_levels(clip_shape, plan))
        return super().levels(clip_shape)

    def build(self, clip_shape: ClipShape, num_classes: int = 0) -> GAN:
        levels = self.levels(clip_shape)
        plan = plan_sizes(self.NAME, clip_shape, 1)
        classes = 0 if self.conditioning == "none" else num_classes
        return GrowingGAN(
            generator=TGANGenerator(self, levels, plan, clip_shape, classes),
            discriminators={
                "discriminator": TGANDiscriminator(self, levels, plan, clip_shape, classes)
            },
            levels=levels,
        )


# ------------------------------------------------------------------------------------------------
# Generator


class TemporalGenerator(nn.Module):
    """Latents `[B, Z]` to frame codes `[B, Z1, T]` in (-1, 1)."""

    def __init__(self, config: TGANConfig, in_dim: int, num_frames: int) -> None:
        super().__init__()
        doublings = (num_frames & -num_frames).bit_length() - 1
        widths = [config.temporal_width >> min(i, 2) for i in range(doublings)]
        pairs = halvings([*widths, config.frame_code])
        self.first = ConvTranspose1d(in_dim, widths[0], num_frames >> doublings)
        self.convs = nn.ModuleList(ConvTranspose1d(a, b, 4, 2, 1) for a, b in pairs)
        self.norms = nn.ModuleList(BatchNorm(w, NORM_EPS, shift=False) for w in widths)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.first(latent[:, :, None])  # [B, F, T0], T0 the odd part of T
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(torch.relu(norm(x)))  # [B, F, T0 * 2**n]
        return torch.tanh(x)  # [B, Z1, T]


class ImageGenerator(nn.Module):
    """Latents `[B, Z]` and frame codes `[B, Z1, T]` to clips of the current stage's size."""

    stage: Stage

    def __init__(
        self, config: TGANConfig, levels: Levels, in_dim: int, num_blocks: int, channels: int
    ) -> None:
        super().__init__()
        self.levels = levels
        width = config.image_width
        num_units = width * BASE_RESOLUTION**2
        self.from_latent = nn.Linear(in_dim, num_units, bias=False)
        self.from_code = nn.Linear(config.frame_code, num_units, bias=False)
        self.latent_norm = BatchNorm(num_units, NORM_EPS)
        self.code_norm = BatchNorm(num_units, NORM_EPS)
        pairs = halvings([2 * width, *(width >> i for i in range(num_blocks))])
        self.convs = nn.ModuleList(double2d(a, b, bias=False) for a, b in pairs)
        self.norms = nn.ModuleList(BatchNorm(b, NORM_EPS) for _, b in pairs)
        self.to_rgb = ConvTranspose2d(pairs[-1][1], channels, 3, 1, 1)
        below = pairs[num_blocks - len(levels) : -1]
        self.lower_rgb = nn.ModuleList(ConvTranspose2d(b, channels, 3, 1, 1) for _, b in below)

    def set_stage(self, stage: Stage) -> None:
        """Activate what `stage` uses."""
        self.stage = stage
        self.num_blocks = len(self.convs) - (len(self.levels) - 1 - stage.level)
        for modules in (self.convs, self.norms):
            train_only(modules, range(self.num_blocks))
        train_only([*self.lower_rgb, self.to_rgb], heads_in_use(stage))

    def forward(self, latent: Tensor, codes: Tensor) -> Tensor:
        num_frames = codes.shape[2]

        # A clip's own half, the same for all its frames, and a half from each frame's code.
        own = torch.relu(self.latent_norm(self.from_latent(latent)))  # [B, F * 16]
        own = own.repeat_interleave(num_frames, dim=0)  # [B * T, F * 16], clip-major
        rows = codes.transpose(1, 2).flatten(0, 1)  # [B * T, Z1], clip-major
        each = torch.relu(self.code_norm(self.from_code(rows)))  # [B * T, F * 16]
        square = (rows.shape[0], -1, BASE_RESOLUTION, BASE_RESOLUTION)
        x = torch.cat([own.reshape(square), each.reshape(square)], dim=1)  # [B * T, 2 F, 4, 4]

        previous = x
        for conv, norm in zip(self.convs[: self.num_blocks], self.norms, strict=False):
            previous, x = x, torch.relu(norm(conv(x)))  # [B * T, F, H, W]
        num_clips = latent.shape[0]
        clip = self.colour(x, self.stage.level, num_clips)  # [B, C, T, H, W]

        # Fade: blend with the previous level's clip, enlarged.
        if fades(self.stage):
            factor = growth_factors(self.levels)[self.stage.level]
            old = self.colour(previous, self.stage.level - 1, num_clips)  # [B, C, T, H/2, W/2]
            old = old[:, :, :: factor[0]]  # as many frames as the previous level has
            clip = blend(upsample_clip(old, factor), clip, self.stage.alpha)
        return clip

    def colour(self, features: Tensor, level: int, num_clips: int) -> Tensor:
        """Features `[B * T, F, H, W]` of a level, clip-major, to clips."""
        to_rgb = [*self.lower_rgb, self.to_rgb][level]
        return unfold_time(torch.tanh(to_rgb(features)), num_clips)


class TGANGenerator(Generator):
    """Latents `[B, Z]` (and labels `[B]`) to clips `[B, C, T, H, W]`."""

    couples_batch = "batch"

    def __init__(
        self,
        config: TGANConfig,
        levels: Levels,
        plan: SizePlan,
        shape: ClipShape,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.num_frames = shape.frames
        self.num_classes = num_classes
        self.latent_length = config.latent
        in_dim = config.latent + num_classes
        self.temporal = TemporalGenerator(config, in_dim, shape.frames)
        self.image = ImageGenerator(config, levels, in_dim, len(plan.factors), shape.channels)
        init_weights(self.temporal, config.init)
        init_weights(self.image, "uniform")

    def set_stage(self, stage: Stage) -> None:
        self.stage = stage
        self.image.set_stage(stage)

    def latent_dim(self, num_frames: int | None = None) -> int:
        self.check_frames(num_frames, self.stage.frames)
        return self.latent_length

    def parts(
        self,
        latent: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        num_frames: int | None = None,
    ) -> dict[str, Tensor]:
        self.check_frames(num_frames, self.stage.frames)
        self.check_labels(labels)
        x = torch.erf(latent / math.sqrt(2))  # [B, Z], N(0, 1) to U(-1, 1)
        if labels is not None:
            one_hot = F.one_hot(labels, self.num_classes).to(x.dtype)
            x = torch.cat([x, one_hot], dim=1)  # [B, Z + N]
        codes = self.temporal(x)  # [B, Z1, all frames]
        codes = codes[:, :, :: self.num_frames // self.stage.frames]  # [B, Z1, T]
        return {"clip": self.image(x, codes)}  # [B, C, T, H, W]


# ------------------------------------------------------------------------------------------------
# Discriminator


class TGANDiscriminator(Discriminator):
    """Clips (and labels) to one score per time step that the convolutions leave, `[B, K]`."""

    def __init__(
        self,
        config: TGANConfig,
        levels: Levels,
        plan: SizePlan,
        shape: ClipShape,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.levels = levels
        self.noise = config.noise
        norm = config.discriminator_norm
        self.couples_batch = "batch" if norm == "batch" else "none"
        self.num_classes = num_classes
        widths = [config.width << i for i in range(len(plan.factors))]
        factors = plan.factors[::-1]
        in_channels = shape.channels + num_classes
        self.first = halve3d(in_channels, widths[0], factors[0])
        self.convs = nn.ModuleList(
            halve3d(a, b, factor)
            for (a, b), factor in zip(halvings(widths), factors[1:], strict=True)
        )
        self.norms = nn.ModuleList(make_norm(norm, b, NORM_EPS, shift=False) for b in widths[1:])
        self.to_score = Conv2d(widths[-1], 1, BASE_RESOLUTION)
        self.lower_first = nn.ModuleList(
            halve3d(in_channels, widths[skipped], factors[skipped])
            for skipped in reversed(range(1, len(levels)))
        )
        init_weights(self, config.init)

    def set_stage(self, stage: Stage) -> None:
        self.stage = stage
        self.skipped = len(self.levels) - 1 - stage.level
        for modules in (self.convs, self.norms):
            train_only(modules, range(self.skipped, len(self.convs)))
        train_only([*self.lower_first, self.first], heads_in_use(stage))

    def draw_view(self, num_clips: int, rng: torch.Generator) -> Tensor | None:
        return torch.rand(num_clips, generator=rng) if self.noise else None

    def forward(
        self,
        clip: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        view: Tensor | None = None,
    ) -> Scores:
        x = self.with_labels(clip, labels)
        disturb = RowNoise(self.noise, view)
        stems = [*self.lower_first, self.first]
        level = self.stage.level

        y = leaky_relu(disturb(stems[level](x)))  # [B, F, T/2, H/2, W/2]
        for index in range(self.skipped, len(self.convs)):
            conv, norm = self.convs[index], self.norms[index]
            y = leaky_relu(disturb(norm(conv(y))))  # down to [B, F, T0, 4, 4]
            # Fade: blend with what the previous level would see of the shrunk clip.
            if index == self.skipped and fades(self.stage):
                small = pool_clip(x, growth_factors(self.levels)[level])
                old = leaky_relu(disturb(stems[level - 1](small)))
                y = blend(old, y, self.stage.alpha)
        scores = self.to_score(fold_time(y))  # [B * T0, 1, 1, 1]
        return Scores(at_least_float32(scores.reshape(len(clip), -1)), encoding=y.flatten(1))

    def with_labels(self, clip: Tensor, labels: Tensor | None) -> Tensor:
        """Clips `[B, C + N, T, H, W]` with the label as one-hot channels, if there are classes."""
        if not self.num_classes:
            return clip
        if labels is None:
            raise ValueError(f"this discriminator needs labels 0..{self.num_classes - 1}")
        one_hot = F.one_hot(labels, self.num_classes).to(clip.dtype)
        planes = one_hot[:, :, None, None, None].expand(-1, -1, *clip.shape[2:])
        return torch.cat([clip, planes], dim=1)


def init_weights(network: nn.Module, init: Literal["uniform", "lecun"]) -> None:
    """Draw all weights uniformly or from N(0, 1 / fan in) (LeCun et al. 1998); biases are zero.

    As in the authors' framework, the fan in of a transposed convolution counts its outputs.
    """
    for module in network.modules():
        if isinstance(module, (*WEIGHTED, nn.Linear)):
            if init == "lecun":
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            else:
                nn.init.uniform_(module.weight, -WEIGHT_BOUND, WEIGHT_BOUND)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
