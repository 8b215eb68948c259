"""What the exact fast layers and bfloat16 buy: CPU seconds of one WGAN-GP step.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --sizes 32x256x256 --rounds 2

Every row trains the network of the thesis (Acharya 2018, tables A.1 and A.2) with Adam and a moving
average on one thread. `naive` is the usual way to write the step: plain layers, one
discriminator pass each for reals, detached fakes and interpolates, and new fakes for the
generator's update. The other rows are this project's step, in a process that keeps freed memory as
`train` does; `stock` takes PyTorch's own derivatives of convolutions in it. bfloat16 is left out
where it would be emulated. Before anything is timed, the gradients of both are compared in float64.
The rows take turns of two steps, the second of which counts, so that a busy machine slows all
alike; the clock is the process' CPU time. The last column is the rate of a row's arithmetic over
that of a product of matrices, measured in the same run.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from vidgan.core.machine import has_bfloat16, keep_freed_memory, processor_id
from vidgan.losses.recipes import LossConfig, make_loss
from vidgan.models import build_gan
from vidgan.models.base import GAN, Network
from vidgan.models.parts.convolution import stock_convolutions
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.training.ema import copy_generator, make_optimizers, update_average
from vidgan.training.settings import OptimizerConfig, PrecisionConfig, TrainingConfig
from vidgan.training.step import Batch, TrainingStep, UpdateKey

SIZES = {"8x16x16": (8, 16), "8x32x32": (8, 32), "16x64x64": (16, 64), "32x256x256": (32, 256)}
BATCHES = {"8x16x16": 4, "8x32x32": 4, "16x64x64": 4, "32x256x256": 2}
COMPARED = 2
"""Clips of the comparison of gradients in float64."""
NOT_COMPARED = ("32x256x256",)
"""In float64 that takes hours; its layers are those of the smaller sizes."""
SEED = 0
KEY = UpdateKey(SEED, 0, 0, 0)
PENALTY_WEIGHT, DRIFT_WEIGHT = 10.0, 0.001
CPU = torch.device("cpu")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
NAIVE = "naive"
FORMS = (
    ("fast, fp32", "fp32", "fp32"),
    ("fast, bf16, penalty fp32", "bf16", "fp32"),
    ("fast, bf16, penalty bf16", "bf16", "bf16"),
)


class NaiveStep:
    """One step as it is usually written."""

    def __init__(self, gan: GAN, settings: TrainingConfig) -> None:
        self.generator = gan.generator
        self.discriminator = gan.discriminators["discriminator"]
        self.averaged = copy_generator(gan.generator)
        self.optimizers = make_optimizers(gan, settings)
        self.beta = settings.ema_beta

    def run(self, real: Tensor) -> None:
        latents = torch.randn(2, len(real), self.generator.latent_dim(), dtype=real.dtype)
        alpha = torch.rand(len(real), dtype=real.dtype)
        self.move("discriminator", lambda: self.discriminator_loss(real, latents[0], alpha))
        self.move("generator", lambda: self.generator_loss(latents[1]))
        update_average(self.averaged, self.generator, self.beta)

    def move(self, player: str, loss: Callable[[], Tensor]) -> None:
        network = self.generator if player == "generator" else self.discriminator
        parameters = in_use(network)
        for parameter, gradient in zip(parameters, gradients(loss(), parameters), strict=True):
            parameter.grad = gradient
        self.optimizers[player].step()
        self.optimizers[player].zero_grad()

    def discriminator_loss(self, real: Tensor, latent: Tensor, alpha: Tensor) -> Tensor:
        with torch.no_grad():
            fake = self.generator(latent)
        real_score = self.discriminator(real).realness
        fake_score = self.discriminator(fake).realness
        mixed = torch.lerp(real, fake, alpha.reshape(-1, 1, 1, 1, 1)).requires_grad_()
        score = self.discriminator(mixed).realness
        (gradient,) = torch.autograd.grad(score.sum(), mixed, create_graph=True)
        penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        drift = real_score.square().mean()
        loss = fake_score.mean() - real_score.mean()
        return loss + PENALTY_WEIGHT * penalty + DRIFT_WEIGHT * drift

    def generator_loss(self, latent: Tensor) -> Tensor:
        score: Tensor = self.discriminator(self.generator(latent)).realness
        return score.mean().neg()


def build(
    frames: int, side: int, batch: int, fast: bool, dtype: torch.dtype = torch.float32
) -> GAN:
    torch.manual_seed(SEED)
    # Reals and fakes share a pass: groups of a whole batch keep their statistics apart.
    config = ProgressiveConfig(frame_plan="thesis", fast=fast, group_size=batch)
    return build_gan(config, (3, frames, side, side)).to(dtype=dtype)


def fast_step(gan: GAN, networks: Any = "fp32", penalty: Any = "fp32") -> TrainingStep:
    settings = TrainingConfig(
        precision=PrecisionConfig(networks=networks, penalty=penalty),
        generator=OptimizerConfig(),
        discriminator=OptimizerConfig(),
    )
    loss = make_loss(LossConfig(name="wgan-gp"))
    generator: Any = gan.generator
    averaged, num_levels = copy_generator(generator), len(generator.levels)
    step = TrainingStep(gan, averaged, loss, settings, SEED, num_levels)
    step.enter(generator.stage)
    return step


def gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, parameters))


def in_use(network: Network) -> list[Tensor]:
    return [parameter for _, parameter in network.parameters_in_use()]


def largest_difference(frames: int, side: int) -> float:
    """Largest relative difference between the gradients of both steps, in float64."""
    fast_gan, plain_gan = (
        build(frames, side, COMPARED, fast, torch.float64) for fast in (True, False)
    )
    fast = fast_step(fast_gan)
    naive = NaiveStep(plain_gan, fast.settings)
    rng = torch.Generator().manual_seed(SEED)
    real = torch.rand(COMPARED, 3, frames, side, side, generator=rng, dtype=torch.float64) * 2 - 1
    batch = Batch(real, None, COMPARED, 0)

    # Both get the random numbers that the project's step draws for its first update.
    latent = fast.random(batch, KEY, "latent").normal(naive.generator.latent_dim()).double()
    words = ("penalty", "discriminator", "gradient_penalty")
    alpha = fast.random(batch, KEY, *words).uniform().double()
    parts = fast.generate(batch, KEY)
    loss, _ = fast.discriminator_loss(batch, parts, KEY, update=0)
    ours = gradients(loss, in_use(fast_gan.discriminators["discriminator"]))
    loss = naive.discriminator_loss(real, latent, alpha)
    usual = gradients(loss, in_use(naive.discriminator))
    loss, _ = fast.generator_loss(batch, parts, KEY)
    ours += gradients(loss, in_use(fast_gan.generator))
    usual += gradients(naive.generator_loss(latent), in_use(naive.generator))
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, usual, strict=True))


def rows(frames: int, side: int, count: int) -> dict[str, Callable[[int], object]]:
    """A function from the number of the round to one whole step, for every row."""
    real = torch.rand(count, 3, frames, side, side) * 2 - 1
    plain, fast = (build(frames, side, count, fast) for fast in (False, True))
    naive = NaiveStep(plain, TrainingConfig())
    table: dict[str, Callable[[int], object]] = {NAIVE: lambda _: naive.run(real)}
    batch = Batch(real, None, count, 0)
    for name, networks, penalty in FORMS if has_bfloat16(CPU) else FORMS[:1]:
        step = fast_step(copy.deepcopy(fast), networks, penalty)
        table[name] = lambda i, step=step: step.run(i, 0, lambda: batch)  # type: ignore[misc]
    stock = fast_step(copy.deepcopy(fast), "fp32", "fp32")

    def run_stock(index: int) -> None:
        with stock_convolutions():
            stock.run(index, 0, lambda: batch)

    table["fast, fp32, stock"] = run_stock
    return table


class Work(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts arithmetic; FlopCounterMode cannot differentiate twice by its inputs."""

    flop = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.flop += count(*args, **(kwargs or {}), out_val=result)
        return result


def measure(
    table: dict[str, Callable[[int], object]], rounds: int
) -> dict[str, tuple[list[float], float]]:
    """CPU seconds of a step of every row in every round, and its TFLOP."""
    found: dict[str, tuple[list[float], float]] = {}
    for name, run in table.items():
        with Work() as work:  # type: ignore[no-untyped-call]
            run(0)
        found[name] = ([], work.flop / 1e12)
    for index in range(1, 2 * rounds + 1, 2):
        for name, run in table.items():
            keep_freed_memory(name != NAIVE)
            run(index)
            start = time.process_time()
            run(index + 1)
            found[name][0].append(time.process_time() - start)
    return found


def matmul_rate(dtype: torch.dtype) -> float:
    """TFLOP a CPU second of a product of matrices, the best of five."""
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(5):
        start = time.process_time()
        a @ b
        seconds.append(time.process_time() - start)
    return 2 * 2048**3 / min(seconds) / 1e12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds of each size")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES)[:3])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rates = {name: matmul_rate(dtype) for name, dtype in DTYPES.items()}
    print(f"torch {torch.__version__}, one thread of {processor_id()}")
    print(", ".join(f"{name}: {rate:.2f} TFLOP/s" for name, rate in rates.items()))
    for size in arguments.sizes:
        agreement = "gradients not compared"
        if size not in NOT_COMPARED:
            difference = largest_difference(*SIZES[size])
            if difference > 1e-12:
                raise SystemExit(f"{size}: gradients differ by {difference:.1e} of their size")
            agreement = f"gradients agree to {difference:.1e} in float64"
        print(f"\n{size}, batch {BATCHES[size]}: {agreement}\n")
        print("| step | CPU s | range | gain | TFLOP | of the matmul rate |")
        print("| --- | --- | --- | --- | --- | --- |")
        found = measure(rows(*SIZES[size], BATCHES[size]), arguments.rounds)
        slowest = statistics.median(found[NAIVE][0])
        for name, (times, work) in found.items():
            middle = statistics.median(times)
            rate = rates["bf16" if "bf16" in name else "fp32"]
            cells = f"{middle:.3f} | {min(times):.3f} .. {max(times):.3f} | {slowest / middle:.2f}"
            print(f"| {name} | {cells} | {work:.3f} | {work / middle / rate:.2f} |", flush=True)


if __name__ == "__main__":
    main()
