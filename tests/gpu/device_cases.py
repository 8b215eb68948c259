"""What the tests of this folder share: where a case runs, and how far two results are apart."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

EXACT = {torch.float64: 1e-10, torch.float32: 2e-4}
"""Largest difference of a pass to float64 on the CPU, relative to the size of the whole tensor:
rounding of sums of some thousand terms, passed on through some ten layers."""
SLOPE = {torch.float64: 1e-8, torch.float32: 2e-2}
"""The same of a gradient. In float32 some inputs of leaky ReLUs lie so near zero that rounding
turns their sign; each moves a gradient by about 1 / sqrt(number of activations), here 0.01."""

ON_CARD = pytest.mark.parametrize(
    "device", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True
)
"""For tests whose form on a CPU stands elsewhere in this suite, or would compare it with itself."""


def places(few: Iterable[Any], all_of_them: Iterable[Any]) -> list[Any]:
    """Pairs (device, case): a few cases in float32 on a CPU, all of them on a card.

    To be used with `indirect=["device"]`.
    """
    on_cpu = [pytest.param("cpu", case, id=f"cpu-{case}") for case in few]
    on_card = [
        pytest.param("cuda", case, id=f"cuda-{case}", marks=pytest.mark.gpu) for case in all_of_them
    ]
    return on_cpu + on_card


def number_formats(device: torch.device) -> list[torch.dtype]:
    """Formats to compare with float64 on the CPU; there float64 would meet itself."""
    return [torch.float32] if device.type == "cpu" else [torch.float64, torch.float32]


def assert_near(actual: Tensor, expected: Tensor, limit: float, name: str = "") -> None:
    """The difference is at most `limit` of the expected tensor's norm, or of the unit."""
    gap = float((actual.detach().double().cpu() - expected.detach().double().cpu()).norm())
    size = float(expected.detach().double().norm())
    assert gap <= limit * max(size, 1e-3), f"{name}: {gap:.2e} apart at a size of {size:.2e}"


def cosine(actual: Tensor, expected: Tensor) -> float:
    """Cosine of the angle between two tensors as vectors."""
    a, b = (tensor.detach().double().cpu().flatten() for tensor in (actual, expected))
    return float(a @ b / (a.norm() * b.norm()))
