"""Refusing losses that do not fit a model, before anything is computed."""

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from vidgan.errors import UserError
from vidgan.losses.auxiliary import FirstFrames, MaskSparsity, Pixels
from vidgan.losses.penalties import Slope
from vidgan.losses.recipes import Loss
from vidgan.models.base import GAN, Generator
from vidgan.models.parts.layers import WeightLayer
from vidgan.models.parts.sliced_head import SlicedWassersteinHead


def check_loss(gan: GAN, loss: Loss) -> None:
    """Refuse a loss that would fail or be meaningless with this model.

    Raises:
        UserError: says which term and why.
    """
    check_norms(gan, loss)
    check_heads(gan, loss)
    check_bound(gan, loss)
    check_constraints(gan, loss)
    check_auxiliary(gan.generator, loss)


def check_norms(gan: GAN, loss: Loss) -> None:
    """A gradient of each clip's score means nothing where batch norm couples the clips.

    (Gulrajani et al. 2017, section 4.)
    """
    coupled = [n for n, d in gan.discriminators.items() if d.couples_batch == "batch"]
    for name, penalty in loss.penalties.items():
        if penalty.differentiates_clips and coupled:
            raise UserError(
                f"loss.penalties.{name} needs the score of each clip to depend on that clip alone, "
                f"but the {coupled[0]} has batch norm; set model.discriminator_norm=layer or "
                f"choose another loss"
            )


def check_heads(gan: GAN, loss: Loss) -> None:
    """The slope penalty is about the dual functions of a sliced Wasserstein head."""
    if not any(isinstance(penalty, Slope) for penalty in loss.penalties.values()):
        return
    for name, discriminator in gan.discriminators.items():
        if not has(discriminator, SlicedWassersteinHead):
            raise UserError(
                f"loss.penalties.slope needs a sliced Wasserstein head, which the {name} does not "
                f"have; set model.head=sliced_wasserstein or leave the penalty out"
            )


def check_bound(gan: GAN, loss: Loss) -> None:
    """A Wasserstein loss without a Lipschitz bound diverges: scores grow without limit."""
    bounded = any(penalty.differentiates_clips for penalty in loss.penalties.values())
    if not loss.adversarial.needs_bound or bounded or loss.constraints:
        return
    for name, discriminator in gan.discriminators.items():
        if not is_normalised(discriminator):
            raise UserError(
                f"a Wasserstein loss needs a bound on the {name}, and here is none; add one, such "
                f"as loss.penalties.gradient_penalty or loss.constraints.weight_clipping"
            )


def check_constraints(gan: GAN, loss: Loss) -> None:
    """Constraints edit stored weights, which conflicts with orthonormal or spectrally normalised
    ones."""
    for kind in loss.constraints:
        for name, discriminator in gan.discriminators.items():
            if has(discriminator, SlicedWassersteinHead):
                raise UserError(
                    f"loss.constraints.{kind} would distort the projections of the {name}'s sliced "
                    f"Wasserstein head, which have to stay orthonormal; set model.head=linear"
                )
            if is_normalised(discriminator):
                raise UserError(
                    f"loss.constraints.{kind} does nothing to the {name}, whose weights are "
                    f"divided by their spectral norm; set model.spectral_norm=false or leave the "
                    f"constraint out"
                )


def check_auxiliary(generator: Generator, loss: Loss) -> None:
    """Auxiliary losses need outputs or ground truth that not every generator has."""
    for name, term in loss.auxiliary.items():
        if isinstance(term, MaskSparsity) and "mask" not in generator.shows:
            raise UserError(f"loss.auxiliary.{name} needs a generator that makes a mask; remove it")
        if isinstance(term, FirstFrames) and not generator.repeats_context:
            raise UserError(
                f"loss.auxiliary.{name} compares the first generated frames with the given ones, "
                f"but this generator does not make those again; remove it"
            )
        if isinstance(term, Pixels) and not generator.context_frames:
            raise UserError(
                f"loss.auxiliary.{name} compares generated clips with true ones, but clips made "
                f"from a latent alone have none; remove it"
            )


def is_normalised(network: nn.Module) -> bool:
    """Whether weights are divided by their spectral norm, by our layers or by torch's."""
    return any(
        (isinstance(module, WeightLayer) and module.spectral_norm) or is_parametrized(module)
        for module in network.modules()
    )


def has(network: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a network contains a module of this kind."""
    return any(isinstance(module, kind) for module in network.modules())
