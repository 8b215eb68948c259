"""From a preset, a file or a run folder, and `key=value` words, to the settings of a run."""

import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vidgan.core.code_version import PACKAGE_FOLDER
from vidgan.core.files import refuse_special, write_text_atomically
from vidgan.core.plugins import trust_typed
from vidgan.core.settings import (
    NOT_SET,
    apply_overrides,
    differences,
    dump_yaml,
    from_dict,
    load_yaml,
    merged,
    to_dict,
)
from vidgan.data.packed.cloud import refuse_told_address
from vidgan.data.settings import DataConfig, find_data_of_run
from vidgan.errors import UserError
from vidgan.losses.recipes import LossConfig
from vidgan.models import MODEL_VARIANTS, model_name
from vidgan.models.base import ModelConfig
from vidgan.report.page import flatten
from vidgan.training.settings import TrainingConfig

# ------------------------------------------------------------------------------------------------
# The settings of one run as a whole, and the `config.yaml` of its folder

CONFIG_FILE = "config.yaml"

NOT_COMPARED = {"run", "preset"}
HARMLESS = {
    "data.workers",
    "training.total_clips",
    "training.minutes",
    "training.threads",
    "training.workers",
    "training.device",
    "training.precision.check",
    "training.log",
    "training.log_every",
    "training.doctor",
    "training.deterministic",
    "training.profile_steps",
    "training.sample_every",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.num_samples",
    "training.max_rollbacks",
}
"""Settings that may change when a run continues: they affect no weight, or only lengthen the
run."""
HARMLESS_GROUPS = ("best.",)


@dataclass(frozen=True, kw_only=True)
class BestConfig:
    """Which checkpoint counts as the best.

    Attributes:
        metric: score by which `vidgan evaluate` chooses; by default all distances in one number,
            since each of them alone is blind to some damage.
    """

    metric: str = "overall_spread"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides the result of a run.

    Attributes:
        model: the networks.
        data: the clips.
        loss: the game and its penalties.
        training: schedule, optimizers, cadence.
        best: how the best checkpoint is chosen.
        run: folder of the run.
        seed: of all random numbers of the run.
        init_from: another run's folder, whose newest weights of all networks this run starts with;
            no generator file, which lacks the discriminators.
        preset: where the settings come from.
    """

    model: ModelConfig
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    best: BestConfig = field(default_factory=BestConfig)
    run: str = ""
    seed: int = 0
    init_from: str | None = None
    preset: str = ""


def config_from_dict(mapping: dict[str, Any], where: str) -> Config:
    """Settings from plain values, every key and type checked; see `settings.from_dict`."""
    return from_dict(Config, mapping, where, (MODEL_VARIANTS,))


def config_to_dict(config: Config) -> dict[str, Any]:
    """Settings as plain values, defaults included."""
    return to_dict(config, (MODEL_VARIANTS,))


def save_config(run: str | Path, config: Config) -> None:
    """Write every setting to the run's `config.yaml`."""
    write_text_atomically(Path(run) / CONFIG_FILE, dump_yaml(config_to_dict(config)))


def load_run_config(run: str | Path) -> Config:
    """Read the run's `config.yaml`.

    Raises:
        UserError: the folder has none, or it is damaged.
    """
    path = Path(run) / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{run} is not a run folder: it holds no {CONFIG_FILE}")
    return config_from_dict(written_settings(run), str(path))


def written_settings(run: str | Path) -> dict[str, Any]:
    """The plain values of a run's `config.yaml`, with the place where its data is found.

    The data lie below the working folder, or else where they were when the run was trained, or
    below a folder that holds the run; their path stays if there is nothing in any of these places.

    Raises:
        UserError: the file cannot be read, or is not whole.
    """
    path = Path(run) / CONFIG_FILE
    remedy = (
        f"put it back from a copy, or begin another run with its weights by init_from={run} "
        "run=FOLDER"
    )
    try:
        settings = load_yaml(path)
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise
        raise UserError(f"{path} is damaged ({error}): {remedy}") from error
    # A run writes every setting, in this order, so a file that was cut lacks the last ones. What
    # later versions of vidgan add stands inside the groups.
    missing = [item.name for item in dataclasses.fields(Config) if item.name not in settings]
    if missing:
        raise UserError(f"{path} is damaged (it lacks {', '.join(missing)}): {remedy}")
    data = settings.get("data")
    if isinstance(data, dict) and isinstance(data.get("path"), str):
        data["path"] = find_data_of_run(run, settings)
    return settings


def check_same_settings(run: str | Path, saved: Config, asked: Config) -> None:
    """Refuse to continue a run with settings that would change its result.

    Raises:
        UserError: names the settings that differ.
    """
    differing = [
        item
        for item in differences(config_to_dict(saved), config_to_dict(asked))
        if _is_fixed(item.key)
        and not (item.key == "data.path" and _is_same_place(item.first, item.second))
    ]
    if differing:
        listed = ", ".join(f"{d.key}={_shown(d.second)} (was {_shown(d.first)})" for d in differing)
        # Most often the same command is given again, after an update.
        is_same = saved.preset and saved.preset == asked.preset
        why = f" (the preset {saved.preset} may have changed since)" if is_same else ""
        folder = shlex.quote(str(run))
        raise UserError(
            f"{run} holds a run with other settings: {listed}{why}; continue it with its own by: "
            f"vidgan train {folder}, or give another folder with run=FOLDER (and init_from={folder}"
            " to start from its weights)"
        )
    before, after = saved.training.total_clips, asked.training.total_clips
    if after < before:
        raise UserError(
            f"{run} was started with training.total_clips={before}, which can be raised but not "
            f"lowered to {after}; give another folder with run=FOLDER"
        )


def fixed_settings(config: Config) -> dict[str, Any]:
    """Settings by dotted key that a run keeps from its first step on, apart from places."""
    settings = flatten(config_to_dict(config))
    return {key: settings[key] for key in settings if _is_fixed(key) and key != "data.path"}


def _is_fixed(key: str) -> bool:
    return key not in NOT_COMPARED | HARMLESS and not key.startswith(HARMLESS_GROUPS)


def _is_same_place(first: str, second: str) -> bool:
    try:
        return Path(first).samefile(second)
    except OSError:
        return False


def _shown(value: Any) -> str:
    if value == NOT_SET:
        return "unset"
    return "null" if value is None else str(value)


# ------------------------------------------------------------------------------------------------
# From a preset, a file or a run folder, and `key=value` words, to the settings of a run

__all__ = ["Config", "default_preset", "list_presets", "load_config"]

DEFAULT_PRESETS = {"cpu": "cpu/pvgan-clips-32x16", "gpu": "gpu/pvgan-clips-64x32"}
"""What `vidgan train data=FOLDER` takes, by the device at hand."""

QUICK_MINUTES = 60
"""Up to this `minutes=`, larger clips would not become recognisable."""

SHORTHANDS = {
    "model": "model.name",
    "data": "data.path",
    "loss": "loss.name",
    "minutes": "training.minutes",
    "hours": "training.minutes",
    "log": "training.log",
}
"""Short names of frequent settings."""


def load_config(
    source: str | Path | Mapping[str, Any] | None = None, overrides: Sequence[str] = ()
) -> Config:
    """Read settings and resolve everything that follows from them.

    The model settings that the loss requires are set, and `run` becomes `runs/<preset>-<data>`
    unless it is given, so that the same command continues the same run.

    Args:
        source: a preset of `list_presets()`, a YAML file, the folder of a run to continue, or None
            for a preset that suits the device. A mapping holds what a YAML file may; with `preset`,
            or without `model`, what it names differs from that preset or the one for the device.
        overrides: `key=value` words; `data=`, `model=` and `loss=` stand for `data.path=`,
            `model.name=` and `loss.name=`, `minutes=` and `hours=` for `training.minutes=`, and
            `preset=` for a source that is not given.

    Raises:
        UserError: no such preset or setting, a value of the wrong kind, or settings that exclude
            each other.

    Example:
        >>> config = load_config(None, ["data=clips/", "loss=wgan-gp", "training.device=cpu"])
        >>> config.run, config.model.head
        ('runs/cpu-pvgan-clips-32x16-clips', 'linear')
    """
    if isinstance(overrides, str):
        raise UserError(f"the settings {overrides!r} must be a list of words: [{overrides!r}]")
    if len({word.partition("=")[0] for word in overrides} & {"minutes", "hours"}) == 2:
        raise UserError("minutes= and hours= set the same time: give one of them")
    words = [_expand(word) for word in overrides]
    given: dict[str, Any] = {}
    if isinstance(source, Mapping):
        given, source = _written_out(source), None
    asked = apply_overrides(given, words)
    preset_named = str(asked.pop("preset", ""))
    given.pop("preset", None)
    if preset_named:
        source = _one_source(source, preset_named)
        words = [word for word in words if not word.startswith("preset=")]
    run_file = None if source is None else Path(source) / CONFIG_FILE
    is_run = run_file is not None and run_file.is_file()
    if is_run:
        where = str(run_file)
        assert source is not None
        mapping = written_settings(source) | {"run": str(source)}
    elif source is None and "model" in given:
        where, mapping = "the settings given", given
    else:
        where = default_preset(asked) if source is None else str(source)
        preset = {"preset": where.removesuffix(".yaml")}
        mapping = _without_replaced(load_yaml(find_preset(where)), asked) | preset
        mapping = merged(mapping, given)
    lengths = asked.get("training")
    if isinstance(lengths, Mapping) and "total_clips" in lengths and "minutes" not in lengths:
        # Of another length than the one that was measured, or that the preset gives in minutes.
        mapping = merged(mapping, {"training": {"minutes": None}})

    for typed in (asked, {} if Path(where).name == CONFIG_FILE else mapping):
        # A preset is the user's choice; the settings of a run come from a file.
        section = typed.get("model")
        trust_typed(section.get("name") if isinstance(section, Mapping) else section)
    if is_run and "path" not in asked.get("data", {}):
        refuse_told_address(_told_path(mapping), where)
    mapping = apply_overrides(mapping, words)
    config = config_from_dict(mapping, where)
    config = require_for_loss(config, mapping.get("model", {}))
    config = _with_places(config)
    return dataclasses.replace(config, run=config.run or default_run(config))


def _told_path(mapping: Mapping[str, Any]) -> str:
    data = mapping.get("data")
    return str(data.get("path", "")) if isinstance(data, Mapping) else ""


def _with_places(config: Config) -> Config:
    """Settings whose paths name the home folder in full, which shells do not do after `key=`."""
    home = os.path.expanduser
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, path=home(config.data.path)),
        run=home(config.run),
        init_from=config.init_from and home(config.init_from),
    )


def _one_source(source: str | Path | None, preset: str) -> str:
    """The preset that the words name in place of a source."""
    if source is not None:
        raise UserError(f"the settings come from {source}, so preset={preset} has to be left out")
    return preset


def default_preset(asked: Mapping[str, Any]) -> str:
    """The preset for settings that name none.

    By `training.device`, else by what is there; for `QUICK_MINUTES` or less the quick one.
    """
    import torch

    training = asked.get("training", {})
    training = training if isinstance(training, Mapping) else {}
    device, minutes = training.get("device", "auto"), training.get("minutes")
    has_gpu = device not in ("auto", "cpu") or (device == "auto" and torch.cuda.is_available())
    place = "gpu" if has_gpu else "cpu"
    is_quick = isinstance(minutes, int | float) and minutes <= QUICK_MINUTES
    return f"{place}/quick" if is_quick else DEFAULT_PRESETS[place]


def list_presets() -> list[str]:
    """Names of all presets, such as `cpu/pvgan-motions-16x8`."""
    folder = presets_folder()
    # The suites of `vidgan bench` lie beside the presets.
    files = [file for file in folder.rglob("*.yaml") if file.parent.name != "bench"]
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in files)


def find_preset(name: str) -> Path:
    """The file of a preset, or the YAML file of that name.

    Raises:
        UserError: neither is there.
    """
    if Path(name).is_file():
        return Path(name)
    path = presets_folder() / f"{name.removesuffix('.yaml')}.yaml"
    if path.is_file():
        return path
    if (Path(name) / "checkpoints").is_dir():
        raise UserError(
            f"the run {name} has lost its {CONFIG_FILE}, without which it cannot go on: put it "
            "back from a copy"
        )
    if Path(name).is_dir():
        raise UserError(
            f"the folder {name} holds no {CONFIG_FILE}, so it is not a run to continue; "
            f"to train on its videos write data={name}"
        )
    refuse_special(name)
    names = list_presets()
    near = [one for one in names if name in one] or get_close_matches(name, names, cutoff=0.5)
    hint = f"did you mean {' or '.join(near[:3])}? " if near else ""
    raise UserError(
        f"there is no preset, settings file or run folder {name}; {hint}'vidgan presets' lists them"
    )


def presets_folder() -> Path:
    """Where the presets are: inside the installed package, or at the root of a checkout."""
    inside = PACKAGE_FOLDER / "configs"
    return inside if inside.is_dir() else PACKAGE_FOLDER.parent.parent / "configs"


# ------------------------------------------------------------------------------------------------
# What follows from the settings


def require_for_loss(config: Config, given: Mapping[str, Any]) -> Config:
    """Set the model settings that the loss requires.

    Args:
        config: settings as read.
        given: the explicitly given model settings, which are not overridden.

    Raises:
        UserError: the model has no such setting, or another value was given.
    """
    loss, model = config.loss, config.model
    settings = {field.name for field in dataclasses.fields(model)}
    for key, value in loss.requires.items():
        if key not in settings:
            if model.FIXED.get(key) == value:
                continue
            raise UserError(
                f"loss.name={loss.name} needs a model with the setting model.{key}, which "
                f"{model_name(type(model))} does not have; choose another loss or model"
            )
        if key in given and given[key] != value:
            raise UserError(
                f"loss.name={loss.name} needs model.{key}={_word(value)}, but "
                f"model.{key}={_word(given[key])} is set; leave it out or choose another loss"
            )
    changes = {key: value for key, value in loss.requires.items() if key in settings}
    return dataclasses.replace(config, model=dataclasses.replace(model, **changes))


def default_run(config: Config) -> str:
    """`runs/<preset>-<data>`; never dated, so that the same command continues."""
    preset = config.preset
    if Path(f"{preset}.yaml").is_file():
        preset = Path(preset).name
    parts = [preset.replace("/", "-")]
    if config.data.path:
        parts.append(Path(config.data.path).resolve().name)
    return f"runs/{'-'.join(parts)}"


def _written_out(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which `data`, `model` and `loss` may be short names."""
    plain: dict[str, Any] = {}
    for key, value in settings.items():
        section, _, name = SHORTHANDS.get(key, "").partition(".")
        if not section or isinstance(value, Mapping):
            plain = merged(plain, {key: value})
            continue
        if key == "hours" and isinstance(value, int | float):
            value = 60 * value
        plain = merged(plain, {section: {name: str(value) if isinstance(value, Path) else value}})
    return plain


def _expand(word: str) -> str:
    key, separator, value = word.partition("=")
    if key == "hours":
        with suppress(ValueError):
            value = f"{60 * float(value):g}"
    return f"{SHORTHANDS.get(key, key)}{separator}{value}"


def _without_replaced(mapping: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Drop a preset's settings of its model or loss where another one is asked for."""
    kept = dict(mapping)
    for section in ("model", "loss"):
        before, after = kept.get(section), asked.get(section)
        if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
            continue
        if after.get("name", before.get("name")) != before.get("name"):
            kept[section] = {}
    return kept


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
