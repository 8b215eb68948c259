"""MoCoGAN: content drawn once a clip, motion as a path of a recurrent network, two discriminators.

Paper:
    S. Tulyakov, M.-Y. Liu, X. Yang, J. Kautz, "MoCoGAN: Decomposing Motion and Content for Video
    Generation", CVPR 2018, arXiv:1707.04993 (sections 3 and 4; layers as in the authors' code).
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.core.clip_ops import unfold_time, upsample_clip
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
    Stage,
)
from vidgan.models.parts.dcgan import (
    BASE_RESOLUTION,
    Conv2d,
    Conv3d,
    ConvTranspose2d,
    SizePlan,
    at_least_float32,
    double2d,
    growing_levels,
    halve2d,
    halvings,
    num_doublings,
    plan_sizes,
)
from vidgan.models.parts.growth import GrowingGAN, blend, fades, heads_in_use, train_only
from vidgan.models.parts.layers import RowNoise, leaky_relu, refuse_negative_noise
from vidgan.models.parts.norms import BatchNorm, NormKind, make_norm

Levels = tuple[LevelShape, ...]
GROWTH = (1, 2, 2)
"""What a level adds: twice the side, and no frames."""
LONGEST_KERNEL = 4
"""Frames under a kernel of the video discriminator."""


@dataclass(frozen=True, kw_only=True)
class MoCoGANConfig(ModelConfig):
    """Settings of MoCoGAN.

    Attributes:
        content: length of the content code.
        motion: length of the motion code and of the noise that drives it at every frame.
        width: channels of the layers next to the clip, doubled at every halving of the side.
        image_discriminator: `patch` scores patches of a frame, `full` the frame.
        video_discriminator: `categorical` scores clips and names their class, `patch` scores
            patches of a clip.
        conditioning: `categorical` uses the labels of a labelled data set, `none` ignores them.
        discriminator_norm: normalisation of both discriminators; gradient penalties need `layer`
            or `none`.
        categories: categories that the generator draws where there are no labels; 0 for none.
        noise: deviation of the noise before the discriminators' convolutions in training; 0.1 in
            the authors' recipes, 0 by default in their code.
        growing: train at small sides first and double them from level to level.
    """

    NAME: ClassVar[str] = "mocogan"
    DIFFERENCES: ClassVar[tuple[str, ...]] = (
        (
            "Labels of a labelled data set are the categories: the video discriminator's "
            "classifier learns from real clips (loss setting `class_clips: real`) and teaches the "
            "generator. Without labels the generator may draw `categories` of its own, and the "
            "classifier learns to name those of generated clips (X. Chen et al., InfoGAN, 2016, "
            "arXiv:1606.03657)."
        ),
        (
            "The image discriminator sees one frame of each clip, at a time drawn independently "
            "for every clip and update. The authors draw clips of its own for it, as the paper "
            "presets do (`training.discriminator_batch_size`), and make the picked frames alone."
        ),
        (
            "Noise before the discriminators' convolutions (`noise`) is off by default as in the "
            "authors' code, and stands where theirs does: before every convolution but the "
            "scoring one, and before that one too in the patch image discriminator. Row b of a "
            "pass gets the same noise in reals and fakes."
        ),
        (
            "Sides of 8, 16, 32, ... px and any length: the video discriminator's kernels are as "
            "long as the clip allows, at most 4 frames, and every place that the last one fits "
            "gives a score."
        ),
        (
            "Progressive growing (`growing`) is ours: sides grow from 8 px (16 px for patch "
            "discriminators) to the paper's networks. Clips have their full length from the "
            "start, and the first convolution of a lower level spans the frames of those that it "
            "stands for."
        ),
    )

    content: Width = 50
    motion: Width = 10
    width: Width = 64
    image_discriminator: Literal["patch", "full"] = "patch"
    video_discriminator: Literal["categorical", "patch"] = "categorical"
    conditioning: Literal["categorical", "none"] = "categorical"
    discriminator_norm: NormKind = "batch"
    categories: Annotated[int, Range(0, 65_536)] = 0
    noise: Annotated[float, Range(0, 100)] = 0.0
    growing: bool = False

    def levels(self, clip_shape: ClipShape) -> Levels:
        plan = plan_sizes(self.NAME, clip_shape, 1)
        refuse_negative_noise(self.noise)
        if self.categories and self.video_discriminator == "patch":
            raise UserError(
                f"model.categories={self.categories} needs a discriminator that names them; set "
                f"model.video_discriminator=categorical or model.categories=0"
            )
        if not self.growing:
            return super().levels(clip_shape)
        # A patch discriminator needs one convolution besides the one that scores.
        has_patches = "patch" in (self.image_discriminator, self.video_discriminator)
        still = SizePlan(clip_shape.frames, (1,) * len(plan.factors))
        return tuple(growing_levels(clip_shape, still, first=2 if has_patches else 1))

    def build(self, clip_shape: ClipShape, num_classes: int = 0) -> GAN:
        levels = self.levels(clip_shape)
        classes = 0 if self.conditioning == "none" else num_classes
        return GrowingGAN(
            generator=MoCoGANGenerator(self, levels, clip_shape, classes),
            discriminators={
                "image": ImageDiscriminator(self, levels, clip_shape),
                "video": VideoDiscriminator(self, levels, clip_shape, classes or self.categories),
            },
            levels=levels,
        )


# ------------------------------------------------------------------------------------------------
# Generator


class MoCoGANGenerator(Generator):
    """Latents `[B, Z]` (and labels `[B]`) to clips of any length.

    A latent row is the content code, the category if the generator draws one, the recurrent
    network's start, and its noise frame by frame.
    """

    couples_batch = "batch"
    motion_parts = ("start", "motion")

    def __init__(
        self, config: MoCoGANConfig, levels: Levels, shape: ClipShape, num_classes: int
    ) -> None:
        super().__init__()
        self.levels = levels
        self.num_frames = shape.frames
        self.num_classes = num_classes
        self.content, self.motion = config.content, config.motion
        self.categories = 0 if num_classes else config.categories
        self.frame_noise = {"motion": config.motion}
        self.recurrent = nn.GRUCell(config.motion, config.motion)

        # One image from each frame's code; no biases.
        widths = [config.width << i for i in reversed(range(num_doublings(shape.height)))]
        code_dim = config.content + (num_classes or self.categories) + config.motion
        self.first = ConvTranspose2d(code_dim, widths[0], BASE_RESOLUTION, bias=False)
        self.convs = nn.ModuleList(double2d(a, b, bias=False) for a, b in halvings(widths))
        self.norms = nn.ModuleList(BatchNorm(width) for width in widths)
        self.to_rgb = double2d(widths[-1], shape.channels, bias=False)
        below = widths[len(widths) - len(levels) : -1]
        self.lower_rgb = nn.ModuleList(double2d(w, shape.channels, bias=False) for w in below)

    def set_stage(self, stage: Stage) -> None:
        self.stage = stage
        self.num_convs = len(self.convs) - (len(self.levels) - 1 - stage.level)
        train_only(self.convs, range(self.num_convs))
        train_only(self.norms, range(self.num_convs + 1))
        train_only([*self.lower_rgb, self.to_rgb], heads_in_use(stage))

    @property
    def latent_parts(self) -> dict[str, slice]:
        fixed = self.content + self.categories
        parts = {
            "content": slice(0, self.content),
            "category": slice(self.content, fixed),
            "start": slice(fixed, fixed + self.motion),
            "motion": slice(fixed + self.motion, self.latent_dim()),
        }
        return {name: part for name, part in parts.items() if part.stop > part.start}

    def latent_dim(self, num_frames: int | None = None) -> int:
        steps = 1 + (num_frames or self.num_frames)
        return self.content + self.categories + self.motion * steps

    def category(self, latent: Tensor) -> Tensor:
        """The category `[B]` that a latent stands for: its largest number, so each is as likely."""
        return latent[:, self.content : self.content + self.categories].argmax(dim=1)

    def codes(
        self, latent: Tensor, labels: Tensor | None = None, num_frames: int | None = None
    ) -> Tensor:
        """Frame codes `[B, T, content + category + motion]`; only motion changes with time."""
        expected = self.latent_dim(num_frames)
        if latent.shape[1] != expected:
            raise ValueError(f"latents must have length {expected}, not {latent.shape[1]}")
        start = self.content + self.categories
        content = latent[:, : self.content]  # [B, content]
        state = latent[:, start : start + self.motion]  # [B, motion]
        noise = latent[:, start + self.motion :]  # [B, T * motion]
        path = []
        for drive in torch.split(noise, self.motion, dim=1):
            state = self.recurrent(drive, state)  # [B, motion]
            path.append(state)
        fixed = [content]
        if self.categories:
            labels = self.category(latent)
        if labels is not None:
            one_hot = F.one_hot(labels, self.num_classes or self.categories)
            fixed.append(one_hot.to(latent.dtype))
        still = torch.cat(fixed, dim=1)[:, None].expand(-1, len(path), -1)
        moving = torch.stack(path, dim=1).to(latent.dtype)  # [B, T, motion]
        return torch.cat([still, moving], dim=2)  # [B, T, content + category + motion]

    def parts(
        self,
        latent: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        num_frames: int | None = None,
    ) -> dict[str, Tensor]:
        self.check_labels(labels)
        codes = self.codes(latent, labels, num_frames)  # [B, T, content + category + motion]
        x = self.first(codes.flatten(0, 1)[:, :, None, None])  # [B * T, F, 4, 4], clip-major
        x = previous = torch.relu(self.norms[0](x))
        for conv, norm in zip(self.convs[: self.num_convs], self.norms[1:], strict=False):
            previous, x = x, torch.relu(norm(conv(x)))  # up to [B * T, F, H/2, W/2]
        parts = {"clip": self.colour(x, self.stage.level, latent.shape[0])}

        # Fade: blend with the previous level's clip, enlarged.
        if fades(self.stage):
            old = self.colour(previous, self.stage.level - 1, latent.shape[0])
            parts["clip"] = blend(upsample_clip(old, GROWTH), parts["clip"], self.stage.alpha)
        if self.categories:
            parts["category"] = self.category(latent)
        return parts

    def colour(self, features: Tensor, level: int, num_clips: int) -> Tensor:
        """Features `[B * T, F, H, W]` of a level, clip-major, to clips of twice the size."""
        to_rgb = [*self.lower_rgb, self.to_rgb][level]
        return unfold_time(torch.tanh(to_rgb(features)), num_clips)


# ------------------------------------------------------------------------------------------------
# Discriminators; no biases


class HalvingDiscriminator(Discriminator):
    """Convolutions that halve the side, from the side of the stage's clips on.

    The first convolution is the last level's; `lower_first` holds those of the levels below, each
    in the place of all convolutions down to the size that it makes.
    """

    stage: Stage

    def __init__(self, config: MoCoGANConfig, levels: Levels, is_patch: bool, height: int) -> None:
        super().__init__()
        self.levels = levels
        self.noise = config.noise
        self.couples_batch = "batch" if config.discriminator_norm == "batch" else "none"
        # A patch discriminator scores with the last convolution that would halve.
        num_convs = num_doublings(height) - is_patch
        self.widths = [config.width << i for i in range(num_convs)]
        self.norms = nn.ModuleList(
            # The first layer has none.
            nn.Identity() if i == 0 else make_norm(config.discriminator_norm, width)
            for i, width in enumerate(self.widths)
        )
        self.convs = nn.ModuleList()
        self.lower_first = nn.ModuleList()

    def set_stage(self, stage: Stage) -> None:
        self.stage = stage
        self.skipped = len(self.levels) - 1 - stage.level
        for modules in (self.convs, self.norms):
            train_only(modules, range(self.skipped + 1, len(self.convs)))
        train_only([*self.lower_first, *self.convs[:1]], heads_in_use(stage))

    def features(self, x: Tensor, disturb: RowNoise) -> Tensor:
        """Clips or frames `[B, C, ..., H, W]` to features of 4 px, or 8 px before patches."""
        stems = [*self.lower_first, *self.convs[:1]]
        level = self.stage.level
        y = x
        if stems:
            y = leaky_relu(stems[level](disturb(x)))  # [B, F, ..., H/2, W/2]
        for index in range(self.skipped + 1, len(self.convs)):
            conv, norm = self.convs[index], self.norms[index]
            y = leaky_relu(norm(conv(disturb(y))))  # half the side
            # Fade: blend with what the previous level would see of the shrunk clip.
            if index == self.skipped + 1 and fades(self.stage):
                small = F.interpolate(
                    x, scale_factor=[1.0] * (x.dim() - 4) + [0.5, 0.5], mode="area"
                )
                old = leaky_relu(stems[level - 1](disturb(small)))
                y = blend(old, y, self.stage.alpha)
        return y


class ImageDiscriminator(HalvingDiscriminator):
    """One frame of each clip to realness `[B, K]`; the view gives the frame's place `[B]`."""

    def __init__(self, config: MoCoGANConfig, levels: Levels, shape: ClipShape) -> None:
        is_patch = config.image_discriminator == "patch"
        super().__init__(config, levels, is_patch, shape.height)
        pairs = halvings([shape.channels, *self.widths])
        self.convs.extend(halve2d(a, b, bias=False) for a, b in pairs)
        last = [shape.channels, *self.widths][-1]
        self.is_patch = is_patch
        self.to_score = (
            halve2d(last, 1, bias=False)
            if is_patch
            else Conv2d(last, 1, BASE_RESOLUTION, bias=False)
        )
        for skipped in reversed(range(1, len(levels))):
            self.lower_first.append(halve2d(shape.channels, self.widths[skipped], bias=False))

    def draw_view(self, num_clips: int, rng: torch.Generator) -> Tensor | None:
        # A part of the clip's length, so that it serves clips of any length.
        return torch.rand(num_clips, generator=rng)

    def forward(
        self,
        clip: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        view: Tensor | None = None,
    ) -> Scores:
        disturb = RowNoise(self.noise, view)
        rows = torch.arange(len(clip), device=clip.device)
        frames = clip[rows, :, self.frame_of(clip, view)]  # [B, C, H, W]
        x = self.features(frames, disturb)  # [B, F, 8, 8] for patches, else [B, F, 4, 4]
        scores = self.to_score(disturb(x) if self.is_patch else x).flatten(1)  # [B, K]
        return Scores(at_least_float32(scores), encoding=x.flatten(1))

    def frame_of(self, clip: Tensor, view: Tensor | None) -> Tensor:
        """The number `[B]` of the frame to look at: the view's, or the middle one."""
        num_frames = clip.shape[2]
        if view is None:
            return torch.full((len(clip),), num_frames // 2, device=clip.device)
        # Rounding may bring a view just below 1 to the clip's end.
        return (view * num_frames).long().clamp_max(num_frames - 1)


class VideoDiscriminator(HalvingDiscriminator):
    """Clips to realness `[B, K]` and, with classes, logits `[B, N]`."""

    def __init__(
        self, config: MoCoGANConfig, levels: Levels, shape: ClipShape, num_classes: int
    ) -> None:
        is_patch = config.video_discriminator == "patch"
        super().__init__(config, levels, is_patch, shape.height)
        self.num_classes = 0 if is_patch else num_classes
        num_blocks = num_doublings(shape.height)
        length = min(LONGEST_KERNEL, 1 + (shape.frames - 1) // num_blocks)
        pairs = halvings([shape.channels, *self.widths])
        self.convs.extend(_halve_frames(a, b, length) for a, b in pairs)
        last = [shape.channels, *self.widths][-1]
        if is_patch:
            self.to_scores = _halve_frames(last, 1, length)
        else:
            left = shape.frames - num_blocks * (length - 1)
            kernel = (min(LONGEST_KERNEL, left), BASE_RESOLUTION, BASE_RESOLUTION)
            self.to_scores = Conv3d(last, 1 + self.num_classes, kernel, bias=False)
        for skipped in reversed(range(1, len(levels))):
            # As many frames under one kernel as under those of the layers that it stands for.
            reach = 1 + (skipped + 1) * (length - 1)
            stem = _halve_frames(shape.channels, self.widths[skipped], reach)
            self.lower_first.append(stem)

    def draw_view(self, num_clips: int, rng: torch.Generator) -> Tensor | None:
        return torch.rand(num_clips, generator=rng) if self.noise else None

    def forward(
        self,
        clip: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        view: Tensor | None = None,
    ) -> Scores:
        x = self.features(clip, RowNoise(self.noise, view))  # [B, F, T0, 4, 4], 8 px for patches
        scores = at_least_float32(self.to_scores(x).flatten(2))  # [B, 1 + N, K]
        logits = scores[:, 1:].mean(dim=2) if self.num_classes else None  # [B, N]
        return Scores(scores[:, 0], logits, encoding=x.flatten(1))


def _halve_frames(in_channels: int, out_channels: int, length: int) -> Conv3d:
    """Halve height and width; `length` frames under the kernel, none padded."""
    kernel, stride, padding = (length, 4, 4), (1, 2, 2), (0, 1, 1)
    return Conv3d(in_channels, out_channels, kernel, stride, padding, bias=False)
