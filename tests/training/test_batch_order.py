"""The run's clips in their order: the same after a resume in mid-epoch, however reading is split.

Workers read ahead, ranks share every batch and batches may have another size after a resume; what
the discriminator is shown, put together over the ranks, is one sequence that only the seed decides.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vidgan.core.distributed import Processes
from vidgan.data.build.packing import build_clips
from vidgan.data.dataset import ClipDataset
from vidgan.data.packed.store import open_store
from vidgan.data.settings import DataConfig
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.training.loop import open_batches
from vidgan.training.schedule import LevelShape, Schedule
from vidgan.training.settings import TrainingConfig

CONFIG = DataConfig(resolution=16, frames=4, clip="random", flip=True, heldout_fraction=0.0)
TOTAL = 80
"""Clips of the run: three epochs of 24, and a third."""
FIRST_LEVEL = 16
"""Clips shown at the lower level; a step is two batches, so it ends after whole steps."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """24 whole videos of 6 frames in three chunks, at two levels."""
    root = tmp_path_factory.mktemp("order")
    render_motions(
        root / "videos", motion_settings(objects="disc", size=16, frames=6), videos=24, heldout=0
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vidgan.data.build.packing._CHUNK_BYTES", 1)
        build_clips(root / "videos", root / "set", replace(CONFIG, workers=0), levels=[(2, 8)])
    return ClipDataset(open_store(root / "set"), CONFIG, seed=7)


def shown(
    dataset: ClipDataset, start: int, batch_size: int, ranks: int, workers: int
) -> list[tuple[Tensor, int]]:
    """Clip and label of every place of the run from `start` on, batches put together again."""
    levels = (LevelShape(2, 8), LevelShape(4, 16))
    schedule = Schedule(levels, (0, FIRST_LEVEL), (0, 0), (batch_size, batch_size), TOTAL)
    settings = TrainingConfig(workers=workers, discriminator_steps=2)
    shares = [
        list(open_batches(dataset, schedule, settings, start, Processes(rank, ranks)))
        for rank in range(ranks)
    ]
    clips = []
    for parts in zip(*shares, strict=True):
        assert sum(len(part.real) for part in parts) == batch_size
        clips += [pair for part in parts for pair in zip(part.real, part.labels, strict=True)]
    return [(clip, int(label)) for clip, label in clips]


def test_every_split_of_the_work_shows_the_same_clips(dataset):
    expected = shown(dataset, 0, 8, 1, 0)
    assert len(expected) == TOTAL
    assert {tuple(clip.shape) for clip, _ in expected} == {(3, 2, 8, 8), (3, 4, 16, 16)}
    # Starts lie inside the first level, inside the first epoch and inside the third one.
    for start, batch_size, ranks, workers in (
        (8, 4, 1, 2),
        (8, 4, 2, 0),
        (16, 8, 2, 2),
        (16, 8, 1, 1),
        (16, 16, 1, 0),
        (64, 8, 2, 0),
        (64, 8, 2, 1),
        (64, 4, 1, 2),
    ):
        seen = shown(dataset, start, batch_size, ranks, workers)
        for (clip, label), (wanted, wanted_label) in zip(seen, expected[start:], strict=True):
            assert torch.equal(clip, wanted)
            assert label == wanted_label


def test_the_order_is_one_of_the_seed(dataset):
    other = ClipDataset(dataset.store, CONFIG, seed=8)
    places = range(24, 48)
    assert [other.index_at(p) for p in places] != [dataset.index_at(p) for p in places]
    assert sorted(other.index_at(p) for p in places) == sorted(dataset.index_at(p) for p in places)
