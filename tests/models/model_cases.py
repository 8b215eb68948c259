"""Small members of every model family, for the contract suite."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from vidgan.core.randomness import BatchRandom
from vidgan.models import MODELS
from vidgan.models.base import GAN, ClipShape, ModelConfig
from vidgan.models.dvdgan import DVDGANConfig
from vidgan.models.dvdgan_fp import DVDGANFPConfig
from vidgan.models.hrvgan import HRVGANConfig, HRVGANRepoConfig
from vidgan.models.ivgan import IVGANConfig
from vidgan.models.mocogan import MoCoGANConfig
from vidgan.models.parts.attention import SelfAttention
from vidgan.models.pocketgan import PocketConfig, PocketGenerator
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.models.tgan import TGANConfig
from vidgan.models.vgan import VGANConfig


@dataclass(frozen=True)
class Case:
    """A model to build: settings, (C, T, H, W), classes.

    `least_spread` is the standard deviation that pixels of an untrained clip have at least,
    `any_length` whether the same latent serves clips of every length.
    """

    config: ModelConfig
    clip_shape: ClipShape
    num_classes: int = 0
    least_spread: float = 0.1
    any_length: bool = False

    def build(self, seed: int = 0) -> GAN:
        torch.manual_seed(seed)
        gan = self.config.build(self.clip_shape, self.num_classes)
        for network in gan.networks.values():
            for module in network.modules():
                if isinstance(module, SelfAttention):
                    # Initially it is the identity, and no gradient passes through it.
                    torch.nn.init.constant_(module.gain, 0.5)
                if isinstance(module, PocketGenerator):
                    # Initially its last level adds nothing.
                    torch.nn.init.normal_(module.to_rgb[-1].weight)
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
                layer.settle(momentum=1.0)

    def context(self, gan: GAN, count: int) -> Tensor | None:
        return self.split(gan, self.clips(count, seed=4))[0]

    def targets(self, gan: GAN, count: int) -> Tensor:
        """Clips as the generator makes them."""
        return self.split(gan, self.clips(count))[1]

    def split(self, gan: GAN, clips: Tensor) -> tuple[Tensor | None, Tensor]:
        rng = BatchRandom((0, "context"), len(clips), 0, len(clips), torch.device("cpu"))
        return gan.make_context(clips.to(next(gan.generator.parameters()).dtype), rng)

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


TINY_DVDGAN = {"channels": 2, "spatial_frames": 3}


def vgan(**changes: object) -> Case:
    return Case(VGANConfig(**{"latent": 5, "width": 4, **changes}), SHAPE, 0, 1e-3)  # type: ignore[arg-type]


def ivgan(**changes: object) -> Case:
    return Case(IVGANConfig(**{"latent": 5, "width": 4, **changes}), SHAPE)  # type: ignore[arg-type]


def tgan(num_classes: int = 0, **changes: object) -> Case:
    return Case(TGANConfig(**{**TINY_TGAN, **changes}), SHAPE, num_classes, 1e-3)  # type: ignore[arg-type]


def mocogan(num_classes: int = 0, **changes: object) -> Case:
    config = MoCoGANConfig(**{"content": 4, "motion": 3, "width": 4, **changes})  # type: ignore[arg-type]
    return Case(config, SHAPE, num_classes)


def dvdgan(num_classes: int = 0, **changes: object) -> Case:
    config = DVDGANConfig(**{"latent": 5, "label_dim": 3, **TINY_DVDGAN, **changes})  # type: ignore[arg-type]
    return Case(config, SHAPE, num_classes, any_length=True)


def hrvgan(num_classes: int = 0, **changes: object) -> Case:
    config = HRVGANConfig(**{"latent": 5, "channels": (6, 5, 4), "code_dim": 5, **changes})  # type: ignore[arg-type]
    return Case(config, SHAPE, num_classes, 0.05)


def pocketgan(num_classes: int = 0, **changes: object) -> Case:
    widths = {"channels": (6, 5, 4), "discriminator_channels": (5, 4), "stem_channels": 3}
    codes = {"content": 4, "motion": 3, "style_dim": 5, "label_dim": 3, "group_size": 2}
    config = PocketConfig(**{**widths, **codes, **changes})  # type: ignore[arg-type]
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
    "pvgan-image": Case(ProgressiveConfig(**SMALL), ClipShape(3, 1, 16, 16)),  # type: ignore[arg-type]
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
    "tgan-growing": tgan(3, growing=True),
    "tgan-noise": tgan(noise=0.3),
    "mocogan-growing": Case(
        MoCoGANConfig(content=4, motion=3, width=4, growing=True), ClipShape(3, 5, 32, 32), 3
    ),
    "mocogan-growing-full-patch": mocogan(
        3, image_discriminator="full", video_discriminator="patch", growing=True
    ),
    "mocogan-growing-full": mocogan(3, image_discriminator="full", growing=True),
    "mocogan-own-categories": mocogan(categories=3),
    "mocogan-noise": mocogan(3, noise=0.1),
    "dvdgan": dvdgan(),
    "dvdgan-labels": dvdgan(3),
    "dvdgan-plain-weights": dvdgan(3, spectral_norm=False, generator_spectral_norm=False),
    "dvdgan-attention": dataclasses.replace(
        dvdgan(3, attention="separable", frame_attention=True), any_length=False
    ),
    "dvdgan_fp": Case(
        DVDGANFPConfig(latent=5, context_frames=2, **TINY_DVDGAN),  # type: ignore[arg-type]
        SHAPE,
        any_length=True,
    ),
    "hrvgan": hrvgan(),
    "hrvgan-projection": hrvgan(3),
    "hrvgan-auxiliary": hrvgan(3, conditioning="auxiliary"),
    "hrvgan-predict": hrvgan(3, context_frames=2),
    "hrvgan-predict-deterministic": hrvgan(context_frames=1, latent=0),
    "pocketgan": pocketgan(),
    "pocketgan-labels": pocketgan(3),
    "pocketgan-plain": pocketgan(3, style_dim=0, pool_frames=1),
    "pocketgan-sums": pocketgan(output_skips=True, residual=True),
    "hrvgan_repo": Case(HRVGANRepoConfig(**SMALL), SHAPE, 3),  # type: ignore[arg-type]
}
"""Every model of the table stands here under its name, variants as `name-variant`."""

assert {name.split("-")[0] for name in CASES} >= set(MODELS), "a model has no contract case"
