"""One Adam optimizer for the generator and one for all discriminators of a GAN."""

from collections.abc import Iterator

import torch
from torch import nn

from vidgan.models.base import GAN
from vidgan.training.schedule import per_level
from vidgan.training.settings import OptimizerConfig, TrainingConfig

PLAYERS = ("generator", "discriminator")


def named_parameters(gan: GAN, player: str) -> Iterator[tuple[str, nn.Parameter]]:
    """Every parameter of a player, in use or not, as `network.parameter` names."""
    for name, network in gan.networks.items():
        if (name == "generator") == (player == "generator"):
            for parameter_name, parameter in network.named_parameters():
                yield f"{name}.{parameter_name}", parameter


def make_optimizers(gan: GAN, settings: TrainingConfig) -> dict[str, torch.optim.Adam]:
    """Optimizers by player; parameters without a gradient are left alone by a step."""
    return {
        player: _make_adam(gan, player, player_settings(settings, player)) for player in PLAYERS
    }


def player_settings(settings: TrainingConfig, player: str) -> OptimizerConfig:
    """The optimizer settings of a player."""
    return settings.generator if player == "generator" else settings.discriminator


def set_learning_rate(
    optimizer: torch.optim.Optimizer, settings: OptimizerConfig, player: str, level: int, count: int
) -> None:
    """Set the learning rate of `level` out of `count` levels."""
    rates = per_level(settings.lr, count, f"training.{player}.lr")
    for group in optimizer.param_groups:
        group["lr"] = rates[level]


def _make_adam(gan: GAN, player: str, settings: OptimizerConfig) -> torch.optim.Adam:
    parameters = [parameter for _, parameter in named_parameters(gan, player)]
    first_rate = settings.lr[0] if isinstance(settings.lr, tuple) else settings.lr
    return torch.optim.Adam(
        parameters,
        lr=first_rate,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
