"""TGAN beside the authors' Chainer code: their updater takes one whole step, and so does ours.

Chainer 7 asks NumPy for a table of types that NumPy 2 has dropped; it gets one for the time of the
comparison. Widths of the image generator and the discriminator are an eighth of the authors'.
"""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from beside import (
    Moves,
    Pair,
    Row,
    batch_of,
    difference,
    gradients,
    imports_from,
    preset,
    training_step,
    translated,
)
from torch import Tensor, nn

from vidgan.losses.penalties import clip_singular_values
from vidgan.models.base import GAN, ClipShape
from vidgan.training.step import TrainingStep, UpdateKey

CLIPS, FRAMES, SIDE, LATENT, WIDTH = 2, 16, 64, 100, 8
TYPES = {
    "int": [np.int8, np.int16, np.int32, np.int64],
    "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
    "float": [np.float16, np.float32, np.float64],
    "complex": [np.complex64, np.complex128],
    "others": [bool, object, bytes, str, np.void],
}


def compare(folder: Path) -> list[Row]:
    """Rows of the table, given the folder of pfnet-research/tgan."""
    with patch.object(np, "sctypes", TYPES, create=True):
        import chainer

        chainer.global_config.dtype = np.dtype(np.float64)
        names = ("frame_seed_generator", "video_generator", "video_discriminator")
        modules = [translated(folder / "models" / f"{name}.py", {}) for name in names]
        with imports_from(folder / "updaters", {}):
            import tgan_updater_wgan
        return beside(chainer, modules, tgan_updater_wgan)


def beside(chainer: Any, modules: list[Any], updaters: Any) -> list[Row]:
    """All rows, given their code."""
    words = [f"model.image_width={4 * WIDTH}", f"model.width={WIDTH}"]
    config = preset("paper/tgan-ucf101-64x16", *words)
    gan = config.model.build(ClipShape(3, FRAMES, SIDE, SIDE))
    theirs = SimpleNamespace(
        temporal=modules[0].FrameSeedGeneratorNoBetaInitDefault(FRAMES, LATENT, LATENT),
        image=modules[1].VideoGeneratorInitUniform(LATENT, LATENT, 3, 4, 8 * WIDTH),
        discriminator=modules[2].VideoDiscriminatorNoBetaInitDefault(3, 4, WIDTH),
    )
    pairs = share_with_links(gan, theirs)
    step = training_step(config, gan)
    real = torch.rand(CLIPS, 3, FRAMES, SIDE, SIDE) * 2 - 1
    batch, key = batch_of(real), UpdateKey(step.seed)
    latent = step.random(batch, key, "latent").normal(LATENT).double()
    updater = their_updater(chainer, updaters, theirs, real, latent)
    return [*rows_of_step(step, updater, pairs, real), svc(updaters), *REMARKS]


REMARKS = [
    Row(
        "latents",
        None,
        "uniform on (-1, 1) in both: here the error function of standard normal numbers",
    ),
    Row(
        "running statistics of batch norm",
        None,
        "both passes of an update weigh the same here; the clamp of gamma reads them (every fifth "
        "update, not part of the step above)",
    ),
]


def share_with_links(gan: GAN, theirs: SimpleNamespace) -> dict[str, list[tuple[Tensor, Any]]]:
    """Give ours the weights of their links: our parameters and theirs."""
    generator, discriminator = (net for net in gan.networks.values())
    nets: Any = SimpleNamespace(generator=generator, discriminator=discriminator)
    temporal, image, discriminator = (
        nets.generator.temporal,
        nets.generator.image,
        nets.discriminator,
    )
    names: dict[nn.Module, tuple[str, str]] = {temporal.first: ("temporal", "dc0")}
    names |= {conv: ("temporal", f"dc{i}") for i, conv in enumerate(temporal.convs, 1)}
    names |= {norm: ("temporal", f"bn{i}") for i, norm in enumerate(temporal.norms)}
    names |= {image.from_latent: ("image", "l0s"), image.from_code: ("image", "l0f")}
    names |= {image.latent_norm: ("image", "bn0s"), image.code_norm: ("image", "bn0f")}
    names |= {conv: ("image", f"dc{i}") for i, conv in enumerate(image.convs, 1)}
    names |= {norm: ("image", f"bn{i}") for i, norm in enumerate(image.norms, 1)}
    names |= {image.to_rgb: ("image", "dc5"), discriminator.first: ("discriminator", "c0")}
    names |= {conv: ("discriminator", f"c{i}") for i, conv in enumerate(discriminator.convs, 1)}
    names |= {norm: ("discriminator", f"bn{i}") for i, norm in enumerate(discriminator.norms, 1)}
    names |= {discriminator.to_score: ("discriminator", "c4")}
    pairs: dict[str, list[tuple[Tensor, Any]]] = {"generator": [], "discriminator": []}
    for layer, (net, link_name) in names.items():
        link = getattr(getattr(theirs, net), link_name)
        for ours, other in (("weight", ("W", "gamma")), ("bias", ("b", "beta"))):
            mine = getattr(layer, ours)
            given = next(
                (getattr(link, n) for n in other if getattr(link, n, None) is not None), None
            )
            assert (mine is None) == (given is None)
            if mine is None or given is None:
                continue
            with torch.no_grad():
                mine.copy_(torch.from_numpy(given.array).view_as(mine))
                mine.add_(torch.randn_like(mine), alpha=0.05)
                given.array[...] = mine.numpy().reshape(given.array.shape)
            pairs["discriminator" if net == "discriminator" else "generator"].append((mine, given))
    return pairs


def their_updater(
    chainer: Any, updaters: Any, theirs: SimpleNamespace, real: Tensor, latent: Tensor
) -> Any:
    """Their updater on given clips and latents, with the optimizers of their `train.py`."""
    nets = {"fsgen": theirs.temporal, "vgen": theirs.image, "vdis": theirs.discriminator}
    optimizers = {name: chainer.optimizers.RMSprop(lr=0.00005).setup(n) for name, n in nets.items()}
    updater = updaters.TGANUpdaterWGANSVC(
        models=tuple(nets.values()), iterator={"main": None}, optimizer=optimizers, freq=5
    )
    uniform = chainer.Variable(torch.erf(latent / math.sqrt(2)).numpy())
    updater._get_real_video = lambda: chainer.Variable(real.numpy())
    updater._get_seeds = lambda count: (uniform, theirs.temporal(uniform))
    return updater


def rows_of_step(
    step: TrainingStep, updater: Any, pairs: dict[str, list[tuple[Tensor, Any]]], real: Tensor
) -> list[Row]:
    """Outputs, losses, gradients and the whole step."""
    batch, key = batch_of(real), UpdateKey(step.seed)
    parts = step.generate(batch, key)
    discriminator = step.gan.discriminators["discriminator"]
    fake = parts["clip"]
    scores = [discriminator(clip).realness for clip in (fake, real)]
    loss_g, _ = step.generator_loss(batch, parts, key)
    loss, _ = step.discriminator_loss(batch, parts, key, 0)
    found = {
        "generator": gradients(loss_g, [mine for mine, _ in pairs["generator"]]),
        "discriminator": gradients(loss, [mine for mine, _ in pairs["discriminator"]]),
    }
    _, fake_theirs, *scores_theirs = updater.forward()
    on_fake, on_real = (torch.from_numpy(s.array).view(CLIPS, 1) for s in scores_theirs)

    joined: list[Pair] = [
        (mine, torch.from_numpy(given.array).view_as(mine))
        for p in pairs.values()
        for mine, given in p
    ]
    moves = Moves(joined)
    step.run(0, 0, lambda: batch)
    updater.update_core()
    errors = [
        difference(found[name], [torch.from_numpy(given.grad) for _, given in pairs[name]])
        for name in pairs
    ]
    return [
        Row("generator, output", difference([fake], [torch.from_numpy(fake_theirs.array)])),
        Row("discriminator, output", difference(scores, [on_fake, on_real])),
        Row(
            "losses",
            difference([loss_g, loss], [-on_fake.mean(), on_fake.mean() - on_real.mean()]),
        ),
        Row("gradients of both networks", max(errors)),
        Row(
            "one whole step of their `TGANUpdaterWGANSVC` (generator first, RMSprop)",
            moves.difference(),
        ),
    ]


def svc(updaters: Any) -> Row:
    """Singular value clipping of a convolution's weight."""
    weight = torch.randn(16, 8, 4, 4, 4) * 0.1
    theirs = updaters._clip_singular_value(weight.flatten(1).numpy().copy())
    ours = clip_singular_values(weight, 1.0).flatten(1)
    return Row("singular value clipping", difference([ours], [torch.from_numpy(theirs)]))
