"""Operators that are timed, and kernels that are asked for; training has the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from training_cases import hash_of_ema, tiny_config

from vidgan.cli.main import run as run_verb
from vidgan.core.distributed import Processes
from vidgan.errors import UserError
from vidgan.training import health
from vidgan.training.health import choose_arithmetic, repeatable_arithmetic
from vidgan.training.loop import train
from vidgan.training.presets import load_run_config
from vidgan.training.profiling import StepProfiler
from vidgan.training.settings import TrainingConfig
from vidgan.training.step import Logs

SHORT = ("training.total_clips=40", "training.stable_clips=8", "training.fade_clips=16")


def test_a_profile_is_a_table_and_a_trace(packed_clips: Path, tmp_path: Path) -> None:
    words = (*SHORT, "training.profile_steps=2")
    run = train(tiny_config(tmp_path / "run", packed_clips, *words))
    title, _, head, _, *rows = (run / "profile" / "table.md").read_text().splitlines()
    assert title.startswith("# 2 steps after 3 others: ")
    assert head == "| operator | ms a step | share | calls a step |"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert any("convolution" in name for name, *_ in cells)
    milliseconds = [float(ms) for _, ms, _, _ in cells]
    assert milliseconds == sorted(milliseconds, reverse=True)
    assert 60 < sum(float(share.rstrip("%")) for _, _, share, _ in cells) <= 100.5
    assert json.loads((run / "profile" / "trace.json").read_text())["traceEvents"]
    plain = train(tiny_config(tmp_path / "plain", packed_clips, *SHORT))
    assert hash_of_ema(run) == hash_of_ema(plain)
    assert not (plain / "profile").exists()


@pytest.mark.parametrize("word", ["training.profile_steps=5", "training.profile_steps=3"])
def test_steps_to_profile_are_given_once(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(["train", "cpu/quick", "data=x", word, "--profile", "3", "--dry-run"]) == 2
    told = f"vidgan: --profile 3 and {word} set the same number: give one of them\n"
    assert capsys.readouterr().err == told


def test_the_profiler_adds_no_lines_of_its_library(tmp_path: Path) -> None:
    script = (
        "import pathlib, torch; from vidgan.training.profiling import StepProfiler\n"
        f"run = pathlib.Path({str(tmp_path)!r})\n"
        "with StepProfiler(run, 1, torch.device('cpu'), print) as timed:\n"
        "    for _ in range(5): timed(lambda: {'one': torch.ones(3) + 1})"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("profile of 1 step: ")
    assert not found.stderr


def test_a_run_that_ends_early_writes_what_it_has_and_leaves_no_profiler_on(
    packed_clips: Path, tmp_path: Path
) -> None:
    words = (*SHORT, "training.profile_steps=19")
    run = train(tiny_config(tmp_path / "run", packed_clips, *words))
    assert (run / "profile" / "table.md").read_text().startswith("# 7 steps after 3 others: ")
    assert not torch.autograd._profiler_enabled()

    def fail() -> Logs:
        assert torch.autograd._profiler_enabled()
        raise MemoryError

    def take_steps() -> None:
        with StepProfiler(tmp_path, 2, torch.device("cpu"), print) as timed:
            for take in (dict, dict, dict, fail):
                timed(take)

    with pytest.raises(MemoryError):
        take_steps()
    assert not torch.autograd._profiler_enabled()
    assert not (tmp_path / "profile").exists()


def test_deterministic_kernels_are_asked_for_and_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    card, told = Processes(device=torch.device("cuda")), list[str]()
    before = torch.are_deterministic_algorithms_enabled()
    plain = choose_arithmetic(TrainingConfig(threads=1), card, {}, told.append)
    with repeatable_arithmetic(card.device, plain):
        assert torch.are_deterministic_algorithms_enabled() == before
    settings = TrainingConfig(threads=1, deterministic=True)
    strict = choose_arithmetic(settings, card, plain, told.append)
    assert "kernels as they come -> deterministic" in told[0]
    with repeatable_arithmetic(card.device, strict):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.deterministic
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert torch.are_deterministic_algorithms_enabled() == before
    assert not torch.backends.cudnn.deterministic
    on_cpu = choose_arithmetic(settings, Processes(), {}, told.append)
    assert "kernels" not in on_cpu


CROWDED = (
    "more than the 1 core that this process may use, which can make a step many times slower; "
    "training.threads=1 takes all of them, with other rounding"
)


@pytest.mark.parametrize("words", [(), ("training.minutes=0.02",)])
def test_more_threads_than_cores_are_said_once(
    words: tuple[str, ...],
    packed_clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(health, "num_cores", lambda: 1)
    run = tmp_path / "run"
    train(tiny_config(run, packed_clips, *SHORT, *words, "training.threads=2"))
    assert capsys.readouterr().err.splitlines().count(f"training.threads=2 is {CROWDED}") == 1
    # A run keeps the number that it began with, wherever it goes on.
    saved = load_run_config(run).training
    again = (f"training.total_clips={saved.total_clips + 4}", "training.threads=0")
    lengths = (f"training.{k}={getattr(saved, k)}" for k in ("stable_clips", "fade_clips"))
    train(tiny_config(run, packed_clips, *lengths, *again))
    told = capsys.readouterr().err
    assert told.splitlines().count(f"the run's number of threads, 2, is {CROWDED}") == 1
    assert "training.threads=2 is" not in told


def test_as_many_threads_as_cores_are_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "num_cores", lambda: 2)
    assert list(health.crowded("training.threads=2", 2)) == []
    (told,) = health.crowded("training.threads=1024", 1024)
    assert told.startswith("training.threads=1024 is more than the 2 cores that this process may")


def test_what_has_no_deterministic_kernel_is_named() -> None:
    refusal = "avg_pool3d_backward_cuda does not have a deterministic implementation, but you set"
    with (
        pytest.raises(UserError, match=r"avg_pool3d_backward_cuda .*training\.deterministic=false"),
        repeatable_arithmetic(torch.device("cpu"), {"threads": "1"}),
    ):
        raise RuntimeError(refusal)
