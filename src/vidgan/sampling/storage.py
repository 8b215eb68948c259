"""Generators on disk: one safetensors file with weights and metadata.

The header carries a `GeneratorCard` as JSON: the model's settings, the clip's shape, the class
names, the stage of growth. Nothing in the file is code, so untrusted files are safe to open.

A run folder keeps checkpoints as `checkpoints/step-N/ema.safetensors`, and names two of them in
`last.json` and `best.json`. Files are verified when read: a generator
against its checksum in `state.json`, the choice of the best one against the evaluations.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from vidgan.core.code_version import VERSION
from vidgan.core.files import (
    parse_json,
    read_json,
    read_sealed_json,
    refuse_special,
    sha256_of,
    write_file_atomically,
    write_sealed_json,
)
from vidgan.core.settings import Range, from_dict, to_dict
from vidgan.errors import UserError, printable
from vidgan.models import MODEL_VARIANTS, outline_gan
from vidgan.models.base import ClipShape, Generator, LevelShape, ModelConfig, Stage
from vidgan.sampling import zoo

SCHEMA = 1
"""Version of the card; raised when an older reader could misread a newer file."""

MAX_CLASSES = 65_536

GENERATOR_FILE = "ema.safetensors"
HUB_FILE = "model.safetensors"
"""What the generator file is called in a folder for the hub."""
STATE_FILE = "state.json"
NETWORK_FILES = {
    "generator": "generator.safetensors",
    "discriminator": "discriminators.safetensors",
}
OPTIMIZERS_FILE = "optimizers.safetensors"
"""What stands beside a generator file in a checkpoint folder."""
CHECKPOINTS_FOLDER = "checkpoints"
EVALS_FOLDER = "evals"
CARD_KEY = "vidgan"
_CARD_ATTRIBUTE = "card"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneratorCard:
    """Metadata of a generator file.

    Attributes:
        model: settings of the model as plain values, its `name` among them.
        clip_shape: (C, T, H, W) of a fully grown clip.
        num_classes: classes of the data the model was built for; 0 for unlabelled data.
        class_names: their names in the order of the labels.
        stage: the stage of growth at which the weights were saved.
        fps: frames per second of the clips.
        step: generator updates made.
        clips_seen: real clips shown to the discriminator.
        loss: name of the loss.
        schema: version of this record.
        vidgan: version of the package that wrote the file.
    """

    model: dict[str, Any]
    clip_shape: Annotated[tuple[int, int, int, int], Range(1, 65_536)]
    num_classes: Annotated[int, Range(0, MAX_CLASSES)]
    class_names: tuple[str, ...]
    stage: Stage
    fps: Annotated[float, Range(above=0)]
    step: Annotated[int, Range(0)]
    clips_seen: Annotated[int, Range(0)]
    loss: str
    schema: int = SCHEMA
    vidgan: str = VERSION

    def __post_init__(self) -> None:
        if len(self.class_names) != self.num_classes:
            raise UserError(
                f"the card of a generator names {len(self.class_names)} classes of "
                f"{self.num_classes}: take the file that vidgan train wrote"
            )


def plain_model(model: ModelConfig) -> dict[str, Any]:
    """Settings of a model as a card keeps them, its `name` among them."""
    plain: dict[str, Any] = to_dict(model, (MODEL_VARIANTS,))
    return plain


def card_of(generator: Generator) -> GeneratorCard:
    """The card of a generator that `load_generator` returned.

    Raises:
        UserError: the generator does not come from a file.
    """
    card = getattr(generator, _CARD_ATTRIBUTE, None)
    if not isinstance(card, GeneratorCard):
        raise UserError("this generator has no card; take one that vidgan.load_generator returned")
    return card


def class_names(generator: Generator) -> tuple[str, ...]:
    """Names of the classes that a generator makes, in the order of their labels.

    Args:
        generator: as `load_generator` returns it.

    Returns:
        One name for each label 0, 1, ...; none for a generator that takes no labels.

    Raises:
        UserError: the generator does not come from a file.
    """
    return card_of(generator).class_names if generator.num_classes else ()


# ------------------------------------------------------------------------------------------------
# One file


def save_generator(path: str | Path, generator: Generator, card: GeneratorCard) -> None:
    """Write weights and card to one safetensors file, atomically.

    The same weights and card always give the same bytes. Weights keep their number format in the
    file; `load_generator` gives them back in float32.
    """
    from safetensors.torch import save

    # safetensors refuses strided tensors and tensors that share memory: store plain copies.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in generator.state_dict().items()
    }
    header = {CARD_KEY: json.dumps(to_dict(card), allow_nan=False)}
    content = save(tensors, metadata=header)
    write_file_atomically(path, lambda file: _write_bytes(file, content))


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def read_card(path: str | Path) -> GeneratorCard:
    """The card of a generator file, without its weights.

    Raises:
        UserError: no such file, damaged, no generator of vidgan, or a newer schema.
    """
    return _read_file(Path(path), with_weights=False)[0]


def load_generator(source: str | Path, checkpoint: str | int = "best") -> Generator:
    """Load a trained generator: averaged weights, in eval mode, at the stage it was saved in.

    Args:
        source: a run folder, a checkpoint folder, a generator file, `zoo:NAME` for one that is
            part of the package (`vidgan zoo` lists them), or a hub id `owner/name`.
        checkpoint: of a run folder: `best` (the last one, and a word about it on stderr, while no
            evaluation has chosen one), `last`, or a step number.

    Returns:
        The generator on the CPU; `card_of(generator)` returns its metadata.

    Raises:
        UserError: nothing there, damaged, or made by something else.

    Example:
        >>> import tempfile, vidgan
        >>> from vidgan.models.pvgan import ProgressiveConfig
        >>> from vidgan.sampling.storage import GeneratorCard, plain_model, save_generator
        >>> config = ProgressiveConfig(channels=(4, 4))
        >>> generator = vidgan.build_gan(config, (3, 4, 8, 8)).generator
        >>> card = GeneratorCard(model=plain_model(config), clip_shape=(3, 4, 8, 8), num_classes=0,
        ...                      class_names=(), stage=generator.stage, fps=8.0, step=0,
        ...                      clips_seen=0, loss="swgan")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_generator(f"{folder}/mine.safetensors", generator, card)
        ...     loaded = vidgan.load_generator(f"{folder}/mine.safetensors")
        >>> vidgan.sample_clips(loaded, vidgan.sample_latents(loaded, [0, 1])).shape
        torch.Size([2, 3, 4, 8, 8])
    """
    path = find_generator_file(source, checkpoint)
    card, tensors = _read_file(path, with_weights=True)
    config = from_dict(ModelConfig, card.model, f"the model settings in {path}", (MODEL_VARIANTS,))
    shape = ClipShape(*card.clip_shape)

    # Shapes are compared before memory is asked for: a card may describe networks of any size.
    outline = outline_gan(config, shape, card.num_classes, f"the header of {path}").generator
    _check_shapes(outline, tensors, path)
    _check_stage(card, config.levels(shape), path)

    # Building draws initial weights that are then overwritten: preserve the caller's random state.
    with torch.random.fork_rng(devices=[]):
        generator = config.build(shape, card.num_classes).generator
    with torch.no_grad():
        for name, tensor in generator.state_dict().items():
            tensor.copy_(tensors[name])
    generator.set_stage(card.stage)
    setattr(generator, _CARD_ATTRIBUTE, card)
    return generator.eval().requires_grad_(False)


def _read_file(path: Path, with_weights: bool) -> tuple[GeneratorCard, dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a file")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(CARD_KEY)
            names = file.keys() if with_weights else ()
            tensors = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError as error:
        raise UserError(f"there is no generator file {path}") from error
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} is damaged or no safetensors file ({error}); take another checkpoint"
        ) from error
    if header is None:
        raise UserError(f"{path} holds no generator of vidgan: it has no '{CARD_KEY}' header")
    try:
        plain = parse_json(header, "it")
        schema = int(plain["schema"])
        if schema < 1:
            raise ValueError(schema)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise UserError(f"{path} has a damaged '{CARD_KEY}' header") from error
    if schema > SCHEMA:
        raise UserError(
            f"{path} was written by vidgan {plain.get('vidgan')}, which is newer than "
            f"this {VERSION}; upgrade vidgan"
        )
    return from_dict(GeneratorCard, plain, f"the header of {path}"), tensors


def _check_stage(card: GeneratorCard, levels: Sequence[LevelShape], path: Path) -> None:
    stage = card.stage
    known = 0 <= stage.level < len(levels)
    if not known or levels[stage.level] != (stage.frames, stage.resolution):
        raise UserError(f"the header of {path} names a stage that its model does not have")


def _check_shapes(generator: Generator, tensors: dict[str, Tensor], path: Path) -> None:
    own = generator.state_dict()
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    reshaped = [n for n in own if n in tensors and own[n].shape != tensors[n].shape]
    if missing or extra or reshaped:
        faults = [
            f"{word} {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            for word, names in (("lacks", missing), ("adds", extra), ("reshapes", reshaped))
            if names
        ]
        raise UserError(
            f"{path} does not fit the model its header describes: it {', '.join(faults)}; "
            f"load it with the version of the model that wrote it"
        )


# ------------------------------------------------------------------------------------------------
# Run folders


def checkpoint_folder(run: str | Path, step: int) -> Path:
    """Where a run keeps the checkpoint of a step."""
    return Path(run) / CHECKPOINTS_FOLDER / f"step-{step}"


def checkpoint_steps(run: str | Path) -> list[int]:
    """Steps of all checkpoint folders of a run, whole or not, oldest first.

    Whatever else lies beside them is none: files, and names that no checkpoint is ever given.
    """
    folders = Path(run, CHECKPOINTS_FOLDER).glob("step-*")
    matches = {
        folder: re.fullmatch(r"step-(0|[1-9][0-9]{0,17})", folder.name) for folder in folders
    }
    return sorted(int(match[1]) for folder, match in matches.items() if match and folder.is_dir())


def list_checkpoints(run: str | Path) -> list[int]:
    """Steps of all checkpoints in a run folder that hold a generator, oldest first."""
    steps = checkpoint_steps(run)
    return [step for step in steps if (checkpoint_folder(run, step) / GENERATOR_FILE).is_file()]


def write_pointer(run: str | Path, name: str, step: int, **facts: Any) -> None:
    """Name a checkpoint in `NAME.json` of a run folder: `last`, or `best` with its score."""
    write_sealed_json(Path(run) / f"{name}.json", {"step": step, **facts})


def read_pointer(run: str | Path, name: str) -> int | None:
    """The step that `NAME.json` of a run folder names, or None if it names no checkpoint."""
    try:
        step = read_sealed_json(Path(run) / f"{name}.json", unsealed=True).get("step")
    except (OSError, ValueError):
        return None
    return step if type(step) is int and step in list_checkpoints(run) else None


def find_generator_file(source: str | Path, checkpoint: str | int = "best") -> Path:
    """The generator file of a run folder, checkpoint folder, file, `zoo:NAME` or hub id.

    Raises:
        UserError: there is none, or it is not what training wrote into its checkpoint.
    """
    if str(source).startswith(zoo.PREFIX):
        return zoo.zoo_file(str(source))
    path = Path(source)
    if (path / GENERATOR_FILE).is_file():
        path /= GENERATOR_FILE
    elif (path / HUB_FILE).is_file():
        path /= HUB_FILE
    elif path.is_dir():
        path = checkpoint_folder(path, _choose_step(path, str(checkpoint))) / GENERATOR_FILE
    elif not path.is_file():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
            return fetch_from_hub(str(source))
        refuse_special(path)
        raise UserError(f"there is no run folder or generator file {source}")
    if path.name == GENERATOR_FILE:
        _check_generator(path.absolute().parent)
    return path


def _choose_step(run: Path, checkpoint: str) -> int:
    steps = list_checkpoints(run)
    if not steps:
        raise UserError(f"{run} holds no checkpoint; give a folder that vidgan train wrote to")
    listed = ", ".join(map(str, steps))
    if checkpoint == "best":
        best = _believed(run, "best", steps)
        if best is not None:
            return int(best["step"])
        sentence = f"{run} has no best checkpoint yet (vidgan evaluate chooses it)"
        print(printable(f"{sentence}; using the last one"), file=sys.stderr)
    if checkpoint in ("best", "last"):
        last = _believed(run, "last", steps)
        return steps[-1] if last is None else int(last["step"])
    digits = checkpoint.removeprefix("step-")
    if digits.isdecimal() and int(digits) in steps:
        return int(digits)
    raise UserError(f"{run} has no checkpoint {checkpoint}; choose best, last or one of {listed}")


# ------------------------------------------------------------------------------------------------
# Integrity of a run folder


class DamagedError(ValueError):
    """A checkpoint was changed or damaged."""


def read_state(folder: Path) -> dict[str, Any]:
    """What `state.json` of a checkpoint folder holds, without its seal.

    Raises:
        OSError: it is not there or may not be read.
        DamagedError: it is not what was written.
    """
    file = folder / STATE_FILE
    try:
        return read_sealed_json(file, unsealed=True)
    except UserError as error:
        raise DamagedError(str(error).replace(str(file), STATE_FILE)) from error


def check_file(path: Path, checksum: Any) -> None:
    """Compare a file of a checkpoint with its SHA-256 in `state.json`.

    Raises:
        OSError: it may not be read.
        DamagedError: it is not a file, or not what was written.
    """
    if not path.is_file():
        raise DamagedError(f"{path.name} is not a file")
    if sha256_of(path) != checksum:
        raise DamagedError(f"{path.name} does not match its checksum")


def check_listed(file: Path) -> None:
    """Compare a file with its SHA-256 in the `state.json` beside it; raises as `check_file`."""
    expected = _part(read_state(file.parent), "sha256", file.name)
    if expected is None:
        raise DamagedError(f"{STATE_FILE} holds no checksum of {file.name}")
    check_file(file, expected)


def _check_generator(folder: Path) -> None:
    """Refuse a checkpoint whose generator is damaged, and name an intact one."""
    flaw = _flaw_of(folder)
    if flaw is None:
        return
    run, step = folder.parent.parent, _step_of(folder)
    others = [] if step is None else list_checkpoints(run)
    # The next older one first; newer ones only where no older one is intact.
    others.sort(key=lambda other: (other > (step or 0), abs(other - (step or 0))))
    whole = next((n for n in others if n != step and _is_whole(checkpoint_folder(run, n))), None)
    way_out = "and no other checkpoint of the run is intact: train it again"
    if whole is not None:
        age = "newest older" if whole < (step or 0) else "next"
        way_out = f"the {age} intact checkpoint is step {whole}: choose --checkpoint {whole}"
    raise UserError(f"{folder} was changed or damaged after training wrote it ({flaw}); {way_out}")


def _flaw_of(folder: Path) -> str | None:
    """How the generator of a checkpoint folder is damaged; None if it is intact.

    A generator without the other checkpoint files has no checksum.

    Raises:
        UserError: it holds no generator that this vidgan reads.
    """
    file = folder / GENERATOR_FILE
    try:
        beside = (STATE_FILE, OPTIMIZERS_FILE, *NETWORK_FILES.values())
        if any((folder / name).exists() for name in beside):
            check_listed(file)
        step = _step_of(folder)
        found = None if step is None else _read_file(file, with_weights=False)[0].step
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is gone"
    except OSError as error:
        return f"{error.filename} may not be read: {error.strerror}"
    except DamagedError as error:
        return str(error)
    return None if found == step else f"it is a copy of step {found}"


def _is_whole(folder: Path) -> bool:
    try:
        return _flaw_of(folder) is None
    except UserError:
        return False


def _step_of(folder: Path) -> int | None:
    """The step that a checkpoint folder is named after; None for any other folder."""
    found = re.fullmatch(r"step-(\d{1,18})", folder.name)
    return int(found[1]) if found and folder.parent.name == CHECKPOINTS_FOLDER else None


def read_best(run: str | Path) -> dict[str, Any] | None:
    """The contents of a run's `best.json`, or None if there is no consistent one."""
    try:
        return _believed(Path(run), "best", list_checkpoints(run))
    except UserError:
        return None


def _believed(run: Path, name: str, steps: Sequence[int]) -> dict[str, Any] | None:
    """What `NAME.json` of a run says, or None without that file.

    Raises:
        UserError: it is damaged, names no checkpoint, or contradicts the evaluations of the run.
    """
    file = run / f"{name}.json"
    way_out = f"choose one of {', '.join(map(str, steps))}" if steps else "no checkpoint is left"
    if name == "last" and steps:
        way_out = f"delete it (the newest checkpoint is the last one), or {way_out}"
    if name == "best":
        way_out = f"have it chosen again (vidgan evaluate {run} --checkpoint STEP), or {way_out}"
    try:
        found = read_sealed_json(file, unsealed=True)
    except FileNotFoundError:
        return None
    except (OSError, UserError) as error:
        raise UserError(f"{file} is inconsistent ({error}): {way_out}") from error
    step = found.get("step")
    flaw = _contradiction(run, found) if name == "best" else None
    if type(step) is not int or step not in steps:
        flaw = f"the run has no checkpoint {step}"
    if flaw:
        raise UserError(f"{file} is inconsistent ({flaw}): {way_out}")
    return found


def pointer_flaws(run: str | Path) -> list[str]:
    """What is wrong with `last.json` and `best.json` of a run, a sentence each."""
    flaws = []
    for name in ("last", "best"):
        try:
            _believed(Path(run), name, list_checkpoints(run))
        except UserError as error:
            flaws.append(str(error))
    return flaws


BASIS = {
    "protocol": ("protocol", "id"),
    "n": ("counts", "n"),
    "data": ("data", "hash"),
    "judge": ("judge", "hash"),
    "seed": ("seeds", "evaluation"),
}
"""What `best.json` says of the evaluations behind it, and where that stands in a record."""


def _contradiction(run: Path, best: Mapping[str, Any]) -> str | None:
    """How a run's evaluations contradict its `best.json`; None if they agree."""
    metric, step, value = best.get("metric"), best.get("step"), best.get("value")
    if metric is None or not (records := list(_records_of(run))):
        return None
    alike = _alike(records, best)
    if not any(at == step and score.get("value") == value for at, score, _ in alike):
        return f"no record in {run / EVALS_FOLDER} gives step {step} the {metric} {value}"
    for at, score, record in alike:
        found, sign = score.get("value"), -1 if score.get("better") == "higher" else 1
        if not isinstance(found, int | float) or not isinstance(value, int | float):
            continue
        if at != step and sign * found < sign * value and _is_of_checkpoint(run, record):
            return f"{run / EVALS_FOLDER} gives step {at} the better {metric} {found:g}"
    return None


def best_on_record(run: str | Path, basis: Mapping[str, Any]) -> tuple[int, float] | None:
    """Step and value of the best evaluation of checkpoints of a run that are there.

    `basis` has the metric and what `BASIS` names, as `best.json` does.
    """
    found, sign = list[tuple[int, float]](), 1
    for step, score, record in _alike(_records_of(Path(run)), basis):
        value = score.get("value")
        if isinstance(value, int | float) and _is_of_checkpoint(Path(run), record):
            sign = -1 if score.get("better") == "higher" else 1
            found.append((step, float(value)))
    return min(found, key=lambda pair: sign * pair[1], default=None)


def _alike(records: Iterable[dict[str, Any]], basis: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Step, score and record of the evaluations on a basis."""
    metric = str(basis["metric"])
    return [
        (_part(record, "generator", "step"), _part(record, "scores", metric) or {}, record)
        for record in records
        if all(_part(record, *place) == basis.get(key) for key, place in BASIS.items())
    ]


def _records_of(run: Path) -> Iterator[dict[str, Any]]:
    """The evaluation records of a run as plain values; invalid ones are left out."""
    for path in sorted((run / EVALS_FOLDER).glob("*.json")):
        try:
            record = read_json(path)
        except (OSError, UserError):
            continue
        if _part(record, "generator", "step") is not None:
            yield record


def _part(record: Any, *keys: str) -> Any:
    for key in keys:
        record = record.get(key) if isinstance(record, Mapping) else None
    return record


def _is_of_checkpoint(run: Path, record: Mapping[str, Any]) -> bool:
    """Whether a record is of the generator that its checkpoint holds now."""
    try:
        hashes = read_state(checkpoint_folder(run, _part(record, "generator", "step")))["sha256"]
    except (OSError, ValueError, KeyError):
        return False
    written = _part(hashes, GENERATOR_FILE)
    return written is not None and bool(written == _part(record, "generator", "sha256"))


def fetch_from_hub(hub_id: str, revision: str | None = None) -> Path:
    """The generator file of a repository of the hub, in the hub's own cache.

    Args:
        hub_id: `owner/name`.
        revision: branch, tag or commit; by default the newest.

    Raises:
        UserError: the extra `hub` is missing, or there is no such file.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise UserError(
            f"there is no folder or file {hub_id}, and fetching it from the hub needs the extra "
            f"'hub': pip install 'vidgan[hub]'"
        ) from error
    try:
        return Path(hf_hub_download(hub_id, HUB_FILE, revision=revision))
    except (OSError, ValueError) as error:
        reason = printable((str(error).strip().splitlines() or [type(error).__name__])[0])
        raise UserError(f"{hub_id} cannot be fetched from the hub: {reason}") from error
