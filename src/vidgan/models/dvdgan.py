"""DVD-GAN: recurrent generator, one discriminator for frames and one for motion.

Papers:
    A. Clark, J. Donahue, K. Simonyan, "Adversarial Video Generation on Complex Datasets", 2019,
    arXiv:1907.06571 (version 2: a convolutional GRU before the residual blocks at every scale).
    A. Brock, J. Donahue, K. Simonyan, "Large Scale GAN Training for High Fidelity Natural Image
    Synthesis", ICLR 2019, arXiv:1809.11096 (blocks, conditional normalisation, projection).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.core.clip_ops import fold_time, pool_clip, unfold_time
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
from vidgan.models.parts.attention import FrameAttention, SeparableAttention
from vidgan.models.parts.convolution import convolve, full_precision
from vidgan.models.parts.dcgan import BASE_RESOLUTION, num_doublings
from vidgan.models.parts.layers import (
    ScaledConv2d,
    ScaledConv3d,
    ScaledLinear,
    update_spectral_norms,
)
from vidgan.models.parts.norms import TimeBatchNorm
from vidgan.models.parts.sliced_head import class_conditional_scores

GENERATOR_WIDTHS = {
    1: (4, 2),
    2: (8, 4, 2),
    3: (8, 8, 4, 2),
    4: (8, 8, 8, 4, 2),
    5: (8, 8, 8, 4, 2, 1),
    6: (8, 8, 8, 8, 4, 2, 1),
}
"""Doublings from 4 px to multiples of `channels` at 4, 8, ... px; 4 and 5 are the paper's."""
DISCRIMINATOR_WIDTHS = {
    1: (2, 2),
    2: (2, 4, 4),
    3: (2, 4, 8, 8),
    4: (2, 4, 8, 16, 16),
    5: (1, 2, 4, 8, 16, 16),
    6: (1, 2, 4, 8, 8, 16, 16),
}
"""Doublings to multiples of `channels` after each block; 4 and 5 are the paper's."""
NUM_BLOCKS_3D = 2
"""Blocks of D_T, from the first, that are 3-D and halve the number of frames."""


@dataclass(frozen=True, kw_only=True)
class DVDGANConfig(ModelConfig):
    """Settings of DVD-GAN.

    Attributes:
        latent: length of the latent.
        label_dim: length of the class embedding that joins the latent.
        channels: unit of all widths; unset it is 128 up to 64 px and 96 above, as in the paper.
        spatial_frames: frames k that the frame discriminator sees of each clip.
        spectral_norm: divide the discriminators' weights by their spectral norm.
        generator_spectral_norm: likewise for the generator.
        attention: `separable` attends to height, width and time before the generator's last block,
            which then makes clips of the trained length only.
        frame_attention: self-attention within frames in both discriminators, after the first block
            of the spatial one and after the 3-D blocks of the temporal one.
    """

    NAME: ClassVar[str] = "dvdgan"
    DIFFERENCES: ClassVar[tuple[str, ...]] = (
        "The GRUs of the synthesis model start from zero; the paper does not say.",
        "Each discriminator has a hinge of its own on its summed score.",
        (
            "No attention by default: version 2 does not say whether its discriminators kept that "
            "of Brock et al. `frame_attention` gives it to both. Of version 1 (one GRU at 4 px) "
            "the separable attention before the generator's last block is there (`attention`)."
        ),
        "Widths at 256 px repeat one entry of the lists for 128 px; below 64 px the lists are cut.",
        "Without labels the class embedding and the projection are left out.",
    )

    latent: Latent = 120
    label_dim: Width = 120
    channels: Annotated[int | None, Range(1, 65_536)] = None
    spatial_frames: Width = 8
    spectral_norm: bool = True
    generator_spectral_norm: bool = True
    attention: Literal["none", "separable"] = "none"
    frame_attention: bool = False

    def levels(self, clip_shape: ClipShape) -> tuple[LevelShape, ...]:
        _, num_frames, height, width = clip_shape
        sizes = [BASE_RESOLUTION * 2**n for n in GENERATOR_WIDTHS]
        if height != width or height not in sizes:
            raise UserError(
                f"{self.NAME} makes square clips of {', '.join(map(str, sizes))} px, not "
                f"{height}x{width}; set data.resolution to one of these"
            )
        if num_frames < 2**NUM_BLOCKS_3D:
            raise UserError(
                f"{self.NAME} needs clips of at least {2**NUM_BLOCKS_3D} frames, because its "
                f"temporal discriminator halves them twice; set data.frames={2**NUM_BLOCKS_3D}"
            )
        self.check_view(num_frames)
        return super().levels(clip_shape)

    def check_view(self, num_frames: int) -> None:
        """Refuse a frame discriminator that would look at more frames than are generated."""
        if not 1 <= self.spatial_frames <= num_frames:
            raise UserError(
                f"model.spatial_frames={self.spatial_frames} must lie in 1..{num_frames}, the "
                f"frames that {self.NAME} generates of each clip"
            )

    def unit_width(self, resolution: int) -> int:
        """Channels that the multiples of the width lists multiply."""
        if self.channels is not None:
            return self.channels
        return 128 if resolution <= 64 else 96

    def generator_widths(self, resolution: int) -> list[int]:
        """Channels at 4, 8, ... px."""
        multiples = GENERATOR_WIDTHS[num_doublings(resolution)]
        return [multiple * self.unit_width(resolution) for multiple in multiples]

    def discriminator_widths(self, resolution: int) -> list[int]:
        """Channels after each block."""
        multiples = DISCRIMINATOR_WIDTHS[num_doublings(resolution)]
        return [multiple * self.unit_width(resolution) for multiple in multiples]

    def build(self, clip_shape: ClipShape, num_classes: int = 0) -> GAN:
        self.levels(clip_shape)
        return GAN(
            generator=DVDGenerator(self, clip_shape, num_classes),
            discriminators={
                "spatial": SpatialDiscriminator(self, clip_shape, num_classes),
                "temporal": TemporalDiscriminator(self, clip_shape, num_classes),
            },
        )


def by_clip(frames: Tensor, num_clips: int) -> Tensor:
    """Frames `[B*T, C, H, W]`, clip-major, as `[B, T, C, H, W]`."""
    return frames.reshape(num_clips, -1, *frames.shape[1:])


def conv2d(
    in_channels: int, out_channels: int, kernel_size: int = 3, spectral_norm: bool = True
) -> ScaledConv2d:
    """A convolution of frames, orthogonal at the start."""
    return ScaledConv2d(
        in_channels,
        out_channels,
        kernel_size,
        spectral_norm=spectral_norm,
        initialise=nn.init.orthogonal_,
    )


def linear(in_features: int, out_features: int, bias: bool, spectral_norm: bool) -> ScaledLinear:
    """A fully connected layer, orthogonal at the start."""
    return ScaledLinear(
        in_features,
        out_features,
        bias=bias,
        spectral_norm=spectral_norm,
        initialise=nn.init.orthogonal_,
    )


# ------------------------------------------------------------------------------------------------
# Generator


class ConditionalBatchNorm(nn.Module):
    """Normalisation per time step, scaled and shifted by linear functions of the condition.

    y = (1 + A c) * normalize(x) + B c    (Brock et al. 2019, appendix B)
    """

    def __init__(
        self, num_frames: int, num_features: int, condition_dim: int, spectral_norm: bool
    ) -> None:
        super().__init__()
        self.normalize = TimeBatchNorm(num_frames, num_features)
        self.gain, self.shift = (
            linear(condition_dim, num_features, bias=False, spectral_norm=spectral_norm)
            for _ in range(2)
        )

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        # A clip's condition serves all its frames.
        gain = 1 + self.gain(condition)[:, None, :, None, None]  # [B, 1, C, 1, 1]
        shift = self.shift(condition)[:, None, :, None, None]  # [B, 1, C, 1, 1]
        y: Tensor = self.normalize(x) * gain + shift  # [B, T, C, H, W]
        return y


class ConvGRU(nn.Module):
    """Convolutional gated recurrent unit over the frames of features `[B, T, C, H, W]`.

    r = sigmoid(W_r * [h; x]),  u = sigmoid(W_u * [h; x]),  c = relu(W_c * [r h; x]),
    h' = u h + (1 - u) c,    with 3x3 convolutions W *.

    The input's part of the three convolutions does not depend on the state: it is computed for all
    frames at once.
    """

    def __init__(self, channels: int, spectral_norm: bool) -> None:
        super().__init__()
        self.reset, self.update, self.candidate = (
            conv2d(2 * channels, channels, spectral_norm=spectral_norm) for _ in range(3)
        )

    def forward(self, x: Tensor, num_frames: int, state: Tensor | None = None) -> Tensor:
        """States at every frame.

        Args:
            x: `[B, T, C, H, W]`, or `[B, 1, C, H, W]` for the same input at every frame.
            num_frames: T.
            state: `[B, C, H, W]` before the first frame; None is zero.
        """
        num_clips, _, channels = x.shape[:3]
        layers = (self.reset, self.update, self.candidate)
        (reset_h, reset_x), (update_h, update_x), (candidate_h, candidate_x) = (
            torch.split(layer.scaled_weight(), channels, dim=1) for layer in layers
        )
        gates_h = torch.cat([reset_h, update_h])
        all_x = torch.cat([reset_x, update_x, candidate_x])
        biases = torch.cat([layer.bias for layer in layers if layer.bias is not None])

        from_x = convolve(x.flatten(0, 1), all_x, biases, padding=1)  # [B*T or B, 3 C, H, W]
        from_x = by_clip(from_x, num_clips)  # [B, T or 1, 3 C, H, W]
        from_x = from_x.expand(-1, num_frames, -1, -1, -1)  # [B, T, 3 C, H, W]
        h = torch.zeros_like(x[:, 0]) if state is None else state  # [B, C, H, W]
        states = []
        for frame in from_x.unbind(1):
            gates_x, candidate = torch.split(frame, [2 * channels, channels], dim=1)
            gates = torch.sigmoid(gates_x + convolve(h, gates_h, None, padding=1))
            reset, update = gates.chunk(2, dim=1)  # [B, C, H, W] each
            new = F.relu(candidate + convolve(reset * h, candidate_h, None, padding=1))
            h = update * h + (1 - update) * new
            states.append(h)
        return torch.stack(states, dim=1)  # [B, T, C, H, W]


class GeneratorBlock(nn.Module):
    """Residual block on every frame of `[B, T, C, H, W]`, at the same size or twice as large."""

    def __init__(
        self,
        num_frames: int,
        in_channels: int,
        channels: int,
        condition_dim: int,
        upsample: bool,
        spectral_norm: bool,
    ) -> None:
        super().__init__()
        self.upsample = upsample
        self.norm1 = ConditionalBatchNorm(num_frames, in_channels, condition_dim, spectral_norm)
        self.conv1 = conv2d(in_channels, channels, spectral_norm=spectral_norm)
        self.norm2 = ConditionalBatchNorm(num_frames, channels, condition_dim, spectral_norm)
        self.conv2 = conv2d(channels, channels, spectral_norm=spectral_norm)
        self.shortcut = None
        if upsample or in_channels != channels:
            self.shortcut = conv2d(in_channels, channels, 1, spectral_norm)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        num_clips = x.shape[0]
        y = F.relu(self.norm1(x, condition)).flatten(0, 1)  # [B*T, C0, H, W]
        y = by_clip(self.conv1(self.resize(y)), num_clips)  # [B, T, C, 2H, 2W]
        y = F.relu(self.norm2(y, condition)).flatten(0, 1)  # [B*T, C, 2H, 2W]
        # A 1x1 convolution and nearest upsampling commute: convolve the smaller frames.
        shortcut = x.flatten(0, 1)
        shortcut = self.resize(shortcut if self.shortcut is None else self.shortcut(shortcut))
        return by_clip(self.conv2(y) + shortcut, num_clips)  # [B, T, C, 2H, 2W]

    def resize(self, frames: Tensor) -> Tensor:
        """Twice as large by nearest-neighbour upsampling, or as they are."""
        return F.interpolate(frames, scale_factor=2) if self.upsample else frames


class Scale(nn.Module):
    """The layers at one size: a GRU over time, a residual block, an upsampling block."""

    def __init__(
        self,
        num_frames: int,
        in_channels: int,
        channels: int,
        condition_dim: int,
        spectral_norm: bool,
        attends: bool = False,
    ) -> None:
        super().__init__()
        self.gru = ConvGRU(in_channels, spectral_norm)
        self.block = GeneratorBlock(
            num_frames, in_channels, in_channels, condition_dim, False, spectral_norm
        )
        self.attention = SeparableAttention(in_channels, spectral_norm) if attends else None
        self.up = GeneratorBlock(
            num_frames, in_channels, channels, condition_dim, True, spectral_norm
        )

    def forward(
        self, x: Tensor, condition: Tensor, num_frames: int, state: Tensor | None = None
    ) -> Tensor:
        x = self.gru(x, num_frames, state)  # [B, T, C0, H, W]
        x = self.block(x, condition)  # [B, T, C0, H, W]
        if self.attention is not None:
            x = self.attention(x)
        x = self.up(x, condition)  # [B, T, C, 2H, 2W]
        return x


class DVDGenerator(Generator):
    """Latents `[B, Z]` and labels to clips; in eval mode of any length."""

    couples_batch = "batch"
    supports_truncation = True

    def __init__(self, config: DVDGANConfig, clip_shape: ClipShape, num_classes: int) -> None:
        super().__init__()
        spectral = config.generator_spectral_norm
        widths = config.generator_widths(clip_shape.height)
        self.num_frames = clip_shape.frames
        self.any_length = config.attention == "none"
        self.num_classes = num_classes
        self.latent_length = config.latent
        condition_dim = config.latent
        if num_classes:
            self.label_embedding = nn.Parameter(torch.randn(num_classes, config.label_dim))
            condition_dim += config.label_dim
        self.first_shape = (1, widths[0], BASE_RESOLUTION, BASE_RESOLUTION)
        num_units = widths[0] * BASE_RESOLUTION**2
        self.first = linear(condition_dim, num_units, bias=True, spectral_norm=spectral)
        self.scales = nn.ModuleList(
            Scale(
                self.num_frames,
                before,
                after,
                condition_dim,
                spectral,
                attends=config.attention == "separable" and index == len(widths) - 2,
            )
            for index, (before, after) in enumerate(pairwise(widths))
        )
        self.last_norm = TimeBatchNorm(self.num_frames, widths[-1])
        self.last_gain = nn.Parameter(torch.ones(widths[-1]))
        self.last_shift = nn.Parameter(torch.zeros(widths[-1]))
        self.to_rgb = conv2d(widths[-1], clip_shape.channels, spectral_norm=spectral)

    def latent_dim(self, num_frames: int | None = None) -> int:
        if not self.any_length:
            self.check_frames(num_frames, self.num_frames)
        return self.latent_length

    def parts(
        self,
        latent: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        num_frames: int | None = None,
    ) -> dict[str, Tensor]:
        self.check_labels(labels)
        if not self.any_length:
            self.check_frames(num_frames, self.num_frames)
        num_frames = num_frames or self.num_frames
        states = self.initial_states(context)

        # Latent and class, for the first layer and every normalisation.
        condition = latent  # [B, Z]
        if labels is not None:
            condition = torch.cat([latent, self.label_embedding[labels]], dim=1)  # [B, Z + E]

        # The same input at every frame; the GRUs make it move.
        x = self.first(condition).unflatten(1, self.first_shape)  # [B, 1, C, 4, 4]
        for scale, state in zip(self.scales, states, strict=True):
            x = scale(x, condition, num_frames, state)  # [B, T, C, H, W], H doubled

        # To colours.
        x = self.last_norm(x) * self.last_gain[:, None, None] + self.last_shift[:, None, None]
        frames = torch.tanh(self.to_rgb(F.relu(x).flatten(0, 1)))  # [B*T, 3, H, W]
        return {"clip": unfold_time(frames, latent.shape[0])}

    def initial_states(self, context: Tensor | None) -> list[Tensor | None]:
        """State of each scale's GRU before the first frame, from 4 px up; None is zero."""
        if context is not None:
            raise ValueError("this generator takes no context")
        return [None] * len(self.scales)

    def after_step(self, step: int) -> None:
        update_spectral_norms(self)


# ------------------------------------------------------------------------------------------------
# Discriminators: together they see fewer pixels than a clip has (Clark et al. 2019, section 3.2)


class DiscriminatorBlock(nn.Module):
    """Residual block on frames or, if `is_3d`, on clips; it may halve every axis.

    (relu,) conv, relu, conv, average; the shortcut is averaged before its 1x1 convolution, which
    gives the same numbers as after it.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        downsample: bool,
        first: bool = False,
        is_3d: bool = False,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        self.first = first
        self.downsample, self.is_3d = downsample, is_3d
        layer = ScaledConv3d if is_3d else ScaledConv2d

        def conv(before: int, kernel_size: int) -> ScaledConv3d:
            return layer(
                before,
                channels,
                kernel_size,
                spectral_norm=spectral_norm,
                initialise=nn.init.orthogonal_,
            )

        self.conv1, self.conv2 = conv(in_channels, 3), conv(channels, 3)
        self.shortcut = conv(in_channels, 1) if downsample or in_channels != channels else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x if self.first else F.relu(x))
        y = self.halve(self.conv2(F.relu(y)))
        shortcut = self.halve(x)
        out: Tensor = y + (shortcut if self.shortcut is None else self.shortcut(shortcut))
        return out

    def halve(self, x: Tensor) -> Tensor:
        """Average over blocks of 2 along every axis, or leave as it is."""
        if not self.downsample:
            return x
        return pool_clip(x, (2, 2, 2)) if self.is_3d else F.avg_pool2d(x, 2)


class ResidualDiscriminator(Discriminator):
    """Residual network on frames, the first blocks on clips; scores are summed over frames.

    Args:
        config: settings of the model.
        clip_shape: of generated clips.
        num_classes: 0 for unlabelled clips.
        num_blocks_3d: how many blocks, from the first, work on clips.
    """

    def __init__(
        self, config: DVDGANConfig, clip_shape: ClipShape, num_classes: int, num_blocks_3d: int = 0
    ) -> None:
        super().__init__()
        widths = config.discriminator_widths(clip_shape.height)
        spectral = config.spectral_norm
        # Every block but the last halves the size.
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(
                before,
                after,
                downsample=index < len(widths) - 1,
                first=index == 0,
                is_3d=index < num_blocks_3d,
                spectral_norm=spectral,
            )
            for index, (before, after) in enumerate(pairwise([clip_shape.channels, *widths]))
        )
        self.num_blocks_3d = num_blocks_3d
        self.score = linear(widths[-1], 1, bias=True, spectral_norm=spectral)
        self.class_vectors = self.attention = None
        if num_classes:
            self.class_vectors = linear(widths[-1], num_classes, bias=False, spectral_norm=spectral)
        self.attention_at = max(num_blocks_3d, 1)
        if config.frame_attention:
            self.attention = FrameAttention(widths[self.attention_at - 1], spectral)

    def score_clip(self, clip: Tensor, labels: Tensor | None) -> Scores:
        """Realness and mean features of clips `[B, C, T, H, W]`, all of whose frames count."""
        x, num_clips = clip, len(clip)
        for block in self.blocks[: self.num_blocks_3d]:
            x = block(x)  # [B, C, T/2, H/2, W/2]
        x = fold_time(x)  # [B*T, C, H, W]
        for block in self.blocks[self.num_blocks_3d : self.attention_at]:
            x = block(x)
        if self.attention is not None:
            x = self.attention(x)
        for block in self.blocks[self.attention_at :]:
            x = block(x)  # [B*T, C, H/2, W/2]
        with full_precision(x) as x:
            features = F.relu(x).sum(dim=(2, 3))  # [B*T, F]
            num_frames = len(features) // num_clips
            vectors = None if self.class_vectors is None else self.class_vectors.scaled_weight()
            labels = None if labels is None else labels.repeat_interleave(num_frames)
            frames = class_conditional_scores(features, labels, self.score, vectors)
            realness = by_clip(frames.realness, num_clips).sum(dim=1)  # [B, 1]
            encoding = by_clip(features, num_clips).mean(dim=1)  # [B, F]
        return Scores(realness, encoding=encoding)

    def after_step(self, step: int) -> None:
        update_spectral_norms(self)


class SpatialDiscriminator(ResidualDiscriminator):
    """D_S: scores some frames of each clip at full size, drawn independently for every clip and
    step."""

    def __init__(self, config: DVDGANConfig, clip_shape: ClipShape, num_classes: int) -> None:
        super().__init__(config, clip_shape, num_classes)
        self.num_frames = clip_shape.frames
        self.num_seen = config.spatial_frames

    def draw_view(self, num_clips: int, rng: torch.Generator) -> Tensor:
        """Numbers of the frames to look at, ascending and without repeats, `[num_clips, k]`."""
        order = torch.rand(num_clips, self.num_frames, generator=rng).argsort(dim=1)
        return order[:, : self.num_seen].sort(dim=1).values

    def forward(
        self,
        clip: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        view: Tensor | None = None,
    ) -> Scores:
        if view is None:
            evenly = torch.linspace(0, clip.shape[2] - 1, self.num_seen, device=clip.device)
            view = evenly.round().long().expand(len(clip), -1)
        index = view[:, None, :, None, None].expand(-1, clip.shape[1], -1, *clip.shape[3:])
        return self.score_clip(clip.gather(2, index), labels)


class TemporalDiscriminator(ResidualDiscriminator):
    """D_T: scores whole clips at half their height and width; its first blocks are 3-D."""

    def __init__(self, config: DVDGANConfig, clip_shape: ClipShape, num_classes: int) -> None:
        super().__init__(config, clip_shape, num_classes, NUM_BLOCKS_3D)

    def forward(
        self,
        clip: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        view: Tensor | None = None,
    ) -> Scores:
        return self.score_clip(pool_clip(clip, (1, 2, 2)), labels)
