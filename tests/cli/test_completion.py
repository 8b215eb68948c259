"""The completion that `vidgan completion` prints, sourced by a real shell."""

import shutil
import subprocess
from pathlib import Path

import pytest

from vidgan.cli import completion as module
from vidgan.cli import main as cli


def split_as_bash(line: str) -> list[str]:
    """A line as bash hands it to a completion: `=` and `:` are words of their own."""
    words = line.replace("=", " = ").replace(":", " : ").split()
    return [*words, ""] if line.endswith(" ") else words


@pytest.fixture(scope="module")
def sourced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("completion") / "vidgan.bash"
    file.write_text(module.script("bash"), encoding="utf-8")
    return file


def complete(script: Path, words: list[str], folder: Path) -> set[str]:
    code = (
        f'source {script}; complete -p vidgan >/dev/null || exit 9; COMP_WORDS=("$@"); '
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _vidgan; "
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    shell = ["bash", "--norc", "-c", code, "bash", *words]
    done = subprocess.run(shell, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("line", "expected", "unexpected"),
    [
        ("vidgan ", {"train", "data", "doctor"}, {"check"}),
        ("vidgan ev", {"evaluate"}, {"train"}),
        ("vidgan data ", {"check", "build", "faces"}, {"train"}),
        ("vidgan train ", {"cpu/quick", "training.batch_size=", "data=", "clips"}, {"pvgan"}),
        ("vidgan train cpu/qu", {"cpu/quick"}, {"gpu/quick"}),
        ("vidgan train --", {"--dry-run", "--json"}, {"--num", "--words"}),
        ("vidgan train --dry-run cpu/qu", {"cpu/quick"}, set()),
        ("vidgan train --dry-run ", {"cpu/quick"}, set()),
        ("vidgan train model=pv", {"pvgan"}, {"tgan"}),
        ("vidgan train log=", {"tensorboard", "wandb", "trackio"}, {"clips"}),
        ("vidgan train training.precision.networks=", {"bf16", "fp32", "fp64"}, {"clips"}),
        ("vidgan train data=cl", {"clips"}, {"data=clips"}),
        ("vidgan train model.gro", {"model.group_size="}, {"loss.name="}),
        ("vidgan plan gpu/", {"gpu/quick"}, {"cpu/quick"}),
        ("vidgan export runs page.html --to ", {"onnx", "web"}, {"clips"}),
        ("vidgan export ", {"zoo:shapes", "clips"}, set()),
        ("vidgan export zoo:", {"shapes"}, {"clips"}),
        ("vidgan export zoo:sh", {"shapes"}, {"clips"}),
        ("vidgan data export --format=", {"webdataset", "litdata"}, {"clips"}),
        ("vidgan models ", {"pvgan", "hrvgan"}, {"cpu/quick"}),
        ("vidgan completion ", {"bash", "zsh"}, set()),
    ],
)
def test_bash_completes(
    line: str, expected: set[str], unexpected: set[str], sourced: Path, tmp_path: Path
) -> None:
    (tmp_path / "clips").mkdir()
    found = complete(sourced, split_as_bash(line), tmp_path)
    assert expected <= found
    assert not unexpected & found


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_shells_that_do_not_split_at_equals_signs_get_whole_words(
    sourced: Path, tmp_path: Path
) -> None:
    (tmp_path / "clips").mkdir()
    words = ["vidgan", "train", "loss=swgan-"]
    assert complete(sourced, words, tmp_path) == {"loss=swgan-reference"}
    assert complete(sourced, ["vidgan", "train", "data=cl"], tmp_path) == {"data=clips"}


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_can_source_it(tmp_path: Path) -> None:
    file = tmp_path / "vidgan.zsh"
    file.write_text(module.script("zsh"), encoding="utf-8")
    code = f"autoload -Uz compinit && compinit -u -D; source {file}; whence _vidgan"
    subprocess.run(["zsh", "-f", "-c", code], check=True, capture_output=True)


def test_every_verb_flag_and_setting_is_in_the_script() -> None:
    text = module.script("bash")
    for verb in cli.VERBS:
        for name in module.flag_names(verb):
            assert f"--{name.removesuffix('-name')}" in text, (verb, name)
    assert "training.discriminator.lr=" in text
    assert "data.heldout_fraction=" in text
