"""One record from clips in memory: what it holds and what its numbers say of known sets."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from metric_clips import CLASSES, Labelled, moving_shapes
from torch import Tensor

from vidgan.errors import UserError
from vidgan.evaluation.clips import EvaluationOptions, evaluate_clips
from vidgan.evaluation.protocols import PROTOCOLS, Protocol, find_protocol, protocol_id
from vidgan.evaluation.record import format_record, save_record
from vidgan.evaluation.record_types import GeneratorFacts, Record, Score
from vidgan.evaluation.score import (
    RealData,
    frozen_frames,
    plan_comparison,
    proportional_labels,
    repeated_mean_clip,
    shuffled_frames,
)
from vidgan.evaluation.warnings import score_warnings
from vidgan.extractors.judge import ClassifierSettings, RealClips
from vidgan.metrics.sliced import SlicedSettings
from vidgan.report.scores import table_of_record

QUICK = dataclasses.replace(
    PROTOCOLS["own-c3d"],
    num_clips=96,
    classifier=ClassifierSettings(width=0.125, feature_dim=16, clips_seen=4000),
    sliced=SlicedSettings(patches_per_clip=8, directions=32),
)
WEIGHT_FREE_SCORES = ["space_time_swd", "appearance", "overall", "overall_spread"]
WEIGHT_FREE = dataclasses.replace(PROTOCOLS["stswd"], num_clips=96, sliced=QUICK.sliced)


def real_clips(shapes: Labelled, name: str) -> RealClips:
    return RealClips(shapes.clips, shapes.labels, tuple(name + video for video in shapes.videos))


@pytest.fixture(scope="module")
def real(training_shapes: Labelled, other_shapes: Labelled) -> RealData:
    heldout = RealClips(other_shapes.clips[:48], other_shapes.labels[:48], other_shapes.videos[:48])
    return RealData(real_clips(training_shapes, "train-"), heldout, CLASSES)


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("judges")


@pytest.fixture(scope="module")
def perfect(real: RealData, judges: Path) -> dict[str, Any]:
    """The record of a generator whose clips are real ones."""
    fresh = moving_shapes(120, seed=7)
    return evaluate_clips(
        fresh.clips, fresh.labels, real, protocol=QUICK, options=EvaluationOptions(cache=judges)
    ).to_dict()


def test_a_perfect_generator_scores_like_real_clips(perfect: dict[str, Any]) -> None:
    scores = perfect["scores"]
    assert list(scores) == list(QUICK.metrics)
    assert scores["inception_score"]["share_of_real"] > 0.95
    assert scores["inception_score"]["value"] <= len(CLASSES)
    for key in ("frechet_distance", "space_time_swd"):
        score = scores[key]
        assert score["value"] < 3 * score["real"]
        assert score["value"] < 0.5 * score["controls"]["noise"]
        assert 0 < score["floor"] < 0.5 * score["controls"]["noise"]
        assert score["motion_sensitivity"] > 0
    assert perfect["agreement"]["generated"]["joint"] >= 0.9
    assert set(perfect["agreement"]["generated_by_class"]) == set(CLASSES)
    assert all(0.7 < space["ratio"] < 1.4 for space in perfect["memorisation"].values())
    assert perfect["warnings"] == []


def test_a_record_says_how_it_came_about(perfect: dict[str, Any]) -> None:
    json.dumps(perfect, allow_nan=False)
    assert perfect["protocol"]["id"].startswith("custom:")
    # Clips beyond the protocol's 96 are not looked at; 96 make two groups of n = 48.
    assert perfect["counts"] == {
        "n": 48,
        "generated": 96,
        "reference": 192,
        "train": 240,
        "heldout": 48,
        "train_videos": 240,
        "heldout_videos": 48,
    }
    assert len(perfect["scores"]["frechet_distance"]["values"]) == 2
    assert perfect["scores"]["frechet_distance"]["first_group"]["estimator"]["regularisation"] == 0
    assert perfect["judge"]["passed"]
    assert len(perfect["judge"]["hash"]) == len(perfect["data"]["hash"]) == 16
    assert perfect["seeds"] == {"evaluation": 0, "judge": 0}
    assert perfect["comparable_to"] == []
    assert perfect["sentence"].endswith("not comparable with published scores")


def test_scores_repeat(perfect: dict[str, Any], real: RealData, judges: Path) -> None:
    fresh = moving_shapes(120, seed=7)
    again = evaluate_clips(
        fresh.clips, fresh.labels, real, protocol=QUICK, options=EvaluationOptions(cache=judges)
    ).to_dict()
    for key in ("scores", "judge", "agreement", "memorisation", "data", "generator"):
        assert again[key] == perfect[key]
    assert len([item for item in judges.iterdir() if item.is_dir()]) == 1


def test_failures_are_seen(perfect: dict[str, Any], real: RealData, judges: Path) -> None:
    """Frozen copies of the mean clip, copies of training clips, and clips of the wrong class."""
    train = real.train
    collapsed = evaluate_clips(
        repeated_mean_clip(train.clips[:96]),
        train.labels[:96],
        real,
        protocol=QUICK,
        options=EvaluationOptions(cache=judges),
    ).to_dict()
    assert any("has not learned" in warning for warning in collapsed["warnings"])
    assert collapsed["scores"]["inception_score"]["value"] == pytest.approx(1, abs=1e-6)
    copied = evaluate_clips(
        train.clips[:96], None, real, protocol=QUICK, options=EvaluationOptions(cache=judges)
    ).to_dict()
    assert all(space["ratio"] == 0 for space in copied["memorisation"].values())
    assert "generated" not in copied["agreement"]
    fresh = moving_shapes(96, seed=7)
    reverse = evaluate_clips(
        fresh.clips.flip(2),
        fresh.labels,
        real,
        protocol=QUICK,
        options=EvaluationOptions(cache=judges),
    ).to_dict()
    assert reverse["agreement"]["generated"]["motion"] < 0.1
    assert reverse["agreement"]["generated"]["object"] > 0.9


def few_of_a_class(labels: Tensor, count: int) -> Tensor:
    """For every label one of the first `count` training clips of its class."""
    return (torch.arange(len(labels)) // 4 % count) * 4 + labels


FAULTS: dict[str, tuple[Callable[[Labelled, Labelled], Tensor], str]] = {
    "copies": (lambda fresh, train: train.clips[:96], "repeats training clips"),
    "one clip a class": (
        lambda fresh, train: fresh.clips[few_of_a_class(fresh.labels, 1)],
        "differ from each other 0.00 times as much as real ones",
    ),
    "reversed": (
        lambda fresh, train: fresh.clips.flip(2),
        "sees the asked motion in 0% of the generated clips and in 100% of real ones (50% by",
    ),
    "one class is lost": (
        lambda fresh, train: fresh.clips.where(
            (fresh.labels != 2)[:, None, None, None, None], fresh.clips.roll(1, 0)
        ),
        "hardly ever sees the asked class where that is frame-right (0%)",
    ),
    "shuffled": (
        lambda fresh, train: shuffled_frames(fresh.clips),
        "their frames are out of order",
    ),
    "frozen": (lambda fresh, train: frozen_frames(fresh.clips), "they hardly move"),
    "half of them frozen": (
        lambda fresh, train: torch.cat([frozen_frames(fresh.clips[:48]), fresh.clips[48:]]),
        "50% of the generated clips stand still and 0% of real ones",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_numbers_beside_the_scores_speak(
    name: str, real: RealData, judges: Path, training_shapes: Labelled
) -> None:
    make, said = FAULTS[name]
    fresh = moving_shapes(96, seed=7)
    record = evaluate_clips(
        make(fresh, training_shapes),
        fresh.labels,
        real,
        protocol=QUICK,
        options=EvaluationOptions(cache=judges),
    )
    assert [said in warning for warning in record.warnings].count(True) == 1, record.warnings
    assert f"warning: {record.warnings[-1]}" in format_record(record)
    assert said in str(table_of_record(record)["note"])


@pytest.mark.parametrize("fault", ["one clip", "shuffled"])
def test_they_speak_without_classes_too(fault: str, real: RealData) -> None:
    fresh = moving_shapes(48, seed=7).clips
    clips = fresh[:1].expand_as(fresh) if fault == "one clip" else shuffled_frames(fresh)
    record = evaluate_clips(clips, None, real, protocol=WEIGHT_FREE)
    said = "repeats a few clips" if fault == "one clip" else "out of order"
    assert any(said in warning for warning in record.warnings)


def test_the_table_shows_what_a_score_needs(perfect: dict[str, Any]) -> None:
    text = format_record(Record.from_dict(perfect))
    assert f"protocol {perfect['protocol']['id']}: n = 48" in text
    for title in ("Inception Score", "Frechet distance", "Space-time sliced Wasserstein"):
        after = text[text.index(title) :]
        for word in ("generated", "real", "floor", "noise", "shuffled", "frozen", "reversed"):
            assert word in after
    assert text.splitlines()[-1] == perfect["sentence"]
    assert f"{perfect['scores']['frechet_distance']['value']:.4g} +-" in text


def test_records_are_only_added(perfect: dict[str, Any], tmp_path: Path) -> None:
    first = save_record(Record.from_dict(perfect), tmp_path)
    second = save_record(
        Record.from_dict({**perfect, "generator": {"source": "file", "step": 7}}), tmp_path
    )
    assert json.loads(first.read_text()) == json.loads(json.dumps(perfect))
    assert first != second
    assert "-step-7-" in second.name
    assert ":" not in first.name


def test_a_judge_that_learnt_nothing_gives_no_score(real: RealData, tmp_path: Path) -> None:
    untrained = dataclasses.replace(
        QUICK, classifier=dataclasses.replace(QUICK.classifier, clips_seen=32)
    )
    fresh = moving_shapes(96, seed=7)
    record = evaluate_clips(fresh.clips, fresh.labels, real, protocol=untrained).to_dict()
    assert list(record["scores"]) == WEIGHT_FREE_SCORES
    assert record["agreement"] is None
    assert not record["judge"]["passed"]
    assert any("are left out" in warning for warning in record["warnings"])
    assert "Inception" not in format_record(Record.from_dict(record))
    # A protocol without a score of another kind has none to give.
    unused = PROTOCOLS["own-c3d"].sliced
    alone = dataclasses.replace(untrained, metrics=("inception_score",), sliced=unused)
    images = tmp_path / "evals"
    options = EvaluationOptions(cache=tmp_path, images=images)
    with pytest.raises(UserError, match=r"gives no score of these clips \(the judge names only"):
        evaluate_clips(fresh.clips, fresh.labels, real, alone, options)
    assert not images.exists()


@pytest.mark.parametrize("classes", [(), CLASSES])
def test_unlabelled_data_gets_weight_free_scores(real: RealData, classes: tuple[str, ...]) -> None:
    protocol = WEIGHT_FREE if classes else QUICK
    fresh = moving_shapes(48, seed=7).clips
    record = evaluate_clips(
        fresh, None, dataclasses.replace(real, classes=classes), protocol=protocol
    ).to_dict()
    assert list(record["scores"]) == WEIGHT_FREE_SCORES
    assert record["judge"] is None
    assert bool(record["warnings"]) == (not classes)
    assert record["sentence"].startswith("weight-free")
    assert "sliced" in format_record(Record.from_dict(record))


def test_sets_that_do_not_fit_are_refused(real: RealData) -> None:
    with pytest.raises(UserError, match=r"\(3, 4, 16, 8\).*\(3, 4, 16, 16\)"):
        evaluate_clips(real.train.clips[..., :8], None, real, protocol=QUICK)
    with pytest.raises(UserError, match="got 5, 48 and 240"):
        evaluate_clips(real.train.clips[:5], None, real, protocol=QUICK)
    one_video = dataclasses.replace(real.train, video_ids=("only",) * len(real.train))
    with pytest.raises(UserError, match="from 1 videos"):
        plan_comparison(dataclasses.replace(real, train=one_video), 96, 0)


def test_reference_and_floor_share_no_video_and_are_balanced(real: RealData) -> None:
    videos = tuple(f"v{i // 8}" for i in range(len(real.train)))
    labels = torch.arange(len(real.train)) // 8 % 4
    train = RealClips(real.train.clips, labels, videos)
    comparison = plan_comparison(dataclasses.replace(real, train=train), 96, seed=3)
    reference = {videos[row] for row in comparison.reference.tolist()}
    floor = {videos[row] for row in comparison.floor.tolist()}
    assert not reference & floor
    assert len(comparison.floor) == comparison.n == 48
    plain = plan_comparison(real, 96, seed=3)
    assert real.train.labels[plain.floor].bincount().tolist() == [12] * 4
    assert not torch.equal(plain.floor, plan_comparison(real, 96, seed=4).floor)


def test_asked_labels_follow_the_data() -> None:
    labels = torch.tensor([0] * 30 + [1] * 60 + [2] * 10)
    asked = proportional_labels(labels[torch.randperm(100)], 50, seed=0)
    assert asked.bincount().tolist() == [15, 30, 5]
    assert asked.tolist() != sorted(asked.tolist())
    assert torch.equal(asked, proportional_labels(labels, 50, seed=0))


def test_a_changed_protocol_gets_a_name_of_its_own() -> None:
    standard = find_protocol("own-c3d")
    assert protocol_id(standard) == "own-c3d"
    splits = dataclasses.replace(standard, splits=10)
    shift = dataclasses.replace(
        standard, classifier=dataclasses.replace(standard.classifier, shift=0.2)
    )
    names = {
        protocol_id(splits),
        protocol_id(shift),
        protocol_id(dataclasses.replace(splits, name="mine")),
    }
    assert len(names) == 3
    assert all(name.startswith("custom:") for name in names)
    assert find_protocol(splits) is splits
    with pytest.raises(UserError, match="no evaluation protocol 'fvd'"):
        find_protocol("fvd")
    with pytest.raises(UserError, match="no extractor 'vgg'"):
        Protocol(name="x", extractor="vgg")
    with pytest.raises(UserError, match="at least 1"):
        dataclasses.replace(standard, splits=0)


@pytest.mark.parametrize(
    ("value", "learned"), [(260.0, True), (270.0, False), (480.0, False), (490.0, False)]
)
def test_a_generator_has_to_beat_the_lower_ceiling(value: float, learned: bool) -> None:
    controls = {"mean clip": 972.0, "noise": 535.0, "shuffled": 300.0}
    entry = {"n": 240, "better": "lower", "real": 90.0, "floor": 80.0, "controls": controls}
    scores = {"frechet_distance": Score.of({**entry, "value": value})}
    assert (score_warnings(scores) == []) == learned


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"controls": {"noise": 70.0}}, "cannot tell them apart here"),
        ({"controls": {"shuffled": 91.0}}, "says nothing of motion here"),
        ({"value": 540.0}, r"\(540\) are worse than noise or the mean clip \(535\)"),
        ({"value": 39.0}, "look for copied training clips"),
        ({"n_real": 24}, "sets of 240: real reference, floor and controls hold 24"),
    ],
)
def test_numbers_that_do_not_stand_in_order_are_named(
    change: dict[str, Any], said: str | None
) -> None:
    controls = {"mean clip": 972.0, "noise": 535.0, "shuffled": 300.0}
    entry = {"n": 240, "better": "lower", "value": 120.0, "real": 90.0, "floor": 80.0}
    changed = {**entry, **change, "controls": controls | change.get("controls", {})}
    warnings = score_warnings({"space_time_swd": Score.of(changed)})
    assert len(warnings) == (said is not None)
    if said:
        assert re.search(said, warnings[0])
    # More is better: nothing is said of an Inception Score.
    assert score_warnings({"inception_score": Score.of({**entry, "better": "higher"})}) == []


def test_clips_that_occur_twice_or_are_held_out_are_named(real: RealData) -> None:
    fresh, heldout = moving_shapes(96, seed=7).clips, real.heldout.clips

    def said(clips: Tensor, facts: GeneratorFacts | None = None) -> str:
        record = evaluate_clips(clips, None, real, WEIGHT_FREE, generator_facts=facts)
        return " ".join(record.warnings)

    assert "100.0% of the generated clips are copies of another" in said(
        fresh[:4].repeat_interleave(20, 0)
    )
    half = torch.cat([heldout[:24], fresh[:24]])
    assert "50.0% of the generated clips are held-out clips" in said(half)
    for healthy in (said(fresh), said(half, GeneratorFacts(given_frames=2))):
        assert "copies of another" not in healthy
        assert "held-out clip" not in healthy
