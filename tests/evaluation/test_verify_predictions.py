"""Records of `vidgan predict` are sealed: `vidgan evaluate --verify` names whatever was edited."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vidgan.cli import main as cli
from vidgan.errors import UserError
from vidgan.evaluation.record_checks import read_checked_record
from vidgan.evaluation.record_types import seal_of
from vidgan.extractors.lpips import backbone_shapes, channel_shapes
from vidgan.extractors.weights.store import WeightSource, load_weights, save_weights, weights_path
from vidgan.video import write_mp4

Capture = pytest.CaptureFixture[str]

RUN = "runs/small-videos"
SETTINGS = """
model: {name: hrvgan, latent: 4, context_frames: 2, channels: [4, 4, 4]}
data: {resolution: 16, frames: 6}
loss: {name: wgan-gp}
training: {total_clips: 8, batch_size: 4, device: cpu, threads: 1}
"""
SOURCE = WeightSource(
    file="f", bytes=1, sha256="0", git_blob="0", layout="LPIPS", is_verified=False
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of one class, weights of LPIPS, a run that continues clips, and its record."""
    folder = tmp_path_factory.mktemp("made")
    patch = pytest.MonkeyPatch()
    patch.setenv("VIDGAN_CACHE", str(folder / "cache"))
    patch.chdir(folder)
    words = ["--videos", "40", "--size", "16", "--frames", "6", "--heldout", "0.25"]
    words += ["--objects", "disc", "--motions", "left"]
    assert cli.run(["data", "motions", "videos", *words]) == 0
    Path("small.yaml").write_text(SETTINGS, encoding="utf-8")
    assert cli.run(["train", "small.yaml", "data=videos"]) == 0
    rng = torch.Generator().manual_seed(0)
    features = {
        name: torch.randn(shape, generator=rng) * (2 / math.prod(shape[1:])) ** 0.5
        for name, shape in backbone_shapes("vgg").items()
    }
    channels = {n: torch.rand(shape, generator=rng) for n, shape in channel_shapes("vgg").items()}
    save_weights("vgg16", features, SOURCE)
    save_weights("lpips-vgg", channels, SOURCE)
    words = ["--num", "2", "--num-clips", "4", "--seed", "3"]
    assert cli.run(["predict", RUN, "lpips=vgg", *words]) == 0
    patch.undo()
    return folder


@pytest.fixture(autouse=True)
def _in_a_copy(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "copy" / "cache"))
    monkeypatch.chdir(tmp_path / "copy")
    capsys.readouterr()


def the_record() -> Path:
    (path,) = Path(RUN, "evals").glob("prediction-*.json")
    return path


def edit(change: Callable[[dict[str, Any]], None], *, seal: bool = False) -> None:
    path = the_record()
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    if seal:
        clips = record["seal"]["clips"]
        record["seal"] = seal_of(record) | {"clips": clips}
    path.write_text(json.dumps(record), encoding="utf-8")


def findings(capsys: Capture) -> list[str]:
    capsys.readouterr()
    assert cli.run(["evaluate", "--verify", str(the_record())]) == 2
    said = capsys.readouterr()
    assert "does not verify" in said.err
    return said.out.splitlines()


def test_an_untouched_record_agrees_to_the_last_bit(capsys: Capture) -> None:
    record = json.loads(the_record().read_text(encoding="utf-8"))
    assert set(record["scores"]) == {"psnr", "ssim", "lpips"}
    assert record["scores"]["lpips"]["value"] > 0
    assert (record["counts"]["samples"], record["counts"]["n"]) == (2, 4)
    assert cli.run(["evaluate", "--verify", str(the_record())]) == 0
    assert "agrees to the last bit with what its inputs give now" in capsys.readouterr().out
    assert read_checked_record(the_record()).marks == ()


def test_edited_scores_are_named_with_and_without_a_new_seal(capsys: Capture) -> None:
    edit(lambda record: record["scores"]["psnr"].update(best_of_k=99.0))
    found = findings(capsys)
    assert found[0].startswith("the field scores was edited after the record was made")
    assert found[1].startswith("scores.psnr.best_of_k is 99.0 in the record and ")
    edit(lambda record: record["scores"]["lpips"].update(value=0.0), seal=True)
    assert [line.partition(" is ")[0] for line in findings(capsys)] == [
        "scores.psnr.best_of_k",
        "scores.lpips.value",
    ]


@pytest.mark.parametrize("field", ["inputs", "seeds", "protocol", "mask"])
def test_edited_foundations_are_named_and_nothing_is_computed(field: str, capsys: Capture) -> None:
    def change(record: dict[str, Any]) -> None:
        record[field] = [0, 0, 4, 4] if field == "mask" else record[field] | {"added": 1}

    edit(change)
    (sentence,) = findings(capsys)
    assert sentence.startswith(f"the field {field} was edited")


def test_an_edited_truth_or_given_frame_is_named(capsys: Capture) -> None:
    record = json.loads(the_record().read_text(encoding="utf-8"))
    clips = the_record().with_name(f"clips-{record['seal']['clips']}.jsonl")
    rows = [json.loads(line) for line in clips.read_text(encoding="utf-8").splitlines()]
    name = next(row[1] for row in rows if row[0] == "heldout")
    write_mp4(Path("videos", name), torch.zeros(3, 6, 16, 16, dtype=torch.uint8), 8.0)
    found = findings(capsys)
    assert f"heldout clip {name}: shows other frames than in the record" in found
    assert any(line.startswith("scores.psnr.value is ") for line in found)


def test_an_edited_generator_file_is_named(capsys: Capture) -> None:
    record = json.loads(the_record().read_text(encoding="utf-8"))
    file = Path(record["inputs"]["source"]["path"])
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert findings(capsys)[0].startswith(f"the generator file {file} was edited")


def test_edited_weights_of_lpips_are_named(capsys: Capture) -> None:
    path = weights_path("lpips-vgg")
    weights = load_weights(path).tensors
    weights["lin3.weight"] *= 2
    save_weights("lpips-vgg", weights, SOURCE)
    found = findings(capsys)
    assert found[0].startswith("the weights of LPIPS are others: hash ")
    assert any(line.startswith("scores.lpips.value is ") for line in found)
    assert not any("psnr" in line for line in found)
    # One who leaves the header as it was is refused before anything is computed.
    values = load_file(path)
    values["lin3.weight"] *= 2
    save_file(values, path)
    assert findings(capsys)[0].startswith("it cannot be computed again: ")


@pytest.mark.slow
def test_the_best_of_100_is_a_protocol_of_its_own(capsys: Capture) -> None:
    """On the ten held-out clips that there are, it is what `--num 100` calls the best of k."""
    assert cli.run(["predict", RUN, "--protocol", "prediction-best-of-100"]) == 0
    told = capsys.readouterr().err
    assert "predicting 10 held-out clips, 1,000 predictions in all" in told
    assert "that takes about" in told
    (path,) = Path(RUN, "evals").glob("prediction-best-of-100-*.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert set(record["scores"]) == {"psnr", "ssim"}
    assert record["counts"]["samples"] == 100
    assert record["judge"] is None
    assert cli.run(["predict", RUN, "--num", "100", "--num-clips", "10"]) == 0
    paths = set(Path(RUN, "evals").glob("prediction-*.json")) - {path}
    plain = [json.loads(other.read_text(encoding="utf-8")) for other in paths]
    (other,) = (found for found in plain if found["counts"]["samples"] == 100)
    for name, score in record["scores"].items():
        assert score["value"] == score["best_of_k"]
        assert score["value"] == pytest.approx(other["scores"][name]["best_of_k"], rel=1e-9)
        assert score["mean_of_k"] == pytest.approx(other["scores"][name]["value"], rel=1e-9)
        # The clips on which the best sample beats a forecast, not the mean one.
        assert (
            score["share_above"]["repeat last"]
            >= other["scores"][name]["share_above"]["repeat last"]
        )
    capsys.readouterr()
    assert cli.run(["evaluate", "--verify", str(path)]) == 0
    assert "agrees to the last bit" in capsys.readouterr().out
    assert read_checked_record(path).marks == ()

    # A mean that is called the best, or fewer predictions, is a contradiction.
    for change, said in (
        ({"value": record["scores"]["psnr"]["mean_of_k"]}, "and its best of k another"),
        ({}, "counts.samples is 50 and its protocol has num_samples=100"),
    ):
        edited = json.loads(path.read_text(encoding="utf-8"))
        edited["scores"]["psnr"] |= change
        if not change:
            edited["counts"] |= {"samples": 50, "generated": 500}
        clips = edited["seal"]["clips"]
        edited["seal"] = seal_of(edited) | {"clips": clips}
        Path("edited.json").write_text(json.dumps(edited), encoding="utf-8")
        with pytest.raises(UserError, match=said):
            read_checked_record(Path("edited.json"))


@pytest.mark.parametrize(
    "words", [["--num", "3"], ["--num-clips", "3"], ["--mask", "1,1,2,2"], ["videos/a.mp4"]]
)
def test_numbers_of_a_protocol_cannot_be_chosen(words: list[str], capsys: Capture) -> None:
    assert cli.run(["predict", RUN, "--protocol", "prediction-best-of-100", *words]) == 2
    assert "says which clips are predicted and how often" in capsys.readouterr().err
