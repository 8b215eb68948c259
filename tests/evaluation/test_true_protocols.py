"""Whatever a protocol states is what happens: a changed field moves a number or is refused.

Every field of every named protocol is changed in turn, on few small clips and with small networks.
"""

import dataclasses
from collections.abc import Iterator
from functools import cache
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
from vidgan.errors import UserError
from vidgan.evaluation.clips import EvaluationOptions
from vidgan.evaluation.given_features import score_features
from vidgan.evaluation.metric import find_metric
from vidgan.evaluation.protocols import PROTOCOLS, Protocol, find_protocol
from vidgan.extractors.extractor import EXTRACTORS
from vidgan.extractors.two_sample import TwoSampleSettings
from vidgan.metrics.kernel import KernelRule
from vidgan.metrics.sliced import SlicedSettings
from vidgan.models.base import Generator
from vidgan.models.pvgan import ProgressiveConfig

NUMBERS = ("scores", "agreement", "memorisation", "diversity", "motion")
NARROW = dataclasses.replace(
    EXTRACTORS["random-c3d"],
    layer="logits",
    probabilities="probabilities",
    num_classes=4,
    width=0.0625,
)
WIDE = dataclasses.replace(NARROW, layer="features")
OTHER = {
    "name": "stswd",
    "extractor": "own-ssl",
    "network": None,
    "frame_rule": "all frames",
    "frames": 8,
    "resolution": 32,
    "frame_step": 2,
    "clip_rule": "random window of every clip",
    "resize": "bicubic",
    "rounding": "down",
    "num_clips": 12,
    "set_size": 9,
    "reference_size": 11,
    "splits": 4,
    "log_guard": 1e-4,
    "interval_draws": 3,
    "max_train_clips": 26,
    "kernel.kernel": "linear",
    "kernel.subsets": 2,
    "kernel.subset_size": 5,
    "kernel.seed": 1,
    "kernel.scale": 2.0,
    "manifold.neighbours": 2,
    "manifold.boundary": "closed",
    "sliced.patch_size": 5,
    "sliced.patch_frames": 2,
    "sliced.patches_per_clip": 5,
    "sliced.directions": 6,
    "sliced.smallest_size": 8,
    "sliced.scale": 1.0,
    "appearance.directions": 6,
    "appearance.scale": 1.0,
    "two_sample.folds": 3,
    "two_sample.seeds": 3,
    "two_sample.clips_seen": 96,
    "two_sample.channels": 5,
    "two_sample.batch_size": 16,
    "two_sample.learning_rate": 0.05,
    "two_sample.weight_decay": 100.0,
    "two_sample.dropout": 0.0,
    "two_sample.draws": 5,
    "network.name": "random-i3d-64",
    "network.network": "i3d",
    "network.layer": "features",
    "network.probabilities": None,
    "network.weights": "i3d-k400",
    "network.preprocessing": EXTRACTORS["i3d-tf"].preprocessing,
    "network.num_classes": 5,
    "network.width": 0.125,
    "network.pool5": "floor",
    "network.norm_epsilon": 1e-5,
    "network.seed": 1,
    "classifier.width": 0.125,
    "classifier.feature_dim": 5,
    "classifier.dropout": 0.5,
    "classifier.clips_seen": 96,
    "classifier.batch_size": 16,
    "classifier.learning_rate": 1e-2,
    "classifier.weight_decay": 0.9,
    "classifier.validation_share": 0.4,
    "classifier.colour": False,
    "classifier.shift": 0.4,
    "classifier.mirror": True,
    "classifier.task": "changes",
    "classifier.gate_multiple": 1e9,
}
"""Another value of every field that is not a yes or no; `network.batch_clips` alone may move
nothing but the last digit, for it says how much is computed at once."""


OTHER_OF_TWO = {
    "covariance_divisor": ("n", "n-1"),
    "reference_split": ("train", "heldout"),
    "reference_rule": ("clips beside the floor", "whole split"),
}


@cache
def data() -> ClipDataset:
    """Clips of 4 frames in a store of 5, so that a window is a choice."""
    clips = moving_shapes(50, 5, frames=5)
    kinds = ["train"] * 34 + ["heldout"] * 16
    store = MemoryStore(clips.clips, clips.labels, classes=CLASSES, splits=kinds)
    return ClipDataset(store, DataConfig(resolution=16, frames=4), seed=0)


@cache
def generator() -> Generator:
    torch.manual_seed(0)
    config = ProgressiveConfig(channels=(6, 4, 4), latent=5, label_dim=4)
    built: Generator = vidgan.build_gan(config, (3, 4, 16, 16)).generator
    return built


def copies() -> list[tuple[Tensor, None]]:
    """Training clips themselves, which lie on the surface of each other's balls."""
    clips = torch.cat([clips for clips, _ in data().iter_clips("train", 4, 16, 8)])
    return [(clips[:24], None)]


def rows(count: int, seed: int, dim: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, dim, generator=keyed_rng("given", seed)) + shift


def given_scores(protocol: Protocol, dim: int) -> object:
    try:
        return score_features(rows(24, 0, dim, 0.5), rows(30, 1, dim), protocol).scores
    except UserError as error:
        return str(error).replace(protocol.name, "")


@cache
def numbers(protocol: Protocol, judges: Path) -> str:
    if protocol.extractor == "given":
        # With more and with fewer clips than features: the latter may give no score.
        return repr([given_scores(protocol, dim) for dim in (5, 12)])
    ties = set(protocol.metrics) & {"precision", "density"}
    sources: list[Any] = [generator(), *([copies()] if ties else [])]
    records = [
        vidgan.evaluate(source, data(), protocol, options=EvaluationOptions(cache=judges))
        for source in sources
    ]
    return repr([{key: getattr(record, key) for key in NUMBERS} for record in records])


def small(name: str, field: str) -> Protocol:
    """A named protocol as it is, but for sizes that a test can afford."""
    protocol, found = PROTOCOLS[name], {"num_clips": 32, "metrics": PROTOCOLS[name].metrics}
    judged = {"width": 0.0625, "feature_dim": 4, "clips_seen": 64, "gate_multiple": 0.01}
    if protocol.set_size:
        found |= {"set_size": 8, "num_clips": 8 * min(2, protocol.num_clips // protocol.set_size)}
        found["splits"] = min(2, protocol.splits)
        found["max_groups"] = min(protocol.max_groups, found["num_clips"] // 8)
    if protocol.reference_size:
        found["reference_size"] = 8
    for key, value in (("frames", 4), ("resolution", 16)):
        found |= {key: value} if getattr(protocol, key) else {}
    if protocol.network:
        # With more features than clips, there is a distance only where few clips are allowed.
        network = WIDE if field == "allow_few" else NARROW
        found |= {"network": network, "extractor": "random-c3d", "frame_rule": "one frame"}
        found["frame_step"] = 1
    elif protocol.extractor in ("own-c3d", "own-ssl"):
        judged |= {"feature_dim": 32} if field == "allow_few" else {}
        found["classifier"] = dataclasses.replace(protocol.classifier, **judged)
    if "c2st_auc" in protocol.metrics:
        found["two_sample"] = TwoSampleSettings(clips_seen=160, seeds=1, channels=4, draws=9)
    if "space_time_swd" in protocol.metrics:
        found["sliced"] = SlicedSettings(patches_per_clip=4, directions=8)
    if protocol.kernel.subsets or (
        "kernel_distance" in protocol.metrics and field.startswith("kernel.s")
    ):
        found["kernel"] = KernelRule(subsets=1, subset_size=6)
    return dataclasses.replace(protocol, **found)


def fields_of(protocol: Protocol) -> Iterator[str]:
    """Every field, those of sections with a dot."""
    for field in dataclasses.fields(protocol):
        value = getattr(protocol, field.name)
        if field.name == "network" and value is None:
            continue
        if dataclasses.is_dataclass(value):
            yield from (f"{field.name}.{inner.name}" for inner in dataclasses.fields(value))
        else:
            yield field.name


def changed(protocol: Protocol, field: str) -> Protocol:
    """The same with another value of one field."""
    section, _, name = field.rpartition(".")
    holder = getattr(protocol, section) if section else protocol
    old, new = getattr(holder, name), OTHER.get(field)
    if isinstance(old, bool):
        new = not old
    elif field == "max_groups":
        new = 1 if old > 1 else 2
    elif field == "extractor" and protocol.network is None and protocol.extractor != "given":
        # A judge of the published size would take minutes.
        new = None if old else "given"
    elif field == "metrics":
        new = (*old, "precision" if "jedi" in old else "jedi")
    elif field in OTHER_OF_TWO:
        first, second = OTHER_OF_TWO[field]
        new = second if old == first else first
    elif isinstance(old, str) and new in (None, old):
        new = f"{old} and more"
    assert new != old
    inner = dataclasses.replace(holder, **{name: new})
    return dataclasses.replace(protocol, **{section: inner}) if section else inner


def is_honest(name: str, field: str, judges: Path) -> bool:
    """Whether another value of a field moves a number, or is refused in a sentence naming it."""
    protocol = small(name, field)
    try:
        before = numbers(protocol, judges)
    except UserError as error:
        # Too few clips for the one score of a protocol that does not allow few.
        if field not in str(error):
            return False
        before = str(error)
    try:
        other = find_protocol(changed(protocol, field))
        return numbers(other, judges) != before
    except UserError as error:
        words = {"resolution": "pixels", "metrics": "jedi", "name": "protocol"}
        words["network.network"] = "i3d needs a preprocessing"
        words["network.layer"] = "fewer than the"
        words["classifier.gate_multiple"] = "the judge names only"
        named = {field.rpartition(".")[2], words.get(field, field)}
        return any(word in str(error) for word in named)


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("judges")


QUICK = ("jedi-vjepa-5000",)
# Protocols of predictions are what `vidgan predict` does: it takes their names and no others.
MEASURED = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name, protocol in PROTOCOLS.items()
    if all(find_metric(key).needs != "pairs" for key in protocol.metrics)
]


@pytest.mark.parametrize("name", MEASURED)
def test_every_field_moves_a_number_or_is_refused(name: str, judges: Path) -> None:
    fields = [field for field in fields_of(small(name, "")) if field != "network.batch_clips"]
    assert len(fields) > 45
    assert [field for field in fields if not is_honest(name, field, judges)] == []
