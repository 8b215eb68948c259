"""A generator as a graph of operators, and whether a file computes what the generator does.

`torch.export` follows a generator once and keeps what it computed. The number of clips stays open;
the length is fixed at the one that is asked for, because models that make clips of any length do
so by a loop over frames.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from vidgan.core.randomness import BatchRandom
from vidgan.errors import UserError
from vidgan.models.base import Generator
from vidgan.sampling.generate import labels_for_seeds, sample_latents
from vidgan.sampling.storage import GeneratorCard, card_of

TOLERANCE = 1e-4
"""Largest difference that rounding explains; a level of a byte is 80 times as much."""

CHECKED_BATCHES = (1, 2, 5)
"""Clips in each batch by which a file is compared with its generator."""

TRACED_BATCH = 3

Inputs = dict[str, Tensor]
"""Inputs of a generator by name: `latent`, `labels` and `context`, as far as it takes them."""


@dataclass(frozen=True)
class TracedGenerator:
    """A generator to be exported.

    Attributes:
        generator: as `load_generator` returns it.
        num_frames: length of the clips, None for the trained one.
    """

    generator: Generator
    num_frames: int | None = None

    @cached_property
    def card(self) -> GeneratorCard:
        """What the generator's file says of it."""
        return card_of(self.generator)

    def inputs(self, first_seed: int, count: int) -> Inputs:
        """Inputs for `count` clips; a context is what the model takes from clips of noise."""
        seeds = range(first_seed, first_seed + count)
        latent = sample_latents(self.generator, seeds, self.num_frames)
        found: dict[str, Tensor | None] = {
            "latent": latent if latent.shape[1] else None,
            "labels": labels_for_seeds(seeds, self.generator.num_classes),
        }
        if self.generator.context_frames:
            rng = BatchRandom((first_seed, "export"), count, 0, count, torch.device("cpu"))
            clips = rng.uniform(*self.card.clip_shape) * 2 - 1
            found["context"] = self.generator.make_context(clips, rng)[0]
        return {name: value.contiguous() for name, value in found.items() if value is not None}

    def generate(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Float clips `[B, C, T, H, W]`."""
        given = dict(inputs)
        # A model without a latent still asks for rows of length 0.
        count = next(iter(given.values())).shape[0]
        latent = given.pop("latent") if "latent" in given else torch.zeros(count, 0)
        return self.generator.parts(latent, num_frames=self.num_frames, **given)["clip"]


class _Positional(nn.Module):
    """The clip alone, from inputs by position, as `torch.export` wants it."""

    def __init__(self, source: TracedGenerator, names: tuple[str, ...]) -> None:
        super().__init__()
        self.generator, self.source, self.names = source.generator, source, names

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.source.generate(dict(zip(self.names, inputs, strict=True)))


def trace(source: TracedGenerator) -> "torch.export.ExportedProgram":
    """The graph of a generator in eval mode, for any number of clips.

    Raises:
        UserError: the model takes another path for another number of clips.
    """
    inputs = source.inputs(0, TRACED_BATCH)
    was_training = source.generator.training
    module = _Positional(source, tuple(inputs)).eval()
    open_rows = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
    try:
        with torch.no_grad():
            program = torch.export.export(
                module, tuple(inputs.values()), dynamic_shapes=(open_rows,)
            )
    except (torch._dynamo.exc.UserError, RuntimeError) as error:
        raise UserError(
            f"{type(source.generator).__name__} cannot be exported for any number of clips: "
            f"{str(error).splitlines()[0]}"
        ) from error
    finally:
        source.generator.train(was_training)
    # Files of the machine that exported are nobody's business.
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def largest_difference(source: TracedGenerator, run: Callable[[Inputs], Any]) -> float:
    """How far clips that `run` makes differ from those of the generator, over several batches.

    Values of a clip lie around [-1, 1]. Where a model makes larger ones, the difference is taken
    in parts of the largest, as rounding grows with it.

    Raises:
        UserError: by more than `TOLERANCE`.
    """
    differences = []
    for count in CHECKED_BATCHES:
        inputs = source.inputs(100 * count, count)
        with torch.no_grad():
            expected = source.generate(inputs)
            found = torch.as_tensor(run(inputs))
        if found.shape != expected.shape:
            raise UserError(
                f"the exported generator makes {list(found.shape)} of {count} latents instead of "
                f"{list(expected.shape)}, so nothing was written"
            )
        scale = max(1.0, float(expected.abs().max()))
        differences.append((found - expected).abs().max() / scale)
    # Unlike that of Python, this maximum is no number if one of them is none.
    largest = float(torch.stack(differences).max())
    if not largest <= TOLERANCE:
        raise UserError(
            f"the exported generator differs from PyTorch by {largest:.2g}, more than "
            f"{TOLERANCE:g}, so nothing was written; try other versions of torch and onnx"
        )
    return largest
