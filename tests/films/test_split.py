"""One film to many: shots, pieces, and a held-out part."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("cv2")

from vidgan.cli.main import run as run_cli
from vidgan.data.settings import DataConfig
from vidgan.data.sources.layouts import scan_sources
from vidgan.errors import UserError
from vidgan.films.faces.shots import ShotConfig
from vidgan.films.split import split_film
from vidgan.video import probe, write_mp4

LENGTHS = (12, 4, 20, 12)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes of blocks in random grey, each of which moves by a pixel a frame."""
    rng = np.random.default_rng(0)
    frames = []
    for length in LENGTHS:
        scene = np.kron(rng.integers(0, 255, (16, 24)), np.ones((6, 6))).astype(np.uint8)
        frames += [np.roll(scene, t, axis=1)[:, :96] for t in range(length)]
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_mp4(path, torch.from_numpy(np.stack(frames))[None], 24.0)
    return path


def test_every_shot_becomes_a_film_and_whole_shots_are_held_out(film: Path, tmp_path: Path) -> None:
    config = ShotConfig(min_frames=8, max_frames=12)
    report = split_film(film, tmp_path / "out", config, heldout=0.34)
    assert (report.num_frames, report.num_shots, report.num_short) == (48, 4, 1)
    files = sorted((tmp_path / "out").rglob("*.mp4"))
    lengths = {path.stem: probe(path).num_frames for path in files}
    # The third scene is longer than 12 frames: two pieces of ten.
    assert lengths == {
        "shot-00000-0": 12,
        "shot-00001-16": 10,
        "shot-00001-26": 10,
        "shot-00002-36": 12,
    }
    split_of = {path.stem: path.parent.name for path in files}
    assert split_of["shot-00001-16"] == split_of["shot-00001-26"]
    assert sorted(set(split_of.values())) == ["heldout", "train"]
    assert report.counts == {s: list(split_of.values()).count(s) for s in ("heldout", "train")}
    with pytest.raises(UserError, match="already exists"):
        split_film(film, tmp_path / "out", config)
    with pytest.raises(UserError, match=r"none of the 4 shots .* has 31 frames: set min_frames"):
        split_film(film, tmp_path / "none", ShotConfig())
    assert not (tmp_path / "none").exists()


def test_a_single_film_is_a_source_of_one_video(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = scan_sources(film, DataConfig())
    assert [source.path for source in scan.sources] == [film]
    assert scan.classes == []
    assert any("vidgan data split" in note for note in scan.notes)
    (tmp_path / "notes.doc").write_text("")
    with pytest.raises(UserError, match="is not a video"):
        scan_sources(tmp_path / "notes.doc", DataConfig())
    assert run_cli(["data", "split", str(film), str(tmp_path / "out"), "min_frames=0"]) == 2
    assert "must be at least 1" in capsys.readouterr().err
