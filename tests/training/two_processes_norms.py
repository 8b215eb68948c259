"""What `torchrun` starts in every process for test_shared_statistics.py."""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidgan.core.distributed import Processes, join_processes
from vidgan.losses.recipes import LossConfig, make_loss
from vidgan.models.base import ClipShape, ModelConfig, Stage
from vidgan.models.dvdgan import DVDGANConfig
from vidgan.models.mocogan import MoCoGANConfig
from vidgan.models.tgan import TGANConfig
from vidgan.models.vgan import VGANConfig
from vidgan.training.ema import copy_generator
from vidgan.training.settings import OptimizerConfig, TrainingConfig
from vidgan.training.step import Batch, TrainingStep

SHAPE = ClipShape(3, 4, 16, 16)
COUNT, STEPS = 4, 20
SMALL_TGAN = {
    "latent": 4, "frame_code": 3, "temporal_width": 8, "image_width": 8, "width": 4
}  # fmt: skip
PLAYS: dict[str, tuple[ModelConfig, LossConfig]] = {
    "vgan": (VGANConfig(latent=4, width=4), LossConfig(name="bce", auxiliary={"mask": {}})),
    "tgan": (TGANConfig(**SMALL_TGAN), LossConfig(name="wgan-svc")),  # type: ignore[arg-type]
    "mocogan": (
        MoCoGANConfig(content=4, motion=3, width=4),
        LossConfig(name="bce", class_clips="real"),
    ),
    "dvdgan": (
        DVDGANConfig(latent=4, label_dim=3, channels=2, spatial_frames=2),
        LossConfig(name="hinge"),
    ),
}
"""Models that normalise over the batch, in their discriminators too or (DVD-GAN) per time step."""


def play(name: str, processes: Processes, share: bool = True) -> dict[str, Tensor]:
    """All weights and running statistics after some steps.

    Args:
        share: take batch statistics over all processes, as training does; or of each alone.
    """
    model, loss = PLAYS[name]
    torch.manual_seed(0)
    gan = model.build(SHAPE, num_classes=2).to(dtype=torch.float64).train()
    adam = OptimizerConfig(lr=2e-4, betas=(0.5, 0.999))
    settings = TrainingConfig(generator=adam, discriminator=adam, ema_beta=0.9)
    averaged = copy_generator(gan.generator)
    step = TrainingStep(gan, averaged, make_loss(loss), settings, 0, processes=processes)
    if not share:
        for network in gan.networks.values():
            for layer in network.running_layers():
                layer.processes = Processes()
    step.enter(Stage(level=0, frames=4, resolution=16, batch_size=COUNT))

    rng = torch.Generator().manual_seed(5)
    first, last = processes.rows(COUNT)

    def draw() -> Batch:
        # Smooth ramps that move; noise would leave nothing to learn.
        phase = torch.rand(COUNT, 1, 1, 1, 1, generator=rng, dtype=torch.float64) * 6
        t = torch.arange(4, dtype=torch.float64)[:, None, None]
        x = torch.arange(16, dtype=torch.float64)
        clip = torch.sin(phase + t + x / 2).expand(COUNT, 3, 4, 16, 16) * 0.8
        labels = torch.randint(2, (COUNT,), generator=rng)
        return Batch(clip[first:last], labels[first:last], COUNT, first)

    for index in range(STEPS):
        step.run(index, 0, draw)
    networks: dict[str, Any] = {**gan.networks, "averaged": averaged}
    return {
        f"{title}.{key}": value
        for title, network in networks.items()
        for key, value in network.state_dict().items()
    }


def main(out: Path) -> None:
    """Write what this process holds in the end."""
    with join_processes("cpu") as processes:
        found = {name: play(name, processes) for name in PLAYS}
        found["vgan apart"] = play("vgan", processes, share=False)
    torch.save(found, out / f"{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
