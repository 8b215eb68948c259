"""Small members of every model family, for the contract suite."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vidgan.models import MODELS
from vidgan.models.base import GAN, ClipShape, ModelConfig
from vidgan.models.progressive import ProgressiveConfig


@dataclass(frozen=True)
class Case:
    """A model to build: settings, (C, T, H, W), classes."""

    config: ModelConfig
    clip_shape: ClipShape
    num_classes: int = 0

    def build(self, seed: int = 0) -> GAN:
        torch.manual_seed(seed)
        return self.config.build(self.clip_shape, self.num_classes)

    def latents(self, gan: GAN, count: int, seed: int = 1) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        dtype = next(gan.generator.parameters()).dtype
        return torch.randn(count, gan.generator.latent_dim(), generator=rng).to(dtype)

    def clips(self, count: int, seed: int = 2) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        return torch.rand(count, *self.clip_shape, generator=rng) * 2 - 1

    def labels(self, gan: GAN, count: int) -> Tensor | None:
        classes = gan.generator.num_classes
        return torch.arange(count) % classes if classes else None


SMALL = {"channels": (6, 5, 4), "latent": 7, "label_dim": 3, "group_size": 2}
SHAPE = ClipShape(3, 6, 16, 16)


def small(num_classes: int = 0, **changes: object) -> Case:
    return Case(ProgressiveConfig(**{**SMALL, **changes}), SHAPE, num_classes)  # type: ignore[arg-type]


CASES = {
    "pvgan": small(),
    "pvgan-projection": small(3),
    "pvgan-auxiliary": small(3, conditioning="auxiliary"),
    "pvgan-unconditional-on-labels": small(3, conditioning="none"),
    "pvgan-sliced": small(head="sliced_wasserstein", head_blocks=2),
    "pvgan-sliced-projection": small(3, head="sliced_wasserstein"),
    "pvgan-spectral": small(spectral_norm=True),
    "pvgan-conv-act-pool": small(downsample="conv-act-pool"),
    "pvgan-plain": small(fast=False),
    "pvgan-grey": Case(ProgressiveConfig(channels=(5, 4), latent=4), ClipShape(1, 4, 8, 8)),
}
"""Every model of the table stands here under its name, variants as `name-variant`."""

assert {name.split("-")[0] for name in CASES} >= set(MODELS), "a model has no contract case"
