"""The discriminators of DVD-GAN: one for single frames, one for motion.

A. Clark, J. Donahue, K. Simonyan 2019, arXiv:1907.06571, section 3.2: D_S scores k frames of every
clip at full size, D_T scores all frames at half the height and width, so that together they see
fewer pixels than the clip has. Both are residual networks in the manner of A. Brock et al. 2019,
arXiv:1809.11096, with spectral normalisation and projection of the class.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.core.clip_ops import fold_time, pool_clip
from vidgan.models.base import Discriminator, Scores
from vidgan.models.parts.attention import FrameAttention
from vidgan.models.parts.convolution import out_of_autocast
from vidgan.models.parts.layers import Conv2d, Conv3d, Linear, update_spectral_norms

NUM_BLOCKS_3D = 2
"""Blocks of D_T, from the first, that are 3-D and halve the number of frames."""


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
        self.pool = (F.avg_pool3d if is_3d else F.avg_pool2d) if downsample else None
        layer = Conv3d if is_3d else Conv2d

        def conv(before: int, kernel_size: int) -> Conv3d:
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
        return x if self.pool is None else self.pool(x, 2)


class ResidualDiscriminator(Discriminator):
    """Residual network on frames, the first blocks on clips; scores are summed over frames.

    Args:
        in_channels: of a clip.
        widths: channels after each block; every block but the last halves the size.
        num_classes: 0 for unlabelled clips.
        num_blocks_3d: how many blocks, from the first, work on clips.
        spectral_norm: divide every weight by its spectral norm.
        attends: self-attention on frames after the first block that works on frames.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        num_classes: int,
        num_blocks_3d: int,
        spectral_norm: bool,
        attends: bool = False,
    ) -> None:
        super().__init__()
        self.num_blocks_3d = num_blocks_3d
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(
                before,
                after,
                downsample=index < len(widths) - 1,
                first=index == 0,
                is_3d=index < num_blocks_3d,
                spectral_norm=spectral_norm,
            )
            for index, (before, after) in enumerate(
                zip([in_channels, *widths[:-1]], widths, strict=True)
            )
        )

        def linear(rows: int, bias: bool) -> Linear:
            return Linear(
                widths[-1],
                rows,
                bias=bias,
                spectral_norm=spectral_norm,
                initialise=nn.init.orthogonal_,
            )

        self.score = linear(1, bias=True)
        self.class_vectors = linear(num_classes, bias=False) if num_classes else None
        self.attention = FrameAttention(widths[0], spectral_norm) if attends else None

    def score_clip(self, clip: Tensor, labels: Tensor | None) -> Scores:
        """Realness and mean features of clips `[B, C, T, H, W]`, all of whose frames count."""
        x, num_clips = clip, len(clip)
        for block in self.blocks[: self.num_blocks_3d]:
            x = block(x)
        x = fold_time(x)  # [B*T, C, H, W]
        for index, block in enumerate(self.blocks[self.num_blocks_3d :]):
            x = block(x)
            if self.attention is not None and index == 0:
                x = self.attention(x)
        # Scores are summed over frames and compared: keep them out of bfloat16.
        with out_of_autocast(x):
            x = F.relu(x.to(torch.promote_types(x.dtype, torch.float32))).sum(dim=(2, 3))
            features = x.reshape(num_clips, -1, x.shape[1])  # [B, T, F]
            scores = self.score(features).squeeze(2)  # [B, T]
            if self.class_vectors is not None and labels is not None:
                vectors = self.class_vectors.scaled_weight()[labels]  # [B, F]
                scores = scores + (features * vectors[:, None]).sum(dim=2)
            realness = scores.sum(dim=1, keepdim=True)
        return Scores(realness, encoding=features.mean(dim=1))

    def after_step(self, step: int) -> None:
        update_spectral_norms(self)


class SpatialDiscriminator(ResidualDiscriminator):
    """D_S: scores `num_seen` frames of each clip, drawn anew for every clip and step."""

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        num_classes: int,
        num_frames: int,
        num_seen: int,
        spectral_norm: bool = True,
        attends: bool = False,
    ) -> None:
        super().__init__(in_channels, widths, num_classes, 0, spectral_norm, attends)
        self.num_frames = num_frames
        self.num_seen = num_seen

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

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        num_classes: int,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__(in_channels, widths, num_classes, NUM_BLOCKS_3D, spectral_norm)

    def forward(
        self,
        clip: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        view: Tensor | None = None,
    ) -> Scores:
        return self.score_clip(pool_clip(clip, (1, 2, 2)), labels)
