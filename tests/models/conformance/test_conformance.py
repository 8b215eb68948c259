"""Layer sheets count what was built and cover all of it."""

import re

import pytest
import torch
from torch import Tensor, nn

from vidgan.errors import UserError
from vidgan.models import build_gan
from vidgan.models.base import Network
from vidgan.models.conformance.sheet import PrintedLayer, conformance_sheet, layer_rows
from vidgan.models.pvgan import ProgressiveConfig


class Two(Network):
    """A linear layer of 3 x 2 weights and 2 biases, then one of 2 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 2)
        self.second = nn.Linear(2, 1, bias=False)
        self.unused = nn.Linear(9, 9).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x))
        return y


def test_rows_hold_counts_and_shapes_of_the_built_network() -> None:
    network = Two()
    layers = [PrintedLayer("a", "8", ("first",)), PrintedLayer("b", "3", ("second",), "wrong")]
    rows = layer_rows("net", network, layers, lambda: network(torch.zeros(1, 3)))
    assert [(row.layer, row.shape, row.num_parameters, row.remark) for row in rows] == [
        ("a", (2,), 8, ""),
        ("b", (1,), 2, "wrong"),
    ]


@pytest.mark.parametrize(
    "layers",
    [
        [PrintedLayer("a", "8", ("first",))],
        [PrintedLayer("a", "8", ("first", "first.bias")), PrintedLayer("b", "2", ("second",))],
    ],
)
def test_every_parameter_in_use_stands_in_one_row(layers: list[PrintedLayer]) -> None:
    network = Two()
    with pytest.raises(ValueError, match="in use are"):
        layer_rows("net", network, layers, lambda: network(torch.zeros(1, 3)))


def test_progressive_gan_agrees_with_what_its_source_prints() -> None:
    sheet = conformance_sheet("pvgan")
    factors = {"k": 1e3, "m": 1e6, "": 1.0}
    for row in sheet.rows:
        if not row.remark:
            match = re.fullmatch(r"([\d.]+)([km]?)", row.printed)
            assert match
            # The source cuts digits off.
            last_digit = 10.0 ** -len(match[1].partition(".")[2]) * factors[match[2]]
            printed = float(match[1]) * factors[match[2]]
            assert printed <= row.num_parameters < printed + 1.01 * last_digit, row
    assert [(total.num_parameters, total.recorded) for total in sheet.totals] == [
        (3_702_091, 3_702_091),
        (3_705_801, 3_705_801),
        (3_696_915, 3_696_915),
        (3_700_625, 3_700_625),
        (16_640, 16_640),
    ]
    for network, total in (("generator", 3_702_091), ("discriminator", 3_705_801)):
        assert sum(r.num_parameters for r in sheet.rows if r.network == network) == total


def test_totals_move_with_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    from vidgan.models.conformance import tables as progressive_sheet

    def wider(side: int, **settings: str) -> object:
        widths = [128, 128, 128, 64, 32, 16, 9][: {128: 6, 256: 7}[side]]
        config = ProgressiveConfig(channels=tuple(widths), **settings)  # type: ignore[arg-type]
        with torch.device("meta"):
            return build_gan(config, (3, 32, side, side))

    monkeypatch.setattr(progressive_sheet, "_on_meta_device", wider)
    wrong = [t.what for t in conformance_sheet("pvgan").totals if t.num_parameters != t.recorded]
    assert wrong == ["generator, 256 px", "discriminator, 256 px"]


def test_models_without_a_sheet_say_so() -> None:
    with pytest.raises(UserError, match="there is no layer sheet for 'nothing'"):
        conformance_sheet("nothing")
