"""A small 3-D convolutional classifier in the manner of C3D (Tran et al. 2015).

Differences from C3D: batch normalisation after every convolution, a width factor, a strided first
convolution in place of a full-resolution one with pooling, and as many stages as the clip's shape
needs, since an axis is halved only while its length is at least 4.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor, nn

ClipShape = tuple[int, int, int, int]
"""(C, T, H, W) of the clips that a network is built for."""

BASE_CHANNELS = 64
MAX_CHANNELS = 512
MIN_STAGES = 3
FEATURE_DIM = 128


class ClassifierOutput(NamedTuple):
    """What one pass gives: features `[B, F]` after their ReLU, and class logits `[B, N]`."""

    features: Tensor
    logits: Tensor


class ConvStage(nn.Module):
    """Convolution, batch normalisation, ReLU and a halving of the axes that are long enough."""

    def __init__(
        self, in_channels: int, out_channels: int, size: tuple[int, int, int], is_first: bool
    ) -> None:
        super().__init__()
        frames, height, width = size
        # The first stage keeps every frame, as in C3D: motion is told by small shifts.
        halve_time = not is_first and frames >= 4
        factor = (2 if halve_time else 1, 2 if height >= 4 else 1, 2 if width >= 4 else 1)
        self.out_size = (frames // factor[0], height // factor[1], width // factor[2])
        stride = factor if is_first else 1
        self.conv = nn.Conv3d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm3d(out_channels)
        self.pool: nn.Module = nn.Identity()
        if not is_first and factor != (1, 1, 1):
            self.pool = nn.MaxPool3d(factor)
        # oneDNN's bfloat16 weight gradient of a padded 3-tap convolution is garbage at depth 2
        # (measured on torch 2.13); such stages are small, so short ones stay in float32.
        self.needs_float32 = frames < 4

    def forward(self, clip: Tensor) -> Tensor:
        with ExitStack() as stack:
            if self.needs_float32:
                stack.enter_context(torch.autocast(clip.device.type, enabled=False))
                clip = clip.float()
            activation: Tensor = self.norm(self.conv(clip)).relu()
        pooled: Tensor = self.pool(activation)
        return pooled


class ClassHead(nn.Module):
    """Linear layer to class logits, with rows shared by classes that have a part in common.

    With parts such as the object and the motion of `<object>-<motion>` the logit of a class is the
    sum of its own row and of one row for each of its parts. Many classes then learn a part
    together: with 80 classes of 40 clips this doubled the share of digits named rightly.

    Args:
        feature_dim: F.
        num_classes: N.
        parts: for each part an int64 `[N]`, the part's index for every class.
    """

    def __init__(self, feature_dim: int, num_classes: int, parts: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.own = nn.Linear(feature_dim, num_classes)
        self.shared = nn.ModuleList(nn.Linear(feature_dim, int(p.max()) + 1) for p in parts)
        if parts:
            nn.init.zeros_(self.own.weight)
        for index, part in enumerate(parts):
            self.register_buffer(f"part{index}", part, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.own(features)
        for index, layer in enumerate(self.shared):
            logits = logits + layer(features)[:, self.get_buffer(f"part{index}")]
        return logits


class ClipClassifier(nn.Module):
    """C3D-like classifier of clips of one shape.

    Args:
        clip_shape: (C, T, H, W).
        num_classes: N.
        width: scale of the channel counts 64, 128, 256, 512, 512, ...
        feature_dim: F, length of the penultimate layer.
        dropout: share of features dropped before the last layer while training.
        parts: see `ClassHead`.
    """

    def __init__(
        self,
        clip_shape: ClipShape,
        num_classes: int,
        *,
        width: float = 0.25,
        feature_dim: int = FEATURE_DIM,
        dropout: float = 0.0,
        parts: Sequence[Tensor] = (),
    ) -> None:
        super().__init__()
        channels, *rest = clip_shape
        size = (rest[0], rest[1], rest[2])
        stages: list[ConvStage] = []
        while max(size[1:]) >= 4 or len(stages) < MIN_STAGES:
            out = max(4, round(width * min(MAX_CHANNELS, BASE_CHANNELS * 2 ** len(stages))))
            stages.append(ConvStage(channels, out, size, is_first=not stages))
            channels, size = out, stages[-1].out_size
        self.stages = nn.Sequential(*stages)
        self.features = nn.Linear(channels * size[0] * size[1] * size[2], feature_dim)
        self.dropout = nn.Dropout(dropout)
        self.logits = ClassHead(feature_dim, num_classes, parts)

    def forward(self, clip: Tensor) -> ClassifierOutput:
        """Classify a float clip `[B, C, T, H, W]` in [-1, 1]."""
        features = self.features(self.stages(clip).flatten(1)).relu()
        return ClassifierOutput(features, self.logits(self.dropout(features)))
