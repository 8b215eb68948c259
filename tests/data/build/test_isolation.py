"""By default no video is decoded in the process that builds: one that kills or stops its decoder
costs itself alone, and the processes that decode start quickly."""

import json
import subprocess
import sys

import pytest
from fragile_decoding import fragile
from video_files import write_video

from vidgan.cli.main import run
from vidgan.data.build import packing as build
from vidgan.data.build.engine import Engine
from vidgan.data.build.packing import build_clips
from vidgan.data.settings import DataConfig

CONFIG = DataConfig(resolution=16, frames=4, heldout_fraction=0.0)
# It looks at nothing: a script as many people write them.
SCRIPT = """
import sys
from vidgan.data.build.packing import build_clips
from vidgan.data.settings import DataConfig

print("the script ran")
config = DataConfig(resolution=16, frames=4, heldout_fraction=0.0)
report = build_clips(sys.argv[1], sys.argv[2], config)
print(report.num_clips, report.dropped)
"""
LIGHT = """
import sys
from pathlib import Path
from vidgan.data.build.encode import EncodedClip, EncodeJob, encode_video, full_levels
from vidgan.data.settings import DataConfig
from vidgan.data.sources.source import Source

for payload in ("zstd", "jpeg", "h264"):
    config = DataConfig(resolution=32, frames=4, payload=payload)
    levels = full_levels(config, [(2, 16)])
    for preview in (None, 16):
        source = Source(name="clip", path=Path(sys.argv[1]))
        job = EncodeJob(source, config, levels, preview)
        assert isinstance(encode_video(job), EncodedClip)
print("torch" in sys.modules)
"""


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a", "kills", "z"):
        write_video(folder / f"{name}.mp4", 8)
    return folder


def test_a_video_that_hangs_costs_its_time_alone(videos, tmp_path, monkeypatch):
    (videos / "kills.mp4").rename(videos / "hangs.mp4")
    monkeypatch.setattr(build, "encode_video", fragile)
    engine = Engine(time_limit_s=3.0)
    report = build_clips(videos, tmp_path / "set", CONFIG, engine=engine)
    assert (report.num_clips, report.dropped) == (
        2,
        (("hangs.mp4", "took longer than 3 seconds"),),
    )


def test_a_video_that_kills_its_decoder_costs_itself_alone(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "encode_video", fragile)
    words = ["resolution=16", "frames=4", "heldout_fraction=0"]
    check = ["data", "check", str(videos), *words, "--sheet", str(tmp_path / "sheet.png")]
    for call in (check, ["data", "build", str(videos), str(tmp_path / "set"), *words]):
        assert run([*call, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["num_clips"] == 2
        assert report["dropped"] == [["kills.mp4", "crashed the decoding process"]]


def test_a_script_without_a_guard_runs_once(videos, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(videos), str(tmp_path / "set")]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    assert told.stdout.splitlines() == ["the script ran", "3 ()"]


def test_processes_that_decode_start_without_torch(videos):
    command = [sys.executable, "-c", LIGHT, str(videos / "a.mp4")]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    assert told.stdout == "False\n"
