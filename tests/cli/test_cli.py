"""The command line: verbs, mixed words and flags, exit codes and where output goes."""

import errno
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vidgan import __version__
from vidgan.cli import main as cli
from vidgan.cli import words as words_module
from vidgan.cli.words import flags_of
from vidgan.core.machine import describe_processor
from vidgan.errors import UnhealthyTrainingError, UserError
from vidgan.training.presets import default_preset, load_config

Capture = pytest.CaptureFixture[str]


def echo(words: tuple[str, ...] = (), /, *, num: int = 1, json: bool = False) -> None:
    """Print the words.

    Args:
        words: anything.
        num: how often.
        json: as JSON.
    """
    print(words, num, json)


def fail(kind: str, /) -> None:
    """Raise an error of one kind."""
    raise {
        "user": UserError("steps=0 trains nothing; use 1 or more"),
        "unhealthy": UnhealthyTrainingError("the losses are not finite"),
        "interrupt": KeyboardInterrupt(),
        "full": OSError(errno.ENOSPC, "No space left on device", "runs/x/a.mp4"),
        "large": OSError(errno.EFBIG, "File too large", "a.mp4"),
        "forbidden": PermissionError(errno.EACCES, "Permission denied", "/root/x"),
        "file": NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"),
        "unknown": OSError(errno.EIO, "Input/output error"),
        "bug": ZeroDivisionError("a bug"),
    }[kind]


@pytest.fixture(autouse=True)
def verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"echo": f"{__name__}:echo", "fail": f"{__name__}:fail", "data say": f"{__name__}:echo"}
    monkeypatch.setattr(cli, "VERBS", {**cli.VERBS, **extra})
    monkeypatch.delenv("RANK", raising=False)


def test_words_and_flags_may_be_mixed(capsys: Capture) -> None:
    assert cli.run(["echo", "a=1", "--json", "b=2", "--num", "3", "c"]) == 0
    assert capsys.readouterr().out == "('a=1', 'b=2', 'c') 3 True\n"
    assert cli.run(["echo", "--num=3", "b=-2"]) == 0
    assert capsys.readouterr().out == "('b=-2',) 3 False\n"
    assert cli.run(["data", "say", "x"]) == 0
    assert capsys.readouterr().out == "('x',) 1 False\n"


@pytest.mark.parametrize(
    ("kind", "code", "sentence"),
    [
        ("user", 2, "vidgan: steps=0 trains nothing; use 1 or more\n"),
        ("unhealthy", 3, "vidgan: the losses are not finite\n"),
        ("interrupt", 130, "vidgan: interrupted\n"),
        ("full", 2, "vidgan: the disk is full while writing runs/x/a.mp4; free some space and"),
        (
            "large",
            2,
            "vidgan: the limit on the size of a file is reached while writing a.mp4; raise",
        ),
        ("file", 2, "vidgan: a/b cannot be used (Not a directory); choose another place\n"),
        ("forbidden", 2, "vidgan: /root/x cannot be used (Permission denied);"),
    ],
)
def test_errors_become_one_sentence_and_an_exit_code(
    kind: str, code: int, sentence: str, capsys: Capture
) -> None:
    assert cli.run(["fail", kind]) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(sentence)
    assert output.err.count("\n") == 1


@pytest.mark.parametrize(("kind", "error"), [("bug", ZeroDivisionError), ("unknown", OSError)])
def test_errors_of_ours_keep_their_traceback(kind: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        cli.run(["fail", kind])


INTERRUPTED_IMPORT = """
import sys
from importlib import import_module

class Interrupt:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
module, _, function = sys.argv[2].partition(":")
getattr(import_module(module), function)()
"""


@pytest.mark.parametrize("name", ["vidgan.cli.main", "vidgan.core.settings"])
def test_ctrl_c_while_modules_are_loaded_is_one_line(name: str) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    entry = project["project"]["scripts"]["vidgan"]
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, name, entry]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "vidgan: interrupted\n")


def test_other_processes_let_the_first_one_speak(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(cli.time, "sleep", waits.append)
    assert cli.run(["fail", "user"]) == 2
    assert waits == []
    capsys.readouterr()
    monkeypatch.setenv("RANK", "1")
    assert cli.run(["fail", "user"]) == 2
    assert waits == [cli.SECONDS_FOR_FIRST_PROCESS]
    assert capsys.readouterr().err.startswith("vidgan: process 1: steps=0 trains nothing")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["modles"], "there is no verb 'modles'; did you mean 'vidgan models'?"),
        (["data"], "'vidgan data' needs one more word: "),
        (["data", "syy"], "there is no verb 'data syy'; did you mean 'vidgan data say'?"),
        (["qqqq"], "there is no verb 'qqqq'; 'vidgan --help' lists them"),
    ],
)
def test_mistyped_verbs_get_a_suggestion(words: list[str], sentence: str, capsys: Capture) -> None:
    assert cli.run(words) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("echo --jsno", "'vidgan echo' has no flag --jsno; did you mean --json?"),
        ("echo -j", "'vidgan echo' has no flag -j; 'vidgan echo --help' explains it"),
        ("echo --num x", "--num x must be a whole number"),
        ("echo --num=1.5", "--num 1.5 must be a whole number"),
        ("echo --num", "--num needs a value behind it; 'vidgan echo --help' explains it"),
        ("echo --num --json", "--num needs a value behind it; 'vidgan echo --help' explains it"),
        ("echo --json=yes", "--json is a switch and takes no value, such as 'yes'"),
        ("fail", "'vidgan fail' lacks KIND: vidgan fail KIND; 'vidgan fail --help' explains it"),
        ("fail user bug", "'vidgan fail' cannot take 'bug' too: vidgan fail KIND; "),
        ("sample", "'vidgan sample' lacks RUN and OUT: vidgan sample RUN OUT; "),
        ("sample zoo:shapes --num 2", "'vidgan sample' lacks OUT: vidgan sample RUN OUT; "),
        ("sample a b --class", "--class needs a value behind it; "),
        ("sample a b --class-name x", "'vidgan sample' has no flag --class-name; "),
        ("project a b --minutes soon", "--minutes soon must be a number"),
        ("push a b/c", "'vidgan push' needs --license and a value; "),
        ("export a --to onx", "--to onx is none of onnx, pt2, safetensors, web (did you mean onnx"),
        ("completion fish", "bash|zsh fish is none of bash, zsh"),
        ("doctor a b", "'vidgan doctor' cannot take 'b' too: vidgan doctor [RUN]; "),
    ],
)
def test_words_that_do_not_parse_get_one_sentence(
    words: str, sentence: str, capsys: Capture
) -> None:
    assert cli.run(words.split()) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"vidgan: {sentence}")
    assert output.err.count("\n") == 1


@pytest.mark.parametrize("name", list(cli.VERBS))
def test_no_verb_answers_wrong_words_with_a_box(name: str, capsys: Capture) -> None:
    verb = cli.load_verb(name)
    wrong = [["--no-such-flag"], ["-x"], ["--no-such-flag=1", "word"]]
    values = {int: "many", float: "much"}
    wrong += [
        [f"--{flag}", values[kind]] for flag, kind in flags_of(verb).items() if kind in values
    ]
    for words in wrong:
        assert cli.run([*name.split(), *words]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("vidgan: ")
        assert output.err.count("\n") == 1, output.err


def test_what_only_the_parser_refuses_is_one_sentence_too(capsys: Capture) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words_module, "check_words", lambda *_: None)
        for call in ("echo --jsno", "echo --num x", "fail", "export a --to onx"):
            assert cli.run(call.split()) == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert re.match(r"vidgan: [A-Z][ -~]+; 'vidgan \w+ --help' explains it$", error)


def test_help_and_version(capsys: Capture) -> None:
    assert cli.run(["--help"]) == 0
    listed = capsys.readouterr().out
    for name in cli.VERBS:
        assert f"  {name} " in listed
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"vidgan {__version__}\n"
    assert cli.run([]) == 2
    with pytest.raises(SystemExit) as end:
        cli.main(["models", "--help"])
    assert end.value.code == 0


@pytest.mark.parametrize("name", list(cli.VERBS))
def test_every_verb_explains_itself_with_at_most_eight_flags(name: str, capsys: Capture) -> None:
    assert cli.run([*name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: vidgan {name}")
    flags = {line.split()[1] for line in text.splitlines() if line.startswith("\u2502 --")}
    # Every verb has --json, as test_manners says.
    assert len(flags - {"--json"}) <= 8, flags


def test_doctor_and_models_speak_json(capsys: Capture) -> None:
    assert cli.run(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["h264_encoder"] is True
    assert facts["cpu_cores"] <= (os.cpu_count() or 1)
    for name, value in describe_processor().items():
        assert facts[f"cpu_{name}"] == value
    assert cli.run(["models", "--json"]) == 0
    assert "pvgan" in {model["name"] for model in json.loads(capsys.readouterr().out)}


def test_doctor_and_models_speak_to_people(capsys: Capture) -> None:
    assert cli.run(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "h264 encoder          yes" in text
    found = describe_processor()
    assert f"cpu model             {found['model']}\n" in text
    assert f"cpu vectors           {found['vectors']}\n" in text
    assert cli.run(["models"]) == 0
    assert "pvgan       Progressive Video GAN: a 3-D" in capsys.readouterr().out


def test_models_of_one_file_are_told_apart(capsys: Capture) -> None:
    assert cli.run(["models", "--json"]) == 0
    about = {row["name"]: row["about"] for row in json.loads(capsys.readouterr().out)}
    assert about["hrvgan"] != about["hrvgan_repo"]
    assert all(line.endswith(".") for line in about.values())


def test_models_shows_settings_and_the_published_sheet(capsys: Capture) -> None:
    assert cli.run(["models", "pvgan"]) == 0
    assert "frame_plan: auto" in capsys.readouterr().out
    assert cli.run(["models", "pvgan", "--conformance"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "generator      256 px to RGB      3x32x256x256          27  27" in lines
    assert lines[-1].split() == ["sliced", "Wasserstein", "head", "16,640", "16,640"]
    assert cli.run(["models", "pvgan", "--conformance", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"][0]["num_parameters"] == 3_702_091
    assert cli.run(["models", "pvgn"]) == 2
    assert "there is no model 'pvgn'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def motions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve small videos of two classes."""
    folder = tmp_path_factory.mktemp("data") / "motions"
    words = [
        "--videos",
        "12",
        "--size",
        "16",
        "--frames",
        "4",
        "--objects",
        "disc",
        "--motions",
        "left,right",
    ]
    assert cli.run(["data", "motions", str(folder), *words]) == 0
    return folder


def test_data_check_reports_and_draws(motions: Path, tmp_path: Path, capsys: Capture) -> None:
    sheet = tmp_path / "sheet.png"
    words = ["data", "check", str(motions), "resolution=16", "data.frames=4"]
    assert cli.run([*words, "--sheet", str(sheet)]) == 0
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first.startswith(f"{motions} is read as class folders (data.layout=classes), since its")
    assert second.startswith(f"12 videos in {motions}: 12 clips of 4 frames at 16")
    assert sheet.read_bytes().startswith(b"\x89PNG")
    # Without words it is the build that vidgan train would make here.
    assert cli.run(["data", "check", str(motions), "--json", "--sheet", str(sheet)]) == 0
    report = json.loads(capsys.readouterr().out)
    preset = default_preset({})
    data = load_config(preset).data
    assert report["settings_of"] == f"the preset {preset}"
    assert report["levels"] == [[data.frames, data.resolution]]


def test_data_build_packs_every_level(motions: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "packed"
    words = ["data", "build", str(motions), str(out), "resolution=16", "frames=4"]
    assert cli.run([*words, "--levels", "2x8,2x4", "--json"]) == 0
    output = capsys.readouterr()
    report = json.loads(output.out)
    assert report["num_clips"] == 12
    assert report["levels"] == [[4, 16], [2, 8], [2, 4]]
    assert "building clips: 12 of 12" in output.err
    assert out.is_dir()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["resoltion=16"], "there is no setting resoltion; did you mean resolution?"),
        (["frames=40"], "none of the 12 videos in"),
        (["resize=crop"], "resize must be one of centre-crop, letterbox, stretch"),
        (["--levels", "8"], "--levels 8 is not a list like 8x32,4x16"),
        (["--preset", "cpu/none"], "there is no preset"),
    ],
)
def test_data_build_names_mistakes(
    motions: Path, tmp_path: Path, capsys: Capture, words: list[str], sentence: str
) -> None:
    capsys.readouterr()
    assert cli.run(["data", "build", str(motions), str(tmp_path / "out"), *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
