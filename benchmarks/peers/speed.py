"""What a training step costs beside other PyTorch code: CPU seconds of one thread.

    python benchmarks/peers/speed.py --code FOLDER --rounds 3

FOLDER is that of `python benchmarks/peers`. A step moves every network once, at the published
widths: theirs is their own loop, or its lines where it runs on import, and ours is the preset's
step, in a process that keeps freed memory as `train` does. Both see the same clips and take turns
of two steps, the second of which counts, so that a busy machine slows all alike. Arithmetic is
counted on both sides (convolutions and matrix products): the last column is the gain at equal
arithmetic, which alone means something where the networks are not the same (DVD-GAN's generator).
The progressive network has no such peer that runs: benchmarks/train_step.py compares it with the
same network written the usual way.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from beside import batch_of, imports_from, preset, stand_ins, training_step, translated
from mocogan import PYTHON_2
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils.flop_counter import FlopCounterMode

from vidgan.core.machine import has_bfloat16, keep_freed_memory, processor_id
from vidgan.models.base import ClipShape
from vidgan.training.shares import shares_of

CLASSES = 3
THEIRS = "theirs"
FORMS = {"ours, fp32": "fp32", "ours, bf16": "bf16"}
"""bfloat16 is left out where it would be emulated."""

Step = Callable[[], object]


def our_steps(name: str, *words: str, real: Tensor, labels: Tensor | None) -> dict[str, Step]:
    """A preset's step in every number format that this processor has."""
    steps: dict[str, Step] = {}
    for form, networks in FORMS.items():
        if networks == "bf16" and not has_bfloat16(torch.device("cpu")):
            continue
        formats = f"training.precision={{networks: {networks}, penalty: {networks}}}"
        config = preset(name, *words, formats, f"training.batch_size={len(real)}")
        classes = 0 if labels is None else CLASSES
        step = training_step(config, config.model.build(ClipShape(*real.shape[1:]), classes))
        step.shares = shares_of(config.training, 0, 1, len(real))
        batch = batch_of(real, labels)
        steps[form] = partial(step.run, 0, 0, lambda batch=batch: batch)
    return steps


# ------------------------------------------------------------------------------------------------
# Systems


def vgan(code: Path) -> dict[str, Step]:
    """The conditional VGAN, 4 clips of 32x64x64: the two updates of `main.py`."""
    folder = code / "batsa003-videogan"
    with imports_from(folder, {}):
        model = translated(folder / "model.py", {})
    generator, discriminator = model.Generator(), model.Discriminator()
    adam = [Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (generator, discriminator)]
    real, entropy = clips(4, 32), nn.CrossEntropyLoss()
    first, ones = real[:, :, :1], torch.ones(len(real), dtype=torch.long)

    def forget() -> None:
        discriminator.zero_grad()
        generator.zero_grad()

    def step() -> None:
        forget()
        loss = entropy(discriminator(real).squeeze(), ones)
        loss = loss + entropy(discriminator(generator(first)).squeeze(), torch.zeros_like(ones))
        loss.backward()
        adam[1].step()
        forget()
        fake = generator(first)
        distance = torch.mean(torch.abs(first - fake[:, :, :1])) * 10
        (entropy(discriminator(fake).squeeze(), ones) + distance).backward()
        adam[0].step()

    ours = our_steps("paper/vgan-first-frame-golf-64x32", real=real, labels=None)
    return {THEIRS: step, **ours}


class OneBatch(list[dict[str, Tensor]]):
    """A data loader of one batch."""

    batch_size = 4


def mocogan(code: Path) -> dict[str, Step]:
    """MoCoGAN, 4 frames and 4 clips of 16x64x64: `Trainer.train` for one batch."""
    source = code / "sergeytulyakov-mocogan" / "src"
    with imports_from(source, stand_ins("logger", Logger=lambda folder: None)):
        models = translated(
            source / "models.py", {"h.size(0) / video_len": "h.size(0) // video_len"}
        )
        trainers = translated(source / "trainers.py", PYTHON_2)
    networks = (
        models.VideoGenerator(3, 50, CLASSES, 10, 16),
        models.PatchImageDiscriminator(3),
        models.CategoricalVideoDiscriminator(3, CLASSES),
    )
    count = OneBatch.batch_size
    real, labels = clips(2 * count, 16), torch.arange(2 * count) % CLASSES
    frames = OneBatch([{"images": real[:count, :, 0]}])
    videos = OneBatch([{"images": real[count:], "categories": labels[count:]}])
    trainer = trainers.Trainer(frames, videos, 10, 1, "", use_categories=True)

    def step() -> None:
        with patch("torch.save"):
            trainer.train(*networks)

    words = [f"training.discriminator_batch_size.{name}={count}" for name in ("image", "video")]
    words.append("model.noise=0")  # as theirs by default
    return {
        THEIRS: step,
        **our_steps("paper/mocogan-ucf101-64x16", *words, real=real, labels=labels),
    }


def dvdgan(code: Path) -> dict[str, Step]:
    """DVD-GAN, 2 clips of 8x64x64: the lines of their `Trainer.train`, hinge loss."""
    unused = stand_ins("torchvision", "torchvision.utils") | stand_ins("tensorboardX")
    with imports_from(code / "Harrypotterrrr-DVD-GAN", unused):
        import trainer
        import utils
        from Module import Discriminators, Generator
    channels, frames = 32, 8
    generator = Generator.Generator(n_class=CLASSES, ch=channels, n_frames=frames)
    spatial = Discriminators.SpatialDiscriminator(channels, CLASSES)
    temporal = Discriminators.TemporalDiscriminator(channels, CLASSES)
    adam = [Adam(net.parameters(), 5e-5, (0.0, 0.9)) for net in (generator, spatial, temporal)]
    scorer: Any = SimpleNamespace(adv_loss="hinge")
    loss_of = partial(trainer.Trainer.calc_loss, scorer)
    clip, labels = clips(2, frames), torch.arange(2) % CLASSES
    real = clip.transpose(1, 2).contiguous()

    def views(video: Tensor) -> dict[Any, Tensor]:
        sampled = utils.sample_k_frames(video, frames, frames)
        return {spatial: sampled, temporal: trainer.vid_downsample(video)}

    def move(loss: Tensor, optimizer: Adam) -> None:
        for each in adam:
            each.zero_grad()
        loss.backward()
        optimizer.step()

    def step() -> None:
        fakes, reals = views(generator(torch.randn(2, 120), labels)), views(real)
        for net, optimizer in ((spatial, adam[1]), (temporal, adam[2])):
            on_real = loss_of(net(reals[net], labels), True)
            move(on_real + loss_of(net(fakes[net].detach(), labels), False), optimizer)
        move(sum(loss_of(net(fake, labels), True) for net, fake in fakes.items()), adam[0])

    words = [f"model.channels={channels}"]
    ours = our_steps("paper/dvdgan-kinetics600-64x12", *words, real=clip, labels=labels)
    return {THEIRS: step, **ours}


def clips(count: int, frames: int) -> Tensor:
    """Noise in [-1, 1], `[B, 3, T, 64, 64]`."""
    return torch.rand(count, 3, frames, 64, 64) * 2 - 1


SYSTEMS = {"vgan": vgan, "mocogan": mocogan, "dvdgan": dvdgan}

# ------------------------------------------------------------------------------------------------


def measure(steps: dict[str, Step], rounds: int) -> list[tuple[str, float, float, str]]:
    """Name, median CPU seconds, TFLOP and range of every row, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    work = {}
    for name, step in steps.items():
        with FlopCounterMode(display=False) as counter:
            step()
        work[name] = counter.get_total_flops() / 1e12
    for _ in range(rounds):
        for name, step in steps.items():
            keep_freed_memory(name != THEIRS)
            step()
            start = time.process_time()
            step()
            seconds[name].append(time.process_time() - start)
    return [
        (name, statistics.median(found), work[name], f"{min(found):.2f} .. {max(found):.2f}")
        for name, found in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--code", type=Path, required=True, help="folder of the clones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=SYSTEMS, nargs="+", default=list(SYSTEMS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread of {processor_id()}\n")
    head = ("system", "step", "CPU s", "range", "TFLOP", "gain", "gain at equal arithmetic")
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for system in given.only:
        torch.manual_seed(0)
        with redirect_stdout(sys.stderr):
            rows = measure(SYSTEMS[system](given.code), given.rounds)
        _, slow, their_work, _ = rows[0]
        for name, middle, work, spread in rows:
            equal = (slow / their_work) / (middle / work)
            cells = (system, name, f"{middle:.2f}", spread, f"{work:.3f}")
            print(f"| {' | '.join(cells)} | {slow / middle:.2f} | {equal:.2f} |", flush=True)


if __name__ == "__main__":
    main()
