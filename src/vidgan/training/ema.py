"""The averaged generator, which samples are drawn from."""

import copy

import torch

from vidgan.models.base import Generator


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
