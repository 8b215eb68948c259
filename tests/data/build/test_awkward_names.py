"""Names and places that break careless tools: line breaks, markup, loops, pipes, locked folders."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from video_files import numbered_frame, write_video

from vidgan.cli.main import run
from vidgan.data.build.packing import DataConfig, build_clips, check_source
from vidgan.data.packed.store import open_store
from vidgan.errors import UserError
from vidgan.video import UnreadableVideoError, probe

CONFIG = DataConfig(resolution=16, frames=8, workers=0, heldout_fraction=0.0)
AWKWARD = (
    "line\nbreak",
    "<img src=x onerror=alert(1)>",
    'tab\t"quotes" & \x1b[31mred',
    " space",
    "-dash",
    "a,b=c",
    "%s{x}",
    "bytes\udcff\udcfe",
    "right\u202eleft",
)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "v" / "good.mp4", 8)


def test_awkward_names_are_kept_exactly_and_shown_on_one_line(tmp_path, video, capsys):
    for name in AWKWARD:
        shutil.copy(video, video.with_name(f"{name}.mp4"))
        video.with_name(f"{name} empty.mp4").write_bytes(b"")
    words = ["resolution=16", "frames=8"]
    assert run(["data", "build", str(tmp_path / "v"), str(tmp_path / "set"), *words]) == 0
    kept = {item.source for item in open_store(tmp_path / "set").items}
    assert kept == {"good.mp4", *(f"{name}.mp4" for name in AWKWARD)}
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isprintable() for line in lines)
    assert f"{2 * len(AWKWARD) + 1} videos in" in lines[1]
    assert any("9 videos" in line and line.endswith("the file is empty") for line in lines)


def test_each_awkward_name_is_told_in_the_report(tmp_path, video, capsys):
    for name in AWKWARD[:3]:
        video.with_name(f"{name}.mp4").write_bytes(b"")
    arguments = ["data", "check", str(tmp_path / "v"), "frames=8", "resolution=16"]
    assert run([*arguments, "--sheet", str(tmp_path / "sheet.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert r"  line\nbreak.mp4: the file is empty" in lines
    assert r'  tab\t"quotes" & \x1b[31mred.mp4: the file is empty' in lines
    assert run([*arguments, "--json", "--sheet", str(tmp_path / "sheet.png")]) == 0
    dropped = [name for name, _ in json.loads(capsys.readouterr().out)["dropped"]]
    assert dropped == sorted(f"{name}.mp4" for name in AWKWARD[:3])


def test_errors_with_awkward_names_are_one_line(tmp_path, capsys):
    folder = tmp_path / "two\nlines\x1b[31m"
    folder.mkdir()
    assert run(["data", "build", str(folder), str(tmp_path / "set")]) == 2
    error = capsys.readouterr().err.removesuffix("\n")
    assert error.isprintable()
    assert r"two\nlines\x1b[31m" in error


def test_awkward_class_names_train_as_others(tmp_path, video):
    for name in AWKWARD[:2]:
        write_video(tmp_path / "w" / name / "a.mp4", 8)
    report = build_clips(tmp_path / "w", tmp_path / "set", CONFIG)
    assert open_store(tmp_path / "set").classes == tuple(sorted(AWKWARD[:2]))
    assert all(line.isprintable() for line in report.lines())


def test_links_in_circles_end(tmp_path, video):
    (tmp_path / "v" / "deeper").mkdir()
    (tmp_path / "v" / "deeper" / "up").symlink_to("..", target_is_directory=True)
    (tmp_path / "v" / "one.mp4").symlink_to("two.mp4")
    (tmp_path / "v" / "two.mp4").symlink_to("one.mp4")
    (tmp_path / "v" / "lost.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "v" / "fine.mp4").symlink_to("good.mp4")
    report = build_clips(tmp_path / "v", tmp_path / "set", CONFIG)
    assert [item.source for item in open_store(tmp_path / "set").items] == ["fine.mp4", "good.mp4"]
    dropped = dict(report.dropped)
    assert sorted(dropped) == ["lost.mp4", "one.mp4", "two.mp4"]
    assert "No such file" in dropped["lost.mp4"]
    assert "symbolic links" in dropped["one.mp4"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipes_are_not_waited_for(tmp_path, video):
    os.mkfifo(tmp_path / "v" / "pipe.mp4")
    with pytest.raises(UnreadableVideoError, match="is not a file"):
        probe(tmp_path / "v" / "pipe.mp4")
    shots = tmp_path / "v" / "shots"
    shots.mkdir()
    for number in (0, 1, 2, 4, 6, 7, 8, 9, 10):
        Image.fromarray(numbered_frame(number)).save(shots / f"{number}.png")
    os.mkfifo(shots / "3.png")
    os.mkfifo(shots / "5.png")
    report = build_clips(tmp_path / "v", tmp_path / "set", CONFIG)
    assert dict(report.dropped) == {"pipe.mp4": "is not a file"}
    assert dict(report.notes)["shots"] == "damaged: 2 frames lost, numbered images"


BUILD = """
import ctypes, os, sys
if os.geteuid() == 0:
    # To root nothing is locked. capset: version 3, this process, no capability at all.
    ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
from vidgan.cli.main import run
# To root, a process of its own would have all capabilities again.
words = ["resolution=16", "frames=8", "heldout_fraction=0", "workers=0"]
print([run(["data", "build", source, sys.argv[1], *words]) for source in sys.argv[2:]])
"""


def build_without_privileges(out: Path, *sources: Path) -> subprocess.CompletedProcess[str]:
    """`vidgan data build` in a process to which locked folders are locked, even if we are root."""
    return subprocess.run(
        [sys.executable, "-c", BUILD, out, *sources], capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="gives up rights as Linux does")
def test_locked_folders_and_files_are_named(tmp_path, video):
    locked = tmp_path / "v" / "locked"
    write_video(locked / "a.mp4", 8)
    shutil.copy(video, video.with_name("secret.mp4"))
    video.with_name("secret.mp4").chmod(0)
    locked.chmod(0)
    try:
        built = build_without_privileges(tmp_path / "set", tmp_path / "v", locked)
        assert built.stdout.splitlines()[-1] == "[0, 2]", built.stderr
        assert "locked: the folder cannot be read (Permission denied)" in built.stdout
        assert "secret.mp4: cannot be read as video (Permission denied)" in built.stdout
        assert "1 folders that cannot be read" in built.stderr
    finally:
        locked.chmod(stat.S_IRWXU)


def test_a_folder_of_nothing_but_trouble_is_one_sentence(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "loop.mp4").symlink_to("loop.mp4")
    with pytest.raises(UserError, match="none of the 1 videos"):
        check_source(tmp_path / "v", CONFIG)
