"""How far honest bfloat16 and float32 are from float64: what the limits of the check rest on.

    python benchmarks/gradient_check.py [PRESET ...]

For every level of every preset of configs/cpu, with initial weights: the gradients of one small
step, as `train` compares them before the first step. Cosines are of whole gradients, the lowest of
all losses. `excess` is that of the layer nearest to the limits (see `training/gradient_check.py`):
beyond 1 it would be called wrong. The last lines show the room below each limit: the largest error
of layers whose share of the whole gradient passes MAX_SHARE, and the other way round.
"""

import sys
import time
from collections.abc import Iterator

import torch

from vidgan.core.clip_ops import pool_uint8
from vidgan.core.machine import processor_id
from vidgan.data.synthetic.motions import MotionSettings, motion_clip
from vidgan.losses.recipes import make_loss
from vidgan.models.base import ClipShape
from vidgan.training.batch import Batch
from vidgan.training.ema import copy_generator
from vidgan.training.gradient_check import (
    MAX_ERROR,
    MAX_SHARE,
    LayerError,
    gradients_in,
    layer_errors,
    whole_cosine,
)
from vidgan.training.planner import clips_of_a_group, plan_schedule
from vidgan.training.presets import list_presets, load_config
from vidgan.training.schedule import stage_at
from vidgan.training.settings import PrecisionConfig
from vidgan.training.step import TrainingStep

CLASSES = 4
CPU = torch.device("cpu")
FORMATS = {
    "bf16": PrecisionConfig(networks="bf16", penalty="bf16"),
    "fp32": PrecisionConfig(),
}


def levels_of(preset: str) -> Iterator[tuple[str, TrainingStep, Batch]]:
    """A step at every level of a preset, and clips for it."""
    config = load_config(preset, ["data=videos"])
    frames, resolution = config.data.frames, config.data.resolution
    shape = ClipShape(3, frames, resolution, resolution)
    schedule = plan_schedule(config, shape)
    torch.manual_seed(0)
    gan = config.model.build(shape, CLASSES).train()
    count = max(2, clips_of_a_group(gan))
    settings = MotionSettings(size=resolution, frames=frames)
    clips = [motion_clip(settings, index)[0] for index in range(count)]
    averaged = copy_generator(gan.generator)
    num_levels = len(schedule.levels)
    step = TrainingStep(gan, averaged, make_loss(config.loss), config.training, 0, num_levels)
    for level, size in enumerate(schedule.levels):
        step.enter(stage_at(schedule.starts[level], schedule))
        factor = (frames // size.frames, *[resolution // size.resolution] * 2)
        small = clips if max(factor) == 1 else [pool_uint8(clip, factor) for clip in clips]
        batch = Batch(torch.stack(small), torch.arange(count) % CLASSES, count, 0)
        yield f"{preset} {size.frames}x{size.resolution}", step, batch


def main(presets: list[str]) -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {processor_id()}\n")
    print("| preset, level | format | lowest cosine | largest excess | layer | CPU ms |")
    print("| --- | --- | --- | --- | --- | --- |")
    seen: dict[str, list[LayerError]] = {name: [] for name in FORMATS}
    for preset in presets:
        for title, step, batch in levels_of(preset):
            true = gradients_in(PrecisionConfig(networks="fp64"), step, batch, CPU)
            for name, precision in FORMATS.items():
                start_s = time.process_time()
                found = gradients_in(precision, step, batch, CPU)
                took_ms = 1000 * (time.process_time() - start_s)
                errors = layer_errors(found, true)
                seen[name] += errors
                cosine = min(whole_cosine(found[loss], true[loss]) for loss in true)
                row = (title, name, f"{cosine:.4f}", f"{errors[0].excess:.2f}", errors[0].name)
                print(f"| {' | '.join(row)} | {took_ms:.0f} |", flush=True)
    print()
    for name, errors in seen.items():
        error = max((e.error for e in errors if e.share > MAX_SHARE), default=0.0)
        share = max((e.share for e in errors if e.error > MAX_ERROR), default=0.0)
        print(f"{name}: error at most {error:.2f} where the share passes {MAX_SHARE}, ", end="")
        print(f"share at most {share:.4f} where the error passes {MAX_ERROR}")


if __name__ == "__main__":
    main(sys.argv[1:] or [preset for preset in list_presets() if preset.startswith("cpu/")])
