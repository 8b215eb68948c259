"""A judge without classes: the changes it names, its gate, and the distance it gives."""

import dataclasses
from dataclasses import replace

import pytest
import torch
from metric_clips import Labelled

from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.evaluation.clips import evaluate_clips, judge_warnings
from vidgan.evaluation.protocols import PROTOCOLS, default_protocol
from vidgan.evaluation.score import RealData
from vidgan.extractors.judge import (
    ClassifierSettings,
    OwnClassifier,
    RealClips,
    train_own_classifier,
)
from vidgan.extractors.pretext import (
    PRETEXT_CLASSES,
    change_clips,
    every_change,
    random_changes,
)

QUICK = ClassifierSettings(
    task="changes", gate_multiple=3.0, width=0.125, feature_dim=16, clips_seen=6400
)
PROTOCOL = replace(PROTOCOLS["own-ssl"], classifier=QUICK, num_clips=40)


@pytest.fixture(scope="module")
def judge(training_shapes: Labelled) -> OwnClassifier:
    nothing = torch.full_like(training_shapes.labels, -1)
    return train_own_classifier(
        training_shapes.clips, nothing, (), training_shapes.videos, settings=QUICK
    )


def ramp(frames: int) -> torch.Tensor:
    """One clip whose frame t has the value t, and in its first row 100 more."""
    clip = torch.arange(frames, dtype=torch.uint8)[None, :, None, None].repeat(3, 1, 8, 8)
    clip[:, :, 0] += 100
    return clip


def changed(name: str, frames: int = 8) -> torch.Tensor:
    label = torch.tensor([PRETEXT_CLASSES.index(name)])
    return change_clips(ramp(frames)[None], label, keyed_rng(0))[0]


@pytest.mark.parametrize(
    ("time", "frames", "order"),
    [
        ("forward", 4, [0, 1, 2, 3]),
        ("slow", 4, [1, 1, 2, 2]),
        ("there-and-back", 4, [0, 2, 3, 1]),
        ("forward", 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("slow", 8, [2, 2, 3, 3, 4, 4, 5, 5]),
        ("there-and-back", 8, [0, 2, 4, 6, 7, 5, 3, 1]),
        ("slow", 5, [1, 1, 2, 2, 3]),
        ("there-and-back", 5, [0, 2, 4, 3, 1]),
    ],
)
def test_changes_of_time_show_the_frames_they_should(
    time: str, frames: int, order: list[int]
) -> None:
    assert changed(f"0-{time}", frames)[0, :, 4, 4].tolist() == order


def test_shuffled_frames_are_all_there_in_an_order_of_the_seed() -> None:
    label = torch.tensor([PRETEXT_CLASSES.index("0-shuffled")])
    orders = [
        tuple(change_clips(ramp(8)[None], label, keyed_rng(seed))[0, 0, :, 4, 4].tolist())
        for seed in (0, 0, 1)
    ]
    assert sorted(orders[0]) == list(range(8))
    assert orders[0] == orders[1] != orders[2]


def test_turns_move_the_first_row_counter_clockwise() -> None:
    bright = {turn: changed(f"{turn}-forward")[0, 0] > 50 for turn in ("0", "90", "180", "270")}
    assert bool(bright["0"][0].all())
    assert bool(bright["90"][:, 0].all())
    assert bool(bright["180"][-1].all())
    assert bool(bright["270"][:, -1].all())
    assert all(int(mask.sum()) == 8 for mask in bright.values())


def test_class_0_leaves_clips_as_they_are(training_shapes: Labelled) -> None:
    few = training_shapes.clips[:3]
    assert torch.equal(change_clips(few, torch.zeros(3, dtype=torch.int64), keyed_rng(0)), few)


def test_every_change_comes_equally_often(training_shapes: Labelled) -> None:
    clips, labels = every_change(training_shapes.clips[:5], seed=3)
    assert clips.shape == (80, *training_shapes.clips.shape[1:])
    assert labels.bincount().tolist() == [5] * 16
    again, _ = every_change(training_shapes.clips[:5], seed=3)
    assert torch.equal(clips, again)
    assert every_change(training_shapes.clips, seed=0)[0].shape[0] == 64 * 16
    drawn = random_changes(1600, keyed_rng(1)).bincount(minlength=16)
    assert int(drawn.min()) > 60


def test_clips_that_cannot_be_changed_are_refused() -> None:
    label = torch.zeros(1, dtype=torch.int64)
    for shape in ((1, 3, 3, 8, 8), (1, 3, 8, 8, 6)):
        with pytest.raises(UserError, match="square clips of at least 4 frames"):
            change_clips(torch.zeros(shape, dtype=torch.uint8), label, keyed_rng(0))


def test_the_judge_learns_to_see_time_without_any_label(judge: OwnClassifier) -> None:
    accuracy = judge.report["accuracy"]
    assert judge.name == "own-ssl"
    assert judge.report["chance"] == 1 / 16
    # Squares look the same whichever way they are turned; frames that jump do not.
    assert accuracy["motion"] > 0.5
    assert judge.required_accuracy == pytest.approx(3 / 16)
    assert judge.passed
    assert judge_warnings(judge) == []


def test_a_judge_of_frozen_clips_is_not_let_through(training_shapes: Labelled) -> None:
    frozen = training_shapes.clips[:, :, :1].expand_as(training_shapes.clips).contiguous()
    settings = dataclasses.replace(QUICK, clips_seen=960)
    nothing = torch.full_like(training_shapes.labels, -1)
    blind = train_own_classifier(frozen, nothing, (), training_shapes.videos, settings=settings)
    assert not blind.passed
    assert blind.report["accuracy"]["motion"] < 0.5
    (warning,) = judge_warnings(blind)
    assert "of the changes of time rightly, little more than 25% by chance" in warning


def test_unlabelled_clips_get_a_frechet_distance_with_floor_and_controls(
    training_shapes: Labelled, other_shapes: Labelled
) -> None:
    def real(shapes: Labelled, rows: slice, where: str) -> RealClips:
        clips = shapes.clips[rows]
        videos = tuple(f"{where}{i}" for i in range(len(clips)))
        return RealClips(clips, torch.full((len(clips),), -1), videos)

    data = RealData(
        real(training_shapes, slice(None), "train"), real(other_shapes, slice(40), "heldout"), ()
    )
    record = evaluate_clips(other_shapes.clips[40:], None, data, protocol=PROTOCOL).to_dict()
    assert list(record["scores"]) == list(PROTOCOLS["own-ssl"].metrics)
    assert record["agreement"] is None
    assert record["judge"]["extractor"] == "own-ssl"
    assert "judge features" in record["memorisation"]
    assert record["sentence"].startswith("own classifier of turned and retimed clips, acc=")
    score = record["scores"]["frechet_distance"]
    broken = score["controls"]
    for name in ("noise", "mean clip", "shuffled", "frozen"):
        assert broken[name] > 2 * score["value"], name
        assert broken[name] > 2 * score["floor"], name
    assert score["motion_sensitivity"] > 0.01


def test_data_choose_their_protocol() -> None:
    assert default_protocol(("left", "right")) == "own-c3d"
    assert default_protocol(("all",)) == default_protocol(()) == "own-ssl"
