"""The averaged generator, which samples are drawn from, and the statistics of its batch norms."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor

from vidgan.models.base import Generator

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
    measured anew, they fit (Brock et al. 2019, section 4.1). Layers without running statistics and
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
