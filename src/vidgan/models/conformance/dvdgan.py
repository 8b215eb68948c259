"""DVD-GAN, DVD-GAN-FP and HRVGAN beside the counts that follow from their papers' layers.

No paper prints parameter counts. Those of DVD-GAN follow from its widths and the residual blocks of
Brock et al. 2019; those of HRVGAN from the kinds of layers that its text names and the widths of
the progressive GAN, so that they say what ours is rather than what was published.
"""

import torch
from torch import nn

from vidgan.models.base import GAN, ClipShape
from vidgan.models.conformance.baselines import on_no_device, rows, total
from vidgan.models.conformance.sheet import Sheet, Total
from vidgan.models.dvdgan import DVDGANConfig
from vidgan.models.dvdgan_fp import DVDGANFPConfig
from vidgan.models.hrvgan import HRVGANConfig, HRVGenerator, ResamplingConv3d
from vidgan.models.parts.layers import Conv3d

SMALL, LARGE = ClipShape(3, 12, 64, 64), ClipShape(3, 12, 128, 128)
RECORDED = (
    (SMALL, 128, 600, (305_282_371, 154_411_777, 162_683_137)),
    (LARGE, 96, 600, (176_963_139, 87_356_449, 88_522_849)),
    (SMALL, 32, 101, (21_055_579, 9_630_401, 10_149_953)),
)
"""Clip, `channels`, classes, and the counts of generator, D_S and D_T."""


def dvdgan() -> Sheet:
    """Layers at 64 px and totals at three sizes; shapes of the generator are (T, C, H, W)."""
    gan = on_no_device(DVDGANConfig(), SMALL, 600)
    labels = torch.zeros(2, dtype=torch.int64, device="meta")
    latents = torch.zeros(2, gan.generator.latent_dim(), device="meta")
    clips = torch.zeros(2, *SMALL, device="meta")
    spatial, temporal = gan.discriminators.values()
    totals = []
    for shape, channels, num_classes, counts in RECORDED:
        built = on_no_device(DVDGANConfig(channels=channels), shape, num_classes)
        for (name, network), recorded in zip(built.networks.items(), counts, strict=True):
            what = f"{name}, {shape.height} px, {channels} channels, {num_classes} classes"
            totals.append(total(what, network, recorded))
    return Sheet(
        "Clark et al. 2019, version 2",
        rows("generator", gan.generator, GENERATOR, latents, labels)
        + rows("spatial", spatial, SPATIAL, clips, labels)
        + rows("temporal", temporal, TEMPORAL, clips, labels),
        tuple(totals),
    )


GENERATOR = """
embedding 120, Linear 240->4x4x1024 | 4,020,544 | first label_embedding
4 px ConvGRU 1024 | 56,626,176 | scales.0.gru
4 px block 1024 | 19,859,456 | scales.0.block
8 px block 1024, up | 20,909,056 | scales.0.up
8 px ConvGRU 1024 | 56,626,176 | scales.1.gru
8 px block 1024 | 19,859,456 | scales.1.block
16 px block 1024, up | 20,909,056 | scales.1.up
16 px ConvGRU 1024 | 56,626,176 | scales.2.gru
16 px block 1024 | 19,859,456 | scales.2.block
32 px block 512, up | 8,340,992 | scales.2.up
32 px ConvGRU 512 | 14,157,312 | scales.3.gru
32 px block 512 | 5,211,136 | scales.3.block
64 px block 256, up | 2,269,952 | scales.3.up
BN, Conv2d 3 256->3 | 7,427 | to_rgb last_gain last_shift
"""
SPATIAL = """
block 3->256, down | 598,272 | blocks.0
block 256->512, down | 3,671,552 | blocks.1
block 512->1024, down | 14,683,136 | blocks.2
block 1024->2048, down | 58,726,400 | blocks.3
block 2048 | 75,501,568 | blocks.4
Linear, class vectors | 1,230,849 | score class_vectors
"""
TEMPORAL = """
3-D block 3->256, down | 1,791,744 | blocks.0
3-D block 256->512, down | 10,749,440 | blocks.1
block 512->1024, down | 14,683,136 | blocks.2
block 1024->2048, down | 58,726,400 | blocks.3
block 2048 | 75,501,568 | blocks.4
Linear, class vectors | 1,230,849 | score class_vectors
"""


def dvdgan_fp() -> Sheet:
    """Layers of DVD-GAN-FP for 5 given frames of 16 at 64 px; without classes."""
    shape = ClipShape(3, 16, 64, 64)
    gan = on_no_device(DVDGANFPConfig(), shape)
    generator = gan.generator
    latents = torch.zeros(2, generator.latent_dim(), device="meta")
    clips = torch.zeros(2, *shape, device="meta")
    given, future = clips[:, :, :5], clips[:, :, 5:]
    encoder = generator.get_submodule("encoder")
    mixed = 9 * 5 * (2048 * 1024 + 1024 * 1024 + 512 * 1024 + 256 * 512) + 3 * 1024 + 512
    spatial, temporal = gan.discriminators.values()
    return Sheet(
        "Clark et al. 2019, version 2",
        rows("generator", generator, CONDITIONAL_GENERATOR, latents, None, given)
        + rows("spatial", spatial, without_classes(SPATIAL), future, None, given)
        + rows("temporal", temporal, without_classes(TEMPORAL), future, None, given),
        (
            total("encoder blocks", encoder.get_submodule("blocks"), 77_679_360),
            total("3x3 convolutions to the states", encoder.get_submodule("mixers"), mixed),
        ),
    )


def without_classes(lines: str) -> str:
    """Rows of a discriminator that has no class vectors."""
    last = "Linear, class vectors | 1,230,849 | score class_vectors"
    return lines.replace(last, "Linear | 2,049 | score")


# A norm's scale and shift come from 120 numbers here, not from 240.
CONDITIONAL_GENERATOR = """
encoder block 3->256, down | 598,272 | encoder.blocks.0
encoder block 256->512, down | 3,671,552 | encoder.blocks.1
encoder block 512->1024, down | 14,683,136 | encoder.blocks.2
encoder block 1024->2048, down | 58,726,400 | encoder.blocks.3
4 px state, Conv2d 3 5x2048->1024 | 94,372,864 | encoder.mixers.0
8 px state, Conv2d 3 5x1024->1024 | 47,186,944 | encoder.mixers.1
16 px state, Conv2d 3 5x512->1024 | 23,593,984 | encoder.mixers.2
32 px state, Conv2d 3 5x256->512 | 5,898,752 | encoder.mixers.3
Linear 120->4x4x1024 | 1,982,464 | first
4 px ConvGRU 1024 | 56,626,176 | scales.0.gru
4 px block 1024 | 19,367,936 | scales.0.block
8 px block 1024, up | 20,417,536 | scales.0.up
8 px ConvGRU 1024 | 56,626,176 | scales.1.gru
8 px block 1024 | 19,367,936 | scales.1.block
16 px block 1024, up | 20,417,536 | scales.1.up
16 px ConvGRU 1024 | 56,626,176 | scales.2.gru
16 px block 1024 | 19,367,936 | scales.2.block
32 px block 512, up | 7,972,352 | scales.2.up
32 px ConvGRU 512 | 14,157,312 | scales.3.gru
32 px block 512 | 4,965,376 | scales.3.block
64 px block 256, up | 2,085,632 | scales.3.up
BN, Conv2d 3 256->3 | 7,427 | to_rgb last_gain last_shift
"""


def hrvgan() -> Sheet:
    """Layers of HRVGAN for 32 frames of 256 px, generation without classes."""
    shape = ClipShape(3, 32, 256, 256)
    gan = on_no_device(HRVGANConfig(), shape)
    latents = torch.zeros(2, gan.generator.latent_dim(), device="meta")
    clips = torch.zeros(2, *shape, device="meta")
    return Sheet(
        "the layers that Sagar 2020 names, with the widths of D. Acharya 2018",
        rows("generator", gan.generator, HRV_GENERATOR, latents)
        + rows("discriminator", gan.discriminators["discriminator"], HRV_DISCRIMINATOR, clips),
        (Total("generator's convolutions", convolutions(gan), 2_393_091),),
    )


HRV_GENERATOR = """
Linear 128->128x4x4x4, BN | 1,057,024 | first first_norm
ConvT3d 4 s2 128->128, BN | 1,048,960 | blocks.0 blocks.1
ConvT3d 3,4,4 s1,2,2 128->128, BN | 786,816 | blocks.3 blocks.4
ConvT3d 3,4,4 s1,2,2 128->64, BN | 393,408 | blocks.6 blocks.7
ConvT3d 4 s2 64->32, BN | 131,168 | blocks.9 blocks.10
ConvT3d 3,4,4 s1,2,2 32->16, BN | 24,624 | blocks.12 blocks.13
ConvT3d 4 s2 16->8, BN | 8,216 | blocks.15 blocks.16
Conv3d 3 8->3 | 651 | to_rgb
"""
HRV_DISCRIMINATOR = """
Conv3d 3 3->8 | 656 | from_rgb
Conv3d 4 s2 8->16, IN | 8,240 | convolutions.0 norms.0
Conv3d 3,4,4 s1,2,2 16->32, IN | 24,672 | convolutions.1 norms.1
Conv3d 4 s2 32->64, IN | 131,264 | convolutions.2 norms.2
Conv3d 3,4,4 s1,2,2 64->128, IN | 393,600 | convolutions.3 norms.3
Conv3d 3,4,4 s1,2,2 128->128, IN | 786,816 | convolutions.4 norms.4
Conv3d 4 s2 128->128, IN | 1,048,960 | convolutions.5 norms.5
Linear | 8,193 | head
"""


def convolutions(gan: GAN) -> int:
    """Parameters of the convolutions between the first layer and the pixels."""
    assert isinstance(gan.generator, HRVGenerator)
    layers = [m for m in gan.generator.modules() if isinstance(m, ResamplingConv3d | Conv3d)]
    return sum(parameter.numel() for parameter in nn.ModuleList(layers).parameters())
