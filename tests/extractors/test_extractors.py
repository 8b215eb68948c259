"""Extractors: the table, the interface, batches, and weights from files and from seeds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from array_layers import randomised
from safetensors.torch import save_file

from vidgan.errors import UserError
from vidgan.extractors.extractor import (
    EXTRACTORS,
    Extractor,
    ExtractorSpec,
    NetworkExtractor,
    build_network,
    exact_arithmetic,
    find_extractor,
    load_extractor,
)
from vidgan.extractors.judge import ClassifierSettings, OwnClassifier
from vidgan.extractors.networks import own_c3d
from vidgan.extractors.networks.preprocessing import MEAN_SHAPE
from vidgan.extractors.weights.checking import MissingEntryError, WrongShapeError, shapes_of
from vidgan.extractors.weights.store import (
    HEADER_KEY,
    WeightSource,
    load_weights,
    save_weights,
    weights_path,
)
from vidgan.metrics.frechet import frechet_from_features

SMALL_I3D = replace(EXTRACTORS["i3d-stretch"], width=1 / 64, num_classes=6, batch_clips=1)


def clips_of(count: int, frames: int = 9, side: int = 12, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, frames, side, side), generator=rng, dtype=torch.uint8)


def source() -> WeightSource:
    return WeightSource(
        file="there.pt", bytes=7, sha256="ab", git_blob="cd", layout="test", is_verified=False
    )


def save_random(spec: ExtractorSpec, folder: Path, seed: int = 0) -> dict[str, torch.Tensor]:
    network = randomised(build_network(spec), seed)
    state = {k: v for k, v in network.state_dict().items() if k in shapes_of(network)}
    assert spec.weights is not None
    save_weights(spec.weights, state, source(), folder)
    return state


@pytest.mark.parametrize("name", EXTRACTORS)
def test_every_spec_names_itself_and_its_published_dimension(name: str) -> None:
    spec = find_extractor(name)
    assert spec.identity == name
    assert replace(spec, width=spec.width / 2).identity.startswith("custom:")
    if spec.weights is not None:
        with pytest.raises(UserError, match="a seed draws no weights where"):
            replace(spec, seed=7)
    expected = {
        "c3d-tgan-fc6": 4096,
        "c3d-tgan2-fc7": 4096,
        "i3d-tf": 400,
        "i3d-stretch": 400,
        "i3d-crop": 400,
        "i3d-stretch-pytorch": 400,
        "i3d-k600": 1024,
        "inception-tf": 2048,
        "inception-clean": 2048,
        "random-i3d-64": 64,
        "random-c3d": 128,
    }
    assert spec.dim == expected[name]


def test_epsilon_is_that_of_the_code_whose_scores_are_repeated(kept: Path) -> None:
    found = {name: spec.norm_epsilon for name, spec in EXTRACTORS.items() if spec.network == "i3d"}
    # TensorFlow's modules and StyleGAN-V's file, and the PyTorch class of all the others.
    assert found.pop("i3d-crop") == found.pop("i3d-stretch-pytorch") == 1e-5
    assert set(found.values()) == {1e-3}
    clips = clips_of(2)
    one, other = (
        load_extractor(replace(SMALL_I3D, norm_epsilon=epsilon), folder=kept).arrays(clips)
        for epsilon in (1e-3, 1e-5)
    )
    assert not torch.equal(one["features"], other["features"])
    with pytest.raises(UserError, match="only the network i3d has a norm_epsilon"):
        replace(EXTRACTORS["inception-tf"], norm_epsilon=1e-5)
    with pytest.raises(UserError, match=r"norm_epsilon must lie in \(0, 0.01\]"):
        replace(SMALL_I3D, norm_epsilon=0.0)


def test_unknown_names_and_missing_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no extractor 'i3d'; choose one of c3d-tgan-fc6"):
        load_extractor("i3d")
    with pytest.raises(UserError, match=r"i3d-k400\.safetensors; 'vidgan weights list'"):
        load_extractor("i3d-tf", folder=tmp_path)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of `SMALL_I3D`."""
    folder = tmp_path_factory.mktemp("kept")
    save_random(SMALL_I3D, folder)
    return folder


def test_features_of_a_clip_depend_neither_on_its_neighbours_nor_on_their_number(
    kept: Path,
) -> None:
    extractor = load_extractor(replace(SMALL_I3D, batch_clips=2), folder=kept)
    clips = clips_of(3)
    together = extractor.arrays(clips)
    assert together["features"].shape == (3, 6) == (3, extractor.dim)
    alone = extractor.arrays(clips[2:])
    assert torch.equal(together["features"][2:], alone["features"])
    other_batch = load_extractor(replace(SMALL_I3D, batch_clips=3), folder=kept)
    gap = (other_batch.arrays(clips)["features"] - together["features"]).abs().max()
    assert float(gap / together["features"].abs().max()) < 1e-6
    total = together["probabilities"].sum(dim=1)
    assert torch.allclose(total, torch.ones(3))


def test_seeded_features_of_a_clip_are_the_same_bits_in_any_batch() -> None:
    extractor, clips = load_extractor("random-c3d"), clips_of(40, frames=8, side=16)
    together = extractor.arrays(clips)["features"]
    for size in (1, 7, 33):
        parts = [extractor.arrays(part)["features"] for part in clips.split(size)]
        assert torch.equal(torch.cat(parts), together)


def test_uint8_and_float_clips_of_the_same_values_give_the_same_features(kept: Path) -> None:
    extractor = load_extractor(SMALL_I3D, folder=kept)
    clips = clips_of(1)
    floats = clips.float() / 127.5 - 1
    assert torch.equal(extractor.arrays(clips)["features"], extractor.arrays(floats)["features"])


def test_the_c3d_extractor_is_preparation_then_network(tmp_path: Path) -> None:
    spec = replace(EXTRACTORS["c3d-tgan-fc6"], width=1 / 32, num_classes=4, batch_clips=2)
    state = save_random(spec, tmp_path)
    mean = torch.rand(MEAN_SHAPE, generator=torch.Generator().manual_seed(5)) * 100
    save_weights("c3d-mean", {"mean": mean}, source(), tmp_path)
    clips = clips_of(1, frames=16, side=64)
    found = load_extractor(spec, folder=tmp_path)
    arrays = found.arrays(clips)

    network = build_network(spec)
    network.load_state_dict(state)
    assert spec.preprocessing is not None
    with torch.no_grad():
        expected = network(spec.preprocessing.apply(clips, mean))
    for key, layer in (("features", "fc6"), ("probabilities", "probabilities")):
        gap = (arrays[key] - expected[layer]).abs().max() / expected[layer].abs().max()
        assert float(gap) < 1e-5
    assert found.record()["weights_file"] == source().file
    assert found.record()["mean_sha256"] != found.record()["sha256"]
    assert len(found.fingerprint) == 64
    assert json.loads(json.dumps(found.record())) == found.record()


def test_a_spec_of_ones_own_reads_other_weights_and_another_layer(tmp_path: Path) -> None:
    spec = replace(
        EXTRACTORS["c3d-tgan2-fc7"],
        width=1 / 32,
        weights="c3d-ucf101-caffe",
        num_classes=0,
        probabilities=None,
        layer="pool5",
        batch_clips=1,
    )
    save_random(spec, tmp_path)
    save_weights("c3d-mean", {"mean": torch.zeros(MEAN_SHAPE)}, source(), tmp_path)
    clips = clips_of(1, frames=16, side=112)
    found = load_extractor(spec, folder=tmp_path)
    arrays = found.arrays(clips)
    assert set(arrays) == {"features"}
    assert arrays["features"].shape == (1, found.dim) == (1, 16 * 4 * 4)
    assert found.name.startswith("custom:")
    padded = load_extractor(replace(spec, pool5="pad"), folder=tmp_path)
    assert not torch.equal(padded.arrays(clips)["features"], arrays["features"])
    before = load_extractor(replace(spec, layer="fc6_before_relu"), folder=tmp_path)
    assert before.dim == 128
    assert float(before.arrays(clips)["features"].min()) < 0


def test_networks_of_frames_give_a_row_for_every_frame(tmp_path: Path) -> None:
    spec = replace(EXTRACTORS["inception-clean"], width=1 / 64, num_classes=4, batch_clips=2)
    save_random(spec, tmp_path)
    extractor = load_extractor(spec, folder=tmp_path)
    clips = clips_of(1, frames=2)
    arrays = extractor.arrays(clips)
    assert arrays["features"].shape == (1, 2, spec.dim)
    swapped = extractor.arrays(clips.flip(2))["features"].flip(1)
    gap = (swapped - arrays["features"]).abs().max() / arrays["features"].abs().max()
    assert float(gap) < 1e-6


@pytest.mark.parametrize(
    ("clips", "sentence"),
    [
        (clips_of(1, frames=8), "at least 9 frames and these have 8"),
        (clips_of(1)[:, :1], "colour clips"),
        (clips_of(1).float(), "0..255 as uint8"),
        (torch.full((1, 3, 9, 8, 8), float("nan")), "beyond 16 or NaN"),
    ],
)
def test_clips_that_do_not_fit_are_refused(clips: torch.Tensor, sentence: str) -> None:
    seeded = load_extractor(replace(SMALL_I3D, weights=None))
    with pytest.raises(UserError, match=sentence):
        seeded.arrays(clips)


def test_c3d_takes_sixteen_frames_only() -> None:
    spec = replace(EXTRACTORS["c3d-tgan-fc6"], width=1 / 64, weights=None)
    with pytest.raises(UserError, match="exactly 16 frames and these have 9"):
        load_extractor(spec).arrays(clips_of(1))


def test_files_of_another_network_are_refused(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(WrongShapeError, match="trained for 6 classes, not 7"):
        load_extractor(replace(SMALL_I3D, num_classes=7), folder=kept)
    state = load_weights(weights_path("i3d-k400", kept)).tensors
    del state["Mixed_5b.b2b.bn.bias"]
    save_weights("i3d-k400", state, source(), tmp_path)
    with pytest.raises(MissingEntryError, match=r"no entry Mixed_5b\.b2b\.bn\.bias"):
        load_extractor(SMALL_I3D, folder=tmp_path)


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    path = save_weights("tiny", {"mean": torch.rand(40)}, source(), tmp_path)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="changed after it was converted"):
        load_weights(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="not a file that 'vidgan weights convert' wrote"):
        load_weights(path)
    save_file({"mean": torch.rand(4)}, path, metadata={HEADER_KEY: "[" * 100_000})
    with pytest.raises(UserError, match="not a file that 'vidgan weights convert' wrote"):
        load_weights(path)


def test_seeded_extractors_are_the_same_everywhere() -> None:
    clips = clips_of(3, frames=8, side=16)
    arrays = load_extractor("random-c3d").arrays(clips)
    assert set(arrays) == {"features"}
    assert arrays["features"].shape == (3, 128)
    assert torch.equal(arrays["features"], load_extractor("random-c3d").arrays(clips)["features"])
    other = load_extractor(replace(EXTRACTORS["random-c3d"], seed=1))
    assert not torch.equal(arrays["features"], other.arrays(clips)["features"])
    assert other.fingerprint != load_extractor("random-c3d").fingerprint
    # Weights belong to the seed, so these numbers must not move between versions.
    first = load_extractor(replace(SMALL_I3D, weights=None))
    assert isinstance(first, NetworkExtractor)
    assert first.fingerprint == load_extractor(replace(SMALL_I3D, weights=None)).fingerprint
    # Grey clips and clips of another shape get a network of their own.
    assert load_extractor("random-c3d").arrays(clips[:, :1])["features"].shape == (3, 128)


def test_random_features_tell_noise_from_clips() -> None:
    # Smooth clips, other smooth clips, and noise: the distance must order them.
    rng = torch.Generator().manual_seed(0)

    def smooth(count: int) -> torch.Tensor:
        coarse = torch.rand(count, 3, 4, 4, 4, generator=rng) * 255
        return torch.nn.functional.interpolate(coarse, (8, 16, 16), mode="trilinear").to(
            torch.uint8
        )

    extractor = load_extractor("random-c3d")
    sets = [smooth(140), smooth(140), clips_of(140, frames=8, side=16)]
    real, same, noise = (extractor.arrays(clips)["features"] for clips in sets)
    near = frechet_from_features(real, same).distance
    far = frechet_from_features(real, noise).distance
    assert 0 < 4 * near < far


def test_the_trained_judge_is_an_extractor_too() -> None:
    shape = (3, 8, 16, 16)
    network = own_c3d.ClipClassifier(shape, 3, width=1 / 16)
    judge: Extractor = OwnClassifier(network, ["a", "b", "c"], shape, ClassifierSettings(), {})
    arrays = judge.arrays(clips_of(2, frames=8, side=16))
    assert arrays["features"].shape == (2, judge.dim)
    assert arrays["probabilities"].shape == (2, 3)
    assert judge.record()["fingerprint"] == judge.fingerprint
    assert judge.name == "own-c3d"


def test_arithmetic_is_exact_inside_and_as_before_outside() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with exact_arithmetic():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_fingerprints_are_of_values_and_not_of_files(tmp_path: Path) -> None:
    tensors = {"a": torch.rand(3), "b": torch.rand(2, 2)}
    other = replace(source(), file="elsewhere.pt")
    paths = [
        save_weights("tiny", tensors, source(), tmp_path / "first"),
        save_weights("tiny", dict(reversed(tensors.items())), other, tmp_path / "second"),
    ]
    assert load_weights(paths[0]).fingerprint == load_weights(paths[1]).fingerprint
    assert paths[0].read_bytes() != paths[1].read_bytes()
