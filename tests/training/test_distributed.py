"""Two processes compute what one computes."""

import json
import socket
from pathlib import Path

import pytest
import torch
from launching import torchrun
from safetensors.torch import load_file
from training_cases import tiny_config
from two_processes import LOSSES, MOMENTS, measure

from vidgan.core import distributed
from vidgan.core.distributed import Processes, join_processes
from vidgan.errors import UserError
from vidgan.models import build_gan
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.training.planner import check_batches, plan_schedule


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, packed_clips: Path) -> tuple[Path, Path]:
    """What one process and two processes computed from the same settings."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    measure(one, packed_clips)
    done = torchrun(Path(__file__).with_name("two_processes.py"), str(two), str(packed_clips))
    assert done.returncode == 0, done.stderr
    return one, two


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_agree_after_twenty_steps_and_a_fade(both: tuple[Path, Path], loss: str) -> None:
    files = [run / loss / "checkpoints" / "step-20" for run in both]
    for name in ("generator", "discriminators", "ema"):
        first, second = (load_file(folder / f"{name}.safetensors") for folder in files)
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert value.dtype == torch.float64
            torch.testing.assert_close(value, second[key], rtol=0, atol=1e-9, msg=key)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_agree_in_single_precision(
    both: tuple[Path, Path], loss: str, moment: str
) -> None:
    first, second = (torch.load(out / f"{loss}-{moment}.pt", weights_only=True) for out in both)
    assert first.keys() == second.keys()
    # The rounding of one: reals and fakes each move the last bias by 1, and these cancel.
    rounding = torch.finfo(torch.float32).eps
    for name, gradient in first.items():
        assert gradient.norm() > 0, name
        assert (gradient - second[name]).norm() <= 1e-5 * gradient.norm() + rounding, name


def test_every_process_saw_its_share(both: tuple[Path, Path]) -> None:
    one, two = both
    for out, ranks, share in ((one, 1, 4), (two, 2, 2)):
        for rank in range(ranks):
            counts = json.loads((out / f"counts-{rank}.json").read_text())
            for loss in LOSSES:
                assert counts[loss]["generator"] == [share]
                # Reals and fakes in one pass; interpolates and the generator's fakes alone.
                assert counts[loss]["discriminator"] == [share, 2 * share]


def test_batches_that_do_not_split_are_refused(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, tmp_path, "training.batch_size=[4,6]")
    gan = build_gan(ProgressiveConfig(channels=(4, 4), group_size=2), (3, 4, 8, 8))
    schedule = plan_schedule(config, (3, 4, 8, 8))
    check_batches(schedule, gan, config.training, Processes())
    with pytest.raises(UserError, match=r"=6 at level 1 \(8 px\).*2 processes.*a multiple of 4"):
        check_batches(schedule, gan, config.training, Processes(0, 2))


def test_a_whole_batch_below_the_group_size_is_one_group(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, tmp_path, "training.batch_size=3")
    gan = build_gan(ProgressiveConfig(channels=(4, 4), group_size=4), (3, 4, 8, 8))
    schedule = plan_schedule(config, (3, 4, 8, 8))
    check_batches(schedule, gan, config.training, Processes())
    halves = tiny_config(tmp_path, tmp_path, "training.batch_size=4", "training.accumulate=2")
    with pytest.raises(UserError, match=r"2 micro-batches x groups of 4 .* multiple of 8"):
        check_batches(plan_schedule(halves, (3, 4, 8, 8)), gan, halves.training, Processes())


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells what happens without a GPU")
def test_a_missing_gpu_is_named() -> None:
    with (
        pytest.raises(UserError, match=r"has no GPU.*training\.device=cpu"),
        join_processes("cuda"),
    ):
        pass


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_whose_peer_never_comes_does_not_wait_for_half_an_hour(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "MEETING_S", 1.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": 2, "RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in group.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(UserError, match="another process of this training"), join_processes("cpu"):
        pass
