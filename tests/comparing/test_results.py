"""Comparisons: which scores may share a column, what rows say, and every form of the result."""

import copy
import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vidgan.cli.main import run as run_cli
from vidgan.comparing.results import (
    TRAINED_ON,
    compare,
    compare_results,
    deviations,
    without_common_device,
    write_comparison,
)
from vidgan.comparing.systems import Result, label_systems
from vidgan.errors import UserError
from vidgan.evaluation.protocols import changed_protocol, find_protocol, protocol_record
from vidgan.evaluation.record_types import Record
from vidgan.models import list_models
from vidgan.report.comparison import (
    Row,
    comparison_csv,
    comparison_latex,
    comparison_markdown,
    comparison_page,
)
from vidgan.training.presets import load_config, save_config
from vidgan.training.run_folder import device_of

RECORD: dict[str, Any] = {
    "schema": 2,
    "created": "2026-01-01T00:00:00+00:00",
    "protocol": {"id": "own-c3d"},
    "counts": {"n": 96, "generated": 512, "heldout": 100, "train": 800},
    "data": {"frames": 8, "height": 16, "width": 16, "hash": "aaaa", "classes": list("abcd")},
    "judge": {
        "extractor": "own-c3d",
        "hash": "jjjj",
        "passed": True,
        "accuracy": {"joint": 0.95},
        "chance": 0.25,
    },
    "generator": {"step": 40},
    "scores": {
        "frechet_distance": {"value": 12.0, "better": "lower", "real": 3.25, "floor": 2.75},
        "inception_score": {"value": 9.0, "better": "higher", "real": 15.5, "floor": 0.1},
    },
    "agreement": {
        "generated": {"joint": 0.75, "object": None},
        "heldout": {"joint": 1.0, "object": None},
    },
    "memorisation": {"thumbnails": {"generated": 1.0, "heldout": 0.8, "ratio": 1.25}},
    "warnings": [],
    "sentence": "own classifier, acc=0.95, not comparable with published scores",
}
CONTROLS = {"noise": 700.0, "mean clip": 900.0, "shuffled": 240.0}


def whole(name: str = "own-c3d") -> dict[str, Any]:
    """The record as a file holds it, with whatever an evaluation by this protocol tells."""
    protocol = find_protocol(name)
    scores = {
        key: {**score, "n": 96, "values": [score["value"]] * 4, "spread": 0.0, "controls": CONTROLS}
        for key, score in RECORD["scores"].items()
        if key in protocol.metrics
    }
    stswd = {**scores.get("frechet_distance", {}), "value": 12.0, "values": [12.0] * 4, "n": 96}
    stswd |= {"better": "lower", "real": 3.25, "floor": 2.75, "spread": 0.0, "controls": CONTROLS}
    scores["space_time_swd"] = stswd
    found = {**copy.deepcopy(RECORD), "protocol": protocol_record(protocol), "scores": scores}
    found["seeds"] = {"evaluation": 0, "judge": 0}
    if protocol.extractor is None:
        found |= {"judge": None, "agreement": None}
    return found


SETTINGS: dict[str, Any] = {
    "model": {"name": "pvgan", "channels": [8, 8]},
    "loss": {"name": "swgan"},
    "training": {"total_clips": 100},
    "data": {"path": "clips", "workers": 0},
    "seed": 0,
    "run": "runs/a",
    "preset": "",
}


def result(
    seed: int = 0, distance: float = 12.0, changes: dict[str, Any] | None = None, **settings: Any
) -> Result:
    record = copy.deepcopy(RECORD) | (changes or {})
    record["scores"]["frechet_distance"]["value"] = distance
    return Result(
        record=Record.from_dict(record),
        settings={**copy.deepcopy(SETTINGS), "seed": seed, **settings},
    )


def cells(comparison: Any, table: int = 0, row: int = 0) -> dict[str, tuple[float, ...]]:
    found = comparison.tables[table]
    return {
        column.title: cell.values
        for column, cell in zip(found.columns, found.rows[row].cells, strict=True)
    }


def test_seeds_of_one_system_share_a_row_with_their_mean_and_range() -> None:
    comparison = compare_results([result(0, 12.0), result(1, 18.0, run="runs/b")], [], "two")
    (table,) = comparison.tables
    assert [row.label for row in table.rows] == ["pvgan, swgan"]
    assert cells(comparison)["Frechet distance"] == (12.0, 18.0)
    assert table.rows[0].cells[0].text() == "15 (12 to 18)"
    assert table.rows[0].facts["seeds"] == "0, 1"
    reference = table.columns[0]
    assert (reference.real, reference.floor) == (3.25, 2.75)


def test_the_score_that_chooses_checkpoints_is_no_part_of_a_system() -> None:
    runs = [
        result(0, best={"metric": "overall"}),
        result(1, 18.0, best={"metric": "overall_spread"}),
    ]
    (table,) = compare_results(runs, [], "two").tables
    assert [row.facts["seeds"] for row in table.rows] == ["0, 1"]


def test_two_runs_of_one_seed_are_one_seed() -> None:
    results = [
        of_generator(seed, distance, source=f"runs/{seed}-{distance}", sha256=f"{distance}")
        for seed, distance in ((0, 12.0), (1, 18.0), (0, 90.0))
    ]
    comparison = compare_results(results, [], "three runs")
    (row,) = comparison.tables[0].rows
    assert cells(comparison)["Frechet distance"] == (12.0, 18.0)
    assert row.facts["seeds"] == "0, 1"
    said = "runs/0-12.0 and runs/0-90.0 were trained with the same seed 0: they count as one, and"
    assert any(remark.startswith(said) for remark in row.remarks)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("protocol", "id"), "custom:1234", "protocol custom:1234 instead of own-c3d"),
        (("counts", "n"), 48, "clips a set 48 instead of 96"),
        (("counts", "generated"), 256, "generated clips 256 instead of 512"),
        (("counts", "heldout"), 99, "held-out clips 99 instead of 100"),
        (("data", "hash"), "bbbb", "real clips bbbb instead of aaaa"),
        (("judge", "hash"), "kkkk", "judge kkkk instead of jjjj"),
        (("data", "frames"), 16, "clip 16x16x16 instead of 8x16x16"),
        (("extractor",), {"sha256": "ffff"}, "weights ffff instead of none"),
        (("extractor",), {"sha256": "ffff", "fingerprint": "99"}, "weights 99 instead of none"),
        (("perceptual",), {"fingerprint": "eeee"}, "lpips eeee instead of none"),
        (("generator", "given_frames"), 4, "given 4 frames instead of none"),
        (("seeds",), {"evaluation": 3}, "seed of the evaluation 3 instead of none"),
    ],
)
def test_unlike_scores_never_share_a_column(path: tuple[str, ...], value: Any, named: str) -> None:
    changed = copy.deepcopy(RECORD)
    place: Any = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    other = result(1, 18.0, changed)
    comparison = compare_results([result(0, 12.0), other], [], "unlike")
    assert len(comparison.tables) == 2
    assert cells(comparison, 0)["Frechet distance"] == (12.0,)
    assert cells(comparison, 1)["Frechet distance"] == (18.0,)
    assert comparison.tables[0].differs == ()
    assert comparison.tables[1].differs == (named,)
    assert f"Not in one column with the first table: {named}." in comparison_markdown(comparison)


def test_what_was_given_decides_the_column() -> None:
    grey, holes = (
        result(seed, 12.0, {"generator": {"step": 40, "given_frames": 8, "given": given}})
        for seed, given in enumerate(("grey clips", "clips with static box"))
    )
    _, second = compare_results([grey, holes], [], "given").tables
    assert second.differs == ("given clips with static box instead of grey clips",)


def test_systems_of_one_model_and_loss_are_told_apart_by_what_differs() -> None:
    wide = result(0, model={"name": "pvgan", "channels": [16, 8]})
    other = result(0, loss={"name": "wgan-gp"})
    again = result(5, data={"path": "elsewhere", "workers": 3})
    assert label_systems([result(0), wide, other, again]) == [
        "pvgan, swgan (model.channels=[8, 8])",
        "pvgan, swgan (model.channels=[16, 8])",
        "pvgan, wgan-gp",
        "pvgan, swgan (model.channels=[8, 8])",
    ]


def test_a_warning_is_one_footnote_with_the_share_of_seeds() -> None:
    warned = {"warnings": ["the generator has not learned the data"]}
    comparison = compare_results([result(0), result(1, 13.0, changes=warned)], [], "warned")
    (table,) = comparison.tables
    assert table.notes == ["the generator has not learned the data (pvgan, swgan: 1 of 2 seeds)"]
    assert table.marks(table.rows[0]) == "1"
    assert "<sup>1</sup> the generator has not learned" in comparison_page(comparison)


def test_warnings_of_one_kind_are_one_note_of_all_systems() -> None:
    def warned(seed: int, loss: str, *warnings: str) -> Result:
        distance = 10.0 + seed + len(loss)
        return result(seed, distance, {"warnings": list(warnings)}, loss={"name": loss})

    comparison = compare_results(
        [
            warned(0, "swgan", "clips are 9.5 and 12%", "no clip where that is up (3%): lost"),
            warned(1, "swgan", "clips are 1,204 and 12%"),
            warned(0, "wgan-gp", "clips are 30 and 12%", "nothing moves"),
            warned(
                1,
                "wgan-gp",
                "clips are 9.5 and 12%",
                "no clip where that is a (1%): lost",
            ),
        ],
        [],
        "warned",
    )
    (table,) = comparison.tables
    assert table.notes == [
        "clips are 9.5 to 1,204 and 12%",
        (
            "no clip where that is a (1%), up (3%): lost (pvgan, swgan: 1 of 2 seeds; "
            "pvgan, wgan-gp: 1 of 2 seeds)"
        ),
        "nothing moves (pvgan, wgan-gp: 1 of 2 seeds)",
    ]
    assert [table.marks(row) for row in table.rows] == ["1, 2", "1, 3, 2"]
    # In files each row has its own numbers.
    assert table.rows[1].remarks[0] == "clips are 9.5 to 30 and 12%"


def of_generator(seed: int, distance: float, *, source: str, **facts: Any) -> Result:
    """A result of a generator that is named by hash."""
    changes = {"generator": {"step": 40, **facts}}
    return replace(result(seed, distance, changes), source=source)


def test_one_generator_counts_once_however_its_file_was_written() -> None:
    kept = of_generator(0, 12.0, source="a", sha256="a", clips_hash="c")
    again = of_generator(1, 12.0, source="b", sha256="b", clips_hash="c")
    unlike = of_generator(2, 18.0, source="d", sha256="d", clips_hash="other")
    (table,) = compare_results([kept, unlike, again], [], "rewritten").tables
    assert table.rows[0].cells[0].values == (12.0, 18.0)
    said = "a and b made the same clips, so they hold one generator, which counts once"
    assert table.notes == [said]
    # A record that shares its file with one and its clips with another joins all three.
    joint = of_generator(3, 12.0, source="j", sha256="d", clips_hash="c")
    (table,) = compare_results([kept, unlike, again, joint], [], "joined").tables
    assert table.rows[0].cells[0].values == (12.0,)
    assert len(table.notes) == 3


def test_generators_with_the_very_same_scores_are_looked_at() -> None:
    results = [
        of_generator(seed, 12.0, source=name, sha256=name, clips_hash=name)
        for seed, name in enumerate("ab")
    ]
    (table,) = compare_results(results, [], "twins").tables
    assert table.rows[0].cells[0].values == (12.0, 12.0)
    assert table.notes == [
        "a and b have scores that are equal to the last bit, as those of one generator are"
    ]


def test_of_two_records_that_disagree_the_sealed_one_is_kept_and_both_values_are_told() -> None:
    edited = of_generator(0, 90.0, source="a", sha256="s", clips_hash="c")
    whole = of_generator(0, 1012.0, source="b", sha256="s", clips_hash="c")
    # More may be said against a record with its seal than against one whose seal is broken.
    edited = replace(edited, is_sealed=False, marks=("a: its seal is broken",))
    whole = replace(whole, marks=("b: its list of classes is odd", "b: and so is its step"))
    for given in ([edited, whole], [whole, edited]):
        (table,) = compare_results(given, [], "two").tables
        assert table.rows[0].cells[0].values == (1012.0,)
        assert table.notes[-1] == (
            "b and a hold the same generator, which counts once, though they do not agree on "
            "Frechet distance (1012 and 90): b is kept, since the seal of the other is broken or "
            "missing"
        )
    first = replace(edited, is_sealed=True, marks=())
    (table,) = compare_results([first, replace(whole, marks=())], [], "both").tables
    assert table.rows[0].cells[0].values == (90.0,)
    assert table.notes[-1].endswith("(90 and 1012): a is kept, since it was given first")


def test_every_form_holds_the_numbers_and_is_well_formed() -> None:
    name = "50% <b>wide</b> & x_y | z"
    named = Result(record=Record.from_dict(RECORD), settings=SETTINGS, label=name)
    comparison = compare_results([named], ["run b was never evaluated"], "forms", seeds="0")

    page = comparison_page(comparison)
    assert "<b>wide</b>" not in page
    assert "&lt;b&gt;wide" in page
    assert "75.0 %" in page
    assert "run b was never evaluated" in page
    assert 'src="http' not in page
    # Published figures stand apart, below ours.
    assert page.index("14.56") > page.index("75.0 %")

    line = next(csv.DictReader(io.StringIO(comparison_csv(comparison))))
    assert line["system"] == name
    assert (line["mean"], line["real"], line["floor"]) == ("12.0", "3.25", "2.75")
    assert (line["clips_a_set"], line["steps"], line["device_hours_a_run"]) == ("96", "40", "")

    latex = comparison_latex(comparison)
    assert r"50\% \textless{}b\textgreater{}wide\textless{}/b\textgreater{} \& x\_y | z" in latex
    scores, facts = latex.split(r"\end{tabular}")[:2]
    for part, columns in ((scores, 5), (facts, 7)):
        rows = [row for row in part.splitlines() if row.endswith(r"\\")]
        assert {row.replace(r"\&", "").count("&") for row in rows} == {columns - 1}

    rows = [row for row in comparison_markdown(comparison).splitlines() if row.startswith("| ")]
    assert r"x\_y \| z" in "".join(rows)


def test_records_are_read_from_files_and_other_files_are_refused(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(whole()))
    bad.write_text('{"a": 1}')
    assert compare([good]).tables[0].rows[0].label == "good"
    with pytest.raises(UserError, match=r"bad\.json is not a record of vidgan evaluate"):
        compare([bad])
    with pytest.raises(UserError, match="is not a run folder"):
        compare([tmp_path])
    with pytest.raises(UserError, match="nothing to compare"):
        compare([])
    with pytest.raises(UserError, match=r"written as \.html"):
        write_comparison(compare([good]), tmp_path / "table.pdf")


def test_the_verb_prints_the_table_and_names_what_cannot_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_text(json.dumps(whole()))
    second.write_text(json.dumps(whole("stswd")))
    out = tmp_path / "c.html"
    assert run_cli(["compare", str(first), str(second), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "| first |" in said.out
    assert "table 2 cannot share columns with table 1: protocol stswd instead of own" in said.err
    assert out.read_text().startswith("<!DOCTYPE html>")
    # As runs/* finds the folder of a suite beside runs.
    (tmp_path / "suite").mkdir()
    assert run_cli(["compare", str(first), str(tmp_path / "suite"), "--out", str(out)]) == 0
    assert "left out: " in (said := capsys.readouterr().err)
    assert "suite is not a run folder: it holds no config.yaml" in said
    assert run_cli(["compare", str(first), str(tmp_path / "nowhere"), "--out", str(out)]) == 2


def test_the_device_is_told_where_hours_were_spent_on_several(tmp_path: Path) -> None:
    facts = {"seeds": "0", TRAINED_ON: ""}
    assert device_of(tmp_path) is None
    (tmp_path / "environment.json").write_text('{"device_name": "A GPU", "processes": 2}')
    assert device_of(tmp_path) == "2 x A GPU"
    rows = [Row(label=name, facts={**facts, TRAINED_ON: name}, cells=()) for name in "ab"]
    assert [row.facts[TRAINED_ON] for row in without_common_device(rows)] == ["a", "b"]
    assert all(TRAINED_ON not in row.facts for row in without_common_device(rows[:1]))


def test_controls_stand_above_the_systems_in_every_form() -> None:
    scores = copy.deepcopy(RECORD["scores"])
    controls = {"noise": 700.0, "mean clip": 900.0, "shuffled": 240.0, "frozen": 350.0}
    scores["frechet_distance"]["controls"] = controls
    controlled = result(0, changes={"scores": scores})
    comparison = compare_results([controlled], [], "controlled")
    (table,) = comparison.tables
    assert [title for title, _ in table.references][2:] == [
        "control: noise",
        "control: mean clip",
        "control: shuffled",
    ]
    assert table.references[2][1][:2] == [700.0, None]
    assert "| control: shuffled | 240 |" in comparison_markdown(comparison)
    page = comparison_page(comparison)
    assert page.index("Floor: real against real") < page.index("Control: mean clip")
    assert page.index("Control: mean clip") < page.index("pvgan, swgan")
    latex = comparison_latex(comparison).split(r"\hline")
    assert latex[2].strip().endswith(r"control: shuffled & 240 &  &  &  \\")


def test_a_custom_protocol_says_what_it_was_made_from() -> None:
    protocol = protocol_record(changed_protocol("own-c3d", ["num_clips=500"]))
    comparison = compare_results([result(0, changes={"protocol": protocol})], [], "custom")
    (table,) = comparison.tables
    assert table.basis["Made from"] == "own-c3d with num_clips=500"
    assert "Made from: own-c3d with num_clips=500" in comparison_page(comparison)


def test_every_model_says_where_it_departs_from_its_source() -> None:
    for model in list_models():
        found = deviations(model)
        assert len(found) > 1, model
        assert all(not item.startswith("*") and "\n" not in item for item in found)
    assert deviations("tgan")[2] == "Clips lie in [-1, 1]; the authors scale to (x - 128) / 128."


def test_scores_count_where_the_package_of_the_model_is_missing(tmp_path: Path) -> None:
    save_config(tmp_path, load_config("cpu/tgan-motions-16x8", ["data=x", "seed=3"]))
    text = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("name: tgan", "name: gone-model"))
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "a.json").write_text(json.dumps(whole()))
    (row,) = compare([tmp_path]).tables[0].rows
    assert row.label.startswith("gone-model, ")
    assert row.facts["seeds"] == "3"
    assert deviations("gone-model")[0].startswith("not known here: there is no model 'gone-model'")
    (tmp_path / "config.yaml").write_text(text.replace("seed: 3", "seed: three"))
    with pytest.raises(UserError, match="seed must be a whole number"):
        compare([tmp_path])
