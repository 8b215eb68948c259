"""Inception of 2015-12-05 against NumPy."""

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

from vidgan.extractors.networks.inception import InceptionV3, inception_shapes
from vidgan.extractors.weights.checking import shapes_of

Array = numpy.ndarray


class Written:
    """The network as a sequence of equations."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self.w = weights

    def unit(self, x: Array, name: str, stride: int = 1, valid: bool = False) -> Array:
        kernel = self.w[f"{name}.conv.weight"]
        pads = [(0, 0)] * 2 if valid else [(k // 2, k // 2) for k in kernel.shape[2:]]
        return relu(normed(conv(x, kernel, stride, pads), self.w, f"{name}.bn"))

    def chain(self, x: Array, block: str, *names: str) -> Array:
        for name in names:
            x = self.unit(x, f"{block}.{name}")
        return x

    def average(self, x: Array) -> Array:
        """Mean over the cells of a 3x3 window that lie in the image."""
        ones = numpy.ones((1, 1, *x.shape[2:]))
        pads = [(0, 0), (0, 0), (1, 1), (1, 1)]
        total = windows(numpy.pad(x, pads), (3, 3), (1, 1)).sum(axis=(-2, -1))
        return total / windows(numpy.pad(ones, pads), (3, 3), (1, 1)).sum(axis=(-2, -1))

    def block_a(self, x: Array, b: str) -> list[Array]:
        return [
            self.chain(x, b, "branch1x1"),
            self.chain(x, b, "branch5x5_1", "branch5x5_2"),
            self.chain(x, b, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            self.chain(self.average(x), b, "branch_pool"),
        ]

    def block_b(self, x: Array, b: str) -> list[Array]:
        deep = self.chain(x, b, "branch3x3dbl_1", "branch3x3dbl_2")
        return [
            self.unit(x, f"{b}.branch3x3", stride=2, valid=True),
            self.unit(deep, f"{b}.branch3x3dbl_3", stride=2, valid=True),
            max_pool(x, (3, 3), (2, 2), [(0, 0)] * 2),
        ]

    def block_c(self, x: Array, b: str) -> list[Array]:
        return [
            self.chain(x, b, "branch1x1"),
            self.chain(x, b, *(f"branch7x7_{i}" for i in (1, 2, 3))),
            self.chain(x, b, *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5))),
            self.chain(self.average(x), b, "branch_pool"),
        ]

    def block_d(self, x: Array, b: str) -> list[Array]:
        small = self.chain(x, b, "branch3x3_1")
        wide = self.chain(x, b, "branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3")
        return [
            self.unit(small, f"{b}.branch3x3_2", stride=2, valid=True),
            self.unit(wide, f"{b}.branch7x7x3_4", stride=2, valid=True),
            max_pool(x, (3, 3), (2, 2), [(0, 0)] * 2),
        ]

    def block_e(self, x: Array, b: str, takes_maximum: bool) -> list[Array]:
        small = self.chain(x, b, "branch3x3_1")
        deep = self.chain(x, b, "branch3x3dbl_1", "branch3x3dbl_2")
        pooled = max_pool(x, (3, 3), (1, 1), [(1, 1)] * 2) if takes_maximum else self.average(x)
        return [
            self.chain(x, b, "branch1x1"),
            self.chain(small, b, "branch3x3_2a"),
            self.chain(small, b, "branch3x3_2b"),
            self.chain(deep, b, "branch3x3dbl_3a"),
            self.chain(deep, b, "branch3x3dbl_3b"),
            self.chain(pooled, b, "branch_pool"),
        ]

    def run(self, x: Array) -> dict[str, Array]:
        x = self.unit(x, "Conv2d_1a_3x3", stride=2, valid=True)
        x = self.unit(self.unit(x, "Conv2d_2a_3x3", valid=True), "Conv2d_2b_3x3")
        x = max_pool(x, (3, 3), (2, 2), [(0, 0)] * 2)
        x = self.unit(self.unit(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3", valid=True)
        x = max_pool(x, (3, 3), (2, 2), [(0, 0)] * 2)
        for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = numpy.concatenate(self.block_a(x, block), axis=1)
        x = numpy.concatenate(self.block_b(x, "Mixed_6a"), axis=1)
        for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = numpy.concatenate(self.block_c(x, block), axis=1)
        x = numpy.concatenate(self.block_d(x, "Mixed_7a"), axis=1)
        x = numpy.concatenate(self.block_e(x, "Mixed_7b", takes_maximum=False), axis=1)
        x = numpy.concatenate(self.block_e(x, "Mixed_7c", takes_maximum=True), axis=1)
        pool3 = x.mean(axis=(2, 3))
        without = pool3 @ self.w["fc.weight"].T
        logits = without + self.w["fc.bias"]
        return {
            "pool3": pool3,
            "logits": logits,
            "probabilities": softmax(logits),
            "logits_without_bias": without,
            "probabilities_without_bias": softmax(without),
        }


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return randomised(InceptionV3(9, width=1 / 16))


def test_forward_equals_a_written_out_evaluation(network: torch.nn.Module) -> None:
    frames = torch.rand(2, 3, 299, 299, generator=torch.Generator().manual_seed(4)) * 2 - 1
    with torch.no_grad():
        found = network(frames)
        alone = network(frames[1:])
    expected = Written(as_arrays(network.state_dict())).run(frames.double().numpy())
    assert set(found) == set(expected)
    for key, values in expected.items():
        assert largest_error(found[key], values) < 1e-5, key
        gap = (found[key][1:] - alone[key]).abs().max() / found[key].abs().max()
        assert float(gap) < 1e-6, key


def test_count_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = InceptionV3()
    # 21,785,568 of the body that every Inception-v3 shares, and 1,008 classes.
    assert sum(p.numel() for p in network.parameters()) == 21_785_568 + 2049 * 1008
    assert shapes_of(network) == inception_shapes()
    assert inception_shapes()["fc.weight"] == (1008, 2048)
    assert len(inception_shapes()) == 94 * 5 + 2
