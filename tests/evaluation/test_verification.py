"""`vidgan evaluate --verify`: a record holds, and every kind of edit is named."""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vidgan.cli import main as cli
from vidgan.core.machine import processor_id
from vidgan.core.settings import plain_hash
from vidgan.data.synthetic.motions import MotionSettings, motion_clip
from vidgan.evaluation.generators import evaluate
from vidgan.evaluation.metric import custom_id
from vidgan.evaluation.record import value_changes
from vidgan.evaluation.record_types import seal_of
from vidgan.extractors.extractor import EXTRACTORS, build_network
from vidgan.extractors.networks.inception import seeded_weights
from vidgan.extractors.weights.checking import shapes_of
from vidgan.extractors.weights.store import WeightSource, save_weights
from vidgan.video import write_mp4, write_png

Capture = pytest.CaptureFixture[str]

SET = MotionSettings(size=16, frames=4, objects=("disc",), motions=("left", "right"))
RUN, PACKED = "runs/small-videos", "packed"
SETTINGS = """
model: {name: pvgan, channels: [8, 8]}
data: {resolution: 8, frames: 4}
training: {total_clips: 24, stable_clips: 8, fade_clips: 8, batch_size: 8, device: cpu, threads: 1}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real videos, the same packed, a run, a folder of clips, and records of both."""
    folder = tmp_path_factory.mktemp("made")
    patch = pytest.MonkeyPatch()
    patch.setenv("VIDGAN_CACHE", str(folder / "cache"))
    patch.chdir(folder)
    words = ["--videos", "40", "--size", "16", "--frames", "4"]
    words += ["--objects", "disc", "--motions", "left,right", "--heldout", "0.25"]
    assert cli.run(["data", "motions", "videos", *words]) == 0
    size = ["resolution=16", "frames=4"]
    assert cli.run(["data", "build", "videos", PACKED, *size]) == 0
    Path("small.yaml").write_text(SETTINGS, encoding="utf-8")
    assert cli.run(["train", "small.yaml", "data=videos"]) == 0
    for number in range(10):
        clip, label = motion_clip(SET, number, "elsewhere")
        for t, frame in enumerate(clip.unbind(1)):
            write_png(Path(f"fakes/{SET.classes[label]}/clip{number}/{t}.png"), frame)
    assert cli.run(["evaluate", RUN, "--protocol", "stswd"]) == 0
    assert cli.run(["evaluate", "fakes", f"data={PACKED}", "--protocol", "stswd"]) == 0
    patch.undo()
    return folder


@pytest.fixture(autouse=True)
def _in_a_copy(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "copy" / "cache"))
    monkeypatch.chdir(tmp_path / "copy")
    capsys.readouterr()


def record_of(source: str) -> Path:
    (path,) = Path(source, "evals").glob("*.json")
    return path


def clip_list_of(source: str) -> Path:
    (path,) = Path(source, "evals").glob("clips-*.jsonl")
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], None], *, seal: bool = False) -> None:
    """Change a record; with `seal` as a forger would, who makes the seals again."""
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    if seal:
        clips = record["seal"]["clips"]
        record["seal"] = seal_of(record) | {"clips": clips}
    path.write_text(json.dumps(record, indent=2), encoding="utf-8")


def findings(record: Path, capsys: Capture, *words: str) -> list[str]:
    """What --verify prints about a record that does not hold."""
    capsys.readouterr()
    assert cli.run(["evaluate", "--verify", str(record), *words]) == 2
    said = capsys.readouterr()
    assert re.search(r"vidgan: .* does not verify: \d+ findings?, listed above$", said.err.strip())
    return said.out.splitlines()


@pytest.mark.parametrize("source", [RUN, "fakes"])
def test_an_untouched_record_agrees_to_the_last_bit(source: str, capsys: Capture) -> None:
    record = record_of(source)
    assert cli.run(["evaluate", "--verify", str(record)]) == 0
    said = capsys.readouterr().out
    assert said == f"{record} agrees to the last bit with what its inputs give now\n"
    assert cli.run(["evaluate", str(record), "--verify", "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert verdict == {
        "record": str(record),
        "agrees": True,
        "findings": [],
        "elsewhere": [],
    }


@pytest.mark.parametrize("field", ["scores", "counts", "warnings", "environment"])
def test_an_edited_field_breaks_its_seal(field: str, capsys: Capture) -> None:
    record = record_of("fakes")

    def change(values: dict[str, Any]) -> None:
        if field == "warnings":
            values[field] = ["all is well"]
        elif field == "scores":
            values[field]["space_time_swd"]["value"] *= 0.9
        else:
            values[field]["added"] = 1

    edit(record, change)
    found = findings(record, capsys)
    assert found[0].startswith(f"the field {field} was edited")
    if field == "scores":
        assert "scores.space_time_swd.value is" in found[1]


@pytest.mark.parametrize("field", ["protocol", "inputs", "seeds"])
def test_edited_foundations_are_named_and_nothing_is_computed(field: str, capsys: Capture) -> None:
    record = record_of("fakes")
    edit(record, lambda values: values[field].update(added=1))
    assert len(findings(record, capsys)) == 1


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("resize", "bicubic", "resize must be one of mean over whole blocks"),
        ("reference_split", "test", "reference_split must be one of train"),
        ("reference_split", "heldout", "calls the record's protocol custom:"),
        ("clip_rule", "any window", "clip_rule must be one of central window of every clip"),
        ("clip_rule", "first window of every clip", "calls the record's protocol custom:"),
        ("splits", 3, "splits has no effect"),
        ("summary", "FVD as everybody measures it", "calls the record's protocol custom:"),
        ("source", "a paper", "calls the record's protocol custom:"),
    ],
)
def test_a_procedure_that_never_ran_is_named(
    field: str, value: Any, said: str, capsys: Capture
) -> None:
    record = record_of("fakes")
    edit(record, lambda values: values["protocol"].update({field: value}), seal=True)
    (found,) = findings(record, capsys)
    assert found.startswith("it cannot be computed again: ")
    assert said in found


@pytest.mark.parametrize(
    ("source", "edits"),
    [
        (RUN, {"inputs.source.kind": "folder", "inputs.data.levels": [[4, 8], [4, 4]]}),
        (RUN, {"inputs.data.kind": "packed", "inputs.data.seed": 99}),
        (RUN, {"inputs.data.levels": [[4, 8], [2, 4], [1, 2]]}),
        (
            "fakes",
            {
                "environment.dtype": "float16",
                "environment.tf32": True,
                "environment.added": 1,
                "inputs.source.kind": "generator",
                "inputs.data.levels": [[4, 16], [2, 8]],
                "inputs.options.num_clips": 7,
            },
        ),
        ("fakes", {"inputs.data.kind": "videos", "inputs.data.seed": 99}),
        ("fakes", {"inputs.data.levels": [[4, 16], [4, 8]]}),
    ],
)
def test_what_no_score_depends_on_is_compared_too(
    source: str, edits: dict[str, Any], capsys: Capture
) -> None:
    record = record_of(source)

    def change(values: dict[str, Any]) -> None:
        for place, value in edits.items():
            *parents, last = place.split(".")
            part = values
            for name in parents:
                part = part[name]
            part[last] = value

    edit(record, change, seal=True)
    found = findings(record, capsys)
    for place, value in edits.items():
        told = f"{place} is " + ("" if isinstance(value, list) else repr(value))
        assert any(line.startswith(told) for line in found), place


@pytest.mark.parametrize("number", ["1e999", "-Infinity", "NaN"])
def test_what_is_no_number_is_one_sentence(number: str, capsys: Capture) -> None:
    record = record_of("fakes")
    text = record.read_text(encoding="utf-8")
    record.write_text(re.sub(r'"real": [\d.]+', f'"real": {number}', text, count=1), "utf-8")
    assert cli.run(["evaluate", "--verify", str(record)]) == 2
    assert "scores.space_time_swd.real is " in capsys.readouterr().err


def test_a_processor_that_is_none_is_one_sentence(capsys: Capture) -> None:
    record = record_of("fakes")
    edit(record, lambda values: values["environment"].update(processor=5), seal=True)
    assert cli.run(["evaluate", "--verify", str(record)]) == 2
    assert "see environment.processor" in capsys.readouterr().err


def test_a_number_is_no_truth() -> None:
    (said,) = value_changes({"judge": {"passed": 1}}, {"judge": {"passed": True}}, 0.0, frozenset())
    assert said == "judge.passed is 1 in the record and True when computed again"


ODD_LEVELS: list[Any] = [
    *(None, 3, "odd", [[]], [[4]], [4, 16], [[4, 16, 1]], [["4", "16"]], [[0, 0]], [[5, 7]]),
    *([[-4, 16]], [[65_536, 65_536]], [[10**30, 16]], {"a": 1}, [[4.5, 16]], [[True, 16]]),
    [[4, 16]] * 2000,
]


@pytest.mark.parametrize("source", [RUN, "fakes"])
def test_odd_levels_are_one_sentence(source: str, capsys: Capture) -> None:
    record = record_of(source)
    for levels in ODD_LEVELS:
        edit(record, lambda values, v=levels: values["inputs"]["data"].update(levels=v), seal=True)
        assert cli.run(["evaluate", "--verify", str(record)]) == 2, levels
        assert capsys.readouterr().err.count("vidgan: ") == 1, levels


@pytest.mark.parametrize("edit_rows", ["swapped", "doubled", "exchanged"])
def test_rows_of_the_list_of_clips_are_compared_one_by_one(edit_rows: str, capsys: Capture) -> None:
    record, clips = record_of("fakes"), clip_list_of("fakes")
    rows = clips.read_text(encoding="utf-8").splitlines()
    first = json.loads(rows[0])
    if edit_rows == "swapped":
        rows[0], rows[1] = rows[1], rows[0]
        said = f"the {first[0]} clips stand in another order in the record"
    elif edit_rows == "doubled":
        rows.insert(1, rows[0])
        said = f"{first[0]} clip {first[1]}: stands 2 times in the record and 1 times there"
    else:
        second = json.loads(rows[1])
        rows[0] = json.dumps([*first[:2], *second[2:]])
        rows[1] = json.dumps([*second[:2], *first[2:]])
        said = f"{first[0]} clip {first[1]}, {second[1]}: "
    lists: dict[str, dict[str, list[Any]]] = {}
    for split, *values in map(json.loads, rows):
        columns = lists.setdefault(split, {"name": [], "label": [], "crc32": []})
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    digest = plain_hash(lists)
    clips.with_name(f"clips-{digest}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    edit(record, lambda values: values["seal"].update(clips=digest), seal=True)
    assert any(line.startswith(said) for line in findings(record, capsys))


def test_a_renamed_protocol_is_named(capsys: Capture) -> None:
    command = ["evaluate", "fakes", f"data={PACKED}", "--protocol", "stswd"]
    assert cli.run([*command, "protocol.num_clips=10"]) == 0
    (record,) = Path("fakes/evals").glob("custom-*.json")

    def change(values: dict[str, Any]) -> None:
        protocol = values["protocol"]
        protocol["name"] = "my own"
        fields = {name: value for name, value in protocol.items() if name != "id"}
        protocol["id"] = custom_id(fields)

    edit(record, change, seal=True)
    (found,) = findings(record, capsys)
    assert "there is no evaluation protocol 'my own'" in found


def test_a_forged_result_is_found_by_computing(capsys: Capture) -> None:
    record = record_of("fakes")

    def change(values: dict[str, Any]) -> None:
        values["scores"]["space_time_swd"]["value"] = 1.0
        values["counts"]["heldout"] += 1

    edit(record, change, seal=True)
    found = findings(record, capsys)
    assert found[0].startswith("counts.heldout is 11 in the record and 10 when computed again")
    assert found[1].startswith("scores.space_time_swd.value is 1.0 in the record and ")
    assert len(found) == 2


def test_an_edited_list_of_clips_is_named(capsys: Capture) -> None:
    record, clips = record_of("fakes"), clip_list_of("fakes")
    lines = clips.read_text(encoding="utf-8").splitlines(keepends=True)
    clips.write_text("".join(lines[1:]), encoding="utf-8")
    gone = json.loads(lines[0])
    found = findings(record, capsys)
    assert found[0] == f"the list of clips {clips} was edited: its seal is broken"
    assert found[1] == f"{gone[0]} clip {gone[1]}: is not in the record"
    clips.unlink()
    assert findings(record, capsys) == [f"the list of clips {clips} is gone"]


def test_an_edited_generated_clip_is_named(capsys: Capture) -> None:
    record = record_of("fakes")
    frame = next(Path("fakes").glob("disc-left/*/2.png"))
    write_png(frame, torch.zeros(3, 16, 16, dtype=torch.uint8))
    name = frame.parent.relative_to("fakes").as_posix()
    found = findings(record, capsys)
    assert found[0] == f"generated clip {name}: shows other frames than in the record"
    assert any(line.startswith("scores.space_time_swd.value is ") for line in found)
    shutil.move(frame.parent, "fakes/disc-right/moved")
    found = findings(record, capsys)
    assert f"generated clip {name}: is in the record and is now missing" in found
    assert "generated clip disc-right/moved: is not in the record" in found


def test_an_edited_generator_file_is_named(capsys: Capture) -> None:
    record = record_of(RUN)
    (file,) = Path(RUN, "checkpoints").glob("step-3/ema.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    found = findings(record, capsys)
    assert found[0].startswith(f"the generator file {file} was edited: its SHA-256 is ")
    file.write_bytes(content[:-100])
    found = findings(record, capsys)
    assert found[0].startswith("the generator file")
    assert found[1].startswith("it cannot be computed again: ")


def test_an_edited_real_video_is_named_though_the_cache_knows_it(capsys: Capture) -> None:
    record = record_of(RUN)
    video = next(Path("videos").rglob("heldout/**/*.mp4"))
    write_mp4(video, torch.zeros(3, 4, 16, 16, dtype=torch.uint8), 8.0)
    name = video.relative_to("videos").as_posix()
    found = findings(record, capsys)
    assert f"heldout clip {name}: shows other frames than in the record" in found
    assert any(line.startswith("data.heldout_hash is ") for line in found)


def test_an_edited_packed_set_is_named(capsys: Capture) -> None:
    record = record_of("fakes")
    manifest = Path(PACKED, "manifest.json")
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace('"heldout"', '"test"'), encoding="utf-8")
    assert findings(record, capsys)[0].startswith(f"the manifest {manifest} was edited")
    manifest.write_text(text, encoding="utf-8")
    chunk = next(Path(PACKED).rglob("*.safetensors"))
    content = bytearray(chunk.read_bytes())
    content[-20] ^= 1
    chunk.write_bytes(content)
    (found,) = findings(record, capsys)
    assert found.startswith("it cannot be computed again: clip ")
    assert "is damaged, its checksum differs" in found


def test_an_edited_judge_is_named(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidgan.evaluation import protocols
    from vidgan.extractors.judge import ClassifierSettings, OwnClassifier

    quick = ClassifierSettings(width=0.0625, feature_dim=4, clips_seen=320)
    protocol = protocols.Protocol(name="quick", extractor="own-c3d", classifier=quick)
    monkeypatch.setitem(protocols.PROTOCOLS, "quick", protocol)
    assert cli.run(["evaluate", "fakes", f"data={PACKED}", "--protocol", "quick"]) == 0
    (record,) = Path("fakes/evals").glob("quick-*.json")
    capsys.readouterr()
    assert cli.run(["evaluate", "--verify", str(record)]) == 0
    assert "agrees to the last bit" in capsys.readouterr().out

    (folder,) = (path for path in Path("cache/judges").iterdir() if path.is_dir())
    weights = load_file(folder / "classifier.safetensors")
    right = {key: value.clone() for key, value in weights.items()}
    name = sorted(weights)[0]
    # So little that the judge answers as before.
    weights[name] = weights[name] * (1 + 1e-6)
    save_file(weights, folder / "classifier.safetensors")
    (found,) = findings(record, capsys)
    assert "do not match their card" in found
    # One who edits the card as well is found out by the record.
    card = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
    told_hash = card["hash"]
    actual = re.search(r"hash (\w+)", found)
    assert actual
    (folder / "classifier.json").write_text(json.dumps({**card, "hash": actual[1]}))
    assert OwnClassifier.load(folder).hash == actual[1]
    sentence = findings(record, capsys)[0]
    assert sentence.startswith(f"the weights of the judge are others: hash {actual[1]} instead of")
    # So is one whose card tells of another training.
    settings = {**card["settings"], "clips_seen": 24_000}
    (folder / "classifier.json").write_text(
        json.dumps({**card, "hash": actual[1], "settings": settings})
    )
    (found,) = findings(record, capsys)
    assert "was edited, for it says clips_seen=24000" in found
    # And so is one whose card boasts, be it cached before the record or after.
    boast = {**card["report"], "accuracy": {**card["report"]["accuracy"], "joint": 0.999}}
    (folder / "classifier.json").write_text(
        json.dumps({**card, "hash": told_hash, "report": boast})
    )
    save_file(right, folder / "classifier.safetensors")
    (found,) = findings(record, capsys)
    assert "was edited, for it says accuracy={" in found
    # Less than other machines may differ by is not believed either: what is measured counts.
    little = {**card["report"], "calibration_error": card["report"]["calibration_error"] + 0.01}
    (folder / "classifier.json").write_text(
        json.dumps({**card, "hash": told_hash, "report": little})
    )
    assert cli.run(["evaluate", "--verify", str(record)]) == 0
    capsys.readouterr()
    # A judge that is gone is trained again, to the same bits.
    shutil.rmtree(folder)
    assert cli.run(["evaluate", "--verify", str(record)]) == 0


def test_edited_weights_of_a_published_network_are_named(capsys: Capture) -> None:
    spec = replace(EXTRACTORS["inception-tf"], width=1 / 32)
    network = build_network(spec)
    drawn = seeded_weights(shapes_of(network), 0)
    source = WeightSource(
        file="f", bytes=1, sha256="0", git_blob="0", layout="pt", is_verified=False
    )
    path = save_weights("inception-2015", drawn, source)
    words = ["network.width=0.03125", "metrics=[kernel_distance]", "num_clips=10"]
    words = [f"protocol.{word}" for word in [*words, "set_size=0", "reference_size=0"]]
    command = ["evaluate", "fakes", f"data={PACKED}", "--protocol", "frame-fid-tf", *words]
    assert cli.run(command) == 0
    (record,) = Path("fakes/evals").glob("custom-*.json")
    capsys.readouterr()
    assert cli.run(["evaluate", "--verify", str(record)]) == 0

    values = load_file(path)
    name = next(name for name in values if name.endswith("Conv2d_1a_3x3.conv.weight"))
    save_file({**values, name: 2 * values[name]}, path)
    (found,) = findings(record, capsys)
    assert found.startswith("it cannot be computed again: ")
    # One who writes a new header as well is found out by the record.
    save_weights("inception-2015", {**drawn, name: -drawn[name]}, source)
    found = "\n".join(findings(record, capsys))
    assert "extractor.sha256 is " in found
    assert "scores.kernel_distance.value is " in found


def test_on_another_machine_the_last_digits_may_differ(capsys: Capture) -> None:
    record = record_of("fakes")

    def change(values: dict[str, Any]) -> None:
        values["environment"]["machine"] = "another one"
        values["scores"]["space_time_swd"]["value"] *= 1 + 1e-6

    edit(record, change, seal=True)
    assert cli.run(["evaluate", "--verify", str(record)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("not the machine of the record: machine ")
    assert said[-1].startswith(f"{record} agrees to 1e-05")

    def change_more(values: dict[str, Any]) -> None:
        values["scores"]["space_time_swd"]["value"] *= 1 + 1e-4

    edit(record, change_more, seal=True)
    assert "scores.space_time_swd.value is " in findings(record, capsys)[-1]


@pytest.mark.parametrize("described", [True, False], ids=["another", "not-described"])
def test_with_other_instructions_the_last_digits_may_differ(
    described: bool, capsys: Capture
) -> None:
    record = record_of("fakes")

    def change(values: dict[str, Any]) -> None:
        values["scores"]["space_time_swd"]["value"] *= 1 + 1e-6
        if described:
            values["environment"]["processor"]["instruction_sets"] = ["sse4_2"]
        else:  # as earlier versions wrote it: nothing says that the machine is another one
            del values["environment"]["processor"]

    edit(record, change, seal=True)
    if described:
        assert cli.run(["evaluate", "--verify", str(record)]) == 0
        said = capsys.readouterr().out
        now, before = said.splitlines()[0].split(" instead of ")
        assert now == f"not the machine of the record: processor {processor_id()}"
        assert "vectors; sse4_2" in before
    else:
        assert "scores.space_time_swd.value is " in findings(record, capsys)[-1]


def test_a_run_and_its_data_may_move(tmp_path: Path, capsys: Capture) -> None:
    shutil.move(RUN, tmp_path / "moved")
    shutil.move("videos", tmp_path / "real")
    record = record_of(str(tmp_path / "moved"))
    assert cli.run(["evaluate", "--verify", str(record)]) == 2
    assert "the real clips of" in capsys.readouterr().err
    assert cli.run(["evaluate", "--verify", str(record), f"data={tmp_path / 'real'}"]) == 0
    assert cli.run(["evaluate", "--verify", str(record), "frames=8"]) == 2
    assert "only data=FOLDER may follow --verify" in capsys.readouterr().err


def test_what_cannot_be_verified_says_why(tmp_path: Path, capsys: Capture) -> None:
    record = record_of("fakes")
    old = tmp_path / "old.json"
    plain = json.loads(record.read_text(encoding="utf-8"))
    old.write_text(json.dumps({name: plain[name] for name in plain if name != "seal"}))
    assert cli.run(["evaluate", "--verify", str(old)]) == 2
    assert "has no seal, so nothing can be verified" in capsys.readouterr().err
    assert cli.run(["evaluate", "--verify", "small.yaml"]) == 2
    assert "cannot be read as a record" in capsys.readouterr().err
    shutil.move("fakes/evals", tmp_path / "records")
    shutil.rmtree("fakes")
    assert cli.run(["evaluate", "--verify", str(tmp_path / "records" / record.name)]) == 2
    assert "is of fakes, which is not there" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_generator_that_is_no_file_is_not_waited_for(kind: str, capsys: Capture) -> None:
    record = record_of(RUN)
    path = Path(json.loads(record.read_text(encoding="utf-8"))["inputs"]["source"]["path"])
    path.unlink()
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    assert cli.run(["evaluate", "--verify", str(record)]) == 2
    assert f"is of {path}, which is not a file" in capsys.readouterr().err


def test_an_address_in_a_record_is_not_contacted(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "vidgan.data.packed.writer.fetch_set", lambda url: pytest.fail(f"{url} was contacted")
    )
    record = record_of("fakes")

    def change(plain: dict[str, Any]) -> None:
        plain["inputs"]["data"]["settings"]["path"] = "s3://bucket/set"

    edit(record, change, seal=True)
    assert cli.run(["evaluate", "--verify", str(record)]) == 2
    assert "repeat the command with data=s3://bucket/set" in capsys.readouterr().err


def test_clips_in_memory_cannot_be_read_again(tmp_path: Path, capsys: Capture) -> None:
    from vidgan.data.dataset import ClipDataset
    from vidgan.data.packed.store import open_store
    from vidgan.data.settings import DataConfig
    from vidgan.evaluation.generators import save_record

    data = ClipDataset(open_store(PACKED), DataConfig(resolution=16, frames=4), seed=0)
    clips, labels = data.real_clips(8, seed=0)
    path = save_record(evaluate([(clips, labels)], data, "stswd"), tmp_path)
    assert cli.run(["evaluate", "--verify", str(path)]) == 2
    assert "of clips that were never in a file" in capsys.readouterr().err


def test_a_record_from_when_levels_moved_windows_says_so_first(capsys: Capture) -> None:
    record = record_of(RUN)
    edit(record, lambda found: found["inputs"]["data"].update(levels=[[4, 8], [2, 4]]), seal=True)
    said = findings(record, capsys)
    assert "older than the rule that a model's levels move no window" in said[0]
    assert any("inputs.data.levels" in line for line in said)
