"""One whole training step of the thesis' network at full size: 32 frames of 256x256 px.

    python benchmarks/full_size.py

Prints the time of one discriminator and one generator update on the CPU and the largest memory of
the process, for WGAN-GP and SWGAN. Every row runs in a process of its own, so that its peak is its
own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from vidgan.core.machine import processor_id
from vidgan.losses.recipes import LossConfig, make_loss
from vidgan.models import build_gan
from vidgan.models.parts.growth import GrowingGAN
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.training.ema import copy_generator
from vidgan.training.settings import PrecisionConfig, TrainingConfig
from vidgan.training.step import Batch, TrainingStep

FRAMES, SIDE = 32, 256
HEADS = {"wgan-gp": "linear", "swgan": "sliced_wasserstein"}


def run(loss: str, precision: str, batch_size: int) -> dict[str, float]:
    """Time and peak memory of one step in this process."""
    torch.manual_seed(0)
    config = ProgressiveConfig(head=HEADS[loss], group_size=batch_size)  # type: ignore[arg-type]
    gan = build_gan(config, (3, FRAMES, SIDE, SIDE))
    assert isinstance(gan, GrowingGAN)
    levels = gan.generator.levels  # type: ignore[attr-defined]
    settings = TrainingConfig(precision=PrecisionConfig(networks=precision, penalty=precision))  # type: ignore[arg-type]
    averaged = copy_generator(gan.generator)
    step = TrainingStep(gan, averaged, make_loss(LossConfig(name=loss)), settings, 0, len(levels))
    step.enter(gan.generator.stage)  # type: ignore[arg-type]
    real = torch.rand(batch_size, 3, FRAMES, SIDE, SIDE) * 2 - 1
    at_start = peak_gib()
    clock, cpu = time.perf_counter(), time.process_time()
    logs = step.run(0, 0, lambda: Batch(real, None, batch_size, 0))
    return {
        "seconds": time.perf_counter() - clock,
        "cpu_seconds": time.process_time() - cpu,
        "peak_gib": peak_gib(),
        "start_gib": at_start,
        "finite": float(all(bool(value.isfinite()) for value in logs.values())),
    }


def peak_gib() -> float:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--one", nargs=2, metavar=("LOSS", "PRECISION"), help="print one row")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run(*arguments.one, arguments.batch_size)))
        return
    print(f"one step at {FRAMES}x{SIDE}x{SIDE}, batch {arguments.batch_size}", end=", ")
    print(f"{torch.get_num_threads()} threads of {processor_id()}")
    print(f"{'loss':<10}{'precision':<11}{'wall s':>9}{'CPU s':>9}{'peak GiB':>10}{'at start':>10}")
    for loss in HEADS:
        for precision in ("fp32", "bf16"):
            size = ["--batch-size", str(arguments.batch_size), "--one", loss, precision]
            done = subprocess.run(
                [sys.executable, __file__, *size], capture_output=True, text=True, check=True
            )
            row = json.loads(done.stdout)
            if not row["finite"]:
                raise SystemExit(f"{loss} in {precision} gave losses that are not finite")
            print(
                f"{loss:<10}{precision:<11}{row['seconds']:>9.1f}{row['cpu_seconds']:>9.1f}"
                f"{row['peak_gib']:>10.2f}{row['start_gib']:>10.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
