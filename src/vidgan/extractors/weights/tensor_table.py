"""Checkpoints of TensorFlow, read without it.

A checkpoint is `PREFIX.index`, a sorted table in the format of LevelDB whose values are small
protocol buffers, and `PREFIX.data-00000-of-00001`, the raw little-endian values. The table is
blocks of entries whose keys leave out what they share with the key before; a footer of 48 bytes
names the index block, which names the data blocks. Every block and every tensor has a checksum.
Formats: LevelDB's `table_format.md`, TensorFlow's `tensor_bundle.proto`.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
from torch import Tensor

from vidgan.core.crc32c import masked_crc32c
from vidgan.errors import UserError
from vidgan.extractors.lpips import backbone_shapes, channel_shapes
from vidgan.extractors.networks.c3d import CONVOLUTIONS, c3d_shapes
from vidgan.extractors.networks.i3d import i3d_shapes, i3d_units
from vidgan.extractors.networks.inception import Shapes, inception_shapes
from vidgan.extractors.networks.preprocessing import MEAN_SHAPE
from vidgan.extractors.weights.checking import MissingEntryError, WrongShapeError, own_words

FOOTER_BYTES = 48
MAGIC = 0xDB4775248B80FB57
TRAILER_BYTES = 5
"""Behind every block: how it is compressed, and its checksum."""
UNCOMPRESSED = 0
TYPES: dict[int, numpy.dtype[Any]] = {
    1: numpy.dtype("<f4"),
    2: numpy.dtype("<f8"),
    3: numpy.dtype("<i4"),
    9: numpy.dtype("<i8"),
}
"""Numbers of TensorFlow's types that can stand in a checkpoint of a network; others are skipped."""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types of protocol buffers."""


class DamagedTableError(UserError):
    """A checkpoint's table or values are damaged, or of a kind that is not read."""


@dataclass
class TensorEntry:
    """Where a tensor lies: its `BundleEntryProto`."""

    dtype: int = 0
    shape: list[int] = field(default_factory=list)
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc32c: int = 0
    is_sliced: bool = False


def read_tensor_table(prefix: str | Path) -> dict[str, Tensor]:
    """Every number tensor of a checkpoint, by its TensorFlow name.

    Args:
        prefix: path without `.index`.

    Raises:
        DamagedTableError: a checksum or a length is wrong, or the format is another.
    """
    index_path = Path(f"{prefix}.index")
    data_path = Path(f"{prefix}.data-00000-of-00001")
    entries = read_index(index_path)
    tensors = {}
    with data_path.open("rb") as file:
        for name, entry in entries.items():
            dtype = TYPES.get(entry.dtype)
            if dtype is None:
                continue
            file.seek(entry.offset)
            content = file.read(entry.size)
            count = numpy.prod(entry.shape, dtype=numpy.int64)
            if len(content) != entry.size or count * dtype.itemsize != entry.size:
                raise DamagedTableError(
                    f"{data_path} ends before the values of {name}, or its index lies about their "
                    "size; download it again"
                )
            if masked_crc32c(content) != entry.crc32c:
                raise DamagedTableError(
                    f"the values of {name} in {data_path} do not have the checksum that their "
                    "index gives; download it again"
                )
            array = numpy.frombuffer(content, dtype).reshape(entry.shape)
            tensors[name] = torch.from_numpy(array.astype(dtype.newbyteorder("=")))
    return tensors


def read_index(path: Path) -> dict[str, TensorEntry]:
    """Entries of an `.index` file, by name.

    Raises:
        DamagedTableError: as in `read_tensor_table`.
    """
    try:
        content = path.read_bytes()
        entries = {key.decode(): value for key, value in table_items(content)}
        header = dict(fields(entries.pop("")))
        # Field 1 is the number of data files, field 2 the byte order.
        if header.get(1) != 1 or header.get(2, 0) != 0:
            raise DamagedTableError(
                f"{path} belongs to a checkpoint of several data files or of big-endian numbers, "
                "which is not read; save it again in one file"
            )
        parsed = {name: parse_entry(value) for name, value in entries.items()}
    except (IndexError, KeyError, TypeError, UnicodeDecodeError, ValueError, struct.error) as error:
        if isinstance(error, DamagedTableError):
            raise
        raise DamagedTableError(
            f"{path} is not the index of a TensorFlow checkpoint, or it is damaged"
            f"{own_words(error)}: download it again"
        ) from error
    for name, entry in parsed.items():
        if entry.is_sliced or entry.shard:
            raise DamagedTableError(
                f"{path} holds {name} in slices, which is not read; save the checkpoint again"
            )
    return parsed


def table_items(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table, in its order.

    Raises:
        ValueError: no such table, or damaged.
    """
    footer = content[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise ValueError("it does not end like a table")
    _, place = read_handle(footer, 0)
    handle, _ = read_handle(footer, place)
    for _, value in block_items(read_block(content, *handle)):
        data_handle, _ = read_handle(value, 0)
        yield from block_items(read_block(content, *data_handle))


def read_block(content: bytes, offset: int, size: int) -> bytes:
    """One block without its trailer.

    Raises:
        ValueError: damaged or compressed.
    """
    block = content[offset : offset + size]
    trailer = content[offset + size : offset + size + TRAILER_BYTES]
    kind, checksum = struct.unpack("<BI", trailer)
    if masked_crc32c(content[offset : offset + size + 1]) != checksum:
        raise ValueError(f"the block at byte {offset} has another checksum")
    if kind != UNCOMPRESSED:
        raise ValueError(f"the block at byte {offset} is compressed")
    return block


def block_items(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block."""
    (num_restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * num_restarts
    place, key = 0, b""
    while place < end:
        shared, place = read_varint(block, place)
        rest, place = read_varint(block, place)
        length, place = read_varint(block, place)
        key = key[:shared] + block[place : place + rest]
        place += rest
        yield key, block[place : place + length]
        place += length


def read_handle(content: bytes, place: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and the position after them."""
    offset, place = read_varint(content, place)
    size, place = read_varint(content, place)
    return (offset, size), place


def read_varint(content: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and the position after it."""
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol buffer's fields."""
    place = 0
    while place < len(message):
        tag, place = read_varint(message, place)
        number, wire = tag >> 3, tag & 7
        value: int | bytes
        if wire == VARINT:
            value, place = read_varint(message, place)
        elif wire == BYTES:
            length, place = read_varint(message, place)
            value, place = message[place : place + length], place + length
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
            value, place = int.from_bytes(message[place : place + length], "little"), place + length
        else:
            raise ValueError(f"a field of wire type {wire}")
        yield number, value


def parse_entry(message: bytes) -> TensorEntry:
    """A tensor's `BundleEntryProto`."""
    entry = TensorEntry()
    names = {1: "dtype", 3: "shard", 4: "offset", 5: "size", 6: "crc32c"}
    for number, value in fields(message):
        if number in names and isinstance(value, int):
            setattr(entry, names[number], value)
        elif number == 2 and isinstance(value, bytes):
            entry.shape = [_axis(axis) for key, axis in fields(value) if key == 2]
        elif number == 7:
            entry.is_sliced = True
    return entry


def _axis(message: int | bytes) -> int:
    if isinstance(message, int):
        raise ValueError("a shape without axes")
    sizes = [value for number, value in fields(message) if number == 1]
    size = sizes[0] if sizes else 0
    if isinstance(size, bytes):
        raise ValueError("a size that is not a number")
    return size


# ------------------------------------------------------------------------------------------------
# How the entries of published files are named, and how they become ours.
#
# A layout knows, for every weight of a network, the entry that holds it in files of one kind and
# what has to be done to it. Names and arrangement follow the published files; shapes are checked
# afterwards against the network's own table.

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
class WeightLayout:
    """One way of naming the weights of a network.

    Attributes:
        name: short, for messages and records.
        network: the network.
        entries: by our name the entry's name and the change.
        scaleless: units whose batch normalisation has no scale in such files; it is 1 then.
        ignored: ends of entries that are not weights.
        optional_prefix: what may stand before every entry.
    """

    name: str
    network: NetworkName
    entries: Mapping[str, tuple[str, Change]]
    scaleless: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    optional_prefix: str = ""

    def stripped(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The entries without the optional prefix and without those that are not weights."""
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
) -> WeightLayout:
    layers = [layer for layer, *_ in CONVOLUTIONS] + ["fc6", "fc7"]
    layers += ["fc8"] if has_classes else []
    entries: dict[str, tuple[str, Change]] = {}
    for layer in layers:
        theirs = renamed.get(layer, layer)
        entries[f"{layer}.weight"] = (theirs + weight, as_is)
        entries[f"{layer}.bias"] = (theirs + bias, as_is)
    return WeightLayout(name, "c3d", entries)


def _i3d_names(
    units: Mapping[str, str], weights: Mapping[str, tuple[str, Change]]
) -> dict[str, tuple[str, Change]]:
    return {
        f"{unit}.{ours}": (f"{units[unit]}{theirs}", change)
        for unit in units
        for ours, (theirs, change) in weights.items()
    }


def _tensorflow_i3d() -> WeightLayout:
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
    return WeightLayout(
        "TensorFlow",
        "i3d",
        entries,
        scaleless=tuple(units),
        ignored=("/Momentum", "global_step"),
        optional_prefix="RGB/inception_i3d/",
    )


def _piergiaj_i3d() -> WeightLayout:
    entries: dict[str, tuple[str, Change]] = {name: (name, as_is) for name in i3d_shapes()}
    return WeightLayout("pytorch-i3d", "i3d", entries, ignored=("num_batches_tracked",))


def _i3dpt() -> WeightLayout:
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
    return WeightLayout("i3dpt", "i3d", entries, ignored=("num_batches_tracked",))


def _pytorch_inception() -> WeightLayout:
    entries: dict[str, tuple[str, Change]] = {name: (name, as_is) for name in inception_shapes()}
    return WeightLayout("pytorch-fid", "inception", entries, ignored=("num_batches_tracked",))


def _torchvision(name: str, network: NetworkName, backbone: str) -> WeightLayout:
    """Files of torchvision's classifiers, of which LPIPS reads the features alone."""
    entries: dict[str, tuple[str, Change]] = {n: (n, as_is) for n in backbone_shapes(backbone)}
    hidden = tuple(f"classifier.{i}.{end}" for i in (0, 1, 3, 4, 6) for end in ("weight", "bias"))
    return WeightLayout(name, network, entries, ignored=hidden)


def _lpips(name: str, network: NetworkName, backbone: str) -> WeightLayout:
    """Channel weights as version 0.1 of LPIPS stores them, after a dropout layer."""
    names = channel_shapes(backbone)
    return WeightLayout(
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

LAYOUTS: tuple[WeightLayout, ...] = (
    _c3d("Chainer", {}, "/W", "/b"),
    _c3d("c3d-pytorch", {"conv1a": "conv1", "conv2a": "conv2"}, ".weight", ".bias"),
    _c3d("pytorch-video-recognition", _FEATURES, ".weight", ".bias", has_classes=False),
    _c3d("MMAction2", _MMACTION, ".weight", ".bias"),
    WeightLayout("mean", "mean", {"mean": ("mean", mean_clip)}),
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


def find_layouts(tensors: Mapping[str, Tensor], where: str) -> list[WeightLayout]:
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


def num_classes_of(layout: WeightLayout, converted: Mapping[str, Tensor]) -> int:
    """Rows of the class layer; 0 without one."""
    last = {"c3d": "fc8.weight", "i3d": "logits.conv3d.weight", "inception": "fc.weight"}
    value = converted.get(last.get(layout.network, ""))
    return 0 if value is None or not value.ndim else value.shape[0]
