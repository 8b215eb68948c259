"""Writes small copies of published sets: the names, lists and forms of the originals, our frames.

Every clip shows its own numbers, from `10 * n` on for clip n, so that tests can tell it again.
"""

import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from video_files import numbered_frame, write_video

UCF_CLASSES = ("ApplyEyeMakeup", "HandstandPushups", "YoYo")


@cache
def _video(number: int, suffix: str, num_frames: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        codec = "mpeg4" if suffix == ".avi" else "libx264"
        file = Path(folder) / f"a{suffix}"
        return write_video(file, num_frames, codec=codec, first_number=10 * number).read_bytes()


def put_video(path: Path, number: int, num_frames: int = 6) -> Path:
    """A video file of numbered frames; the same ones are encoded once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_video(number, path.suffix, num_frames))
    return path


def write_ucf101(root: Path, *, groups: int = 4, line_end: str = "\r\n") -> Path:
    """Three classes, two clips a group, and lists whose split K tests the groups that K divides.

    The second class is spelled with another capital letter in its file names, and some lists have
    backslashes or no end to their last line.
    """
    listed: dict[int, list[str]] = {group: [] for group in range(1, groups + 1)}
    number = 0
    for class_name in UCF_CLASSES:
        spelled = class_name.replace("stand", "Stand")
        for group in listed:
            for clip in (1, 2):
                name = f"{class_name}/v_{spelled}_g{group:02d}_c{clip:02d}.avi"
                put_video(root / "UCF-101" / name, number % 10)
                listed[group].append(name)
                number += 1
    folder = root / "ucfTrainTestlist"
    folder.mkdir()
    index = line_end.join(f"{n} {name}" for n, name in enumerate(UCF_CLASSES[::-1], 1))
    (folder / "classInd.txt").write_text(index, newline="")
    for fold in (1, 2, 3):
        test = [n for group, names in listed.items() if group == fold for n in names]
        train = [n for names in listed.values() for n in names if n not in test]
        rows = [f"{name} {UCF_CLASSES.index(name.split('/')[0]) + 1}" for name in train]
        (folder / f"trainlist{fold:02d}.txt").write_text(line_end.join(rows), newline="")
        rows = [name.replace("/", "\\") if fold == 2 else name for name in test]
        (folder / f"testlist{fold:02d}.txt").write_text(line_end.join(rows) + line_end, newline="")
    return root


def strip_pixels(number: int, num_frames: int, side: int, *, down: bool) -> np.ndarray:
    """Numbered square frames in a row."""
    frames = [numbered_frame(10 * number + n, side, side) for n in range(num_frames)]
    return np.concatenate(frames, axis=0 if down else 1)


def write_golf(root: Path, *, num_clips: int = 6, side: int = 128) -> Path:
    """JPEG strips of two films in `frames-stable-many`, and `golf.txt` with a count a line."""
    lines = []
    for n in range(num_clips):
        name = f"frames-stable-many/0{n % 2}/film{n % 2}.mp4/{n:04d}.jpg"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        strip = Image.fromarray(strip_pixels(n, 4 + 4 * (n % 2), side, down=True))
        strip.save(root / name, quality=90)
        lines.append(f"{name} {4 + 4 * (n % 2)}")
    (root / "golf.txt").write_text("\n".join([*lines, "frames-stable-many/00/gone.jpg 32"]))
    return root


def write_mocogan(root: Path, *, side: int = 32) -> Path:
    """Class folders of PNG strips that go to the right, and one class that goes down."""
    for class_name in ("circle", "square"):
        (root / class_name).mkdir(parents=True)
        for n in range(3):
            pixels = strip_pixels(n, 6, side, down=class_name == "square")
            Image.fromarray(pixels).save(root / class_name / f"{n}.png")
    return root


KINETICS_ROWS = (
    ("riding a bike", "abcdefghij0", 5, 15, "train"),
    ("riding a bike", "Abcdefghij0", 5, 15, "train"),
    ("riding a bike", "-b_defghij1", 0, 10, "train"),
    ('tying "bow" tie, fast', "abcdefghij2", 100, 110, "train"),
    ("riding a bike", "abcdefghij3", 7, 17, "validate"),
    ("riding a bike", "abcdefghij4", 7, 17, "train"),
    ('tying "bow" tie, fast', "abcdefghij5", 8, 18, "test"),
)


def write_kinetics(root: Path) -> Path:
    """Tables for seven clips, of which five are there, beside one that no table has."""
    root.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validate", "test"):
        rows = ["label,youtube_id,time_start,time_end,split,is_cc"]
        for label, youtube_id, start, end, own in KINETICS_ROWS:
            quoted = '"' + label.replace('"', '""') + '"'
            if own == split:
                rows.append(f"{quoted},{youtube_id},{start},{end},{own},0")
        rows += ["broken row,,x,y,train,0"] if split == "train" else []
        (root / f"{split}.csv").write_text("\r\n".join(rows) + "\r\n", newline="")
    for n, (label, youtube_id, start, end, split) in enumerate(KINETICS_ROWS):
        if n not in (2, 5):
            folder = root / split / label.replace(" ", "_") if split == "train" else root / split
            put_video(folder / f"{youtube_id}_{start:06d}_{end:06d}.mp4", n)
    put_video(root / "train" / "zzzzzzzzzzz_000001_000011.mp4", 9)
    return root


def write_frame_folders(root: Path) -> Path:
    """UCF-101 as folders of frames, with JSON files for two splits."""
    keys = [
        (class_name, f"v_{class_name}_g{group:02d}_c01")
        for class_name in UCF_CLASSES[::2]
        for group in (1, 2, 3)
    ]
    for n, (class_name, key) in enumerate(keys):
        folder = root / class_name / key
        folder.mkdir(parents=True)
        for frame in range(6):
            pixels = Image.fromarray(numbered_frame(10 * n + frame))
            pixels.save(folder / f"image_{frame + 1:05d}.jpg", quality=95)
        (folder / "n_frames").write_text("9" if n == 0 else "6")
    keys.append((UCF_CLASSES[0], "v_ApplyEyeMakeup_g09_c01"))
    for fold in (1, 2):
        database = {
            key: {
                "subset": "validation" if f"_g{fold:02d}_" in key else "training",
                "annotations": {"label": class_name},
            }
            for class_name, key in keys
        }
        database["v_Unknown_g01_c01"] = {"subset": "testing", "annotations": {}}
        table = {"labels": [*UCF_CLASSES], "database": database}
        (root / f"ucf101_{fold:02d}.json").write_text(json.dumps(table))
    return root
