"""Generated clips of other programs: every way of storing them, and all that does not fit."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from generated_files import write_pngs, write_video
from torch import Tensor

from vidgan.core.escaping import csv_cell
from vidgan.data.sources.generated import (
    GeneratedClips,
    first_shape,
    list_generated,
    read_generated,
)
from vidgan.errors import UserError
from vidgan.video import write_mp4

CLIPS = torch.randint(256, (6, 3, 4, 16, 16), dtype=torch.uint8, generator=torch.manual_seed(0))


def pngs(root: Path, clips: Tensor = CLIPS) -> Path:
    for number, clip in enumerate(clips):
        write_pngs(root / f"clip{number}", clip)
    return root


def read(root: Path, classes: Sequence[str] = (), limit: int = 100) -> GeneratedClips:
    return read_generated(root, 4, 16, classes, limit, seed=0)


def in_order(found: GeneratedClips) -> Tensor:
    """Clips by their names, which sort as they were written."""
    rows = sorted(range(len(found.names)), key=lambda row: found.names[row])
    return found.clips[rows]


def test_all_exact_ways_of_storing_clips_give_the_same_clips(tmp_path: Path) -> None:
    for number, clip in enumerate(CLIPS):
        write_video(tmp_path / f"ffv1/clip{number}.mkv", clip, "ffv1", "bgr0")
        write_video(tmp_path / f"avi/clip{number}.avi", clip, "rawvideo", "bgr24")
        write_mp4(tmp_path / f"mp4/clip{number}.mp4", clip, 8.0, lossless=True)
    arrays = CLIPS.permute(0, 2, 3, 4, 1).numpy()
    np.save(tmp_path / "all.npy", arrays)
    expected = read(pngs(tmp_path / "png"))
    assert torch.equal(in_order(expected), CLIPS)
    assert (expected.num_found, expected.num_lossy, expected.warnings) == (6, 0, ())
    for name in ("ffv1", "avi", "mp4", "all.npy"):
        found = read(tmp_path / name)
        assert torch.equal(found.clips, expected.clips), name
        assert (found.num_lossy, found.warnings) == (0, ()), name


def test_lossy_clips_are_read_with_a_warning(tmp_path: Path) -> None:
    for number, clip in enumerate(CLIPS):
        write_mp4(tmp_path / f"clip{number}.mp4", clip, 8.0)
    found = read(tmp_path)
    assert found.num_lossy == 6
    assert found.formats == {"h264 yuv420p": 6}
    (warning,) = found.warnings
    assert "6 of 6 generated clips were stored with loss (h264 yuv420p)" in warning


def test_a_choice_and_its_order_depend_on_the_seed(tmp_path: Path) -> None:
    pngs(tmp_path)
    three = read(tmp_path, limit=3)
    assert three.num_found == 6
    assert three.names == read(tmp_path).names[:3]
    orders = {read_generated(tmp_path, 4, 16, (), 6, seed=seed).names for seed in range(4)}
    assert len(orders) == 4


def test_class_folders_say_what_clips_should_show(tmp_path: Path) -> None:
    for number, clip in enumerate(CLIPS):
        write_pngs(tmp_path / ("left", "up")[number % 2] / f"clip{number}", clip)
    found = read(tmp_path, classes=("down", "left", "up"))
    assert found.labels is not None
    for name, label in zip(found.names, found.labels.tolist(), strict=True):
        assert name.startswith(("", "left", "up")[label])
    # Folders that are no classes at all only sort the files.
    assert read(tmp_path, classes=("walking", "running")).labels is None
    with pytest.raises(UserError, match=r"left/clip0 has the class 'left'; did you mean lefty\?"):
        read(tmp_path, classes=("lefty", "up"))


def test_a_table_of_labels_goes_before_folders(tmp_path: Path) -> None:
    for number, clip in enumerate(CLIPS):
        write_mp4(tmp_path / f"clip-{number}.mp4", clip, 8.0, lossless=True)
    lines = [f"clip-{number}.mp4,{('left', 'up')[number % 2]}" for number in range(6)]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["file,class", *lines]))
    found = read(tmp_path, classes=("left", "up"))
    assert found.labels is not None
    assert found.labels.tolist() == [int(name[5]) % 2 for name in found.names]
    table.write_text("\n".join(["file,class", *lines[:5]]))
    with pytest.raises(UserError, match=r"labels\.csv gives no class for clip-5\.mp4"):
        read(tmp_path, classes=("left", "up"))
    table.write_text("name,class\nclip-0.mp4,left\n")
    with pytest.raises(UserError, match="the columns file and class"):
        read(tmp_path, classes=("left", "up"))
    # Unlabelled samples have an empty column.
    table.write_text("\n".join(["file,class", *(line.split(",")[0] + "," for line in lines)]))
    assert read(tmp_path, classes=("left", "up")).labels is None


def test_class_names_that_are_formulas_come_back_from_a_table_as_they_were(tmp_path: Path) -> None:
    classes = ("=cmd|' /C calc'!A0", "'=1", "''=1", " +1", "@a", "'tis", "a\x1b[31m", "-")
    lines = [["file", "class"]]
    for number, name in enumerate(classes):
        write_mp4(tmp_path / f"clip-{number}.mp4", CLIPS[0], 8.0, lossless=True)
        lines.append([f"clip-{number}.mp4", str(csv_cell(name))])
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    assert not any(line[1].lstrip().startswith(("=", "+", "-", "@")) for line in lines)
    found = read_generated(tmp_path, 4, 16, classes, 8, 0)
    assert found.labels is not None
    assert found.labels.tolist() == [int(name[5]) for name in found.names]


def test_longer_and_larger_clips_are_cut_and_averaged(tmp_path: Path) -> None:
    pngs(tmp_path)
    assert first_shape(tmp_path) == (4, 16)
    shorter = read_generated(tmp_path, 2, 16, (), 6, seed=0)
    assert torch.equal(in_order(shorter), CLIPS[:, :, 1:3])
    smaller = in_order(read_generated(tmp_path, 4, 8, (), 6, seed=0)).double()
    means = CLIPS.double().unflatten(-1, (8, 2)).unflatten(-3, (8, 2)).mean((-1, -3))
    assert float((smaller - means).abs().max()) <= 0.5
    # Where the real clips are larger by a whole factor, they are the ones to be averaged.
    assert torch.equal(in_order(read_generated(tmp_path, 4, 32, (), 6, seed=0)), CLIPS)


def test_one_clip_of_another_size_is_named(tmp_path: Path) -> None:
    pngs(tmp_path)
    write_pngs(tmp_path / "clip9", torch.zeros(3, 4, 8, 8, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"pixels a side and .*must all have one size"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((3, 3, 16, 16), "clip0 has 3 frames and is compared with clips of 4"),
        ((3, 4, 16, 12), "clip0 is 12 x 16 pixels, and only square clips"),
        ((3, 4, 12, 12), "clip0 has 12 pixels a side, which does not fit real clips of 16"),
    ],
)
def test_clips_that_do_not_fit_are_refused(
    shape: tuple[int, ...], sentence: str, tmp_path: Path
) -> None:
    write_pngs(tmp_path / "clip0", torch.zeros(shape, dtype=torch.uint8))
    with pytest.raises(UserError, match=sentence):
        read(tmp_path)


def test_folders_without_clips_and_damaged_clips_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match="there are no generated clips in"):
        list_generated(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(b"no video at all")
    with pytest.raises(UserError, match=r"clip\.mp4: cannot be read as video"):
        read(tmp_path)
