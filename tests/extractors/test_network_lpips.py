"""LPIPS against NumPy, and the sizes of its two backbones."""

import numpy
import pytest
import torch
from array_layers import as_arrays, conv, largest_error, max_pool, randomised, relu

from vidgan.extractors.lpips import LPIPS, MIN_SIDES, backbone_shapes, channel_shapes

Array = numpy.ndarray

# Each step is a convolution (place, stride, padding), a pooling (kernel, stride) or a look.
ALEX = [("conv", 0, 4, 2), ("look",), ("pool", 3), ("conv", 3, 1, 2), ("look",), ("pool", 3)]
ALEX += [step for place in (6, 8, 10) for step in (("conv", place, 1, 1), ("look",))]
VGG = [("conv", 0, 1, 1), ("conv", 2, 1, 1), ("look",), ("pool", 2)]
VGG += [("conv", 5, 1, 1), ("conv", 7, 1, 1), ("look",)]
for places in ((10, 12, 14), (17, 19, 21), (24, 26, 28)):
    VGG += [("pool", 2), *(("conv", place, 1, 1) for place in places), ("look",)]
STEPS = {"alex": ALEX, "vgg": VGG}


def written_out(images: Array, truth: Array, w: dict[str, Array], steps: list) -> Array:
    # ImageNet's mean and deviation, for images in -1..1.
    centre = numpy.array([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1)
    spread = numpy.array([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1)
    x, y = ((part - centre) / spread for part in (images, truth))
    total, layer = numpy.zeros(len(images)), 0
    for kind, *sizes in steps:
        if kind == "conv":
            place, stride, pad = sizes
            kernel, bias = w[f"features.{place}.weight"], w[f"features.{place}.bias"]
            x, y = (
                relu(conv(z, kernel, stride, [(pad, pad)] * 2) + bias[:, None, None])
                for z in (x, y)
            )
        elif kind == "pool":
            x, y = (max_pool(z, (sizes[0],) * 2, (2, 2), [(0, 0)] * 2) for z in (x, y))
        else:
            a, b = (z / (numpy.sqrt((z**2).sum(1, keepdims=True)) + 1e-10) for z in (x, y))
            weights = w[f"lin{layer}.weight"].reshape(-1)
            total += numpy.einsum("bchw,c->bhw", (a - b) ** 2, weights).mean(axis=(1, 2))
            layer += 1
    return total


def network_of(backbone: str) -> LPIPS:
    network = randomised(LPIPS(backbone, width=1 / 16))
    for index in range(5):
        network.get_submodule(f"lin{index}").weight.data.abs_()
    return network


@pytest.mark.parametrize("backbone", STEPS)
def test_distances_equal_a_written_out_evaluation(backbone: str) -> None:
    rng = torch.Generator().manual_seed(3)
    images, truth = (torch.rand(3, 3, 37, 45, generator=rng) * 2 - 1 for _ in range(2))
    network = network_of(backbone)
    with torch.no_grad():
        found = network(images, truth)
        alone = network(images[2:], truth[2:])
        turned = network(truth, images)
        same = network(truth, truth)
    parts = (images.double().numpy(), truth.double().numpy())
    expected = written_out(*parts, as_arrays(network.state_dict()), STEPS[backbone])
    assert expected.min() > 0.01
    assert largest_error(found, expected) < 1e-5
    assert float((found[2:] - alone).abs().max() / found.max()) < 1e-6
    assert torch.equal(found, turned)
    assert torch.equal(same, torch.zeros(3))


@pytest.mark.parametrize(
    ("backbone", "count", "channels"),
    [("alex", 2_469_696, [64, 192, 384, 256, 256]), ("vgg", 14_714_688, [64, 128, 256, 512, 512])],
)
def test_counts_and_shapes_are_the_published_ones(
    backbone: str, count: int, channels: list[int]
) -> None:
    with torch.device("meta"):
        network = LPIPS(backbone)
    shapes = backbone_shapes(backbone) | channel_shapes(backbone)
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == shapes
    assert sum(value.numel() for value in network.features.state_dict().values()) == count
    assert [shape[1] for shape in channel_shapes(backbone).values()] == channels


@pytest.mark.parametrize("backbone", STEPS)
def test_the_smallest_side_is_the_smallest(backbone: str) -> None:
    network, side = network_of(backbone), MIN_SIDES[backbone]
    with torch.no_grad():
        assert network(torch.zeros(1, 3, side, side), torch.ones(1, 3, side, side)).isfinite()
        with pytest.raises(RuntimeError):
            network(torch.zeros(1, 3, side - 1, side - 1), torch.ones(1, 3, side - 1, side - 1))
