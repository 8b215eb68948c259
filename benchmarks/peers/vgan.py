"""Conditional VGAN beside a PyTorch port of it: first frame in, clip out.

The port writes its widths as numbers: 128 to 1024 are divided by 16 in memory, for the time's sake.
Its training script runs on import and for days; the two updates below are its lines.
"""

import re
from pathlib import Path
from typing import Any

import torch
from beside import (
    Moves,
    Pair,
    Row,
    batch_of,
    difference,
    gradients,
    imports_from,
    layers_with_parameters,
    preset,
    share_weights,
    training_step,
    translated,
)
from torch import Tensor, nn

from vidgan.models.base import ClipShape
from vidgan.training.step import TrainingStep, UpdateKey

CLIPS, FRAMES, SIDE, SMALLER = 2, 32, 64, 16
ENCODER_EPS = 1e-5


def compare(folder: Path) -> list[Row]:
    """Rows of the table, given the folder of batsa003/videogan."""
    with imports_from(folder, {}):
        model = translated(folder / "model.py", {}, narrowed)
    config = preset("paper/vgan-first-frame-golf-64x32", f"model.width={128 // SMALLER}")
    gan = config.model.build(ClipShape(3, FRAMES, SIDE, SIDE))
    ours: Any = gan.generator
    for norm in ours.encoder.norms:
        norm.eps = ENCODER_EPS
    theirs = (model.Generator(), model.Discriminator())
    step = training_step(config, gan)
    pairs = {
        "generator": share_weights(generator_layers(ours), layers_with_parameters(theirs[0])),
        "discriminator": discriminator_pairs(gan.discriminators["discriminator"], theirs[1]),
    }
    real = torch.rand(CLIPS, 3, FRAMES, SIDE, SIDE) * 2 - 1
    return [*rows_before(step, theirs, pairs, real), update(step, theirs, pairs, real)]


def narrowed(text: str) -> str:
    """The text with widths of 128 and more divided."""
    return re.sub(r"\b(128|256|512|1024)\b", lambda m: str(int(m[0]) // SMALLER), text)


def alternate(convolutions: Any, norms: Any) -> list[nn.Module]:
    """Convolution, norm, convolution, ..."""
    return [m for pair in zip(convolutions, norms, strict=True) for m in pair]


def generator_layers(ours: Any) -> list[nn.Module]:
    """In the order of theirs: encoder, background, foreground, heads."""
    encoder, background = ours.encoder, ours.background
    return [
        encoder.first,
        *alternate(encoder.convs, encoder.norms),
        *alternate(background.convs, background.norms),
        background.to_rgb,
        *alternate([ours.first, *ours.convs], ours.norms),
        ours.to_foreground,
        ours.to_mask,
    ]


def discriminator_pairs(ours: Any, theirs: nn.Module) -> list[Pair]:
    """Shared parameters; their logits are fake, real."""
    layers = [ours.first, *alternate(ours.convs, ours.norms), ours.to_logits]
    pairs = share_weights(layers, layers_with_parameters(theirs))
    with torch.no_grad():
        for mine, other in pairs[-2:]:
            mine.copy_(other.flip(0))
    return pairs


def in_their_order(pairs: list[Pair], found: list[Tensor]) -> list[Tensor]:
    """Gradients of our discriminator with the rows of the logits swapped."""
    assert len(pairs) == len(found)
    return [*found[:-2], *(gradient.flip(0) for gradient in found[-2:])]


def their_losses(
    theirs: tuple[nn.Module, nn.Module], real: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Their generated clips and both losses, as `main.py` has them."""
    generator, discriminator = theirs
    entropy, first = nn.CrossEntropyLoss(), real[:, :, :1]
    ones = torch.ones(CLIPS, dtype=torch.long)
    fake = generator(first)
    scores = discriminator(fake)
    loss = entropy(discriminator(real), ones) + entropy(scores, torch.zeros_like(ones))
    distance = torch.mean(torch.abs(first - fake[:, :, :1])) * 10
    return fake, loss, entropy(scores, ones) + distance


def rows_before(
    step: TrainingStep,
    theirs: tuple[nn.Module, nn.Module],
    pairs: dict[str, list[Pair]],
    real: Tensor,
) -> list[Row]:
    """Outputs, losses and gradients."""
    (batch,), key = step.split(batch_of(real), UpdateKey(step.seed)), UpdateKey(step.seed)
    parts = step.generate(batch, key)
    loss, _ = step.discriminator_loss(batch, parts, key, 0)
    loss_g, _ = step.generator_loss(batch, parts, key)
    fake, loss_theirs, loss_g_theirs = their_losses(theirs, real)
    logits = theirs[1](real)
    score = step.gan.discriminators["discriminator"](real).realness
    found = []
    for name, mine, given in (
        ("discriminator", loss, loss_theirs),
        ("generator", loss_g, loss_g_theirs),
    ):
        own, other = zip(*pairs[name], strict=True)
        own_gradients = gradients(mine, own)
        if name == "discriminator":
            own_gradients = in_their_order(pairs[name], own_gradients)
        found.append(difference(own_gradients, gradients(given, other)))
    return [
        Row(
            "generator, output",
            difference([parts["clip"]], [fake]),
            "the encoder's batch norm has epsilon 1e-3 here, as in Vondrick's own code, and 1e-5 "
            "in the port (set so for this row and those below)",
        ),
        Row(
            "discriminator, output",
            difference([score], [logits[:, 1:] - logits[:, :1]]),
            "ours returns the difference of the two logits, so that every loss applies",
        ),
        Row("losses", difference([loss, loss_g], [loss_theirs, loss_g_theirs])),
        Row("gradients of both networks", max(found)),
    ]


def update(
    step: TrainingStep,
    theirs: tuple[nn.Module, nn.Module],
    pairs: dict[str, list[Pair]],
    real: Tensor,
) -> Row:
    """A discriminator update, then a generator update."""
    moves = Moves([*pairs["generator"], *pairs["discriminator"][:-2]])
    step.run(0, 0, lambda: batch_of(real))
    generator, discriminator = theirs
    adam = [torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in theirs]
    for which, optimizer in ((1, adam[1]), (2, adam[0])):
        generator.zero_grad()
        discriminator.zero_grad()
        their_losses(theirs, real)[which].backward()
        optimizer.step()
    return Row(
        "one discriminator and one generator update (Adam)",
        moves.difference(),
        "without the logits, whose order differs; ours takes both on the same clips, the port on "
        "two batches in turn; its rate falls to a tenth every 1,000 batches, ours is constant as "
        "in the paper",
    )
