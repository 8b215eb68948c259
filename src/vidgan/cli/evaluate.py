"""The verb `evaluate`."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vidgan.cli.output import print_json
from vidgan.core.files import cache_folder
from vidgan.errors import UserError

if TYPE_CHECKING:
    from vidgan.data.dataset import ClipDataset
    from vidgan.data.settings import DataConfig
    from vidgan.evaluation.protocols import Protocol
    from vidgan.evaluation.record_types import Record
    from vidgan.training.presets import Config

Run = Annotated[str, tyro.conf.arg(metavar="RUN")]
Words = Annotated[tuple[str, ...], tyro.conf.arg(metavar="[KEY=VALUE ...]")]


def evaluate(
    run: Run = "",
    words: Words = (),
    /,
    *,
    protocol: str | None = None,
    checkpoint: str = "last",
    seed: int = 0,
    verify: bool = False,
    watch: bool = False,
    list: bool = False,
    show: str = "",
    json: bool = False,
) -> None:
    """Score a generator or a folder of clips, beside real clips, the noise floor and broken clips.

    The record goes to RUN/evals, the best checkpoint so far to RUN/best.json, and the page of the
    run shows the scores.

    Args:
        run: run folder; or a generator file, or a folder of clips that any program generated, with
            data=FOLDER behind it.
        words: data=FOLDER and other settings of the data, if they differ from those of the run;
            judge_seed=1 for another judge: publish with another one than you develop with;
            protocol.num_clips=256 and the like change a protocol, which makes it a custom one.
        protocol: own-c3d (judged by a classifier trained on the data, the default for data with
            classes), own-ssl (the same without classes), stswd (weight-free) or one of --list.
        checkpoint: last, best or a step.
        seed: of latents, labels and choices of clips.
        verify: RUN is a record: compute it again from its inputs and name whatever differs.
        watch: follow RUN while it trains in another process: evaluate every new checkpoint once,
            with one core in four and low priority, until the run is finished.
        list: name every protocol, with a line each.
        show: print this protocol in full.
        json: print the whole record.
    """
    if list or show:
        # Behind --show there is no run, so the first word is one of the protocol's.
        print(protocol_table() if list else protocol_sheet(show, (run, *words) if run else ()))
        return
    if not run:
        raise UserError("name a run folder, a generator file or a folder of clips to evaluate")
    if verify:
        verify_record(run, words, json)
        return
    words, judge_seed = take_judge_seed(words)
    words, choose = take_protocol(protocol, words)
    if watch:
        from vidgan.cli.watch import watch_run

        watch_run(run, words, choose=choose, seed=seed, judge_seed=judge_seed, json_lines=json)
        return

    import torch

    from vidgan.evaluation import generators

    folder = record_folder(run)
    config, data = open_data(run, words, checkpoint)
    options = generators.EvaluationOptions(
        checkpoint=checkpoint,
        seed=seed,
        judge_seed=judge_seed,
        cache=cache_folder() / "judges",
        features=cache_folder() / "features",
        pictures=folder,
        device="cuda" if torch.cuda.is_available() else "cpu",
        tell=say,
    )
    record = generators.evaluate(run, data, choose(data.classes), options)
    if folder is not None:
        say(f"the record is {generators.save_record(record, folder)}")
    if config is not None:
        choose_best(Path(run), config, record)
    if json:
        print_json(record.without_clips().to_dict())
    else:
        print(generators.format_record(record))


def verify_record(path: str, words: tuple[str, ...], json: bool) -> None:
    """Print what does not agree in a record, or that all of it does.

    Raises:
        UserError: something does not agree, or it cannot be computed again.
    """
    from vidgan.evaluation.record_changes import TOLERANCE
    from vidgan.evaluation.verify import verify

    others = [word for word in words if not word.startswith("data=")]
    if others:
        raise UserError(
            f"{others[0]!r} would change what the record is of; only data=FOLDER may stand behind "
            "--verify, if the real clips have moved"
        )
    data = words[-1].removeprefix("data=") if words else None
    verdict = verify(path, data, cache=cache_folder() / "judges", progress=say)
    digits = f"to {TOLERANCE:g}" if verdict.elsewhere else "to the last bit"
    if json:
        print_json({"record": path, "agrees": verdict.agrees, **asdict(verdict)})
    else:
        for sentence in verdict.elsewhere:
            print(f"not the machine of the record: {sentence}")
        for sentence in verdict.findings:
            print(sentence)
        if verdict.agrees:
            print(f"{path} agrees {digits} with what its inputs give today")
    if not verdict.agrees:
        count = len(verdict.findings)
        raise UserError(f"{path} does not verify: {count} finding{'s' * (count > 1)}, listed above")


def protocol_table() -> str:
    """Every protocol with a line each."""
    from vidgan.evaluation.protocols import list_protocols

    rows = list_protocols()
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {summary}" for name, summary in rows)


def protocol_sheet(name: str, words: tuple[str, ...]) -> str:
    """A protocol in full, with the changes that words make."""
    from vidgan.evaluation.protocols import changed_protocol, describe_protocol

    changes = [word.removeprefix("protocol.") for word in words]
    return describe_protocol(changed_protocol(name, changes))


def take_protocol(
    name: str | None, words: tuple[str, ...]
) -> tuple[tuple[str, ...], Callable[[Sequence[str]], "Protocol"]]:
    """The words without `protocol.FIELD=VALUE`, and what chooses a protocol for class names.

    Args:
        name: of a protocol; None leaves the choice to the classes of the data.
        words: of the command line.

    Raises:
        UserError: no such protocol or field, or its weights are not there.
    """
    from vidgan.evaluation.protocol_checks import check_protocol
    from vidgan.evaluation.protocol_fields import default_protocol
    from vidgan.evaluation.protocols import changed_protocol

    mark = "protocol."
    changes = [word.removeprefix(mark) for word in words if word.startswith(mark)]
    rest = tuple(word for word in words if not word.startswith(mark))
    named = None if name is None else changed_protocol(name, changes)
    if named is not None:
        # Before videos are read, which may take long.
        check_protocol(named)
    return rest, lambda classes: named or changed_protocol(default_protocol(classes), changes)


def choose_best(run: Path, config: "Config", record: "Record") -> None:
    """Point `best.json` to the evaluated checkpoint if it is the best, and write the page anew."""
    from vidgan.cli.train import write_page_of
    from vidgan.evaluation.generators import update_best

    metric = config.best.metric
    if metric not in record.scores:
        say(f"best.metric={metric} is not among the scores, so no checkpoint was chosen")
    elif update_best(run, record, metric):
        say(f"step {record.generator.step} is the best checkpoint so far")
    write_page_of(run)


def take_judge_seed(words: tuple[str, ...]) -> tuple[tuple[str, ...], int]:
    """The words without `judge_seed=N`, and N.

    Raises:
        UserError: N is no whole number.
    """
    mark = "judge_seed="
    given = [word.removeprefix(mark) for word in words if word.startswith(mark)]
    rest = tuple(word for word in words if not word.startswith(mark))
    try:
        return rest, int(given[-1]) if given else 0
    except ValueError:
        raise UserError(f"judge_seed={given[-1]} must be a whole number") from None


def record_folder(source: str) -> Path | None:
    """Where records of a run or of a folder of clips go; None for a generator file.

    Raises:
        UserError: nothing can be written there.
    """
    from vidgan.evaluation.gather import is_folder_of_clips

    path = Path(source)
    if not (path / "config.yaml").exists() and not is_folder_of_clips(path):
        return None
    folder = path if path.is_dir() else path.parent
    if not os.access(folder, os.W_OK):
        raise UserError(
            f"{folder} cannot be written to, and the record belongs in {folder / 'evals'}: copy "
            "the clips to a folder of your own"
        )
    return folder / "evals"


def open_data(
    source: str, words: tuple[str, ...], checkpoint: str
) -> tuple["Config | None", "ClipDataset"]:
    """The clips of a run, with its settings, or those named for a generator outside of its run."""
    from vidgan.cli.progress import progress_on_stderr
    from vidgan.data.build.packing import cached_build
    from vidgan.data.dataset import ClipDataset
    from vidgan.data.packed.store import open_store
    from vidgan.training.loop import open_clips

    config = config_of_run(source, words)
    if config is not None:
        return config, open_clips(config, say)
    settings = data_settings(source, words, checkpoint)
    with progress_on_stderr() as progress:
        store = open_store(cached_build(settings, progress=progress))
    return None, ClipDataset(store, settings, seed=0)


def config_of_run(source: str, words: tuple[str, ...]) -> "Config | None":
    """The settings of a run folder; None for a generator that stands outside of one."""
    from vidgan.training.presets import load_config

    return load_config(source, words) if (Path(source) / "config.yaml").exists() else None


def data_settings(source: str, words: tuple[str, ...], checkpoint: str) -> "DataConfig":
    """How real clips are cut to the size of generated ones that come from outside of a run."""
    from vidgan.core.settings import apply_overrides, from_dict
    from vidgan.data.settings import DataConfig
    from vidgan.evaluation.gather import stored_size

    frames, resolution = stored_size(source, checkpoint)
    settings = {"frames": frames, "resolution": resolution}
    given = [word.removeprefix("data.") for word in words]
    given = [
        f"path={word.removeprefix('data=')}" if word.startswith("data=") else word for word in given
    ]
    return from_dict(DataConfig, apply_overrides(settings, given), "the settings of the data")


def say(sentence: str) -> None:
    """One line on stderr."""
    print(sentence, file=sys.stderr, flush=True)
