"""The published C3D against NumPy, and its last pooling."""

import numpy
import pytest
import torch
import torch.nn.functional as F
from array_layers import as_arrays, conv, largest_error, max_pool, randomised, relu, softmax

from vidgan.extractors.networks.c3d import C3D, c3d_shapes, pool_to_4x4
from vidgan.extractors.weights.checking import shapes_of


def written_out(clip: numpy.ndarray, w: dict[str, numpy.ndarray], behind: int) -> dict:
    x = clip
    for name, pool in (
        ("conv1a", (1, 2, 2)),
        ("conv2a", (2, 2, 2)),
        ("conv3a", None),
        ("conv3b", (2, 2, 2)),
        ("conv4a", None),
        ("conv4b", (2, 2, 2)),
        ("conv5a", None),
        ("conv5b", None),
    ):
        bias = w[f"{name}.bias"].reshape(1, -1, 1, 1, 1)
        x = relu(conv(x, w[f"{name}.weight"], pads=[(1, 1)] * 3) + bias)
        if pool:
            x = max_pool(x, pool, pool, [(0, 0)] * 3)
    # Caffe's window leaves the image behind it, that of the ports on both sides.
    pads = [(0, 0), (1 - behind, 1), (1 - behind, 1)]
    x = max_pool(x, (2, 2, 2), (2, 2, 2), pads).reshape(clip.shape[0], -1)
    fc6 = relu(x @ w["fc6.weight"].T + w["fc6.bias"])
    fc7 = relu(fc6 @ w["fc7.weight"].T + w["fc7.bias"])
    logits = fc7 @ w["fc8.weight"].T + w["fc8.bias"]
    return {"pool5": x, "fc6": fc6, "fc7": fc7, "logits": logits, "probabilities": softmax(logits)}


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    return torch.rand(2, 3, 16, 112, 112, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("pool5", ["ceil", "pad"])
def test_forward_equals_a_written_out_evaluation(clips: torch.Tensor, pool5: str) -> None:
    network = randomised(C3D(7, width=1 / 16, pool5=pool5))
    with torch.no_grad():
        found = network(clips)
    expected = written_out(
        clips.double().numpy(), as_arrays(network.state_dict()), behind=int(pool5 == "ceil")
    )
    for key, values in expected.items():
        assert largest_error(found[key], values) < 1e-5, key
    assert torch.equal(found["fc6_before_relu"].relu(), found["fc6"])
    assert float(found["fc7_before_relu"].min()) < 0


def test_features_do_not_depend_on_the_batch(clips: torch.Tensor) -> None:
    network = randomised(C3D(7, width=1 / 16))
    with torch.no_grad():
        together = network(clips)
        alone = network(clips[1:])
    for key, values in together.items():
        gap = (values[1:] - alone[key]).abs().max() / values.abs().max()
        assert float(gap) < 1e-6, key


def test_the_two_last_poolings_take_other_cells() -> None:
    # On a ramp each window's maximum is its last cell, so it tells where the windows lie.
    ramp = torch.arange(49.0).reshape(1, 1, 1, 7, 7).expand(1, 1, 2, 7, 7)
    ceil, pad = pool_to_4x4(ramp, "ceil"), pool_to_4x4(ramp, "pad")
    assert ceil[0, 0, 0, 0].tolist() == [8, 10, 12, 13]
    assert pad[0, 0, 0, 0].tolist() == [0, 2, 4, 6]
    assert int((ceil != pad).sum()) == 15
    explicit = F.pad(ramp, (0, 1, 0, 1), value=float("-inf")).unfold(3, 2, 2).unfold(4, 2, 2)
    assert torch.equal(ceil, explicit.amax(dim=(5, 6)).amax(dim=2, keepdim=True))


@pytest.mark.parametrize(("num_classes", "count"), [(101, 78_409_573), (487, 79_991_015)])
def test_counts_and_shapes_are_the_published_ones(num_classes: int, count: int) -> None:
    with torch.device("meta"):
        network = C3D(num_classes)
    assert sum(p.numel() for p in network.parameters()) == count
    assert shapes_of(network) == c3d_shapes(1.0, num_classes)
    assert c3d_shapes()["fc6.weight"] == (4096, 8192)
    assert c3d_shapes()["conv5b.weight"] == (512, 512, 3, 3, 3)


def test_without_classes_there_are_no_logits() -> None:
    network = randomised(C3D(0, width=1 / 64))
    with torch.no_grad():
        found = network(torch.zeros(1, 3, 16, 112, 112))
    assert set(found) == {"pool5", "fc6", "fc6_before_relu", "fc7", "fc7_before_relu"}
    assert found["fc7"].shape == (1, 64)
