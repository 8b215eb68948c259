"""Checkpoints: the complete state of a run for bit-exact resuming, with checksums against damage.

A checkpoint is the folder `checkpoints/step-N` of a run. It is written beside its place, forced to
the disk and renamed, so it is there as a whole or not at all; `state.json` holds a SHA-256 of every
other file and of itself, so that damage is detected and the previous checkpoint is used.
"""

import dataclasses
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vidgan.core.files import (
    DISK_FULL,
    TEMPORARY_MARK,
    DiskFullError,
    disk_errors_named,
    is_leftover,
    sha256_of,
    write_folder_atomically,
    write_sealed_json,
)
from vidgan.core.progress import Notify
from vidgan.core.settings import from_dict, to_dict
from vidgan.errors import UserError
from vidgan.models import MODEL_VARIANTS
from vidgan.models.base import GAN, ClipShape, Discriminator, ModelConfig, Stage
from vidgan.sampling import zoo
from vidgan.sampling.storage import (
    CHECKPOINTS_FOLDER,
    GENERATOR_FILE,
    HUB_FILE,
    NETWORK_FILES,
    OPTIMIZERS_FILE,
    STATE_FILE,
    DamagedError,
    GeneratorCard,
    check_file,
    check_listed,
    checkpoint_folder,
    checkpoint_steps,
    list_checkpoints,
    read_pointer,
    read_state,
    save_generator,
    write_pointer,
)
from vidgan.training.ema import named_parameters
from vidgan.training.step import TrainingStep

SCHEMA = 3
"""Version of a checkpoint's layout; raised when an older reader could misread a newer one."""

SETTINGS = "settings"
"""Key in `state.json` of the settings that the run keeps; checkpoints of schema 2 have none."""
CHECKED_FILES = {*NETWORK_FILES.values(), OPTIMIZERS_FILE, GENERATOR_FILE}
"""Files whose hash stands in `state.json`."""
DAMAGED_MARK = "damaged-"

Float32 = Literal["nothing", "penalty", "networks"]
"""What is computed in float32 although the settings ask for bfloat16."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunState:
    """The state of a run, apart from its weights.

    Attributes:
        stage: stage of the last step, or of the first one before any.
        step: generator updates made.
        clips_seen: real clips shown to the discriminator.
        attempt: roll-backs so far; part of the key of every random number.
        arithmetic: what bitwise equality depends on besides the settings.
        float32: what the stage's level computes in float32 since its gradients were wrong.
    """

    stage: Stage
    step: int = 0
    clips_seen: int = 0
    attempt: int = 0
    arithmetic: dict[str, str] = dataclasses.field(default_factory=dict)
    float32: Float32 = "nothing"


# ------------------------------------------------------------------------------------------------
# Writing


def save_checkpoint(
    run: str | Path,
    step: TrainingStep,
    state: RunState,
    card: GeneratorCard,
    settings: Mapping[str, Any],
    keep: int,
) -> None:
    """Write a checkpoint, name it the last one and remove old ones.

    Args:
        run: the run folder.
        step: networks and optimizers.
        state: the state of the run.
        card: what the generator file says of itself.
        settings: those that the run keeps, as plain values.
        keep: newest checkpoints that stay; the one that `best.json` names stays as well.

    Earlier checkpoints are untouched by any failure.
    """
    folder = checkpoint_folder(run, state.step)

    def write(temporary: Path) -> None:
        for player, file in NETWORK_FILES.items():
            _write_tensors(temporary / file, _network_tensors(step.gan, player))
        _write_tensors(temporary / OPTIMIZERS_FILE, dict(_optimizer_tensors(step)))
        save_generator(temporary / GENERATOR_FILE, step.averaged, card)
        hashes = {file.name: sha256_of(file) for file in sorted(temporary.iterdir())}
        record = {"schema": SCHEMA, **to_dict(state), SETTINGS: dict(settings), "sha256": hashes}
        write_sealed_json(temporary / STATE_FILE, record)

    write_folder_atomically(folder, write)
    write_pointer(run, "last", state.step, clips_seen=state.clips_seen)
    _remove_old(run, keep)


def checkpoint_bytes(step: TrainingStep) -> int:
    """Room that a checkpoint takes: weights, two moments of each, and the averaged generator."""
    sizes = {
        name: sum(
            tensor.numel() * tensor.element_size() for tensor in network.state_dict().values()
        )
        for name, network in step.gan.networks.items()
    }
    return int(3 * sum(sizes.values()) + sizes["generator"])


def room_for_checkpoints(run: str | Path, step: TrainingStep) -> int:
    """Bytes that the checkpoints of a run will take beside those that it has."""
    expected = step.settings.keep_checkpoints + 1 - len(list_checkpoints(run))
    return max(1, expected) * checkpoint_bytes(step)


def _remove_old(run: str | Path, keep: int) -> None:
    kept = {*list_checkpoints(run)[-keep:], read_pointer(run, "best")}
    for step in list_checkpoints(run):
        if step not in kept:
            # Renamed first: a kill in between leaves no half of a checkpoint under its name.
            folder = checkpoint_folder(run, step)
            doomed = folder.with_name(f"{TEMPORARY_MARK}{folder.name}")
            folder.rename(doomed)
            shutil.rmtree(doomed)


def _network_tensors(gan: GAN, player: str) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": tensor
        for name, network in gan.networks.items()
        if (name == "generator") == (player == "generator")
        for key, tensor in network.state_dict().items()
    }


def _optimizer_tensors(step: TrainingStep) -> Iterator[tuple[str, Tensor]]:
    for player, optimizer in step.optimizers.items():
        for name, parameter in named_parameters(step.gan, player):
            for key, value in optimizer.state.get(parameter, {}).items():
                # SGD without momentum notes that it has none.
                if value is not None:
                    yield f"{player}/{name}/{key}", value


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    # safetensors refuses strided tensors and tensors that share memory: store plain copies.
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    path.write_bytes(save(plain))


# ------------------------------------------------------------------------------------------------
# Finding


def find_checkpoint(run: str | Path, warn: Notify) -> RunState | None:
    """The newest undamaged checkpoint of a run, or None if it has not made one yet.

    Damaged newer ones are pointed out.

    Raises:
        UserError: every checkpoint is damaged, one may not be read, or a newer version of vidgan
            wrote them.
    """
    damaged = []
    for step in reversed(checkpoint_steps(run)):
        folder = checkpoint_folder(run, step)
        try:
            state = _read_state(folder, step)
        except PermissionError as error:
            raise UserError(
                f"{error.filename} may not be read ({error.strerror}): check its permissions"
            ) from error
        except (OSError, DamagedError) as error:
            damaged.append(folder)
            warn(f"{folder} is damaged ({error}) and is skipped")
            continue
        if damaged:
            warn(f"step {step} is the newest undamaged checkpoint")
        return state
    if damaged:
        raise UserError(
            f"every checkpoint in {Path(run) / CHECKPOINTS_FOLDER} is damaged: bring whole ones "
            "back, or start in another folder with run=FOLDER"
        )
    return None


def _read_state(folder: Path, step: int) -> RunState:
    record = read_state(folder)
    schema, hashes = record.pop("schema", None), record.pop("sha256", None)
    if type(schema) is int and schema > SCHEMA:
        raise UserError(
            f"{folder} was written by a newer version of vidgan (schema {schema}, this one reads "
            f"{SCHEMA}); upgrade vidgan"
        )
    if not isinstance(record.pop(SETTINGS, {}), dict):
        raise DamagedError(f"{STATE_FILE} holds no settings")
    if not isinstance(hashes, dict) or set(hashes) != CHECKED_FILES:
        raise DamagedError(f"{STATE_FILE} does not name the files of a checkpoint")
    for name, expected in hashes.items():
        check_file(folder / name, expected)
    try:
        state = from_dict(RunState, record, STATE_FILE)
    except UserError as error:
        raise DamagedError(str(error)) from error
    if state.step != step:
        raise DamagedError(f"it is a copy of step {state.step}")
    return state


def check_checkpoint(folder: Path, step: int) -> str | None:
    """What is wrong with a checkpoint, every file's checksum compared; None if it is whole."""
    try:
        _read_state(folder, step)
    except (OSError, UserError, DamagedError) as error:
        return str(error)
    return None


LEFTOVERS = {
    "": re.compile(
        r"config\.yaml|command\.txt|(environment|data|last|best)\.json|log\.jsonl|index\.html"
    ),
    CHECKPOINTS_FOLDER: re.compile(r"step-\d+"),
    "samples": re.compile(r"(step-\d+|real-\d+x\d+)\.mp4"),
    "doctor": re.compile(r"step-\d+\.mp4"),
}
"""What training writes into which folder of a run, under a temporary name first."""


def leftovers(run: str | Path) -> list[Path]:
    """What a killed training left half-written in a run folder."""
    found = []
    for name, pattern in LEFTOVERS.items():
        folder = Path(run) / name
        if folder.is_dir() and not folder.is_symlink():
            found += [item for item in sorted(folder.iterdir()) if is_leftover(item.name, pattern)]
    return [item for item in found if not item.is_symlink()]


def tidy(run: str | Path, state: RunState | None) -> None:
    """Remove what kills left half-written, and set damaged newer checkpoints aside, name the last.

    Only names that training gives, in the folders where it gives them, are touched.
    """
    for leftover in leftovers(run):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
    for step in checkpoint_steps(run):
        if state is not None and step > state.step:
            folder = checkpoint_folder(run, step)
            aside = folder.with_name(f"{DAMAGED_MARK}{folder.name}")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
    if state is not None and read_pointer(run, "last") != state.step:
        write_pointer(run, "last", state.step, clips_seen=state.clips_seen)


# ------------------------------------------------------------------------------------------------
# Reading


def load_checkpoint(run: str | Path, step: TrainingStep, state: RunState) -> None:
    """Set networks, averaged generator and optimizers to what `find_checkpoint` found."""
    folder = checkpoint_folder(run, state.step)
    load_networks(folder, step)
    step.stage = None
    step.enter(state.stage)

    tensors = _read_tensors(folder / OPTIMIZERS_FILE)
    for player, optimizer in step.optimizers.items():
        optimizer.state.clear()
        for name, parameter in named_parameters(step.gan, player):
            prefix = f"{player}/{name}/"
            for full, value in tensors.items():
                if full.startswith(prefix):
                    # Only a fused optimizer counts its steps where the moments are.
                    moves = value.dim() or optimizer.defaults.get("fused")
                    place = parameter.device if moves else value.device
                    optimizer.state[parameter][full.removeprefix(prefix)] = value.to(place)


def load_networks(folder: Path, step: TrainingStep) -> None:
    """Copy the weights of a checkpoint folder into the networks and the averaged generator.

    Raises:
        UserError: they belong to networks of other shapes.
    """
    for player, file in NETWORK_FILES.items():
        _copy(_read_tensors(folder / file), _network_tensors(step.gan, player), folder)
    _copy(_read_tensors(folder / GENERATOR_FILE), step.averaged.state_dict(), folder)


def load_discriminators(folder: Path, card: GeneratorCard) -> list[Discriminator]:
    """The discriminators of a checkpoint folder in eval mode, at the stage of its generator.

    None are returned where the folder holds none, as beside a generator file on its own.

    Raises:
        UserError: the file was changed or damaged, or holds those of another model.
    """
    file = folder / NETWORK_FILES["discriminator"]
    if not file.is_file():
        return []
    try:
        check_listed(file)
    except (OSError, DamagedError) as error:
        raise UserError(f"{folder} was changed or damaged ({error}); take another one") from error
    config = from_dict(
        ModelConfig, card.model, f"the model settings of {folder}", (MODEL_VARIANTS,)
    )
    with torch.random.fork_rng(devices=[]):
        gan = config.build(ClipShape(*card.clip_shape), card.num_classes)
    _copy(_read_tensors(file), _network_tensors(gan, "discriminator"), folder)
    gan.set_stage(card.stage)
    found = list(gan.train(False).discriminators.values())
    for one in found:
        one.requires_grad_(False)
    return found


def init_from(run: str | Path, step: TrainingStep, warn: Notify) -> None:
    """Start with the newest undamaged weights of another run.

    Raises:
        UserError: no such run, all its checkpoints are damaged, or its networks have other shapes.
    """
    found = find_checkpoint(run, warn)
    if found is None:
        raise _no_start(run)
    load_networks(checkpoint_folder(run, found.step), step)


def _no_start(source: str | Path) -> UserError:
    """The error for something else than a run with checkpoints."""
    path, takes = Path(source), "init_from takes the folder of a run of vidgan train"
    is_zoo = str(source).startswith(zoo.PREFIX)
    if is_zoo:
        training = zoo.zoo_entry(str(source)).training
        takes += f", and such a one is made by: {training} data=FOLDER"
    if is_zoo or path.is_file() or (path / HUB_FILE).is_file():
        return UserError(
            f"init_from={source} is a generator alone, without the discriminators that training "
            f"goes on with: {takes}"
        )
    if (path / STATE_FILE).is_file():
        run = path.absolute().parents[1]
        return UserError(f"init_from={source} is a checkpoint of a run: give init_from={run}")
    return UserError(
        f"init_from={source} holds no checkpoint; give a folder that vidgan train wrote to"
    )


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = load_file(path)
    return tensors


@torch.no_grad()
def _copy(source: dict[str, Tensor], target: dict[str, Tensor], folder: Path) -> None:
    for name in {**target, **source}:
        old, new = source.get(name), target.get(name)
        if old is None or new is None or old.shape != new.shape:
            shapes = ["not" if t is None else list(t.shape) for t in (old, new)]
            raise UserError(
                f"the weights in {folder} do not fit this model: {name} is {shapes[0]} there and "
                f"{shapes[1]} here; use the model, data and loss settings of that run"
            )
        new.copy_(old)


# ------------------------------------------------------------------------------------------------
# A full disk


@contextmanager
def explained_disk_errors(run: str | Path) -> Iterator[None]:
    """Turn a lack of room while a run is written into one sentence; what was saved stays.

    Raises:
        UserError: no room is left.
    """
    try:
        with disk_errors_named(run):
            yield
    except DiskFullError as error:
        steps = list_checkpoints(run)
        kept = f"the checkpoint of step {steps[-1]} is intact" if steps else "nothing was saved yet"
        what, remedy = DISK_FULL[error.number]
        raise UserError(
            f"{run} cannot be written to, {what}; {kept}: {remedy} and give the same command again"
        ) from error
