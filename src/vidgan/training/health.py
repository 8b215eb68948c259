"""Health of a run.

NaN detection, reproducible arithmetic, and out-of-memory errors.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidgan.core.distributed import Processes
from vidgan.core.machine import processor_id
from vidgan.core.progress import Notify
from vidgan.data.build.engine import num_cores
from vidgan.errors import UserError, counted, describe_memory_error
from vidgan.models.base import GAN
from vidgan.sampling.storage import checkpoint_steps
from vidgan.training.settings import TrainingConfig
from vidgan.training.step import TrainingStep

DETERMINISTIC = "deterministic"
"""What the arithmetic of a GPU calls kernels that give the same bits every time."""


class TrainingStopped(SystemExit):
    """A stop signal asked training to end, and the run is saved.

    As a `SystemExit` with code 0 it ends the process cleanly, and what would follow training, such
    as an evaluation, does not run.
    """


class LossMeans:
    """Means of the losses over steps and processes, kept on the device until they are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, losses: dict[str, Tensor]) -> None:
        """Add one step's losses; a lazy penalty need not be in all of them."""
        for name, value in losses.items():
            known = self._sums.get(name)
            self._sums[name] = value if known is None else known + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self, processes: Processes) -> dict[str, float]:
        """The means since the last call, the same in every process; a NaN stays one."""
        means = [total / self._counts[name] for name, total in self._sums.items()]
        averaged = processes.average([mean.double() for mean in means])
        result = dict(zip(self._sums, torch.stack(averaged).tolist(), strict=True))
        self._sums, self._counts = {}, {}
        return result


@torch.no_grad()
def weights_are_finite(gan: GAN) -> bool:
    """Whether every weight of every network is a finite number."""
    weights = [p.detach() for network in gan.networks.values() for p in network.parameters()]
    return bool(torch.stack(torch._foreach_norm(weights, float("inf"))).isfinite().all())


def choose_arithmetic(
    settings: TrainingConfig,
    processes: Processes,
    before: Mapping[str, str],
    notify: Notify,
) -> dict[str, str]:
    """What bit-identity depends on: device, threads, processes, version, processor.

    A run keeps the number of threads it began with, unless the settings name another one; whatever
    differs is pointed out.

    Args:
        settings: `device` and `threads` are used.
        processes: that share the work.
        before: what this function returned when the run was saved; empty at its start.
        notify: takes the sentence about differences.
    """
    now = {
        "device": processes.device.type,
        "threads": str(settings.threads or before.get("threads") or torch.get_num_threads()),
        "processes": str(processes.count),
        "torch": str(torch.__version__),
        "processor": processor_id(),
    }
    if processes.device.type == "cuda":
        now["kernels"] = DETERMINISTIC if settings.deterministic else "as they come"
    changes = [
        f"{key} {before[key]} -> {now[key]}"
        for key in before
        if key in now and before[key] != now[key]
    ]
    if changes:
        notify(
            f"continuing with {', '.join(changes)}: rounding differs, so the result will not be "
            "bit "
            f"for bit that of an uninterrupted run"
        )
    if not settings.threads and "threads" in before:
        for line in crowded(f"the run's number of threads, {now['threads']},", int(now["threads"])):
            notify(line)
    return now


def crowded(what: str, threads: int) -> Iterator[str]:
    """A sentence on more threads than cores, which wait for each other; `what` names the number.

    They are no mistake, since a fixed number gives the same bits on any machine.
    """
    cores = num_cores()
    if threads > cores:
        yield (
            f"{what} is more than the {counted(cores, 'core')} that this process may use, which can"
            f" make a step many times slower; training.threads={cores} takes all of them, with"
            " other rounding"
        )


@contextmanager
def repeatable_arithmetic(device: torch.device, arithmetic: Mapping[str, str]) -> Iterator[None]:
    """Compute with the threads of `choose_arithmetic` and, on the CPU or where it says so on a GPU,
    by deterministic kernels only.

    Raises:
        UserError: the GPU has no deterministic kernel for something.
    """
    memory: Any = torch.utils.deterministic
    cudnn: Any = torch.backends.cudnn
    cudnn_before = cudnn.deterministic, cudnn.benchmark
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    warn_before = torch.is_deterministic_algorithms_warn_only_enabled()
    fill_before = memory.fill_uninitialized_memory
    torch.set_num_threads(int(arithmetic["threads"]))
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling uninitialised memory guards against reading it, which never happens here; it costs
        # time.
        memory.fill_uninitialized_memory = False
    elif arithmetic.get("kernels") == DETERMINISTIC:
        # Read by cuBLAS when it is called for the first time.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        memory.fill_uninitialized_memory = False
        cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        found = re.search(r"(\S+) does not have a deterministic implementation", str(error))
        if found is None:
            raise
        raise UserError(
            f"{found[1]} has no deterministic kernel on this device: set"
            f" training.deterministic=false"
        ) from error
    finally:
        cudnn.deterministic, cudnn.benchmark = cudnn_before
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(deterministic_before, warn_only=warn_before)
        memory.fill_uninitialized_memory = fill_before


@contextmanager
def explained_memory_errors(run: Path, step: TrainingStep) -> Iterator[None]:
    """Turn an out-of-memory error of a step into one sentence; saved files stay.

    Raises:
        UserError: names the batch, and the settings that make the step smaller.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        shortage, stage = describe_memory_error(error), step.stage
        if shortage is None or stage is None:
            raise
        size = f"{stage.frames}x{stage.resolution}x{stage.resolution}"
        # The checkpoint of step 0 holds what a new run begins with anyway.
        is_saved = max(checkpoint_steps(run), default=0) > 0
        start = f" (with init_from={run} it starts with the newest saved weights)"
        raise UserError(
            f"{shortage} at a batch of {stage.batch_size} clips of {size} px; set "
            f"{', '.join(smaller_steps(step))} or a lower data.resolution in a new run"
            f"{start if is_saved else ''}"
        ) from error


def smaller_steps(step: TrainingStep) -> list[str]:
    """Settings under which a step of the same run needs less memory."""
    settings = step.settings
    couplings = {network.couples_batch for network in step.gan.networks.values()}
    found = []
    if "batch" not in couplings:
        found.append(f"training.accumulate={2 * settings.accumulate}")
    if settings.precision.networks == "fp32":
        found.append("training.precision.networks=bf16")
    elif settings.precision.penalty == "fp32" and step.loss.penalties:
        found.append("training.precision.penalty=bf16")
    return [*found, "a smaller training.batch_size"]
