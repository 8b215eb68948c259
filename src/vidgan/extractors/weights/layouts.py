"""How the entries of published files are named, and how they become ours.

A layout knows, for every weight of a network, the entry that holds it in files of one kind and
what has to be done to it. Names and arrangement follow the published files; shapes are checked
afterwards against the network's own table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vidgan.extractors.networks.c3d import CONVOLUTIONS, c3d_shapes
from vidgan.extractors.networks.i3d import i3d_shapes, i3d_units
from vidgan.extractors.networks.inception import inception_shapes
from vidgan.extractors.networks.lpips import backbone_shapes, channel_shapes
from vidgan.extractors.networks.preprocessing import MEAN_SHAPE
from vidgan.extractors.networks.widths import Shapes
from vidgan.extractors.weights.checking import MissingEntryError, WrongShapeError

Change = Callable[[Tensor], Tensor]
NetworkName = Literal[
    "c3d", "i3d", "inception", "mean", "alexnet", "vgg16", "lpips-alex", "lpips-vgg"
]


def as_is(value: Tensor) -> Tensor:
    """An entry that is arranged as here."""
    return value


def kernel_first(value: Tensor) -> Tensor:
    """TensorFlow's kernel (t, h, w, in, out) as (out, in, t, h, w)."""
    return value.permute(4, 3, 0, 1, 2) if value.ndim == 5 else value


def flat(value: Tensor) -> Tensor:
    """A vector with axes of length 1 around it, as Sonnet's batch normalisation stores them."""
    return value.flatten() if value.numel() == max(value.shape, default=0) else value


@dataclass(frozen=True)
class Layout:
    """One way of naming the weights of a network.

    Attributes:
        name: short, for people and records.
        network: the network.
        entries: by our name the entry's name and the change.
        scaleless: units whose batch normalisation has no scale in such files; it is 1 then.
        ignored: ends of entries that are no weights.
        optional_prefix: what may stand before every entry.
    """

    name: str
    network: NetworkName
    entries: Mapping[str, tuple[str, Change]]
    scaleless: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    optional_prefix: str = ""

    def stripped(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The entries without the optional prefix and without those that are no weights."""
        prefix = self.optional_prefix
        return {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if not name.endswith(self.ignored or ("\n",))
        }

    def share(self, tensors: Mapping[str, Tensor]) -> float:
        """How many of the entries such a file should hold are there, 0..1."""
        names = {theirs for theirs, _ in self.entries.values()}
        return len(names & set(self.stripped(tensors))) / len(names)

    def convert(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights by our names; entries without a place keep their name, for the check to see."""
        found = self.stripped(tensors)
        converted = {}
        for ours, (theirs, change) in self.entries.items():
            if theirs in found:
                converted[ours] = change(found.pop(theirs)).float().contiguous()
        for unit in self.scaleless:
            kernel = converted.get(f"{unit}.conv3d.weight")
            if kernel is not None and kernel.ndim:
                converted[f"{unit}.bn.weight"] = torch.ones(kernel.shape[0])
        return {**converted, **found}

    def entry_of(self, ours: str) -> str:
        """The name that the file gives to one of our weights."""
        return self.entries[ours][0] if ours in self.entries else ours


def _c3d(
    name: str, renamed: Mapping[str, str], weight: str, bias: str, has_classes: bool = True
) -> Layout:
    layers = [layer for layer, *_ in CONVOLUTIONS] + ["fc6", "fc7"]
    layers += ["fc8"] if has_classes else []
    entries: dict[str, tuple[str, Change]] = {}
    for layer in layers:
        theirs = renamed.get(layer, layer)
        entries[f"{layer}.weight"] = (theirs + weight, as_is)
        entries[f"{layer}.bias"] = (theirs + bias, as_is)
    return Layout(name, "c3d", entries)


def _i3d_names(
    units: Mapping[str, str], weights: Mapping[str, tuple[str, Change]]
) -> dict[str, tuple[str, Change]]:
    return {
        f"{unit}.{ours}": (f"{units[unit]}{theirs}", change)
        for unit in units
        for ours, (theirs, change) in weights.items()
    }


def _tensorflow_i3d() -> Layout:
    """DeepMind's checkpoints and the module of TensorFlow Hub.

    Their second unit of branch 2 in `Mixed_5b` is called 0a where all others are called 0b.
    """
    branches = {
        "b0": "Branch_0/Conv3d_0a_1x1",
        "b1a": "Branch_1/Conv3d_0a_1x1",
        "b1b": "Branch_1/Conv3d_0b_3x3",
        "b2a": "Branch_2/Conv3d_0a_1x1",
        "b2b": "Branch_2/Conv3d_0b_3x3",
        "b3b": "Branch_3/Conv3d_0b_1x1",
    }
    units = {}
    for unit in i3d_units():
        block, _, branch = unit.partition(".")
        units[unit] = f"{block}/{branches[branch]}" if branch else unit
    units["Mixed_5b.b2b"] = "Mixed_5b/Branch_2/Conv3d_0a_3x3"
    weights: dict[str, tuple[str, Change]] = {
        "conv3d.weight": ("/conv_3d/w", kernel_first),
        "bn.bias": ("/batch_norm/beta", flat),
        "bn.running_mean": ("/batch_norm/moving_mean", flat),
        "bn.running_var": ("/batch_norm/moving_variance", flat),
    }
    entries = _i3d_names(units, weights)
    entries["logits.conv3d.weight"] = ("Logits/Conv3d_0c_1x1/conv_3d/w", kernel_first)
    entries["logits.conv3d.bias"] = ("Logits/Conv3d_0c_1x1/conv_3d/b", flat)
    return Layout(
        "TensorFlow",
        "i3d",
        entries,
        scaleless=tuple(units),
        ignored=("/Momentum", "global_step"),
        optional_prefix="RGB/inception_i3d/",
    )


def _piergiaj_i3d() -> Layout:
    entries: dict[str, tuple[str, Change]] = {name: (name, as_is) for name in i3d_shapes()}
    return Layout("pytorch-i3d", "i3d", entries, ignored=("num_batches_tracked",))


def _i3dpt() -> Layout:
    """The names of kinetics_i3d_pytorch, which the TorchScript file shares."""
    places = {
        "b0": "branch_0",
        "b1a": "branch_1.0",
        "b1b": "branch_1.1",
        "b2a": "branch_2.0",
        "b2b": "branch_2.1",
        "b3b": "branch_3.1",
    }
    units = {}
    for unit in i3d_units():
        block, _, branch = unit.partition(".")
        theirs = block[0].lower() + block[1:]
        units[unit] = f"{theirs}.{places[branch]}" if branch else theirs
    weights: dict[str, tuple[str, Change]] = {"conv3d.weight": (".conv3d.weight", as_is)}
    for entry in ("weight", "bias", "running_mean", "running_var"):
        weights[f"bn.{entry}"] = (f".batch3d.{entry}", as_is)
    entries = _i3d_names(units, weights)
    for entry in ("weight", "bias"):
        entries[f"logits.conv3d.{entry}"] = (f"conv3d_0c_1x1.conv3d.{entry}", as_is)
    return Layout("i3dpt", "i3d", entries, ignored=("num_batches_tracked",))


def _pytorch_inception() -> Layout:
    entries: dict[str, tuple[str, Change]] = {name: (name, as_is) for name in inception_shapes()}
    return Layout("pytorch-fid", "inception", entries, ignored=("num_batches_tracked",))


def _torchvision(name: str, network: NetworkName, backbone: str) -> Layout:
    """Files of torchvision's classifiers, of which LPIPS reads the features alone."""
    entries: dict[str, tuple[str, Change]] = {n: (n, as_is) for n in backbone_shapes(backbone)}
    hidden = tuple(f"classifier.{i}.{end}" for i in (0, 1, 3, 4, 6) for end in ("weight", "bias"))
    return Layout(name, network, entries, ignored=hidden)


def _lpips(name: str, network: NetworkName, backbone: str) -> Layout:
    """Channel weights as version 0.1 of LPIPS stores them, behind a dropout layer."""
    names = channel_shapes(backbone)
    return Layout(
        name, network, {n: (n.replace(".weight", ".model.1.weight"), as_is) for n in names}
    )


def mean_clip(value: Tensor) -> Tensor:
    """The mean clip of C3D in the shape [3, 16, 128, 171].

    Raises:
        WrongShapeError: the entry does not hold as many values.
    """
    count = 1
    for length in MEAN_SHAPE:
        count *= length
    if value.numel() != count:
        found = "x".join(map(str, value.shape))
        raise WrongShapeError(
            f"the mean clip of C3D has 3x16x128x171 values and this file's entry 'mean' is {found};"
            " take mean2.npz of TGAN"
        )
    return value.reshape(MEAN_SHAPE)


_FEATURES = dict(
    zip(
        [layer for layer, *_ in CONVOLUTIONS] + ["fc6", "fc7"],
        [f"features.{i}" for i in (0, 3, 6, 8, 11, 13, 16, 18)] + ["classifier.0", "classifier.3"],
        strict=True,
    )
)
_MMACTION = {
    **{layer: f"backbone.{layer}.conv" for layer, *_ in CONVOLUTIONS},
    "fc6": "backbone.fc6",
    "fc7": "backbone.fc7",
    "fc8": "cls_head.fc_cls",
}

LAYOUTS: tuple[Layout, ...] = (
    _c3d("Chainer", {}, "/W", "/b"),
    _c3d("c3d-pytorch", {"conv1a": "conv1", "conv2a": "conv2"}, ".weight", ".bias"),
    _c3d("pytorch-video-recognition", _FEATURES, ".weight", ".bias", has_classes=False),
    _c3d("MMAction2", _MMACTION, ".weight", ".bias"),
    Layout("mean", "mean", {"mean": ("mean", mean_clip)}),
    _tensorflow_i3d(),
    _piergiaj_i3d(),
    _i3dpt(),
    _pytorch_inception(),
    _torchvision("torchvision AlexNet", "alexnet", "alex"),
    _torchvision("torchvision VGG-16", "vgg16", "vgg"),
    _lpips("LPIPS of AlexNet", "lpips-alex", "alex"),
    _lpips("LPIPS of VGG-16", "lpips-vgg", "vgg"),
)
"""Every layout that is known."""


def shapes_for(network: NetworkName, classes: int, width: float) -> Shapes:
    """The table of a network at a width."""
    if network == "c3d":
        return c3d_shapes(width, classes)
    if network == "i3d":
        return i3d_shapes(width, classes)
    if network == "inception":
        return inception_shapes(width, classes)
    if network in ("alexnet", "vgg16"):
        return backbone_shapes("alex" if network == "alexnet" else "vgg", width)
    if network in ("lpips-alex", "lpips-vgg"):
        return channel_shapes(network.removeprefix("lpips-"), width)
    return {"mean": MEAN_SHAPE}


def find_layouts(tensors: Mapping[str, Tensor], where: str) -> list[Layout]:
    """The layouts that fit the names of a file's entries best; of several, shapes have to decide.

    Raises:
        MissingEntryError: the file holds less than half of the entries of any.
    """
    best = max(layout.share(tensors) for layout in LAYOUTS)
    if best < 0.5:
        examples = ", ".join(list(tensors)[:3]) or "none"
        raise MissingEntryError(
            f"the entries of {where} ({examples}, ...) are named like those of no weight file that "
            "is known; 'vidgan weights list' names the files that are"
        )
    return [layout for layout in LAYOUTS if layout.share(tensors) == best]


def num_classes_of(layout: Layout, converted: Mapping[str, Tensor]) -> int:
    """Rows of the class layer; 0 without one."""
    last = {"c3d": "fc8.weight", "i3d": "logits.conv3d.weight", "inception": "fc.weight"}
    value = converted.get(last.get(layout.network, ""))
    return 0 if value is None or not value.ndim else value.shape[0]
