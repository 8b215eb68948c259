"""Loss recipes: an adversarial game and the terms that belong to it.

A recipe is a published combination. Games, penalties and constraints of the discriminator and
auxiliary losses of the generator are otherwise free to combine: set `loss.adversarial`,
`loss.penalties`, `loss.constraints` and `loss.auxiliary`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

import torch.nn.functional as F
from torch import Tensor

from vidgan.core.settings import from_dict
from vidgan.errors import UserError
from vidgan.losses.auxiliary import AUXILIARY, Auxiliary
from vidgan.losses.penalties import CONSTRAINTS, PENALTIES, Constraint, Penalty, check_weight

# ------------------------------------------------------------------------------------------------
# Adversarial losses: pairs of pure functions of realness, one for each player.
#
# Realness is `[B, K]`, a real-valued score that grows with how real a clip looks. Every function
# averages over all B * K scores and is minimised by its player.


@dataclass(frozen=True)
class AdversarialLoss:
    """Both sides of one adversarial game.

    Attributes:
        discriminator: (real realness, fake realness) -> scalar.
        generator: fake realness -> scalar; (fake realness, real realness) -> scalar if `is_paired`.
        needs_bound: whether larger scores always lower the discriminator's loss, which diverges
            unless something bounds how fast they may change.
        is_paired: whether the generator's loss compares each fake with the real clip of its row,
            which has the same label.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[..., Tensor]
    needs_bound: bool = False
    is_paired: bool = False


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


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-E log sigmoid(D(real) - D(fake)) over pairs (Jolicoeur-Martineau 2018, RSGAN)."""
    return F.softplus(fake - real).mean()


def relativistic_generator(fake: Tensor, real: Tensor) -> Tensor:
    """-E log sigmoid(D(fake) - D(real)) over pairs (Jolicoeur-Martineau 2018, RSGAN)."""
    return F.softplus(real - fake).mean()


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
    "relativistic": AdversarialLoss(
        relativistic_discriminator, relativistic_generator, is_paired=True
    ),
}


# ------------------------------------------------------------------------------------------------
# Loss recipes: an adversarial game and the terms that belong to it

Term = TypeVar("Term")

Terms = Mapping[str, Mapping[str, Any]]
"""Settings by the name of a penalty, constraint or auxiliary loss."""


@dataclass(frozen=True)
class Recipe:
    """A published combination.

    Attributes:
        adversarial: name of the game.
        penalties: name to the settings that differ from the penalty's defaults.
        requires: settings of the model that the loss requires.
        constraints: likewise for constraints.
    """

    adversarial: str
    penalties: Terms = field(default_factory=dict)
    requires: Mapping[str, Any] = field(default_factory=dict)
    constraints: Terms = field(default_factory=dict)


SLICED = {"head": "sliced_wasserstein"}
LINEAR = {"head": "linear"}

RECIPES = {
    # Gulrajani et al. 2017 with the drift term of Karras et al. 2018.
    "wgan-gp": Recipe("wasserstein", {"gradient_penalty": {}, "drift": {}}, LINEAR),
    # Thesis of D. Acharya 2018, eq. 5.1 to 5.3, with the weights of the authors' video code.
    "swgan": Recipe("wasserstein", {"input_gradient": {}, "slope": {}}, SLICED),
    # The same as the authors' code computes it: scores high on fakes, its slope formula.
    "swgan-reference": Recipe(
        "wasserstein-reversed", {"input_gradient": {}, "slope": {"form": "reference"}}, SLICED
    ),
    # Goodfellow et al. 2014 with Mescheder et al. 2018, applied lazily.
    "ns-r1": Recipe("non-saturating", {"r1": {}}, LINEAR),
    # Huang et al. 2024 (R3GAN): relativistic pairs with both zero-centred gradient penalties.
    "r3gan": Recipe("relativistic", {"r1": {"every": 1}, "r2": {}}, LINEAR),
    # The same by differences in noise (Lin et al. 2025), lazily: half the time of a step, and small
    # weights, without which colours follow the class alone (docs/recipe.md).
    "r3gan-noise": Recipe(
        "relativistic",
        {"r1_noise": {"weight": 0.02, "every": 4}, "r2_noise": {"weight": 0.02, "every": 4}},
        LINEAR,
    ),
    # Goodfellow et al. 2014: binary cross-entropy; two-way cross-entropy of two logits is the same
    # on their difference.
    "bce": Recipe("non-saturating", {}, LINEAR),
    # Mao et al. 2017.
    "lsgan": Recipe("least-squares", {}, LINEAR),
    # Arjovsky et al. 2017.
    "wgan-clip": Recipe("wasserstein", {}, LINEAR, {"weight_clipping": {}}),
    # Saito et al. 2017.
    "wgan-svc": Recipe("wasserstein", {}, LINEAR, {"singular_value_clipping": {}}),
    # Miyato et al. 2018.
    "hinge": Recipe("hinge", {}, {**LINEAR, "spectral_norm": True}),
}


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Settings of the loss.

    Attributes:
        name: a recipe.
        adversarial: another game than the recipe's.
        penalties: settings by penalty name that differ from the recipe's; `weight: 0` removes one.
        constraints: the same for constraints; `every: 0` removes one.
        auxiliary: the same for auxiliary losses of the generator, which no recipe has.
        class_weight: weight of the class cross-entropy of discriminators that classify.
        class_clips: clips that teach the discriminator's classifier, `both` reals and fakes or
            the `real` ones alone.
    """

    name: str = "swgan"
    adversarial: str | None = None
    penalties: Terms = field(default_factory=dict)
    constraints: Terms = field(default_factory=dict)
    auxiliary: Terms = field(default_factory=dict)
    class_weight: float = 1.0
    class_clips: Literal["both", "real"] = "both"

    def __post_init__(self) -> None:
        _refuse_unknown("name", self.name, RECIPES)
        if self.adversarial is not None:
            _refuse_unknown("adversarial", self.adversarial, ADVERSARIAL_LOSSES)
        for kind, table in TERMS.items():
            for name, settings in getattr(self, kind).items():
                if name not in table:
                    raise UserError(
                        f"there is no loss.{kind}.{name}; choose one of {', '.join(table)}"
                    )
                known = [setting.name for setting in fields(table[name])]
                unknown = set(settings) - set(known)
                if unknown:
                    raise UserError(
                        f"loss.{kind}.{name} has no setting {min(unknown)!r}; it has "
                        f"{', '.join(known)}"
                    )
        try:
            check_weight(self.class_weight, "loss.class_weight")
        except ValueError as error:
            raise UserError(str(error)) from error
        make_loss(self)

    @property
    def requires(self) -> Mapping[str, Any]:
        """Settings of the model that this loss requires."""
        return RECIPES[self.name].requires


TERMS: Mapping[str, Mapping[str, type[Penalty | Constraint | Auxiliary]]] = {
    "penalties": PENALTIES,
    "constraints": CONSTRAINTS,
    "auxiliary": AUXILIARY,
}
"""Kinds of terms, as the settings call them, and the terms of each kind."""


def _refuse_unknown(key: str, name: str, table: Mapping[str, Any]) -> None:
    if name not in table:
        raise UserError(f"there is no loss.{key}={name}; choose one of {', '.join(table)}")


@dataclass(frozen=True)
class Loss:
    """A loss ready to use."""

    adversarial: AdversarialLoss
    penalties: Mapping[str, Penalty]
    class_weight: float
    constraints: Mapping[str, Constraint] = field(default_factory=dict)
    auxiliary: Mapping[str, Auxiliary] = field(default_factory=dict)
    class_clips: Literal["both", "real"] = "both"


def make_loss(config: LossConfig) -> Loss:
    """Resolve a recipe and what the settings change of it."""
    recipe = RECIPES[config.name]
    penalties = _make("penalties", PENALTIES, recipe.penalties, config.penalties)
    constraints = _make("constraints", CONSTRAINTS, recipe.constraints, config.constraints)
    auxiliary = _make("auxiliary", AUXILIARY, {}, config.auxiliary)
    return Loss(
        adversarial=ADVERSARIAL_LOSSES[config.adversarial or recipe.adversarial],
        penalties={name: term for name, term in penalties.items() if term.weight},
        class_weight=config.class_weight,
        constraints={name: term for name, term in constraints.items() if term.every},
        auxiliary={name: term for name, term in auxiliary.items() if term.weight},
        class_clips=config.class_clips,
    )


def _make(
    kind: str, table: Mapping[str, type[Term]], recipe: Terms, changes: Terms
) -> dict[str, Term]:
    """The terms of a recipe and those that the settings change or add.

    Raises:
        UserError: a setting of another type, or out of its range.
    """
    made = {}
    for name in dict.fromkeys([*recipe, *changes]):
        where = f"loss.{kind}.{name}"
        try:
            settings = {**recipe.get(name, {}), **changes.get(name, {})}
            made[name] = from_dict(table[name], settings, where)
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
    return made
