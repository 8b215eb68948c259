"""What goes wrong in a run, and what is left of it."""

import dataclasses
import json
import os
import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from training_cases import hash_of_ema, start_child, tiny_config

from vidgan.core.files import read_sealed_json, write_sealed_json
from vidgan.core.machine import processor_id
from vidgan.core.progress import say
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.errors import UnhealthyTrainingError, UserError
from vidgan.models.base import GAN, ClipShape
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.sampling.storage import checkpoint_folder, list_checkpoints, load_generator
from vidgan.training import loop
from vidgan.training.checkpoint import find_checkpoint
from vidgan.training.logs import read_log
from vidgan.training.loop import open_clips, train
from vidgan.training.run_folder import run_lock
from vidgan.training.step import TrainingStep


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, packed_clips: Path) -> Path:
    """An uninterrupted run of 20 steps."""
    return train(tiny_config(tmp_path_factory.mktemp("finished") / "run", packed_clips))


@pytest.fixture(scope="module")
def fifteen_steps(tmp_path_factory: pytest.TempPathFactory, packed_clips: Path) -> Path:
    """The same run up to step 15, with all of its checkpoints."""
    words = ("training.total_clips=60", "training.keep_checkpoints=9")
    return train(tiny_config(tmp_path_factory.mktemp("half") / "run", packed_clips, *words))


@pytest.fixture
def half(fifteen_steps: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be maltreated."""
    return shutil.copytree(fifteen_steps, tmp_path / "run")


def poison(monkeypatch: pytest.MonkeyPatch, at: Any) -> None:
    """Put a NaN into the generator in steps for which `at(step, attempt)` holds."""
    take_step = TrainingStep.run

    def run(self: TrainingStep, step: int, attempt: int, *rest: Any) -> Any:
        logs = take_step(self, step, attempt, *rest)
        if at(step, attempt):
            with torch.no_grad():
                next(self.gan.generator.parameters()).fill_(torch.nan)
        return logs

    monkeypatch.setattr(TrainingStep, "run", run)


# ------------------------------------------------------------------------------------------------
# NaN


def test_a_nan_leads_back_to_the_last_good_checkpoint(
    finished: Path,
    tmp_path: Path,
    packed_clips: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Step 14 saves: only the weights tell, its losses were computed before the NaN.
    poison(monkeypatch, lambda step, attempt: step == 14 and attempt == 0)
    run = train(tiny_config(tmp_path / "run", packed_clips))
    assert "not finite at step 15: back to step 10" in capsys.readouterr().err
    lines = read_log(run / "log.jsonl")
    assert [(line["step"], line["attempt"]) for line in lines] == [
        (5, 0),
        (10, 0),
        (15, 1),
        (20, 1),
    ]
    state = find_checkpoint(run, print)
    assert state is not None
    assert state.attempt == 1
    assert all(value.isfinite().all() for value in load_generator(run, "last").parameters())
    assert hash_of_ema(run) != hash_of_ema(finished)


def test_training_gives_up_after_every_roll_back(
    tmp_path: Path, packed_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, lambda step, attempt: step == 6)
    config = tiny_config(tmp_path / "run", packed_clips, "training.max_rollbacks=2")
    with pytest.raises(UnhealthyTrainingError, match=r"step 10 after 2 roll-backs"):
        train(config)
    assert list_checkpoints(tmp_path / "run") == [0, 5]
    assert "unhealthy" in (tmp_path / "run" / "index.html").read_text()


# ------------------------------------------------------------------------------------------------
# Disks


def test_files_that_grow_too_large_leave_the_last_checkpoint(
    finished: Path, half: Path, packed_clips: Path
) -> None:
    before = {p: p.read_bytes() for p in checkpoint_folder(half, 15).iterdir()}
    # Enough for the page, the log and the networks, too little for the optimizers' moments.
    child = start_child(tiny_config(half, packed_clips), file_limit=60_000)
    said = child.result()
    assert said == (
        f"UserError: {half} cannot be written to, the limit on the size of a file is reached; the "
        "checkpoint of step 15 is intact: raise it (ulimit -f), or choose another disk, and give "
        "the same command again"
    )
    assert {p: p.read_bytes() for p in checkpoint_folder(half, 15).iterdir()} == before
    train(tiny_config(half, packed_clips))
    assert hash_of_ema(half) == hash_of_ema(finished)


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ((), "set training.accumulate=2, training.precision.networks=bf16, a smaller"),
        (
            ("training.precision={networks: bf16, check: off}", "training.accumulate=2"),
            "set training.accumulate=4, training.precision.penalty=bf16, a smaller",
        ),
    ],
)
def test_an_exhausted_memory_is_one_sentence_with_what_helps(
    words: tuple[str, ...], advice: str, tmp_path: Path, packed_clips: Path
) -> None:
    sizes = ("training.batch_size=4096", "training.stable_clips=0", "training.fade_clips=0")
    config = tiny_config(tmp_path / "run", packed_clips, *sizes, *words)
    said = start_child(config, memory_limit=200 * 2**20).result()
    assert re.fullmatch(
        r"UserError: the memory of this machine ran out \(tried to allocate \d+ bytes\) at a batch "
        r"of 4096 clips of 4x8x8 px; .*",
        said,
    )
    assert advice in said
    assert list_checkpoints(tmp_path / "run") == [0]


@pytest.mark.parametrize("damage", ["cut", "missing", "flipped", "state"])
def test_a_damaged_checkpoint_is_passed_over(
    damage: str,
    finished: Path,
    half: Path,
    packed_clips: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = checkpoint_folder(half, 15)
    file = folder / ("state.json" if damage == "state" else "optimizers.safetensors")
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "flipped":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        os.truncate(file, len(content) // 2)
    train(tiny_config(half, packed_clips))
    said = capsys.readouterr().err
    assert f"{folder} is damaged" in said
    assert "step 10 is the newest undamaged checkpoint" in said
    assert hash_of_ema(half) == hash_of_ema(finished)
    assert (half / "checkpoints" / "damaged-step-15").is_dir()


def test_when_every_checkpoint_is_damaged_nothing_is_begun_anew(
    half: Path, packed_clips: Path
) -> None:
    for step in list_checkpoints(half):
        (checkpoint_folder(half, step) / "ema.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"every checkpoint .* is damaged: bring whole ones back"):
        train(tiny_config(half, packed_clips))


def test_a_run_whose_checkpoints_are_gone_is_not_begun_anew(half: Path, packed_clips: Path) -> None:
    before = (half / "log.jsonl").read_bytes()
    shutil.rmtree(half / "checkpoints")
    with pytest.raises(
        UserError, match=r"holds the log\.jsonl of a run whose checkpoints are gone"
    ):
        train(tiny_config(half, packed_clips))
    (half / "checkpoints").mkdir()
    with pytest.raises(UserError, match=r"bring .*checkpoints back, or start in another folder"):
        train(tiny_config(half, packed_clips))
    assert (half / "log.jsonl").read_bytes() == before
    (half / "log.jsonl").unlink()
    with pytest.raises(UserError, match=r"holds the last\.json of a run"):
        train(tiny_config(half, packed_clips))


def test_a_run_that_was_ended_before_its_first_checkpoint_just_starts(
    finished: Path, tmp_path: Path, packed_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save", end)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_config(run, packed_clips))
    assert (run / "log.jsonl").read_bytes() == b""
    assert not (run / "checkpoints").exists()
    train(tiny_config(run, packed_clips))
    assert hash_of_ema(run) == hash_of_ema(finished)


def test_a_roll_back_to_checkpoints_that_are_gone_is_refused(
    tmp_path: Path, packed_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"

    def gone(step: int, _: int) -> bool:
        if step == 7:
            shutil.rmtree(run / "checkpoints")
        return step == 7

    poison(monkeypatch, gone)
    with pytest.raises(UserError, match="a run whose checkpoints are gone"):
        train(tiny_config(run, packed_clips))


def test_a_checkpoint_of_a_newer_version_is_named(half: Path, packed_clips: Path) -> None:
    state = checkpoint_folder(half, 15) / "state.json"
    write_sealed_json(state, read_sealed_json(state) | {"schema": 99})
    with pytest.raises(UserError, match=r"newer version of vidgan \(schema 99"):
        train(tiny_config(half, packed_clips))


def test_the_best_checkpoint_is_kept(half: Path, packed_clips: Path) -> None:
    (half / "best.json").write_text('{"step": 5}')
    train(tiny_config(half, packed_clips, "training.keep_checkpoints=1"))
    assert list_checkpoints(half) == [5, 20]


# ------------------------------------------------------------------------------------------------
# Folders and settings


def test_what_is_refused_before_the_first_checkpoint_leaves_no_folder(
    tmp_path: Path, packed_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "runs" / "new"
    with pytest.raises(UserError, match="holds no checkpoint"):
        train(tiny_config(run, packed_clips, f"init_from={tmp_path / 'nowhere'}"))
    assert not run.parent.exists()

    def fail(*_: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(loop, "save", fail)
    with pytest.raises(UserError, match="the memory of this machine ran out"):
        train(tiny_config(run, packed_clips))
    assert not run.parent.exists()

    # What was there before stays.
    run.mkdir(parents=True)
    with pytest.raises(UserError, match="holds no checkpoint"):
        train(tiny_config(run, packed_clips, f"init_from={tmp_path / 'nowhere'}"))
    assert run.is_dir()


def test_a_run_with_other_settings_is_not_continued(half: Path, packed_clips: Path) -> None:
    words = ("training.ema_beta=0.5", "loss.name=swgan", "training.log_every=7")
    before = (half / "config.yaml").read_bytes()
    with pytest.raises(UserError) as caught:
        train(tiny_config(half, packed_clips, *words))
    said = str(caught.value)
    assert "training.ema_beta=0.5 (was 0.9)" in said
    assert "loss.name=swgan (was wgan-gp)" in said
    assert "log_every" not in said
    assert (half / "config.yaml").read_bytes() == before


def test_a_run_cannot_be_shortened(half: Path, packed_clips: Path) -> None:
    with pytest.raises(UserError, match="can be raised but not lowered to 56"):
        train(tiny_config(half, packed_clips, "training.total_clips=56"))


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path, packed_clips: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files and no config\.yaml"):
        train(tiny_config(tmp_path, packed_clips))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_processes_cannot_train_in_one_folder(half: Path, packed_clips: Path) -> None:
    with run_lock(half):
        said = start_child(tiny_config(half, packed_clips)).result()
    assert said.startswith(f"UserError: another process is training in {half}")


def test_clips_too_short_for_the_settings_are_refused_before_anything_is_written(
    tmp_path: Path, packed_clips: Path
) -> None:
    config = tiny_config(tmp_path / "run", packed_clips, "data.frames=8")
    with pytest.raises(UserError, match=r"data\.frames=8"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_a_batch_that_tears_groups_apart_is_refused(tmp_path: Path, packed_clips: Path) -> None:
    with pytest.raises(UserError, match=r"batch_size=5 at level 0 .* multiple of 2"):
        train(tiny_config(tmp_path / "run", packed_clips, "training.batch_size=5"))
    assert not (tmp_path / "run").exists()


def test_init_from_starts_with_another_runs_weights(
    finished: Path, tmp_path: Path, packed_clips: Path
) -> None:
    words = (f"init_from={finished}", "seed=9", "training.keep_checkpoints=9")
    run = train(tiny_config(tmp_path / "run", packed_clips, *words))
    first, last = (checkpoint_folder(p, s) for p, s in ((run, 0), (finished, 20)))
    for name in ("generator", "discriminators"):
        file = f"{name}.safetensors"
        assert (first / file).read_bytes() == (last / file).read_bytes()
    assert list_checkpoints(run)[-1] == 20


def test_init_from_passes_over_a_damaged_checkpoint(
    half: Path, tmp_path: Path, packed_clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest, older = (checkpoint_folder(half, step) for step in list_checkpoints(half)[:-3:-1])
    os.truncate(newest / "generator.safetensors", 100)
    words = (f"init_from={half}", "seed=9", "training.keep_checkpoints=9")
    run = train(tiny_config(tmp_path / "other", packed_clips, *words))
    assert f"{newest} is damaged" in capsys.readouterr().err
    files = [folder / "discriminators.safetensors" for folder in (checkpoint_folder(run, 0), older)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_init_from_another_model_is_refused(
    finished: Path, tmp_path: Path, packed_clips: Path
) -> None:
    words = (f"init_from={finished}", "model.channels=[8,4]")
    with pytest.raises(UserError, match=r"do not fit this model: .* there and .* here"):
        train(tiny_config(tmp_path / "run", packed_clips, *words))
    words = (f"init_from={finished}", "loss.name=swgan")
    with pytest.raises(UserError, match=r"this model: \S+ is (not there and \[|\[.* not here;)"):
        train(tiny_config(tmp_path / "run", packed_clips, *words))
    with pytest.raises(UserError, match=r"init_from=.*nowhere holds no checkpoint"):
        train(tiny_config(tmp_path / "run", packed_clips, f"init_from={tmp_path / 'nowhere'}"))


ALONE = (
    "is a generator alone, without the discriminators that training goes on with: init_from takes"
)
MADE_BY = "vidgan train cpu/pvgan-motions-16x8 seed=0 data=FOLDER"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("zoo:shapes", f"init_from=zoo:shapes {ALONE} the folder of a run .* by: {MADE_BY}"),
        ("zoo:shape", "there is no generator 'zoo:shape'.*did you mean zoo:shapes"),
        (
            "RUN/checkpoints/step-20/ema.safetensors",
            f"/ema.safetensors {ALONE}",
        ),
        ("RUN/checkpoints/step-20", "/step-20 is a checkpoint of a run: give init_from=RUN"),
    ],
)
def test_init_from_says_what_it_takes(
    source: str, told: str, finished: Path, tmp_path: Path, packed_clips: Path
) -> None:
    source, told = (text.replace("RUN", str(finished)) for text in (source, told))
    with pytest.raises(UserError, match=told):
        train(tiny_config(tmp_path / "run", packed_clips, f"init_from={source}"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("num_good_saves", [0, 1, 2])
def test_weights_are_recommended_where_some_are_saved(
    num_good_saves: int, tmp_path: Path, packed_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, save, calls = tmp_path / "run", loop.save, []

    def fail_later(*given: Any) -> None:
        calls.append(given)
        if len(calls) > num_good_saves:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        save(*given)

    monkeypatch.setattr(loop, "save", fail_later)
    with pytest.raises(UserError, match="the memory of this machine ran out") as caught:
        train(tiny_config(run, packed_clips))
    # The first one holds the weights that every run of this seed begins with.
    assert (f"init_from={run}" in str(caught.value)) == (num_good_saves > 1)


def test_going_on_with_other_threads_is_said(
    half: Path, packed_clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    train(tiny_config(half, packed_clips, "training.threads=2"))
    assert "continuing with threads 1 -> 2: rounding differs" in capsys.readouterr().err
    assert torch.get_num_threads() == threads


def test_going_on_with_another_processor_is_said(
    half: Path,
    packed_clips: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = processor_id()
    # A limit on the instructions makes this processor another one, as far as rounding goes.
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX")
    assert processor_id() != before
    run = train(tiny_config(half, packed_clips))
    said = capsys.readouterr().err
    assert f"continuing with processor {before} -> {processor_id()}: rounding differs" in said
    assert json.loads((run / "environment.json").read_text())["processor"]["limits"]
    # The run now belongs to this processor: going on once more says nothing.
    train(tiny_config(half, packed_clips, "training.total_clips=88"))
    assert "continuing with" not in capsys.readouterr().err


def test_videos_that_are_left_out_are_named_whenever_training_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "cache"))
    videos = tmp_path / "videos"
    render_motions(
        videos,
        motion_settings(objects=["disc"], motions="left,right", size=8, frames=4),
        videos=4,
        heldout=0.0,
    )
    next(videos.rglob("*.mp4")).rename(videos / "outside.mp4")
    config = tiny_config(tmp_path / "run", videos, "data.workers=0", "data.splits=off")
    for _ in range(2):
        dataset = open_clips(config, say)
        assert dataset.num_clips == 3
        said = capsys.readouterr().err
        assert "videos left out: 1" in said
        assert "outside.mp4: lies outside the class folders" in said


def test_what_was_said_of_the_clips_is_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "cache"))
    videos, run = tmp_path / "videos", tmp_path / "run"
    motions = motion_settings(objects=["disc"], motions="left,right", size=8, frames=4)
    render_motions(videos, motions, videos=8, heldout=0.0)
    names = sorted(videos.rglob("*.mp4"))
    shutil.copy(names[0], videos / "outside.mp4")

    def said(num_steps: int) -> str:
        words = ("data.workers=0", "data.splits=off", f"training.total_clips={4 * num_steps}")
        train(tiny_config(run, videos, *words))
        return capsys.readouterr().err

    outside = "outside.mp4: lies outside the class folders"
    unscorable = "vidgan evaluate will not score these clips"
    first = said(20)
    assert "videos left out: 1" in first
    assert outside in first
    assert unscorable in first
    again = said(25)
    assert "continues at step 20" in again
    assert "left out" not in again
    assert unscorable not in again
    # What is new is told.
    names[0].write_bytes(b"no video")
    changed = said(30)
    assert "more videos left out: 1" in changed
    assert f"{names[0].relative_to(videos)}: cannot be read" in changed
    assert outside not in changed
    assert unscorable in changed
    assert "left out" not in said(35)
    # Nothing is known where the record is damaged.
    (run / "data.json").write_text("")
    lost = said(40)
    assert "videos left out: 2" in lost
    assert unscorable in lost


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForgetsClasses(ProgressiveConfig):
    """A model of somebody else that makes nothing of the classes it is offered."""

    def build(self, clip_shape: ClipShape, num_classes: int = 0) -> GAN:
        return super().build(clip_shape, 0)


def test_a_model_that_ignores_the_classes_of_the_data_is_pointed_out(
    tmp_path: Path, packed_clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("training.total_clips=4", "training.stable_clips=0", "training.fade_clips=0")
    config = tiny_config(tmp_path / "run", packed_clips, *short)
    sentence = "does not condition on classes"
    train(config)
    assert sentence not in capsys.readouterr().err
    model = ForgetsClasses(**{f.name: getattr(config.model, f.name) for f in fields(config.model)})
    train(dataclasses.replace(config, model=model, run=str(tmp_path / "other")))
    assert f"ForgetsClasses {sentence}" in capsys.readouterr().err
