"""MoCoGAN beside the authors' PyTorch code: their own loop takes one whole step, and so does ours.

Their files are Python 2 and PyTorch 0.3: a print statement, a division of integers, `iteritems` and
`.data[0]` are translated in memory. Widths of 64 become 8 in both, for the time's sake.
"""

import types
from pathlib import Path
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
    layers_with_parameters,
    preset,
    share_weights,
    stand_ins,
    training_step,
    translated,
)
from torch import Tensor, nn

from vidgan.models.base import GAN, ClipShape
from vidgan.training.shares import shares_of
from vidgan.training.step import TrainingStep, UpdateKey

CLASSES, CLIPS, FRAMES = 3, 2, 16
SHAPE = ClipShape(3, FRAMES, 64, 64)
BATCHES = [
    f"training.batch_size={2 * CLIPS}",
    f"training.discriminator_batch_size.image={CLIPS}",
    f"training.discriminator_batch_size.video={CLIPS}",
]

WIDTH = 8
PRESET, WORDS = "paper/mocogan-ucf101-64x16", ["model.noise=0", f"model.width={WIDTH}"]
SMALLER = {
    "ndf=64": f"ndf={WIDTH}",
    "ngf=64": f"ngf={WIDTH}",
    "h.size(0) / video_len": "h.size(0) // video_len",
}
PYTHON_2 = {
    "print log_string": "print(log_string)",
    ".iteritems()": ".items()",
    ".data[0]": ".item()",
}


def compare(folder: Path) -> list[Row]:
    """Rows of the table, given the folder of sergeytulyakov/mocogan."""
    with imports_from(folder / "src", stand_ins("logger", Logger=lambda folder: None)):
        models = translated(folder / "src" / "models.py", SMALLER)
        trainers = translated(folder / "src" / "trainers.py", PYTHON_2)
    config = preset(PRESET, *WORDS, *BATCHES)
    gan = config.model.build(SHAPE, CLASSES)
    theirs = {
        "generator": models.VideoGenerator(3, 50, CLASSES, 10, FRAMES),
        "image": models.PatchImageDiscriminator(3),
        "video": models.CategoricalVideoDiscriminator(3, CLASSES),
    }
    pairs = {name: pair_up(name, gan, theirs[name]) for name in theirs}
    step = training_step(config, gan)
    real = torch.rand(CLIPS, 3, FRAMES, 64, 64) * 2 - 1
    labels = torch.arange(CLIPS) % CLASSES
    rows = networks(step, theirs, pairs, real, labels)
    step.shares = shares_of(config.training, 0, 1, 2 * CLIPS)
    rows.append(whole_step(step, theirs, pairs, trainers))
    patches = compare_other_discriminators(models)
    return [*rows, patches, *REMARKS]


REMARKS = [
    Row(
        "latents",
        None,
        "content, first state and noise are standard normal and categories uniform in both; here "
        "one row of numbers holds all of a clip",
    ),
    Row(
        "running statistics of batch norm",
        None,
        "here they move once an update, there at every pass; nothing of it is left after some tens "
        "of updates",
    ),
]


def pair_up(name: str, gan: GAN, theirs: nn.Module) -> list[Pair]:
    """Shared parameters of a network; layers of ours in the order of theirs."""
    ours: Any = gan.networks[name]
    if name == "generator":
        inner = [m for pair in zip(ours.convs, ours.norms[1:], strict=True) for m in pair]
        layers = [ours.recurrent, ours.first, ours.norms[0], *inner, ours.to_rgb]
    else:
        layers = discriminator_layers(ours)
    return share_weights(layers, layers_with_parameters(theirs))


def discriminator_layers(ours: Any) -> list[nn.Module]:
    """Convolution, norm, convolution, ..., score."""
    inner = [m for pair in zip(ours.convs, ours.norms, strict=True) for m in pair]
    last = ours.to_score if hasattr(ours, "to_score") else ours.to_scores
    return [*(m for m in inner if not isinstance(m, nn.Identity)), last]


class Latents:
    """Feeds our latent rows to the places where their generator draws numbers."""

    def __init__(self, generator: Any, latents: list[Tensor], labels: Tensor) -> None:
        self.generator, self.latents, self.labels = generator, latents, labels
        self.drives: list[Tensor] = []
        generator.sample_z_content = self.content
        generator.sample_z_categ = self.category
        generator.get_gru_initial_state = self.start
        generator.get_iteration_noise = lambda count: self.drives.pop(0)

    def content(self, count: int, length: int | None = None) -> Tensor:
        """The content code of every frame, `[B * T, content]`."""
        return self.latents[0][:, :50].repeat_interleave(FRAMES, dim=0)

    def category(self, count: int, length: int | None = None) -> tuple[Tensor, Any]:
        """One-hot categories of every frame, and the categories."""
        one_hot = nn.functional.one_hot(self.labels, CLASSES).to(self.latents[0].dtype)
        return one_hot.repeat_interleave(FRAMES, dim=0), np.asarray(self.labels)

    def start(self, count: int) -> Tensor:
        """The first state; the noise of all frames is queued, and the next latents come up."""
        state, *self.drives = self.latents.pop(0)[:, 50:].split(10, dim=1)
        self.latents = self.latents or [torch.empty(0)]
        return state


def networks(
    step: TrainingStep,
    theirs: dict[str, nn.Module],
    pairs: dict[str, list[Pair]],
    real: Tensor,
    labels: Tensor,
) -> list[Row]:
    """Outputs, losses and gradients on the same latents and clips."""
    batch, key = batch_of(real, labels), UpdateKey(step.seed)
    latent = step.random(batch, key, "latent").normal(step.gan.generator.latent_dim())
    latent = latent.to(real.dtype)
    fake = step.gan.generator(latent, labels)
    Latents(theirs["generator"], [latent], labels)
    generator: Any = theirs["generator"]
    fake_theirs, _ = generator.sample_videos(CLIPS)
    view = torch.zeros(CLIPS)
    image, video = (step.gan.discriminators[name] for name in ("image", "video"))
    scores = [image(real, view=view).realness, video(real).realness, video(real).class_logits]
    image_theirs, _ = theirs["image"](real[:, :, 0])
    realness, logits = theirs["video"](real)
    rows = [
        Row("generator, output", difference([fake], [fake_theirs])),
        Row(
            "both discriminators, output",
            difference(scores, [image_theirs.flatten(1), realness, logits]),  # type: ignore[list-item]
        ),
    ]
    bce, entropy = nn.BCEWithLogitsLoss(), nn.CrossEntropyLoss()
    fakes, fake_logits = theirs["video"](fake_theirs)
    loss_theirs = bce(realness, torch.ones_like(realness)) + bce(fakes, torch.zeros_like(fakes))
    loss_theirs = loss_theirs + entropy(logits, labels)
    loss_g_theirs = bce(fakes, torch.ones_like(fakes)) + entropy(fake_logits, labels)
    game = step.loss.adversarial
    on_real, on_fake = video(real), video(fake)
    loss = game.discriminator(on_real.realness, on_fake.realness)
    loss = loss + step.class_loss(on_real, labels)
    loss_g = game.generator(on_fake.realness) + step.class_loss(on_fake, labels)
    rows.append(
        Row("losses of the video game", difference([loss, loss_g], [loss_theirs, loss_g_theirs]))
    )
    found = []
    for name, mine, given in (("video", loss, loss_theirs), ("generator", loss_g, loss_g_theirs)):
        own, other = zip(*pairs[name], strict=True)
        found.append(difference(gradients(mine, own), gradients(given, other)))
    rows.append(Row("gradients of both networks", max(found)))
    return rows


class OneBatch(list[dict[str, Tensor]]):
    """A data loader of one batch."""

    batch_size = CLIPS


def whole_step(
    step: TrainingStep,
    theirs: dict[str, nn.Module],
    pairs: dict[str, list[Pair]],
    trainers: types.ModuleType,
) -> Row:
    """`Trainer.train` of theirs for one batch, and one step of the preset.

    Ours gives every other clip to the image discriminator and the rest to the video discriminator.
    """
    real = torch.rand(2 * CLIPS, *SHAPE) * 2 - 1
    labels = torch.arange(2 * CLIPS) % CLASSES
    for_image, for_video = slice(0, None, 2), slice(1, None, 2)
    batch = batch_of(real, labels)
    moves = Moves([pair for name in pairs for pair in pairs[name]])
    step.run(0, 0, lambda: batch)

    # What ours drew: latents of the discriminators' and of the generator's update, and frames.
    keys = [UpdateKey(step.seed), UpdateKey(step.seed, fresh=True)]
    size = step.gan.generator.latent_dim()
    latents = [step.random(batch, key, "latent").normal(size).double() for key in keys]
    words = [("view",), ("generator", "view")]
    image: Any = step.gan.discriminators["image"]
    places = [
        image.frame_of(real, step.view("image", batch, key, *word))[for_image]
        for key, word in zip(keys, words, strict=True)
    ]

    generator: Any = theirs["generator"]
    Latents(generator, [latents[0], latents[0], latents[1], latents[1]], labels)
    rows, sample_all = torch.arange(CLIPS), generator.sample_videos

    def sample_images(count: int) -> tuple[Tensor, None]:
        return sample_all(2 * count)[0][for_image][rows, :, queue.pop(0)], None

    def sample_videos(count: int) -> tuple[Tensor, Tensor]:
        clips, categories = sample_all(2 * count)
        return clips[for_video], categories[for_video]

    queue = list(places)
    generator.sample_images, generator.sample_videos = sample_images, sample_videos
    frames = OneBatch([{"images": real[for_image][rows, :, places[0]]}])
    clips = OneBatch([{"images": real[for_video], "categories": labels[for_video]}])
    trainer = trainers.Trainer(frames, clips, 10, 1, "", use_categories=True)
    with patch("torch.save"):
        trainer.train(generator, theirs["image"], theirs["video"])
    return Row(
        "one whole step of their `Trainer.train` (three networks, Adam)",
        moves.difference(),
        "image fakes are frames of whole clips here, and all clips of a step are normalised "
        "together, there the picked frames and the clips each alone (given ours); without labels "
        "theirs asks the generator for categories that nothing taught",
    )


def compare_other_discriminators(models: types.ModuleType) -> Row:
    """The full image and the patch video discriminator."""
    others = ["model.image_discriminator=full", "model.video_discriminator=patch"]
    config = preset(PRESET, *WORDS, *others)
    gan = config.model.build(ClipShape(3, FRAMES, 64, 64))
    clip = torch.rand(CLIPS, 3, FRAMES, 64, 64) * 2 - 1
    view = torch.zeros(CLIPS)
    full, patches = models.ImageDiscriminator(3), models.PatchVideoDiscriminator(3)
    share_weights(discriminator_layers(gan.discriminators["image"]), layers_with_parameters(full))
    share_weights(
        discriminator_layers(gan.discriminators["video"]), layers_with_parameters(patches)
    )
    ours = [gan.discriminators[name](clip, view=view).realness for name in ("image", "video")]
    theirs = [full(clip[:, :, 0])[0][:, None], patches(clip)[0].flatten(1)]
    return Row("full image and patch video discriminator, output", difference(ours, theirs))
