"""Loggers get what the log gets, continue where the run does, and never get in its way."""

import importlib
import json
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor
from training_cases import hash_of_ema, tiny_config
from wandb_files import history

from vidgan.errors import UserError
from vidgan.training import loggers as loggers_module
from vidgan.training import loop
from vidgan.training.loggers import LoggedRun, Logger, Loggers, make_loggers
from vidgan.training.logs import read_log
from vidgan.training.presets import load_config, load_run_config

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding-a-logger.md"
SAMPLES = ("training.sample_every=10", "training.doctor=off")


@pytest.fixture
def _csv_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The printed logger with its printed entry point, as an installer leaves them."""
    text = DOCUMENT.read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (point,) = re.findall(r'^csv = "(.+)"$', text, re.MULTILINE)
    site = tmp_path / "site"
    info = site / "csv_logger-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "csv_logger.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: csv_logger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[vidgan.loggers]\ncsv = {point}\n")
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop("csv_logger", None)


def in_two_calls(run: Path, data: Path, *words: str) -> Path:
    """Train 20 steps of which 13 to 15 are computed twice, as after a kill."""
    loop.train(tiny_config(run, data, *SAMPLES, *words, "training.total_clips=60"))
    # Back to step 10: the checkpoint of step 15 is lost, its log and what loggers got are not.
    step = run / "checkpoints" / "step-15"
    for file in step.iterdir():
        file.unlink()
    step.rmdir()
    return loop.train(tiny_config(run, data, *SAMPLES, *words))


@pytest.mark.usefixtures("_csv_installed")
def test_the_printed_logger_gets_what_the_log_gets(tmp_path: Path, packed_clips: Path) -> None:
    run = in_two_calls(tmp_path / "run", packed_clips, "training.log=csv")
    rows = [line.split(",") for line in (run / "numbers.csv").read_text().splitlines()]
    told = {(int(step), name): float(value) for step, name, value in rows}
    assert len(told) == len(rows), "a point is there twice"
    expected = {
        (line["step"], key): value
        for line in read_log(run / "log.jsonl")
        for key, value in line.items()
        if key not in ("step", "time", "crc32")
    }
    clips = {key: told.pop(key) for key in list(told) if "/brightness" in key[1]}
    assert told == expected
    assert {step for step, _ in told} == {5, 10, 15, 20}
    # The samples at the end of the first call, step 15, were beyond the checkpoint.
    assert {step for step, name in clips if name == "samples/brightness"} == {10, 20}
    assert {name for _, name in clips} == {"samples/brightness", "real/brightness"}
    assert all(0 <= value <= 255 for value in clips.values())


@pytest.mark.usefixtures("_csv_installed")
def test_loggers_move_no_weight_and_may_change_when_a_run_continues(
    tmp_path: Path, packed_clips: Path
) -> None:
    with_one = in_two_calls(tmp_path / "a", packed_clips, "training.log=csv")
    loop.train(tiny_config(tmp_path / "b", packed_clips, *SAMPLES, "training.total_clips=60"))
    without = loop.train(tiny_config(tmp_path / "b", packed_clips, *SAMPLES, "training.log=[csv]"))
    assert hash_of_ema(with_one) == hash_of_ema(without)
    steps = {int(row.split(",")[0]) for row in (without / "numbers.csv").read_text().splitlines()}
    assert steps == {20}
    assert load_run_config(without).training.loggers == ("csv",)


class Broken(Logger):
    """Raises where the test says."""

    raises_in = "start"
    error: BaseException = ValueError("no\nnetwork")

    def start(self, run: LoggedRun) -> None:
        self._maybe("start")

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        self._maybe("log")

    def clips(self, step: int, name: str, clips: Tensor, fps: float) -> None:
        self._maybe("clips")

    def close(self) -> None:
        self._maybe("close")

    def _maybe(self, where: str) -> None:
        if where == self.raises_in:
            raise self.error


@pytest.mark.parametrize("where", ["start", "log", "clips", "close"])
def test_a_logger_that_raises_is_off_after_one_line(
    where: str,
    tmp_path: Path,
    packed_clips: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Broken, "raises_in", where)
    if where == "log":
        monkeypatch.setattr(Broken, "error", SystemExit(3))
    name = f"{__name__}:Broken"
    config = tiny_config(tmp_path / "run", packed_clips, *SAMPLES, f"training.log=['{name}']")
    run = loop.train(config)
    assert read_log(run / "log.jsonl")[-1]["step"] == 20
    said = [line for line in capsys.readouterr().err.splitlines() if "is off from here on" in line]
    reason = "SystemExit: 3" if where == "log" else "ValueError: no"
    assert said == [
        f"the logger {name} is off from here on ({reason}); the training goes on",
    ]


class Stuck(Logger):
    """Never returns until it is let go."""

    go = threading.Event()

    def start(self, run: LoggedRun) -> None:
        self.go.wait(60)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        raise AssertionError("called although it is off")


def test_a_logger_that_hangs_delays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loggers_module, "CLOSING_S", 0.05)
    monkeypatch.setattr(loggers_module, "MAX_WAITING", 3)
    logged = LoggedRun(folder=tmp_path, settings={}, step=0)
    slow = Loggers({"slow": Stuck()}, logged)
    for step in range(1, 10):
        slow.log({"step": step, "loss": 1.0})
    slow.close()
    assert capsys.readouterr().err.count("it cannot keep up") == 1
    hanging = Loggers({"hanging": Stuck()}, logged)
    hanging.close()
    assert capsys.readouterr().err.count("it does not finish") == 1
    Stuck.go.set()


def test_what_a_package_prints_does_not_mix_with_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Chatty(Logger):
        def start(self, run: LoggedRun) -> None:
            print("hello from a package")

        def log(self, step: int, scalars: Mapping[str, float]) -> None: ...

    Loggers({"chatty": Chatty()}, LoggedRun(folder=tmp_path, settings={}, step=0)).close()
    print("a result")
    out, err = capsys.readouterr()
    assert out == "a result\n"
    assert "hello from a package" in err


def test_numbers_in_groups_get_names_with_a_slash() -> None:
    record: dict[str, Any] = {
        "step": 5,
        "time": 1.0,
        "loss/generator": 2.0,
        "doctor": {"verdict": "healthy", "values": {"diversity": 0.5}, "findings": []},
        "is_something": True,
    }
    assert dict(loggers_module._numbers(record)) == {
        "step": 5,
        "loss/generator": 2.0,
        "doctor/diversity": 0.5,
    }


def words_to_loggers(*words: str) -> tuple[str, ...]:
    return load_config("cpu/quick", ["data=clips/", *words]).training.loggers


def test_ways_to_name_loggers() -> None:
    assert words_to_loggers() == ()
    assert words_to_loggers("log=tensorboard") == ("tensorboard",)
    assert words_to_loggers("log=tensorboard,wandb,tensorboard") == ("tensorboard", "wandb")
    assert words_to_loggers("training.log=[trackio, wandb]") == ("trackio", "wandb")
    assert words_to_loggers("log=null") == ()
    mapping = {"preset": "cpu/quick", "log": ["wandb"]}
    assert load_config(mapping, ["data=clips/"]).training.loggers == ("wandb",)


def test_a_missing_package_or_an_unknown_logger_is_one_sentence(
    tmp_path: Path, packed_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="no logger 'tensorbord'; choose one of tensorboard, "):
        make_loggers(["tensorbord"])
    with pytest.raises(UserError, match="a file cannot choose what runs"):
        make_loggers(["some_module:Some"])
    with pytest.raises(UserError, match="is not a vidgan"):
        make_loggers([f"{__name__}:NoLogger"])
    for name in ("tensorboard", "wandb", "trackio"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UserError, match=rf"needs the extra '{name}': pip install"):
            make_loggers([name])
    with pytest.raises(UserError, match="pip install 'vidgan\\[wandb\\]'"):
        loop.train(tiny_config(tmp_path / "run", packed_clips, "training.log=wandb"))
    assert not (tmp_path / "run").exists()


class NoLogger:
    """Has no method of a logger."""


def test_the_extras_are_there() -> None:
    text = (DOCUMENT.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    for name in loggers_module.LOGGERS.table:
        assert re.search(rf"^{name} = \[", text, re.MULTILINE), name


# ------------------------------------------------------------------------------------------------
# The real packages


def test_tensorboard_shows_every_step_once(tmp_path: Path, packed_clips: Path) -> None:
    pytest.importorskip("tensorboard")
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    run = in_two_calls(tmp_path / "run", packed_clips, "training.log=tensorboard")
    assert len(list((run / "tensorboard").glob("events.*"))) == 2
    events = accumulator.EventAccumulator(str(run / "tensorboard")).Reload()
    log = read_log(run / "log.jsonl")
    for name in ("loss/generator", "alpha", "clips_seen"):
        points = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in points] == [5, 10, 15, 20]
        assert [value for _, value in points] == pytest.approx([line[name] for line in log])
    images = events.Images("samples")
    assert [image.step for image in images] == [10, 20]
    assert images[0].encoded_image_string.startswith(b"GIF89a")
    # Two clips of 8 px, sixteen times as large, beside each other.
    assert (images[0].width, images[0].height) == (2 * 128 + 3 * 2, 128 + 2 * 2)
    assert {image.step for image in events.Images("real")} <= {5, 10, 15, 20}


def test_wandb_offline_keeps_one_run(
    tmp_path: Path, packed_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = in_two_calls(tmp_path / "run", packed_clips, "training.log=wandb")
    known = json.loads((run / "loggers" / "wandb.json").read_text())
    folders = sorted((run / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    assert all(folder.name.endswith(known["id"]) for folder in folders)
    rows = [row for folder in folders for row in history(folder)]
    steps = [int(row["_step"]) for row in rows]
    assert steps == sorted(set(steps)) == [5, 10, 15, 20]
    losses = [line["loss/generator"] for line in read_log(run / "log.jsonl")]
    assert [row["loss/generator"] for row in rows] == losses
    assert [row["samples/_type"] for row in rows if "samples/_type" in row] == ["video-file"] * 3
    assert list((run / "wandb").glob("**/*.mp4"))
