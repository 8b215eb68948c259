"""The settings of one run as a whole, and the `config.yaml` of its folder."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidgan.core.files import read_json, write_text_atomically
from vidgan.core.settings import NOT_SET, differences, dump_yaml, from_dict, load_yaml, to_dict
from vidgan.data.settings import DataConfig
from vidgan.errors import UserError
from vidgan.losses.recipes import LossConfig
from vidgan.models import MODEL_VARIANTS
from vidgan.models.base import ModelConfig
from vidgan.training.settings import TrainingConfig

CONFIG_FILE = "config.yaml"
DATA_FILE = "data.json"

NOT_COMPARED = {"run", "preset"}
HARMLESS = {
    "data.workers",
    "training.total_clips",
    "training.minutes",
    "training.threads",
    "training.workers",
    "training.device",
    "training.precision.check",
    "training.log_every",
    "training.sample_every",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.num_samples",
    "training.max_rollbacks",
}
"""Settings that may change when a run goes on: they move no weight, or only lengthen the run."""
HARMLESS_GROUPS = ("best.",)


@dataclass(frozen=True, kw_only=True)
class BestConfig:
    """Which checkpoint counts as the best.

    Attributes:
        metric: score by which `vidgan evaluate` chooses; by default all distances in one number,
            since each of them alone is blind to some damage.
    """

    metric: str = "overall"


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
        init_from: another run's folder, whose newest weights this run starts with.
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
        raise UserError(f"{run} is no run folder: it holds no {CONFIG_FILE}")
    return config_from_dict(run_settings(run), str(path))


def run_settings(run: str | Path) -> dict[str, Any]:
    """The plain values of a run's `config.yaml`, with the place where its data is found.

    The data lie below the working folder, or else where they were when the run was trained, or
    below a folder that holds the run; their path stays if there is nothing in any of these places.
    """
    settings = load_yaml(Path(run) / CONFIG_FILE)
    data = settings.get("data")
    if isinstance(data, dict) and isinstance(data.get("path"), str):
        data["path"] = _find_data(run, data["path"])
    return settings


def _find_data(run: str | Path, path: str) -> str:
    if not path or Path(path).exists():
        return path
    noted = ""
    with suppress(OSError, UserError):
        noted = read_json(Path(run) / DATA_FILE).get("place", "")
    places = [Path(noted)] if isinstance(noted, str) and noted else []
    places += [folder / path for folder in Path(run).resolve().parents]
    return next((str(place) for place in places if place.exists()), path)


def check_same_settings(run: str | Path, saved: Config, asked: Config) -> None:
    """Refuse to go on with a run under settings that would change its result.

    Raises:
        UserError: names the settings that differ.
    """
    differing = [
        item
        for item in differences(config_to_dict(saved), config_to_dict(asked))
        if item.key not in NOT_COMPARED | HARMLESS
        and not item.key.startswith(HARMLESS_GROUPS)
        and not (item.key == "data.path" and _is_same_place(item.first, item.second))
    ]
    if differing:
        listed = ", ".join(f"{d.key}={_shown(d.second)} (was {_shown(d.first)})" for d in differing)
        raise UserError(
            f"{run} holds a run with other settings: {listed}; give the old ones, or another "
            f"folder with run=FOLDER (and init_from={run} to start from its weights)"
        )
    before, after = saved.training.total_clips, asked.training.total_clips
    if after < before:
        raise UserError(
            f"{run} was started with training.total_clips={before}, which can be raised but not "
            f"lowered to {after}; give another folder with run=FOLDER"
        )


def _is_same_place(first: str, second: str) -> bool:
    try:
        return Path(first).samefile(second)
    except OSError:
        return False


def _shown(value: Any) -> str:
    if value == NOT_SET:
        return "unset"
    return "null" if value is None else str(value)
