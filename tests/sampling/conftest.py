"""A small trained-looking generator with a card."""

from pathlib import Path

import pytest
import torch

import vidgan
from vidgan.models.base import Generator
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.sampling.storage import GeneratorCard, load_generator, plain_model, save_generator

CLASS_NAMES = ("box-left", "box-right", "disc-left")


@pytest.fixture(scope="session")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return _stored(tmp_path_factory.mktemp("conditional"), CLASS_NAMES)


@pytest.fixture(scope="session")
def unconditional(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return _stored(tmp_path_factory.mktemp("unconditional"), ())


def _stored(folder: Path, class_names: tuple[str, ...]) -> Generator:
    torch.manual_seed(0)
    config = ProgressiveConfig(channels=(8, 6), latent=5, label_dim=4)
    shape = (3, 6, 8, 8)
    generator = vidgan.build_gan(config, shape, len(class_names)).generator
    card = GeneratorCard(
        model=plain_model(config),
        clip_shape=shape,
        num_classes=len(class_names),
        class_names=tuple(class_names),
        stage=generator.stage,
        fps=8.0,
        step=1,
        clips_seen=2,
        loss="swgan",
    )
    save_generator(folder / "g.safetensors", generator, card)
    return load_generator(folder / "g.safetensors")
