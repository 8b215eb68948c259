"""All distances in one number, by hand, and the two-sample test in a record."""

import dataclasses

import pytest
from metric_clips import CLASSES, Labelled, moving_shapes

from vidgan.evaluation.clips import evaluate_clips
from vidgan.evaluation.protocols import PROTOCOLS
from vidgan.evaluation.record import format_record
from vidgan.evaluation.record_types import Score
from vidgan.evaluation.score import RealData, uniform_noise
from vidgan.evaluation.scores import LARGEST_FACTOR, combine_overall, combine_overall_spread
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


@pytest.mark.parametrize(
    ("spread", "factor"), [(1.0, 1.0), (0.5, 2.0), (4.0, 4.0), (0.0, LARGEST_FACTOR)]
)
def test_a_spread_unlike_that_of_real_clips_is_one_more_factor(
    spread: float, factor: float
) -> None:
    scores = {
        "frechet_distance": distance(2.0, 8.0, 18.0, floor=2.0),
        "space_time_swd": distance(25.0, 100.0, 25.0, floor=25.0),
    }
    found = combine_overall_spread(scores, spread)
    assert found is not None
    assert found.values == pytest.approx([(16 * factor) ** (1 / 3), (9 * factor) ** (1 / 3)])
    assert (found.real, found.floor) == (1.0, pytest.approx(1.0))
    assert found.controls["noise"] == pytest.approx((100 / 2 * 100 / 25) ** (1 / 3))
    assert found.details == {"of": ["frechet_distance", "space_time_swd", "spread"]}
    # With one held-out clip a class the spread is not known.
    assert combine_overall_spread(scores, None) == combine_overall(scores)
    assert combine_overall_spread({}, 1.0) is None


def test_one_clip_a_class_is_worse_than_what_is_blurred_and_varied(real: RealData) -> None:
    """Distances alone to few real clips prefer the repeated clips."""
    few = RealData(
        RealClips(real.train.clips[:40], real.train.labels[:40], real.train.video_ids[:40]),
        RealClips(real.heldout.clips[:8], real.heldout.labels[:8], real.heldout.video_ids[:8]),
        CLASSES,
    )
    first = [int((few.train.labels == label).nonzero()[0]) for label in few.train.labels.unique()]
    labels = few.train.labels[first].repeat(8)
    repeated = few.train.clips[first].repeat(8, 1, 1, 1, 1)
    varied = moving_shapes(len(labels), 9)
    dimmed = (varied.clips.float() * 0.85).to(varied.clips.dtype)
    records = [
        evaluate_clips(clips, asked, few, "stswd")
        for clips, asked in ((repeated, labels), (dimmed, varied.labels))
    ]
    assert [record.scores["overall_spread"].details["of"][-1] for record in records] == [
        "spread"
    ] * 2
    collapsed, healthy = (record.scores["overall_spread"].value for record in records)
    assert collapsed > 2 * healthy


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
