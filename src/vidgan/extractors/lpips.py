"""LPIPS of frames against ground truth, with weights that the user has converted.

It stands beside PSNR and SSIM, and like them compares two images of the same moment.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.core.clip_ops import fold_time, to_float
from vidgan.errors import UserError
from vidgan.extractors.extractor import exact_arithmetic
from vidgan.extractors.networks.inception import Shapes, scaled
from vidgan.extractors.weights.checking import load_into
from vidgan.extractors.weights.store import StoredWeights, load_weights, weights_path

# ------------------------------------------------------------------------------------------------
# LPIPS, a distance between two images (Zhang et al. 2018, arXiv 1801.03924, eq. 1; version 0.1).
#
# Both images go through AlexNet or VGG-16 of ImageNet. After each of five activations features
# are scaled to unit length at every place; squared differences are weighted by channel, averaged
# over places and added up. The channel weights were fitted to judgements of people. They belong to
# one backbone, so the distances of the two are on different scales.

Backbone = Literal["alex", "vgg"]

LENGTH_EPSILON = 1e-10
"""Added to the length of a feature vector before dividing, as version 0.1 does."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in 0..1, with which both backbones were trained."""


@dataclass(frozen=True)
class Conv:
    """A convolution with ReLU: its place in torchvision's `features`, and its sizes at width 1."""

    place: int
    c_in: int
    c_out: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1


@dataclass(frozen=True)
class BackboneStage:
    """What lies between two activations that are read: max pooling (kernel, stride), then convs."""

    pool: tuple[int, int] | None
    convs: tuple[Conv, ...]


BACKBONES: dict[str, tuple[BackboneStage, ...]] = {
    "alex": (
        BackboneStage(None, (Conv(0, 3, 64, 11, 4, 2),)),
        BackboneStage((3, 2), (Conv(3, 64, 192, 5, 1, 2),)),
        BackboneStage((3, 2), (Conv(6, 192, 384),)),
        BackboneStage(None, (Conv(8, 384, 256),)),
        BackboneStage(None, (Conv(10, 256, 256),)),
    ),
    "vgg": (
        BackboneStage(None, (Conv(0, 3, 64), Conv(2, 64, 64))),
        BackboneStage((2, 2), (Conv(5, 64, 128), Conv(7, 128, 128))),
        BackboneStage((2, 2), (Conv(10, 128, 256), Conv(12, 256, 256), Conv(14, 256, 256))),
        BackboneStage((2, 2), (Conv(17, 256, 512), Conv(19, 512, 512), Conv(21, 512, 512))),
        BackboneStage((2, 2), (Conv(24, 512, 512), Conv(26, 512, 512), Conv(28, 512, 512))),
    ),
}
"""AlexNet and VGG-16 down to the last activation that is read."""

MIN_SIDES = {"alex": 31, "vgg": 16}
"""Smallest side in pixels that leaves a cell after the last pooling."""


def backbone_shapes(backbone: str, width: float = 1.0) -> Shapes:
    """Name and shape of every weight of the features, named as torchvision does."""
    shapes: Shapes = {}
    for stage in BACKBONES[backbone]:
        for conv in stage.convs:
            c_in = conv.c_in if conv.c_in == 3 else scaled(conv.c_in, width)
            c_out = scaled(conv.c_out, width)
            shapes[f"features.{conv.place}.weight"] = (c_out, c_in, conv.kernel, conv.kernel)
            shapes[f"features.{conv.place}.bias"] = (c_out,)
    return shapes


def channel_shapes(backbone: str, width: float = 1.0) -> Shapes:
    """Name and shape of the five sets of channel weights."""
    stages = BACKBONES[backbone]
    return {
        f"lin{index}.weight": (1, scaled(stage.convs[-1].c_out, width), 1, 1)
        for index, stage in enumerate(stages)
    }


class LPIPS(nn.Module):
    """The distance; its weights must be loaded before use.

    Args:
        backbone: `alex` or `vgg`.
        width: scale of the channel counts; 1 is the published size.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: Backbone, *, width: float = 1.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.features = nn.ModuleDict()
        shapes = backbone_shapes(backbone, width)
        for stage in BACKBONES[backbone]:
            for conv in stage.convs:
                c_out, c_in = shapes[f"features.{conv.place}.weight"][:2]
                layer = nn.Conv2d(c_in, c_out, conv.kernel, conv.stride, conv.padding)
                self.features[str(conv.place)] = layer
        for name, shape in channel_shapes(backbone, width).items():
            self.add_module(name.removesuffix(".weight"), nn.Conv2d(shape[1], 1, 1, bias=False))
        # From [-1, 1] to the units of the backbone: (x - mean) / std of x in 0..1.
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        self.register_buffer("shift", (2 * mean - 1).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", (2 * std).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, truth: Tensor) -> Tensor:
        """Distances `[B]` of float images `[B, 3, H, W]` in [-1, 1]; 0 for equal ones."""
        total = torch.zeros(images.shape[0], device=images.device)
        pairs = zip(self.activations(images), self.activations(truth), strict=True)
        for index, (ours, theirs) in enumerate(pairs):
            gap = (unit_length(ours) - unit_length(theirs)).square()  # [B, C, H, W]
            total = total + self.get_submodule(f"lin{index}")(gap).mean(dim=(1, 2, 3))
        return total

    def activations(self, images: Tensor) -> list[Tensor]:
        """The five activations that are compared."""
        x, found = (images - self.shift) / self.scale, []
        for stage in BACKBONES[self.backbone]:
            if stage.pool is not None:
                x = F.max_pool2d(x, *stage.pool)
            for conv in stage.convs:
                x = self.features[str(conv.place)](x).relu()
            found.append(x)
        return found


def unit_length(features: Tensor) -> Tensor:
    """Features `[B, C, H, W]` over their length along the channels at every place."""
    length = features.square().sum(dim=1, keepdim=True).sqrt()
    return features / (length + LENGTH_EPSILON)


# ------------------------------------------------------------------------------------------------
# LPIPS of frames against ground truth, with weights that the user has converted

WEIGHTS: dict[Backbone, tuple[str, str]] = {
    "alex": ("alexnet", "lpips-alex"),
    "vgg": ("vgg16", "lpips-vgg"),
}
"""By backbone the names of its weights and of its channel weights in the catalogue."""


class PerceptualDistance:
    """LPIPS of frames, as a function.

    Args:
        backbone: `alex` or `vgg`.
        parts: weights of the backbone, and the channel weights.
        width: scale of the channel counts; 1 is the published size.
        device: where it computes.
    """

    def __init__(
        self,
        backbone: Backbone,
        parts: tuple[StoredWeights, StoredWeights],
        width: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.backbone = backbone
        self._parts, self._device = parts, torch.device(device)
        network = LPIPS(backbone, width=width)
        where = f"the pair of weights {parts[0].name} and {parts[1].name}"
        load_into(network, parts[0].tensors | parts[1].tensors, where)
        self._network = network.to(device).eval()

    @property
    def fingerprint(self) -> str:
        """Hash of all weights."""
        both = "".join(part.fingerprint for part in self._parts)
        return hashlib.sha256(both.encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """Everything that decides the distance, as plain values."""
        return {
            "version": "0.1",
            "backbone": self.backbone,
            "input": "[-1, 1] at the frames' own size, then ImageNet's mean and deviation",
            "length_epsilon": LENGTH_EPSILON,
            "averaged": "places, frames, samples, clips",
            "files": [
                {
                    "name": part.name,
                    "file": part.source.file,
                    "sha256": part.source.sha256,
                    "is_verified": part.source.is_verified,
                }
                for part in self._parts
            ],
            "fingerprint": self.fingerprint,
        }

    def check_side(self, side: int) -> None:
        """Raise UserError for frames that are too small for the backbone."""
        if side < MIN_SIDES[self.backbone]:
            raise UserError(
                f"LPIPS with {self.backbone} needs frames of at least {MIN_SIDES[self.backbone]} "
                f"pixels a side and these have {side}: leave lpips= away"
                + (", or say lpips=vgg" if MIN_SIDES["vgg"] <= side else "")
            )

    @torch.no_grad()
    def __call__(self, clips: Tensor, truth: Tensor) -> Tensor:
        """Distance of every frame, at least 0, lower is better.

        Args:
            clips: uint8 `[..., C, T, H, W]`, C of 3, or 1 (grey).
            truth: uint8 of the same shape, or one that expands to it.

        Returns:
            float64 `[..., T]`; a frame's value does not depend on the other clips.

        Raises:
            UserError: frames are too small for the backbone.
        """
        if clips.dtype != torch.uint8 or truth.dtype != torch.uint8:
            raise ValueError(f"frames are compared as uint8, got {clips.dtype} and {truth.dtype}")
        self.check_side(min(clips.shape[-2:]))
        truth = truth.expand_as(clips)
        lead, size = clips.shape[:-4], clips.shape[-4:]
        rows = []
        with exact_arithmetic():
            # Clip by clip: each meets the same shapes whatever its neighbours, so the same bits.
            for pair in zip(*(x.reshape(-1, *size) for x in (clips, truth)), strict=True):
                frames = [self._frames(clip) for clip in pair]
                rows.append(self._network(*frames).double().cpu())
        return torch.stack(rows).reshape(*lead, size[1])

    def _frames(self, clip: Tensor) -> Tensor:
        frames = fold_time(to_float(clip[None])).to(self._device)  # [T, C, H, W]
        return frames.expand(-1, 3, -1, -1)


def load_perceptual(
    backbone: str,
    folder: str | Path | None = None,
    *,
    width: float = 1.0,
    device: torch.device | str = "cpu",
) -> PerceptualDistance:
    """LPIPS with the weights that `vidgan weights convert` has kept.

    Args:
        backbone: `alex` or `vgg`.
        folder: where converted weights lie; None: `weights.store.weights_folder()`.
        width: scale of the channel counts; published files have 1.
        device: where it computes.

    Raises:
        UserError: another backbone, or weights that were not converted or do not fit.
    """
    names = get_args(Backbone)
    if backbone not in names:
        raise UserError(f"lpips={backbone} is not a backbone of LPIPS: give {' or '.join(names)}")
    known: Backbone = "alex" if backbone == "alex" else "vgg"
    first, second = (load_weights(weights_path(name, folder)) for name in WEIGHTS[known])
    return PerceptualDistance(known, (first, second), width, device)
