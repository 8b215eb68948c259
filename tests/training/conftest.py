"""Small clip sets on disk for the runs of these tests."""

import multiprocessing
import sys
from pathlib import Path

import pytest

from vidgan.data.build.packing import build_clips
from vidgan.data.settings import DataConfig
from vidgan.data.synthetic.motions import render_motions

sys.path.insert(0, str(Path(__file__).parent))

# Children are forked from one process that has imported everything, so that a test may kill many.
multiprocessing.set_forkserver_preload(["vidgan.training.loop", "training_cases"])


@pytest.fixture(scope="session")
def packed_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 clips of 4 frames at 8 px in two classes, packed with their 4 px level."""
    folder = tmp_path_factory.mktemp("clips")
    render_motions(folder / "videos", 24, size=8, frames=4, objects=["disc"], motions="left,right")
    config = DataConfig(resolution=8, frames=4, workers=0)
    build_clips(folder / "videos", folder / "packed", config, [(4, 4)])
    return folder / "packed"
