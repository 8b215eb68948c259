"""What a suite of systems is: its settings and the file they stand in."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vidgan.core.settings import from_dict, load_yaml
from vidgan.errors import UserError


@dataclass(frozen=True, kw_only=True)
class MotionsSpec:
    """A rendered set, see `vidgan data motions`."""

    videos: int = 2640
    size: int = 64
    frames: int = 8
    seed: int = 0
    objects: tuple[str, ...] = ("ring", "square", "triangle", "cross")
    motions: tuple[str, ...] = ("left", "right", "up", "down")
    heldout: float = 1 / 11


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What every run may spend: exactly one of both.

    Attributes:
        clips: real clips seen.
        device_seconds: of the CPU's cores together, or of the GPU. A short measurement turns them
            into clips before the first run of a system, so that runs stay repeatable.
    """

    clips: int | None = None
    device_seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.clips is None) == (self.device_seconds is None):
            raise UserError("the budget of a suite needs either clips or device_seconds")


@dataclass(frozen=True, kw_only=True)
class System:
    """One line of the comparison.

    Attributes:
        preset: preset or settings file.
        set: settings that differ from it, as `key=value`.
        frames: length of the rendered videos, where it is not the suite's: whoever continues given
            frames needs longer ones.
    """

    preset: str
    set: tuple[str, ...] = ()
    frames: int | None = None


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Everything that decides a comparison.

    Attributes:
        systems: by label.
        data: folder of videos; empty takes `motions`.
        motions: what is rendered where no folder is named.
        seeds: each system is trained once with each.
        budget: of one run.
        set: settings of every system, as `key=value`.
        protocol: of the evaluation.
        judge_seed: of the judge.
        num_clips: generated clips of an evaluation; 0 leaves the number to the protocol.
        threads: of each run.
    """

    systems: dict[str, System] = field(default_factory=dict)
    data: str = ""
    motions: MotionsSpec = field(default_factory=MotionsSpec)
    seeds: tuple[int, ...] = (0, 1)
    budget: Budget
    set: tuple[str, ...] = ()
    protocol: str = "own-c3d"
    judge_seed: int = 101
    num_clips: int = 0
    threads: int = 1


def read_suite(path: str | Path) -> Suite:
    """A suite from its YAML file.

    Raises:
        UserError: no such file, an unknown key or a value of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no suite {path}: name a YAML file such as configs/bench/*.yaml")
    values = load_yaml(path)
    systems = values.pop("systems", None)
    if not isinstance(systems, Mapping) or not systems:
        raise UserError(f"{path} names no systems: it needs systems: {{LABEL: {{preset: NAME}}}}")
    parsed = {
        str(label): from_dict(System, dict(spec), f"{path}, systems.{label}")
        for label, spec in systems.items()
    }
    return replace(from_dict(Suite, values, str(path)), systems=parsed)
