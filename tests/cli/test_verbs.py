"""Verbs end to end: from rendered videos to a run, its clips and its page."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import vidgan
from vidgan.cli import main as cli

Capture = pytest.CaptureFixture[str]

SETTINGS = """
model: {name: pvgan, channels: [8, 8]}
data: {resolution: 8, frames: 4}
training:
  total_clips: 96
  stable_clips: 32
  fade_clips: 32
  batch_size: 8
  log_every: 2
  sample_every: 6
  checkpoint_every: 6
  num_samples: 4
  device: cpu
  threads: 1
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a settings file, videos of two classes, and a finished run."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "small.yaml").write_text(SETTINGS, encoding="utf-8")
    patch = pytest.MonkeyPatch()
    patch.setenv("VIDGAN_CACHE", str(folder / "cache"))
    patch.chdir(folder)
    words = ["--videos", "40", "--size", "16", "--frames", "4"]
    words += ["--objects", "disc", "--motions", "left,right", "--heldout", "0.25"]
    assert cli.run(["data", "motions", "videos", *words]) == 0
    assert cli.run(["train", "small.yaml", "data=videos", "seed=3"]) == 0
    patch.undo()
    return folder


@pytest.fixture(autouse=True)
def _inside(workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("VIDGAN_CACHE", str(workplace / "cache"))
    monkeypatch.chdir(workplace)
    capsys.readouterr()


RUN = "runs/small-videos"


@pytest.mark.parametrize("source", [f"{RUN}/checkpoints/step-12/ema.safetensors", RUN])
def test_the_data_of_a_run_may_be_named_by_the_run(source: str, capsys: Capture) -> None:
    """Not the sample films that lie in its folder."""
    heard = []
    for data in ("videos", RUN):
        words = ["--protocol", "stswd", f"data={data}", "--json"]
        assert cli.run(["evaluate", source, *words]) == 0
        heard.append(json.loads(capsys.readouterr().out))
    assert heard[0]["data"] == heard[1]["data"]
    assert heard[0]["scores"] == heard[1]["scores"]


def test_clips_are_cut_as_the_named_run_cut_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    other = tmp_path / "other"
    words = ["data=videos", "data.stride=2", "data.short=loop", f"run={other}"]
    words += [f"training.{name}_clips=8" for name in ("stable", "fade")]
    words += ["training.total_clips=24"]
    assert cli.run(["train", "small.yaml", *words]) == 0

    def real_clips(*words: str) -> str:
        capsys.readouterr()
        assert cli.run(["evaluate", *words, "--protocol", "stswd", "--json"]) == 0
        found: str = json.loads(capsys.readouterr().out)["data"]["hash"]
        return found

    ema = f"{RUN}/checkpoints/step-12/ema.safetensors"
    assert real_clips(RUN, f"data={other}") == real_clips(ema, f"data={other}")
    assert real_clips(RUN, f"data={other}") != real_clips(RUN, "data=videos")
    assert real_clips(RUN, f"data={other}", "data.stride=1") == real_clips(RUN, "data=videos")
    # A folder of the same name in another place is not what the run was trained on.
    (tmp_path / "videos").mkdir()
    place = Path.cwd()
    whole = real_clips(ema, f"data={RUN}")
    monkeypatch.chdir(tmp_path)
    assert real_clips(str(place / ema), f"data={place / RUN}") == whole
    assert vidgan.open_dataset(place / RUN).num_clips == 30


@pytest.mark.parametrize(
    "verb", [["train", "small.yaml", "data=videos", "run=r"], ["evaluate", RUN]]
)
def test_a_metric_that_is_none_chooses_no_checkpoint(verb: list[str], capsys: Capture) -> None:
    assert cli.run([*verb, "best.metric=nonsense"]) == 2
    said = capsys.readouterr().err
    assert "there is no metric nonsense; use inception_score, " in said
    assert not Path("r").exists()


def test_train_leaves_a_whole_run_folder() -> None:
    left = {path.relative_to(RUN).as_posix() for path in Path(RUN).rglob("*") if path.is_file()}
    assert left >= {
        "config.yaml",
        "command.txt",
        "environment.json",
        "data.json",
        "log.jsonl",
        "index.html",
        "last.json",
        "samples/step-12.mp4",
        "checkpoints/step-12/ema.safetensors",
        "checkpoints/step-12/state.json",
    }
    page = Path(RUN, "index.html").read_text(encoding="utf-8")
    assert 'class="status done"' in page
    assert 'data-step="6"' in page
    assert "left out" not in page
    # Every setting with where it comes from.
    plain = re.sub(r"<[^>]+>|\s+", " ", page)
    assert re.search(r"training\.batch_size +8 +given", plain)
    assert re.search(r"training\.keep_checkpoints +\d+ +default", plain)


@pytest.mark.parametrize("words", [["small.yaml", "data=videos", "seed=3"], [RUN]])
def test_the_same_command_or_the_folder_goes_on(words: list[str], capsys: Capture) -> None:
    before = Path(RUN, "checkpoints/step-12/ema.safetensors").read_bytes()
    assert cli.run(["train", *words]) == 0
    output = capsys.readouterr()
    assert output.out == f"{RUN}\n"
    assert output.err.endswith(f"next: vidgan evaluate {RUN}\nthe page: {RUN}/index.html\n")
    assert Path(RUN, "checkpoints/step-12/ema.safetensors").read_bytes() == before


def test_dry_run_prints_settings_that_can_be_read_again(capsys: Capture) -> None:
    words = ["small.yaml", "data=videos", "training.generator.lr=1e-4"]
    assert cli.run(["train", *words, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "lr: 0.0001" in text
    Path("again.yaml").write_text(text, encoding="utf-8")
    assert cli.run(["train", "again.yaml", "--dry-run"]) == 0
    assert capsys.readouterr().out == text.replace("preset: small\n", "preset: again\n")


def test_dry_run_refuses_what_training_would(capsys: Capture) -> None:
    words = ["cpu/mocogan-motions-16x8", "data=videos", "--dry-run"]
    assert cli.run(["train", *words]) == 0
    unknown = "training.discriminator_batch_size={picture: 3}"
    assert cli.run(["train", *words, unknown]) == 2
    assert "the discriminators of this model are" in capsys.readouterr().err
    assert cli.run(["train", *words, "log=foo"]) == 2
    assert "there is no logger" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["small.yaml", "data=videos", "traning.threads=1"], "no setting traning; did you mean"),
        (["small.yaml", "data=videos", "seed=4"], "seed=4 (was 3)"),
        (["small.yaml", "data=videos", "data.frames=8", "run=x"], "set data.frames=4"),
        (["small.yaml"], "no data given: set data=FOLDER"),
        (["small.yaml", "videos"], "cannot both name the settings"),
        (["videos"], "to train on its videos write data=videos"),
        (["small.yaml", "data=videos", "model=pvgann", "run=x"], "there is no model 'pvgann'"),
        (["small.yaml", "data=videos", "training.batch_size=6", "run=x"], "batch"),
        (["small.yaml", "data=videos", "training.device=gpu", "run=x"], "did you mean cpu?"),
        (["nothing"], "there is no preset, settings file or run folder nothing"),
        (["cpu/pvgan-motion"], "did you mean cpu/pvgan-motions-16x8? 'vidgan presets' lists them"),
        (["qick"], "did you mean gpu/quick or cpu/quick? 'vidgan presets' lists"),
        (["small.yaml", "data=videos", "run=x", "minutes=0.5"], "0.5 minutes cannot be kept: "),
        (["small.yaml", "data=videos", "run=x", "hours=0.01"], "0.6 minutes cannot be kept: "),
        (["small.yaml", "data="], "data.path= has nothing behind it: write data.path=VALUE, or"),
        (["small.yaml", "data=videos", "run="], "run= has nothing behind it: write run=VALUE, or"),
    ],
)
def test_train_names_mistakes_in_one_sentence(
    words: list[str], sentence: str, capsys: Capture
) -> None:
    assert cli.run(["train", *words]) == 2
    output = capsys.readouterr()
    assert sentence in output.err
    assert output.err.count("vidgan: ") == 1
    assert output.out == ""
    assert not Path("x").exists()


def test_sample_writes_grids_and_folders(capsys: Capture) -> None:
    assert cli.run(["sample", RUN, "grid.mp4", "--num", "4", "--class", "disc-left"]) == 0
    assert capsys.readouterr().out == "grid.mp4\n"
    assert b"ftyp" in Path("grid.mp4").read_bytes()[:16]
    assert cli.run(["sample", RUN, "clips", "--num", "3", "--seed", "5", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"out": "clips", "num": 3, "seed": 5, "step": 12}
    table = Path("clips/labels.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[1] for line in table[1:]] == ["5", "6", "7"]


def test_interpolate_writes_film_and_image_and_the_page_shows_them(capsys: Capture) -> None:
    assert cli.run(["interpolate", RUN, "--steps", "3", "--mode", "slerp"]) == 0
    assert capsys.readouterr().out == f"{RUN}/interpolation.mp4\n{RUN}/interpolation.png\n"
    before = Path(RUN, "index.html").read_text(encoding="utf-8")
    assert cli.run(["report", RUN]) == 0
    assert capsys.readouterr().out == f"{RUN}/index.html\n"
    after = Path(RUN, "index.html").read_text(encoding="utf-8")
    assert "data:image/png" not in before
    assert "data:image/png" in after
    assert 'class="status done"' in after


@pytest.mark.parametrize(
    ("suffix", "start"), [(".gif", b"GIF8"), (".webp", b"RIFF"), ("", b"\0\0\0")]
)
def test_a_walk_is_the_kind_of_film_that_was_asked_for(suffix: str, start: bytes) -> None:
    assert cli.run(["interpolate", RUN, f"walk{suffix}", "--steps", "2"]) == 0
    video = Path(f"walk{suffix or '.mp4'}")
    assert video.read_bytes().startswith(start)
    assert Path("walk.png").exists()


def test_a_clip_is_projected_with_the_features_of_the_run(capsys: Capture, tmp_path: Path) -> None:
    clip = next(Path("videos").rglob("*.mp4"))
    assert cli.run(["project", RUN, str(clip), str(tmp_path / "found.mp4"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["step"] == 12
    assert summary["class"] in ("disc-left", "disc-right")
    assert summary["psnr"] >= summary["psnr_best_random"]

    shutil.copytree(RUN, tmp_path / "run")
    file = tmp_path / "run" / "checkpoints" / "step-12" / "discriminators.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert cli.run(["project", str(tmp_path / "run"), str(clip), str(tmp_path / "b.mp4")]) == 2
    told = f"{file.parent} was changed or damaged ({file.name} does not match its checksum)"
    assert told in capsys.readouterr().err


def test_a_run_is_evaluated_and_goes_on_from_another_folder(
    tmp_path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    run = str(workplace / RUN)
    assert cli.run(["train", run]) == 0
    command = ["train", str(workplace / "small.yaml"), f"data={workplace / 'videos'}", "seed=3"]
    assert cli.run([*command, f"run={run}"]) == 0
    words = ["--protocol", "stswd", "protocol.num_clips=8"]
    assert cli.run(["evaluate", run, *words]) == 0, capsys.readouterr().err


def test_the_home_folder_is_meant_by_a_tilde(
    tmp_path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HOME", str(workplace))
    monkeypatch.chdir(tmp_path)
    settings = (workplace / "small.yaml").read_text(encoding="utf-8")
    Path("home.yaml").write_text(settings + "run: ~/runs/home\n", encoding="utf-8")
    assert cli.run(["train", "home.yaml", "data=~/videos", "seed=3"]) == 0
    assert (workplace / "runs" / "home" / "index.html").exists()
    assert cli.run(["sample", "~/runs/home", "~/grid.png"]) == 0
    assert (workplace / "grid.png").exists()
    assert not Path("~").exists()
    assert vidgan.load_config("home.yaml", ["data=~/videos"]).data.path == f"{workplace}/videos"


def test_check_is_strict_on_request(capsys: Capture) -> None:
    shutil.copytree("videos", "some")
    Path("some/train/disc-left/broken.mp4").write_bytes(b"no video")
    words = ["resolution=16", "frames=4", "--workers", "0"]
    assert cli.run(["data", "check", "some", *words]) == 0
    told = "video of some (train/disc-left/broken.mp4) would be dropped or is damaged"
    for strict in ("--strict", "strict=true", "data.strict=true"):
        assert cli.run(["data", "check", "some", *words, strict]) == 2
        assert f"vidgan: 1 {told}" in capsys.readouterr().err
    Path("some/train/disc-left/also.mp4").write_bytes(b"no video")
    assert cli.run(["data", "check", "some", *words, "strict=true"]) == 2
    told = "videos of some, train/disc-left/also.mp4 first, would be dropped or are damaged"
    assert f"vidgan: 2 {told}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sheet.txt", "sheet", "sheet.jpg"])
def test_a_contact_sheet_is_a_png_by_its_name(name: str, capsys: Capture) -> None:
    assert cli.run(["data", "check", "videos", "--sheet", name]) == 2
    assert "must be an image: give it a name that ends in .png" in capsys.readouterr().err
    assert not Path(name).exists()


def test_evaluate_says_that_the_settings_of_a_run_were_edited(capsys: Capture) -> None:
    shutil.copytree(RUN, "runs/edited")
    settings = Path("runs/edited/config.yaml")
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("ema_beta: 0.", "ema_beta: 0.5"), encoding="utf-8")
    words = ["--protocol", "stswd", "protocol.num_clips=8"]
    assert cli.run(["evaluate", "runs/edited", *words]) == 0
    told = "checkpoint step-12 is of another run, or the settings were edited: training.ema_beta is"
    assert f"runs/edited: {told}" in capsys.readouterr().err


def test_evaluate_keeps_a_record_and_chooses_the_best_checkpoint(capsys: Capture) -> None:
    # Other tests may have left records, or a best checkpoint, in the run that all of them share.
    Path(RUN, "best.json").unlink(missing_ok=True)
    before = set(Path(RUN, "evals").glob("*.json"))
    assert cli.run(["evaluate", RUN, "--protocol", "stswd", "--json"]) == 0
    output = capsys.readouterr()
    record = json.loads(output.out)
    (saved,) = set(Path(RUN, "evals").glob("*.json")) - before
    assert json.loads(saved.read_text(encoding="utf-8")) == record
    assert record["generator"]["step"] == 12
    score = record["scores"]["space_time_swd"]
    assert {"value", "real", "floor", "controls"} <= score.keys()
    assert json.loads(Path(RUN, "best.json").read_text(encoding="utf-8"))["step"] == 12
    assert "step 12 is the best checkpoint so far" in output.err
    page = Path(RUN, "index.html").read_text(encoding="utf-8")
    assert "<code>stswd</code>" in page
    assert "compared in sets of 10" in page


def test_evaluate_takes_a_generator_file_and_prints_a_table(capsys: Capture) -> None:
    file = f"{RUN}/checkpoints/step-6/ema.safetensors"
    assert cli.run(["evaluate", file, "data=videos", "--protocol", "stswd"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("protocol stswd: n = 10 a set, 512 generated")
    assert "judge" not in said.err
    assert cli.run(["evaluate", file, "--protocol", "stswd"]) == 2
    assert "no data given" in capsys.readouterr().err


def test_evaluate_names_protocols_and_shows_one_in_full(capsys: Capture) -> None:
    assert cli.run(["evaluate", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 20
    assert lines[0].startswith("own-c3d ")
    assert all("  " in line for line in lines)
    assert cli.run(["evaluate", "--show", "stswd"]) == 0
    sheet = capsys.readouterr().out
    assert sheet.startswith("stswd: ")
    assert "patches_per_clip  32" in sheet
    assert cli.run(["evaluate", "--show", "stswd", "protocol.num_clips=64"]) == 0
    assert capsys.readouterr().out.startswith("custom:")


def test_evaluate_takes_changed_protocols(capsys: Capture) -> None:
    words = ["evaluate", RUN, "--protocol", "stswd", "protocol.num_clips=12", "--json"]
    assert cli.run(words) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["protocol"]["id"].startswith("custom:")
    assert record["counts"]["generated"] == 12
    assert record["motion"]["heldout"]["change"] > 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["evaluate", RUN, "--protocol", "fvd"], "there is no evaluation protocol 'fvd'"),
        (["evaluate"], "name a run folder, a generator file or a folder of clips"),
        (["evaluate", RUN, "--protocol", "fvd-tf-16f"], "needs the published weights i3d-k400"),
        (["evaluate", RUN, "--protocol", "prediction"], "use vidgan predict"),
        (["evaluate", RUN, "protocol.splt=2"], "did you mean splits?"),
        (["evaluate", RUN, "data=nowhere"], "there is no folder nowhere"),
        (["sample", RUN, "x.mp4", "--class", "disc-lft"], "did you mean disc-left?"),
        (["sample", RUN, "x.avi/y", "--num", "0"], "--num 0 must lie in 1..10000000"),
        (["sample", RUN, "x.mp4", "--checkpoint", "7"], "has no checkpoint 7"),
        (["sample", "nowhere", "x.mp4"], "no run folder or generator file nowhere"),
        (["sample", "/dev/null", "x.mp4"], "/dev/null is neither a file nor a folder but a device"),
        (["train", "/dev/null"], "/dev/null is neither a file nor a folder but a device"),
        (["bench", "/dev/null"], "/dev/null is neither a file nor a folder but a device"),
        (["data", "check", "/dev/null"], "/dev/null is neither a file nor a folder but a device"),
        (
            ["sample", RUN, "small.yaml/x.mp4"],
            "small.yaml is a file, so small.yaml/x.mp4 cannot be made in it",
        ),
        (["sample", RUN, "x.mp4", "--frames", "9"], "makes 4 frames, not 9"),
        (["sample", RUN, "x.mp4", "--frames", "0"], "--frames 0 must be at least 1"),
        (["sample", RUN, "x.mp4", "--show", "layers"], "has no mask or background to show"),
        (["sample", RUN, "x.mp4", "--show", "motions"], "cannot exchange motions"),
        (["sample", RUN, "x", "--show", "layers"], "writes a single image or video"),
        (["interpolate", RUN, "x.mp4", "--steps", "1"], "steps"),
        (["sample", RUN, "x.avi"], "x.avi is not a supported output format"),
        (["sample", RUN, "x.xyz"], "use .gif, .mp4, .png, .webp for a grid, or a folder"),
        (["sample", RUN, ".mp4"], ".mp4 is not a supported output format"),
        (["sample", RUN, "x.safetensors"], "x.safetensors is not a supported output format"),
        (["report", "videos"], "videos is not a run folder: it holds no config.yaml"),
    ],
)
def test_verbs_on_runs_name_mistakes(words: list[str], sentence: str, capsys: Capture) -> None:
    assert cli.run(words) == 2
    assert sentence in capsys.readouterr().err
    assert not Path("x.mp4").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["interpolate", RUN, "small.yaml/x.mp4"],
        ["compare", RUN, "--out", "small.yaml/x.html"],
        ["data", "faces", "videos", "small.yaml/faces"],
        ["data", "stabilize", "videos", "small.yaml/steady"],
        ["data", "build", "videos", "small.yaml/set"],
        ["data", "motions", "small.yaml/motions"],
    ],
)
def test_a_place_that_cannot_be_is_told_before_any_work(words: list[str], capsys: Capture) -> None:
    assert cli.run(words) == 2
    said = capsys.readouterr().err
    assert "small.yaml is a file, so small.yaml/" in said
    assert said.count("\n") == 1


def test_a_full_disk_is_told_before_an_evaluation(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=2000, free=1000))
    before = sorted(Path(RUN).rglob("*"))
    assert cli.run(["evaluate", RUN, "--protocol", "stswd"]) == 2
    said = capsys.readouterr().err
    assert "needs 1.0 MiB at least, and its disk has 0.0 MiB left" in said
    assert sorted(Path(RUN).rglob("*")) == before


def test_presets_are_listed_with_what_they_are_for(capsys: Capture) -> None:
    assert cli.run(["presets"]) == 0
    said = capsys.readouterr().out
    for name in vidgan.list_presets():
        assert name in said
