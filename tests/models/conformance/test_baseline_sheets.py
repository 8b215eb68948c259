"""Counts of VGAN, iVGAN, TGAN and MoCoGAN at their published sizes."""

import dataclasses

import pytest

from vidgan.models.base import GAN, ClipShape, ModelConfig
from vidgan.models.conformance import sheet as conformance
from vidgan.models.conformance import tables as baseline_sheets

BASELINES = ("vgan", "ivgan", "tgan", "mocogan")


@pytest.mark.parametrize("model", BASELINES)
def test_every_layer_and_total_is_as_recorded(model: str) -> None:
    sheet = conformance.conformance_sheet(model)
    for row in sheet.rows:
        assert f"{row.num_parameters:,}" == row.printed, row
    for total in sheet.totals:
        assert total.num_parameters == total.recorded, total


def test_published_counts_stand_in_the_sheets() -> None:
    recorded = {t.recorded for m in BASELINES for t in conformance.conformance_sheet(m).totals}
    assert recorded == {
        *(16_245_383, 12_663_619, 11_057_858, 68_216_455, 44_135_810),
        *(12_678_531, 11_057_990, 22_043_267, 22_102_659, 22_047_491),
        *(825_444, 3_622_691, 11_032_385),
        *(3_298_836, 663_296, 11_253_504, 4_077_076, 14_366_464, 2_765_568, 2_650_880),
    }


def test_shapes_are_those_of_the_published_tables() -> None:
    def shapes(model: str, network: str) -> list[tuple[int, ...]]:
        rows = conformance.conformance_sheet(model).rows
        return [row.shape for row in rows if row.network == network]

    assert shapes("vgan", "generator")[:6] == [
        *((512, 2, 4, 4), (256, 4, 8, 8), (128, 8, 16, 16), (64, 16, 32, 32)),
        *((3, 32, 64, 64), (1, 32, 64, 64)),
    ]
    assert shapes("ivgan", "discriminator")[-2:] == [(1, 1, 2, 2), (1,)]
    assert shapes("tgan", "generator")[:5] == [(512, 1), (256, 2), (128, 4), (128, 8), (100, 16)]
    assert shapes("tgan", "discriminator")[-1] == (1, 1, 1)
    assert shapes("mocogan", "video")[:4] == [
        *((64, 13, 32, 32), (128, 10, 16, 16), (256, 7, 8, 8), (512, 4, 4, 4)),
    ]
    assert shapes("mocogan", "image")[-1] == (1, 4, 4)


@pytest.mark.parametrize("model", BASELINES)
def test_totals_move_with_a_width(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build = baseline_sheets.on_meta_device

    def wider(config: ModelConfig, shape: ClipShape, num_classes: int = 0) -> GAN:
        name = "image_width" if model == "tgan" else "width"
        other = dataclasses.replace(config, **{name: getattr(config, name) + 32})
        return build(other, shape, num_classes)

    monkeypatch.setattr(baseline_sheets, "on_meta_device", wider)
    sheet = conformance.conformance_sheet(model)
    assert any(total.num_parameters != total.recorded for total in sheet.totals)
