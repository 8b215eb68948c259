"""Two processes of Ray Train or of accelerate train what two of torchrun do, bit for bit."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from launching import ENVIRONMENT, torchrun
from training_cases import tiny_config

from vidgan.training.loop import train
from vidgan.training.run_check import compare_runs

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("train_tiny.py")


@pytest.fixture(scope="module")
def by_torchrun(tmp_path_factory: pytest.TempPathFactory, packed_clips: Path) -> Path:
    run = tmp_path_factory.mktemp("torchrun") / "run"
    done = torchrun(SCRIPT, str(run), str(packed_clips))
    assert done.returncode == 0, done.stderr
    return run


def assert_same(first: Path, second: Path) -> None:
    found = compare_runs(first, second)
    assert (found.settings, found.environment, found.numbers) == ((), (), ())
    assert found.same_until == 20
    assert set(found.checkpoints.values()) == {"same"}


def test_accelerate(by_torchrun: Path, packed_clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="needs accelerate")
    run = tmp_path / "run"
    # On CPUs it starts one process by itself; asked for GPUs it starts them by torchrun.
    words = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    words += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *words]
    command += [str(SCRIPT), str(run), str(packed_clips)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_same(by_torchrun, run)


def test_ray_train(by_torchrun: Path, packed_clips: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="needs the extra cluster")
    if importlib.util.find_spec("pyarrow") is None:
        pytest.skip("needs the extra cluster")
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    run = tmp_path / "run"
    paths = {"PYTHONPATH": ENVIRONMENT["PYTHONPATH"], "OMP_NUM_THREADS": "1"}
    ray.init(num_cpus=3, include_dashboard=False, runtime_env={"env_vars": paths})

    def work() -> None:
        train(tiny_config(run, packed_clips))

    try:
        TorchTrainer(
            work,
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(storage_path=str(tmp_path / "ray")),
        ).fit()
    finally:
        ray.shutdown()
    assert_same(by_torchrun, run)
