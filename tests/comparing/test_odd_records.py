"""Records that were edited, copied, cut or made up: none joins another's row, none is shown
silently, and none ends in a traceback."""

import copy
import csv
import html
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from metric_clips import CLASSES, Labelled
from test_results import whole

from vidgan.cli.main import run as run_cli
from vidgan.comparing.results import compare
from vidgan.errors import UserError
from vidgan.evaluation.clips import EvaluationOptions, evaluate_clips
from vidgan.evaluation.protocols import changed_protocol
from vidgan.evaluation.record import RECORD_BYTES, clip_list_path, save_record
from vidgan.evaluation.record_checks import read_checked_record, read_run_records
from vidgan.evaluation.record_types import seal_of
from vidgan.evaluation.score import RealData
from vidgan.extractors.judge import RealClips
from vidgan.report.comparison import FORMS, Comparison
from vidgan.sampling.storage import GENERATOR_FILE
from vidgan.training.presets import load_config, save_config

Plain = dict[str, Any]
Place = tuple[str, ...]

QUICK = [
    *("num_clips=32", "classifier.width=0.0625", "classifier.feature_dim=4"),
    *("classifier.clips_seen=64", "classifier.gate_multiple=0.01"),
]
OTHERWISE: list[Any] = [None, ..., float("nan"), -3.5, 0.01, "odd", [], {"odd": 1}, True, 10**400]
"""What any place of a record may hold instead; `...` takes it away."""


@pytest.fixture(scope="session")
def made(
    tmp_path_factory: pytest.TempPathFactory, training_shapes: Labelled, other_shapes: Labelled
) -> tuple[Path, Path]:
    """Sealed records of two systems, measured alike."""
    train, heldout = (
        RealClips(shapes.clips[:count], shapes.labels[:count], tuple(map(str, range(count))))
        for shapes, count in ((training_shapes, 96), (other_shapes, 40))
    )
    real = RealData(train, heldout, CLASSES)
    folder = tmp_path_factory.mktemp("made")
    options = EvaluationOptions(cache=folder / "judges")
    protocol = changed_protocol("own-c3d", QUICK)
    paths = []
    for name, rows in (("one", slice(120, 152)), ("two", slice(160, 192))):
        clips, labels = training_shapes.clips[rows], training_shapes.labels[rows]
        record = evaluate_clips(clips, labels, real, protocol, options)
        paths.append(save_record(record.sealed(), folder / name / "evals"))
    return paths[0], paths[1]


@pytest.fixture(scope="session")
def plain(made: tuple[Path, Path]) -> Plain:
    found: Plain = json.loads(made[0].read_text(encoding="utf-8"))
    return found


def edited(plain: Plain, place: Place, value: Any, *, seal: bool = False) -> Plain:
    """A record with another value at a place; with `seal` as a forger would leave it."""
    record = copy.deepcopy(plain)
    inner: Any = record
    for name in place[:-1]:
        inner = inner[int(name) if isinstance(inner, list) else name]
    key = int(place[-1]) if isinstance(inner, list) else place[-1]
    if value is ...:
        del inner[key]
    else:
        inner[key] = value
    if seal:
        record["seal"] = seal_of(record)
    return record


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """Every place of a record, of lists the first."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1])
    for name, inner in items:
        yield (*path, str(name))
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, str(name)))


def as_forms(comparison: Comparison) -> dict[str, str]:
    return {suffix: form(comparison) for suffix, form in FORMS.items()}


def shown(record: Plain, folder: Path, other: Path) -> Comparison | str:
    """The comparison with an untouched record, or the sentence that refuses it."""
    (folder / "odd.json").write_text(json.dumps(record), encoding="utf-8")
    try:
        return compare([other, folder / "odd.json"])
    except UserError as error:
        sentence = str(error)
        assert "odd.json" in sentence
        assert len(sentence) < 1000
        assert "\n" not in sentence
        return sentence


def rows_of(comparison: Comparison) -> list[tuple[str, tuple[str, ...]]]:
    return [(row.label, row.remarks) for table in comparison.tables for row in table.rows]


def test_untouched_records_stand_in_two_rows_without_remarks(made: tuple[Path, Path]) -> None:
    comparison = compare(made)
    (table,) = comparison.tables
    assert len({row.label for row in table.rows}) == 2
    own = [warning for row in table.rows for warning in row.remarks if ".json" in warning]
    assert own == []


def test_every_place_may_hold_anything(
    made: tuple[Path, Path], plain: Plain, tmp_path: Path
) -> None:
    count = 0
    for number, place in enumerate(places(plain)):
        value = OTHERWISE[number % len(OTHERWISE)]
        record = edited(plain, place, value)
        if record == plain or (len(place) > 2 and number % 5):
            continue
        count += 1
        found = shown(record, tmp_path, made[1])
        if isinstance(found, str):
            continue
        (remarks,) = [said for label, said in rows_of(found) if label == "odd"]
        assert any("edited" in said or "seal" in said for said in remarks), (place, value)
    assert count > 60


FORGED: list[tuple[str, Any, str]] = [
    ("scores.frechet_distance.value", 0.01, "the mean of its sets is another"),
    ("scores.frechet_distance.value", -1.0, "outside of 0 to inf"),
    ("scores.frechet_distance.value", float("nan"), "value"),
    ("scores.frechet_distance.value", "0.01", "must be a number"),
    ("scores.frechet_distance.values.0", -2.0, "outside of 0"),
    ("scores.frechet_distance.values", [], "has 0 values"),
    ("scores.frechet_distance.better", "higher", "lower is better"),
    ("scores.frechet_distance.n", 9, "counts.n"),
    ("scores.frechet_distance.real", ..., "lacks real"),
    ("scores.frechet_distance.controls", {}, "lacks noise"),
    ("scores.inception_score.floor", -1.0, ""),
    ("scores.fvd", {"value": 1.0, "better": "lower"}, "its protocol gives no scores.fvd"),
    ("scores", {}, "it holds no scores"),
    ("protocol.num_clips", 10_000, "its protocol is called"),
    ("protocol.id", "own-c3d", "its protocol is called own-c3d and has num_clips=32"),
    ("protocol.id", "my-protocol", "its protocol is called my-protocol"),
    ("protocol.name", "renamed", "there is no evaluation protocol 'renamed'"),
    ("protocol.surprise", 1, "there is no setting surprise"),
    ("protocol.metrics", ["space_time_swd"], "its protocol is called"),
    ("judge.passed", False, "judge.passed is False"),
    ("judge.accuracy.joint", 0.0, "judge.passed is True"),
    ("judge.accuracy.joint", 7.5, "not a share"),
    ("judge", None, "rest on a judge, and it names none"),
    ("judge.hash", None, "rest on a judge, and it names none"),
    ("counts.n", 0, "there cannot be"),
    ("counts.generated", 10**6, "num_clips=32"),
    ("counts.train", -5, "there cannot be"),
    ("counts.train_videos", 10**6, "cannot come from"),
    ("counts.heldout", None, "how many real clips"),
    ("data", None, "which real clips"),
    ("data.hash", "", "which real clips"),
    ("data.frames", 0, "have no pixels"),
    ("seeds.evaluation", None, "the seed of the evaluation"),
    ("agreement.generated.joint", 1.5, "not a share"),
    ("memorisation.thumbnails.ratio", 7.0, "memorisation.thumbnails.ratio is 7"),
    ("diversity.ratio", 1.0, "scores.overall_spread of value"),
    ("motion.ratio", -1.0, "below 0"),
    ("scores.kernel_distance", {}, "the setting scores.kernel_distance.value is missing"),
    ("comparable_to", ["fvd-styleganv"], "allow []"),
    ("features", {"real": "0123"}, "given features"),
    ("environment.deep", json.loads("[" * 60 + "]" * 60), "more than 32 groups"),
    # What follows from other numbers of the record.
    ("scores.frechet_distance.real", 900.0, "motion_sensitivity"),
    ("scores.frechet_distance.floor", 900.0, "scores.overall of floor"),
    ("scores.space_time_swd.controls.noise", 1.0, "motion_sensitivity"),
    ("scores.space_time_swd.controls.frozen", 1.0, "scores.overall of frozen"),
    ("scores.space_time_swd.controls.frozen", ..., "has other controls than"),
    ("scores.overall.real", 2.0, "scores.overall of real is 2.0"),
    ("scores.overall.of", ["appearance"], "scores.overall.of is ['appearance'] and not"),
    ("scores.frechet_distance.first_group.value", 77.0, "first_group is 77.0 and not"),
    ("generator.sha256", "no hash", "generator.sha256 is 'no hash', which is not a hash"),
    ("generator.clips_hash", "ABCD", "generator.clips_hash is 'ABCD', which is not a hash"),
    ("scores.inception_score.share_of_real", 1.5, "share_of_real is 1.5"),
    ("scores.appearance.interval", {"low": 2, "high": 1, "level": 0.9}, "reaches from 2 to 1"),
    ("scores.appearance.interval", {"low": "a"}, "reaches from 'a' to None"),
    ("scores.appearance.interval", {"low": 1, "high": 2, "level": 95}, "level is 95"),
    ("scores.appearance.extrapolated", {"value": 0.0}, "does not ask for"),
    # Diagnostics that no evaluation gives.
    ("agreement.generated_by_class", {CLASSES[0]: 1.0}, "its classes reach from 1 to 1"),
    ("agreement.generated.colour", 0.5, "is of 'colour', which is no class"),
    (f"agreement.generated_by_class.{CLASSES[0]}", 7.0, "not a share"),
    (f"agreement.generated_by_class.{CLASSES[0]}", "x", "agreement.generated_by_class"),
    ("agreement.heldout_by_class.other", 0.5, "is of 'other', which is no class"),
    ("agreement.heldout.joint", None, "agreement.heldout lacks joint"),
    ("agreement.shown", {"generated": {}, "heldout": {}}, "of other classes than its data"),
    ("memorisation.thumbnails.copies.share", 40, "not a share"),
    ("memorisation.thumbnails.copies.limit", -0.5, "holds a limit below 0"),
    ("memorisation.thumbnails.heldout_copies", {}, "memorisation.thumbnails.heldout_copies.share"),
    ("memorisation.thumbnails.repeats", [1], "memorisation.thumbnails.repeats"),
    ("diversity.by_class", [], "diversity.by_class"),
    ("diversity.by_class.odd", {"generated": 1, "heldout": 1, "ratio": 1}, "'odd', which is no"),
    ("diversity.lowest.ratio", 0.9, "diversity.lowest is 0.9"),
    ("motion.generated.still", 5.0, "not a share"),
    ("motion.generated.change_deviation", -1.0, "change_deviation is -1"),
    ("motion.heldout.jerk", "x", "motion.heldout.jerk"),
    ("generator.step", -3, "generator.step is -3"),
    ("generator.clips_seen", -3, "generator.clips_seen is -3"),
    ("generator.given_frames", -2, "generator.given_frames is -2"),
    ("counts.reference", 10**6, "counts.reference is 1000000, of 96 train clips"),
    ("counts.heldout", 0, ""),
    ("data.classes.0", CLASSES[1], "data.classes holds a class twice"),
    ("created", "yesterday", "which is not a time"),
    ("wall_seconds", -5.0, "wall_seconds is -5"),
    ("environment.processor", 5, "environment.processor"),
]
"""Place, value and what the sentence says that refuses it, although the seal was made again."""

MARKED: list[tuple[str, Any, str]] = [
    ("scores.inception_score.floor", 900.0, "inception_score of floor is 900"),
    ("scores.inception_score.controls.noise", 1.5, "inception_score of noise is 1.5"),
    ("memorisation.thumbnails.copies.limit", 1.0, "its limit of copies (thumbnails) is 1 and"),
    ("memorisation.thumbnails.copies.share", 0.9, "it lacks the warning that its scores call for"),
    (
        "memorisation.thumbnails.repeats",
        {"share": 0.8, "real": 0.0, "limit": 0.02},
        "80.0% of the generated clips are copies of another generated clip",
    ),
    ("memorisation", {}, "it lacks its comparison with the training clips"),
    ("motion", None, "it lacks its comparison of motion"),
    ("generator.sha256", "a" * 64, "it lacks its list of clips"),
    ("inputs", {}, "it lacks its list of clips"),
    (
        "memorisation.thumbnail",
        {"generated": 1.0, "heldout": 1.0, "ratio": 1.0},
        "a space that this vidgan does not know: thumbnail",
    ),
    ("motion.generated.still", 1.0, "100% of the generated clips stand still"),
    ("sentence", "comparable with everything", "the true ending is: own classifier"),
    ("surprise", 1, "does not know: surprise"),
    ("counts.surprise", 1, "does not know: counts.surprise"),
    ("generator.clips_hash", None, "no hash of a generator"),
]
APART: list[tuple[str, Any, str]] = [
    ("generator.truncation", 0.7, "truncation 0.7 instead of none"),
    ("generator.weights", "raw", "weights of the generator raw instead of none"),
    ("counts.reference", 50, "reference clips 50 instead of"),
    ("judge.hash", "0123456789abcdef", "judge 0123456789abcdef instead of"),
    ("data.hash", "0123456789abcdef", "real clips 0123456789abcdef instead of"),
    ("seeds.evaluation", 5, "seed of the evaluation 5 instead of 0"),
    ("mask", [0, 0, 4, 4], "hidden box [0, 0, 4, 4] instead of none"),
]


@pytest.mark.parametrize(("place", "value", "said"), FORGED, ids=str)
def test_what_contradicts_itself_is_refused_by_name(
    place: str, value: Any, said: str, made: tuple[Path, Path], plain: Plain, tmp_path: Path
) -> None:
    seal = value == value  # What JSON does not have cannot be sealed.
    found = shown(edited(plain, tuple(place.split(".")), value, seal=seal), tmp_path, made[1])
    if said:
        assert isinstance(found, str)
        assert said in found


@pytest.mark.parametrize(("place", "value", "said"), MARKED, ids=str)
def test_what_may_be_edited_is_marked_in_every_form(
    place: str, value: Any, said: str, made: tuple[Path, Path], plain: Plain, tmp_path: Path
) -> None:
    found = shown(edited(plain, tuple(place.split(".")), value, seal=True), tmp_path, made[1])
    assert isinstance(found, Comparison)
    (remarks,) = [told for label, told in rows_of(found) if label == "odd"]
    assert any(said in remark and "odd.json" in remark for remark in remarks)


def test_a_warning_that_was_taken_out_comes_back(
    made: tuple[Path, Path], plain: Plain, tmp_path: Path
) -> None:
    record = edited(plain, ("scores", "space_time_swd", "value"), 9000.0)
    record = edited(record, ("scores", "overall"), ...)
    record = edited(record, ("scores", "overall_spread"), ...)
    record = edited(record, ("scores", "space_time_swd", "values"), [9000.0], seal=True)
    found = shown(record, tmp_path, made[1])
    assert isinstance(found, Comparison)
    (remarks,) = [told for label, told in rows_of(found) if label == "odd"]
    assert any(
        "it lacks the warning that its scores call for: Space-time" in remark
        and "the generator has not learned the data" in remark
        for remark in remarks
    )


@pytest.mark.parametrize(("place", "value", "said"), APART, ids=str)
def test_what_was_measured_otherwise_stands_in_another_table(
    place: str, value: Any, said: str, made: tuple[Path, Path], plain: Plain, tmp_path: Path
) -> None:
    found = shown(edited(plain, tuple(place.split(".")), value, seal=True), tmp_path, made[1])
    assert isinstance(found, Comparison)
    assert len(found.tables) == 2
    assert any(said in sentence for sentence in found.tables[1].differs)


def without_seal(record: Plain) -> None:
    del record["seal"]


def broken_seal(record: Plain) -> None:
    record["seal"]["scores"] = "0" * 16


@pytest.mark.parametrize(
    ("change", "said"),
    [(without_seal, "it has no seal"), (broken_seal, "its field scores was edited")],
)
def test_the_seal_is_told_in_every_form_and_on_the_terminal(
    change: Callable[[Plain], None],
    said: str,
    made: tuple[Path, Path],
    plain: Plain,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = copy.deepcopy(plain)
    change(record)
    found = shown(record, tmp_path, made[1])
    assert isinstance(found, Comparison)
    for suffix, text in as_forms(found).items():
        assert said in text.replace("\\_", "_"), suffix
    line = next(csv.DictReader(io.StringIO(as_forms(found)[".csv"])))
    assert {"system", "remarks"} <= line.keys()
    out = tmp_path / "Published figures.json"
    words = ["compare", str(made[1]), str(tmp_path / "odd.json"), "--out", str(out)]
    assert run_cli([*words, "--title", "Published figures"]) == 0
    assert said in capsys.readouterr().out
    assert json.loads(out.read_text())["tables"][0]["rows"][1]["label"] == "odd"


def test_folders_of_one_name_are_two_systems(made: tuple[Path, Path], tmp_path: Path) -> None:
    for path, name in zip(made, ("tgan", "mocogan"), strict=True):
        shutil.copytree(path.parent, tmp_path / name / "samples" / "evals")
    comparison = compare([tmp_path / "tgan" / "samples", tmp_path / "mocogan" / "samples"])
    (table,) = comparison.tables
    labels = [row.label for row in table.rows]
    assert labels == ["samples (tgan/samples)", "samples (mocogan/samples)"]
    assert all(len(cell.values) == 1 for row in table.rows for cell in row.cells)
    files = [tmp_path / name / "odd.json" for name in ("tgan", "mocogan")]
    for path, file in zip(made, files, strict=True):
        shutil.copy(path, file)
    assert len(compare(files).tables[0].rows) == 2


def test_equal_content_counts_once_and_is_named(
    made: tuple[Path, Path], plain: Plain, tmp_path: Path
) -> None:
    shutil.copytree(made[0].parent, tmp_path / "copy" / "evals")
    original = made[0].parent.parent
    (table,) = compare([original, tmp_path / "copy"]).tables
    (row,) = table.rows
    assert all(len(cell.values) == 1 for cell in row.cells)
    assert (
        f"{original} and {tmp_path / 'copy'} hold the same clips, which count once" in row.remarks
    )
    # An edited copy never speaks for its original.
    record = edited(plain, ("scores", "space_time_swd", "value"), 0.01)
    record["scores"]["space_time_swd"]["values"] = [0.01]
    del record["scores"]["overall"], record["scores"]["overall_spread"]
    (tmp_path / "odd.json").write_text(json.dumps(record))
    ((row,),) = [table.rows for table in compare([tmp_path / "odd.json", made[0]]).tables]
    assert 0.01 not in {value for cell in row.cells for value in cell.values}
    assert any("do not agree on Space-time" in remark for remark in row.remarks)


def test_a_copied_run_is_no_second_seed_and_another_run_s_record_is_left_out(
    made: tuple[Path, Path], plain: Plain, tmp_path: Path
) -> None:
    for name, run in (("a", 0), ("b", 0), ("c", 1)):
        folder = tmp_path / name
        save_config(folder, load_config("cpu/tgan-motions-16x8", ["data=x", f"seed={run}"]))
        (folder / "evals").mkdir()
    for name, path in (("a", made[0]), ("b", made[0]), ("c", made[1])):
        shutil.copy(path, tmp_path / name / "evals")
    runs = [tmp_path / name for name in "abc"]
    (table,) = compare(runs).tables
    (row,) = table.rows
    assert row.facts["seeds"] == "0, 1"
    assert all(len(cell.values) == 2 for cell in row.cells if cell.values)
    other = edited(plain, ("generator", "model"), {"name": "vgan"}, seal=True)
    other = edited(other, ("generator", "clips_hash"), "f" * 16, seal=True)
    (tmp_path / "c" / "evals" / made[1].name).write_text(json.dumps(other))
    comparison = compare(runs)
    assert "model.name=vgan instead of tgan" in comparison.left_out[0]
    assert all("model.name=vgan" in text for text in as_forms(comparison).values())


def test_a_record_of_a_step_that_its_run_never_reached_is_marked(
    made: tuple[Path, Path], plain: Plain, tmp_path: Path
) -> None:
    save_config(tmp_path / "a", load_config("cpu/tgan-motions-16x8", ["data=x"]))
    checkpoint = tmp_path / "a" / "checkpoints" / "step-23"
    checkpoint.mkdir(parents=True)
    (checkpoint / GENERATOR_FILE).touch()
    (tmp_path / "a" / "evals").mkdir()
    for step, said in ((182, "the newest checkpoint of"), (23, "")):
        record = edited(plain, ("generator", "step"), step, seal=True)
        (tmp_path / "a" / "evals" / "one.json").write_text(json.dumps(record))
        remarks = " ".join(rows_of(compare([tmp_path / "a", made[1]]))[0][1])
        assert (f"it is of step {step}" in remarks) == bool(said)
        assert said in remarks


def test_records_of_a_run_come_newest_first_and_what_is_none_is_named(
    plain: Plain, tmp_path: Path
) -> None:
    (tmp_path / "evals").mkdir()
    for day in (2, 5, 1, 3):
        record = edited(plain, ("created",), f"2024-01-0{day}", seal=True)
        (tmp_path / "evals" / f"{day}.json").write_text(json.dumps(record), encoding="utf-8")
    for name, text in (("cut", '{"scores": '), ("deep", "[" * 100_000), ("other", "[]")):
        (tmp_path / "evals" / f"{name}.json").write_text(text, encoding="utf-8")
    found, refused = read_run_records(tmp_path)
    assert [checked.path.stem for checked in found] == ["5", "3", "2", "1"]
    assert all(
        f"{name}.json" in said for name, said in zip(("cut", "deep", "other"), refused, strict=True)
    )
    newest, _ = read_run_records(tmp_path, newest=2)
    assert [checked.path.stem for checked in newest] == ["5", "3"]
    assert read_run_records(tmp_path / "none") == ([], [])


def test_a_key_that_is_there_twice_is_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    """A person may read the first value of a key, and a parser takes the last one."""
    text = made[0].read_text(encoding="utf-8")
    for place, twin in (("{", '{"scores": {}, '), ('"real":', '"real": 0.5, "real":')):
        (tmp_path / "odd.json").write_text(text.replace(place, twin, 1), encoding="utf-8")
        with pytest.raises(UserError, match=r"the key '(scores|real)' is there twice"):
            compare([made[1], tmp_path / "odd.json"])


def test_the_page_of_a_run_says_what_a_comparison_says(
    made: tuple[Path, Path], plain: Plain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    save_config(run, load_config("cpu/tgan-motions-16x8", ["data=x", "seed=0"]))
    (run / "evals").mkdir()

    def report(record: Plain) -> tuple[str, str]:
        (run / "evals" / "a.json").write_text(json.dumps(record))
        assert run_cli(["report", str(run)]) == 0
        return capsys.readouterr().err, html.unescape((run / "index.html").read_text("utf-8"))

    said, page = report(plain)
    assert "seal is broken" not in said + page
    place = ("scores", "space_time_swd", "value")
    title = "its field scores was edited after it was made: the seal is broken"
    moved = edited(plain, ("scores", "inception_score", "floor"), 1.5)
    for text in report(moved):
        assert title in text
    assert title in "".join(compare([run]).tables[0].rows[0].remarks)
    # A mean that is not that of its sets is not a score, with or without a seal.
    for seal in (False, True):
        for text in report(edited(plain, place, 0.5, seal=seal)):
            assert "contradicts itself" in text
        assert "<h2>Scores" not in (run / "index.html").read_text("utf-8")
    for text in report(edited(plain, ("generator", "model"), {"name": "vgan"}, seal=True)):
        assert "is of another run: it has model.name=vgan instead of tgan" in text


def test_the_page_of_a_run_names_a_generator_that_has_changed_since(
    made: tuple[Path, Path], plain: Plain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_config(tmp_path, load_config("cpu/tgan-motions-16x8", ["data=x", "seed=0"]))
    file = tmp_path / "checkpoints" / "step-40" / "ema.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"other weights")
    record = edited(plain, ("generator", "step"), 40)
    record = edited(record, ("generator", "sha256"), "0" * 64, seal=True)
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "a.json").write_text(json.dumps(record))
    assert run_cli(["report", str(tmp_path)]) == 0
    mark = f"{file} is another file now than the one it is of"
    assert mark in capsys.readouterr().err
    assert mark in (tmp_path / "index.html").read_text("utf-8")


def test_files_that_are_refused_in_a_folder_are_named(
    made: tuple[Path, Path], plain: Plain, tmp_path: Path
) -> None:
    shutil.copytree(made[0].parent, tmp_path / "fakes" / "evals")
    bad = edited(plain, ("judge", "passed"), False, seal=True)
    (tmp_path / "fakes" / "evals" / "bad.json").write_text(json.dumps(bad))
    comparison = compare([tmp_path / "fakes"])
    assert len(comparison.tables[0].rows) == 1
    (sentence,) = comparison.left_out
    assert "bad.json contradicts itself" in sentence


def test_a_record_of_long_names_or_great_length_is_refused_in_no_time(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    # As many places as would fill the memory if each were written out in full.
    record = {**whole(), "environment": {"k" * 2**20: [0] * 2**20 + [math.inf]}}
    file.write_text(json.dumps(record))
    with pytest.raises(UserError, match="which is not a number") as refused:
        read_checked_record(file)
    assert len(str(refused.value)) < 1000
    with file.open("r+b") as opened:
        opened.truncate(RECORD_BYTES + 1)
    with pytest.raises(UserError, match="is longer than"):
        read_checked_record(file)


@pytest.mark.parametrize("digest", ["../../../tmp/x", "0123456789abcde", "0123456789ABCDEF", ""])
def test_a_seal_that_is_no_hash_leads_nowhere(digest: str, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    file.write_text(json.dumps({**whole(), "seal": {"clips": digest}}))
    with pytest.raises(UserError, match="which is not a hash"):
        read_checked_record(file)
    with pytest.raises(UserError, match="which is not a hash"):
        clip_list_path(digest, tmp_path)


def test_a_list_of_clips_that_is_a_pipe_or_deep_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    file.write_text(json.dumps({**whole(), "seal": {"clips": "0" * 16}}))
    clips = clip_list_path("0" * 16, tmp_path)
    os.mkfifo(clips)
    with pytest.raises(UserError, match=r"list of clips .* is not a file"):
        read_checked_record(file)
    clips.unlink()
    clips.write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"the list of clips of .* cannot be read"):
        read_checked_record(file)
