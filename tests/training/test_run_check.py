"""What `vidgan doctor` says of a run folder, and where two runs part."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from training_cases import tiny_config

from vidgan.cli.main import run as run_verb
from vidgan.core.files import read_sealed_json, write_sealed_json
from vidgan.errors import UserError
from vidgan.training.logs import LOG_FILE, LogFile, read_log
from vidgan.training.loop import train
from vidgan.training.presets import load_run_config
from vidgan.training.run_check import (
    _have_same_tensors,
    check_run,
    compare_runs,
    first_difference,
)
from vidgan.training.run_folder import LOCK_FILE

SHORT = ("training.total_clips=56", "training.stable_clips=8", "training.fade_clips=16")


@pytest.fixture(scope="module")
def finished(packed_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 14 steps: lines at 5, 10 and 14."""
    return train(tiny_config(tmp_path_factory.mktemp("runs") / "run", packed_clips, *SHORT))


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_a_whole_run_has_no_problems(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = check_run(finished)
    assert found.problems == ()
    assert found.facts["state"] == "finished"
    assert found.facts["whole_checkpoints"] == [10, 14]
    assert found.next == f"vidgan evaluate {finished}"
    assert run_verb(["doctor", str(finished), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["facts"]["step"] == 14
    with pytest.raises(UserError, match=r"holds no config\.yaml"):
        check_run(finished / "checkpoints")


def test_what_is_wrong_is_named(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = copied / "checkpoints" / "step-14" / "ema.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    mended = f"vidgan train {copied} (sets the damaged step-14 aside and goes on from step 10)"
    assert check_run(copied).next == mended
    log = copied / LOG_FILE
    lines = log.read_text().splitlines()
    log.write_text("\n".join([lines[1], lines[0], lines[2][:-4]]) + "\n")
    settings = copied / "config.yaml"
    settings.write_text(settings.read_text().replace("total_clips: 56", "total_clips: 560"))
    problems = "; ".join(check_run(copied).problems)
    assert "step-14 is damaged: ema.safetensors does not match its checksum" in problems
    assert "1 damaged line" in problems
    assert "goes back from step 10 to step 5" in problems
    assert check_run(copied).next == mended
    assert run_verb(["doctor", str(copied)]) == 2
    assert "step-14 is damaged" in capsys.readouterr().err
    shutil.rmtree(copied / "checkpoints" / "step-10")
    assert check_run(copied).next.startswith(f"bring {copied / 'checkpoints'} back")
    shutil.rmtree(copied / "checkpoints")
    gone = check_run(copied)
    assert f"{copied} holds the log.jsonl of a run whose checkpoints are gone" in str(gone.problems)
    assert gone.next.startswith(f"bring {copied / 'checkpoints'} back")


def listing(run: Path) -> dict[str, int]:
    """Everything in a folder, with the time of its last change."""
    return {str(path): path.stat().st_mtime_ns for path in (run, *run.rglob("*"))}


def test_a_run_on_a_read_only_disk_is_looked_at(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def open_to_read(path: Path, flags: int, *args: int, **options: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return really_open(path, flags, *args, **options)

    really_open = os.open
    monkeypatch.setattr(os, "open", open_to_read)
    assert run_verb(["doctor", str(copied)]) == 0
    assert "finished" in capsys.readouterr().out
    # A copy need not hold the file of the lock, and none is made.
    (copied / LOCK_FILE).unlink()
    before = listing(copied)
    assert run_verb(["doctor", str(copied)]) == 0
    assert listing(copied) == before


def test_a_lock_that_may_not_be_read_is_told(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, flags: int, *args: int, **options: int) -> int:
        if str(path).endswith(LOCK_FILE):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return really_open(path, flags, *args, **options)

    really_open = os.open
    monkeypatch.setattr(os, "open", refuse)
    assert run_verb(["doctor", str(copied)]) == 0
    assert capsys.readouterr().err == (
        f"nobody can tell whether a process trains in {copied}: {copied / LOCK_FILE} cannot be read"
        " (Permission denied)\n"
    )


HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "r+")
fcntl.lockf(lock, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
"""


def test_a_run_that_trains_is_said_to(copied: Path) -> None:
    before = listing(copied)
    assert check_run(copied).facts["state"] == "finished"
    command = [sys.executable, "-c", HOLD, str(copied / LOCK_FILE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        assert check_run(copied).facts["state"] == "training now"
        holder.communicate()
    assert check_run(copied).facts["state"] == "finished"
    assert listing(copied) == before


def test_a_run_and_its_copy_do_not_part(finished: Path, copied: Path) -> None:
    found = compare_runs(finished, copied)
    assert (found.same_until, found.parts_at, found.settings) == (14, None, ())
    assert found.checkpoints == {10: "same", 14: "same"}


def rewrite_log(run: Path, *steps: int) -> None:
    """Move a loss by its last bit in the lines of `steps`, and the clock in all."""
    lines = read_log(run / LOG_FILE)
    (run / LOG_FILE).unlink()
    rewritten = LogFile(run, 0)
    for line in lines:
        if line["step"] in steps:
            line["loss/generator"] *= 1 + 2**-52
        line["time"] += 1000.0
        rewritten.append(line)


def test_runs_part_where_their_numbers_do(
    finished: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite_log(copied, 10, 14)
    shutil.rmtree(copied / "checkpoints")
    settings = copied / "config.yaml"
    settings.write_text(settings.read_text().replace("seed: 3", "seed: 4"))
    found = compare_runs(finished, copied)
    assert (found.same_until, found.parts_at) == (5, 10)
    assert len(found.numbers) == 1
    assert found.numbers[0].startswith("loss/generator: ")
    assert found.settings == ("seed: 3, 4",)
    assert run_verb(["doctor", "--diff", str(finished), str(copied)]) == 0
    assert "part after step 5, at step 10" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ("training.checkpoint_every=7",),
        ("training.log_every=3",),
        ("training.log_every=2", "training.checkpoint_every=10"),
    ],
)
def test_other_lines_of_the_same_bits_do_not_part(
    words: tuple[str, ...],
    finished: Path,
    packed_clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # A line stands for the steps since the one before it, and the cadence decides which these are.
    other = train(tiny_config(tmp_path / "run", packed_clips, *SHORT, *words))
    for pair in ((finished, other), (other, finished)):
        found = compare_runs(*pair)
        assert (found.same_until, found.parts_at, found.numbers) == (14, None, ())
        assert found.checkpoints[14] == "same"
        assert run_verb(["doctor", "--diff", *map(str, pair)]) == 0
        assert "the same to the last bit up to step 14" in capsys.readouterr().out


def test_a_run_that_was_stopped_and_continued_does_not_part(
    finished: Path, packed_clips: Path, tmp_path: Path
) -> None:
    words = ("training.keep_checkpoints=9", *SHORT[1:])
    run = tmp_path / "run"
    train(tiny_config(run, packed_clips, "training.total_clips=28", *words))
    train(tiny_config(run, packed_clips, SHORT[0], *words))
    assert [line["step"] for line in read_log(run / LOG_FILE)] == [5, 7, 10, 14]
    found = compare_runs(finished, run)
    assert (found.same_until, found.parts_at) == (14, None)
    # Its line of step 10 stands for other steps than that of the other run.
    rewrite_log(run, 10)
    assert compare_runs(finished, run).parts_at is None
    # After a line that is lost, nobody knows where the next one begins.
    rewrite_log(run, 14)
    lines = (run / LOG_FILE).read_text().splitlines()
    (run / LOG_FILE).write_text("\n".join([*lines[:2], "x", lines[3]]) + "\n")
    assert compare_runs(finished, run).parts_at is None


def test_the_averages_of_runs_may_part_alone(
    finished: Path, packed_clips: Path, tmp_path: Path
) -> None:
    words = (*SHORT, "training.ema_beta=0.5")
    found = compare_runs(finished, train(tiny_config(tmp_path / "run", packed_clips, *words)))
    assert (found.same_until, found.parts_at) == (14, None)
    assert set(found.checkpoints.values()) == {"ema.safetensors differ"}


def test_a_line_that_contradicts_a_later_checkpoint_is_named(
    finished: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite_log(copied, 5)
    found = compare_runs(finished, copied)
    assert (found.same_until, found.parts_at) == (14, None)
    (told,) = found.damaged
    assert told.startswith("the lines of step 5 differ (loss/generator: ")
    assert told.endswith(
        "), although the runs are the same at step 14: one of them was edited, or another version "
        "wrote it"
    )
    assert run_verb(["doctor", "--diff", str(finished), str(copied)]) == 2
    assert told in capsys.readouterr().err


def test_runs_without_a_common_start_part_by_a_step(
    finished: Path, packed_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("seed=4", "training.log_every=6", "training.checkpoint_every=10", *SHORT)
    other = train(tiny_config(tmp_path / "run", packed_clips, *words))
    found = compare_runs(finished, other)
    assert (found.same_until, found.parts_at) == (None, 10)
    assert "checkpoint: discriminators.safetensors" in found.numbers[0]
    assert run_verb(["doctor", "--diff", str(finished), str(other)]) == 0
    assert "they part at step 10 at the latest:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lines", "saved", "expected"),
    [
        ({}, {}, (None, None)),
        ({5: [], 10: []}, {}, (10, None)),
        ({5: [], 10: ["a"], 15: ["a"]}, {}, (5, 10)),
        ({5: [], 10: ["a"], 15: ["a"]}, {10: ["g"]}, (5, 10)),
        ({5: ["a"], 10: ["a"]}, {0: []}, (0, 5)),
        # The same weights later: they had not parted before.
        ({5: ["a"], 10: ["a"]}, {5: [], 8: ["g"]}, (5, 8)),
        ({5: ["a"], 10: []}, {}, (10, None)),
        # Weights may differ by too little to be seen in the next losses.
        ({5: [], 10: []}, {5: ["g"]}, (None, 5)),
        ({5: [], 10: [], 15: ["a"]}, {0: [], 10: ["g"]}, (5, 10)),
    ],
)
def test_the_verdict_is_the_first_step_that_proves_it(
    lines: dict[int, list[str]],
    saved: dict[int, list[str]],
    expected: tuple[int | None, int | None],
) -> None:
    assert first_difference(lines, saved)[:2] == expected


def test_damage_is_no_agreement(
    finished: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (copied / LOG_FILE).open("a", encoding="utf-8") as log:
        log.write('{"step": nan\n')
    told = f"{copied / LOG_FILE} has 1 damaged line (line 4), whose numbers are lost: delete it"
    assert compare_runs(finished, copied).damaged == (told,)
    assert run_verb(["doctor", "--diff", str(finished), str(copied)]) == 2
    (copied / "checkpoints" / "step-14" / "state.json").write_text("xx")
    assert len(compare_runs(finished, copied).damaged) == 2
    assert "has 1 damaged line" in capsys.readouterr().err


def test_a_pointer_to_no_checkpoint_is_a_problem(copied: Path) -> None:
    (copied / "last.json").write_text('{"step": 7}')
    assert any("last.json" in problem for problem in check_run(copied).problems)


@pytest.mark.parametrize("content", ["", "xx", '{"step": 7}'])
def test_the_remedies_for_a_damaged_last_json_help(
    content: str, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = copied / "last.json"
    last.write_text(content)
    (told,) = check_run(copied).problems
    assert told.startswith(f"{last} is inconsistent (")
    assert told.endswith(
        ": delete it (the newest checkpoint is the last one), or choose one of 10, 14"
    )
    command = ["sample", str(copied), str(tmp_path / "a.png"), "--checkpoint", "last", "--num", "1"]
    assert run_verb(command) == 2
    assert told in capsys.readouterr().err
    assert run_verb([*command[:4], "10", *command[5:]]) == 0
    train(replace(load_run_config(copied), run=str(copied)))
    assert check_run(copied).problems == ()
    last.unlink()
    assert check_run(copied).problems == ()
    capsys.readouterr()
    assert run_verb([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 14


def test_a_run_is_finished_where_its_checkpoints_are(copied: Path) -> None:
    # The log alone still tells of the last step.
    last = copied / "last.json"
    content = last.read_bytes()
    last.write_bytes(b"")
    assert check_run(copied).next == f"vidgan train {copied} (writes last.json again)"
    last.write_bytes(content)
    shutil.rmtree(copied / "checkpoints" / "step-14")
    found = check_run(copied)
    assert found.facts["state"] == "unfinished"
    assert found.next == f"vidgan train {copied} (goes on from step 10)"
    (copied / "config.yaml").write_text("model: 3\n")
    assert check_run(copied).next.startswith(f"put {copied / 'config.yaml'} back")


def test_files_are_compared_and_not_what_is_noted_of_them(finished: Path, copied: Path) -> None:
    path = copied / "checkpoints" / "step-10" / "ema.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    found = compare_runs(finished, copied)
    assert found.checkpoints == {10: f"{path.parent} is damaged", 14: "same"}
    assert run_verb(["doctor", "--diff", str(finished), str(copied)]) == 2


def test_tensors_are_compared_and_not_their_notes(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        value = torch.tensor([1.0 + number // 2])
        save_file({"weight": value}, folder / "ema.safetensors", {"seconds": str(number)})
        (folder / "state.json").write_text("{}")
    first, noted, other = folders
    assert _have_same_tensors("ema.safetensors", [first, noted])
    assert not _have_same_tensors("ema.safetensors", [first, other])
    assert not _have_same_tensors("state.json", [first, noted])


@pytest.mark.parametrize(
    ("written", "edited", "told"),
    [
        ("seed: 3", "seed: 4", "seed is 3 there and 4 here"),
        ("latent: 8", "latent: 16", "model.latent is 8 there and 16 here"),
        ("name: wgan-gp", "name: ns-r1", "loss.name is wgan-gp there and ns-r1 here"),
        ("resolution: 8", "resolution: 16", "data.resolution is 8 there and 16 here"),
        ("ema_beta: 0.9", "ema_beta: 0.5", "training.ema_beta is 0.9 there and 0.5 here"),
    ],
)
def test_settings_that_the_checkpoints_were_not_made_with_are_named(
    written: str, edited: str, told: str, copied: Path
) -> None:
    settings = copied / "config.yaml"
    text = settings.read_text()
    assert text.count(written) == 1
    settings.write_text(text.replace(written, edited))
    found = check_run(copied)
    assert len(found.problems) == 2
    for step, problem in zip((10, 14), found.problems, strict=True):
        assert problem.startswith(f"checkpoint step-{step} is of another run, or the settings")
        assert told in problem
    assert found.next == f"put {settings} or the checkpoints of this run back from a copy"
    # Nor does training go on from them.
    with pytest.raises(
        UserError, match=r"is of another run, or the settings|but the clip size needs"
    ):
        train(replace(load_run_config(copied), run=str(copied)))
    assert check_run(copied).problems == found.problems
    # What may change while a run goes on is no sign of another one.
    settings.write_text(text.replace("log_every: 5", "log_every: 6"))
    assert check_run(copied).problems == ()


@pytest.mark.parametrize("content", [None, "", "xx\n"])
def test_a_finished_run_without_its_log_is_finished(
    content: str | None, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = copied / LOG_FILE
    log.unlink()
    if content is not None:
        log.write_text(content)
    found = check_run(copied)
    assert [found.facts[key] for key in ("state", "step", "clips_seen")] == ["finished", 14, 56]
    assert f"{LOG_FILE} is lost" in found.problems[-1]
    assert "step 14" in found.problems[-1]
    assert found.next == f"vidgan evaluate {copied}"
    assert run_verb(["report", str(copied)]) == 0
    page = (copied / "index.html").read_text()
    assert "56 of 56" in page
    assert '<span class="status done">' in page
    assert f"{LOG_FILE} is lost" in capsys.readouterr().err
    # The checkpoints alone say that the end is not reached.
    shutil.rmtree(copied / "checkpoints" / "step-14")
    assert check_run(copied).facts["state"] == "unfinished"
    assert check_run(copied).facts["step"] == 10


def test_verbs_that_use_a_checkpoint_say_that_settings_were_edited(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = copied / "config.yaml"
    whole = settings.read_text()
    clip = tmp_path / "clip.mp4"
    assert run_verb(["sample", str(copied), str(clip), "--num", "1"]) == 0
    commands = {
        "sample": ["sample", copied, tmp_path / "a.png", "--num", "1"],
        "interpolate": ["interpolate", copied, tmp_path / "b.mp4", "--steps", "2"],
        "project": ["project", copied, clip, tmp_path / "c.mp4", "--minutes", "0.001"],
    }
    told = (
        f"{copied}: checkpoint step-14 is of another run, or the settings were edited: "
        f"model.latent is 8 there and 16 here; the generator is made by its own settings"
    )
    for words in commands.values():
        settings.write_text(whole)
        capsys.readouterr()
        assert run_verb([str(word) for word in words]) == 0
        assert "settings were edited" not in capsys.readouterr().err
        settings.write_text(whole.replace("latent: 8", "latent: 16"))
        assert run_verb([str(word) for word in words]) == 0
        assert capsys.readouterr().err.splitlines().count(told) == 1
    # Of a generator, the settings of a run are not asked for.
    settings.write_text("model: 3\n")
    assert run_verb([str(word) for word in commands["sample"]]) == 0
    assert "settings" not in capsys.readouterr().err


def test_a_log_that_lost_lines_is_told_when_training_goes_on(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = copied / LOG_FILE
    log.write_text("\n".join(log.read_text().splitlines()[:1]) + "\n")
    told = f"{LOG_FILE} ends before the checkpoint of step 14: lines are missing"
    assert check_run(copied).problems == (told,)
    train(replace(load_run_config(copied), run=str(copied)))
    assert f"{copied}: {told}" in capsys.readouterr().err


def test_checkpoints_that_were_trained_on_other_clips_are_named(copied: Path) -> None:
    # Those of earlier versions do not say their settings; their generators do.
    for step in (10, 14):
        state = copied / "checkpoints" / f"step-{step}" / "state.json"
        earlier = {k: v for k, v in read_sealed_json(state).items() if k != "settings"}
        write_sealed_json(state, earlier | {"schema": 2})
    assert check_run(copied).problems == ()
    settings = copied / "config.yaml"
    settings.write_text(settings.read_text().replace("latent: 8", "latent: 16"))
    data = read_sealed_json(copied / "data.json")
    write_sealed_json(
        copied / "data.json", data | {"classes": ["up"], "clip_shape": [3, 4, 16, 16]}
    )
    expected = (
        "checkpoint step-14 is of another run, or the settings were edited: classes is "
        "['disc-left', 'disc-right'] there and ['up'] here, clip shape is [3, 4, 8, 8] there and "
        "[3, 4, 16, 16] here, model.latent is 8 there and 16 here"
    )
    assert check_run(copied).problems[1] == expected


@pytest.mark.parametrize("content", [None, "", "xx", "[]"])
def test_an_environment_that_cannot_be_read_is_a_problem(
    content: str | None, finished: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied / "environment.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    assert run_verb(["doctor", str(copied)]) == 2
    told = f"the environment of {copied} is unknown ("
    assert told in (said := capsys.readouterr().err)
    assert f": vidgan train {copied} writes it again, of this machine" in said
    assert str(path) in said
    for pair in ((finished, copied), (copied, finished)):
        assert run_verb(["doctor", "--diff", *map(str, pair)]) == 2
        captured = capsys.readouterr()
        assert f"environment that differ: {told}" in captured.out
        assert f"not all could be compared: {told}" in captured.err
    if content is not None:
        assert run_verb(["report", str(copied)]) == 0
        assert (
            f"; vidgan train {copied} writes it again, of this machine" in capsys.readouterr().err
        )
    train(replace(load_run_config(copied), run=str(copied)))
    assert ("it is written again" in capsys.readouterr().err) == (content is not None)
    assert run_verb(["doctor", str(copied)]) == 0


def test_the_page_of_a_run_says_what_it_leaves_out(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = copied / LOG_FILE
    first, *rest = log.read_text().splitlines(keepends=True)
    log.write_text("x" + first + "{}\n" + "".join(rest))
    assert run_verb(["report", str(copied)]) == 0
    said = f"left out: {log} has 2 damaged lines (lines 1, 2), whose numbers are lost: delete them"
    assert said in capsys.readouterr().err.splitlines()
    assert said in (copied / "index.html").read_text()


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("damage", [slice(None, -9), slice(9, None)])
def test_a_damaged_line_is_named_after_training_went_on(
    number: int, damage: slice, copied: Path
) -> None:
    log = copied / LOG_FILE
    lines = log.read_text().splitlines()
    lines[number - 1] = lines[number - 1][damage]
    log.write_text("\n".join(lines) + "\n")
    told = f"{log} has 1 damaged line (line {number}), whose numbers are lost: delete it"
    assert check_run(copied).problems[0] == told
    config = load_run_config(copied)
    longer = replace(config.training, total_clips=config.training.total_clips + 40)
    train(replace(config, run=str(copied), training=longer))
    steps = [line["step"] for line in read_log(log)]
    assert steps == [step for step in (5, 10, 14, 15, 20, 24) if step != (5, 10, 14)[number - 1]]
    assert check_run(copied).problems == (told,)
    assert f"left out: {told}" in (copied / "index.html").read_text()
    # The remedy helps.
    whole = log.read_text().splitlines()
    log.write_text("\n".join([*whole[: number - 1], *whole[number:]]) + "\n")
    assert check_run(copied).problems == ()


def test_lines_beyond_the_checkpoint_go_with_their_damage(tmp_path: Path) -> None:
    log = LogFile(tmp_path, 0)
    for step in (5, 10, 15, 20):
        log.append({"step": step, "clips_seen": step})
    lines = log.path.read_text().splitlines()
    lines[0] = lines[0][:-4]
    lines[2] = "x"
    log.path.write_text("\n".join(lines) + "\n" + lines[3][:-4])
    assert [line["step"] for line in LogFile(tmp_path, 10).lines] == [10]
    assert log.path.read_text().splitlines() == lines[:2]
    # Of a checkpoint whose own line is damaged, it stays.
    log.path.write_text("\n".join([lines[0], "x", "y"]) + "\n")
    assert LogFile(tmp_path, 10).lines == []
    assert log.path.read_text().splitlines() == [lines[0], "x", "y"]
    assert LogFile(tmp_path, 0).lines == []
    assert log.path.read_text() == ""
