"""LPIPS of frames against the true frames, with weights that the user has converted.

It stands beside PSNR and SSIM, and like them compares two pictures of the same moment.
"""

import hashlib
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from vidgan.core.clip_ops import fold_time, to_float
from vidgan.errors import UserError
from vidgan.extractors.extractor import exact_arithmetic
from vidgan.extractors.networks.lpips import LENGTH_EPSILON, LPIPS, MIN_SIDES, Backbone
from vidgan.extractors.weights.checking import load_into
from vidgan.extractors.weights.store import StoredWeights, load_weights, weights_path

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
        raise UserError(f"lpips={backbone} is no backbone of LPIPS: give {' or '.join(names)}")
    known: Backbone = "alex" if backbone == "alex" else "vgg"
    first, second = (load_weights(weights_path(name, folder)) for name in WEIGHTS[known])
    return PerceptualDistance(known, (first, second), width, device)
