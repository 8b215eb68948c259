"""Records as types: what is written is read back, and what does not fit is refused by name."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vidgan.errors import UserError
from vidgan.evaluation.record import read_record
from vidgan.evaluation.record_types import Record, broken_seals

PLAIN: dict[str, Any] = {
    "schema": 2,
    "created": "2026-01-01T00:00:00+00:00",
    "protocol": {"id": "stswd", "name": "stswd"},
    "counts": {"n": 8, "generated": 16, "train": 40},
    "scores": {
        "space_time_swd": {
            "value": 30.5,
            "better": "lower",
            "n": 8,
            "real": 20.0,
            "floor": 19.0,
            "spread": None,
            "controls": {"noise": 500.0},
            "motion_sensitivity": 0.25,
        }
    },
    "data": {"frames": 4, "height": 16, "width": 16, "hash": "aaaa"},
    "generator": {"source": "file", "step": 7, "file": "ema.safetensors", "truncation": None},
    "seeds": {"evaluation": 0, "judge": 0},
    "warnings": ["few clips"],
    "sentence": "weight-free",
}


def edited(path: str, value: Any) -> dict[str, Any]:
    """The record with another value at a dotted place; `...` takes it away."""
    found = copy.deepcopy(PLAIN)
    *parents, last = path.split(".")
    place: Any = found
    for name in parents:
        place = place[name]
    place[last] = value
    if value is ...:
        del place[last]
    return found


def test_plain_values_come_back() -> None:
    record = Record.from_dict(PLAIN)
    assert (record.protocol_id, record.generator.step, record.counts.heldout) == ("stswd", 7, None)
    assert record.scores["space_time_swd"].details == {"motion_sensitivity": 0.25}
    found = record.to_dict()
    for key in ("counts", "scores", "generator", "seeds", "warnings", "protocol"):
        assert found[key] == PLAIN[key]
    assert Record.from_dict(json.loads(json.dumps(found))) == record


def test_a_record_of_the_first_schema_is_read_and_a_newer_one_refused() -> None:
    first = edited("schema", 1)
    assert Record.from_dict(first).scores == Record.from_dict(PLAIN).scores
    with pytest.raises(UserError, match=r"r\.json is a record of schema 3 and this vidgan reads 1"):
        Record.from_dict(edited("schema", 3), "r.json")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("scores", ..., "is not a record of vidgan evaluate"),
        ("schema", "two", "a record of schema 'two'"),
        ("schema", [2], r"a record of schema \[2\]"),
        ("protocol", "stswd", "protocol must be a group of settings, not 'stswd'"),
        ("protocol.id", ..., "protocol.id is missing"),
        ("protocol.id", 5, "protocol.id is missing"),
        ("counts.n", ..., "the setting counts.n is missing"),
        ("counts.n", "8", "counts.n must be a whole number, not '8'"),
        ("scores", [], r"scores must be"),
        ("scores.space_time_swd", 3.0, "scores.space_time_swd must be a group"),
        ("scores.space_time_swd.value", ..., "scores.space_time_swd.value is missing"),
        ("scores.space_time_swd.value", "low", "must be a number, not 'low'"),
        ("scores.space_time_swd.value", None, "must be a number"),
        ("scores.space_time_swd.value", float("nan"), "must be a finite number, not nan"),
        ("scores.space_time_swd.controls", {"noise": float("inf")}, "a value that is not finite"),
        ("scores.space_time_swd.better", "other", "better must be one of lower, higher"),
        ("data", 7, "data must be a group"),
        ("generator.step", "last", "generator.step must be a whole number"),
        ("warnings", "none", "warnings must be a list"),
        (
            "memorisation",
            {"a": {"generated": 1, "heldout": 1, "ratio": 1, "copies": {"share": "x"}}},
            r"see memorisation\.a\.copies\.share",
        ),
        ("sentence", ..., "the setting sentence is missing"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(path: str, value: Any, said: str) -> None:
    with pytest.raises(UserError, match=rf"^r\.json.*{said}"):
        Record.from_dict(edited(path, value), "r.json")


@pytest.mark.parametrize("values", [None, [], 3, "text", {}])
def test_other_documents_are_no_records(values: Any, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(UserError, match=r"r\.json is not a record of vidgan evaluate"):
        read_record(tmp_path / "r.json")


def test_a_seal_names_every_field_that_was_touched() -> None:
    sealed: Mapping[str, Any] = Record.from_dict(PLAIN).sealed().to_dict()
    assert broken_seals(json.loads(json.dumps(sealed))) == []
    assert broken_seals({**sealed, "warnings": []}) == ["warnings"]
    assert broken_seals({**sealed, "added": 1}) == ["added"]
    assert broken_seals({key: sealed[key] for key in sealed if key != "motion"}) == ["motion"]
