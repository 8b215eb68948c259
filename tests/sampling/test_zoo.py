"""The trained generators that are part of the package."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import vidgan
from vidgan.cli import main as cli
from vidgan.errors import UserError
from vidgan.sampling import zoo
from vidgan.sampling.generate import sample_clips, sample_latents
from vidgan.sampling.outputs import diagonal_pixels
from vidgan.sampling.storage import card_of, load_generator

NAMES = [entry.name for entry in zoo.list_zoo()]


@pytest.mark.parametrize("name", NAMES)
def test_every_generator_is_whole_small_and_makes_clips(name: str) -> None:
    entry = zoo.zoo_entry(name)
    assert zoo.zoo_file(name).stat().st_size <= zoo.MAX_BYTES
    assert entry.protocol
    assert entry.scores
    assert entry.licence.startswith("MIT")
    generator = load_generator(f"zoo:{name}")
    assert all(value.dtype == torch.float32 for value in generator.parameters())
    _, frames, side, _ = card_of(generator).clip_shape
    given = generator.context_frames
    context = torch.full((2, 3, given, side, side), 128, dtype=torch.uint8) if given else None
    labels = torch.tensor([0, 1]) if generator.num_classes else None
    clips = sample_clips(generator, sample_latents(generator, [0, 1]), labels, context)
    assert clips.shape == (2, 3, frames, side, side)
    # A picture that moves, and no noise: neighbouring frames differ, by less than pixels do.
    values = clips.float()
    change = values.diff(dim=2).abs().mean()
    assert 0 < change < values.flatten(1).std(1).mean()
    # A network that computes something else than the one that was trained gives other pixels.
    pixels = torch.tensor(diagonal_pixels(generator))
    torch.testing.assert_close(pixels, torch.tensor(entry.pixels), rtol=0, atol=2)


def test_files_beside_the_index_are_those_it_names() -> None:
    files = {path.name for path in zoo.FOLDER.glob("*.safetensors")}
    assert files == {entry.file_name for entry in zoo.list_zoo()}


def test_the_first_line_of_python_shows_a_moving_clip(tmp_path: Path) -> None:
    generator = vidgan.load_generator(f"zoo:{NAMES[0]}")
    clips = vidgan.sample_clips(generator, vidgan.sample_latents(generator, range(4)), 0)
    vidgan.save_video(tmp_path / "clip.gif", clips[0], fps=8)
    assert (tmp_path / "clip.gif").stat().st_size > 0
    assert np.ptp(clips.numpy()) > 100


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "zoo"
    shutil.copytree(zoo.FOLDER, folder)
    path = folder / f"{NAMES[0]}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="does not match its checksum"):
        zoo.zoo_file(NAMES[0], folder)
    path.unlink()
    with pytest.raises(UserError, match="is missing"):
        zoo.zoo_file(NAMES[0], folder)


def test_unknown_names_are_refused_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sample", f"zoo:{NAMES[0]}s", "grid.png"]) == 2
    assert f"did you mean zoo:{NAMES[0]}?" in capsys.readouterr().err


def test_the_command_line_lists_and_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["zoo"]) == 0
    assert all(f"zoo:{name}" in capsys.readouterr().out for name in NAMES[:1])
    assert cli.run(["zoo", NAMES[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["sha256"] == zoo.zoo_entry(NAMES[0]).sha256
    assert cli.run(["sample", f"zoo:{NAMES[0]}", str(tmp_path / "grid.webp")]) == 0
    assert (tmp_path / "grid.webp").exists()
