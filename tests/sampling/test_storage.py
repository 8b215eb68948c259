"""Generator files and the run folders that hold them."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import vidgan
from vidgan.core.files import sha256_of, write_json_atomically, write_sealed_json
from vidgan.errors import UserError
from vidgan.evaluation.generators import update_best
from vidgan.models.base import Generator, Stage
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.sampling.generate import sample_clips, sample_latents
from vidgan.sampling.storage import (
    STATE_FILE,
    GeneratorCard,
    best_on_record,
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
    (tmp_path / "best.json").unlink()
    assert card_of(load_generator(tmp_path)).step == 5


# ------------------------------------------------------------------------------------------------
# What is no longer as it was written


@pytest.fixture
def sealed_run(tmp_path: Path) -> Path:
    """A run with three checkpoints, each with the checksum of its generator."""
    for step in (3, 20, 100):
        save_checkpoint(tmp_path, step)
        seal(checkpoint_folder(tmp_path, step), step)
    write_pointer(tmp_path, "last", 100)
    return tmp_path


def seal(folder: Path, step: int) -> None:
    file = folder / "ema.safetensors"
    write_sealed_json(folder / STATE_FILE, {"step": step, "sha256": {file.name: sha256_of(file)}})


def flip_last_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def test_a_flipped_bit_of_weights_is_refused_however_they_are_named(sealed_run: Path) -> None:
    folder = checkpoint_folder(sealed_run, 100)
    flip_last_bit(folder / "ema.safetensors")
    for source, checkpoint in [
        (sealed_run, "best"),
        (sealed_run, "last"),
        (sealed_run, 100),
        (folder, "best"),
        (folder / "ema.safetensors", "best"),
    ]:
        with pytest.raises(UserError, match="does not match its checksum") as caught:
            load_generator(source, checkpoint)
        assert str(folder) in str(caught.value)
        assert "step 20: choose --checkpoint 20" in str(caught.value)
    assert card_of(load_generator(sealed_run, 20)).step == 20


def test_the_way_out_of_damage_is_a_whole_checkpoint_or_none(sealed_run: Path) -> None:
    files = {n: checkpoint_folder(sealed_run, n) / "ema.safetensors" for n in (3, 20, 100)}
    for damaged, words in [
        (20, "newest older intact checkpoint is step 3:"),
        (3, "next intact checkpoint is step 100:"),
        (100, "no other checkpoint of the run is intact"),
    ]:
        flip_last_bit(files[damaged])
        with pytest.raises(UserError, match=words):
            load_generator(sealed_run, damaged)


@pytest.mark.parametrize("resealed", [False, True])
def test_a_checkpoint_in_the_place_of_another_is_refused(resealed: bool, sealed_run: Path) -> None:
    there = checkpoint_folder(sealed_run, 100)
    shutil.copy(checkpoint_folder(sealed_run, 20) / "ema.safetensors", there)
    if resealed:
        seal(there, 100)
    with pytest.raises(UserError, match="copy of step 20" if resealed else "checksum"):
        load_generator(sealed_run, 100)


def test_a_state_that_is_damaged_or_gone_vouches_for_nothing(sealed_run: Path) -> None:
    folder = checkpoint_folder(sealed_run, 100)
    (folder / "optimizers.safetensors").write_bytes(b"")
    text = (folder / STATE_FILE).read_text()
    for changed, flaw in [
        ("", r"state\.json is damaged \(Expecting value"),
        ("{", r"state\.json is damaged \(Expecting property"),
        (text.replace("100", "101"), r"state\.json is damaged: it does not match its checksum"),
        ('{"sha256": 3}', r"state\.json holds no checksum of ema\.safetensors"),
        ('{"sha256": {}}', r"state\.json holds no checksum of ema\.safetensors"),
    ]:
        (folder / STATE_FILE).write_text(changed)
        # What is damaged is named, and nothing else is.
        told = rf"^\S+step-100 was changed or damaged after training wrote it \({flaw}"
        with pytest.raises(UserError, match=told):
            load_generator(sealed_run, 100)
    (folder / STATE_FILE).unlink()
    with pytest.raises(UserError, match=r"state\.json is gone"):
        load_generator(sealed_run, 100)


def test_a_generator_that_was_handed_on_alone_needs_no_checksum(
    sealed_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    alone = tmp_path_factory.mktemp("alone")
    file = checkpoint_folder(sealed_run, 20) / "ema.safetensors"
    for name in ("ema.safetensors", "another.safetensors"):
        shutil.copy(file, alone / name)
    assert card_of(load_generator(alone / "ema.safetensors")).step == 20
    assert card_of(load_generator(alone)).step == 20


def evaluated(run: Path, step: int, value: float, **changes: object) -> None:
    """A record in `evals` that has what the choice of the best checkpoint rests on."""
    file = checkpoint_folder(run, step) / "ema.safetensors"
    record = {
        "protocol": {"id": "stswd"},
        "counts": {"n": 36},
        "data": {"hash": "d"},
        "judge": None,
        "seeds": {"evaluation": 0},
        "generator": {"step": step, "sha256": sha256_of(file)},
        "scores": {"overall": {"value": value, "better": "lower"}},
    }
    write_json_atomically(run / "evals" / f"{step}-{value}.json", record | changes)


BEST = {"metric": "overall", "protocol": "stswd", "n": 36, "data": "d", "judge": None, "seed": 0}


def test_the_best_checkpoint_is_that_of_the_records(sealed_run: Path) -> None:
    write_pointer(sealed_run, "best", 20, value=15.25, **BEST)
    assert card_of(load_generator(sealed_run)).step == 20
    evaluated(sealed_run, 20, 15.25)
    evaluated(sealed_run, 3, 16.0)
    # Scores on another basis, and of a file that is gone by now, are not rivals.
    evaluated(sealed_run, 3, 1.0, counts={"n": 8})
    evaluated(sealed_run, 100, 2.0, generator={"step": 100, "sha256": "of another file"})
    (sealed_run / "evals" / "odd.json").write_text("[]")
    assert card_of(load_generator(sealed_run)).step == 20


def test_the_best_of_a_basis_is_found_when_it_is_chosen_by_again(sealed_run: Path) -> None:
    """Evaluations by one protocol, by another, and by the first one again."""
    evaluated(sealed_run, 20, 15.25)
    evaluated(sealed_run, 3, 16.0)
    evaluated(sealed_run, 3, 1.0, counts={"n": 8})
    evaluated(sealed_run, 100, 2.0, generator={"step": 100, "sha256": "of another file"})
    assert best_on_record(sealed_run, BEST) == (20, 15.25)
    assert best_on_record(sealed_run, {**BEST, "n": 8}) == (3, 1.0)
    assert best_on_record(sealed_run, {**BEST, "seed": 1}) is None
    write_pointer(sealed_run, "best", 3, value=1.0, **{**BEST, "n": 8})
    fields = {"protocol_id": "stswd", "judge_hash": None, "counts": SimpleNamespace(n=36)}
    fields |= {"data": SimpleNamespace(hash="d"), "seeds": SimpleNamespace(evaluation=0)}
    again: Any = SimpleNamespace(
        **fields,
        generator=SimpleNamespace(step=3),
        scores={"overall": SimpleNamespace(value=16.0, better="lower")},
    )
    assert not update_best(sealed_run, again, "overall")
    assert card_of(load_generator(sealed_run)).step == 20


@pytest.mark.parametrize(
    ("step", "value", "words"),
    [
        (3, 0.01, r"gives step 3 the overall 0\.01"),
        (3, 16.0, r"gives step 20 the better overall 15\.25"),
        (20, 0.01, r"gives step 20 the overall 0\.01"),
        (7, 15.25, "the run has no checkpoint 7"),
    ],
)
@pytest.mark.parametrize("kind", ["broken seal", "no seal", "sealed again"])
def test_an_edited_choice_is_refused(
    kind: str, step: int, value: float, words: str, sealed_run: Path
) -> None:
    evaluated(sealed_run, 20, 15.25)
    evaluated(sealed_run, 3, 16.0)
    write_pointer(sealed_run, "best", 20, value=15.25, **BEST)
    file = sealed_run / "best.json"
    plain = json.loads(file.read_text()) | {"step": step, "value": value}
    if kind == "sealed again":
        write_pointer(sealed_run, "best", step, value=value, **BEST)
    else:
        kept = {key: plain[key] for key in plain if key != "seal" or kind == "broken seal"}
        file.write_text(json.dumps(kept))
    with pytest.raises(UserError, match="checksum" if kind == "broken seal" else words) as caught:
        load_generator(sealed_run)
    assert f"{file} is inconsistent" in str(caught.value)
    assert "or choose one of 3, 20, 100" in str(caught.value)
    assert card_of(load_generator(sealed_run, "last")).step == 100


def test_an_edited_last_checkpoint_is_refused(sealed_run: Path) -> None:
    file = sealed_run / "last.json"
    file.write_text(file.read_text().replace("100", "20"))
    with pytest.raises(UserError, match=r"last\.json is inconsistent .*choose one of 3, 20"):
        load_generator(sealed_run, "last")


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
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    no_card = tmp_path / "no_card.safetensors"
    save_file({"x": torch.zeros(2)}, no_card, metadata={"vidgan": "[]"})
    for source, words in [
        (cut, "damaged or no safetensors file"),
        (foreign, "holds no generator of vidgan"),
        (newer, "upgrade vidgan"),
        (no_card, "damaged 'vidgan' header"),
        (tmp_path, "holds no checkpoint"),
        (tmp_path / "nowhere", "no run folder or generator file"),
        (pipe, "neither a file nor a folder but a device, a pipe"),
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
