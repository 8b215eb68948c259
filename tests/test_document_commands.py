"""What documents tell their readers to type is understood, and all that can be is run."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from document_commands import PAGES, ROOT, commands, parsed, words_of

from vidgan.cli import main as cli
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
    with pytest.raises(AssertionError, match="exit code 2"):
        parsed(words_of(second) or [])
    with pytest.raises(UserError, match="did you mean"):
        parsed(["sapmle", "x"])


# ------------------------------------------------------------------------------------------------
# Run, in the order of a page, on tiny clips and with few steps

NOT_RUN = {
    r"^torchrun|^srun": "several processes or machines: tests/training/test_distributed.py",
    r"^docker": "a Docker daemon",
    r"films|faces|s3://|ucf|shots/|film\.mp4": "films, published sets, object stores",
    r"web-runtime|\.html$.*export|export .*\.html": "npm fetches a package: make test-web",
    r"^vidgan explore|^ssh": "it serves until Ctrl-C: tests/sharing/test_explore.py",
    r"^vidgan project": "a video of the reader: tests/sharing/test_project.py",
    r"^vidgan (push|pull)": "an account on the hub: tests/sharing",
    r"^vidgan bench|runs/thesis|overnight|motions12|runs/dvdgan_fp|runs/hrvgan-predict": "hours",
    r"weights (convert|verify)|lpips|fvd-tf|thesis-fid.*runs": "weight files that others publish",
    r"runs/thesis|RECORD|1a2b3c4d": "a record that only its reader has: tests/evaluation",
    r"predict RUN|\bRUN\b": "a placeholder: tests/sampling runs the verb on its models",
    r"log=": "packages of extras: tests/training/test_loggers.py",
    r"brightness": "tests/test_metric_document.py",
    r"dense": "a file that the reader writes: tests/test_model_document.py",
    r"\.onnx": "the extra export: tests/sharing",
    r"own-c2st|--watch": "minutes of judging: tests/cli/test_watch.py, tests/evaluation",
    r"completion": "writes to the home folder: tests/cli/test_completion.py",
    r"my_settings|their_samples|ema\.safetensors|runs/[abc]\b|runs/again": "files of the reader",
    r"^vidgan demo|runs/cpu-motions": "minutes: tests/comparing/test_demo.py",
}
"""Commands that are only parsed: a pattern of them, and why or where they are run instead."""

SHORT = [
    "training.total_clips=32",
    "training.stable_clips=0",
    "training.fade_clips=0",
    "training.batch_size=8",
    "training.num_samples=4",
    "training.precision.check=off",
    "training.checkpoint_every=2",
    "training.precision.networks=fp32",
    "training.precision.penalty=fp32",
    "data.workers=0",
]
JUDGED = "protocol.num_clips=8 protocol.classifier.clips_seen=64 protocol.classifier.width=0.05"


def why_not_run(line: str) -> str:
    return next((reason for mark, reason in NOT_RUN.items() if re.search(mark, line)), "")


def shortened(line: str) -> list[str]:
    """The words of a command that would take minutes, for few steps on few clips."""
    words = words_of(line) or []
    words = [word for word in words if not re.match(r"(minutes|hours)=", word)]
    if words[0] == "train" and "--dry-run" not in words:
        words += SHORT
    if words[0] == "plan":
        words += ["--device", "h100"] * ("--device" not in words)
    if words[0] == "evaluate" and not {"--list", "--show"} & set(words):
        weight_free = "stswd" in words
        words += ["data.workers=0", *(JUDGED.split() if not weight_free else [])]
    if words[:2] == ["data", "motions"]:
        words += ["--videos", "40", "--size", "16", "--frames", "8", "--heldout", "0.3"]
    return words


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder with videos in two classes and a run that was evaluated."""
    folder = tmp_path_factory.mktemp("reader")
    call = "data motions my_clips --videos 40 --size 32 --frames 16 --objects disc"
    assert run_in(folder, [*call.split(), "--motions", "left,right", "--heldout", "0.25"]) == 0
    call = "train cpu/pvgan-clips-32x16 data=my_clips/ run=runs/mine"
    assert run_in(folder, shortened(f"vidgan {call}")) == 0
    call = "evaluate runs/mine --protocol stswd protocol.num_clips=8 protocol.sliced.directions=8"
    assert run_in(folder, call.split()) == 0
    return folder


def run_in(folder: Path, words: list[str]) -> int:
    """Run vidgan in a folder, in this process, with the words that a shell would make."""
    found = {word: sorted(map(str, folder.glob(word))) for word in words if "*" in word}
    words = [each for word in words for each in found.get(word) or [word]]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("VIDGAN_CACHE", str(folder / "cache"))
        return cli.run(words)


@pytest.mark.slow
@pytest.mark.parametrize("page", dict.fromkeys(path for path, _ in CALLS), ids=name_of)
def test_the_commands_of_a_page_run(
    page: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, line in CALLS:
        if path != page or why_not_run(line):
            continue
        code = run_in(workplace, shortened(line))
        assert code == 0, (line, capsys.readouterr().err)


def test_what_is_not_run_is_listed_with_a_reason_that_applies() -> None:
    for mark in NOT_RUN:
        assert any(re.search(mark, line) for _, line in CALLS), f"nothing matches {mark}: drop it"
    run = [line for _, line in CALLS if not why_not_run(line)]
    assert len(run) > len(CALLS) / 3
