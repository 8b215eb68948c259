"""Passes, penalties and whole updates give the numbers of float64 on a CPU wherever they run."""

import copy
from collections.abc import Mapping
from itertools import repeat
from typing import Any

import pytest
import torch
from device_cases import EXACT, SLOPE, assert_near, cosine, number_formats, places
from model_cases import CASES, Case, small
from torch import Tensor

from vidgan.core.distributed import Processes
from vidgan.core.randomness import BatchRandom, keyed_rng
from vidgan.losses.penalties import PENALTIES, PenaltyInputs
from vidgan.losses.recipes import make_loss
from vidgan.models.base import GAN, ClipShape
from vidgan.training.ema import copy_generator, update_average
from vidgan.training.planner import plan_schedule
from vidgan.training.presets import list_presets, load_config
from vidgan.training.schedule import stage_at
from vidgan.training.settings import OptimizerConfig, PrecisionConfig
from vidgan.training.step import Batch, TrainingStep

COUNT = 4
CPU = torch.device("cpu")


def moved(value: Any, like: Tensor) -> Any:
    """Tensors on the device of another one, numbers in its format too."""
    if value is None:
        return None
    return value.to(like if value.is_floating_point() else like.device)


def copy_to(gan: GAN, device: torch.device, dtype: torch.dtype) -> GAN:
    return copy.deepcopy(gan).to(device, dtype)


# ------------------------------------------------------------------------------------------------
# Passes


def outputs(case: Case, gan: GAN) -> dict[str, Tensor]:
    """What every network says, in eval mode, of inputs that are drawn on the CPU."""
    like = next(gan.generator.parameters())
    latents, labels = case.latents(gan, COUNT), case.labels(gan, COUNT)
    clips = case.clips(COUNT)
    rng = BatchRandom((0, "context"), COUNT, 0, COUNT, like.device)
    context, clips = gan.make_context(moved(clips, like), rng)
    found = {
        f"generator: {name}": part
        for name, part in gan.generator.parts(
            moved(latents, like), moved(labels, like), context
        ).items()
    }
    for name, discriminator in gan.discriminators.items():
        view = discriminator.draw_view(COUNT, keyed_rng("view", name))
        scores = discriminator(clips, moved(labels, like), context, moved(view, like))
        found |= {f"{name}: {k}": v for k, v in scores._asdict().items() if v is not None}
    return found


PLAIN_CASES = [name for name in CASES if "-" not in name]


@pytest.mark.parametrize(("device", "name"), places(PLAIN_CASES, CASES), indirect=["device"])
def test_every_network_says_what_it_says_in_float64(device: torch.device, name: str) -> None:
    case = CASES[name]
    reference = case.build().to(dtype=torch.float64).train(False)
    with torch.no_grad():
        expected = outputs(case, reference)
        for dtype in number_formats(device):
            actual = outputs(case, copy_to(reference, device, dtype))
            assert actual.keys() == expected.keys()
            for key, value in expected.items():
                assert_near(actual[key], value, EXACT[dtype], f"{dtype} {key}")


# ------------------------------------------------------------------------------------------------
# Double backward


def penalty_gradients(
    kind: str, case: Case, gan: GAN, bf16: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """A penalty of the first discriminator and its gradient in every parameter it depends on."""
    discriminator: Any = next(iter(gan.discriminators.values()))
    like = next(discriminator.parameters())
    real, fake = (moved(case.clips(COUNT, seed), like) for seed in (2, 3))
    labels = moved(case.labels(gan, COUNT), like)
    view = moved(discriminator.draw_view(COUNT, keyed_rng("view")), like)
    drawn = BatchRandom((0, "context"), COUNT, 0, COUNT, like.device)
    (context, real), (_, fake) = (gan.make_context(clips, drawn) for clips in (real, fake))
    rng = BatchRandom((0, kind), COUNT, 0, COUNT, like.device)
    with torch.autocast(like.device.type, torch.bfloat16, enabled=bf16):
        scores = [discriminator(clip, labels, context, view) for clip in (real, fake)]
        at = PenaltyInputs(discriminator, real, fake, *scores, labels, context, view, rng)
        value = PENALTIES[kind]()(at)
    named = dict(discriminator.parameters_in_use())
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
    return value, {n: g for n, g in zip(named, found, strict=True) if g is not None}


SLICED = small(3, head="sliced_wasserstein", head_blocks=2)
PENALISED = [
    name
    for name in CASES
    if name.startswith(("pvgan", "ivgan", "dvdgan", "hrvgan"))
    or name.endswith(("layer-norm", "full-patch"))
]
"""Models that score clips one by one, so that the gradient of one clip's score means something."""


@pytest.mark.parametrize("kind", PENALTIES)
@pytest.mark.parametrize(
    ("device", "name"),
    places(["pvgan-projection", "dvdgan-labels"], PENALISED),
    indirect=["device"],
)
def test_every_penalty_has_the_gradient_of_float64(
    device: torch.device, name: str, kind: str
) -> None:
    case = SLICED if kind == "slope" else CASES[name]
    reference = case.build().to(dtype=torch.float64).train()
    expected, slopes = penalty_gradients(kind, case, reference)
    whole = float(torch.stack([slope.norm() for slope in slopes.values()]).norm())
    assert whole > 0
    for dtype in number_formats(device):
        value, gradients = penalty_gradients(kind, case, copy_to(reference, device, dtype))
        assert_near(value, expected, EXACT[dtype], f"{dtype} value")
        assert gradients.keys() == slopes.keys()
        for key, slope in slopes.items():
            gap = float((gradients[key].double().cpu() - slope).norm())
            assert gap <= SLOPE[dtype] * whole, f"{dtype} {key}: {gap:.1e} of {whole:.1e}"


@pytest.mark.parametrize("kind", ["gradient_penalty", "input_gradient", "r1"])
def test_a_bfloat16_penalty_points_every_layer_where_float32_does(
    device: torch.device, kind: str
) -> None:
    # The rounding of bfloat16 (8 bits) is left some room; a broken kernel gives a cosine of 0.
    case = small(channels=(16, 16, 8))
    gan = copy_to(case.build().train(), device, torch.float32)
    _, exact = penalty_gradients(kind, case, gan)
    _, rounded = penalty_gradients(kind, case, gan, bf16=True)
    for name, slope in exact.items():
        if slope.dim() > 1:
            assert cosine(rounded[name], slope) > 0.97, name
            assert float(rounded[name].norm() / slope.norm()) == pytest.approx(1, abs=0.1), name


# ------------------------------------------------------------------------------------------------
# Whole updates


SMOOTH = OptimizerConfig(lr=0.01, betas=(0.0, 0.99), eps=0.1)
"""Adam without the first moment's memory, so that it holds the gradient itself, and with an eps
that keeps rounding of tiny gradients from turning a step round."""


def make_step(preset: str, device: torch.device, networks: Any) -> tuple[TrainingStep, Batch]:
    """The last level of a preset at a batch of four clips of noise."""
    config = load_config(preset, ["data=noise"])
    shape = ClipShape(3, config.data.frames, config.data.resolution, config.data.resolution)
    classes = 2 if "motions" in preset else 0
    torch.manual_seed(0)
    gan = config.model.build(shape, classes)
    gan.to(device, torch.float64 if networks == "fp64" else torch.float32).train()
    changes = {
        "generator": SMOOTH,
        "discriminator": SMOOTH,
        "precision": PrecisionConfig(networks=networks, penalty="fp32"),
    }
    settings = type(config.training)(**{**vars(config.training), **changes})
    schedule = plan_schedule(config, shape)
    step = TrainingStep(
        gan,
        copy_generator(gan.generator),
        make_loss(config.loss),
        settings,
        0,
        len(schedule.levels),
        Processes(device=device),
    )
    step.enter(stage_at(schedule.total, schedule))
    clips = torch.randint(0, 256, (COUNT, *shape), generator=keyed_rng("clips"), dtype=torch.uint8)
    labels = torch.arange(COUNT) % 2
    return step, Batch(clips.to(device), labels.to(device), COUNT, 0)


def numbers_of(step: TrainingStep) -> dict[str, dict[str, Tensor]]:
    """Gradients of the last update, weights and averaged weights by network, whole and by name."""
    found: dict[str, dict[str, Tensor]] = {"averaged": step.averaged.state_dict()}
    for player, optimizer in step.optimizers.items():
        memory = "exp_avg" if step.settings.generator.kind == "adam" else "square_avg"
        found[f"{player}'s gradient"] = {
            str(i): optimizer.state[p][memory]
            for group in optimizer.param_groups
            for i, p in enumerate(group["params"])
            if p in optimizer.state
        }
    for name, network in step.gan.networks.items():
        found[name] = network.state_dict()
    return found


def flat(tensors: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([t.detach().double().cpu().flatten() for t in tensors.values()])


CPU_PRESETS = [preset for preset in list_presets() if preset.startswith("cpu/")]
FEW_PRESETS = ["cpu/tgan-motions-16x8", "cpu/pvgan-digits-16x8"]


@pytest.mark.parametrize(
    ("device", "preset"), places(FEW_PRESETS, CPU_PRESETS), indirect=["device"]
)
def test_a_whole_update_is_that_of_float64(device: torch.device, preset: str) -> None:
    step, batch = make_step(preset, CPU, "fp64")
    losses = step.run(0, 0, repeat(batch).__next__)
    expected = numbers_of(step)
    for dtype in number_formats(device):
        networks = "fp64" if dtype == torch.float64 else "fp32"
        step, batch = make_step(preset, device, networks)
        for name, loss in step.run(0, 0, repeat(batch).__next__).items():
            assert_near(loss, losses[name], 5 * EXACT[dtype], f"{dtype} {name}")
        for name, tensors in numbers_of(step).items():
            assert tensors.keys() == expected[name].keys()
            assert_near(flat(tensors), flat(expected[name]), SLOPE[dtype], f"{dtype} {name}")


def test_the_average_of_weights_is_the_sum_by_hand(device: torch.device) -> None:
    generator = copy_to(small().build(), device, torch.float32).generator
    averaged = copy_generator(generator)
    name, weight = next(iter(generator.named_parameters()))
    start = weight.detach().clone().double()
    for count in range(1, 4):
        with torch.no_grad():
            weight.copy_(start + count)
        update_average(averaged, generator, 0.75)
    # 0.75^3 * 0 + 0.75^2 * 0.25 * 1 + 0.75 * 0.25 * 2 + 0.25 * 3 above the start.
    assert_near(averaged.state_dict()[name], start + 1.265625, 1e-6, name)
