"""Built models compared with the layers and counts of their sources."""

import torch
from torch import Tensor, nn

from vidgan.models.base import GAN, ClipShape, ModelConfig, Network
from vidgan.models.conformance.sheet import (
    LayerRow,
    PrintedLayer,
    Sheet,
    Total,
    count_in_use,
    layer_rows,
)
from vidgan.models.dvdgan import DVDGANConfig
from vidgan.models.dvdgan_fp import DVDGANFPConfig
from vidgan.models.hrvgan import HRVGANConfig, HRVGANRepoConfig, HRVGenerator, ResamplingConv3d
from vidgan.models.ivgan import IVGANConfig
from vidgan.models.mocogan import MoCoGANConfig
from vidgan.models.parts.layers import ScaledConv3d
from vidgan.models.pvgan import ProgressiveConfig, ProgressiveDiscriminator
from vidgan.models.tgan import TGANConfig
from vidgan.models.vgan import VGANConfig

# ------------------------------------------------------------------------------------------------
# VGAN, iVGAN, TGAN and MoCoGAN beside the layers of their authors' published code.
#
# None of the papers prints parameter counts: the figures follow from the layers' kernels, channels,
# biases and norms in that code, and so do the recorded totals.

LONG, SHORT = ClipShape(3, 32, 64, 64), ClipShape(3, 16, 64, 64)


def rows(title: str, network: Network, lines: str, *inputs: Tensor | None) -> tuple[LayerRow, ...]:
    """Rows from lines `layer | count | parts`, where parts are separated by blanks."""
    layers = []
    for line in lines.strip().splitlines():
        layer, printed, parts = (word.strip() for word in line.split("|"))
        layers.append(PrintedLayer(layer, printed, tuple(parts.split())))
    return layer_rows(title, network, layers, lambda: network(*inputs))


def total(what: str, network: torch.nn.Module, recorded: int) -> Total:
    """A network's count beside the one on record."""
    if isinstance(network, Network):
        return Total(what, count_in_use(network), recorded)
    return Total(what, sum(parameter.numel() for parameter in network.parameters()), recorded)


def on_meta_device(config: ModelConfig, shape: ClipShape, num_classes: int = 0) -> GAN:
    """A published model with parameters on the meta device."""
    with torch.device("meta"):
        return config.build(shape, num_classes)


def inputs_on_meta_device(gan: GAN, shape: ClipShape) -> tuple[Tensor, Tensor]:
    """Two latents and two clips; batch norm refuses one."""
    latents = torch.zeros(2, gan.generator.latent_dim(), device="meta")
    return latents, torch.zeros(2, *shape, device="meta")


def vgan() -> Sheet:
    """VGAN with two streams, with one, and from a first frame."""
    gan = on_meta_device(VGANConfig(), LONG)
    latents, clips = inputs_on_meta_device(gan, LONG)
    one = on_meta_device(VGANConfig(streams=1), LONG)
    given = on_meta_device(VGANConfig(condition="first_frame", width=128), LONG)
    generator, discriminator = gan.generator, gan.discriminators["discriminator"]
    return Sheet(
        "Vondrick et al. 2016, authors' code",
        rows("generator", generator, VGAN_GENERATOR, latents)
        + rows("discriminator", discriminator, VGAN_DISCRIMINATOR, clips),
        (
            total("generator, two streams", generator, 16_245_383),
            total("generator, one stream", one.generator, 12_663_619),
            total("discriminator", discriminator, 11_057_858),
            total("generator, first frame", given.generator, 68_216_455),
            total("discriminator, first frame", given.discriminators["discriminator"], 44_135_810),
        ),
    )


VGAN_GENERATOR = """
ConvT3d 2x4x4 100->512, BN | 1,639,936 | first norms.0
ConvT3d 4 s2 512->256, BN | 8,389,376 | convs.0 norms.1
ConvT3d 4 s2 256->128, BN | 2,097,536 | convs.1 norms.2
ConvT3d 4 s2 128->64, BN | 524,480 | convs.2 norms.3
foreground 4 s2 64->3 | 12,291 | to_foreground
mask 4 s2 64->1 | 4,097 | to_mask
ConvT2d 4 100->512, BN | 820,736 | background.first
ConvT2d 4 s2 512->256, BN | 2,097,920 | background.convs.0 background.norms.0
ConvT2d 4 s2 256->128, BN | 524,672 | background.convs.1 background.norms.1
ConvT2d 4 s2 128->64, BN | 131,264 | background.convs.2 background.norms.2
background 4 s2 64->3 | 3,075 | background.to_rgb
"""
VGAN_DISCRIMINATOR = """
Conv3d 4 s2 3->64 | 12,352 | first
Conv3d 4 s2 64->128, BN | 524,672 | convs.0 norms.0
Conv3d 4 s2 128->256, BN | 2,097,920 | convs.1 norms.1
Conv3d 4 s2 256->512, BN | 8,390,144 | convs.2 norms.2
Conv3d 2x4x4 512->2 | 32,770 | to_logits
"""


def ivgan() -> Sheet:
    """iVGAN from noise, and the generators of the other tasks."""
    gan = on_meta_device(IVGANConfig(), LONG)
    latents, clips = inputs_on_meta_device(gan, LONG)
    recorded = {"predict": 22_043_267, "colorize": 22_102_659, "inpaint": 22_047_491}
    others = [
        total(f"generator, {task}", on_meta_device(IVGANConfig(task=task), LONG).generator, count)  # type: ignore[arg-type]
        for task, count in recorded.items()
    ]
    return Sheet(
        "Kratzwald et al. 2017, authors' code",
        rows("generator", gan.generator, IVGAN_GENERATOR, latents)
        + rows("discriminator", gan.discriminators["discriminator"], IVGAN_DISCRIMINATOR, clips),
        (
            total("generator", gan.generator, 12_678_531),
            total("discriminator", gan.discriminators["discriminator"], 11_057_990),
            *others,
        ),
    )


IVGAN_GENERATOR = """
Linear 100->16384, BN shift | 1,655,296 | start.linear start.norm
ConvT3d 4 s2 512->256, BN shift | 8,389,120 | convs.0 norms.0
ConvT3d 4 s2 256->128, BN shift | 2,097,408 | convs.1 norms.1
ConvT3d 4 s2 128->64, BN shift | 524,416 | convs.2 norms.2
ConvT3d 4 s2 64->3 | 12,291 | to_rgb
"""
IVGAN_DISCRIMINATOR = """
Conv3d 4 s2 3->64, LN | 12,480 | convs.0 norms.0
Conv3d 4 s2 64->128, LN | 524,672 | convs.1 norms.1
Conv3d 4 s2 128->256, LN | 2,097,920 | convs.2 norms.2
Conv3d 4 s2 256->512, LN | 8,390,144 | convs.3 norms.3
Conv3d 4 s2 512->1 | 32,769 | last
Linear 4->1 | 5 | to_score
"""


def tgan() -> Sheet:
    """TGAN without labels."""
    gan = on_meta_device(TGANConfig(), SHORT)
    latents, clips = inputs_on_meta_device(gan, SHORT)
    temporal, image = (gan.generator.get_submodule(name) for name in ("temporal", "image"))
    return Sheet(
        "Saito et al. 2017, authors' code",
        rows("generator", gan.generator, TGAN_GENERATOR, latents)
        + rows("discriminator", gan.discriminators["discriminator"], TGAN_DISCRIMINATOR, clips),
        (
            total("temporal generator", temporal, 825_444),
            total("image generator", image, 3_622_691),
            total("discriminator", gan.discriminators["discriminator"], 11_032_385),
        ),
    )


TGAN_GENERATOR = """
ConvT1d 1 100->512, BN scale | 52,224 | temporal.first temporal.norms.0
ConvT1d 4 s2 512->256, BN scale | 524,800 | temporal.convs.0 temporal.norms.1
ConvT1d 4 s2 256->128, BN scale | 131,328 | temporal.convs.1 temporal.norms.2
ConvT1d 4 s2 128->128, BN scale | 65,792 | temporal.convs.2 temporal.norms.3
ConvT1d 4 s2 128->100 | 51,300 | temporal.convs.3
Linear 100->4096, BN | 417,792 | image.from_latent image.latent_norm
Linear 100->4096, BN | 417,792 | image.from_code image.code_norm
ConvT2d 4 s2 512->256, BN | 2,097,664 | image.convs.0 image.norms.0
ConvT2d 4 s2 256->128, BN | 524,544 | image.convs.1 image.norms.1
ConvT2d 4 s2 128->64, BN | 131,200 | image.convs.2 image.norms.2
ConvT2d 4 s2 64->32, BN | 32,832 | image.convs.3 image.norms.3
ConvT2d 3 32->3 | 867 | image.to_rgb
"""
TGAN_DISCRIMINATOR = """
Conv3d 4 s2 3->64 | 12,352 | first
Conv3d 4 s2 64->128, BN scale | 524,544 | convs.0 norms.0
Conv3d 4 s2 128->256, BN scale | 2,097,664 | convs.1 norms.1
Conv3d 4 s2 256->512, BN scale | 8,389,632 | convs.2 norms.2
Conv2d 4 512->1 | 8,193 | to_score
"""


def mocogan() -> Sheet:
    """MoCoGAN with 6 categories, and the counts for 101."""
    gan = on_meta_device(MoCoGANConfig(), SHORT, 6)
    many = on_meta_device(MoCoGANConfig(), SHORT, 101)
    others = on_meta_device(
        MoCoGANConfig(image_discriminator="full", video_discriminator="patch"), SHORT
    )
    latents, clips = inputs_on_meta_device(gan, SHORT)
    labels = torch.zeros(2, dtype=torch.int64, device="meta")
    image, video = gan.discriminators["image"], gan.discriminators["video"]
    return Sheet(
        "Tulyakov et al. 2018, authors' code",
        rows("generator", gan.generator, MOCOGAN_GENERATOR, latents, labels)
        + rows("image", image, MOCOGAN_IMAGE, clips)
        + rows("video", video, MOCOGAN_VIDEO, clips),
        (
            total("generator, 6 categories", gan.generator, 3_298_836),
            total("patch image discriminator", image, 663_296),
            total("categorical video discriminator, 6", video, 11_253_504),
            total("generator, 101 categories", many.generator, 4_077_076),
            total("categorical video discriminator, 101", many.discriminators["video"], 14_366_464),
            total("full image discriminator", others.discriminators["image"], 2_765_568),
            total("patch video discriminator", others.discriminators["video"], 2_650_880),
        ),
    )


MOCOGAN_GENERATOR = """
GRU cell 10->10 | 660 | recurrent
ConvT2d 4 66->512, BN | 541,696 | first norms.0
ConvT2d 4 s2 512->256, BN | 2,097,664 | convs.0 norms.1
ConvT2d 4 s2 256->128, BN | 524,544 | convs.1 norms.2
ConvT2d 4 s2 128->64, BN | 131,200 | convs.2 norms.3
ConvT2d 4 s2 64->3 | 3,072 | to_rgb
"""
MOCOGAN_IMAGE = """
Conv2d 4 s2 3->64 | 3,072 | convs.0
Conv2d 4 s2 64->128, BN | 131,328 | convs.1 norms.1
Conv2d 4 s2 128->256, BN | 524,800 | convs.2 norms.2
Conv2d 4 s2 256->1 | 4,096 | to_score
"""
MOCOGAN_VIDEO = """
Conv3d 4 s1,2,2 3->64 | 12,288 | convs.0
Conv3d 4 s1,2,2 64->128, BN | 524,544 | convs.1 norms.1
Conv3d 4 s1,2,2 128->256, BN | 2,097,664 | convs.2 norms.2
Conv3d 4 s1,2,2 256->512, BN | 8,389,632 | convs.3 norms.3
Conv3d 4 512->7 | 229,376 | to_scores
"""


# ------------------------------------------------------------------------------------------------
# DVD-GAN, DVD-GAN-FP and HRVGAN beside the counts that follow from their papers' layers.
#
# No paper prints parameter counts. Those of DVD-GAN follow from its widths and the residual blocks
# of Brock et al. 2019; those of HRVGAN from the kinds of layers that its text names and the widths
# of the progressive GAN, so that they say what ours is rather than what was published.

SMALL, LARGE = ClipShape(3, 12, 64, 64), ClipShape(3, 12, 128, 128)
RECORDED = (
    (SMALL, 128, 600, (305_282_371, 154_411_777, 162_683_137)),
    (LARGE, 96, 600, (176_963_139, 87_356_449, 88_522_849)),
    (SMALL, 32, 101, (21_055_579, 9_630_401, 10_149_953)),
)
"""Clip, `channels`, classes, and the counts of generator, D_S and D_T."""


def dvdgan() -> Sheet:
    """Layers at 64 px and totals at three sizes; shapes of the generator are (T, C, H, W)."""
    gan = on_meta_device(DVDGANConfig(), SMALL, 600)
    labels = torch.zeros(2, dtype=torch.int64, device="meta")
    latents = torch.zeros(2, gan.generator.latent_dim(), device="meta")
    clips = torch.zeros(2, *SMALL, device="meta")
    spatial, temporal = gan.discriminators.values()
    totals = []
    for shape, channels, num_classes, counts in RECORDED:
        built = on_meta_device(DVDGANConfig(channels=channels), shape, num_classes)
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
    gan = on_meta_device(DVDGANFPConfig(), shape)
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
    gan = on_meta_device(HRVGANConfig(), shape)
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
    layers = [m for m in gan.generator.modules() if isinstance(m, ResamplingConv3d | ScaledConv3d)]
    return sum(parameter.numel() for parameter in nn.ModuleList(layers).parameters())


# ------------------------------------------------------------------------------------------------
# The Progressive Video GAN beside the figures of its source.
#
# D. Acharya 2018, tables A.1 and A.2 (256 px, 32 frames). The shapes of table A.2 are a copy of
# those of table A.1; its parameter column runs from 256 px down and is followed here. The recorded
# counts follow from the printed layers and agree with the printed totals of 3.7 million each.

SOURCE = "D. Acharya 2018, tables A.1 and A.2"

FIRST = "blocks.0.linear"
PVGAN_GENERATOR = (
    PrintedLayer("4 px linear", "1.04m", (FIRST, "blocks.0.bias")),
    PrintedLayer("4 px conv", "0.44m", ("blocks.0.conv",)),
    PrintedLayer("8 px up, conv", "0.44m", ("blocks.1.up",)),
    PrintedLayer("8 px conv", "0.44m", ("blocks.1.conv",)),
    PrintedLayer("16 px up, conv", "0.44m", ("blocks.2.up",)),
    PrintedLayer("16 px conv", "0.44m", ("blocks.2.conv",)),
    PrintedLayer("32 px up, conv", "0.22m", ("blocks.3.up",)),
    PrintedLayer("32 px conv", "0.22m", ("blocks.3.conv",), "64 to 64 channels make 0.11m"),
    PrintedLayer("64 px up, conv", "55k", ("blocks.4.up",)),
    PrintedLayer("64 px conv", "27k", ("blocks.4.conv",)),
    PrintedLayer("128 px up, conv", "13.8k", ("blocks.5.up",)),
    PrintedLayer("128 px conv", "6.9k", ("blocks.5.conv",)),
    PrintedLayer("256 px up, conv", "3.4k", ("blocks.6.up",)),
    PrintedLayer("256 px conv", "1.7k", ("blocks.6.conv",)),
    PrintedLayer("256 px to RGB", "27", ("to_rgb.6",)),
)
DISCRIMINATOR = (
    PrintedLayer("256 px from RGB", "32", ("from_rgb.6",)),
    PrintedLayer("256 px conv", "1.73k", ("blocks.6.conv",)),
    PrintedLayer("256 px conv, down", "3.47k", ("blocks.6.down",)),
    PrintedLayer("128 px conv", "6.92k", ("blocks.5.conv",)),
    PrintedLayer("128 px conv, down", "13.85k", ("blocks.5.down",)),
    PrintedLayer("64 px conv", "27.68k", ("blocks.4.conv",)),
    PrintedLayer("64 px conv, down", "55.36k", ("blocks.4.down",)),
    PrintedLayer("32 px conv", "0.11m", ("blocks.3.conv",)),
    PrintedLayer("32 px conv, down", "0.22m", ("blocks.3.down",)),
    PrintedLayer("16 px conv", "0.44k", ("blocks.2.conv",), "0.44m is meant"),
    PrintedLayer("16 px conv, down", "0.44k", ("blocks.2.down",), "0.44m is meant"),
    PrintedLayer("8 px conv", "0.44m", ("blocks.1.conv",)),
    PrintedLayer("8 px conv, down", "0.44m", ("blocks.1.down",)),
    PrintedLayer("4 px conv", "0.44m", ("blocks.0.conv",)),
    PrintedLayer("linear", "1.04m", ("blocks.0.linear",)),
    PrintedLayer("linear", "129", ("head",)),
)

PVGAN_RECORDED = {256: (3_702_091, 3_705_801), 128: (3_696_915, 3_700_625)}
"""Side in px to the counts of generator and discriminator, all but the heads of lower levels."""
RECORDED_ENCODER = 3_705_672
"""The discriminator at 256 px up to its encoding of 128 numbers."""
RECORDED_HEAD = 16_640
"""The sliced Wasserstein head: 128 projections of 128 numbers, a scale and a shift for each."""


def sheet() -> Sheet:
    """Layers at 256 px, totals at 256 and 128 px and of the sliced Wasserstein head."""
    gan = _on_meta_device(256)
    generator, discriminator = gan.generator, gan.discriminators["discriminator"]
    assert isinstance(discriminator, ProgressiveDiscriminator)
    latent = torch.zeros(1, generator.latent_dim(), device="meta")
    clip = torch.zeros(1, 3, 32, 256, 256, device="meta")
    rows = layer_rows("generator", generator, PVGAN_GENERATOR, lambda: generator(latent))
    rows += layer_rows(
        "discriminator",
        discriminator,
        DISCRIMINATOR,
        lambda: discriminator(clip),
    )
    totals = []
    for side, recorded in PVGAN_RECORDED.items():
        networks = _on_meta_device(side).networks
        for (name, network), count in zip(networks.items(), recorded, strict=True):
            totals.append(Total(f"{name}, {side} px", count_in_use(network), count))
    sliced = _on_meta_device(256, head="sliced_wasserstein")
    totals.append(Total("sliced Wasserstein head", _head_size(sliced), RECORDED_HEAD))
    return Sheet(SOURCE, rows, tuple(totals))


def published_hrvgan() -> Sheet:
    """What the published code of HRVGAN was cut from, at 256 px: totals, in the layers above."""
    with torch.device("meta"):
        gan = HRVGANRepoConfig().build(ClipShape(3, 32, 256, 256))
    size, encoding = _head_size(gan), count_in_use(gan.discriminators["discriminator"])
    generator = count_in_use(gan.generator)
    return Sheet(
        f"{SOURCE} (layers: vidgan models pvgan --conformance)",
        (),
        (
            Total("generator", generator, PVGAN_RECORDED[256][0]),
            Total("discriminator up to the encoding", encoding - size, RECORDED_ENCODER),
            Total("sliced Wasserstein head", size, RECORDED_HEAD),
        ),
    )


def _head_size(gan: GAN) -> int:
    head = gan.discriminators["discriminator"].get_submodule("head")
    return sum(parameter.numel() for parameter in head.parameters())


def _on_meta_device(side: int, **settings: str) -> GAN:
    """The published model for clips of 32 frames, with parameters on the meta device."""
    from vidgan.models import build_gan

    with torch.device("meta"):
        return build_gan(ProgressiveConfig(**settings), (3, 32, side, side))  # type: ignore[arg-type]
