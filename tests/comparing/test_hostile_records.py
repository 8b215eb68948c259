"""Records in which any value may be anything: shown, compared, verified or refused."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_files import ODD
from test_results import whole

from vidgan.comparing.results import compare
from vidgan.errors import UserError
from vidgan.evaluation.record_checks import read_run_records
from vidgan.evaluation.record_types import seal_of
from vidgan.evaluation.verify import verify
from vidgan.report.comparison import FORMS
from vidgan.report.scores import table_of_record

WHOLE: dict[str, Any] = {
    **whole(),
    "inputs": {
        "source": {"kind": "folder", "path": "clips"},
        "data": {"kind": "folder", "settings": {"path": "clips"}, "levels": [[4, 8]], "seed": 0},
        "options": {"device": "cpu", "threads": 2},
        "weights": {},
    },
    "diversity": {
        "ratio": 0.5,
        "generated": 1.0,
        "heldout": 2.0,
        "lowest": {"ratio": 0.1, "class": "a"},
    },
    "environment": {"vidgan": "0"},
    "mask": None,
    "perceptual": None,
}


def places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from places(inner, (*path, name))


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    record = copy.deepcopy(WHOLE)
    inner = record
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return record


PLACES = list(places(WHOLE))


def test_the_whole_record_is_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(WHOLE))
    assert len(compare([tmp_path / "a.json"]).tables) == 1
    assert len(PLACES) * len(ODD) > 900


@pytest.mark.parametrize("path", PLACES, ids=".".join)
def test_any_value_may_be_anything(path: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "evals").mkdir()
    for value in ODD:
        record = changed(path, value)
        file = tmp_path / "evals" / "a.json"
        file.write_text(json.dumps(record))
        for use in (_compare, _tabulate, _verify):
            try:
                use(file, record)
            except UserError as error:
                _is_sentence(error)


def _compare(file: Path, record: dict[str, Any]) -> None:
    comparison = compare([file])
    for form in FORMS.values():
        form(comparison)


def _tabulate(file: Path, record: dict[str, Any]) -> None:
    for found in read_run_records(file.parent.parent)[0]:
        table_of_record(found.record, found.marks)


def _verify(file: Path, record: dict[str, Any]) -> None:
    try:
        sealed = record | {"seal": seal_of(record)}
    except ValueError:
        # Numbers that JSON does not have cannot be sealed.
        return
    file.write_text(json.dumps(sealed))
    verify(file)


def _is_sentence(error: UserError) -> None:
    assert len(str(error)) < 1000
