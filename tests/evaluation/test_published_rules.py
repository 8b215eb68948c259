"""Rules of published codes: whole references, test clips, dropped fractions, splits."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from metric_clips import CLASSES, moving_shapes
from torch import Tensor

from vidgan.core.clip_ops import to_float, to_uint8
from vidgan.data.dataset import ClipDataset
from vidgan.data.packed.store import MemoryStore
from vidgan.data.settings import DataConfig
from vidgan.errors import UserError
from vidgan.evaluation.clips import evaluate_clips
from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.gather import gather_real
from vidgan.evaluation.metric import Reference
from vidgan.evaluation.protocols import PROTOCOLS, Protocol, changed_protocol, protocol_id
from vidgan.evaluation.record import format_record, save_record
from vidgan.evaluation.record_checks import read_checked_record
from vidgan.evaluation.record_types import Record
from vidgan.evaluation.score import RealData, extras_of, plan_comparison, score_functions
from vidgan.extractors.extractor import EXTRACTORS, load_extractor
from vidgan.extractors.judge import Extraction, RealClips
from vidgan.metrics.frechet import frechet_distance, inception_score

FREE = changed_protocol("stswd", ["sliced.patches_per_clip=4", "sliced.directions=16"])
NARROW = dataclasses.replace(EXTRACTORS["random-c3d"], width=0.0625)


def clips_of(count: int, seed: int, copies: int = 1) -> RealClips:
    """Clips, `copies` of them of one video."""
    made = moving_shapes(count, seed)
    videos = tuple(f"{seed}-{row // copies}" for row in range(count))
    return RealClips(made.clips, made.labels, videos)


REAL = RealData(clips_of(60, 1, copies=2), clips_of(40, 2), CLASSES)


def frechet(words: list[str]) -> Protocol:
    protocol = dataclasses.replace(
        PROTOCOLS["random-c3d-fid"], network=NARROW, metrics=("frechet_distance",), num_clips=24
    )
    return changed_protocol(protocol, ["allow_few=true", *words])


def features(clips: Tensor) -> Tensor:
    return load_extractor(NARROW).arrays(clips)["features"]


WHOLE = ["reference_rule=whole split", "max_train_clips=0"]


def test_a_whole_reference_holds_every_clip_and_its_floor_is_measured_to_other_videos() -> None:
    protocol = frechet(WHOLE)
    comparison = plan_comparison(REAL, 24, 0, protocol)
    assert sorted(comparison.reference.tolist()) == list(range(60))
    videos = [
        {REAL.train.video_ids[row] for row in rows.tolist()}
        for rows in (comparison.floor, comparison.floor_reference)
    ]
    assert not videos[0] & videos[1]
    fake = moving_shapes(24, seed=9).clips
    score = evaluate_clips(fake, None, REAL, protocol).scores["frechet_distance"]
    train = features(REAL.train.clips)
    expected = frechet_distance(features(fake), train, allow_few=True)
    assert score.value == pytest.approx(expected, rel=1e-9)
    floor = frechet_distance(
        train[comparison.floor], train[comparison.floor_reference], allow_few=True
    )
    assert score.floor == pytest.approx(floor, rel=1e-9)
    # Measured to the reference that holds the floor's own clips, it would look far too good.
    inside = frechet_distance(train[comparison.floor], train, allow_few=True)
    assert inside < 0.8 * floor
    assert score.floor_meaning == "clips of the reference against those of its other videos, same n"


def test_distances_are_measured_to_test_clips_where_the_protocol_says_so() -> None:
    protocol = frechet([*WHOLE, "reference_split=heldout", "reference_size=32"])
    fake = moving_shapes(24, seed=9).clips
    record = evaluate_clips(fake, None, REAL, protocol)
    score, comparison = record.scores["frechet_distance"], plan_comparison(REAL, 24, 0, protocol)
    assert record.counts.reference == len(comparison.reference) == 32
    heldout = features(REAL.heldout.clips)
    expected = frechet_distance(
        features(fake[: score.n]), heldout[comparison.reference], allow_few=True
    )
    assert score.value == pytest.approx(expected, rel=1e-9)
    beside = features(REAL.train.clips)[comparison.other]
    real = frechet_distance(beside, heldout[comparison.reference], allow_few=True)
    assert score.real == pytest.approx(real, rel=1e-9)
    assert "(training clips, " in format_record(Record.from_dict(record.to_dict()))


def test_no_stand_in_is_called_a_whole_or_a_test_split() -> None:
    store = MemoryStore(moving_shapes(60, 3).clips)
    data = ClipDataset(store, DataConfig(resolution=16, frames=4), seed=0)
    for words in (WHOLE, ["reference_split=heldout"]):
        with pytest.raises(UserError, match=r"no held-out split: .*heldout_fraction"):
            gather_real(data, 4, 16, changed_protocol(FREE, words), 0)
    assert gather_real(data, 4, 16, changed_protocol(FREE, ["max_train_clips=0"]), 0).warnings


def test_fractions_are_dropped_where_the_code_drops_them() -> None:
    values = torch.tensor([-1.2, -1.0, 0.0, 0.999 / 127.5, 0.5 / 127.5, 1.0, 1.3])
    assert to_uint8(values, truncate=True).tolist() == [0, 0, 127, 128, 128, 255, 255]
    assert to_uint8(values).tolist() == [0, 0, 128, 128, 128, 255, 255]
    bright = to_float(moving_shapes(24, 9).clips) * 0.97
    down = changed_protocol(FREE, ["rounding=down"])
    exact = [evaluate_clips(bright, None, REAL, protocol) for protocol in (FREE, down)]
    expected = evaluate_clips(to_uint8(bright, truncate=True), None, REAL, FREE)
    key = "space_time_swd"
    assert exact[1].scores[key].value == expected.scores[key].value != exact[0].scores[key].value
    assert exact[1].protocol_id == protocol_id(down)
    # Bytes were rounded by whoever stored them, so nothing can be said of how.
    stored = evaluate_clips(to_uint8(bright), None, REAL, down)
    assert stored.protocol_id == protocol_id(FREE)
    assert any("drops the fraction" in said for said in stored.warnings)


def test_floats_are_rounded_before_the_network_sees_them_unless_the_protocol_says_no() -> None:
    floats = to_float(moving_shapes(24, 9).clips) * 0.97
    seen = [
        evaluate_clips(clips, None, REAL, frechet([])).scores["frechet_distance"].value
        for clips in (floats, to_uint8(floats))
    ]
    assert seen[0] == seen[1]


def test_what_is_whole_contradicts_nothing(tmp_path: Path) -> None:
    record = evaluate_clips(moving_shapes(24, seed=9).clips, None, REAL, frechet(WHOLE))
    checked = read_checked_record(save_record(record.sealed(), tmp_path))
    assert checked.marks == ()


def test_one_group_has_the_deviation_over_its_splits() -> None:
    words: list[str] = ["num_clips=40", "set_size=20", "max_groups=1", "splits=3"]
    protocol = changed_protocol(PROTOCOLS["styleganv-isv2048x10splits"], words)
    rng = torch.Generator().manual_seed(0)
    probabilities = torch.randn(40, 5, generator=rng).softmax(1)
    scored = ScoredSet(torch.zeros(40, 0), Extraction(torch.zeros(40, 2), probabilities))
    reference = Reference(scored, 20, protocol, 0)
    function = score_functions(reference)["inception_score"]
    mean, deviation = inception_score(probabilities[:20], splits=3)
    found: dict[str, Any] = extras_of(function, scored, reference, [mean])
    assert function(scored.take(torch.arange(20))) == mean
    assert found["spread_over_splits"] == deviation > 0
