"""How far honest bfloat16 and float32 are from float64: what the limits of the check rest on.

    python benchmarks/gradient_check.py [PRESET ...]    every level of presets, and the limits' room
    python benchmarks/gradient_check.py --layers        one convolution at a time
    python benchmarks/gradient_check.py --whole         the discriminator of every preset

`--layers`: the gradient, with respect to the kernel, of a penalty |d loss / d clip|^2 of one
convolution in bfloat16, by PyTorch's own double backward (`stock`) and by that of
`vidgan.models.parts.convolution` (`ours`), beside float64: cosine, and ratio of the lengths.
`--whole`: the same of the whole gradient of the discriminator's loss, penalties included, at the
last level of a preset, in every precision. The stock double backward is noise on AMX processors.

Without either, for every level of every preset of configs/cpu, with initial weights: the gradients
of one small step, as `train` compares them before the first step. Cosines are of whole gradients,
the lowest of all losses. `excess` is that of the layer nearest to the limits (see
`training/gradient_check.py`): beyond 1 it would be called wrong. The last lines show the room below
each limit: the largest error of layers whose share of the whole gradient passes MAX_SHARE, and the
other way round.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.core.clip_ops import pool_uint8
from vidgan.core.machine import processor_id
from vidgan.data.synthetic.motions import MotionSettings, motion_clip
from vidgan.losses.recipes import make_loss
from vidgan.models.base import ClipShape
from vidgan.models.parts.convolution import convolve, stock_convolutions
from vidgan.training.ema import copy_generator
from vidgan.training.gradient_check import (
    MAX_ERROR,
    MAX_SHARE,
    Gradients,
    LayerError,
    gradients_in,
    layer_errors,
    whole_cosine,
)
from vidgan.training.planner import clips_of_a_group, plan_schedule
from vidgan.training.presets import list_presets, load_config
from vidgan.training.schedule import stage_at
from vidgan.training.settings import PrecisionConfig
from vidgan.training.step import Batch, TrainingStep

CLASSES = 4
CPU = torch.device("cpu")
WHOLE = {
    "fp32": PrecisionConfig(),
    "bf16, penalty fp32": PrecisionConfig(networks="bf16", penalty="fp32"),
    "bf16": PrecisionConfig(networks="bf16", penalty="bf16"),
}
FORMATS = {
    "bf16": PrecisionConfig(networks="bf16", penalty="bf16"),
    "fp32": PrecisionConfig(),
}


SHAPES = [
    # clips, channels in and out, (T, H, W), kernel, stride
    (16, 64, 64, (4, 4, 4), 3, 1),
    (16, 32, 64, (4, 8, 8), 4, 2),
    (8, 32, 32, (4, 8, 8), 3, 1),
    (8, 16, 32, (8, 16, 16), 4, 2),
    (4, 16, 16, (8, 16, 16), 3, 1),
    (4, 3, 16, (8, 16, 16), 1, 1),
    (4, 128, 128, (4, 4, 4), 3, 1),
    (4, 128, 128, (8, 8, 8), 3, 1),
    (4, 128, 128, (8, 8, 8), 4, 2),
    (4, 64, 128, (8, 16, 16), 4, 2),
    (4, 64, 64, (8, 16, 16), 3, 1),
    (2, 64, 64, (8, 32, 32), 3, 1),
    (2, 64, 64, (8, 32, 32), 4, 2),
    (2, 32, 32, (16, 64, 64), 3, 1),
    (2, 32, 64, (16, 64, 64), 4, 2),
]
Shape = tuple[int, int, int, tuple[int, int, int], int, int]


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


def print_layers() -> None:
    """A row for every shape: the penalty's gradient with respect to the kernel."""
    print("| layer | stock | ours |\n| --- | --- | --- |")
    for shape in SHAPES:
        exact = penalty_gradient(shape, torch.float64, nullcontext())
        cells = [
            compare(penalty_gradient(shape, torch.bfloat16, convolutions), exact)
            for convolutions in (stock_convolutions(), nullcontext())
        ]
        print(f"| {describe(shape)} | {' | '.join(cells)} |", flush=True)


def print_whole(presets: list[str]) -> None:
    """A row for every preset: the whole gradient of its discriminator's loss at the last level."""
    heads = [f"{name}, {which}" for name in WHOLE for which in ("stock", "ours")]
    print(f"| preset | {' | '.join(heads)} |\n|{' --- |' * (len(heads) + 1)}")
    for preset in presets:
        *_, (_, step, batch) = levels_of(preset)
        true = whole(gradients_in(PrecisionConfig(networks="fp64"), step, batch, CPU))
        cells = []
        for precision in WHOLE.values():
            for convolutions in (stock_convolutions(), nullcontext()):
                with convolutions:
                    found = gradients_in(precision, step, batch, CPU)
                cells.append(compare(whole(found), true))
        print(f"| {preset} | {' | '.join(cells)} |", flush=True)


def whole(gradients: Gradients) -> Tensor:
    """The gradient of the discriminator's loss as one vector."""
    parts = gradients["discriminator"]
    return torch.cat([parts[name].flatten().double() for name in sorted(parts)])


def penalty_gradient(
    shape: Shape,
    dtype: torch.dtype,
    convolutions: AbstractContextManager[None],
    device: torch.device = CPU,
) -> Tensor:
    """Gradient of |d sum(phi(conv(clip))) / d clip|^2 with respect to the kernel."""
    (result,) = penalty_of_layer(shape, dtype, convolutions, device)()
    return result.double()


def penalty_of_layer(
    shape: Shape,
    dtype: torch.dtype,
    convolutions: AbstractContextManager[None],
    device: torch.device,
) -> Callable[[], tuple[Tensor, ...]]:
    """The double backward of that penalty, to be taken as often as one likes."""
    count, c_in, c_out, sizes, kernel, stride = shape
    rng = torch.Generator().manual_seed(0)
    normal = torch.float64
    clip = torch.randn(count, c_in, *sizes, generator=rng, dtype=normal)
    weight = torch.randn(c_out, c_in, *[kernel] * 3, generator=rng, dtype=normal)
    weight = weight * (2 / weight[0].numel()) ** 0.5
    clip = clip.to(device, dtype).to(memory_format=torch.channels_last_3d).requires_grad_()
    weight = weight.to(device, dtype).requires_grad_()
    with convolutions:
        y = convolve(clip, weight, None, stride, (kernel - 1) // 2)
        score = F.softplus(y.to(torch.promote_types(dtype, torch.float32))).sum()
        (gradient,) = torch.autograd.grad(score, clip, create_graph=True)
        penalty = gradient.square().sum()
    return lambda: torch.autograd.grad(penalty, weight, retain_graph=True)


def compare(found: Tensor, exact: Tensor) -> str:
    """Cosine and ratio of the lengths of two gradients."""
    cosine = F.cosine_similarity(found.flatten(), exact.flatten(), dim=0)
    return f"{cosine:.4f}, {found.norm() / exact.norm():.3f}"


def describe(shape: Shape) -> str:
    """A shape as one reads it."""
    count, c_in, c_out, sizes, kernel, stride = shape
    size = "x".join(map(str, sizes))
    return f"{c_in}->{c_out}, {count} of {size}, kernel {kernel}, stride {stride}"


def print_levels(presets: list[str]) -> None:
    """The table of every level, and the room below the limits."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("presets", nargs="*", help="names; all of configs/cpu if there are none")
    parser.add_argument("--layers", action="store_true")
    parser.add_argument("--whole", action="store_true")
    asked = parser.parse_args()
    presets = asked.presets or [name for name in list_presets() if name.startswith("cpu/")]
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {processor_id()}\n")
    if asked.layers:
        print_layers()
    if asked.whole:
        print_whole(presets)
    if not (asked.layers or asked.whole):
        print_levels(presets)


if __name__ == "__main__":
    main()
