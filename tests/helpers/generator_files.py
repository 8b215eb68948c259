"""Files of small untrained generators, as a run would write them."""

from pathlib import Path

from model_cases import CASES

from vidgan.models.base import Stage
from vidgan.sampling.storage import GeneratorCard, plain_model, save_generator


def saved_generator(name: str, folder: Path, stage: Stage | None = None) -> Path:
    """Write the generator of a contract case, at its last stage or another, and return its file."""
    case = CASES[name]
    gan = case.build().train(False)
    if stage is not None:
        gan.set_stage(stage)
    _, frames, height, _ = case.clip_shape
    fixed = Stage(level=0, frames=frames, resolution=height, batch_size=1)
    card = GeneratorCard(
        model=plain_model(case.config),
        clip_shape=tuple(case.clip_shape),
        num_classes=case.num_classes,
        class_names=tuple(f"class {label}" for label in range(case.num_classes)),
        stage=stage or getattr(gan, "stage", fixed),
        fps=8.0,
        step=0,
        clips_seen=0,
        loss="swgan",
    )
    file = folder / f"{name}.safetensors"
    save_generator(file, gan.generator, card)
    return file
