"""DVD-GAN's discriminators beside a PyTorch re-implementation, whose generator is another one.

Its last blocks halve the side once more, by switches that are set as ours here; its attention has a
gain that is 0 at the start and stays so here.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from beside import (
    Row,
    batch_of,
    difference,
    gradients,
    imports_from,
    preset,
    share_weights,
    stand_ins,
    training_step,
)
from torch import Tensor, nn

from vidgan.models.base import ClipShape, Discriminator
from vidgan.models.dvdgan import GeneratorBlock
from vidgan.training.step import UpdateKey

SIDE, WIDTH, CLASSES, CLIPS, FRAMES = 64, 4, 3, 2, 4


def compare(folder: Path) -> list[Row]:
    """Rows of the table, given the folder of Harrypotterrrr/DVD-GAN."""
    unused = stand_ins("torchvision", "torchvision.utils") | stand_ins("tensorboardX")
    with imports_from(folder, unused):
        import trainer
        from Module import Discriminators, GResBlock
    words = [f"model.channels={WIDTH}", "model.spatial_frames=1"]
    config = preset("paper/dvdgan-kinetics600-64x12", *words)
    gan = config.model.build(ClipShape(3, FRAMES, SIDE, SIDE), CLASSES)
    step = training_step(config, gan)
    theirs = {
        "spatial": Discriminators.SpatialDiscriminator(WIDTH, CLASSES),
        "temporal": Discriminators.TemporalDiscriminator(WIDTH, CLASSES),
    }
    pairs = {name: pair_up(gan.discriminators[name], theirs[name]) for name in theirs}
    real, fake = (torch.rand(CLIPS, 3, FRAMES, SIDE, SIDE) * 2 - 1 for _ in range(2))
    labels = torch.arange(CLIPS) % CLASSES
    batch, key = batch_of(real, labels), UpdateKey(step.seed)
    view = step.view("spatial", batch, key, "view")
    assert view is not None
    loss, _ = step.discriminator_loss(batch, {"clip": fake}, key, 0)

    loss_theirs, scores = their_scores(trainer, theirs, {"real": real, "fake": fake}, labels, view)
    mine = [
        gan.discriminators[name](clip, labels, view=view if name == "spatial" else None).realness
        for name in theirs
        for clip in (real, fake)
    ]
    own, given = zip(*(pair for name in pairs for pair in pairs[name]), strict=True)
    return [
        Row(
            "both discriminators, output",
            difference(mine, scores),
            "ours keeps the side in the last block, as BigGAN does (their switches set so); "
            "attention is theirs without pooling, off here",
        ),
        Row(
            "hinge losses",
            difference([loss], [loss_theirs]),
            "ours takes the hinge of a clip's summed score (paper), theirs of each frame's: equal "
            "for the one frame seen here",
        ),
        Row(
            "gradients of both discriminators",
            difference(gradients(loss, own), gradients(loss_theirs, given)),
        ),
        block(SimpleNamespace(GResBlock=GResBlock.GResBlock)),
        Row(
            "generator",
            None,
            "not comparable as a whole: its GRUs are three deep, with tanh and larger kernels "
            "(paper: one, ReLU, 3x3), and frames get the condition of another clip of the batch",
        ),
    ]


def their_scores(
    trainer: Any, theirs: dict[str, Any], clips: dict[str, Tensor], labels: Tensor, view: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """The loss of both discriminators, and the scores, those of the spatial one first."""
    scorer = object.__new__(trainer.Trainer)
    scorer.adv_loss = "hinge"
    scores: dict[tuple[str, str], Tensor] = {}
    for kind, clip in clips.items():
        frame = clip[torch.arange(CLIPS), :, view[:, 0]]
        halved = trainer.vid_downsample(clip.transpose(1, 2).contiguous())
        scores["spatial", kind] = theirs["spatial"](frame[:, None], labels)
        scores["temporal", kind] = theirs["temporal"](halved, labels)
    losses = [scorer.calc_loss(score, kind == "real") for (_, kind), score in scores.items()]
    return torch.stack(losses).sum(), [scores[name, kind] for name in theirs for kind in clips]


def inner_layers(theirs: nn.Module) -> list[Any]:
    """The layers inside their spectral norms; those of the attention have none."""
    return [m for m in theirs.modules() if type(m).__name__ == "SpectralNorm"]


def share_normed(ours: list[nn.Module], wrapped: list[Any]) -> list[tuple[Tensor, Tensor]]:
    """Shared weights, with the spectral vectors converged."""
    for layer in wrapped:
        inner = layer.module
        own = dict(inner.named_parameters(recurse=False))
        # The parameters of weights come after the biases there.
        inner._parameters = {n: own[n] for n in sorted(own, key=lambda n: n == "bias")}
    pairs = share_weights(ours, [layer.module for layer in wrapped])
    with torch.no_grad():
        for mine, layer in zip(ours, wrapped, strict=True):
            own_layer: Any = mine
            own_layer.update_spectral_norm(num_rounds=3000)
            layer.module.weight_u.copy_(own_layer.spectral_vector)
    return pairs


def pair_up(ours: Discriminator, theirs: Any) -> list[tuple[Tensor, Tensor]]:
    """Shared parameters of a discriminator, after the switches."""
    last = (theirs.conv2 if hasattr(theirs, "conv2") else theirs.conv)[-1]
    last.downsample = last.skip_proj = False
    del last.conv_sc
    net: Any = ours
    layers = []
    for block_ in net.blocks:
        layers += [block_.conv1, block_.conv2, *([block_.shortcut] if block_.shortcut else [])]
    return share_normed([*layers, net.score, net.class_vectors], inner_layers(theirs))


def block(theirs: SimpleNamespace) -> Row:
    """A generator block; their linear maps get biases of 1 and 0 in place of ours' 1 + gain."""
    code, channels, before = 6, 8, 16
    other = theirs.GResBlock(before, channels, n_class=code)
    ours = GeneratorBlock(1, before, channels, code, upsample=True, spectral_norm=True)
    assert ours.shortcut is not None
    pairs = share_normed([ours.conv1, ours.conv2, ours.shortcut], inner_layers(other))
    with torch.no_grad():
        for norm, embed in ((ours.norm1, other.CBNorm1.embed), (ours.norm2, other.CBNorm2.embed)):
            embed.weight.copy_(torch.cat([norm.gain.scaled_weight(), norm.shift.scaled_weight()]))
            embed.bias.zero_()
            embed.bias[: len(embed.bias) // 2] = 1
    x, condition = torch.randn(4, before, 8, 8), torch.randn(4, code)
    y, y_theirs = ours(x[:, None], condition)[:, 0], other(x, condition)
    aim = torch.randn_like(y)
    own, given = zip(*pairs, strict=True)
    found = difference(
        [y, *gradients((y * aim).sum(), own)],
        [y_theirs, *gradients((y_theirs * aim).sum(), given)],
    )
    return Row("generator block, output and gradients", found)
