"""Evaluating generators, files of them, and batches of clips against a packed set."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vidgan
from vidgan.data.dataset import ClipDataset
from vidgan.data.packed.store import MemoryStore
from vidgan.data.settings import DataConfig
from vidgan.data.synthetic.motions import MotionSettings, motion_clip
from vidgan.errors import UserError
from vidgan.evaluation.clips import EvaluationOptions
from vidgan.evaluation.generators import gather_real, update_best
from vidgan.evaluation.protocols import PROTOCOLS
from vidgan.evaluation.record_types import Record
from vidgan.extractors.judge import ClassifierSettings
from vidgan.metrics.sliced import SlicedSettings
from vidgan.models.base import Generator
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.sampling.storage import (
    GeneratorCard,
    checkpoint_folder,
    load_generator,
    plain_model,
    save_generator,
)

SET = MotionSettings(size=16, frames=4, objects=("square", "ring"), motions=("left", "up"))
QUICK = dataclasses.replace(
    PROTOCOLS["own-c3d"],
    num_clips=48,
    classifier=ClassifierSettings(width=0.125, feature_dim=16, clips_seen=3200),
    sliced=SlicedSettings(patches_per_clip=8, directions=32),
)
WEIGHT_FREE = dataclasses.replace(PROTOCOLS["stswd"], num_clips=48, sliced=QUICK.sliced)


def motion_data(splits: list[str]) -> ClipDataset:
    """Square or ring, left or up, in the given splits."""
    numbered = [motion_clip(SET, i) for i in range(len(splits))]
    clips = torch.stack([clip for clip, _ in numbered])
    labels = torch.tensor([label for _, label in numbered])
    store = MemoryStore(clips, labels, classes=SET.classes, splits=splits)
    return ClipDataset(store, DataConfig(resolution=16, frames=4), seed=0)


@pytest.fixture(scope="module")
def data() -> ClipDataset:
    return motion_data(["train"] * 160 + ["heldout"] * 24)


def small_generator(num_classes: int) -> Generator:
    torch.manual_seed(0)
    config = ProgressiveConfig(channels=(6, 4, 4), latent=5, label_dim=4)
    generator: Generator = vidgan.build_gan(config, (3, 4, 16, 16), num_classes).generator
    return generator


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with two checkpoints of an untrained conditional generator."""
    run = tmp_path_factory.mktemp("run")
    for step in (5, 9):
        config = ProgressiveConfig(channels=(6, 4, 4), latent=5, label_dim=4)
        torch.manual_seed(step)
        generator = vidgan.build_gan(config, (3, 4, 16, 16), 4).generator
        card = GeneratorCard(
            model=plain_model(config),
            clip_shape=(3, 4, 16, 16),
            num_classes=len(SET.classes),
            class_names=tuple(SET.classes),
            stage=generator.stage,
            fps=8.0,
            step=step,
            clips_seen=8 * step,
            loss="swgan",
        )
        save_generator(checkpoint_folder(run, step) / "ema.safetensors", generator, card)
    return run


@pytest.fixture(scope="module")
def record(run: Path, data: ClipDataset) -> dict[str, Any]:
    return vidgan.evaluate(run, data, QUICK, options=EvaluationOptions(checkpoint=5)).to_dict()


def test_an_untrained_generator_is_found_out(record: dict[str, Any]) -> None:
    assert record["judge"]["passed"]
    distance = record["scores"]["frechet_distance"]
    assert distance["value"] > 3 * distance["real"]
    assert record["agreement"]["generated"]["joint"] < 0.6
    assert record["agreement"]["heldout"]["joint"] > 0.85
    assert any("has not learned" in warning for warning in record["warnings"])


def test_the_record_names_the_checkpoint(record: dict[str, Any], run: Path) -> None:
    file = checkpoint_folder(run, 5) / "ema.safetensors"
    facts = record["generator"]
    assert (facts["step"], facts["clips_seen"], facts["loss"]) == (5, 40, "swgan")
    assert facts["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert facts["is_labelled"]
    assert record["counts"]["n"] == 24
    assert record["data"]["classes"] == SET.classes
    json.dumps(record, allow_nan=False)


def test_clips_depend_on_the_seed_alone(data: ClipDataset, run: Path) -> None:
    first, again, other = (
        vidgan.evaluate(
            run, data, WEIGHT_FREE, options=EvaluationOptions(checkpoint=5, seed=seed)
        ).to_dict()
        for seed in (0, 0, 1)
    )
    assert first["generator"]["clips_hash"] == again["generator"]["clips_hash"]
    assert first["scores"] == again["scores"]
    assert first["generator"]["clips_hash"] != other["generator"]["clips_hash"]


def test_generators_in_memory_serve_and_stay_in_their_mode(data: ClipDataset) -> None:
    generator = small_generator(0).train()
    record = vidgan.evaluate(generator, data, WEIGHT_FREE).to_dict()
    assert record["generator"]["is_labelled"] is False
    assert "step" not in record["generator"]
    assert generator.training


def test_batches_of_clips_serve(data: ClipDataset) -> None:
    numbered = [motion_clip(SET, i, "elsewhere") for i in range(64)]
    clips = torch.stack([clip for clip, _ in numbered])
    labels = torch.tensor([label for _, label in numbered])
    batches: list[tuple[Tensor, Tensor | None]] = list(
        zip(clips.split(10), labels.split(10), strict=True)
    )
    record = vidgan.evaluate(iter(batches), data, WEIGHT_FREE).to_dict()
    # The protocol's 48 clips: no more are kept, though batches hold 50 by then.
    assert record["counts"]["generated"] == 48
    assert (
        record["scores"]["space_time_swd"]["value"] < 3 * record["scores"]["space_time_swd"]["real"]
    )
    with pytest.raises(UserError, match="no generated clips"):
        vidgan.evaluate([], data, WEIGHT_FREE)


def test_generators_that_do_not_fit_are_refused(data: ClipDataset) -> None:
    with pytest.raises(UserError, match="3 classes and the data has 4"):
        vidgan.evaluate(small_generator(3), data, WEIGHT_FREE)


def test_real_clips_come_with_their_videos(data: ClipDataset) -> None:
    real = gather_real(data, 4, 16, WEIGHT_FREE, seed=0)
    assert (len(real.train), len(real.heldout), real.warnings) == (160, 24, ())
    assert len(set(real.train.video_ids)) == 160
    assert not set(real.train.video_ids) & set(real.heldout.video_ids)
    first = motion_clip(SET, 0)[0]
    assert torch.equal(real.train.clips[0], first)
    few = dataclasses.replace(WEIGHT_FREE, max_train_clips=70)
    chosen = gather_real(data, 4, 16, few, seed=0).train
    assert len(chosen) == len(chosen.video_ids) == 70
    place = real.train.video_ids.index(chosen.video_ids[33])
    assert torch.equal(chosen.clips[33], real.train.clips[place])


def test_data_without_held_out_clips_say_so() -> None:
    data = motion_data(["train"] * 100)
    real = gather_real(data, 4, 16, WEIGHT_FREE, seed=0)
    assert (len(real.train), len(real.heldout)) == (80, 20)
    assert not set(real.train.video_ids) & set(real.heldout.video_ids)
    assert "no held-out split" in real.warnings[0]


def test_the_best_checkpoint_is_chosen_by_its_score(record: dict[str, Any], run: Path) -> None:
    def scored(step: int, value: float, n: int = 24) -> Record:
        swd = {**record["scores"]["space_time_swd"], "value": value}
        changes = {
            "generator": {**record["generator"], "step": step},
            "counts": {**record["counts"], "n": n},
            "scores": {**record["scores"], "space_time_swd": swd},
        }
        return Record.from_dict(record | changes)

    def best() -> tuple[int, float]:
        found = json.loads((run / "best.json").read_text())
        return found["step"], found["value"]

    assert update_best(run, scored(5, 100.0), "space_time_swd")
    assert not update_best(run, scored(9, 120.0), "space_time_swd")
    assert best() == (5, 100.0)
    assert update_best(run, scored(9, 80.0), "space_time_swd")
    assert best() == (9, 80.0)
    # A new verdict on the best one replaces its old score.
    assert update_best(run, scored(9, 90.0), "space_time_swd")
    assert best() == (9, 90.0)
    # Another n is not a basis for comparing.
    assert update_best(run, scored(5, 200.0, n=12), "space_time_swd")
    assert best() == (5, 200.0)
    assert load_generator(run).card.step == 5
    # What somebody wrote there in its place is not a rival.
    (run / "best.json").write_text((run / "best.json").read_text().replace("200.0", "0.01"))
    assert update_best(run, scored(9, 300.0, n=12), "space_time_swd")
    assert best() == (9, 300.0)
    with pytest.raises(UserError, match=r"best\.metric=fvd"):
        update_best(run, Record.from_dict(record), "fvd")
    with pytest.raises(UserError, match="step None"):
        update_best(run, Record.from_dict({**record, "generator": {}}), "space_time_swd")


def test_a_higher_inception_score_is_better(record: dict[str, Any], run: Path) -> None:
    for step, value, is_better in ((5, 2.0, True), (9, 1.5, False), (9, 2.5, True)):
        score = {**record["scores"]["inception_score"], "value": value}
        changed = {
            **record,
            "generator": {**record["generator"], "step": step},
            "scores": {**record["scores"], "inception_score": score},
        }
        assert update_best(run, Record.from_dict(changed), "inception_score") == is_better


def test_data_without_classes_get_a_judge_that_needs_none() -> None:
    labelled = motion_data(["train"] * 40 + ["heldout"] * 10)
    store = MemoryStore(labelled.real_clips(40, seed=0)[0], splits=["train"] * 32 + ["heldout"] * 8)
    data = ClipDataset(store, DataConfig(resolution=16, frames=4), seed=0)
    classifier = dataclasses.replace(PROTOCOLS["own-ssl"].classifier, clips_seen=64, width=0.0625)
    protocol = dataclasses.replace(PROTOCOLS["own-ssl"], classifier=classifier, num_clips=8)
    patch = pytest.MonkeyPatch()
    patch.setitem(PROTOCOLS, "own-ssl", protocol)
    record = vidgan.evaluate(small_generator(0), data).to_dict()
    patch.undo()
    assert record["protocol"]["extractor"] == "own-ssl"
    assert record["judge"]["extractor"] == "own-ssl"


def test_windows_of_few_long_videos_count_and_keep_the_split_of_the_videos() -> None:
    # Frame t of video v is v everywhere but for its first pixel, which is t.
    clips = torch.arange(19, dtype=torch.uint8)[:, None, None, None, None].repeat(1, 3, 12, 16, 16)
    clips[:, :, :, 0, 0] = torch.arange(12, dtype=torch.uint8)
    splits = ["train"] * 16 + ["heldout"] * 3
    config = DataConfig(resolution=16, frames=4, clip="random")
    data = ClipDataset(MemoryStore(clips, splits=splits), config, seed=0)
    real = gather_real(data, 4, 16, WEIGHT_FREE, seed=0)
    assert len(real.train) == 16
    assert real.heldout.clips[:, 0, 0, 1, 1].tolist() == [v for v in (16, 17, 18) for _ in range(5)]
    assert real.heldout.clips[:, 0, 0, 0, 0].tolist() == [0, 2, 4, 6, 8] * 3
    assert real.heldout.clips[0, 0, :, 0, 0].tolist() == [0, 1, 2, 3]
    assert real.heldout.video_ids[:6] == ("memory/16",) * 5 + ("memory/17",)
    assert "16 of 16 training videos, 15 of 3 held-out ones" in real.warnings[0]
    record = vidgan.evaluate([(clips[:16, :, :4], None)], data, WEIGHT_FREE)
    assert record.counts.heldout == 15
    assert record.counts.heldout_videos == 3
    assert record.counts.n == 8
