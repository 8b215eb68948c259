"""The table of protocols: complete, frozen, renamed by any change, and refused with a reason."""

import dataclasses
import json
from typing import Any

import pytest

from vidgan.core.settings import from_dict, to_dict
from vidgan.errors import UserError
from vidgan.evaluation.checks import check_clip_shape, check_protocol
from vidgan.evaluation.metric import find_metric
from vidgan.evaluation.protocols import (
    EARLIER_METRICS,
    PROTOCOLS,
    Protocol,
    changed_protocol,
    describe_protocol,
    find_protocol,
    list_protocols,
    protocol_id,
    protocol_record,
)
from vidgan.extractors.extractor import EXTRACTORS
from vidgan.extractors.judge import ClassifierSettings

CHANGES = ClassifierSettings(task="changes")
PUBLISHED_PROCEDURES = {
    "tgan-is-9984x4-64px",
    "tgan2-is-2048x10",
    "styleganv-isv2048x10splits",
    "thesis-fid-c3d-fc6-10k-128px",
    "tgan2-fid-c3d-fc7-2048x10",
    "fvd-tf-16f",
    "fvd-styleganv-2048-16f-shuffled",
    "fvd-videogpt-256x4-16f",
    "fvd-bair-256",
    "fvd-digan-2048x10-16f",
    "fvd-tats-2048-16f",
    "kvd-tats-2048-16f",
    "fvd-magvit-10000x4-16f",
    "frame-fid-styleganv-3125x16",
    "frame-kid-styleganv-3125x16",
    "fvd-cdfvd-i3d",
    "kvd-i3d-poly3",
    "dvdgan-fid-k600-avgpool",
    "dvdgan-is-k600",
    "frame-fid-tf",
    "frame-fid-clean",
    "jedi-vjepa-5000",
    "cdfvd-videomae-ssv2g",
    "prediction",
}
OWN = {"own-c3d", "own-c3d-is", "own-c3d-fid", "own-c3d-kid", "own-c3d-prdc", "stswd"}


def test_records_made_before_a_protocol_got_more_metrics_keep_its_name() -> None:
    assert EARLIER_METRICS["own-c3d"][-1] == (
        "inception_score",
        "frechet_distance",
        "space_time_swd",
    )
    cases = [(name, metrics) for name, lists in EARLIER_METRICS.items() for metrics in lists]
    for name, metrics in cases:
        earlier = dataclasses.replace(PROTOCOLS[name], metrics=metrics, summary="as it was")
        assert protocol_id(earlier) == name
        assert set(metrics) < set(PROTOCOLS[name].metrics)
        changed = dataclasses.replace(earlier, num_clips=40)
        assert protocol_id(changed).startswith("custom:")


def test_the_table_is_complete() -> None:
    assert set(PROTOCOLS) >= PUBLISHED_PROCEDURES | OWN | {"random-c3d-fid"}
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == protocol_id(protocol) == name
        assert protocol.summary
        assert len(protocol.summary) <= 90
        assert protocol.source or not (protocol.is_published or protocol.extractor == "given")
    assert [name for name, _ in list_protocols()] == list(PROTOCOLS)


def test_counts_and_networks_are_those_of_the_published_procedures() -> None:
    found = {
        name: (p.num_clips, p.set_size, p.num_clips // p.set_size, p.splits, p.log_guard)
        for name, p in PROTOCOLS.items()
        if name.endswith(("64px", "is-2048x10", "10splits"))
    }
    assert found == {
        "tgan-is-9984x4-64px": (4 * 9984, 9984, 4, 1, 1e-7),
        "tgan2-is-2048x10": (20_480, 2048, 10, 1, 1e-20),
        "styleganv-isv2048x10splits": (2048, 2048, 1, 10, 0.0),
    }
    networks = {name: p.network.name for name, p in PROTOCOLS.items() if p.network}
    assert networks["tgan-is-9984x4-64px"] == "c3d-tgan-fc6"
    assert networks["fvd-tf-16f"] == "i3d-tf"
    cropped = {name for name, network in networks.items() if network == "i3d-crop"}
    assert cropped == {"fvd-videogpt-256x4-16f", "fvd-digan-2048x10-16f", "kvd-i3d-poly3"}
    stretched = {"fvd-cdfvd-i3d", "fvd-tats-2048-16f", "kvd-tats-2048-16f"}
    assert {n for n, network in networks.items() if network == "i3d-stretch-pytorch"} == stretched
    down = {name for name, p in PROTOCOLS.items() if p.rounding == "down"}
    assert down == cropped | stretched - {"fvd-cdfvd-i3d"}
    videogpt, bair = PROTOCOLS["fvd-videogpt-256x4-16f"], PROTOCOLS["fvd-bair-256"]
    assert (videogpt.set_size, videogpt.reference_size, videogpt.max_groups) == (256, 256, 4)
    assert (bair.set_size, bair.reference_size, bair.reference_split) == (25_600, 256, "heldout")
    kid = PROTOCOLS["frame-kid-styleganv-3125x16"]
    assert (kid.kernel.subsets, kid.kernel.subset_size, kid.kernel.scale) == (100, 1000, 1.0)
    assert PROTOCOLS["fvd-styleganv-2048-128f-s8-shuffled"].frame_step == 8
    divisors = {name: p.covariance_divisor for name, p in PROTOCOLS.items()}
    assert divisors["fvd-cdfvd-i3d"] == divisors["fvd-styleganv-2048-16f-shuffled"] == "n"
    assert divisors["fvd-tf-16f"] == divisors["own-c3d-fid"] == "n-1"
    assert PROTOCOLS["kvd-i3d-poly3"].kernel.kernel == "polynomial-3"
    assert not PROTOCOLS["tgan2-is-2048x10"].quantise


def test_whole_references_are_whole() -> None:
    whole = {name for name, p in PROTOCOLS.items() if p.reference_rule == "whole split"}
    assert whole == {
        *("tgan2-fid-c3d-fc7-2048x10", "dvdgan-fid-k600-avgpool", "fvd-cdfvd-i3d"),
        *("frame-fid-styleganv-3125x16", "frame-kid-styleganv-3125x16"),
        *("fvd-magvit-10000x4-16f", "fvd-videogpt-256x4-16f", "fvd-bair-256"),
    }
    for name in whole:
        p = PROTOCOLS[name]
        assert p.max_train_clips == 0
        assert p.reference_size == (256 if p.reference_split == "heldout" else 0)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_record_gives_the_protocol_back(name: str) -> None:
    record = json.loads(json.dumps(protocol_record(PROTOCOLS[name])))
    assert record == protocol_record(PROTOCOLS[name])
    assert record.pop("id") == name
    assert from_dict(Protocol, record, "the record") == PROTOCOLS[name]
    assert protocol_id(from_dict(Protocol, to_dict(PROTOCOLS[name]), "it")) == name


def test_words_change_a_protocol() -> None:
    found = changed_protocol("own-c3d-kid", ["num_clips=64", "kernel.subsets=10"])
    assert (found.num_clips, found.kernel.subsets) == (64, 10)
    assert protocol_id(found).startswith("custom:")
    assert changed_protocol("own-c3d", []) is not None
    assert protocol_id(changed_protocol("own-c3d", ["num_clips=512"])) == "own-c3d"
    with pytest.raises(UserError, match="no setting num_clip; did you mean num_clips"):
        changed_protocol("own-c3d", ["num_clip=64"])
    with pytest.raises(UserError, match="num_clips"):
        changed_protocol("own-c3d", ["num_clips=many"])


def test_a_sheet_shows_every_field() -> None:
    sheet = describe_protocol("fvd-tf-16f")
    assert sheet.startswith("fvd-tf-16f: FVD as the reference script")
    for field in dataclasses.fields(Protocol):
        assert field.name in ("name", "summary") or f"\n  {field.name}" in sheet
    assert "bilinear-tf1" in sheet
    assert describe_protocol(changed_protocol("stswd", ["seed=1"][:0])).startswith("stswd")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"extractor": "vgg"}, "no extractor 'vgg'"),
        ({"extractor": "i3d-tf"}, "no extractor 'i3d-tf'"),
        ({"network": EXTRACTORS["i3d-tf"]}, "no extractor None"),
        ({"metrics": ("fvmd",)}, "no metric fvmd"),
        ({"extractor": "given"}, "space_time_swd needs clips, and the extractor given has"),
        ({"metrics": ("jedi",)}, "jedi needs features, and there is no extractor"),
        (
            {"metrics": ("inception_score",), "extractor": "own-ssl", "classifier": CHANGES},
            "inception_score needs probabilities of classes, and own-ssl gives none",
        ),
        ({"extractor": "own-ssl"}, "is a judge of changes, and classifier.task is classes"),
        ({"metrics": ()}, "there are no metrics"),
        ({"log_guard": 0.1}, r"log_guard must lie in \[0, 0.001\), got 0.1"),
        ({"splits": 0}, "must be at least 1"),
        ({"frame_step": 0}, "frame_step must be at least 1"),
        ({"interval_draws": -1}, "must not be negative"),
        ({"reference_rule": "whole split"}, "needs max_train_clips=0"),
        ({"max_train_clips": -1}, "max_train_clips must not be negative"),
        ({"reference_split": "heldout", "extractor": "own-c3d"}, "the judge own-c3d has seen"),
        ({"rounding": "down", "quantise": False, "extractor": "own-c3d"}, "rounding=down has"),
        ({"set_size": 513}, "set_size=513 is more than num_clips=512"),
    ],
)
def test_protocols_that_make_no_sense_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"protocol mine: .*{said}"):
        Protocol(**{"name": "mine", "extractor": None, "metrics": ("space_time_swd",), **fields})


def test_what_a_protocol_cannot_compare_is_refused_before_anything_is_made(tmp_path: Any) -> None:
    with pytest.raises(
        UserError,
        match=r"needs the published weights i3d-k400, .*i3d-k400.safetensors.*weights list",
    ):
        check_protocol(find_protocol("fvd-tf-16f"), tmp_path)
    (tmp_path / "c3d-ucf101.safetensors").touch()
    with pytest.raises(UserError, match="needs the published weights c3d-mean"):
        check_protocol(find_protocol("tgan2-is-2048x10"), tmp_path)
    (tmp_path / "c3d-mean.safetensors").touch()
    check_protocol(find_protocol("tgan2-is-2048x10"), tmp_path)
    with pytest.raises(UserError, match="use vidgan predict"):
        check_protocol(find_protocol("prediction"))
    with pytest.raises(UserError, match=r"V-JEPA.*score_features"):
        check_protocol(find_protocol("jedi-vjepa-5000"))
    check_clip_shape(find_protocol("tgan-is-9984x4-64px"), (3, 16, 64, 64))
    with pytest.raises(UserError, match="clips of 16 frames and these have 8"):
        check_clip_shape(find_protocol("fvd-tf-16f"), (3, 8, 64, 64))
    with pytest.raises(UserError, match="clips of 64x64 pixels and these have 64x32"):
        check_clip_shape(find_protocol("tgan-is-9984x4-64px"), (3, 16, 64, 32))
    with pytest.raises(UserError, match="'fvd'; vidgan evaluate --list names them all"):
        find_protocol("fvd")
    assert all(find_metric(key).title for p in PROTOCOLS.values() for key in p.metrics)
