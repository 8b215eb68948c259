"""A run that was stopped, by whatever, ends with the bits of one that was not."""

import json
from pathlib import Path

import pytest
from training_cases import Child, hash_of_ema, start_child, tiny_config

from vidgan.sampling.storage import list_checkpoints, read_card
from vidgan.training.logs import read_log
from vidgan.training.loop import train
from vidgan.training.presets import Config


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, packed_clips: Path) -> Path:
    """An uninterrupted run of 20 steps."""
    return train(tiny_config(tmp_path_factory.mktemp("whole") / "run", packed_clips))


def is_writing(config: Config) -> bool:
    return any(Path(config.run, "checkpoints").glob(".tmp-*-step-*"))


def kill_at_step(config: Config, step: int) -> None:
    child = start_child(config)
    assert child.wait_until(lambda: child.step.value >= step)
    child.kill()


def kill_while_writing(config: Config, step: int) -> None:
    child: Child = start_child(config, slow_writes_s=0.3)
    assert child.wait_until(lambda: child.step.value >= step and is_writing(config))
    child.kill()
    assert is_writing(config), "the kill came too late to leave half a checkpoint"


def test_twenty_steps_equal_ten_and_ten_more(
    whole_run: Path, tmp_path: Path, packed_clips: Path
) -> None:
    child = start_child(tiny_config(tmp_path / "run", packed_clips))
    child.wait_until(lambda: child.step.value >= 9)
    child.process.terminate()
    assert child.result() == "TrainingStopped: 0"
    assert child.process.exitcode == 0
    stopped_at = list_checkpoints(tmp_path / "run")[-1]
    assert 10 <= stopped_at < 20
    again = train(tiny_config(tmp_path / "run", packed_clips))
    for name in ("ema", "generator", "discriminators", "optimizers"):
        file = f"checkpoints/step-20/{name}.safetensors"
        assert (again / file).read_bytes() == (whole_run / file).read_bytes(), name


@pytest.mark.parametrize(
    "words",
    [
        ("loss.name=swgan", "training.reset_after_fade=true"),
        ("loss.name=swgan", "training.precision={networks: bf16, penalty: bf16}"),
        ("loss.name=hinge", "training.fakes=fresh", "training.accumulate=2"),
        (
            "loss.name=ns-r1",
            "training.discriminator_steps=2",
            "training.order=generator_first",
            "training.augment={colour: 1.0, translation: 0.2, cutout: 0.5}",
            "data.flip=true",
            "training.threads=2",
        ),
    ],
    ids=["swgan", "bf16", "micro-batches", "augmented"],
)
def test_a_longer_run_equals_one_that_was_lengthened(
    words: tuple[str, ...], tmp_path: Path, packed_clips: Path
) -> None:
    train(tiny_config(tmp_path / "a", packed_clips, *words, "training.total_clips=56"))
    train(tiny_config(tmp_path / "a", packed_clips, *words))
    train(tiny_config(tmp_path / "b", packed_clips, *words))
    assert hash_of_ema(tmp_path / "a") == hash_of_ema(tmp_path / "b")


def test_two_kills_one_of_them_in_a_write_within_the_fade(
    whole_run: Path, tmp_path: Path, packed_clips: Path
) -> None:
    config = tiny_config(tmp_path / "run", packed_clips)
    kill_at_step(config, 7)
    kill_while_writing(config, 9)
    train(config)
    assert not is_writing(config)
    assert hash_of_ema(tmp_path / "run") == hash_of_ema(whole_run)
    steps = [line["step"] for line in read_log(tmp_path / "run" / "log.jsonl")]
    assert steps == [line["step"] for line in read_log(whole_run / "log.jsonl")]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_ten_kills(workers: int, whole_run: Path, tmp_path: Path, packed_clips: Path) -> None:
    words = (f"training.workers={workers}", "training.checkpoint_every=2")
    config = tiny_config(tmp_path / "run", packed_clips, *words)
    # Steps 6 to 13 fade; four kills leave a temporary checkpoint behind.
    kill_while_writing(config, 0)
    for step in (1, 3, 6):
        kill_at_step(config, step)
    kill_while_writing(config, 7)
    for step in (9, 11, 12):
        kill_at_step(config, step)
    kill_while_writing(config, 15)
    kill_while_writing(config, 17)
    train(config)
    assert hash_of_ema(tmp_path / "run") == hash_of_ema(whole_run)


def test_what_a_run_leaves(whole_run: Path) -> None:
    names = {path.name for path in whole_run.iterdir() if not path.name.startswith(".")}
    assert names == {
        "config.yaml",
        "command.txt",
        "environment.json",
        "data.json",
        "log.jsonl",
        "index.html",
        "samples",
        "checkpoints",
        "last.json",
    }
    assert list_checkpoints(whole_run) == [15, 20]
    assert (whole_run / "samples" / "step-20.mp4").exists()
    assert json.loads((whole_run / "last.json").read_text())["step"] == 20
    card = read_card(whole_run / "checkpoints" / "step-15" / "ema.safetensors")
    assert (card.clips_seen, card.stage.level, card.stage.alpha) == (60, 1, 1.0)
    assert card.class_names == ("disc-left", "disc-right")


def test_samples_of_a_fading_checkpoint_are_at_its_stage(
    tmp_path: Path, packed_clips: Path
) -> None:
    words = ("training.keep_checkpoints=4", "training.sample_every=10")
    run = train(tiny_config(tmp_path / "run", packed_clips, *words))
    card = read_card(run / "checkpoints" / "step-10" / "ema.safetensors")
    # The tenth step began after 36 clips, 12 into a fade of 32.
    assert card.stage.alpha == 12 / 32
    samples = {path.name for path in (run / "samples").iterdir()}
    assert samples == {"step-10.mp4", "step-20.mp4", "real-4x8.mp4"}
