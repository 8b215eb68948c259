"""What the exact fast layers and bfloat16 buy: CPU seconds per clip of one WGAN-GP step.

    python benchmarks/train_step.py

Every row trains the network of the thesis (Acharya 2018, tables A.1 and A.2) with Adam and a moving
average on one thread, batch 2. `naive` is the usual way to write the step: plain layers, one
discriminator pass each for reals, detached fakes and interpolates, and new fakes for the
generator's update. The other rows are this project's step; `stock` takes PyTorch's own derivatives
of convolutions in it. bfloat16 is left out where it would be emulated. Before anything is timed,
the gradients of both are compared in float64. The rows take turns, so that a busy machine slows all
alike; the clock is the process' CPU time.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from vidgan.core.machine import has_bfloat16, processor_id
from vidgan.losses.recipes import LossConfig, make_loss
from vidgan.models import build_gan
from vidgan.models.base import GAN, Network
from vidgan.models.parts.convolution import stock_convolutions
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.training.ema import copy_generator, make_optimizers, update_average
from vidgan.training.settings import OptimizerConfig, PrecisionConfig, TrainingConfig
from vidgan.training.step import Batch, TrainingStep, UpdateKey

SIZES = {"8x16x16": (8, 16), "8x32x32": (8, 32), "16x64x64": (16, 64)}
BATCH = 2
SEED = 0
KEY = UpdateKey(SEED, 0, 0, 0)
PENALTY_WEIGHT, DRIFT_WEIGHT = 10.0, 0.001
CPU = torch.device("cpu")
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
        return -self.discriminator(self.generator(latent)).realness.mean()


def build(frames: int, side: int, fast: bool, dtype: torch.dtype = torch.float32) -> GAN:
    torch.manual_seed(SEED)
    # Reals and fakes share a pass: groups of 2 keep their statistics apart at batch 2.
    config = ProgressiveConfig(frame_plan="thesis", fast=fast, group_size=BATCH)
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
    fast_gan, plain_gan = (build(frames, side, fast, torch.float64) for fast in (True, False))
    fast = fast_step(fast_gan)
    naive = NaiveStep(plain_gan, fast.settings)
    rng = torch.Generator().manual_seed(SEED)
    real = torch.rand(BATCH, 3, frames, side, side, generator=rng, dtype=torch.float64) * 2 - 1
    batch = Batch(real, None, BATCH, 0)

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


def rows(frames: int, side: int) -> dict[str, Callable[[int], object]]:
    """A function from the number of the round to one whole step, for every row."""
    real = torch.rand(BATCH, 3, frames, side, side) * 2 - 1
    plain, fast = build(frames, side, fast=False), build(frames, side, fast=True)
    naive = NaiveStep(plain, TrainingConfig())
    table: dict[str, Callable[[int], object]] = {"naive": lambda _: naive.run(real)}
    batch = Batch(real, None, BATCH, 0)
    for name, networks, penalty in FORMS if has_bfloat16(CPU) else FORMS[:1]:
        step = fast_step(copy.deepcopy(fast), networks, penalty)
        table[name] = lambda i, step=step: step.run(i, 0, lambda: batch)  # type: ignore[misc]
    stock = fast_step(copy.deepcopy(fast), "fp32", "fp32")

    def run_stock(index: int) -> None:
        with stock_convolutions():
            stock.run(index, 0, lambda: batch)

    table["fast, fp32, stock"] = run_stock
    return table


def measure(frames: int, side: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds per clip of every row in every round, after one round to warm up."""
    table = rows(frames, side)
    seconds: dict[str, list[float]] = {name: [] for name in table}
    for index in range(rounds + 1):
        for name, run in table.items():
            start = time.process_time()
            run(index)
            if index:
                seconds[name].append((time.process_time() - start) / BATCH)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each size")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread of {processor_id()}")
    for size in arguments.sizes:
        difference = largest_difference(*SIZES[size])
        if difference > 1e-12:
            raise SystemExit(f"{size}: gradients differ by {difference:.1e} of their size")
        print(f"\n{size}: gradients of both steps agree to {difference:.1e} in float64")
        print(f"{'':<26}{'CPU s per clip':>15}{'range':>16}{'gain':>8}")
        seconds = measure(*SIZES[size], arguments.rounds)
        slowest = statistics.median(seconds["naive"])
        for name, times in seconds.items():
            middle = statistics.median(times)
            spread = f"{min(times):.2f} .. {max(times):.2f}"
            print(f"{name:<26}{middle:>15.3f}{spread:>16}{slowest / middle:>7.2f}x")


if __name__ == "__main__":
    main()
