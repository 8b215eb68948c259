"""Files choose no code: which names a file may give, and what never runs because of one."""

import inspect
import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

import vidgan
from vidgan.cli import main as cli
from vidgan.core import plugins
from vidgan.core.plugins import trust
from vidgan.errors import UserError
from vidgan.films.faces.landmarks import LandmarkConfig, make_landmarker
from vidgan.models import model_config_class, model_name
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.sampling.storage import GENERATOR_FILE, GeneratorCard, plain_model, save_generator
from vidgan.training.presets import load_config, load_run_config

MODULE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from vidgan.models.pvgan import ProgressiveConfig
class Config(ProgressiveConfig):
    pass
"""


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path whose module `evilmodel` leaves a file `ran` when it runs."""
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evilmodel.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.delitem(sys.modules, "evilmodel", raising=False)
    yield folder
    sys.modules.pop("evilmodel", None)


def generator_file(path: Path, name: str) -> Path:
    config = ProgressiveConfig(channels=(4, 4))
    generator = vidgan.build_gan(config, (3, 4, 8, 8)).generator
    card = GeneratorCard(
        model=plain_model(config),
        clip_shape=(3, 4, 8, 8),
        num_classes=0,
        class_names=(),
        stage=generator.stage,
        fps=8.0,
        step=0,
        clips_seen=0,
        loss="swgan",
    )
    card.model["name"] = name
    save_generator(path, generator, card)
    return path


def run_folder(path: Path, name: str) -> Path:
    path.mkdir(exist_ok=True)
    settings = {
        "model": {"name": name, "channels": [4, 4]},
        "data": {"path": str(path), "resolution": 8, "frames": 4},
    }
    # Without a group or a word of its own the file would be damaged.
    settings |= {"loss": {}, "training": {}, "best": {}}
    settings |= {"run": "", "seed": 0, "init_from": None, "preset": ""}
    (path / "config.yaml").write_text(yaml.safe_dump(settings))
    step = path / "checkpoints" / "step-0"
    step.mkdir(parents=True)
    generator_file(step / GENERATOR_FILE, name)
    return path


NAMES = [
    "evilmodel:Config",
    "evilmodel:main",
    "evilmodel:Config.build",
    "IPython:start_ipython",
    "os:system",
    "antigravity:webbrowser",
    ".evilmodel:Config",
    "evilmodel:",
    ":Config",
    ":",
    "a:b:c",
    "vidgan.models.base:ModelConfig",
    "evilmodel",
    "../evil/evilmodel:Config",
    "",
    "\n:x",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_generator_file_names_no_code(name: str, evil: Path, tmp_path: Path) -> None:
    file = generator_file(tmp_path / "ema.safetensors", name)
    before = set(sys.modules)
    with pytest.raises(UserError, match=r"model\.name=|no model"):
        vidgan.load_generator(file)
    assert not (evil / "ran").exists()
    assert {module for module in set(sys.modules) - before if "vidgan" not in module} <= before


@pytest.mark.parametrize(
    "words",
    [
        ["sample", "RUN", "OUT.mp4"],
        ["interpolate", "RUN"],
        ["predict", "RUN", "OUT"],
        ["report", "RUN"],
        ["compare", "RUN", "RUN"],
        ["evaluate", "RUN"],
        ["train", "RUN"],
        ["train", "RUN/config.yaml"],
        ["train", "cpu/pvgan-motions-16x8", "run=RUN", "data=RUN"],
        ["train", "cpu/pvgan-motions-16x8", "init_from=RUN", "data=RUN"],
        ["evaluate", "RUN", "--verify"],
        ["evaluate", "RUN", "--watch"],
    ],
    ids=" ".join,
)
def test_no_verb_runs_code_that_a_run_folder_names(
    words: list[str], evil: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_folder(tmp_path / "run", "evilmodel:Config")
    (run / "evals").mkdir()
    (run / "evals" / "a.json").write_text(
        json.dumps(
            {
                "schema": 1,
                "protocol": {"id": "stswd"},
                "scores": {},
                "counts": {},
                "generator": {"model": {"name": "evilmodel:Config"}, "step": 1},
            }
        )
    )
    assert cli.run([word.replace("RUN", str(run)) for word in words]) == 2
    assert not (evil / "ran").exists()


def test_the_sentence_says_how_to_trust(evil: Path, tmp_path: Path) -> None:
    file = generator_file(tmp_path / "ema.safetensors", "evilmodel:Config")
    with pytest.raises(UserError, match=r"ema\.safetensors: .* --trust evilmodel:Config"):
        vidgan.load_generator(file)


def test_a_name_typed_by_the_user_counts_for_its_process(evil: Path, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", "evilmodel:Config")
    config = load_config(run, ["model=evilmodel:Config"])
    assert type(config.model).__name__ == "Config"
    assert model_name(type(config.model)) == "evilmodel:Config"
    assert type(load_run_config(run).model).__name__ == "Config"
    assert vidgan.load_generator(run, "last").latent_dim() == 128


def test_importing_the_module_is_consent(evil: Path, tmp_path: Path) -> None:
    file = generator_file(tmp_path / "ema.safetensors", "evilmodel:Config")
    __import__("evilmodel")
    assert vidgan.load_generator(file).latent_dim() == 128


@pytest.mark.parametrize("form", [["--trust", "evilmodel:Config"], ["--trust=evilmodel:Config"]])
def test_every_verb_takes_trust(form: list[str], evil: Path, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", "evilmodel:Config")
    assert cli.run(["sample", *form, str(run), str(tmp_path / "out.png"), "--num", "2"]) == 0
    assert (tmp_path / "out.png").exists()


def test_no_verb_has_another_meaning_of_trust() -> None:
    # Words of `--trust NAME` are taken away before a verb sees the others.
    for name in cli.VERBS:
        assert "trust" not in inspect.signature(cli.load_verb(name)).parameters, name


@pytest.mark.parametrize("name", ["evilmodel", "evilmodel:Nothing", "nowhere:X", "os;x:Y", ""])
def test_a_word_of_trust_that_names_no_class_is_one_sentence(
    name: str, evil: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["models", "--trust", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_preset_of_the_user_may_name_a_class(evil: Path, tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("model: {name: 'evilmodel:Config'}\n")
    assert type(load_config(preset).model).__name__ == "Config"


def test_a_registered_class_is_found_and_written_by_its_name(
    evil: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("mine", "evilmodel:Config", "vidgan.models")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    found = model_config_class("mine")
    assert model_name(found) == "mine"
    with pytest.raises(UserError, match="choose one of"):
        model_config_class("yours")


def test_a_module_that_fails_is_one_sentence(evil: Path) -> None:
    (evil / "evilmodel.py").write_text("raise RuntimeError('no')")
    with pytest.raises(UserError, match="RuntimeError: no"):
        trust("evilmodel:Config")


def test_a_landmarker_is_named_on_the_command_line() -> None:
    name = "vidgan.films.faces.landmarks:EyeLandmarker"
    assert make_landmarker(LandmarkConfig(backend=name)).num_points == 2
    with pytest.raises(UserError, match="choose one of"):
        make_landmarker(LandmarkConfig(backend="yes"))


# ------------------------------------------------------------------------------------------------
# The working directory


SHADOWED = ["random", "pickle", "tempfile", "yaml", "socket", "torch", "numpy", "typing", "copy"]


def _traps(folder: Path) -> Path:
    for name in SHADOWED:
        code = f"open({str(folder / 'ran')!r}, 'a').write({name!r}); raise SystemExit(9)\n"
        (folder / f"{name}.py").write_text(code)
    return folder


def _start(code: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(vidgan.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_running_the_module_imports_nothing_from_the_working_directory(tmp_path: Path) -> None:
    done = _start(["-m", "vidgan", "models"], _traps(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "pvgan" in done.stdout
    assert not (tmp_path / "ran").exists()


def test_workers_import_nothing_from_the_working_directory(tmp_path: Path) -> None:
    # A script elsewhere does not look into the working directory; its spawned workers would.
    script = tmp_path / "mine" / "script.py"
    script.parent.mkdir()
    script.write_text(
        "from vidgan.data.build.engine import map_in_order\n"
        "from vidgan.errors import printable\n"
        "if __name__ == '__main__':\n"
        "    print(list(map_in_order(printable, ['a', 'b'], 1)))\n"
    )
    traps = tmp_path / "traps"
    traps.mkdir()
    done = _start([str(script)], _traps(traps))
    assert done.stdout == "['a', 'b']\n", done.stderr
    assert not (traps / "ran").exists()
