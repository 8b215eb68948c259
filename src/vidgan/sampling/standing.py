"""Standing statistics: what batch norm assumes in eval mode, measured on the weights in use."""

from collections.abc import Iterable

import torch
from torch import Tensor

from vidgan.models.base import Generator

Inputs = tuple[Tensor, Tensor | None, Tensor | None]
"""Latents, labels and context of a batch."""


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
