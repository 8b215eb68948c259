"""Generators on the Hugging Face hub: a folder of weights, card and facts, and its way there.

A folder holds `model.safetensors` (the generator file of a run), `config.json` (what its header
says, for readers without vidgan) and `README.md` (the model card, generated). `load_generator`
takes the folder or its `owner/name`.
"""

import re
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from vidgan.core.escaping import markdown
from vidgan.core.files import (
    check_place,
    is_vacant,
    sha256_of,
    write_json_atomically,
    write_text_atomically,
)
from vidgan.core.settings import dump_yaml, to_dict
from vidgan.errors import UserError, counted, printable
from vidgan.evaluation.record import format_record, read_record
from vidgan.evaluation.record_types import Record
from vidgan.models.base import Generator
from vidgan.sampling.storage import (
    EVALS_FOLDER,
    HUB_FILE,
    GeneratorCard,
    fetch_from_hub,
    find_generator_file,
    load_generator,
    read_card,
    save_generator,
)
from vidgan.training.run_folder import read_clip_facts, read_environment

CONFIG_FILE = "config.json"
CARD_FILE = "README.md"


def from_pretrained(source: str | Path, revision: str | None = None) -> Generator:
    """Load a generator from a folder that `save_pretrained` wrote, or from the hub.

    Args:
        source: the folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub; by default the newest.

    Returns:
        The generator as `load_generator` returns it.

    Raises:
        UserError: nothing there, damaged, or made by something else.
    """
    if revision is None:
        return load_generator(source)
    if Path(source).exists():
        raise UserError(f"{source} is a folder, which has no revisions; leave the revision out")
    return load_generator(fetch_from_hub(str(source), revision))


def save_pretrained(
    source: str | Path,
    folder: str | Path,
    license: str,
    known_failures: Sequence[str] = (),
    checkpoint: str | int = "best",
) -> Path:
    """Write a generator with its model card to a folder, as the hub keeps it.

    Args:
        source: run folder, checkpoint folder, generator file or hub id. What the card says of data,
            machine and scores is read from the run folder.
        folder: a new or empty folder.
        license: under which others may use the weights, as the hub abbreviates it: `mit`,
            `cc-by-4.0`, `other`. It depends on the clips the generator saw; nobody guesses it.
        known_failures: sentences on what the generator does wrong, beside the warnings of its
            evaluations.
        checkpoint: of a run folder, see `load_generator`.

    Returns:
        The folder.

    Raises:
        UserError: no license, no such generator, or something lies in the folder.
    """
    folder = Path(folder)
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license):
        raise UserError(
            f"license={license!r} names no license: give its abbreviation, such as mit, cc-by-4.0 "
            f"or other"
        )
    if not is_vacant(folder):
        raise UserError(f"{folder} is not empty; choose a new folder")
    check_place(folder)
    file = find_generator_file(source, checkpoint)
    card = read_card(file)
    text = model_card(file, license, known_failures, Path(source))
    save_generator(folder / HUB_FILE, load_generator(file), card)
    write_json_atomically(folder / CONFIG_FILE, to_dict(card))
    write_text_atomically(folder / CARD_FILE, text)
    return folder


def check_repository(repository: str) -> None:
    """Raise UserError for what is no OWNER/NAME."""
    word = r"[A-Za-z0-9][\w.-]*"
    if not re.fullmatch(f"{word}/{word}", repository, re.ASCII):
        raise UserError(f"{printable(repository)} is no repository of the hub: give OWNER/NAME")


def push_to_hub(
    source: str | Path,
    repository: str,
    license: str,
    known_failures: Sequence[str] = (),
    checkpoint: str | int = "best",
    private: bool = False,
) -> str:
    """Write what `save_pretrained` does to a repository of the hub, which is made if needed.

    The account is the one that `hf auth login` or the variable HF_TOKEN names.

    Args:
        source: see `save_pretrained`.
        repository: `owner/name`.
        license: see `save_pretrained`.
        known_failures: see `save_pretrained`.
        checkpoint: see `load_generator`.
        private: whether a new repository is seen by its owner alone.

    Returns:
        The address of the commit.

    Raises:
        UserError: the extra `hub` is missing, or the hub refuses.
    """
    hub = _hub_library(f"pushing to {repository}")
    with tempfile.TemporaryDirectory() as place:
        folder = save_pretrained(source, Path(place, "model"), license, known_failures, checkpoint)
        card = read_card(folder / HUB_FILE)
        try:
            hub.HfApi().create_repo(repository, private=private, exist_ok=True)
            commit = hub.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=f"{card.model['name']}, step {card.step}",
            )
        except (OSError, ValueError) as error:
            raise UserError(f"{repository} cannot be written: {_first_line(error)}") from error
    return str(commit.commit_url)


def pull(repository: str, folder: str | Path, revision: str | None = None) -> Path:
    """Copy a generator with its card from the hub to a folder, and make sure that it loads.

    Args:
        repository: `owner/name`.
        folder: a new or empty folder.
        revision: branch, tag or commit; by default the newest.

    Raises:
        UserError: the extra `hub` is missing, or there is no such repository or no generator in it.
    """
    folder = Path(folder)
    if not is_vacant(folder):
        raise UserError(f"{folder} is not empty; choose a new folder")
    check_place(folder)
    hub = _hub_library(f"pulling {repository}")
    file = fetch_from_hub(repository, revision)
    card = read_card(file)
    # The file may have been replaced since: its copy is made of what was loaded.
    save_generator(folder / HUB_FILE, load_generator(file), card)
    write_json_atomically(folder / CONFIG_FILE, to_dict(card))
    try:
        text = Path(hub.hf_hub_download(repository, CARD_FILE, revision=revision))
        write_text_atomically(folder / CARD_FILE, text.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # A repository without a card is a repository all the same.
        return folder
    return folder


def _hub_library(what: str) -> Any:
    try:
        return import_module("huggingface_hub")
    except ImportError as error:
        raise UserError(f"{what} needs the extra 'hub': pip install 'vidgan[hub]'") from error


def _first_line(error: Exception) -> str:
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0])


# ------------------------------------------------------------------------------------------------
# The model card


def model_card(
    file: Path, license: str, known_failures: Sequence[str], source: Path | None = None
) -> str:
    """The card of a generator file as Markdown, from what was recorded and nothing else.

    Args:
        file: the generator file.
        license: abbreviation for the head of the card.
        known_failures: sentences on what the generator does wrong.
        source: the run folder, where the card may find data, machine and scores.
    """
    card = read_card(file)
    records = _records_of(source, sha256_of(file)) if source is not None else []
    name = str(card.model["name"])
    head = {
        "license": license,
        "library_name": "vidgan",
        "tags": ["video", "gan", "video-generation", name],
    }
    failures = [*known_failures, *(w for record in records for w in record.warnings)]
    sections = [
        f"---\n{dump_yaml(head)}---",
        f"# {name}, {_shape_of(card)}",
        _use_of(card),
        "## Training\n\n" + _bullets(_training_facts(card, source)),
        "## Known failures\n\n"
        + (_bullets(dict.fromkeys(failures)) or "None are recorded; nobody may have looked."),
        "## Scores\n\n" + _scores_of(records),
        "## Settings\n\n```yaml\n" + dump_yaml(card.model) + "```",
        f"Written by vidgan {card.vidgan}.",
    ]
    return "\n\n".join(sections) + "\n"


def _shape_of(card: GeneratorCard) -> str:
    return f"{card.stage.frames} frames of {card.stage.resolution}x{card.stage.resolution} px"


def _use_of(card: GeneratorCard) -> str:
    label = ", labels=0" if card.num_classes else ""
    return (
        '```python\nimport vidgan\n\ngenerator = vidgan.from_pretrained("OWNER/NAME")\n'
        "latents = vidgan.sample_latents(generator, seeds=range(4))\n"
        f"clips = vidgan.sample_clips(generator, latents{label})  # uint8 [4, C, T, H, W]\n```"
    )


def _training_facts(card: GeneratorCard, run: Path | None) -> list[str]:
    seen = f"{counted(card.step, 'step')}, {counted(card.clips_seen, 'real clip')} seen"
    facts = [
        f"{seen}, loss {card.loss}",
        f"level {card.stage.level}, alpha {card.stage.alpha:g}, {card.fps:g} frames a second",
    ]
    if card.class_names:
        names = ", ".join(card.class_names[:20])
        more = f" and {card.num_classes - 20} more" if card.num_classes > 20 else ""
        facts.append(f"classes: {names}{more}")
    data = read_clip_facts(run) if run is not None and run.is_dir() else None
    if data is None:
        facts.append("data: not recorded in this folder")
    else:
        dropped = f", {counted(len(data.dropped), 'video')} left out" if data.dropped else ""
        facts.append(f"data: {counted(data.num_clips, 'clip')} for training{dropped}")
    environment = read_environment(run) if run is not None and run.is_dir() else {}
    if "device_name" in environment:
        torch = environment.get("torch", "of unknown version")
        facts.append(f"machine: {environment['device_name']}, torch {torch}")
    return facts


def _records_of(run: Path, digest: str) -> list[Record]:
    """The evaluations of exactly this file."""
    found = []
    for path in sorted((run / EVALS_FOLDER).glob("*.json")):
        try:
            record = read_record(path)
        except (OSError, UserError):
            continue
        if record.generator.sha256 == digest:
            found.append(record)
    return found


def _scores_of(records: Sequence[Record]) -> str:
    if not records:
        return "This checkpoint was not evaluated."
    return "\n\n".join(f"```text\n{format_record(record)}\n```" for record in records)


def _bullets(lines: Sequence[str] | dict[str, None]) -> str:
    return "\n".join(f"- {markdown(line)}" for line in lines)
