"""One training step of every preset at its full size.

    python benchmarks/paper_step.py              every paper/ preset, one step of the smallest batch
    python benchmarks/paper_step.py gpu/         others, by the beginning of their names
    python benchmarks/paper_step.py gpu/ --fit   memory at the preset's own batch size, extrapolated

A step is what the preset says: all discriminator updates and the generator's, with optimizers and
the moving average, at the last level. The smallest batch is one clip, or two where a network
normalises over the batch. Every preset runs in a process of its own, so that its peak memory is its
own. The operations are counted first, on the meta device of torch, which computes nothing. A step
is only counted, and the table says why, if it has too many operations, if weights, gradients,
moments and moving average alone outgrow the memory, or if the step does. Clips are noise: no data
set is needed.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from vidgan.core.machine import processor_id
from vidgan.losses.recipes import make_loss
from vidgan.models.base import ClipShape
from vidgan.training.ema import copy_generator
from vidgan.training.planner import plan_schedule
from vidgan.training.presets import Config, list_presets, load_config
from vidgan.training.schedule import stage_at
from vidgan.training.step import Batch, TrainingStep

CLASSES = {"ucf101": 101, "kinetics600": 600, "clips": 10}
"""Classes of a data set, by the word in a preset's name; the last is an example of own data."""
GIB = 2**30
RESERVE_GIB = 2.0
"""Memory that stays free for everybody else."""


class Operations(TorchDispatchMode):
    """Counts floating-point operations of matrix products and convolutions, all passes included.

    torch's own counter also follows modules, which a penalty's gradient of a leaf breaks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def measure(name: str, device: str, batch_size: int) -> dict[str, float]:
    """Take one step in this process.

    Args:
        name: of a preset.
        device: `cpu`, or `meta` for counting alone.
        batch_size: clips; 0 for as few as the model allows.
    """
    torch.manual_seed(0)
    config = load_config(name, ["data=noise", "training.device=cpu"])
    shape = ClipShape(3, config.data.frames, config.data.resolution, config.data.resolution)
    classes = next((count for word, count in CLASSES.items() if word in name), 0)
    with torch.device(device):
        gan = config.model.build(shape, classes)
        gan.train()
        averaged = copy_generator(gan.generator)
        schedule = plan_schedule(config, shape)
        couples = any(network.couples_batch == "batch" for network in gan.networks.values())
        count = batch_size or (2 if couples else 1)
        real = torch.zeros(count, *shape) if device == "meta" else torch.rand(count, *shape) * 2 - 1
        labels = torch.zeros(count, dtype=torch.int64)
    loss, levels = make_loss(config.loss), len(schedule.levels)
    step = TrainingStep(gan, averaged, loss, config.training, 0, levels)
    step.enter(stage_at(schedule.total, schedule))
    if device == "meta":
        # The fused optimizers know no meta device.
        for optimizer in step.optimizers.values():
            for group in optimizer.param_groups:
                group["fused"] = False
    counter = Operations()
    clock = time.process_time()
    with counter:
        logs = step.run(0, 0, lambda: Batch(real, labels, count, 0))
    seconds = time.process_time() - clock
    if device != "meta" and not all(bool(value.isfinite()) for value in logs.values()):
        raise SystemExit(f"{name} gave losses that are not finite")
    generator, *others = (
        sum(parameter.numel() for _, parameter in network.parameters_in_use())
        for network in gan.networks.values()
    )
    return {
        "clips": count,
        "generator": generator,
        "discriminators": sum(others),
        "tflop": counter.total / 1e12,
        "cpu_seconds": seconds,
        "state_gib": state_gib(step),
        "peak_gib": peak_gib(),
    }


def state_gib(step: TrainingStep) -> float:
    """Weights, gradients of one player, optimizer moments and the averaged generator."""

    def size(tensors: Iterable[torch.Tensor]) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    total = size(step.averaged.state_dict().values())
    gradients = []
    for network in step.gan.networks.values():
        total += size(network.state_dict().values())
    for optimizer in step.optimizers.values():
        gradients.append(size(p for group in optimizer.param_groups for p in group["params"]))
        for moments in optimizer.state.values():
            total += size(value for value in moments.values() if isinstance(value, torch.Tensor))
    return (total + max(gradients)) / GIB


def peak_gib() -> float:
    """Largest resident memory of this process so far."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def run_apart(name: str, device: str, batch_size: int, limit_gib: float) -> dict[str, Any] | None:
    """Measure in a child process; None if it outgrew the limit.

    Raises:
        SystemExit: the child failed for another reason.
    """
    words = ["--one", name, "--device", device, "--batch-size", str(batch_size)]
    child = subprocess.Popen(
        [sys.executable, __file__, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while child.poll() is None:
        if resident_gib(child.pid) > limit_gib:
            child.kill()
            child.communicate()
            return None
        time.sleep(0.05)
    out, errors = child.communicate()
    if child.returncode:
        raise SystemExit(f"{name} on {device} failed: {errors[-2000:]}")
    found: dict[str, Any] = json.loads(out)
    return found | {"device": device}


def resident_gib(pid: int) -> float:
    """Memory of a process now; 0 where the system does not tell."""
    file = Path(f"/proc/{pid}/statm")
    try:
        pages = int(file.read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / GIB


def free_gib() -> float:
    """Memory that a new process may take, with a reserve for others."""
    file = Path("/proc/meminfo")
    if not file.is_file():
        return float("inf")
    line = next(line for line in file.read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024 / GIB - RESERVE_GIB


def describe(name: str, row: dict[str, Any], config: Config, limits: tuple[float, float]) -> str:
    """A row of the table; a step that was only counted says what kept it from being taken.

    Args:
        limits: TFLOP and GiB of a step.
    """
    limit_tflop, limit_gib = limits
    state = row["state_gib"]
    size = f"{config.data.frames}x{config.data.resolution}x{config.data.resolution}"
    million = f"{row['generator'] / 1e6:.2f} + {row['discriminators'] / 1e6:.2f}"
    cells = [name, size, row["clips"], million, f"{row['tflop']:.3f}"]
    if row["device"] == "cpu":
        cells += [f"{row['cpu_seconds']:.1f}", f"{row['peak_gib']:.2f}"]
    elif state > limit_gib:
        cells += ["counted only", f"state alone {state:.1f}"]
    elif row["tflop"] > limit_tflop:
        cells += ["counted only", f"not tried, state alone {state:.1f}"]
    else:
        cells += ["counted only", f"above {limit_gib:.0f}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def fit(name: str, config: Config, limit_gib: float) -> str:
    """Memory at the preset's batch size, from two smaller batches on the CPU."""
    size = config.training.batch_size
    wanted = size if isinstance(size, int) else size[-1]
    first = run_apart(name, "cpu", 2, limit_gib)
    second = run_apart(name, "cpu", 4, limit_gib)
    if first is None or second is None:
        return f"| {name} | {wanted} | - | - | above the limit |"
    slope = max(second["peak_gib"] - first["peak_gib"], 0.0) / 2
    fixed = first["peak_gib"] - 2 * slope
    total = fixed + slope * wanted
    return f"| {name} | {wanted} | {fixed:.2f} | {slope:.3f} | {total:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("prefix", nargs="*", default=["paper/"], help="beginnings of names")
    parser.add_argument("--limit-gib", type=float, default=15.0, help="memory of a process")
    parser.add_argument("--limit-tflop", type=float, default=30.0, help="operations of a step")
    parser.add_argument("--fit", action="store_true", help="extrapolate memory to the own batch")
    parser.add_argument("--batch-size", type=int, default=0, help="0: as few clips as possible")
    parser.add_argument("--one", metavar="PRESET", help="measure here and print JSON")
    parser.add_argument("--device", choices=("cpu", "meta"), default="cpu")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.device, arguments.batch_size)))
        return
    print(f"{processor_id()}\n")
    names = [name for name in list_presets() if name.startswith(tuple(arguments.prefix))]
    if arguments.fit:
        print("| preset | batch | GiB fixed | GiB a clip | GiB at that batch |\n|" + " --- |" * 5)
    else:
        print("| preset | clip | clips | million parameters, G + D | TFLOP | CPU s | peak GiB |")
        print("|" + " --- |" * 7)
    for name in names:
        config = load_config(name, ["data=noise", "training.device=cpu"])
        limit = min(arguments.limit_gib, free_gib())
        if arguments.fit:
            print(fit(name, config, limit), flush=True)
            continue
        counted = run_apart(name, "meta", arguments.batch_size, limit)
        assert counted is not None, "counting takes next to no memory"
        row = None
        if counted["tflop"] <= arguments.limit_tflop and counted["state_gib"] <= limit:
            row = run_apart(name, "cpu", arguments.batch_size, limit)
        print(describe(name, row or counted, config, (arguments.limit_tflop, limit)), flush=True)


if __name__ == "__main__":
    main()
