"""From presets and words to settings."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from vidgan.errors import UserError
from vidgan.losses.recipes import RECIPES
from vidgan.models import ModelConfig
from vidgan.models.base import ClipShape
from vidgan.training.planner import plan_schedule
from vidgan.training.presets import (
    check_same_settings,
    config_to_dict,
    default_preset,
    list_presets,
    load_config,
    load_run_config,
    presets_folder,
    save_config,
)

CPU = "cpu/pvgan-clips-32x16"


@pytest.mark.parametrize("preset", list_presets())
def test_every_preset_loads_and_its_schedule_fits(preset: str) -> None:
    config = load_config(preset, ["data=clips"])
    side = config.data.resolution
    plan_schedule(config, ClipShape(3, config.data.frames, side, side))
    assert config.preset == preset
    assert config.run == f"runs/{preset.replace('/', '-')}-clips"


@pytest.mark.parametrize(("size", "frames"), [(16, 8), (32, 16), (64, 16), (128, 32)])
def test_the_size_of_the_default_preset_may_be_changed_alone(size: int, frames: int) -> None:
    words = [f"data.resolution={size}", f"data.frames={frames}", "loss=swgan"]
    config = load_config(CPU, words)
    shape = ClipShape(3, frames, size, size)
    config.model.build(shape)
    assert plan_schedule(config, shape).levels[-1] == (frames, size)


def test_presets_of_every_device_and_of_the_papers_are_there() -> None:
    assert {name.partition("/")[0] for name in list_presets()} >= {"cpu", "gpu", "paper"}
    assert (presets_folder() / f"{CPU}.yaml").is_file()


def test_without_a_preset_the_device_chooses() -> None:
    assert default_preset({"training": {"device": "cpu"}}) == CPU
    assert default_preset({"training": {"device": "cuda"}}).startswith("gpu/")
    assert load_config(None, ["data=clips/", "training.device=cpu"]).preset == CPU


def test_one_time_is_enough() -> None:
    with pytest.raises(UserError, match="give one of them"):
        load_config("cpu/quick", ["minutes=-3", "hours=2"])


@pytest.mark.parametrize(
    ("words", "preset"),
    [("minutes=5", "cpu/quick"), ("hours=1", "cpu/quick"), ("hours=2", CPU), ("seed=1", CPU)],
)
def test_little_time_takes_small_clips(words: str, preset: str) -> None:
    config = load_config(None, ["data=clips/", "training.device=cpu", words])
    assert config.preset == preset
    assert load_config("cpu/overnight", [words]).preset == "cpu/overnight"


@pytest.mark.parametrize("name", ["cpu/quick", "cpu/overnight", "gpu/quick", "gpu/overnight"])
def test_clips_asked_for_take_the_place_of_a_presets_minutes(name: str) -> None:
    assert load_config(name).training.minutes is not None
    config = load_config(name, ["training.total_clips=400000"])
    assert (config.training.minutes, config.training.total_clips) == (None, 400_000)


def test_shorthands_stand_for_their_settings() -> None:
    config = load_config(CPU, ["data=a/b/", "loss=wgan-gp", "model=pvgan", "run=here", "seed=5"])
    assert (config.data.path, config.loss.name, config.run, config.seed) == (
        "a/b/",
        "wgan-gp",
        "here",
        5,
    )


def test_another_loss_drops_the_presets_loss_settings(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "model: {name: pvgan}\nloss: {name: wgan-gp, penalties: {drift: {weight: 1}}}\n"
    )
    assert load_config(file).loss.penalties == {"drift": {"weight": 1}}
    assert load_config(file, ["loss=ns-r1"]).loss.penalties == {}
    assert load_config(file, ["loss=wgan-gp"]).loss.penalties == {"drift": {"weight": 1}}


@pytest.mark.parametrize("loss", RECIPES)
def test_the_loss_sets_what_it_requires_of_the_model(loss: str) -> None:
    config = load_config(CPU, ["data=x", f"loss={loss}"])
    for name, value in RECIPES[loss].requires.items():
        assert getattr(config.model, name) == value


def test_a_model_setting_that_the_loss_excludes_is_refused() -> None:
    with pytest.raises(UserError, match=r"swgan needs model\.head=sliced_wasserstein, but"):
        load_config(CPU, ["loss=swgan", "model.head=linear"])
    with pytest.raises(UserError, match=r"hinge needs model\.spectral_norm=true, but .*=false"):
        load_config(CPU, ["loss=hinge", "model.spectral_norm=false"])


class Bare(ModelConfig):
    """A model without settings."""


def test_plain_scores_need_no_setting_of_the_model() -> None:
    config = load_config(CPU, ["loss=ns-r1", f"model={__name__}:Bare"])
    assert config.model == Bare()


def test_a_model_without_what_the_loss_requires_is_refused() -> None:
    with pytest.raises(UserError, match=r"needs a model with the setting model\.head"):
        load_config(CPU, ["loss=swgan", f"model={__name__}:Bare"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["sed=1"], "did you mean seed"),
        (["training.batchsize=4"], r"did you mean training\.batch_size"),
        (["training.total_clips=many"], r"training\.total_clips must be a whole number"),
        (["training.precision.networks=fp8"], "must be one of fp32, bf16, fp64"),
        (["training.batch_size=0"], r"training\.batch_size=0 must be in 1 to"),
        (["training.fade_clips=[1,-1,1]"], r"training\.fade_clips=-1 must be at least 0"),
        (["training.ema_beta=1.0"], r"training\.ema_beta=1.0 must be at least 0 and below 1"),
        (["training.generator.lr=0.0"], r"generator\.lr=0\.0 must be above 0"),
        (["training.discriminator.betas=[0.0,1.0]"], r"betas=1\.0 must be at least 0 and below 1"),
        (["training.augment.translation=-1"], r"augment\.translation=-1\.0 must be in 0 to 0\.5"),
        (["loss=wgan"], r"there is no loss\.name=wgan"),
        (["model=gan"], "there is no model 'gan'"),
        (["seed"], "write it as key=value"),
    ],
)
def test_mistakes_are_named(words: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_config(CPU, words)


def test_a_preset_may_be_a_word() -> None:
    assert load_config(None, ["data=x", f"preset={CPU}", "seed=2"]) == load_config(
        CPU, ["data=x", "seed=2"]
    )
    with pytest.raises(UserError, match=f"from {CPU}, so preset=gpu/x has to be left"):
        load_config(CPU, ["preset=gpu/x"])


def test_presets_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"did you mean {CPU}"):
        load_config("cpu/pvgan-clip-32x16")
    with pytest.raises(UserError, match=r"not a run to continue; .* write data="):
        load_config(tmp_path)


def test_a_saved_run_loads_as_it_was(tmp_path: Path) -> None:
    # A relative folder is also looked for above the run, so its name is one that nobody has there.
    words = ["data=clips-of-no-other-test", "loss=hinge", f"run={tmp_path}", "training.workers=2"]
    config = load_config(CPU, words)
    save_config(tmp_path, config)
    assert load_run_config(tmp_path) == config
    assert load_config(tmp_path) == config
    assert load_config(tmp_path, ["training.log_every=3"]).training.log_every == 3


def test_harmless_settings_may_change_and_others_may_not() -> None:
    old = load_config(CPU, ["data=x"])
    words: list[Any] = ["data=x", "training.workers=2", "run=elsewhere", "best.metric=other"]
    check_same_settings("r", old, load_config(CPU, [*words, "training.total_clips=900000"]))
    told = (
        "a run holds a run with other settings: seed=1 (was 0){}; continue it with its own by: "
        "vidgan train 'a run', or give another folder with run=FOLDER (and init_from='a run' to "
        "start from its weights)"
    )
    with pytest.raises(UserError) as raised:
        check_same_settings("a run", old, load_config(CPU, [*words, "seed=1"]))
    assert str(raised.value) == told.format(f" (the preset {CPU} may have changed since)")
    other = dataclasses.replace(old, preset="cpu/other", seed=1)
    with pytest.raises(UserError) as raised:
        check_same_settings("a run", old, other)
    assert str(raised.value) == told.format("")


def test_base_settings_can_be_imported_by_path() -> None:
    config = load_config(CPU, ["loss=ns-r1", "model=vidgan.models.pvgan:ProgressiveConfig"])
    assert isinstance(config.model, ModelConfig)


def test_a_mapping_holds_what_words_or_a_file_hold() -> None:
    words = load_config(CPU, ["data=clips", "seed=3", "loss.name=hinge", "model.latent=32"])
    changes = {"data": Path("clips"), "seed": 3, "loss": {"name": "hinge"}, "model": {"latent": 32}}
    assert load_config({"preset": CPU, **changes}) == words
    assert load_config({"preset": CPU, **changes}, ["seed=4"]).seed == 4
    # What a run writes down is read back, and stands for itself without a preset.
    plain = config_to_dict(words)
    assert load_config(plain) == words
    alone = load_config({**plain, "preset": ""})
    assert config_to_dict(alone) == {**plain, "preset": ""}
    assert load_config({"data": "clips", "training": {"device": "cpu"}}).preset == CPU
    with pytest.raises(UserError, match="there is no setting trainning; did you mean training"):
        load_config({"preset": CPU, "trainning": {}})
    with pytest.raises(UserError, match="must be a list of words"):
        load_config(CPU, "seed=3")
    with pytest.raises(UserError, match="there is no preset"):
        load_config({"preset": "cpu/nothing"})
