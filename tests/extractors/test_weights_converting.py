"""Published files of every kind, width-reduced: read, checked and converted."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
import weight_files as wf
from array_layers import largest_error
from test_network_c3d import written_out

from vidgan.cli import main as cli
from vidgan.errors import UserError
from vidgan.extractors.extractor import EXTRACTORS, load_extractor
from vidgan.extractors.lpips import WEIGHTS
from vidgan.extractors.networks.preprocessing import MEAN_SHAPE
from vidgan.extractors.weights import catalogue, converting
from vidgan.extractors.weights.catalogue import CATALOGUE, WeightFile
from vidgan.extractors.weights.converting import (
    AmbiguousFileError,
    HashMismatchError,
    choose,
    convert,
    examine,
)
from vidgan.extractors.weights.reading import identify
from vidgan.extractors.weights.store import load_weights, weights_path
from vidgan.extractors.weights.tensor_table import LAYOUTS


def deepmind(path: Path, weights: wf.Weights) -> Path:
    entries = wf.tensorflow_entries(weights, "RGB/inception_i3d/")
    wf.write_checkpoint(path / "model.ckpt", entries)
    return path


def hub(path: Path, weights: wf.Weights) -> Path:
    entries = wf.tensorflow_entries(weights, "RGB/inception_i3d/", is_hub=True)
    wf.write_checkpoint(path / "variables" / "variables", entries)
    return path


def kinetics600(path: Path, weights: wf.Weights) -> Path:
    entries = wf.tensorflow_entries(weights, "")
    trained = ("/w", "/b", "/beta")
    momentum = {f"{n}/Momentum": v * 0 for n, v in entries.items() if n.endswith(trained)}
    assert len(entries | momentum) == 346
    wf.write_checkpoint(path / "model.ckpt", entries | momentum)
    return path


def mmaction_checkpoint(path: Path, weights: wf.Weights) -> Path:
    return wf.save_zip(path, {"meta": {"epoch": 45}, "state_dict": wf.mmaction_entries(weights)})


def data_parallel(path: Path, weights: wf.Weights) -> Path:
    entries = {f"module.{k}": v for k, v in wf.pytorch_i3d_entries(weights).items()}
    assert len(entries) == 344
    return wf.save_zip(path, entries)


Writer = Callable[[Path, wf.Weights], Path]
KINDS: dict[str, tuple[Callable[[], wf.Weights], Writer, str, str]] = {
    "conv3d_deepnetA_ucf.npz": (
        wf.c3d_weights,
        lambda path, w: wf.save_npz(path, wf.chainer_entries(w)),
        "Chainer",
        "c3d-ucf101",
    ),
    "c3d.pickle": (
        lambda: wf.c3d_weights(487),
        lambda path, w: wf.save_legacy(path, wf.c3d_pytorch_entries(w)),
        "c3d-pytorch",
        "c3d-sports1m",
    ),
    "ucf101-caffe.pth": (
        lambda: wf.c3d_weights(0),
        lambda path, w: wf.save_legacy(path, wf.video_recognition_entries(w)),
        "pytorch-video-recognition",
        "c3d-ucf101-caffe",
    ),
    "c3d_of_mmaction.pth": (
        wf.c3d_weights,
        mmaction_checkpoint,
        "MMAction2",
        "c3d-ucf101-mmaction",
    ),
    "rgb_scratch": (lambda: wf.i3d_weights(has_scales=False), deepmind, "TensorFlow", "i3d-k400"),
    "i3d-kinetics-400": (
        lambda: wf.i3d_weights(has_scales=False),
        hub,
        "TensorFlow",
        "i3d-k400",
    ),
    "rgb_scratch_kin600": (
        lambda: wf.i3d_weights(600, has_scales=False),
        kinetics600,
        "TensorFlow",
        "i3d-k600",
    ),
    "i3d_pretrained_400.pt": (wf.i3d_weights, data_parallel, "pytorch-i3d", "i3d-k400"),
    "i3d_torchscript.pt": (
        wf.i3d_weights,
        lambda path, w: wf.save_script(path, wf.i3dpt_entries(w)),
        "i3dpt",
        "i3d-k400",
    ),
    "pt_inception-2015-12-05-6726825d.pth": (
        wf.inception_weights,
        lambda path, w: wf.save_zip(path, w),
        "pytorch-fid",
        "inception-2015",
    ),
    "alexnet-owt-7be5be79.pth": (
        lambda: wf.backbone_weights("alex"),
        lambda path, w: wf.save_legacy(path, wf.torchvision_entries(w)),
        "torchvision AlexNet",
        "alexnet",
    ),
    "vgg16-397923af.pth": (
        lambda: wf.backbone_weights("vgg"),
        lambda path, w: wf.save_zip(path, wf.torchvision_entries(w)),
        "torchvision VGG-16",
        "vgg16",
    ),
    "alex.pth": (
        lambda: wf.channel_weights("alex"),
        lambda path, w: wf.save_legacy(path, wf.lpips_entries(w)),
        "LPIPS of AlexNet",
        "lpips-alex",
    ),
    "vgg.safetensors": (
        lambda: wf.channel_weights("vgg"),
        lambda path, w: wf.save_safetensors(path, wf.lpips_entries(w)),
        "LPIPS of VGG-16",
        "lpips-vgg",
    ),
}


@pytest.mark.parametrize("file", KINDS)
def test_files_with_the_published_names_become_our_weights(tmp_path: Path, file: str) -> None:
    make, write, layout, name = KINDS[file]
    weights = make()
    path = write(tmp_path / file, weights)
    kept, source = convert(
        path, name=name, unverified=True, folder=tmp_path / "kept", width=wf.WIDTH
    )
    stored = load_weights(kept)
    assert kept == weights_path(name, tmp_path / "kept")
    assert (source.layout, source.is_verified) == (layout, False)
    assert set(stored.tensors) == set(weights)
    for key, value in weights.items():
        assert torch.equal(stored.tensors[key], value), key


def test_every_layout_and_every_catalogued_file_is_covered() -> None:
    assert {layout for _, _, layout, _ in KINDS.values()} | {"mean"} == {x.name for x in LAYOUTS}
    assert {f.layout for f in CATALOGUE} == {layout.name for layout in LAYOUTS}
    for file in CATALOGUE:
        assert file.source
        assert file.terms
    wanted = {spec.weights for spec in EXTRACTORS.values()} - {None}
    wanted |= {name for parts in WEIGHTS.values() for name in parts}
    assert wanted <= {file.weights for file in CATALOGUE}


def test_a_converted_file_gives_the_features_of_its_numbers(tmp_path: Path) -> None:
    entries = wf.chainer_entries(wf.c3d_weights())
    path = wf.save_npz(tmp_path / "conv3d_deepnetA_ucf.npz", entries)
    convert(path, folder=tmp_path, width=wf.WIDTH)
    mean = numpy.zeros((3, 1, 16, 128, 171), numpy.float32)
    convert(wf.save_npz(tmp_path / "mean2.npz", {"mean": mean}), folder=tmp_path)
    spec = replace(EXTRACTORS["c3d-tgan2-fc7"], width=wf.WIDTH, batch_clips=1)
    rng = torch.Generator().manual_seed(3)
    clips = torch.randint(256, (1, 3, 16, 112, 112), generator=rng, dtype=torch.uint8)
    found = load_extractor(spec, folder=tmp_path).arrays(clips)

    # At 112 pixels nothing is resized: 128 x + 128 of x = v / 127.5 - 1, blue first.
    values = (clips.double().numpy() / 127.5 - 1) * 128 + 128
    named = {
        f"{layer}.{ours}": entries[f"{layer}/{theirs}"].astype(float)
        for layer in wf.C3D_LAYERS
        for theirs, ours in (("W", "weight"), ("b", "bias"))
    }
    expected = written_out(values[:, ::-1], named, behind=1)
    assert largest_error(found["features"], expected["fc7"]) < 1e-5
    assert largest_error(found["probabilities"], expected["probabilities"]) < 1e-5


def test_hashes_are_those_of_git_and_sha256sum(tmp_path: Path) -> None:
    path = tmp_path / "hello"
    path.write_text("hello\n")
    found = identify(path)
    assert found.git_blob == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert found.sha256.startswith(
        "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    )
    assert found.bytes == 6


@pytest.fixture
def i3d_file(tmp_path: Path) -> Path:
    return wf.save_zip(tmp_path / "i3d_pretrained_400.pt", wf.pytorch_i3d_entries(wf.i3d_weights()))


def test_other_bytes_under_a_published_name_need_trust(tmp_path: Path, i3d_file: Path) -> None:
    with pytest.raises(HashMismatchError, match="not the published ones of i3d_pretrained_400"):
        convert(i3d_file, folder=tmp_path, width=wf.WIDTH)
    _, source = convert(i3d_file, unverified=True, folder=tmp_path, width=wf.WIDTH)
    assert not source.is_verified


def test_a_file_that_could_be_two_is_not_guessed(tmp_path: Path, i3d_file: Path) -> None:
    renamed = i3d_file.rename(tmp_path / "mine.pt")
    found = examine(renamed, wf.WIDTH)
    with pytest.raises(AmbiguousFileError, match="shape of i3d-k400, i3d-k400-imagenet"):
        choose(found, unverified=True)
    assert choose(found, "i3d-k400-imagenet", unverified=True).file == "rgb_imagenet.pt"
    with pytest.raises(UserError, match=r"mine\.pt does not fit i3d-k600"):
        choose(found, "i3d-k600", unverified=True)


def test_a_file_with_the_published_hash_is_verified_under_any_name(
    tmp_path: Path, i3d_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = identify(i3d_file)
    ours = replace(
        next(f for f in CATALOGUE if f.file == "rgb_imagenet.pt"),
        git_blob=identity.git_blob[:12],
        bytes=identity.bytes,
    )
    monkeypatch.setattr(catalogue, "CATALOGUE", (*CATALOGUE, ours))
    renamed = i3d_file.rename(tmp_path / "i3d_pretrained_400.pt")
    path, source = convert(renamed, folder=tmp_path, width=wf.WIDTH)
    assert source.is_verified
    assert path.stem == "i3d-k400-imagenet"
    with pytest.raises(UserError, match="to the last byte, which holds i3d-k400-imagenet"):
        convert(renamed, name="i3d-k400", folder=tmp_path, width=wf.WIDTH)


def test_a_hash_counts_only_if_every_part_agrees() -> None:
    file = WeightFile(
        file="f", weights="w", layout="mean", classes=0, source="s", terms="t", sha256="ab", bytes=3
    )
    assert file.is_this(3, "abc", "0")
    assert not file.is_this(4, "abc", "0")
    assert not file.is_this(3, "bc", "0")
    assert not replace(file, git_blob="1").is_this(3, "abc", "0")
    assert not replace(file, sha256="").is_this(3, "abc", "0")


@pytest.mark.parametrize("shape", [MEAN_SHAPE, (3, 1, 16, 128, 171), (1_050_624,)])
def test_the_mean_clip_is_taken_in_any_shape_of_its_size(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    values = numpy.arange(1_050_624, dtype="f4").reshape(shape)
    path, _ = convert(wf.save_npz(tmp_path / "mean2.npz", {"mean": values}), folder=tmp_path)
    found = load_weights(path).tensors["mean"]
    assert found.shape == MEAN_SHAPE
    assert torch.equal(found.flatten(), torch.arange(1_050_624.0))


def test_the_verbs_list_verify_and_convert(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDGAN_WEIGHTS", str(tmp_path / "kept"))
    mean = wf.save_npz(tmp_path / "mean2.npz", {"mean": numpy.ones(MEAN_SHAPE, "f4")})
    assert cli.run(["weights", "verify", str(mean)]) == 0
    shown = capsys.readouterr().out
    assert identify(mean).sha256 in shown
    assert "not verified: no hash has been published" in shown

    assert cli.run(["weights", "convert", str(mean)]) == 0
    kept = tmp_path / "kept" / "c3d-mean.safetensors"
    assert capsys.readouterr().out == f"mean2.npz (not verified) is kept in {kept}\n"
    assert cli.run(["weights", "verify", str(kept)]) == 0
    assert "unchanged since it was converted" in capsys.readouterr().out
    assert cli.run(["weights", "convert", str(kept)]) == 2
    assert "holds c3d-mean and is converted already; copy it to" in capsys.readouterr().err

    assert cli.run(["weights", "list"]) == 0
    shown = capsys.readouterr().out
    assert "c3d-mean: converted; read by c3d-tgan-fc6, c3d-tgan2-fc7" in shown
    assert "i3d-k400: missing; read by i3d-tf, i3d-stretch, i3d-stretch-pytorch, i3d-crop" in shown
    assert "git blob fa7df95674dbf3579e7fccd954e51e706b4734c1" in shown
    assert cli.run(["weights", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["weights"]}
    assert set(rows) == {file.weights for file in CATALOGUE}
    assert [row["is_converted"] for row in rows.values()].count(True) == 1

    assert cli.run(["weights", "convert", str(tmp_path / "absent.npz")]) == 2
    assert "there is no file" in capsys.readouterr().err


@pytest.mark.slow
def test_files_of_full_size_are_verified_and_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wf, "WIDTH", 1.0)
    monkeypatch.setenv("VIDGAN_WEIGHTS", str(tmp_path / "kept"))
    weights = wf.i3d_weights(has_scales=False)
    path = deepmind(tmp_path / "rgb_scratch", weights)
    assert identify(path).bytes == converting.weights_names()["i3d-k400"][0].bytes
    assert cli.run(["weights", "verify", str(path)]) == 2
    told = capsys.readouterr()
    assert "bytes        50,818,176" in told.out
    assert "not the published ones of rgb_scratch" in told.err
    assert cli.run(["weights", "convert", str(path), "--unverified"]) == 0

    state = wf.save_zip(tmp_path / "mine.pt", wf.pytorch_i3d_entries(weights))
    assert cli.run(["weights", "verify", str(state)]) == 0
    assert "weights      i3d-k400 or i3d-k400-imagenet" in capsys.readouterr().out
    extractor = load_extractor("i3d-tf")
    clip = torch.zeros(1, 3, 9, 32, 32, dtype=torch.uint8)
    assert extractor.arrays(clip)["features"].shape == (1, 400)
