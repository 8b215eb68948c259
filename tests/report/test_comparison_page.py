"""The page of a comparison in Chromium: no complaint, no request to anywhere, axe-core."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from live_page import open_page

import vidgan
from vidgan.comparing.results import compare, write_comparison
from vidgan.data.dataset import ClipDataset
from vidgan.data.packed.store import MemoryStore
from vidgan.data.settings import DataConfig
from vidgan.data.synthetic.motions import MotionSettings, motion_clip
from vidgan.evaluation.generators import save_record
from vidgan.evaluation.protocols import PROTOCOLS
from vidgan.metrics.sliced import SlicedSettings

pytestmark = pytest.mark.web

SET = MotionSettings(size=16, frames=4, objects=("square", "ring"), motions=("left", "up"))
QUICK = SlicedSettings(patches_per_clip=8, directions=32)
PROTOCOL = dataclasses.replace(PROTOCOLS["stswd"], num_clips=48, sliced=QUICK)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A comparison of noise with clips that are like the real ones."""
    folder = tmp_path_factory.mktemp("comparison")
    numbered = [motion_clip(SET, i) for i in range(184)]
    clips = torch.stack([clip for clip, _ in numbered])
    labels = torch.tensor([label for _, label in numbered])
    splits = ["train"] * 160 + ["heldout"] * 24
    store = MemoryStore(clips, labels, classes=SET.classes, splits=splits)
    data = ClipDataset(store, DataConfig(resolution=16, frames=4), seed=0)
    noise = torch.randint(0, 256, (48, *clips.shape[1:]), dtype=torch.uint8)
    other = torch.stack([motion_clip(SET, i)[0] for i in range(200, 248)])
    paths = [
        save_record(vidgan.evaluate([(made, None)], data, PROTOCOL), folder / name / "evals")
        for name, made in (("noise <b>", noise), ("like", other))
    ]
    write_comparison(compare(paths), folder / "comparison.html")
    return Path(folder, "comparison.html").as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_accessible_and_asks_nobody(
    browser: Any, address: str, scheme: str, width: int
) -> None:
    size = {"width": width, "height": 800}
    for opened in open_page(browser, address, "main", color_scheme=scheme, viewport=size):
        assert opened.page.locator("table").first.locator("tbody tr").count() >= 2
        opened.check_access()
        assert opened.page.evaluate("() => document.documentElement.scrollWidth") <= width
