"""VGAN, iVGAN, TGAN and MoCoGAN beside the layers of their authors' published code.

None of the papers prints parameter counts: the figures follow from the layers' kernels, channels,
biases and norms in that code, and so do the recorded totals.
"""

import torch
from torch import Tensor

from vidgan.models.base import GAN, ClipShape, ModelConfig, Network
from vidgan.models.conformance.sheet import (
    LayerRow,
    PrintedLayer,
    Sheet,
    Total,
    count_in_use,
    layer_rows,
)
from vidgan.models.ivgan import IVGANConfig
from vidgan.models.mocogan import MoCoGANConfig
from vidgan.models.tgan import TGANConfig
from vidgan.models.vgan import VGANConfig

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


def on_no_device(config: ModelConfig, shape: ClipShape, num_classes: int = 0) -> GAN:
    """A published model without memory behind its parameters."""
    with torch.device("meta"):
        return config.build(shape, num_classes)


def inputs_on_no_device(gan: GAN, shape: ClipShape) -> tuple[Tensor, Tensor]:
    """Two latents and two clips; batch norm refuses one."""
    latents = torch.zeros(2, gan.generator.latent_dim(), device="meta")
    return latents, torch.zeros(2, *shape, device="meta")


def vgan() -> Sheet:
    """VGAN with two streams, with one, and from a first frame."""
    gan = on_no_device(VGANConfig(), LONG)
    latents, clips = inputs_on_no_device(gan, LONG)
    one = on_no_device(VGANConfig(streams=1), LONG)
    given = on_no_device(VGANConfig(condition="first_frame", width=128), LONG)
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
    gan = on_no_device(IVGANConfig(), LONG)
    latents, clips = inputs_on_no_device(gan, LONG)
    recorded = {"predict": 22_043_267, "colorize": 22_102_659, "inpaint": 22_047_491}
    others = [
        total(f"generator, {task}", on_no_device(IVGANConfig(task=task), LONG).generator, count)  # type: ignore[arg-type]
        for task, count in recorded.items()
    ]
    return Sheet(
        "Kratzwald et al. 2017, authors' code",
        rows("generator", gan.generator, IVGAN_GENERATOR, latents)
        + rows("discriminator", gan.discriminators["critic"], IVGAN_DISCRIMINATOR, clips),
        (
            total("generator", gan.generator, 12_678_531),
            total("discriminator", gan.discriminators["critic"], 11_057_990),
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
    gan = on_no_device(TGANConfig(), SHORT)
    latents, clips = inputs_on_no_device(gan, SHORT)
    temporal, image = (gan.generator.get_submodule(name) for name in ("temporal", "image"))
    return Sheet(
        "Saito et al. 2017, authors' code",
        rows("generator", gan.generator, TGAN_GENERATOR, latents)
        + rows("discriminator", gan.discriminators["critic"], TGAN_DISCRIMINATOR, clips),
        (
            total("temporal generator", temporal, 825_444),
            total("image generator", image, 3_622_691),
            total("discriminator", gan.discriminators["critic"], 11_032_385),
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
    gan = on_no_device(MoCoGANConfig(), SHORT, 6)
    many = on_no_device(MoCoGANConfig(), SHORT, 101)
    others = on_no_device(
        MoCoGANConfig(image_discriminator="full", video_discriminator="patch"), SHORT
    )
    latents, clips = inputs_on_no_device(gan, SHORT)
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
