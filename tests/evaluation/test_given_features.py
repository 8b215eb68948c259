"""Scores of features from elsewhere."""

import json
from pathlib import Path

import numpy
import pytest
import torch
from torch import Tensor

from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.evaluation.given_features import score_features
from vidgan.evaluation.protocols import changed_protocol
from vidgan.evaluation.record import save_record
from vidgan.evaluation.record_checks import read_checked_record
from vidgan.extractors.feature_store import read_features
from vidgan.metrics.frechet import frechet_distance
from vidgan.metrics.kernel import jedi

JEDI = changed_protocol("jedi-vjepa-5000", ["num_clips=40", "set_size=40", "reference_size=0"])


def rows(count: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, 6, generator=keyed_rng("given", seed)) + shift


def test_jedi_of_given_features() -> None:
    fake, real = rows(40, 0, shift=0.5), rows(60, 1)
    record = score_features(fake, real, JEDI).to_dict()
    score = record["scores"]["jedi"]
    assert score["value"] == pytest.approx(jedi(fake, real), rel=1e-12)
    assert 0 < score["floor"] < score["value"]
    assert record["counts"] == {"n": 40, "generated": 40, "reference": 60}
    assert record["warnings"] == []
    assert score_features(fake, real, JEDI).to_dict()["features"] == record["features"]
    json.dumps(record, allow_nan=False)


def test_fewer_clips_make_a_custom_protocol(tmp_path: Path) -> None:
    found = score_features(rows(40, 0), rows(30, 1), "jedi-vjepa-5000")
    assert read_checked_record(save_record(found.sealed(), tmp_path)).marks == ()
    record = found.to_dict()
    assert record["protocol"]["id"].startswith("custom:")
    assert (
        "asks for 5000 generated and 5000 real clips, and there are 40 and 30"
        in (record["warnings"][0])
    )


def test_a_frechet_distance_of_given_features() -> None:
    words = ["num_clips=80", "set_size=40", "max_groups=2"]
    protocol = changed_protocol("cdfvd-videomae-ssv2g", words)
    fake, real = rows(80, 0, shift=0.5), rows(60, 1)
    score = score_features(fake, real, protocol).to_dict()["scores"]["frechet_distance"]
    expected = [frechet_distance(part, real, divides_by_n=True) for part in fake.split(40)]
    assert score["values"] == pytest.approx(expected, rel=1e-6)
    assert score["spread"] > 0
    few = changed_protocol(protocol, ["set_size=5", "num_clips=10"])
    with pytest.raises(
        UserError, match=r"gives no score of these clips \(.*fewer than the 6 featur"
    ):
        score_features(fake, real, few)


def test_features_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="extracts features itself"):
        score_features(rows(40, 0), rows(40, 1), "own-c3d")
    with pytest.raises(UserError, match="different lengths: 6 and 4"):
        score_features(rows(40, 0), rows(40, 1)[:, :4], JEDI)
    with pytest.raises(UserError, match=r"real features .*not finite"):
        score_features(rows(40, 0), rows(40, 1) / 0, JEDI)
    with pytest.raises(UserError, match="generated features must be"):
        score_features(rows(7, 0), rows(40, 1), JEDI)


def test_float64_features_are_compared_in_float64(tmp_path: Path) -> None:
    # The sets differ in digits that float32 does not have.
    fake, real = (1 + 1e-9 * rows(40, seed, shift).double() for seed, shift in ((0, 5.0), (1, 0.0)))
    record = score_features(fake, real, JEDI).to_dict()
    assert record["scores"]["jedi"]["value"] == jedi(fake, real) > 0
    assert record["features"]["dtype"] == "float64"
    assert record["environment"]["dtype"] == "float64 features, float64 distances"
    numpy.save(tmp_path / "fake.npy", fake.numpy())
    assert torch.equal(read_features(tmp_path / "fake.npy"), fake)
    halves = score_features(rows(40, 0).half(), rows(40, 1).half(), JEDI)
    assert halves.features is not None
    assert halves.features["dtype"] == "float32"
    lists = score_features(fake.tolist(), real.numpy(), JEDI)
    assert lists.features == record["features"]


@pytest.mark.parametrize("size", [1e160, 1e-160])
def test_given_features_out_of_range_are_refused(size: float) -> None:
    with pytest.raises(UserError, match="generated features"):
        score_features(size * rows(40, 0).double(), rows(40, 1).double(), JEDI)
