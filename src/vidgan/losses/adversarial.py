"""Adversarial losses: pairs of pure functions of realness, one for each player.

Realness is `[B, K]`, a real-valued score that grows with how real a clip looks. Every function
averages over all B * K scores and is minimised by its player.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class AdversarialLoss:
    """Both sides of one adversarial game.

    Attributes:
        discriminator: (real realness, fake realness) -> scalar.
        generator: fake realness -> scalar.
        needs_bound: whether larger scores always lower the discriminator's loss, which diverges
            unless something bounds how fast they may change.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    needs_bound: bool = False


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E D(fake) - E D(real) (Arjovsky et al. 2017, eq. 2, negated)."""
    return fake.mean() - real.mean()


def wasserstein_generator(fake: Tensor) -> Tensor:
    """-E D(fake)."""
    return -fake.mean()


def reversed_wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E D(real) - E D(fake): scores are high on fakes, as the SWGAN authors' code has it."""
    return real.mean() - fake.mean()


def reversed_wasserstein_generator(fake: Tensor) -> Tensor:
    """E D(fake), for scores that are high on fakes."""
    return fake.mean()


def non_saturating_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-E log sigmoid(D(real)) - E log sigmoid(-D(fake)) (Goodfellow et al. 2014, eq. 1)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def non_saturating_generator(fake: Tensor) -> Tensor:
    """-E log sigmoid(D(fake)) (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake).mean()


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E (D(real) - 1)^2 / 2 + E D(fake)^2 / 2 (Mao et al. 2017, eq. 9)."""
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def least_squares_generator(fake: Tensor) -> Tensor:
    """E (D(fake) - 1)^2 / 2 (Mao et al. 2017, eq. 9)."""
    return (fake - 1).square().mean() / 2


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E max(0, 1 - D(real)) + E max(0, 1 + D(fake)) (Lim and Ye 2017; Miyato et al. 2018)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


ADVERSARIAL_LOSSES = {
    "wasserstein": AdversarialLoss(
        wasserstein_discriminator, wasserstein_generator, needs_bound=True
    ),
    "wasserstein-reversed": AdversarialLoss(
        reversed_wasserstein_discriminator, reversed_wasserstein_generator, needs_bound=True
    ),
    "non-saturating": AdversarialLoss(non_saturating_discriminator, non_saturating_generator),
    "least-squares": AdversarialLoss(least_squares_discriminator, least_squares_generator),
    "hinge": AdversarialLoss(hinge_discriminator, wasserstein_generator),
}
