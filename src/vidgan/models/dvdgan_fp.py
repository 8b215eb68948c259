"""DVD-GAN-FP: DVD-GAN that continues given frames.

Paper:
    A. Clark, J. Donahue, K. Simonyan, "Adversarial Video Generation on Complex Datasets", 2019,
    arXiv:1907.06571 (version 2, section on frame-conditional DVD-GAN).

An encoder shaped like the frame discriminator looks at every given frame; its features at 4, 8, ...
px, side by side for all frames, become the initial states of the generator's GRUs. The temporal
discriminator sees given and generated frames as one clip without being told the boundary; the frame
discriminator sees only frames that were to be generated, of reals and fakes alike.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.core.clip_ops import fold_time
from vidgan.core.randomness import BatchRandom
from vidgan.core.settings import Width
from vidgan.errors import UserError
from vidgan.models.base import GAN, ClipShape, Scores
from vidgan.models.dvdgan import (
    DiscriminatorBlock,
    DVDGANConfig,
    DVDGenerator,
    SpatialDiscriminator,
    TemporalDiscriminator,
    by_clip,
    conv2d,
)


@dataclass(frozen=True, kw_only=True)
class DVDGANFPConfig(DVDGANConfig):
    """Settings of DVD-GAN-FP: those of DVD-GAN and one more.

    Attributes:
        context_frames: frames given; the rest of each clip of the data is to be generated.
    """

    NAME: ClassVar[str] = "dvdgan_fp"
    DIFFERENCES: ClassVar[tuple[str, ...]] = (
        "Widths of the encoder are those of the discriminators.",
        "The class is fixed in the paper; here labels of the data are not used at all.",
        (
            "A clip of the data holds both: `data.frames` is given plus future frames (16 for 5 "
            "and 11)."
        ),
    )

    context_frames: Width = 5

    def check_view(self, num_frames: int) -> None:
        """Refuse a split of the clip or a view that leaves nothing to predict or too little."""
        if not 1 <= self.context_frames < num_frames:
            raise UserError(
                f"model.context_frames={self.context_frames} must leave something to predict: "
                f"data.frames={num_frames} counts given and future frames together"
            )
        super().check_view(num_frames - self.context_frames)

    def build(self, clip_shape: ClipShape, num_classes: int = 0) -> GAN:
        self.levels(clip_shape)
        future = clip_shape._replace(frames=clip_shape.frames - self.context_frames)
        return GAN(
            generator=PredictingGenerator(self, future),
            discriminators={
                "spatial": SpatialDiscriminator(self, future, num_classes=0),
                "temporal": WholeClipDiscriminator(self, future, num_classes=0),
            },
        )


class ContextEncoder(nn.Module):
    """Given frames to one initial state for each scale of the generator, from 4 px up."""

    def __init__(
        self,
        in_channels: int,
        widths: list[int],
        state_widths: list[int],
        num_frames: int,
        spectral_norm: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(
                before, after, downsample=True, first=index == 0, spectral_norm=spectral_norm
            )
            for index, (before, after) in enumerate(pairwise([in_channels, *widths]))
        )
        # From 4 px up, as the generator has its scales.
        self.mixers = nn.ModuleList(
            conv2d(num_frames * width, state_width, spectral_norm=spectral_norm)
            for width, state_width in zip(reversed(widths), state_widths, strict=True)
        )

    def forward(self, context: Tensor) -> list[Tensor]:
        x = fold_time(context)  # [B*T0, C, H, W]
        features = []
        for block in self.blocks:
            x = block(x)  # [B*T0, C, H/2, W/2]
            features.append(by_clip(x, context.shape[0]).flatten(1, 2))  # [B, T0*C, H, W]
        return [
            F.relu(mixer(feature))  # [B, C, H, W]
            for mixer, feature in zip(self.mixers, reversed(features), strict=True)
        ]


class PredictingGenerator(DVDGenerator):
    """Latents and given frames to the frames that follow; in eval mode of any length."""

    def __init__(self, config: DVDGANFPConfig, future: ClipShape) -> None:
        super().__init__(config, future, num_classes=0)
        self.context_frames = config.context_frames
        # The last block of a discriminator stays at 4 px; the encoder does without it.
        self.encoder = ContextEncoder(
            future.channels,
            config.discriminator_widths(future.height)[:-1],
            config.generator_widths(future.height)[:-1],
            config.context_frames,
            config.generator_spectral_norm,
        )

    def initial_states(self, context: Tensor | None) -> list[Tensor | None]:
        """States that the encoder makes of the given frames, from 4 px up."""
        return [*self.encoder(self.check_context(context))]

    def make_context(self, real: Tensor, rng: BatchRandom) -> tuple[Tensor | None, Tensor]:
        return real[:, :, : self.context_frames], real[:, :, self.context_frames :]


class WholeClipDiscriminator(TemporalDiscriminator):
    """D_T of given and following frames as one clip."""

    def forward(
        self,
        clip: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        view: Tensor | None = None,
    ) -> Scores:
        if context is None:
            raise ValueError("this discriminator needs the given frames that a clip continues")
        return super().forward(torch.cat([context, clip], dim=2), labels)
