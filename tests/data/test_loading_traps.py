"""Mistakes of published loaders that would show in our clips; see docs/known-bugs.md."""

from dataclasses import replace

import pytest
import torch
from video_files import frame_numbers, write_video

from vidgan.data.build.packing import build_clips
from vidgan.data.dataset import ClipDataset, ClipRequest
from vidgan.data.packed.store import open_store
from vidgan.data.settings import DataConfig
from vidgan.video import write_mp4

CONFIG = DataConfig(resolution=16, frames=4, workers=0, heldout_fraction=0.0)


@pytest.mark.parametrize(("name", "channel"), [("red", 0), ("green", 1), ("blue", 2)])
def test_colours_of_a_file_arrive_in_the_order_red_green_blue(tmp_path, name, channel):
    clip = torch.full((3, 4, 16, 16), 30, dtype=torch.uint8)
    clip[channel] = 220
    (tmp_path / "videos").mkdir()
    write_mp4(tmp_path / "videos" / f"{name}.mp4", clip, fps=8)
    build_clips(tmp_path / "videos", tmp_path / "packed", CONFIG, [])
    dataset = ClipDataset(open_store(tmp_path / "packed"), CONFIG, seed=0)
    found = dataset[ClipRequest(0, 4, 16)]["clip"].float().mean(dim=(1, 2, 3))
    # Video is stored as brightness and colour, so primaries come back a little off.
    assert float(found[channel]) > 180
    assert all(float(found[other]) < 70 for other in range(3) if other != channel)


def test_random_windows_begin_everywhere_the_last_place_included(tmp_path):
    write_video(tmp_path / "videos" / "a.mp4", 10, options={"crf": "8"}, size=(32, 32))
    config = replace(CONFIG, clip="random", resolution=32, frames=8)
    build_clips(tmp_path / "videos", tmp_path / "packed", config, [])
    dataset = ClipDataset(open_store(tmp_path / "packed"), config, seed=0)
    starts = {
        frame_numbers(dataset[ClipRequest(position, 8, 32)]["clip"])[0] for position in range(60)
    }
    assert starts == {0, 1, 2}
