"""Weight files with the entry names of the published ones, written at any width.

The names are spelled out here a second time, apart from the package's own tables.
"""

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy
import torch
from array_layers import randomised
from safetensors.torch import save_file
from torch import Tensor, nn

from vidgan.core.crc32c import masked_crc32c
from vidgan.extractors.lpips import backbone_shapes, channel_shapes
from vidgan.extractors.networks.c3d import C3D
from vidgan.extractors.networks.i3d import I3D
from vidgan.extractors.networks.inception import InceptionV3

Weights = dict[str, Tensor]
WIDTH = 1 / 32

C3D_LAYERS = [f"conv{place}" for place in ("1a", "2a", "3a", "3b", "4a", "4b", "5a", "5b")]
C3D_LAYERS += ["fc6", "fc7", "fc8"]
BLOCKS = ["3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"]


def weights_of(network: nn.Module, seed: int = 0) -> Weights:
    """Random weights, without the counters of batch normalisation."""
    state = randomised(network, seed).state_dict()
    return {name: value for name, value in state.items() if value.ndim}


def c3d_weights(num_classes: int = 101) -> Weights:
    return weights_of(C3D(num_classes, width=WIDTH))


def i3d_weights(num_classes: int = 400, has_scales: bool = True) -> Weights:
    weights = weights_of(I3D(num_classes, width=WIDTH))
    for name, value in weights.items():
        if name.endswith("bn.weight") and not has_scales:
            value.fill_(1)
    return weights


def inception_weights() -> Weights:
    return weights_of(InceptionV3(1008, width=WIDTH))


def backbone_weights(backbone: str, seed: int = 0) -> Weights:
    rng = torch.Generator().manual_seed(seed)
    shapes = backbone_shapes(backbone, WIDTH)
    return {name: torch.randn(shape, generator=rng) * 0.1 for name, shape in shapes.items()}


def channel_weights(backbone: str, seed: int = 1) -> Weights:
    rng = torch.Generator().manual_seed(seed)
    shapes = channel_shapes(backbone, WIDTH)
    return {name: torch.rand(shape, generator=rng) for name, shape in shapes.items()}


def torchvision_entries(weights: Weights) -> Weights:
    """A whole classifier: the hidden layers and classes stand behind the features."""
    layers = (1, 4, 6) if len(weights) == 10 else (0, 3, 6)
    hidden = {f"classifier.{i}.weight": torch.ones(3, 2) for i in layers}
    return weights | hidden | {f"classifier.{i}.bias": torch.ones(3) for i in layers}


def lpips_entries(weights: Weights) -> Weights:
    """Channel weights behind a dropout layer."""
    return {f"lin{i}.model.1.weight": weights[f"lin{i}.weight"] for i in range(5)}


def save_safetensors(path: Path, entries: Weights) -> Path:
    save_file(entries, path)
    return path


def chainer_entries(weights: Weights) -> dict[str, numpy.ndarray]:
    entries = {}
    for layer in C3D_LAYERS:
        entries[f"{layer}/W"] = weights[f"{layer}.weight"].numpy()
        entries[f"{layer}/b"] = weights[f"{layer}.bias"].numpy()
    return entries


def c3d_pytorch_entries(weights: Weights) -> Weights:
    """`c3d.pickle`: only the first two layers have other names."""
    return {
        name.replace("conv1a", "conv1").replace("conv2a", "conv2"): value
        for name, value in weights.items()
    }


def video_recognition_entries(weights: Weights) -> Weights:
    """`ucf101-caffe.pth`: places in two sequences, no class layer."""
    places = [f"features.{i}" for i in (0, 3, 6, 8, 11, 13, 16, 18)]
    places += ["classifier.0", "classifier.3"]
    return {
        f"{place}.{end}": weights[f"{layer}.{end}"]
        for place, layer in zip(places, C3D_LAYERS[:10], strict=True)
        for end in ("weight", "bias")
    }


def mmaction_entries(weights: Weights) -> Weights:
    entries = {}
    for layer in C3D_LAYERS:
        place = f"backbone.{layer}.conv" if layer.startswith("conv") else f"backbone.{layer}"
        place = "cls_head.fc_cls" if layer == "fc8" else place
        for end in ("weight", "bias"):
            entries[f"{place}.{end}"] = weights[f"{layer}.{end}"]
    return entries


def pytorch_i3d_entries(weights: Weights) -> Weights:
    """Our names, and a counter for every batch normalisation: 344 entries."""
    entries = dict(weights)
    for name in weights:
        if name.endswith("bn.weight"):
            entries[name.replace("weight", "num_batches_tracked")] = torch.tensor(0)
    return entries


def tensorflow_entries(weights: Weights, prefix: str, is_hub: bool = False) -> dict[str, Tensor]:
    """Names of DeepMind's checkpoints, their misnamed unit included; kernels (t, h, w, in, out)."""
    entries = {}

    def add(unit: str, ours: str) -> None:
        entries[f"{unit}/conv_3d/w"] = weights[f"{ours}.conv3d.weight"].permute(2, 3, 4, 1, 0)
        for theirs, end in (
            ("beta", "bias"),
            ("moving_mean", "running_mean"),
            ("moving_variance", "running_var"),
        ):
            value = weights[f"{ours}.bn.{end}"]
            # Sonnet keeps axes of length 1 around the channels, the released checkpoints do not.
            kept = value.reshape(1, 1, 1, 1, -1) if is_hub else value
            entries[f"{unit}/batch_norm/{theirs}"] = kept

    for name in ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3"):
        add(name, name)
    for block in BLOCKS:
        second = "Conv3d_0a_3x3" if block == "5b" else "Conv3d_0b_3x3"
        for branch, ours in (
            ("Branch_0/Conv3d_0a_1x1", "b0"),
            ("Branch_1/Conv3d_0a_1x1", "b1a"),
            ("Branch_1/Conv3d_0b_3x3", "b1b"),
            ("Branch_2/Conv3d_0a_1x1", "b2a"),
            (f"Branch_2/{second}", "b2b"),
            ("Branch_3/Conv3d_0b_1x1", "b3b"),
        ):
            add(f"Mixed_{block}/{branch}", f"Mixed_{block}.{ours}")
    last = weights["logits.conv3d.weight"]
    entries["Logits/Conv3d_0c_1x1/conv_3d/w"] = last.permute(2, 3, 4, 1, 0)
    entries["Logits/Conv3d_0c_1x1/conv_3d/b"] = weights["logits.conv3d.bias"]
    return {prefix + name: value.contiguous() for name, value in entries.items()}


def i3dpt_entries(weights: Weights) -> Weights:
    """Names of kinetics_i3d_pytorch, which the TorchScript file has."""
    places = {
        ".b0.": ".branch_0.",
        ".b1a.": ".branch_1.0.",
        ".b1b.": ".branch_1.1.",
        ".b2a.": ".branch_2.0.",
        ".b2b.": ".branch_2.1.",
        ".b3b.": ".branch_3.1.",
        ".bn.": ".batch3d.",
        "logits.": "conv3d_0c_1x1.",
        "Mixed": "mixed",
        "Conv3d_": "conv3d_",
    }
    entries = {}
    for name, value in weights.items():
        for ours, theirs in places.items():
            name = name.replace(ours, theirs)
        entries[name] = value
    return entries


class Holder(nn.Module):
    """A module that holds tensors by dotted names, for TorchScript to save."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def holder_of(entries: Weights) -> nn.Module:
    """Nested modules whose parameters and buffers have these names."""
    root = Holder()
    for name, value in entries.items():
        *path, last = name.split(".")
        module: nn.Module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, Holder())
            module = module.get_submodule(part)
        if last.startswith(("running", "num")):
            module.register_buffer(last, value)
        else:
            module.register_parameter(last, nn.Parameter(value))
    return root


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def block_of(items: list[tuple[bytes, bytes]], restart: int = 16) -> bytes:
    """A LevelDB block with its trailer; keys leave out what they share."""
    out, restarts, before = bytearray(), [], b""
    for place, (key, value) in enumerate(items):
        shared = 0
        if place % restart == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        before = key
    out += b"".join(struct.pack("<I", r) for r in [*restarts, len(restarts)]) + b"\0"
    return bytes(out) + struct.pack("<I", masked_crc32c(bytes(out)))


def write_checkpoint(prefix: Path, tensors: dict[str, Tensor], per_block: int = 40) -> None:
    """A TensorFlow checkpoint in one data file, as its Saver lays it out."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    types = {torch.float32: 1, torch.int64: 9}
    data = bytearray()
    items = [(b"", b"\x08\x01\x1a\x02\x08\x01")]
    for name in sorted(tensors):
        content = tensors[name].numpy().tobytes()
        axes = b"".join(b"\x12" + _sized(b"\x08" + varint(n)) for n in tensors[name].shape)
        entry = b"\x08" + varint(types[tensors[name].dtype]) + b"\x12" + _sized(axes)
        entry += b"\x20" + varint(len(data)) + b"\x28" + varint(len(content))
        entry += b"\x35" + struct.pack("<I", masked_crc32c(content))
        items.append((name.encode(), entry))
        data += content
    table, handles = bytearray(), []
    for start in range(0, len(items), per_block):
        chunk = items[start : start + per_block]
        block = block_of(chunk)
        handles.append((chunk[-1][0], varint(len(table)) + varint(len(block) - 5)))
        table += block
    ends = []
    for block in (block_of([]), block_of(handles)):
        ends.append(varint(len(table)) + varint(len(block) - 5))
        table += block
    table += b"".join(ends).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    Path(f"{prefix}.index").write_bytes(table)
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)


def _sized(content: bytes) -> bytes:
    return varint(len(content)) + content


def save_npz(path: Path, entries: dict[str, numpy.ndarray]) -> Path:
    numpy.savez(path, **entries)
    return path


def save_legacy(path: Path, entries: Any) -> Path:
    """As PyTorch before 1.6 wrote files, which many published ones still are."""
    torch.save(entries, path, _use_new_zipfile_serialization=False)
    return path


def save_zip(path: Path, entries: Any) -> Path:
    torch.save(entries, path)
    return path


def save_script(path: Path, entries: Weights) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(holder_of(entries)), str(path))
    return path
