"""Numbers of whole records that no refactoring may move; `golden_records.json` holds them.

The tolerance leaves room for another processor. A number that is meant to change is changed there,
in the commit that changes it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from metric_clips import CLASSES, moving_shapes
from torch import Tensor

import vidgan
from vidgan.core.randomness import keyed_rng
from vidgan.data.dataset import ClipDataset
from vidgan.data.packed.store import MemoryStore
from vidgan.data.settings import DataConfig
from vidgan.evaluation.clips import evaluate_clips
from vidgan.evaluation.given_features import score_features
from vidgan.evaluation.predictions import evaluate_predictions
from vidgan.evaluation.protocols import changed_protocol
from vidgan.evaluation.score import RealData
from vidgan.extractors.judge import RealClips
from vidgan.models.base import Generator
from vidgan.models.hrvgan import HRVGANConfig
from vidgan.models.pvgan import ProgressiveConfig

GOLDEN = json.loads(Path(__file__).with_name("golden_records.json").read_text(encoding="utf-8"))

QUICK = ["num_clips=60", "sliced.patches_per_clip=4", "sliced.directions=16"]
CLIPS = {
    "weight-free": ("stswd", QUICK),
    "untrained": (
        "random-c3d-fid",
        [
            *QUICK,
            (
                "metrics=[frechet_distance,kernel_distance,jedi,precision,recall,density,coverage,"
                "space_time_swd]"
            ),
            "allow_few=true",
            "interval_draws=5",
            "kernel.subsets=3",
            "kernel.subset_size=10",
            "network.width=0.0625",
        ],
    ),
}
FEATURES = {
    "jedi-vjepa-5000": ["num_clips=40", "set_size=40", "reference_size=0"],
    "cdfvd-videomae-ssv2g": ["num_clips=80", "set_size=40", "max_groups=2"],
}


def numbers(value: Any, where: str = "") -> Iterator[tuple[str, float]]:
    """Every number of nested plain values with its dotted place."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from numbers(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from numbers(inner, f"{where}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield where, value


def agrees(name: str, scores: Mapping[str, Any]) -> None:
    assert dict(numbers(scores)) == pytest.approx(dict(numbers(GOLDEN[name])), rel=1e-4, abs=1e-9)


@pytest.fixture(scope="module")
def data() -> ClipDataset:
    clips = moving_shapes(40, 5).clips
    store = MemoryStore(clips, splits=["train"] * 28 + ["heldout"] * 12)
    return ClipDataset(store, DataConfig(resolution=16, frames=4), seed=0)


def built(config: Any) -> Generator:
    torch.manual_seed(0)
    generator: Generator = vidgan.build_gan(config, (3, 4, 16, 16)).generator
    return generator


def rows(count: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, 6, generator=keyed_rng("given", seed)) + shift


@pytest.mark.parametrize("name", CLIPS)
def test_scores_of_clips(name: str) -> None:
    train, heldout, fake = (
        moving_shapes(count, seed) for count, seed in ((60, 1), (24, 2), (60, 3))
    )
    seen = RealClips(train.clips, train.labels, tuple(f"t{video}" for video in train.videos))
    real = RealData(seen, RealClips(heldout.clips, heldout.labels, heldout.videos), CLASSES)
    protocol = changed_protocol(*CLIPS[name])
    record = evaluate_clips(fake.clips, fake.labels, real, protocol)
    agrees(name, record.to_dict()["scores"])


@pytest.mark.parametrize("name", FEATURES)
def test_scores_of_given_features(name: str) -> None:
    protocol = changed_protocol(name, FEATURES[name])
    agrees(name, score_features(rows(80, 0, 0.5), rows(60, 1), protocol).to_dict()["scores"])


def test_scores_of_a_generator(data: ClipDataset) -> None:
    generator = built(ProgressiveConfig(channels=(6, 4, 4), latent=5, label_dim=4))
    record = vidgan.evaluate(generator, data, changed_protocol("stswd", QUICK)).to_dict()
    agrees("generator", record["scores"])


def test_scores_of_predictions(data: ClipDataset) -> None:
    generator = built(HRVGANConfig(latent=4, context_frames=2, channels=(4, 4, 4)))
    record, _ = evaluate_predictions(generator, data)
    agrees("prediction", record.to_dict()["scores"])
