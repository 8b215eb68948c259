"""Generator files and the run folders that hold them."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import vidgan
from vidgan.errors import UserError
from vidgan.models.base import Generator, Stage
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.sampling.generate import sample_clips, sample_latents
from vidgan.sampling.storage import (
    GeneratorCard,
    card_of,
    checkpoint_folder,
    list_checkpoints,
    load_generator,
    plain_model,
    read_card,
    read_pointer,
    save_generator,
    write_pointer,
)

CONFIG = ProgressiveConfig(channels=(6, 5, 4), latent=7, label_dim=3, frames=(4, 4, 8))
SHAPE = (3, 8, 16, 16)
NAMES = ("box-left", "box-right")
FADING = Stage(level=1, frames=4, resolution=8, batch_size=4, alpha=0.25)


def make(step: int = 3) -> tuple[Generator, GeneratorCard]:
    torch.manual_seed(step)
    generator = vidgan.build_gan(CONFIG, SHAPE, len(NAMES)).generator
    generator.set_stage(FADING)
    card = GeneratorCard(
        model=plain_model(CONFIG),
        clip_shape=SHAPE,
        num_classes=len(NAMES),
        class_names=tuple(NAMES),
        stage=FADING,
        fps=12.5,
        step=step,
        clips_seen=96,
        loss="swgan",
    )
    return generator, card


def save_checkpoint(run: Path, step: int) -> None:
    generator, card = make(step)
    save_generator(checkpoint_folder(run, step) / "ema.safetensors", generator, card)


def test_loaded_generator_makes_the_same_clips_at_the_same_stage(tmp_path: Path) -> None:
    generator, card = make()
    save_generator(tmp_path / "mine.safetensors", generator, card)
    state = torch.random.get_rng_state()
    loaded = load_generator(tmp_path / "mine.safetensors")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not loaded.training
    assert card_of(loaded) == card == read_card(tmp_path / "mine.safetensors")
    latents, labels = sample_latents(generator, range(3)), torch.tensor([0, 1, 1])
    clips = sample_clips(loaded, latents, labels)
    assert clips.shape == (3, 3, 4, 8, 8)
    assert torch.equal(clips, sample_clips(generator, latents, labels))
    # The fade was restored too: another alpha shows other clips.
    loaded.set_stage(replace(FADING, alpha=1.0))
    assert not torch.equal(clips, sample_clips(loaded, latents, labels))


def test_same_weights_give_the_same_bytes_whatever_their_memory_layout(tmp_path: Path) -> None:
    generator, card = make()
    save_generator(tmp_path / "a.safetensors", generator, card)
    for parameter in generator.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    save_generator(tmp_path / "b.safetensors", generator, card)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_own_model_class_is_found_again_by_its_module(tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text(
        "from dataclasses import dataclass\n"
        "from vidgan.models.pvgan import ProgressiveConfig\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Mine(ProgressiveConfig):\n"
        "    extra: float = 1\n"
    )
    code = (
        "import vidgan, my_models\n"
        "from vidgan.sampling.storage import GeneratorCard, card_of, load_generator\n"
        "from vidgan.sampling.storage import plain_model, save_generator\n"
        "config = my_models.Mine(channels=(4,))\n"
        "generator = vidgan.build_gan(config, (3, 4, 4, 4)).generator\n"
        "card = GeneratorCard(model=plain_model(config), clip_shape=(3, 4, 4, 4), num_classes=0,\n"
        "    class_names=(), stage=generator.stage, fps=8.0, step=0, clips_seen=0, loss='x')\n"
        "save_generator('g.safetensors', generator, card)\n"
        "print(card_of(load_generator('g.safetensors')).model['name'])\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "my_models:Mine\n"


def test_run_folder_chooses_best_else_last_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (20, 100, 3):
        save_checkpoint(tmp_path, step)
    (tmp_path / "checkpoints" / ".tmp-1-step-200").mkdir()
    assert list_checkpoints(tmp_path) == [3, 20, 100]
    write_pointer(tmp_path, "last", 20)
    assert card_of(load_generator(tmp_path)).step == 20
    assert "no best checkpoint yet" in capsys.readouterr().err
    write_pointer(tmp_path, "best", 3, metric="swd", value=0.5)
    assert card_of(load_generator(tmp_path)).step == 3
    assert card_of(load_generator(tmp_path, "last")).step == 20
    assert card_of(load_generator(tmp_path, 100)).step == 100
    assert card_of(load_generator(tmp_path, "step-100")).step == 100
    assert card_of(load_generator(checkpoint_folder(tmp_path, 100))).step == 100
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match="no checkpoint 7; choose best, last or one of 3, 20, 100"):
        load_generator(tmp_path, 7)


def test_pointer_to_nothing_counts_as_none(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5)
    write_pointer(tmp_path, "best", 4)
    assert read_pointer(tmp_path, "best") is None
    (tmp_path / "best.json").write_text("{")
    assert read_pointer(tmp_path, "best") is None
    assert card_of(load_generator(tmp_path)).step == 5


def test_every_kind_of_wrong_file_is_one_sentence(tmp_path: Path) -> None:
    generator, card = make()
    good = tmp_path / "good.safetensors"
    save_generator(good, generator, card)
    data = good.read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(data[: len(data) // 2])
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(2)}, foreign)
    newer = tmp_path / "newer.safetensors"
    save_generator(newer, generator, replace(card, schema=99))
    no_card = tmp_path / "no_card.safetensors"
    save_file({"x": torch.zeros(2)}, no_card, metadata={"vidgan": "[]"})
    for source, words in [
        (cut, "damaged or no safetensors file"),
        (foreign, "holds no generator of vidgan"),
        (newer, "upgrade vidgan"),
        (no_card, "damaged 'vidgan' header"),
        (tmp_path, "holds no checkpoint"),
        (tmp_path / "nowhere", "no run folder or generator file"),
    ]:
        with pytest.raises(UserError, match=words) as caught:
            load_generator(source)
        assert str(tmp_path) in str(caught.value)


def test_weights_must_fit_exactly(tmp_path: Path) -> None:
    generator, card = make()
    path = tmp_path / "g.safetensors"
    save_generator(path, generator, card)
    tensors = load_file(path)
    header = {"vidgan": json.dumps(_header(path))}
    name = "blocks.0.bias"
    for change, words in [
        ({**tensors, "more": torch.zeros(1)}, "adds more"),
        ({k: v for k, v in tensors.items() if k != name}, f"lacks {name}"),
        ({**tensors, name: torch.zeros(1)}, f"reshapes {name}"),
    ]:
        save_file(change, path, metadata=header)
        with pytest.raises(UserError, match=words):
            load_generator(path)


def _header(path: Path) -> dict[str, object]:
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    card: dict[str, object] = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["vidgan"])
    return card


def test_header_holds_the_whole_story(tmp_path: Path) -> None:
    generator, card = make()
    save_generator(tmp_path / "g.safetensors", generator, card)
    header = _header(tmp_path / "g.safetensors")
    assert header["schema"] == 1
    assert header["vidgan"] == vidgan.__version__
    assert header["class_names"] == list(NAMES)
    assert header["stage"] == {
        "level": 1,
        "frames": 4,
        "resolution": 8,
        "batch_size": 4,
        "alpha": 0.25,
    }
    model = header["model"]
    assert isinstance(model, dict)
    assert (model["name"], model["channels"], model["label_dim"]) == ("pvgan", [6, 5, 4], 3)


def test_generator_without_card_is_named() -> None:
    with pytest.raises(UserError, match="has no card"):
        card_of(make()[0])


def test_hub_id_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"vidgan\[hub\]"):
        load_generator("somebody/pvgan-motions")
