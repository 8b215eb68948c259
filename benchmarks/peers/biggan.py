"""DVD-GAN's blocks beside BigGAN-PyTorch, whose author also wrote the paper that they come from.

At 128 px its image discriminator is our spatial one for a single frame, attention included. Its
training function takes one update on a "generator" whose only parameter is the fakes themselves.
"""

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from beside import (
    Moves,
    Row,
    batch_of,
    difference,
    gradients,
    imports_from,
    layers_with_parameters,
    preset,
    share_weights,
    stand_ins,
    training_step,
)
from torch import Tensor, nn

from vidgan.losses.auxiliary import AuxiliaryInputs, Orthogonality
from vidgan.models.base import GAN, ClipShape, Discriminator, Generator
from vidgan.models.dvdgan import GeneratorBlock
from vidgan.models.parts.layers import WeightLayer
from vidgan.training.step import UpdateKey

SIDE, WIDTH, CLASSES, CLIPS, FRAMES = 128, 8, 3, 2, 4
ONE_UPDATE = (
    "vectors of the spectral norm start converged: theirs take a round at every pass, ours one at "
    "every update, so that a pass changes nothing; rates are BigGAN's here"
)
LIKE_BIGGAN = [
    f"model.channels={WIDTH}",
    "model.spatial_frames=1",
    "model.frame_attention=true",
    "training.discriminator.lr=0.0002",
    "training.discriminator.betas=[0.0,0.999]",
    "training.discriminator_steps=1",
]


def compare(folder: Path) -> list[Row]:
    """Rows of the table, given the folder of ajbrock/BigGAN-PyTorch."""
    unused = ("torchvision", "torchvision.transforms", "datasets", "animal_hash", "inception_utils")
    with imports_from(folder, stand_ins(*unused)):
        import BigGAN
        import layers
        import train_fns
        import utils

        import losses
    theirs = SimpleNamespace(net=BigGAN, layers=layers, losses=losses, train=train_fns, utils=utils)
    return [*discriminator(theirs), block(theirs), orthogonality(theirs)]


def settle(ours: list[nn.Module], theirs: list[nn.Module]) -> None:
    """Converge the vectors of the spectral norms, and give theirs ours."""
    for own, other in zip(ours, theirs, strict=True):
        if isinstance(own, WeightLayer) and own.spectral_norm:
            own.update_spectral_norm(num_rounds=3000)
            vector: Any = other.u0
            vector.copy_(own.spectral_vector)


def discriminator(theirs: SimpleNamespace) -> list[Row]:
    """Scores, losses, gradients and one update of the frame discriminator."""
    config = preset("paper/dvdgan-kinetics600-128x12", *LIKE_BIGGAN)
    whole = config.model.build(ClipShape(3, FRAMES, SIDE, SIDE), CLASSES)
    ours: Any = whole.discriminators["spatial"]
    other = theirs.net.Discriminator(
        D_ch=WIDTH, resolution=SIDE, D_attn="64", n_classes=CLASSES, D_lr=2e-4, D_B1=0.0
    )
    own_layers = discriminator_layers(ours)
    their_layers = layers_with_parameters(other)
    pairs = share_weights(own_layers, their_layers)
    settle(own_layers, their_layers)

    step = training_step(config, GAN(FixedClips(), {"spatial": ours}))
    real, fake = (torch.rand(CLIPS, 3, FRAMES, SIDE, SIDE) * 2 - 1 for _ in range(2))
    labels = torch.arange(CLIPS) % CLASSES
    batch, key = batch_of(real, labels), UpdateKey(step.seed)
    view = step.view("spatial", batch, key, "view")
    assert view is not None
    rows_ = torch.arange(CLIPS)
    seen = [clip[rows_, :, view[:, 0]] for clip in (real, fake)]

    other.eval()  # holds the vectors still
    scores = [other(frames, labels) for frames in seen]
    mine = [ours(clip, labels, view=view).realness for clip in (real, fake)]
    loss_theirs = sum(theirs.losses.discriminator_loss(scores[1], scores[0]))
    loss_g_theirs = theirs.losses.generator_loss(scores[1])
    loss, _ = step.discriminator_loss(batch, {"clip": fake}, key, 0)
    loss_g = step.loss.adversarial.generator(mine[1])
    own, given = zip(*pairs, strict=True)
    rows = [
        Row("frame discriminator with attention and labels, output", difference(mine, scores)),
        Row("hinge losses", difference([loss, loss_g], [loss_theirs, loss_g_theirs])),
        Row(
            "gradients of the discriminator",
            difference(gradients(loss, own), gradients(loss_theirs, given)),
        ),
    ]
    moves = Moves(pairs)
    step.update_discriminators([batch], [{"clip": fake}], key)
    train_one_update(theirs, other, seen[0], seen[1], labels)
    rows.append(Row("one discriminator update (Adam)", moves.difference(), ONE_UPDATE))
    return rows


class FixedClips(Generator):
    """A generator without any parameter but one that nothing uses: the fakes are given."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))


def discriminator_layers(ours: Discriminator) -> list[nn.Module]:
    """In the order of theirs: blocks, attention after the first, score, class vectors."""
    found: list[nn.Module] = []
    net: Any = ours
    for index, block in enumerate(net.blocks):
        found += [block.conv1, block.conv2, *([block.shortcut] if block.shortcut else [])]
        if index == 0 and net.attention is not None:
            attention = net.attention
            found += [attention, attention.query, attention.key, attention.value, attention.out]
    return [*found, net.score, *([net.class_vectors] if net.class_vectors is not None else [])]


class Fakes(nn.Module):
    """A "generator" that is its fakes, as their training function calls one."""

    fp16 = False

    def __init__(self, frames: Tensor) -> None:
        super().__init__()
        self.frames = nn.Parameter(frames)
        self.optim = torch.optim.SGD(self.parameters(), 1e-3)

    def shared(self, labels: Tensor) -> Tensor:
        """No class embedding."""
        return labels

    def forward(self, latent: Tensor, labels: Tensor) -> Tensor:
        """The frames, whatever is asked for."""
        return self.frames


def train_one_update(
    theirs: SimpleNamespace, other: nn.Module, real: Tensor, fake: Tensor, labels: Tensor
) -> None:
    """Their training function for one batch."""
    other.train()
    fakes = Fakes(fake)
    drawn: list[Any] = [torch.zeros(CLIPS, 1), labels.clone()]
    for tensor in drawn:
        tensor.sample_ = lambda: None
    config = {"batch_size": CLIPS, "split_D": True, "toggle_grads": False, "ema": False}
    config |= {f"num_{name}": 1 for name in ("D_steps", "D_accumulations", "G_accumulations")}
    config |= {"D_ortho": 0.0, "G_ortho": 0.0}
    both = theirs.net.G_D(fakes, other)
    update = theirs.train.GAN_training_function(fakes, other, both, *drawn, None, {}, config)
    update(real, labels)


def generator_blocks(theirs: SimpleNamespace) -> tuple[GeneratorBlock, nn.Module, list[Any]]:
    """An upsampling block of both with the same weights."""
    code, channels, before = 6, 8, 16
    convolution = functools.partial(theirs.layers.SNConv2d, kernel_size=3, padding=1)
    linear = functools.partial(theirs.layers.SNLinear, bias=False)
    other = theirs.layers.GBlock(
        before,
        channels,
        which_conv=convolution,
        which_bn=functools.partial(theirs.layers.ccbn, which_linear=linear, input_size=code),
        activation=nn.ReLU(),
        upsample=functools.partial(nn.functional.interpolate, scale_factor=2),
    )
    ours = GeneratorBlock(1, before, channels, code, upsample=True, spectral_norm=True)
    norms = (ours.norm1.gain, ours.norm1.shift, ours.norm2.gain, ours.norm2.shift)
    assert ours.shortcut is not None
    own: list[nn.Module] = [ours.conv1, ours.conv2, ours.shortcut, *norms]
    pairs = share_weights(own, layers_with_parameters(other))
    settle(own, layers_with_parameters(other))
    return ours, other, pairs


def block(theirs: SimpleNamespace) -> Row:
    """A generator block for frames of one time step."""
    ours, other, pairs = generator_blocks(theirs)
    x, code = torch.randn(4, 16, 8, 8), torch.randn(4, 6)
    y, y_theirs = ours(x[:, None], code)[:, 0], other(x, code)
    aim = torch.randn_like(y)
    own, given = zip(*pairs, strict=True)
    found = difference(
        [y, *gradients((y * aim).sum(), own)],
        [y_theirs, *gradients((y_theirs * aim).sum(), given)],
    )
    return Row(
        "generator block with conditional batch norm, output and gradients",
        found,
        "ours normalises every time step of a clip by itself, as DVD-GAN's paper has it",
    )


def orthogonality(theirs: SimpleNamespace) -> Row:
    """The gradient of the orthogonal regularisation."""
    ours, other, pairs = generator_blocks(theirs)
    own, given = zip(*pairs, strict=True)
    for parameter in other.parameters():
        parameter.grad = torch.zeros_like(parameter)
    theirs.utils.ortho(other, 2.0)
    nothing = torch.zeros(())
    value = Orthogonality()(AuxiliaryInputs({}, None, nothing, None, {}, {}, ours))
    mine = torch.autograd.grad(value, own, allow_unused=True)
    pairs_used = [(g, p.grad) for g, p in zip(mine, given, strict=True) if g is not None]
    return Row(
        "orthogonal regularisation, gradient",
        difference(*zip(*pairs_used, strict=True)),
        "ours is the gradient of the term in the paper, theirs half of it (given twice the weight)",
    )
