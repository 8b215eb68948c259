"""Evaluation records become tables."""

from typing import Any

from vidgan.evaluation.record_types import Record
from vidgan.report.page import run_page
from vidgan.report.scores import table_of_record


def record(created: str, step: int | None = 40) -> dict[str, Any]:
    return {
        "schema": 2,
        "created": created,
        "protocol": {"id": "own-c3d"},
        "counts": {"n": 96, "generated": 512, "heldout": 100, "train": 800},
        "data": {"frames": 8, "height": 16, "width": 16, "hash": "aaaa"},
        "generator": {"step": step},
        "scores": {
            "frechet_distance": {
                "value": 12.5,
                "spread": 0.5,
                "better": "lower",
                "real": 3.25,
                "floor": 2.75,
                "controls": {"shuffled": 40.5},
            }
        },
        "agreement": {
            "generated": {"joint": 0.75, "object": 0.8, "motion": None},
            "heldout": {"joint": 0.95, "object": 0.97, "motion": None},
        },
        "memorisation": {"pixels": {"generated": 0.5, "heldout": 0.625, "ratio": 0.8}},
        "sentence": "own classifier, acc=0.95, not comparable with published scores",
    }


def test_a_record_becomes_a_table_with_reference_floor_and_controls() -> None:
    table = table_of_record(Record.from_dict(record("2024-01-01")))
    assert table["title"] == "Checkpoint of step 40"
    assert table["protocol"] == "own-c3d"
    assert (table["num_generated"], table["num_real"], table["num_per_set"]) == (512, 100, 96)
    assert table["note"].endswith("not comparable with published scores")
    assert [(r["metric"], r.get("value"), r.get("real")) for r in table["rows"]] == [
        ("Frechet distance", 12.5, 3.25),
        ("Judged as the asked class", 0.75, 0.95),
        ("Judged as the asked object", 0.8, 0.97),
        ("Distance to the nearest training clip (pixels)", 0.5, 0.625),
    ]
    assert table["rows"][0]["floor"] == 2.75
    assert table["rows"][0]["controls"] == {"shuffled": 40.5}
    html = run_page({"scores": [table]})
    assert "512 generated and 100 real clips, compared in sets of 96" in html
    assert "<b>80.0 %</b>" in html


def test_records_without_a_judge_or_a_step_have_tables_too() -> None:
    bare = record("2024-01-01", step=None) | {"agreement": None, "memorisation": {}}
    table = table_of_record(Record.from_dict(bare))
    assert table["title"] == ""
    assert len(table["rows"]) == 1
