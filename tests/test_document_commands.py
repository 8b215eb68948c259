"""What documents tell their readers to type is understood, and all that can be is run."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from document_commands import (
    NOT_RUN,
    PAGES,
    ROOT,
    RUN_APART,
    commands,
    lines_that_need,
    needs,
    parsed,
    why_not_run,
    words_of,
)
from launching import ENVIRONMENT
from reader import new_reader, printed_code, run_in, typed

from vidgan.errors import UserError

CALLS = [(path, line) for path in PAGES for line in commands(path.read_text(encoding="utf-8"))]


def name_of(value: Path | str) -> str:
    return value.stem if isinstance(value, Path) else str(value)


# ------------------------------------------------------------------------------------------------
# All of them: parsed, and their settings checked


def settings_of_training(given: dict[str, Any]) -> None:
    from vidgan.cli.train import split_words
    from vidgan.training.presets import list_presets, load_config

    source, words = split_words(given["words"])
    # What names code of the reader's own is imported from a file that is not here.
    words = [word for word in words if not re.match(r"(model|log)=\w+:\w+", word)]
    known = source is None or source in list_presets()
    load_config(source if known else "cpu/pvgan-clips-32x16", words)


def settings_of_clips(given: dict[str, Any]) -> None:
    from vidgan.cli.data import clip_settings

    clip_settings(given["words"], given.get("preset"), None, False)


def settings_of_evaluation(given: dict[str, Any]) -> None:
    from vidgan.cli.evaluate import take_judge_seed
    from vidgan.core.settings import apply_overrides, from_dict
    from vidgan.data.settings import DataConfig
    from vidgan.evaluation.protocols import changed_protocol

    flags = given["flags"]
    words, _ = take_judge_seed(given.get("words", ()))
    of_protocol = [word.removeprefix("protocol.") for word in words if word.startswith("protocol.")]
    # Metrics of other packages are described where they are added.
    of_protocol = [word for word in of_protocol if "brightness" not in word]
    changed_protocol(flags.protocol or flags.show or "own-c3d", of_protocol)
    rest = [word.removeprefix("data.") for word in words if not word.startswith("protocol.")]
    rest = [word.replace("data=", "path=", 1) for word in rest]
    from_dict(DataConfig, apply_overrides({}, rest), "data")


def settings_of_faces(given: dict[str, Any]) -> None:
    from vidgan.core.settings import apply_overrides, from_dict
    from vidgan.films.faces.film import FacesConfig

    from_dict(FacesConfig, apply_overrides({}, given["words"]), "faces")


def is_there(given: dict[str, Any]) -> None:
    assert (ROOT / given["suite"]).is_file()


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "train": settings_of_training,
    "plan": settings_of_training,
    "data check": settings_of_clips,
    "data build": settings_of_clips,
    "data faces": settings_of_faces,
    "evaluate": settings_of_evaluation,
    "bench": is_there,
}
"""What of a verb's words its parser does not look at."""


@pytest.mark.parametrize(("page", "line"), CALLS, ids=name_of)
def test_vidgan_understands_what_a_page_says(page: Path, line: str) -> None:
    words = words_of(line)
    assert words is not None
    name, given = parsed(words)
    if name in CHECKS:
        CHECKS[name](given)


def test_the_gate_refuses_what_vidgan_would() -> None:
    text = "```\nvidgan train data=x sed=3  # a remark\n$ vidgan sample runs/a \\\n  --nmu 3\n```\n"
    first, second = commands(f"{text}\n    srun --ntasks=2 vidgan doctor\n\nvidgan text\n")[:2]
    assert len(commands(f"{text}\n    srun --ntasks=2 vidgan doctor\n\nvidgan text\n")) == 3
    with pytest.raises(UserError, match="did you mean seed"):
        settings_of_training(parsed(words_of(first) or [])[1])
    with pytest.raises(UserError, match="no flag --nmu; did you mean --num"):
        parsed(words_of(second) or [])
    with pytest.raises(UserError, match="did you mean"):
        parsed(["sapmle", "x"])


# ------------------------------------------------------------------------------------------------
# Run, in the order of a page, on tiny clips and with few steps


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_reader(tmp_path_factory.mktemp("reader"))
    printed_code(folder, "adding-a-metric", "brightness")
    printed_code(folder, "adding-a-model", "dense")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", dict.fromkeys(path for path, _ in CALLS), ids=name_of)
def test_the_commands_of_a_page_run(
    page: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, line in CALLS:
        if path != page or why_not_run(line) or needs(line):
            continue
        code = run_in(workplace, typed(workplace, line))
        said = capsys.readouterr().err
        # A judge of so few clips may be too weak for any score of its protocol.
        assert code == 0 or "gives no score of these clips" in said, (line, said)


@pytest.mark.slow
@pytest.mark.parametrize("line", lines_that_need("torchrun"))
def test_torchrun_trains_as_a_page_says(line: str, workplace: Path) -> None:
    launcher = [sys.executable, *line.partition(" vidgan ")[0].split()[1:]]
    launcher[1:1] = ["-m", "torch.distributed.run", "--standalone"]
    words = [*launcher, "vidgan", *typed(workplace, line)]
    words += [] if " run=" in line else ["run=runs/of-two"]
    own = {**ENVIRONMENT, "VIDGAN_CACHE": str(workplace / "cache")}
    done = subprocess.run(
        words, env=own, cwd=workplace, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("line", lines_that_need("trackio"))
def test_numbers_go_to_trackio_as_a_page_says(
    line: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(workplace / "trackio"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    for package in ("trackio", "wandb"):
        pytest.importorskip(package)
    assert run_in(workplace, [*typed(workplace, line), "run=runs/logged"]) == 0


def test_each_pattern_is_of_commands_that_there_are_and_of_one_kind() -> None:
    for mark in [*NOT_RUN, *RUN_APART.values()]:
        assert any(re.search(mark, line) for _, line in CALLS), f"nothing matches {mark}: drop it"
    for _, line in CALLS:
        kinds = [mark for mark in RUN_APART.values() if re.search(mark, line)]
        assert len(kinds) + bool(why_not_run(line)) <= 1, line
    named = re.findall(r"tests/[\w/.]+", " ".join(NOT_RUN.values()))
    assert all((ROOT / name).exists() for name in named)


def test_what_is_neither_run_nor_given_a_reason_fails() -> None:
    """Whoever runs the commands of a kind takes all of them from the same list."""
    tests = "".join(
        (ROOT / "tests" / f"test_document_{name}.py").read_text(encoding="utf-8")
        for name in ("commands", "extras")
    )
    for key in RUN_APART:
        assert f'lines_that_need("{key}")' in tests
