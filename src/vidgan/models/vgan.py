"""VGAN: moving foreground, mask and static background; or a clip from its first frame.

Paper:
    C. Vondrick, H. Pirsiavash, A. Torralba, "Generating Videos with Scene Dynamics", NIPS 2016,
    arXiv:1609.02612 (sections 2 and 5; layers and settings as in the authors' published code).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vidgan.core.randomness import BatchRandom
from vidgan.core.settings import Latent, Width
from vidgan.models.base import (
    GAN,
    ClipShape,
    Discriminator,
    Generator,
    LevelShape,
    ModelConfig,
    Scores,
)
from vidgan.models.parts.dcgan import (
    BASE_RESOLUTION,
    Conv3d,
    ConvTranspose2d,
    ConvTranspose3d,
    SizePlan,
    at_least_float32,
    double2d,
    double3d,
    halve2d,
    halve3d,
    halvings,
    init_normal,
    plan_sizes,
)
from vidgan.models.parts.layers import leaky_relu
from vidgan.models.parts.norms import BatchNorm, NormKind, make_norm

LEAST_FRAMES = 2
WEIGHT_DEVIATION, SCALE_DEVIATION = 0.01, 0.02
"""Of initial convolutions and batch norm factors (authors' code)."""
DISCRIMINATOR_EPS = 1e-3
"""Of batch norm in the discriminator and the encoder (authors' code)."""


@dataclass(frozen=True, kw_only=True)
class VGANConfig(ModelConfig):
    """Settings of VGAN.

    Attributes:
        streams: 2 for foreground, mask and background, 1 for a foreground alone.
        condition: `first_frame` makes a clip from a given first frame, without a latent.
        latent: length of the latent.
        width: channels of the layers next to the clip, doubled at every halving of the side
            (64 in the paper; 128 in the authors' conditional networks).
        discriminator_norm: normalisation of the discriminator; gradient penalties need `layer` or
            `none`.
    """

    NAME: ClassVar[str] = "vgan"
    DIFFERENCES: ClassVar[tuple[str, ...]] = (
        (
            "The discriminator returns the difference of its two logits: two-way cross-entropy is "
            "binary cross-entropy on it (loss `bce`), and every other loss applies as well."
        ),
        (
            "The generator's step scores the fakes again with the updated discriminator; the "
            "authors reuse the scores from before the update (`training.order=generator_first` "
            "with `training.fakes=shared` does, see docs/models/vgan.md)."
        ),
        (
            "Sides of 8, 16, 32, ... px and any length of at least 2 frames: layers are added or "
            "left out, and lengths that cannot be halved so often stay the same in the layers at "
            "small sides."
        ),
        "`streams=1` is the paper's baseline without mask and background.",
    )

    streams: Literal[1, 2] = 2
    condition: Literal["none", "first_frame"] = "none"
    latent: Latent = 100
    width: Width = 64
    discriminator_norm: NormKind = "batch"

    def levels(self, clip_shape: ClipShape) -> tuple[LevelShape, ...]:
        plan_sizes(self.NAME, clip_shape, LEAST_FRAMES)
        return super().levels(clip_shape)

    def build(self, clip_shape: ClipShape, num_classes: int = 0) -> GAN:
        plan = plan_sizes(self.NAME, clip_shape, LEAST_FRAMES)
        return GAN(
            generator=VGANGenerator(self, plan, clip_shape),
            discriminators={"discriminator": VGANDiscriminator(self, plan, clip_shape)},
        )


# ------------------------------------------------------------------------------------------------
# Generator


class FrameEncoder(nn.Module):
    """A frame `[B, C, H, W]` to features `[B, F, 4, 4]`; no norm after the first layer."""

    def __init__(self, channels: int, widths: list[int]) -> None:
        super().__init__()
        self.first = halve2d(channels, widths[0])
        self.convs = nn.ModuleList(halve2d(a, b) for a, b in halvings(widths))
        self.norms = nn.ModuleList(BatchNorm(b, DISCRIMINATOR_EPS) for b in widths[1:])

    def forward(self, frame: Tensor) -> Tensor:
        x = torch.relu(self.first(frame))  # [B, F, H/2, W/2]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norm(conv(x)))  # down to [B, F, 4, 4]
        return x


class Background(nn.Module):
    """Features to one still image in [-1, 1]."""

    def __init__(self, config: VGANConfig, widths: list[int], channels: int) -> None:
        super().__init__()
        # An encoder's features have 4 px already; a latent has one.
        given = config.condition == "first_frame"
        self.first = (
            nn.Identity()
            if given
            else nn.Sequential(
                ConvTranspose2d(config.latent, widths[0], BASE_RESOLUTION),
                BatchNorm(widths[0]),
                nn.ReLU(),
            )
        )
        self.convs = nn.ModuleList(double2d(a, b) for a, b in halvings(widths))
        self.norms = nn.ModuleList(BatchNorm(b) for b in widths[1:])
        self.to_rgb = double2d(widths[-1], channels)

    def forward(self, features: Tensor) -> Tensor:
        x = self.first(features)  # [B, F, 4, 4]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norm(conv(x)))  # up to [B, F, H/2, W/2]
        return torch.tanh(self.to_rgb(x))  # [B, C, H, W]


class VGANGenerator(Generator):
    """Latents `[B, Z]`, or first frames `[B, C, 1, H, W]` as context, to clips."""

    couples_batch = "batch"

    def __init__(self, config: VGANConfig, plan: SizePlan, shape: ClipShape) -> None:
        super().__init__()
        self.num_frames = shape.frames
        given = config.condition == "first_frame"
        self.latent_length = 0 if given else config.latent
        self.context_frames = self.context_overlap = int(given)
        self.repeats_context = given

        # Foreground trunk; widths from 4 px up.
        widths = [config.width << i for i in reversed(range(len(plan.factors)))]
        if given:
            self.encoder = FrameEncoder(shape.channels, widths[::-1])
        in_channels, side = (widths[0], 1) if given else (config.latent, BASE_RESOLUTION)
        self.first = ConvTranspose3d(in_channels, widths[0], (plan.first_frames, side, side))
        *factors, last_factor = plan.factors
        self.convs = nn.ModuleList(
            double3d(a, b, factor) for (a, b), factor in zip(halvings(widths), factors, strict=True)
        )
        self.norms = nn.ModuleList(BatchNorm(width) for width in widths)

        # Heads and the background stream.
        self.to_foreground = double3d(widths[-1], shape.channels, last_factor)
        self.has_background = config.streams == 2
        if self.has_background:
            self.shows = ("mask", "foreground", "background")
            self.to_mask = double3d(widths[-1], 1, last_factor)
            self.background = Background(config, widths, shape.channels)
        init_normal(self, WEIGHT_DEVIATION, SCALE_DEVIATION)

    def latent_dim(self, num_frames: int | None = None) -> int:
        self.check_frames(num_frames, self.num_frames)
        return self.latent_length

    def make_context(self, real: Tensor, rng: BatchRandom) -> tuple[Tensor | None, Tensor]:
        return (real[:, :, :1] if self.context_frames else None), real

    def parts(
        self,
        latent: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        num_frames: int | None = None,
    ) -> dict[str, Tensor]:
        self.check_frames(num_frames, self.num_frames)
        self.check_labels(labels)

        # Both streams read the same features: [B, Z, 1, 1] or [B, F, 4, 4].
        if self.context_frames:
            features = self.encoder(self.check_context(context)[:, :, 0])
        else:
            features = latent[:, :, None, None]

        # Foreground.
        x = torch.relu(self.norms[0](self.first(features[:, :, None])))  # [B, F, T0, 4, 4]
        for conv, norm in zip(self.convs, self.norms[1:], strict=True):
            x = torch.relu(norm(conv(x)))  # up to [B, F, T/2, H/2, W/2]
        foreground = torch.tanh(self.to_foreground(x))  # [B, C, T, H, W]
        if not self.has_background:
            return {"clip": foreground}

        # The mask chooses, at every voxel, between foreground and the still background.
        mask = torch.sigmoid(self.to_mask(x))  # [B, 1, T, H, W]
        background = self.background(features)[:, :, None]  # [B, C, 1, H, W]
        return {
            "clip": compose(mask, foreground, background),
            "mask": mask,
            "foreground": foreground,
            "background": background.expand_as(foreground),
        }


def compose(mask: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
    """m f + (1 - m) b (Vondrick et al. 2016, eq. 2)."""
    return mask * foreground + (1 - mask) * background


# ------------------------------------------------------------------------------------------------
# Discriminator


class VGANDiscriminator(Discriminator):
    """Clips to the difference of two logits, real minus fake."""

    def __init__(self, config: VGANConfig, plan: SizePlan, shape: ClipShape) -> None:
        super().__init__()
        norm = config.discriminator_norm
        self.couples_batch = "batch" if norm == "batch" else "none"
        widths = [config.width << i for i in range(len(plan.factors))]
        first_factor, *factors = reversed(plan.factors)
        self.first = halve3d(shape.channels, widths[0], first_factor)
        self.convs = nn.ModuleList(
            halve3d(a, b, factor) for (a, b), factor in zip(halvings(widths), factors, strict=True)
        )
        self.norms = nn.ModuleList(make_norm(norm, b, DISCRIMINATOR_EPS) for b in widths[1:])
        kernel = (plan.first_frames, BASE_RESOLUTION, BASE_RESOLUTION)
        self.to_logits = Conv3d(widths[-1], 2, kernel)
        init_normal(self, WEIGHT_DEVIATION, SCALE_DEVIATION)

    def forward(
        self,
        clip: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        view: Tensor | None = None,
    ) -> Scores:
        x = leaky_relu(self.first(clip))  # [B, F, T/2, H/2, W/2]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = leaky_relu(norm(conv(x)))  # down to [B, F, T0, 4, 4]
        logits = at_least_float32(self.to_logits(x).flatten(1))  # [B, 2]: real, fake
        return Scores(logits[:, :1] - logits[:, 1:], encoding=x.flatten(1))
