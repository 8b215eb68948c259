"""Losses by name: an adversarial game and the penalties that belong to it.

A recipe is a published combination. Games and penalties are otherwise free to combine: set
`loss.adversarial` and `loss.penalties`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vidgan.errors import UserError
from vidgan.losses.adversarial import ADVERSARIAL_LOSSES, AdversarialLoss
from vidgan.losses.penalties import PENALTIES, Penalty


@dataclass(frozen=True)
class Recipe:
    """A published combination.

    Attributes:
        adversarial: name of the game.
        penalties: name to the settings that differ from the penalty's defaults.
        requires: settings of the model that the loss cannot do without.
    """

    adversarial: str
    penalties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    requires: Mapping[str, Any] = field(default_factory=dict)


SLICED = {"head": "sliced_wasserstein"}
LINEAR = {"head": "linear"}
INHERENT: Mapping[str, Any] = LINEAR
"""Requirements that a model without such a setting meets by nature: its scores are plain."""

RECIPES = {
    # Gulrajani et al. 2017 with the drift term of Karras et al. 2018.
    "wgan-gp": Recipe("wasserstein", {"gradient_penalty": {}, "drift": {}}, LINEAR),
    # Thesis of D. Acharya 2018, eq. 5.1 to 5.3, with the weights of the authors' video code.
    "swgan": Recipe("wasserstein", {"input_gradient": {}, "slope": {}}, SLICED),
    # The same as the authors' code computes it: critic high on fakes, its slope formula.
    "swgan-reference": Recipe(
        "wasserstein-reversed", {"input_gradient": {}, "slope": {"form": "reference"}}, SLICED
    ),
    # Goodfellow et al. 2014 with Mescheder et al. 2018, applied lazily.
    "ns-r1": Recipe("non-saturating", {"r1": {}}, LINEAR),
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
        class_weight: weight of the class cross-entropy of discriminators that classify.
    """

    name: str = "swgan"
    adversarial: str | None = None
    penalties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    class_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in RECIPES:
            raise UserError(
                f"there is no loss.name={self.name}; choose one of {', '.join(RECIPES)}"
            )
        if self.adversarial is not None and self.adversarial not in ADVERSARIAL_LOSSES:
            raise UserError(
                f"there is no loss.adversarial={self.adversarial}; "
                f"choose one of {', '.join(ADVERSARIAL_LOSSES)}"
            )
        for name, settings in self.penalties.items():
            if name not in PENALTIES:
                raise UserError(
                    f"there is no loss.penalties.{name}; choose one of {', '.join(PENALTIES)}"
                )
            unknown = set(settings) - set(PENALTIES[name].__dataclass_fields__)
            if unknown:
                raise UserError(
                    f"loss.penalties.{name} has no setting {min(unknown)!r}; it has "
                    f"{', '.join(PENALTIES[name].__dataclass_fields__)}"
                )

    @property
    def requires(self) -> Mapping[str, Any]:
        """Settings of the model that this loss cannot do without."""
        return RECIPES[self.name].requires


@dataclass(frozen=True)
class Loss:
    """A loss ready to use."""

    adversarial: AdversarialLoss
    penalties: Mapping[str, Penalty]
    class_weight: float


def make_loss(config: LossConfig) -> Loss:
    """Resolve a recipe and what the settings change of it."""
    recipe = RECIPES[config.name]
    penalties = {}
    for name in dict.fromkeys([*recipe.penalties, *config.penalties]):
        settings = {**recipe.penalties.get(name, {}), **config.penalties.get(name, {})}
        penalty = PENALTIES[name](**settings)
        if penalty.weight:
            penalties[name] = penalty
    return Loss(
        adversarial=ADVERSARIAL_LOSSES[config.adversarial or recipe.adversarial],
        penalties=penalties,
        class_weight=config.class_weight,
    )
