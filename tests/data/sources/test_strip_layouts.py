"""Strips of the tiny-video sets and of MoCoGAN: recognised, read, and repacked as they are."""

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from published_sets import write_golf, write_mocogan
from safetensors import safe_open
from video_files import frame_numbers

from vidgan.core.shapes import LevelShape
from vidgan.data.build.packing import DataConfig, build_clips, check_source
from vidgan.data.dataset import ClipDataset, ClipRequest
from vidgan.data.packed.store import open_store
from vidgan.data.packed.writer import chunk_file, item_key
from vidgan.data.sources.layouts import scan_sources
from vidgan.errors import UserError

CONFIG = DataConfig(resolution=32, frames=4, workers=0, resize="stretch", clip="first")


def first_numbers(folder: Path) -> list[int]:
    store = open_store(folder)
    return [frame_numbers(store.read(n, store.levels[0]))[0] for n in range(len(store))]


def payloads(folder: Path) -> list[bytes]:
    store = open_store(folder)
    level = store.levels[0]
    with safe_open(chunk_file(folder, level, 0), framework="pt") as chunk:
        return [chunk.get_tensor(item_key(n)).numpy().tobytes() for n in range(len(store))]


def test_golf_strips_are_repacked_byte_for_byte(tmp_path):
    root = write_golf(tmp_path / "golf")
    config = replace(CONFIG, resolution=128, frames=4, clip="central", heldout_fraction=0.5)
    report = build_clips(root, tmp_path / "set", config, levels=[(2, 32)])
    assert "tiny-video sets (Golf, Aeroplane) (data.layout=tinyvideo)" in report.layout
    assert "since golf.txt lists its images, which are strips" in report.layout
    assert report.dropped == (
        ("frames-stable-many/00/gone.jpg", "is listed in golf.txt and not on the disk"),
    )
    store = open_store(tmp_path / "set")
    files = [root / item.source for item in store.items]
    assert payloads(tmp_path / "set") == [file.read_bytes() for file in files]
    assert [item.stored_frames for item in store.items] == [4, 4, 4, 8, 8, 8]
    # The clips of one film stay on one side.
    assert {item.group.rpartition("/")[2] for item in store.items} == {"film0.mp4", "film1.mp4"}
    assert len({(item.group, item.split) for item in store.items}) == 2
    for index, file in enumerate(files):
        pixels = np.asarray(Image.open(file)).reshape(-1, 128, 128, 3).transpose(3, 0, 1, 2)
        clip = store.read(index, LevelShape(4, 128))
        assert np.array_equal(clip.numpy(), pixels)
        blocks = clip.double().reshape(3, -1, 2, 32, 4, 32, 4).mean(dim=(2, 4, 6))
        assert torch.equal(store.read(index, LevelShape(2, 32)), blocks.round().to(torch.uint8))


def test_samples_of_repacked_strips_are_the_windows_that_were_asked_for(tmp_path):
    root = write_golf(tmp_path / "golf")
    config = replace(CONFIG, resolution=128, clip="central", heldout_fraction=0.0)
    build_clips(root, tmp_path / "set", config)
    store = open_store(tmp_path / "set")
    dataset = ClipDataset(store, config, seed=0)
    for position in range(6):
        sample = dataset[ClipRequest(position, 4, 128)]
        item = store.items[sample["index"]]
        number = int(Path(item.source).stem)
        start = 10 * number + (2 if item.stored_frames == 8 else 0)
        assert frame_numbers(sample["clip"]) == list(range(start, start + 4))


@pytest.mark.parametrize(
    "settings",
    [
        {"resolution": 64},
        {"stride": 2, "frames": 2},
        {"stored_frames": 4},
        {"payload": "zstd"},
        {"frames": 8, "short": "hold"},
    ],
)
def test_strips_that_do_not_fit_are_encoded_anew(tmp_path, settings):
    root = write_golf(tmp_path / "golf", num_clips=2)
    config = replace(CONFIG, **{"resolution": 128, "heldout_fraction": 0.0, **settings})
    build_clips(root, tmp_path / "set", config)
    store = open_store(tmp_path / "set")
    first = (root / store.items[0].source).read_bytes()
    assert payloads(tmp_path / "set")[0] != first
    step = config.stride
    expected = [min(3, step * n) for n in range(config.frames)]
    assert frame_numbers(store.read(0, store.levels[0]))[: config.frames] == expected


@pytest.mark.parametrize("kind", ["grey", "turned", "png", "sideways"])
def test_images_that_are_no_plain_strip_are_encoded_anew(tmp_path, kind):
    root = write_golf(tmp_path / "golf", num_clips=2)
    file = next(root.rglob("0000.jpg"))
    image = Image.open(file)
    image.load()
    exif = Image.Exif()
    if kind == "grey":
        image.convert("L").save(file, quality=90)
    elif kind == "turned":
        exif[0x0112] = 3
        image.save(file, quality=90, exif=exif)
    elif kind == "png":
        image.save(file, format="PNG")
    else:
        frames = np.asarray(image).reshape(-1, 128, 128, 3)
        Image.fromarray(np.concatenate(frames, axis=1)).save(file, quality=90)
    build_clips(root, tmp_path / "set", replace(CONFIG, resolution=128, heldout_fraction=0.0))
    assert payloads(tmp_path / "set")[0] != file.read_bytes()
    assert first_numbers(tmp_path / "set") == [0, 10]


def test_damaged_strips_are_dropped_and_named(tmp_path):
    root = write_golf(tmp_path / "golf")
    cut, odd, empty = sorted(root.rglob("*.jpg"))[:3]
    cut.write_bytes(cut.read_bytes()[:600])
    Image.new("RGB", (128, 200)).save(odd)
    empty.write_bytes(b"")
    config = replace(CONFIG, resolution=128, heldout_fraction=0.0)
    report = build_clips(root, tmp_path / "set", config)
    dropped = dict(report.dropped)
    assert report.num_clips == 3
    assert dropped[odd.relative_to(root).as_posix()] == "is 128 x 200 pixels, no strip of squares"
    assert "cannot be read as an image" in dropped[cut.relative_to(root).as_posix()]
    assert "cannot be read as an image" in dropped[empty.relative_to(root).as_posix()]


@pytest.mark.parametrize("prefix", ["/data/vid/", "./", "C:\\sets\\", "../../"])
def test_lists_may_name_paths_of_another_machine(tmp_path, prefix):
    root = write_golf(tmp_path / "golf")
    file = root / "golf.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(f"{prefix}{line}" for line in lines).replace("/", "\\"))
    scan = scan_sources(root, CONFIG)
    assert len(scan.sources) == 6
    assert all(source.path.is_relative_to(root) for source in scan.sources)
    # Lists of parts only, as Aeroplane's: the folders in front are found.
    file.write_text("\n".join(line.partition("/")[2] for line in lines))
    assert len(scan_sources(root, CONFIG).sources) == 6


def test_a_list_of_foreign_files_gives_nothing(tmp_path):
    root = write_golf(tmp_path / "golf")
    Image.new("RGB", (128, 512)).save(tmp_path / "secret.jpg")
    (root / "golf.txt").write_text(f"{tmp_path}/secret.jpg\n../secret.jpg\n")
    with pytest.raises(UserError, match=r"0 of the 2 videos listed in golf\.txt are there"):
        scan_sources(root, CONFIG)


def test_golf_without_its_list_is_known_by_its_folder(tmp_path):
    root = write_golf(tmp_path / "golf")
    (root / "golf.txt").unlink()
    scan = scan_sources(root, CONFIG)
    assert scan.layout == "tinyvideo"
    assert (len(scan.sources), scan.classes) == (6, [])
    assert scan.notes[0] == "no text file lists the clips, so all images are taken"


def test_mocogan_strips_go_either_way(tmp_path):
    root = write_mocogan(tmp_path / "shapes")
    report = build_clips(root, tmp_path / "set", replace(CONFIG, heldout_fraction=0.0))
    assert "strips in class folders (MoCoGAN) (data.layout=strips)" in report.layout
    store = open_store(tmp_path / "set")
    assert store.classes == ("circle", "square")
    assert first_numbers(tmp_path / "set") == [0, 10, 20, 0, 10, 20]
    circle, square = (zlib.crc32(store.read(n, (4, 32)).numpy().tobytes()) for n in (1, 4))
    assert circle == square


def test_numbered_frames_of_common_shapes_stay_videos(tmp_path):
    for n in range(3):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.new("RGB", (64, 32)).save(tmp_path / "a" / f"{n}.png")
    assert scan_sources(tmp_path, CONFIG).layout == "folder"
    assert scan_sources(tmp_path, replace(CONFIG, layout="strips")).sources[0].kind == "strip"


def test_a_check_draws_strips(tmp_path):
    write_mocogan(tmp_path / "shapes")
    report = check_source(tmp_path / "shapes", CONFIG, tmp_path / "sheet.png")
    assert report.num_clips == 6
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > sheet.height / 4
