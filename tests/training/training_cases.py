"""Runs that take seconds: settings, training in a child process, and what a run left."""

import dataclasses
import hashlib
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from vidgan.core.settings import apply_overrides
from vidgan.data.build.packing import build_clips
from vidgan.data.settings import DataConfig
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.sampling.storage import checkpoint_folder, list_checkpoints
from vidgan.training import checkpoint as checkpoint_module
from vidgan.training.loop import train
from vidgan.training.presets import Config, config_from_dict
from vidgan.training.step import TrainingStep

TINY: dict[str, Any] = {
    "model": {"name": "pvgan", "channels": [8, 8], "latent": 8, "label_dim": 4, "group_size": 2},
    "data": {"resolution": 8, "frames": 4},
    "loss": {"name": "wgan-gp"},
    # 80 clips: 4 px to 24, fading in to 56 (steps 6 to 13 of 20), then stable.
    "training": {
        "total_clips": 80,
        "stable_clips": 24,
        "fade_clips": 32,
        "batch_size": 4,
        "log_every": 5,
        "sample_every": 0,
        "checkpoint_every": 5,
        "num_samples": 2,
        "ema_beta": 0.9,
        "threads": 1,
        "device": "cpu",
    },
    "seed": 3,
}


def tiny_config(run: Path, data: Path, *words: str) -> Config:
    """Twenty steps on tiny networks, a fade among them; `words` are overrides."""
    given = [f"run={run}", f"data.path={data}", *words]
    config = config_from_dict(apply_overrides(TINY, given), "tiny")
    return dataclasses.replace(
        config, model=dataclasses.replace(config.model, **config.loss.requires)
    )


@contextmanager
def float64_by_default() -> Iterator[None]:
    """Weights and noise that every processor draws alike, to the last few bits of float64.

    Random float32 numbers are drawn by vectorised code that depends on the processor, and a QR in
    float32 rounds in its order; after twenty steps the losses show it. Weights that are drawn in
    float32 and only then cast keep that difference.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def pack_clips(folder: Path) -> Path:
    """24 clips of 4 frames at 8 px in two classes, packed with their 4 px level."""
    render_motions(
        folder / "videos",
        motion_settings(objects=["disc"], motions="left,right", size=8, frames=4),
        videos=24,
    )
    config = DataConfig(resolution=8, frames=4, workers=0)
    build_clips(folder / "videos", folder / "packed", config, [(4, 4)])
    return folder / "packed"


def hash_of_ema(run: Path) -> str:
    """SHA-256 of the newest averaged generator's file."""
    newest = checkpoint_folder(run, list_checkpoints(run)[-1]) / "ema.safetensors"
    return hashlib.sha256(newest.read_bytes()).hexdigest()


# ------------------------------------------------------------------------------------------------
# Children


@dataclasses.dataclass
class Child:
    """A process that trains; `step` is the number of steps it has begun."""

    process: Any
    step: Any
    answer: Connection

    def wait_until(self, condition: Callable[[], bool], limit_s: float = 60.0) -> bool:
        """Wait for a condition; false if the child ended before."""
        end_s = time.monotonic() + limit_s
        while not condition():
            if not self.process.is_alive():
                return False
            assert time.monotonic() < end_s, "the child neither ends nor does what is waited for"
            time.sleep(0.0005)
        return True

    def signal_group(self, number: int) -> None:
        """Send a signal to the child and all of its workers, as schedulers do."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.join()
        assert self.process.exitcode == -9

    def result(self) -> str:
        """What the child says at its end."""
        self.process.join(120)
        said: str = self.answer.recv()
        return said


def start_child(
    config: Config,
    *,
    slow_writes_s: float = 0.0,
    file_limit: int = 0,
    memory_limit: int = 0,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Child:
    """Train in a child process.

    Args:
        config: settings of the run.
        slow_writes_s: pause while a temporary checkpoint exists, so that a kill can hit it.
        file_limit: size in bytes at which writing a file fails, as on a full disk; 0 for none.
        memory_limit: bytes that may be allocated beyond what the start takes; 0 for no limit.
        variables: of the child's environment.
    """
    context = multiprocessing.get_context("forkserver")
    step = context.RawValue("q", -1)
    answer, theirs = context.Pipe(duplex=False)
    limits = (slow_writes_s, file_limit, memory_limit)
    arguments = (config, step, theirs, *limits, dict(variables))
    process = context.Process(target=_train_in_child, args=arguments)
    process.start()
    theirs.close()
    return Child(process, step, answer)


def _train_in_child(
    config: Config,
    step: Any,
    answer: Connection,
    slow_writes_s: float,
    file_limit: int,
    memory_limit: int,
    variables: dict[str, str],
) -> None:
    torch.set_num_threads(1)
    os.environ.update(variables)
    # A group of its own, which gets signals as a whole.
    os.setpgid(0, 0)
    take_step, save_generator = TrainingStep.run, checkpoint_module.save_generator

    def counted(self: TrainingStep, number: int, *rest: Any) -> Any:
        step.value = number
        return take_step(self, number, *rest)

    def slow(*args: Any) -> None:
        save_generator(*args)
        time.sleep(slow_writes_s)

    TrainingStep.run = counted  # type: ignore[method-assign]
    checkpoint_module.save_generator = slow  # type: ignore[assignment]
    if file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    if memory_limit:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        limit = pages * resource.getpagesize() + memory_limit
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    os.close(2)
    os.open(os.devnull, os.O_WRONLY)
    try:
        train(config)
    except BaseException as error:
        answer.send(f"{type(error).__name__}: {error}")
        return
    answer.send("finished")
