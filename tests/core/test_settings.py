"""Settings: strict reading, plain writing, overrides and differences."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from vidgan.core.settings import (
    NOT_SET,
    Variants,
    apply_overrides,
    closest,
    differences,
    dump_yaml,
    from_dict,
    load_yaml,
    to_dict,
)
from vidgan.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Shape:
    NAME: ClassVar[str] = ""


@dataclass(frozen=True, kw_only=True)
class Circle(Shape):
    NAME: ClassVar[str] = "circle"
    radius: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Polygon(Shape):
    NAME: ClassVar[str] = "polygon"
    corners: int
    rotated: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    lr: float = 0.001
    betas: tuple[float, float] = (0.0, 0.99)
    order: Literal["d_first", "g_first"] = "d_first"
    device: str | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    shape: Shape = field(default_factory=Circle)
    step: Step = field(default_factory=Step)
    sizes: tuple[int, ...] = (4, 8)
    steps: tuple[Step, ...] = ()
    rates: dict[str, float] = field(default_factory=dict)
    limit: int | Literal["all"] | None = None
    weight: float | str = 1.0
    data: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UserError(f"seed={self.seed} is negative; use 0 or more")


SHAPES = Variants(
    base=Shape,
    class_of=lambda name: {"circle": Circle, "polygon": Polygon}[name],
    name_of=lambda cls: cls.NAME,  # type: ignore[attr-defined]
    default="circle",
)


def read(mapping: dict[str, object]) -> Settings:
    return from_dict(Settings, mapping, "test.yaml", [SHAPES])


def test_every_kind_of_value_survives_the_round_trip_through_yaml(tmp_path: Path) -> None:
    config = Settings(
        shape=Polygon(corners=5, rotated=True),
        step=Step(lr=1e-5, betas=(0.0, 0.9), order="g_first", device="off"),
        sizes=(1, 2, 3),
        steps=(Step(), Step(lr=3e20)),
        rates={"generator": 1e-3, "010": 0.5},
        limit="all",
        weight="1e-3",
        data=Path("clips/a: b #c"),
        seed=7,
    )
    path = tmp_path / "config.yaml"
    path.write_text(dump_yaml(to_dict(config, [SHAPES])), encoding="utf-8")
    assert from_dict(Settings, load_yaml(path), "config.yaml", [SHAPES]) == config


def test_missing_keys_take_the_defaults() -> None:
    assert read({}) == Settings()


def test_ints_become_declared_floats() -> None:
    config = read({"step": {"lr": 1, "betas": [0, 1]}, "rates": {"a": 2}, "weight": 3})
    assert isinstance(config.step.lr, float)
    assert [type(beta) for beta in config.step.betas] == [float, float]
    assert type(config.rates["a"]) is float
    assert type(config.weight) is float


def test_variant_is_chosen_by_name_and_checked_like_any_other() -> None:
    assert read({"shape": {"name": "polygon", "corners": 3}}).shape == Polygon(corners=3)
    assert read({"shape": {"radius": 2}}).shape == Circle(radius=2.0)
    with pytest.raises(UserError, match=r"shape\.corners is missing"):
        read({"shape": {"name": "polygon"}})
    with pytest.raises(UserError, match=r"shape\.radiu; did you mean shape\.radius\?"):
        read({"shape": {"radiu": 2}})
    compulsory = Variants(base=Shape, class_of=SHAPES.class_of, name_of=SHAPES.name_of)
    with pytest.raises(UserError, match=r"shape\.name is missing"):
        from_dict(Settings, {"shape": {}}, "x", [compulsory])


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        (
            {"step": {"lrr": 1}},
            r"^test\.yaml: there is no setting step\.lrr; did you mean step\.lr",
        ),
        ({"betas": [0, 1]}, r"no setting betas; did you mean step\.betas\?"),
        ({"zzz": 1}, r"no setting zzz; known are shape, step, sizes"),
        ({"step": {"lr": "fast"}}, r"step\.lr must be a number, not 'fast'"),
        ({"step": {"lr": "nan"}}, r"step\.lr must be a number, not 'nan', which is not finite"),
        ({"step": {"lr": "-Inf"}}, r"step\.lr must be a number, not '-Inf', which is not finite"),
        ({"seed": True}, r"seed must be a whole number, not True"),
        ({"seed": 1.5}, r"seed must be a whole number, not 1\.5"),
        ({"seed": None}, r"seed must be a whole number, not None"),
        ({"seed": {"a": 1}}, r"seed must be a whole number, not a group of settings"),
        ({"step": 3}, r"step must be a group of settings, not 3"),
        ({"step": {"betas": [0.5]}}, r"step\.betas needs 2 values, not 1"),
        ({"sizes": 4}, r"sizes must be a list such as \[1, 2\], not 4"),
        ({"sizes": [4, "x"]}, r"sizes\[1\] must be a whole number, not 'x'"),
        ({"steps": [{"order": "g_frist"}]}, r"steps\[0\]\.order .* did you mean g_first\?"),
        ({"limit": "some"}, r"limit must be a whole number or one of all or null, not 'some'"),
        ({"rates": {"a": "b"}}, r"rates\.a must be a number"),
        ({"seed": -1}, r"seed=-1 is negative"),
    ],
)
def test_mistakes_are_one_sentence_with_the_place(
    mapping: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        read(mapping)
    assert "\n" not in str(caught.value)


def test_overrides_are_read_as_yaml_and_leave_the_original_alone() -> None:
    base = {"step": {"lr": 1.0}}
    words = ["step.lr=1e-4", "step.order=g_first", "sizes=[1, 2]", "a.b.c=off", "d=null", "e=x=y"]
    assert apply_overrides(base, words) == {
        "step": {"lr": 1e-4, "order": "g_first"},
        "sizes": [1, 2],
        "a": {"b": {"c": "off"}},
        "d": None,
        "e": "x=y",
    }
    assert base == {"step": {"lr": 1.0}}


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("step", "not a setting; write it as key=value"),
        ("=3", "not a setting"),
        ("seed=", "seed= has nothing behind it: write seed=VALUE, or leave it out"),
        ("a..b=3", "not a setting"),
        ("seed.x=3", "seed is a plain value"),
        ("a=[1, 2", "cannot be read as YAML"),
    ],
)
def test_bad_overrides_are_refused(word: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        apply_overrides({"seed": 1}, [word])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("1e-3", 0.001),
        ("1.5", 1.5),
        (".5", 0.5),
        ("-2", -2),
        ("010", 10),
        ("1_000", 1000),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("null", None),
        ("'7'", "7"),
        (".inf", float("inf")),
    ],
)
def test_scalars_mean_what_they_look_like(tmp_path: Path, text: str, value: object) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"a: {text}\n", encoding="utf-8")
    found = load_yaml(path)["a"]
    assert found == value
    assert type(found) is type(value)
    path.write_text(dump_yaml({"a": found}), encoding="utf-8")
    assert load_yaml(path) == {"a": value}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a: 1\na: 2\n", r"the key a is given twice \(line 2\)"),
        (b"- 1\n", "holds no 'key: value' lines"),
        (b"a: [1\n", "cannot be read as YAML"),
        (b"a: !!python/object:os.system x\n", "cannot be read as YAML"),
        (b"a: \xff\n", "not UTF-8"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        load_yaml(path)


def test_absent_file_is_named_and_empty_file_is_empty(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.yaml cannot be read: No such file"):
        load_yaml(tmp_path / "no.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n", encoding="utf-8")
    assert load_yaml(tmp_path / "empty.yaml") == {}


def test_differences_name_dotted_keys_and_both_values() -> None:
    first = {"step": {"lr": 1.0, "same": 2}, "sizes": [1, 2], "old": 1}
    second = {"step": {"lr": 2.0, "same": 2}, "sizes": [1, 3], "new": {"x": 1}}
    assert differences(first, second) == [
        ("step.lr", 1.0, 2.0),
        ("sizes", [1, 2], [1, 3]),
        ("old", 1, NOT_SET),
        ("new", NOT_SET, {"x": 1}),
    ]
    assert differences(first, first) == []


def test_closest_offers_nothing_when_nothing_is_near() -> None:
    assert closest("trian", ["train", "sample"]) == "train"
    assert closest("qqq", ["train", "sample"]) is None


def test_yaml_text_has_a_setting_on_each_line() -> None:
    values = {"b": {"lr": 1e-5, "sizes": [1, [2, 3]]}, "a": [{"x": None}], "word": "off"}
    assert dump_yaml(values) == (
        "b:\n  lr: 1.0e-05\n  sizes: [1, [2, 3]]\na:\n- x: null\nword: off\n"
    )
