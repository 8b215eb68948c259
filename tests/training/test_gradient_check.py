"""The check of a level's arithmetic: what it sees, what it does then, and that it moves nothing."""

import copy
import json
from pathlib import Path

import pytest
import torch
from broken_kernels import BrokenKernel, amx_fault, weight_gradient
from launching import torchrun
from torch import Tensor
from training_cases import hash_of_ema, tiny_config
from two_processes_norms import PLAYS, SHAPE

from vidgan.cli import main as cli
from vidgan.core.machine import describe_processor
from vidgan.core.randomness import keyed_rng
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.errors import UserError
from vidgan.losses.recipes import LossConfig, make_loss
from vidgan.models.base import ClipShape, Stage
from vidgan.models.parts.convolution import stock_convolutions
from vidgan.models.pocketgan import PocketConfig
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.training import gradient_check
from vidgan.training.checkpoint import find_checkpoint
from vidgan.training.ema import copy_generator
from vidgan.training.gradient_check import (
    Gradients,
    compare_formats,
    gradients_in,
    layer_errors,
    whole_cosine,
)
from vidgan.training.logs import read_log
from vidgan.training.loop import train
from vidgan.training.presets import Config, load_config, save_config
from vidgan.training.settings import PrecisionConfig, TrainingConfig
from vidgan.training.step import Batch, TrainingStep

BF16 = "training.precision={networks: bf16, penalty: bf16}"


def short_config(run: Path, data: Path, *words: str) -> Config:
    """Eight steps: 4 px to 8 clips, fading in to 24, then 8 px."""
    lengths = ("total_clips=32", "stable_clips=8", "fade_clips=16", "log_every=4")
    return tiny_config(run, data, *(f"training.{length}" for length in lengths), *words)


@pytest.fixture(scope="module")
def plain_run(packed_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in float32."""
    return train(short_config(tmp_path_factory.mktemp("plain"), packed_clips))


@pytest.fixture(autouse=True)
def new_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "cache"))
    # The same formats are checked on every processor.
    monkeypatch.setattr(gradient_check, "has_bfloat16", lambda device: True)


def checks_of(run: Path) -> dict[str, dict[str, object]]:
    environment = json.loads((run / "environment.json").read_text())
    found: dict[str, dict[str, object]] = environment["gradient_checks"]
    return found


# ------------------------------------------------------------------------------------------------
# Judging


def test_errors_by_hand() -> None:
    true = {"loss": {"big": torch.tensor([3.0, 4.0]), "small": torch.tensor([0.0, 0.06])}}
    found = {"loss": {"big": torch.tensor([4.0, 3.0]), "small": torch.tensor([0.06, 0.0])}}
    whole = (25 + 0.06**2) ** 0.5
    # The worst first: both are far below the limits.
    big, small = layer_errors(found, true)
    assert (small.name, big.name) == ("small", "big")
    assert big[2:] == pytest.approx((0.96, 1.0, 2**0.5 / 5, 2**0.5 / whole))
    assert small[2:] == pytest.approx((0.0, 1.0, 2**0.5, 2**0.5 * 0.06 / whole))
    # The small one points elsewhere altogether, and moves nothing.
    assert big.excess == pytest.approx(2**0.5 / 5 / 0.75)
    assert small.excess == pytest.approx(20 * 2**0.5 * 0.06 / whole)
    assert whole_cosine(found["loss"], true["loss"]) == pytest.approx(24 / whole**2)


@pytest.mark.parametrize("value", [0.0, -1.0, 3.0, float("nan"), float("inf")])
def test_a_gradient_that_is_not_the_true_one_is_wrong(value: float) -> None:
    true = {"loss": {"weight": torch.ones(4), "bias": torch.zeros(2)}}
    found = {"loss": {"weight": torch.full((4,), value), "bias": torch.zeros(2)}}
    errors = {error.name: error for error in layer_errors(found, true)}
    assert errors["weight"].excess > 1
    assert errors["bias"].excess == 0


def test_a_loss_that_is_no_number_in_float64_says_nothing() -> None:
    true = {"loss": {"weight": torch.tensor([float("nan")])}}
    assert layer_errors({"loss": {"weight": torch.ones(1)}}, true) == []


def test_the_new_layers_of_a_level_are_checked_before_they_fade_in() -> None:
    model = ProgressiveConfig(channels=(8, 8), latent=8, label_dim=4, group_size=2)
    torch.manual_seed(0)
    gan = model.build(ClipShape(3, 4, 8, 8), num_classes=2).train()
    loss = make_loss(LossConfig(name="wgan-gp"))
    step = TrainingStep(gan, copy_generator(gan.generator), loss, TrainingConfig(), 0, 2)
    step.enter(Stage(level=1, frames=4, resolution=8, batch_size=2, alpha=0.0))
    clips = torch.randint(256, (2, 3, 4, 8, 8), generator=keyed_rng("clips"), dtype=torch.uint8)
    batch = Batch(clips, torch.tensor([0, 1]), 2, 0)
    found = gradients_in(PrecisionConfig(), step, batch, torch.device("cpu"))
    assert all(part.abs().sum() > 0 for part in found["discriminator"].values())
    assert all(part.abs().sum() > 0 for part in found["generator"].values())
    assert step.stage is not None
    assert step.stage.alpha == 0


def test_differences_in_noise_are_right_in_bfloat16() -> None:
    # Scored in bfloat16, clips before and after the noise differ by rounding.
    config = PocketConfig(channels=(32, 16, 8), discriminator_channels=(16, 8))
    torch.manual_seed(0)
    gan = config.build(ClipShape(3, 4, 16, 16))
    loss = make_loss(LossConfig(name="r3gan-noise"))
    step = TrainingStep(gan, copy_generator(gan.generator), loss, TrainingConfig(), 0)
    step.enter(Stage(level=0, frames=4, resolution=16, batch_size=4, alpha=1.0))
    clips = torch.randint(256, (4, 3, 4, 16, 16), generator=keyed_rng("clips"), dtype=torch.uint8)
    batch, cpu = Batch(clips, None, 4, 0), torch.device("cpu")
    fake = step.first_fake(batch)
    true = gradients_in(PrecisionConfig(networks="fp64"), step, batch, cpu, fake)
    assert {"discriminator/r1_noise", "discriminator/r2_noise"} < true.keys()
    for penalty in ("fp32", "bf16"):
        asked = PrecisionConfig(networks="bf16", penalty=penalty)
        found = gradients_in(asked, step, batch, cpu, fake)
        for name in ("discriminator/r1_noise", "discriminator/r2_noise"):
            assert whole_cosine(found[name], true[name]) > 0.999, (penalty, name)
        # The generator's own fakes in bfloat16 differ by rounding: nothing is wrong with that.
        assert not compare_formats(step, batch, asked).wrong


# ------------------------------------------------------------------------------------------------
# The check moves nothing


@pytest.mark.parametrize("words", [(BF16,), ("loss.name=swgan",)])
def test_weights_have_the_same_bits_without_it(
    words: tuple[str, ...], tmp_path: Path, packed_clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(short_config(tmp_path / "checked", packed_clips, *words))
    said = capsys.readouterr().err
    assert [f"gradients at level {level} in" in said for level in (0, 1, 2)] == [True, True, False]
    assert "agree with" in said
    assert set(checks_of(run)) == {"level 0", "level 1"}
    off = (*words, "training.precision.check=off")
    plain = train(short_config(tmp_path / "plain", packed_clips, *off))
    assert "gradient_checks" not in (plain / "environment.json").read_text()
    assert hash_of_ema(plain) == hash_of_ema(run)


@pytest.mark.parametrize("name", PLAYS)
def test_statistics_and_random_numbers_stay(name: str) -> None:
    model, loss = PLAYS[name]
    torch.manual_seed(0)
    gan = model.build(SHAPE, num_classes=2).train()
    averaged = copy_generator(gan.generator)
    step = TrainingStep(gan, averaged, make_loss(loss), TrainingConfig(), 0)
    step.enter(Stage(level=0, frames=4, resolution=16, batch_size=4))
    before = {n: copy.deepcopy(network.state_dict()) for n, network in gan.networks.items()}
    state = torch.get_rng_state()
    clips = torch.randint(256, (2, *SHAPE), generator=keyed_rng("clips"), dtype=torch.uint8)
    batch = Batch(clips, torch.tensor([0, 1]), 2, 0)
    gradients = step.gradients(batch)
    verdict = compare_formats(step, batch, PrecisionConfig())
    assert verdict.float32 == "nothing"
    assert verdict.cosine > 0.9999
    assert set(gradients) >= {"discriminator", "generator"}
    assert torch.equal(torch.get_rng_state(), state)
    for title, network in gan.networks.items():
        assert all(parameter.grad is None for parameter in network.parameters())
        assert all(not layer.observed for layer in network.running_layers())
        for key, value in network.state_dict().items():
            assert torch.equal(value, before[title][key]), key


# ------------------------------------------------------------------------------------------------
# Wrong kernels


def test_the_stock_double_backward_of_amx_moves_the_penalty_to_float32(
    tmp_path: Path, packed_clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with amx_fault() as kernel:
        run = train(short_config(tmp_path / "run", packed_clips, BF16))
    assert kernel.calls > 0
    said = capsys.readouterr().err
    assert "gradients at level 0 are wrong on this machine in bfloat16: " in said
    assert ".weight in discriminator/gradient_penalty (cosine " in said
    assert "; penalty in float32 at this level (checked in " in said
    for check in checks_of(run).values():
        assert check["float32"] == "penalty"
        assert any("conv.weight" in layer for layer in check["wrong"])  # type: ignore[attr-defined]
    assert "are wrong on this machine in bfloat16" in (run / "index.html").read_text()
    assert read_log(run / "log.jsonl")[0]["check_ms"] > 0
    state = find_checkpoint(run, print)
    assert state is not None
    assert state.float32 == "penalty"
    # From the first step on it computed what those settings compute, also by the stock path: in
    # float32 that is right, but rounds in another order.
    mended = "training.precision={networks: bf16, penalty: fp32, check: off}"
    with stock_convolutions():
        plain = train(short_config(tmp_path / "plain", packed_clips, mended))
    assert hash_of_ema(plain) == hash_of_ema(run)


@pytest.mark.skipif(
    not describe_processor()["amx"],
    reason="the processor has no AMX: the broken kernel of the test above stands in",
)
def test_the_stock_double_backward_is_found_on_amx_itself(tmp_path: Path) -> None:
    settings = motion_settings(objects=["disc"], motions="left,right", size=16, frames=8)
    render_motions(tmp_path / "videos", settings, videos=24)
    words = [f"data={tmp_path / 'videos'}", f"run={tmp_path / 'run'}", "loss=wgan-gp"]
    lengths = ("total_clips=48", "stable_clips=[8,8]", "fade_clips=[8,8]", "sample_every=0")
    words += [f"training.{length}" for length in lengths]
    with stock_convolutions():
        run = train(load_config("cpu/pvgan-motions-16x8", words))
    # oneDNN takes that kernel from 16 px and 16 channels on.
    assert [check["float32"] for check in checks_of(run).values()][-1] == "penalty"


def test_a_broken_weight_gradient_moves_the_networks_to_float32(
    tmp_path: Path, packed_clips: Path, plain_run: Path
) -> None:
    with BrokenKernel(weight_gradient(torch.bfloat16)):
        run = train(short_config(tmp_path / "run", packed_clips, BF16))
    assert {check["float32"] for check in checks_of(run).values()} == {"networks"}
    assert hash_of_ema(plain_run) == hash_of_ema(run)


def test_bfloat16_that_would_be_emulated_gives_way_to_float32(
    tmp_path: Path,
    packed_clips: Path,
    plain_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(gradient_check, "has_bfloat16", lambda device: False)
    run = train(short_config(tmp_path / "run", packed_clips, BF16))
    said = capsys.readouterr().err
    assert "bfloat16 is emulated on this device, and slow; gradients at level 0 in float32" in said
    assert {check["float32"] for check in checks_of(run).values()} == {"networks"}
    assert len(checks_of(run)) > 1
    page = (run / "index.html").read_text(encoding="utf-8")
    assert page.count("bfloat16 is emulated on this device, and slow") == 1
    assert "in float32" not in page.partition("<h2>Warnings</h2>")[2].partition("</section>")[0]
    assert hash_of_ema(plain_run) == hash_of_ema(run)


def test_nothing_takes_the_place_of_a_broken_float32(tmp_path: Path, packed_clips: Path) -> None:
    broken = BrokenKernel(weight_gradient(torch.float32))
    with broken, pytest.raises(UserError, match=r"in float32 as well: .*check=off"):
        train(short_config(tmp_path / "run", packed_clips))
    # bfloat16 is right where float32 alone is wrong.
    with broken:
        run = train(short_config(tmp_path / "other", packed_clips, BF16, "training.total_clips=24"))
    assert {check["float32"] for check in checks_of(run).values()} == {"nothing"}


def test_strict_refuses_in_one_sentence_and_the_run_may_begin_with_warn(
    tmp_path: Path, packed_clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_config(tmp_path / "strict", short_config(tmp_path / "run", packed_clips, BF16))
    words = ["train", str(tmp_path / "strict" / "config.yaml"), f"run={tmp_path / 'run'}"]
    with amx_fault():
        assert cli.run([*words, "training.precision.check=strict"]) == 2
        said = capsys.readouterr().err
        assert said.count("are wrong on this machine") == 1
        assert "training.precision.check=warn" in said
        assert cli.run([*words, "training.precision.check=warn"]) == 0


# ------------------------------------------------------------------------------------------------
# The cache, and going on elsewhere


def test_a_level_is_checked_once_for_each_machine(
    tmp_path: Path, packed_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    gradients = TrainingStep.gradients

    def counted(step: TrainingStep, batch: Batch, fake: Tensor | None) -> Gradients:
        asked.append(step.settings.precision.networks)
        return gradients(step, batch, fake)

    monkeypatch.setattr(TrainingStep, "gradients", counted)
    train(short_config(tmp_path / "first", packed_clips, BF16))
    assert asked == ["fp32", "bf16"] * 2
    again = train(short_config(tmp_path / "second", packed_clips, BF16, "seed=4"))
    assert len(asked) == 4
    assert set(checks_of(again)) == {"level 0", "level 1"}
    monkeypatch.setattr(gradient_check, "processor_id", lambda: "another one")
    train(short_config(tmp_path / "third", packed_clips, BF16))
    assert len(asked) == 8


def test_a_run_goes_on_in_the_formats_it_had_on_a_machine_without_the_fault(
    tmp_path: Path, packed_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with amx_fault():
        whole = train(short_config(tmp_path / "whole", packed_clips, BF16))
        # 24 clips: level 1 has faded in.
        run = tmp_path / "run"
        train(short_config(run, packed_clips, BF16, "training.total_clips=24"))
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "elsewhere"))
    train(short_config(run, packed_clips, BF16))
    assert hash_of_ema(run) == hash_of_ema(whole)
    assert checks_of(run)["level 1"]["float32"] == "penalty"
    assert checks_of(run)["level 1"]["wrong"] == []


@pytest.mark.slow
def test_the_first_process_verdict_counts_for_all(tmp_path: Path, packed_clips: Path) -> None:
    script = Path(__file__).with_name("two_processes_check.py")
    done = torchrun(script, str(tmp_path), str(packed_clips))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("are wrong on this machine in bfloat16") == 2  # of two levels
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == ["fp32"]
