"""`vidgan project` from video files and runs to what it writes."""

import json
from pathlib import Path

import pytest
import torch
from generator_files import saved_generator
from model_cases import CASES
from safetensors.torch import load_file

import vidgan
from vidgan.cli import main as cli
from vidgan.cli.project import free_name
from vidgan.core.files import write_json_atomically
from vidgan.errors import UserError
from vidgan.models.base import Stage
from vidgan.sampling.projection import ProjectionOptions
from vidgan.sharing.project import _encodings, cut_of, independent, read_target
from vidgan.video import read_frames, write_mp4

Capture = pytest.CaptureFixture[str]
QUICK = ProjectionOptions(starts=48, refined=1, steps=15)


def own_video(name: str, folder: Path, label: int | None = None) -> tuple[Path, Path]:
    """Files of a generator and of one of its clips."""
    file = saved_generator(name, folder)
    generator = vidgan.load_generator(file)
    clip = vidgan.sample_clips(generator, vidgan.sample_latents(generator, [6]), label)[0]
    write_mp4(folder / "own.mp4", clip, 8.0, lossless=True)
    return file, folder / "own.mp4"


def test_the_verb_writes_clip_latent_and_summary(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, video = own_video("pvgan-projection", tmp_path, 2)
    monkeypatch.chdir(tmp_path)
    words = ["project", str(file), str(video), "--class", "class 2", "--vary", "2"]
    assert cli.run(words) == 0
    output = capsys.readouterr().out
    assert "projections/own.mp4" in output
    assert "recovered: " in output
    stem = tmp_path / "projections" / "own"
    summary = json.loads(stem.with_suffix(".json").read_text())
    assert summary["verdict"] == "recovered"
    assert summary["class"] == "class 2"
    kept = load_file(stem.with_suffix(".safetensors"))
    generator = vidgan.load_generator(file)
    clip = vidgan.sample_clips(generator, kept["latent"][None], [int(kept["label"])])[0]
    target = read_target(video, cut_of(file, generator), generator)
    error = float((clip.float() - target.float()).square().mean())
    assert 10 * torch.tensor(255**2 / error).log10() > 30
    side_by_side = read_frames(stem.with_suffix(".mp4"))
    assert side_by_side.pixels.shape[1] == clip.shape[1]
    assert side_by_side.pixels.shape[3] > 2 * clip.shape[2]
    assert stem.with_name("own-variations.mp4").is_file()


def test_clips_of_one_name_do_not_overwrite_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "projections"
    for name, stem in (("a", "clip"), ("b", "clip-2"), ("a", "clip")):
        assert free_name(folder, Path(name, "clip.mp4")) == folder / f"{stem}.mp4"
        write_json_atomically(folder / f"{stem}.json", {"clip": f"{name}/clip.mp4"})
        (folder / f"{stem}.mp4").touch()


def test_another_clip_lends_its_motion(tmp_path: Path, capsys: Capture) -> None:
    file, video = own_video("mocogan", tmp_path)
    out = tmp_path / "found.mp4"
    words = ["project", str(file), str(video), str(out), "--motion", str(video), "--json"]
    assert cli.run(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert str(tmp_path / "found-moved.mp4") in document["written"]
    assert (tmp_path / "found-moved.mp4").is_file()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["gone.mp4"], "gone.mp4"),
        (["broken.mp4"], "broken.mp4"),
        (["own.mp4", "found.gif"], "must end in .mp4"),
        (["own.mp4", "--motion", "own.mp4"], "cannot exchange motions"),
        (["own.mp4", "--class", "class 9"], "class 9"),
        (["own.mp4", "--minutes", "0"], "--minutes 0 must be above 0"),
        (["own.mp4", "--vary", "100000000"], "--vary 100000000 must lie in"),
        (["own.mp4", "--vary", "-1"], "--vary -1"),
        (["short.mp4"], "has 1 of 6 frames"),
    ],
)
def test_mistakes_get_a_sentence(
    words: list[str], why: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = own_video("pvgan-projection", tmp_path, 2)
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    write_mp4(tmp_path / "short.mp4", torch.zeros(3, 1, 16, 16).byte(), 8.0)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert cli.run(["project", str(file), *words]) == 2
    assert why in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_growing_generator_is_compared_at_its_own_size(tmp_path: Path) -> None:
    stage = Stage(level=0, frames=3, resolution=4, batch_size=2)
    file = saved_generator("pvgan", tmp_path, stage)
    generator = vidgan.load_generator(file)
    frames = torch.arange(6).byte()[None, :, None, None] * 40
    write_mp4(tmp_path / "a.mp4", frames.expand(3, 6, 16, 16).contiguous(), 8.0, lossless=True)
    target = read_target(tmp_path / "a.mp4", cut_of(file, generator), generator)
    assert target.shape == (3, 3, 4, 4)
    # Mean of each pair of frames.
    wanted = torch.tensor([20, 100, 180])
    assert int((target[:, :, 0, 0].int() - wanted).abs().max()) <= 1


@pytest.mark.parametrize("name", ["pvgan", "pvgan-sliced-projection", "tgan", "vgan", "ivgan"])
def test_features_of_a_clip_do_not_depend_on_its_neighbours(name: str) -> None:
    case = CASES[name]
    gan = case.build().train(False)
    used = independent(list(gan.discriminators.values()))
    assert used
    clips, labels = case.clips(4), case.labels(gan, 4)
    together = _encodings(used, clips, labels)
    alone = [
        _encodings(used, clips[i : i + 1], None if labels is None else labels[i : i + 1])
        for i in range(4)
    ]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-5)
    assert float(together.detach().std(dim=0).max()) > 0


def test_labels_and_clips_are_checked(tmp_path: Path) -> None:
    generator = vidgan.load_generator(saved_generator("pvgan-projection", tmp_path))
    clip = vidgan.sample_clips(generator, vidgan.sample_latents(generator, [6]), 2)[0]
    found = vidgan.project(generator, clip.numpy(), "class 2", QUICK)
    assert (found.label, found.verdict) == (2, "recovered")
    with pytest.raises(UserError, match="there is no class 3"):
        vidgan.project(generator, clip, 3)
