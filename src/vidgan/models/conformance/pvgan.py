"""The Progressive Video GAN beside the figures of its source.

D. Acharya 2018, tables A.1 and A.2 (256 px, 32 frames). The shapes of table A.2 are a copy of those
of table A.1; its parameter column runs from 256 px down and is followed here. The recorded counts
follow from the printed layers and agree with the printed totals of 3.7 million each.
"""

import torch

from vidgan.models.base import GAN, ClipShape
from vidgan.models.conformance.sheet import PrintedLayer, Sheet, Total, count_in_use, layer_rows
from vidgan.models.hrvgan import HRVGANRepoConfig
from vidgan.models.pvgan import ProgressiveConfig, ProgressiveDiscriminator

SOURCE = "D. Acharya 2018, tables A.1 and A.2"

FIRST = "blocks.0.linear"
GENERATOR = (
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

RECORDED = {256: (3_702_091, 3_705_801), 128: (3_696_915, 3_700_625)}
"""Side in px to the counts of generator and discriminator, all but the heads of lower levels."""
RECORDED_ENCODER = 3_705_672
"""The discriminator at 256 px up to its encoding of 128 numbers."""
RECORDED_HEAD = 16_640
"""The sliced Wasserstein head: 128 projections of 128 numbers, a scale and a shift for each."""


def sheet() -> Sheet:
    """Layers at 256 px, totals at 256 and 128 px and of the sliced Wasserstein head."""
    gan = _on_no_device(256)
    generator, discriminator = gan.generator, gan.discriminators["discriminator"]
    assert isinstance(discriminator, ProgressiveDiscriminator)
    latent = torch.zeros(1, generator.latent_dim(), device="meta")
    clip = torch.zeros(1, 3, 32, 256, 256, device="meta")
    rows = layer_rows("generator", generator, GENERATOR, lambda: generator(latent))
    rows += layer_rows(
        "discriminator",
        discriminator,
        DISCRIMINATOR,
        lambda: discriminator(clip),
    )
    totals = []
    for side, recorded in RECORDED.items():
        networks = _on_no_device(side).networks
        for (name, network), count in zip(networks.items(), recorded, strict=True):
            totals.append(Total(f"{name}, {side} px", count_in_use(network), count))
    sliced = _on_no_device(256, head="sliced_wasserstein")
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
            Total("generator", generator, RECORDED[256][0]),
            Total("discriminator up to the encoding", encoding - size, RECORDED_ENCODER),
            Total("sliced Wasserstein head", size, RECORDED_HEAD),
        ),
    )


def _head_size(gan: GAN) -> int:
    head = gan.discriminators["discriminator"].get_submodule("head")
    return sum(parameter.numel() for parameter in head.parameters())


def _on_no_device(side: int, **settings: str) -> GAN:
    """The published model for clips of 32 frames, without memory behind its parameters."""
    from vidgan.models import build_gan

    with torch.device("meta"):
        return build_gan(ProgressiveConfig(**settings), (3, 32, side, side))  # type: ignore[arg-type]
