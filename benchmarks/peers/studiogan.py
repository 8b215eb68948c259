"""Games and penalties of every system beside PyTorch-StudioGAN, on a small smooth discriminator."""

from pathlib import Path
from types import SimpleNamespace

import torch
from beside import Row, difference, gradients, imports_from, stand_ins
from torch import Tensor, nn

from vidgan.core.randomness import BatchRandom
from vidgan.losses.penalties import GradientPenalty, PenaltyInputs, RealGradient
from vidgan.losses.recipes import ADVERSARIAL_LOSSES
from vidgan.models.base import Scores

GAMES = {
    "wasserstein": "wasserstein",
    "non-saturating": "vanilla",
    "least-squares": "ls",
    "hinge": "hinge",
}


class Discriminator(nn.Module):
    """A discriminator that both can call, by images or by clips of one frame."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.Softplus(),
            nn.Conv2d(6, 4, 3),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(4 * 4 * 4, 1),
        )

    def images(self, frames: Tensor, labels: Tensor, eval: bool = False) -> dict[str, Tensor]:
        """As theirs are called."""
        return {"adv_output": self.net(frames).squeeze(1)}

    def forward(self, clip: Tensor, *others: object) -> Scores:
        """As ours are called."""
        return Scores(self.net(clip[:, :, 0]))


class Shares(BatchRandom):
    """Random rows that are given: the share of the fake in each mix."""

    shares = torch.empty(0)

    def uniform(self, *shape: int) -> Tensor:
        """The shares, `[B]`."""
        return self.shares


def compare(folder: Path) -> list[Row]:
    """Rows of the table, given the folder of POSTECH-CVLab/PyTorch-StudioGAN."""
    unused = stand_ins("utils", "utils.ops", "utils.style_ops")
    with imports_from(folder / "src" / "utils", unused):
        import losses
    return [games(losses), penalties(losses)]


def games(theirs: object) -> Row:
    """Values and gradients of every game for both players."""
    real, fake = (torch.randn(16, 1).requires_grad_() for _ in range(2))
    ours, others = [], []
    for mine, name in GAMES.items():
        game = ADVERSARIAL_LOSSES[mine]
        values = (game.discriminator(real, fake), game.generator(fake))
        given = (
            getattr(theirs, f"d_{name}")(real, fake, False),
            getattr(theirs, f"g_{name}")(fake, False),
        )
        ours += [*values, *gradients(values[0], [real, fake]), *gradients(values[1], [fake])]
        others += [*given, *gradients(given[0], [real, fake]), *gradients(given[1], [fake])]
    return Row(f"games {', '.join(GAMES)}: values and gradients", difference(ours, others))


def penalties(theirs: object) -> Row:
    """Gradient penalty and R1: values, and gradients of the discriminator's weights."""
    discriminator = Discriminator()
    real, fake = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)
    torch.manual_seed(1)
    share_of_real = torch.rand(4, 1)
    torch.manual_seed(1)
    code = SimpleNamespace(**vars(theirs))
    given = [code.cal_grad_penalty(real, torch.zeros(4), fake, discriminator.images, "cpu")]
    seen = real.clone().requires_grad_()
    given.append(
        code.cal_r1_reg(discriminator.images(seen, torch.zeros(4))["adv_output"], seen, "cpu")
    )

    rng = Shares(("shares",), 4, 0, 4, torch.device("cpu"))
    rng.shares = 1 - share_of_real[:, 0]
    clips = [frames[:, :, None] for frames in (real, fake)]
    at = PenaltyInputs(
        discriminator,
        *clips,
        discriminator(clips[0]),
        discriminator(clips[1]),
        None,
        None,
        None,
        rng,
    )
    values = [GradientPenalty()(at), RealGradient()(at)]
    weights = [p for p in discriminator.parameters() if p.dim() > 1]
    ours = [*values, *(g for value in values for g in gradients(value, weights))]
    others = [*given, *(g for value in given for g in gradients(value, weights))]
    return Row(
        "gradient penalty and R1: values and gradients",
        difference(ours, others),
        "ours names the share of the fake in a mix, theirs that of the real (given alike)",
    )
