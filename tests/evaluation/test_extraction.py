"""Extraction under a protocol: stored once, the frames it names, evaluations by network."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from metric_clips import CLASSES, Labelled, moving_shapes
from torch import Tensor

from vidgan.core.clip_ops import to_float
from vidgan.errors import UserError
from vidgan.evaluation.clips import EvaluationOptions, evaluate_clips, shown_frames
from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.protocols import PROTOCOLS, changed_protocol, find_protocol, protocol_id
from vidgan.evaluation.record import format_record, save_record
from vidgan.evaluation.record_checks import read_checked_record
from vidgan.evaluation.record_types import Record
from vidgan.evaluation.score import RealData
from vidgan.extractors.extractor import EXTRACTORS
from vidgan.extractors.feature_store import FeatureStore
from vidgan.extractors.judge import RealClips
from vidgan.metrics.sliced import SlicedSettings

SLICED = SlicedSettings(patches_per_clip=4, directions=16)
RANDOM = dataclasses.replace(PROTOCOLS["random-c3d-fid"], num_clips=48, sliced=SLICED)


class Mean:
    """An extractor whose features are the mean colour of a clip, or of each frame."""

    name, dim, fingerprint = "mean", 3, "none"

    def __init__(self, per_frame: bool = False) -> None:
        self.per_frame, self.num_clips = per_frame, 0

    def record(self) -> dict[str, Any]:
        return {"name": self.name}

    def arrays(self, clips: Tensor) -> dict[str, Tensor]:
        self.num_clips += clips.shape[0]
        means = clips.float().mean((3, 4)).transpose(1, 2)  # [M, T, C]
        features = means if self.per_frame else means.mean(1)
        return {"features": features, "probabilities": features.softmax(-1)}


@pytest.fixture(scope="module")
def real(training_shapes: Labelled, other_shapes: Labelled) -> RealData:
    train = RealClips(
        training_shapes.clips,
        training_shapes.labels,
        tuple(f"train-{name}" for name in training_shapes.videos),
    )
    heldout = RealClips(other_shapes.clips[:48], other_shapes.labels[:48], other_shapes.videos[:48])
    return RealData(train, heldout, CLASSES)


def test_clips_are_extracted_once(tmp_path: Path) -> None:
    clips, extractor, store = moving_shapes(12, 3).clips, Mean(), FeatureStore(tmp_path)
    first = ScoredSet.of(clips, extractor, store)
    again = ScoredSet.of(clips.clone(), extractor, store)
    assert extractor.num_clips == 12
    plain = ScoredSet.of(clips, Mean())
    for found in (first, again):
        assert torch.equal(found.features, plain.features)
        assert torch.equal(found.probabilities, plain.probabilities)
    # Floats that were not rounded are other clips.
    ScoredSet.of(clips, extractor, store, seen=to_float(clips) * 0.99)
    assert extractor.num_clips == 24
    rows = torch.tensor([5, 2])
    assert torch.equal(first.take(rows).features, plain.features[rows])


class Broken(Mean):
    """An extractor that has no number for bright clips."""

    def arrays(self, clips: Tensor) -> dict[str, Tensor]:
        found = super().arrays(clips)
        found["features"][found["features"].mean(1) > 90] = torch.nan
        return found


def test_features_that_are_no_numbers_are_refused_before_any_score(tmp_path: Path) -> None:
    clips = moving_shapes(12, 3).clips
    for store in (None, FeatureStore(tmp_path)):
        with pytest.raises(UserError, match=r"the features that mean gives .*not finite"):
            ScoredSet.of(clips, Broken(), store)


def test_a_protocol_says_which_frames_are_shown() -> None:
    clips = moving_shapes(6, 3).clips
    fast = dataclasses.replace(RANDOM, frame_step=2)
    shown = shown_frames(Mean(), fast).arrays(clips)["features"]
    assert torch.equal(shown, Mean().arrays(clips[:, :, ::2])["features"])
    assert shown_frames(inner := Mean(), RANDOM) is inner


def test_single_frames_are_chosen_by_the_clip_alone() -> None:
    frames = find_protocol("frame-fid-tf")
    # Every frame of a clip differs from the others.
    clips = torch.arange(4 * 8).reshape(4, 1, 8, 1, 1).expand(4, 3, 8, 5, 5).to(torch.uint8)
    extractor = shown_frames(Mean(per_frame=True), frames)
    one = extractor.arrays(clips)["features"]
    assert one.shape == (4, 3)
    assert all(float(row[0]) in range(8 * i, 8 * i + 8) for i, row in enumerate(one))
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(extractor.arrays(clips[order])["features"], one[order])
    assert extractor.record()["shown"] == {"frame_step": 1, "one_frame": True}
    every = find_protocol("frame-fid-styleganv-3125x16")
    scored = ScoredSet.of(clips, shown_frames(Mean(per_frame=True), every))
    assert scored.features.shape == scored.probabilities.shape == (32, 3)
    assert scored.take(torch.tensor([1])).features[:, 0].tolist() == list(range(8, 16))


@pytest.mark.slow
def test_an_untrained_network_serves_without_labels(real: RealData, tmp_path: Path) -> None:
    unlabelled = dataclasses.replace(real, classes=())
    fresh = moving_shapes(48, seed=7)
    record = evaluate_clips(
        fresh.clips, None, unlabelled, protocol=RANDOM, options=EvaluationOptions(features=tmp_path)
    ).to_dict()
    # 48 clips are fewer than its 128 features.
    assert list(record["scores"]) == [
        "kernel_distance",
        "space_time_swd",
        "appearance",
        "overall",
        "overall_spread",
    ]
    assert any("fewer than the 128 features" in said for said in record["warnings"])
    distance = record["scores"]["kernel_distance"]
    assert distance["value"] < 0.5 * distance["controls"]["noise"]
    assert record["extractor"]["name"] == "random-c3d"
    assert json.loads(json.dumps(record)) == record
    assert record["judge"] is None
    assert record["agreement"] is None
    assert record["diversity"]["lowest"]["class"] == "all clips"
    assert record["sentence"].startswith("features of an untrained network, not comparable")
    assert record["comparable_to"] == []
    assert "Kernel distance" in format_record(Record.from_dict(record))
    stored = len(list(tmp_path.iterdir()))
    # Generated, training and held-out clips, and five controls.
    assert stored == 8
    again = evaluate_clips(
        fresh.clips, None, unlabelled, protocol=RANDOM, options=EvaluationOptions(features=tmp_path)
    ).to_dict()
    again = evaluate_clips(fresh.clips, None, unlabelled, protocol=RANDOM).to_dict()
    assert len(list(tmp_path.iterdir())) == stored
    assert again["scores"] == again["scores"] == record["scores"]


def test_few_clips_are_scored_where_the_protocol_allows_it(real: RealData) -> None:
    allowed = dataclasses.replace(RANDOM, allow_few=True, covariance_divisor="n")
    record = evaluate_clips(moving_shapes(48, seed=7).clips, None, real, protocol=allowed).to_dict()
    estimator = record["scores"]["frechet_distance"]["first_group"]["estimator"]
    assert estimator["few_rows"]
    assert estimator["covariance_divisor"] == "n"


def test_sets_of_a_fixed_size_take_what_real_clips_there_are(
    real: RealData, tmp_path: Path
) -> None:
    fixed = dataclasses.replace(RANDOM, num_clips=120, set_size=60, reference_size=100)
    clips = moving_shapes(120, seed=7).clips
    found = evaluate_clips(clips, None, real, protocol=fixed)
    # Nothing of a record of several sets, and of another network than a judge, contradicts itself.
    assert read_checked_record(save_record(found.sealed(), tmp_path)).marks == ()
    record = found.to_dict()
    score = record["scores"]["kernel_distance"]
    assert (score["n"], score["n_real"], len(score["values"])) == (60, 48, 2)
    assert record["counts"]["n"] == 60
    assert record["counts"]["reference"] == 100
    assert any("floor and controls hold 48" in said for said in record["warnings"])
    assert "held-out clips, n = 48" in format_record(Record.from_dict(record))
    with pytest.raises(UserError, match="compares with 500 real clips, and 192 of 240"):
        evaluate_clips(clips, None, real, protocol=dataclasses.replace(fixed, reference_size=500))
    with pytest.raises(UserError, match="needs 60 generated"):
        evaluate_clips(clips[:50], None, real, protocol=fixed)


def test_intervals_and_infinitely_many_clips_where_the_protocol_asks(real: RealData) -> None:
    protocol = dataclasses.replace(
        RANDOM,
        metrics=("frechet_distance", "kernel_distance"),
        allow_few=True,
        num_clips=96,
        interval_draws=10,
        extrapolate=True,
        sliced=SlicedSettings(),
    )
    record = evaluate_clips(
        moving_shapes(96, seed=7).clips, None, real, protocol=protocol
    ).to_dict()
    for key in protocol.metrics:
        interval = record["scores"][key]["interval"]
        assert interval["low"] < interval["high"]
        assert interval["method"] == "subsampling"
    # 96 clips are fewer than 4 for each of 128 features.
    assert "extrapolated" not in record["scores"]["frechet_distance"]
    assert any("needs 512 clips or frames" in said for said in record["warnings"])
    assert "95% interval" in format_record(Record.from_dict(record))


def test_a_line_in_one_over_n_is_printed_with_its_uncertainty(real: RealData) -> None:
    protocol = dataclasses.replace(
        RANDOM,
        metrics=("frechet_distance",),
        network=dataclasses.replace(EXTRACTORS["random-c3d"], layer="logits", num_classes=4),
        num_clips=96,
        extrapolate=True,
        sliced=SlicedSettings(),
    )
    record = evaluate_clips(moving_shapes(96, seed=7).clips, None, real, protocol=protocol)
    line = record.scores["frechet_distance"].extrapolated
    assert line is not None
    assert line["low"] < line["value"] < line["high"]
    assert f"infinitely many clips {line['value']:.4g}, {line['low']:.4g} to" in format_record(
        Record.from_dict(record.to_dict())
    )


def test_subsets_larger_than_a_set_give_no_kernel_distance(real: RealData) -> None:
    protocol = changed_protocol(RANDOM, ["kernel.subsets=3", "kernel.subset_size=49"])
    clips = moving_shapes(48, seed=7).clips
    record = evaluate_clips(clips, None, real, protocol=protocol)
    assert "kernel_distance" not in record.scores
    assert any("48 clips or frames a set are fewer than subsets" in s for s in record.warnings)
    fits = changed_protocol(protocol, ["kernel.subset_size=48"])
    assert "kernel_distance" in evaluate_clips(clips, None, real, protocol=fits).scores


def test_manifold_scores_have_real_clips_beside_them(real: RealData) -> None:
    protocol = dataclasses.replace(
        PROTOCOLS["random-c3d-fid"],
        num_clips=48,
        metrics=("precision", "recall", "density", "coverage"),
    )
    fresh = moving_shapes(48, seed=7).clips
    scores = evaluate_clips(fresh, None, real, protocol=protocol).to_dict()["scores"]
    assert list(scores) == ["precision", "recall", "density", "coverage"]
    for score in scores.values():
        assert score["better"] == "higher"
        assert score["controls"]["noise"] < 0.1 < score["real"]
        assert score["value"] > 5 * score["controls"]["noise"]


def test_floats_serve_where_nothing_is_rounded(real: RealData) -> None:
    clips = moving_shapes(48, seed=7).clips
    exact = dataclasses.replace(RANDOM, quantise=False)
    floats = evaluate_clips(to_float(clips), None, real, protocol=exact).to_dict()
    assert floats["protocol"]["id"] == protocol_id(exact)
    rounded = evaluate_clips(clips, None, real, protocol=exact).to_dict()
    assert rounded["protocol"]["id"] == protocol_id(RANDOM)
    assert any("were never rounded and these are bytes" in said for said in rounded["warnings"])
    assert floats["scores"]["kernel_distance"]["value"] == pytest.approx(
        rounded["scores"]["kernel_distance"]["value"], rel=1e-6
    )


def test_an_unknown_word_of_a_protocol_is_named() -> None:
    with pytest.raises(UserError, match="did you mean frame_step"):
        changed_protocol("stswd", ["frame_steps=2"])
