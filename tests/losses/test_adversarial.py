"""Adversarial losses against hand-worked numbers, and the table of recipes."""

import math

import pytest
import torch

from vidgan.errors import UserError
from vidgan.losses.penalties import (
    PENALTIES,
    GradientPenalty,
    InputGradient,
    SingularValueClipping,
    Slope,
    WeightClipping,
)
from vidgan.losses.recipes import ADVERSARIAL_LOSSES, RECIPES, LossConfig, make_loss

REAL = torch.tensor([[2.0, -1.0], [0.5, 0.5]]).double()  # mean 0.5
FAKE = torch.tensor([[-3.0, 1.0], [0.0, 0.0]]).double()  # mean -0.5


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        ("wasserstein", -1.0, 0.5),
        ("wasserstein-reversed", 1.0, -0.5),
        (
            "non-saturating",
            (softplus(-2) + softplus(1) + 2 * softplus(-0.5)) / 4
            + (softplus(-3) + softplus(1) + 2 * math.log(2)) / 4,
            (softplus(3) + softplus(-1) + 2 * math.log(2)) / 4,
        ),
        # (real - 1)^2 = 1, 4, 0.25, 0.25; fake^2 = 9, 1, 0, 0; (fake - 1)^2 = 16, 0, 1, 1.
        ("least-squares", (5.5 / 4 + 10 / 4) / 2, 18 / 4 / 2),
        # max(0, 1 - real) = 0, 2, 0.5, 0.5; max(0, 1 + fake) = 0, 2, 1, 1.
        ("hinge", 0.75 + 1.0, 0.5),
        # fake - real = -5, 2, -0.5, -0.5.
        (
            "relativistic",
            (softplus(-5) + softplus(2) + 2 * softplus(-0.5)) / 4,
            (softplus(5) + softplus(-2) + 2 * softplus(0.5)) / 4,
        ),
    ],
)
def test_losses_by_hand(name: str, discriminator: float, generator: float) -> None:
    loss = ADVERSARIAL_LOSSES[name]
    assert float(loss.discriminator(REAL, FAKE)) == pytest.approx(discriminator, rel=1e-12)
    of_generator = loss.generator(FAKE, *[REAL] * loss.is_paired)
    assert float(of_generator) == pytest.approx(generator, rel=1e-12)


def test_every_adversarial_loss_stands_in_the_table_above() -> None:
    assert set(ADVERSARIAL_LOSSES) == {
        "wasserstein",
        "wasserstein-reversed",
        "non-saturating",
        "least-squares",
        "hinge",
        "relativistic",
    }


@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES)
def test_players_pull_in_opposite_directions(name: str) -> None:
    loss = ADVERSARIAL_LOSSES[name]
    real = torch.full((2, 1), 0.5, requires_grad=True)
    fake = torch.full((2, 1), 0.5, requires_grad=True)
    on_real, on_fake = torch.autograd.grad(loss.discriminator(real, fake), (real, fake))
    of_generator = loss.generator(fake, *[real.detach()] * loss.is_paired)
    (wanted,) = torch.autograd.grad(of_generator, fake)
    assert bool((on_real * on_fake < 0).all())
    assert bool((wanted * on_fake < 0).all())
    # Scores are high on reals, except where the name says the opposite.
    assert bool((on_real < 0).all()) == (name != "wasserstein-reversed")


def test_extreme_scores_stay_finite() -> None:
    huge = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    for loss in ADVERSARIAL_LOSSES.values():
        other = -huge.detach()
        of_generator = loss.generator(huge, *[other] * loss.is_paired)
        total = loss.discriminator(other, huge) + of_generator
        (gradient,) = torch.autograd.grad(total, huge)
        assert total.isfinite()
        assert gradient.isfinite().all()


# ------------------------------------------------------------------------------------------------
# Recipes


@pytest.mark.parametrize(
    ("name", "adversarial", "weights", "requires"),
    [
        (
            "wgan-gp",
            "wasserstein",
            {"gradient_penalty": 10.0, "drift": 0.001},
            {"head": "linear"},
        ),
        (
            "swgan",
            "wasserstein",
            {"input_gradient": 50.0, "slope": 10.0},
            {"head": "sliced_wasserstein"},
        ),
        (
            "swgan-reference",
            "wasserstein-reversed",
            {"input_gradient": 50.0, "slope": 10.0},
            {"head": "sliced_wasserstein"},
        ),
        ("ns-r1", "non-saturating", {"r1": 1.0}, {"head": "linear"}),
        ("r3gan", "relativistic", {"r1": 1.0, "r2": 1.0}, {"head": "linear"}),
        ("r3gan-noise", "relativistic", {"r1_noise": 0.02, "r2_noise": 0.02}, {"head": "linear"}),
        ("bce", "non-saturating", {}, {"head": "linear"}),
        ("lsgan", "least-squares", {}, {"head": "linear"}),
        ("wgan-clip", "wasserstein", {}, {"head": "linear"}),
        ("wgan-svc", "wasserstein", {}, {"head": "linear"}),
        ("hinge", "hinge", {}, {"head": "linear", "spectral_norm": True}),
    ],
)
def test_recipes_hold_the_published_weights(
    name: str, adversarial: str, weights: dict[str, float], requires: dict[str, object]
) -> None:
    config = LossConfig(name=name)
    loss = make_loss(config)
    assert loss.adversarial is ADVERSARIAL_LOSSES[adversarial]
    assert {kind: penalty.weight for kind, penalty in loss.penalties.items()} == weights
    assert dict(config.requires) == requires


def test_every_recipe_stands_in_the_table_above() -> None:
    progressive = {"wgan-gp", "swgan", "swgan-reference", "ns-r1", "r3gan", "hinge"}
    assert set(RECIPES) == progressive | {"r3gan-noise", "bce", "lsgan", "wgan-clip", "wgan-svc"}


def test_details_of_the_recipes() -> None:
    swgan = make_loss(LossConfig(name="swgan")).penalties
    assert swgan["slope"] == Slope(weight=10.0, target=0.01, form="analytic")
    assert swgan["input_gradient"] == InputGradient(weight=50.0, weighting="real_share")
    reference = make_loss(LossConfig(name="swgan-reference")).penalties
    assert reference["slope"] == Slope(weight=10.0, target=0.01, form="reference")
    assert make_loss(LossConfig(name="wgan-gp")).penalties["gradient_penalty"] == GradientPenalty(
        weight=10.0, target=1.0
    )
    assert make_loss(LossConfig(name="ns-r1")).penalties["r1"].every == 8
    clipped = make_loss(LossConfig(name="wgan-clip")).constraints
    assert clipped == {"weight_clipping": WeightClipping(bound=0.01, every=1)}
    assert make_loss(LossConfig(name="wgan-svc")).constraints == {
        "singular_value_clipping": SingularValueClipping(bound=1.0, every=5, least_gamma=0.01)
    }


def test_settings_change_a_recipe() -> None:
    config = LossConfig(
        name="swgan",
        adversarial="hinge",
        penalties={
            "slope": {"form": "per_projection"},
            "input_gradient": {"weight": 0.0},
            "r1": {},
        },
        class_weight=0.5,
    )
    loss = make_loss(config)
    assert loss.adversarial is ADVERSARIAL_LOSSES["hinge"]
    assert list(loss.penalties) == ["slope", "r1"]
    assert loss.penalties["slope"] == Slope(form="per_projection")
    assert loss.class_weight == 0.5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "wgan"}, "no loss.name=wgan; choose one of wgan-gp"),
        ({"adversarial": "lsgan"}, "no loss.adversarial=lsgan; choose one of wasserstein"),
        ({"penalties": {"gp": {}}}, "no loss.penalties.gp; choose one of gradient_penalty"),
        ({"constraints": {"clip": {}}}, "no loss.constraints.clip; choose one of weight_clipping"),
        ({"auxiliary": {"masks": {}}}, "no loss.auxiliary.masks; choose one of mask"),
        (
            {"penalties": {"slope": {"wieght": 1.0}}},
            "loss.penalties.slope has no setting 'wieght'; it has weight, every, target, form",
        ),
        (
            {"penalties": {"slope": {"form": "analytc"}}},
            r"loss.penalties.slope: form must be one of .* 'analytc'; did you mean analytic?",
        ),
        ({"penalties": {"r1": {"weight": "much"}}}, r"loss.penalties.r1: weight .*'much'"),
        ({"penalties": {"r1": {"every": 0}}}, "loss.penalties.r1: every=0 must be 1 or more"),
        ({"penalties": {"r1": {"weight": -1}}}, r"penalties.r1: weight=-1.0 must be 0 or more"),
        (
            {"penalties": {"gradient_penalty": {"target": 0}}},
            "target=0.0 must be above 0 and at most 1,000,000; input_gradient is the penalty",
        ),
        ({"constraints": {"weight_clipping": {"every": -1}}}, "every=-1 must be 0 or more"),
        ({"constraints": {"weight_clipping": {"bound": 0}}}, "bound=0.0 must be above 0"),
        (
            {"constraints": {"singular_value_clipping": {"least_gamma": 2}}},
            "least_gamma=2.0 must lie in 0..1",
        ),
        (
            {"auxiliary": {"mask": {"weight": float("nan")}}},
            "weight must be a finite number, not nan",
        ),
        ({"class_weight": -0.5}, "loss.class_weight=-0.5 must be 0 or more"),
        ({"class_weight": 1e300}, "must be 0 or more, and at most 1,000,000"),
        (
            {"penalties": {"r1": {"weight": 1e300}}},
            "r1: weight=1e.300 must be .* at most 1,000,000",
        ),
        ({"auxiliary": {"mask": {"weight": 1e300}}}, "mask: weight=1e.300 must be .* at most"),
    ],
)
def test_wrong_settings_are_one_sentence(settings: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        LossConfig(**settings)  # type: ignore[arg-type]


def test_every_penalty_has_a_test_of_its_own() -> None:
    from pathlib import Path

    text = Path(__file__).with_name("test_penalties.py").read_text()
    for penalty in PENALTIES.values():
        assert f"{penalty.__name__}(" in text
