"""Losses that a model cannot be trained with are refused when the step is made, with the reason."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training_cases import tiny_config

from vidgan.errors import UserError
from vidgan.losses.recipes import LossConfig, make_loss
from vidgan.models.base import ClipShape, Discriminator, ModelConfig, Scores
from vidgan.models.dvdgan_fp import DVDGANFPConfig
from vidgan.models.hrvgan import HRVGANConfig
from vidgan.models.ivgan import IVGANConfig
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.models.tgan import TGANConfig
from vidgan.models.vgan import VGANConfig
from vidgan.training.loop import train
from vidgan.training.loss_checks import check_loss, is_normalised
from vidgan.training.presets import list_presets, load_config

SHAPE = ClipShape(3, 6, 16, 16)
NO_PENALTY = {"gradient_penalty": {"weight": 0.0}, "drift": {"weight": 0.0}}
SLICED = ProgressiveConfig(channels=(4, 4, 4), head="sliced_wasserstein")
LINEAR = ProgressiveConfig(channels=(4, 4, 4))
SPECTRAL = ProgressiveConfig(channels=(4, 4, 4), spectral_norm=True)
VGAN = VGANConfig(width=4)
FROM_FRAME = VGANConfig(width=4, condition="first_frame")
PREDICTION = DVDGANFPConfig(channels=2, context_frames=2, spatial_frames=2)


def check(model: ModelConfig, **loss: object) -> None:
    check_loss(model.build(SHAPE), make_loss(LossConfig(**loss)))  # type: ignore[arg-type]


@pytest.mark.parametrize("penalty", ["gradient_penalty", "input_gradient", "r1"])
def test_gradients_of_clips_are_refused_with_batch_norm(penalty: str) -> None:
    for model in (VGAN, TGANConfig(width=4, image_width=8)):
        with pytest.raises(UserError, match=rf"{penalty} needs the score of each clip .* batch n"):
            check(model, name="bce", penalties={penalty: {}})
    check(VGANConfig(width=4, discriminator_norm="layer"), name="bce", penalties={penalty: {}})


def test_slope_is_refused_without_its_head() -> None:
    with pytest.raises(UserError, match=r"slope needs a sliced Wasserstein head, which the disc"):
        check(LINEAR, name="wgan-gp", penalties={"slope": {}})
    check(SLICED, name="swgan")


@pytest.mark.parametrize("game", ["wasserstein", "wasserstein-reversed"])
def test_a_linear_discriminator_without_a_bound_is_refused(game: str) -> None:
    bare = {"name": "wgan-gp", "adversarial": game, "penalties": NO_PENALTY}
    with pytest.raises(UserError, match=r"needs a bound on the discriminator, and here is none"):
        check(LINEAR, **bare)
    with pytest.raises(UserError, match="needs a bound"):
        check(VGAN, name="bce", adversarial=game)
    with pytest.raises(UserError, match="needs a bound"):
        check(SLICED, name="swgan", penalties={"input_gradient": {"weight": 0.0}})
    # A bound of any kind will do.
    check(SPECTRAL, **bare)
    check(LINEAR, **{**bare, "penalties": {**NO_PENALTY, "r1": {}}})
    check(LINEAR, **bare, constraints={"weight_clipping": {}})
    check(LINEAR, name="wgan-gp", adversarial="hinge", penalties=NO_PENALTY)


def test_constraints_are_refused_where_other_rules_hold() -> None:
    clipping: dict[str, dict[str, object]] = {"weight_clipping": {}}
    with pytest.raises(UserError, match="distort the projections of the discriminator"):
        check(SLICED, name="swgan", constraints=clipping)
    with pytest.raises(UserError, match=r"does nothing to the spatial, .* spectral norm"):
        check(PREDICTION, name="hinge", constraints={"singular_value_clipping": {}})
    check(SLICED, name="swgan", constraints={"weight_clipping": {"every": 0}})


@pytest.mark.parametrize(
    ("model", "term", "sentence"),
    [
        (VGANConfig(width=4, streams=1), "mask", "needs a generator that makes a mask"),
        (LINEAR, "mask", "needs a generator that makes a mask"),
        (VGAN, "first_frames", "does not make those again"),
        (PREDICTION, "first_frames", "does not make those again"),
        (IVGANConfig(width=4, task="colorize"), "first_frames", "does not make those again"),
        (VGAN, "pixels", "made from a latent alone have none"),
        (HRVGANConfig(channels=(4, 4, 4)), "pixels", "made from a latent alone have none"),
    ],
)
def test_auxiliary_losses_are_refused_without_what_they_compare(
    model: ModelConfig, term: str, sentence: str
) -> None:
    loss = {"name": "hinge" if model is PREDICTION else "bce"}
    with pytest.raises(UserError, match=rf"loss\.auxiliary\.{term} .*{sentence}; remove it"):
        check(model, **loss, auxiliary={term: {}})
    check(model, **loss, auxiliary={term: {"weight": 0.0}})


def test_auxiliary_losses_pass_where_they_belong() -> None:
    check(VGAN, name="bce", auxiliary={"mask": {}})
    check(FROM_FRAME, name="bce", auxiliary={"first_frames": {}, "mask": {}, "pixels": {}})
    gradient_penalty = {"name": "wgan-gp"}
    check(IVGANConfig(width=4, task="predict"), **gradient_penalty, auxiliary={"first_frames": {}})
    for model in (
        IVGANConfig(width=4, task="inpaint"),
        HRVGANConfig(channels=(4, 4, 4), context_frames=2),
    ):
        check(model, **gradient_penalty, auxiliary={"pixels": {}})


@pytest.mark.parametrize("name", list_presets())
def test_losses_of_every_preset_fit_its_model(name: str) -> None:
    config = load_config(name, ["data=x"])
    shape = ClipShape(3, config.data.frames, config.data.resolution, config.data.resolution)
    with torch.device("meta"):
        gan = config.model.build(shape, num_classes=2)
    check_loss(gan, make_loss(config.loss))


class Foreign(Discriminator):
    """A discriminator of somebody else, bounded by torch's own spectral norm."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 1))

    def forward(self, clip: Tensor, *given: object) -> Scores:
        return Scores(self.linear(clip.mean(dim=(2, 3, 4))))


def test_spectral_norm_of_torch_counts_as_a_bound() -> None:
    gan = LINEAR.build(SHAPE)
    gan.discriminators["discriminator"] = Foreign()
    check_loss(gan, make_loss(LossConfig(name="wgan-gp", penalties=NO_PENALTY)))
    assert not is_normalised(torch.nn.Linear(2, 2))


def test_training_says_it_before_anything_is_written(tmp_path: Path, packed_clips: Path) -> None:
    config = tiny_config(tmp_path / "run", packed_clips, "loss.auxiliary.mask.weight=1")
    with pytest.raises(UserError, match="needs a generator that makes a mask"):
        train(config)
    assert not (tmp_path / "run").exists()
