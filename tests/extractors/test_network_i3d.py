"""I3D against NumPy, and TensorFlow's padding."""

import math

import numpy
import pytest
import torch
from array_layers import (
    as_arrays,
    conv,
    largest_error,
    max_pool,
    normed,
    randomised,
    relu,
    softmax,
    windows,
)

from vidgan.extractors.networks.i3d import I3D, i3d_shapes, pad_amounts
from vidgan.extractors.weights.checking import shapes_of

Array = numpy.ndarray


def same(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...]) -> list[tuple[int, int]]:
    pads = []
    for n, k, s in zip(x.shape[2:], kernel, stride, strict=True):
        total = max((math.ceil(n / s) - 1) * s + k - n, 0)
        pads.append((total // 2, total - total // 2))
    return pads


def unit(x: Array, w: dict[str, Array], name: str, stride: int = 1) -> Array:
    kernel = w[f"{name}.conv3d.weight"]
    out = conv(x, kernel, stride, same(x, kernel.shape[2:], (stride,) * 3))
    return relu(normed(out, w, f"{name}.bn", float(w["epsilon"])))


def pool(x: Array, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Array:
    return max_pool(x, kernel, stride, same(x, kernel, stride))


def written_out(clip: Array, w: dict[str, Array]) -> dict[str, Array]:
    x = pool(unit(clip, w, "Conv3d_1a_7x7", stride=2), (1, 3, 3), (1, 2, 2))
    x = unit(unit(x, w, "Conv3d_2b_1x1"), w, "Conv3d_2c_3x3")
    x = pool(x, (1, 3, 3), (1, 2, 2))
    before = {"4b": ((3, 3, 3), (2, 2, 2)), "5b": ((2, 2, 2), (2, 2, 2))}
    for block in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"):
        x = pool(x, *before[block]) if block in before else x
        name = f"Mixed_{block}"
        branches = [
            unit(x, w, f"{name}.b0"),
            unit(unit(x, w, f"{name}.b1a"), w, f"{name}.b1b"),
            unit(unit(x, w, f"{name}.b2a"), w, f"{name}.b2b"),
            unit(pool(x, (3, 3, 3), (1, 1, 1)), w, f"{name}.b3b"),
        ]
        x = numpy.concatenate(branches, axis=1)
    pooled = windows(x, (2, 7, 7), (1, 1, 1)).mean(axis=(-3, -2, -1))[..., 0, 0]
    kernel = w["logits.conv3d.weight"][:, :, 0, 0, 0]
    scores = numpy.einsum("bct,nc->bnt", pooled, kernel) + w["logits.conv3d.bias"][:, None]
    logits = scores.mean(axis=2)
    return {"avg_pool": pooled.mean(axis=2), "logits": logits, "probabilities": softmax(logits)}


@pytest.mark.parametrize(("frames", "epsilon"), [(9, 1e-5), (17, 1e-3)])
def test_forward_equals_a_written_out_evaluation(frames: int, epsilon: float) -> None:
    network = randomised(I3D(5, width=1 / 32, norm_epsilon=epsilon))
    clips = torch.rand(1, 3, frames, 224, 224, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        found = network(clips)
    weights = as_arrays(network.state_dict()) | {"epsilon": numpy.array(epsilon)}
    expected = written_out(clips.double().numpy(), weights)
    for key, values in expected.items():
        assert largest_error(found[key], values) < 1e-5, key


def test_features_do_not_depend_on_the_batch() -> None:
    network = randomised(I3D(5, width=1 / 32))
    clips = torch.rand(3, 3, 9, 224, 224, generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.no_grad():
        together, alone = network(clips), network(clips[2:])
    for key, values in together.items():
        gap = (values[2:] - alone[key]).abs().max() / values.abs().max()
        assert float(gap) < 1e-6, key


@pytest.mark.parametrize(("num_classes", "count"), [(400, 12_697_264), (600, 12_902_264)])
def test_counts_are_the_published_ones(num_classes: int, count: int) -> None:
    with torch.device("meta"):
        network = I3D(num_classes)
    # The original has no scales of batch normalisation; these numbers are 1 here.
    assert sum(n[0] for name, n in shapes_of(network).items() if name.endswith("bn.weight")) == 7280
    assert sum(p.numel() for p in network.parameters()) == count
    assert shapes_of(network) == i3d_shapes(1.0, num_classes)
    assert len(network.state_dict()) == 344


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [
        (224, 7, 2, (2, 3)),
        (9, 7, 2, (3, 3)),
        (112, 3, 2, (0, 1)),
        (7, 2, 2, (0, 1)),
        (7, 3, 1, (1, 1)),
    ],
)
def test_same_padding_puts_the_odd_step_behind(
    size: int, kernel: int, stride: int, pads: tuple[int, int]
) -> None:
    assert pad_amounts(size, kernel, stride) == pads


def test_sixteenth_width_has_64_features() -> None:
    network = randomised(I3D(400, width=1 / 16))
    with torch.no_grad():
        found = network(torch.zeros(1, 3, 9, 224, 224))
    assert found["avg_pool"].shape == (1, 64)
    assert found["logits"].shape == (1, 400)
