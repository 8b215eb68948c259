"""All distances in one number, by hand, and the two-sample test in a record."""

import dataclasses

import pytest
from metric_clips import CLASSES, Labelled, moving_shapes

from vidgan.evaluation.clips import evaluate_clips
from vidgan.evaluation.protocols import PROTOCOLS
from vidgan.evaluation.record import format_record
from vidgan.evaluation.record_types import Score
from vidgan.evaluation.score import RealData, uniform_noise
from vidgan.evaluation.scores import combine_overall
from vidgan.extractors.judge import RealClips
from vidgan.extractors.two_sample import TwoSampleSettings


def distance(real: float, *values: float, floor: float = 1.0, noise: float = 100.0) -> Score:
    return Score(
        value=sum(values) / len(values),
        values=values,
        better="lower",
        n=10,
        real=real,
        floor=floor,
        controls={"noise": noise},
    )


def test_the_geometric_mean_by_hand() -> None:
    scores = {
        "inception_score": Score(value=3.0, values=(3.0,), better="higher", real=4.0),
        "frechet_distance": distance(2.0, 8.0, 18.0, floor=2.0),
        "space_time_swd": distance(25.0, 100.0, 25.0, floor=25.0),
        "kernel_distance": distance(-0.1, -0.2, 0.1),
    }
    found = combine_overall(scores)
    assert found is not None
    # sqrt(8/2 x 100/25) and sqrt(18/2 x 25/25).
    assert found.values == pytest.approx((4.0, 3.0))
    assert found.value == pytest.approx(3.5)
    assert found.spread == pytest.approx(0.5)
    assert (found.real, found.floor, found.n) == (1.0, pytest.approx(1.0), 10)
    assert found.controls["noise"] == pytest.approx((100 / 2 * 100 / 25) ** 0.5)
    assert found.details == {"of": ["frechet_distance", "space_time_swd"]}
    assert combine_overall({"inception_score": scores["inception_score"]}) is None
    assert combine_overall({"space_time_swd": distance(0.0, 1.0)}) is None


@pytest.fixture(scope="module")
def real(training_shapes: Labelled, other_shapes: Labelled) -> RealData:
    seen = RealClips(
        training_shapes.clips,
        training_shapes.labels,
        tuple(f"train-{video}" for video in training_shapes.videos),
    )
    unseen = RealClips(other_shapes.clips, other_shapes.labels, other_shapes.videos)
    return RealData(seen, unseen, CLASSES)


def test_the_two_sample_test_stands_in_a_record_with_its_interval(real: RealData) -> None:
    quick = TwoSampleSettings(clips_seen=320, seeds=1, channels=8, draws=20)
    protocol = dataclasses.replace(PROTOCOLS["own-c2st"], num_clips=40, two_sample=quick)
    record = evaluate_clips(uniform_noise(moving_shapes(40, 9).clips, 1), None, real, protocol)
    assert list(record.scores) == ["c2st_auc", "c2st_accuracy"]
    auc = record.scores["c2st_auc"]
    assert auc.interval is not None
    assert auc.interval["low"] <= auc.value <= auc.interval["high"]
    assert auc.value > 0.8
    assert auc.real == pytest.approx(0.5, abs=0.25)
    assert auc.controls["noise"] > 0.8
    assert "Told from real clips: area under the ROC curve" in format_record(record)
