"""DVD-GAN, DVD-GAN-FP and HRVGAN beside the counts that follow from their papers' layers.

No paper prints parameter counts. Those of DVD-GAN follow from its widths and the residual blocks of
Brock et al. 2019; of HRVGAN only the generator's convolutions follow from anything published.
"""

import torch
from torch import nn

from vidgan.models.base import GAN, ClipShape
from vidgan.models.baseline_sheets import on_no_device, rows, total
from vidgan.models.conformance import Sheet, Total
from vidgan.models.dvdgan import DVDGANConfig
from vidgan.models.dvdgan_fp import DVDGANFPConfig
from vidgan.models.hrvgan import HRVGANConfig, HRVGenerator, ResamplingConv3d
from vidgan.models.layers import Conv3d

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
    """The encoder of DVD-GAN-FP for 5 given frames of 64 px."""
    gan = on_no_device(DVDGANFPConfig(), ClipShape(3, 16, 64, 64))
    encoder = gan.generator.get_submodule("encoder")
    mixed = 9 * 5 * (2048 * 1024 + 1024 * 1024 + 512 * 1024 + 256 * 512) + 3 * 1024 + 512
    return Sheet(
        "Clark et al. 2019, version 2",
        (),
        (
            total("encoder blocks", encoder.get_submodule("blocks"), 77_679_360),
            total("3x3 convolutions to the states", encoder.get_submodule("mixers"), mixed),
        ),
    )


def hrvgan() -> Sheet:
    """The convolutions of HRVGAN's generator for 32 frames of 256 px."""
    gan = on_no_device(HRVGANConfig(), ClipShape(3, 32, 256, 256))
    return Sheet(
        "Sagar 2020 with the widths of D. Acharya 2018",
        (),
        (Total("generator's convolutions", convolutions(gan), 2_393_091),),
    )


def convolutions(gan: GAN) -> int:
    """Parameters of the convolutions between the first layer and the pixels."""
    assert isinstance(gan.generator, HRVGenerator)
    layers = [m for m in gan.generator.modules() if isinstance(m, ResamplingConv3d | Conv3d)]
    return sum(parameter.numel() for parameter in nn.ModuleList(layers).parameters())
