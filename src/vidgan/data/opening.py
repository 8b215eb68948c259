"""Opening a data set by its name: a folder of videos, a packed set, or the clips of a run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vidgan.core.settings import apply_overrides, from_dict, load_yaml
from vidgan.data.build.packing import cached_build
from vidgan.data.dataset import ClipDataset
from vidgan.data.packed.cloud import refuse_told_address
from vidgan.data.packed.manifest import is_packed
from vidgan.data.packed.store import open_store
from vidgan.data.settings import DataConfig
from vidgan.errors import UserError
from vidgan.models import MODEL_VARIANTS
from vidgan.models.base import ClipShape, ModelConfig

RUN_SETTINGS = "config.yaml"


def open_dataset(
    source: str | Path,
    words: Sequence[str] = (),
    *,
    size: tuple[int, int] | None = None,
    tell: Callable[[str], None] | None = None,
) -> ClipDataset:
    """The real clips in a folder, an archive, a packed set, or of a run, ready to be served.

    Videos are decoded into the user's cache once.

    Args:
        source: a folder of videos, an archive, a file of arrays, a packed set, or a run folder,
            which gives the clips it was trained on.
        words: settings of the data, such as `resolution=64`, `frames=16` or `clip=first`.
        size: frames and pixels a side where `words` do not say; None takes those of a packed set or
            of a run, else 16 and 64.
        tell: told in a few words what happens.

    Raises:
        UserError: there is nothing of the kind, or the clips do not fit the settings.
    """
    path = Path(source)
    found: dict[str, Any] = {"path": str(source)}
    levels: list[tuple[int, int]] = []
    run: dict[str, Any] | None = None
    if (path / RUN_SETTINGS).is_file():
        run = load_yaml(path / RUN_SETTINGS)
        if not isinstance(run, dict) or not {"data", "model"} <= run.keys():
            raise UserError(f"{path / RUN_SETTINGS} holds no settings of a run")
        found = run["data"]
    elif size is not None:
        found |= {"frames": size[0], "resolution": size[1]}
    elif is_packed(str(source)):
        full = open_store(source).levels[0]
        found |= {"frames": full.frames, "resolution": full.resolution}
    words = [word.removeprefix("data.") for word in words]
    words = [f"path={word[5:]}" if word.startswith("data=") else word for word in words]
    config = from_dict(DataConfig, apply_overrides(found, words), f"the data of {source}")
    if run is not None:
        if not any(word.startswith("path=") for word in words):
            refuse_told_address(config.path, path / RUN_SETTINGS)
        model = from_dict(ModelConfig, run["model"], f"the model of {source}", (MODEL_VARIANTS,))
        shape = ClipShape(3, config.frames, config.resolution, config.resolution)
        levels = [(level.frames, level.resolution) for level in model.levels(shape)][:-1]
    packed = cached_build(config, levels, tell=tell)
    return ClipDataset(open_store(packed), config, seed=0 if run is None else run.get("seed", 0))
