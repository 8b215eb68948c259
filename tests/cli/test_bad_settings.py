"""Every field of every configuration meets every bad value: one sentence, never a traceback."""

import dataclasses
import math
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vidgan.cli import main as cli
from vidgan.comparing.bench import Suite
from vidgan.core.distributed import join_processes
from vidgan.core.files import write_text_atomically
from vidgan.core.settings import MAX_INT, from_dict
from vidgan.core.yaml_text import parse_yaml
from vidgan.data.settings import DataConfig
from vidgan.errors import UserError
from vidgan.films.faces.build import FacesConfig
from vidgan.films.stabilize import StabilizeConfig
from vidgan.models import MODELS, model_config_class, outline_gan, refuse_larger_than_memory
from vidgan.models.base import ClipShape
from vidgan.training.planner import plan_schedule
from vidgan.training.presets import Config, config_from_dict, config_to_dict, load_config

BAD = [
    *(0, -1, 1, 7, 2**31, 2**63, 2**64, MAX_INT + 1, 10**400, -(10**400)),
    *(0.0, -1.0, 1.5, 1e308, math.inf, -math.inf, math.nan),
    *(True, False, None),
    *("", "x", "\0", "a\nb", "x" * 5000, "\N{SNOWMAN}", "../../etc/passwd", "[", "\udcff", "1e999"),
    *([], [0, 0, 0], [-1], [1] * 5000, [[1]], [None], ["x"], [math.nan], [2**62]),
    *({}, {"a": 1}, {"name": "pvgan"}, {1: 2}),
]

SHAPE = ClipShape(3, 8, 16, 16)


def leaves(config: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields below a configuration, groups included."""
    for field in dataclasses.fields(config):
        yield f"{prefix}{field.name}"
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")


def with_value(mapping: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    inner = with_value(mapping[first], rest, value) if rest else value
    return {**mapping, first: inner}


def build(config: Config) -> None:
    plan_schedule(config, SHAPE)
    outline_gan(config.model, SHAPE, 2, "settings").generator.latent_dim()


def plan(config: Config) -> None:
    plan_schedule(config, SHAPE)


@pytest.mark.parametrize("model", MODELS)
def test_bad_values_of_models_are_one_sentence(model: str) -> None:
    base = load_config("cpu/pvgan-motions-16x8", [f"model={model}", "loss=ns-r1"])
    plain = config_to_dict(base)
    refused = 0
    for name in leaves(base.model, "model."):
        for value in BAD:
            refused += _refuses(build, with_value(plain, name, value))
    assert refused > len(BAD)


def test_bad_values_of_runs_are_one_sentence() -> None:
    base = load_config("cpu/pvgan-motions-16x8")
    settings = config_to_dict(base)
    refused = {name: 0 for name in leaves(base) if not name.startswith("model.")}
    for name in refused:
        for value in BAD:
            refused[name] += _refuses(plan, with_value(settings, name, value))
    assert [name for name, count in refused.items() if count < 10] == []


def _refuses(use: Callable[[Config], None], mapping: dict[str, Any]) -> bool:
    try:
        use(config_from_dict(mapping, "settings"))
    except UserError as error:
        return _is_short(error)
    return False


def _is_short(error: UserError) -> bool:
    assert len(str(error)) < 700
    return True


@pytest.mark.parametrize("cls", [DataConfig, FacesConfig, StabilizeConfig, Suite])
def test_bad_values_of_other_configurations_are_one_sentence(cls: type) -> None:
    hints = typing.get_type_hints(cls)
    for name in hints:
        for value in BAD:
            try:
                from_dict(cls, {name: value}, "settings")
            except UserError as error:
                _is_short(error)


@pytest.mark.parametrize("name", MODELS)
def test_ranges_hold_for_settings_made_in_python(name: str) -> None:
    cls = model_config_class(name)
    widths = [f.name for f in dataclasses.fields(cls) if f.name in ("width", "latent")]
    for field in widths:
        with pytest.raises(UserError, match=rf"model\.{field}=-1 must be in "):
            cls(**{field: -1})


# ------------------------------------------------------------------------------------------------
# Words and YAML


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (LAUGHS, "more than 100,000 values"),
        ("a: &a [*a]", "nested too deeply|more than"),
        ("[" * 100, "nested too deeply|cannot be read"),
        ("[" * 20 + "]" * 20 + "\n" + "[" * 50 + "]" * 50, "cannot be read"),
        ("a: " + "[" * 40 + "]" * 40, "nested too deeply"),
        ("[" * 50_000 + "]" * 50_000, "nested too deeply"),
        ("- " * 50_000, "nested too deeply|cannot be read"),
        ("9" * 5_000, "a whole number of 5000 digits"),
        ("a: -" + "9" * 5_000, "digits"),
        ("? [a]\n: 1", "a key must be a word"),
        ("? {a: 1}\n: 1", "a key must be a word"),
        ("[a]: 1", "a key must be a word"),
        ("a: " + "x" * 2_000_000, "longer than"),
        ("a: \x07", "cannot be read"),
        ("!!python/object:os.system x", "cannot be read"),
        ("--- a\n--- b", "cannot be read"),
        ("*a", "cannot be read"),
        ("%YAML 9.9\n---\na: 1", "cannot be read"),
    ],
    ids=range(18),
)
def test_hostile_yaml_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse_yaml(text, "the file")


def test_anchors_that_people_write_are_read() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a", "x") == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    "words",
    [
        ["run=" + "x" * 300],
        ["run=" + "x/" * 3000],
        ["run=a\0b"],
        ["data=" + "x" * 300],
        ["preset=" + "x" * 300],
        ["model=" + "x" * 300],
        ["model.channels=[0,0,0]"],
        ["model.latent=-1"],
        ["training.device=mps"],
        ["training.threads=100000"],
        ["training.total_clips=" + "9" * 5000],
        ["training.lr=1"],
        ["=1"],
        ["."],
        ["a.b.c.d=1"],
        ["model.name.x=1"],
        ["model=[1]"],
        ["model={name: pvgan}"],
        ["training=1"],
        ["training.generator.lr=[" + "1," * 2000 + "]"],
        ["x" * 300],
        ["x" * 300 + "/y"],
        ["seed=1.5"],
        ["loss.penalties={drift: {weight: .nan}}"],
        ["loss.penalties=[1]"],
        ["init_from=" + "x" * 300],
        *(["training.generator." + word] for word in ("lr=1e300", "lr=nan", "lr=11", "eps=1e-300")),
        *(["training." + word] for word in ("discriminator.weight_decay=1e300", "minutes=1e308")),
        *([word] for word in ("training.augment.colour=1e300", "hours=1e6", "hours=nan")),
        *(["data.fps=" + word] for word in ("1e-300", "1e300", "0", "-1", "nan", "inf")),
        *([f"loss.{word}=1e300"] for word in ("class_weight", "penalties.drift.weight")),
        *(["model=" + model, "model.noise=1e300"] for model in ("tgan", "mocogan")),
    ],
    ids=range(45),
)
def test_bad_words_of_train_are_one_sentence(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    assert cli.run(["train", "data=clips", *words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if not line.startswith("settings of")] == said[-1:]


def test_networks_without_room_on_the_machine_are_named() -> None:
    config = load_config(
        "cpu/pvgan-motions-16x8", ["model.latent=65536", "model.channel_max=65536"]
    )
    model = dataclasses.replace(config.model, channel_base=2**20, channels=None)
    with pytest.raises(UserError, match="GiB of parameters"):
        refuse_larger_than_memory(model, SHAPE, 2)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is one")
def test_mps_where_there_is_none_is_named() -> None:
    with (
        pytest.raises(UserError, match=r"training\.device=mps, but this machine has none"),
        join_processes("mps"),
    ):
        pass


@pytest.mark.parametrize("length", [230, 240, 250, 255])
def test_names_that_fit_on_the_disk_can_be_written(length: int, tmp_path: Path) -> None:
    path = tmp_path / ("x" * (length - 5) + ".json")
    write_text_atomically(path, "text")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
