"""Building clip sets: what is cut, what is dropped and said, equal bytes, kills, locks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from video_files import (
    cut_file,
    frame_numbers,
    numbered_frame,
    rotate_clockwise,
    write_audio,
    write_video,
)

from vidgan.data.build.packing import DataConfig, build_clips, cached_build, check_source
from vidgan.data.packed.store import open_store
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.errors import UserError

CONFIG = DataConfig(resolution=32, frames=8, workers=0, heldout_fraction=0.0, resize="stretch")
FULL = (8, 32)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def numbers_of(folder: Path, index: int = 0) -> list[int]:
    return frame_numbers(open_store(folder).read(index, FULL))


@pytest.fixture
def video(tmp_path):
    """A folder with one video of 30 numbered frames at 25 frames per second."""
    write_video(tmp_path / "videos" / "a.mp4", 30, options={"crf": "10"})
    return tmp_path / "videos"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, list(range(11, 19))),
        ({"clip": "first"}, list(range(8))),
        ({"clip": "first", "stride": 3}, list(range(0, 24, 3))),
        ({"clip": "first", "fps": 12.5}, list(range(0, 16, 2))),
        ({"clip": "first", "fps": 50.0}, [0, 0, 1, 1, 2, 2, 3, 3]),
        ({"clip": "first", "fps": 25.0}, list(range(8))),
        ({"clip": "random"}, list(range(30))),
        ({"clip": "random", "stored_frames": 10}, list(range(10, 20))),
        ({"stride": 5, "short": "loop"}, [0, 5, 10, 15, 20, 25, 0, 5]),
        ({"stride": 5, "short": "hold"}, [0, 5, 10, 15, 20, 25, 25, 25]),
    ],
)
@pytest.mark.parametrize("payload", ["raw", "zstd", "jpeg"])
def test_exactly_the_promised_frames_are_stored(video, tmp_path, settings, expected, payload):
    config = replace(CONFIG, payload=payload, **settings)
    build_clips(video, tmp_path / "set", config)
    assert numbers_of(tmp_path / "set") == expected


def test_variable_rate_is_resampled_by_time(tmp_path):
    # Ten frames in the first second, then one a second.
    times = [100 * n for n in range(10)] + [1000 * n for n in range(1, 8)]
    write_video(tmp_path / "v" / "a.mp4", 17, times=times)
    build_clips(tmp_path / "v", tmp_path / "set", replace(CONFIG, fps=1.0, clip="first"))
    assert numbers_of(tmp_path / "set") == [0, 10, 11, 12, 13, 14, 15, 16]
    assert open_store(tmp_path / "set").fps == 1.0


def test_every_level_is_the_mean_of_the_full_size(video, tmp_path):
    build_clips(video, tmp_path / "set", CONFIG, levels=[(4, 16), (2, 8), (8, 8)])
    store = open_store(tmp_path / "set")
    assert store.levels == ((8, 32), (8, 8), (4, 16), (2, 8))
    full = store.read(0, (8, 32)).double()
    for frames, side in store.levels[1:]:
        blocks = full.reshape(3, frames, 8 // frames, side, 32 // side, side, 32 // side)
        expected = blocks.mean(dim=(2, 4, 6)).round().to(torch.uint8)
        assert torch.equal(store.read(0, (frames, side)), expected)


def bad_folder(root: Path) -> Path:
    """Good files among every kind of awkward and unusable ones."""
    write_video(root / "good.mp4", 20)
    write_video(root / "grey.mkv", 20, codec="ffv1", pix_fmt="gray")
    rotate_clockwise(write_video(root / "rotated.mp4", 20))
    write_video(root / "variable.mp4", 20, times=[40 * n + 29 * (n % 2) for n in range(20)])
    write_video(root / "odd.mkv", 20, size=(65, 49), codec="ffv1")
    write_video(root / "one.mp4", 1)
    cut_file(write_video(root / "truncated.mp4", 60, options={"bf": "0", "g": "12"}), 0.8)
    cut_file(write_video(root / "stump.mp4", 60, options={"bf": "0", "g": "12"}), 0.45)
    (root / "zero.mp4").write_bytes(b"")
    write_audio(root / "sound.mp4")
    (root / "text.avi").write_text("no video at all\n" * 100)
    for n in range(9):
        (root / "images").mkdir(exist_ok=True)
        Image.fromarray(numbered_frame(n)).save(root / "images" / f"{n}.png")
    return root


KEPT = ["good.mp4", "grey.mkv", "images", "odd.mkv", "rotated.mp4", "truncated.mp4", "variable.mp4"]


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_files_are_handled_counted_and_named(tmp_path, workers):
    root = bad_folder(tmp_path / "videos")
    report = build_clips(root, tmp_path / "set", replace(CONFIG, workers=workers))
    assert [item.source for item in open_store(tmp_path / "set").items] == KEPT
    assert report.num_clips == len(KEPT)
    assert report.num_videos == 12
    dropped = dict(report.dropped)
    assert sorted(dropped) == ["one.mp4", "sound.mp4", "stump.mp4", "text.avi", "zero.mp4"]
    assert dropped["one.mp4"] == "has 1 of 8 frames"
    assert dropped["zero.mp4"] == "the file is empty"
    assert dropped["sound.mp4"] == "has no video stream"
    assert "cannot be read as video" in dropped["text.avi"]
    notes = dict(report.notes)
    assert notes["grey.mkv"] == "grey"
    assert notes["rotated.mp4"] == "rotated by 270 degrees"
    assert notes["variable.mp4"] == "variable frame rate"
    assert notes["odd.mkv"] == "odd size"
    assert notes["images"] == "numbered images"
    assert notes["truncated.mp4"].startswith("damaged: ")
    text = "\n".join(report.lines())
    assert "dropped: 5" in text
    assert "one.mp4: has 1 of 8 frames" in text
    store = open_store(tmp_path / "set")
    truncated = frame_numbers(store.read(KEPT.index("truncated.mp4"), FULL))
    assert truncated == list(range(truncated[0], truncated[0] + 8))


def test_damage_inside_the_window_is_stepped_over_and_counted(tmp_path):
    for n in range(12):
        (tmp_path / "v" / "shots").mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbered_frame(n)).save(tmp_path / "v" / "shots" / f"{n}.png")
    (tmp_path / "v" / "shots" / "6.png").write_bytes(b"broken")
    write_video(tmp_path / "v" / "w.mp4", 60, options={"bf": "0", "g": "5"})
    data = bytearray((tmp_path / "v" / "w.mp4").read_bytes())
    for place in range(data.index(b"mdat") + 1500, len(data) - 50, 97):
        data[place] ^= 0x5A
    (tmp_path / "v" / "w.mp4").write_bytes(data)
    report = build_clips(tmp_path / "v", tmp_path / "set", replace(CONFIG, short="hold"))
    assert dict(report.notes)["shots"] == "damaged: 1 frames lost, numbered images"
    assert numbers_of(tmp_path / "set") == [1, 2, 3, 4, 5, 7, 8, 9]
    assert dict(report.notes)["w.mp4"].startswith("damaged: ")
    with pytest.raises(UserError, match=r"shots is not clean \(damaged: 1 frames lost\)"):
        build_clips(tmp_path / "v", tmp_path / "other", replace(CONFIG, strict=True))


def test_check_says_the_same_and_draws_a_sheet(tmp_path):
    root = bad_folder(tmp_path / "videos")
    checked = check_source(root, CONFIG, tmp_path / "sheet.png")
    built = build_clips(root, tmp_path / "set", CONFIG)
    assert checked == replace(built, out=None)
    with Image.open(tmp_path / "sheet.png") as sheet:
        rows, columns = (sheet.height - 2) / 98, (sheet.width - 2) / 98
    assert (rows, columns) == (len(KEPT), 8)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set", "sheet.png", "videos"]


def test_what_happened_to_many_videos_is_said_once(tmp_path):
    for number in range(7):
        write_video(tmp_path / "v" / f"{number}.mp4", 4, size=(16, 16))
    write_video(tmp_path / "v" / "large.mp4", 4)
    (tmp_path / "v" / "none.mp4").write_bytes(b"")
    lines = check_source(tmp_path / "v", replace(CONFIG, short="hold")).lines()
    assert "  none.mp4: the file is empty" in lines
    assert "  7 videos, 0.mp4 first: enlarged to 32 pixels, last frame held" in lines
    assert "  large.mp4: last frame held" in lines
    assert "handled: 8" in lines


def test_nothing_usable_is_one_sentence(tmp_path):
    write_video(tmp_path / "v" / "a.mp4", 3)
    write_video(tmp_path / "v" / "b.mp4", 5)
    for call in (
        lambda: build_clips(tmp_path / "v", tmp_path / "set", CONFIG),
        lambda: check_source(tmp_path / "v", CONFIG),
    ):
        with pytest.raises(
            UserError, match=r"none of the 2 videos.*data\.frames=3 or less, or data\.sh"
        ):
            call()
    assert [p.name for p in tmp_path.iterdir()] == ["v"]
    write_video(tmp_path / "w" / "test" / "a.mp4", 20)
    with pytest.raises(UserError, match="split train"):
        build_clips(tmp_path / "w", tmp_path / "set", CONFIG)


def test_strict_refuses_the_first_flaw(tmp_path):
    write_video(tmp_path / "v" / "a.mp4", 20)
    (tmp_path / "v" / "b.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"b\.mp4 is not clean \(the file is empty\)"):
        build_clips(tmp_path / "v", tmp_path / "set", replace(CONFIG, strict=True))


def test_levels_must_divide(video, tmp_path):
    with pytest.raises(UserError, match="3 frames at 16 pixels does not divide"):
        build_clips(video, tmp_path / "set", CONFIG, levels=[(3, 16)])


def test_classes_without_a_clip_are_left_out(tmp_path):
    write_video(tmp_path / "v" / "long" / "a.mp4", 20)
    write_video(tmp_path / "v" / "also" / "a.mp4", 20)
    write_video(tmp_path / "v" / "brief" / "a.mp4", 2)
    report = build_clips(tmp_path / "v", tmp_path / "set", CONFIG)
    store = open_store(tmp_path / "set")
    assert store.classes == ("also", "long")
    assert [(item.source, item.label) for item in store.items] == [
        ("also/a.mp4", 0),
        ("long/a.mp4", 1),
    ]
    assert report.counts == {"train": {"also": 1, "long": 1}}
    assert ("", "classes without a usable video: brief") in report.notes


@pytest.fixture(scope="module")
def motions(tmp_path_factory):
    out = tmp_path_factory.mktemp("motions") / "set"
    return render_motions(
        out,
        motion_settings(objects="disc ring", motions="up down", size=16, frames=4),
        videos=40,
        heldout=0.2,
    )


SMALL = DataConfig(resolution=16, frames=4, workers=0, payload="raw", stored_frames=4)


def test_the_set_does_not_depend_on_workers_or_place(motions, tmp_path):
    build_clips(motions, tmp_path / "one", SMALL, levels=[(2, 8)])
    moved = shutil.copytree(motions, tmp_path / "moved")
    build_clips(moved, tmp_path / "two", replace(SMALL, workers=2), levels=[(2, 8)])
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert manifest["counts"]["heldout"] == {
        "disc-down": 2,
        "disc-up": 2,
        "ring-down": 2,
        "ring-up": 2,
    }
    assert manifest["attributes"]["ring-up"] == {"object": "ring", "motion": "up"}
    assert manifest["fps"] == 8.0


def test_a_finished_set_is_kept_and_a_foreign_one_refused(motions, tmp_path):
    first = build_clips(motions, tmp_path / "set", SMALL)
    before = contents(tmp_path / "set")
    assert build_clips(motions, tmp_path / "set", SMALL) == first
    with pytest.raises(UserError, match="other videos or settings"):
        build_clips(motions, tmp_path / "set", replace(SMALL, resolution=8))
    assert contents(tmp_path / "set") == before
    (tmp_path / "full").mkdir()
    with pytest.raises(UserError, match="something else"):
        build_clips(motions, tmp_path / "full", SMALL)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "set"]


KILLED_BUILD = """
import os, signal, sys
import vidgan.core.files
from vidgan.data.build import packing as build

build._CHUNK_BYTES = 1
files_before_kill = int(sys.argv[3])
sync = vidgan.core.files.sync

def sync_or_die(path):
    # Called on every temporary file just before it gets its name.
    global files_before_kill
    files_before_kill -= path.name.endswith(".safetensors")
    if files_before_kill < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(path)

vidgan.core.files.sync = sync_or_die
if __name__ == "__main__":
    config = build.DataConfig(
        resolution=16, frames=4, workers=int(sys.argv[4]), payload="raw", stored_frames=4
    )
    build.build_clips(sys.argv[1], sys.argv[2], config, levels=[(2, 8)])
"""


def test_a_killed_build_continues_to_the_same_bytes(motions, tmp_path, monkeypatch):
    # Chunks of 8 items, so that the 40 videos fill several.
    script = tmp_path / "build.py"
    script.write_text(KILLED_BUILD)
    monkeypatch.setattr("vidgan.data.build.packing._CHUNK_BYTES", 1)
    build_clips(motions, tmp_path / "whole", SMALL, levels=[(2, 8)])
    assert len(list((tmp_path / "whole").rglob("*.safetensors"))) == 10
    # Each chunk has two files: the kills come inside a chunk, with the temporary file in place.
    for files_before_kill, workers in ((3, 0), (3, 1)):
        command = [sys.executable, script, motions, tmp_path / "set"]
        process = subprocess.run([*command, str(files_before_kill), str(workers)], check=False)
        assert process.returncode == -signal.SIGKILL
        assert len(list((tmp_path / "set.building").rglob(".tmp-*"))) == 1
        assert not (tmp_path / "set").exists()
    journal = (tmp_path / "set.building" / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)[0] for line in journal] == [8, 16]
    build_clips(motions, tmp_path / "set", SMALL, levels=[(2, 8)])
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["build.py", "set", "whole"]


def test_other_settings_start_an_interrupted_build_anew(motions, tmp_path):
    building = tmp_path / "set.building"
    (building / "level-4x16").mkdir(parents=True)
    (building / "plan.json").write_text("{}")
    (building / "journal.jsonl").write_text('[99, [{"source": 0}]]\n')
    build_clips(motions, tmp_path / "set", SMALL)
    assert len(open_store(tmp_path / "set")) == 40


def test_two_builds_into_one_folder_are_refused(motions, tmp_path):
    holder = (
        "import sys, time; from pathlib import Path\n"
        "from vidgan.data.packed.writer import build_lock\n"
        "with build_lock(Path(sys.argv[1]), wait=False):\n    print('held', flush=True)\n"
        "    time.sleep(60)"
    )
    command = [sys.executable, "-c", holder, str(tmp_path / "set")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(UserError, match="another process is building"):
            build_clips(motions, tmp_path / "set", SMALL)
        process.kill()
    # The lock died with its process.
    build_clips(motions, tmp_path / "set", SMALL)


def test_a_file_that_grows_too_large_is_named_and_the_build_continues(motions, tmp_path):
    limited = (
        "import resource, signal, sys\n"
        "from vidgan.data.build.packing import DataConfig, build_clips\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "config = DataConfig(resolution=16, frames=4, workers=0, payload='raw', stored_frames=4)\n"
        "build_clips(sys.argv[1], sys.argv[2], config)"
    )
    command = [sys.executable, "-c", limited, str(motions), str(tmp_path / "set")]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "the limit on the size of a file is reached" in failed.stderr
    assert not (tmp_path / "set").exists()
    build_clips(motions, tmp_path / "set", SMALL)
    assert len(open_store(tmp_path / "set")) == 40


def test_the_cache_is_found_again_until_something_changes(motions, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "cache"))
    videos = shutil.copytree(motions, tmp_path / "videos")
    config = replace(SMALL, path=str(videos))
    first = cached_build(config)
    stamp = (first / "manifest.json").stat().st_mtime_ns
    assert first.is_relative_to(tmp_path / "cache")
    assert cached_build(replace(config, workers=1, flip=True)) == first
    assert (first / "manifest.json").stat().st_mtime_ns == stamp
    assert cached_build(replace(config, clip="first")) != first
    assert cached_build(config, levels=[(2, 8)]) != first
    file = next(videos.rglob("*.mp4"))
    os.utime(file, ns=(time.time_ns(), time.time_ns()))
    assert cached_build(config) != first


def test_a_packed_set_is_used_if_it_fits(motions, tmp_path):
    build_clips(motions, tmp_path / "set", SMALL)
    config = replace(SMALL, path=str(tmp_path / "set"))
    assert cached_build(config) == tmp_path / "set"
    assert cached_build(replace(config, resolution=8, frames=2)) == tmp_path / "set"
    with pytest.raises(UserError, match=r"clips of 16 pixels.*data\.resolution=32"):
        cached_build(replace(config, resolution=32))
    with pytest.raises(UserError, match=r"clips of 4 frames.*data\.frames=8"):
        cached_build(replace(config, frames=8, stored_frames=None))
    with pytest.raises(UserError, match="set data=FOLDER"):
        cached_build(replace(config, path=""))


def test_settings_that_a_packed_set_was_not_built_with_are_said(motions, tmp_path):
    whole = replace(SMALL, clip="random", stored_frames=None)
    build_clips(motions, tmp_path / "central", SMALL)
    build_clips(motions, tmp_path / "whole", whole)
    told: list[str] = []
    cached_build(replace(SMALL, path=str(tmp_path / "central")), notify=told.append)
    cached_build(replace(whole, path=str(tmp_path / "whole"), clip="first"), notify=told.append)
    assert told == []
    config = replace(whole, path=str(tmp_path / "central"), stride=2)
    cached_build(config, notify=told.append)
    assert len(told) == 1
    assert "built with stride=1 and not 2, clip=central and not random" in told[0]


LONG_VIDEO = """
import resource, sys
from pathlib import Path
import av, numpy as np
from vidgan.data.build.encode import EncodeJob, encode_video, full_levels
from vidgan.data.settings import DataConfig

file, num_frames = sys.argv[1], 12_000
rng = np.random.default_rng(0)
image = rng.integers(0, 255, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
with av.open(file, "w") as container:
    fast = {"preset": "ultrafast", "threads": "1"}
    stream = container.add_stream("libx264", rate=8, options=fast)
    stream.width = stream.height = 64
    for number in range(num_frames):
        frame = av.VideoFrame.from_ndarray(np.roll(image, number % 64, 1), format="rgb24")
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
config = DataConfig(path=file, resolution=64, frames=16, clip="random")
clip = encode_video(EncodeJob(file, config, full_levels(config, [(8, 32), (4, 16)])))
assert clip.stored_frames == num_frames
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_a_long_video_of_random_windows_is_in_memory_once(tmp_path):
    command = [sys.executable, "-c", LONG_VIDEO, str(tmp_path / "long.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    pixels = 3 * 12_000 * 64 * 64 / 2**20
    # The clip, its packed bytes and what measuring takes, beside the libraries and the codec.
    assert float(done.stdout) < 2.5 * pixels + 150, done.stdout
