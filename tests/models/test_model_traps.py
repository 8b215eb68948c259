"""Mistakes of published models that would show in any of ours; see docs/known-bugs.md."""

import pytest
import torch
from model_cases import CASES
from torch import nn

from vidgan.models.base import ClipShape
from vidgan.models.dvdgan import DVDGANConfig
from vidgan.models.parts.layers import WeightLayer
from vidgan.training.presets import list_presets, load_config

LABELLED = {
    name: case
    for name, case in CASES.items()
    if case.num_classes and case.build().generator.num_classes and name != "hrvgan_repo"
}
"""The code that `hrvgan_repo` follows by name trains its generator's labels by nothing."""


@pytest.mark.parametrize("name", LABELLED)
def test_some_discriminator_tells_right_labels_from_wrong_ones(name: str) -> None:
    case = LABELLED[name]
    gan = case.build().train(False)
    torch.manual_seed(0)
    for network in gan.discriminators.values():
        for parameter in network.parameters():
            # What an untrained layer leaves at 0 or 1 would hide a label.
            nn.init.normal_(parameter, std=0.3)
    clips = case.targets(gan, 4)
    labels = case.labels(gan, 4)
    assert labels is not None
    other = (labels + 1) % case.num_classes
    patches = getattr(case.config, "video_discriminator", "") == "patch"
    found = False
    for discriminator in gan.discriminators.values():
        view = discriminator.draw_view(4, torch.Generator().manual_seed(0))
        context = case.context(gan, 4)
        one, two = (discriminator(clips, y, context, view) for y in (labels, other))
        found |= not torch.equal(one.realness, two.realness) or one.class_logits is not None
    assert found != patches, "a patch discriminator of MoCoGAN alone has no use for labels"


def test_dvdgan_starts_with_orthogonal_weights() -> None:
    torch.manual_seed(0)
    config = DVDGANConfig(
        channels=4, spatial_frames=4, spectral_norm=False, generator_spectral_norm=False
    )
    gan = config.build(ClipShape(3, 4, 16, 16), 3)
    for network in gan.networks.values():
        layers = [m for m in network.modules() if isinstance(m, WeightLayer)]
        assert len(layers) > 5
        for layer in layers:
            matrix = layer.weight.detach().flatten(1)
            matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.t()
            torch.testing.assert_close(
                matrix @ matrix.t(), torch.eye(len(matrix)), atol=1e-5, rtol=0
            )


@pytest.mark.parametrize("name", ["dvdgan-attention", "dvdgan_fp"])
def test_every_weight_of_dvdgan_is_divided_by_its_spectral_norm(name: str) -> None:
    gan = CASES[name].build()
    for network in gan.networks.values():
        kernels = {id(p) for p in network.parameters() if p.dim() > 1}
        bounded = [m for m in network.modules() if isinstance(m, WeightLayer) and m.spectral_norm]
        # The class embedding alone is free, as in BigGAN.
        free = {id(p) for key, p in network.named_parameters() if key == "label_embedding"}
        assert kernels - free == {id(layer.weight) for layer in bounded}
        # What the norm remembers is saved with the weights, and no optimizer moves it.
        assert not any("spectral" in key for key, _ in network.named_parameters())
        remembered = [key for key in network.state_dict() if key.endswith("spectral_vector")]
        assert len(remembered) == len(bounded)


DVDGAN_PRESETS = [name for name in list_presets() if name.startswith("paper/dvdgan")]


@pytest.mark.parametrize("name", DVDGAN_PRESETS)
def test_dvdgan_is_trained_by_the_published_recipe(name: str) -> None:
    config = load_config(name, ["data=x"])
    training = config.training
    assert (config.loss.name, config.loss.requires["spectral_norm"]) == ("hinge", True)
    assert training.discriminator_steps == 2
    assert training.fakes == "fresh"
    assert training.generator.lr == 1e-4
    assert training.discriminator.lr == 5e-4
    assert training.discriminator.betas == training.generator.betas == (0.0, 0.999)
    assert (training.ema_beta, training.ema_start) == (0.9999, 20_000)
    assert training.standing_batches > 0
    assert config.model.spatial_frames == 8 < config.data.frames  # type: ignore[attr-defined]
