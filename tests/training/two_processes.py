"""What `torchrun` starts in every process for test_distributed.py, and the test in one process."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from training_cases import tiny_config

from vidgan.core.distributed import join_processes
from vidgan.models.base import Discriminator, Network
from vidgan.training.loop import build_step, open_batches, open_clips, train
from vidgan.training.planner import plan_schedule
from vidgan.training.presets import Config
from vidgan.training.schedule import stage_at
from vidgan.training.step import Parts, TrainingStep

LOSSES = ("wgan-gp", "swgan")
MOMENTS = {"start": 0, "fade": 40}
"""Clips seen where gradients are compared: at the first step and where every branch computes."""
Seen = dict[str, list[int]]


def train_and_count_clips(config: Config) -> Seen:
    """Train, and note how many clips the networks saw in each call of this process."""
    rows: dict[str, set[int]] = {"generator": set(), "discriminator": set()}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, Discriminator):
            rows["discriminator"].add(len(inputs[0]))

    generate = TrainingStep.generate

    def counted(*given: Any) -> Parts:
        parts = generate(*given)
        rows["generator"].add(len(parts["clip"]))
        return parts

    hook = nn.modules.module.register_module_forward_pre_hook(note)
    TrainingStep.generate = counted  # type: ignore[method-assign]
    try:
        train(config)
    finally:
        hook.remove()
    return {name: sorted(sizes) for name, sizes in rows.items()}


def first_gradients(config: Config, clips_seen: int) -> dict[str, Tensor]:
    """Every gradient of a step with initial weights, as the optimizers get it."""
    gradients: dict[str, Tensor] = {}
    with join_processes("cpu") as processes:
        dataset = open_clips(config, print)
        schedule = plan_schedule(config, dataset.full_shape)
        step = build_step(config, dataset, schedule, processes)

        def keep(name: str, network: Network) -> None:
            before_step = network.before_step

            def kept() -> None:
                for key, parameter in network.parameters_in_use():
                    assert parameter.grad is not None
                    gradients[f"{name}.{key}"] = parameter.grad.clone()
                before_step()

            network.before_step = kept  # type: ignore[method-assign]

        for name, network in step.gan.networks.items():
            keep(name, network)
        step.enter(stage_at(clips_seen, schedule))
        batches = open_batches(dataset, schedule, config.training, clips_seen, processes)
        step.run(0, 0, batches.__next__)
    return gradients


def measure(out: Path, data: Path) -> None:
    """Write runs, gradients and counts below `out`, the counts by rank."""
    rank = os.environ.get("RANK", "0")
    counts = {}
    for loss in LOSSES:
        words = (f"loss.name={loss}", "training.precision.networks=fp64")
        counts[loss] = train_and_count_clips(tiny_config(out / loss, data, *words))
        # The paper's groups of four: the deviation of two clips is so curved where they nearly
        # agree that the gradient penalty, which differentiates it twice, keeps 5 digits only.
        words = (f"loss.name={loss}", "training.batch_size=8", "model.group_size=4")
        for moment, clips_seen in MOMENTS.items():
            gradients = first_gradients(tiny_config(out / loss, data, *words), clips_seen)
            if rank == "0":
                torch.save(gradients, out / f"{loss}-{moment}.pt")
    (out / f"counts-{rank}.json").write_text(json.dumps(counts))


if __name__ == "__main__":
    with join_processes("cpu"):
        measure(Path(sys.argv[1]), Path(sys.argv[2]))
