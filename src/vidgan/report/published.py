"""Figures that papers print, with the protocol they were measured by as far as it is known.

They are never put beside scores of ours: each stands under its own protocol, and most of these
protocols cannot be repeated.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One printed figure.

    Attributes:
        system: as the source names it.
        metric: what was measured, on which data.
        value: as printed.
        protocol: how, as far as the source says.
        source: where it is printed.
    """

    system: str
    metric: str
    value: str
    protocol: str
    source: str


_TGAN_IS = "C3D of TGAN, 9,984 clips x 4, one split; 64x64 frames enlarged to 128"
_THESIS_IS = "said to be TGAN's, at 128 px; mean file and weights of C3D are not known"
_THESIS_FID = "C3D fc6, 10,000 clips; number of real clips not stated"
_DVDGAN = "I3D trained on Kinetics-600, pooled features, whole training set as reference"
_THESIS = "Acharya, thesis, ETH Zurich 2018"
_DVDGAN_PAPER = "Clark et al. 2019, arXiv:1907.06571v1, as later papers quote it"

_HRVGAN = "table in its repository"
_DVDGAN_IS = "I3D trained on Kinetics-600, 600 classes, without truncation; clips not stated"
_DVDGAN_FVD = "I3D logits, 5 frames given, 11 predicted, test clips"

PUBLISHED = (
    Published("VGAN", "IS, UCF-101", "8.18", _TGAN_IS, _THESIS),
    Published("TGAN", "IS, UCF-101", "11.85 +- 0.07", _TGAN_IS, _THESIS),
    Published("MoCoGAN", "IS, UCF-101", "12.42 +- 0.03", _TGAN_IS, _THESIS),
    Published("Progressive Video GAN, WGAN-GP", "IS, UCF-101", "13.59", _THESIS_IS, _THESIS),
    Published("Progressive Video GAN, SWGAN", "IS, UCF-101", "14.56", _THESIS_IS, _THESIS),
    Published("real clips", "IS, UCF-101", "34.33", _TGAN_IS, _THESIS),
    Published("real clips", "IS, UCF-101", "83.18", _THESIS_IS, _THESIS),
    Published("HRVGAN", "IS, UCF-101", "14.29", "not stated", _HRVGAN),
    Published("VGAN", "FID, Golf", "113,007", _THESIS_FID, _THESIS),
    Published("TGAN", "FID, Golf", "112,029", _THESIS_FID, _THESIS),
    Published("Progressive Video GAN", "FID, Golf", "95,544", _THESIS_FID, _THESIS),
    Published("VGAN", "FID, Aeroplane", "149,094", _THESIS_FID, _THESIS),
    Published("TGAN", "FID, Aeroplane", "120,417", _THESIS_FID, _THESIS),
    Published("Progressive Video GAN", "FID, Aeroplane", "102,049", _THESIS_FID, _THESIS),
    Published("HRVGAN", "FID, Golf", "102,584", "not stated", _HRVGAN),
    Published("HRVGAN", "FID, Aeroplane", "104,036", "not stated", _HRVGAN),
    Published("DVD-GAN 12x64x64", "FID, Kinetics-600", "0.91", _DVDGAN, _DVDGAN_PAPER),
    Published("DVD-GAN 48x64x64", "FID, Kinetics-600", "12.92", _DVDGAN, _DVDGAN_PAPER),
    Published("DVD-GAN 12x128x128", "FID, Kinetics-600", "2.16", _DVDGAN, _DVDGAN_PAPER),
    Published("DVD-GAN 48x128x128", "FID, Kinetics-600", "31.50", _DVDGAN, _DVDGAN_PAPER),
    Published("DVD-GAN 12x256x256", "FID, Kinetics-600", "3.35", _DVDGAN, _DVDGAN_PAPER),
    Published("DVD-GAN 12x64x64", "IS, Kinetics-600", "61.10", _DVDGAN_IS, _DVDGAN_PAPER),
    Published("DVD-GAN 48x64x64", "IS, Kinetics-600", "97.62", _DVDGAN_IS, _DVDGAN_PAPER),
    Published("DVD-GAN 12x128x128", "IS, Kinetics-600", "55.09", _DVDGAN_IS, _DVDGAN_PAPER),
    Published("DVD-GAN 48x128x128", "IS, Kinetics-600", "111.19", _DVDGAN_IS, _DVDGAN_PAPER),
    Published("DVD-GAN 12x256x256", "IS, Kinetics-600", "59.74", _DVDGAN_IS, _DVDGAN_PAPER),
    Published("DVD-GAN-FP", "FVD, Kinetics-600", "103.78 +- 1.17", _DVDGAN_FVD, _DVDGAN_PAPER),
)
"""A choice; every figure names the place where it was read."""
