"""iVGAN: one generator of clips from noise, a frame, a grey clip or a damaged clip.

Paper:
    B. Kratzwald, Z. Huang, D. P. Paudel, A. Dinesh, L. Van Gool, "Improving Video Generation for
    Multi-functional Applications", 2017, arXiv:1711.11453 (layers and settings as in the authors'
    published code where the paper is silent).
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from vidgan.core.clip_ops import to_grey
from vidgan.core.randomness import BatchRandom
from vidgan.core.settings import Latent, Range, Width
from vidgan.errors import UserError
from vidgan.models.base import (
    GAN,
    Box,
    ClipShape,
    Discriminator,
    Generator,
    LevelShape,
    ModelConfig,
    Scores,
)
from vidgan.models.parts.dcgan import (
    BASE_RESOLUTION,
    WEIGHTED,
    SizePlan,
    at_least_float32,
    double3d,
    halve2d,
    halve3d,
    halvings,
    plan_sizes,
)
from vidgan.models.parts.layers import leaky_relu
from vidgan.models.parts.norms import BatchNorm, NormKind, make_norm

LEAST_FRAMES = 2
NORM_EPS = 1e-3
BOX_SIDE, BOX_START = 20 / 64, 23 / 64
"""Side and first row and column of the box, as parts of the side: 20 px from 23 of 64."""
BOX_GREY = 0.0
"""The authors' code multiplies the box by 0."""
SALT_AND_PEPPER_SHARE = 0.25

Task = Literal["generate", "predict", "colorize", "inpaint"]
Damage = Literal["salt_and_pepper", "box", "moving_box"]


@dataclass(frozen=True, kw_only=True)
class IVGANConfig(ModelConfig):
    """Settings of iVGAN.

    Attributes:
        task: `generate` from a latent, `predict` from the first frame, `colorize` a grey clip, or
            `inpaint` a damaged one; the last three have no latent.
        damage: what `inpaint` repairs: a quarter of the pixels turned black or white, a grey box at
            a fixed place, or one at a place drawn for every clip.
        latent: length of the latent.
        width: channels of the layers next to the clip, doubled at every halving of the side.
        discriminator_norm: normalisation of the discriminator.
        norm_momentum: part of the generator's running statistics that one step replaces; 0.001 in
            the authors' code, too slow for runs of fewer than some thousand steps. The authors
            never read them: they sample with the statistics of a batch, as
            `training.standing_batches: 1` does.
    """

    NAME: ClassVar[str] = "ivgan"
    DIFFERENCES: ClassVar[tuple[str, ...]] = (
        (
            "An encoder's channels at 4 px are split into time steps; the authors' code reshapes "
            "memory instead, which moves image rows into the time axis."
        ),
        (
            "One optimizer step on the joint objective of the paper, adversarial loss plus "
            "weighted pixel loss; the authors' prediction code takes two steps with separate "
            "moments."
        ),
        (
            "Layer norm stays in the discriminator for every task (the paper finds it needed with "
            "pixel losses only); `discriminator_norm=none` leaves it out."
        ),
        (
            "Sides of 8, 16, 32, ... px and any length of at least 2 frames, as for VGAN; the box "
            "of the inpainting tasks scales with the side."
        ),
    )

    task: Task = "generate"
    damage: Damage = "salt_and_pepper"
    latent: Latent = 100
    width: Width = 64
    discriminator_norm: NormKind = "layer"
    norm_momentum: Annotated[float, Range(0, 1)] = 0.001

    def levels(self, clip_shape: ClipShape) -> tuple[LevelShape, ...]:
        plan_sizes(self.NAME, clip_shape, LEAST_FRAMES)
        if self.task == "colorize" and clip_shape.channels != 3:
            raise UserError(
                f"model.task=colorize needs clips of 3 channels, not {clip_shape.channels}"
            )
        return super().levels(clip_shape)

    def build(self, clip_shape: ClipShape, num_classes: int = 0) -> GAN:
        self.levels(clip_shape)
        plan = plan_sizes(self.NAME, clip_shape, LEAST_FRAMES)
        return GAN(
            generator=IVGANGenerator(self, plan, clip_shape),
            discriminators={"discriminator": IVGANDiscriminator(self, plan, clip_shape)},
        )


# ------------------------------------------------------------------------------------------------
# Generator


def shifted_norm(channels: int, momentum: float) -> BatchNorm:
    """Batch norm with an offset but no factor."""
    return BatchNorm(channels, NORM_EPS, momentum, scale=False)


class NoiseStart(nn.Module):
    """Latents `[B, Z]` to features `[B, F, T0, 4, 4]`."""

    def __init__(self, config: IVGANConfig, shape: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        self.linear = nn.Linear(config.latent, math.prod(shape))
        self.norm = shifted_norm(shape[0], config.norm_momentum)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.linear(latent).reshape(latent.shape[0], *self.shape)  # [B, F, T0, 4, 4]
        return torch.relu(self.norm(x))


class FrameStart(nn.Module):
    """Images `[B, C, 1, H, W]`, or grey clips as images of T channels, to features."""

    def __init__(
        self, config: IVGANConfig, in_channels: int, plan: SizePlan, out_channels: int
    ) -> None:
        super().__init__()
        self.num_frames = plan.first_frames
        widths = [config.width << i for i in range(1, len(plan.factors))]
        pairs = halvings([in_channels, *widths, self.num_frames * out_channels])
        self.convs = nn.ModuleList(halve2d(a, b) for a, b in pairs)
        self.norms = nn.ModuleList(shifted_norm(b, config.norm_momentum) for _, b in pairs)

    def forward(self, context: Tensor) -> Tensor:
        x = context.flatten(1, 2)  # [B, C, H, W] of an image, [B, T, H, W] of a grey clip
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norm(conv(x)))  # down to [B, T0 * F, 4, 4]
        split = x.reshape(x.shape[0], self.num_frames, -1, *x.shape[2:])  # [B, T0, F, 4, 4]
        return split.transpose(1, 2)  # [B, F, T0, 4, 4]


class ClipStart(nn.Module):
    """Clips `[B, C, T, H, W]` to features `[B, F, T0, 4, 4]`."""

    def __init__(self, config: IVGANConfig, in_channels: int, plan: SizePlan) -> None:
        super().__init__()
        factors = plan.factors[::-1]
        pairs = halvings([in_channels, *(config.width << i for i in range(len(factors)))])
        self.convs = nn.ModuleList(
            halve3d(a, b, factor) for (a, b), factor in zip(pairs, factors, strict=True)
        )
        self.norms = nn.ModuleList(shifted_norm(b, config.norm_momentum) for _, b in pairs)

    def forward(self, context: Tensor) -> Tensor:
        x = context
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norm(conv(x)))  # down to [B, F, T0, 4, 4]
        return x


class IVGANGenerator(Generator):
    """Latents `[B, Z]`, or the context of the task, to clips `[B, C, T, H, W]`."""

    couples_batch = "batch"

    def __init__(self, config: IVGANConfig, plan: SizePlan, shape: ClipShape) -> None:
        super().__init__()
        self.task, self.damage = config.task, config.damage
        self.num_frames = shape.frames
        self.latent_length = config.latent if config.task == "generate" else 0
        given = {"generate": 0, "predict": 1}.get(config.task, shape.frames)
        self.context_frames = self.context_overlap = given
        damaged = f"clips with {config.damage.replace('_', ' ')}"
        kinds = {"colorize": "grey clips", "inpaint": damaged}
        self.context_kind = kinds.get(config.task, Generator.context_kind)
        self.supports_mask = config.task == "inpaint"
        self.repeats_context = config.task == "predict"

        # The task's input, as features at 4 px.
        widths = [config.width << i for i in reversed(range(len(plan.factors)))]
        if config.task == "generate":
            shape_at_4px = (widths[0], plan.first_frames, BASE_RESOLUTION, BASE_RESOLUTION)
            self.start: nn.Module = NoiseStart(config, shape_at_4px)
        elif config.task == "inpaint":
            self.start = ClipStart(config, shape.channels, plan)
        else:
            in_channels = shape.channels if config.task == "predict" else shape.frames
            self.start = FrameStart(config, in_channels, plan, widths[0])

        # The decoder, the same for every task.
        *factors, last_factor = plan.factors
        self.convs = nn.ModuleList(
            double3d(a, b, factor) for (a, b), factor in zip(halvings(widths), factors, strict=True)
        )
        self.norms = nn.ModuleList(shifted_norm(b, config.norm_momentum) for b in widths[1:])
        self.to_rgb = double3d(widths[-1], shape.channels, last_factor)
        init_scaled(self)

    def latent_dim(self, num_frames: int | None = None) -> int:
        self.check_frames(num_frames, self.num_frames)
        return self.latent_length

    def make_context(self, real: Tensor, rng: BatchRandom) -> tuple[Tensor | None, Tensor]:
        if self.task == "predict":
            return real[:, :, :1], real
        if self.task == "colorize":
            return to_grey(real), real
        if self.task == "inpaint":
            return damage_clip(real, self.damage, rng), real
        return None, real

    def cover(self, real: Tensor, box: Box) -> Tensor:
        if not self.supports_mask:
            return super().cover(real, box)
        covered = real.clone()
        covered[..., box.y : box.y + box.height, box.x : box.x + box.width] = BOX_GREY
        return covered

    def parts(
        self,
        latent: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        num_frames: int | None = None,
    ) -> dict[str, Tensor]:
        self.check_frames(num_frames, self.num_frames)
        self.check_labels(labels)
        given = self.check_context(context) if self.context_frames else latent
        x = self.start(given)  # [B, F, T0, 4, 4]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norm(conv(x)))  # up to [B, F, T/2, H/2, W/2]
        return {"clip": torch.tanh(self.to_rgb(x))}  # [B, C, T, H, W]


def damage_clip(clip: Tensor, damage: Damage, rng: BatchRandom) -> Tensor:
    """A clip in [-1, 1] with noise or a grey box in it, each clip by its own draw."""
    num_frames, height, width = clip.shape[2:]
    if damage == "salt_and_pepper":
        # One draw for all colours of a pixel: below half the share black, up to the share white.
        draw = rng.uniform(1, num_frames, height, width)
        clip = clip.masked_fill(draw < SALT_AND_PEPPER_SHARE, 1.0)
        return clip.masked_fill(draw < SALT_AND_PEPPER_SHARE / 2, -1.0)
    side = max(1, round(BOX_SIDE * height))
    start = torch.full((len(clip), 2), round(BOX_START * height), device=clip.device)
    if damage == "moving_box":
        start = (rng.uniform(2) * (height - side + 1)).long()  # [B, 2]
    rows = torch.arange(height, device=clip.device) - start[:, :1]  # [B, H]
    columns = torch.arange(width, device=clip.device) - start[:, 1:]  # [B, W]
    in_rows, in_columns = ((x >= 0) & (x < side) for x in (rows, columns))
    box = in_rows[:, None, None, :, None] & in_columns[:, None, None, None, :]
    return clip.masked_fill(box, BOX_GREY)


# ------------------------------------------------------------------------------------------------
# Discriminator


class IVGANDiscriminator(Discriminator):
    """Clips to one score; every convolution but the last is normalised, the first one too."""

    def __init__(self, config: IVGANConfig, plan: SizePlan, shape: ClipShape) -> None:
        super().__init__()
        norm = config.discriminator_norm
        self.couples_batch = "batch" if norm == "batch" else "none"
        factors = plan.factors[::-1]
        pairs = halvings([shape.channels, *(config.width << i for i in range(len(factors)))])
        self.convs = nn.ModuleList(
            halve3d(a, b, factor) for (a, b), factor in zip(pairs, factors, strict=True)
        )
        self.norms = nn.ModuleList(make_norm(norm, b) for _, b in pairs)
        self.last = halve3d(pairs[-1][1], 1, 2)  # [B, 1, T0 / 2, 2, 2]
        self.to_score = nn.Linear(plan.first_frames // 2 * (BASE_RESOLUTION // 2) ** 2, 1)
        init_scaled(self)

    def forward(
        self,
        clip: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        view: Tensor | None = None,
    ) -> Scores:
        x = clip
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = leaky_relu(norm(conv(x)))  # down to [B, F, T0, 4, 4]
        last = leaky_relu(self.last(x))  # [B, 1, T0/2, 2, 2]
        score = self.to_score(last.flatten(1))  # [B, 1]
        return Scores(at_least_float32(score), encoding=x.flatten(1))


def init_scaled(network: nn.Module) -> None:
    """Draw convolutions uniformly with variance 4 / (fan in + fan out / stride), linear N(0, 0.01).

    The stride is the number of inputs that one output skips, 8 in three axes (authors' code).
    """
    for module in network.modules():
        if isinstance(module, WEIGHTED):
            taps = math.prod(module.kernel_size)
            fan_out = module.out_channels * taps / math.prod(module.stride)
            bound = math.sqrt(3 * 4 / (module.in_channels * taps + fan_out))
            nn.init.uniform_(module.weight, -bound, bound)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
