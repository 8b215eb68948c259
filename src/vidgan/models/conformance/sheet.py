"""Layer sheets: a built model compared with the figures of its source."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from vidgan.errors import UserError
from vidgan.models.base import Network

SHEETS = {
    "pvgan": "vidgan.models.conformance.tables:sheet",
    "vgan": "vidgan.models.conformance.tables:vgan",
    "ivgan": "vidgan.models.conformance.tables:ivgan",
    "tgan": "vidgan.models.conformance.tables:tgan",
    "mocogan": "vidgan.models.conformance.tables:mocogan",
    "dvdgan": "vidgan.models.conformance.tables:dvdgan",
    "dvdgan_fp": "vidgan.models.conformance.tables:dvdgan_fp",
    "hrvgan": "vidgan.models.conformance.tables:hrvgan",
    "hrvgan_repo": "vidgan.models.conformance.tables:published_hrvgan",
}
"""Model to `module:function` that returns its sheet."""


@dataclass(frozen=True)
class PrintedLayer:
    """A layer as printed in the source, and its modules in the built network.

    Attributes:
        layer: name in the source.
        printed: its number of parameters, as printed.
        parts: names of our modules and parameters that make it up.
        remark: what is known about a figure that does not agree.
    """

    layer: str
    printed: str
    parts: tuple[str, ...]
    remark: str = ""


@dataclass(frozen=True)
class LayerRow:
    """One layer of a sheet; `shape` is the output without the batch, as (C, T, H, W) or (F,)."""

    network: str
    layer: str
    shape: tuple[int, ...]
    num_parameters: int
    printed: str
    remark: str


@dataclass(frozen=True)
class Total:
    """A count of the built model and the one on record for it."""

    what: str
    num_parameters: int
    recorded: int


@dataclass(frozen=True)
class Sheet:
    """Layers and totals of a model."""

    source: str
    rows: tuple[LayerRow, ...]
    totals: tuple[Total, ...]


def conformance_sheet(model: str) -> Sheet:
    """The sheet of a model, counted in networks that are built for it (on no device).

    Raises:
        UserError: the model has none.
    """
    if model not in SHEETS:
        raise UserError(f"there is no layer sheet for {model!r}; there is for {', '.join(SHEETS)}")
    module_name, _, function_name = SHEETS[model].partition(":")
    make: Callable[[], Sheet] = getattr(importlib.import_module(module_name), function_name)
    return make()


def layer_rows(
    title: str, network: Network, layers: Sequence[PrintedLayer], run: Callable[[], object]
) -> tuple[LayerRow, ...]:
    """Rows for printed layers.

    Args:
        title: name of the network.
        network: the built network.
        layers: what the source prints.
        run: passes one clip or latent through the network, so that shapes are seen.

    Raises:
        ValueError: a parameter that the network uses is in no row, or in two.
    """
    shapes = output_shapes(network, [layer.parts[0] for layer in layers], run)
    counted: list[str] = []
    rows = []
    for layer in layers:
        names = [name for part in layer.parts for name in _parameters_of(network, part)]
        counted += names
        size = sum(network.get_parameter(name).numel() for name in names)
        rows.append(
            LayerRow(title, layer.layer, shapes[layer.parts[0]], size, layer.printed, layer.remark)
        )
    used = sorted(name for name, _ in network.parameters_in_use())
    if sorted(counted) != used:
        raise ValueError(f"the rows of the {title} hold {counted}, but in use are {used}")
    return tuple(rows)


def output_shapes(
    network: nn.Module, names: Sequence[str], run: Callable[[], object]
) -> dict[str, tuple[int, ...]]:
    """Shapes, without the batch axis, that the named modules return while `run` runs."""
    found: dict[str, tuple[int, ...]] = {}

    def remember(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            found[name] = tuple(output.shape[1:])

        return hook

    handles = [network.get_submodule(n).register_forward_hook(remember(n)) for n in names]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def count_in_use(network: Network) -> int:
    """Parameters that the current stage uses."""
    return sum(parameter.numel() for _, parameter in network.parameters_in_use())


def _parameters_of(network: nn.Module, part: str) -> list[str]:
    """Names of the parameters at or below `part`."""
    return [
        name
        for name, _ in network.named_parameters()
        if name == part or name.startswith(f"{part}.")
    ]
