"""Counts of DVD-GAN, DVD-GAN-FP and HRVGAN, and their networks at the sizes of the presets."""

import re
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from vidgan.core.randomness import BatchRandom
from vidgan.models import MODELS, dvdgan
from vidgan.models.base import ClipShape
from vidgan.models.conformance.sheet import SHEETS, conformance_sheet
from vidgan.training.presets import load_config, presets_folder

sheet_of = lru_cache(conformance_sheet)
FAMILIES = ("dvdgan", "dvdgan_fp", "hrvgan", "hrvgan_repo")


@pytest.mark.parametrize("model", FAMILIES)
def test_every_layer_and_total_is_as_recorded(model: str) -> None:
    sheet = sheet_of(model)
    for row in sheet.rows:
        assert f"{row.num_parameters:,}" == row.printed, row
    for total in sheet.totals:
        assert total.num_parameters == total.recorded, total


def test_layers_have_the_published_shapes() -> None:
    shapes = {(row.network, row.layer): row.shape for row in sheet_of("dvdgan").rows}
    assert shapes["generator", "4 px ConvGRU 1024"] == (12, 1024, 4, 4)
    assert shapes["generator", "64 px block 256, up"] == (12, 256, 64, 64)
    assert shapes["spatial", "block 2048"] == (2048, 4, 4)
    assert shapes["temporal", "3-D block 256->512, down"] == (512, 3, 8, 8)
    assert shapes["temporal", "block 2048"] == (2048, 2, 2)


def test_layers_of_prediction_and_of_hrvgan_have_their_shapes() -> None:
    shapes = {(row.network, row.layer): row.shape for row in sheet_of("dvdgan_fp").rows}
    assert shapes["generator", "4 px state, Conv2d 3 5x2048->1024"] == (1024, 4, 4)
    assert shapes["generator", "64 px block 256, up"] == (11, 256, 64, 64)
    # Given and generated frames together, halved twice.
    assert shapes["temporal", "3-D block 256->512, down"] == (512, 4, 8, 8)
    shapes = {(row.network, row.layer): row.shape for row in sheet_of("hrvgan").rows}
    assert shapes["generator", "ConvT3d 4 s2 64->32, BN"] == (32, 16, 64, 64)
    assert shapes["generator", "Conv3d 3 8->3"] == (3, 32, 256, 256)
    assert shapes["discriminator", "Conv3d 4 s2 128->128, IN"] == (128, 4, 4, 4)


def test_every_published_model_has_a_sheet() -> None:
    assert set(SHEETS) == set(MODELS) - {"pocketgan"}


def test_totals_move_with_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dvdgan.DISCRIMINATOR_WIDTHS, 5, (1, 2, 4, 8, 16, 17))
    wrong = [t.what for t in conformance_sheet("dvdgan").totals if t.num_parameters != t.recorded]
    assert wrong == [f"{n}, 128 px, 96 channels, 600 classes" for n in ("spatial", "temporal")]


LARGE = re.compile("dvdgan-kinetics600-(64x48|128|256)|dvdgan_fp-kinetics600")
"""Presets whose networks make thousands of calls."""

PRESETS = [
    pytest.param(path, marks=pytest.mark.slow) if LARGE.match(path.stem) else path
    for path in sorted((presets_folder() / "paper").glob("*.yaml"))
    if path.name.startswith(("dvdgan", "hrvgan"))
]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_networks_of_published_size_take_a_step_on_no_device(path: Path) -> None:
    config = load_config(f"paper/{path.stem}")
    side = config.data.resolution
    shape = ClipShape(3, config.data.frames, side, side)
    with torch.device("meta"):
        gan = config.model.build(shape, num_classes=101)
    real = torch.empty(2, *shape, device="meta")
    rng = BatchRandom((0,), 2, 0, 2, torch.device("cpu"))
    context, target = gan.make_context(real, rng)
    labels = torch.zeros(2, dtype=torch.int64, device="meta") if gan.generator.num_classes else None
    latent = torch.empty(2, gan.generator.latent_dim(), device="meta")

    fake = gan.generator(latent, labels, context)
    assert fake.shape == target.shape
    total = torch.zeros((), device="meta")
    for discriminator in gan.discriminators.values():
        view = discriminator.draw_view(2, torch.Generator().manual_seed(0))
        view = None if view is None else view.to("meta")
        total = total + discriminator(fake, labels, context, view).realness.sum()
    for network in gan.networks.values():
        named = dict(network.parameters_in_use())
        gradients = torch.autograd.grad(
            total, list(named.values()), retain_graph=True, allow_unused=True
        )
        missing = [n for n, g in zip(named, gradients, strict=True) if g is None]
        assert missing == []
