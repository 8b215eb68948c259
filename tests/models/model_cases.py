"""Small members of every model family, for the contract suite."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vidgan.models import MODELS
from vidgan.models.base import GAN, ClipShape, ModelConfig
from vidgan.models.ivgan import IVGANConfig
from vidgan.models.mocogan import MoCoGANConfig
from vidgan.models.norms import BatchNorm
from vidgan.models.progressive import ProgressiveConfig
from vidgan.models.tgan import TGANConfig
from vidgan.models.vgan import VGANConfig
from vidgan.randomness import BatchRandom


@dataclass(frozen=True)
class Case:
    """A model to build: settings, (C, T, H, W), classes.

    `least_spread` is the standard deviation that pixels of an untrained clip have at least.
    """

    config: ModelConfig
    clip_shape: ClipShape
    num_classes: int = 0
    least_spread: float = 0.1

    def build(self, seed: int = 0) -> GAN:
        torch.manual_seed(seed)
        gan = self.config.build(self.clip_shape, self.num_classes)
        self.see_a_batch(gan)
        return gan

    def see_a_batch(self, gan: GAN, count: int = 6) -> None:
        """Set running statistics to those of one batch, as after some training."""
        networks = [n for n in gan.networks.values() if n.running_layers()]
        for network in networks:
            with torch.no_grad(), network.observing():
                if network is gan.generator:
                    inputs = (self.latents(gan, count), self.labels(gan, count))
                    network(*inputs, self.context(gan, count))
                else:
                    network(self.clips(count), self.labels(gan, count))
            for layer in network.running_layers():
                assert isinstance(layer, BatchNorm)
                momentum, layer.momentum = layer.momentum, 1.0
                layer.settle()
                layer.momentum = momentum

    def context(self, gan: GAN, count: int) -> Tensor | None:
        rng = BatchRandom((0, "context"), count, 0, count, torch.device("cpu"))
        context, _ = gan.make_context(self.clips(count, seed=4), rng)
        dtype = next(gan.generator.parameters()).dtype
        return None if context is None else context.to(dtype)

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


TINY_TGAN = {
    "latent": 5, "frame_code": 3, "temporal_width": 8, "image_width": 8, "width": 4
}  # fmt: skip


def vgan(**changes: object) -> Case:
    return Case(VGANConfig(**{"latent": 5, "width": 4, **changes}), SHAPE, 0, 1e-3)  # type: ignore[arg-type]


def ivgan(**changes: object) -> Case:
    return Case(IVGANConfig(**{"latent": 5, "width": 4, **changes}), SHAPE)  # type: ignore[arg-type]


def tgan(num_classes: int = 0, **changes: object) -> Case:
    return Case(TGANConfig(**{**TINY_TGAN, **changes}), SHAPE, num_classes, 1e-3)  # type: ignore[arg-type]


def mocogan(num_classes: int = 0, **changes: object) -> Case:
    config = MoCoGANConfig(**{"content": 4, "motion": 3, "width": 4, **changes})  # type: ignore[arg-type]
    return Case(config, SHAPE, num_classes)


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
    "vgan": vgan(),
    "vgan-one-stream": vgan(streams=1),
    "vgan-first-frame": vgan(condition="first_frame"),
    "vgan-first-frame-one-stream": vgan(condition="first_frame", streams=1),
    "vgan-layer-norm": vgan(discriminator_norm="layer"),
    "ivgan": ivgan(),
    "ivgan-no-norm": ivgan(discriminator_norm="none"),
    "ivgan-predict": ivgan(task="predict"),
    "ivgan-colorize": ivgan(task="colorize"),
    "ivgan-inpaint": ivgan(task="inpaint"),
    "tgan": tgan(),
    "tgan-labels": tgan(3),
    "tgan-unconditional-on-labels": tgan(3, conditioning="none"),
    "tgan-layer-norm": tgan(3, discriminator_norm="layer"),
    "mocogan": mocogan(),
    "mocogan-categories": mocogan(3),
    "mocogan-full-patch": mocogan(
        3, image_discriminator="full", video_discriminator="patch", discriminator_norm="layer"
    ),
}
"""Every model of the table stands here under its name, variants as `name-variant`."""

assert {name.split("-")[0] for name in CASES} >= set(MODELS), "a model has no contract case"
