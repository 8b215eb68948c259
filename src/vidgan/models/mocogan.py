"""MoCoGAN: content drawn once a clip, motion as a path of a recurrent network, two discriminators.

Paper:
    S. Tulyakov, M.-Y. Liu, X. Yang, J. Kautz, "MoCoGAN: Decomposing Motion and Content for Video
    Generation", CVPR 2018, arXiv:1707.04993 (sections 3 and 4; layers as in the authors' code).

Differences from the paper:
    * Labels of a labelled data set are the categories: the video discriminator's classifier learns
      from real clips (loss setting `class_clips: real`) and teaches the generator. Without labels
      there are no categories (no InfoGAN term).
    * One batch serves both discriminators; the image discriminator sees one frame of each clip, at
      a time drawn anew for every clip and update. The authors draw further clips for it.
    * No noise layers inside the discriminators (off by default in the authors' code too).
    * Sides of 8, 16, 32, ... px and any length: the video discriminator's kernels are as long as
      the clip allows, at most 4 frames, and every place that the last one fits gives a score.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.clip_ops import unfold_time
from vidgan.models.base import (
    GAN,
    ClipShape,
    Discriminator,
    Generator,
    LevelShape,
    ModelConfig,
    Scores,
)
from vidgan.models.dcgan import (
    BASE_RESOLUTION,
    Conv2d,
    Conv3d,
    ConvTranspose2d,
    at_least_float32,
    double2d,
    halve2d,
    halvings,
    plan_sizes,
)
from vidgan.models.layers import leaky_relu
from vidgan.models.norms import BatchNorm, NormKind, make_norm

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
    """

    NAME: ClassVar[str] = "mocogan"

    content: int = 50
    motion: int = 10
    width: int = 64
    image_discriminator: Literal["patch", "full"] = "patch"
    video_discriminator: Literal["categorical", "patch"] = "categorical"
    conditioning: Literal["categorical", "none"] = "categorical"
    discriminator_norm: NormKind = "batch"

    def levels(self, clip_shape: ClipShape) -> tuple[LevelShape, ...]:
        plan_sizes(self.NAME, clip_shape, 1)
        return super().levels(clip_shape)

    def build(self, clip_shape: ClipShape, num_classes: int = 0) -> GAN:
        num_blocks = len(plan_sizes(self.NAME, clip_shape, 1).factors)
        classes = 0 if self.conditioning == "none" else num_classes
        return GAN(
            generator=MoCoGANGenerator(self, num_blocks, clip_shape, classes),
            discriminators={
                "image": ImageDiscriminator(self, num_blocks, clip_shape.channels),
                "video": VideoDiscriminator(self, num_blocks, clip_shape, classes),
            },
        )


# ------------------------------------------------------------------------------------------------
# Generator


class MoCoGANGenerator(Generator):
    """Latents `[B, Z]` (and labels `[B]`) to clips of any length.

    A latent row is the content code, the recurrent network's start, and its noise frame by frame.
    """

    couples_batch = "batch"

    def __init__(
        self, config: MoCoGANConfig, num_blocks: int, shape: ClipShape, num_classes: int
    ) -> None:
        super().__init__()
        self.num_frames = shape.frames
        self.num_classes = num_classes
        self.content, self.motion = config.content, config.motion
        self.frame_noise = {"motion": config.motion}
        self.recurrent = nn.GRUCell(config.motion, config.motion)

        # One picture from each frame's code; no biases.
        widths = [config.width << i for i in reversed(range(num_blocks))]
        code_dim = config.content + num_classes + config.motion
        self.first = ConvTranspose2d(code_dim, widths[0], BASE_RESOLUTION, bias=False)
        self.convs = nn.ModuleList(double2d(a, b, bias=False) for a, b in halvings(widths))
        self.norms = nn.ModuleList(BatchNorm(width) for width in widths)
        self.to_rgb = double2d(widths[-1], shape.channels, bias=False)

    @property
    def latent_parts(self) -> dict[str, slice]:
        start = self.content + self.motion
        return {
            "content": slice(0, self.content),
            "start": slice(self.content, start),
            "motion": slice(start, self.latent_dim()),
        }

    def latent_dim(self, num_frames: int | None = None) -> int:
        return self.content + self.motion * (1 + (num_frames or self.num_frames))

    def codes(
        self, latent: Tensor, labels: Tensor | None = None, num_frames: int | None = None
    ) -> Tensor:
        """Frame codes `[B, T, content + category + motion]`; only motion changes with time."""
        expected = self.latent_dim(num_frames)
        if latent.shape[1] != expected:
            raise ValueError(f"latents must have length {expected}, not {latent.shape[1]}")
        content, state, noise = latent.tensor_split(
            (self.content, self.content + self.motion), dim=1
        )
        path = []
        for drive in torch.split(noise, self.motion, dim=1):
            state = self.recurrent(drive, state)
            path.append(state)
        fixed = [content]
        if labels is not None:
            fixed.append(F.one_hot(labels, self.num_classes).to(latent.dtype))
        still = torch.cat(fixed, dim=1)[:, None].expand(-1, len(path), -1)
        return torch.cat([still, torch.stack(path, dim=1).to(latent.dtype)], dim=2)

    def parts(
        self,
        latent: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        num_frames: int | None = None,
    ) -> dict[str, Tensor]:
        self.check_labels(labels)
        codes = self.codes(latent, labels, num_frames)
        x = self.first(codes.flatten(0, 1)[:, :, None, None])  # [B * T, F, 4, 4], clip-major
        for norm, conv in zip(self.norms[:-1], self.convs, strict=True):
            x = conv(torch.relu(norm(x)))
        frames = torch.tanh(self.to_rgb(torch.relu(self.norms[-1](x))))
        return {"clip": unfold_time(frames, len(latent))}


# ------------------------------------------------------------------------------------------------
# Discriminators; no biases


class ImageDiscriminator(Discriminator):
    """One frame of each clip to realness `[B, K]`; the view is the frame's number `[B]`."""

    def __init__(self, config: MoCoGANConfig, num_blocks: int, channels: int) -> None:
        super().__init__()
        norm = config.discriminator_norm
        self.couples_batch = "batch" if norm == "batch" else "none"
        is_patch = config.image_discriminator == "patch"
        widths = [config.width << i for i in range(num_blocks - is_patch)]
        pairs = halvings([channels, *widths])
        self.convs = nn.ModuleList(halve2d(a, b, bias=False) for a, b in pairs)
        self.norms = nn.ModuleList(_norms(norm, widths))
        last = pairs[-1][1] if pairs else channels
        self.to_score = (
            halve2d(last, 1, bias=False)
            if is_patch
            else Conv2d(last, 1, BASE_RESOLUTION, bias=False)
        )

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
        x = clip[torch.arange(len(clip), device=clip.device), :, self.frame_of(clip, view)]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = leaky_relu(norm(conv(x)))
        return Scores(at_least_float32(self.to_score(x).flatten(1)), encoding=x.flatten(1))

    def frame_of(self, clip: Tensor, view: Tensor | None) -> Tensor:
        """The number `[B]` of the frame to look at: the view's, or the middle one."""
        num_frames = clip.shape[2]
        if view is None:
            return torch.full((len(clip),), num_frames // 2, device=clip.device)
        # Rounding may bring a view just below 1 to the clip's end.
        return (view * num_frames).long().clamp_max(num_frames - 1)


class VideoDiscriminator(Discriminator):
    """Clips to realness `[B, K]` and, with classes, logits `[B, N]`."""

    def __init__(
        self, config: MoCoGANConfig, num_blocks: int, shape: ClipShape, num_classes: int
    ) -> None:
        super().__init__()
        norm = config.discriminator_norm
        self.couples_batch = "batch" if norm == "batch" else "none"
        is_patch = config.video_discriminator == "patch"
        self.num_classes = 0 if is_patch else num_classes
        length = min(LONGEST_KERNEL, 1 + (shape.frames - 1) // num_blocks)
        widths = [config.width << i for i in range(num_blocks - is_patch)]
        pairs = halvings([shape.channels, *widths])
        self.convs = nn.ModuleList(_halve_frames(a, b, length) for a, b in pairs)
        self.norms = nn.ModuleList(_norms(norm, widths))
        last = pairs[-1][1] if pairs else shape.channels
        if is_patch:
            self.to_scores = _halve_frames(last, 1, length)
        else:
            left = shape.frames - num_blocks * (length - 1)
            kernel = (min(LONGEST_KERNEL, left), BASE_RESOLUTION, BASE_RESOLUTION)
            self.to_scores = Conv3d(last, 1 + self.num_classes, kernel, bias=False)

    def forward(
        self,
        clip: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        view: Tensor | None = None,
    ) -> Scores:
        x = clip
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = leaky_relu(norm(conv(x)))
        scores = at_least_float32(self.to_scores(x).flatten(2))  # [B, 1 + N, K]
        logits = scores[:, 1:].mean(dim=2) if self.num_classes else None
        return Scores(scores[:, 0], logits, encoding=x.flatten(1))


def _halve_frames(in_channels: int, out_channels: int, length: int) -> Conv3d:
    """Halve height and width; `length` frames under the kernel, none padded."""
    kernel, stride, padding = (length, 4, 4), (1, 2, 2), (0, 1, 1)
    return Conv3d(in_channels, out_channels, kernel, stride, padding, bias=False)


def _norms(kind: NormKind, widths: list[int]) -> list[nn.Module]:
    """Normalisations of the layers with these widths; the first layer has none."""
    return [nn.Identity() if i == 0 else make_norm(kind, w) for i, w in enumerate(widths)]
