"""The averaged generator, which samples are drawn from, and the statistics of its batch norms."""

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from vidgan.models.base import GAN, Generator
from vidgan.training.schedule import per_level
from vidgan.training.settings import OptimizerConfig, TrainingConfig

Inputs = tuple[Tensor, Tensor | None, Tensor | None]
"""Latents, labels and context of a batch."""


def copy_generator(generator: Generator) -> Generator:
    """A frozen copy in eval mode, to be averaged into."""
    averaged = copy.deepcopy(generator).eval()
    return averaged.requires_grad_(False)


@torch.no_grad()
def update_average(averaged: Generator, generator: Generator, beta: float) -> None:
    """averaged <- beta averaged + (1 - beta) generator; buffers are copied (beta 0 copies all)."""
    targets = [parameter.detach() for parameter in averaged.parameters()]
    sources = [parameter.detach() for parameter in generator.parameters()]
    torch._foreach_lerp_(targets, sources, 1 - beta)
    for target, source in zip(averaged.buffers(), generator.buffers(), strict=True):
        target.copy_(source)


def decay_at(settings: TrainingConfig, step: int) -> float:
    """Decay of the averaged generator in step number `step`.

    It averages over 1 / (1 - decay) updates. In a young run `ema_beta` can make that longer than
    the run, so that samples lag far behind the generator; `ema_rampup` is the share of the updates
    so far that it may be (Karras et al. 2020, arXiv:2006.06676, in the authors' code).
    """
    if step < settings.ema_start:
        return 0.0
    if not settings.ema_rampup:
        return settings.ema_beta
    longest = 1 + settings.ema_rampup * step
    return min(settings.ema_beta, 1 - 1 / longest)


def measure_statistics(
    averaged: Generator,
    num_batches: int,
    batch_size: int,
    context: Tensor | None,
    rng: torch.Generator,
) -> None:
    """Give an averaged generator batch norm statistics of its own, on latents drawn for it.

    Args:
        averaged: the generator.
        num_batches: batches to average over.
        batch_size: clips of each.
        context: given frames of `batch_size` clips, for every batch, or None.
        rng: draws latents and labels.
    """
    like, classes = next(averaged.parameters()), averaged.num_classes

    def draw() -> Inputs:
        latents = torch.randn(batch_size, averaged.latent_dim(), generator=rng).to(like)
        labels = torch.randint(classes, (batch_size,), generator=rng) if classes else None
        return latents, None if labels is None else labels.to(like.device), context

    estimate_statistics(averaged, (draw() for _ in range(num_batches)))


@torch.no_grad()
def estimate_statistics(generator: Generator, batches: Iterable[Inputs]) -> None:
    """Set the running statistics to the mean over batches of latents.

    Averaged weights have never been trained with the statistics that their network's buffers hold;
    re-measured, they fit (Brock et al. 2019, section 4.1). Layers without running statistics and
    the generator's mode are left as they are.

    Args:
        generator: in any mode.
        batches: latents `[B, Z]`, labels `[B]` or None, context clips or None.
    """
    layers = generator.running_layers()
    if not layers:
        return
    was_training = generator.training
    generator.train()
    with generator.observing():
        for latents, labels, context in batches:
            generator.parts(latents, labels, context)
    for layer in layers:
        layer.settle(momentum=1.0)
    generator.train(was_training)


# ------------------------------------------------------------------------------------------------
# One optimizer for the generator and one for all discriminators of a GAN

PLAYERS = ("generator", "discriminator")


def named_parameters(gan: GAN, player: str) -> Iterator[tuple[str, nn.Parameter]]:
    """Every parameter of a player, in use or not, as `network.parameter` names."""
    for name, network in gan.networks.items():
        if (name == "generator") == (player == "generator"):
            for parameter_name, parameter in network.named_parameters():
                yield f"{name}.{parameter_name}", parameter


def make_optimizers(gan: GAN, settings: TrainingConfig) -> dict[str, torch.optim.Optimizer]:
    """Optimizers by player; parameters without a gradient are left alone by a step."""
    return {
        player: _make_optimizer(gan, player, player_settings(settings, player))
        for player in PLAYERS
    }


def player_settings(settings: TrainingConfig, player: str) -> OptimizerConfig:
    """The optimizer settings of a player."""
    return settings.generator if player == "generator" else settings.discriminator


def set_learning_rate(
    optimizer: torch.optim.Optimizer, settings: OptimizerConfig, player: str, level: int, count: int
) -> None:
    """Set the learning rate of `level` out of `count` levels."""
    rates = per_level(settings.lr, count, f"training.{player}.lr")
    for group in optimizer.param_groups:
        group["lr"] = rates[level]


def _make_optimizer(gan: GAN, player: str, settings: OptimizerConfig) -> torch.optim.Optimizer:
    parameters = [parameter for _, parameter in named_parameters(gan, player)]
    rate = settings.lr[0] if isinstance(settings.lr, tuple) else settings.lr
    decay, eps = settings.weight_decay, settings.eps
    if settings.kind == "sgd":
        return torch.optim.SGD(parameters, rate, weight_decay=decay)
    if settings.kind == "rmsprop":
        return torch.optim.RMSprop(parameters, rate, settings.betas[1], eps, decay)
    # One kernel for all tensors: 8 % less time for a whole step of a small network on a CPU.
    return torch.optim.Adam(parameters, rate, settings.betas, eps, decay, fused=True)
