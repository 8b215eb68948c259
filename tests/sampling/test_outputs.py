"""Files of samples: grids, folders, interpolation figures."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vidgan
from vidgan.errors import UserError
from vidgan.models.base import Generator
from vidgan.sampling import outputs
from vidgan.sampling.outputs import (
    SampleSettings,
    generator_fingerprint,
    interpolate_seeds,
    labels_of,
    sample,
    write_interpolation,
    write_sample_folder,
    write_sample_grid,
)
from vidgan.video import probe, read_frames


def test_class_is_chosen_by_name(conditional: Generator, unconditional: Generator) -> None:
    labels = labels_of(conditional, range(4), "box-right")
    assert labels is not None
    assert labels.tolist() == [1, 1, 1, 1]
    with pytest.raises(UserError, match="no class 'box-rigth'; did you mean box-right"):
        labels_of(conditional, [0], "box-rigth")
    with pytest.raises(UserError, match="choose one of box-left, box-right, disc-left"):
        labels_of(conditional, [0], "zebra")
    with pytest.raises(UserError, match="trained without classes"):
        labels_of(unconditional, [0], "box-left")
    assert labels_of(unconditional, [0]) is None


def test_named_class_keeps_the_latent_of_the_seed(conditional: Generator) -> None:
    drawn = sample(conditional, [3, 4])
    assert drawn.labels is not None
    name = ("box-left", "box-right", "disc-left")[int(drawn.labels[1])]
    named = sample(conditional, [9, 4], SampleSettings(class_name=name))
    assert torch.equal(named.clips[1], drawn.clips[1])


def test_grid_is_a_film_that_browsers_play(conditional: Generator, tmp_path: Path) -> None:
    path = tmp_path / "new" / "grid.mp4"
    write_sample_grid(path, sample(conditional, range(5)), fps=8.0)
    info = probe(path)
    assert (info.codec, info.pixel_format, info.num_frames, info.fps) == ("h264", "yuv420p", 6, 8)
    # 3 columns and 2 rows of 8 px clips enlarged 12 times, 2 px between them.
    assert (info.width, info.height) == (3 * 98 + 2, 2 * 98 + 2)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_grid_in_other_formats(conditional: Generator, tmp_path: Path, suffix: str) -> None:
    from PIL import Image

    path = tmp_path / f"grid{suffix}"
    write_sample_grid(path, sample(conditional, [0, 1]), fps=10.0)
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == (1 if suffix == ".png" else 6)


def test_unknown_suffix_is_refused(conditional: Generator, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must end in one of \.mp4, \.gif, \.webp, \.png"):
        write_sample_grid(tmp_path / "grid.avi", sample(conditional, [0]), fps=8.0)


def test_folder_holds_every_clip_exactly(conditional: Generator, tmp_path: Path) -> None:
    seen = []
    folder = tmp_path / "out"
    write_sample_folder(
        folder,
        conditional,
        range(40, 45),
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(5, 5)]
    expected = sample(conditional, range(40, 45))
    assert expected.labels is not None
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["label"]) for row in rows] == expected.labels.tolist()
    assert [row["seed"] for row in rows] == ["40", "41", "42", "43", "44"]
    assert {(row["label"], row["class"]) for row in rows} <= {
        ("0", "box-left"),
        ("1", "box-right"),
        ("2", "disc-left"),
    }
    for row, clip in zip(rows, expected.clips, strict=True):
        stored = read_frames(folder / row["file"]).clip
        assert torch.equal(stored, clip)


def test_labels_are_no_formulas_for_a_spreadsheet(
    conditional: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("=1+1", "@a", "-b")
    monkeypatch.setattr(conditional, "card", replace(conditional.card, class_names=names))
    write_sample_folder(tmp_path / "out", conditional, range(40, 43))
    with (tmp_path / "out" / "labels.csv").open() as file:
        written = {row["class"] for row in csv.DictReader(file)}
    assert written
    assert written <= {"'" + name for name in names}


def test_interrupted_folder_is_completed_not_redone(
    unconditional: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "FOLDER_BATCH", 2)

    def stop(done: int, _: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        write_sample_folder(folder, unconditional, range(7), on_progress=stop)
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.mp4")}
    assert len(before) == 4
    assert not (folder / "labels.csv").exists()
    write_sample_folder(folder, unconditional, range(7))
    after = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.mp4")}
    assert len(after) == 7
    assert before.items() <= after.items()
    with (folder / "labels.csv").open() as file:
        assert [row["class"] for row in csv.DictReader(file)] == [""] * 7


def test_folder_of_something_else_is_refused(
    unconditional: Generator, conditional: Generator, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep")
    with pytest.raises(UserError, match="not an empty folder"):
        write_sample_folder(mine, unconditional, range(1))
    assert [p.name for p in mine.iterdir()] == ["notes.txt"]
    begun = tmp_path / "begun"
    write_sample_folder(begun, unconditional, range(1))
    for other in (
        {"generator": conditional},
        {"generator": unconditional, "seeds": range(1, 2)},
        {"generator": unconditional, "seeds": range(2)},
        {"generator": unconditional, "settings": SampleSettings(truncation=0.5)},
        {"generator": unconditional, "settings": SampleSettings(num_frames=3)},
    ):
        with pytest.raises(UserError, match="holds other samples"):
            write_sample_folder(begun, **{"seeds": range(1), **other})
    (begun / "samples.json").write_text("{")
    with pytest.raises(UserError, match="holds other samples"):
        write_sample_folder(begun, unconditional, range(1))
    with pytest.raises(UserError, match="num=0 must be at least 1"):
        write_sample_folder(tmp_path / "none", unconditional, range(0))


def test_fingerprint_follows_the_weights(unconditional: Generator) -> None:
    import copy

    changed = copy.deepcopy(unconditional)
    assert generator_fingerprint(changed) == generator_fingerprint(unconditional)
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 1e-3
    assert generator_fingerprint(changed) != generator_fingerprint(unconditional)


def test_interpolation_film_and_figure(conditional: Generator, tmp_path: Path) -> None:
    from PIL import Image

    clips = interpolate_seeds(conditional, 0, 1, steps=4, mode="slerp", class_name="disc-left")
    assert clips.shape == (4, 3, 6, 8, 8)
    write_interpolation(tmp_path / "path.mp4", tmp_path / "path.png", clips, 8.0, max_frames=3)
    info = probe(tmp_path / "path.mp4")
    assert (info.width, info.height, info.num_frames) == (4 * 98 + 2, 98 + 2, 6)
    with Image.open(tmp_path / "path.png") as figure:
        # One row for each of the 4 steps, one column for each of 3 frames.
        assert figure.size == (3 * 98 + 2, 4 * 98 + 2)


def test_interpolation_keeps_the_class_of_the_start(conditional: Generator) -> None:
    start = labels_of(conditional, [0])
    assert start is not None
    name = ("box-left", "box-right", "disc-left")[int(start)]
    drawn = interpolate_seeds(conditional, 0, 1, steps=2)
    assert torch.equal(drawn, interpolate_seeds(conditional, 0, 1, steps=2, class_name=name))


def test_a_clip_is_saved_as_the_suffix_says(tmp_path: Path) -> None:
    clip = np.zeros((3, 4, 16, 16), dtype=np.uint8)
    for suffix in (".mp4", ".gif", ".webp"):
        vidgan.save_video(tmp_path / f"a{suffix}", clip, fps=10)
        assert (tmp_path / f"a{suffix}").stat().st_size > 0
    for wrong, told in (
        (clip[0], r"got torch.uint8 \[4, 16, 16\]"),
        (clip.astype(np.float32), "got torch.float32"),
        (clip[:, :0], r"\[3, 0, 16, 16\]"),
    ):
        with pytest.raises(UserError, match=told):
            vidgan.save_video(tmp_path / "b.mp4", wrong)
    with pytest.raises(UserError, match=r"must end in one of \.mp4"):
        vidgan.save_video(tmp_path / "b.png", clip)
    with pytest.raises(UserError, match="fps=0 must be above 0"):
        vidgan.save_video(tmp_path / "b.mp4", clip, fps=0)


def test_class_names_stand_in_the_order_of_the_labels(
    conditional: Generator, unconditional: Generator
) -> None:
    assert vidgan.class_names(conditional) == ("box-left", "box-right", "disc-left")
    assert vidgan.class_names(unconditional) == ()
