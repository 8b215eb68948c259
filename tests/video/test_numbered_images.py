"""Numbered images: the frame number is what varies, and other differences are other videos."""

import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidgan.data.build.packing import build_clips, check_source
from vidgan.data.packed.store import open_store
from vidgan.data.settings import DataConfig
from vidgan.data.sources.containers.reading import list_container, open_item
from vidgan.data.sources.generated import list_generated, read_generated
from vidgan.data.sources.layouts import scan_sources
from vidgan.data.sources.source import Source
from vidgan.data.sources.tree import look_at
from vidgan.data.sources.videos import open_source
from vidgan.errors import UserError
from vidgan.video import UnreadableVideoError, VideoError, is_image_folder, probe, read_frames
from vidgan.video.sequences import SameNumberError, find_sequences

CONFIG = DataConfig(resolution=16, frames=8, workers=0, payload="raw")


def save(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 16, 3), level, np.uint8)).save(path)


def levels(path: Path) -> list[int]:
    """Grey levels of the frames of a video of even frames, by tens."""
    return [round(x / 10) for x in read_frames(path).pixels[0, :, 8, 8].tolist()]


ONE_VIDEO = {
    "{}": 16,
    "frame{}": 16,
    "frame_{}_of_16": 16,
    "{}_64x64": 16,
    "frame_{}_seed0": 16,
    "f{}-v2": 16,
    "{}_rgb": 16,
    "{:05d}": 16,
    "clip7_cam2_{:03d}": 16,
    "frame-{:04d}@2x": 16,
    "Screenshot ({})": 16,
    "h264.{}": 16,
}


@pytest.mark.parametrize("pattern", ONE_VIDEO)
def test_numbers_anywhere_in_names_order_frames(tmp_path, pattern):
    for k in range(1, 17):
        save(tmp_path / f"{pattern.format(k)}.png", 10 * k)
    assert is_image_folder(tmp_path)
    assert levels(tmp_path) == list(range(1, 17))


def test_a_counter_counts_more_than_numbers_that_vary_with_it():
    rng = random.Random(0)
    stamps = [1_634_567_000 + 33 * k for k in range(16)]
    names = [f"{stamp}_{k}.png" for k, stamp in enumerate(stamps)]
    shuffled = sorted(names, key=lambda name: rng.random())
    (found,) = find_sequences(shuffled)
    assert found.names == names
    names = [f"frame{k}_seed{seed}.png" for k, seed in enumerate(rng.sample(range(10**6), 16))]
    (found,) = find_sequences(names)
    assert found.names == names


@pytest.mark.parametrize(
    ("names", "patterns_in_order"),
    [
        (["clipA_{:03d}", "clipB_{:03d}"], ["clipA_*", "clipB_*"]),
        (["img_{:05d}", "flow_x_{:05d}", "flow_y_{:05d}"], ["img_*", "flow_x_*", "flow_y_*"]),
        (["clip1_{:03d}", "clip2_{:03d}"], ["clip1_*", "clip2_*"]),
        (["frame{}_seed0", "frame{}_seed1"], ["frame*_seed0", "frame*_seed1"]),
        (["{}_left", "{}_right"], ["*_left", "*_right"]),
        (["v_Run_g01_c02_{:04d}", "v_Run_g01_c03_{:04d}"], ["v_Run_g01_c02_*", "v_Run_g01_c03_*"]),
    ],
)
def test_names_that_differ_elsewhere_are_other_videos(tmp_path, names, patterns_in_order):
    folder = tmp_path / "set" / "walk"
    for number, pattern in enumerate(names):
        for k in range(1, 9):
            save(folder / f"{pattern.format(k)}.png", 10 * k + 80 * number)
    patterns = sorted(patterns_in_order)
    assert look_at(tmp_path / "set").names == [f"walk/{pattern}" for pattern in patterns]
    for number, pattern in enumerate(patterns_in_order):
        assert levels(folder / pattern) == [k + 8 * number for k in range(1, 9)]
        assert probe(folder / pattern).num_frames == 8
    # The folder by itself stands for its first sequence, never for a mixture.
    assert levels(folder) == levels(folder / patterns[0])
    notes = check_source(tmp_path / "set", CONFIG).set_notes
    assert any("walk holds more than one sequence of images" in note for note in notes)


def test_masks_beside_images_are_a_sequence_of_their_own(tmp_path):
    for k in range(8):
        save(tmp_path / f"{k}.jpg", 10 * k)
        save(tmp_path / f"{k}.png", 250)
    assert levels(tmp_path / "*.png") == [25] * 8
    assert levels(tmp_path / "*.jpg") == list(range(8))


def test_kinds_of_files_may_be_mixed_in_one_sequence(tmp_path):
    for k in range(8):
        save(tmp_path / f"{k}.{('png', 'bmp')[k % 2]}", 10 * k)
    assert levels(tmp_path) == list(range(8))


def test_two_images_of_one_number_are_refused_by_name(tmp_path):
    for name in ("1", "2", "02", "3"):
        save(tmp_path / "set" / "a" / f"{name}.png", 9)
    save(tmp_path / "set" / "b" / "1.png", 9)
    save(tmp_path / "set" / "b" / "2.png", 9)
    with pytest.raises(SameNumberError, match=r"02\.png and 2\.png both have the number 2"):
        find_sequences(["1.png", "2.png", "02.png", "3.png"])
    with pytest.raises(UnreadableVideoError, match="both have the number 2"):
        read_frames(tmp_path / "set" / "a")
    tree = look_at(tmp_path / "set")
    assert tree.names == ["b"]
    assert [name for name, why in tree.unread if "both have the number 2" in why] == ["a"]


def test_padded_and_plain_numbers_of_one_sequence(tmp_path):
    for name, level in (("f08", 8), ("f9", 9), ("f10", 10), ("f011", 11)):
        save(tmp_path / f"{name}.png", 10 * level)
    assert levels(tmp_path) == [8, 9, 10, 11]


def test_missing_numbers_are_said(tmp_path):
    for k in (1, 2, 3, 6, 7, 9, 10, 11, 12):
        save(tmp_path / "a" / f"{k:04d}.png", 20 * k)
    assert probe(tmp_path / "a").remarks == ("3 frame numbers missing",)
    for k in range(1, 30, 3):  # Every third frame of a video: nothing is missing.
        save(tmp_path / "b" / f"{k:04d}.png", k)
    assert probe(tmp_path / "b").remarks == ()


@pytest.mark.parametrize("name", ["cover", "Thumbs", "mask"])
def test_a_image_without_a_number_makes_no_video(tmp_path, name):
    for stem in ("1", "2", name):
        save(tmp_path / f"{stem}.png", 9)
    assert not is_image_folder(tmp_path)


def test_images_of_different_things_make_no_video(tmp_path):
    for stem in ("cat1", "dog1", "IMG_7"):
        save(tmp_path / f"{stem}.png", 9)
    assert not is_image_folder(tmp_path)


def test_a_build_of_mixed_folders_stores_every_video_apart(tmp_path):
    for c in ("jump", "walk"):
        for k in range(1, 9):
            save(tmp_path / "v" / c / f"clipA_{k:03d}.png", 10 * k)
            save(tmp_path / "v" / c / f"clipB_{k:03d}.png", 100 + 10 * k)
    build_clips(tmp_path / "v", tmp_path / "set", CONFIG)
    store = open_store(tmp_path / "set")
    names = [item.source for item in store.items]
    assert names == [f"{c}/clip{x}_*" for c in ("jump", "walk") for x in "AB"]
    assert store.manifest.classes == ("jump", "walk")
    for number, name in enumerate(names):
        shown = store.read(number, store.levels[0])[0, :, 8, 8].tolist()
        start = 100 if "clipB" in name else 0
        assert shown == [start + 10 * k for k in range(1, 9)]


def test_a_changed_image_of_a_sequence_is_built_anew(tmp_path):
    for x in "AB":
        for k in range(1, 9):
            save(tmp_path / "v" / "w" / f"clip{x}_{k}.png", 10 * k)
    build_clips(tmp_path / "v", tmp_path / "set", CONFIG)
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "v" / "w" / "clipB_3.png")
    with pytest.raises(UserError, match="other"):
        build_clips(tmp_path / "v", tmp_path / "set", CONFIG)


@pytest.mark.parametrize("prefix", ["", "all/jump/"])
def test_archives_are_read_alike(tmp_path, prefix):
    with zipfile.ZipFile(tmp_path / "v.zip", "w") as archive:
        for k in range(1, 12):
            for x, level in (("clipA", 10), ("clipB", 20)):
                save(tmp_path / "p.png", level * k)
                archive.write(tmp_path / "p.png", f"{prefix}{x}_{k}_of_11.png")
    listing = list_container(tmp_path / "v.zip", "auto")
    assert [item.name for item in listing.sources] == [
        f"{prefix}clipA_*_of_11",
        f"{prefix}clipB_*_of_11",
    ]
    assert any("more than one sequence of images" in note for note in listing.notes)
    for item, step in zip(listing.sources, (1, 2), strict=True):
        with open_item(tmp_path / "v.zip", item.member) as reader:
            pixels = reader.read(None, None, "stretch").pixels[0, :, 8, 8]
        assert [round(x / 10) for x in pixels.tolist()] == [step * k for k in range(1, 12)]


def test_numbers_not_last_in_archives_and_samples(tmp_path):
    with zipfile.ZipFile(tmp_path / "v.zip", "w") as archive:
        for k in range(1, 12):
            save(tmp_path / "p.png", 10 * k)
            archive.write(tmp_path / "p.png", f"clip 1/{k}_64x64.png")
    (item,) = list_container(tmp_path / "v.zip", "auto").sources
    assert item.name == "clip 1"
    with open_item(tmp_path / "v.zip", item.member) as reader:
        pixels = reader.read(None, None, "stretch").pixels[0, :, 8, 8]
    assert [round(x / 10) for x in pixels.tolist()] == list(range(1, 12))


@pytest.mark.parametrize("place", ["", "jump"])
def test_generated_clips_in_one_folder_are_told_apart(tmp_path, place):
    for sample in (0, 1, 2):
        for k in range(8):
            save(tmp_path / "g" / place / f"sample{sample}_frame{k}.png", 10 * k + 80 * sample)
    names = [source.name.rpartition("/")[2] for source in list_generated(tmp_path / "g")]
    assert names == [f"sample{n}_frame*" for n in range(3)]
    found = read_generated(tmp_path / "g", 8, 16, [], 10, 0)
    assert found.num_lossy == 0
    for name, clip in zip(found.names, found.clips, strict=True):
        start = 80 * int(name.rpartition("/")[2][6])
        assert clip[0, :, 0, 0].tolist() == [start + 10 * k for k in range(8)]


def test_ucf_groups_are_known_of_sequences(tmp_path):
    for c in (1, 2):
        for k in range(4):
            save(tmp_path / "v" / "Run" / f"v_Run_g0{c}_c01_{k:04d}.png", 9)
    assert {s.group for s in scan_sources(tmp_path / "v", CONFIG).sources} == {"Run/g01", "Run/g02"}


RAMP = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (16, 1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_images_of_16_bits_are_scaled(tmp_path, suffix):
    for n in range(2):
        Image.fromarray(RAMP).save(tmp_path / f"{n}.{suffix}")
    assert np.array_equal(read_frames(tmp_path).pixels[1, 1], RAMP >> 8)
    assert probe(tmp_path).is_grey


def test_big_endian_tiffs_and_32_bits(tmp_path):
    (tmp_path / "be").mkdir()
    (tmp_path / "32").mkdir()
    for n in range(2):
        Image.frombytes("I;16B", (64, 16), RAMP.astype(">u2").tobytes()).save(
            tmp_path / "be" / f"{n}.tif"
        )
        Image.fromarray(RAMP.astype(np.int32)).save(tmp_path / "32" / f"{n}.tif")
    for folder in ("be", "32"):
        assert np.array_equal(read_frames(tmp_path / folder).pixels[0, 0], RAMP >> 8)


def test_strips_of_16_bits_are_scaled_too(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "strip.png")
    with open_source(Source(name="strip", path=tmp_path / "strip.png", kind="strip")) as video:
        pixels = video.read(None, None, "stretch").pixels
    assert pixels.shape == (3, 4, 16, 16)
    assert np.array_equal(np.concatenate(list(pixels[0]), axis=1), RAMP >> 8)


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (RAMP.astype(np.float32) / 65535, "floating-point pixels"),
        (RAMP.astype(np.int32) * 4, "beyond 16 bits"),
        (-RAMP.astype(np.int32), "beyond 16 bits"),
    ],
)
def test_numbers_without_a_known_white_are_refused(tmp_path, array, why):
    for n in range(2):
        Image.fromarray(array).save(tmp_path / f"{n}.tif")
    with pytest.raises(VideoError, match=why):
        probe(tmp_path)
    with pytest.raises(VideoError):
        read_frames(tmp_path, [0])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_other_kinds_of_images(tmp_path, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    for n in range(2):
        image = Image.new("RGB", (16, 8), (255, 255, 255))
        image.convert(mode).save(tmp_path / f"{n}.{suffix}")
    assert read_frames(tmp_path).pixels.min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_exif_says(tmp_path, orientation):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:4, :8] = 250
    # Where the stored upper left corner is to be seen (EXIF 2.3, tag 0x0112).
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1)}
    corner |= {7: (-1, -1), 8: (-1, 0)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    for n in range(2):
        Image.fromarray(pixels).save(tmp_path / f"{n}.png", exif=exif)
    info, shown = probe(tmp_path), read_frames(tmp_path).pixels[0, 0]
    assert shown.shape == (info.height, info.width) == ((16, 8) if orientation > 4 else (8, 16))
    assert shown[corner[orientation]] == 250
    assert (shown > 128).mean() == 0.25


def test_numbers_of_thousands_of_digits_are_numbers() -> None:
    names = [f"c{'9' * 5000}{n}.png" for n in (2, 10, 1)]
    (found,) = find_sequences(names)
    assert found.names == [names[2], names[0], names[1]]
    with pytest.raises(SameNumberError):
        find_sequences([f"{'0' * 5000}1.png", f"{'0' * 5000}1.PNG"])
