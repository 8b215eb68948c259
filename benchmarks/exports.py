"""The table of docs/export.md: how far exported generators are from PyTorch, and what they use.

    python benchmarks/exports.py  # needs the extra `export`; minutes

Generators have their default widths and fresh weights; clips are 8 frames of 16x16 px.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from vidgan.core.settings import from_dict
from vidgan.models import MODEL_VARIANTS
from vidgan.models.base import ClipShape, ModelConfig, Stage
from vidgan.sampling.storage import GeneratorCard, load_generator, plain_model, save_generator
from vidgan.sharing.export import export

SHAPE = ClipShape(3, 8, 16, 16)
ROWS: list[tuple[str, dict[str, Any], int, tuple[int, float] | None]] = [
    ("pvgan, 4 px", {"name": "pvgan"}, 0, (0, 1.0)),
    ("pvgan, 8 px fading in", {"name": "pvgan"}, 0, (1, 0.5)),
    ("pvgan, 16 px, classes", {"name": "pvgan"}, 16, None),
    ("hrvgan, classes", {"name": "hrvgan"}, 16, None),
    ("hrvgan, from 2 frames", {"name": "hrvgan", "context_frames": 2}, 0, None),
    ("hrvgan_repo, classes", {"name": "hrvgan_repo"}, 16, None),
    ("dvdgan, classes", {"name": "dvdgan"}, 16, None),
    (
        "dvdgan_fp, from 3 frames",
        {"name": "dvdgan_fp", "context_frames": 3, "spatial_frames": 4},
        0,
        None,
    ),
    ("vgan", {"name": "vgan"}, 0, None),
    ("vgan, from a frame", {"name": "vgan", "condition": "first_frame"}, 0, None),
    ("tgan, classes", {"name": "tgan"}, 16, None),
    ("mocogan, classes", {"name": "mocogan"}, 16, None),
    ("pocketgan, classes", {"name": "pocketgan"}, 16, None),
    ("ivgan", {"name": "ivgan"}, 0, None),
    ("ivgan, from a frame", {"name": "ivgan", "task": "predict"}, 0, None),
    ("ivgan, colours", {"name": "ivgan", "task": "colorize"}, 0, None),
    ("ivgan, inpainting", {"name": "ivgan", "task": "inpaint"}, 0, None),
]
"""Title, settings of the model, classes, and level with alpha where it is not the last one."""


def saved(
    folder: Path, model: dict[str, Any], num_classes: int, at: tuple[int, float] | None
) -> Path:
    """Write the file of a fresh generator."""
    config: ModelConfig = from_dict(ModelConfig, model, "a row", (MODEL_VARIANTS,))
    levels = config.levels(SHAPE)
    level, alpha = at or (len(levels) - 1, 1.0)
    frames, resolution = levels[level]
    stage = Stage(level=level, frames=frames, resolution=resolution, batch_size=1, alpha=alpha)
    torch.manual_seed(0)
    gan = config.build(SHAPE, num_classes).train(False)
    gan.set_stage(stage)
    card = GeneratorCard(
        model=plain_model(config),
        clip_shape=tuple(SHAPE),
        num_classes=num_classes,
        class_names=tuple(map(str, range(num_classes))),
        stage=stage,
        fps=8.0,
        step=0,
        clips_seen=0,
        loss="swgan",
    )
    file = folder / "fresh.safetensors"
    save_generator(file, gan.generator, card)
    return file


def main() -> None:
    """Print the table as Markdown, row by row."""
    print("| generator | inputs | ONNX | pt2 | operators of the ONNX model |")
    print("| --- | --- | --- | --- | --- |")
    for title, *settings in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            generator = load_generator(saved(Path(folder), *settings))
            onnx = export(generator, Path(folder, "clip.onnx"))
            pt2 = export(generator, Path(folder, "clip.pt2"))
        used = ", ".join(onnx.operators or ())
        row = [
            title,
            ", ".join(onnx.inputs),
            f"{onnx.difference:.1e}",
            f"{pt2.difference:.1e}",
            used,
        ]
        print("|", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    sys.exit(main())
